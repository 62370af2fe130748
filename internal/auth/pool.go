package auth

import (
	"net/netip"
	"runtime"
	"sync"
)

// The bounds of waiting checks: of one address, and of all.
const (
	maxWaitingPerAddr = 4
	maxWaiting        = 256
)

// workers is how many checks run at once: one processor stays free for
// traffic, and four checks at most use memory.
func workers() int { return max(1, min(4, runtime.GOMAXPROCS(0)-1)) }

// check is one password to be compared with one hash.
type check struct {
	pair     pair
	hash     *hash
	password []byte // a copy, wiped after the check
}

// job is a check in the pool, with those who wait for it.
type job struct {
	check
	done  chan struct{} // closed when right is known, or the pool ended
	right bool          // valid once done is closed
	valid bool          // false: the pool ended before

	waiters int // guarded by pool.mu
}

// pool runs checks on a few workers. Addresses take turns, whatever they have
// waiting, and equal checks are done once.
type pool struct {
	verify func(*hash, []byte) bool // fixed
	done   func(j *job, held bool)  // fixed; told every outcome before the waiters; held when none is left
	wg     sync.WaitGroup

	// Guarded by mu.
	mu      sync.Mutex
	work    *sync.Cond
	jobs    map[pair]*job // waiting and running
	queues  map[netip.Addr]*queue
	turns   []*queue // those with something waiting, in the order of their turns
	waiting int
	closed  bool
}

// queue is what one address has waiting.
type queue struct {
	addr netip.Addr
	jobs []*job
}

// newPool starts n workers; close ends them.
func newPool(n int, verify func(*hash, []byte) bool, done func(*job, bool)) *pool {
	p := &pool{verify: verify, done: done, jobs: map[pair]*job{}, queues: map[netip.Addr]*queue{}}
	p.work = sync.NewCond(&p.mu)
	p.wg.Add(n)
	for range n {
		go p.run()
	}
	return p
}

// submit queues c for an address, or joins the same check that is under way.
// It returns nil when there is no place to wait; it never blocks. The caller
// waits for job.done, and calls leave if it stops waiting before.
func (p *pool) submit(addr netip.Addr, c check) *job {
	p.mu.Lock()
	defer p.mu.Unlock()
	if j := p.jobs[c.pair]; j != nil {
		j.waiters++
		return j
	}
	q := p.queues[addr]
	if p.closed || p.waiting >= maxWaiting || q != nil && len(q.jobs) >= maxWaitingPerAddr {
		return nil
	}
	c.password = append([]byte(nil), c.password...)
	j := &job{check: c, done: make(chan struct{}), waiters: 1}
	if q == nil {
		q = &queue{addr: addr}
		p.queues[addr] = q
		p.turns = append(p.turns, q)
	}
	q.jobs = append(q.jobs, j)
	p.waiting++
	p.jobs[c.pair] = j
	p.work.Signal()
	return j
}

// leave tells that one who waited for j does so no longer. The check goes on.
func (p *pool) leave(j *job) {
	p.mu.Lock()
	defer p.mu.Unlock()
	j.waiters--
}

// run is a worker. It ends when the pool is closed.
func (p *pool) run() {
	defer p.wg.Done()
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		for len(p.turns) == 0 && !p.closed {
			p.work.Wait()
		}
		if p.closed {
			return
		}
		j := p.next()
		p.mu.Unlock()
		j.right = p.verify(j.hash, j.password)
		j.valid = true
		clear(j.password)
		p.mu.Lock()
		held := j.waiters == 0
		delete(p.jobs, j.pair)
		p.done(j, held)
		close(j.done)
	}
}

// next takes the first job of the address whose turn it is. Called with mu.
func (p *pool) next() *job {
	q := p.turns[0]
	p.turns[0] = nil
	p.turns = p.turns[1:]
	j := q.jobs[0]
	q.jobs[0] = nil
	q.jobs = q.jobs[1:]
	p.waiting--
	if len(q.jobs) > 0 {
		p.turns = append(p.turns, q)
	} else {
		delete(p.queues, q.addr)
	}
	return j
}

// close ends the workers, waits for the checks that run, and gives up those
// that wait.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	p.work.Broadcast()
	p.mu.Unlock()
	p.wg.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, q := range p.turns {
		for _, j := range q.jobs {
			clear(j.password)
			delete(p.jobs, j.pair)
			close(j.done)
		}
	}
	p.turns, p.queues, p.waiting = nil, map[netip.Addr]*queue{}, 0
}
