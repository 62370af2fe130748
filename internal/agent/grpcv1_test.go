package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/agent/pb/agentv1"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/agent/wire"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// TestCalls is what v1 over gRPC does with events, under both package names.
func TestCalls(t *testing.T) {
	a := open(t, conf(), nil, overRPC)
	cc := a.dialRPC(t)
	for _, service := range []string{"zentinel.agent.v1.AgentProcessor", "sentinel.agent.v1.AgentProcessor"} {
		ask := func(in *agentv1.AgentRequest) (wire.Response, error) {
			out := new(agentv1.AgentResponse)
			err := cc.Invoke(t.Context(), "/"+service+"/ProcessEvent", in, out)
			return readV1(out), err
		}
		w := (&testkit.Proxy{}).Open(service)
		frame := func(op wire.Opcode, b []byte) *agentv1.AgentRequest {
			e := w.Event(mqtt.Client, op, true, b)
			return frameV1(&e)
		}
		r, err := ask(frame(wire.OpBinary, testkit.Connect(v4, "c")))
		if err != nil || r.WebSocket != wire.WSAllow || r.Version != 1 || r.CorrelationID != service {
			t.Fatalf("CONNECT: %+v, %v", r, err)
		}
		if r, err = ask(frame(wire.OpBinary, publish("other", 0))); err != nil || r.WebSocket != wire.WSDrop || r.Block != 403 {
			t.Errorf("refused: %+v, %v", r, err)
		}
		if r, err = ask(frame(wire.OpText, []byte("x"))); err != nil || r.WebSocket != wire.WSClose || r.Code != 1003 || !r.HasWebSocket {
			t.Errorf("text: %+v, %v", r, err)
		}
		for name, in := range map[string]*agentv1.AgentRequest{
			"nothing":          {Version: 1},
			"request body":     {Version: 1, Event: &agentv1.AgentRequest_RequestBodyChunk{RequestBodyChunk: &agentv1.RequestBodyChunkEvent{}}},
			"response headers": {Version: 1, Event: &agentv1.AgentRequest_ResponseHeaders{ResponseHeaders: &agentv1.ResponseHeadersEvent{}}},
			"response body":    {Version: 1, Event: &agentv1.AgentRequest_ResponseBodyChunk{ResponseBodyChunk: &agentv1.ResponseBodyChunkEvent{}}},
			"complete":         {Version: 1, Event: &agentv1.AgentRequest_RequestComplete{RequestComplete: &agentv1.RequestCompleteEvent{}}},
		} {
			if r, err := ask(in); err != nil || r.Block != 0 || r.HasWebSocket {
				t.Errorf("%s: %+v, %v", name, r, err)
			}
		}
		for name, in := range map[string]*agentv1.AgentRequest{
			"another version":      {Version: 2},
			"a frame without id":   {Version: 1, Event: &agentv1.AgentRequest_WebsocketFrame{}},
			"headers without id":   {Version: 1, Event: &agentv1.AgentRequest_RequestHeaders{RequestHeaders: &agentv1.RequestHeadersEvent{}}},
			"headers of nothing":   {Version: 1, Event: &agentv1.AgentRequest_RequestHeaders{}},
			"a frame with no data": {Version: 1, Event: &agentv1.AgentRequest_WebsocketFrame{WebsocketFrame: &agentv1.WebSocketFrameEvent{}}},
		} {
			if r, err := ask(in); status.Code(err) != codes.InvalidArgument {
				t.Errorf("%s: %+v, %v", name, r, err)
			}
		}
	}
	// A stream of events has one answer.
	stream, err := agentv1.NewAgentProcessorClient(cc).ProcessEventStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w := (&testkit.Proxy{}).Open("stream")
	for _, b := range [][]byte{testkit.Connect(v4, "s"), publish("dev/a", 0), publish("other", 0), publish("dev/a", 0)} {
		e := w.Event(mqtt.Client, wire.OpBinary, true, b)
		if err := stream.Send(frameV1(&e)); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
	}
	if out, err := stream.CloseAndRecv(); err != nil || readV1(out).WebSocket != wire.WSDrop {
		t.Errorf("stream: %v, %v", out, err)
	}
}

// TestGiveUpCall: when the proxy gives a call up its WebSocket ends.
func TestGiveUpCall(t *testing.T) {
	a := patientDoor(t, overRPC)
	client := agentv1.NewAgentProcessorClient(a.dialRPC(t))
	w := (&testkit.Proxy{}).Open("given up")
	e := w.Event(mqtt.Client, wire.OpBinary, true, alice("c", "right"))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { _, err := client.ProcessEvent(ctx, frameV1(&e)); done <- err }()
	await(t, "the check has begun", func() bool { return a.table.waiting.Load() == 1 })
	cancel()
	if err := <-done; status.Code(err) != codes.Canceled {
		t.Errorf("%v", err)
	}
	await(t, "the WebSocket is gone", func() bool { return a.table.live.Load() == 0 })
}

// TestManyCalls: WebSockets talk at once over few connections of each kind.
func TestManyCalls(t *testing.T) {
	a := open(t, conf(), nil, overRPC)
	var all sync.WaitGroup
	for _, p := range []*testkit.Proxy{a.rpcProxy(t, wire.V1), a.rpcProxy(t, wire.V1)} {
		for i := range 32 {
			all.Go(func() {
				w := p.Open(fmt.Sprintf("%p-%d", p, i))
				for n, c := range []struct {
					packet []byte
					want   wire.WebSocketDecision
				}{
					{testkit.Connect(v4, w.ID), wire.WSAllow},
					{publish("dev/a", 0), wire.WSAllow},
					{publish("other", 0), wire.WSDrop},
					{publish("dev/b", 0), wire.WSAllow},
				} {
					r, err := w.Try(mqtt.Client, wire.OpBinary, true, c.packet)
					if err != nil || r.WebSocket != c.want || r.CorrelationID != w.ID {
						t.Errorf("%s: packet %d: %+v, %v; want %v", w.ID, n, r, err, c.want)
						return
					}
				}
			})
		}
	}
	all.Wait()
}
