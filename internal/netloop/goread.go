package netloop

import (
	"context"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// lent are buffers for the time of a read.
var lent = sync.Pool{New: func() any { return new([readSize]byte) }}

// readAll reads until the connection is closed.
func (c *gconn) readAll() {
	p := c.p
	for {
		p.mu.Lock()
		c.await()
		state, stranger, room := c.state, !c.known, reserve-len(c.held)-c.Pending()-c.kept
		p.mu.Unlock()
		if state != stateOpen {
			break
		}
		buf, n, err := c.read(room, stranger)
		if n == 0 && err == nil {
			giveBack(buf)
			p.e.evict()
			c.rest()
			continue
		}
		p.mu.Lock()
		c.await() // for what has changed since the read began
		if c.state != stateOpen {
			p.mu.Unlock()
			giveBack(buf)
			break
		}
		p.locked(c, func() {
			if err != nil {
				p.lose(c, err)
				return
			}
			b := buf[:n]
			if len(c.held) > 0 {
				was := cap(c.held)
				c.held = append(c.held, b...)
				p.e.mem.Add(int64(cap(c.held) - was))
				b = c.held
			}
			c.deliver(b)
		})
		giveBack(buf)
		if err != nil {
			return
		}
	}
	// After Finish: read what the peer still sends, to its end or the deadline.
	if c.nc != nil {
		_, _ = io.CopyN(io.Discard, c.nc, lingerBytes)
	}
	p.mu.Lock()
	for c.state == stateFinishing { // send ends that
		c.wake.Wait()
	}
	p.locked(c, c.close)
}

// readAny is read of a connection of any kind. Whether there is something is
// not known: one that may not read waits by reading a little.
func (c *gconn) readAny(room int, stranger bool) (buf *[readSize]byte, n int, err error) {
	buf = lent.Get().(*[readSize]byte)
	n, err = c.nc.Read(buf[:max(c.allowance(room, stranger), 512)])
	return buf, n, err
}

func giveBack(buf *[readSize]byte) {
	if buf != nil {
		lent.Put(buf)
	}
}

// allowance is how much c may read now that there is something; 0: nothing,
// until there is budget. room is what is left of its reserve.
func (c *gconn) allowance(room int, stranger bool) int {
	e := c.p.e
	switch {
	case !e.exhausted(stranger):
		return readSize
	case room > 0:
		return room
	case !stranger && e.favours(c):
		return readSize
	}
	return 0
}

// rest waits a little for buffer budget, or for the engine's end.
func (c *gconn) rest() {
	t := time.NewTimer(50 * time.Millisecond)
	defer t.Stop()
	select {
	case <-t.C:
	case <-c.p.e.ctx.Done():
	}
}

// await waits until c may be read or is to be ended.
func (c *gconn) await() {
	for c.state == stateOpen && (c.paused || c.stalled()) {
		c.tell(c.stalled())
		if c.state == stateOpen {
			c.wake.Wait()
		}
	}
	c.tell(false)
}

// stalled reports whether back-pressure keeps c from being read.
func (c *gconn) stalled() bool {
	peer := c.peer()
	return c.Pending() > readSize || peer != nil && peer.state == stateOpen && peer.Pending() > 0
}

// deliver gives b to the handler and keeps what it returns.
func (c *gconn) deliver(b []byte) {
	rest := c.h.Data(c, b)
	if c.state > stateOpen {
		return
	}
	was := cap(c.held)
	if len(rest) == 0 {
		c.held = nil
		if was > 0 {
			c.p.e.favour.CompareAndSwap(c, nil)
		}
	} else {
		if cap(c.held) < len(rest) || cap(c.held) > reserve && cap(c.held) > 4*len(rest) {
			c.held = make([]byte, 0, len(rest)) // rest may lie in the old one
		}
		c.held = c.held[:copy(c.held[:len(rest)], rest)]
	}
	c.p.e.mem.Add(int64(cap(c.held) - was))
	c.charge()
}

func (c *gconn) Finish(last []byte) {
	c.Write(last)
	switch {
	case c.state == stateConnecting:
		c.close()
		return
	case c.state != stateOpen:
		return
	}
	c.h, c.state = nil, stateFinishing
	c.setKept(0)
	c.stopTimer()
	_ = c.nc.SetDeadline(time.Now().Add(c.p.e.o.Linger))
	c.wake.Broadcast()
	if peer := c.peer(); peer != nil {
		peer.wake.Signal()
	}
}

// shutdown ends our side; readAll waits for the peer to end its own.
func (c *gconn) shutdown() {
	c.state = stateDraining
	if cw, ok := c.nc.(interface{ CloseWrite() error }); ok && cw.CloseWrite() == nil {
		return
	}
	c.close()
}

func (c *gconn) stopTimer() {
	c.due = 0
	if c.timer != nil {
		c.timer.Stop()
	}
}

func (c *gconn) Close() { c.close() }

func (c *gconn) close() {
	if c.state == stateClosed {
		return
	}
	c.state, c.h = stateClosed, nil
	c.stopTimer()
	if c.cancel != nil {
		c.cancel()
	}
	if c.nc != nil {
		_ = c.nc.Close()
	}
	c.p.e.mem.Add(-int64(cap(c.held) + cap(c.out)))
	c.held, c.out = nil, nil
	c.setKept(0)
	c.p.e.favour.CompareAndSwap(c, nil)
	c.p.e.open.Add(-1)
	c.wake.Broadcast()
	if peer := c.peer(); peer != nil {
		peer.wake.Signal()
	}
}

func (c *gconn) Dial(to netip.AddrPort, h Handler) (Conn, bool, error) {
	p := c.p
	if c.state != stateOpen {
		return nil, false, ErrClosed
	}
	d := p.newConn(nil, stateConnecting)
	d.known = true
	d.h, p.dialled = h, d
	ctx, cancel := context.WithCancel(p.e.ctx)
	d.cancel = cancel
	p.e.dialled.Add(1)
	if !p.e.spawn(func() { // ends when the connection is closed
		defer cancel()
		nc, err := (&net.Dialer{}).DialContext(ctx, "tcp", to.String())
		p.mu.Lock()
		if err == nil && d.state == stateClosed {
			_ = nc.Close()
		}
		p.locked(d, func() {
			switch {
			case d.state == stateClosed:
			case err != nil:
				p.lose(d, err)
			default:
				d.nc, d.state = nc, stateOpen
				h.Connected(d, nil)
			}
		})
		if err == nil {
			d.readAll()
		}
	}) {
		d.close()
		return nil, false, ErrClosed
	}
	return d, false, nil
}
