package agent

import (
	"errors"
	"net"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/agent/wire"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/metrics"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/session"
)

// The bounds of connections: of all, and of those that have said nothing yet.
// Proxies open four or eleven each.
const (
	maxConns      = 1024
	maxPending    = 256
	handshakeTime = 10 * time.Second
	maxFlush      = 32 << 10 // answers that are written at the latest
)

// conn is one connection of a proxy. One goroutine reads and decides; whoever
// has an answer queues it, and one at a time writes. Over gRPC it decides for a
// stream or a call: then nc and reader are nil, and answers go another way.
type conn struct {
	// Fixed.
	agent  *Agent
	nc     net.Conn
	reader *wire.Reader
	tally  *metrics.Tally
	later  func(*pending, *decision) // takes the answers of suspended events; never waits
	v2     atomic.Bool               // shaken hands, successfully

	// Owned by serve.
	fx      session.Effects
	frame   wire.Frame
	event   event
	data    []byte // of a frame, decoded
	key     []byte
	arrived session.Time // of what was read last
	shaken  bool         // the first message has come
	current *pending     // suspended by the message at hand

	// Guarded by mu.
	mu       sync.Mutex
	out      []byte // answers to be written
	marks    []mark // in out
	spare    []byte
	oldest   session.Time // when the first event of out arrived; 0: none
	writing  bool
	closed   bool
	draining bool
	waiting  map[*pending]struct{}
	deadline session.Time // of writing
	written  sync.Cond    // writing has ended
}

// mark is an answer in the out buffer: it can be taken back until it is
// written.
type mark struct{ from, till int }

// accept takes connections until the listener is closed.
func (a *Agent) accept() {
	pause := time.Duration(0)
	for {
		nc, err := a.listener.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			// Out of descriptors: those in use come back some time.
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			a.log.Error("accept on the agent socket", "error", err, "pause", pause)
			select {
			case <-time.After(pause):
			case <-a.base.Done():
				return
			}
		default:
			pause = 0
			a.open(nc)
		}
	}
}

// decider is what decides events; who makes it says where answers go.
func (a *Agent) decider() *conn {
	c := &conn{agent: a, tally: a.stats.tallies.Next(), waiting: map[*pending]struct{}{}, fx: session.Effects{WantVerdicts: true}}
	c.written.L = &c.mu
	return c
}

// open starts to serve a connection, if there is a place. Of those that have
// said nothing the oldest gives way: a proxy shakes hands at once.
func (a *Agent) open(nc net.Conn) {
	c := a.decider()
	c.nc, c.reader = nc, wire.NewReader(nc, 0)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.draining || len(a.conns)-len(a.pending) >= maxConns {
		_ = nc.Close() // refused
		return
	}
	if len(a.pending) >= maxPending {
		oldest := a.pending[0]
		oldest.close()
		delete(a.conns, oldest) // now, not when its goroutine comes to run
		a.pending = slices.Delete(a.pending, 0, 1)
	}
	_ = nc.SetReadDeadline(time.Now().Add(handshakeTime)) // an error shows in Read
	a.conns[c] = struct{}{}
	a.pending = append(a.pending, c)
	a.serving.Go(c.serve)
}

// greeted takes c, whose first message has come, off the pending ones.
func (a *Agent) greeted(c *conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if i := slices.Index(a.pending, c); i >= 0 {
		a.pending = slices.Delete(a.pending, i, i+1)
	}
}

// serve reads and answers until the connection or the agent ends.
func (c *conn) serve() {
	a := c.agent
	defer func() {
		if r := recover(); r != nil {
			a.log.Error("agent connection failed", "panic", r, "stack", string(debug.Stack()))
		}
		c.close()
		a.greeted(c)
		a.mu.Lock()
		delete(a.conns, c)
		a.mu.Unlock()
	}()
	for {
		m, ok, err := c.reader.Buffered()
		if err != nil {
			a.log.Warn("agent connection is not readable", "error", err)
			c.flushAll()
			return
		}
		if !ok {
			c.flush()
			err := c.reader.Fill()
			c.arrived = a.now()
			if err == nil {
				continue
			}
			if errors.Is(err, os.ErrDeadlineExceeded) && c.isDraining() {
				c.settle()
			}
			return
		}
		if !c.shaken {
			c.shaken = true
			a.greeted(c)
			c.unlimited()
		}
		if !c.message(m) {
			c.flushAll()
			return
		}
		if c.queued() >= maxFlush {
			c.flush()
		}
	}
}

// unlimited takes the limit off reading.
func (c *conn) unlimited() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.draining {
		_ = c.nc.SetReadDeadline(time.Time{}) // an error shows in Read
	}
}

// drain ends reading; what is in work is still answered.
func (c *conn) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.draining = true
	_ = c.nc.SetReadDeadline(time.Unix(1, 0)) // an error shows in Read
}

func (c *conn) isDraining() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.draining
}

// settle waits for the answers that are in work: not longer than a decision may
// take.
func (c *conn) settle() {
	c.await()
	c.flushAll()
}

// await returns when the answers that are in work are queued.
func (c *conn) await() {
	c.mu.Lock()
	var all []*pending
	for p := range c.waiting {
		all = append(all, p)
	}
	c.mu.Unlock()
	for _, p := range all {
		<-p.done
	}
}

// flushAll returns when everything queued so far is written.
func (c *conn) flushAll() {
	c.flush()
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.writing {
		c.written.Wait()
	}
}

// close ends the connection. Frames in work lose their answers, nothing else:
// WebSockets are not tied to a connection.
func (c *conn) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.closed = true
		c.out, c.marks = nil, nil
		_ = c.nc.Close() // nothing is left to be flushed
	}
}

func (c *conn) generation() wire.Generation { return c.reader.Generation() }

// begin readies the out buffer for an answer to an event that arrived then.
// The caller holds mu. False: nothing is written any more.
func (c *conn) begin(arrived session.Time) bool {
	if c.closed {
		return false
	}
	if c.oldest == 0 {
		c.oldest = arrived
	}
	c.marks = append(c.marks, mark{from: len(c.out)})
	return true
}

func (c *conn) end() { c.marks[len(c.marks)-1].till = len(c.out) }

// allowFrame queues the answer of the hot path.
func (c *conn) allowFrame(id []byte) {
	c.mu.Lock()
	if c.begin(c.arrived) {
		c.out = wire.AppendAllow(c.out, c.generation(), id)
		c.end()
	}
	c.mu.Unlock()
}

// send queues an answer to an event.
func (c *conn) send(ans *wire.Answer, arrived session.Time) {
	c.mu.Lock()
	if c.begin(arrived) {
		c.out = ans.AppendMessage(c.out)
		c.end()
	}
	c.mu.Unlock()
}

// write queues a message that answers no event, and is never late.
func (c *conn) write(appendTo func([]byte) []byte) {
	c.mu.Lock()
	if !c.closed {
		c.out = appendTo(c.out)
	}
	c.mu.Unlock()
}

func (c *conn) queued() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.out)
}

// suspended notes an event whose answer comes later.
func (c *conn) suspended(p *pending) {
	c.current = p
	c.mu.Lock()
	c.waiting[p] = struct{}{}
	c.mu.Unlock()
}

// resumed queues the answer of a suspended event, nil for none, and has it
// written: the reader may be waiting for the proxy.
func (c *conn) resumed(p *pending, d *decision) {
	p.outcome = d
	if d != nil {
		c.decided(d)
	}
	switch {
	case d == nil:
	case c.later != nil:
		c.later(p, d)
	case c.nc != nil:
		ans := d.answer(c.generation(), p.id)
		c.send(&ans, p.arrived)
		c.agent.checks.Go(c.flush) // never under the lock of a WebSocket
	}
	c.mu.Lock()
	delete(c.waiting, p) // not before its answer is queued: settle looks here
	c.mu.Unlock()
	close(p.done)
}

// flush writes what is queued, unless somebody does. Answers that are too late
// are not written: the proxy could take them for those of later frames. In v1,
// where the next answer would be taken for theirs, the connection ends.
func (c *conn) flush() {
	a := c.agent
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.writing {
		return
	}
	c.writing = true
	for len(c.out) > 0 && !c.closed {
		now, limit := a.now(), a.settings.Load().timeout
		if c.oldest != 0 && now-c.oldest > limit {
			a.stats.late.Add(uint64(len(c.marks)))
			if c.generation() == wire.V1 {
				c.out = nil
				c.closed = true
				_ = c.nc.Close() // expresses "no answer"
				break
			}
			c.takeBack(func(mark) bool { return true })
			c.oldest = 0
			continue
		}
		if c.deadline-now < limit {
			// Not for each write: setting a deadline costs as much as a frame.
			c.deadline = now + 2*limit
			_ = c.nc.SetWriteDeadline(time.Now().Add(time.Duration(2 * limit))) // an error shows in Write
		}
		buf := c.out
		c.out, c.spare, c.marks, c.oldest = c.spare[:0], nil, c.marks[:0], 0
		c.mu.Unlock()
		_, err := c.nc.Write(buf)
		c.mu.Lock()
		if cap(buf) <= 2*maxFlush {
			c.spare = buf
		}
		if err != nil && !c.closed {
			c.closed = true
			_ = c.nc.Close() // broken already
		}
	}
	c.writing = false
	c.written.Broadcast()
}

// takeBack takes answers out of the queue. The caller holds mu.
func (c *conn) takeBack(which func(mark) bool) {
	kept, marks := c.out[:0], c.marks[:0]
	at := 0
	for _, m := range c.marks {
		kept = append(kept, c.out[at:m.from]...)
		at = m.till
		if which(m) {
			continue
		}
		from := len(kept)
		kept = append(kept, c.out[m.from:m.till]...)
		marks = append(marks, mark{from, len(kept)})
	}
	kept = append(kept, c.out[at:]...)
	c.out, c.marks = kept, marks
}
