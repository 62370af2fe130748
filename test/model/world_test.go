package model

import (
	"fmt"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/session"
	kit "github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// failure is what a schedule showed.
type failure struct{ kind, text string }

func (f *failure) Error() string { return f.kind + ": " + f.text }

// world is everything of one schedule.
type world struct {
	c        *choices
	now      session.Time
	policies [2]*rules
	current  int
	set      *session.Settings
	clients  []*client
	broker   *broker
	live     []*link
	links    int
	conns    int
	quiet    bool // no more faults
	stormy   bool // connections do not last
	slow     bool // the broker takes its time to answer
	passing  bool // time passes: even a slow one has answered
	faults   byte

	messages       []*message
	deliveries     []*delivery
	refusesFilters bool

	tracing bool
	trace   []string
}

// The kinds of faults that a schedule may have.
const (
	faultAcks = 1 << iota
	faultSuback
	faultBytes
	faultSilence
	faultConnack
	faultIDs
	faultClient
	faultForget
)

func (w *world) fail(kind, format string, args ...any) {
	panic(&failure{kind, fmt.Sprintf(format, args...)})
}

func (w *world) tracef(format string, args ...any) {
	if w.tracing {
		w.trace = append(w.trace, fmt.Sprintf("%8.3f ", float64(w.now)/1e9-1000)+fmt.Sprintf(format, args...))
	}
}

// traceBytes shows what an end writes.
func (w *world) traceBytes(no int, who string, _ *stream, from mqtt.Side, v mqtt.Version, b []byte) {
	if !w.tracing {
		return
	}
	s := stream{v: v, from: from, buf: slices.Clone(b)}
	p, err := s.next()
	switch {
	case err != nil || p == nil:
		w.tracef("%s ⇒ link %d: % x", who, no, b)
	default:
		w.tracef("%s ⇒ link %d: %v", who, no, p)
	}
}

func (w *world) payload(kind byte, n, size int) []byte {
	return []byte(fmt.Sprintf("%c%d.%s", kind, n, strings.Repeat("x", size)))
}

func (w *world) newMessage(topic string, qos byte, retain bool, size int) *message {
	n := len(w.messages)
	m := &message{n: n, topic: topic, qos: qos, retain: retain, payload: w.payload('m', n, size)}
	w.messages = append(w.messages, m)
	return m
}

func (w *world) newDelivery(s *bsession, topic string, qos byte, retain bool, size int) *delivery {
	n := len(w.deliveries)
	d := &delivery{n: n, sess: s, topic: topic, qos: qos, retain: retain, payload: w.payload('d', n, size), ruled: map[*rules]bool{}}
	d.size = len(d.payload) + len(topic) + 20
	w.deliveries = append(w.deliveries, d)
	return d
}

func numberOf(kind byte, payload []byte) int {
	s, _, ok := strings.Cut(string(payload), ".")
	if !ok || len(s) < 2 || s[0] != kind {
		return -1
	}
	n, err := strconv.Atoi(s[1:])
	if err != nil {
		return -1
	}
	return n
}

func (w *world) message(payload []byte) *message {
	if n := numberOf('m', payload); n > 0 && n < len(w.messages) {
		return w.messages[n]
	}
	return nil
}

func (w *world) delivery(payload []byte) *delivery {
	if n := numberOf('d', payload); n >= 0 && n < len(w.deliveries) {
		return w.deliveries[n]
	}
	return nil
}

func (w *world) client(id string) *client {
	for _, c := range w.clients {
		if c.id == id {
			return c
		}
	}
	panic(id)
}

func (w *world) has(fault byte, k int) bool {
	return w.faults&fault != 0 && !w.quiet && w.c.rarely(k)
}

func (w *world) anyFault(f byte) bool { return w.faults&f != 0 }

func (w *world) forgets() bool       { return w.has(faultForget, 6) }
func (w *world) connackFaults() bool { return w.has(faultConnack, 6) }
func (w *world) acksFault() bool     { return w.has(faultAcks, 6) }
func (w *world) subackCounts() bool  { return w.has(faultSuback, 8) }
func (w *world) subackRefuses() bool { return w.has(faultAcks, 4) }

// newWorld chooses who takes part and under which policies.
func newWorld(c *choices, tracing bool) *world {
	w := &world{c: c, now: 1000 * session.Second, tracing: tracing, messages: []*message{nil}}
	w.broker = &broker{w: w, sessions: map[string]*bsession{}, retained: map[string]byte{}}
	l := limits{
		receive: pick(c, 1024, 1, 2, 3, 4), aliases: pick(c, 16, 2, 1), requests: pick(c, 64, 2, 1), subscriptions: pick(c, 10000, 3),
	}
	onDeny := pick(c, "ack", "ack", "ack", "ack", "ack", "ack", "ack", "disconnect")
	revoked, drain := pick(c, "suppress", "suppress", "fire"), pick(c, "fire", "fire", "suppress")
	for i := range w.policies {
		p := chooseRules(c, string(rune('A'+i)), l, onDeny)
		p.revokedWill, p.drainWill = revoked, drain
		w.policies[i] = p.compile()
		w.tracef("policy %s: %s", p.name, p.brief())
	}
	w.broker.takes = announcement{
		receive: pick(c, 0, 0, 1, 2, 3, 20), aliases: pick(c, 0, 5, 2), maxPacket: pick(c, 0, 0, 120),
		keepAlive: pick(c, 0, 0, 0, 5), maxQoS: pick[byte](c, 2, 2, 2, 1), noRetain: c.rarely(6),
	}
	w.stormy, w.slow = c.rarely(3), c.rarely(3)
	if c.rarely(2) {
		w.faults = byte(c.n(256))
		w.refusesFilters = w.faults&faultAcks != 0
	}
	w.set = w.settings(w.policies[0])
	for i := range 1 + c.n(2) {
		k := &client{w: w, id: fmt.Sprintf("c%d", i), gone: map[*link]bool{}, in2: map[uint16]*delivery{}}
		k.v = pick(c, mqtt.V311, mqtt.V5)
		k.clean = c.rarely(6)
		k.wild = c.rarely(6)
		k.keepAlive = pick(c, 60, 0, 2, 10)
		k.firstID, k.ids = 1, pick[uint16](c, 0xFFFF, 8, 6)
		if c.rarely(2) {
			k.firstID = 0xFFFF - min(k.ids, 0xFFFE) + 1
		}
		k.nextID, k.lowest = k.firstID-1, c.rarely(2)
		if k.v == mqtt.V5 {
			k.receive = pick(c, 0, 1, 2, 3)
			k.maxPacket = pick(c, 0, 0, 90)
			k.aliases = pick(c, 0, 3, 1)
		}
		if c.rarely(2) {
			k.will = w.newMessage(pick(c, names...), byte(c.n(3)), c.rarely(2), 3)
		}
		w.clients = append(w.clients, k)
	}
	return w
}

// settings are what a session is given under a policy.
func (w *world) settings(p *rules) *session.Settings {
	set := session.NewSettings(policy.DoorGateway, p.engine.Config())
	set.NewID = func() string { return strings.Repeat("x", 22) }
	return set
}

// anyLink chooses a live link.
func (w *world) anyLink() *link {
	if len(w.live) == 0 {
		return nil
	}
	return w.live[w.c.n(len(w.live))]
}

func (w *world) anyConn() *bconn {
	l := w.anyLink()
	if l == nil || l.bc == nil || l.bc.gone || l.bc.sess == nil || !l.bc.open {
		return nil
	}
	return l.bc
}

// step is one choice of who does what.
func (w *world) step() {
	ch := w.c
	k := w.clients[ch.n(len(w.clients))]
	if k.l == nil && !ch.rarely(4) {
		k.connect()
		return
	}
	if w.stormy && ch.rarely(24) {
		if ch.rarely(2) {
			w.restart()
		} else {
			k.cut(ch.n(256))
		}
		return
	}
	switch n := ch.n(128); {
	case n < 44:
		if l := w.anyLink(); l != nil {
			size := 1 << 20
			if ch.rarely(2) {
				size = 1 + ch.n(40)
			}
			side := mqtt.Side(ch.n(2))
			l.deliver(!ch.rarely(2), side, size)
		}
	case n < 52:
		if l := w.anyLink(); l != nil {
			l.answer(w.quiet || !ch.rarely(20))
		}
	case n < 74:
		k.publish()
	case n < 80:
		k.flush(1 + ch.n(3))
	case n < 86:
		if b := w.anyConn(); b != nil {
			b.flush(1 + ch.n(3))
		}
	case n < 92:
		k.subscribe()
	case n < 93:
		k.unsubscribe()
	case n < 102:
		w.broker.route(pick(ch, names...), byte(ch.n(3)), ch.rarely(6), pick(ch, 3, 30, 60, 200))
	case n < 108:
		w.settle()
	case n < 111:
		w.advance(session.Time(1+ch.n(200)) * session.Second / 100)
	case n < 112:
		w.advance(session.Time(1+ch.n(40)) * session.Second)
	case n < 116:
		w.policy()
	case n < 118:
		if ch.rarely(2) {
			k.cut(ch.n(256))
		} else {
			k.disconnect(pick(ch, 0, code(k.v, 4)))
		}
	case n < 119:
		w.restart()
	case n < 120:
		w.ends()
	case n < 122:
		if l := w.anyLink(); l != nil && !l.ended && !l.crashed && l.bc != nil {
			l.held, l.wasHeld = !l.held, true
			w.tracef("  link %d: held=%v", l.no, l.held)
			l.wake = l.s.Hold(w.now, l.held)
			l.resume()
		}
	case n < 123:
		k.ping()
	default:
		w.fault(k)
	}
}

// policy is a reload: it reaches the links one by one.
func (w *world) policy() {
	if w.c.rarely(2) {
		w.current = 1 - w.current
		w.tracef("the policy is now %s", w.policies[w.current].name)
		if w.c.rarely(2) {
			return
		}
	}
	if l := w.anyLink(); l != nil {
		l.adopt()
	}
}

// restart is the gateway's: all connections are cut.
func (w *world) restart() {
	w.tracef("the gateway restarts")
	for _, l := range w.live {
		l.crash()
	}
}

// ends ends a connection for a reason of the driver's.
func (w *world) ends() {
	l := w.anyLink()
	if l == nil || l.ended || l.crashed {
		return
	}
	switch w.c.n(3) {
	case 0:
		l.excuses("drain")
		l.call(nil, func(fx *session.Effects) { l.s.End(w.now, session.End{Cause: session.CauseDrain}, fx) })
	case 1:
		if l.s.Subject() == nil {
			return
		}
		l.excuses("revoked")
		l.call(nil, func(fx *session.Effects) { l.s.Policy(w.now, nil, fx) })
	case 2:
		l.excuses("stalled")
		l.call(nil, func(fx *session.Effects) { l.s.End(w.now, session.End{Cause: session.CauseStalled}, fx) })
	}
}

// fault is something wrong on purpose.
func (w *world) fault(k *client) {
	if w.faults == 0 {
		return
	}
	ch := w.c
	b := w.anyConn()
	var kinds []byte
	for kind := byte(1); kind > 0; kind <<= 1 {
		if w.faults&kind != 0 && kind&(faultAcks|faultSuback|faultConnack|faultForget) == 0 {
			kinds = append(kinds, kind)
		}
	}
	if len(kinds) == 0 {
		return
	}
	switch kinds[ch.n(len(kinds))] {
	case faultBytes:
		if b != nil {
			w.brokenBytes(b)
		}
	case faultSilence:
		w.broker.silent = !w.broker.silent
		w.tracef("broker silent=%v", w.broker.silent)
		if !w.broker.silent {
			w.speak()
			break
		}
		for _, l := range w.live {
			l.excuses("the broker is silent")
		}
	case faultIDs:
		if b != nil {
			w.unknownIDs(b)
		}
	case faultClient:
		w.wrongClient(k)
	}
}

// speak ends the broker's silence.
func (w *world) speak() {
	w.broker.silent = false
	for _, l := range w.live {
		if b := l.bc; b != nil {
			for _, x := range b.unsaid {
				b.write(x)
			}
			b.unsaid = nil
		}
	}
}

func (w *world) brokenBytes(b *bconn) {
	ch := w.c
	switch ch.n(5) {
	case 0: // a close in the middle of a packet
		b.close(ch.n(256))
	case 1: // broken framing
		b.faulty = true
		b.l.excuses("the broker sends garbage")
		b.write([]byte{0x36, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F})
		b.close(1 << 20)
	case 2: // a bad topic in sound framing
		d := w.newDelivery(b.sess, "a/+", byte(ch.n(3)), false, 4)
		d.odd = true
		if d.qos == 0 {
			b.send(d)
		} else {
			b.sess.queue = append(b.sess.queue, d)
			b.pump()
		}
	case 3: // more than the client takes
		if b.clientMax > 0 {
			d := w.newDelivery(b.sess, "a/0", byte(ch.n(3)), false, b.clientMax)
			d.odd = true
			if d.qos == 0 {
				b.send(d)
			} else {
				b.sess.queue = append(b.sess.queue, d)
				b.pump()
			}
		}
	case 4:
		if b.v == mqtt.V5 {
			b.write(kit.Disconnect(b.v, 0x9D, kit.With(kit.PropStr(mqtt.ServerReference, "elsewhere"))))
			b.close(1 << 20)
		}
	}
}

// unknownIDs has the broker answer what nobody asked.
func (w *world) unknownIDs(b *bconn) {
	ch := w.c
	id := uint16(0x7000 + ch.n(4))
	if ch.rarely(3) {
		id = uint16(1 + ch.n(4))
	}
	switch ch.n(3) {
	case 0:
		b.faultIDs[id] = true
		b.write(kit.Ack(b.v, pick(ch, mqtt.PUBACK, mqtt.PUBREC, mqtt.PUBCOMP, mqtt.PUBREL), int(id), 0))
	case 1:
		b.faulty = true
		b.l.excuses("SUBACK for nothing")
		b.write(kit.Suback(b.v, int(id), 0))
	case 2:
		b.faulty = true
		b.write(kit.Pingresp())
	}
}

// wrongClient has a client break the protocol.
func (w *world) wrongClient(k *client) {
	ch := w.c
	if !k.open || k.said {
		return
	}
	switch ch.n(6) {
	case 0:
		k.l.excuses("garbage of the client")
		k.write([]byte{0x36, 2, 0, 0})
	case 1:
		k.l.excuses("a second CONNECT")
		k.write(kit.Connect(k.v, k.id))
	case 2:
		if k.v == mqtt.V5 {
			k.l.excuses("an alias too large")
			k.write(kit.Publish(k.v, "a/0", 0, 0, "x", kit.With(kit.Prop16(mqtt.TopicAlias, 1+int(k.told.TopicAliasMaximum)))))
		}
	case 3:
		k.mute = true
		k.l.excuses("the client falls silent")
	case 4: // an id in use
		if len(k.inflight) > 0 && k.inflight[0].on == k.l && k.l.bc != nil {
			m := k.inflight[0]
			k.l.excuses("an id in use")
			k.l.bc.faultIDs[m.id] = true
			k.write(k.encode(m, false, false))
			m.repeated = true
		}
	case 5:
		k.l.excuses("an acknowledgement of nothing")
		if k.l.bc != nil {
			k.l.bc.faultIDs[0x7001] = true
			k.l.bc.faulty = true
			k.write(kit.Ack(k.v, pick(ch, mqtt.PUBACK, mqtt.PUBREC, mqtt.PUBCOMP, mqtt.PUBREL), 0x7001, 0))
		}
	}
}

// settle lets everything through until nothing moves.
func (w *world) settle() {
	for round := 0; w.round(); round++ {
		if round > 5000 {
			w.fail("endless", "the ends keep talking")
		}
	}
}

// round lets everything through once; it reports whether anything moved.
func (w *world) round() bool {
	moved := false
	for _, l := range slices.Clone(w.live) {
		for _, side := range []mqtt.Side{mqtt.Client, mqtt.Broker} {
			for _, towards := range []bool{true, false} {
				for l.deliver(towards, side, 1<<20) {
					moved = true
				}
			}
		}
		if l.bc != nil && (w.quiet || w.passing || !w.slow) && l.bc.flush(1<<20) {
			moved = true
		}
		if w.quiet && l.answer(true) {
			moved = true
		}
	}
	for _, k := range w.clients {
		if k.flush(1 << 20) {
			moved = true
		}
	}
	w.bury()
	return moved
}

// bury forgets links that are over.
func (w *world) bury() {
	w.live = slices.DeleteFunc(w.live, (*link).over)
}

// advance lets time pass; bytes take none.
func (w *world) advance(by session.Time) {
	till := w.now + by
	w.passing = true
	defer func() { w.passing = false }()
	w.settle()
	for range 1000 {
		at, do := till, func() {}
		earlier := func(t session.Time, f func()) {
			if t > 0 && t < at {
				at, do = t, f
			}
		}
		for _, l := range w.live {
			if !l.ended && !l.crashed && l.wake > 0 {
				earlier(max(l.wake, w.now), func() { l.tick() })
			}
			if b := l.bc; b != nil && !b.gone && b.keepAlive > 0 {
				earlier(b.heard+session.Time(b.keepAlive)*session.Second*3/2+1, func() { b.silence() })
			}
		}
		for _, k := range w.clients {
			if k.l != nil && k.open && !k.mute && !k.said && k.alive > 0 {
				earlier(max(k.sent+session.Time(k.alive)*session.Second, w.now), k.ping)
			}
		}
		if at >= till {
			w.now = till
			for _, k := range w.clients {
				if l := k.l; l != nil && k.mute && k.alive > 0 && !l.wasHeld && !l.ended && !l.crashed && !w.anyFault(faultSilence) &&
					w.now > max(k.sent, k.opened)+session.Time(k.alive)*session.Second*3/2+session.Second {
					w.fail("keep-alive", "%s is silent since %v and connected", k.id, k.sent)
				}
			}
			return
		}
		w.now = max(w.now, at)
		do()
		w.settle()
	}
	w.fail("endless", "timers keep firing")
}

func (l *link) tick() {
	before := l.wake
	l.call(nil, func(fx *session.Effects) { l.s.Tick(l.w.now, fx) })
	if !l.ended && l.wake != 0 && l.wake <= l.w.now && l.wake == before {
		l.w.fail("endless", "link %d wants to be woken at %d again", l.no, l.wake)
	}
}

// silence is the broker's own keep-alive: a correct gateway never lets it come
// to that, but inside a packet that its driver does not read on it has nothing
// to say.
func (b *bconn) silence() {
	inside := b.l.wasHeld && len(b.buf) > 0
	if b.l.excuse == "" && !inside && !b.l.c.mute && b.open && b.l.c.open {
		b.w.fail("keep-alive", "the broker heard nothing for %d s on link %d", b.keepAlive*3/2, b.l.no)
	}
	b.faulty = true
	b.close(1 << 20)
}

// quiesce ends the faults, lets everything through, and has every client finish
// what it began.
func (w *world) quiesce() {
	w.tracef("quiet from here on")
	w.quiet = true
	w.speak()
	for _, k := range w.clients {
		k.mute = false
	}
	for try := 0; ; try++ {
		for _, l := range w.live {
			if l.held && !l.ended && !l.crashed {
				l.held = false
				l.wake = l.s.Hold(w.now, false)
				l.resume()
			}
		}
		w.settle()
		w.advance(8 * session.Second)
		var open []string
		for _, k := range w.clients {
			switch {
			case k.l == nil:
				if k.connects < 1 || len(k.inflight) > 0 || try == 0 {
					open = append(open, k.id+" is not connected")
					k.connect()
				}
			case !k.open || k.said || k.mute:
				open = append(open, fmt.Sprintf("%s: open %v, disconnecting %v", k.id, k.open, k.said))
			case len(k.inflight) > 0 || len(k.requests) > 0 || k.pings > 0:
				open = append(open, fmt.Sprintf("%s waits for %d messages, %d requests, %d pings", k.id, len(k.inflight), len(k.requests), k.pings))
			}
			if s := w.broker.sessions[k.id]; s != nil && s.conn != nil && len(s.inflight)+len(s.queue) > 0 {
				open = append(open, fmt.Sprintf("%d deliveries to %s stand", len(s.inflight)+len(s.queue), k.id))
			}
		}
		w.weigh()
		if len(open) == 0 {
			return
		}
		if try > 6 {
			if w.refusedForGood() {
				return
			}
			w.fail("unanswered", "%s", strings.Join(open, "; "))
		}
	}
}

// weigh checks that no session holds more than the little that a schedule's
// packets can account for.
func (w *world) weigh() {
	for _, l := range w.live {
		if n := footprint(l.s); n > 48<<10 {
			w.fail("memory", "link %d: the session holds %d bytes", l.no, n)
		}
	}
}

// refusedForGood: some client's will is denied, or what it repeats ends its
// connection: it cannot come back.
func (w *world) refusedForGood() bool {
	if w.policies[0].onDeny == "disconnect" {
		return true
	}
	for _, k := range w.clients {
		if m := k.will; m != nil {
			if ok, _, _ := w.policies[w.current].forwards(m.topic, m.qos, false); !ok {
				return true
			}
		}
	}
	return false
}

// run simulates one schedule.
func run(c *choices, tracing bool) (w *world, err *failure) {
	defer func() {
		if r := recover(); r != nil {
			f, ok := r.(*failure)
			if !ok {
				f = &failure{"panic", fmt.Sprintf("%v\n%s", r, debug.Stack())}
			}
			err = f
		}
	}()
	w = newWorld(c, tracing)
	steps := 400
	if c.rnd != nil {
		steps = 20 + c.n(160)
	}
	for i := 0; i < steps && !c.over; i++ {
		w.step()
		w.bury()
		if i%8 == 0 { // it takes as long as some steps
			w.weigh()
		}
	}
	w.quiesce()
	return w, nil
}
