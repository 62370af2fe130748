//go:build unix

package netloop

import (
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
			if errno != syscall.EINTR {
				break
			}
		}
		if errno == syscall.EAGAIN {
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
