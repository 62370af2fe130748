package session_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// TestAcknowledgementsKeepTheirOrder has a broker with a window of one size
// deliver messages, of which some are filtered, to a client that acknowledges in
// order when it pleases: the broker gets every acknowledgement, in the order of
// its deliveries. [MQTT-4.6.0-2] [MQTT-4.6.0-3]
func TestAcknowledgementsKeepTheirOrder(t *testing.T) {
	const total = 300
	for _, window := range []int{1, 2, 7, 100} {
		for seed := range uint64(20) {
			rnd := rand.New(rand.NewPCG(seed, uint64(window)))
			r := openRig(t, policy.DoorGateway, mqtt.V5, plainConfig)
			var delivered, acked, owed [3][]int
			for id := 1; id <= total || len(owed[1])+len(owed[2]) > 0; {
				r.out = [2][]byte{}
				inFlight := len(delivered[1]) - len(acked[1]) + len(delivered[2]) - len(acked[2])
				if id <= total && inFlight < window && rnd.IntN(2) == 0 {
					qos, topic := 1+rnd.IntN(2), "other"
					if rnd.IntN(3) == 0 {
						topic = "dev/a"
						owed[qos] = append(owed[qos], id)
					}
					delivered[qos] = append(delivered[qos], id)
					r.feed(mqtt.Broker, testkit.Publish(mqtt.V5, topic, byte(qos), id, "x"))
					id++
				} else if qos := 1 + rnd.IntN(2); len(owed[qos]) > 0 {
					r.feed(mqtt.Client, testkit.Ack(mqtt.V5, [...]mqtt.Type{1: mqtt.PUBACK, 2: mqtt.PUBREC}[qos], owed[qos][0], 0))
					owed[qos] = owed[qos][1:]
				}
				for b := r.out[mqtt.Broker]; len(b) > 0; b = b[4:] {
					qos := map[byte]int{0x40: 1, 0x50: 2}[b[0]]
					acked[qos] = append(acked[qos], int(b[2])<<8|int(b[3]))
				}
				for qos := 1; qos <= 2; qos++ {
					for i, id := range acked[qos] {
						if id != delivered[qos][i] {
							t.Fatalf("window %d, seed %d, QoS %d: acknowledged %v of %v", window, seed, qos, acked[qos], delivered[qos])
						}
					}
				}
			}
			if len(acked[1])+len(acked[2]) != total {
				t.Fatalf("window %d, seed %d: %d acknowledgements, want %d", window, seed, len(acked[1])+len(acked[2]), total)
			}
		}
	}
}

// TestUnacknowledgedDeliveriesAreBounded has a client acknowledge nothing and
// then all: what waits is bounded, and nothing is lost or doubled.
func TestUnacknowledgedDeliveriesAreBounded(t *testing.T) {
	const most, total = 1024, 3000
	r := openRig(t, policy.DoorGateway, mqtt.V311, plainConfig)
	r.feed(mqtt.Broker, testkit.Publish(mqtt.V311, "dev/a", 1, 1, "x"))
	r.out = [2][]byte{}
	for id := 2; id <= total; id++ {
		r.feed(mqtt.Broker, testkit.Publish(mqtt.V311, "other", 1, id, "x"))
	}
	r.feed(mqtt.Broker, testkit.Publish(mqtt.V311, "dev/a", 1, total+1, "x"))
	acks := func(from, to int) (b []byte) {
		for id := from; id <= to; id++ {
			b = append(b, testkit.Ack(mqtt.V311, mqtt.PUBACK, id, 0)...)
		}
		return b
	}
	if got, want := r.out[mqtt.Broker], acks(2, total-most); !bytes.Equal(got, want) {
		t.Errorf("%d bytes of acknowledgements went before their turn, want %d", len(got), len(want))
	}
	r.out = [2][]byte{}
	r.feed(mqtt.Client, acks(1, 1))
	r.feed(mqtt.Client, acks(total+1, total+1))
	want := append(acks(1, 1), acks(total-most+1, total+1)...)
	if got := r.out[mqtt.Broker]; !bytes.Equal(got, want) {
		t.Errorf("%d bytes of acknowledgements in their turn, want %d", len(got), len(want))
	}
	r.out = [2][]byte{}
	r.feed(mqtt.Client, acks(9, 9)) // of nothing
	r.feed(mqtt.Broker, testkit.Publish(mqtt.V311, "other", 1, 8, "x"))
	if got, want := r.out[mqtt.Broker], append(acks(9, 9), acks(8, 8)...); !bytes.Equal(got, want) {
		t.Errorf("then % x, want % x", got, want)
	}
}
