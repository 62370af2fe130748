package session_test

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/session"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

const plainConfig = `{"acl": {"rules": [
	{"name": "no-secrets", "topics": ["dev/secret/#"], "decision": "deny", "priority": 10},
	{"name": "dev", "topics": ["dev/#"], "decision": "allow"}]}}`

// openRig is a rig whose dialogue is open.
func openRig(t testing.TB, door policy.Door, v mqtt.Version, config string) *rig {
	r := newRig(t, door, engineOf(t, config))
	r.feed(mqtt.Client, testkit.Connect(v, "c1"))
	r.feed(mqtt.Broker, testkit.Connack(v, false, 0, testkit.With(testkit.Prop16(mqtt.TopicAliasMaximum, 5))))
	if r.ended || r.s.Subject() == nil {
		t.Fatalf("the dialogue is not open: %v", r.events)
	}
	r.fx.WantVerdicts = false
	return r
}

// allowedPath is what must allocate nothing.
func allowedPath(v mqtt.Version) map[string]struct {
	from  mqtt.Side
	bytes []byte
} {
	type bytesOf = struct {
		from  mqtt.Side
		bytes []byte
	}
	payload := strings.Repeat("x", 40)
	return map[string]bytesOf{
		"publish/qos0":        {mqtt.Client, testkit.Publish(v, "dev/sensor/7/data", 0, 0, payload)},
		"publish/qos1+puback": {mqtt.Client, testkit.Publish(v, "dev/sensor/7/data", 1, 9, payload)},
		"deliver/qos0":        {mqtt.Broker, testkit.Publish(v, "dev/sensor/7/data", 0, 0, payload)},
		"deliver/qos1":        {mqtt.Broker, testkit.Publish(v, "dev/sensor/7/data", 1, 9, payload)},
		"puback":              {mqtt.Client, testkit.Ack(v, mqtt.PUBACK, 9, 0)},
		"pingreq":             {mqtt.Client, testkit.Pingreq()},
		"publish/batch":       {mqtt.Client, bytes.Repeat(testkit.Publish(v, "dev/sensor/7/data", 0, 0, payload), 100)},
	}
}

func TestAllowedPathDoesNotAllocate(t *testing.T) {
	for _, v := range []mqtt.Version{mqtt.V311, mqtt.V5} {
		for name, p := range allowedPath(v) {
			t.Run(v.String()+"/"+name, func(t *testing.T) {
				r := openRig(t, policy.DoorGateway, v, plainConfig)
				ack := testkit.Ack(v, mqtt.PUBACK, 9, 0)
				step := func() {
					r.fx.Reset()
					if n := r.s.Feed(r.now, p.from, p.bytes, &r.fx); n != len(p.bytes) {
						t.Fatalf("consumed %d of %d", n, len(p.bytes))
					}
					if strings.HasSuffix(name, "+puback") {
						r.s.Feed(r.now, mqtt.Broker, ack, &r.fx)
					}
				}
				if n := testing.AllocsPerRun(100, step); n != 0 {
					t.Errorf("%v allocations", n)
				}
				if len(r.fx.Out[p.from.Peer()]) != 1 {
					t.Errorf("%d spans, want one", len(r.fx.Out[p.from.Peer()]))
				}
			})
		}
	}
}

// TestIdleSessionIsSmall bounds what a connection costs that does nothing.
func TestIdleSessionIsSmall(t *testing.T) {
	if n := unsafe.Sizeof(session.Session{}); n > 240 {
		t.Errorf("a Session is %d bytes, at most 240", n)
	}
	const n, most = 2000, 320
	subscribe, suback := testkit.Subscribe(mqtt.V5, 1, "dev/cmd/1"), testkit.Suback(mqtt.V5, 1, 0)
	connect := testkit.Connect(mqtt.V5, "sensor-0000001", testkit.User("building-7"))
	connack := testkit.Connack(mqtt.V5, false, 0, testkit.With(testkit.Prop16(mqtt.TopicAliasMaximum, 5)))
	// Settings and, for equal identities, the subject are shared.
	engine := engineOf(t, plainConfig)
	set := session.NewSettings(policy.DoorGateway, engine.Config())
	subject := engine.Bind(policy.Identity{Username: "building-7", Standing: policy.Claimed})
	var fx session.Effects
	keep := make([]*session.Session, n)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.GC() // what pools held before is gone too
	runtime.ReadMemStats(&before)
	for i := range keep {
		s := session.New(set, 1)
		s.Feed(1, mqtt.Client, connect, &fx)
		s.Admit(1, fx.Ticket, session.Admission{Subject: subject}, &fx)
		s.Dialled(1, fx.Ticket, new(config.Upstream), &fx)
		s.Feed(1, mqtt.Broker, connack, &fx)
		s.Feed(1, mqtt.Client, subscribe, &fx)
		s.Feed(1, mqtt.Broker, suback, &fx)
		if fx.Ended || s.Counters().Packets != [2]uint64{2, 2} {
			t.Fatal("the dialogue is not open")
		}
		keep[i] = s
		fx.Reset()
	}
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := (after.HeapAlloc - before.HeapAlloc) / n
	t.Logf("Session %d bytes, heap of an idle one with a subscription %d bytes", unsafe.Sizeof(session.Session{}), each)
	if each > most {
		t.Errorf("an idle session takes %d bytes of heap, at most %d", each, most)
	}
	runtime.KeepAlive(keep)
}

func BenchmarkFeedPublish(b *testing.B) {
	for _, v := range []mqtt.Version{mqtt.V311, mqtt.V5} {
		p := testkit.Publish(v, "dev/sensor/7/data", 0, 0, "")
		p = testkit.Publish(v, "dev/sensor/7/data", 0, 0, strings.Repeat("x", 64-len(p)))
		for _, batch := range []int{1, 100} {
			b.Run(fmt.Sprintf("%v/batch=%d", v, batch), func(b *testing.B) {
				r := openRig(b, policy.DoorGateway, v, plainConfig)
				input := bytes.Repeat(p, batch)
				b.ReportAllocs()
				b.SetBytes(int64(len(input)))
				for b.Loop() {
					r.fx.Reset()
					if n := r.s.Feed(r.now, mqtt.Client, input, &r.fx); n != len(input) {
						b.Fatal("not consumed")
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(batch), "ns/packet")
			})
		}
	}
}

func BenchmarkFeedDelivery(b *testing.B) {
	r := openRig(b, policy.DoorGateway, mqtt.V311, plainConfig)
	p := testkit.Publish(mqtt.V311, "dev/sensor/7/data", 0, 0, strings.Repeat("x", 43))
	b.ReportAllocs()
	for b.Loop() {
		r.fx.Reset()
		r.s.Feed(r.now, mqtt.Broker, p, &r.fx)
	}
}

// BenchmarkFeedQoS1 is a message with its PUBACK.
func BenchmarkFeedQoS1(b *testing.B) {
	r := openRig(b, policy.DoorGateway, mqtt.V311, plainConfig)
	p := testkit.Publish(mqtt.V311, "dev/sensor/7/data", 1, 9, strings.Repeat("x", 41))
	ack := testkit.Ack(mqtt.V311, mqtt.PUBACK, 9, 0)
	b.ReportAllocs()
	for b.Loop() {
		r.fx.Reset()
		r.s.Feed(r.now, mqtt.Client, p, &r.fx)
		r.fx.Reset()
		r.s.Feed(r.now, mqtt.Broker, ack, &r.fx)
	}
}
