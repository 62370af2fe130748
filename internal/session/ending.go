package session

import (
	"errors"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
)

const (
	// wholeBytes is up to which size a PUBLISH of a client with a will goes
	// upstream only when all of it is here: DISCONNECT cannot stand inside a
	// packet, and the will must not be published when policy ends the client.
	wholeBytes = 64 << 10
	// closingTime is how long such an ending waits for a larger one to go by. A
	// client that keeps it open longer, or leaves meanwhile, has the broker
	// publish its will: there is no way to end a connection in the middle of a
	// packet without that.
	closingTime = Second
)

// faultOf is the ending for a reason of ours, with the code its table gives.
func faultOf(c Cause, r policy.Reason, rule policy.RuleRef) End {
	return End{Cause: c, Code: answerTo(r).disconnect, Reason: r, Rule: rule}
}

// malformed ends the connection for bytes that do not parse.
func (s *Session) malformed(from mqtt.Side, h mqtt.Header, b []byte, pos int, err error, fx *Effects) int {
	e := faultOf(CauseMalformed, policy.ReasonMalformed, policy.RuleNone)
	var me *mqtt.Error
	if errors.As(err, &me) && me.Code != mqtt.MalformedPacket {
		e.Cause, e.Reason, e.Code = CauseProtocol, policy.ReasonProtocol, me.Code
	}
	return s.fault(from, h, b, pos, e, fx)
}

// misplaced ends the connection for a packet that may not come now.
func (s *Session) misplaced(from mqtt.Side, h mqtt.Header, b []byte, pos int, fx *Effects) int {
	return s.fault(from, h, b, pos, faultOf(CauseProtocol, policy.ReasonProtocol, policy.RuleNone), fx)
}

// fault ends the connection at a packet; in detect-only it becomes opaque
// there. It returns the bytes consumed.
func (s *Session) fault(from mqtt.Side, h mqtt.Header, b []byte, pos int, e End, fx *Effects) int {
	if s.state == stateEnded {
		return 0
	}
	if from == mqtt.Broker {
		// What is wrong with the broker is no affair of the client's.
		e.Cause, e.Code = CauseBrokerFault, endings[CauseBrokerFault]
	}
	if s.set.detect {
		return s.becomeOpaque(from, h, b, pos, e, fx)
	}
	s.event(fx, Event{
		Kind: KindBlocked, Decision: DecisionClose, Reason: e.Reason, Rule: e.Rule, Packet: h.Type, From: from,
		PacketBytes: unread(h, e.Reason),
	})
	s.verdict(fx, from, h, 0, pos, DecisionClose, e.Reason, e.Rule)
	s.ending(e, fx)
	return max(min(h.Size(), len(b)-pos), 1)
}

// unread is the size of a packet whose size is what is wrong with it.
func unread(h mqtt.Header, r policy.Reason) int {
	if r == policy.ReasonPacketTooLarge {
		return h.Size()
	}
	return 0
}

// becomeOpaque has everything pass from here on, both ways, unread.
func (s *Session) becomeOpaque(from mqtt.Side, h mqtt.Header, b []byte, pos int, e End, fx *Effects) int {
	s.event(fx, Event{
		Kind: KindDetected, Decision: DecisionDetect, Reason: e.Reason, Rule: e.Rule, Packet: h.Type, From: from,
		PacketBytes: unread(h, e.Reason),
	})
	if fx.WantVerdicts {
		h.Length = len(b) - pos - h.Len
		s.verdict(fx, from, h, 0, pos, DecisionDetect, e.Reason, e.Rule)
	}
	if s.state == stateConnect && s.set.Can.Reply {
		s.opaque = true
		s.needDial(fx)
		return 0
	}
	s.state, s.deadline, s.wake = stateOpaque, 0, s.repeatsAt()
	s.forward(fx, from.Peer(), pos, len(b))
	return len(b) - pos
}

// End ends the session for a cause of the driver's: drain, revoked, kicked,
// stalled, an internal fault. A Code of 0 is filled in from the reason or the
// cause.
func (s *Session) End(now Time, e End, fx *Effects) {
	s.now = now
	s.ending(e, fx)
	s.finish(fx)
}

// Lost tells that a side is gone.
func (s *Session) Lost(now Time, side mqtt.Side, fx *Effects) {
	s.now = now
	switch {
	case s.state == stateEnded:
	case s.state == stateClosing:
		s.finishEnd(s.seldom.end, fx)
	case side == mqtt.Client:
		s.ending(End{Cause: CauseClientLost}, fx)
	case s.state == stateConnack || s.state == stateDial:
		// Some brokers answer a version they do not speak with a bare close.
		s.refuse(End{Cause: CauseUpstreamLost, Reason: policy.ReasonServerUnavailable}, fx)
	default:
		s.ending(End{Cause: CauseUpstreamLost}, fx)
	}
	s.finish(fx)
}

// ending ends the session, or has it end at the boundary of the packet that is
// passing to the broker, when the broker must be told not to fire the will.
func (s *Session) ending(e End, fx *Effects) {
	if s.state == stateEnded || s.state == stateClosing {
		return
	}
	if e.Code == 0 {
		e.Code = endings[e.Cause]
		if e.Reason != policy.ReasonNone {
			e.Code = answerTo(e.Reason).disconnect
		}
	}
	if s.will && s.quenches(e.Cause) && s.midPacket(mqtt.Broker) {
		s.state, s.rare().end = stateClosing, e
		s.deadline = s.now + closingTime
		s.schedule()
		return
	}
	s.finishEnd(e, fx)
}

// quenches reports whether an ending must keep the broker from publishing the
// will (policy section 9).
func (s *Session) quenches(c Cause) bool {
	if !s.set.Can.Reply || s.state < stateConnack || s.state == stateOpaque {
		return false
	}
	return c == CausePolicy && s.set.quenchRevoked || c == CauseDrain && s.set.quenchDrained
}

// finishEnd tells both sides what they are told, and ends.
func (s *Session) finishEnd(e End, fx *Effects) {
	if s.quenches(e.Cause) && !s.midPacket(mqtt.Broker) {
		s.ownNow(fx, mqtt.Broker, (&mqtt.Disconnect{}).Append(fx.Scratch, mqtt.DISCONNECT, s.version))
	}
	s.farewell(e, fx)
	s.state = stateEnded
	s.tellRepeats(true, fx)
	fx.Ended, fx.End = true, e
	if s.subj != nil && !s.refusal {
		s.event(fx, Event{
			Kind: KindDisconnected, Decision: DecisionClose, Reason: e.Reason, Rule: e.Rule,
			Packet: mqtt.DISCONNECT, From: mqtt.Client, End: e,
		})
	}
	// A driver may keep the session for its counters and identity.
	if s.start != nil {
		*s.start = start{info: s.start.info}
	}
	s.ex, s.requests, s.held, s.seldom = nil, nil, nil, nil
	s.half, s.wake, s.deadline = [2]half{}, 0, 0
}

// farewellSize is the larger of the packets of farewell, CONNACK and DISCONNECT.
const farewellSize = 5

// farewell tells the client why, where its version has a packet for it and its
// stream is not inside another one.
func (s *Session) farewell(e End, fx *Effects) {
	switch e.Cause {
	case CauseClientDisconnect, CauseClientLost, CauseBrokerDisconnect, CauseBrokerRefused:
		return
	}
	if !s.set.Can.Reply || s.version == 0 || s.state == stateOpaque || s.midPacket(mqtt.Client) || s.tooLarge(farewellSize) {
		return
	}
	switch {
	case s.connected && s.version == mqtt.V5:
		// [MQTT-3.14.0-1]: only after CONNACK 0.
		d := mqtt.Disconnect{Code: e.Code, Form: 1}
		s.ownNow(fx, mqtt.Client, d.Append(fx.Scratch, mqtt.DISCONNECT, s.version))
	case !s.connected && s.start != nil || e.Reason == policy.ReasonVersion:
		if c := (mqtt.Connack{Code: s.connackCode(e)}); c.Code != 0 {
			s.ownNow(fx, mqtt.Client, c.Append(fx.Scratch, s.version))
		}
	}
}

// connackCode is how CONNACK says that the connection ends before it began.
// 0: nothing says it.
func (s *Session) connackCode(e End) mqtt.ReasonCode {
	r := e.Reason
	if r == policy.ReasonNone || e.Cause == CauseBrokerFault {
		switch e.Cause {
		case CauseDrain:
			r = policy.ReasonDraining
		case CausePolicy:
			r = policy.ReasonNotAllowed
		default:
			r = policy.ReasonServerUnavailable
		}
	}
	a := answerTo(r)
	if s.version == mqtt.V5 {
		return a.connack5
	}
	if e.Rule == policy.RuleKeepAlive {
		// A 3.x client cannot be told a shorter one (policy section 5).
		return mqtt.ReturnIDRejected
	}
	return a.connack3
}
