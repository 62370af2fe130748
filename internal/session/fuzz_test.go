package session_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/session"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// fuzzConfigs are the policies that a fuzzed dialogue can have. In all of them
// dev/# is allowed but for dev/secret/#, and nothing else.
var fuzzConfigs = []string{
	`{` + fuzzRules + `, "general": {"protocol-versions": ["3.1", "3.1.1", "5.0"]}}`,
	`{` + fuzzRules + `, "general": {"protocol-versions": ["3.1", "3.1.1", "5.0"]},
		"qos": {"enabled": true, "max-qos": 1}, "retained": {"enabled": true, "allow-retained": false, "on-denied": "strip"}}`,
	`{` + fuzzRules + `, "general": {"protocol-versions": ["3.1", "3.1.1", "5.0"], "max-packet-size": 2000, "max-delivery-size": 2000,
		"limits": {"receive-maximum": 3, "outstanding-requests": 3, "subscriptions": 3, "topic-aliases": 2}},
		"qos": {"enabled": true, "max-qos": 0}}`,
}

const fuzzRules = `"acl": {"rules": [
	{"topics": ["dev/secret/#"], "decision": "deny", "priority": 10}, {"topics": ["dev/#"], "decision": "allow"}]}`

// The operations of a fuzzed dialogue, by the low bits of a byte.
const (
	opClient = iota
	opBroker
	opTick
	opPolicy
	opCount
)

// script encodes a dialogue as a fuzz input.
func script(config byte, d *testkit.Dialogue) []byte {
	b := []byte{config}
	for _, s := range d.Steps {
		op := byte(opTick)
		switch s.Act {
		case testkit.ClientSends:
			op = opClient
		case testkit.BrokerSends:
			op = opBroker
		case testkit.Reload:
			op = opPolicy
		}
		b = append(b, op, byte(len(s.Bytes)>>8), byte(len(s.Bytes)))
		b = append(b, s.Bytes...)
	}
	return b
}

// reader is the far end of a stream: it reads every packet as a broker or a
// client would, and knows what must not be among them.
type reader struct {
	t       testing.TB
	from    mqtt.Side // whose packets these are
	v       mqtt.Version
	buf     []byte
	aliases map[uint16]string
}

func (r *reader) read(b []byte) {
	r.buf = append(r.buf, b...)
	for len(r.buf) > 0 {
		if old := []byte{0x20, 2}; r.v == mqtt.V5 && r.from == mqtt.Broker && bytes.HasPrefix(r.buf, old[:min(len(r.buf), 2)]) {
			// A CONNACK in 3.x form, which the agent door cannot turn into another.
			if len(r.buf) < 4 {
				return
			}
			r.buf = r.buf[4:]
			continue
		}
		h, err := mqtt.ParseHeader(r.buf, r.v, r.from)
		if errors.Is(err, mqtt.ErrIncomplete) {
			return
		}
		if err != nil {
			r.t.Fatalf("bytes of the %v that do not parse were forwarded: % x: %v", r.from, cut(r.buf), err)
		}
		if len(r.buf) < h.Size() {
			return
		}
		r.packet(h, r.buf[h.Len:h.Size()])
		r.buf = r.buf[h.Size():]
	}
}

func (r *reader) packet(h mqtt.Header, body []byte) {
	switch h.Type {
	case mqtt.CONNECT:
		var c mqtt.Connect
		if err := c.Parse(body); err != nil {
			r.t.Fatalf("a CONNECT that does not parse was forwarded: %v", err)
		}
		r.v = c.Version
		if c.HasWill {
			r.topic(string(c.Will.Topic))
		}
	case mqtt.PUBLISH:
		var p mqtt.Publish
		if err := p.Parse(h, r.v, body); err != nil {
			r.t.Fatalf("a PUBLISH that does not parse was forwarded: % x: %v", cut(body), err)
		}
		topic := string(p.Topic)
		if p.TopicAlias > 0 {
			if topic == "" {
				topic = r.aliases[p.TopicAlias]
			}
			r.aliases[p.TopicAlias] = topic
		}
		r.topic(topic)
		if p.ResponseTopic != nil && r.from == mqtt.Client {
			r.topic(string(p.ResponseTopic))
		}
	case mqtt.SUBSCRIBE:
		var s mqtt.Subscribe
		if err := s.Parse(h, r.v, body); err != nil {
			r.t.Fatalf("a SUBSCRIBE that does not parse was forwarded: %v", err)
		}
		for _, f := range s.Filters {
			if g := string(f.Filter); strings.HasPrefix(g, "dev/secret/") || strings.HasPrefix(g, "$SYS") {
				r.t.Fatalf("a subscription to %q was forwarded", g)
			}
		}
	}
}

func (r *reader) topic(topic string) {
	if !strings.HasPrefix(topic, "dev/") && topic != "dev" || strings.HasPrefix(topic, "dev/secret/") || topic == "dev/secret" {
		r.t.Fatalf("a message of the %v on %q was forwarded", r.from, topic)
	}
}

// frame does what the agent door does with a frame: drop it, if all of it may
// be dropped and it is whole packets, close, or let it pass.
type frame struct {
	whole bool // nothing of it belongs to an earlier frame
}

func (f frame) passes(r *rig, size int) (passes, closes bool) {
	refused, droppable, end := false, f.whole, 0
	for _, v := range r.verdicts {
		end = max(end, v.To)
		switch {
		case v.Decision == session.DecisionClose:
			return false, true
		case v.Decision == session.DecisionDrop:
			refused = true
		case v.Type != mqtt.PUBLISH || v.QoS != 0:
			droppable = false
		}
	}
	if !refused {
		return true, false
	}
	return false, !droppable || end != size
}

func FuzzFeed(f *testing.F) {
	for i, d := range testkit.Dialogues() {
		f.Add(script(byte(i), &d))
		f.Add(script(byte(i)|0x80, &d))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) == 0 || len(in) > 1<<16 {
			return
		}
		door := policy.DoorGateway
		if in[0]&0x80 != 0 {
			door = policy.DoorAgent
		}
		r := newRig(t, door, engineOf(t, fuzzConfigs[int(in[0]&0x7F)%len(fuzzConfigs)]))
		ends := [2]*reader{
			mqtt.Client: {t: t, from: mqtt.Broker, aliases: map[uint16]string{}},
			mqtt.Broker: {t: t, from: mqtt.Client, aliases: map[uint16]string{}},
		}
		see := func(to mqtt.Side, b []byte) {
			// The broker learns the version from CONNECT, the client knows it.
			if c, s := r.s.Connect(), r.s.Subject(); to == mqtt.Client && c != nil {
				ends[to].v = c.Version
			} else if to == mqtt.Client && s != nil {
				ends[to].v = s.Identity().Version
			} else if to == mqtt.Client {
				return // CONNACK to a version that is not spoken
			}
			ends[to].read(b)
		}
		r.forwarded = see
		passing := [2]int{} // of the agent door: bytes that passed beyond whole packets
		for in = in[1:]; len(in) >= 3 && !r.ended; {
			op, n := in[0], int(in[1])<<8|int(in[2])
			n = min(n, len(in)-3)
			b := in[3 : 3+n]
			in = in[3+n:]
			switch op % opCount {
			case opTick:
				r.now += session.Time(op>>2) * session.Second / 4
				r.call(nil, mqtt.Client, func() { r.s.Tick(r.now, &r.fx) })
			case opPolicy:
				if r.s.Subject() != nil {
					r.call(nil, mqtt.Client, func() { r.s.Policy(r.now, r.subject(), &r.fx) })
				}
			default:
				side := mqtt.Side(op % opCount)
				if side == mqtt.Broker && (r.s.Connect() == nil && r.s.Subject() == nil || door == policy.DoorGateway && r.s.Subject() == nil) {
					continue // there is no broker yet
				}
				if door == policy.DoorGateway {
					r.feed(side, b)
					break
				}
				whole := frame{whole: len(r.pending[side]) == 0 && passing[side] == 0}
				r.verdicts = nil
				before := len(r.pending[side])
				r.feed(side, b)
				passes, closes := whole.passes(r, before+len(b))
				if closes {
					return
				}
				if passes && !r.ended {
					see(side.Peer(), b)
				}
				passing[side] = 0
				if r.fx.Partial[side] {
					passing[side] = 1
				}
			}
			if n := cap(r.fx.Scratch); n > 4<<20 {
				t.Fatalf("the scratch holds %d bytes", n)
			}
		}
	})
}

// TestNoBytesOfAMalformedPacketReachTheBroker feeds the catalogue of packets to
// an open dialogue: what is malformed ends it and is not forwarded.
func TestNoBytesOfAMalformedPacketReachTheBroker(t *testing.T) {
	for _, p := range testkit.Packets() {
		if p.From != mqtt.Client || p.Type() == mqtt.CONNECT || p.Good() {
			continue
		}
		for _, door := range []policy.Door{policy.DoorGateway, policy.DoorAgent} {
			t.Run(p.Name+"/"+door.String(), func(t *testing.T) {
				r := openRig(t, door, p.Version, fuzzConfigs[0])
				r.fx.WantVerdicts = true
				r.check(0, &testkit.Step{ToBroker: r.out[mqtt.Broker], ToClient: r.out[mqtt.Client], Events: r.events}, false)
				r.feed(mqtt.Client, p.Bytes)
				r.feed(mqtt.Client, testkit.Publish(p.Version, "dev/a", 0, 0, "behind it"))
				if len(r.out[mqtt.Broker]) > 0 {
					t.Errorf("forwarded % x", r.out[mqtt.Broker])
				}
				if !r.ended && !r.fx.Partial[mqtt.Client] {
					t.Errorf("the dialogue goes on after % x", p.Bytes)
				}
				if r.ended && p.Version == mqtt.V5 && door == policy.DoorGateway {
					want := testkit.Disconnect(mqtt.V5, byte(r.end.Code))
					if !bytes.Equal(r.out[mqtt.Client], want) {
						t.Errorf("the client got % x, want % x", r.out[mqtt.Client], want)
					}
				}
			})
		}
	}
}

// TestMalformedConnect does the same for CONNECT: nothing is dialled.
func TestMalformedConnect(t *testing.T) {
	for _, p := range testkit.Packets() {
		if p.From != mqtt.Client || p.Type() != mqtt.CONNECT || p.Good() {
			continue
		}
		t.Run(p.Name, func(t *testing.T) {
			r := newRig(t, policy.DoorGateway, engineOf(t, fuzzConfigs[0]))
			r.feed(mqtt.Client, p.Bytes)
			if len(r.out[mqtt.Broker]) > 0 || r.s.Subject() != nil {
				t.Errorf("forwarded % x", r.out[mqtt.Broker])
			}
			if !r.ended && !r.fx.Partial[mqtt.Client] {
				t.Errorf("the dialogue goes on after % x", p.Bytes)
			}
		})
	}
}

// TestPartialPacketCostsNothing feeds the beginning of a large packet again and
// again: neither time nor memory may follow its length.
func TestPartialPacketCostsNothing(t *testing.T) {
	topic := "dev/" + strings.Repeat("a", 60000)
	for name, p := range map[string][]byte{
		"publish":   testkit.Publish(mqtt.V5, topic, 0, 0, "x"),
		"subscribe": testkit.Subscribe(mqtt.V5, 1, topic),
	} {
		t.Run(name, func(t *testing.T) {
			r := openRig(t, policy.DoorGateway, mqtt.V5, plainConfig)
			part := p[:len(p)-10]
			if n := testing.AllocsPerRun(100, func() {
				r.fx.Reset()
				if n := r.s.Feed(r.now, mqtt.Client, part, &r.fx); n != 0 || !r.fx.Partial[mqtt.Client] {
					t.Fatalf("consumed %d, partial %v", n, r.fx.Partial)
				}
			}); n != 0 {
				t.Errorf("%v allocations", n)
			}
		})
	}
}
