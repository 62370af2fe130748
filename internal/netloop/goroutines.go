package netloop

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// goroutines is the portable engine: see the package comment.
type goroutines struct {
	// Fixed after newGoroutines.
	o     Options
	start time.Time
	ctx   context.Context // ends with Close
	stop  context.CancelFunc

	accepted, refused, dialled, acceptErrors, panics, stalled atomic.Uint64
	open, mem                                                 atomic.Int64
	evicted                                                   atomic.Int64 // when evict last ran
	favour                                                    atomic.Pointer[gconn]
	budget

	// Guarded by mu.
	mu        sync.Mutex
	closed    bool
	running   sync.WaitGroup
	pairs     map[*gpair]struct{}
	listeners map[*glistener]struct{}
}

func newGoroutines(o Options) *goroutines {
	e := &goroutines{
		o: o, start: time.Now(), pairs: map[*gpair]struct{}{}, listeners: map[*glistener]struct{}{},
	}
	e.bound(&o)
	e.ctx, e.stop = context.WithCancel(context.Background())
	return e
}

func (e *goroutines) clock() int64 { return int64(time.Since(e.start)) + 1 }

// spawn runs f in a goroutine that Close waits for.
func (e *goroutines) spawn(f func()) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return false
	}
	e.running.Go(f)
	return true
}

// glistener accepts in a goroutine.
type glistener struct {
	e    *goroutines
	nl   net.Listener
	once sync.Once
	done chan struct{}
}

func (e *goroutines) Serve(nl net.Listener, opened Opened) (Listener, error) {
	li := &glistener{e: e, nl: nl, done: make(chan struct{})}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		_ = nl.Close()
		return nil, ErrClosed
	}
	e.listeners[li] = struct{}{}
	// Ends when li.done is closed.
	e.running.Go(func() { li.run(opened) })
	return li, nil
}

func (li *glistener) Close() error {
	li.once.Do(func() {
		close(li.done)
		_ = li.nl.Close()
		li.e.mu.Lock()
		delete(li.e.listeners, li)
		li.e.mu.Unlock()
	})
	return nil
}

func (li *glistener) run(opened Opened) {
	e := li.e
	var pause time.Duration
	for {
		nc, err := li.nl.Accept()
		if err == nil {
			pause = 0
			e.accepted.Add(1)
			e.serve(nc, opened)
			continue
		}
		select {
		case <-li.done:
			return
		default:
		}
		// Out of descriptors or of memory: the next try would fail too.
		e.acceptErrors.Add(1)
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		e.o.Log.Warn("accept", "error", err, "pause", pause)
		t := time.NewTimer(pause)
		select {
		case <-li.done:
			t.Stop()
			return
		case <-t.C:
		}
	}
}

// serve begins the life of an accepted connection.
func (e *goroutines) serve(nc net.Conn, opened Opened) {
	p := &gpair{e: e, local: e.o.Local()}
	c := p.newConn(nc, stateOpen)
	p.accepted = c
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		c.close()
		return
	}
	e.pairs[p] = struct{}{}
	e.running.Go(func() { // ends when the connection is closed
		p.do(c, func() {
			if h := opened(c, remoteOf(nc)); h != nil {
				c.h = h
				return
			}
			e.refused.Add(1)
			c.close()
		})
		c.readAll()
	})
	e.mu.Unlock()
}

func remoteOf(nc net.Conn) netip.AddrPort {
	a, ok := nc.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := a.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

func (e *goroutines) snapshot() []*gpair {
	e.mu.Lock()
	defer e.mu.Unlock()
	list := make([]*gpair, 0, len(e.pairs))
	for p := range e.pairs {
		list = append(list, p)
	}
	return list
}

func (e *goroutines) Each(visit func(Conn, Handler), done func()) {
	run := func() {
		for _, p := range e.snapshot() {
			c := p.accepted
			p.do(c, func() {
				if c.state == stateOpen && c.h != nil {
					visit(c, c.h)
				}
			})
		}
		if done != nil {
			done()
		}
	}
	if !e.spawn(run) && done != nil {
		done()
	}
}

func (e *goroutines) Stats() Stats {
	return Stats{
		Accepted: e.accepted.Load(), Refused: e.refused.Load(), Dialled: e.dialled.Load(), Open: e.open.Load(),
		AcceptErrors: e.acceptErrors.Load(), Panics: e.panics.Load(), Stalled: e.stalled.Load(), BufferBytes: e.mem.Load(),
	}
}

func (e *goroutines) Close() error {
	e.mu.Lock()
	e.closed = true
	listeners := make([]*glistener, 0, len(e.listeners))
	for li := range e.listeners {
		listeners = append(listeners, li)
	}
	e.mu.Unlock()
	var errs error
	for _, li := range listeners {
		errs = errors.Join(errs, li.Close())
	}
	e.stop()
	for _, p := range e.snapshot() {
		p.do(nil, func() {
			for _, c := range p.conns() {
				p.lose(c, ErrClosed)
			}
		})
	}
	e.running.Wait()
	return errs
}

// favours reports whether c is the one connection that may go on reading
// although the budget is used up: packets that all miss their ends need then
// not wait until one of them is given up. It stays so until it holds nothing.
func (e *goroutines) favours(c *gconn) bool {
	return e.favour.Load() == c || e.favour.CompareAndSwap(nil, c)
}

// evict ends connections that keep others from reading, see budget.crowds; not
// more often than once a second.
func (e *goroutines) evict() {
	now := e.clock()
	if last := e.evicted.Load(); now-last < int64(time.Second) || !e.evicted.CompareAndSwap(last, now) {
		return
	}
	for _, p := range e.snapshot() {
		p.do(nil, func() {
			for _, c := range p.conns() {
				if e.crowds(&c.account, !c.known, now) {
					e.stalled.Add(1)
					p.lose(c, ErrBufferBytes)
				}
			}
		})
	}
}
