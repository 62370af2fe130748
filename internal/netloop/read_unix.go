//go:build unix

package netloop

import (
	"errors"
	"io"
	"syscall"
)

// read waits without a buffer and reads into a lent one, which the caller gives
// back. Nothing without an error: there is something, which may not be read; see
// allowance.
func (c *gconn) read(room int, stranger bool) (buf *[readSize]byte, n int, err error) {
	sc, ok := c.nc.(syscall.Conn)
	if !ok {
		return c.readAny(room, stranger)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil, 0, err
	}
	var errno error
	starved := false
	err = raw.Read(func(fd uintptr) bool {
		if room <= 0 && c.p.e.exhausted(stranger) {
			var one [1]byte
			if _, _, e := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK); errors.Is(e, syscall.EAGAIN) {
				return false // it asks for no budget
			}
		}
		size := c.allowance(room, stranger)
		if starved = size == 0; starved {
			n, errno = 0, nil // of an earlier try
			return true
		}
		b := lent.Get().(*[readSize]byte)
		for {
			n, errno = syscall.Read(int(fd), b[:size])
			if !errors.Is(errno, syscall.EINTR) {
				break
			}
		}
		if errors.Is(errno, syscall.EAGAIN) {
			lent.Put(b)
			return false
		}
		buf = b
		return true
	})
	switch {
	case err != nil:
		return buf, 0, err
	case errno != nil:
		return buf, 0, errno
	case n == 0 && !starved:
		return buf, 0, io.EOF
	}
	return buf, n, nil
}

// try writes what the socket takes at once.
func (c *gconn) try(b []byte) (n int, err error) {
	sc, ok := c.nc.(syscall.Conn)
	if !ok {
		return 0, nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return 0, err
	}
	var errno error
	err = raw.Write(func(fd uintptr) bool {
		for {
			n, errno = syscall.Write(int(fd), b)
			if !errors.Is(errno, syscall.EINTR) {
				return true
			}
		}
	})
	switch {
	case err != nil:
		return 0, err
	case errors.Is(errno, syscall.EAGAIN):
		return 0, nil
	case errno != nil:
		return 0, errno
	}
	return n, nil
}
