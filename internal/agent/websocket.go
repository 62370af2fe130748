package agent

import (
	"net/netip"
	"runtime/debug"
	"sync"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/agent/wire"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/audit"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/auth"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/session"
)

// webSocket is one WebSocket between the proxy and a client, with the MQTT
// dialogue in it. Frames of it come one at a time, over any connection.
type webSocket struct {
	// Fixed after begin.
	key     string
	id      string // correlation id
	addr    netip.Addr
	network netip.Addr
	route   string
	set     *settings
	who     audit.Conn
	shown   bool // its upgrade was: no other WebSocket has its id

	// Guarded by mu.
	mu      sync.Mutex
	sess    *session.Session
	next    [2]uint64        // frame index that must come, by sender
	counted session.Counters // of sess, what a tally has
	streams [2]stream
	pending *pending    // a CONNECT that waits for its password to be checked
	doom    *doom       // it is closed at its next frame
	lease   *auth.Lease // of the client id
	seen    session.Time
	wake    session.Time
	waiting bool // its CONNECT is not decided
	opaque  bool // detect-only, and something was wrong: everything passes
	gone    bool // out of the table

	// Guarded by table.mu.
	user   identity
	name   client // the zero one: not in table.named
	admits bool   // counted for user
}

// doom says why a WebSocket is closed at its next frame.
type doom struct {
	reason   policy.Reason
	rule     policy.RuleRef
	name     string // of the rule, or of the check that stands for it
	hijacked bool   // two WebSockets have this key: both are closed
	enforced bool   // block-mode was switched on: closed although the WebSocket began without
}

// The bounds of silence: beyond 1.5 times its keep-alive the session itself
// ends a WebSocket; these free one that has no keep-alive, a very long one, or
// none yet.
const (
	maxSilence   = 3600 * session.Second
	silenceExtra = 10 * session.Second
)

// heldBytes is how much memory a stream keeps between packets in pieces.
const heldBytes = 512

// maxFrame is the largest frame that a proxy inspects.
const maxFrame = 1 << 20

// maxControl is the largest payload of a ping, pong or close frame [RFC 6455
// section 5.5].
const maxControl = 125

// event is one frame event on its way to an answer. It belongs to the goroutine
// that reads the connection.
type event struct {
	frame   *wire.Frame
	data    []byte
	side    mqtt.Side
	arrived session.Time
}

// live decides a frame of a WebSocket in the table. again says that it went
// out of the table meanwhile.
func (ws *webSocket) live(c *conn, e *event) (d decision, again bool) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.gone {
		return d, true
	}
	return ws.frame(c, e), false
}

// frame decides a frame. The caller holds mu.
func (ws *webSocket) frame(c *conn, e *event) decision {
	a, f := c.agent, e.frame
	if f.Unnumbered {
		f.Index = ws.next[e.side]
	}
	restart := !f.Unnumbered && f.ClientToServer && f.Index == 0 && ws.next[mqtt.Client] != 0
	switch {
	case ws.opaque:
		ws.seen = e.arrived
		if f.Opcode == wire.OpClose {
			ws.lost(c, e.side, false) // whose frames it counted nobody knows
		}
		return allow
	case restart && (ws.doom == nil || ws.doom.hijacked):
		// Two WebSockets have one key, and what is decided for one could be
		// meant for the other: both end. The other one's next frame is refused,
		// too.
		if !ws.set.block {
			ws.opaque = true
			return ws.refuse(a, policy.ReasonProtocol, closePolicy, "correlation-id")
		}
		if p := ws.pending; p != nil {
			p.abandon(broken("correlation-id"))
		}
		if ws.doom == nil {
			ws.endSession(a, &c.fx, session.End{Cause: session.CauseProtocol, Reason: policy.ReasonProtocol, Rule: policy.RuleNone})
			ws.doomed(a, doom{reason: policy.ReasonProtocol, rule: policy.RuleNone, name: "correlation-id", hijacked: true})
		}
		return ws.refuse(a, policy.ReasonProtocol, closePolicy, "correlation-id")
	case ws.doom != nil:
		d, set := ws.doom, ws.set
		defer ws.free(a)
		if d.enforced {
			set = a.settings.Load()
		}
		return decision{
			ws: wire.WSClose, code: codeFor(d.reason, d.rule), reason: d.reason, rule: policy.RuleNone,
			note: a.block(set, ws.id, ws.addr, d.reason, d.name), // the client is not told whose rule it was
		}
	case ws.pending != nil:
		// The proxy sends the next frame when this one is answered: the ids of
		// two events in work are mixed up there.
		ws.pending.abandon(broken("event-in-work"))
		return ws.fail(c, policy.ReasonProtocol, closePolicy, "event-in-work")
	case f.Index != ws.next[e.side]:
		return ws.fail(c, policy.ReasonUninspectable, closePolicy, "frame-index")
	}
	ws.next[e.side]++
	ws.seen = e.arrived
	if f.Opcode.Control() {
		switch {
		case !f.Fin || len(e.data) > maxControl:
			return ws.fail(c, policy.ReasonProtocol, closeProtocol, "control-frame")
		case f.Opcode == wire.OpClose:
			// The client's frames are those of one WebSocket, since the first
			// comes once. A broker can close one that has sent nothing yet.
			ws.lost(c, e.side, e.side == mqtt.Client || ws.shown)
		}
		return allow
	}
	s := &ws.streams[e.side]
	switch {
	case f.Opcode == wire.OpText: // [MQTT-6.0.0-1]
		return ws.fail(c, policy.ReasonProtocol, closeText, "text-frame")
	case f.Opcode != wire.OpBinary && f.Opcode != wire.OpContinuation:
		return ws.fail(c, policy.ReasonProtocol, closeProtocol, "reserved-opcode")
	case (f.Opcode == wire.OpContinuation) != s.fragment: // [RFC 6455 section 5.4]
		return ws.fail(c, policy.ReasonProtocol, closeProtocol, "continuation")
	case len(e.data) > maxFrame:
		return ws.fail(c, policy.ReasonPacketTooLarge, closeTooLarge, "frame-size")
	}
	whole := f.Fin && !s.fragment
	s.fragment = !f.Fin
	if len(e.data) == 0 {
		return allow
	}
	return ws.feed(c, e, whole)
}

// feed gives the bytes of a frame to the session. The caller holds mu.
func (ws *webSocket) feed(c *conn, e *event, whole bool) decision {
	a, s := c.agent, &ws.streams[e.side]
	input := e.data
	f := fold{end: len(input), whole: whole, closeOnDeny: ws.set.closeOnDeny}
	if n := len(s.held); n > 0 {
		s.held = append(s.held, e.data...)
		input, f.start, f.end = s.held, n, len(s.held)
	}
	f.continues(s)
	fx := &c.fx
	fx.Reset()
	n := ws.sess.Feed(e.arrived, e.side, input, fx)
	f.add(fx.Verdicts, 0)
	note := ws.report(a, fx, f.split)
	if fx.Need == session.NeedVerify {
		r := ws.request()
		grant, known := a.gate.Try(r)
		if !known {
			ws.suspend(c, e, r, fx.Ticket, input, n, f, note)
			return decision{suspended: true}
		}
		return ws.admitted(c, fx, e.arrived, fx.Ticket, grant, input, n, f, note)
	}
	return ws.settle(c, fx, e.side, input, n, f, note)
}

// request asks the gate about the CONNECT.
func (ws *webSocket) request() auth.Request {
	return auth.Request{Connect: ws.sess.Connect(), Door: policy.DoorAgent, Addr: ws.addr}
}

// admitted goes on with a CONNECT whose identity is decided, and with what
// follows it in the frame. The caller holds mu.
func (ws *webSocket) admitted(c *conn, fx *session.Effects, now session.Time, ticket uint32, g auth.Grant, input []byte, n int, f fold, note note) decision {
	a := c.agent
	if s := g.Admission.Subject; s != nil && !a.table.admit(ws, identityOf(s.Identity())) && ws.set.block {
		a.gate.Release(g.Lease)
		g = auth.Grant{Admission: session.Admission{Reason: policy.ReasonTooManyConnections, Rule: policy.RuleMaxConnections}}
	}
	ws.lease = g.Lease
	fx.Reset()
	ws.sess.Admit(now, ticket, g.Admission, fx)
	f.add(fx.Verdicts, 0)
	note = note.or(ws.report(a, fx, f.split))
	if ws.sess.Subject() != nil && !fx.Ended {
		a.stats.authenticated.Add(1)
	}
	if !fx.Ended && n < len(input) {
		fx.Reset()
		m := ws.sess.Feed(now, mqtt.Client, input[n:], fx)
		f.add(fx.Verdicts, n)
		n += m
		note = note.or(ws.report(a, fx, f.split))
	}
	return ws.settle(c, fx, mqtt.Client, input, n, f, note)
}

// settle folds the verdicts into the answer and keeps what the session did not
// take. The caller holds mu.
func (ws *webSocket) settle(c *conn, fx *session.Effects, side mqtt.Side, input []byte, n int, f fold, note note) decision {
	a, s := c.agent, &ws.streams[side]
	now := ws.sess.Counters()
	c.processed(&ws.counted, now)
	ws.counted = *now
	if ws.waiting && ws.sess.Subject() != nil {
		ws.waiting = false
		a.table.connected(ws)
	}
	ended, end := fx.Ended, fx.End
	ws.wake = fx.Wake
	what := f.decide(s, n)
	d := decision{ws: what, reason: f.reason, rule: f.rule, note: note}
	stuck := !ended && n < len(input) && !fx.Partial[side]
	switch {
	case ended && !orderly(end.Cause), ended && n < len(input):
		// Also for bytes behind a DISCONNECT: nobody has read them.
		d.ws = wire.WSClose
		if d.reason = end.Reason; d.reason == policy.ReasonNone {
			d.reason = policy.ReasonProtocol
		}
		d.rule = end.Rule
	case stuck:
		// It would have to wait, which the proxy does not.
		d.ws, d.reason, d.rule = wire.WSClose, policy.ReasonDecisionTimeout, policy.RuleNone
		d.note = ws.block(a, d.reason, "frame-order")
	}
	if d.ws != wire.WSClose && n < len(input) {
		if !ws.keep(a, s, input[n:]) {
			d.ws, d.reason, d.rule = wire.WSClose, policy.ReasonServerUnavailable, policy.RuleNone
			d.note = ws.block(a, d.reason, "buffer-bytes")
		}
	} else if len(s.held) > 0 {
		a.unhold(s, heldBytes)
	}
	if d.ws == wire.WSClose && !ws.set.block {
		ws.opaque = true
		d.ws = wire.WSAllow
	}
	switch {
	case d.ws == wire.WSClose:
		d.code = codeFor(d.reason, d.rule)
		if d.note.rank < rankBlocked {
			d.note.tags = nil // those of the refusal
		}
		ws.endSession(a, fx, session.End{Cause: session.CausePolicy, Reason: d.reason, Rule: d.rule})
		ws.free(a)
	case ended: // if not in order, in detect-only
		ws.leave(a, orderly(end.Cause) && !ws.opaque)
		a.table.ended(ws.key, a.now())
	case d.ws == wire.WSDrop && f.answerable:
		a.stats.unanswered.Add(1)
	}
	return d
}

// orderly reports whether the frame with which a session ended is to be
// forwarded: it says so itself.
func orderly(c session.Cause) bool {
	switch c {
	case session.CauseClientDisconnect, session.CauseBrokerDisconnect, session.CauseBrokerRefused:
		return true
	}
	return false
}

// keep holds on to the bytes that the session did not take: they are at the
// broker once the frame is allowed. False: buffer-bytes is reached.
func (ws *webSocket) keep(a *Agent, s *stream, rest []byte) bool {
	// rest may be the end of s.held.
	s.held = append(s.held[:0], rest...)
	total := a.account(s)
	limit := int64(ws.set.cfg.General.Limits.BufferBytes)
	return limit == 0 || total <= limit
}

// account counts the memory of a stream.
func (a *Agent) account(s *stream) int64 {
	delta := int64(cap(s.held) - s.counted)
	s.counted = cap(s.held)
	return a.table.held.Add(delta)
}

// unhold lets the memory of a stream go; a little may stay for the next packet
// that comes in pieces.
func (a *Agent) unhold(s *stream, stay int) {
	if s.held == nil {
		return
	}
	if s.held = s.held[:0]; cap(s.held) > stay {
		s.held = nil
	}
	a.account(s)
}

// fail refuses a frame and ends the WebSocket for a fault that the session
// does not see. The caller holds mu.
func (ws *webSocket) fail(c *conn, r policy.Reason, code uint16, check string) decision {
	d := ws.refuse(c.agent, r, code, check)
	if !ws.set.block {
		ws.opaque = true
		return d
	}
	ws.endSession(c.agent, &c.fx, session.End{Cause: session.CauseProtocol, Reason: r, Rule: policy.RuleNone})
	ws.free(c.agent)
	return d
}

// refuse is the answer to a frame that is refused for a fault that the session
// does not see. In detect-only it is allowed.
func (ws *webSocket) refuse(a *Agent, r policy.Reason, code uint16, check string) decision {
	d := decision{ws: wire.WSClose, code: code, reason: r, rule: policy.RuleNone, check: check, note: ws.block(a, r, check)}
	if !ws.set.block {
		d.ws = wire.WSAllow
	}
	return d
}

// lost ends the WebSocket after its close frame; sure says that it was its own.
// The caller holds mu.
func (ws *webSocket) lost(c *conn, side mqtt.Side, sure bool) {
	fx := &c.fx
	fx.Reset()
	ws.sess.Lost(c.agent.now(), side, fx)
	ws.report(c.agent, fx, false)
	ws.leave(c.agent, sure)
	c.agent.table.ended(ws.key, c.agent.now())
}

// endSession ends the dialogue if it has not ended. The caller holds mu.
func (ws *webSocket) endSession(a *Agent, fx *session.Effects, end session.End) {
	fx.Reset()
	ws.sess.End(a.now(), end, fx)
	ws.report(a, fx, false)
}

// free takes the WebSocket out of the table. It may go on: its id stays taken.
// The caller holds mu.
func (ws *webSocket) free(a *Agent) { ws.leave(a, false) }

// leave takes the WebSocket out of the table. When it is finished its ends have
// closed it, and the broker takes nothing from it any more: its id is free. The
// caller holds mu.
func (ws *webSocket) leave(a *Agent, finished bool) {
	if ws.gone {
		return
	}
	ws.gone = true
	a.table.remove(ws, ws.waiting, finished, a.now())
	for i := range ws.streams {
		a.unhold(&ws.streams[i], 0)
	}
	a.gate.Release(ws.lease)
	ws.lease = nil
}

// revoke ends the session now and the WebSocket at its next frame. The caller
// holds mu.
func (ws *webSocket) revoke(a *Agent, fx *session.Effects, r policy.Reason, rule policy.RuleRef) {
	fx.Reset()
	ws.sess.End(a.now(), session.End{Cause: session.CausePolicy, Reason: r, Rule: rule}, fx)
	ws.report(a, fx, false)
	ws.doomed(a, doom{reason: r, rule: rule, name: ws.ruleName(rule)})
}

// ruleName is the name of a rule of the policy in force for the session.
func (ws *webSocket) ruleName(r policy.RuleRef) string {
	if s := ws.sess.Subject(); s != nil {
		return s.Engine().RuleName(r)
	}
	return r.Builtin()
}

// doomed has the WebSocket closed at its next frame. The caller holds mu.
func (ws *webSocket) doomed(a *Agent, d doom) {
	if !ws.set.block {
		ws.opaque = true
		return
	}
	ws.doom = &d
	a.gate.Release(ws.lease)
	ws.lease = nil
	for i := range ws.streams {
		a.unhold(&ws.streams[i], 0)
	}
}

// due does what time has brought: the session's own, and the end of a silent
// WebSocket. There is no event for the end of one.
func (ws *webSocket) due(a *Agent, now session.Time, fx *session.Effects) {
	if !ws.mu.TryLock() {
		return // in use, so alive
	}
	defer ws.mu.Unlock()
	if ws.gone || ws.pending != nil {
		return
	}
	fx.Reset()
	if ws.wake != 0 && now >= ws.wake && ws.doom == nil && !ws.opaque {
		ws.sess.Tick(now, fx)
		ws.wake = fx.Wake
		ws.report(a, fx, false)
		if fx.Ended {
			ws.free(a)
			return
		}
	}
	silence := maxSilence
	if k := ws.sess.KeepAlive(); k != 0 {
		silence = min(silence, session.Time(k)*session.Second*3/2+silenceExtra)
	}
	if now-ws.seen <= silence {
		return
	}
	fx.Reset()
	if ws.doom == nil {
		ws.sess.Lost(now, mqtt.Client, fx)
		ws.report(a, fx, false)
	}
	ws.free(a)
}

// stop ends the WebSocket with the agent.
func (ws *webSocket) stop(a *Agent, fx *session.Effects) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.gone {
		return
	}
	if ws.doom == nil {
		fx.Reset()
		ws.sess.End(a.now(), session.End{Cause: session.CauseDrain}, fx)
		ws.report(a, fx, false)
	}
	ws.free(a)
}

// guarded runs f and has a fault of ours end this WebSocket and no other. f
// takes mu itself.
func (ws *webSocket) guarded(a *Agent, f func()) {
	defer func() {
		if r := recover(); r != nil {
			a.log.Error("session failed", "panic", r, "stack", string(debug.Stack()))
			ws.mu.Lock()
			defer ws.mu.Unlock()
			if ws.pending != nil {
				ws.pending.abandon(decision{ws: wire.WSClose, code: closePolicy, reason: policy.ReasonServerUnavailable})
			}
			ws.free(a)
		}
	}()
	f()
}
