package netloop

import (
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// waiter waits for events. There are three ways:
//
//  1. While events come, a raw system call: the goroutine keeps its processor
//     over the wait, and the runtime neither notices the block nor has to hand
//     the processor back at each event.
//  2. When nothing comes, the runtime's monitor tries to preempt the goroutine
//     that seems to run for too long; its signal interrupts the wait. After two
//     such interruptions without an event the wait is an ordinary system call,
//     which gives the processor back, until the next event. An idle loop
//     therefore costs nothing.
//  3. Without asynchronous preemption there is no signal, and a raw wait would
//     hold up a garbage collection until the next event: always ordinary.
//
// A collection that starts during a raw wait sends the same signal: the wait
// ends, and the loop reaches a safe point.
type waiter struct {
	ordinary    bool // always way 3
	interrupted int  // EINTR since the last event
	interrupts  int  // EINTR ever
}

// preemptible reports whether goroutines are preempted by signals: whether
// GODEBUG does not say asyncpreemptoff=1. The last setting counts.
func preemptible(godebug string) bool {
	on := true
	for setting := range strings.SplitSeq(godebug, ",") {
		if name, value, _ := strings.Cut(setting, "="); name == "asyncpreemptoff" {
			on = value != "1"
		}
	}
	return on
}

func newWaiter() waiter {
	return waiter{ordinary: !preemptible(os.Getenv("GODEBUG"))}
}

// wait fills events and returns how many came: 0 after an interruption. With
// poll it does not wait.
func (w *waiter) wait(ep int, events []unix.EpollEvent, poll bool) (int, error) {
	p, n := unsafe.Pointer(&events[0]), uintptr(len(events))
	var r uintptr
	var errno unix.Errno
	switch {
	case poll:
		r, _, errno = unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(ep), uintptr(p), n, 0, 0, 0)
	case w.ordinary || w.interrupted >= 2:
		r, _, errno = unix.Syscall6(unix.SYS_EPOLL_PWAIT, uintptr(ep), uintptr(p), n, ^uintptr(0), 0, 0)
	default:
		r, _, errno = unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(ep), uintptr(p), n, ^uintptr(0), 0, 0)
	}
	switch errno {
	case 0:
		if r > 0 {
			w.interrupted = 0
		}
		return int(r), nil
	case unix.EINTR:
		w.interrupted++
		w.interrupts++
		return 0, nil
	}
	return 0, errno
}
