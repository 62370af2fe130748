package agent

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/agent/wire"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/session"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

const v4 = mqtt.V311

func publish(topic string, qos byte) []byte { return testkit.Publish(v4, topic, qos, 7, "x") }

func join(b ...[]byte) []byte { return bytes.Join(b, nil) }

// TestFrames is one frame on an open WebSocket, over both generations.
func TestFrames(t *testing.T) {
	deny, allowed := publish("other", 0), publish("dev/a", 0)
	for _, c := range []struct {
		name  string
		close bool // agent.on-deny
		from  mqtt.Side
		data  []byte
		want  wire.WebSocketDecision
		code  uint16
	}{
		{"allowed", false, mqtt.Client, allowed, wire.WSAllow, 0},
		{"refused", false, mqtt.Client, deny, wire.WSDrop, 0},
		{"refused with an allowed QoS 0", false, mqtt.Client, join(allowed, deny), wire.WSDrop, 0},
		{"refused with an allowed QoS 1", false, mqtt.Client, join(publish("dev/a", 1), deny), wire.WSClose, 1008},
		{"refused with a ping", false, mqtt.Client, join(deny, testkit.Pingreq()), wire.WSClose, 1008},
		{"refused with DISCONNECT", false, mqtt.Client, join(deny, testkit.Disconnect(v4, 0)), wire.WSClose, 1008},
		{"refused QoS 1", false, mqtt.Client, publish("other", 1), wire.WSDrop, 0},
		{"refused QoS 1, on-deny close", true, mqtt.Client, publish("other", 1), wire.WSClose, 1008},
		{"refused QoS 0, on-deny close", true, mqtt.Client, deny, wire.WSDrop, 0},
		{"refused SUBSCRIBE", false, mqtt.Client, testkit.Subscribe(v4, 3, "dev/a", "other"), wire.WSDrop, 0},
		{"refused SUBSCRIBE, on-deny close", true, mqtt.Client, testkit.Subscribe(v4, 3, "#"), wire.WSClose, 1008},
		{"refused delivery", false, mqtt.Broker, deny, wire.WSDrop, 0},
		{"refused delivery QoS 1, on-deny close", true, mqtt.Broker, publish("other", 1), wire.WSClose, 1008},
		{"allowed delivery", false, mqtt.Broker, publish("dev/a", 2), wire.WSAllow, 0},
		{"second CONNECT", false, mqtt.Client, testkit.Connect(v4, "again"), wire.WSClose, 1008},
		{"malformed", false, mqtt.Client, []byte{0x36, 0}, wire.WSClose, 1008},
		{"packet of the other side", false, mqtt.Client, testkit.Connack(v4, false, 0), wire.WSClose, 1008},
		{"too large, at its head", false, mqtt.Client, []byte{0x30, 0xff, 0xff, 0x7f}, wire.WSClose, 1009},
		{"long form of a length", false, mqtt.Client, []byte{0xc0, 0x80, 0x00}, wire.WSClose, 1008},
	} {
		onDeny := "drop"
		if c.close {
			onDeny = "close"
		}
		a := open(t, conf(`"agent":{"on-deny":"`+onDeny+`"}`), nil)
		for _, g := range generations {
			w := connect(t, a.proxy(t, g), fmt.Sprint("one-", g))
			r := w.Send(t, c.from, c.data)
			name := fmt.Sprintf("%s, v%d", c.name, g)
			if c.want == wire.WSClose {
				wantClose(t, name, r, c.code)
				continue
			}
			want(t, name, r, c.want)
			want(t, name+": then a ping", w.Send(t, mqtt.Client, testkit.Pingreq()), wire.WSAllow)
			w.Frame(t, mqtt.Client, wire.OpClose, true, nil)
		}
	}
}

// TestRefusedInPieces: a PUBLISH that is refused at the frame that begins it
// is dropped to its last frame, if it ends at a frame's end.
func TestRefusedInPieces(t *testing.T) {
	a := open(t, conf(), nil)
	p := a.proxy(t, wire.V2)
	packet := testkit.Publish(v4, "other", 0, 0, "0123456789")
	w := connect(t, p, "aligned")
	want(t, "head", w.Send(t, mqtt.Client, packet[:9]), wire.WSDrop)
	want(t, "middle", w.Send(t, mqtt.Client, packet[9:12]), wire.WSDrop)
	want(t, "end", w.Send(t, mqtt.Client, packet[12:]), wire.WSDrop)
	want(t, "after", w.Send(t, mqtt.Client, publish("dev/a", 1)), wire.WSAllow)

	w = connect(t, p, "overlapping")
	want(t, "head", w.Send(t, mqtt.Client, packet[:9]), wire.WSDrop)
	wantClose(t, "end and another", w.Send(t, mqtt.Client, join(packet[9:], testkit.Pingreq())), 1008)

	w = connect(t, p, "late")
	want(t, "before the topic", w.Send(t, mqtt.Client, packet[:4]), wire.WSAllow)
	wantClose(t, "topic", w.Send(t, mqtt.Client, packet[4:9]), 1008)

	w = connect(t, p, "message in pieces")
	wantClose(t, "a piece", w.Frame(t, mqtt.Client, wire.OpBinary, false, packet), 1008)

	w = connect(t, p, "allowed message in pieces")
	good := publish("dev/a", 1)
	want(t, "first", w.Frame(t, mqtt.Client, wire.OpBinary, false, good[:3]), wire.WSAllow)
	want(t, "a ping between", w.Frame(t, mqtt.Client, wire.OpPing, true, nil), wire.WSAllow)
	want(t, "last", w.Frame(t, mqtt.Client, wire.OpContinuation, true, good[3:]), wire.WSAllow)
}

// TestRepeatedRefusals: a client that cuts packets into frames comes again and
// again; the audit hears of it once a minute.
func TestRepeatedRefusals(t *testing.T) {
	a := open(t, conf(), nil)
	p := a.proxy(t, wire.V2)
	for i := range 5 {
		w := p.Open(fmt.Sprint("round-", i))
		w.Send(t, mqtt.Client, testkit.Connect(v4, "same"))
		w.Send(t, mqtt.Broker, testkit.Connack(v4, false, 0))
		packet := publish("other", 1)
		w.Send(t, mqtt.Client, packet[:1])
		wantClose(t, "refused", w.Send(t, mqtt.Client, packet[1:]), 1008)
	}
	a.await(t, "mqtt,blocked,acl-denied")
	await(t, "five connections ended", func() bool { return a.count("mqtt,disconnect") == 5 })
	if n := a.count("mqtt,blocked,acl-denied"); n != 1 {
		t.Errorf("%d refusals audited, want 1", n)
	}
}

func TestWebSocketRules(t *testing.T) {
	a := open(t, conf(), nil)
	type frame struct {
		op   wire.Opcode
		fin  bool
		data string
	}
	long := strings.Repeat("x", 126)
	for _, c := range []struct {
		name   string
		frames []frame // the last one is judged
		code   uint16  // 0: allowed
	}{
		{"ping", []frame{{wire.OpPing, true, "x"}}, 0},
		{"empty", []frame{{wire.OpBinary, true, ""}}, 0},
		{"text", []frame{{wire.OpText, true, "x"}}, 1003},
		{"empty text", []frame{{wire.OpText, true, ""}}, 1003},
		{"reserved", []frame{{wire.OpReserved, true, ""}}, 1002},
		{"continuation of nothing", []frame{{wire.OpContinuation, true, "\xc0\x00"}}, 1002},
		{"message inside a message", []frame{{wire.OpBinary, false, "\xc0"}, {wire.OpBinary, true, "\x00"}}, 1002},
		{"message in pieces", []frame{{wire.OpBinary, false, "\xc0"}, {wire.OpContinuation, true, "\x00"}}, 0},
		{"empty message in pieces", []frame{{wire.OpBinary, false, ""}, {wire.OpContinuation, true, ""}, {wire.OpBinary, true, "\xc0\x00"}}, 0},
		{"ping in pieces", []frame{{wire.OpPing, false, ""}}, 1002},
		{"long ping", []frame{{wire.OpPing, true, long}}, 1002},
	} {
		for _, started := range []bool{false, true} {
			p := a.proxy(t, wire.V2)
			id := fmt.Sprint(c.name, started)
			w := p.Open(id)
			if started {
				w = connect(t, p, id)
			} else if strings.Contains(c.name, "message") {
				continue // before CONNECT these begin one, which is another test
			}
			var r wire.Response
			for _, f := range c.frames {
				r = w.Frame(t, mqtt.Client, f.op, f.fin, []byte(f.data))
			}
			if name := fmt.Sprintf("%s, started %v", c.name, started); c.code == 0 {
				want(t, name, r, wire.WSAllow)
				w.Frame(t, mqtt.Client, wire.OpClose, true, nil)
			} else {
				wantClose(t, name, r, c.code)
			}
			p.Close()
		}
	}
}

// TestIndex: frames of a direction come without gaps, and from the first on.
func TestIndex(t *testing.T) {
	a := open(t, conf(), nil)
	p := a.proxy(t, wire.V2)
	hello := testkit.Connect(v4, "c")

	w := p.Open("unknown")
	w.Index[mqtt.Client] = 3
	wantClose(t, "unknown connection", w.Send(t, mqtt.Client, publish("dev/a", 0)), 1008)
	w = p.Open("late CONNECT")
	w.Index[mqtt.Client] = 1
	wantClose(t, "CONNECT in the middle", w.Send(t, mqtt.Client, hello), 1008)
	w = p.Open("unknown broker")
	wantClose(t, "a broker that speaks first", w.Send(t, mqtt.Broker, publish("dev/a", 0)), 1008)
	w = p.Open("no CONNECT")
	wantClose(t, "no CONNECT", w.Send(t, mqtt.Client, publish("dev/a", 0)), 1008)

	for _, side := range []mqtt.Side{mqtt.Client, mqtt.Broker} {
		w = connect(t, p, fmt.Sprint("gap ", side))
		w.Index[side]++
		wantClose(t, "gap", w.Send(t, side, publish("dev/a", 0)), 1008)
		wantClose(t, "after the end", w.Send(t, mqtt.Client, testkit.Pingreq()), 1008)
	}
	w = connect(t, p, "again")
	w.Index[mqtt.Broker]--
	wantClose(t, "an index twice", w.Send(t, mqtt.Broker, publish("dev/a", 0)), 1008)

	w = p.Open("the broker pings first")
	want(t, "the broker's ping", w.Frame(t, mqtt.Broker, wire.OpPing, true, nil), wire.WSAllow)
	want(t, "CONNECT", w.Send(t, mqtt.Client, testkit.Connect(v4, "d")), wire.WSAllow)
	want(t, "CONNACK", w.Send(t, mqtt.Broker, testkit.Connack(v4, false, 0)), wire.WSAllow)
	w.Frame(t, mqtt.Client, wire.OpClose, true, nil)

	w = p.Open("prelude")
	want(t, "ping", w.Frame(t, mqtt.Client, wire.OpPing, true, nil), wire.WSAllow)
	want(t, "the broker's ping", w.Frame(t, mqtt.Broker, wire.OpPing, true, nil), wire.WSAllow)
	want(t, "empty", w.Frame(t, mqtt.Client, wire.OpBinary, true, nil), wire.WSAllow)
	want(t, "CONNECT after pings", w.Send(t, mqtt.Client, hello), wire.WSAllow)
	want(t, "CONNACK after pings", w.Send(t, mqtt.Broker, testkit.Connack(v4, false, 0)), wire.WSAllow)
}

// TestHijack: two WebSockets with one correlation id and address do not get
// each other's decisions.
func TestHijack(t *testing.T) {
	a := open(t, conf(), nil)
	p := a.proxy(t, wire.V2)
	hello := testkit.Connect(v4, "c")
	first := connect(t, p, "shared")
	if r := p.Upgrade(t, "shared", nil); r.Block != 400 || r.WebSocket != wire.WSClose || !r.HasWebSocket {
		t.Errorf("upgrade with a live id: %+v, want both refusals", r)
	}
	if r := p.Upgrade(t, "shared", map[string][]string{}); r.Block != 400 || r.WebSocket != wire.WSClose || !r.HasWebSocket {
		t.Errorf("plain request with a live id: %+v, want both refusals", r)
	}
	second := p.Open("shared")
	wantClose(t, "second", second.Send(t, mqtt.Client, hello), 1008)
	third := p.Open("shared")
	wantClose(t, "third, while the first may live", third.Send(t, mqtt.Client, hello), 1008)
	wantClose(t, "first", first.Send(t, mqtt.Broker, publish("dev/a", 0)), 1008)
	fourth := p.Open("shared")
	wantClose(t, "fourth, when all have ended", fourth.Send(t, mqtt.Client, hello), 1008)
	if n := a.table.live.Load(); n != 0 {
		t.Errorf("%d WebSockets are left", n)
	}

	// Another address is another WebSocket, but the id is one for the process.
	first = connect(t, p, "id")
	other := p.Open("id")
	other.ClientIP = "198.51.100.8"
	wantClose(t, "same id from another address", other.Send(t, mqtt.Client, hello), 1008)
	want(t, "the first one goes on", first.Send(t, mqtt.Client, testkit.Pingreq()), wire.WSAllow)
}

func TestEndOfWebSocket(t *testing.T) {
	a := open(t, conf(), nil)
	p := a.proxy(t, wire.V2)
	gone := func(what string) {
		t.Helper()
		if n := a.table.live.Load(); n != 0 {
			t.Fatalf("%s: %d WebSockets are left", what, n)
		}
	}
	w := connect(t, p, "a")
	want(t, "DISCONNECT", w.Send(t, mqtt.Client, testkit.Disconnect(v4, 0)), wire.WSAllow)
	gone("DISCONNECT")
	want(t, "close frame after it", w.Frame(t, mqtt.Broker, wire.OpClose, true, nil), wire.WSAllow)
	if r := w.Send(t, mqtt.Broker, publish("dev/a", 0)); r.WebSocket != wire.WSClose || r.Code != 1000 {
		t.Errorf("a delivery that crossed DISCONNECT: %+v, want close 1000", r)
	}
	wantClose(t, "the client after DISCONNECT", w.Send(t, mqtt.Client, publish("dev/a", 0)), 1008)
	w = connect(t, p, "b")
	w.Frame(t, mqtt.Broker, wire.OpClose, true, nil)
	gone("close frame")
	w = p.Open("c")
	w.Send(t, mqtt.Client, testkit.Connect(v4, "c"))
	want(t, "CONNACK 5", w.Send(t, mqtt.Broker, testkit.Connack(v4, false, 5)), wire.WSAllow)
	gone("CONNACK 5")

	// Silence: 1.5 times the keep-alive, or an hour without one.
	fx := &session.Effects{WantVerdicts: true}
	connect(t, p, "d", testkit.KeepAlive(10))
	a.tick(a.now()+14*session.Second, a.epoch, fx)
	if a.table.live.Load() != 1 {
		t.Fatal("ended before its time")
	}
	a.tick(a.now()+16*session.Second, a.epoch, fx)
	gone("keep-alive")
	connect(t, p, "e", testkit.KeepAlive(0))
	a.tick(a.now()+maxSilence/2, a.epoch, fx)
	if a.table.live.Load() != 1 {
		t.Fatal("no keep-alive: ended before its time")
	}
	a.tick(a.now()+maxSilence+session.Second, a.epoch, fx)
	gone("no keep-alive")
	p.Open("f").Send(t, mqtt.Client, []byte{0x10})
	a.tick(a.now()+31*session.Second, a.epoch, fx)
	gone("a CONNECT that does not come")
	if n := len(a.repeats.last); n != 0 {
		t.Errorf("%d refusals remembered", n)
	}
}

func TestMaxSessions(t *testing.T) {
	a := open(t, conf(`"agent":{"max-sessions":2}`), nil)
	p := a.proxy(t, wire.V2)
	live := []*testkit.WebSocket{connect(t, p, "a"), connect(t, p, "b")}
	wantClose(t, "no place", p.Open("c").Send(t, mqtt.Client, testkit.Connect(v4, "c")), 1013)
	for _, w := range live {
		want(t, "live", w.Send(t, mqtt.Client, publish("dev/a", 0)), wire.WSAllow)
	}
	live[0].Send(t, mqtt.Client, testkit.Disconnect(v4, 0))
	connect(t, p, "d")
}

// TestPacketsPerSecond: a client that sends more packets than it may is ended.
func TestPacketsPerSecond(t *testing.T) {
	a := open(t, conf(`"general":{"limits":{"packets-per-second":3}}`), nil)
	w := connect(t, a.proxy(t, wire.V2), "a")
	var r wire.Response
	for n := 0; n < 1000 && !w.Closed; n++ { // three times as many in five minutes
		r = w.Send(t, mqtt.Client, testkit.Pingreq())
	}
	wantClose(t, "too many", r, 1008)
}

func TestRoutes(t *testing.T) {
	a := open(t, conf(`"agent":{"routes":["ours"]}`), nil)
	p := a.proxy(t, wire.V2)
	w := p.Open("a")
	want(t, "another route", w.Frame(t, mqtt.Client, wire.OpText, true, []byte("hello")), wire.WSAllow)
	w = p.Open("b")
	w.Route = "ours"
	wantClose(t, "our route", w.Frame(t, mqtt.Client, wire.OpText, true, []byte("hello")), 1003)
	w = p.Open("c")
	w.Route = ""
	wantClose(t, "no route", w.Frame(t, mqtt.Client, wire.OpText, true, []byte("hello")), 1003)
	if r := p.Upgrade(t, "d", map[string][]string{"upgrade": {"websocket"}}); r.Block != 0 {
		t.Errorf("upgrade of another route: %+v", r)
	}
}

func TestUpgradeNotSeen(t *testing.T) {
	a := open(t, conf(), nil)
	p := a.proxy(t, wire.V2)
	p.Upgrade(t, "seen", nil)
	connect(t, p, "seen")
	if s, r := a.Health(); s != wire.Healthy {
		t.Fatalf("health %d %q", s, r)
	}
	w := p.Open("not seen")
	w.Route = "other"
	w.Send(t, mqtt.Client, testkit.Connect(v4, "c"))
	if s, r := a.Health(); s != wire.Degraded || len(r) != 1 || r[0] != "upgrade-not-seen" {
		t.Errorf("health %d %q, want degraded", s, r)
	}
}

func TestUpgrade(t *testing.T) {
	head := func(kv ...string) map[string][]string {
		h := map[string][]string{"upgrade": {"websocket"}, "sec-websocket-protocol": {"mqtt"}}
		for i := 0; i < len(kv); i += 2 {
			h[kv[i]] = append(h[kv[i]], kv[i+1])
		}
		return h
	}
	const ext = "sec-websocket-extensions"
	for _, c := range []struct {
		name    string
		conf    string
		headers map[string][]string
		block   string // part of the body; "" allowed
		removes bool
	}{
		{"ordinary", "", head(), "", false},
		{"plain request", "", map[string][]string{"accept": {"*/*"}}, "", false},
		{"compression", "", head(ext, "permessage-deflate; client_max_window_bits"), "perMessageDeflate: false", false},
		{"compression in capitals", "", head(ext, "PerMessage-Deflate"), "permessage-deflate", false},
		{"compression in the second line", "", head(ext, "x-foo", ext, "x-bar, permessage-deflate"), "permessage-deflate", false},
		{"compression allowed", `"agent":{"websocket-extensions":"allow"}`, head(ext, "permessage-deflate"), "", false},
		{"another extension", "", head(ext, "x-foo"), "", true},
		{"no subprotocol", "", map[string][]string{"upgrade": {"WebSocket"}}, "Sec-WebSocket-Protocol: mqtt", false},
		{"another subprotocol", "", map[string][]string{"upgrade": {"websocket"}, "sec-websocket-protocol": {"chat, soap"}}, "mqtt", false},
		{"one of several", "", map[string][]string{"upgrade": {"websocket"}, "sec-websocket-protocol": {"chat", "x,mqtt"}}, "", false},
		{"subprotocol not required", `"agent":{"require-subprotocol":false}`, map[string][]string{"upgrade": {"websocket"}}, "", false},
		{"3.1 not enabled", "", map[string][]string{"upgrade": {"websocket"}, "sec-websocket-protocol": {"mqttv3.1"}}, "mqtt", false},
		{"3.1 enabled", `"general":{"protocol-versions":["3.1","5.0"]}`, map[string][]string{"upgrade": {"websocket"}, "sec-websocket-protocol": {"mqttv3.1"}}, "", false},
		{"detect-only", `"general":{"block-mode":false}`, head(ext, "permessage-deflate"), "", false},
	} {
		text := conf()
		if c.conf != "" {
			text = conf(c.conf)
		}
		a := open(t, text, nil)
		for _, g := range generations {
			r := a.proxy(t, g).Upgrade(t, fmt.Sprint("id-", g), c.headers)
			name := fmt.Sprintf("%s, v%d", c.name, g)
			switch {
			case c.block == "" && r.Block != 0, c.block != "" && (r.Block != 400 || !strings.Contains(r.Body, c.block)):
				t.Errorf("%s: %+v, want body with %q", name, r, c.block)
			case c.removes != (len(r.RemoveHeaders) == 1 && r.RemoveHeaders[0] == ext):
				t.Errorf("%s: removes %q", name, r.RemoveHeaders)
			}
		}
	}
}

func TestDetectOnly(t *testing.T) {
	a := open(t, conf(`"general":{"block-mode":false}`), nil)
	p := a.proxy(t, wire.V2)
	w := connect(t, p, "a")
	r := w.Send(t, mqtt.Client, publish("other", 1))
	want(t, "refused", r, wire.WSAllow)
	if strings.Join(r.Tags, ",") != "mqtt,detect-only,acl-denied" {
		t.Errorf("tags %q", r.Tags)
	}
	want(t, "text", w.Frame(t, mqtt.Client, wire.OpText, true, []byte("x")), wire.WSAllow)
	w.Index[mqtt.Client] += 5
	want(t, "opaque since", w.Send(t, mqtt.Client, []byte{0xff, 0xff}), wire.WSAllow)
	w = p.Open("unknown")
	w.Index[mqtt.Client] = 9
	for range 3 {
		want(t, "unknown", w.Send(t, mqtt.Client, publish("dev/a", 0)), wire.WSAllow)
	}
	w = connect(t, p, "garbage")
	want(t, "garbage", w.Send(t, mqtt.Client, []byte{0x36, 0}), wire.WSAllow)
	want(t, "more garbage", w.Send(t, mqtt.Client, []byte{0xff}), wire.WSAllow)
	a.await(t, "mqtt,detect-only,uninspectable")
	if n := a.count("mqtt,detect-only,uninspectable"); n != 1 {
		t.Errorf("the unknown connection is audited %d times, want once", n)
	}
}

// TestConcurrent has many WebSockets talk at once, over few connections; each
// gets its own decisions.
func TestConcurrent(t *testing.T) {
	a := open(t, conf(), nil)
	for _, g := range generations {
		p := a.proxy(t, g)
		var all sync.WaitGroup
		for i := range 32 {
			all.Go(func() {
				w := p.Open(fmt.Sprintf("v%d-%d", g, i))
				send := func(what string, from mqtt.Side, b []byte, d wire.WebSocketDecision) bool {
					r, err := w.Try(from, wire.OpBinary, true, b)
					if err != nil || r.WebSocket != d || r.CorrelationID != w.ID {
						t.Errorf("%s: %s: %+v, %v; want %v", w.ID, what, r, err, d)
						return false
					}
					return true
				}
				ok := send("CONNECT", mqtt.Client, testkit.Connect(v4, w.ID), wire.WSAllow) &&
					send("CONNACK", mqtt.Broker, testkit.Connack(v4, false, 0), wire.WSAllow)
				for n := 0; ok && n < 50; n++ {
					ok = send("allowed", mqtt.Client, publish("dev/a", 1), wire.WSAllow) &&
						send("acknowledged", mqtt.Broker, testkit.Ack(v4, mqtt.PUBACK, 7, 0), wire.WSAllow) &&
						send("refused", mqtt.Client, publish("other", byte(n%3)), wire.WSDrop) &&
						send("delivery", mqtt.Broker, publish("dev/b", 0), wire.WSAllow)
				}
			})
		}
		all.Wait()
	}
}

// TestStop: a stopped agent closes its connections and leaves no socket.
func TestStop(t *testing.T) {
	a := open(t, conf(), nil)
	p := a.proxy(t, wire.V2)
	w := connect(t, p, "a")
	if err := a.Stop(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Try(mqtt.Client, wire.OpBinary, true, testkit.Pingreq()); err == nil {
		t.Error("answered after the end")
	}
	if _, err := wire.Dial(context.Background(), wire.PoolOptions{Socket: a.socket}); err == nil {
		t.Error("the socket is still there")
	}
	a.await(t, "mqtt,disconnect")
	testkit.Eventually(t, "each connection is told", func() bool { return len(p.Unsolicited()) == 4 })
	if got := p.Unsolicited(); got[0] != wire.HealthStatus {
		t.Errorf("proxies were told %v, want the draining state on each connection", got)
	}
}
