package agent

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/agent/wire"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/auth"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/session"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// slowHash costs far more than the deadline of these tests, on any machine.
var slowHash = sync.OnceValue(func() string {
	h, err := auth.HashPassword([]byte("right"), slowCost)
	if err != nil {
		panic(err)
	}
	return h
})

const deadline = 100 * time.Millisecond

func slowDoor(t *testing.T, general string, change ...func(*Options)) *door {
	t.Helper()
	return within(t, deadline, general, change...)
}

// patientDoor waits for slow checks: there is something in work, and no machine
// is too slow for the answer.
func patientDoor(t *testing.T, change ...func(*Options)) *door {
	t.Helper()
	return within(t, testkit.Patience, "", change...)
}

func within(t *testing.T, deadline time.Duration, general string, change ...func(*Options)) *door {
	t.Helper()
	if general != "" {
		general = "," + general
	}
	return open(t, conf(
		`"auth":{"enabled":true,"allow-anonymous":true,"failure-lockout":false,"providers":[{"type":"file","path":"users.json"}]}`,
		`"agent":{"decision-timeout-ms":`+fmt.Sprint(deadline.Milliseconds())+`}`,
		`"general":{"connect-timeout-secs":3600`+general+`}`, // which bounds a check as well
	), map[string]string{"alice": slowHash()}, change...)
}

// impatient is a proxy that gives up soon: on a machine that stood still for
// longer than the deadline there is no answer.
func impatient(t *testing.T, a *door, g wire.Generation) *testkit.Proxy {
	t.Helper()
	return waiting(t, a, g, 4*deadline)
}

// waiting is a proxy that waits for answers for so long.
func waiting(t *testing.T, a *door, g wire.Generation, limit time.Duration) *testkit.Proxy {
	t.Helper()
	pool, err := wire.Dial(t.Context(), wire.PoolOptions{Socket: a.socket, Generation: g, Timeout: limit})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return &testkit.Proxy{Pool: pool, Generation: g}
}

func alice(id, password string) []byte {
	return testkit.Connect(v4, id, testkit.User("alice"), testkit.Password(password))
}

// timed sends a CONNECT and reports whether its answer came in time. On a machine
// that stood still there may be none, or it took its time on the way here: who
// wants to see one asks again.
func timed(w *testkit.WebSocket, packet []byte) (wire.Response, bool) {
	began := time.Now()
	r, err := w.Try(mqtt.Client, wire.OpBinary, true, packet)
	return r, err == nil && time.Since(began) <= 3*deadline
}

// tried sends a frame of a WebSocket that may have ended, because an answer to
// it came too late: there is none then, as there may be none to this one.
func tried(w *testkit.WebSocket, from mqtt.Side, packet []byte) (wire.Response, bool) {
	if w.Closed {
		return wire.Response{}, false
	}
	r, err := w.Try(from, wire.OpBinary, true, packet)
	return r, err == nil
}

// TestDeadline: a password check that takes longer closes at the deadline; the
// client's own reconnect finds the outcome.
func TestDeadline(t *testing.T) {
	for _, g := range generations {
		a := slowDoor(t, "")
		n := 0
		ask := func(what, password string) (wire.Response, bool) {
			n++
			return timed(impatient(t, a, g).Open(fmt.Sprint(what, n)), alice("c", password))
		}
		await(t, "an answer at the deadline", func() bool {
			r, ok := ask("first", fmt.Sprint("never seen", n)) // what was seen is in the cache
			if ok {
				wantClose(t, "at the deadline", r, 1013)
			}
			return ok && r.Tags[2] == "decision-timeout" // else others are being checked
		})
		await(t, "a reconnect passes", func() bool {
			r, ok := ask("again", "right")
			return ok && r.WebSocket == wire.WSAllow
		})
		await(t, "a wrong password is refused for good", func() bool {
			r, ok := ask("wrong", "wrong")
			return ok && r.Code == 1008 && r.Tags[2] == "auth-failed"
		})
	}
}

// TestSlowCheckHoldsUpNobody: while one CONNECT waits, frames of other
// WebSockets on the same connection are decided.
func TestSlowCheckHoldsUpNobody(t *testing.T) {
	a := patientDoor(t)
	p := waiting(t, a, wire.V2, testkit.Patience)
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.Open("slow").Try(mqtt.Client, wire.OpBinary, true, alice("c", "right")) // the others are the test
	}()
	others := 0
	for i := 0; ; i++ {
		select {
		case <-done:
			if others == 0 {
				t.Error("nobody was served meanwhile")
			}
			return
		default:
		}
		if a.table.waiting.Load() == 0 {
			continue // the slow one is not there yet
		}
		w := connect(t, p, fmt.Sprint("other", i))
		want(t, "meanwhile", w.Send(t, mqtt.Client, publish("dev/a", 1)), wire.WSAllow)
		others++
	}
}

// TestTwoEventsOneID: a second frame before the first was answered refuses
// both.
func TestTwoEventsOneID(t *testing.T) {
	a := patientDoor(t)
	r := dial(t, a, wire.V2)
	r.write(t, v2(wire.HandshakeRequest, shake))
	r.next(t, wire.HandshakeResponse)
	w := (&testkit.Proxy{}).Open("twice")
	first := w.Event(mqtt.Client, wire.OpBinary, true, alice("c", "right"))
	second := w.Event(mqtt.Client, wire.OpBinary, true, publish("dev/a", 0))
	r.write(t, second.AppendMessage(first.AppendMessage(nil, wire.V2), wire.V2))
	wantClose(t, "one", r.response(t), 1008)
	wantClose(t, "the other", r.response(t), 1008)

	// The same with an upgrade.
	up := wire.HeadersEvent{CorrelationID: "up", Route: "mqtt-ws"}
	w = (&testkit.Proxy{}).Open("up")
	first = w.Event(mqtt.Client, wire.OpBinary, true, alice("e", "right"))
	r.write(t, up.AppendMessage(first.AppendMessage(nil, wire.V2), wire.V2))
	if got := r.response(t); got.Block != 400 || got.WebSocket != wire.WSClose || !got.HasWebSocket {
		t.Errorf("upgrade with an id in work: %+v", got)
	}
	want(t, "the frame in work", r.response(t), wire.WSAllow)
}

// TestCancel: a cancelled event gets no answer, and its WebSocket ends.
func TestCancel(t *testing.T) {
	a := patientDoor(t)
	r := dial(t, a, wire.V2)
	r.write(t, v2(wire.HandshakeRequest, shake))
	r.next(t, wire.HandshakeResponse)
	w := (&testkit.Proxy{}).Open("given up")
	e := w.Event(mqtt.Client, wire.OpBinary, true, alice("c", "right"))
	r.write(t, e.AppendMessage(nil, wire.V2))
	await(t, "the CONNECT waits", func() bool { return a.table.waiting.Load() == 1 })
	r.write(t, v2(wire.Cancel, `{"correlation_id":"given up","reason":0,"timestamp_ms":1}`))
	await(t, "it ends", func() bool { return a.table.live.Load() == 0 })
	r.write(t, v2(wire.Ping, "{}"))
	r.next(t, wire.Pong) // and no answer before it
}

// TestFailOpen: at the deadline the claimed name is let in, deny rules only;
// when the check ends the name counts, or the connection ends.
func TestFailOpen(t *testing.T) {
	a := slowDoor(t, `"fail-open":true`)
	p := impatient(t, a, wire.V2)
	good, bad := p.Open("good"), p.Open("bad")
	for _, w := range []*testkit.WebSocket{bad, good} {
		password := "right"
		if w == bad {
			password = "wrong"
		}
		r, ok := timed(w, alice(w.ID, password))
		if !ok {
			w.Closed = true // as the proxy does
			continue
		}
		want(t, w.ID+": CONNECT", r, wire.WSAllow)
	}
	standing := func(id string) (s policy.Standing, live bool) {
		ws := a.table.byID(id)
		if ws == nil {
			return 0, false
		}
		ws.mu.Lock()
		defer ws.mu.Unlock()
		if ws.doom != nil {
			return 0, false
		}
		return ws.sess.Subject().Identity().Standing, true
	}
	await(t, "the right password verifies", func() bool { s, live := standing("good"); return live && s == policy.Verified })
	await(t, "the wrong one ends the session", func() bool { _, live := standing("bad"); return !live })
	for _, packet := range []struct {
		from mqtt.Side
		b    []byte
	}{{mqtt.Broker, testkit.Connack(v4, false, 0)}, {mqtt.Client, publish("dev/a", 0)}} {
		if r, ok := tried(good, packet.from, packet.b); ok {
			want(t, "verified", r, wire.WSAllow)
		}
	}
	if r, ok := tried(bad, mqtt.Broker, testkit.Connack(v4, false, 0)); ok {
		wantClose(t, "refused in the end", r, 1008)
	}
}

// TestDetectOnlyDeadline: nothing is blocked, not even at the deadline.
func TestDetectOnlyDeadline(t *testing.T) {
	a := slowDoor(t, `"block-mode":false`)
	n := 0
	await(t, "answers at the deadline", func() bool {
		n++
		w := impatient(t, a, wire.V2).Open(fmt.Sprint("w", n))
		r, ok := timed(w, alice("c", fmt.Sprint("wrong", n)))
		if !ok {
			return false
		}
		want(t, "CONNECT", r, wire.WSAllow)
		if r, ok = tried(w, mqtt.Broker, testkit.Connack(v4, false, 0)); ok {
			want(t, "CONNACK", r, wire.WSAllow)
		}
		return ok
	})
	a.await(t, "mqtt,detect-only,decision-timeout")
}

// TestRevoked: a user that is gone is closed at the next frame of either side.
func TestRevoked(t *testing.T) {
	a := open(t, conf(`"auth":{"enabled":true,"providers":[{"type":"file","path":"users.json"}]}`),
		map[string]string{"alice": hash(t, "right", 4), "bob": hash(t, "right", 4)})
	p := a.proxy(t, wire.V2)
	w, other := p.Open("w"), p.Open("other")
	want(t, "alice", w.Send(t, mqtt.Client, alice("c", "right")), wire.WSAllow)
	want(t, "alice", w.Send(t, mqtt.Broker, testkit.Connack(v4, false, 0)), wire.WSAllow)
	bob := testkit.Connect(v4, "d", testkit.User("bob"), testkit.Password("right"))
	want(t, "bob", other.Send(t, mqtt.Client, bob), wire.WSAllow)
	want(t, "bob", other.Send(t, mqtt.Broker, testkit.Connack(v4, false, 0)), wire.WSAllow)
	writeUsers(t, a.dir, map[string]string{"bob": hash(t, "right", 4)})
	<-a.gate.Changed()
	a.Recheck()
	wantClose(t, "alice is gone", w.Send(t, mqtt.Broker, publish("dev/a", 0)), 1008)
	wantClose(t, "and stays so", w.Send(t, mqtt.Client, publish("dev/a", 0)), 1008)
	want(t, "bob stays", other.Send(t, mqtt.Client, publish("dev/a", 0)), wire.WSAllow)

	reload(t, a, `{"auth":{"enabled":true,"providers":[{"type":"file","path":"users.json"}]},"acl":{"default-action":"deny"}}`)
	want(t, "the new policy holds for bob", other.Send(t, mqtt.Client, publish("dev/a", 0)), wire.WSDrop)

	reload(t, a, `{"auth":{"enabled":true,"providers":[{"type":"file","path":"users.json"}]},
		"acl":{"default-action":"allow","rules":[{"name":"shut","match":{"username":"bob"},"actions":["connect"],"decision":"deny"}]}}`)
	r := other.Send(t, mqtt.Client, publish("dev/a", 0))
	wantClose(t, "bob may not connect any more", r, 1008)
	wantRule(t, r, "shut")
}

// TestStopFinishes: a decision in work is answered before the agent ends.
func TestStopFinishes(t *testing.T) {
	a := patientDoor(t)
	w := waiting(t, a, wire.V2, testkit.Patience).Open("w")
	answered := make(chan error, 1)
	go func() {
		r, err := w.Try(mqtt.Client, wire.OpBinary, true, alice("c", "right"))
		if err == nil && r.WebSocket != wire.WSAllow {
			err = fmt.Errorf("%+v", r)
		}
		answered <- err
	}()
	await(t, "the CONNECT waits", func() bool { return a.table.waiting.Load() == 1 })
	if err := a.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-answered; err != nil {
		t.Error(err)
	}
}

// TestNothingLeavesLate: an answer that is too late stays here. In v1 the
// connection ends, because the next answer would be taken for it.
func TestNothingLeavesLate(t *testing.T) {
	a := open(t, conf(`"agent":{"decision-timeout-ms":50}`), nil)
	for _, g := range generations {
		here, there := net.Pipe()
		c := &conn{agent: a.Agent, nc: here, reader: wire.NewReader(here, g)}
		c.written.L = &c.mu
		c.send(&wire.Answer{Version: g}, a.now()-51*session.Second/1000)
		if g == wire.V2 {
			c.write(func(out []byte) []byte { return wire.AppendMessage(out, g, wire.Pong, nil) })
		}
		go func() {
			c.flush()
			c.close()
		}()
		got, err := io.ReadAll(there)
		if err != nil {
			t.Fatal(err)
		}
		var want []byte
		if g == wire.V2 {
			want = wire.AppendMessage(nil, g, wire.Pong, nil)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("v%d: %q left, want %q", g, got, want)
		}
		if n := a.stats.late.Load(); n == 0 {
			t.Errorf("v%d: nothing counted as late", g)
		}
	}
}
