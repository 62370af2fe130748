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
	fd, sa, err := socket(to)
	if err != nil {
		return nil, false, err
	}
	l.e.dialled.Add(1)
	err = unix.Connect(fd, sa)
	if errors.Is(err, unix.EINPROGRESS) {
		// To an address of this machine the handshake is done already, and a
		// second call says so: that saves a wait and two system calls.
		err = unix.Connect(fd, sa)
	}
	state := stateOpen
	switch {
	case err == nil, errors.Is(err, unix.EISCONN):
	case errors.Is(err, unix.EALREADY), errors.Is(err, unix.EINPROGRESS):
		state = stateConnecting
	default:
		_ = unix.Close(fd)
		return nil, false, err
	}
	p := l.add(int32(fd), state)
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

// socket makes a socket for an address, and its kernel form.
func socket(to netip.AddrPort) (int, unix.Sockaddr, error) {
	var sa unix.Sockaddr
	family := unix.AF_INET
	addr := to.Addr().Unmap()
	if addr.Is4() {
		sa = &unix.SockaddrInet4{Port: int(to.Port()), Addr: addr.As4()}
	} else {
		family = unix.AF_INET6
		sa = &unix.SockaddrInet6{Port: int(to.Port()), Addr: addr.As16()}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, nil, err
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	// The system's own times between probes: each call costs every connect.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 60)
	return fd, sa, nil
}
