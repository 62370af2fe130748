package agent

import (
	"bytes"
	"context"
	"time"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/auth"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/session"
)

// pending is a frame whose answer waits for a password to be checked. Only its
// WebSocket waits with it.
type pending struct {
	// Fixed.
	conn    *conn
	ws      *webSocket
	id      []byte
	arrived session.Time
	request auth.Request
	ticket  uint32
	input   []byte // of the Feed that asked, and how much of it was consumed
	n       int
	fold    fold
	note    note

	done     chan struct{} // closed when the answer is queued, or there will be none
	outcome  *decision     // valid when done is closed; nil: no answer
	finished bool          // guarded by ws.mu
}

// lateCheck is how long a check may go on after a client was let in without it.
const lateCheck = 30 * time.Second

// suspend has a CONNECT checked in the background. The caller holds mu.
func (ws *webSocket) suspend(c *conn, e *event, r auth.Request, ticket uint32, input []byte, n int, f fold, note note) {
	// The session wipes the password when it is answered; the check may go on.
	info := *r.Connect
	info.Password = bytes.Clone(info.Password)
	r.Connect = &info
	p := &pending{
		conn: c, ws: ws, id: bytes.Clone(e.frame.CorrelationID), arrived: e.arrived, request: r, ticket: ticket,
		input: bytes.Clone(input), n: n, fold: f, note: note, done: make(chan struct{}),
	}
	ws.pending = p
	c.suspended(p)
	c.agent.checks.Go(func() { ws.guarded(c.agent, p.check) })
}

// check waits for the gate until the deadline at most, then answers. It ends
// with the deadline, or, where the client was let in without an answer, with
// the check or the agent.
func (p *pending) check() {
	a, ws := p.conn.agent, p.ws
	defer clear(p.request.Connect.Password)
	left := time.Duration(p.arrived + ws.set.waits() - a.now())
	ctx, cancel := context.WithTimeout(a.base, left)
	g := a.gate.Admit(ctx, p.request)
	late := g.Admission.Reason == policy.ReasonAuthBusy && ctx.Err() != nil
	cancel()
	admitted := false
	switch {
	case !late:
	case ws.set.failOpen != nil:
		id := p.claimed()
		if reason, rule := ws.set.failOpen.Unfit(&id); rule != policy.RuleNone {
			g.Admission = session.Admission{Reason: reason, Rule: rule, By: ws.set.failOpen}
			break
		}
		g.Admission = session.Admission{Subject: ws.set.failOpen.Bind(id), Rule: policy.RuleFailOpen}
		admitted = true
	default:
		// In detect-only the gate lets the claimed name in.
		g.Admission.Reason = policy.ReasonDecisionTimeout
		admitted = g.Admission.Subject != nil
	}
	if p.answer(g) && admitted {
		p.catchUp()
	}
}

// claimed is the identity that the client claims: deny rules only.
func (p *pending) claimed() policy.Identity {
	i := p.request.Connect
	return policy.Identity{
		Username: i.Username, ClientID: i.ClientID, Standing: policy.Unverified, Addr: p.ws.addr,
		Version: i.Version, Door: policy.DoorAgent,
	}
}

// answer goes on with the frame. False: it was answered before, or is not to
// be answered any more.
func (p *pending) answer(g auth.Grant) bool {
	ws, c := p.ws, p.conn
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if p.finished {
		c.agent.gate.Release(g.Lease)
		return false
	}
	c.agent.gate.Renew(&g)
	fx := &session.Effects{WantVerdicts: true}
	p.finish(ws.admitted(c, fx, c.agent.now(), p.ticket, g, p.input, p.n, p.fold, p.note))
	return true
}

// abandon answers with d, whatever the check will say. The caller holds ws.mu.
func (p *pending) abandon(d decision) {
	if !p.finished {
		p.finish(d)
	}
}

// cancel has the frame not answered at all: the proxy gave it up. The
// WebSocket ends, for nobody knows whether the frame went on.
func (p *pending) cancel() {
	ws := p.ws
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if p.finished {
		return
	}
	p.finished, ws.pending = true, nil
	p.conn.resumed(p, nil)
	ws.endSession(p.conn.agent, &session.Effects{WantVerdicts: true}, session.End{Cause: session.CauseClientLost})
	ws.free(p.conn.agent)
}

// finish queues the answer. The caller holds ws.mu.
func (p *pending) finish(d decision) {
	p.finished, p.ws.pending = true, nil
	p.conn.resumed(p, &d)
}

// catchUp waits for the check of a client that was let in at the deadline. When
// it fails the WebSocket is closed at its next frame; when it succeeds the
// client is verified from then on.
func (p *pending) catchUp() {
	ctx, cancel := context.WithTimeout(p.conn.agent.base, lateCheck)
	g := p.conn.agent.gate.Admit(ctx, p.request)
	cancel()
	p.caught(g)
}

// caught puts the outcome of catchUp in force.
func (p *pending) caught(g auth.Grant) {
	a, ws := p.conn.agent, p.ws
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.gone || ws.doom != nil || g.Admission.Reason == policy.ReasonAuthBusy {
		a.gate.Release(g.Lease)
		return
	}
	a.gate.Renew(&g)
	fx := &session.Effects{WantVerdicts: true}
	if g.Admission.Subject == nil {
		ws.revoke(a, fx, g.Admission.Reason, g.Admission.Rule)
		return
	}
	if g.Admission.Detected {
		return // detect-only: it stays unverified
	}
	ws.lease = g.Lease
	ws.replace(a, fx, g.Admission.Subject)
}
