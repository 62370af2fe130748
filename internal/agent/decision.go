package agent

import (
	"cmp"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/agent/wire"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
)

// decision is what becomes of a frame. The zero value closes.
type decision struct {
	ws     wire.WebSocketDecision
	code   uint16 // of a close
	reason policy.Reason
	rule   policy.RuleRef
	check  string // of this door, that refused; "" is the session's
	note   note

	suspended bool // answered later
}

var allow = decision{ws: wire.WSAllow}

// broken closes for a fault of the proxy's events that check names.
func broken(check string) decision {
	return decision{ws: wire.WSClose, code: closePolicy, reason: policy.ReasonProtocol, rule: policy.RuleNone, check: check}
}

// note is what an answer tells in its audit part.
type note struct {
	tags  []string
	rules []string // more than one of a packet that several refuse
	rank  int      // how much it matters
}

// or keeps what matters more.
func (n note) or(m note) note {
	if m.rank > n.rank {
		return m
	}
	return n
}

// The WebSocket close codes that are used (RFC 6455 section 7.4.1).
const (
	closeNormal   = 1000
	closeProtocol = 1002
	closeText     = 1003
	closePolicy   = 1008
	closeTooLarge = 1009
	closeLater    = 1013
)

// codeFor is the close code of a reason. Text frames and broken framing have
// their own, given where they are found.
func codeFor(r policy.Reason, rule policy.RuleRef) uint16 {
	switch r {
	case policy.ReasonPacketTooLarge:
		return closeTooLarge
	case policy.ReasonLimit:
		if rule == policy.RuleConnectBytes {
			return closeTooLarge
		}
	case policy.ReasonDecisionTimeout, policy.ReasonAuthBusy, policy.ReasonServerUnavailable,
		policy.ReasonDraining, policy.ReasonTooManyConnections:
		return closeLater
	}
	return closePolicy
}

// answer writes d for the proxy. A refusal refuses whatever event the proxy
// takes it for: its waiting table knows only the correlation id.
func (d *decision) answer(g wire.Generation, id []byte) wire.Answer {
	out := wire.Answer{Version: g, CorrelationID: id, Frame: true, WebSocket: d.ws, Tags: d.note.tags, Rules: d.note.rules}
	if len(out.Rules) == 0 && d.ws != wire.WSAllow {
		if rule := cmp.Or(d.check, d.rule.Builtin(), d.reason.Rule().Builtin()); rule != "" {
			out.Rules = []string{rule}
		}
	}
	if d.ws == wire.WSAllow {
		return out
	}
	out.Block = 403
	if out.Tags == nil {
		out.Tags = blockedTags(d.reason)
	}
	if d.ws == wire.WSClose {
		out.Code, out.Reason = d.code, d.reason.Tag()
		if d.check != "" {
			out.Reason += ": " + d.check
		}
	}
	return out
}
