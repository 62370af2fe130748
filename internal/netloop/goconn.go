package netloop

import (
	"net"
	"os"
	"runtime/debug"
	"sync"
	"time"
)

// gpair is two connections under one lock, which is never held across I/O.
type gpair struct {
	// Fixed.
	e        *goroutines
	local    any
	accepted *gconn

	// Guarded by mu.
	mu      sync.Mutex
	dialled *gconn // nil: none
	again   []*gconn

	// Guarded by postMu, which is taken under mu by handlers that post.
	postMu  sync.Mutex
	posted  []func()
	posting bool // a goroutine works on posted
}

// gconn is a connection of a pair. Its goroutine reads; whoever has made bytes
// to be sent sends them, after the lock is given up.
type gconn struct {
	p  *gpair
	nc net.Conn // nil while dialling

	// Guarded by p.mu.
	h      Handler
	state  uint8
	paused bool
	held   []byte
	out    []byte
	account
	known   bool // dialled, or vouched for
	kept    int  // by the handler
	flight  int  // bytes being written
	writing bool // a goroutine is at it
	isHeld  bool // the handler knows that the engine does not read it
	asked   bool // the handler waits for Drained
	due     int64
	timer   *time.Timer
	cancel  func() // ends a dial
	wake    sync.Cond
}

func (p *gpair) newConn(nc net.Conn, state uint8) *gconn {
	c := &gconn{p: p, nc: nc, state: state}
	c.wake.L = &p.mu
	p.e.open.Add(1)
	return c
}

// conns are the open connections of p.
func (p *gpair) conns() []*gconn {
	var list []*gconn
	for _, c := range [...]*gconn{p.accepted, p.dialled} {
		if c != nil && c.state != stateClosed {
			list = append(list, c)
		}
	}
	return list
}

// do runs f as a call to the handlers of p, on behalf of c (may be nil), and
// then sends what it made.
func (p *gpair) do(c *gconn, f func()) {
	p.mu.Lock()
	p.locked(c, f)
}

// locked is do with the lock already taken; it gives it up.
func (p *gpair) locked(c *gconn, f func()) {
	for _, c := range p.call(c, f) {
		c.send()
	}
}

// call runs f, gives up the lock and returns the connections that may have
// something to be sent.
func (p *gpair) call(c *gconn, f func()) []*gconn {
	p.guard(c, f)
	for len(p.again) > 0 {
		a := p.again[0]
		p.again = p.again[1:]
		if a.state == stateOpen && !a.paused && len(a.held) > 0 {
			p.guard(a, func() { a.deliver(a.held) })
		}
	}
	conns := p.conns()
	gone := len(conns) == 0
	p.mu.Unlock()
	if gone {
		p.e.mu.Lock()
		delete(p.e.pairs, p)
		p.e.mu.Unlock()
	}
	return conns
}

// guard runs f and ends the pair's connections after a panic.
func (p *gpair) guard(c *gconn, f func()) {
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		p.e.panics.Add(1)
		p.e.o.Log.Error("panic on a connection", "panic", v, "stack", string(debug.Stack()))
		if c == nil {
			return
		}
		for _, c := range p.conns() {
			p.lose(c, ErrPanic)
		}
	}()
	f()
}

// lose closes c and tells its handler.
func (p *gpair) lose(c *gconn, err error) {
	if c.state == stateClosed {
		return
	}
	h, state := c.h, c.state
	c.close()
	if h == nil {
		return
	}
	p.guard(c, func() {
		if state == stateConnecting {
			h.Connected(c, err)
		} else {
			h.Closed(c, err)
		}
	})
}

func (c *gconn) peer() *gconn {
	if c == c.p.accepted {
		return c.p.dialled
	}
	return c.p.accepted
}

func (c *gconn) Now() int64   { return c.p.e.clock() }
func (c *gconn) Local() any   { return c.p.local }
func (c *gconn) Due() int64   { return c.due }
func (c *gconn) Pending() int { return len(c.out) + c.flight }

func (c *gconn) Post(f func()) bool {
	p := c.p
	p.postMu.Lock()
	defer p.postMu.Unlock()
	if !p.posting {
		// Ends when nothing is posted any more.
		if !p.e.spawn(p.runPosted) {
			return false
		}
		p.posting = true
	}
	p.posted = append(p.posted, func() { p.guard(c, f) })
	return true
}

func (p *gpair) runPosted() {
	for {
		p.postMu.Lock()
		if len(p.posted) == 0 {
			p.posting = false
			p.postMu.Unlock()
			return
		}
		f := p.posted[0]
		p.posted = p.posted[1:]
		p.postMu.Unlock()
		p.mu.Lock()
		for _, c := range p.call(nil, f) {
			// Not here: a peer that takes nothing must not hold up the posts
			// that may end it. Ends when all is sent, or the connection.
			if !p.e.spawn(c.send) {
				c.send()
			}
		}
	}
}

func (c *gconn) SetTimer(at int64) {
	if c.state > stateOpen {
		return
	}
	c.due = at
	if at == 0 {
		if c.timer != nil {
			c.timer.Stop()
		}
		return
	}
	d := time.Duration(at - c.Now())
	if c.timer != nil {
		c.timer.Reset(d)
		return
	}
	// Ends by itself: do returns at once on a closed connection.
	c.timer = time.AfterFunc(d, func() {
		c.p.do(c, func() {
			if c.state > stateOpen || c.due == 0 {
				return
			}
			if left := c.due - c.Now(); left > 0 {
				c.timer.Reset(time.Duration(left))
				return
			}
			c.due = 0
			c.h.Timer(c)
		})
	})
}

func (c *gconn) Handle(h Handler) {
	if c.state <= stateOpen {
		c.h = h
	}
}

// tell lets the handler know whether the engine reads c.
func (c *gconn) tell(held bool) {
	if c.state == stateOpen && c.isHeld != held {
		c.isHeld = held
		c.p.guard(c, func() { c.h.Held(c, held) })
	}
}

func (c *gconn) Pause() { c.paused = true }

func (c *gconn) Resume() {
	if c.state > stateOpen {
		return
	}
	c.paused = false
	c.wake.Signal()
	if len(c.held) > 0 {
		c.p.again = append(c.p.again, c)
	}
}

func (c *gconn) Write(b []byte) {
	if c.state > stateOpen {
		return
	}
	was := cap(c.out)
	c.out = append(c.out, b...)
	c.p.e.mem.Add(int64(cap(c.out) - was))
	c.charge()
}

// charge accounts for what is kept.
func (c *gconn) charge() {
	c.p.e.charge(&c.account, cap(c.held)+cap(c.out)+c.flight+c.kept, !c.known, c.Now())
}

func (c *gconn) Keep(n int) {
	if c.state <= stateOpen && c.kept != n {
		c.setKept(n)
	}
}

func (c *gconn) setKept(n int) {
	c.p.e.mem.Add(int64(n - c.kept))
	c.kept = n
	c.charge()
}

func (c *gconn) Vouch() {
	if !c.known {
		c.p.e.vouch(&c.account)
	}
	c.known = true
}

func (c *gconn) Writev(head, body []byte) {
	c.Write(head)
	c.Write(body)
}

// send writes what is to be sent, unless another goroutine is at it. Called
// without the lock.
func (c *gconn) send() {
	p := c.p
	p.mu.Lock()
	if c.writing || c.nc == nil || c.state == stateConnecting || c.state == stateClosed {
		p.mu.Unlock()
		return
	}
	c.writing = true
	for len(c.out) > 0 && c.state != stateClosed {
		b := c.out
		c.out, c.flight = nil, len(b)
		if c.state == stateOpen {
			_ = c.nc.SetWriteDeadline(time.Now().Add(p.e.o.WriteStall))
		}
		p.mu.Unlock()
		n, err := c.try(b)
		if err == nil && n < len(b) {
			p.mu.Lock()
			if peer := c.peer(); peer != nil {
				peer.tell(true)
			}
			p.mu.Unlock()
			err = c.writeOut(b[n:])
		}
		p.mu.Lock()
		c.flight = 0
		p.e.mem.Add(-int64(cap(b)))
		c.charge()
		if err != nil {
			if os.IsTimeout(err) && c.state == stateOpen {
				p.e.stalled.Add(1)
				err = ErrStalled
			}
			c.writing = false
			p.locked(c, func() { p.lose(c, err) })
			return
		}
	}
	c.writing = false
	if c.state == stateFinishing {
		c.shutdown()
	}
	if peer := c.peer(); peer != nil {
		peer.tell(peer.stalled())
		peer.wake.Signal()
	}
	c.wake.Signal()
	if !c.asked || c.Pending() > 0 || c.state != stateOpen {
		p.mu.Unlock()
		return
	}
	c.asked = false
	p.locked(c, func() {
		if h, ok := c.h.(Drainer); ok {
			h.Drained(c)
		}
	})
}

func (c *gconn) Sent() bool {
	if c.state > stateOpen {
		return false
	}
	if c.state == stateOpen && c.Pending() == 0 {
		return true
	}
	c.asked = true
	return false
}

// writeOut writes b in pieces, so that the deadline is one of progress.
func (c *gconn) writeOut(b []byte) error {
	for len(b) > 0 {
		piece := b[:min(len(b), readSize)]
		if _, err := c.nc.Write(piece); err != nil {
			return err
		}
		if b = b[len(piece):]; len(b) > 0 {
			c.p.mu.Lock()
			if c.state == stateOpen {
				_ = c.nc.SetWriteDeadline(time.Now().Add(c.p.e.o.WriteStall))
			}
			c.p.mu.Unlock()
		}
	}
	return nil
}
