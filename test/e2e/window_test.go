//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// TestFilteredWindow: deliveries that a client does not get take nothing of its
// Receive Maximum of 1.
func TestFilteredWindow(t *testing.T) {
	for _, url := range []string{shared.tcp, shared.ws} {
		id := unique("window")
		con := as("alice", id, v5)
		con.props = []byte{0x21, 0, 1}
		c := mustLogin(t, url, con)
		c.send(t, subscribe(v5, 1, 2, "e2e/#"))
		c.expect(t, tSuback)
		out := mustLogin(t, shared.broker.tcp, connect{level: v311, id: unique("out"), noUser: true})
		for i := range 200 {
			out.publish(t, message{topic: "e2e/secret/" + id, qos: 1 + byte(i%2), id: uint16(1 + i)})
			if i%50 == 49 {
				out.publish(t, message{topic: "e2e/open/" + id, payload: fmt.Sprint(i), qos: 1 + byte(i/50%2), id: 999})
			}
		}
		for i := 49; i < 200; i += 50 {
			if m := c.receive(t); m.topic != "e2e/open/"+id || m.payload != fmt.Sprint(i) {
				t.Fatalf("received %q on %q, want %d", m.payload, m.topic, i)
			}
		}
	}
}

// TestBeyondBrokersWindow: a client that sends more messages of QoS 2 at once
// than Mosquitto takes, as those do that ignore the Receive Maximum, keeps its
// connection, and all arrive.
func TestBeyondBrokersWindow(t *testing.T) {
	noComplaints(t, shared.broker)
	const count = 100 // Mosquitto takes 20
	for _, url := range []string{shared.tcp, shared.ws} {
		topic := "e2e/" + unique("burst")
		k := sinkOf(t, shared.broker.tcp, topic, 1, count, true)
		f := &flood{url: url, con: as("alice", unique("burst"), v5), topic: topic, qos: 2, count: count, seen: k}
		f.open(t)
		f.window = count
		if !f.run(t, count) {
			t.Fatal("the connection was cut")
		}
		k.end(t, shared.broker.tcp, topic)
	}
}

// TestRealClientsBeyondWindow: MQTT.js and Paho Python pay no heed to a Receive
// Maximum of 3, and keep their connections.
func TestRealClientsBeyondWindow(t *testing.T) {
	s := startFor(t, quietBrokerWith(t, "max_inflight_messages 3"), config{})
	for _, c := range trippers {
		if c.name != "mqtt-js" && c.name != "paho-python" {
			continue
		}
		for qos := byte(1); qos <= 2; qos++ {
			t.Run(fmt.Sprintf("%s/QoS %d", c.name, qos), func(t *testing.T) {
				id := unique("burst")
				got, err := c.run(t, trip{
					URL: s.tcp, Version: "5.0", ClientID: id, Username: "alice", Password: password("alice"),
					Topic: "e2e/" + id, QoS: qos, Count: 200,
				})
				if err != nil || got.Error != "" {
					t.Fatal(err, got.Error)
				}
				for i, m := range got.Received {
					if want := fmt.Sprintf("message %d", i); m[1] != want {
						t.Fatalf("received %v, want %s", m, want)
					}
				}
				if len(got.Received) != 200 {
					t.Errorf("received %d of 200", len(got.Received))
				}
			})
		}
	}
}

// TestDeniedKeepsAlive: who only publishes what is denied does not ping, and is
// not cut by the broker, which hears nothing of it.
func TestDeniedKeepsAlive(t *testing.T) {
	for _, l := range levels {
		for qos := byte(0); qos <= 2; qos++ {
			t.Run(fmt.Sprintf("%s/QoS %d", l.name, qos), func(t *testing.T) {
				t.Parallel()
				// The broker waits 3 s: a machine that stands still as long may cut
				// one connection, a program that does not ping cuts all.
				const tries = 5
				for range tries {
					if keepsAlive(t, l.level, qos) {
						return
					}
				}
				t.Errorf("cut %d times", tries)
			})
		}
	}
}

// keepsAlive publishes what is denied for longer than the broker waits, and says
// whether the connection lives.
func keepsAlive(t *testing.T, level, qos byte) bool {
	t.Helper()
	con := as("alice", unique("busy"), level)
	con.keepAlive = 2
	c := mustLogin(t, shared.tcp, con)
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	answered := func(m message, kind byte) bool {
		if _, err := c.Write(m.bytes(level)); err != nil {
			return false
		}
		if kind == 0 {
			return true
		}
		p, err := c.next()
		if err != nil || p.kind() == tDisconnect {
			return false
		}
		if p.kind() != kind || p.id() != m.id {
			t.Fatalf("%v for id %d", p, m.id)
		}
		if kind == tPubrec && p.code() < 0x80 {
			c.send(t, ack(tPubrel, m.id))
			c.expect(t, tPubcomp)
		}
		return true
	}
	for range 14 {
		<-tick.C
		if !answered(message{topic: "e2e/secret/x", qos: qos, id: 1}, [...]byte{0, tPuback, tPubrec}[qos]) {
			return false
		}
	}
	return answered(message{topic: "e2e/x", qos: 1, id: 2}, tPuback)
}

// TestManyFilters: a SUBSCRIBE as Home Assistant sends it is answered filter by
// filter.
func TestManyFilters(t *testing.T) {
	eachDoor(t, shared, func(t *testing.T, url string, level byte) {
		var filters []string
		for i := range 500 {
			filters = append(filters, fmt.Sprintf("e2e/%s/%d/config", unique("ha"), i))
		}
		want := slices.Repeat([]byte{1}, len(filters))
		for _, i := range []int{0, 123, 124, 499} {
			filters[i], want[i] = "e2e/secret/config", by(level, 0x80, 0x87)
		}
		c := mustLogin(t, url, as("alice", unique("ha"), level))
		c.send(t, subscribe(level, 7, 1, filters...))
		if got := c.expect(t, tSuback).codes(); !slices.Equal(got, want) {
			t.Fatalf("SUBACK % x", got)
		}
		out := mustLogin(t, shared.broker.tcp, connect{level: v311, id: unique("out"), noUser: true})
		for _, i := range []int{1, 498} {
			out.publish(t, message{topic: filters[i], payload: "{}", qos: 1, id: 1})
			if m := c.receive(t); m.topic != filters[i] {
				t.Errorf("received %q", m.topic)
			}
		}
	})
}
