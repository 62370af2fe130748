package session

import (
	"errors"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
)

// headLen is how many bytes of a PUBLISH stand before its payload, told from
// the few bytes that say so, however often it is asked. While they are not
// there it is more than len(body).
func headLen(h mqtt.Header, v mqtt.Version, body []byte) int {
	if len(body) < 2 {
		return len(body) + 1
	}
	n := 2 + int(body[0])<<8 + int(body[1])
	if h.Flags&0x06 != 0 {
		n += 2
	}
	if v != mqtt.V5 {
		return n
	}
	props := 0
	for shift := 0; shift < 28; shift += 7 {
		if n >= len(body) {
			return n + 1
		}
		c := body[n]
		n++
		props |= int(c&0x7F) << shift
		if c < 0x80 {
			break
		}
	}
	return n + props
}

// head parses what stands before the payload of a PUBLISH at b[pos]. ok false:
// more bytes are needed.
func (s *Session) head(p *mqtt.Publish, h mqtt.Header, b []byte, pos int) (n int, ok bool, err error) {
	body := b[pos+h.Len:]
	whole := len(body) >= h.Length
	if whole {
		body = body[:h.Length]
	} else if len(body) < min(headLen(h, s.version, body), h.Length) {
		return 0, false, nil
	}
	n, err = p.ParseHead(h, s.version, body)
	if !whole && errors.Is(err, mqtt.ErrIncomplete) {
		return 0, false, nil
	}
	return n, true, err
}

// publish decides a PUBLISH of the client: at its head, when nothing wants the
// payload.
func (s *Session) publish(h mqtt.Header, b []byte, pos int, fx *Effects) int {
	inspects := s.subj.Inspects()
	if (inspects || s.whole && h.Size() <= wholeBytes) && len(b)-pos < h.Size() {
		return 0
	}
	msg := message{h: h, b: b, pos: pos}
	p := &msg.p
	n, ok, err := s.head(p, h, b, pos)
	if !ok {
		return 0
	}
	if err != nil {
		return s.malformed(mqtt.Client, h, b, pos, err, fx)
	}
	if p.HasSubscriptionID { // [MQTT-3.3.4-6]
		return s.misplaced(mqtt.Client, h, b, pos, fx)
	}
	if p.QoS > 0 && s.occupied(p.PacketID) {
		return s.wait(mqtt.Client, holdPacketID)
	}
	topic, code := s.resolve(mqtt.Client, p)
	if code != mqtt.Success {
		f := faultOf(CauseProtocol, policy.ReasonProtocol, policy.RuleNone)
		if f.Code = code; code == mqtt.TopicAliasInvalid {
			f.Rule = policy.RuleTopicAliases
		}
		return s.fault(mqtt.Client, h, b, pos, f, fx)
	}
	m := policy.Message{
		Topic: topic, ResponseTopic: topicUp(p.ResponseTopic), QoS: p.QoS, Retain: p.Retain,
		PacketSize: h.Size(), PayloadSize: h.Length - n, UserProperties: p.UserProperties,
	}
	if inspects {
		m.Payload = b[pos+h.Len+n : pos+h.Size()]
	}
	v := s.subj.Publish(m, nil)
	if s.narrow && v.Allowed() {
		v = s.fitBroker(p, v)
	}
	// The rate limit stands here: what limits and ACL let through is charged,
	// and a refusal by rate comes before one by QoS, retained or inspection.
	// `delay` is a hold with a time.
	msg.topic, msg.head = topic, n
	if !v.Allowed() && !s.set.detect {
		return s.publishDenied(&msg, v, fx)
	}
	return s.publishAllowed(&msg, v, fx)
}

// fitBroker holds an allowed PUBLISH to what the broker announced: over more it
// would end the connection [MQTT-3.2.2-11] [MQTT-3.2.2-14]. The client, which was
// told as well, gets the answer that a limit of ours would have.
func (s *Session) fitBroker(p *mqtt.Publish, v policy.Verdict) policy.Verdict {
	cfg := s.subj.Engine().Config() // of the policy in force, which a reload may have brought
	if v.QoS > s.brokerQoS {
		if !cfg.QoS.Downgrade {
			return policy.Verdict{Reason: policy.ReasonQoS, Rule: policy.RuleUpstreamQoS}
		}
		v.QoS, v.QoSRule = s.brokerQoS, policy.RuleUpstreamQoS
	}
	if p.Retain && !s.brokerRetains && !v.ClearRetain {
		if cfg.Retained.OnDenied != "strip" {
			return policy.Verdict{Reason: policy.ReasonRetained, Rule: policy.RuleUpstreamRetain}
		}
		v.ClearRetain, v.RetainRule = true, policy.RuleUpstreamRetain
	}
	return v
}

// message is a PUBLISH at hand. The view is part of it, not pointed to, so that
// it stays on the stack.
type message struct {
	h     mqtt.Header
	p     mqtt.Publish
	topic []byte // the real one
	head  int    // bytes of the body before the payload
	b     []byte // the input
	pos   int    // where the packet begins in it
}

// event is what the audit is told about a message.
func (m *message) event(k Kind, d Decision, from mqtt.Side, r policy.Reason, rule policy.RuleRef) Event {
	return Event{
		Kind: k, Decision: d, Reason: r, Rule: rule, Packet: mqtt.PUBLISH, From: from,
		Topic: m.topic, QoS: m.p.QoS, Retain: m.p.Retain, PayloadBytes: m.h.Length - m.head,
	}
}

// publishAllowed forwards a PUBLISH, changed where the verdict says so. A
// verdict that denies is one of detect-only.
func (s *Session) publishAllowed(m *message, v policy.Verdict, fx *Effects) int {
	p := &m.p
	qos, strip := min(v.QoS, p.QoS), v.ClearRetain && p.Retain
	if s.set.detect {
		qos, strip = p.QoS, false
	}
	plain := s.plain(mqtt.Client, p)
	if !plain && !s.set.Can.Rewrite {
		// The broker was not told this alias: it would read another topic.
		return s.fault(mqtt.Client, m.h, m.b, m.pos, faultOf(CauseProtocol, policy.ReasonUninspectable, policy.RuleTopicAliases), fx)
	}
	if !plain && s.maxUpstream > 0 && uint64(m.h.Size()+len(m.topic)) > uint64(s.maxUpstream) {
		// With its topic in place of the alias it is more than the broker takes.
		return s.publishDenied(m, policy.Verdict{Reason: policy.ReasonPacketTooLarge, Rule: policy.RuleMaxPacketSize}, fx)
	}
	var then reply
	if p.QoS > 0 && s.set.Can.Reply && !s.set.detect {
		var act action
		if act, then = s.enter(p, qos); act != actForward {
			return s.notForwarded(m, act, then, fx)
		}
	}
	if !s.tally(mqtt.Client, m.h) {
		return s.flood(m.h, m.pos, fx)
	}
	decision := DecisionAllow
	switch {
	case !v.Allowed():
		decision = DecisionDetect
		s.often(fx, m.event(KindDetected, decision, mqtt.Client, v.Reason, v.Rule))
	case qos < p.QoS || strip:
		decision = s.reportChange(m, v, qos, strip, fx)
	case s.set.includeAll:
		s.event(fx, m.event(KindAllowed, decision, mqtt.Client, policy.ReasonNone, v.Rule))
	}
	if fx.WantVerdicts {
		s.verdict(fx, mqtt.Client, m.h, p.QoS, m.pos, decision, v.Reason, v.Rule)
	}
	s.tell(mqtt.Client, p)
	skip := 0
	if s.set.Can.Rewrite && (qos < p.QoS || strip || !plain) {
		skip = m.h.Len + m.head
		s.ownNow(fx, mqtt.Broker, s.rewritten(m, qos, strip).AppendHead(fx.Scratch, s.version, m.h.Length-m.head))
	}
	n := s.passBody(mqtt.Client, m.h, m.b, m.pos, skip, fx)
	if then.typ != 0 {
		if s.half[mqtt.Client].left > 0 {
			s.rare().then[mqtt.Client] = then
		} else {
			s.reply(mqtt.Client, then, fx)
		}
	}
	return n
}

// rewritten is the PUBLISH that goes upstream instead.
func (s *Session) rewritten(m *message, qos byte, strip bool) *mqtt.Publish {
	p := m.p
	p.Topic = m.topic
	if qos < p.QoS {
		// DUP says that the broker may have seen this id: only a session that
		// it resumed can have.
		p.QoS, p.Dup = qos, p.Dup && s.resumed && qos > 0
	}
	if strip {
		p.Retain = false
	}
	return &p
}

// reportChange reports a lowered QoS and a cleared retain flag.
func (s *Session) reportChange(m *message, v policy.Verdict, qos byte, strip bool, fx *Effects) Decision {
	d, lowered, stripped := s.set.Can.changes()
	if qos < m.p.QoS {
		s.often(fx, m.event(lowered, d, mqtt.Client, policy.ReasonQoS, v.QoSRule))
	}
	if strip {
		s.often(fx, m.event(stripped, d, mqtt.Client, policy.ReasonRetained, v.RetainRule))
	}
	return d
}

// action is what becomes of an allowed PUBLISH by its packet id.
type action uint8

const (
	actForward  action = iota
	actHold            // as many are in flight as the broker takes: reading waits
	actPark            // the same, and only the client can make room
	actRepeat          // a DUP of one that is on its way already
	actBusy            // the id is in use
	actOverflow        // more than the Receive Maximum
)

// enter takes a packet id into use for a message that goes on with the given
// QoS. then is what the client is answered by us when the bytes are upstream.
func (s *Session) enter(p *mqtt.Publish, qos byte) (act action, then reply) {
	x := s.ex.get(p.PacketID)
	if x != nil && (x.stage == stageLowered || x.stage == stageOurs || x.stage == stageParked) {
		switch {
		case !p.Dup || p.QoS != 2 && x.stage != stageParked:
			return actBusy, reply{}
		case x.stage == stageOurs:
			return actRepeat, reply{typ: mqtt.PUBREC, id: p.PacketID, late: true}
		}
		return actRepeat, reply{}
	}
	if qos == 0 && p.QoS == 1 {
		return actForward, reply{typ: mqtt.PUBACK, id: p.PacketID, late: true}
	}
	if x == nil {
		if act := s.room(); act != actForward {
			return act, reply{}
		}
	}
	st := stageOurs
	switch {
	case p.QoS == 1:
		st = stageSent1
	case qos == 2:
		st = stageSent2
	case qos == 1:
		st = stageLowered
	default:
		then = reply{typ: mqtt.PUBREC, id: p.PacketID, late: true}
	}
	made(&s.ex).put(p.PacketID, st, p.Dup && s.resumed)
	return actForward, then
}

// room reports whether one more message may be in flight towards the broker.
//
// Clients that ignore the Receive Maximum exist (Paho Python, MQTT.js). Beyond
// the broker's figure, and in 3.x, which has none, reading waits while the
// broker alone can make room, by PUBACK. Where a PUBREL must make it, which lies
// behind, reading goes on and the message is parked. Beyond a figure that we
// announced it is the client's error.
func (s *Session) room() action {
	ours := s.set.maxWindow
	parked := len(s.few().parked) > 0 && !s.unparking
	switch {
	case s.ex == nil:
		return actForward
	case !parked && s.full() && s.ex.awaitsPuback(true):
		return actHold
	case ours == 0 || s.ex.byClient() < ours:
		if parked || s.full() {
			return actPark
		}
		return actForward
	case s.windowPaced && s.ex.awaitsPuback(false):
		return actHold
	}
	return actOverflow
}

// notForwarded does what enter found instead of forwarding.
func (s *Session) notForwarded(m *message, act action, then reply, fx *Effects) int {
	switch act {
	case actHold:
		return s.wait(mqtt.Client, holdWindow)
	case actPark:
		return s.park(m, fx)
	case actRepeat:
		if !s.tally(mqtt.Client, m.h) {
			return s.flood(m.h, m.pos, fx)
		}
		s.verdict(fx, mqtt.Client, m.h, m.p.QoS, m.pos, DecisionRewrite, policy.ReasonNone, policy.RuleNone)
		return s.dropBody(mqtt.Client, m.h, m.b, m.pos, then, fx)
	case actBusy:
		if s.version == mqtt.V5 {
			s.tally(mqtt.Client, m.h)
			then = ackOf(&m.p, mqtt.PacketIDInUse)
			s.often(fx, m.event(KindBlocked, DecisionDrop, mqtt.Client, policy.ReasonProtocol, policy.RuleNone))
			s.verdict(fx, mqtt.Client, m.h, m.p.QoS, m.pos, DecisionDrop, policy.ReasonProtocol, policy.RuleNone)
			return s.dropBody(mqtt.Client, m.h, m.b, m.pos, then, fx)
		}
		return s.misplaced(mqtt.Client, m.h, m.b, m.pos, fx)
	}
	return s.overflow(m, fx)
}

// overflow ends the connection for more messages in flight than we keep.
func (s *Session) overflow(m *message, fx *Effects) int {
	f := faultOf(CauseProtocol, policy.ReasonLimit, policy.RuleReceiveMaximum)
	f.Code = mqtt.ReceiveMaximumExceeded
	return s.fault(mqtt.Client, m.h, m.b, m.pos, f, fx)
}

// publishDenied refuses a PUBLISH.
func (s *Session) publishDenied(m *message, v policy.Verdict, fx *Effects) int {
	p := &m.p
	// Before 5.0 the client believes a refused message of QoS 2 accepted, and
	// its exchange goes on: with us.
	keeps := p.QoS == 2 && s.version != mqtt.V5 && s.set.Can.Reply && s.set.onDeny == onDenyAck
	switch {
	case !keeps:
	case s.ex.get(p.PacketID) == nil:
		if act := s.room(); act != actForward {
			return s.notForwarded(m, act, reply{}, fx)
		}
	case !p.Dup:
		return s.notForwarded(m, actBusy, reply{}, fx)
	}
	if !s.tally(mqtt.Client, m.h) {
		return s.flood(m.h, m.pos, fx)
	}
	closes := s.set.onDeny == onDenyDisconnect || s.set.agentClose && p.QoS > 0
	d := DecisionDrop
	if closes {
		d = DecisionClose
	}
	s.often(fx, m.event(KindBlocked, d, mqtt.Client, v.Reason, v.Rule))
	if s.denied() {
		return s.tooManyDenials(m.h, m.b, m.pos, fx)
	}
	s.verdict(fx, mqtt.Client, m.h, p.QoS, m.pos, d, v.Reason, v.Rule)
	if closes {
		s.ending(faultOf(CausePolicy, v.Reason, v.Rule), fx)
		return min(m.h.Size(), len(m.b)-m.pos)
	}
	var then reply
	if p.QoS > 0 && s.set.Can.Reply && s.set.onDeny == onDenyAck {
		then = s.answerDenied(p, ackCode(s.version, v.Reason), keeps, fx)
	}
	return s.dropBody(mqtt.Client, m.h, m.b, m.pos, then, fx)
}

// answerDenied is what a client is answered for a message of QoS 1 or 2 that is
// refused. An id in use keeps its exchange, which goes on.
func (s *Session) answerDenied(p *mqtt.Publish, code mqtt.ReasonCode, keeps bool, fx *Effects) reply {
	if p.QoS == 1 {
		return ackOf(p, code)
	}
	switch x := s.ex.get(p.PacketID); {
	case x != nil && !p.Dup:
		return ackOf(p, mqtt.PacketIDInUse)
	case x != nil && x.stage == stageOurs:
		return reply{typ: mqtt.PUBREC, id: p.PacketID, late: true}
	case x != nil: // what answers the first answers this
		return reply{}
	case keeps:
		made(&s.ex).put(p.PacketID, stageOurs, p.Dup && s.resumed)
	case p.Dup && s.resumed:
		s.release(p.PacketID, fx)
	}
	return ackOf(p, code)
}

// release frees an id that the broker may hold from before a cut, when a policy
// was in force that allowed the message: the refusal frees it at the client,
// and the next message with it would be taken for this one.
func (s *Session) release(id uint16, fx *Effects) {
	made(&s.ex).put(id, stageSwallow, false)
	s.reply(mqtt.Broker, reply{typ: mqtt.PUBREL, id: id}, fx)
}

// denied counts a refused packet; true: it is one too many.
func (s *Session) denied() bool {
	s.count.Denials++
	return !s.rare().denials.take(s.now, s.set.denialRate)
}

// tooManyDenials ends the connection: denial is never free.
func (s *Session) tooManyDenials(h mqtt.Header, b []byte, pos int, fx *Effects) int {
	s.verdict(fx, mqtt.Client, h, 0, pos, DecisionClose, policy.ReasonLimit, policy.RuleDenialsPerMinute)
	s.ending(faultOf(CausePolicy, policy.ReasonLimit, policy.RuleDenialsPerMinute), fx)
	return min(h.Size(), len(b)-pos)
}

// occupied reports whether a packet id is in use by a request of ours, or by
// the tail of an exchange that the client believes finished.
func (s *Session) occupied(id uint16) bool {
	if s.requests.owns(id) {
		s.rare().holdID = id
		return true
	}
	if x := s.ex.get(id); x != nil && x.stage == stageSwallow {
		s.rare().holdID = id
		return true
	}
	return false
}
