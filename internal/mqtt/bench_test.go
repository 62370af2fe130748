package mqtt_test

import (
	"strings"
	"testing"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

const benchTopic = "sensors/plant1/line4/temperature"

var payload64 = strings.Repeat("x", 64)

// views are the views that a session keeps and reuses.
type views struct {
	publish     mqtt.Publish
	ack         mqtt.Ack
	subscribe   mqtt.Subscribe
	unsubscribe mqtt.Unsubscribe
	suback      mqtt.Suback
	connect     mqtt.Connect
	connack     mqtt.Connack
	disconnect  mqtt.Disconnect
}

func (w *views) parse(b []byte, v mqtt.Version, from mqtt.Side) error {
	h, err := mqtt.ParseHeader(b, v, from)
	if err != nil {
		return err
	}
	body := b[h.Len:h.Size()]
	switch h.Type {
	case mqtt.CONNECT:
		return w.connect.Parse(body)
	case mqtt.CONNACK:
		return w.connack.Parse(v, body)
	case mqtt.PUBLISH:
		return w.publish.Parse(h, v, body)
	case mqtt.PUBACK, mqtt.PUBREC, mqtt.PUBREL, mqtt.PUBCOMP:
		return w.ack.Parse(h, v, body)
	case mqtt.SUBSCRIBE:
		return w.subscribe.Parse(h, v, body)
	case mqtt.UNSUBSCRIBE:
		return w.unsubscribe.Parse(h, v, body)
	case mqtt.SUBACK, mqtt.UNSUBACK:
		return w.suback.Parse(h, v, body)
	case mqtt.DISCONNECT, mqtt.AUTH:
		return w.disconnect.Parse(h, v, from, body)
	}
	return nil
}

// TestNoAllocations: no good packet of the catalogue allocates when it is
// parsed into views that were used before, nor when it is encoded into a buffer
// that is large enough.
func TestNoAllocations(t *testing.T) {
	var w views
	dst := make([]byte, 0, 1<<17)
	for _, p := range testkit.Packets() {
		if !p.Good() {
			continue
		}
		if n := testing.AllocsPerRun(20, func() {
			if err := w.parse(p.Bytes, p.Version, p.From); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", p.Name, n)
		}
		x := mustParse(t, p.Bytes, p.Version, p.From)
		if x.Publish != nil {
			if n := testing.AllocsPerRun(20, func() { _ = x.Publish.Append(dst, p.Version) }); n != 0 {
				t.Errorf("%s: %v allocations to encode", p.Name, n)
			}
			if n := testing.AllocsPerRun(20, func() {
				if _, err := w.publish.ParseHead(x.Header, p.Version, p.Bytes[x.Header.Len:]); err != nil {
					t.Fatal(err)
				}
			}); n != 0 {
				t.Errorf("%s: %v allocations for the head", p.Name, n)
			}
		}
	}
}

func benchmark(b *testing.B, packet []byte, v mqtt.Version, from mqtt.Side) {
	b.Helper()
	var w views
	b.ReportAllocs()
	for b.Loop() {
		if err := w.parse(packet, v, from); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParsePublish64(b *testing.B) {
	for _, v := range []mqtt.Version{mqtt.V311, mqtt.V5} {
		b.Run(v.String()+"/qos-0", func(b *testing.B) { benchmark(b, testkit.Publish(v, benchTopic, 0, 0, payload64), v, mqtt.Client) })
		b.Run(v.String()+"/qos-1", func(b *testing.B) { benchmark(b, testkit.Publish(v, benchTopic, 1, 7, payload64), v, mqtt.Client) })
	}
	b.Run("5.0/alias-and-user-property", func(b *testing.B) {
		benchmark(b, testkit.Publish(mqtt.V5, benchTopic, 1, 7, payload64,
			testkit.With(testkit.Prop16(mqtt.TopicAlias, 1), testkit.PropUser("trace", "0af7651916cd43dd"))), mqtt.V5, mqtt.Client)
	})
	b.Run("3.1.1/not-ascii", func(b *testing.B) {
		benchmark(b, testkit.Publish(mqtt.V311, "sensoren/straße/zürich/temperatur", 0, 0, payload64), mqtt.V311, mqtt.Client)
	})
}

func BenchmarkParseAck(b *testing.B) {
	benchmark(b, testkit.Ack(mqtt.V311, mqtt.PUBACK, 7, 0), mqtt.V311, mqtt.Client)
}

func BenchmarkParsePing(b *testing.B) { benchmark(b, testkit.Pingreq(), mqtt.V311, mqtt.Client) }

func BenchmarkParseSubscribe(b *testing.B) {
	benchmark(b, testkit.Subscribe(mqtt.V5, 7, "sensors/+/temperature", "commands/device-1/#"), mqtt.V5, mqtt.Client)
}

func BenchmarkParseConnect(b *testing.B) {
	benchmark(b, testkit.Connect(mqtt.V5, "device-0001", testkit.User("alice"), testkit.Password("secret"),
		testkit.With(testkit.Prop32(mqtt.SessionExpiryInterval, 3600))), mqtt.V5, mqtt.Client)
}

// BenchmarkParseUserProperties is the cost of what a peer can make us read.
func BenchmarkParseUserProperties(b *testing.B) {
	var p [][]byte
	for range 1000 {
		p = append(p, testkit.PropUser("key", "value"))
	}
	benchmark(b, testkit.Publish(mqtt.V5, benchTopic, 0, 0, payload64, testkit.With(p...)), mqtt.V5, mqtt.Client)
}

func BenchmarkAppendPublish64(b *testing.B) {
	p := mqtt.Publish{QoS: 1, Topic: []byte(benchTopic), PacketID: 7, Payload: []byte(payload64)}
	dst := make([]byte, 0, 256)
	b.ReportAllocs()
	for b.Loop() {
		dst = p.Append(dst[:0], mqtt.V311)
	}
}
