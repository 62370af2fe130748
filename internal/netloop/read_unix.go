//go:build unix

package netloop

import (
	"errors"
	"io"
	"syscall"
)

// read waits without a buffer and reads into a lent one, which the caller gives
// back.
func (c *gconn) read(size int) (buf *[readSize]byte, n int, err error) {
	sc, ok := c.nc.(syscall.Conn)
	if !ok {
		buf = lent.Get().(*[readSize]byte)
		n, err = c.nc.Read(buf[:size])
		return buf, n, err
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil, 0, err
	}
	var errno error
	err = raw.Read(func(fd uintptr) bool {
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
	case n == 0:
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
