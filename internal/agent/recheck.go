package agent

import (
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/agent/wire"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/session"
)

// recheck has the identity re-evaluated against the newest users and policy,
// under the newest settings of a session.
func (ws *webSocket) recheck(a *Agent, fx *session.Effects) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.gone || ws.doom != nil {
		return
	}
	set := a.settings.Load()
	if !ws.set.block && set.block || !ws.sess.Renew(set.session) {
		ws.enforce(a, fx)
		return
	}
	subject := ws.sess.Subject()
	if subject == nil {
		return
	}
	now, ok := a.gate.Recheck(subject)
	if !ok {
		ws.revoke(a, fx, policy.ReasonNotAllowed, policy.RuleRevoked)
		return
	}
	if now != subject {
		ws.replace(a, fx, now)
	}
}

// enforce ends a WebSocket that began when nothing was blocked: what passed
// unread cannot be decided afterwards. The caller holds mu.
func (ws *webSocket) enforce(a *Agent, fx *session.Effects) {
	if p := ws.pending; p != nil {
		p.abandon(decision{ws: wire.WSClose, code: closePolicy, reason: policy.ReasonNotAllowed, rule: policy.RuleRevoked})
	}
	ws.revoke(a, fx, policy.ReasonNotAllowed, policy.RuleRevoked)
	ws.opaque, ws.doom = false, &doom{reason: policy.ReasonNotAllowed, rule: policy.RuleRevoked, enforced: true}
}

// replace puts a new subject in force. The caller holds mu.
func (ws *webSocket) replace(a *Agent, fx *session.Effects, s *policy.Subject) {
	fx.Reset()
	ws.sess.Policy(a.now(), s, fx)
	ws.report(a, fx, false)
	if fx.Ended {
		ws.doomed(a, doom{reason: fx.End.Reason, rule: fx.End.Rule, name: ws.ruleName(fx.End.Rule)})
	}
}
