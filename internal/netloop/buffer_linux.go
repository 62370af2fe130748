package netloop

import (
	"io"
	"unsafe"

	"golang.org/x/sys/unix"
)

// buffer returns an empty buffer with room for n bytes.
func (l *loop) buffer(n int) []byte {
	size := 512
	for size < n {
		size *= 2
	}
	for i := len(l.spare) - 1; i >= 0; i-- {
		// Not a large one for a few bytes: it would be charged.
		if b := l.spare[i]; cap(b) >= n && cap(b) <= max(size, reserve) {
			l.spare[i] = l.spare[len(l.spare)-1]
			l.spare[len(l.spare)-1] = nil
			l.spare = l.spare[:len(l.spare)-1]
			l.e.mem.Add(int64(cap(b)))
			return b[:0]
		}
	}
	l.e.mem.Add(int64(size))
	return make([]byte, 0, size)
}

// forget drops a buffer that somebody may still look at.
func (l *loop) forget(b []byte) {
	if cap(b) > 0 {
		l.e.mem.Add(-int64(cap(b)))
	}
}

// release takes a buffer back.
func (l *loop) release(b []byte) {
	if cap(b) == 0 {
		return
	}
	l.forget(b)
	if cap(b) <= readSize && len(l.spare) < spares {
		l.spare = append(l.spare, b[:0])
	}
}

// appendTo is append with buffers of the loop.
func (l *loop) appendTo(b, more []byte) []byte {
	if len(b)+len(more) > cap(b) {
		grown := append(l.buffer(len(b)+len(more)), b...)
		l.release(b)
		b = grown
	}
	return append(b, more...)
}

// recv and send are raw system calls: they do not wait.

func recv(fd int32, b []byte) (int, error) {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			if n == 0 {
				return 0, io.EOF
			}
			return int(n), nil
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return 0, nil
		}
		return 0, errno
	}
}

func send(fd int32, b []byte, flags uintptr) (int, error) {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL|flags, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return 0, nil
		}
		return 0, errno
	}
}

// gather sends head and body with one call.
func (l *loop) gather(fd int32, head, body []byte) (int, error) {
	l.iov[0] = unix.Iovec{Base: &head[0]}
	l.iov[0].SetLen(len(head))
	l.iov[1] = unix.Iovec{Base: &body[0]}
	l.iov[1].SetLen(len(body))
	l.msg.Iov = &l.iov[0]
	l.msg.SetIovlen(2)
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&l.msg)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		switch errno {
		case 0:
			l.iov = [2]unix.Iovec{}
			return int(n), nil
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			l.iov = [2]unix.Iovec{}
			return 0, nil
		}
		l.iov = [2]unix.Iovec{}
		return 0, errno
	}
}
