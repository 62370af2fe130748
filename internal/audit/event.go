// Package audit writes one JSON object a decision, never blocking traffic.
//
// Start with [Open]; [Conn.Event] turns what a session reports into an [Event].
package audit

import (
	"fmt"
	"math"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/session"
)

const (
	// maxText is how many bytes of a text of a client stand in an event. What is
	// longer is cut, with an ellipsis behind it. A topic that topic-bytes allows
	// by default is not.
	maxText = 1024
	// maxFilters is how many filters of a request are named.
	maxFilters = 16
)

// Event is one audit event, with the keys of the documentation; what is not
// known is absent. Text of clients is data: escaped in JSON, quoted in text. An
// Event that was emitted is not changed any more.
type Event struct {
	Time          time.Time `json:"time"`
	Event         string    `json:"event"` // the tags, joined by commas
	Tags          []string  `json:"tags"`
	Decision      string    `json:"decision,omitempty"`
	Reason        string    `json:"reason,omitempty"`
	Rule          string    `json:"rule,omitempty"`
	Door          string    `json:"door,omitempty"`
	Listener      string    `json:"listener,omitempty"`
	Connection    string    `json:"connection,omitempty"`
	CorrelationID string    `json:"correlation_id,omitempty"`
	ClientID      string    `json:"client_id,omitempty"`
	Username      string    `json:"username,omitempty"`
	Verified      *bool     `json:"verified,omitempty"` // of the user name
	Provider      string    `json:"provider,omitempty"`
	Groups        []string  `json:"groups,omitempty"`
	ClientIP      string    `json:"client_ip,omitempty"`
	Protocol      string    `json:"protocol,omitempty"`
	Packet        string    `json:"packet,omitempty"`
	Direction     string    `json:"direction,omitempty"` // client|broker: who sent the packet
	Will          bool      `json:"will,omitempty"`      // of a CONNECT: it was decided about its will
	Topic         string    `json:"topic,omitempty"`
	Filters       []string  `json:"filters,omitempty"`
	MoreFilters   int       `json:"more_filters,omitempty"` // so many others are not named
	QoS           *int      `json:"qos,omitempty"`
	Retain        *bool     `json:"retain,omitempty"`
	PayloadBytes  *int      `json:"payload_bytes,omitempty"`
	PacketBytes   int       `json:"packet_bytes,omitempty"` // of a packet that was too large to be read
	Count         uint64    `json:"count,omitempty"`        // so many like an earlier one of the connection were not written
	DurationUS    int64     `json:"duration_us,omitempty"`  // of a CONNECT: until it was known who the client is
	// mqtt,disconnect
	EndedBy       string  `json:"ended_by,omitempty"`  // client|broker|policy|gateway
	Code          string  `json:"code,omitempty"`      // 0x8D
	BytesIn       uint64  `json:"bytes_in,omitempty"`  // from the client
	BytesOut      uint64  `json:"bytes_out,omitempty"` // from the broker
	MessagesIn    uint64  `json:"messages_in,omitempty"`
	MessagesOut   uint64  `json:"messages_out,omitempty"`
	Denials       uint64  `json:"denials,omitempty"`
	ConnectedSecs float64 `json:"connected_secs,omitempty"` // to the millisecond
	// mqtt,audit-dropped: how many events before this one are missing.
	Dropped uint64 `json:"dropped,omitempty"`

	repeat bool // counted: not written unless everything is
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

// Event turns a session's event into an audit event. It copies everything that
// e only lends.
func (c *Conn) Event(s *session.Session, e *session.Event, now time.Time) Event {
	return c.event(s.Connect(), s.Subject(), s.Counters(), e, now)
}

// Refused is the event of a connection that was refused without its session
// having a say: too many connections, a refused upgrade.
func (c *Conn) Refused(reason policy.Reason, rule policy.RuleRef, now time.Time) Event {
	e := session.Event{Kind: session.KindBlocked, Decision: session.DecisionClose, Reason: reason, Rule: rule}
	return c.event(nil, nil, nil, &e, now)
}

func (c *Conn) event(
	info *session.ConnectInfo, subject *policy.Subject, counters *session.Counters, e *session.Event, now time.Time,
) Event {
	out := Event{
		Time: now.UTC(), Tags: tags(e.Kind, e.Reason), Decision: e.Decision.String(), Reason: e.Reason.Tag(),
		Door: c.Door.String(), Listener: c.Listener, Connection: c.ID, CorrelationID: c.CorrelationID,
		Count: e.Count, DurationUS: int64(e.Waited / (session.Second / 1e6)), repeat: e.Repeat,
	}
	out.Event = strings.Join(out.Tags, ",")
	if c.Addr.IsValid() {
		out.ClientIP = c.Addr.Unmap().String()
	}
	rule := e.Rule
	if rule == policy.RuleNone {
		rule = e.Reason.Rule()
	}
	engine := e.By
	if subject != nil {
		engine = subject.Engine()
	}
	if out.Rule = rule.Builtin(); engine != nil {
		out.Rule = engine.RuleName(rule)
	}
	out.who(info, subject)
	if e.Kind == session.KindDisconnected {
		out.end(c, counters, &e.End, now)
		return out
	}
	if e.Packet != 0 {
		out.Packet, out.Direction = e.Packet.String(), direction(e.From)
	}
	out.PacketBytes = e.PacketBytes
	out.Will, out.Topic = e.Will, cut(e.Topic)
	named := min(len(e.Filters), maxFilters)
	for _, f := range e.Filters[:named] {
		out.Filters = append(out.Filters, cut(f))
	}
	out.MoreFilters = len(e.Filters) - named + e.MoreFilters
	switch {
	case e.Count > 0: // of many messages
	case e.Topic != nil: // a PUBLISH that was read, or a will
		qos, retain, size := int(e.QoS), e.Retain, e.PayloadBytes
		out.QoS, out.Retain, out.PayloadBytes = &qos, &retain, &size
	case e.Kind == session.KindQoSDowngraded, e.Kind == session.KindQoSOverLimit:
		qos := int(e.QoS)
		out.QoS = &qos
	}
	return out
}

// cut returns a copy of what a client sent, of at most maxText bytes.
func cut[T []byte | string](s T) string {
	if len(s) <= maxText {
		return string(s)
	}
	n := maxText
	for n > maxText-utf8.UTFMax && !utf8.RuneStart(s[n]) {
		n--
	}
	return string(s[:n]) + "…"
}

// who says whom the connection acts for: before admission what it claims.
func (e *Event) who(info *session.ConnectInfo, subject *policy.Subject) {
	verified, version := false, mqtt.Version(0)
	if subject != nil {
		id := subject.Identity()
		verified, version = id.Standing == policy.Verified, id.Version
		e.ClientID, e.Username, e.Provider, e.Groups = cut(id.ClientID), cut(id.Username), id.Provider, id.Groups
		e.Verified = &verified
	}
	if info != nil && subject == nil {
		version = info.Version
		e.ClientID, e.Username = cut(info.ClientID), cut(info.Username)
		if info.HasUsername {
			e.Verified = &verified
		}
	}
	if version != 0 {
		e.Protocol = version.String()
	}
}

// end describes how a connection ended.
func (e *Event) end(c *Conn, counters *session.Counters, end *session.End, now time.Time) {
	how := endings[end.Cause]
	e.EndedBy, e.Packet, e.Direction = how.by, how.packet, how.direction
	if e.Reason == "" || end.Cause == session.CauseDrain {
		e.Reason = how.reason // only a client that waits is told that the server is unavailable
	}
	// Who leaves on their own was not decided about.
	e.Decision = session.DecisionAllow.String()
	if how.by == "policy" || how.by == "gateway" {
		e.Decision = session.DecisionClose.String()
		if e.Rule == "" {
			e.Rule = how.rule
		}
	}
	if end.Code != 0 {
		e.Code = fmt.Sprintf("0x%02X", byte(end.Code))
	}
	if counters != nil {
		e.BytesIn, e.BytesOut = counters.Bytes[mqtt.Client], counters.Bytes[mqtt.Broker]
		e.MessagesIn, e.MessagesOut = counters.Messages[mqtt.Client], counters.Messages[mqtt.Broker]
		e.Denials = counters.Denials
	}
	if !c.Since.IsZero() {
		e.ConnectedSecs = math.Round(max(0, now.Sub(c.Since).Seconds())*1000) / 1000
	}
}

// ending is what the audit says about a cause: who ended the connection, why,
// and by what, unless a rule says it better.
type ending struct{ by, reason, rule, packet, direction string }

var endings = [...]ending{
	session.CauseNone:             {by: "gateway", reason: "unknown", rule: "unknown"},
	session.CauseClientDisconnect: {by: "client", reason: "client-disconnect", packet: "DISCONNECT", direction: "client"},
	session.CauseClientLost:       {by: "client", reason: "client-lost"},
	session.CauseKeepAlive:        {by: "gateway", reason: "keep-alive", rule: "keep-alive"},
	session.CauseMalformed:        {by: "gateway", reason: "malformed", rule: "protocol"},
	session.CauseProtocol:         {by: "gateway", reason: "protocol-error", rule: "protocol"},
	session.CauseRefused:          {by: "policy", reason: "refused", rule: "refused"},
	session.CausePolicy:           {by: "policy", reason: "revoked", rule: "revoked"},
	session.CauseDrain:            {by: "gateway", reason: "drain", rule: "drain"},
	session.CauseUpstreamLost:     {by: "broker", reason: "broker-lost"},
	session.CauseBrokerFault:      {by: "broker", reason: "broker-fault"},
	session.CauseBrokerRefused:    {by: "broker", reason: "broker-refused"},
	session.CauseBrokerDisconnect: {by: "broker", reason: "broker-disconnect", packet: "DISCONNECT", direction: "broker"},
	session.CauseConnectTimeout:   {by: "gateway", reason: "connect-timeout", rule: "connect-timeout-secs"},
	session.CauseStalled:          {by: "gateway", reason: "stalled", rule: "write-stall-secs"},
	session.CauseInternal:         {by: "gateway", reason: "internal", rule: "internal"},
}

// tags is the ordered list of an event's tags.
func tags(k session.Kind, r policy.Reason) []string {
	switch k {
	case session.KindAllowed:
		return []string{"mqtt", "allowed"}
	case session.KindConnected:
		return []string{"mqtt", "connect", "success"}
	case session.KindBlocked:
		return withReason("blocked", r)
	case session.KindDetected:
		return withReason("detect-only", r)
	case session.KindQoSDowngraded:
		return []string{"mqtt", "qos-downgraded"}
	case session.KindRetainStripped:
		return []string{"mqtt", "retain-stripped"}
	case session.KindQoSOverLimit:
		return []string{"mqtt", "qos-over-limit"}
	case session.KindRetainedOverLimit:
		return []string{"mqtt", "retained-over-limit"}
	case session.KindWillRemoved:
		return []string{"mqtt", "will-removed"}
	case session.KindDeliveryFiltered:
		return []string{"mqtt", "delivery-filtered"}
	case session.KindSubscriptionRemoved:
		return []string{"mqtt", "subscription-removed"}
	case session.KindDisconnected:
		return []string{"mqtt", "disconnect"}
	}
	return []string{"mqtt", "unknown"}
}

func withReason(tag string, r policy.Reason) []string {
	if r == policy.ReasonNone {
		return []string{"mqtt", tag}
	}
	return []string{"mqtt", tag, r.Tag()}
}

func direction(from mqtt.Side) string {
	if from == mqtt.Broker {
		return "broker"
	}
	return "client"
}
