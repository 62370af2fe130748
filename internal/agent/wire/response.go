package wire

import (
	"encoding/base64"
	"encoding/json"
	"strconv"
)

// Response is an AgentResponse as a proxy reads it.
type Response struct {
	Version       int
	CorrelationID string
	Block         int // HTTP status, 0: allowed
	Body          string
	HasWebSocket  bool
	WebSocket     WebSocketDecision
	Code          uint16
	Reason        string
	RemoveHeaders []string
	Tags          []string
	Rules         []string
}

// Parse reads an AgentResponse as strictly as proxies do: no null for a list
// or a map, no repeated key, decision and version present.
func (r *Response) Parse(b []byte) error {
	*r = Response{}
	seen := map[string]bool{}
	err := object(b, func(key string, raw json.RawMessage) error {
		seen[key] = true
		switch key {
		case "version":
			return decode(raw, &r.Version)
		case "decision":
			return r.decision(raw)
		case "websocket_decision":
			if string(raw) == "null" {
				return nil
			}
			r.HasWebSocket = true
			return r.webSocket(raw)
		case "request_headers":
			var ops []struct {
				Remove *struct{ Name string }
			}
			if err := decode(raw, &ops); err != nil {
				return err
			}
			for _, op := range ops {
				if op.Remove != nil {
					r.RemoveHeaders = append(r.RemoveHeaders, op.Remove.Name)
				}
			}
		case "response_headers", "routing_metadata":
			var any any
			return decode(raw, &any)
		case "audit":
			return r.audit(raw)
		}
		return nil
	})
	if err == nil && (!seen["version"] || !seen["decision"]) {
		err = errEvent
	}
	return err
}

func (r *Response) decision(raw json.RawMessage) error {
	if string(raw) == `"allow"` {
		return nil
	}
	var d struct {
		Block *struct {
			Status int
			Body   *string
		}
	}
	if err := decode(raw, &d); err != nil || d.Block == nil {
		return errEvent
	}
	r.Block = d.Block.Status
	if d.Block.Body != nil {
		r.Body = *d.Block.Body
	}
	return nil
}

func (r *Response) webSocket(raw json.RawMessage) error {
	switch string(raw) {
	case `"allow"`:
		r.WebSocket = WSAllow
		return nil
	case `"drop"`:
		r.WebSocket = WSDrop
		return nil
	}
	var d struct {
		Close *struct {
			Code   *uint16
			Reason *string
		}
	}
	if err := decode(raw, &d); err != nil || d.Close == nil || d.Close.Code == nil || d.Close.Reason == nil {
		return errEvent
	}
	r.WebSocket, r.Code, r.Reason = WSClose, *d.Close.Code, *d.Close.Reason
	return nil
}

func (r *Response) audit(raw json.RawMessage) error {
	return object(raw, func(key string, raw json.RawMessage) error {
		switch key {
		case "tags":
			return decode(raw, &r.Tags)
		case "rule_ids":
			return decode(raw, &r.Rules)
		case "custom":
			var m map[string]any
			if err := decode(raw, &m); err != nil {
				return err
			}
			r.CorrelationID, _ = m["correlation_id"].(string)
		}
		return nil
	})
}

// FrameEvent is a websocket_frame event to be sent.
type FrameEvent struct {
	CorrelationID  string
	Route          string // "" is null
	ClientIP       string
	Opcode         Opcode
	ClientToServer bool
	Index          uint64
	Fin            bool
	Data           []byte
}

// Append appends the event's JSON, keys in alphabetic order as proxies do.
func (e *FrameEvent) Append(dst []byte) []byte {
	dst = append(dst, `{"client_ip":"`...)
	dst = appendText(dst, e.ClientIP)
	dst = append(dst, `","client_to_server":`...)
	dst = strconv.AppendBool(dst, e.ClientToServer)
	dst = append(dst, `,"correlation_id":"`...)
	dst = appendText(dst, e.CorrelationID)
	dst = append(dst, `","data":"`...)
	dst = base64.StdEncoding.AppendEncode(dst, e.Data)
	dst = append(dst, `","fin":`...)
	dst = strconv.AppendBool(dst, e.Fin)
	dst = append(dst, `,"frame_index":`...)
	dst = strconv.AppendUint(dst, e.Index, 10)
	dst = append(dst, `,"opcode":"`...)
	dst = append(dst, e.Opcode.String()...)
	dst = append(dst, `","route_id":`...)
	if e.Route == "" {
		return append(dst, `null}`...)
	}
	dst = append(dst, '"')
	return append(appendText(dst, e.Route), `"}`...)
}

// AppendMessage appends the event as a whole message of a generation.
func (e *FrameEvent) AppendMessage(dst []byte, g Generation) []byte {
	start := len(dst)
	dst = begin(dst, g, WebSocketFrame)
	if g == V1 {
		dst = append(dst, `{"version":1,"event_type":"web_socket_frame","payload":`...)
	}
	dst = e.Append(dst)
	if g == V1 {
		dst = append(dst, '}')
	}
	return end(dst, start)
}

// HeadersEvent is a request_headers event to be sent.
type HeadersEvent struct {
	CorrelationID string
	Route         string // "" is null
	ClientIP      string
	URI           string
	Headers       map[string][]string
}

// AppendMessage appends the event as a whole message of a generation.
func (e *HeadersEvent) AppendMessage(dst []byte, g Generation) []byte {
	var route *string
	if e.Route != "" {
		route = &e.Route
	}
	headers := e.Headers
	if headers == nil {
		headers = map[string][]string{}
	}
	payload := map[string]any{
		"headers": headers, "method": "GET", "uri": e.URI,
		"metadata": map[string]any{
			"client_ip": e.ClientIP, "client_port": 0, "correlation_id": e.CorrelationID, "protocol": "HTTP/1.1",
			"request_id": "7ec57d9a-199c-44a2-be9a-768385c2ed4f", "route_id": route, "server_name": nil,
			"timestamp": "2026-11-24T11:34:50.185+00:00", "tls_cipher": nil, "tls_version": nil, "upstream_id": nil,
		},
	}
	if g == V2 {
		payload["correlation_id"] = e.CorrelationID
		return appendJSON(dst, V2, RequestHeaders, payload)
	}
	return appendJSON(dst, V1, 0, map[string]any{"version": 1, "event_type": "request_headers", "payload": payload})
}

// AppendConfigure appends a configure event.
func AppendConfigure(dst []byte, g Generation, id string, config json.RawMessage) []byte {
	if g == V2 {
		return appendJSON(dst, V2, Configure, map[string]any{"correlation_id": id, "config": config, "config_version": nil})
	}
	return appendJSON(dst, V1, 0, map[string]any{
		"version": 1, "event_type": "configure", "payload": map[string]any{"agent_id": id, "config": config},
	})
}

func appendJSON(dst []byte, g Generation, t Type, v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // only strings, numbers and a config that was JSON
	}
	return AppendMessage(dst, g, t, b)
}
