package agent

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/agent/pb/agentv1"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/agent/pb/agentv2"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/agent/wire"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

func overRPC(o *Options) { o.GRPC = "127.0.0.1:0" }

// dialRPC is a gRPC connection to an agent; it ends with the test.
func (d *door) dialRPC(tb testing.TB, opts ...grpc.DialOption) *grpc.ClientConn {
	tb.Helper()
	if len(opts) == 0 {
		opts = []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}
	}
	cc, err := grpc.NewClient(d.GRPCAddr().String(), opts...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { cc.Close() }) // the end of a test
	return cc
}

// rpcProxy is a proxy over gRPC.
func (d *door) rpcProxy(tb testing.TB, g wire.Generation) *testkit.Proxy {
	tb.Helper()
	if g == wire.V1 {
		return &testkit.Proxy{Generation: g, Via: callProxy{agentv1.NewAgentProcessorClient(d.dialRPC(tb)), testkit.Patience}}
	}
	return &testkit.Proxy{Generation: g, Via: shakenStream(tb, d.dialRPC(tb))}
}

// impatientRPC is impatient over gRPC.
func impatientRPC(t *testing.T, a *door, g wire.Generation) *testkit.Proxy {
	t.Helper()
	p := a.rpcProxy(t, g)
	switch via := p.Via.(type) {
	case callProxy:
		via.limit = 4 * deadline
		p.Via = via
	case *streamProxy:
		via.limit = 4 * deadline
	}
	return p
}

// callProxy plays a proxy that speaks v1 over gRPC.
type callProxy struct {
	agentv1.AgentProcessorClient
	limit time.Duration // of a call about a frame
}

func (p callProxy) Frame(ctx context.Context, e *wire.FrameEvent) (wire.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, p.limit)
	defer cancel()
	out, err := p.ProcessEvent(ctx, frameV1(e))
	return readV1(out), err
}

func frameV1(e *wire.FrameEvent) *agentv1.AgentRequest {
	f := &agentv1.WebSocketFrameEvent{
		CorrelationId: e.CorrelationID, Opcode: e.Opcode.String(), Data: e.Data, ClientToServer: e.ClientToServer,
		FrameIndex: e.Index, Fin: e.Fin, ClientIp: e.ClientIP,
	}
	if e.Route != "" {
		f.RouteId = &e.Route
	}
	return &agentv1.AgentRequest{
		Version: 1, EventType: agentv1.EventType_EVENT_TYPE_WEBSOCKET_FRAME, Event: &agentv1.AgentRequest_WebsocketFrame{WebsocketFrame: f},
	}
}

func (p callProxy) Headers(ctx context.Context, e *wire.HeadersEvent) (wire.Response, error) {
	h := &agentv1.RequestHeadersEvent{
		Metadata: &agentv1.RequestMetadata{CorrelationId: e.CorrelationID, ClientIp: e.ClientIP, RouteId: &e.Route},
		Method:   "GET", Uri: e.URI, Headers: map[string]*agentv1.HeaderValues{},
	}
	for name, lines := range e.Headers {
		h.Headers[name] = &agentv1.HeaderValues{Values: lines}
	}
	out, err := p.ProcessEvent(ctx, &agentv1.AgentRequest{
		Version: 1, EventType: agentv1.EventType_EVENT_TYPE_REQUEST_HEADERS, Event: &agentv1.AgentRequest_RequestHeaders{RequestHeaders: h},
	})
	return readV1(out), err
}

func readV1(in *agentv1.AgentResponse) (r wire.Response) {
	r.Version = int(in.GetVersion())
	r.CorrelationID = in.GetAudit().GetCustom()["correlation_id"]
	r.Block, r.Body = int(in.GetBlock().GetStatus()), in.GetBlock().GetBody()
	r.Tags, r.Rules = in.GetAudit().GetTags(), in.GetAudit().GetRuleIds()
	for _, op := range in.GetRequestHeaders() {
		r.RemoveHeaders = append(r.RemoveHeaders, op.GetRemove().GetName())
	}
	r.HasWebSocket = true
	switch d := in.GetWebsocketDecision().(type) {
	case *agentv1.AgentResponse_WebsocketAllow:
		r.WebSocket = wire.WSAllow
	case *agentv1.AgentResponse_WebsocketDrop:
		r.WebSocket = wire.WSDrop
	case *agentv1.AgentResponse_WebsocketClose:
		r.Code, r.Reason = uint16(d.WebsocketClose.GetCode()), d.WebsocketClose.GetReason()
	default:
		r.HasWebSocket = false
	}
	return r
}

// streamProxy plays a proxy that speaks v2 over one gRPC stream.
type streamProxy struct {
	stream grpc.BidiStreamingClient[agentv2.ProxyToAgent, agentv2.AgentToProxy]
	cancel context.CancelFunc
	limit  time.Duration          // of a wait
	as     wire.WebSocketDecision // what a refusal of a frame is taken for

	// Guarded by mu.
	mu    sync.Mutex
	extra []*agentv2.AgentToProxy // what nobody asked for
	asked map[string]bool         // ids of upgrades
}

// openStream opens a stream as proxies do: nothing is sent before the agent's
// headers have come.
func openStream(tb testing.TB, cc grpc.ClientConnInterface) *streamProxy {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	tb.Cleanup(cancel)
	limit := time.AfterFunc(testkit.Patience, cancel)
	stream, err := agentv2.NewAgentServiceV2Client(cc).ProcessStream(ctx)
	if err == nil {
		_, err = stream.Header()
	}
	if err != nil || !limit.Stop() {
		tb.Fatalf("headers of the stream: %v", err)
	}
	return &streamProxy{stream: stream, cancel: cancel, limit: testkit.Patience, asked: map[string]bool{}}
}

// shakenStream is a stream that has shaken hands.
func shakenStream(tb testing.TB, cc grpc.ClientConnInterface) *streamProxy {
	tb.Helper()
	p := openStream(tb, cc)
	p.send(tb, hello("{}"))
	if w := p.next(tb).GetHandshake(); !w.GetSuccess() || w.GetProtocolVersion() != 2 {
		tb.Fatalf("handshake: %v", w)
	}
	return p
}

func hello(config string) *agentv2.ProxyToAgent {
	return &agentv2.ProxyToAgent{Message: &agentv2.ProxyToAgent_Handshake{Handshake: &agentv2.HandshakeRequest{
		SupportedVersions: []uint32{2, 1}, ProxyId: "zentinel-proxy", ProxyVersion: "0.6.54", ConfigJson: config,
	}}}
}

func (p *streamProxy) send(tb testing.TB, m *agentv2.ProxyToAgent) {
	tb.Helper()
	if err := p.stream.Send(m); err != nil {
		tb.Fatal(err)
	}
}

// recv is the next message, unsolicited ones kept aside.
func (p *streamProxy) recv() (*agentv2.AgentToProxy, error) {
	limit := time.AfterFunc(p.limit, p.cancel)
	defer limit.Stop()
	for {
		m, err := p.stream.Recv()
		if err != nil || m.GetHealth() == nil && m.GetMetrics() == nil {
			return m, err
		}
		p.mu.Lock()
		p.extra = append(p.extra, m)
		p.mu.Unlock()
	}
}

func (p *streamProxy) next(tb testing.TB) *agentv2.AgentToProxy {
	tb.Helper()
	m, err := p.recv()
	if err != nil {
		tb.Fatalf("waiting for a message: %v", err)
	}
	return m
}

func (p *streamProxy) ask(m *agentv2.ProxyToAgent, id string) (wire.Response, error) {
	if err := p.stream.Send(m); err != nil {
		return wire.Response{}, err
	}
	out, err := p.recv()
	if err != nil {
		return wire.Response{}, err
	}
	if got := out.GetResponse().GetCorrelationId(); got != id {
		return wire.Response{}, fmt.Errorf("answer to %q, want %q: %v", got, id, out)
	}
	return readV2(out.GetResponse()), nil
}

// Frame asks about a frame. Only whole messages can be told. The upgrade is
// asked about before the first one, if it was not.
func (p *streamProxy) Frame(ctx context.Context, e *wire.FrameEvent) (wire.Response, error) {
	p.mu.Lock()
	asked := p.asked[e.CorrelationID]
	p.mu.Unlock()
	if !asked {
		headers := map[string][]string{"upgrade": {"websocket"}, "sec-websocket-protocol": {"mqtt"}}
		_, err := p.Headers(ctx, &wire.HeadersEvent{CorrelationID: e.CorrelationID, Route: e.Route, Headers: headers})
		if err != nil {
			return wire.Response{}, err
		}
	}
	r, err := p.ask(frameV2(e), e.CorrelationID)
	r.HasWebSocket, r.WebSocket = true, wire.WSAllow
	if r.Block != 0 {
		r.WebSocket = p.as
		if p.as == wire.WSAllow {
			r.WebSocket = wire.WSClose
		}
	}
	return r, err
}

func frameV2(e *wire.FrameEvent) *agentv2.ProxyToAgent {
	types := []wire.Opcode{wire.OpReserved, wire.OpText, wire.OpBinary, wire.OpPing, wire.OpPong, wire.OpClose}
	return &agentv2.ProxyToAgent{Message: &agentv2.ProxyToAgent_WebsocketFrame{WebsocketFrame: &agentv2.WebSocketFrameEvent{
		CorrelationId: e.CorrelationID, ClientToServer: e.ClientToServer, FrameType: int32(slices.Index(types, e.Opcode)), Payload: e.Data,
	}}}
}

func (p *streamProxy) Headers(_ context.Context, e *wire.HeadersEvent) (wire.Response, error) {
	p.mu.Lock()
	p.asked[e.CorrelationID] = true
	p.mu.Unlock()
	return p.ask(headersEventV2(e), e.CorrelationID)
}

func headersEventV2(e *wire.HeadersEvent) *agentv2.ProxyToAgent {
	h := &agentv2.RequestHeadersEvent{
		Metadata: &agentv2.RequestMetadata{CorrelationId: e.CorrelationID, ClientIp: e.ClientIP, RouteId: &e.Route},
		Method:   "GET", Uri: e.URI, HttpVersion: "HTTP/1.1",
	}
	for name, lines := range e.Headers {
		for _, line := range lines {
			h.Headers = append(h.Headers, &agentv2.Header{Name: name, Value: line})
		}
	}
	return &agentv2.ProxyToAgent{Message: &agentv2.ProxyToAgent_RequestHeaders{RequestHeaders: h}}
}

func readV2(in *agentv2.AgentResponse) (r wire.Response) {
	r.Version, r.CorrelationID = 2, in.GetAudit().GetCustom()["correlation_id"]
	r.Block, r.Body = int(in.GetBlock().GetStatus()), in.GetBlock().GetBody()
	r.Tags, r.Rules = in.GetAudit().GetTags(), in.GetAudit().GetRuleIds()
	for _, op := range in.GetRequestHeaders() {
		r.RemoveHeaders = append(r.RemoveHeaders, op.GetRemove())
	}
	return r
}
