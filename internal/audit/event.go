// Package audit writes one JSON object a decision, never blocking traffic.
//
// Start with [Open]; [Conn.Event] turns what a session reports into an [Event].
package audit

import (
	"net/netip"
	"time"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/session"
)

// Event is one audit event, with the keys of the documentation. Text of
// clients is data: escaped in JSON, quoted in text.
type Event struct {
	Time          time.Time `json:"time"`
	Event         string    `json:"event"`
	Tags          []string  `json:"tags"`
	Decision      string    `json:"decision"`
	Reason        string    `json:"reason,omitempty"`
	Rule          string    `json:"rule,omitempty"`
	Door          string    `json:"door"`
	Listener      string    `json:"listener,omitempty"`
	Connection    string    `json:"connection,omitempty"`
	CorrelationID string    `json:"correlation_id,omitempty"`
	ClientID      string    `json:"client_id,omitempty"`
	Username      string    `json:"username,omitempty"`
	Verified      *bool     `json:"verified,omitempty"`
	Provider      string    `json:"provider,omitempty"`
	Groups        []string  `json:"groups,omitempty"`
	ClientIP      string    `json:"client_ip,omitempty"`
	Protocol      string    `json:"protocol,omitempty"`
	Packet        string    `json:"packet,omitempty"`
	Direction     string    `json:"direction,omitempty"`
	Topic         string    `json:"topic,omitempty"`
	Filters       []string  `json:"filters,omitempty"`
	QoS           *int      `json:"qos,omitempty"`
	Retain        *bool     `json:"retain,omitempty"`
	PayloadBytes  *int      `json:"payload_bytes,omitempty"`
	DurationUS    int64     `json:"duration_us,omitempty"`
	// mqtt,disconnect
	EndedBy       string  `json:"ended_by,omitempty"`
	Code          string  `json:"code,omitempty"`      // 0x8D
	BytesIn       uint64  `json:"bytes_in,omitempty"`  // from the client
	BytesOut      uint64  `json:"bytes_out,omitempty"` // from the broker
	MessagesIn    uint64  `json:"messages_in,omitempty"`
	MessagesOut   uint64  `json:"messages_out,omitempty"`
	Denials       uint64  `json:"denials,omitempty"`
	ConnectedSecs float64 `json:"connected_secs,omitempty"`
}

// Conn is what every event of a connection has in common.
type Conn struct {
	Door          policy.Door
	Listener      string
	ID            string
	CorrelationID string
	Addr          netip.Addr
	Since         time.Time
}

// Event turns a session's event into an audit event. It copies everything.
func (c *Conn) Event(s *session.Session, e *session.Event, now time.Time) Event { panic("todo") }

// Log takes events and writes them elsewhere. Emit never blocks: when the queue
// is full the event is counted as dropped.
type Log struct{}

// Open opens the configured output and starts the writer.
func Open(cfg config.Audit) (*Log, error) { panic("todo") }

// Emit queues e.
func (l *Log) Emit(e Event) { panic("todo") }

// Wants reports whether a session need report allowed packets.
func (l *Log) Wants() bool { panic("todo") }

// Subscribe calls f with every event from the writer's goroutine, until cancel.
func (l *Log) Subscribe(f func(*Event)) (cancel func()) { panic("todo") }

// Dropped is how many events were lost because the queue was full.
func (l *Log) Dropped() uint64 { panic("todo") }

// Reopen closes and opens the output file again (SIGHUP).
func (l *Log) Reopen() error { panic("todo") }

// Close writes what is queued and closes the output.
func (l *Log) Close() error { panic("todo") }
