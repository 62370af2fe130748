package netloop

// The write side of a conn: what the socket does not take is kept, and holds up
// those who make more of it.

func (c *conn) Write(b []byte) { c.write(b, 0) }

func (c *conn) write(b []byte, flags uintptr) {
	if c.state > stateOpen || len(b) == 0 || c.flags&flagDoomed != 0 {
		return
	}
	if c.state == stateConnecting || c.pending() > 0 {
		c.save(b)
		return
	}
	n, err := send(c.fd, b, flags)
	if err != nil {
		c.doom(err)
		return
	}
	if n < len(b) {
		c.save(b[n:])
	}
}

func (c *conn) Writev(head, body []byte) {
	if len(head) == 0 || len(body) == 0 || c.state != stateOpen || c.pending() > 0 || c.flags&flagDoomed != 0 {
		c.Write(head)
		c.Write(body)
		return
	}
	if len(head)+len(body) <= gatherSize {
		n := copy(c.l.head[:], head)
		n += copy(c.l.head[n:], body)
		c.Write(c.l.head[:n])
		return
	}
	n, err := c.l.gather(c.fd, head, body)
	switch {
	case err != nil:
		c.doom(err)
	case n < len(head):
		c.save(head[n:])
		c.save(body)
	case n < len(head)+len(body):
		c.save(body[n-len(head):])
	}
}

// save keeps what the socket did not take.
func (c *conn) save(b []byte) {
	if c.bufs == nil {
		c.bufs = &buffers{}
	}
	s := c.bufs
	if s.sent > 0 && s.sent == len(s.out) {
		s.out, s.sent = s.out[:0], 0
	}
	s.out = c.l.appendTo(s.out, b)
	c.charge()
	if c.state == stateOpen {
		c.stalled()
	}
}

// stalled starts or goes on with the time in which kept bytes must move, and
// holds up those who make more of them.
func (c *conn) stalled() {
	if c.bufs.stall == 0 {
		c.bufs.stall = c.l.now + c.l.stallTime
		c.place(c.bufs.stall)
		c.touch()
	}
	if c.peer != nil {
		c.peer.setPause(pausePeer)
	}
	if c.pending() > readSize {
		c.setPause(pauseOwn)
	}
}

// flush sends what is kept.
func (c *conn) flush() {
	s := c.bufs
	n, err := send(c.fd, s.out[s.sent:], 0)
	if err != nil {
		c.l.lose(c, err)
		return
	}
	s.sent += n
	if n > 0 {
		s.stall = c.l.now + c.l.stallTime
	}
	if c.pending() <= readSize {
		c.unpause(pauseOwn)
	}
	if c.pending() > 0 {
		return
	}
	c.l.release(s.out)
	s.out, s.sent, s.stall = nil, 0, 0
	c.charge()
	c.slim()
	c.touch()
	if c.peer != nil {
		c.peer.unpause(pausePeer)
	}
	switch {
	case c.state == stateFinishing:
		c.shutdown()
	case c.flags&flagAsked != 0:
		c.flags &^= flagAsked
		if h, ok := c.h.(Drainer); ok {
			h.Drained(c)
		}
	}
}

func (c *conn) Sent() bool {
	if c.state > stateOpen || c.flags&flagDoomed != 0 {
		return false
	}
	if c.state == stateOpen && c.pending() == 0 {
		return true
	}
	c.flags |= flagAsked
	return false
}
