package agent

import (
	"fmt"
	"testing"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/agent/wire"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/session"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// TestTakenOver: a client that comes again over another WebSocket frees the
// dead one, once the broker has accepted it.
func TestTakenOver(t *testing.T) {
	a := open(t, conf(`"auth":{"takeover":"any"}`), nil)
	p := a.proxy(t, wire.V2)
	start := func(ws, route, id, user string) *testkit.WebSocket {
		t.Helper()
		w := p.Open(ws)
		w.Route = route
		want(t, "CONNECT", w.Send(t, mqtt.Client, testkit.Connect(v4, id, testkit.User(user))), wire.WSAllow)
		return w
	}
	accepted := func(w *testkit.WebSocket) {
		t.Helper()
		want(t, "CONNACK", w.Send(t, mqtt.Broker, testkit.Connack(v4, false, 0)), wire.WSAllow)
	}
	old := start("old", "r", "c", "u")
	accepted(old)
	for _, other := range []*testkit.WebSocket{
		start("route", "other", "c", "u"), start("user", "r", "c", "v"), start("id", "r", "d", "u"),
	} {
		accepted(other)
		defer other.Frame(t, mqtt.Client, wire.OpClose, true, nil)
	}
	refused := start("refused", "r", "c", "u")
	want(t, "CONNACK", refused.Send(t, mqtt.Broker, testkit.Connack(v4, false, 5)), wire.WSAllow)
	now := start("now", "r", "c", "u")
	want(t, "not yet at the broker", old.Send(t, mqtt.Client, testkit.Pingreq()), wire.WSAllow)
	accepted(now)
	await(t, "the dead one is gone", func() bool { return a.table.live.Load() == 4 })
	a.await(t, "mqtt,disconnect")
	want(t, "its close frame", old.Frame(t, mqtt.Broker, wire.OpClose, true, nil), wire.WSAllow)
	wantClose(t, "its client", old.Send(t, mqtt.Client, publish("dev/a", 0)), 1008)
	want(t, "the new one", now.Send(t, mqtt.Client, publish("dev/a", 0)), wire.WSAllow)
	// Whether the broker has really cut the old one nobody tells.
	wantClose(t, "the id of the old one", p.Open("old").Send(t, mqtt.Client, testkit.Connect(v4, "e", testkit.User("u"))), 1008)
	now.Frame(t, mqtt.Client, wire.OpClose, true, nil)
}

// TestSilence: no keep-alive, however long, keeps a dead WebSocket for more
// than an hour.
func TestSilence(t *testing.T) {
	a := open(t, conf(), nil)
	p := a.proxy(t, wire.V2)
	for i, keepAlive := range []int{0, 60, 65535} {
		connect(t, p, fmt.Sprint("w", i), testkit.KeepAlive(keepAlive))
	}
	fx := &session.Effects{WantVerdicts: true}
	at := a.now()
	for _, c := range []struct {
		after session.Time
		live  int64
	}{{80 * session.Second, 3}, {110 * session.Second, 2}, {3590 * session.Second, 2}, {3610 * session.Second, 0}} {
		a.tick(at+c.after, a.epoch, fx)
		if n := a.table.live.Load(); n != c.live {
			t.Errorf("%d live after %d s of silence, want %d", n, c.after/session.Second, c.live)
		}
	}
}

// TestOneUserLeavesPlace: a user who has half of the table gets nothing of the
// last eighth.
func TestOneUserLeavesPlace(t *testing.T) {
	a := open(t, conf(`"agent":{"max-sessions":64},"auth":{"takeover":"any"}`), nil)
	p := a.proxy(t, wire.V2)
	for i := range 56 {
		connect(t, p, fmt.Sprint("greedy-", i), testkit.User("greedy"))
	}
	r := p.Open("more").Send(t, mqtt.Client, testkit.Connect(v4, "more", testkit.User("greedy")))
	wantClose(t, "one more of the same", r, 1013)
	for i := range 8 {
		connect(t, p, fmt.Sprint("other-", i), testkit.User("other"))
	}
	wantClose(t, "a full table", p.Open("full").Send(t, mqtt.Client, testkit.Connect(v4, "full")), 1013)
	if n := len(a.table.users); n != 2 {
		t.Errorf("%d users are known", n)
	}
	fx := &session.Effects{WantVerdicts: true}
	for ws := range a.table.all() {
		ws.stop(a.Agent, fx)
	}
	if n := len(a.table.users) + len(a.table.named); n != 0 {
		t.Errorf("%d users and clients are left", n)
	}
}
