package netloop

import (
	"fmt"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

const haveLoops = true

// loops is the engine of event loops.
type loops struct {
	// Fixed after newLoops.
	o     Options
	start time.Time
	loops []*loop
	ended sync.WaitGroup
	once  sync.Once

	accepted, refused, dialled, acceptErrors, panics, stalled atomic.Uint64
	open, mem                                                 atomic.Int64
	favour                                                    atomic.Pointer[conn] // see conn.favoured
	budget
}

func newLoops(o Options) (Engine, error) {
	e := &loops{o: o, start: time.Now()}
	e.bound(&o)
	n := o.Loops
	if n <= 0 {
		n = min(runtime.NumCPU(), runtime.GOMAXPROCS(0), 4)
	}
	needProcs(n)
	for range n {
		l, err := newLoop(e)
		if err != nil {
			for _, l := range e.loops {
				l.closeDescriptors()
			}
			needProcs(-n)
			return nil, fmt.Errorf("start event loop: %w", err)
		}
		e.loops = append(e.loops, l)
	}
	for _, l := range e.loops {
		// Ends when Close has set closed.
		e.ended.Go(l.run)
	}
	return e, nil
}

// clock is the engine's time; see Conn.Now.
func (e *loops) clock() int64 { return int64(time.Since(e.start)) + 1 }

// place is the loop for a connection that was accepted on own: the one with the
// fewest connections, unless own has hardly more. A few connections keep one
// loop busy, with one wait for many events; they are not worth a hand-over and
// a second loop that wakes for each of them.
func (e *loops) place(own *loop) *loop {
	best, least := own, own.count.Load()-e.o.nearby
	for _, l := range e.loops {
		if n := l.count.Load(); n < least {
			best, least = l, n
		}
	}
	return best
}

func (e *loops) Serve(nl net.Listener, opened Opened) (Listener, error) {
	li, err := newListener(e.loops[0], nl, opened)
	if err != nil {
		return nil, err
	}
	added := make(chan error, 1)
	if !li.l.post(func() { added <- li.add() }) {
		li.release()
		return nil, ErrClosed
	}
	if err := <-added; err != nil {
		li.release()
		return nil, fmt.Errorf("listen: %w", err)
	}
	return li, nil
}

// eachChunk is how many connections are visited in one turn at most, and
// eachTime how long that may take.
const (
	eachChunk = 32
	eachTime  = int64(time.Millisecond)
)

func (e *loops) Each(visit func(Conn, Handler), done func()) {
	var left atomic.Int64
	left.Store(int64(len(e.loops)))
	end := func() {
		if left.Add(-1) == 0 && done != nil {
			done()
		}
	}
	for _, l := range e.loops {
		next := 1
		var chunk func()
		chunk = func() {
			for visited := 0; visited < eachChunk && next < len(l.conns) && e.clock()-l.now < eachTime; next++ {
				if c := l.conns[next]; c != nil && c.flags&flagAccepted != 0 && c.state == stateOpen && c.h != nil {
					visited++
					l.visit(c, visit)
				}
			}
			if next >= len(l.conns) || !l.post(chunk) {
				end()
			}
		}
		if !l.post(chunk) {
			end()
		}
	}
}

func (l *loop) visit(c *conn, f func(Conn, Handler)) {
	defer l.guard(c)
	f(c, c.h)
}

func (e *loops) Stats() Stats {
	s := Stats{
		Accepted: e.accepted.Load(), Refused: e.refused.Load(), Dialled: e.dialled.Load(), Open: e.open.Load(),
		AcceptErrors: e.acceptErrors.Load(), Panics: e.panics.Load(), Stalled: e.stalled.Load(), BufferBytes: e.mem.Load(),
	}
	for _, l := range e.loops {
		s.LongestTurn = max(s.LongestTurn, time.Duration(l.longest.Load()))
	}
	return s
}

func (e *loops) Close() error {
	for _, l := range e.loops {
		l.post(l.shut)
	}
	e.ended.Wait()
	e.once.Do(func() { needProcs(-len(e.loops)) })
	return nil
}

// needs is how many loops run in this process.
var needs struct {
	sync.Mutex
	loops int
}

// needProcs counts loops that begin or have ended, and raises GOMAXPROCS to
// what all of them need: a loop keeps its processor while it waits (see
// waiter), and other goroutines need some too. It is never lowered.
func needProcs(n int) {
	needs.Lock()
	defer needs.Unlock()
	needs.loops += n
	if procs := needs.loops + max(1, needs.loops/2); n > 0 && runtime.GOMAXPROCS(0) < procs {
		runtime.GOMAXPROCS(procs)
	}
}
