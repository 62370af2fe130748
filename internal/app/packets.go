package app

import (
	"log/slog"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/audit"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
)

// logPackets follows general.log-packets: every packet that is decided about
// becomes a log line, with its type, size and topic. It is told by the audit,
// from the audit's own goroutine: traffic does not wait for the log. The caller
// holds mu, or is New.
func (a *App) logPackets(cfg *config.Config) {
	switch on := cfg.General.LogPackets; {
	case on && a.unlog == nil:
		a.unlog = a.audit.Subscribe(func(e *audit.Event) { a.log.Info("packet", packetAttrs(e)...) })
	case !on && a.unlog != nil:
		a.unlog()
		a.unlog = nil
	}
}

// packetAttrs are the facts of a packet: never payload, never a password.
func packetAttrs(e *audit.Event) []any {
	attrs := []any{"event", e.Event, "decision", e.Decision, "door", e.Door, "connection", e.Connection}
	text := func(key, value string) {
		if value != "" {
			attrs = append(attrs, key, value)
		}
	}
	text("packet", e.Packet)
	text("from", e.Direction)
	text("client_id", e.ClientID)
	text("topic", e.Topic)
	if len(e.Filters) > 0 {
		attrs = append(attrs, slog.Any("filters", e.Filters))
	}
	if e.MoreFilters > 0 {
		attrs = append(attrs, "more_filters", e.MoreFilters)
	}
	if e.PayloadBytes != nil {
		attrs = append(attrs, "payload_bytes", *e.PayloadBytes)
	}
	text("rule", e.Rule)
	return attrs
}
