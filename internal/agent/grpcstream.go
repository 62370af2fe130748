package agent

import (
	"encoding/json"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/agent/pb/agentv2"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/agent/wire"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/session"
)

// maxOutgoing is how many answers a stream keeps before it stops reading.
const maxOutgoing = 256

// processStream is one stream of v2. One goroutine reads and decides, in order;
// the handler's own writes.
type processStream struct {
	// Fixed.
	rpc    *rpc
	stream grpc.BidiStreamingServer[agentv2.ProxyToAgent, agentv2.AgentToProxy]
	caller *caller

	// Owned by read.
	conn *conn // decides

	ready   chan struct{} // there is something to be written
	room    chan struct{} // there is place again
	sending atomic.Int64  // since when a message is being written; 0: none is
	shaken  atomic.Bool
	gone    bool // guarded by rpc.mu: it is told nothing any more

	// Guarded by mu.
	mu  sync.Mutex
	out []outgoing
}

// outgoing is a message to be written; one that answers an event says which,
// and when that arrived.
type outgoing struct {
	msg     *agentv2.AgentToProxy
	id      string
	arrived session.Time // 0: it answers none
}

func newProcessStream(g *rpc, stream grpc.BidiStreamingServer[agentv2.ProxyToAgent, agentv2.AgentToProxy]) *processStream {
	s := &processStream{
		rpc: g, stream: stream, caller: callerOf(stream.Context()), conn: g.agent.decider(),
		ready: make(chan struct{}, 1), room: make(chan struct{}, 1),
	}
	s.conn.later = func(p *pending, d *decision) {
		ans := d.answer(wire.V2, p.id)
		s.answer(&ans, p.arrived)
	}
	return s
}

// serve answers until the proxy or the agent ends the stream.
func (s *processStream) serve() error {
	a := s.rpc.agent
	done := make(chan error, 1)
	a.checks.Go(func() { // ends with the stream
		var err error
		defer func() { done <- err }()
		defer s.rpc.recovered(&err)
		err = s.read()
	})
	defer s.rpc.remove(s)
	greeting := time.NewTimer(handshakeTime)
	defer greeting.Stop()
	for {
		select {
		case <-s.ready:
			if err := s.flush(); err != nil {
				return err
			}
		case err := <-done:
			// What was asked is answered, also to one who sends no more.
			s.conn.await()
			if e := s.flush(); e != nil {
				return e
			}
			return err
		case <-s.rpc.stopping:
			s.conn.await()
			return s.flush()
		case <-greeting.C:
			if !s.shaken.Load() {
				return status.Error(codes.DeadlineExceeded, "no handshake")
			}
		}
	}
}

// read takes messages until the proxy ends the stream, or has to.
func (s *processStream) read() error {
	for {
		in, err := s.stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		s.conn.arrived = s.rpc.agent.now()
		if err := s.message(in); err != nil {
			return err
		}
		if err := s.pause(); err != nil {
			return err
		}
	}
}

// message handles one message. An error ends the stream.
func (s *processStream) message(in *agentv2.ProxyToAgent) error {
	g, c := s.rpc, s.conn
	if h := in.GetHandshake(); h != nil {
		out, ok := g.greet(s.stream.Context(), h)
		s.put(outgoing{msg: out})
		if !ok {
			return status.Error(codes.FailedPrecondition, out.GetHandshake().GetError())
		}
		s.shaken.Store(true)
		g.agent.introduce(func() { g.add(s) }, func(h *wire.Status) { s.put(outgoing{msg: statusV2(h)}) })
		return nil
	}
	if !s.shaken.Load() {
		return nil // is not to be answered
	}
	switch m := in.GetMessage().(type) {
	case *agentv2.ProxyToAgent_Ping:
		s.put(outgoing{msg: pong(m.Ping)})
		return nil
	case *agentv2.ProxyToAgent_Cancel:
		s.cancel(m.Cancel.GetCorrelationId())
		return nil
	case *agentv2.ProxyToAgent_Configure:
		// There is no answer: the pong to the ping behind it says that it is in
		// force, the end of the stream that it is not.
		if err := g.push(s.stream.Context(), json.RawMessage(m.Configure.GetConfigJson())); err != nil {
			return status.Error(codes.FailedPrecondition, err.Error())
		}
		return nil
	case *agentv2.ProxyToAgent_WebsocketFrame:
		return s.frame(m.WebsocketFrame)
	}
	ans, ok, err := c.eventV2(in)
	if err != nil || !ok {
		return err
	}
	s.answer(&ans, c.arrived)
	return nil
}

// frame decides a frame.
func (s *processStream) frame(e *agentv2.WebSocketFrameEvent) error {
	a, c := s.rpc.agent, s.conn
	setFrameV2(&c.frame, e)
	if len(c.frame.CorrelationID) == 0 {
		a.stats.unreadable.Add(1)
		return errNoID
	}
	d := c.decide()
	if d.suspended {
		return nil // see later
	}
	c.decided(&d)
	ans := d.answer(wire.V2, c.frame.CorrelationID)
	s.answer(&ans, c.arrived)
	return nil
}

// cancel gives up an event: an answer that is not yet written is not.
func (s *processStream) cancel(id string) {
	if id == "" {
		return
	}
	s.mu.Lock()
	s.out = slices.DeleteFunc(s.out, func(o outgoing) bool { return o.arrived != 0 && o.id == id })
	s.mu.Unlock()
	s.conn.giveUp(id)
}

func (s *processStream) answer(ans *wire.Answer, arrived session.Time) {
	s.put(outgoing{msg: responseV2(ans), id: string(ans.CorrelationID), arrived: arrived})
}

// put queues a message.
func (s *processStream) put(o outgoing) {
	s.mu.Lock()
	s.out = append(s.out, o)
	s.mu.Unlock()
	signal(s.ready)
}

// tell queues a message that nobody asked for, if the proxy reads.
func (s *processStream) tell(msg *agentv2.AgentToProxy) {
	s.mu.Lock()
	full := len(s.out) >= maxOutgoing
	s.mu.Unlock()
	if !full {
		s.put(outgoing{msg: msg})
	}
}

// signal notes in a channel of capacity 1 that something has happened.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// pause waits until a proxy that sends has read what it was answered.
func (s *processStream) pause() error {
	for {
		s.mu.Lock()
		full := len(s.out) >= maxOutgoing
		s.mu.Unlock()
		if !full {
			return nil
		}
		select {
		case <-s.room:
		case <-s.stream.Context().Done():
			return s.stream.Context().Err()
		}
	}
}

// flush writes what is queued. Answers that are too late are not written: the
// proxy could take them for those of newer events.
func (s *processStream) flush() error {
	a := s.rpc.agent
	defer s.sending.Store(0)
	for {
		s.mu.Lock()
		out := s.out
		s.out = nil
		s.mu.Unlock()
		signal(s.room)
		if len(out) == 0 {
			return nil
		}
		for _, o := range out {
			now := a.now()
			if o.arrived != 0 && now-o.arrived > a.settings.Load().timeout {
				a.stats.late.Add(1)
				continue
			}
			s.sending.Store(int64(now))
			if err := s.stream.Send(o.msg); err != nil {
				return err
			}
		}
	}
}

// add takes s up among those that are told things.
func (g *rpc) add(s *processStream) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !s.gone {
		g.streams[s] = struct{}{}
	}
}

func (g *rpc) remove(s *processStream) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s.gone = true
	delete(g.streams, s)
}

// all are the streams that have shaken hands.
func (g *rpc) all() []*processStream {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := make([]*processStream, 0, len(g.streams))
	for s := range g.streams {
		out = append(out, s)
	}
	return out
}

// tell sends a message that nobody asked for to every proxy on v2.
func (g *rpc) tell(msg *agentv2.AgentToProxy) {
	for _, s := range g.all() {
		s.tell(msg)
	}
}

// stalled ends the connections of proxies that do not read.
func (g *rpc) stalled(now session.Time) {
	limit := 2 * g.agent.settings.Load().timeout
	for _, s := range g.all() {
		if since := session.Time(s.sending.Load()); since != 0 && now-since > limit {
			_ = s.caller.Close() // expresses that nothing can be said
		}
	}
}
