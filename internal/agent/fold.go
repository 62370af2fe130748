package agent

import (
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/agent/wire"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/session"
)

// stream is one direction of a WebSocket as a stream of packets.
type stream struct {
	held     []byte // bytes that were allowed before their packet could be decided
	counted  int    // of held, its memory as it was counted last
	rest     int    // bytes to come of a packet that was decided at its head
	dropping bool   // that packet was refused: its frames are dropped
	reason   policy.Reason
	rule     policy.RuleRef // of the refused one
	fragment bool           // inside a fragmented WebSocket message
}

// fold makes one answer of the verdicts about the packets in a frame (policy
// section 10). An agent cannot change a frame, and the next one comes only
// after the answer: allow is at the broker, drop is lost.
type fold struct {
	start, end  int  // the frame in the input that the session was given
	whole       bool // a whole WebSocket message: dropping it breaks no other
	closeOnDeny bool // agent.on-deny: close

	refused    bool // some packet was refused
	answerable bool // … and its sender waits for an answer: not a PUBLISH with QoS 0
	other      bool // something must not be lost with them
	split      bool // a refused packet began in an earlier frame
	closing    bool // some packet can only be closed on
	last       int  // where the last packet ends
	lastKept   bool // it was not refused
	reason     policy.Reason
	rule       policy.RuleRef
}

// continues begins a fold with what is left of the packet before.
func (f *fold) continues(s *stream) {
	f.last = s.rest
	switch {
	case s.rest == 0:
	case s.dropping:
		// [start, rest) goes the way of its head, and only alone.
		f.refused = true
		f.closing = s.rest < f.end || !f.whole
		f.reason, f.rule = s.reason, s.rule
	default:
		f.other, f.lastKept = true, true
	}
}

// add takes the verdicts of one call, whose input began at base.
func (f *fold) add(verdicts []session.PacketVerdict, base int) {
	for i := range verdicts {
		v := &verdicts[i]
		from := v.From + base
		f.last = v.To + base
		f.lastKept = v.Decision != session.DecisionDrop
		lossy := v.Type == mqtt.PUBLISH && v.QoS == 0
		switch v.Decision {
		case session.DecisionAllow, session.DecisionDetect:
			if !lossy || from < f.start {
				f.other = true
			}
			continue
		case session.DecisionDrop:
			f.refused = true
			f.answerable = f.answerable || !lossy
			if from < f.start || v.Type == mqtt.CONNECT {
				f.split = from < f.start
				f.closing = true
			}
		default:
			// Rewrite is not possible here.
			f.closing = true
		}
		f.reason, f.rule = v.Reason, v.Rule
	}
}

// decide gives the answer and puts the stream behind the frame. consumed is
// how far the session has read.
func (f *fold) decide(s *stream, consumed int) wire.WebSocketDecision {
	if f.closing {
		return wire.WSClose
	}
	undecided := consumed < f.end // the beginning of a packet
	s.rest = max(0, f.last-f.end)
	if !f.refused {
		s.dropping = false
		return wire.WSAllow
	}
	inside := s.rest > 0 && f.lastKept // the frame ends inside a packet that is not refused
	if f.other || !f.whole || f.start > 0 || undecided || inside || f.closeOnDeny && f.answerable {
		return wire.WSClose
	}
	s.dropping, s.reason, s.rule = s.rest > 0, f.reason, f.rule
	return wire.WSDrop
}
