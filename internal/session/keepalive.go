package session

import (
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
)

const (
	// ownRequestTime is how long a packet of the client waits for a packet id
	// that a request of ours uses.
	ownRequestTime = 5 * Second
	// leastPatience is how long the broker has at least to answer a PINGREQ of
	// ours.
	leastPatience = 10 * Second
)

// Hold tells that the driver stopped (true) or resumed (false) reading from the
// client: back-pressure is not the client's silence, and the broker goes on
// hearing from us. It returns when to call Tick, as Effects.Wake. Pauses that
// Effects asked for are known already.
func (s *Session) Hold(now Time, stopped bool) (wake Time) {
	s.now = now
	if s.driverHolds && !stopped {
		s.heard = now
	}
	s.driverHolds = stopped
	s.wakeEarlier()
	return s.wake
}

// Tick does what is due.
func (s *Session) Tick(now Time, fx *Effects) {
	s.now = now
	s.due(fx)
	s.tellRepeats(false, fx)
	if s.state != stateEnded {
		s.schedule()
	}
	s.finish(fx)
}

func (s *Session) due(fx *Effects) {
	switch s.state {
	case stateConnect:
		if s.deadline > 0 && s.now >= s.deadline {
			s.ending(End{Cause: CauseConnectTimeout}, fx)
		}
		return
	case stateClosing:
		if s.now >= s.deadline {
			s.finishEnd(s.seldom.end, fx)
		}
		return
	case stateConnack:
		if s.deadline > 0 && s.now >= s.deadline {
			s.refuse(End{Cause: CauseUpstreamLost, Reason: policy.ReasonServerUnavailable}, fx)
			return
		}
		if s.set.Can.Reply {
			return
		}
	case stateOpen:
	default:
		return
	}
	if s.set.detect {
		return // what both ends make of silence is theirs
	}
	if !s.reads() {
		s.heard = s.now
	}
	if at := s.silentAt(); at > 0 && s.now >= at {
		s.ending(End{Cause: CauseKeepAlive}, fx)
		return
	}
	if s.hold[mqtt.Client] == holdPacketID && s.now >= s.few().heldSince+ownRequestTime && s.stillHeld(mqtt.Client) {
		s.ending(End{Cause: CauseBrokerFault}, fx)
		return
	}
	if at := s.deadAt(); at > 0 && s.now >= at {
		s.ending(End{Cause: CauseUpstreamLost}, fx)
		return
	}
	if at := s.pingAt(); at > 0 && s.now >= at {
		s.ownNow(fx, mqtt.Broker, mqtt.AppendPing(fx.Scratch, mqtt.PINGREQ))
		r := s.rare()
		if r.ownPings++; r.pinged == 0 {
			r.pinged = s.now
		}
	}
}

// reads reports whether the client is being read.
func (s *Session) reads() bool {
	return !s.driverHolds && s.hold[mqtt.Client] == holdNone
}

// silentAt is when a client that stays silent is ended [MQTT-3.1.2-22].
func (s *Session) silentAt() Time {
	if s.keepAlive == 0 {
		return 0
	}
	return s.heard + Time(s.keepAlive)*Second*3/2
}

// pingAt is when the broker must hear something from us. It need not while the
// client is as silent as its stream to the broker: the client's own ping comes
// in time. It must when we answered or dropped what the client sent, or do not
// read what it sends.
func (s *Session) pingAt() Time {
	if s.keepAliveUp == 0 || !s.set.Can.Reply || s.state != stateOpen || s.set.detect || s.few().ownPings == 0xFF ||
		s.midPacket(mqtt.Broker) {
		return 0
	}
	if s.heard <= s.sentUp && s.reads() {
		return 0
	}
	return s.sentUp + Time(s.keepAliveUp)*Second/2
}

// deadAt is when a broker that answers no PINGREQ and sends nothing else is
// taken for lost.
func (s *Session) deadAt() Time {
	pinged := s.few().pinged
	if pinged == 0 {
		return 0
	}
	return max(pinged, s.heardDown) + max(Time(s.keepAliveUp)*Second, leastPatience)
}

// schedule sets when Tick is due next.
func (s *Session) schedule() {
	s.wake = s.deadline
	if s.state == stateOpen || s.state == stateConnack && !s.set.Can.Reply {
		s.earlier(s.silentAt())
		s.earlier(s.pingAt())
		s.earlier(s.deadAt())
		if s.hold[mqtt.Client] == holdPacketID {
			s.earlier(s.few().heldSince + ownRequestTime)
		}
		if s.set.detect {
			s.wake = 0
		}
	}
	s.earlier(s.repeatsAt())
}

func (s *Session) earlier(at Time) {
	if at > 0 && (s.wake == 0 || at < s.wake) {
		s.wake = at
	}
}

// wakeEarlier brings the wake forward for what a call may have made due before
// it. Activity only moves the rest back, and is looked at when Tick comes.
func (s *Session) wakeEarlier() {
	if s.state != stateOpen || s.set.detect {
		return
	}
	if s.heard > s.sentUp || s.hold[mqtt.Client] != holdNone || s.driverHolds {
		s.earlier(s.pingAt())
		if s.hold[mqtt.Client] == holdPacketID {
			s.earlier(s.few().heldSince + ownRequestTime)
		}
	}
}
