package model

import (
	"slices"
	"strings"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/session"
	kit "github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// message is one PUBLISH of a client, through all its repetitions.
type message struct {
	n       int
	topic   string
	payload []byte
	qos     byte
	retain  bool

	id       uint16
	released bool            // PUBREC has come, PUBREL was sent
	on       *link           // where PUBLISH or PUBREL was sent last
	counts   bool            // in the Receive Maximum of that connection
	ruled    map[*rules]bool // policies that may have decided it
	refused  bool            // by the broker
	cuts     int             // connections it was in flight at the end of
	accepted int             // by the broker
	lastOn   *bconn
	done     bool
	repeated bool // by the client, against the standard
}

// request is a SUBSCRIBE or UNSUBSCRIBE without its answer.
type request struct {
	id      uint16
	sub     bool
	filters []string
	qos     []byte
	ruled   map[*rules]bool
}

// client is a model of an honest client, with its part of the session state; a
// few of them do what many real ones do and ignore what CONNACK says.
type client struct {
	w  *world
	id string
	v  mqtt.Version

	// Fixed for the schedule.
	clean     bool
	wild      bool // ignores what CONNACK says
	keepAlive int
	receive   int // its Receive Maximum; 0: not said
	maxPacket int
	aliases   int
	will      *message
	firstID   uint16 // of the ids it uses, ids in all
	ids       uint16
	lowest    bool // takes the lowest that is free, not the next

	// Session state.
	inflight []*message
	in2      map[uint16]*delivery // QoS 2 received, PUBREL awaited
	nextID   uint16
	requests []*request

	// Of the connection.
	l        *link // nil: none
	open     bool  // CONNACK has come
	present  bool
	stream   stream
	told     mqtt.Connack
	window   int
	aliasOut map[string]int
	aliasIn  map[uint16]string
	todo     [][]byte
	sent     session.Time
	opened   session.Time // when CONNACK came
	alive    int          // keep-alive in force
	pings    int
	mute     bool            // sends no pings any more
	said     bool            // DISCONNECT was sent
	down     map[uint16]bool // QoS 1 and 2 deliveries unacknowledged
	gone     map[*link]bool
	connects int
	forgot   bool // the broker lost its session once
}

// connect opens a connection.
func (c *client) connect() {
	w := c.w
	c.l, c.open, c.said, c.mute = newLink(w, c), false, false, false
	w.live = append(w.live, c.l)
	c.stream = stream{from: mqtt.Broker, v: c.v}
	c.aliasOut, c.aliasIn, c.down = map[string]int{}, map[uint16]string{}, map[uint16]bool{}
	c.todo, c.requests, c.pings = nil, nil, 0
	c.told = mqtt.Connack{ReceiveMaximum: 0xFFFF, MaximumQoS: 2, RetainAvailable: true}
	c.window = w.policies[0].limits.receive
	if c.window == 0 {
		c.window = 20
	}
	c.alive = c.keepAlive
	c.connects++
	opts := []kit.Option{kit.KeepAlive(c.keepAlive)}
	if !c.clean {
		opts = append(opts, kit.Resume(), kit.With(kit.Prop32(mqtt.SessionExpiryInterval, 1000)))
	}
	if c.receive > 0 {
		opts = append(opts, kit.With(kit.Prop16(mqtt.ReceiveMaximum, c.receive)))
	}
	if c.maxPacket > 0 {
		opts = append(opts, kit.With(kit.Prop32(mqtt.MaximumPacketSize, uint32(c.maxPacket))))
	}
	if c.aliases > 0 {
		opts = append(opts, kit.With(kit.Prop16(mqtt.TopicAliasMaximum, c.aliases)))
	}
	if m := c.will; m != nil {
		opts = append(opts, kit.Will(m.topic, string(m.payload), m.qos, m.retain))
	}
	if c.clean {
		c.abandon()
	}
	for _, m := range c.inflight {
		m.on = nil
	}
	c.write(kit.Connect(c.v, c.id, opts...))
}

// unruly: it ignores what CONNACK says now.
func (c *client) unruly() bool { return c.wild && !c.w.quiet }

// abandon forgets the session.
func (c *client) abandon() {
	for _, m := range c.inflight {
		m.done = true
	}
	c.inflight, c.in2 = nil, map[uint16]*delivery{}
}

// mayBeRefused: the will is denied under some policy.
func (c *client) mayBeRefused(l *link) bool {
	m := c.will
	if m == nil {
		return false
	}
	ok, _, _ := l.rule.forwards(m.topic, m.qos, false)
	return !ok
}

func (c *client) write(b []byte) {
	c.sent = c.w.now
	c.w.traceBytes(c.l.no, c.id, &c.stream, mqtt.Client, c.v, b)
	c.l.in[mqtt.Client].b = append(c.l.in[mqtt.Client].b, b...)
}

// decidedBy notes a policy that what is in flight may meet.
func (c *client) decidedBy(p *rules) {
	for _, m := range c.inflight {
		m.ruled[p] = true
	}
	for _, q := range c.requests {
		q.ruled[p] = true
	}
}

func (c *client) fresh(l *link) map[*rules]bool {
	m := map[*rules]bool{}
	if l.rule != nil {
		m[l.rule] = true
	}
	return m
}

func (c *client) idsUsed() bool { return len(c.inflight)+len(c.requests) >= int(c.ids) }

// freeID is an id that nothing of the client's uses.
func (c *client) freeID() uint16 {
	if c.lowest {
		c.nextID = c.firstID - 1
	}
	for {
		if c.nextID++; c.nextID-c.firstID >= c.ids || c.nextID == 0 {
			c.nextID = c.firstID
		}
		id := c.nextID
		if !slices.ContainsFunc(c.inflight, func(m *message) bool { return m.id == id }) &&
			!slices.ContainsFunc(c.requests, func(q *request) bool { return q.id == id }) {
			return id
		}
	}
}

// inWindow is how many of its messages count on this connection.
func (c *client) inWindow() int {
	n := 0
	for _, m := range c.inflight {
		if m.on == c.l && m.counts {
			n++
		}
	}
	return n
}

func (c *client) mayPublish() bool {
	return c.l != nil && !c.said && (c.open || c.v != mqtt.V5 && !c.clean && c.connects == 1)
}

// publish sends a new message.
func (c *client) publish() {
	w, ch := c.w, c.w.c
	if !c.mayPublish() || len(c.inflight) > 30 || c.idsUsed() {
		return
	}
	qos := byte(ch.n(3))
	topic := pick(ch, names...)
	retain := ch.rarely(4)
	size := pick(ch, 0, 5, 40, 90, 200)
	if !c.unruly() {
		qos = min(qos, c.told.MaximumQoS)
		retain = retain && c.told.RetainAvailable
		if c.pendingResend() || qos > 0 && c.inWindow() >= c.window {
			return
		}
	}
	if most := int(c.told.MaximumPacketSize); most > 0 && size+len(topic)+30 > most {
		return
	}
	m := w.newMessage(topic, qos, retain, size)
	m.ruled = c.fresh(c.l)
	if qos > 0 {
		m.id = c.freeID()
		c.inflight = append(c.inflight, m)
	}
	m.on, m.counts = c.l, true
	m.lastOn = nil
	b := c.encode(m, false, ch.rarely(2))
	if c.v != mqtt.V5 && ch.rarely(8) {
		b = overlong(b)
	}
	c.write(b)
}

// overlong says a Remaining Length in one byte more than it needs, as 3.x
// allows.
func overlong(b []byte) []byte {
	i := 1
	for b[i] >= 0x80 {
		i++
	}
	out := append([]byte(nil), b[:i+1]...)
	out[i] |= 0x80
	return append(append(out, 0), b[i+1:]...)
}

// encode is a message as a packet, by an alias where there is one.
func (c *client) encode(m *message, dup, alias bool) []byte {
	var opts []kit.Option
	topic := m.topic
	if most := int(c.told.TopicAliasMaximum); alias && most > 0 && c.v == mqtt.V5 {
		a := c.aliasOut[topic]
		if a == 0 {
			if a = len(c.aliasOut) + 1; a > most { // redefine one
				a = 1 + m.n%most
				for t, b := range c.aliasOut {
					if a == b {
						delete(c.aliasOut, t)
					}
				}
			}
			c.aliasOut[topic] = a
		} else {
			topic = ""
		}
		opts = append(opts, kit.With(kit.Prop16(mqtt.TopicAlias, a)))
	}
	if m.retain {
		opts = append(opts, kit.Retain())
	}
	if dup {
		opts = append(opts, kit.Dup())
	}
	return kit.Publish(c.v, topic, m.qos, int(m.id), string(m.payload), opts...)
}

// pendingResend reports that something of an earlier connection waits.
func (c *client) pendingResend() bool {
	return slices.ContainsFunc(c.inflight, func(m *message) bool { return m.on != c.l })
}

// resend repeats in order what an earlier connection left.
func (c *client) resend() bool {
	if !c.open || c.said || c.l == nil {
		return false
	}
	for _, m := range c.inflight {
		if m.on == c.l {
			continue
		}
		if m.released {
			m.on, m.counts = c.l, false
			c.write(kit.Ack(c.v, mqtt.PUBREL, int(m.id), 0))
			return true
		}
		if !c.unruly() && c.inWindow() >= c.window {
			return false
		}
		m.on, m.counts = c.l, true
		m.ruled[c.l.rule] = true
		c.write(c.encode(m, true, false))
		return true
	}
	return false
}

func (c *client) subscribe() {
	ch := c.w.c
	if !c.open || c.said || c.idsUsed() || !c.unruly() && len(c.requests) >= c.w.policies[0].limits.requests {
		return
	}
	if len(c.requests) >= c.w.policies[0].limits.requests {
		c.l.excuses("more requests than are taken")
	}
	q := &request{id: c.freeID(), sub: true, ruled: c.fresh(c.l)}
	var list []kit.Filter
	for range 1 + ch.n(3) {
		f := pick(ch, filterNames...)
		if slices.Contains(q.filters, f) {
			continue
		}
		qos := byte(ch.n(3))
		q.filters, q.qos = append(q.filters, f), append(q.qos, qos)
		list = append(list, kit.Filter{Filter: f, Options: qos})
	}
	c.requests = append(c.requests, q)
	c.write(kit.SubscribeWith(c.v, int(q.id), list))
}

func (c *client) unsubscribe() {
	ch := c.w.c
	if !c.open || c.said || c.idsUsed() || len(c.requests) >= c.w.policies[0].limits.requests {
		return
	}
	q := &request{id: c.freeID(), ruled: c.fresh(c.l)}
	for range 1 + ch.n(2) {
		q.filters = append(q.filters, pick(ch, filterNames...))
	}
	c.requests = append(c.requests, q)
	c.write(kit.Unsubscribe(c.v, int(q.id), q.filters...))
}

func (c *client) ping() {
	if c.open && !c.said {
		c.pings++
		c.write(kit.Pingreq())
	}
}

// disconnect says DISCONNECT and closes.
func (c *client) disconnect(code byte) {
	if !c.open || c.said {
		return
	}
	c.said = true
	c.l.excuses("the client disconnects")
	c.write(kit.Disconnect(c.v, code))
	c.l.in[mqtt.Client].eof = true
}

// cut loses the connection; of what was written the first n bytes arrive.
func (c *client) cut(n int) {
	l := c.l
	if l == nil {
		return
	}
	c.w.tracef("%s cuts link %d", c.id, l.no)
	p := &l.in[mqtt.Client]
	p.b, p.eof = p.b[:min(n, len(p.b))], true
	l.excuses("the client cuts")
	c.closed(l)
}

// closed is the end of a connection as the client sees it.
func (c *client) closed(l *link) {
	if c.gone[l] {
		return
	}
	c.gone[l] = true
	l.in[mqtt.Client].eof = true
	if c.l != l {
		return
	}
	c.w.tracef("%s sees the end of link %d", c.id, l.no)
	for _, m := range c.inflight {
		if m.on == l {
			m.cuts++
		}
	}
	c.l, c.open = nil, false
}

// receive takes bytes of the gateway.
func (c *client) read(l *link, b []byte) {
	if c.l != l {
		return
	}
	c.stream.buf = append(c.stream.buf, b...)
	for c.l == l {
		p, err := c.stream.next()
		if err != nil {
			c.w.fail("bytes that do not parse", "%s: % x: %v", c.id, c.stream.buf[:min(64, len(c.stream.buf))], err)
		}
		if p == nil {
			return
		}
		c.packet(p)
	}
}

func (c *client) find(id uint16) *message {
	for _, m := range c.inflight {
		if m.id == id {
			return m
		}
	}
	return nil
}

func (c *client) complete(m *message) {
	m.done = true
	c.inflight = slices.DeleteFunc(c.inflight, func(o *message) bool { return o == m })
}

func (c *client) packet(p *packet) {
	w, l := c.w, c.l
	if !c.open && p.typ != mqtt.CONNACK || c.open && p.typ == mqtt.CONNACK {
		w.fail("order", "%s got %v", c.id, p)
	}
	switch p.typ {
	case mqtt.CONNACK:
		c.connack(p)
	case mqtt.PUBLISH:
		c.deliver(p)
	case mqtt.PUBREL:
		id := p.ack.PacketID
		code := byte(0)
		if c.in2[id] == nil {
			if code = 0x92; !c.present && !l.bc.faultIDs[id] {
				w.fail("unasked answer", "%s got %v and holds no such id", c.id, p)
			}
		}
		delete(c.in2, id)
		delete(c.down, id)
		c.todo = append(c.todo, kit.Ack(c.v, mqtt.PUBCOMP, int(id), code))
	case mqtt.PUBACK, mqtt.PUBREC, mqtt.PUBCOMP:
		c.acknowledged(p)
	case mqtt.SUBACK, mqtt.UNSUBACK:
		c.answered(p)
	case mqtt.PINGRESP:
		if c.pings--; c.pings < 0 && !l.bc.faulty {
			w.fail("unasked answer", "%s got a PINGRESP and sent no PINGREQ", c.id)
		}
	case mqtt.DISCONNECT:
	default:
		w.fail("order", "%s got %v", c.id, p)
	}
}

func (c *client) connack(p *packet) {
	w, l := c.w, c.l
	if p.cack.Code != 0 {
		return
	}
	c.open, c.present, c.opened = true, p.cack.SessionPresent, w.now
	if c.v == mqtt.V5 {
		c.told = p.cack
		c.window = int(c.told.ReceiveMaximum)
		if p.cack.HasServerKeepAlive {
			c.alive = int(p.cack.ServerKeepAlive)
		}
		c.checkConnack(l)
	}
	if !c.present {
		// The broker has nothing of the session left, and so has the client;
		// what was sent before CONNACK is of this one.
		keep := c.inflight[:0:0]
		for _, m := range c.inflight {
			if m.on == l {
				keep = append(keep, m)
			} else {
				m.done = true
			}
		}
		c.inflight, c.in2 = keep, map[uint16]*delivery{}
	}
	if c.clean && c.present {
		w.fail("connack", "%s: session present after Clean Start", c.id)
	}
}

// checkConnack is the table of section 5.
func (c *client) checkConnack(l *link) {
	w, b := c.w, l.bc
	lim := l.announced.limits
	least := func(what string, got, broker, ours int) {
		want := broker
		if ours > 0 {
			want = min(want, ours)
		}
		if got != want {
			w.fail("connack", "%s %d, want %d (broker %d, ours %d)", what, got, want, broker, ours)
		}
	}
	least("Receive Maximum", int(c.told.ReceiveMaximum), b.receiveSaid(), lim.receive)
	least("Topic Alias Maximum", int(c.told.TopicAliasMaximum), b.aliasMax, lim.aliases)
	if qos, retain, some := l.announced.ceiling(); some {
		if want := min(b.maxQoS, qos); c.told.MaximumQoS != want {
			w.fail("connack", "Maximum QoS %d, want %d (broker %d, policy %d)", c.told.MaximumQoS, want, b.maxQoS, qos)
		}
		if want := b.retain && retain; want != c.told.RetainAvailable {
			w.fail("connack", "Retain Available %v, want %v", c.told.RetainAvailable, want)
		}
	}
}

// deliver takes a message.
func (c *client) deliver(p *packet) {
	w, l := c.w, c.l
	t := string(p.pub.Topic)
	if a := p.pub.TopicAlias; a > 0 {
		if int(a) > c.aliases {
			w.fail("alias", "%s got alias %d and takes %d", c.id, a, c.aliases)
		}
		if t == "" {
			t = c.aliasIn[a]
		}
		c.aliasIn[a] = t
	}
	d := w.delivery(p.pub.Payload)
	if d == nil || d.topic != t {
		w.fail("changed", "%s got %v, on %q", c.id, p, t)
	}
	id := p.pub.PacketID
	if p.pub.QoS > 0 {
		if most := c.receive; most > 0 && len(c.down) >= most && !c.down[id] {
			w.fail("receive maximum", "%s takes %d and got one more: %v", c.id, most, p)
		}
		c.down[id] = true
	}
	again := p.pub.QoS == 2 && c.in2[id] != nil
	if !p.pub.Dup && again {
		w.fail("id collides", "%s holds id %d: %v", c.id, id, p)
	}
	if !again {
		if d.on == l && d.seen > 0 {
			w.fail("doubled", "%s got delivery %d twice on one connection", c.id, d.n)
		}
		if d.seen > 0 && d.qos == 2 && d.sess.id == c.id && len(d.ruled) == 1 && !c.forgot {
			w.fail("doubled", "%s got the QoS 2 delivery %d twice", c.id, d.n)
		}
		d.on, d.seen = l, d.seen+1
	}
	switch p.pub.QoS {
	case 1:
		c.todo = append(c.todo, kit.Ack(c.v, mqtt.PUBACK, int(id), 0))
	case 2:
		c.in2[id] = d
		c.todo = append(c.todo, kit.Ack(c.v, mqtt.PUBREC, int(id), 0))
	}
}

// flush writes what the client has to answer; it reports whether there was
// something.
func (c *client) flush(n int) bool {
	if c.l == nil || c.said || !c.open {
		return false
	}
	n = min(n, len(c.todo))
	for _, b := range c.todo[:n] {
		if b[0]>>4 == byte(mqtt.PUBACK) {
			delete(c.down, uint16(b[2])<<8|uint16(b[3]))
		}
		c.write(b)
	}
	c.todo = c.todo[n:]
	return n > 0 || c.resend()
}

// acknowledged takes PUBACK, PUBREC and PUBCOMP for its messages.
func (c *client) acknowledged(p *packet) {
	w, id := c.w, p.ack.PacketID
	m := c.find(id)
	fault := c.l.bc.faultIDs[id]
	unasked := func(why string) {
		if !fault {
			w.fail("unasked answer", "%s got %v: %s", c.id, p, why)
		}
	}
	switch {
	case m == nil:
		unasked("nothing is in flight with that id")
		if p.typ == mqtt.PUBREC {
			c.todo = append(c.todo, kit.Ack(c.v, mqtt.PUBREL, int(id), code(c.v, 0x92)))
			c.l.bc.faultIDs[id] = true
		}
		return
	case m.on != c.l:
		unasked("it was not sent on this connection")
		return
	}
	if fault {
		c.complete(m) // nothing can be said about it any more
		if p.typ == mqtt.PUBREC {
			c.todo = append(c.todo, kit.Ack(c.v, mqtt.PUBREL, int(id), 0)) // or the broker waits for ever
		}
		return
	}
	failed := p.ack.Code >= 0x80
	if p.ack.Code == mqtt.PacketTooLarge || p.ack.Code == mqtt.RetainNotSupported || p.ack.Code == mqtt.QoSNotSupported {
		w.fail("code", "%s got %v", c.id, p)
	}
	switch p.typ {
	case mqtt.PUBACK:
		if m.qos != 1 {
			unasked("its QoS is not 1")
		}
		c.finish(m, failed, p)
	case mqtt.PUBREC:
		if m.qos != 2 || m.released {
			unasked("PUBREC is not awaited")
		}
		if failed {
			c.finish(m, true, p)
			return
		}
		m.released = true
		c.todo = append(c.todo, kit.Ack(c.v, mqtt.PUBREL, int(id), 0))
	case mqtt.PUBCOMP:
		if m.qos != 2 || !m.released {
			unasked("PUBCOMP is not awaited")
		}
		c.finish(m, false, p)
	}
}

// finish is the end of an exchange: now the message is the broker's, or it was
// refused.
func (c *client) finish(m *message, failed bool, p *packet) {
	w := c.w
	c.complete(m)
	allowed, forbidden := true, true
	for r := range m.ruled {
		ok, _, _ := w.becomes(r, c.v, m)
		allowed, forbidden = allowed && ok, forbidden && !ok
	}
	switch {
	case failed && allowed && !m.refused:
		w.fail("refused", "%s: message %d on %s was refused with %#x under %s", c.id, m.n, m.topic, byte(p.ack.Code), list(m.ruled))
	case !failed && allowed && m.accepted == 0:
		w.fail("lost", "%s: message %d on %s was acknowledged with %v and never reached the broker", c.id, m.n, m.topic, p)
	case !failed && forbidden && c.v == mqtt.V5 && p.typ != mqtt.PUBCOMP:
		w.fail("refused", "%s: message %d on %s was acknowledged under %s", c.id, m.n, m.topic, list(m.ruled))
	}
}

func list(m map[*rules]bool) string {
	var s []string
	for r := range m {
		s = append(s, r.name)
	}
	slices.Sort(s)
	return strings.Join(s, "+")
}

// answered takes SUBACK and UNSUBACK.
func (c *client) answered(p *packet) {
	w := c.w
	i := slices.IndexFunc(c.requests, func(q *request) bool {
		return q.id == p.sack.PacketID && q.sub == (p.typ == mqtt.SUBACK)
	})
	if i < 0 {
		w.fail("unasked answer", "%s got %v", c.id, p)
	}
	q := c.requests[i]
	c.requests = slices.Delete(c.requests, i, i+1)
	codes := p.sack.Codes
	if !q.sub && c.v != mqtt.V5 {
		return
	}
	if len(codes) != len(q.filters) {
		w.fail("suback", "%s asked for %d filters and got %v", c.id, len(q.filters), p)
	}
	if !q.sub {
		for i, f := range q.filters {
			allowed, forbidden := true, true
			for r := range q.ruled {
				ok := !r.keeps(f)
				allowed, forbidden = allowed && ok, forbidden && !ok
			}
			if refused := codes[i] == byte(mqtt.NotAuthorized); allowed && refused || forbidden && !refused {
				w.fail("unsuback", "%s: %s under %s: %#x", c.id, f, list(q.ruled), codes[i])
			}
		}
		return
	}
	for i, f := range q.filters {
		allowed, forbidden := true, true
		for r := range q.ruled {
			ok := r.subscribes(f)
			allowed, forbidden = allowed && ok, forbidden && !ok
		}
		granted := codes[i] < 0x80
		switch {
		case forbidden && granted:
			w.fail("suback", "%s: %s was granted under %s", c.id, f, list(q.ruled))
		case granted && codes[i] > q.qos[i]:
			w.fail("suback", "%s: %s asked q%d granted q%d", c.id, f, q.qos[i], codes[i])
		case allowed && !granted && !w.refusesFilters && !c.limited(codes[i]):
			w.fail("suback", "%s: %s was refused with %#x under %s", c.id, f, codes[i], list(q.ruled))
		}
	}
}

// limited: the code may stand for a limit of ours.
func (c *client) limited(code byte) bool {
	if c.w.policies[0].limits.subscriptions == 0 {
		return slices.ContainsFunc(c.w.policies[:], func(p *rules) bool { return p.noDowngrade })
	}
	return c.v != mqtt.V5 || code == byte(mqtt.QuotaExceeded) || slices.ContainsFunc(c.w.policies[:], func(p *rules) bool { return p.noDowngrade })
}

func code(v mqtt.Version, c byte) byte {
	if v != mqtt.V5 {
		return 0
	}
	return c
}
