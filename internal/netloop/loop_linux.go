package netloop

import (
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// headroom is the room before the read buffer for bytes that were kept, so
	// that they and what follows lie together without a copy of the latter.
	headroom = 8 << 10
	// turnEvents bounds a turn.
	turnEvents = 64
	// gatherSize is up to where Writev copies rather than have the kernel
	// gather.
	gatherSize = 2 << 10
	// spares is how many freed buffers a loop keeps for the next need.
	spares = 8
)

// What the 32 bits of an event carry for descriptors that are no connection's;
// a connection's number is positive.
const (
	eventWake  = -1
	eventTimer = -2
	eventFirst = -3 // listeners: eventFirst - index
)

// loop is one event loop: one goroutine, which owns its connections.
type loop struct {
	// Fixed after newLoop.
	e         *loops
	ep        int
	wake      int // eventfd
	timer     int // timerfd
	local     any
	stallTime int64

	// Owned by run.
	waiter    waiter
	now       int64
	turns     uint64
	conns     []*conn  // by number; 0 is none
	free      []uint32 // numbers to be used again
	gone      []uint32 // numbers that become free after the batch
	dirty     []*conn  // interest may have changed
	again     []*conn  // Resume: to be given what they hold
	doomed    []*conn  // a write failed
	starved   []*conn  // wait for a share of the buffer budget
	starvedAt int64
	wheel     wheel
	armed     int64 // what the timerfd is set to; 0: not set
	due       []uint32
	listeners []*listener
	spare     [][]byte
	head      [gatherSize]byte
	iov       [2]unix.Iovec
	msg       unix.Msghdr
	events    [turnEvents]unix.EpollEvent
	buf       [headroom + readSize]byte

	// Shared.
	count   atomic.Int64 // accepted connections, those on their way included
	longest atomic.Int64 // ns

	// Guarded by mu.
	mu     sync.Mutex
	posted []func()
	run2   []func() // the queue that run works on; the other one takes posts
	woken  bool
	closed bool
}

func newLoop(e *loops) (_ *loop, err error) {
	l := &loop{e: e, ep: -1, wake: -1, timer: -1, waiter: newWaiter(), conns: make([]*conn, 1), stallTime: int64(e.o.WriteStall)}
	defer func() {
		if err != nil {
			l.closeDescriptors()
		}
	}()
	if l.ep, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	if l.wake, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	if l.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC); err != nil {
		return nil, fmt.Errorf("timerfd: %w", err)
	}
	if err = l.control(unix.EPOLL_CTL_ADD, l.wake, unix.EPOLLIN, eventWake); err != nil {
		return nil, fmt.Errorf("epoll_ctl: %w", err)
	}
	if err = l.control(unix.EPOLL_CTL_ADD, l.timer, unix.EPOLLIN, eventTimer); err != nil {
		return nil, fmt.Errorf("epoll_ctl: %w", err)
	}
	l.now = e.clock()
	l.wheel = newWheel(l.now)
	l.local = e.o.Local()
	return l, nil
}

func (l *loop) closeDescriptors() {
	for _, fd := range []int{l.ep, l.wake, l.timer} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}

func (l *loop) control(op, fd int, events uint32, data int32) error {
	return unix.EpollCtl(l.ep, op, fd, &unix.EpollEvent{Events: events, Fd: data})
}

// run turns until the loop is closed.
func (l *loop) run() {
	defer l.closeDescriptors()
	defer l.closeAll()
	for {
		n, err := l.waiter.wait(l.ep, l.events[:], len(l.again) > 0)
		if err != nil {
			// Not possible with descriptors of ours; without events there is
			// nothing this loop can still do for its connections.
			l.e.o.Log.Error("event loop ended", "error", err)
			l.shut()
			return
		}
		l.now = l.e.clock()
		if n > 0 || len(l.again) > 0 {
			if !l.turn(n) {
				return
			}
			if d := l.e.clock() - l.now; d > l.longest.Load() {
				l.longest.Store(d)
			}
		}
	}
}

// turn handles one batch of events; false ends the loop.
func (l *loop) turn(n int) bool {
	var woken, tick bool
	l.turns++
	for i := range n {
		ev := &l.events[i]
		switch id := ev.Fd; {
		case id > 0:
			// A connection closed by an earlier event of this batch is no
			// longer in the table, and its number is not used again before
			// the batch is done.
			if c := l.conns[id]; c != nil {
				l.event(c, ev.Events)
			}
		case id == eventWake:
			woken = true
		case id == eventTimer:
			tick = true
		default:
			if li := l.listeners[eventFirst-id]; li != nil {
				li.accept()
			}
		}
	}
	more := true
	if woken {
		more = l.runPosted()
	}
	if tick {
		l.tick()
	}
	if len(l.again) > 0 {
		l.runAgain()
	}
	l.settle()
	l.arm()
	l.free = append(l.free, l.gone...)
	l.gone = l.gone[:0]
	return more
}

// settle closes what a write found broken and tells epoll what changed.
func (l *loop) settle() {
	for len(l.doomed) > 0 || len(l.dirty) > 0 {
		for len(l.doomed) > 0 {
			c := l.doomed[len(l.doomed)-1]
			l.doomed = l.doomed[:len(l.doomed)-1]
			l.lose(c, c.err())
		}
		for i := 0; i < len(l.dirty); i++ { // it may grow meanwhile
			c := l.dirty[i]
			l.dirty[i] = nil
			c.flags &^= flagDirty
			c.tell()
			c.interest()
		}
		l.dirty = l.dirty[:0]
	}
}

// event handles what epoll reported for c.
func (l *loop) event(c *conn, events uint32) {
	defer l.guard(c)
	if c.state == stateConnecting {
		c.connected()
		return
	}
	if events&unix.EPOLLOUT != 0 && c.pending() > 0 {
		c.flush()
	}
	switch {
	case c.state == stateClosed:
	case c.state == stateDraining:
		c.discard()
	case c.state == stateFinishing:
		if events&(unix.EPOLLHUP|unix.EPOLLERR) != 0 {
			c.close()
		}
	case c.pause != 0:
		// Level-triggered: a hang-up would be reported for ever. What the
		// peer sent before it is lost with it: there is no one to take it.
		if events&(unix.EPOLLHUP|unix.EPOLLERR) != 0 {
			l.lose(c, c.socketError())
		}
	case events&(unix.EPOLLIN|unix.EPOLLHUP|unix.EPOLLERR) != 0:
		c.read()
	}
}

// guard ends c and its pair after a panic of a handler.
func (l *loop) guard(c *conn) {
	if v := recover(); v != nil {
		l.panicked(c, v)
	}
}

func (l *loop) panicked(c *conn, v any) {
	l.e.panics.Add(1)
	l.e.o.Log.Error("panic on a connection", "panic", v, "stack", string(debug.Stack()))
	if c == nil {
		return
	}
	for _, c := range [...]*conn{c, c.peer} {
		if c != nil {
			l.lose(c, ErrPanic)
		}
	}
}

// lose closes c and tells its handler.
func (l *loop) lose(c *conn, err error) {
	if c.state == stateClosed {
		return
	}
	h, state := c.h, c.state
	c.close()
	if h == nil {
		return
	}
	defer func() {
		if v := recover(); v != nil {
			l.panicked(c.peer, v)
		}
	}()
	if state == stateConnecting {
		h.Connected(c, err)
	} else {
		h.Closed(c, err)
	}
}

// post queues f and wakes the loop.
func (l *loop) post(f func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.posted = append(l.posted, f)
	if !l.woken {
		l.woken = true
		one := [8]byte{1}
		// Fails only when the counter is full, and then the loop is awake.
		_, _ = unix.Write(l.wake, one[:])
	}
	return true
}

// runPosted runs what was posted before; false ends the loop.
func (l *loop) runPosted() bool {
	var count [8]byte
	_, _ = unix.Read(l.wake, count[:])
	l.mu.Lock()
	queue := l.posted
	l.posted, l.woken = l.run2[:0], false
	l.mu.Unlock()
	for i, f := range queue {
		queue[i] = nil
		l.runOne(f)
	}
	l.run2 = queue[:0]
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.closed
}

func (l *loop) runOne(f func()) {
	defer l.guard(nil)
	f()
}

// runAgain gives connections what they hold; those that ask for it again
// meanwhile wait for the next turn.
func (l *loop) runAgain() {
	queue := l.again
	l.again = nil
	for i, c := range queue {
		queue[i] = nil
		c.flags &^= flagAgain
		if c.state == stateOpen && c.pause == 0 {
			l.feedAgain(c)
		}
	}
	if l.again == nil {
		l.again = queue[:0]
	}
}

func (l *loop) feedAgain(c *conn) {
	defer l.guard(c)
	if held := c.held(); len(held) > 0 {
		c.deliver(held)
	}
}

// tick looks at the timers whose slots have come, and at connections that wait
// for buffer budget.
func (l *loop) tick() {
	var count [8]byte
	_, _ = unix.Read(l.timer, count[:])
	l.armed = 0
	l.due = l.wheel.due(l.now, l.due[:0], l.link)
	for _, n := range l.due {
		if c := l.conns[n]; c != nil {
			l.timeout(c)
		}
	}
	if len(l.starved) > 0 {
		l.feedStarved()
	}
}

func (l *loop) link(n uint32) *link { return &l.conns[n].link }

// timeout looks at the times of one connection.
func (l *loop) timeout(c *conn) {
	defer l.guard(c)
	if c.state >= stateFinishing {
		if c.due <= l.now {
			c.close()
			return
		}
		c.place(c.due)
		return
	}
	if c.bufs != nil && c.bufs.stall != 0 {
		if c.bufs.stall <= l.now {
			l.e.stalled.Add(1)
			l.lose(c, ErrStalled)
			return
		}
		c.place(c.bufs.stall)
	}
	if c.due == 0 {
		return
	}
	if c.due > l.now {
		c.place(c.due)
		return
	}
	c.due = 0
	c.h.Timer(c)
}

// arm sets the timerfd to the first slot in use, if it would not fire before.
func (l *loop) arm() {
	next := l.wheel.next()
	if len(l.starved) > 0 {
		if soon := l.now + int64(100*time.Millisecond); next == 0 || soon < next {
			next = soon
		}
	}
	if next == 0 || l.armed != 0 && l.armed <= next {
		return
	}
	l.armed = next
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(max(next-l.now, 1))}
	_ = unix.TimerfdSettime(l.timer, 0, &spec, nil)
}

// feedStarved lets connections read again when there is budget for them. When
// there is none it lets one of them go on, and has room made.
func (l *loop) feedStarved() {
	still := l.starved[:0]
	for _, c := range l.starved {
		switch {
		case c.state != stateOpen || c.room() > 0 || !l.e.exhausted(c.stranger()):
		case !c.stranger() && c.favoured():
		default:
			still = append(still, c)
			continue
		}
		c.flags &^= flagStarved
		c.unpause(pauseBudget)
	}
	clear(l.starved[len(still):])
	l.starved = still
	if len(still) > 0 && l.now-l.starvedAt >= int64(time.Second) {
		l.starvedAt = l.now
		for _, other := range l.e.loops {
			other.post(other.evict)
		}
	}
}

// evict ends connections that keep others from reading; see budget.crowds.
func (l *loop) evict() {
	for _, c := range l.conns {
		if c != nil && c.bufs != nil && l.e.crowds(&c.bufs.account, c.stranger(), l.now) {
			l.e.stalled.Add(1)
			l.lose(c, ErrBufferBytes)
		}
	}
}

// shut has run end after this turn. Posted by Close.
func (l *loop) shut() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
}

// closeAll closes everything; posts that were taken still run.
func (l *loop) closeAll() {
	for _, li := range l.listeners {
		if li != nil {
			li.close()
		}
	}
	l.closeConns()
	l.mu.Lock()
	queue := l.posted
	l.posted = nil
	l.mu.Unlock()
	for _, f := range queue {
		l.runOne(f)
	}
	l.closeConns() // dialled or accepted meanwhile
}

func (l *loop) closeConns() {
	for _, c := range l.conns {
		if c != nil {
			l.lose(c, ErrClosed)
		}
	}
}
