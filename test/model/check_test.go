package model

import (
	"bytes"
	"reflect"
	"strings"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/session"
)

// observe reads what the gateway sends at the moment it sends it, when the
// policy in force is known.
func (l *link) observe(to mqtt.Side, b []byte) {
	o := l.see[to]
	for len(b) > 0 {
		if len(o.buf) == 0 {
			o.rule = l.rule
		}
		// One packet at a time: the next may have been decided by another policy,
		// but all that begin in these bytes were by this one.
		o.buf = append(o.buf, b...)
		b = nil
		for {
			p, err := o.next()
			if err != nil {
				l.w.fail("bytes that do not parse", "link %d to the %v: % x: %v", l.no, to, o.buf[:min(len(o.buf), 64)], err)
			}
			if p == nil {
				break
			}
			l.w.tracef("  link %d → %v: %v", l.no, to, p)
			o.last = p.typ
			if to == mqtt.Broker {
				l.allowedUp(o, p)
			} else {
				l.allowedDown(o, p)
			}
			o.rule = l.rule
		}
	}
}

func (o *observer) topic(w *world, p *mqtt.Publish) string {
	t := string(p.Topic)
	if p.TopicAlias > 0 {
		if t == "" {
			if t = o.aliases[p.TopicAlias]; t == "" {
				w.fail("alias", "alias %d has no meaning", p.TopicAlias)
			}
		}
		o.aliases[p.TopicAlias] = t
	}
	return t
}

// becomes is what becomes of a PUBLISH under a policy, held to what the broker
// says it takes.
func (w *world) becomes(p *rules, v mqtt.Version, m *message) (ok bool, qos byte, retain bool) {
	ok, qos, retain = p.forwards(m.topic, m.qos, m.retain)
	takes := &w.broker.takes
	if !ok || v != mqtt.V5 {
		return ok, qos, retain
	}
	if qos > takes.maxQoS && p.noDowngrade || retain && takes.noRetain && !p.strip {
		return false, 0, false
	}
	return true, min(qos, takes.maxQoS), retain && !takes.noRetain
}

// allowedUp is what may go to the broker.
func (l *link) allowedUp(o *observer, p *packet) {
	w := l.w
	switch p.typ {
	case mqtt.CONNECT:
		if c := &p.conn; c.HasWill {
			ok, _, _ := o.rule.forwards(string(c.Will.Topic), 0, false)
			if !ok || c.Will.QoS > o.rule.highest(string(c.Will.Topic)) || c.Will.Retain && !o.rule.mayRetain(string(c.Will.Topic)) {
				w.fail("forbidden", "will on %s", c.Will.Topic)
			}
		}
	case mqtt.PUBLISH:
		t := o.topic(w, &p.pub)
		m := w.message(p.pub.Payload)
		if m == nil || m.topic != t || !bytes.Equal(m.payload, p.pub.Payload) {
			w.fail("changed", "a message that nobody sent: %v", p)
		}
		ok, qos, retain := w.becomes(o.rule, l.c.v, m)
		if !ok {
			w.fail("forbidden", "%v under %s", p, o.rule.name)
		}
		if p.pub.QoS != qos || p.pub.Retain != retain {
			w.fail("qos", "%v: want q%d retain=%v under %s", p, qos, retain, o.rule.name)
		}
	case mqtt.UNSUBSCRIBE:
		for _, f := range p.uns.Filters {
			if o.rule.keeps(string(f)) && o.rule.subscribes(string(f)) {
				w.fail("forbidden", "unsubscription of %s under %s", f, o.rule.name)
			}
		}
	case mqtt.SUBSCRIBE:
		for _, f := range p.sub.Filters {
			if !o.rule.subscribes(string(f.Filter)) {
				w.fail("forbidden", "subscription to %s under %s", f.Filter, o.rule.name)
			}
		}
	}
}

// allowedDown is what may go to the client.
func (l *link) allowedDown(o *observer, p *packet) {
	w := l.w
	if p.typ == mqtt.CONNACK {
		l.announced = o.rule
	}
	if p.typ != mqtt.PUBLISH {
		return
	}
	t := o.topic(w, &p.pub)
	d := w.delivery(p.pub.Payload)
	if d == nil || d.topic != t || !bytes.Equal(d.payload, p.pub.Payload) || d.qos != p.pub.QoS || d.retain != p.pub.Retain {
		w.fail("changed", "a delivery that nobody made: %v", p)
	}
	if !o.rule.decides(t, false) {
		w.fail("forbidden", "%v to the client under %s", p, o.rule.name)
	}
	if most := l.c.maxPacket; most > 0 && len(p.raw) > most {
		w.fail("too large", "%v for a client that takes %d", p, most)
	}
}

// checkEnd is what must hold when a connection ends by the session's will.
func (l *link) checkEnd() {
	w := l.w
	e := &l.end
	switch {
	case l.excuse != "":
	case e.Cause == session.CausePolicy && (l.excusesPolicy || l.rule.onDeny == "disconnect"):
	case e.Cause == session.CauseRefused && l.c.mayBeRefused(l):
	case e.Code == mqtt.ReceiveMaximumExceeded && l.c.wild:
	case e.Cause == session.CauseProtocol && l.bc != nil && len(l.bc.faultIDs) > 0:
		// A wrong acknowledgement has the client take an exchange for finished.
	default:
		w.fail("ended without a reason", "link %d: cause %d code %#x %v", l.no, e.Cause, byte(e.Code), e.Reason)
	}
	if l.c.v == mqtt.V5 && l.see[mqtt.Client].last != 0 && !l.out[mqtt.Client].eofBefore(l) {
		switch e.Cause {
		case session.CauseClientDisconnect, session.CauseClientLost, session.CauseBrokerDisconnect, session.CauseBrokerRefused:
		default:
			o := l.see[mqtt.Client]
			said := o.last == mqtt.DISCONNECT || o.last == mqtt.CONNACK
			if !said && len(o.buf) == 0 {
				w.fail("ended without a word", "link %d: cause %d; the last packet was %v", l.no, e.Cause, o.last)
			}
		}
	}
	if n := footprint(l.s); n > 16<<10 {
		w.fail("memory", "an ended session holds %d bytes", n)
	}
}

// eofBefore reports that the client was gone before the end: nothing is told to
// nobody.
func (p *pipe) eofBefore(l *link) bool { return l.c.gone[l] }

// willFires is the table of section 9: whether the broker should publish the
// will of a connection that has come to its end.
func (l *link) willFires(ruling *rules) (fires, known bool) {
	if l.crashed {
		return true, true
	}
	switch l.end.Cause {
	case session.CauseClientDisconnect:
		return l.end.Code == mqtt.DisconnectWithWill, true
	case session.CausePolicy:
		return ruling.revokedWill == "fire", true
	case session.CauseDrain:
		return ruling.drainWill != "suppress", true
	case session.CauseBrokerDisconnect, session.CauseUpstreamLost, session.CauseBrokerRefused:
		return false, false
	}
	return true, true
}

// footprint is how much memory hangs on a session's own tables.
func footprint(s *session.Session) int {
	v := reflect.ValueOf(s).Elem()
	n := 0
	for i := range v.NumField() {
		switch v.Type().Field(i).Name {
		case "set", "subj", "info":
		default:
			n += weigh(v.Field(i))
		}
	}
	return n
}

func weigh(v reflect.Value) int {
	n := 0
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			n += int(v.Elem().Type().Size()) + weigh(v.Elem())
		}
	case reflect.Slice:
		n += v.Cap() * int(v.Type().Elem().Size())
		if v.Type().Elem().Kind() != reflect.Uint8 {
			for i := range v.Len() {
				n += weigh(v.Index(i))
			}
		}
	case reflect.Array:
		for i := range v.Len() {
			n += weigh(v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			n += weigh(v.Field(i))
		}
	case reflect.Map:
		n += v.Len() * 64
	case reflect.String:
		n += v.Len()
	}
	return n
}

func isShared(f string) bool { return strings.HasPrefix(f, "$share/") }
