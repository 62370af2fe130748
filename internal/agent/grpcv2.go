package agent

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/agent/pb/agentv2"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/agent/wire"
)

// serviceV2Server is version 2 over gRPC. Its answers carry no decision about a
// frame: one that is refused is answered with block and the tags, which the
// proxy does not look at.
type serviceV2Server struct {
	agentv2.UnimplementedAgentServiceV2Server
	rpc *rpc
}

// ProcessStream answers the events of one proxy connection. The proxy waits for
// the headers before it says anything.
func (s serviceV2Server) ProcessStream(stream grpc.BidiStreamingServer[agentv2.ProxyToAgent, agentv2.AgentToProxy]) error {
	if err := stream.SendHeader(metadata.MD{}); err != nil {
		return err
	}
	return newProcessStream(s.rpc, stream).serve()
}

// ControlStream takes what comes and refuses to be configured: no proxy opens
// it.
func (s serviceV2Server) ControlStream(stream grpc.BidiStreamingServer[agentv2.AgentControl, agentv2.ProxyControl]) error {
	if err := stream.SendHeader(metadata.MD{}); err != nil {
		return err
	}
	return s.rpc.until(func() error {
		for {
			in, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			update := in.GetConfigUpdate()
			if update == nil {
				continue
			}
			err = stream.Send(&agentv2.ProxyControl{Message: &agentv2.ProxyControl_ConfigResponse{
				ConfigResponse: &agentv2.ConfigUpdateResponse{RequestId: update.GetRequestId(), TimestampMs: millis(time.Now())},
			}})
			if err != nil {
				return err
			}
		}
	})
}

// ProcessEvent answers one event without a stream. A configuration is not one:
// there is no answer to it.
func (s serviceV2Server) ProcessEvent(ctx context.Context, in *agentv2.ProxyToAgent) (*agentv2.AgentToProxy, error) {
	g := s.rpc
	c := g.scratch.Get().(*conn)
	defer g.scratch.Put(c)
	switch m := in.GetMessage().(type) {
	case *agentv2.ProxyToAgent_Handshake:
		out, _ := g.greet(ctx, m.Handshake)
		return out, nil
	case *agentv2.ProxyToAgent_Ping:
		return pong(m.Ping), nil
	case *agentv2.ProxyToAgent_WebsocketFrame:
		setFrameV2(&c.frame, m.WebsocketFrame)
		ans, err := c.call(ctx)
		if err != nil {
			return nil, err
		}
		return responseV2(&ans), nil
	}
	ans, ok, err := c.eventV2(in)
	if err == nil && !ok {
		err = status.Error(codes.InvalidArgument, "no event that a call can be answered for")
	}
	if err != nil {
		return nil, err
	}
	return responseV2(&ans), nil
}

// greet answers a handshake; ok says that the proxy is welcome.
func (g *rpc) greet(ctx context.Context, in *agentv2.HandshakeRequest) (out *agentv2.AgentToProxy, ok bool) {
	h := wire.Handshake{
		SupportedVersions: in.GetSupportedVersions(), ProxyID: in.GetProxyId(), ProxyVersion: in.GetProxyVersion(),
		Config: json.RawMessage(in.GetConfigJson()),
	}
	w := g.agent.greet(&h, nil, func(raw json.RawMessage) error { return g.push(ctx, raw) })
	w.Capabilities.Features.ConfigPush = w.Capabilities.Features.ConfigPush && g.pushes(ctx)
	return welcomeV2(&w), w.Success
}

// eventV2 decides an event that is no frame and can be answered at once; ok
// says that it is one.
func (c *conn) eventV2(in *agentv2.ProxyToAgent) (ans wire.Answer, ok bool, err error) {
	var id string
	switch m := in.GetMessage().(type) {
	case *agentv2.ProxyToAgent_RequestHeaders:
		ans, err = c.agent.call(headersV2(m.RequestHeaders))
		return ans, true, err
	case *agentv2.ProxyToAgent_RequestComplete:
		id = m.RequestComplete.GetCorrelationId()
		c.completed(id)
	case *agentv2.ProxyToAgent_RequestBodyChunk:
		id = m.RequestBodyChunk.GetCorrelationId()
	case *agentv2.ProxyToAgent_ResponseHeaders:
		id = m.ResponseHeaders.GetCorrelationId()
	case *agentv2.ProxyToAgent_ResponseBodyChunk:
		id = m.ResponseBodyChunk.GetCorrelationId()
	case *agentv2.ProxyToAgent_Guardrail:
		id = m.Guardrail.GetCorrelationId()
	default:
		return ans, false, nil
	}
	if id == "" {
		c.agent.stats.unreadable.Add(1)
		return ans, true, errNoID
	}
	ans.CorrelationID = []byte(id)
	return ans, true, nil
}

// setFrameV2 makes a frame of an event. There is no FIN, index, route or
// address in it: it is a whole message, the next one of its direction, and its
// WebSocket is known by the id alone.
func setFrameV2(f *wire.Frame, e *agentv2.WebSocketFrameEvent) {
	*f = wire.Frame{
		CorrelationID: []byte(e.GetCorrelationId()), Data: e.GetPayload(), Raw: true, Unnumbered: true,
		ClientToServer: e.GetClientToServer(), Fin: true,
	}
	switch agentv2.WebSocketFrameEvent_FrameType(e.GetFrameType()) {
	case agentv2.WebSocketFrameEvent_FRAME_TYPE_TEXT:
		f.Opcode = wire.OpText
	case agentv2.WebSocketFrameEvent_FRAME_TYPE_BINARY:
		f.Opcode = wire.OpBinary
	case agentv2.WebSocketFrameEvent_FRAME_TYPE_PING:
		f.Opcode = wire.OpPing
	case agentv2.WebSocketFrameEvent_FRAME_TYPE_PONG:
		f.Opcode = wire.OpPong
	case agentv2.WebSocketFrameEvent_FRAME_TYPE_CLOSE:
		f.Opcode = wire.OpClose
	}
}

func headersV2(e *agentv2.RequestHeadersEvent) wire.Headers {
	m := e.GetMetadata()
	h := headersOf(m, m != nil && m.RouteId != nil)
	for _, line := range e.GetHeaders() {
		h.Add(line.GetName(), line.GetValue())
	}
	return h
}

func responseV2(ans *wire.Answer) *agentv2.AgentToProxy {
	id := string(ans.CorrelationID)
	out := &agentv2.AgentResponse{CorrelationId: id, Audit: &agentv2.AuditMetadata{
		Tags: ans.Tags, RuleIds: ans.Rules, Custom: map[string]string{correlationID: id},
	}}
	if ans.Block == 0 {
		out.Decision = &agentv2.AgentResponse_Allow{Allow: &agentv2.AllowDecision{}}
	} else {
		block := &agentv2.BlockDecision{Status: uint32(ans.Block)} //nolint:gosec // an HTTP status
		if ans.Body != "" {
			block.Body = &ans.Body
		}
		out.Decision = &agentv2.AgentResponse_Block{Block: block}
	}
	for _, name := range ans.RemoveHeaders {
		out.RequestHeaders = append(out.RequestHeaders, &agentv2.HeaderOp{Operation: &agentv2.HeaderOp_Remove{Remove: name}})
	}
	return &agentv2.AgentToProxy{Message: &agentv2.AgentToProxy_Response{Response: out}}
}

func welcomeV2(w *wire.Welcome) *agentv2.AgentToProxy {
	c := &w.Capabilities
	events := []int32{
		int32(agentv2.EventType_EVENT_TYPE_REQUEST_HEADERS), int32(agentv2.EventType_EVENT_TYPE_WEBSOCKET_FRAME),
		int32(agentv2.EventType_EVENT_TYPE_CONFIGURE),
	}
	return &agentv2.AgentToProxy{Message: &agentv2.AgentToProxy_Handshake{Handshake: &agentv2.HandshakeResponse{
		ProtocolVersion: w.ProtocolVersion, Success: w.Success, Error: w.Error,
		Capabilities: &agentv2.AgentCapabilities{
			ProtocolVersion: w.ProtocolVersion, AgentId: c.AgentID, Name: c.Name, Version: c.Version, SupportedEvents: events,
			Features: &agentv2.AgentFeatures{
				// Frames are read here, and nothing that is decided about them arrives.
				Websocket: false, ConfigPush: c.Features.ConfigPush, MetricsExport: c.Features.MetricsExport,
				ConcurrentRequests: uint32(c.Features.ConcurrentRequests), Cancellation: c.Features.Cancellation, //nolint:gosec // ours
				HealthReporting: c.Features.HealthReporting,
			},
			Limits: &agentv2.AgentLimits{
				MaxBodySize: uint64(c.Limits.MaxBodySize), MaxConcurrency: uint32(c.Limits.MaxConcurrency), //nolint:gosec // ours
				PreferredChunkSize: uint64(c.Limits.PreferredChunkSize), //nolint:gosec // ours
			},
		},
	}}}
}

func pong(in *agentv2.Ping) *agentv2.AgentToProxy {
	return &agentv2.AgentToProxy{Message: &agentv2.AgentToProxy_Pong{Pong: &agentv2.Pong{
		Sequence: in.GetSequence(), PingTimestampMs: in.GetTimestampMs(), TimestampMs: millis(time.Now()),
	}}}
}

func millis(t time.Time) uint64 { return uint64(t.UnixMilli()) } //nolint:gosec // after 1970

func statusV2(s *wire.Status) *agentv2.AgentToProxy {
	h := &agentv2.HealthStatus{
		AgentId: s.AgentID, State: int32(s.State), TimestampMs: uint64(s.TimestampMS), //nolint:gosec // ours
		TimeoutMultiplier: 1,
	}
	if text := strings.Join(s.Reasons, ", "); text != "" {
		h.Message = &text
	}
	return &agentv2.AgentToProxy{Message: &agentv2.AgentToProxy_Health{Health: h}}
}

func reportV2(r *wire.Report) *agentv2.AgentToProxy {
	out := &agentv2.MetricsReport{AgentId: r.AgentID, TimestampMs: uint64(r.TimestampMS), IntervalMs: uint64(r.IntervalMS)} //nolint:gosec // ours
	for i := range r.Counters {
		c := &r.Counters[i]
		out.Counters = append(out.Counters, &agentv2.CounterMetric{Name: c.Name, Help: &c.Help, Labels: c.Label, Value: c.Value})
	}
	for i := range r.Gauges {
		c := &r.Gauges[i]
		out.Gauges = append(out.Gauges, &agentv2.GaugeMetric{Name: c.Name, Help: &c.Help, Value: c.Value})
	}
	return &agentv2.AgentToProxy{Message: &agentv2.AgentToProxy_Metrics{Metrics: out}}
}
