package session

import (
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
)

// deliver decides a PUBLISH of the broker. One that does not reach the client
// is acknowledged in its place, and never closes anything: a retained message
// would do so again at every reconnect.
func (s *Session) deliver(h mqtt.Header, b []byte, pos int, fx *Effects) int {
	m := message{h: h, b: b, pos: pos}
	p := &m.p
	n, ok, err := s.head(p, h, b, pos)
	tooLarge := s.maxDelivery > 0 && uint64(h.Size()) > uint64(s.maxDelivery)
	switch {
	case !ok && len(b)-pos <= maxBuffered:
		return 0
	case !ok, err != nil:
		if s.set.detect {
			return s.fault(mqtt.Broker, h, b, pos, faultOf(CauseBrokerFault, policy.ReasonMalformed, policy.RuleNone), fx)
		}
		return s.discardUnread(&m, tooLarge, fx)
	}
	topic, code := s.resolve(mqtt.Broker, p)
	if code != mqtt.Success {
		return s.fault(mqtt.Broker, h, b, pos, faultOf(CauseBrokerFault, policy.ReasonProtocol, policy.RuleTopicAliases), fx)
	}
	m.topic, m.head = topic, n
	plain := s.plain(mqtt.Broker, p)
	if tooLarge || !plain && s.maxDelivery > 0 && uint64(h.Size()+len(topic)) > uint64(s.maxDelivery) {
		return s.filter(&m, policy.ReasonPacketTooLarge, policy.RuleMaxDeliverySize, fx)
	}
	v := s.subj.Deliver(topic, nil)
	decision := DecisionAllow
	if !v.Allowed() {
		if !s.set.detect {
			return s.filter(&m, v.Reason, v.Rule, fx)
		}
		decision = DecisionDetect
		s.often(fx, m.event(KindDetected, decision, mqtt.Broker, v.Reason, v.Rule))
	}
	skip := 0
	if !plain {
		if !s.set.Can.Rewrite {
			return s.fault(mqtt.Broker, h, b, pos, faultOf(CauseBrokerFault, policy.ReasonUninspectable, policy.RuleTopicAliases), fx)
		}
		q := *p
		q.Topic = topic
		skip = h.Len + n
		s.ownNow(fx, mqtt.Client, q.AppendHead(fx.Scratch, s.version, h.Length-n))
	}
	if p.QoS == 2 {
		s.few().filtered.remove(p.PacketID) // the broker dealt the id anew
	}
	if p.QoS > 0 {
		s.delivered(p.QoS)
	}
	s.tally(mqtt.Broker, h)
	s.tell(mqtt.Broker, p)
	if fx.WantVerdicts {
		s.verdict(fx, mqtt.Broker, h, p.QoS, pos, decision, v.Reason, v.Rule)
	}
	if s.set.includeAll && decision == DecisionAllow {
		s.event(fx, m.event(KindAllowed, decision, mqtt.Broker, policy.ReasonNone, v.Rule))
	}
	return s.passBody(mqtt.Broker, h, b, pos, skip, fx)
}

// filter keeps a delivery from the client.
func (s *Session) filter(m *message, r policy.Reason, rule policy.RuleRef, fx *Effects) int {
	p := &m.p
	s.tally(mqtt.Broker, m.h)
	d := DecisionDrop
	closes := s.set.agentClose && p.QoS > 0
	if closes {
		d = DecisionClose
	}
	s.often(fx, m.event(KindDeliveryFiltered, d, mqtt.Broker, r, rule))
	s.verdict(fx, mqtt.Broker, m.h, p.QoS, m.pos, d, r, rule)
	if closes {
		s.ending(faultOf(CausePolicy, r, rule), fx)
		return min(m.h.Size(), len(m.b)-m.pos)
	}
	return s.dropBody(mqtt.Broker, m.h, m.b, m.pos, s.accept(p), fx)
}

// accept is how a delivery that the client does not get is acknowledged.
func (s *Session) accept(p *mqtt.Publish) reply {
	if !s.set.Can.Reply || p.PacketID == 0 {
		return reply{}
	}
	// A DUP may be one that the client had before a cut: then it is the client
	// that completes the exchange.
	if p.QoS == 2 && !p.Dup {
		made(&s.rare().filtered).put(p.PacketID, stageOurs, false)
	}
	return ackOf(p, mqtt.Success)
}

// discardUnread discards a delivery with sound framing and bad content, and
// acknowledges it if its id can be read.
func (s *Session) discardUnread(m *message, tooLarge bool, fx *Effects) int {
	body := m.b[m.pos+m.h.Len:]
	m.p = mqtt.Publish{QoS: m.h.Flags >> 1 & 3, Retain: m.h.Flags&1 != 0, Dup: m.h.Flags&8 != 0}
	if m.p.QoS > 0 {
		at := 0
		if len(body) >= 2 {
			at = 2 + int(body[0])<<8 + int(body[1])
		}
		if need := at + 2; len(body) < need && need <= m.h.Length {
			return 0
		} else if need <= m.h.Length {
			m.p.PacketID = uint16(body[at])<<8 | uint16(body[at+1])
		}
	}
	r, rule := policy.ReasonMalformed, policy.RuleNone
	if tooLarge {
		r, rule = policy.ReasonPacketTooLarge, policy.RuleMaxDeliverySize
	}
	m.head = 0
	return s.filter(m, r, rule, fx)
}
