package session

import (
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
)

// clientAck takes PUBACK, PUBREC and PUBCOMP of the client for deliveries, and
// PUBREL for its own messages. Ids that we do not hold are the broker's to
// answer.
func (s *Session) clientAck(h mqtt.Header, body, b []byte, pos int, fx *Effects) int {
	var a mqtt.Ack
	if err := a.Parse(h, s.version, body); err != nil {
		return s.malformed(mqtt.Client, h, b, pos, err, fx)
	}
	switch x := s.ex.get(a.PacketID); {
	case h.Type == mqtt.PUBACK || h.Type == mqtt.PUBREC:
		n := s.pass(mqtt.Client, h, b, pos, fx)
		s.acknowledged(h.Type, fx)
		return n
	case h.Type != mqtt.PUBREL || x == nil:
	case x.stage == stageOurs:
		if !s.tally(mqtt.Client, h) {
			return s.flood(h, pos, fx)
		}
		s.verdict(fx, mqtt.Client, h, 0, pos, DecisionRewrite, policy.ReasonNone, policy.RuleNone)
		if x.again {
			// The broker may hold the id from before the cut: it hears PUBREL
			// too, and its PUBCOMP is not the client's.
			s.ex.put(a.PacketID, stageSwallow, false)
			s.passBody(mqtt.Client, h, b, pos, 0, fx)
		} else {
			s.ex.remove(a.PacketID)
		}
		s.reply(mqtt.Client, reply{typ: mqtt.PUBCOMP, id: a.PacketID}, fx)
		return h.Size()
	case x.stage == stageLowered || x.stage == stageParked: // PUBREC has not come [MQTT-4.3.3-4]
		return s.misplaced(mqtt.Client, h, b, pos, fx)
	}
	return s.pass(mqtt.Client, h, b, pos, fx)
}

// brokerAck takes PUBACK, PUBREC and PUBCOMP of the broker for the client's
// messages, and PUBREL for deliveries.
func (s *Session) brokerAck(h mqtt.Header, body, b []byte, pos int, fx *Effects) int {
	var a mqtt.Ack
	if err := a.Parse(h, s.version, body); err != nil {
		return s.malformed(mqtt.Broker, h, b, pos, err, fx)
	}
	if h.Type == mqtt.PUBREL {
		if s.few().filtered.get(a.PacketID) == nil {
			return s.pass(mqtt.Broker, h, b, pos, fx)
		}
		s.seldom.filtered.remove(a.PacketID)
		s.tally(mqtt.Broker, h)
		s.reply(mqtt.Broker, reply{typ: mqtt.PUBCOMP, id: a.PacketID}, fx)
		return h.Size()
	}
	// The standard does not list Packet Too Large here, and clients drop the
	// connection over it; Mosquitto says it all the same.
	unlisted := a.Code == mqtt.PacketTooLarge && s.set.Can.Rewrite
	if unlisted {
		a.Code = mqtt.QuotaExceeded
	}
	switch x := s.ex.get(a.PacketID); {
	case x == nil:
	case h.Type == mqtt.PUBACK && x.stage == stageLowered:
		if a.Code >= 0x80 {
			s.ex.remove(a.PacketID)
		} else {
			s.ex.set(x, stageOurs)
		}
		return s.passChanged(mqtt.Broker, h, pos, a.Append(fx.Scratch, mqtt.PUBREC, s.version), fx)
	case h.Type == mqtt.PUBACK && x.stage == stageSent1,
		h.Type == mqtt.PUBREC && x.stage == stageSent2 && a.Code >= 0x80,
		h.Type == mqtt.PUBCOMP && (x.stage == stageReleased || x.stage == stageSent2):
		s.ex.remove(a.PacketID)
	case h.Type == mqtt.PUBREC && x.stage == stageSent2:
		s.ex.set(x, stageReleased)
	case h.Type == mqtt.PUBCOMP && x.stage == stageSwallow:
		s.ex.remove(a.PacketID)
		s.tally(mqtt.Broker, h)
		return h.Size()
	}
	if unlisted {
		return s.passChanged(mqtt.Broker, h, pos, a.Append(fx.Scratch, h.Type, s.version), fx)
	}
	return s.pass(mqtt.Broker, h, b, pos, fx)
}

// clientDisconnect forwards the client's DISCONNECT and ends: bytes behind it
// are nobody's.
func (s *Session) clientDisconnect(h mqtt.Header, body, b []byte, pos int, fx *Effects) int {
	var d mqtt.Disconnect
	if err := d.Parse(h, s.version, mqtt.Client, body); err != nil {
		return s.malformed(mqtt.Client, h, b, pos, err, fx)
	}
	if s.trailed(h, b, pos) {
		return s.misplaced(mqtt.Client, h, b, pos, fx)
	}
	if s.expires && d.SessionExpiry > 0 { // MQTT 3.14.2.2.2
		return s.misplaced(mqtt.Client, h, b, pos, fx)
	}
	most := s.set.Config.General.Limits.SessionExpirySecs
	if most > 0 && d.HasSessionExpiry && int64(d.SessionExpiry) > most && s.set.Can.Rewrite && !s.set.detect {
		d.Properties = d.Properties.AppendWithout(nil, mqtt.SessionExpiryInterval).
			AppendUint(mqtt.SessionExpiryInterval, uint32(most))
		s.passChanged(mqtt.Client, h, pos, d.Append(fx.Scratch, mqtt.DISCONNECT, s.version), fx)
	} else {
		s.pass(mqtt.Client, h, b, pos, fx)
	}
	s.ending(End{Cause: CauseClientDisconnect, Code: d.Code}, fx)
	return h.Size()
}

// trailed reports bytes behind a packet that ends the dialogue, in the door that
// passes frames: it would pass them with it, undecided.
func (s *Session) trailed(h mqtt.Header, b []byte, pos int) bool {
	return !s.set.Can.Reply && len(b)-pos > h.Size()
}

// brokerDisconnect forwards the broker's DISCONNECT, without the way around
// us, and ends.
func (s *Session) brokerDisconnect(h mqtt.Header, body, b []byte, pos int, fx *Effects) int {
	var d mqtt.Disconnect
	if err := d.Parse(h, s.version, mqtt.Broker, body); err != nil {
		return s.malformed(mqtt.Broker, h, b, pos, err, fx)
	}
	if s.trailed(h, b, pos) {
		return s.misplaced(mqtt.Broker, h, b, pos, fx)
	}
	if s.set.Can.Rewrite && (elsewhere(d.Code) || len(d.ServerReference) > 0) {
		if elsewhere(d.Code) {
			d.Code = mqtt.ServerShuttingDown
		}
		d.Properties = d.Properties.AppendWithout(nil, mqtt.ServerReference)
		s.passChanged(mqtt.Broker, h, pos, d.Append(fx.Scratch, mqtt.DISCONNECT, s.version), fx)
	} else {
		s.pass(mqtt.Broker, h, b, pos, fx)
	}
	s.ending(End{Cause: CauseBrokerDisconnect, Code: d.Code}, fx)
	return h.Size()
}

// authPacket forwards AUTH of an exchange that an allowed CONNECT began. It
// changes nothing about who the client is.
func (s *Session) authPacket(from mqtt.Side, h mqtt.Header, body, b []byte, pos int, fx *Effects) int {
	var d mqtt.Disconnect
	if err := d.Parse(h, s.version, from, body); err != nil {
		return s.malformed(from, h, b, pos, err, fx)
	}
	if d.HasAuthMethod && string(d.AuthMethod) != s.few().authMethod { // [MQTT-4.12.0-5]
		return s.misplaced(from, h, b, pos, fx)
	}
	if s.state == stateConnack {
		s.authTurn = from == mqtt.Broker
		if s.set.Can.Reply && s.set.connackTimeout > 0 {
			s.deadline = s.now + s.set.connackTimeout
			s.schedule()
		}
	}
	return s.pass(from, h, b, pos, fx)
}
