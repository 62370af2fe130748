package gateway

import (
	"context"
	"errors"
	"net/netip"
	"strconv"
	"time"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/audit"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/auth"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/metrics"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/netloop"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/session"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/upstream"
)

// local is what the drivers of one loop share: the memory of one call.
type local struct {
	fx    session.Effects
	out   []byte // several spans joined
	frame []byte // the header of a WebSocket frame
	pong  []byte // the payload of the last ping
	tally *metrics.Tally
}

// driver joins a client's connection, its session and its connection to a
// broker. It belongs to the client's loop; whoever else has something for it
// posts. There is one for each client: it is kept small.
type driver struct {
	// Fixed after door.open.
	door  *door
	addr  netip.Addr
	id    uint64
	since int64 // on the engine's clock

	// Owned by the loop.
	s       session.Session
	sides   [2]netloop.Conn // by mqtt.Side; nil: not there, or gone
	lease   *auth.Lease     // of the client id; nil: none is held
	broker  *upstream.Broker
	cancel  func()  // of the verification or the dial that is on its way; nil: none is
	pause   [2]bool // the session does not want to be fed
	waits   [2]bool // bytes are kept, or reading stopped, for that
	counted bool    // as connected
	left    bool    // not counted any more
	keeps   bool    // the client is charged with what the session keeps
	over    bool
}

// Data feeds the session.
func (d *driver) Data(c netloop.Conn, b []byte) []byte {
	from := mqtt.Client
	if c == d.sides[mqtt.Broker] {
		from = mqtt.Broker
	}
	l := c.Local().(*local)
	for len(b) > 0 && !d.over {
		if d.pause[from] {
			// Not before: most clients send nothing while they wait, and
			// then nothing need be told to the kernel.
			d.waits[from] = true
			c.Pause()
			return b
		}
		fx := &l.fx
		fx.Reset()
		count := d.s.Counters()
		packets, messages := count.Packets[from], count.Messages[from]
		n := d.s.Feed(d.now(c), from, b, fx)
		l.tally.Add(int(from), count.Packets[from]-packets, count.Messages[from]-messages)
		stuck := fx.Need == session.NeedNone && (n == 0 || fx.Partial[from])
		d.apply(l, b)
		b = b[n:]
		if stuck && !d.pause[from] {
			break
		}
	}
	if d.over {
		return nil
	}
	return b
}

func (d *driver) now(c netloop.Conn) session.Time { return session.Time(c.Now()) }

// apply does what the session asks for. input is what it was fed, if it was.
func (d *driver) apply(l *local, input []byte) {
	fx := &l.fx
	if fx.Ended {
		d.report(fx.Events)
		d.end(l, input)
		return
	}
	// First the broker: what the client is told has been done.
	for _, side := range [...]mqtt.Side{mqtt.Broker, mqtt.Client} {
		if conn := d.sides[side]; conn != nil && len(fx.Out[side]) > 0 {
			conn.Write(l.join(side, input))
		}
	}
	if len(fx.Events) > 0 {
		d.report(fx.Events)
	}
	if client := d.sides[mqtt.Client]; client != nil && (d.keeps || fx.Kept > 0) {
		d.keeps = fx.Kept > 0
		client.Keep(fx.Kept)
	}
	d.wakeAt(fx.Wake)
	for side := range d.sides {
		d.pause[side] = fx.Pause[side]
		if !fx.Pause[side] && d.waits[side] && d.sides[side] != nil {
			d.waits[side] = false
			d.sides[side].Resume()
		}
	}
	switch fx.Need {
	case session.NeedVerify:
		d.verify(l)
	case session.NeedDial:
		d.connect()
	}
	if up := d.sides[mqtt.Broker]; fx.Owes && up != nil && up.Sent() {
		d.Drained(up)
	}
}

// Drained tells the session that the broker's socket has taken what it was sent.
func (d *driver) Drained(c netloop.Conn) {
	if d.over {
		return
	}
	l := d.local()
	l.fx.Reset()
	d.s.Sent(d.now(c), &l.fx)
	d.apply(l, nil)
}

// wakeAt has Timer called then at the latest; 0: not needed.
func (d *driver) wakeAt(at session.Time) {
	client := d.sides[mqtt.Client]
	if at == 0 || client == nil {
		return
	}
	if due := client.Due(); due == 0 || int64(at) < due {
		client.SetTimer(int64(at))
	}
}

// join is what is to be sent to a side, in one piece.
func (l *local) join(to mqtt.Side, input []byte) []byte {
	b := l.fx.Bytes(to, input, l.out)
	if len(l.fx.Out[to]) > 1 && cap(b) <= keptScratch {
		l.out = b[:0]
	}
	return b
}

// keptScratch bounds what a loop keeps between calls.
const keptScratch = 256 << 10

// verify asks who the client is.
func (d *driver) verify(l *local) {
	client := d.sides[mqtt.Client]
	if !d.counted {
		d.counted = true
		if rule := d.door.g.census.connect(d.addr, &d.door.g.config().General); rule != policy.RuleNone {
			d.admit(l, auth.Grant{Admission: session.Admission{Reason: policy.ReasonTooManyConnections, Rule: rule}})
			return
		}
	}
	r := auth.Request{Connect: d.s.Connect(), Door: policy.DoorGateway, Listener: d.door.name, Addr: d.addr}
	if grant, ok := d.door.g.gate.Try(r); ok {
		d.admit(l, grant)
		return
	}
	info := *r.Connect // the session's may change while the goroutine reads it
	r.Connect = &info
	// What is left of the time to connect is not known here; all of it is an
	// upper bound.
	most := time.Duration(d.door.g.config().General.ConnectTimeoutSecs) * time.Second
	ctx, cancel := context.WithTimeout(d.door.g.ctx, most)
	d.cancel = cancel
	ticket := d.s.Ticket()
	d.door.g.running.Go(func() { // ends with ctx at the latest
		defer cancel()
		grant := d.door.g.gate.Admit(ctx, r)
		if !client.Post(func() { d.verified(ticket, grant) }) {
			d.door.g.gate.Release(grant.Lease)
		}
	})
}

// verified brings the answer of a verification that took time.
func (d *driver) verified(ticket uint32, grant auth.Grant) {
	if d.over || ticket != d.s.Ticket() {
		d.door.g.gate.Release(grant.Lease)
		return
	}
	d.cancel = nil
	d.door.g.gate.Renew(&grant)
	d.admit(d.local(), grant)
}

func (d *driver) admit(l *local, grant auth.Grant) {
	d.lease = grant.Lease
	l.fx.Reset()
	d.s.Admit(d.now(d.sides[mqtt.Client]), d.s.Ticket(), grant.Admission, &l.fx)
	d.apply(l, nil)
}

func (d *driver) local() *local { return d.sides[mqtt.Client].Local().(*local) }

// connect asks for a broker: the client was admitted.
func (d *driver) connect() {
	d.sides[mqtt.Client].Vouch()
	id := ""
	if c := d.s.Connect(); c != nil {
		id = c.ClientID
	}
	dial := d.door.g.brokers().Dial(d.sides[mqtt.Client], id, d)
	if d.broker == nil && !d.over {
		d.cancel = dial.Cancel
	}
}

// Dialled brings the broker's connection, or none.
func (d *driver) Dialled(conn netloop.Conn, b *upstream.Broker) {
	d.cancel = nil
	if d.over {
		if conn != nil {
			conn.Close()
			b.Release()
		}
		return
	}
	var up *config.Upstream
	if conn != nil {
		d.sides[mqtt.Broker], d.broker = conn, b
		up = b.Config()
	}
	l := d.local()
	l.fx.Reset()
	d.s.Dialled(d.now(d.sides[mqtt.Client]), d.s.Ticket(), up, &l.fx)
	d.apply(l, nil)
}

// Connected is the business of upstream.Dial.
func (d *driver) Connected(netloop.Conn, error) {}

// Held tells the session that it is we who do not read.
func (d *driver) Held(c netloop.Conn, stopped bool) {
	if c == d.sides[mqtt.Client] {
		d.wakeAt(d.s.Hold(d.now(c), stopped))
	}
}

// Timer does what is due.
func (d *driver) Timer(c netloop.Conn) {
	if d.over {
		return
	}
	l := d.local()
	l.fx.Reset()
	d.s.Tick(d.now(c), &l.fx)
	d.apply(l, nil)
}

// Closed ends the session: a side is gone.
func (d *driver) Closed(c netloop.Conn, err error) {
	side := mqtt.Client
	if c == d.sides[mqtt.Broker] {
		side = mqtt.Broker
	}
	l, now := c.Local().(*local), d.now(c)
	d.sides[side] = nil
	if d.over {
		return
	}
	if errors.Is(err, netloop.ErrPanic) {
		// The session may be what panicked: first let go of everything.
		d.release()
	}
	fx := &l.fx
	fx.Reset()
	var no *refusal
	switch {
	case errors.As(err, &no):
		switch {
		case no.rule == policy.RuleNone:
			d.refused(policy.ReasonUpgrade, policy.RuleUpgrade)
		case d.door.speaks(now): // as for those that come without a proxy
			d.refused(no.why, no.rule)
		}
		d.s.Lost(now, side, fx)
	case errors.Is(err, netloop.ErrStalled):
		d.s.End(now, session.End{Cause: session.CauseStalled, Rule: policy.RuleNone}, fx)
	case errors.Is(err, netloop.ErrBufferBytes):
		d.refused(crowded.Reason, crowded.Rule)
		d.s.End(now, crowded, fx)
	case errors.Is(err, netloop.ErrPanic):
		d.s.End(now, session.End{Cause: session.CauseInternal, Rule: policy.RuleNone}, fx)
	case errors.Is(err, netloop.ErrClosed):
		d.s.End(now, draining, fx)
	default:
		d.s.Lost(now, side, fx)
	}
	if !fx.Ended && d.sides[mqtt.Client] == nil {
		// The session wants to wait for the rest of a packet that cannot come.
		d.s.Lost(now, mqtt.Client, fx)
	}
	d.apply(l, nil)
}

// The ends that we cause.
var (
	revoked  = session.End{Cause: session.CausePolicy, Reason: policy.ReasonNotAllowed, Rule: policy.RuleRevoked}
	crowded  = session.End{Cause: session.CauseStalled, Reason: policy.ReasonLimit, Rule: policy.RuleBufferBytes}
	draining = session.End{Cause: session.CauseDrain, Reason: policy.ReasonDraining, Rule: policy.RuleDrain}
)

// stop ends the session for a cause of ours.
func (d *driver) stop(e session.End) {
	if d.over {
		return
	}
	l := d.local()
	l.fx.Reset()
	d.s.End(d.now(d.sides[mqtt.Client]), e, &l.fx)
	d.apply(l, nil)
}

// recheck re-evaluates the client's identity, under the newest settings.
func (d *driver) recheck() {
	if d.over {
		return
	}
	if !d.s.Renew(d.door.g.state.Load().settings) { // block-mode was switched on
		d.stop(revoked)
		return
	}
	old := d.s.Subject()
	if old == nil {
		return
	}
	subj, ok := d.door.g.gate.Recheck(old)
	switch {
	case !ok:
		d.stop(revoked)
	case subj != old:
		l := d.local()
		l.fx.Reset()
		d.s.Policy(d.now(d.sides[mqtt.Client]), subj, &l.fx)
		d.apply(l, nil)
	}
}

// end says what is still to be said, first to the broker, and closes what is
// open. Only then may others have what the client held.
func (d *driver) end(l *local, input []byte) {
	d.over = true
	if c := d.sides[mqtt.Broker]; c != nil {
		d.sides[mqtt.Broker] = nil
		c.Finish(l.join(mqtt.Broker, input))
	}
	if c := d.sides[mqtt.Client]; c != nil {
		d.sides[mqtt.Client] = nil
		last, e := l.join(mqtt.Client, input), &l.fx.End
		switch w, web := c.(*wsConn); {
		case web:
			w.code = closeCode(*e)
			w.Finish(last)
		case e.Cause == session.CauseClientDisconnect && len(last) == 0 && c.Pending() == 0:
			c.Close() // it has said its last word
		default:
			c.Finish(last)
		}
	}
	d.release()
}

// release gives back what others hold for d. Idempotent.
func (d *driver) release() {
	if d.cancel != nil {
		d.cancel()
		d.cancel = nil
	}
	d.door.g.gate.Release(d.lease)
	d.lease = nil
	if d.broker != nil {
		d.broker.Release()
		d.broker = nil
	}
	if !d.left {
		d.left = true
		d.door.g.census.leave(d.addr, d.counted)
	}
}

// closeCode is how a WebSocket says why.
func closeCode(e session.End) uint16 {
	switch e.Cause {
	case session.CauseClientDisconnect, session.CauseClientLost, session.CauseBrokerDisconnect:
		return wsNormal
	case session.CauseDrain:
		return wsGoingAway
	case session.CauseUpstreamLost, session.CauseBrokerFault:
		return wsTryLater
	case session.CauseInternal:
		return wsInternal
	}
	switch {
	case e.Reason == policy.ReasonPacketTooLarge, e.Rule == policy.RuleConnectBytes && e.Reason == policy.ReasonLimit:
		return wsTooLarge
	case e.Reason == policy.ReasonServerUnavailable, e.Reason == policy.ReasonAuthBusy, e.Reason == policy.ReasonTooManyConnections:
		return wsTryLater
	}
	return wsPolicy
}

// report hands events to the audit.
func (d *driver) report(events []session.Event) {
	d.door.g.counts.add(events)
	if d.door.g.audit == nil {
		return
	}
	for i := range events {
		if e := &events[i]; !d.door.g.audit.Skips(e) {
			c := d.who()
			d.door.g.audit.Emit(c.Event(&d.s, e, time.Now()))
		}
	}
}

// refused audits a connection that is refused before its session has a say.
func (d *driver) refused(reason policy.Reason, rule policy.RuleRef) {
	d.door.g.counts.blocked[reason].Add(1)
	if d.door.g.audit != nil {
		c := d.who()
		d.door.g.audit.Emit(c.Refused(reason, rule, time.Now()))
	}
}

// who is what all events of d have in common.
func (d *driver) who() audit.Conn {
	return audit.Conn{
		Door: policy.DoorGateway, ID: d.door.g.idPrefix + strconv.FormatUint(d.id, 16), Addr: d.addr,
		Listener: d.door.name, Since: d.door.g.started.Add(time.Duration(d.since)),
	}
}
