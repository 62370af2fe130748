package netloop

import (
	"errors"
	"io"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Why a connection is not read.
const (
	pauseHandler uint8 = 1 << iota
	pausePeer          // the other connection has bytes to be sent
	pauseOwn           // this one has too many of them
	pauseBudget        // Options.BufferBytes is used up
)

const (
	flagDirty    uint16 = 1 << iota // in loop.dirty
	flagAgain                       // in loop.again
	flagStarved                     // in loop.starved
	flagAccepted                    // counted in loop.count
	flagDoomed                      // in loop.doomed
	flagReset                       // of a doomed one: the peer reset it
	flagHeld                        // the handler knows that the engine does not read it
	flagAsked                       // the handler waits for Drained
	flagKnown                       // dialled, or vouched for
)

// conn is a connection of a loop. There are very many idle ones: everything
// that only a busy one needs is behind bufs.
type conn struct {
	l     *loop
	h     Handler
	peer  *conn
	bufs  *buffers
	due   int64 // of the handler; after Finish, when to close
	n     uint32
	fd    int32
	link  link
	state uint8
	pause uint8
	want  uint8 // the interest that epoll knows: EPOLLIN and EPOLLOUT fit
	flags uint16
}

// buffers is what a connection has while bytes wait on it.
type buffers struct {
	held  []byte
	out   []byte
	sent  int   // of out
	stall int64 // when out must have moved; 0: out is empty
	kept  int   // by the handler
	account
}

// add takes a descriptor into the loop's table.
func (l *loop) add(fd int32, state uint8) *conn {
	c := &conn{l: l, fd: fd, state: state}
	if k := len(l.free); k > 0 {
		c.n = l.free[k-1]
		l.free = l.free[:k-1]
		l.conns[c.n] = c
	} else {
		c.n = uint32(len(l.conns))
		l.conns = append(l.conns, c)
	}
	l.e.open.Add(1)
	return c
}

// open begins the life of an accepted connection.
func (l *loop) open(fd int32, remote netip.AddrPort, opened Opened) {
	c := l.add(fd, stateOpen)
	c.flags |= flagAccepted
	defer l.guard(c)
	if c.h = opened(c, remote); c.h == nil {
		l.e.refused.Add(1)
		c.close()
		return
	}
	if c.state == stateOpen {
		c.touch()
	}
}

func (c *conn) Now() int64 { return c.l.now }
func (c *conn) Local() any { return c.l.local }
func (c *conn) Due() int64 { return c.due }

func (c *conn) Post(f func()) bool {
	return c.l.post(func() {
		defer c.l.guard(c)
		f()
	})
}

func (c *conn) Pending() int { return c.pending() }

func (c *conn) Handle(h Handler) {
	if c.state <= stateOpen {
		c.h = h
	}
}

func (c *conn) pending() int {
	if c.bufs == nil {
		return 0
	}
	return len(c.bufs.out) - c.bufs.sent
}

func (c *conn) held() []byte {
	if c.bufs == nil {
		return nil
	}
	return c.bufs.held
}

func (c *conn) SetTimer(at int64) {
	if c.state > stateOpen {
		return
	}
	c.due = at
	if at != 0 {
		c.place(at)
	}
}

func (c *conn) place(at int64) { c.l.wheel.set(c.n, &c.link, at, c.l.now, c.l.link) }

// touch has the interest looked at before the next wait.
func (c *conn) touch() {
	if c.flags&flagDirty == 0 && c.state != stateClosed {
		c.flags |= flagDirty
		c.l.dirty = append(c.l.dirty, c)
	}
}

// interest tells epoll what c waits for, if it does not know.
func (c *conn) interest() {
	var want uint8
	switch c.state {
	case stateClosed:
		return
	case stateConnecting:
		want = unix.EPOLLOUT
	case stateOpen:
		if c.pause == 0 {
			want = unix.EPOLLIN
		}
	case stateDraining:
		want = unix.EPOLLIN
	}
	if c.state != stateConnecting && c.pending() > 0 {
		want |= unix.EPOLLOUT
	}
	const registered = 1 << 7
	op := unix.EPOLL_CTL_MOD
	if c.want&registered == 0 {
		op = unix.EPOLL_CTL_ADD
	} else if c.want&^registered == want {
		return
	}
	c.want = want | registered
	if err := c.l.control(op, int(c.fd), uint32(want), int32(c.n)); err != nil {
		c.l.e.o.Log.Error("epoll_ctl", "error", err)
		c.doom(err)
	}
}

func (c *conn) Pause() {
	if c.state <= stateOpen {
		c.setPause(pauseHandler)
	}
}

func (c *conn) Resume() {
	if c.state > stateOpen {
		return
	}
	c.unpause(pauseHandler)
	c.askAgain()
}

func (c *conn) askAgain() {
	if c.flags&flagAgain == 0 && len(c.held()) > 0 {
		c.flags |= flagAgain
		c.l.again = append(c.l.again, c)
	}
}

func (c *conn) setPause(why uint8) {
	if c.pause&why == 0 {
		c.pause |= why
		c.touch()
	}
}

func (c *conn) unpause(why uint8) {
	if c.pause&why == 0 {
		return
	}
	c.pause &^= why
	c.touch()
}

// tell lets the handler know whether the engine reads c.
func (c *conn) tell() {
	held := c.pause&^pauseHandler != 0
	if held == (c.flags&flagHeld != 0) || c.state != stateOpen {
		return
	}
	c.flags ^= flagHeld
	defer c.l.guard(c)
	c.h.Held(c, held)
}

// read takes at most one buffer from the socket and gives it to the handler.
func (c *conn) read() {
	l := c.l
	held := c.held()
	size := readSize
	if l.e.exhausted(c.stranger()) {
		if room := c.room(); room > 0 {
			size = room
		} else if c.stranger() || !c.favoured() {
			c.starve()
			return
		}
	}
	n, err := recv(c.fd, l.buf[headroom:headroom+size])
	if err != nil {
		l.lose(c, err)
		return
	}
	if n == 0 {
		return
	}
	switch {
	case len(held) == 0:
		c.deliver(l.buf[headroom : headroom+n])
	case len(held) <= headroom:
		from := headroom - len(held)
		copy(l.buf[from:], held)
		c.deliver(l.buf[from : headroom+n])
	default:
		c.bufs.held = l.appendTo(held, l.buf[headroom:headroom+n])
		c.deliver(c.bufs.held)
	}
}

// favoured reports whether c is the one connection of the engine that may go on
// reading although the budget is used up: packets that all miss their ends need
// then not wait until one of them is given up. It stays so until it holds
// nothing.
func (c *conn) favoured() bool {
	return c.l.e.favour.Load() == c || c.l.e.favour.CompareAndSwap(nil, c)
}

func (c *conn) stranger() bool { return c.flags&flagKnown == 0 }

func (c *conn) Vouch() {
	if c.stranger() && c.bufs != nil {
		c.l.e.vouch(&c.bufs.account)
	}
	c.flags |= flagKnown
}

// charge accounts for what is kept; bufs is not nil.
func (c *conn) charge() {
	c.l.e.charge(&c.bufs.account, cap(c.bufs.held)+cap(c.bufs.out)+c.bufs.kept, c.stranger(), c.l.now)
}

// room is what is left of the reserve.
func (c *conn) room() int {
	if c.bufs == nil {
		return reserve
	}
	return reserve - len(c.bufs.held) - c.pending() - c.bufs.kept
}

func (c *conn) Keep(n int) {
	if c.state > stateOpen || c.bufs == nil && n == 0 {
		return
	}
	if c.bufs == nil {
		c.bufs = &buffers{}
	}
	c.setKept(n)
	c.slim()
}

// setKept notes what the handler keeps; bufs is not nil.
func (c *conn) setKept(n int) {
	c.l.e.mem.Add(int64(n - c.bufs.kept))
	c.bufs.kept = n
	c.charge()
}

// starve stops reading until there is buffer budget.
func (c *conn) starve() {
	c.setPause(pauseBudget)
	if c.flags&flagStarved == 0 {
		c.flags |= flagStarved
		c.l.starved = append(c.l.starved, c)
	}
}

// deliver gives b to the handler and keeps what it returns. b is in the loop's
// buffer or is what c holds.
func (c *conn) deliver(b []byte) {
	rest := c.h.Data(c, b)
	if c.state >= stateFinishing {
		return
	}
	c.keep(rest)
}

func (c *conn) keep(rest []byte) {
	l := c.l
	if len(rest) == 0 {
		if c.bufs != nil && cap(c.bufs.held) > 0 {
			l.release(c.bufs.held)
			c.bufs.held = nil
			c.charge()
			c.slim()
		}
		return
	}
	if c.bufs == nil {
		c.bufs = &buffers{}
	}
	held := c.bufs.held
	if cap(held) < len(rest) || cap(held) > reserve && cap(held) > 4*len(rest) {
		// rest may lie in held, which is released after it was copied.
		held = l.buffer(len(rest))
		copy(held[:len(rest)], rest)
		l.release(c.bufs.held)
		c.bufs.held = held[:len(rest)]
	} else {
		c.bufs.held = held[:copy(held[:len(rest)], rest)] // right with overlaps
	}
	c.charge()
}

// slim drops bufs when nothing waits any more.
func (c *conn) slim() {
	if len(c.bufs.held) == 0 && c.pending() == 0 && c.bufs.kept == 0 {
		c.dropBuffers()
	}
}

// dropBuffers drops all that is kept; the handler may be looking at it.
func (c *conn) dropBuffers() {
	c.l.forget(c.bufs.held)
	c.l.release(c.bufs.out)
	c.bufs.held, c.bufs.out = nil, nil
	c.setKept(0)
	c.bufs = nil
	c.l.e.favour.CompareAndSwap(c, nil)
}

// doom has c closed at the end of the turn: an error of a write must not come
// back into the handler that writes.
func (c *conn) doom(err error) {
	if c.flags&flagDoomed != 0 || c.state == stateClosed {
		return
	}
	c.flags |= flagDoomed
	if errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE) {
		c.flags |= flagReset
	}
	c.l.doomed = append(c.l.doomed, c)
}

// err is why a doomed connection is closed.
func (c *conn) err() error {
	if c.flags&flagReset != 0 {
		return unix.ECONNRESET
	}
	return c.socketError()
}

// socketError is the error pending on the socket, io.EOF when there is none.
func (c *conn) socketError() error {
	v, err := unix.GetsockoptInt(int(c.fd), unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return err
	}
	if v != 0 {
		return unix.Errno(v)
	}
	return io.EOF
}

func (c *conn) Finish(last []byte) {
	c.write(last, unix.MSG_MORE) // the end goes with it
	switch {
	case c.state == stateConnecting || c.flags&flagDoomed != 0:
		c.close()
		return
	case c.state != stateOpen:
		return
	}
	c.h, c.due = nil, c.l.now+int64(c.l.e.o.Linger)
	if p := c.peer; p != nil { // what is kept here no longer concerns it
		c.peer, p.peer = nil, nil
		p.unpause(pausePeer)
	}
	c.state = stateFinishing
	c.dropHeld()
	c.place(c.due)
	c.touch()
	if c.pending() == 0 {
		c.shutdown()
	}
}

// dropHeld drops what is held, which the handler may be looking at, and with it
// what the handler keeps.
func (c *conn) dropHeld() {
	if c.bufs != nil {
		c.l.forget(c.bufs.held)
		c.bufs.held = nil
		c.setKept(0)
		c.slim()
	}
}

// shutdown ends our side and waits for the peer to end its own.
func (c *conn) shutdown() {
	if err := shutdownWrite(c.fd); err != nil {
		c.close()
		return
	}
	c.state = stateDraining
	c.touch()
}

// discard reads and throws away.
func (c *conn) discard() {
	n, err := recv(c.fd, c.l.buf[headroom:])
	if err != nil {
		c.close()
		return
	}
	// due falls by a share of the time for every read, so that a peer that
	// sends without end does not get all of it.
	c.due -= int64(n) * int64(c.l.e.o.Linger) / lingerBytes
	if c.due <= c.l.now {
		c.close()
	}
}

func (c *conn) Close() { c.close() }

func (c *conn) close() {
	if c.state == stateClosed {
		return
	}
	l := c.l
	l.wheel.remove(&c.link, l.link)
	if c.bufs != nil {
		c.dropBuffers()
	}
	if p := c.peer; p != nil {
		c.peer, p.peer = nil, nil
		p.unpause(pausePeer)
	}
	closeSocket(c.fd)
	if c.flags&flagAccepted != 0 {
		l.count.Add(-1)
	}
	l.e.open.Add(-1)
	l.conns[c.n] = nil
	l.gone = append(l.gone, c.n)
	c.h, c.fd, c.due, c.state = nil, -1, 0, stateClosed
}
