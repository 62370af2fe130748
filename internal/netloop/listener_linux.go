package netloop

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// acceptBatch is how many connections one turn accepts of a listener at most.
const acceptBatch = 32

// acceptPause is how long a listener rests after an accept that failed for want
// of descriptors or memory: the next one would fail too.
const acceptPause = 100 * time.Millisecond

// listener accepts on one loop and shares the connections out among all; see
// loops.place.
type listener struct {
	// Fixed after newListener.
	l      *loop
	fd     int
	opened Opened

	// Owned by the loop.
	index   int // in loop.listeners
	reserve int // a descriptor kept for when none is left; -1: none
	resting bool
	closed  bool
	batch   int    // how many to accept at the next event
	full    uint64 // the turn in which the last batch was full

	once sync.Once
	gone chan struct{} // closed when the listening socket is
}

func newListener(l *loop, nl net.Listener, opened Opened) (*listener, error) {
	tl, ok := nl.(*net.TCPListener)
	if !ok {
		_ = nl.Close()
		return nil, fmt.Errorf("listen: %T is no TCP listener", nl)
	}
	fd, err := ownDescriptor(tl)
	if err := errors.Join(err, tl.Close()); err != nil {
		return nil, err
	}
	li := &listener{l: l, fd: fd, opened: opened, reserve: -1, gone: make(chan struct{})}
	// Accepted sockets inherit these.
	_ = unix.SetsockoptInt(li.fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	keepAlive(li.fd)
	return li, nil
}

// ownDescriptor duplicates the listening socket's: the runtime watches the one
// it knows, and would wake up for every connection.
func ownDescriptor(tl *net.TCPListener) (fd int, err error) {
	raw, err := tl.SyscallConn()
	if err != nil {
		return -1, err
	}
	var dupErr error
	err = raw.Control(func(s uintptr) {
		fd, dupErr = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 0)
	})
	return fd, errors.Join(err, dupErr)
}

// keepAlive has the kernel find peers that are gone: after 60 s of silence,
// then four times every 15 s. Sockets that are accepted inherit it, so that it
// costs nothing a connection.
func keepAlive(fd int) {
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 60)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 15)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 4)
}

// add registers the listener with its loop.
func (li *listener) add() error {
	li.index = len(li.l.listeners)
	if err := li.watch(); err != nil {
		return err
	}
	li.l.listeners = append(li.l.listeners, li)
	li.takeReserve()
	return nil
}

func (li *listener) watch() error {
	return li.l.control(unix.EPOLL_CTL_ADD, li.fd, unix.EPOLLIN, int32(eventFirst-li.index))
}

func (li *listener) takeReserve() {
	if li.reserve < 0 {
		if fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0); err == nil {
			li.reserve = fd
		}
	}
}

// accept takes what waits, up to a batch. A batch is one connection, so that a
// lone one costs no second call that finds nothing, and doubles while each turn
// finds a whole one.
func (li *listener) accept() {
	e := li.l.e
	if li.full+1 == li.l.turns {
		li.batch = min(2*li.batch, acceptBatch)
	} else {
		li.batch = 1
	}
	for range li.batch {
		fd, remote, err := accept4(li.fd)
		switch {
		case err == nil:
		case errors.Is(err, unix.EAGAIN):
			return
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ECONNABORTED):
			continue
		case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
			e.acceptErrors.Add(1)
			li.turnAway()
			li.rest(err)
			return
		default:
			e.acceptErrors.Add(1)
			li.rest(err)
			return
		}
		e.accepted.Add(1)
		to := e.place(li.l)
		to.count.Add(1)
		if to == li.l {
			to.open(fd, remote, li.opened)
		} else if !to.post(func() { to.open(fd, remote, li.opened) }) {
			to.count.Add(-1)
			closeSocket(fd)
		}
	}
	li.full = li.l.turns
}

// turnAway closes one waiting connection with the help of the reserve, so that
// its client learns at once and need not wait for its own time-out.
func (li *listener) turnAway() {
	if li.reserve < 0 {
		return
	}
	_ = unix.Close(li.reserve)
	li.reserve = -1
	if fd, _, err := accept4(li.fd); err == nil {
		closeSocket(fd)
	}
	li.takeReserve()
}

// rest stops accepting for acceptPause: a level-triggered listener that cannot
// accept would turn the loop without end.
func (li *listener) rest(cause error) {
	if li.resting {
		return
	}
	li.resting = true
	li.l.e.o.Log.Warn("accept", "error", cause, "pause", acceptPause)
	_ = unix.EpollCtl(li.l.ep, unix.EPOLL_CTL_DEL, li.fd, nil)
	// A timer of the runtime: resting is rare and there are few listeners. It
	// ends by itself; a closed loop takes no post.
	time.AfterFunc(acceptPause, func() {
		li.l.post(func() {
			if li.closed {
				return
			}
			li.resting = false
			li.takeReserve()
			if err := li.watch(); err != nil {
				li.rest(err)
			}
		})
	})
}

// Close stops accepting and returns when the listening socket is closed.
func (li *listener) Close() error {
	if !li.l.post(li.close) {
		li.release() // the loop has closed it, or will: both are fine
	}
	<-li.gone
	return nil
}

// close runs on the loop.
func (li *listener) close() {
	if li.closed {
		return
	}
	li.closed = true
	if !li.resting {
		_ = unix.EpollCtl(li.l.ep, unix.EPOLL_CTL_DEL, li.fd, nil)
	}
	if li.reserve >= 0 {
		_ = unix.Close(li.reserve)
		li.reserve = -1
	}
	li.l.listeners[li.index] = nil
	li.release()
}

// release closes the socket, once.
func (li *listener) release() {
	li.once.Do(func() {
		_ = unix.Close(li.fd)
		close(li.gone)
	})
}
