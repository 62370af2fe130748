package conformance

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/session"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// rules is the policy of the tests: dev/# is open but for dev/secret/#.
const rules = `"general": {"protocol-versions": ["3.1", "3.1.1", "5.0"]}, "acl": {"rules": [
	{"topics": ["dev/secret/#"], "decision": "deny", "priority": 10},
	{"topics": ["dev/#"], "decision": "allow"}]}`

// gate is a session as the gateway drives it, in memory: admitted by the claimed
// name, dialled at once.
type gate struct {
	t      *testing.T
	s      *session.Session
	engine *policy.Engine
	fx     session.Effects
	now    session.Time
	kept   [2][]byte // fed and not consumed
	out    [2][]byte // by receiver, since take
	end    *session.End
}

func compile(t *testing.T, text string) *policy.Engine {
	t.Helper()
	cfg, _, err := config.Parse("conformance.json", "", []byte("{"+text+"}"), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatalf("configuration %s: %v", text, err)
	}
	e, err := policy.Compile(cfg)
	if err != nil {
		t.Fatalf("configuration %s: %v", text, err)
	}
	return e
}

func newGate(t *testing.T, conf string) *gate {
	t.Helper()
	g := &gate{t: t, engine: compile(t, conf), now: 1000 * session.Second}
	set := session.NewSettings(policy.DoorGateway, g.engine.Config())
	set.NewID = func() string { return strings.Repeat("x", 22) }
	g.s = session.New(set, g.now)
	return g
}

// open is newGate with CONNECT and CONNACK gone by.
func open(t *testing.T, conf string, connect, connack []byte) *gate {
	t.Helper()
	g := newGate(t, conf)
	g.send(mqtt.Client, connect)
	g.send(mqtt.Broker, connack)
	g.take(mqtt.Client)
	g.take(mqtt.Broker)
	if g.end != nil {
		t.Fatalf("the connection ended: %+v", *g.end)
	}
	return g
}

func (g *gate) identity() policy.Identity {
	if s := g.s.Subject(); s != nil {
		return *s.Identity()
	}
	c := g.s.Connect()
	return policy.Identity{
		Username: c.Username, Anonymous: !c.HasUsername, ClientID: c.ClientID,
		Standing: policy.Claimed, Version: c.Version, Door: policy.DoorGateway,
	}
}

// call runs one call of the session and does what it asks for.
func (g *gate) call(input []byte, f func()) {
	g.fx.Reset()
	f()
	for to := range g.out {
		g.out[to] = append(g.out[to], g.fx.Bytes(mqtt.Side(to), input, nil)...)
	}
	if g.fx.Ended {
		end := g.fx.End
		g.end = &end
	}
	switch need, ticket := g.fx.Need, g.fx.Ticket; need {
	case session.NeedVerify:
		g.call(nil, func() { g.s.Admit(g.now, ticket, session.Admission{Subject: g.engine.Bind(g.identity())}, &g.fx) })
	case session.NeedDial:
		g.call(nil, func() { g.s.Dialled(g.now, ticket, new(config.Upstream), &g.fx) })
	}
}

// send has a side send packets.
func (g *gate) send(from mqtt.Side, packets ...[]byte) {
	g.kept[from] = append(g.kept[from], bytes.Join(packets, nil)...)
	for moved := true; moved; {
		moved = false
		for side := range g.kept {
			b := g.kept[side]
			if len(b) == 0 || g.end != nil {
				continue
			}
			n := 0
			g.call(b, func() { n = g.s.Feed(g.now, mqtt.Side(side), b, &g.fx) })
			g.kept[side] = append([]byte(nil), b[n:]...)
			moved = moved || n > 0
		}
	}
}

// pass lets time go by, second by second.
func (g *gate) pass(d time.Duration) {
	for ; d > 0 && g.end == nil; d -= time.Second {
		g.now += session.Second
		g.call(nil, func() { g.s.Tick(g.now, &g.fx) })
	}
}

// take returns what a side was sent since the last take.
func (g *gate) take(to mqtt.Side) []byte {
	b := g.out[to]
	g.out[to] = nil
	return b
}

// gets fails unless a side was sent these packets since the last take.
func (g *gate) gets(to mqtt.Side, packets ...[]byte) {
	g.t.Helper()
	if got, want := g.take(to), bytes.Join(packets, nil); !bytes.Equal(got, want) {
		g.t.Errorf("to the %v: got %x, want %x", to, got, want)
	}
}

// ends fails unless the connection has ended for a cause.
func (g *gate) ends(cause session.Cause) {
	g.t.Helper()
	switch {
	case g.end == nil:
		g.t.Errorf("the connection goes on, want an end by %v", cause)
	case g.end.Cause != cause:
		g.t.Errorf("the connection ended by %v, want %v", g.end.Cause, cause)
	}
}

func (g *gate) goesOn() {
	g.t.Helper()
	if g.end != nil {
		g.t.Errorf("the connection ended: %+v", *g.end)
	}
}

const v5 = mqtt.V5

// figures is a CONNACK that the gateway has nothing to add to.
func figures(more ...[]byte) []byte {
	return testkit.Connack(v5, false, 0, testkit.With(append([][]byte{
		testkit.Prop16(mqtt.ReceiveMaximum, 20), testkit.Prop32(mqtt.MaximumPacketSize, 65536),
	}, more...)...))
}

// hello is a CONNECT of 5.0.
func hello(more ...[]byte) []byte {
	return testkit.Connect(v5, "c1", testkit.With(append([][]byte{testkit.Prop32(mqtt.MaximumPacketSize, 65536)}, more...)...))
}
