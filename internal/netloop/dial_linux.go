package netloop

import (
	"errors"
	"io"
	"net/netip"

	"golang.org/x/sys/unix"
)

func (c *conn) Dial(to netip.AddrPort, h Handler) (Conn, bool, error) {
	if c.state != stateOpen {
		return nil, false, ErrClosed
	}
	l := c.l
	t := targetOf(to)
	fd, err := t.socket()
	if err != nil {
		return nil, false, err
	}
	l.e.dialled.Add(1)
	errno := t.connect(fd)
	if errno == unix.EINPROGRESS {
		// To an address of this machine the handshake is done already, and a
		// second call says so: that saves a wait and two system calls.
		errno = t.connect(fd)
	}
	state := stateOpen
	switch errno {
	case 0, unix.EISCONN:
	case unix.EALREADY, unix.EINPROGRESS:
		state = stateConnecting
	default:
		closeSocket(fd)
		return nil, false, errno
	}
	p := l.add(fd, state)
	p.h = h
	p.flags |= flagKnown
	p.peer, c.peer = c, p
	p.touch()
	return p, state == stateOpen, nil
}

// connected comes when a dial has ended.
func (c *conn) connected() {
	if err := c.socketError(); !errors.Is(err, io.EOF) {
		c.l.lose(c, err)
		return
	}
	c.state = stateOpen
	c.touch()
	c.h.Connected(c, nil)
	if c.state == stateOpen && c.pending() > 0 {
		c.stalled()
		c.flush()
	}
}
