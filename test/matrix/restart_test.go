//go:build matrix

package matrix

import (
	"fmt"
	"testing"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// restarts ends the gateway under a publisher and a subscriber that come back
// by themselves: twice as a crash would, once politely.
func restarts(t *testing.T, up *running) {
	// Not every client is good enough for this, with or without a gateway: Paho
	// Go v3 gives up messages of QoS 1, sends messages of QoS 2 again under ids
	// that are done with and takes them twice; Paho Python 2.2 sends those again
	// whose PUBREC had come when it must try twice to come back.
	for _, c := range []struct {
		publisher, scheme, version string
		qos                        byte
	}{
		{"Paho Python", "tcp", "3.1.1", 1},
		{"Paho Python", "ws", "5.0", 1},
		{"MQTT.js", "tcp", "3.1.1", 1},
		{"MQTT.js", "tcp", "3.1.1", 2},
		{"MQTT.js", "ws", "5.0", 1},
		{"MQTT.js", "ws", "5.0", 2},
	} {
		t.Run(fmt.Sprintf("%s/%s/qos%d", short(clientNamed(c.publisher).name), c.version, c.qos), func(t *testing.T) {
			restart(t, up, clientNamed(c.publisher), c.scheme, c.version, c.qos)
		})
	}
}

func restart(t *testing.T, up *running, publisher *client, scheme, version string, qos byte) {
	const count, batches = 600, 12
	g := front(t, gatewayConfig{upstream: up.url("tcp", version)})
	topic := "m/" + unique("restart")
	stay := func(o *options) { o.Clean, o.Expiry, o.Reconnect = false, 300, true }
	sub := dialer{t, clientNamed("MQTT.js"), options{URL: g.url(scheme), Version: version}}.open("-sub", stay)
	pub := dialer{t, publisher, options{URL: g.url(scheme), Version: version}}.open("-pub", stay)
	mustSubscribe(t, sub, qos, topic)
	o := observer(t, up, version)
	defer end(t, o.disconnect)
	mustSubscribe(t, o, qos, topic)

	published := make(chan error, 1)
	go func() { // ends with the batches, each of which has a limit
		all := numbered(topic, qos, count)
		for i := range batches {
			if err := pub.publish(all[i*count/batches : (i+1)*count/batches]...); err != nil {
				published <- fmt.Errorf("batch %d: %w", i, err)
				return
			}
		}
		published <- nil
	}()
	for i := range 3 {
		// In the middle: of what is published something has arrived.
		if got, err := o.receive((i + 1) * count / 5); err != nil || len(got) < count/5 {
			t.Fatalf("before restart %d: %d messages, %v", i, len(got), err)
		}
		if i == 1 {
			end(t, g.stop)
		} else {
			g.proc.Kill()
		}
		if err := g.start(version); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-published; err != nil {
		t.Fatal(err)
	}
	mustPublish(t, o, message{Topic: topic, Payload: "last", QoS: qos})
	once(t, "the subscriber", sub, topic, count, qos)
	once(t, "the broker", o, topic, count, qos)
	end(t, pub.disconnect)
	end(t, sub.disconnect)
}

// once waits for the last message and looks at those before it: of QoS 1 they
// may have come again.
func once(t *testing.T, who string, c conn, topic string, count int, qos byte) {
	t.Helper()
	seen := map[string]int{}
	testkit.Eventually(t, "the last message at "+who, func() bool {
		got, err := c.receive(count)
		if err != nil {
			t.Fatal(err)
		}
		clear(seen)
		for _, m := range got {
			seen[m.Payload]++
		}
		return seen["last"] > 0
	})
	again := 0
	for _, m := range numbered(topic, qos, count) {
		n := seen[m.Payload]
		if n == 0 {
			t.Errorf("lost to %s: %s", who, m.Payload)
		}
		again += n - 1
	}
	if qos == 2 && again != 0 {
		t.Errorf("%d messages of QoS 2 came to %s again", again, who)
	}
	t.Logf("%d came to %s again", again, who)
}
