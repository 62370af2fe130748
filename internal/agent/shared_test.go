package agent

import (
	"fmt"
	"strings"
	"testing"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/agent/wire"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/session"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// half is a CONNECT and the beginning of a large PUBLISH that is allowed: what
// comes next is its payload.
func half(id string) []byte {
	return join(testkit.Connect(v4, id), testkit.Publish(v4, "dev/a", 0, 0, string(make([]byte, 1<<19)))[:20])
}

// TestSharedID: of two WebSockets that a client has opened under one
// correlation id neither is decided as the continuation of the other, whatever
// became of the first one.
func TestSharedID(t *testing.T) {
	silent := func(a *door) {
		fx := &session.Effects{WantVerdicts: true}
		for ws := range a.table.all() {
			ws.due(a.Agent, a.now()+maxSilence+session.Second, fx)
		}
	}
	for _, c := range []struct {
		name  string
		first func(t *testing.T, a *door, w *testkit.WebSocket)
	}{
		{"it has only pinged", func(t *testing.T, _ *door, w *testkit.WebSocket) {
			want(t, "ping", w.Frame(t, mqtt.Client, wire.OpPing, true, nil), wire.WSAllow)
		}},
		{"it has sent an empty message", func(t *testing.T, _ *door, w *testkit.WebSocket) {
			want(t, "empty", w.Frame(t, mqtt.Client, wire.OpBinary, true, nil), wire.WSAllow)
		}},
		{"it began with a close frame", func(t *testing.T, _ *door, w *testkit.WebSocket) {
			want(t, "close", w.Frame(t, mqtt.Client, wire.OpClose, true, nil), wire.WSAllow)
		}},
		{"it began with a text frame", func(t *testing.T, _ *door, w *testkit.WebSocket) {
			wantClose(t, "text", w.Frame(t, mqtt.Client, wire.OpText, true, nil), 1003)
		}},
		{"it pinged and was silent", func(t *testing.T, a *door, w *testkit.WebSocket) {
			want(t, "ping", w.Frame(t, mqtt.Client, wire.OpPing, true, nil), wire.WSAllow)
			silent(a)
		}},
		{"it has connected", func(t *testing.T, _ *door, w *testkit.WebSocket) {
			want(t, "CONNECT", w.Send(t, mqtt.Client, testkit.Connect(v4, "a", testkit.KeepAlive(0))), wire.WSAllow)
		}},
		{"it has connected and was silent", func(t *testing.T, a *door, w *testkit.WebSocket) {
			want(t, "CONNECT", w.Send(t, mqtt.Client, testkit.Connect(v4, "a", testkit.KeepAlive(0))), wire.WSAllow)
			silent(a)
		}},
		{"another has taken its client over", func(t *testing.T, a *door, w *testkit.WebSocket) {
			want(t, "CONNECT", w.Send(t, mqtt.Client, testkit.Connect(v4, "a")), wire.WSAllow)
			want(t, "CONNACK", w.Send(t, mqtt.Broker, testkit.Connack(v4, false, 0)), wire.WSAllow)
			ws := a.table.byID(w.ID)
			ws.takenOver(a.Agent)
		}},
		{"a request with its id is complete", func(t *testing.T, a *door, w *testkit.WebSocket) {
			want(t, "CONNECT", w.Send(t, mqtt.Client, testkit.Connect(v4, "a")), wire.WSAllow)
			a.decider().completed(w.ID)
		}},
		{"its user was revoked", func(t *testing.T, a *door, w *testkit.WebSocket) {
			want(t, "CONNECT", w.Send(t, mqtt.Client, testkit.Connect(v4, "a")), wire.WSAllow)
			ws := a.table.byID(w.ID)
			ws.mu.Lock()
			defer ws.mu.Unlock()
			ws.doomed(a.Agent, doom{reason: policy.ReasonNotAllowed, name: "revoked"})
		}},
		{"it was not there from the beginning", func(t *testing.T, _ *door, w *testkit.WebSocket) {
			w.Index[mqtt.Client] = 1
			wantClose(t, "unknown", w.Send(t, mqtt.Client, nil), 1008)
			w.Closed = false // as if it were
		}},
	} {
		a := open(t, conf(), nil, overRPC)
		for i, p := range []*testkit.Proxy{a.proxy(t, wire.V1), a.proxy(t, wire.V2), a.rpcProxy(t, wire.V1)} {
			for _, shown := range []bool{false, true} { // upgrades
				id := fmt.Sprint("shared", i, shown)
				name := fmt.Sprintf("%s, transport %d, upgrade shown: %v", c.name, i, shown)
				if shown {
					if r := p.Upgrade(t, id, nil); r.Block != 0 {
						t.Fatalf("%s: first upgrade: %+v", name, r)
					}
				}
				first, second := p.Open(id), p.Open(id)
				if r := p.Upgrade(t, id, nil); shown && (r.Block != 400 || !r.HasWebSocket || r.WebSocket != wire.WSClose) {
					t.Errorf("%s: upgrade before any frame: %+v, want both refusals", name, r)
				}
				c.first(t, a, first)
				if r := p.Upgrade(t, id, nil); r.Block != 400 || !r.HasWebSocket || r.WebSocket != wire.WSClose {
					t.Errorf("%s: upgrade: %+v, want both refusals", name, r)
				}
				if r := p.Upgrade(t, id, map[string][]string{}); r.Block != 400 || !r.HasWebSocket || r.WebSocket != wire.WSClose {
					t.Errorf("%s: plain request: %+v, want both refusals", name, r)
				}
				// As if the proxy had opened it all the same.
				wantClose(t, name+": the second", second.Send(t, mqtt.Client, half("b")), 1008)
				if first.Index[mqtt.Client] > 0 && !first.Closed {
					wantClose(t, name+": the first", first.Send(t, mqtt.Client, publish("other", 0)), 1008)
				}
			}
		}
	}
}

// TestIDIsFreeAgain: a client that always sends the same id comes again when its
// WebSocket has ended in order, and for one WebSocket at a time.
func TestIDIsFreeAgain(t *testing.T) {
	a := open(t, conf(), nil, overRPC)
	for i, p := range []*testkit.Proxy{a.proxy(t, wire.V1), a.proxy(t, wire.V2), a.rpcProxy(t, wire.V1)} {
		for _, shown := range []bool{false, true} { // upgrades
			id := fmt.Sprint("again", i, shown)
			for last, end := range []func(w *testkit.WebSocket){
				func(w *testkit.WebSocket) {
					want(t, "DISCONNECT", w.Send(t, mqtt.Client, testkit.Disconnect(v4, 0)), wire.WSAllow)
				},
				func(w *testkit.WebSocket) {
					want(t, "close", w.Frame(t, mqtt.Client, wire.OpClose, true, nil), wire.WSAllow)
				},
				func(w *testkit.WebSocket) {
					want(t, "the broker's close", w.Frame(t, mqtt.Broker, wire.OpClose, true, nil), wire.WSAllow)
				},
			} {
				if shown {
					if r := p.Upgrade(t, id, nil); r.Block != 0 {
						t.Fatalf("%s: upgrade: %+v", id, r)
					}
					if r := p.Upgrade(t, id, nil); r.Block != 400 {
						t.Errorf("%s: a second upgrade before any frame: %+v", id, r)
					}
				}
				w := p.Open(id)
				want(t, id, w.Send(t, mqtt.Client, testkit.Connect(v4, "a")), wire.WSAllow)
				if r := p.Upgrade(t, id, nil); r.Block != 400 {
					t.Errorf("%s: a second upgrade: %+v", id, r)
				}
				end(w)
				if w.Index[mqtt.Client] > 0 { // one that goes on all the same
					w.Closed = false
					wantClose(t, "after the end", w.Send(t, mqtt.Client, publish("dev/a", 0)), 1008)
				}
				// Whose broker has closed only the upgrade tells.
				if _, free := a.table.freed.ids[id]; free != (shown || last < 2) {
					t.Fatalf("%s, end %d: free %v", id, last, free)
				}
			}
		}
	}
}

// TestFreedForgets: what is kept of ids that are free again is bounded, and what
// is forgotten is taken.
func TestFreedForgets(t *testing.T) {
	tab := newTable()
	for i := range 2 * maxFreed {
		id := fmt.Sprint(i)
		tab.seen.add([]byte(id), begun, 1)
		tab.freed.add(id)
	}
	if n := len(tab.freed.ids); n != maxFreed {
		t.Errorf("%d are kept, want %d", n, maxFreed)
	}
	long := strings.Repeat("x", maxFreedID+1)
	tab.seen.add([]byte(long), begun, 1)
	tab.freed.add(long)
	if !tab.taken([]byte(long)) {
		t.Error("a long id is kept")
	}
	if !tab.taken([]byte("0")) || tab.taken([]byte(fmt.Sprint(2*maxFreed-1))) {
		t.Error("the oldest must be taken, the newest free")
	}
}

// TestSharedIDBegun: both are open before the first frame of either; the one
// that sends first does not get the other's packets.
func TestSharedIDBegun(t *testing.T) {
	a := open(t, conf(), nil)
	p := a.proxy(t, wire.V2)
	first, second := p.Open("id"), p.Open("id")
	want(t, "the broker's ping", first.Frame(t, mqtt.Broker, wire.OpPing, true, nil), wire.WSAllow)
	want(t, "the second", second.Send(t, mqtt.Client, half("b")), wire.WSAllow)
	wantClose(t, "the first", first.Send(t, mqtt.Client, join(testkit.Connect(v4, "a"), publish("other", 0))), 1008)
	wantClose(t, "the second's next", second.Send(t, mqtt.Client, publish("other", 0)), 1008)
}

// TestUnnumbered: without an index nothing but the upgrade says that frames are
// those of one WebSocket.
func TestUnnumbered(t *testing.T) {
	a := open(t, conf(), nil, overRPC)
	s := shakenStream(t, a.dialRPC(t))
	w := (&testkit.Proxy{}).Open("id")
	s.asked["id"] = true // it was not
	e := w.Event(mqtt.Client, wire.OpBinary, true, testkit.Connect(v4, "c"))
	if r, err := s.Frame(t.Context(), &e); err != nil || r.Block != 403 {
		t.Errorf("frame without an upgrade: %+v, %v", r, err)
	}
}

// TestUpgradesAtOnce: of many requests at once that have one id, one upgrades.
func TestUpgradesAtOnce(t *testing.T) {
	a := open(t, conf(), nil)
	const n = 32
	allowed := make(chan bool, n)
	for range n {
		go func() {
			h := wire.Headers{CorrelationID: "id", Values: map[string][]string{"upgrade": {"websocket"}, "sec-websocket-protocol": {"mqtt"}}}
			ans := a.request(&h)
			allowed <- ans.Block == 0
		}()
	}
	got := 0
	for range n {
		if <-allowed {
			got++
		}
	}
	if got != 1 {
		t.Errorf("%d upgraded, want 1", got)
	}
}
