package model

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/session"
	kit "github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// delivery is one message for one session of the broker.
type delivery struct {
	n       int
	topic   string
	payload []byte
	qos     byte
	retain  bool
	sess    *bsession

	id       uint16
	sent     bool // on the connection at hand
	ever     bool // on some connection: DUP from now on
	released bool // PUBREC has come
	ruled    map[*rules]bool
	odd      bool // a fault: it must not reach the client
	size     int

	on   *link // of the client
	seen int
}

// bsession is a session's state in the broker.
type bsession struct {
	id       string
	subs     []bsub
	queue    []*delivery // not yet sent
	inflight []*delivery
	in2      map[uint16]bool // QoS 2 received, PUBREL awaited
	nextID   uint16
	conn     *bconn
	keep     bool
	faultIDs map[uint16]bool // of earlier connections: the client may be confused for good
}

type bsub struct {
	filter string
	qos    byte
}

// broker is a model of a correct broker; what it is told to do wrong it does on
// purpose.
type broker struct {
	w        *world
	sessions map[string]*bsession
	retained map[string]byte
	silent   bool
	turn     int
	takes    announcement
}

// announcement is what a broker says in its CONNACK.
type announcement struct {
	receive, aliases, maxPacket, keepAlive int
	maxQoS                                 byte
	noRetain                               bool
}

// bconn is one connection in the broker.
type bconn struct {
	w    *world
	l    *link
	sess *bsession
	stream
	open      bool
	gone      bool // closed by either side
	said      bool // DISCONNECT has come
	fires     bool // the will was published
	hasWill   bool
	keepAlive int
	heard     session.Time
	clientMax int
	window    int
	receive   int
	aliasMax  int
	maxQoS    byte
	retain    bool
	maxPacket int
	takes     int // aliases that the client takes
	aliasOut  map[string]int
	aliasIn   map[uint16]string
	todo      []todo
	unsaid    [][]byte // while it is silent
	inUse     map[uint16]string
	owedBy    map[uint16]byte
	lastFresh map[string]int // by line, where there are several
	faultIDs  map[uint16]bool
	faulty    bool
}

// todo is an answer that the broker has not sent.
type todo struct {
	b    []byte
	then func()
}

func (b *broker) accept(l *link) *bconn {
	l.w.conns++
	if b.silent {
		l.excuses("the broker is silent")
	}
	return &bconn{
		w: l.w, l: l, stream: stream{from: mqtt.Client}, heard: l.w.now, maxQoS: 2, retain: true,
		aliasOut: map[string]int{}, aliasIn: map[uint16]string{}, inUse: map[uint16]string{}, owedBy: map[uint16]byte{}, faultIDs: map[uint16]bool{},
		lastFresh: map[string]int{},
	}
}

func (c *bconn) receiveSaid() int {
	if c.receive == 0 {
		return 0xFFFF
	}
	return c.receive
}

func (c *bconn) write(b []byte) {
	if c.gone {
		return
	}
	if c.w.broker.silent {
		c.unsaid = append(c.unsaid, b)
		return
	}
	c.w.traceBytes(c.l.no, "broker", nil, mqtt.Broker, c.v, b)
	p := &c.l.in[mqtt.Broker]
	p.b = append(p.b, b...)
}

// close ends the connection by the broker's will, after keep bytes of what it
// has written.
func (c *bconn) close(keep int) {
	if c.gone {
		return
	}
	c.w.tracef("broker closes link %d", c.l.no)
	c.l.excuses("the broker closed")
	p := &c.l.in[mqtt.Broker]
	p.b, p.eof = p.b[:min(keep, len(p.b))], true
	c.end()
}

func (c *bconn) end() {
	c.gone = true
	c.l.out[mqtt.Broker].b = nil
	if s := c.sess; s != nil && s.conn == c {
		s.conn, s.faultIDs = nil, c.faultIDs
		for _, d := range s.inflight {
			d.sent = false
		}
		if !s.keep {
			delete(c.w.broker.sessions, s.id)
		}
	}
}

// lost is the gateway's close.
func (c *bconn) lost() {
	if c.gone {
		return
	}
	c.fires = c.hasWill && !c.said
	c.w.tracef("broker sees the end of link %d, will fires: %v", c.l.no, c.fires)
	if c.hasWill && c.open && !c.faulty {
		if want, known := c.l.willFires(c.l.rule); known && want != c.fires && len(c.buf) == 0 {
			c.w.fail("will", "link %d: fires %v, want %v (cause %d)", c.l.no, c.fires, want, c.l.end.Cause)
		}
	}
	c.end()
}

// complain is what a broker does to one that breaks the protocol.
func (c *bconn) complain(kind, format string, args ...any) {
	c.w.fail(kind, "broker, link %d: %s", c.l.no, fmt.Sprintf(format, args...))
}

func (c *bconn) read(b []byte) {
	if c.gone {
		return
	}
	c.heard = c.w.now
	c.buf = append(c.buf, b...)
	for !c.gone {
		p, err := c.next()
		if err != nil {
			c.complain("bytes that do not parse", "% x: %v", c.buf[:min(64, len(c.buf))], err)
		}
		if p == nil {
			return
		}
		c.packet(p)
	}
}

func (c *bconn) packet(p *packet) {
	if c.said {
		c.complain("order", "%v after DISCONNECT", p)
	}
	if (c.sess == nil) != (p.typ == mqtt.CONNECT) {
		c.complain("order", "%v", p)
	}
	if c.maxPacket > 0 && len(p.raw) > c.maxPacket {
		c.complain("too large", "%v of %d bytes, takes %d", p, len(p.raw), c.maxPacket)
	}
	switch p.typ {
	case mqtt.CONNECT:
		c.connect(&p.conn)
	case mqtt.PUBLISH:
		c.publish(p)
	case mqtt.PUBREL:
		c.release(p)
	case mqtt.PUBACK, mqtt.PUBREC, mqtt.PUBCOMP:
		c.acknowledged(p)
	case mqtt.SUBSCRIBE:
		c.subscribe(p)
	case mqtt.UNSUBSCRIBE:
		c.take(p.uns.PacketID, "UNSUBSCRIBE", p)
		codes := make([]byte, len(p.uns.Filters))
		for i, f := range p.uns.Filters {
			n := len(c.sess.subs)
			c.sess.subs = slices.DeleteFunc(c.sess.subs, func(s bsub) bool { return s.filter == string(f) })
			if len(c.sess.subs) == n {
				codes[i] = 0x11
			}
		}
		id := p.uns.PacketID
		c.todo = append(c.todo, todo{kit.Unsuback(c.v, int(id), codes...), func() { delete(c.inUse, id) }})
	case mqtt.PINGREQ:
		c.todo = append(c.todo, todo{kit.Pingresp(), nil})
	case mqtt.DISCONNECT:
		c.said = p.disc.Code != mqtt.DisconnectWithWill
		if !c.said {
			c.w.tracef("broker is told to fire the will of link %d", c.l.no)
		}
	}
}

// take takes a packet id into use: it must be free.
func (c *bconn) take(id uint16, what string, p *packet) {
	if by := c.inUse[id]; by != "" && !c.faultIDs[id] {
		c.complain("id collides", "%v: id %d is in use by %s", p, id, by)
	}
	c.inUse[id] = what
}

func (c *bconn) connect(k *mqtt.Connect) {
	w, b, ch := c.w, c.w.broker, c.w.c
	id := string(k.ClientID)
	s := b.sessions[id]
	if s != nil && s.conn != nil { // taken over
		old := s.conn
		if old.v == mqtt.V5 {
			old.write(kit.Disconnect(old.v, 0x8E))
		}
		old.close(1 << 20)
	}
	if s = b.sessions[id]; s != nil && w.forgets() { // the close may have ended the session
		w.tracef("broker has forgotten %s", id)
		w.client(id).forgot = true
		s = nil
	}
	present := s != nil && !k.CleanStart
	if !present {
		s = &bsession{id: id, in2: map[uint16]bool{}}
		b.sessions[id] = s
		for i := range w.deliveries {
			if d := w.deliveries[i]; d.sess.id == id {
				d.odd = true // of an earlier session
			}
		}
	}
	c.sess, s.conn = s, c
	for id := range s.faultIDs {
		c.faultIDs[id] = true
	}
	s.keep = !k.CleanStart
	if c.v == mqtt.V5 {
		s.keep = k.SessionExpiry > 0
	}
	c.hasWill, c.keepAlive, c.clientMax = k.HasWill, int(k.KeepAlive), int(k.MaximumPacketSize)
	c.window, c.takes = int(k.ReceiveMaximum), int(k.TopicAliasMaximum)
	if c.v != mqtt.V5 {
		c.window = 10
	}
	var opts []kit.Option
	if c.v == mqtt.V5 {
		opts = c.announce()
	}
	if w.connackFaults() {
		c.l.excuses("the broker refuses")
		c.write(kit.Connack(c.v, false, pick[byte](ch, code(c.v, 0x88)|3*b2(c.v != mqtt.V5))))
		c.close(1 << 20)
		return
	}
	c.open = true
	c.write(kit.Connack(c.v, present, 0, opts...))
	for _, d := range s.inflight {
		d.sent = false
	}
	c.pump()
}

// announce is what the broker says it takes, the same on every connection: a
// message that one took must not become illegal on the next.
func (c *bconn) announce() (opts []kit.Option) {
	a := &c.w.broker.takes
	c.receive, c.maxQoS, c.retain, c.aliasMax, c.maxPacket = a.receive, a.maxQoS, !a.noRetain, a.aliases, a.maxPacket
	if c.receive > 0 {
		opts = append(opts, kit.With(kit.Prop16(mqtt.ReceiveMaximum, c.receive)))
	}
	if c.maxQoS < 2 {
		opts = append(opts, kit.With(kit.Prop8(mqtt.MaximumQoS, c.maxQoS)))
	}
	if !c.retain {
		opts = append(opts, kit.With(kit.Prop8(mqtt.RetainAvailable, 0)))
	}
	if c.aliasMax > 0 {
		opts = append(opts, kit.With(kit.Prop16(mqtt.TopicAliasMaximum, c.aliasMax)))
	}
	if c.maxPacket > 0 {
		opts = append(opts, kit.With(kit.Prop32(mqtt.MaximumPacketSize, uint32(c.maxPacket))))
	}
	if a.keepAlive > 0 {
		c.keepAlive = a.keepAlive
		opts = append(opts, kit.With(kit.Prop16(mqtt.ServerKeepAlive, a.keepAlive)))
	}
	return opts
}

func b2(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// publish takes a message of the client.
func (c *bconn) publish(p *packet) {
	w, id, s := c.w, p.pub.PacketID, c.sess
	t := string(p.pub.Topic)
	if a := p.pub.TopicAlias; a > 0 {
		if int(a) > c.aliasMax {
			c.complain("alias", "%v: takes %d", p, c.aliasMax)
		}
		if t == "" {
			t = c.aliasIn[a]
		}
		c.aliasIn[a] = t
	}
	m := w.message(p.pub.Payload)
	if m == nil || m.topic != t {
		c.complain("changed", "%v, on %q", p, t)
	}
	q := p.pub.QoS
	if q > c.maxQoS || p.pub.Retain && !c.retain {
		c.complain("connack", "%v: takes q%d, retain %v", p, c.maxQoS, c.retain)
	}
	again := q == 2 && s.in2[id]
	if q > 0 {
		switch {
		case c.inUse[id] != "":
			c.take(id, "PUBLISH", p)
		case s.in2[id] && !p.pub.Dup && !c.faultIDs[id]:
			c.complain("id collides", "%v: id %d awaits PUBREL", p, id)
		}
		c.inUse[id] = "PUBLISH"
		c.owedBy[id] = q
		if c.receive > 0 && len(c.owedBy) > c.receive {
			c.complain("receive maximum", "%v: %d in flight, takes %d", p, len(c.owedBy), c.receive)
		}
	}
	if !p.pub.Dup && q > 0 || q == 0 {
		// Of a client that sends more than the broker takes, messages of QoS 0
		// go past those that are kept back [MQTT-4.6.0-5].
		line := ""
		if c.l.c.wild {
			line = fmt.Sprintf("%s q%d", m.topic, m.qos)
		}
		if last := c.lastFresh[line]; m.n <= last && m.cuts == 0 && !m.repeated {
			c.complain("order", "message %d after %d", m.n, last)
		}
		c.lastFresh[line] = max(c.lastFresh[line], m.n)
	}
	refuse := c.v == mqtt.V5 && q > 0 && !again && w.acksFault()
	if refuse {
		m.refused = true
	} else if !again {
		if m.lastOn == c && !m.repeated {
			c.complain("doubled", "message %d came twice on one connection: %v", m.n, p)
		}
		exact := m.qos == 2 && c.exact(m)
		if m.accepted > 0 && !m.repeated && (m.cuts == 0 || q == 0 && m.qos == 0 || exact) {
			c.complain("doubled", "message %d came twice (cuts %d): %v", m.n, m.cuts, p)
		}
		m.lastOn = c
		m.accepted++
		w.broker.route(t, q, p.pub.Retain, len(m.payload))
	}
	rc := byte(0)
	if refuse {
		rc = pick[byte](w.c, 0x97, 0x95, 0x80)
	}
	free := func() { delete(c.inUse, id); delete(c.owedBy, id) }
	switch q {
	case 1:
		c.todo = append(c.todo, todo{kit.Ack(c.v, mqtt.PUBACK, int(id), rc), free})
	case 2:
		if refuse {
			c.todo = append(c.todo, todo{kit.Ack(c.v, mqtt.PUBREC, int(id), rc), free})
			return
		}
		s.in2[id] = true
		c.todo = append(c.todo, todo{kit.Ack(c.v, mqtt.PUBREC, int(id), 0), nil})
	}
}

// exact reports that a QoS 2 message is one for every policy it met, so that
// the broker's own state keeps it from doubling.
func (c *bconn) exact(m *message) bool {
	for r := range m.ruled {
		if r.highest(m.topic) < 2 || c.maxQoS < 2 {
			return false
		}
	}
	return !c.w.client(c.sess.id).forgot
}

func (c *bconn) release(p *packet) {
	id := p.ack.PacketID
	rc := byte(0)
	if !c.sess.in2[id] {
		rc = code(c.v, 0x92)
	}
	if by := c.inUse[id]; by != "" && by != "PUBLISH" && !c.faultIDs[id] {
		c.complain("id collides", "%v: id %d is in use by %s", p, id, by)
	}
	delete(c.sess.in2, id)
	c.inUse[id] = "PUBREL"
	c.todo = append(c.todo, todo{kit.Ack(c.v, mqtt.PUBCOMP, int(id), rc), func() { delete(c.inUse, id); delete(c.owedBy, id) }})
}

func (c *bconn) subscribe(p *packet) {
	w, id, s := c.w, p.sub.PacketID, c.sess
	c.take(id, "SUBSCRIBE", p)
	var codes []byte
	for _, f := range p.sub.Filters {
		if w.subackRefuses() {
			codes = append(codes, 0x80)
			continue
		}
		codes = append(codes, f.QoS)
		s.subs = slices.DeleteFunc(s.subs, func(o bsub) bool { return o.filter == string(f.Filter) })
		s.subs = append(s.subs, bsub{string(f.Filter), f.QoS})
	}
	free := func() { delete(c.inUse, id) }
	if w.subackCounts() {
		c.faulty = true
		c.l.excuses("SUBACK with a wrong number of codes")
		codes = append(codes, 0)
	}
	c.todo = append(c.todo, todo{kit.Suback(c.v, int(id), codes...), free})
	for _, f := range p.sub.Filters {
		if isShared(string(f.Filter)) {
			continue
		}
		for _, t := range sortedKeys(w.broker.retained) {
			if matches(string(f.Filter), t) {
				w.broker.give(s, t, min(f.QoS, w.broker.retained[t]), true, 5)
			}
		}
	}
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}

// acknowledged takes what the client answers to deliveries.
func (c *bconn) acknowledged(p *packet) {
	id := p.ack.PacketID
	i := slices.IndexFunc(c.sess.inflight, func(d *delivery) bool { return d.id == id && d.sent })
	if i < 0 {
		if c.faultIDs[id] {
			return
		}
		c.complain("unasked answer", "%v", p)
	}
	d := c.sess.inflight[i]
	if !d.awaits(p.typ) {
		if c.faultIDs[id] {
			return // the answer to what the broker sent without a reason
		}
		c.complain("unasked answer", "%v for a delivery of QoS %d, released %v", p, d.qos, d.released)
	}
	if p.typ == mqtt.PUBREC {
		d.released = true
		c.arrived(d)
		c.todo = append(c.todo, todo{kit.Ack(c.v, mqtt.PUBREL, int(id), 0), nil})
	} else {
		c.finish(i)
	}
	c.pump()
}

// awaits reports whether a delivery has come to where this answers it.
func (d *delivery) awaits(t mqtt.Type) bool {
	switch t {
	case mqtt.PUBACK:
		return d.qos == 1
	case mqtt.PUBREC:
		return d.qos == 2 && !d.released
	default:
		return d.qos == 2 && d.released
	}
}

// arrived checks that what is acknowledged has reached the client, where it
// may.
func (c *bconn) arrived(d *delivery) {
	for r := range d.ruled {
		if !r.decides(d.topic, false) {
			return
		}
	}
	if d.seen == 0 && !d.odd && len(d.ruled) > 0 {
		c.complain("lost", "delivery %d on %s was acknowledged and never reached the client", d.n, d.topic)
	}
}

func (c *bconn) finish(i int) {
	d := c.sess.inflight[i]
	c.arrived(d)
	c.sess.inflight = slices.Delete(c.sess.inflight, i, i+1)
}

func (s *bsession) decidedBy(p *rules) {
	if s == nil {
		return
	}
	for _, d := range s.inflight {
		d.ruled[p] = true
	}
}

// pump sends what the window allows: first what is repeated, in order.
func (c *bconn) pump() {
	if !c.open || c.gone {
		return
	}
	s := c.sess
	out := 0
	for _, d := range s.inflight {
		if !d.sent && out < c.window {
			d.sent = true
			d.ruled[c.l.rule] = true
			if d.released {
				c.write(kit.Ack(c.v, mqtt.PUBREL, int(d.id), 0))
			} else {
				c.send(d)
			}
		}
		out++
	}
	for len(s.queue) > 0 && len(s.inflight) < c.window {
		d := s.queue[0]
		s.queue = s.queue[1:]
		if c.clientMax > 0 && d.size > c.clientMax && !d.odd {
			continue // [MQTT-3.1.2-25]
		}
		for used := true; used; {
			if s.nextID++; s.nextID == 0 {
				s.nextID = 1
			}
			used = slices.ContainsFunc(s.inflight, func(o *delivery) bool { return o.id == s.nextID })
		}
		d.id, d.sent = s.nextID, true
		d.ruled[c.l.rule] = true
		s.inflight = append(s.inflight, d)
		c.send(d)
	}
}

func (c *bconn) send(d *delivery) {
	var opts []kit.Option
	t := d.topic
	if d.odd && strings.Contains(t, "+") {
		// as it is
	} else if c.takes > 0 && c.v == mqtt.V5 && d.n%2 == 0 && !d.ever {
		a := c.aliasOut[t]
		if a == 0 && len(c.aliasOut) < c.takes {
			a = len(c.aliasOut) + 1
			c.aliasOut[t] = a
			opts = append(opts, kit.With(kit.Prop16(mqtt.TopicAlias, a)))
		} else if a > 0 {
			t = ""
			opts = append(opts, kit.With(kit.Prop16(mqtt.TopicAlias, a)))
		}
	}
	if d.retain {
		opts = append(opts, kit.Retain())
	}
	if d.ever {
		opts = append(opts, kit.Dup())
	}
	if d.qos > 0 {
		d.ever = true
	}
	c.write(kit.Publish(c.v, t, d.qos, int(d.id), string(d.payload), opts...))
}

// route gives a message to everybody who subscribed to it.
func (b *broker) route(topic string, qos byte, retain bool, size int) {
	if retain {
		b.retained[topic] = qos
	}
	groups := map[string][]*bsession{}
	level := map[string]byte{}
	for _, id := range sortedKeys(b.sessions) {
		s := b.sessions[id]
		best := -1
		for _, sub := range s.subs {
			group, rest := unshared(sub.filter)
			switch {
			case !matches(rest, topic):
			case group != "":
				groups[sub.filter] = append(groups[sub.filter], s)
				level[sub.filter] = sub.qos
			default:
				best = max(best, int(sub.qos))
			}
		}
		if best >= 0 {
			b.give(s, topic, min(byte(best), qos), false, size)
		}
	}
	for _, g := range sortedKeys(groups) {
		b.turn++
		list := groups[g]
		b.give(list[b.turn%len(list)], topic, min(level[g], qos), false, size)
	}
}

func (b *broker) give(s *bsession, topic string, qos byte, retain bool, size int) {
	d := b.w.newDelivery(s, topic, qos, retain, size)
	switch {
	case qos == 0 && s.conn != nil && s.conn.open:
		d.ruled[s.conn.l.rule] = true
		if s.conn.clientMax == 0 || d.size <= s.conn.clientMax {
			s.conn.send(d)
		}
	case qos > 0 && len(s.queue) < 40:
		s.queue = append(s.queue, d)
		if s.conn != nil {
			s.conn.pump()
		}
	}
}

// flush sends what the broker has to answer; it reports whether there was
// something.
func (c *bconn) flush(n int) bool {
	if c.gone || c.w.broker.silent {
		return false
	}
	n = min(n, len(c.todo))
	now := c.todo[:n]
	c.todo = c.todo[n:]
	for _, t := range now {
		c.write(t.b)
		if t.then != nil {
			t.then()
		}
	}
	return n > 0
}
