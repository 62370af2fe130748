package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/agent/pb/agentv1"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/agent/pb/agentv2"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/agent/wire"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

func ping(sequence uint64) *agentv2.ProxyToAgent {
	return &agentv2.ProxyToAgent{Message: &agentv2.ProxyToAgent_Ping{Ping: &agentv2.Ping{Sequence: sequence, TimestampMs: 1767225600000}}}
}

func configure(text string) *agentv2.ProxyToAgent {
	return &agentv2.ProxyToAgent{Message: &agentv2.ProxyToAgent_Configure{Configure: &agentv2.ConfigureEvent{ConfigJson: text, IsInitial: true}}}
}

// ends checks that the agent ends a stream with a code.
func (p *streamProxy) ends(tb testing.TB, name string, code codes.Code) error {
	tb.Helper()
	m, err := p.recv()
	if status.Code(err) != code {
		tb.Errorf("%s: %v, %v; want the end with %v", name, m, err, code)
	}
	return err
}

// TestRPCFamilies: an IPv4 address is IPv4 only.
func TestRPCFamilies(t *testing.T) {
	a := open(t, conf(), nil)
	g, err := a.listenRPC("0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer g.callers.Close()
	if at := g.callers.Addr().(*net.TCPAddr); at.IP.To4() == nil {
		t.Errorf("0.0.0.0 is every address of IPv4, and it listens on %v", at)
	}
}

// TestStreamMessages is every message of v2 on one stream.
func TestStreamMessages(t *testing.T) {
	a := open(t, conf(), nil, overRPC)
	p := openStream(t, a.dialRPC(t))
	early := &wire.FrameEvent{CorrelationID: "early", Opcode: wire.OpText, ClientToServer: true}
	p.send(t, frameV2(early)) // is not answered
	p.send(t, ping(1))        // neither
	for range 2 {
		p.send(t, hello("{}"))
		w := p.next(t).GetHandshake()
		c := w.GetCapabilities()
		if !w.GetSuccess() || w.GetProtocolVersion() != 2 || c.GetAgentId() != "mqtt-gateway" || c.GetVersion() != "1.2.3" ||
			len(c.GetSupportedEvents()) != 3 || !c.GetFeatures().GetCancellation() || !c.GetFeatures().GetHealthReporting() {
			t.Fatalf("handshake: %v", w)
		}
		if c.GetFeatures().GetWebsocket() {
			t.Error("it says that it can decide about frames")
		}
	}
	p.send(t, ping(7))
	if got := p.next(t).GetPong(); got.GetSequence() != 7 || got.GetPingTimestampMs() != 1767225600000 || got.GetTimestampMs() == 0 {
		t.Errorf("pong %v", got)
	}
	p.send(t, &agentv2.ProxyToAgent{})
	p.send(t, &agentv2.ProxyToAgent{Message: &agentv2.ProxyToAgent_Cancel{Cancel: &agentv2.CancelRequest{CorrelationId: "nobody"}}})
	for name, m := range map[string]*agentv2.ProxyToAgent{
		"request body":     {Message: &agentv2.ProxyToAgent_RequestBodyChunk{RequestBodyChunk: &agentv2.BodyChunkEvent{CorrelationId: "i"}}},
		"response headers": {Message: &agentv2.ProxyToAgent_ResponseHeaders{ResponseHeaders: &agentv2.ResponseHeadersEvent{CorrelationId: "i"}}},
		"response body":    {Message: &agentv2.ProxyToAgent_ResponseBodyChunk{ResponseBodyChunk: &agentv2.BodyChunkEvent{CorrelationId: "i"}}},
		"complete":         {Message: &agentv2.ProxyToAgent_RequestComplete{RequestComplete: &agentv2.RequestCompleteEvent{CorrelationId: "i"}}},
		"guardrail":        {Message: &agentv2.ProxyToAgent_Guardrail{Guardrail: &agentv2.GuardrailInspectEvent{CorrelationId: "i"}}},
	} {
		if r, err := p.ask(m, "i"); err != nil || r.Block != 0 || r.CorrelationID != "i" {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	via := &testkit.Proxy{Generation: wire.V2, Via: p}
	if r := via.Upgrade(t, "u", nil); r.Block != 0 {
		t.Errorf("upgrade: %+v", r)
	}
	r := via.Upgrade(t, "v", map[string][]string{"Upgrade": {"websocket"}, "Sec-WebSocket-Extensions": {"permessage-deflate"}})
	if r.Block != 400 || !strings.Contains(r.Body, "perMessageDeflate: false") {
		t.Errorf("upgrade with compression: %+v", r)
	}
	r = via.Upgrade(t, "w", map[string][]string{"upgrade": {"websocket"}, "sec-websocket-protocol": {"mqtt"}, extensionsHeader: {"x-foo"}})
	if r.Block != 0 || len(r.RemoveHeaders) != 1 || r.RemoveHeaders[0] != extensionsHeader {
		t.Errorf("upgrade with an extension: %+v", r)
	}
	// Frames: a refusal is block with the tags, nothing else can be said.
	w := connect(t, via, "f")
	p.as = wire.WSDrop
	r = w.Send(t, mqtt.Client, publish("other", 0))
	if r.Block != 403 || strings.Join(r.Tags, ",") != "mqtt,blocked,acl-denied" {
		t.Errorf("refused frame: %+v", r)
	}
	r, err := p.ask(&agentv2.ProxyToAgent{Message: &agentv2.ProxyToAgent_WebsocketFrame{
		WebsocketFrame: &agentv2.WebSocketFrameEvent{CorrelationId: "g", ClientToServer: true, FrameType: 17},
	}}, "g")
	if err != nil || r.Block != 403 {
		t.Errorf("unknown kind of frame: %+v, %v", r, err)
	}
	if s, reasons := a.Health(); s != wire.Degraded || strings.Join(reasons, " ") != "grpc-v2-frames-not-enforced" {
		t.Errorf("health %d %q", s, reasons)
	}
	if err := p.stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if m, err := p.recv(); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v, %v", m, err)
	}
	await(t, "the stream is forgotten", func() bool { return len(a.rpc.all()) == 0 })
}

// TestFramesOfOneKey: without an index a second CONNECT under a live id ends
// the session, and the table is the one of all transports.
func TestFramesOfOneKey(t *testing.T) {
	a := open(t, conf(), nil, overRPC)
	p := a.rpcProxy(t, wire.V2)
	connect(t, p, "id")
	other := a.rpcProxy(t, wire.V2) // ids hold over all streams
	if r := other.Open("id").Send(t, mqtt.Client, testkit.Connect(v4, "c")); r.Block != 403 {
		t.Errorf("a second CONNECT: %+v", r)
	}
	connect(t, a.proxy(t, wire.V2), "socket")
	if r := p.Open("socket").Send(t, mqtt.Client, testkit.Connect(v4, "c")); r.Block != 403 {
		t.Errorf("an id of the socket's: %+v", r)
	}
	if r := a.rpcProxy(t, wire.V1).Upgrade(t, "socket", nil); r.Block != 400 || !r.HasWebSocket || r.WebSocket != wire.WSClose {
		t.Errorf("an upgrade with an id of the socket's: %+v", r)
	}
}

// TestOlderNames: v2 under the name that older proxies call, and its other
// methods.
func TestOlderNames(t *testing.T) {
	a := open(t, conf(), nil, overRPC)
	cc := a.dialRPC(t)
	for _, service := range []string{"zentinel.agent.v2.AgentServiceV2", "sentinel.agent.v2.AgentServiceV2"} {
		stream, err := cc.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/"+service+"/ProcessStream")
		if err == nil {
			_, err = stream.Header()
		}
		out := new(agentv2.AgentToProxy)
		if err == nil {
			err = errors.Join(stream.SendMsg(hello("{}")), stream.RecvMsg(out))
		}
		if err != nil || !out.GetHandshake().GetSuccess() {
			t.Errorf("%s: %v, %v", service, out, err)
		}
		event := func(in *agentv2.ProxyToAgent) (*agentv2.AgentToProxy, error) {
			out := new(agentv2.AgentToProxy)
			return out, cc.Invoke(t.Context(), "/"+service+"/ProcessEvent", in, out)
		}
		if out, err := event(hello("{}")); err != nil || !out.GetHandshake().GetSuccess() {
			t.Errorf("handshake: %v, %v", out, err)
		}
		if out, err := event(ping(3)); err != nil || out.GetPong().GetSequence() != 3 {
			t.Errorf("ping: %v, %v", out, err)
		}
		h := headersEventV2(&wire.HeadersEvent{CorrelationID: "h", Headers: map[string][]string{"upgrade": {"websocket"}}})
		if out, err := event(h); err != nil || out.GetResponse().GetBlock().GetStatus() != 400 {
			t.Errorf("headers: %v, %v", out, err)
		}
		f := frameV2(&wire.FrameEvent{CorrelationID: "f", Opcode: wire.OpText, ClientToServer: true})
		if out, err := event(f); err != nil || out.GetResponse().GetBlock().GetStatus() != 403 {
			t.Errorf("frame: %v, %v", out, err)
		}
		for name, in := range map[string]*agentv2.ProxyToAgent{
			"configure": configure("{}"), "nothing": {}, "a frame without id": frameV2(&wire.FrameEvent{}),
		} {
			if out, err := event(in); status.Code(err) != codes.InvalidArgument {
				t.Errorf("%s: %v, %v", name, out, err)
			}
		}
	}
}

func TestControlStream(t *testing.T) {
	a := open(t, conf(), nil, overRPC)
	stream, err := agentv2.NewAgentServiceV2Client(a.dialRPC(t)).ControlStream(t.Context())
	if err == nil {
		_, err = stream.Header()
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []*agentv2.AgentControl{
		{},
		{Message: &agentv2.AgentControl_Health{Health: &agentv2.HealthStatus{}}},
		{Message: &agentv2.AgentControl_ConfigUpdate{ConfigUpdate: &agentv2.ConfigUpdateRequest{RequestId: "r"}}},
	} {
		if err := stream.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	out, err := stream.Recv()
	if r := out.GetConfigResponse(); err != nil || r.GetRequestId() != "r" || r.GetAccepted() || r.GetTimestampMs() == 0 {
		t.Errorf("update: %v, %v", out, err)
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if out, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v, %v", out, err)
	}
}

// TestPushRPC: a configuration over gRPC is taken only where the operator says
// so, and is in force before the pong.
func TestPushRPC(t *testing.T) {
	const pushed = `{"general":{"log-packets":true}}`
	got := &pushes{refuses: "acl", why: "pushed:1:2: nonsense"}
	count := func() int { return len(got.list()) }

	a := open(t, conf(), nil, overRPC, got.take)
	p := openStream(t, a.dialRPC(t))
	p.send(t, hello(pushed))
	if w := p.next(t).GetHandshake(); w.GetSuccess() || !strings.Contains(w.GetError(), "agent.accept-config") || w.GetCapabilities() == nil {
		t.Errorf("handshake: %v", w)
	} else if w.GetCapabilities().GetFeatures().GetConfigPush() {
		t.Error("it says that it takes a configuration")
	}
	p.ends(t, "handshake", codes.FailedPrecondition)
	p = shakenStream(t, a.dialRPC(t))
	p.send(t, configure("{}"))
	p.send(t, configure("null"))
	p.send(t, ping(1))
	if m := p.next(t); m.GetPong() == nil {
		t.Errorf("after nothing was pushed: %v", m)
	}
	p.send(t, configure(pushed))
	if err := p.ends(t, "configure", codes.FailedPrecondition); !strings.Contains(err.Error(), "agent.accept-config") {
		t.Errorf("reason %v", err)
	}
	if n := count(); n != 0 {
		t.Fatalf("%d configurations were applied", n)
	}
	if s, r := a.Health(); s != wire.Degraded || r[0] != "push-refused" {
		t.Errorf("health %d %q", s, r)
	}

	a = open(t, conf(`"agent":{"accept-config":"grpc"}`), nil, overRPC, got.take)
	p = openStream(t, a.dialRPC(t))
	p.send(t, hello(pushed))
	if w := p.next(t).GetHandshake(); !w.GetSuccess() || count() != 1 || !w.GetCapabilities().GetFeatures().GetConfigPush() {
		t.Errorf("handshake: %v, %d applied", w, count())
	}
	p.send(t, configure(pushed))
	p.send(t, ping(9))
	if m := p.next(t); m.GetPong().GetSequence() != 9 || count() != 2 {
		t.Errorf("%v, %d applied; want the pong when it is in force", m, count())
	}
	p.send(t, configure(`{"acl":{}}`))
	p.send(t, ping(10))
	if err := p.ends(t, "bad configuration", codes.FailedPrecondition); !strings.Contains(err.Error(), "nonsense") {
		t.Errorf("reason %v", err)
	}
}

// rawCodec sends bytes as they are.
type rawCodec struct{}

func (rawCodec) Marshal(v any) ([]byte, error)   { return v.([]byte), nil }
func (rawCodec) Unmarshal(b []byte, v any) error { *v.(*[]byte) = bytes.Clone(b); return nil }
func (rawCodec) Name() string                    { return "proto" }

// TestJunkRPC: what cannot be read ends its stream, and no other.
func TestJunkRPC(t *testing.T) {
	a := open(t, conf(), nil, overRPC)
	cc := a.dialRPC(t)
	lives := shakenStream(t, cc)
	w := connect(t, &testkit.Proxy{Via: lives}, "lives")
	for _, method := range []string{
		agentv2.AgentServiceV2_ProcessStream_FullMethodName, agentv2.AgentServiceV2_ControlStream_FullMethodName,
		agentv1.AgentProcessor_ProcessEventStream_FullMethodName,
	} {
		for name, b := range map[string][]byte{
			"no protobuf": []byte("\xff\xff\xff"), "not UTF-8": {0x0a, 0x03, 0x0a, 0x01, 0xff}, "oversize": make([]byte, wire.MaxV2+1),
		} {
			ctx, cancel := context.WithTimeout(t.Context(), testkit.Patience)
			defer cancel()
			stream, err := cc.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method,
				grpc.ForceCodec(rawCodec{}), grpc.MaxCallSendMsgSize(64<<20))
			if err != nil {
				t.Fatal(err)
			}
			if err := stream.SendMsg(b); err != nil && !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			var out []byte
			if err := stream.RecvMsg(&out); err == nil || errors.Is(err, io.EOF) || ctx.Err() != nil {
				t.Errorf("%s: %s: %q, %v; want the end", method, name, out, err)
			}
		}
	}
	for name, m := range map[string]*agentv2.ProxyToAgent{
		"a frame without id": frameV2(&wire.FrameEvent{Opcode: wire.OpBinary}), "headers without id": headersEventV2(&wire.HeadersEvent{}),
		"an event without id": {Message: &agentv2.ProxyToAgent_Guardrail{}},
	} {
		p := shakenStream(t, cc)
		p.send(t, m)
		p.ends(t, name, codes.InvalidArgument)
	}
	bad := openStream(t, cc)
	bad.send(t, &agentv2.ProxyToAgent{Message: &agentv2.ProxyToAgent_Handshake{Handshake: &agentv2.HandshakeRequest{SupportedVersions: []uint32{1}}}})
	if m := bad.next(t).GetHandshake(); m.GetSuccess() || m.GetError() == "" {
		t.Errorf("another version: %v", m)
	}
	bad.ends(t, "another version", codes.FailedPrecondition)
	want(t, "the other stream", w.Send(t, mqtt.Client, testkit.Pingreq()), wire.WSAllow)
}

// TestSilentCallers: connections that never call give way to those that do,
// and their number has a bound.
func TestSilentCallers(t *testing.T) {
	a := open(t, conf(), nil, overRPC)
	p := a.rpcProxy(t, wire.V2)
	w := connect(t, p, "lives")
	first, err := net.Dial("tcp", a.GRPCAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	await(t, "the first is taken", func() bool { return a.rpc.silent() == 1 })
	for range maxSilent + 20 {
		c, err := net.Dial("tcp", a.GRPCAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	if err := first.SetReadDeadline(time.Now().Add(testkit.Patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, first); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the oldest silent connection: %v, want the end", err)
	}
	await(t, "the silent ones are bounded", func() bool { return a.rpc.silent() <= maxSilent })
	connect(t, a.rpcProxy(t, wire.V1), "served")
	want(t, "the one before", w.Send(t, mqtt.Client, testkit.Pingreq()), wire.WSAllow)
}

// TestSlowCheckRPC: a password check that takes longer than the deadline
// refuses at the deadline, over either generation, and holds up nobody.
func TestSlowCheckRPC(t *testing.T) {
	for _, g := range generations {
		a := slowDoor(t, "", overRPC)
		p := impatientRPC(t, a, g)
		n := 0
		ask := func(password string) (wire.Response, bool) { // in time, says TestDeadline
			n++
			r, err := p.Open(fmt.Sprint("slow", n)).Try(mqtt.Client, wire.OpBinary, true, alice("c", password))
			if err != nil { // the machine stood still: nothing is answered late
				p = impatientRPC(t, a, g)
			}
			return r, err == nil
		}
		await(t, "a refusal at the deadline", func() bool {
			r, ok := ask(fmt.Sprint("never seen", n))
			if ok && (r.Block != 403 || g == wire.V1 && r.Code != 1013) {
				t.Fatalf("v%d: %+v", g, r)
			}
			return ok && r.Tags[2] == "decision-timeout" // else others are being checked
		})
		await(t, "a reconnect passes", func() bool {
			r, ok := ask("right")
			return ok && r.WebSocket == wire.WSAllow
		})
	}
}

// TestCancelStream: a cancelled event of a stream is not answered.
func TestCancelStream(t *testing.T) {
	a := patientDoor(t, overRPC)
	p := shakenStream(t, a.dialRPC(t))
	(&testkit.Proxy{Via: p}).Upgrade(t, "given up", nil)
	w := (&testkit.Proxy{}).Open("given up")
	e := w.Event(mqtt.Client, wire.OpBinary, true, alice("c", "right"))
	p.send(t, frameV2(&e))
	await(t, "the check has begun", func() bool { return a.table.waiting.Load() == 1 })
	p.send(t, &agentv2.ProxyToAgent{Message: &agentv2.ProxyToAgent_Cancel{Cancel: &agentv2.CancelRequest{CorrelationId: "given up"}}})
	await(t, "the WebSocket is gone", func() bool { return a.table.live.Load() == 0 })
	p.send(t, ping(4))
	if m := p.next(t); m.GetPong().GetSequence() != 4 {
		t.Errorf("got %v, want only the pong", m)
	}
}

// TestStopRPC: a stopping agent says so, answers what is in work, and ends.
func TestStopRPC(t *testing.T) {
	a := patientDoor(t, overRPC)
	p := shakenStream(t, a.dialRPC(t))
	(&testkit.Proxy{Via: p}).Upgrade(t, "slow", nil)
	w := (&testkit.Proxy{}).Open("slow")
	e := w.Event(mqtt.Client, wire.OpBinary, true, alice("c", "right"))
	p.send(t, frameV2(&e))
	await(t, "the check has begun", func() bool { return a.table.waiting.Load() == 1 })
	if err := a.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if m := p.next(t); m.GetResponse().GetAllow() == nil {
		t.Errorf("got %v, want the answer", m)
	}
	if _, err := p.recv(); !errors.Is(err, io.EOF) {
		t.Errorf("then %v, want the end", err)
	}
	if len(p.extra) == 0 || p.extra[0].GetHealth().GetState() != wire.Draining {
		t.Errorf("told %v, want draining", p.extra)
	}
	if _, err := agentv1.NewAgentProcessorClient(a.dialRPC(t)).ProcessEvent(t.Context(), &agentv1.AgentRequest{Version: 1}); err == nil {
		t.Error("answered after the end")
	}
}

// TestFloodedStream: hundreds of events before the first answer is read, each
// answered once.
func TestFloodedStream(t *testing.T) {
	a := open(t, conf(), nil, overRPC)
	p := shakenStream(t, a.dialRPC(t))
	const n = 4 * maxOutgoing
	go func() {
		for i := range n {
			w := (&testkit.Proxy{}).Open(fmt.Sprint("many-", i))
			e := w.Event(mqtt.Client, wire.OpBinary, true, testkit.Connect(v4, w.ID))
			if p.stream.Send(frameV2(&e)) != nil {
				return // the answers tell
			}
		}
	}()
	seen := map[string]int{}
	for range n {
		seen[p.next(t).GetResponse().GetCorrelationId()]++
	}
	if len(seen) != n {
		t.Errorf("%d ids answered, want %d", len(seen), n)
	}
}

// TestRPCSaid: what gRPC cannot do stands in the log.
func TestRPCSaid(t *testing.T) {
	var out bytes.Buffer
	open(t, conf(), nil, overRPC, func(o *Options) { o.Log = slog.New(slog.NewJSONHandler(&out, nil)) })
	var lines []string
	for dec := json.NewDecoder(&out); ; {
		var line struct{ Level, Msg string }
		if dec.Decode(&line) != nil {
			break
		}
		lines = append(lines, line.Level+" "+line.Msg)
	}
	if text := strings.Join(lines, "\n"); !strings.Contains(text, "WARN gRPC v2 carries no decision") || strings.Contains(text, "other machines") {
		t.Errorf("said\n%s", text)
	}
}

// TestRPCAlone: without a socket gRPC is served all the same.
func TestRPCAlone(t *testing.T) {
	a := open(t, conf(), nil, overRPC, func(o *Options) { o.Socket = "" })
	w := a.rpcProxy(t, wire.V1).Open("w")
	want(t, "CONNECT", w.Send(t, mqtt.Client, testkit.Connect(mqtt.V311, "w")), wire.WSAllow)
}
