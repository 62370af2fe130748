package model

import (
	"bytes"
	"fmt"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/session"
)

// pipe is what one end wrote and the other has not read.
type pipe struct {
	b   []byte
	eof bool // nothing follows b
}

// link is a session with its driver and its four pipes.
type link struct {
	w         *world
	no        int
	s         *session.Session
	fx        session.Effects
	c         *client
	bc        *bconn // nil: not dialled
	rule      *rules // what its subject was bound to
	announced *rules // in force when CONNACK passed

	in, out [2]pipe // by who sends to the gateway; by who receives from it
	pending [2][]byte
	pause   [2]bool
	again   [2]bool // feed what is pending as soon as the pause is over
	held    bool    // the driver does not read from the client
	wasHeld bool
	lost    [2]bool // Lost was called

	need          session.Need
	ticket        uint32
	wake          session.Time
	owes          bool // acknowledgements, until the broker's end has taken all
	ended         bool
	end           session.End
	excusesPolicy bool // a policy that came after it began may end it
	crashed       bool // the gateway was restarted
	excuse        string

	see [2]*observer // by who receives
}

// observer reads what the gateway sends to one side, as it is sent.
type observer struct {
	stream
	rule    *rules // in force when the packet at hand began
	aliases map[uint16]string
	last    mqtt.Type
}

func newLink(w *world, c *client) *link {
	w.links++
	l := &link{w: w, no: w.links, c: c}
	l.see[mqtt.Client] = &observer{stream: stream{from: mqtt.Broker, v: c.v}, aliases: map[uint16]string{}}
	l.see[mqtt.Broker] = &observer{stream: stream{from: mqtt.Client}, aliases: map[uint16]string{}}
	l.s = session.New(w.set, w.now)
	return l
}

// excuses notes why the connection may end from now on.
func (l *link) excuses(format string, args ...any) {
	if l.excuse == "" {
		l.excuse = fmt.Sprintf(format, args...)
	}
	l.w.tracef("   (link %d: %s)", l.no, fmt.Sprintf(format, args...))
}

// call is one call of the session and what it asks for.
func (l *link) call(input []byte, f func(fx *session.Effects)) {
	fx := &l.fx
	fx.Reset()
	fx.Late = true
	f(fx)
	l.wake, l.pause, l.owes = fx.Wake, fx.Pause, fx.Owes
	if fx.Need != session.NeedNone {
		l.need, l.ticket = fx.Need, fx.Ticket
	}
	for to := range fx.Out {
		l.emit(mqtt.Side(to), fx.Bytes(mqtt.Side(to), input, nil))
	}
	if cap(fx.Scratch) > 1<<20 {
		l.w.fail("memory", "the scratch holds %d bytes", cap(fx.Scratch))
	}
	if fx.Ended {
		l.atEnd(fx.End)
	}
	l.resume()
	l.sent()
}

// sent tells the session when the broker's end has taken all.
func (l *link) sent() {
	if l.owes && !l.ended && !l.crashed && !l.bc.gone && len(l.out[mqtt.Broker].b) == 0 {
		l.call(nil, func(fx *session.Effects) { l.s.Sent(l.w.now, fx) })
	}
}

// resume feeds what was kept of a side whose pause is over.
func (l *link) resume() {
	for _, side := range []mqtt.Side{mqtt.Client, mqtt.Broker} {
		if l.again[side] && !l.pause[side] && !l.ended && (side == mqtt.Broker || !l.held) {
			l.feed(side)
		}
	}
}

// feed gives the session what is pending of a side.
func (l *link) feed(side mqtt.Side) {
	input := l.pending[side]
	l.again[side] = false
	l.call(input, func(fx *session.Effects) {
		n := l.s.Feed(l.w.now, side, input, fx)
		l.pending[side] = bytes.Clone(input[n:])
		l.again[side] = len(l.pending[side]) > 0 && fx.Pause[side]
		if !l.again[side] && len(l.pending[side]) > 4096 {
			l.w.fail("memory", "%d bytes are kept of one packet", len(l.pending[side]))
		}
	})
}

// emit has bytes of the gateway go to a side.
func (l *link) emit(to mqtt.Side, b []byte) {
	if len(b) == 0 {
		return
	}
	if to == mqtt.Broker && l.bc == nil {
		l.w.fail("upstream", "bytes for the broker before it was dialled")
	}
	if l.out[to].eof {
		return // the peer is gone
	}
	l.out[to].b = append(l.out[to].b, b...)
	l.observe(to, b)
}

// deliver moves at most n bytes of a pipe; it reports whether anything moved.
func (l *link) deliver(towards bool, side mqtt.Side, n int) bool {
	if towards {
		return l.toSession(side, n)
	}
	p := &l.out[side]
	n = min(n, len(p.b))
	if side == mqtt.Broker && l.bc == nil {
		return false
	}
	if n > 0 {
		b := bytes.Clone(p.b[:n])
		p.b = p.b[n:]
		if side == mqtt.Client {
			l.c.read(l, b)
		} else {
			l.bc.read(b)
			l.sent()
		}
		return true
	}
	if !p.eof || !l.ended && !l.crashed {
		return false
	}
	if side == mqtt.Client && !l.c.gone[l] {
		l.c.closed(l)
		return true
	}
	if side == mqtt.Broker && !l.bc.gone {
		l.bc.lost()
		return true
	}
	return false
}

func (l *link) toSession(side mqtt.Side, n int) bool {
	p := &l.in[side]
	if l.ended || l.crashed || l.pause[side] || side == mqtt.Client && l.held {
		return false
	}
	if n = min(n, len(p.b)); n > 0 {
		l.pending[side] = append(l.pending[side], p.b[:n]...)
		p.b = p.b[n:]
		l.feed(side)
		return true
	}
	if p.eof && !l.lost[side] {
		l.lost[side] = true
		l.w.tracef("  link %d: the %v is lost", l.no, side)
		l.excuses("the %v was lost", side)
		l.call(nil, func(fx *session.Effects) { l.s.Lost(l.w.now, side, fx) })
		return true
	}
	return false
}

// answer answers what the session waits for.
func (l *link) answer(ok bool) bool {
	if l.need == session.NeedNone || l.ended || l.crashed {
		return false
	}
	if l.c.l != nil && l.c.l != l {
		// The client has come back meanwhile. That its older connection reaches
		// the broker after the newer can happen without a gateway as well, and
		// then its messages are mixed up.
		ok = false
	}
	need, ticket := l.need, l.ticket
	l.need = session.NeedNone
	switch need {
	case session.NeedVerify:
		a := session.Admission{Reason: policy.ReasonAuthBusy}
		if ok {
			l.rule = l.w.policies[l.w.current]
			a.Subject = l.bind()
			l.c.decidedBy(l.rule)
		} else {
			l.excuses("not admitted")
		}
		l.w.tracef("  link %d: admitted=%v", l.no, ok)
		l.call(nil, func(fx *session.Effects) { l.s.Admit(l.w.now, ticket, a, fx) })
	case session.NeedDial:
		var up *config.Upstream
		if ok {
			l.bc, up = l.w.broker.accept(l), new(config.Upstream)
		} else {
			l.excuses("the broker is away")
		}
		l.w.tracef("  link %d: dialled=%v", l.no, ok)
		l.call(nil, func(fx *session.Effects) { l.s.Dialled(l.w.now, ticket, up, fx) })
	}
	return true
}

func (l *link) bind() *policy.Subject {
	if s := l.s.Subject(); s != nil {
		return l.rule.engine.Bind(*s.Identity())
	}
	c := l.s.Connect()
	return l.rule.engine.Bind(policy.Identity{
		ClientID: c.ClientID, Username: c.Username, Anonymous: !c.HasUsername, Standing: policy.Claimed, Version: c.Version,
	})
}

// adopt puts the policy in force on the link.
func (l *link) adopt() {
	if l.ended || l.crashed || l.s.Subject() == nil || l.rule == l.w.policies[l.w.current] {
		return
	}
	l.rule = l.w.policies[l.w.current]
	l.c.decidedBy(l.rule)
	if l.bc != nil {
		l.bc.sess.decidedBy(l.rule)
	}
	l.w.tracef("  link %d: policy %s", l.no, l.rule.name)
	l.excusesPolicy = true
	l.s.Renew(l.w.settings(l.rule))
	l.call(nil, func(fx *session.Effects) { l.s.Policy(l.w.now, l.bind(), fx) })
}

// atEnd is the session's end: both sides get what was written, then the close.
func (l *link) atEnd(e session.End) {
	if l.ended {
		l.w.fail("ended twice", "link %d: %v, then %v", l.no, l.end, e)
	}
	l.ended, l.end = true, e
	l.w.tracef("  link %d ends: cause %d, code %#x, reason %v", l.no, e.Cause, byte(e.Code), e.Reason)
	l.out[mqtt.Client].eof, l.out[mqtt.Broker].eof = true, true
	l.need = session.NeedNone
	l.checkEnd()
}

// crash is a restart of the gateway: of what it wrote, a part arrives.
func (l *link) crash() {
	if !l.ended {
		l.crashed = true
		l.excuses("restart")
		for i := range l.out {
			p := &l.out[i]
			if len(p.b) > 0 && l.w.c.rarely(2) {
				p.b = p.b[:len(p.b)*l.w.c.n(8)/8]
			}
			p.eof = true
		}
		l.need = session.NeedNone
	}
}

// over reports that nothing will come of the link any more.
func (l *link) over() bool {
	return (l.ended || l.crashed) && l.c.gone[l] && (l.bc == nil || l.bc.gone)
}
