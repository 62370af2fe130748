package agent

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/agent/pb/agentv1"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/agent/wire"
)

var (
	errNoID    = status.Error(codes.InvalidArgument, "the event has no correlation id")
	errLate    = status.Error(codes.DeadlineExceeded, "the answer would be too late")
	errVersion = status.Error(codes.InvalidArgument, "this service speaks version 1 of the agent protocol")
	errGivenUp = status.Error(codes.Canceled, "given up")
)

// processor is version 1 over gRPC: a call for each event. It carries decisions
// about frames.
type processor struct {
	agentv1.UnimplementedAgentProcessorServer
	rpc *rpc
}

// ProcessEvent answers one event.
func (s processor) ProcessEvent(ctx context.Context, in *agentv1.AgentRequest) (*agentv1.AgentResponse, error) {
	return s.answer(ctx, in)
}

// ProcessEventStream answers a stream of events with one response: the first
// that refuses, or the last.
func (s processor) ProcessEventStream(stream grpc.ClientStreamingServer[agentv1.AgentRequest, agentv1.AgentResponse]) error {
	return s.rpc.until(func() error {
		var last *agentv1.AgentResponse
		for {
			in, err := stream.Recv()
			switch {
			case errors.Is(err, io.EOF) && last != nil:
				return stream.SendAndClose(last)
			case errors.Is(err, io.EOF):
				return status.Error(codes.InvalidArgument, "no event")
			case err != nil:
				return err
			}
			if last, err = s.answer(stream.Context(), in); err != nil {
				return err
			}
			if last.GetAllow() == nil || last.WebsocketDecision != nil && last.GetWebsocketAllow() == nil {
				return stream.SendAndClose(last)
			}
		}
	})
}

func (s processor) answer(ctx context.Context, in *agentv1.AgentRequest) (*agentv1.AgentResponse, error) {
	if in.GetVersion() != 1 {
		return nil, errVersion
	}
	g := s.rpc
	c := g.scratch.Get().(*conn)
	defer g.scratch.Put(c)
	var ans wire.Answer
	var err error
	switch e := in.GetEvent().(type) {
	case *agentv1.AgentRequest_WebsocketFrame:
		setFrameV1(&c.frame, e.WebsocketFrame)
		ans, err = c.call(ctx)
	case *agentv1.AgentRequest_RequestHeaders:
		ans, err = g.agent.call(headersV1(e.RequestHeaders))
	case *agentv1.AgentRequest_RequestComplete:
		ans.CorrelationID = []byte(e.RequestComplete.GetCorrelationId())
		c.completed(e.RequestComplete.GetCorrelationId())
	case *agentv1.AgentRequest_RequestBodyChunk:
		ans.CorrelationID = []byte(e.RequestBodyChunk.GetCorrelationId())
	case *agentv1.AgentRequest_ResponseHeaders:
		ans.CorrelationID = []byte(e.ResponseHeaders.GetCorrelationId())
	case *agentv1.AgentRequest_ResponseBodyChunk:
		ans.CorrelationID = []byte(e.ResponseBodyChunk.GetCorrelationId())
	}
	if err != nil {
		return nil, err
	}
	return responseV1(&ans), nil
}

// call decides the frame in c.frame and waits for the answer. When the peer
// gives up, the frame is as good as cancelled.
func (c *conn) call(ctx context.Context) (wire.Answer, error) {
	a := c.agent
	if len(c.frame.CorrelationID) == 0 {
		a.stats.unreadable.Add(1)
		return wire.Answer{}, errNoID
	}
	c.arrived = a.now()
	d := c.decide()
	if !d.suspended {
		c.decided(&d)
		return d.answer(wire.V1, c.frame.CorrelationID), nil
	}
	p := c.current
	c.current = nil
	select {
	case <-p.done:
	case <-ctx.Done():
		p.cancel()
		<-p.done
	}
	switch {
	case p.outcome == nil:
		return wire.Answer{}, errGivenUp
	case a.now()-p.arrived > p.ws.set.timeout:
		a.stats.late.Add(1)
		return wire.Answer{}, errLate
	}
	return p.outcome.answer(wire.V1, p.id), nil
}

// call decides a request.
func (a *Agent) call(h wire.Headers) (wire.Answer, error) {
	if h.CorrelationID == "" {
		a.stats.unreadable.Add(1)
		return wire.Answer{}, errNoID
	}
	return a.request(&h), nil
}

// setFrameV1 makes a frame of an event; its data are those of the message.
func setFrameV1(f *wire.Frame, e *agentv1.WebSocketFrameEvent) {
	*f = wire.Frame{
		CorrelationID: []byte(e.GetCorrelationId()), Opcode: wire.OpcodeNamed(e.GetOpcode()), Data: e.GetData(), Raw: true,
		ClientToServer: e.GetClientToServer(), Index: e.GetFrameIndex(), Fin: e.GetFin(), ClientIP: []byte(e.GetClientIp()),
	}
	if e != nil && e.RouteId != nil {
		f.Route, f.HasRoute = []byte(e.GetRouteId()), true
	}
}

func headersV1(e *agentv1.RequestHeadersEvent) wire.Headers {
	m := e.GetMetadata()
	h := headersOf(m, m != nil && m.RouteId != nil)
	for name, v := range e.GetHeaders() {
		h.Add(name, v.GetValues()...)
	}
	return h
}

// headersOf makes a request, its headers aside, of its metadata, which both
// versions tell in types of their own.
func headersOf(m interface {
	GetCorrelationId() string
	GetClientIp() string
	GetRouteId() string
}, hasRoute bool,
) wire.Headers {
	return wire.Headers{
		CorrelationID: m.GetCorrelationId(), ClientIP: m.GetClientIp(), Route: m.GetRouteId(), HasRoute: hasRoute,
		Values: map[string][]string{},
	}
}

// responseV1 is an answer as a message. No list in it is ever nil on the wire.
func responseV1(ans *wire.Answer) *agentv1.AgentResponse {
	out := &agentv1.AgentResponse{Version: 1, Audit: &agentv1.AuditMetadata{
		Tags: ans.Tags, RuleIds: ans.Rules, Custom: map[string]string{correlationID: string(ans.CorrelationID)},
	}}
	if ans.Block == 0 {
		out.Decision = &agentv1.AgentResponse_Allow{Allow: &agentv1.AllowDecision{}}
	} else {
		block := &agentv1.BlockDecision{Status: uint32(ans.Block)} //nolint:gosec // an HTTP status
		if ans.Body != "" {
			block.Body = &ans.Body
		}
		out.Decision = &agentv1.AgentResponse_Block{Block: block}
	}
	for _, name := range ans.RemoveHeaders {
		out.RequestHeaders = append(out.RequestHeaders, &agentv1.HeaderOp{
			Operation: &agentv1.HeaderOp_Remove{Remove: &agentv1.RemoveHeader{Name: name}},
		})
	}
	switch {
	case !ans.Frame:
	case ans.WebSocket == wire.WSAllow:
		out.WebsocketDecision = &agentv1.AgentResponse_WebsocketAllow{WebsocketAllow: &agentv1.WebSocketAllowDecision{}}
	case ans.WebSocket == wire.WSDrop:
		out.WebsocketDecision = &agentv1.AgentResponse_WebsocketDrop{WebsocketDrop: &agentv1.WebSocketDropDecision{}}
	default:
		out.WebsocketDecision = &agentv1.AgentResponse_WebsocketClose{WebsocketClose: &agentv1.WebSocketCloseDecision{
			Code: uint32(ans.Code), Reason: ans.CloseReason(),
		}}
	}
	return out
}

// correlationID is the key of the id in the audit part of an answer.
const correlationID = "correlation_id"
