package session_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// flow is an honest client and an honest broker with a session between them,
// under a random schedule, over several connections of one persistent MQTT
// session. Every message has a number for its payload.
type flow struct {
	t   *testing.T
	rnd *rand.Rand
	v   mqtt.Version
	r   *rig

	// On their way: to the session from either side, and from it to either.
	in, out [2][]byte

	// The client: what it has not finished, in order, as after a cut it repeats.
	next     int
	total    int
	window   int
	inflight []*sent
	done     map[int]bool
	cutOnce  map[int]bool // was in flight at a cut

	// The broker.
	qos2 map[uint16]bool // ids whose PUBREL is awaited
	got  map[int]int     // deliveries of a message to the broker's subscribers
}

// sent is a message of the client in flight.
type sent struct {
	id       uint16
	qos      byte
	number   int
	released bool // PUBREC has come, PUBREL was sent
}

func TestFlowsLoseAndDoubleNothing(t *testing.T) {
	for seed := range uint64(60) {
		for _, v := range []mqtt.Version{mqtt.V311, mqtt.V5} {
			rnd := rand.New(rand.NewPCG(seed, uint64(v)))
			f := &flow{
				t: t, rnd: rnd, v: v, total: 300, window: 1 + rnd.IntN(20),
				done: map[int]bool{}, cutOnce: map[int]bool{}, qos2: map[uint16]bool{}, got: map[int]int{},
			}
			cuts := int(seed % 4)
			for round := 0; len(f.done) < f.total; round++ {
				f.connect(round > 0)
				steps := -1
				if round < cuts {
					steps = rnd.IntN(600)
				}
				f.run(steps)
			}
			f.verify(cuts > 0)
			if t.Failed() {
				t.Fatalf("seed %d, version %v", seed, v)
			}
		}
	}
}

// connect begins a connection with a maximum QoS of its own: the policy may
// have changed since the last.
func (f *flow) connect(again bool) {
	config := fmt.Sprintf(`{%s, "qos": {"enabled": true, "max-qos": %d}, "general": {"limits": {"receive-maximum": %d}}}`,
		plainRules, f.rnd.IntN(3), 20+f.rnd.IntN(2)*1000)
	f.r = newRig(f.t, policy.DoorGateway, engineOf(f.t, config))
	f.in, f.out = [2][]byte{}, [2][]byte{}
	f.r.feed(mqtt.Client, testkit.Connect(f.v, "c1", testkit.Resume()))
	f.r.feed(mqtt.Broker, testkit.Connack(f.v, again, 0))
	f.r.out = [2][]byte{}
	for _, m := range f.inflight { // [MQTT-4.4.0-1]
		if m.released {
			f.say(mqtt.Client, testkit.Ack(f.v, mqtt.PUBREL, int(m.id), 0))
		} else {
			f.say(mqtt.Client, testkit.Publish(f.v, "dev/a", m.qos, int(m.id), fmt.Sprint(m.number), testkit.Dup()))
		}
	}
}

func (f *flow) say(from mqtt.Side, b []byte) { f.in[from] = append(f.in[from], b...) }

// run makes steps (all of them: -1) of the schedule, then cuts both sides.
func (f *flow) run(steps int) {
	for ; steps != 0 && len(f.done) < f.total; steps-- {
		if f.r.ended {
			f.t.Fatalf("ended: %+v %v", f.r.end, f.r.events)
		}
		side := mqtt.Side(f.rnd.IntN(2))
		switch f.rnd.IntN(3) {
		case 0:
			if side == mqtt.Client && f.next < f.total && len(f.inflight) < f.window {
				f.publish()
			}
		case 1: // some of what a side said reaches the session
			n := f.some(len(f.in[side]))
			b := f.in[side][:n]
			f.in[side] = f.in[side][n:]
			f.r.feed(side, b)
			for to := range f.r.out {
				f.out[to] = append(f.out[to], f.r.out[to]...)
			}
			f.r.out = [2][]byte{}
		case 2: // a packet of the session's reaches a side
			f.receive(side)
		}
	}
	// What was written upstream arrives; of the rest nothing does.
	for n := -1; n != len(f.out[mqtt.Broker]); {
		n = len(f.out[mqtt.Broker])
		f.receive(mqtt.Broker)
	}
	for _, m := range f.inflight {
		f.cutOnce[m.number] = true
	}
}

func (f *flow) some(n int) int {
	if n == 0 || f.rnd.IntN(3) == 0 {
		return n
	}
	return f.rnd.IntN(n + 1)
}

func (f *flow) publish() {
	id := uint16(1)
	for f.find(id) >= 0 {
		id++
	}
	m := &sent{id: id, qos: byte(1 + f.rnd.IntN(2)), number: f.next}
	f.next++
	f.inflight = append(f.inflight, m)
	f.say(mqtt.Client, testkit.Publish(f.v, "dev/a", m.qos, int(id), fmt.Sprint(m.number)))
}

func (f *flow) find(id uint16) int {
	for i, m := range f.inflight {
		if m.id == id {
			return i
		}
	}
	return -1
}

// receive has a side take the next packet that the session sent it.
func (f *flow) receive(side mqtt.Side) {
	b := f.out[side]
	if len(b) == 0 {
		return
	}
	h, err := mqtt.ParseHeader(b, f.v, side.Peer())
	if errors.Is(err, mqtt.ErrIncomplete) || err == nil && len(b) < h.Size() {
		return
	}
	if err != nil {
		f.t.Fatalf("the %v got % x: %v", side, b, err)
	}
	body := b[h.Len:h.Size()]
	f.out[side] = b[h.Size():]
	if h.Type == mqtt.PUBLISH {
		f.brokerTakes(h, body)
		return
	}
	var a mqtt.Ack
	if err := a.Parse(h, f.v, body); err != nil {
		f.t.Fatalf("the %v got %v % x: %v", side, h.Type, body, err)
	}
	if side == mqtt.Broker {
		if h.Type == mqtt.PUBREL {
			delete(f.qos2, a.PacketID)
			f.say(mqtt.Broker, testkit.Ack(f.v, mqtt.PUBCOMP, int(a.PacketID), 0))
		}
		return
	}
	f.clientTakes(h.Type, a.PacketID)
}

func (f *flow) brokerTakes(h mqtt.Header, body []byte) {
	var p mqtt.Publish
	if err := p.Parse(h, f.v, body); err != nil {
		f.t.Fatalf("the broker got % x: %v", body, err)
	}
	number := -1
	if _, err := fmt.Sscan(string(p.Payload), &number); err != nil {
		f.t.Fatal(err)
	}
	switch p.QoS {
	case 1:
		f.say(mqtt.Broker, testkit.Ack(f.v, mqtt.PUBACK, int(p.PacketID), 0))
	case 2:
		if f.qos2[p.PacketID] {
			if !p.Dup {
				f.t.Errorf("id %d was used for another message before it was released", p.PacketID)
			}
			f.say(mqtt.Broker, testkit.Ack(f.v, mqtt.PUBREC, int(p.PacketID), 0))
			return
		}
		f.qos2[p.PacketID] = true
		f.say(mqtt.Broker, testkit.Ack(f.v, mqtt.PUBREC, int(p.PacketID), 0))
	}
	f.got[number]++
}

func (f *flow) clientTakes(typ mqtt.Type, id uint16) {
	i := f.find(id)
	if i < 0 {
		f.t.Errorf("the client got %v for id %d, which it does not use", typ, id)
		return
	}
	m := f.inflight[i]
	switch {
	case typ == mqtt.PUBACK && m.qos == 1, typ == mqtt.PUBCOMP && m.qos == 2 && m.released:
		f.done[m.number] = true
		f.inflight = append(f.inflight[:i], f.inflight[i+1:]...)
	case typ == mqtt.PUBREC && m.qos == 2:
		m.released = true
		f.say(mqtt.Client, testkit.Ack(f.v, mqtt.PUBREL, int(id), 0))
	default:
		f.t.Errorf("the client got %v for a message of QoS %d, released %v", typ, m.qos, m.released)
	}
}

// verify: nothing that was acknowledged is lost, and only what was in flight at
// a cut can have come twice.
func (f *flow) verify(cut bool) {
	for n := range f.total {
		switch got := f.got[n]; {
		case got == 0:
			f.t.Errorf("message %d was acknowledged and is lost", n)
		case got > 1 && (!cut || !f.cutOnce[n]):
			f.t.Errorf("message %d came %d times and was never in flight at a cut", n, got)
		}
	}
}
