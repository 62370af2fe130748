package agent

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/agent/wire"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/health"
)

// TestHealthTold: a proxy is told when health changes, and why, over the socket
// and over gRPC.
func TestHealthTold(t *testing.T) {
	board := new(health.Board)
	a := open(t, conf(), nil, overRPC, func(o *Options) { o.Board = board })
	r := dial(t, a, wire.V2)
	r.write(t, v2(wire.HandshakeRequest, shake))
	r.next(t, wire.HandshakeResponse)
	status := func() (s wire.Status) {
		t.Helper()
		b := r.next(t, wire.HealthStatus)
		if err := json.Unmarshal(b, &s); err != nil || s.AgentID != agentID || s.TimestampMS == 0 {
			t.Fatalf("%s: %v", b, err)
		}
		return s
	}
	board.Set(health.BrokerDown, true)
	if s := status(); s.State != int(health.Degraded) || !slices.Equal(s.Reasons, []string{"broker-down"}) {
		t.Errorf("told %+v, want degraded", s)
	}
	board.Set(health.BrokerDown, false)
	if s := status(); s.State != int(health.Healthy) || s.Reasons != nil {
		t.Errorf("told %+v, want healthy", s)
	}

	p := shakenStream(t, a.dialRPC(t)) // which is a reason itself
	p.extra = nil
	if s := status(); s.State != int(health.Degraded) || !slices.Equal(s.Reasons, []string{reasonStreamed}) {
		t.Errorf("told %+v, want degraded", s)
	}
	board.Set(health.BrokerDown, true)
	want := "broker-down, " + reasonStreamed
	for range 3 { // the change before may be told over the stream as well
		m, err := p.stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if h := m.GetHealth(); h.GetMessage() == want && h.GetState() == int32(health.Degraded) && h.GetAgentId() == agentID {
			return
		}
	}
	t.Errorf("a proxy over gRPC is not told %q", want)
}

// TestHealthToldAtOnce: a proxy that comes while we are not healthy is told so
// behind its handshake, over the socket and over gRPC; else it is told nothing.
func TestHealthToldAtOnce(t *testing.T) {
	board := new(health.Board)
	a := open(t, conf(), nil, overRPC, func(o *Options) { o.Board = board })
	first := dial(t, a, wire.V2)
	first.write(t, v2(wire.HandshakeRequest, shake))
	first.next(t, wire.HandshakeResponse)
	first.write(t, v2(wire.Ping, "{}"))
	if m, err := first.r.Next(); err != nil || m.Type != wire.Pong {
		t.Fatalf("told %v, %v while all is well", m.Type, err)
	}

	board.Set(health.BrokerDown, true)
	first.next(t, wire.HealthStatus) // now all are told
	later := dial(t, a, wire.V2)
	later.write(t, append(v2(wire.HandshakeRequest, shake), v2(wire.Ping, "{}")...))
	later.next(t, wire.HandshakeResponse)
	var s wire.Status
	m, err := later.r.Next()
	if err != nil || m.Type != wire.HealthStatus || json.Unmarshal(m.Payload, &s) != nil {
		t.Fatalf("behind the handshake: %v %q, %v", m.Type, m.Payload, err)
	}
	if s.State != int(health.Degraded) || !slices.Equal(s.Reasons, []string{health.BrokerDown}) || s.AgentID != agentID {
		t.Errorf("told %+v, want degraded", s)
	}

	p := shakenStream(t, a.dialRPC(t))
	p.send(t, ping(7))
	p.next(t)
	if len(p.extra) == 0 || p.extra[0].GetHealth().GetState() != int32(health.Degraded) {
		t.Errorf("over gRPC, before the answer to a ping: %v", p.extra)
	}
}
