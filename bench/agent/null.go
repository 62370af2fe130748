//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/agent/pb/agentv1"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/agent/pb/agentv2"
)

// generation of the protocol.
type generation int

const (
	v1 generation = 1
	v2 generation = 2
)

// Message types of v2.
const (
	handshakeRequest  = 0x01
	handshakeResponse = 0x02
	webSocketFrame    = 0x15
	agentResponse     = 0x20
)

// event is what an agent must read of one.
type event struct {
	CorrelationID  string  `json:"correlation_id"`
	Opcode         string  `json:"opcode"`
	Data           string  `json:"data"`
	ClientToServer bool    `json:"client_to_server"`
	FrameIndex     uint64  `json:"frame_index"`
	Fin            bool    `json:"fin"`
	RouteID        *string `json:"route_id"`
	ClientIP       string  `json:"client_ip"`
}

// envelope is an event of v1.
type envelope struct {
	Version   uint32 `json:"version"`
	EventType string `json:"event_type"`
	Payload   event  `json:"payload"`
}

// serveNull is the null agent, or the reading one.
func serveNull(socket, addr string, reading bool) error {
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	defer l.Close()
	g, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	srv := grpc.NewServer()
	agentv1.RegisterAgentProcessorServer(srv, nullV1{})
	agentv2.RegisterAgentServiceV2Server(srv, nullV2{})
	go srv.Serve(g) // ends with the process
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go nullConn(c, reading) // ends with the connection
	}
}

const shaken = `{"protocol_version":2,"success":true,"error":null,"encoding":"json","capabilities":{"agent_id":"null","name":"null","version":"0","supported_events":[1,6],` +
	`"features":{"streaming_body":false,"websocket":true,"guardrails":false,"config_push":false,"metrics_export":false,"concurrent_requests":100,"cancellation":false,"flow_control":false,"health_reporting":false},` +
	`"limits":{"max_body_size":1,"max_concurrency":100,"preferred_chunk_size":1}}}`

// nullConn answers what one read brought in one write.
func nullConn(c net.Conn, reading bool) {
	defer c.Close()
	buf, have := make([]byte, 64<<10), 0
	var out []byte
	for {
		n, err := c.Read(buf[have:])
		if err != nil {
			return
		}
		have += n
		out = out[:0]
		at := 0
		for have-at >= 4 {
			size := int(binary.BigEndian.Uint32(buf[at:]))
			if have-at < 4+size {
				break
			}
			out = nullAnswer(out, buf[at+4:at+4+size], reading)
			at += 4 + size
		}
		have = copy(buf, buf[at:have])
		if len(out) > 0 {
			if _, err := c.Write(out); err != nil {
				return
			}
		}
	}
}

var idKey = []byte(`"correlation_id":"`)

// eventID is the correlation id in a message.
func eventID(m []byte) []byte {
	_, rest, _ := bytes.Cut(m, idKey)
	id, _, _ := bytes.Cut(rest, []byte{'"'})
	return id
}

func nullAnswer(out, m []byte, reading bool) []byte {
	var err error
	switch {
	case !reading || m[0] == handshakeRequest:
	case m[0] == '{':
		err = json.Unmarshal(m, new(envelope))
	default:
		err = json.Unmarshal(m[1:], new(event))
	}
	if err != nil {
		panic(err) // the load is our own
	}
	head := len(out)
	out = append(out, 0, 0, 0, 0)
	switch m[0] {
	case handshakeRequest:
		out = append(append(out, handshakeResponse), shaken...)
	case '{': // v1
		out = append(out, `{"version":1,"decision":"allow","websocket_decision":"allow"}`...)
	default:
		out = append(append(out, agentResponse), `{"version":2,"decision":"allow","websocket_decision":"allow","audit":{"custom":{"correlation_id":"`...)
		out = append(append(out, eventID(m)...), `"}}}`...)
	}
	binary.BigEndian.PutUint32(out[head:], uint32(len(out)-head-4))
	return out
}

type nullV1 struct {
	agentv1.UnimplementedAgentProcessorServer
}

func (nullV1) ProcessEvent(context.Context, *agentv1.AgentRequest) (*agentv1.AgentResponse, error) {
	return &agentv1.AgentResponse{
		Version:           1,
		Decision:          &agentv1.AgentResponse_Allow{Allow: &agentv1.AllowDecision{}},
		WebsocketDecision: &agentv1.AgentResponse_WebsocketAllow{WebsocketAllow: &agentv1.WebSocketAllowDecision{}},
	}, nil
}

type nullV2 struct {
	agentv2.UnimplementedAgentServiceV2Server
}

func (nullV2) ProcessStream(s grpc.BidiStreamingServer[agentv2.ProxyToAgent, agentv2.AgentToProxy]) error {
	if err := s.SendHeader(metadata.MD{}); err != nil {
		return err
	}
	for {
		in, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		out := &agentv2.AgentToProxy{Message: &agentv2.AgentToProxy_Handshake{Handshake: &agentv2.HandshakeResponse{ProtocolVersion: 2, Success: true}}}
		id := in.GetWebsocketFrame().GetCorrelationId()
		if h := in.GetRequestHeaders(); h != nil {
			id = h.GetMetadata().GetCorrelationId()
		}
		if id != "" {
			out = &agentv2.AgentToProxy{Message: &agentv2.AgentToProxy_Response{Response: &agentv2.AgentResponse{
				CorrelationId: id, Decision: &agentv2.AgentResponse_Allow{Allow: &agentv2.AllowDecision{}},
			}}}
		}
		if err := s.Send(out); err != nil {
			return err
		}
	}
}
