package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/agent/wire"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// raw is a connection of a proxy, byte by byte.
type raw struct {
	net.Conn
	r *wire.Reader
}

// dialSocket waits while the queue of the socket is full.
func dialSocket(tb testing.TB, a *door) (c net.Conn) {
	tb.Helper()
	testkit.Eventually(tb, "the socket takes a connection", func() bool {
		var err error
		if c, err = net.Dial("unix", a.socket); err != nil && !errors.Is(err, syscall.EAGAIN) {
			tb.Fatal(err)
		}
		return err == nil
	})
	return c
}

func dial(tb testing.TB, a *door, g wire.Generation) *raw {
	tb.Helper()
	c := dialSocket(tb, a)
	tb.Cleanup(func() { c.Close() }) // the end of a test
	if err := c.SetDeadline(time.Now().Add(testkit.Patience)); err != nil {
		tb.Fatal(err)
	}
	return &raw{c, wire.NewReader(c, g)}
}

func (r *raw) write(tb testing.TB, b []byte) {
	tb.Helper()
	if _, err := r.Write(b); err != nil {
		tb.Fatal(err)
	}
}

func (r *raw) next(tb testing.TB, t wire.Type) []byte {
	tb.Helper()
	m, err := r.r.Next()
	for err == nil && m.Type != t && (m.Type == wire.HealthStatus || m.Type == wire.MetricsReport) {
		m, err = r.r.Next() // comes when it comes
	}
	if err != nil {
		tb.Fatalf("waiting for %#x: %v", byte(t), err)
	}
	if m.Type != t {
		tb.Fatalf("got %#x, want %#x: %s", byte(m.Type), byte(t), m.Payload)
	}
	return m.Payload
}

func (r *raw) response(tb testing.TB) (out wire.Response) {
	tb.Helper()
	b := r.next(tb, wire.AgentResponse)
	if err := out.Parse(b); err != nil {
		tb.Fatalf("%s: %v", b, err)
	}
	return out
}

// closed checks that the agent ends the connection without another word.
func (r *raw) closed(tb testing.TB, name string) {
	tb.Helper()
	if m, err := r.r.Next(); !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "reset") {
		tb.Errorf("%s: %v %v, want the end", name, m, err)
	}
}

const shake = `{"supported_versions":[2],"proxy_id":"zentinel-proxy","proxy_version":"0.6.54","config":null,"supported_encodings":["json"]}`

func v2(t wire.Type, payload string) []byte {
	return wire.AppendMessage(nil, wire.V2, t, []byte(payload))
}

func TestHandshake(t *testing.T) {
	a := open(t, conf(), nil)
	for _, c := range []struct {
		name, in string
		ok       bool
	}{
		{"as released", shake, true},
		{"26.01_5", `{"supported_versions":[2],"proxy_id":"sentinel-proxy","proxy_version":"0.3.1","config":null}`, true},
		{"msgpack offered", strings.Replace(shake, `["json"]`, `["msgpack","json"]`, 1), true},
		{"several versions", strings.Replace(shake, "[2]", "[3,2,1]", 1), true},
		{"empty config", strings.Replace(shake, "null", "{}", 1), true},
		{"no config", `{"supported_versions":[2]}`, true},
		{"another version", strings.Replace(shake, "[2]", "[3]", 1), false},
		{"no versions", `{}`, false},
		{"not JSON", `{"supported`, false},
		{"a config", strings.Replace(shake, "null", `{"auth":{}}`, 1), false},
	} {
		r := dial(t, a, wire.V2)
		r.write(t, v2(wire.HandshakeRequest, c.in))
		b := r.next(t, wire.HandshakeResponse)
		var w wire.Welcome
		if err := json.Unmarshal(b, &w); err != nil || w.Success != c.ok || w.ProtocolVersion != 2 || w.Encoding != "json" {
			t.Errorf("%s: %s, want success %v", c.name, b, c.ok)
		}
		for _, key := range []string{"agent_id", "name", "version", "supported_events", "streaming_body", "websocket", "guardrails", "config_push", "metrics_export", "concurrent_requests", "cancellation", "flow_control", "health_reporting", "max_body_size", "max_concurrency", "preferred_chunk_size"} {
			if !bytes.Contains(b, []byte(`"`+key+`":`)) {
				t.Errorf("%s: no %q in %s", c.name, key, b)
			}
		}
		if !c.ok {
			if w.Error == nil || *w.Error == "" {
				t.Errorf("%s: no reason", c.name)
			}
			r.closed(t, c.name)
			continue
		}
		r.write(t, v2(wire.HandshakeRequest, c.in))
		r.next(t, wire.HandshakeResponse)
	}
}

// TestMessages is every type of message on one connection.
func TestMessages(t *testing.T) {
	a := open(t, conf(), nil)
	r := dial(t, a, wire.V2)
	r.write(t, v2(wire.HandshakeRequest, shake))
	r.next(t, wire.HandshakeResponse)

	ping := `{"sequence":7,"timestamp_ms":1767225600000}`
	r.write(t, v2(wire.Ping, ping))
	if got := r.next(t, wire.Pong); string(got) != ping {
		t.Errorf("pong %s", got)
	}
	for _, typ := range []wire.Type{0x03, 0x18, 0x7f, 0xff, wire.AgentResponse, wire.HealthStatus, wire.Pong, wire.FlowControl} {
		r.write(t, v2(typ, "anything"))
	}
	r.write(t, v2(wire.Cancel, "garbage"))
	for typ, body := range map[wire.Type]string{
		wire.RequestBodyChunk:  `{"correlation_id":"i","data":"","is_last":true,"total_size":null,"chunk_index":0,"bytes_received":0}`,
		wire.ResponseHeaders:   `{"correlation_id":"i","status":101,"headers":{}}`,
		wire.ResponseBodyChunk: `{"correlation_id":"i","data":""}`,
		wire.RequestComplete:   `{"correlation_id":"i","status":200}`,
		wire.GuardrailInspect:  `{"correlation_id":"i","content":"x"}`,
		wire.Configure:         `{"correlation_id":"i","config":{},"config_version":null}`,
	} {
		r.write(t, v2(typ, body))
		if got := r.response(t); got.Block != 0 || got.CorrelationID != "i" || got.Version != 2 || got.HasWebSocket {
			t.Errorf("%#x: %+v", byte(typ), got)
		}
	}
	r.write(t, v2(wire.Configure, `{"correlation_id":"zentinel-configure-a-1","config":{"auth":{"enabled":true}},"config_version":null}`))
	if got := r.response(t); got.Block != 500 || got.Body == "" || got.CorrelationID != "zentinel-configure-a-1" {
		t.Errorf("configuration: %+v", got)
	}
	// What cannot be read but has an id is refused; the connection lives.
	for _, body := range []string{
		`{"correlation_id":"u","opcode":7}`, `{"correlation_id":"u","opcode":"binary","data":"A`,
		`{"client_ip":"1","client_to_server":true,"correlation_id":"u","data":"A-_A","fin":true,"frame_index":0,"opcode":"binary"}`,
	} {
		r.write(t, v2(wire.WebSocketFrame, body))
		if got := r.response(t); got.WebSocket != wire.WSClose || !got.HasWebSocket || got.Code != 1008 || got.Block == 0 || got.CorrelationID != "u" {
			t.Errorf("%s: %+v", body, got)
		}
	}
	r.write(t, v2(wire.RequestHeaders, `{"correlation_id":"h","headers":7}`))
	if got := r.response(t); got.Block != 400 || got.CorrelationID != "h" {
		t.Errorf("unreadable request_headers: %+v", got)
	}
	r.write(t, v2(wire.WebSocketFrame, `{"opcode":"binary"}`))
	r.closed(t, "a frame without an id")
}

// TestGarbage ends the connection it came on, and no other.
func TestGarbage(t *testing.T) {
	a := open(t, conf(), nil)
	p := a.proxy(t, wire.V2)
	w := connect(t, p, "lives")
	hello := string(v2(wire.HandshakeRequest, shake))
	for name, in := range map[string]string{
		"HTTP":                "GET / HTTP/1.1\r\n\r\n",
		"event first":         string(v2(wire.WebSocketFrame, "{}")),
		"length zero":         hello + "\x00\x00\x00\x00\x15",
		"oversize":            hello + "\xff\xff\xff\xff\x15",
		"v1 oversize":         "\xff\xff\xff\xff{",
		"v1 not JSON":         string(wire.AppendMessage(nil, wire.V1, 0, []byte("{nonsense"))),
		"v1 not an event":     string(wire.AppendMessage(nil, wire.V1, 0, []byte("{}"))),
		"v1 another version":  string(wire.AppendMessage(nil, wire.V1, 0, []byte(`{"version":2,"event_type":"configure","payload":{}}`))),
		"no handshake at all": "\x00\x00",
	} {
		r := dial(t, a, wire.V2)
		r.write(t, []byte(in))
		if err := r.Conn.(*net.UnixConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(in, hello) {
			r.next(t, wire.HandshakeResponse)
		}
		r.closed(t, name)
	}
	want(t, "the other connections", w.Send(t, mqtt.Client, testkit.Pingreq()), wire.WSAllow)
}

func TestV1Events(t *testing.T) {
	a := open(t, conf(), nil)
	r := dial(t, a, wire.V1)
	ask := func(event, payload string) wire.Response {
		t.Helper()
		r.write(t, wire.AppendMessage(nil, wire.V1, 0, []byte(`{"version":1,"event_type":"`+event+`","payload":`+payload+`}`)))
		m, err := r.r.Next()
		if err != nil {
			t.Fatalf("%s: %v", event, err)
		}
		var out wire.Response
		if err := out.Parse(m.Payload); err != nil || out.Version != 1 {
			t.Fatalf("%s: %s: %v", event, m.Payload, err)
		}
		return out
	}
	if got := ask("configure", `{"agent_id":"a","config":{"x":1}}`); got.Block != 500 {
		t.Errorf("configuration: %+v", got)
	}
	if got := ask("configure", `{"agent_id":"a","config":null}`); got.Block != 0 {
		t.Errorf("no configuration: %+v", got)
	}
	for _, event := range []string{"response_headers", "request_complete", "guardrail_inspect", "something_new"} {
		if got := ask(event, `{"correlation_id":"i"}`); got.Block != 0 {
			t.Errorf("%s: %+v", event, got)
		}
	}
	frame := `{"correlation_id":"k","opcode":"text","data":"","client_to_server":true,"frame_index":0,"fin":true,"route_id":null,"client_ip":"198.51.100.7:40112"}`
	for _, event := range []string{"web_socket_frame", "websocket_frame"} {
		if got := ask(event, frame); got.WebSocket != wire.WSClose || !got.HasWebSocket || got.Code != 1003 {
			t.Errorf("%s: %+v", event, got)
		}
	}
	if got := ask("web_socket_frame", `{"correlation_id":"k"}`); got.WebSocket != wire.WSClose || !got.HasWebSocket {
		t.Errorf("unreadable frame: %+v", got)
	}
}

// TestRequestComplete frees the WebSocket of the request.
func TestRequestComplete(t *testing.T) {
	a := open(t, conf(), nil)
	connect(t, a.proxy(t, wire.V2), "done")
	r := dial(t, a, wire.V1)
	r.write(t, wire.AppendMessage(nil, wire.V1, 0, []byte(`{"version":1,"event_type":"request_complete","payload":{"correlation_id":"done","status":101}}`)))
	if _, err := r.r.Next(); err != nil {
		t.Fatal(err)
	}
	if n := a.table.live.Load(); n != 0 {
		t.Errorf("%d WebSockets are left", n)
	}
}

// TestCancelQueued: an answer that is not yet written when its cancel is read
// is not written. Both are in one write, so they are read together.
func TestCancelQueued(t *testing.T) {
	a := open(t, conf(), nil)
	r := dial(t, a, wire.V2)
	r.write(t, v2(wire.HandshakeRequest, shake))
	r.next(t, wire.HandshakeResponse)
	r.write(t, join(
		v2(wire.ResponseHeaders, `{"correlation_id":"one"}`),
		v2(wire.Ping, "{}"),
		v2(wire.ResponseHeaders, `{"correlation_id":"two"}`),
		v2(wire.ResponseHeaders, `{"correlation_id":"another one"}`),
		v2(wire.Cancel, `{"correlation_id":"one","reason":0,"timestamp_ms":1}`),
	))
	r.next(t, wire.Pong)
	for _, id := range []string{"two", "another one"} {
		if got := r.response(t); got.CorrelationID != id {
			t.Errorf("answer to %q, want %q", got.CorrelationID, id)
		}
	}
}

// TestFirstBytes: a connection whose first bytes are those of nothing ends at
// once, and not when its time to shake hands is over.
func TestFirstBytes(t *testing.T) {
	a := open(t, conf(), nil)
	stood := testkit.Stood(t)
	for _, in := range []string{"\x00\x00\x00\x00", "\xff", "\x00\x00\x00\x05x", "GET "} {
		r := dial(t, a, wire.V2)
		began, lost := time.Now(), stood()
		r.write(t, []byte(in))
		r.closed(t, fmt.Sprintf("%q", in))
		if took := time.Since(began) - (stood() - lost); took > handshakeTime/2 {
			t.Errorf("%q: closed after %v", in, took)
		}
	}
}

// TestManySilent: ten thousand connections that never shake hands neither use
// up the places nor hold up a proxy.
func TestManySilent(t *testing.T) {
	a := open(t, conf(), nil)
	p := a.proxy(t, wire.V2)
	w := connect(t, p, "lives")
	const window = 500 // open at a time on our side
	var silent [window]net.Conn
	for i := range 10_000 {
		c := dialSocket(t, a)
		if old := silent[i%window]; old != nil {
			old.Close() // the agent may have done so before
		}
		silent[i%window] = c
		if i%1000 == 0 {
			want(t, "meanwhile", w.Send(t, mqtt.Client, publish("dev/a", 0)), wire.WSAllow)
			a.mu.Lock()
			if len(a.pending) > maxPending {
				t.Errorf("%d pending", len(a.pending))
			}
			a.mu.Unlock()
			// Those that had to go end in goroutines of their own.
			testkit.Eventually(t, "the silent ones are bounded", func() bool {
				a.mu.Lock()
				defer a.mu.Unlock()
				return len(a.conns) <= maxPending+8
			})
		}
	}
	connect(t, a.proxy(t, wire.V2), "comes late")
	for _, c := range silent {
		c.Close() // the end
	}
}

// TestPendingConnections: connections that never shake hands give way to those
// that do.
func TestPendingConnections(t *testing.T) {
	a := open(t, conf(), nil)
	var silent []*raw
	for range maxPending + 20 {
		silent = append(silent, dial(t, a, wire.V2))
	}
	p := a.proxy(t, wire.V2)
	connect(t, p, "served")
	silent[0].closed(t, "the oldest silent connection")
	await(t, "the silent ones are bounded", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return len(a.pending) <= maxPending && len(a.conns) <= maxPending+4
	})
}

// TestMany: answers to hundreds of events in flight on one connection, in one
// write, and each of them once.
func TestMany(t *testing.T) {
	a := open(t, conf(), nil)
	r := dial(t, a, wire.V2)
	r.write(t, v2(wire.HandshakeRequest, shake))
	r.next(t, wire.HandshakeResponse)
	var all []byte
	const n = 500
	p := &testkit.Proxy{}
	for i := range n {
		w := p.Open(fmt.Sprint("many-", i))
		e := w.Event(mqtt.Client, wire.OpBinary, true, testkit.Connect(v4, w.ID))
		all = e.AppendMessage(all, wire.V2)
	}
	go r.Write(all) // the answers tell
	seen := map[string]int{}
	for range n {
		got := r.response(t)
		want(t, got.CorrelationID, got, wire.WSAllow)
		seen[got.CorrelationID]++
	}
	if len(seen) != n {
		t.Errorf("%d of %d ids answered", len(seen), n)
	}
}

func TestTellsProxies(t *testing.T) {
	a := open(t, conf(), nil)
	r := dial(t, a, wire.V2)
	r.write(t, v2(wire.HandshakeRequest, shake))
	r.next(t, wire.HandshakeResponse)
	report := a.report(time.Now())
	a.tell(report.AppendMessage)
	var got struct {
		AgentID     *string `json:"agent_id"`
		TimestampMS *int64  `json:"timestamp_ms"`
		IntervalMS  *int64  `json:"interval_ms"`
		Counters    []struct {
			Name  string
			Value uint64
		} `json:"counters"`
	}
	if b := r.next(t, wire.MetricsReport); json.Unmarshal(b, &got) != nil || got.AgentID == nil || got.TimestampMS == nil || got.IntervalMS == nil || len(got.Counters) == 0 {
		t.Errorf("report %s", b)
	}
	a.stats.upgradeNotSeen.Add(1)
	var status struct {
		State   int
		Reasons []string
	}
	if b := r.next(t, wire.HealthStatus); json.Unmarshal(b, &status) != nil || status.State != wire.Degraded || len(status.Reasons) != 1 {
		t.Errorf("status %s", b)
	}
}

// pushes are the configurations that an agent was given; one with the word
// refuses is refused.
type pushes struct {
	refuses, why string

	mu  sync.Mutex
	got []string
}

func (p *pushes) take(o *Options) {
	o.Configure = func(raw []byte) error {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.got = append(p.got, string(raw)); strings.Contains(string(raw), p.refuses) {
			return errors.New(p.why)
		}
		return nil
	}
}

// list is what was pushed so far.
func (p *pushes) list() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.got)
}

// TestConfigure pushes a configuration as proxies do: in the handshake and by
// its event.
func TestConfigure(t *testing.T) {
	const pushed = `{"auth":{"enabled":true}}`
	p := &pushes{refuses: "bad", why: "auth.bad: unknown key"}
	apply := []func(*Options){p.take}
	for _, c := range []struct {
		name, conf, config string
		change             []func(*Options)
		fails              string // part of the reason
		applied            bool
	}{
		{"not in this version", "socket", pushed, nil, "its own file", false},
		{"accepted", "socket", pushed, apply, "", true},
		{"refused", "socket", `{"auth":{"bad":1}}`, apply, "unknown key", true},
		{"not wanted", "none", pushed, apply, "accept-config", false},
		{"nothing", "socket", "{}", nil, "", false},
		{"null", "none", "null", nil, "", false},
	} {
		a := open(t, conf(`"agent":{"accept-config":"`+c.conf+`"}`), nil, c.change...)
		for _, g := range generations {
			before := len(p.list())
			err := testkit.Configure(a.socket, g, json.RawMessage(c.config))
			name := fmt.Sprintf("%s, v%d", c.name, g)
			if (err == nil) != (c.fails == "") || err != nil && !strings.Contains(err.Error(), c.fails) {
				t.Errorf("%s: %v, want a reason with %q", name, err, c.fails)
			}
			if got := p.list()[before:]; (len(got) > 0) != c.applied || c.applied && got[0] != c.config {
				t.Errorf("%s: applied %q", name, got)
			}
			if state, reasons := a.Health(); (state == wire.Degraded) != (c.fails != "") || len(reasons) > 0 && reasons[0] != "push-refused" {
				t.Errorf("%s: health %d %q", name, state, reasons)
			}
		}
	}
}
