package testkit

import (
	"fmt"
	"syscall"
)

// Port is a TCP port for a program that is about to be started, on any address
// of IPv4. The system gives it to nobody else until this process ends; it
// refuses connections while nobody listens. A port that was only free a moment
// ago would be the near end of somebody's connection now and then.
func Port() (int, error) {
	// Bound and not listening: who sets SO_REUSEADDR, as every server does, may
	// bind it all the same, while a port for connections or one of the system's
	// choice is looked for among the unbound. Set only afterwards, it does not
	// have this socket share the port of another one that is held.
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("hold a port: %w", err)
	}
	port, err := hold(fd)
	if err != nil {
		_ = syscall.Close(fd) // it was of no use
		return 0, fmt.Errorf("hold a port: %w", err)
	}
	return port, nil // fd stays open
}

func hold(fd int) (int, error) {
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{}); err != nil {
		return 0, err
	}
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		return 0, err
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		return 0, err
	}
	return name.(*syscall.SockaddrInet4).Port, nil
}
