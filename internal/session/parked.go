package session

import (
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
)

// maxParked bounds the bytes of a connection's parked messages. It holds what
// Paho Python sends at once to a broker that takes less, and a burst of small
// messages of MQTT.js.
const maxParked = 32 << 10

// full reports whether as many messages are in flight as the broker takes.
func (s *Session) full() bool {
	return s.windowPaced && s.window > 0 && s.ex != nil && s.ex.byBroker() >= int(s.window)
}

// park keeps a message of QoS 1 or 2 that the broker does not take yet, whole
// and with its real topic, and has reading go on: a PUBREL that makes room may
// lie behind. Those of QoS 1 and 2 that follow queue up behind it. What does not
// fit is refused as beyond a limit; only 5.0 has a broker's figure, and can say
// so.
func (s *Session) park(m *message, fx *Effects) int {
	size := m.h.Size() + len(m.topic)
	if len(s.few().parked)+size > maxParked {
		return s.publishDenied(m, policy.Verdict{Reason: policy.ReasonLimit, Rule: policy.RuleReceiveMaximum}, fx)
	}
	if len(m.b)-m.pos < m.h.Size() {
		return 0
	}
	p := m.p
	p.Topic = m.topic
	p.TopicAlias, p.Properties = 0, p.Properties.AppendWithout(nil, mqtt.TopicAlias)
	body := m.h.Length - m.head
	r := s.rare()
	r.parked = p.AppendHead(r.parked, s.version, body)
	r.parked = append(r.parked, m.b[m.pos+m.h.Size()-body:m.pos+m.h.Size()]...)
	s.ex.put(p.PacketID, stageParked, false)
	return m.h.Size()
}

// unpark sends on what the broker takes now, decided by the policy in force
// now: it may have changed.
func (s *Session) unpark(fx *Effects) {
	if s.state != stateOpen || s.half[mqtt.Client].left > 0 {
		return
	}
	for r := s.seldom; len(r.parked) > 0 && !s.full(); {
		h, err := mqtt.ParseHeader(r.parked, s.version, mqtt.Client)
		if err != nil {
			panic("session: a parked message does not parse: " + err.Error())
		}
		b := r.parked[:h.Size()]
		var p mqtt.Publish
		if _, err := p.ParseHead(h, s.version, b[h.Len:]); err != nil {
			panic("session: a parked message does not parse: " + err.Error())
		}
		s.ex.remove(p.PacketID)
		s.unparking = true
		n := s.publish(h, b, 0, fx)
		s.unparking = false
		if s.state != stateOpen {
			return
		}
		if n == 0 { // it waits, as reading does
			made(&s.ex).put(p.PacketID, stageParked, false)
			return
		}
		// Events of this call hold topics in what was sent: it is left alone.
		if r.parked = r.parked[h.Size():]; len(r.parked) == 0 {
			r.parked = nil
		}
	}
}
