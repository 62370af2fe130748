package session

import (
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
)

// hold says why reading of a side stopped before a packet.
type hold uint8

const (
	holdNone     hold = iota
	holdPacketID      // the packet's id is one of our own requests'
	holdWindow        // as many messages are in flight as the broker takes
	holdRequests      // as many bytes of filters wait for answers as we keep
	holdQueue         // as many packets of ours wait for a payload to go by
)

// maxQueue bounds the packets of ours that wait until a payload that is passing
// through has gone by. Reading from the side that causes them stops there.
const maxQueue = 16 << 10

// forward has b[from:till] of the input sent to a side.
func (s *Session) forward(fx *Effects, to mqtt.Side, from, till int) {
	if !s.set.Can.Reply || from == till {
		return // the agent door passes frames, by verdict
	}
	if s.unparking { // no span can name what was parked
		s.ownNow(fx, to, append(fx.Scratch, s.seldom.parked[from:till]...))
		return
	}
	s.span(fx, to, Span{From: from, To: till})
}

// own has what was appended to the scratch, of which grown is the result, sent
// to a side: at once, or, when a payload is passing through to that side, after
// it.
func (s *Session) own(fx *Effects, to mqtt.Side, grown []byte) {
	if !s.set.Can.Reply || !s.midPacket(to) {
		s.ownNow(fx, to, grown)
		return
	}
	from := len(fx.Scratch)
	queue := &s.rare().queue
	queue[to] = append(queue[to], grown[from:]...)
	fx.Scratch = grown[:from]
}

// ownNow is own for what belongs into the stream right here: between packets,
// or the new head of a packet.
func (s *Session) ownNow(fx *Effects, to mqtt.Side, grown []byte) {
	from, till := len(fx.Scratch), len(grown)
	if !s.set.Can.Reply || from == till {
		return
	}
	fx.Scratch = grown
	s.span(fx, to, Span{From: from, To: till, Own: true})
}

// span has one more span sent to a side.
func (s *Session) span(fx *Effects, to mqtt.Side, next Span) {
	if to == mqtt.Broker {
		s.sentUp = s.now
	}
	if n := len(fx.Out[to]); n > 0 {
		if last := &fx.Out[to][n-1]; last.Own == next.Own && last.To == next.From {
			last.To = next.To
			return
		}
	}
	fx.Out[to] = append(fx.Out[to], next)
}

// midPacket reports whether the stream to a side is inside a packet that
// passes through.
func (s *Session) midPacket(to mqtt.Side) bool {
	h := &s.half[to.Peer()]
	return h.left > 0 && !h.skip
}

// queueFull reports whether packets from a side must wait because those of
// ours that they cause pile up.
func (s *Session) queueFull(from mqtt.Side) bool {
	// A packet is answered to its sender; the sender's own payload does not
	// hold the answer up, its peer's does.
	return len(s.few().queue[from]) > maxQueue
}

// through takes more of a packet whose head was decided.
func (s *Session) through(from mqtt.Side, b []byte, pos int, fx *Effects) int {
	h := &s.half[from]
	n := min(int(h.left), len(b)-pos)
	if !h.skip {
		s.forward(fx, from.Peer(), pos, pos+n)
	}
	if h.left -= uint32(n); h.left == 0 {
		s.boundary(from, fx)
	}
	return n
}

// boundary follows the last byte of a packet that was passed or discarded by
// count: what waited for it is sent.
func (s *Session) boundary(from mqtt.Side, fx *Effects) {
	h := &s.half[from]
	passed := !h.skip
	*h = half{}
	var then reply
	if r := s.seldom; r != nil {
		then, r.then[from] = r.then[from], reply{}
		if to := from.Peer(); passed && len(r.queue[to]) > 0 {
			s.ownNow(fx, to, append(fx.Scratch, r.queue[to]...))
			r.queue[to] = nil
		}
	}
	if s.state == stateClosing && from == mqtt.Client {
		s.finishEnd(s.seldom.end, fx)
		return
	}
	if then.typ != 0 {
		s.answer(from, then, fx)
	}
}

// answer acknowledges a PUBLISH that has come whole and went no further.
func (s *Session) answer(from mqtt.Side, r reply, fx *Effects) {
	if from == mqtt.Broker {
		s.inTurn(r, fx)
		return
	}
	s.reply(from, r, fx)
}

// ackOf is the acknowledgement of a PUBLISH of QoS 1 or 2.
func ackOf(p *mqtt.Publish, code mqtt.ReasonCode) reply {
	r := reply{typ: mqtt.PUBACK, id: p.PacketID, code: code}
	if p.QoS == 2 {
		r.typ = mqtt.PUBREC
	}
	return r
}

// reply sends an acknowledgement of ours.
func (s *Session) reply(to mqtt.Side, r reply, fx *Effects) {
	a := mqtt.Ack{PacketID: r.id, Code: r.code}
	if r.code != mqtt.Success {
		a.Form = 1
	}
	if r.late && fx.Late {
		few := s.rare()
		few.owed = a.Append(few.owed, r.typ, s.version)
		return
	}
	s.own(fx, to, a.Append(fx.Scratch, r.typ, s.version))
}

// Sent tells that the broker's socket has taken all that it was sent: now
// messages that went up at QoS 0, where nobody else will, are acknowledged
// (policy section 7). What a broker does not take before the end was never
// acknowledged.
func (s *Session) Sent(now Time, fx *Effects) {
	s.now = now
	if owed := s.few().owed; len(owed) > 0 && s.state == stateOpen {
		s.own(fx, mqtt.Client, append(fx.Scratch, owed...))
		s.seldom.owed = nil
	}
	s.finish(fx)
}

// passBody forwards a packet whose head is decided: what is there of it, and
// the rest by count, but for the first skip bytes, in whose place a head of
// ours was sent.
func (s *Session) passBody(from mqtt.Side, h mqtt.Header, b []byte, pos, skip int, fx *Effects) int {
	to := from.Peer()
	if skip == 0 && h.Overlong && s.set.Can.Rewrite {
		// 3.x does not forbid a long form of the length; the broker gets the
		// short one, so that both read the same packet.
		s.ownNow(fx, to, h.Append(fx.Scratch))
		skip = h.Len
	}
	n := min(h.Size(), len(b)-pos)
	s.forward(fx, to, pos+skip, pos+n)
	s.half[from] = half{left: uint32(h.Size() - n)}
	return n
}

// dropBody discards a packet; the sender is answered when all of it has come.
func (s *Session) dropBody(from mqtt.Side, h mqtt.Header, b []byte, pos int, then reply, fx *Effects) int {
	n := min(h.Size(), len(b)-pos)
	if left := h.Size() - n; left > 0 {
		s.half[from] = half{left: uint32(left), skip: true}
		if then.typ != 0 {
			s.rare().then[from] = then
		}
	} else if then.typ != 0 {
		s.answer(from, then, fx)
	}
	return n
}

// pass forwards an allowed packet that needs no further look.
func (s *Session) pass(from mqtt.Side, h mqtt.Header, b []byte, pos int, fx *Effects) int {
	if !s.tally(from, h) {
		return s.flood(h, pos, fx)
	}
	s.allowed(from, h, pos, fx)
	return s.passBody(from, h, b, pos, 0, fx)
}

// passChanged sends what grown adds to the scratch on in place of an allowed
// packet that is here whole.
func (s *Session) passChanged(from mqtt.Side, h mqtt.Header, pos int, grown []byte, fx *Effects) int {
	if !s.tally(from, h) {
		return s.flood(h, pos, fx)
	}
	s.verdict(fx, from, h, 0, pos, DecisionRewrite, policy.ReasonNone, policy.RuleNone)
	s.ownNow(fx, from.Peer(), grown)
	return h.Size()
}

// passUnread forwards a packet by count without reading it: detect-only.
func (s *Session) passUnread(from mqtt.Side, h mqtt.Header, b []byte, pos int, fx *Effects) int {
	s.tally(from, h)
	s.often(fx, Event{
		Kind: KindDetected, Decision: DecisionDetect, Reason: policy.ReasonPacketTooLarge,
		Rule: policy.RuleMaxPacketSize, Packet: h.Type, From: from, PacketBytes: h.Size(),
	})
	s.verdict(fx, from, h, 0, pos, DecisionDetect, policy.ReasonPacketTooLarge, policy.RuleMaxPacketSize)
	return s.passBody(from, h, b, pos, 0, fx)
}

// wait stops reading before the packet at hand.
func (s *Session) wait(from mqtt.Side, why hold) int {
	if s.hold[from] = why; from == mqtt.Client {
		if r := s.rare(); r.heldSince == 0 {
			r.heldSince = s.now
		}
	}
	return 0
}

// stillHeld reports whether what a side waits for has not come.
func (s *Session) stillHeld(from mqtt.Side) bool {
	switch s.hold[from] {
	case holdPacketID:
		return s.occupied(s.seldom.holdID)
	case holdWindow:
		return s.room() == actHold
	case holdRequests:
		return s.requests.heavy()
	case holdQueue:
		return s.queueFull(from)
	}
	return false
}

// tally counts a packet that is decided. False: it is one too many for
// packets-per-second.
func (s *Session) tally(from mqtt.Side, h mqtt.Header) bool {
	s.count.Packets[from]++
	if h.Type == mqtt.PUBLISH {
		s.count.Messages[from]++
	}
	return from == mqtt.Broker || s.set.packetRate.each == 0 || s.set.detect ||
		s.packets.take(s.now, s.set.packetRate)
}

// flood ends the connection for packets-per-second.
func (s *Session) flood(h mqtt.Header, pos int, fx *Effects) int {
	f := faultOf(CauseProtocol, policy.ReasonLimit, policy.RulePacketsPerSecond)
	f.Code = mqtt.MessageRateTooHigh
	return s.fault(mqtt.Client, h, nil, pos, f, fx)
}

// allowed reports an allowed packet, where somebody wants to know.
func (s *Session) allowed(from mqtt.Side, h mqtt.Header, pos int, fx *Effects) {
	if fx.WantVerdicts {
		s.verdict(fx, from, h, 0, pos, DecisionAllow, policy.ReasonNone, policy.RuleNone)
	}
	if s.set.includeAll {
		s.event(fx, Event{Kind: KindAllowed, Rule: policy.RuleNone, Packet: h.Type, From: from})
	}
}

// verdict adds a packet's decision for the door.
func (s *Session) verdict(fx *Effects, from mqtt.Side, h mqtt.Header, qos byte, pos int, d Decision, r policy.Reason, rule policy.RuleRef) {
	if d == DecisionDrop || d == DecisionClose {
		s.dropped = true
	}
	if fx.WantVerdicts {
		fx.Verdicts = append(fx.Verdicts, PacketVerdict{
			Side: from, Type: h.Type, QoS: qos, From: pos, To: pos + h.Size(),
			Decision: d, Reason: r, Rule: rule,
		})
	}
}

func (s *Session) event(fx *Effects, e Event) { fx.Events = append(fx.Events, e) }

// finish completes the effects of a call.
func (s *Session) finish(fx *Effects) {
	if len(s.few().parked) > 0 {
		s.unpark(fx)
	}
	if s.state == stateEnded {
		fx.Pause = [2]bool{true, true}
		return
	}
	if s.hold[mqtt.Client] != holdNone && !s.stillHeld(mqtt.Client) {
		s.hold[mqtt.Client], s.heard = holdNone, s.now
	}
	if s.hold[mqtt.Client] == holdNone && s.seldom != nil {
		s.seldom.heldSince = 0
	}
	if s.hold[mqtt.Broker] != holdNone && !s.stillHeld(mqtt.Broker) {
		s.hold[mqtt.Broker] = holdNone
	}
	fx.Pause[mqtt.Client] = s.hold[mqtt.Client] != holdNone || !s.takes(mqtt.Client)
	fx.Pause[mqtt.Broker] = s.hold[mqtt.Broker] != holdNone || !s.takes(mqtt.Broker)
	s.wakeEarlier()
	fx.Wake = s.wake
	few := s.few()
	fx.Owes = len(few.owed) > 0
	fx.Kept = cap(few.parked)
	if s.requests != nil {
		fx.Kept += s.requests.bytes
	}
}
