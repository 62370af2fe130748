//go:build linux

package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/agent/pb/agentv1"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/agent/pb/agentv2"
)

// overGRPC loads an agent for d over gRPC: calls of v1, streams of v2.
func overGRPC(addr string, g generation, d time.Duration) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), d+patience)
	defer cancel()
	run := turns.Add(1)
	var conns []*grpc.ClientConn
	for range connections {
		c, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return 0, err
		}
		defer c.Close()
		conns = append(conns, c)
	}
	if g == v1 {
		return together(d, connections*flight, func(i int, stop *atomic.Bool) (int, error) {
			client := agentv1.NewAgentProcessorClient(conns[i%connections])
			return calls(ctx, client, fmt.Sprintf("%d-%04d", run, i), stop)
		})
	}
	return together(d, connections, func(i int, stop *atomic.Bool) (int, error) {
		return stream(ctx, agentv2.NewAgentServiceV2Client(conns[i]), fmt.Sprintf("%d-%d", run, i), stop)
	})
}

// calls is one WebSocket over v1.
func calls(ctx context.Context, client agentv1.AgentProcessorClient, id string, stop *atomic.Bool) (int, error) {
	route := "mqtt-ws"
	ask := func(index uint64, data []byte, fromClient bool) error {
		resp, err := client.ProcessEvent(ctx, &agentv1.AgentRequest{
			Version: 1, EventType: agentv1.EventType_EVENT_TYPE_WEBSOCKET_FRAME,
			Event: &agentv1.AgentRequest_WebsocketFrame{WebsocketFrame: &agentv1.WebSocketFrameEvent{
				CorrelationId: id, Opcode: "binary", Data: data, ClientToServer: fromClient, FrameIndex: index, Fin: true, RouteId: &route, ClientIp: "127.0.0.1:1",
			}},
		})
		if err == nil && resp.GetWebsocketAllow() == nil {
			err = fmt.Errorf("not allowed: %v", resp)
		}
		return err
	}
	if err := ask(0, connectPacket("sensor-"+id), true); err != nil {
		return 0, err
	}
	if err := ask(0, connackPacket, false); err != nil {
		return 0, err
	}
	n := 0
	for ; !stop.Load(); n++ {
		if err := ask(uint64(n+1), publishPacket, true); err != nil {
			return n, err
		}
	}
	return n, nil
}

// stream is flight WebSockets over one stream of v2.
func stream(ctx context.Context, client agentv2.AgentServiceV2Client, prefix string, stop *atomic.Bool) (int, error) {
	s, err := client.ProcessStream(ctx)
	if err != nil {
		return 0, err
	}
	if _, err := s.Header(); err != nil {
		return 0, err
	}
	err = s.Send(&agentv2.ProxyToAgent{Message: &agentv2.ProxyToAgent_Handshake{Handshake: &agentv2.HandshakeRequest{
		SupportedVersions: []uint32{2, 1}, ProxyId: "zentinel-proxy", ProxyVersion: "0.6.54", ConfigJson: "{}",
	}}})
	if err != nil {
		return 0, err
	}
	ask := func(id string, data []byte, fromClient bool) error {
		return s.Send(&agentv2.ProxyToAgent{Message: &agentv2.ProxyToAgent_WebsocketFrame{WebsocketFrame: &agentv2.WebSocketFrameEvent{
			CorrelationId: id, FrameType: 2, Payload: data, ClientToServer: fromClient,
		}}})
	}
	answer := func() (*agentv2.AgentResponse, error) {
		for {
			m, err := s.Recv()
			if err != nil || m.GetResponse() != nil {
				return m.GetResponse(), err
			}
		}
	}
	for i := range flight {
		id := fmt.Sprintf("%s-%04d", prefix, i)
		// Frames have no index here: the upgrade says that they are those of one.
		err := s.Send(&agentv2.ProxyToAgent{Message: &agentv2.ProxyToAgent_RequestHeaders{RequestHeaders: &agentv2.RequestHeadersEvent{
			Metadata: &agentv2.RequestMetadata{CorrelationId: id, ClientIp: "127.0.0.1"}, Method: "GET", Uri: "/mqtt", HttpVersion: "HTTP/1.1",
			Headers: []*agentv2.Header{{Name: "upgrade", Value: "websocket"}, {Name: "sec-websocket-protocol", Value: "mqtt"}},
		}}})
		if err != nil {
			return 0, err
		}
		if resp, err := answer(); err != nil || resp.GetAllow() == nil {
			return 0, fmt.Errorf("upgrade: %v, %w", resp, err)
		}
		for _, f := range []struct {
			data       []byte
			fromClient bool
		}{{connectPacket("sensor-" + id), true}, {connackPacket, false}} {
			if err := ask(id, f.data, f.fromClient); err != nil {
				return 0, err
			}
			if _, err := answer(); err != nil {
				return 0, err
			}
		}
	}
	for i := range flight {
		if err := ask(fmt.Sprintf("%s-%04d", prefix, i), publishPacket, true); err != nil {
			return 0, err
		}
	}
	n := 0
	for open := flight; open > 0; n++ {
		resp, err := answer()
		if err != nil {
			return n, err
		}
		if resp.GetAllow() == nil {
			return n, fmt.Errorf("not allowed: %v", resp)
		}
		if stop.Load() {
			open--
			continue
		}
		if err := ask(resp.GetCorrelationId(), publishPacket, true); err != nil {
			return n, err
		}
	}
	return n, nil
}
