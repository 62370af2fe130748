package agent

import (
	"testing"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/agent/wire"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/session"
)

// pkt is a verdict about a packet of size bytes.
type pkt struct {
	typ      mqtt.Type
	qos      byte
	size     int
	decision session.Decision
}

// TestFold is section 10 of the policy, one line a case.
func TestFold(t *testing.T) {
	pub := func(qos byte, d session.Decision) pkt { return pkt{mqtt.PUBLISH, qos, 10, d} }
	const allowed, denied, closing = session.DecisionAllow, session.DecisionDrop, session.DecisionClose
	sub := func(d session.Decision) pkt { return pkt{mqtt.SUBSCRIBE, 0, 10, d} }
	ack := pkt{mqtt.PUBACK, 0, 4, allowed}
	list := func(p ...pkt) []pkt { return p }
	for _, c := range []struct {
		name    string
		packets []pkt
		size    int // of the frame; 0: as long as its packets
		before  int // bytes that were allowed before and are undecided
		rest    int // bytes to come of the packet before
		drops   bool
		cut     bool // the frame is a piece of a message
		close   bool // agent.on-deny: close
		want    wire.WebSocketDecision
		left    int // bytes to come of the last packet
		leaving bool
	}{
		{name: "nothing ends in it", size: 3, want: wire.WSAllow},
		{name: "allowed", packets: list(pub(1, allowed)), want: wire.WSAllow},
		{name: "allowed, several", packets: list(pub(1, allowed), ack, sub(allowed)), want: wire.WSAllow},
		{name: "refused alone", packets: list(pub(1, denied)), want: wire.WSDrop},
		{name: "refused SUBSCRIBE", packets: list(sub(denied)), want: wire.WSDrop},
		{name: "refused, several", packets: list(pub(1, denied), sub(denied)), want: wire.WSDrop},
		{name: "refused with an allowed QoS 0 PUBLISH", packets: list(pub(0, allowed), pub(2, denied)), want: wire.WSDrop},
		{name: "refused with an allowed QoS 1 PUBLISH", packets: list(pub(1, allowed), pub(2, denied)), want: wire.WSClose},
		{name: "refused with an acknowledgement", packets: list(pub(0, denied), ack), want: wire.WSClose},
		{name: "refused in a piece of a message", packets: list(pub(0, denied)), cut: true, want: wire.WSClose},
		{name: "refused, begun before", packets: list(pub(0, denied)), size: 10, before: 3, want: wire.WSClose},
		{name: "refused, and the next one begins", packets: list(pub(0, denied)), size: 12, want: wire.WSClose},
		{name: "to be closed", packets: list(pub(0, closing)), want: wire.WSClose},
		{name: "refused and to be closed", packets: list(pub(0, denied), sub(closing)), want: wire.WSClose},
		{name: "a changed packet", packets: list(pub(0, session.DecisionRewrite)), want: wire.WSClose},
		{name: "detected", packets: list(pub(1, session.DecisionDetect)), want: wire.WSAllow},
		{name: "on-deny close", packets: list(pub(1, denied)), close: true, want: wire.WSClose},
		{name: "on-deny close, SUBSCRIBE", packets: list(sub(denied)), close: true, want: wire.WSClose},
		{name: "on-deny close, QoS 0", packets: list(pub(0, denied)), close: true, want: wire.WSDrop},
		{name: "allowed, payload to come", packets: list(pub(1, allowed)), size: 6, want: wire.WSAllow, left: 4},
		{name: "payload goes on", size: 5, rest: 20, want: wire.WSAllow, left: 15},
		{name: "payload ends", size: 5, rest: 5, want: wire.WSAllow},
		{name: "payload ends, a refused packet follows", packets: list(pub(0, denied)), size: 15, rest: 5, want: wire.WSClose},
		{name: "payload ends, an allowed packet follows", packets: list(pub(0, allowed)), size: 15, rest: 5, want: wire.WSAllow},
		{name: "refused, payload to come", packets: list(pub(0, denied)), size: 6, want: wire.WSDrop, left: 4, leaving: true},
		{name: "refused payload goes on", size: 5, rest: 20, drops: true, want: wire.WSDrop, left: 15, leaving: true},
		{name: "refused payload ends with the frame", size: 5, rest: 5, drops: true, want: wire.WSDrop},
		{name: "refused payload ends, another packet follows", packets: list(pub(0, denied)), size: 15, rest: 5, drops: true, want: wire.WSClose},
		{name: "refused payload ends, a byte follows", size: 6, rest: 5, drops: true, want: wire.WSClose},
		{name: "refused payload in a piece of a message", size: 5, rest: 20, drops: true, cut: true, want: wire.WSClose},
		{name: "refused, then the head of an allowed QoS 0 one", packets: list(pub(1, denied), pub(0, allowed)), size: 16, want: wire.WSClose},
		{name: "allowed QoS 0, then the head of a refused one", packets: list(pub(0, allowed), pub(1, denied)), size: 16, want: wire.WSDrop, left: 4, leaving: true},
		{name: "refused CONNECT", packets: list(pkt{mqtt.CONNECT, 0, 20, denied}), want: wire.WSClose},
	} {
		f := fold{start: c.before, whole: !c.cut, closeOnDeny: c.close}
		s := stream{rest: c.rest, dropping: c.drops}
		at := 0
		if c.rest > 0 {
			at = c.rest
		}
		var verdicts []session.PacketVerdict
		for _, p := range c.packets {
			verdicts = append(verdicts, session.PacketVerdict{
				Type: p.typ, QoS: p.qos, From: at, To: at + p.size, Decision: p.decision,
			})
			at += p.size
		}
		f.end = c.size
		if f.end == 0 {
			f.end = at
		}
		f.continues(&s)
		f.add(verdicts, 0)
		consumed := min(at, f.end)
		if got := f.decide(&s, consumed); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
			continue
		}
		if c.want != wire.WSClose && (s.rest != c.left || s.dropping != c.leaving) {
			t.Errorf("%s: rest %d dropping %v, want %d %v", c.name, s.rest, s.dropping, c.left, c.leaving)
		}
	}
}
