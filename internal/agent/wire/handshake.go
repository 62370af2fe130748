package wire

import (
	"encoding/json"
)

// Handshake is the first message of a proxy.
type Handshake struct {
	SupportedVersions  []uint32        `json:"supported_versions"`
	ProxyID            string          `json:"proxy_id"`
	ProxyVersion       string          `json:"proxy_version"`
	Config             json.RawMessage `json:"config"`
	SupportedEncodings []string        `json:"supported_encodings,omitempty"`
}

// Parse reads a handshake.
func (h *Handshake) Parse(b []byte) error {
	*h = Handshake{}
	return object(b, func(key string, raw json.RawMessage) error {
		switch key {
		case "supported_versions":
			return decode(raw, &h.SupportedVersions)
		case "proxy_id":
			return decode(raw, &h.ProxyID)
		case "proxy_version":
			return decode(raw, &h.ProxyVersion)
		case "config":
			h.Config = raw
		}
		// The encodings do not matter: JSON is always understood, and it is the
		// only one spoken here.
		return nil
	})
}

// Welcome is the answer to a handshake. Every key is required by proxies.
type Welcome struct {
	ProtocolVersion uint32       `json:"protocol_version"`
	Success         bool         `json:"success"`
	Error           *string      `json:"error"`
	Encoding        string       `json:"encoding"`
	Capabilities    Capabilities `json:"capabilities"`
}

// Capabilities is what an agent says about itself.
type Capabilities struct {
	AgentID         string   `json:"agent_id"`
	Name            string   `json:"name"`
	Version         string   `json:"version"`
	SupportedEvents []int    `json:"supported_events"`
	Features        Features `json:"features"`
	Limits          Limits   `json:"limits"`
}

// Features are what an agent can do.
type Features struct {
	StreamingBody      bool `json:"streaming_body"`
	WebSocket          bool `json:"websocket"`
	Guardrails         bool `json:"guardrails"`
	ConfigPush         bool `json:"config_push"`
	MetricsExport      bool `json:"metrics_export"`
	ConcurrentRequests int  `json:"concurrent_requests"`
	Cancellation       bool `json:"cancellation"`
	FlowControl        bool `json:"flow_control"`
	HealthReporting    bool `json:"health_reporting"`
}

// Limits are what an agent wants to be kept.
type Limits struct {
	MaxBodySize        int `json:"max_body_size"`
	MaxConcurrency     int `json:"max_concurrency"`
	PreferredChunkSize int `json:"preferred_chunk_size"`
}

// AppendMessage appends w as a whole message.
func (w *Welcome) AppendMessage(dst []byte) []byte {
	b, err := json.Marshal(w)
	if err != nil {
		panic(err) // only strings, numbers and booleans
	}
	return AppendMessage(dst, V2, HandshakeResponse, b)
}

// CancelEvent is a cancel message.
type CancelEvent struct {
	CorrelationID string
}

// Parse reads a cancel message.
func (c *CancelEvent) Parse(b []byte) error {
	*c = CancelEvent{}
	return object(b, func(key string, raw json.RawMessage) error {
		if key == "correlation_id" {
			return decode(raw, &c.CorrelationID)
		}
		return nil
	})
}

// Counter is one counter of a metrics report.
type Counter struct {
	Name  string            `json:"name"`
	Help  string            `json:"help,omitempty"`
	Label map[string]string `json:"labels,omitempty"`
	Value uint64            `json:"value"`
}

// Gauge is one gauge of a metrics report.
type Gauge struct {
	Name  string  `json:"name"`
	Help  string  `json:"help,omitempty"`
	Value float64 `json:"value"`
}

// Report is a metrics report.
type Report struct {
	AgentID     string    `json:"agent_id"`
	TimestampMS int64     `json:"timestamp_ms"`
	IntervalMS  int64     `json:"interval_ms"`
	Counters    []Counter `json:"counters"`
	Gauges      []Gauge   `json:"gauges"`
}

// AppendMessage appends r as a whole message.
func (r *Report) AppendMessage(dst []byte) []byte {
	b, err := json.Marshal(r)
	if err != nil {
		panic(err) // no value that JSON does not have
	}
	return AppendMessage(dst, V2, MetricsReport, b)
}

// Health states.
const (
	Healthy  = 1
	Degraded = 2
	Draining = 3
)

// Status is a health status. The proxy reads only State.
type Status struct {
	AgentID     string   `json:"agent_id"`
	State       int      `json:"state"`
	TimestampMS int64    `json:"timestamp_ms"`
	Reasons     []string `json:"reasons,omitempty"`
	Limits      string   `json:"limits,omitempty"` // a page about what cannot be enforced
}

// AppendMessage appends s as a whole message.
func (s *Status) AppendMessage(dst []byte) []byte {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // only strings and numbers
	}
	return AppendMessage(dst, V2, HealthStatus, b)
}
