package session

import (
	"bytes"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
)

// topicUp is the one function through which every topic and filter of the
// client passes on its way to a decision and to the broker.
func topicUp(t []byte) []byte { return t }

// topicDown is the one function through which every topic of the broker passes
// on its way to a decision and to the client.
func topicDown(t []byte) []byte { return t }

// aliases are the topic aliases of one direction. What the sender means and
// what the receiver was told differ as soon as one packet was not forwarded.
type aliases struct {
	means [][]byte // by alias - 1; nil: unknown
	told  [][]byte
}

// openAliases sets how many aliases are legal, when CONNACK has announced the
// last maximum.
func (s *Session) openAliases(up uint16) {
	s.aliasMax = [2]uint16{mqtt.Client: up, mqtt.Broker: s.start.aliasMax}
	if most := s.set.maxAliases; most > 0 {
		// The agent door cannot lower what is announced; it remembers no more.
		for i := range s.aliasMax {
			s.aliasMax[i] = min(s.aliasMax[i], uint16(min(most, 0xFFFF)))
		}
	}
}

// resolve returns the real topic of a PUBLISH and learns what an alias means.
// The code is not Success when the alias may not be used so.
func (s *Session) resolve(from mqtt.Side, p *mqtt.Publish) ([]byte, mqtt.ReasonCode) {
	topic := p.Topic
	if p.TopicAlias != 0 {
		if p.TopicAlias > s.aliasMax[from] { // [MQTT-3.3.2-9]
			return nil, mqtt.TopicAliasInvalid
		}
		a := &s.rare().alias[from]
		i := int(p.TopicAlias) - 1
		switch {
		case len(topic) > 0:
			a.learn(i, topic)
		case i >= len(a.means) || a.means[i] == nil:
			return nil, mqtt.ProtocolError
		default:
			topic = a.means[i]
		}
	}
	if from == mqtt.Client {
		return topicUp(topic), mqtt.Success
	}
	return topicDown(topic), mqtt.Success
}

// learn notes what the sender means by an alias.
func (a *aliases) learn(i int, topic []byte) {
	if i >= len(a.means) {
		a.means = append(a.means, make([][]byte, i+1-len(a.means))...)
	}
	if a.means[i] == nil || !bytes.Equal(a.means[i], topic) {
		a.means[i] = bytes.Clone(topic)
	}
}

// plain reports whether the receiver reads a PUBLISH as its sender means it.
func (s *Session) plain(from mqtt.Side, p *mqtt.Publish) bool {
	if p.TopicAlias == 0 || len(p.Topic) > 0 {
		return true
	}
	a := &s.seldom.alias[from]
	i := int(p.TopicAlias) - 1
	return i < len(a.told) && a.told[i] != nil && bytes.Equal(a.told[i], a.means[i])
}

// tell notes that a PUBLISH with its topic and alias is forwarded.
func (s *Session) tell(from mqtt.Side, p *mqtt.Publish) {
	if p.TopicAlias == 0 {
		return
	}
	a := &s.seldom.alias[from]
	i := int(p.TopicAlias) - 1
	if i >= len(a.told) {
		a.told = append(a.told, make([][]byte, len(a.means)-len(a.told))...)
	}
	if !bytes.Equal(a.told[i], a.means[i]) || a.told[i] == nil {
		a.told[i], s.aliased = a.means[i], true
	}
}

// settleAliases ends a call in which aliases were told. The agent door may drop
// a frame for one refused packet in it, and with it an alias that an allowed
// packet told: then nobody knows what the receiver knows.
func (s *Session) settleAliases() {
	if s.dropped && s.aliased && !s.set.Can.Reply && s.seldom != nil {
		a := &s.seldom.alias
		a[mqtt.Client].told, a[mqtt.Broker].told = nil, nil
	}
	s.dropped, s.aliased = false, false
}
