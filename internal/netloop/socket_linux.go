package netloop

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls of every connection's beginning and end. They do not wait, so they
// are raw: the runtime need not know of them.

// accept4 takes a connection of a listening socket.
func accept4(listening int) (fd int32, remote netip.AddrPort, err error) {
	var sa unix.RawSockaddrAny
	size := uint32(unix.SizeofSockaddrAny)
	r, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(listening), uintptr(unsafe.Pointer(&sa)),
		uintptr(unsafe.Pointer(&size)), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	if errno != 0 {
		return -1, netip.AddrPort{}, errno
	}
	return int32(r), addrPort(&sa), nil
}

func addrPort(sa *unix.RawSockaddrAny) netip.AddrPort {
	switch sa.Addr.Family {
	case unix.AF_INET:
		sa := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), netOrder(sa.Port))
	case unix.AF_INET6:
		sa := (*unix.RawSockaddrInet6)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), netOrder(sa.Port))
	}
	return netip.AddrPort{}
}

// netOrder turns a port from or into the order of the wire.
func netOrder(port uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], port)
	return binary.NativeEndian.Uint16(b[:])
}

// target is an address to connect to in the kernel's form.
type target struct {
	sa   unix.RawSockaddrInet6 // or a RawSockaddrInet4, which is smaller
	size uintptr
}

func targetOf(to netip.AddrPort) (t target) {
	if addr := to.Addr().Unmap(); addr.Is4() {
		*(*unix.RawSockaddrInet4)(unsafe.Pointer(&t.sa)) = unix.RawSockaddrInet4{
			Family: unix.AF_INET, Port: netOrder(to.Port()), Addr: addr.As4(),
		}
		t.size = unix.SizeofSockaddrInet4
	} else {
		t.sa = unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: netOrder(to.Port()), Addr: addr.As16()}
		t.size = unix.SizeofSockaddrInet6
	}
	return t
}

// socket makes a socket to connect to t with.
func (t *target) socket() (int32, error) {
	r, _, errno := unix.RawSyscall(unix.SYS_SOCKET, uintptr(t.sa.Family), unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if errno != 0 {
		return -1, errno
	}
	fd := int32(r)
	setOption(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	// The system's own times between probes: each call costs every connect.
	setOption(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	setOption(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 60)
	return fd, nil
}

// connect begins to connect, or tells how far that has come.
func (t *target) connect(fd int32) unix.Errno {
	_, _, errno := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&t.sa)), t.size)
	return errno
}

// setOption sets an option that a kernel may lack.
func setOption(fd int32, level, option uintptr, value int32) {
	_, _, _ = unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), level, option, uintptr(unsafe.Pointer(&value)), unsafe.Sizeof(value), 0)
}

// shutdownWrite ends our side.
func shutdownWrite(fd int32) error {
	if _, _, errno := unix.RawSyscall(unix.SYS_SHUTDOWN, uintptr(fd), unix.SHUT_WR, 0); errno != 0 {
		return errno
	}
	return nil
}

func closeSocket(fd int32) { _, _, _ = unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }
