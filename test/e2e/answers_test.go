//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"testing"
)

// levels and their names in test names.
var levels = []struct {
	name  string
	level byte
}{{"3.1", v31}, {"3.1.1", v311}, {"5.0", v5}}

// eachDoor runs f for every version on both listeners of the gateway door.
func eachDoor(t *testing.T, s *setup, f func(t *testing.T, url string, level byte)) {
	for _, door := range []struct{ name, url string }{{"tcp", s.tcp}, {"ws", s.ws}} {
		for _, l := range levels {
			t.Run(door.name+"/"+l.name, func(t *testing.T) { f(t, door.url, l.level) })
		}
	}
}

// by is the answer of a version: before 5.0 and in 5.0.
func by(level, before, five byte) byte {
	if level == v5 {
		return five
	}
	return before
}

func TestDeniedPublish(t *testing.T) {
	eachDoor(t, shared, func(t *testing.T, url string, level byte) {
		id := unique("pub")
		o := observe(t, shared.broker)
		c := mustLogin(t, url, as("alice", id, level))
		denied := "e2e/secret/" + id
		for qos := byte(0); qos <= 2; qos++ {
			got := c.publish(t, message{topic: denied, payload: "no", qos: qos, id: 10 + uint16(qos)})
			if want := by(level, 0, [...]byte{0, 0x87, 0x87}[qos]); got != want {
				t.Errorf("QoS %d: answered %#x, want %#x", qos, got, want)
			}
		}
		// What comes after it on the same connection is unharmed, and shows
		// that nothing of the above is still on its way.
		if got := c.publish(t, message{topic: "e2e/" + id, payload: "yes", qos: 2, id: 20}); got != 0 {
			t.Errorf("allowed publish answered %#x", got)
		}
		noneBelow(t, o.untilTopic(t, "e2e/"+id), "e2e/secret")
		e := shared.audited(t, id, "the denied publish", func(e event) bool { return e.Reason == "acl-denied" })
		if e.Rule != "no-secrets" || e.Topic != denied || e.Packet != "PUBLISH" || e.Username != "alice" || e.Door != "gateway" || e.Event != "mqtt,blocked,acl-denied" {
			t.Errorf("audited as %+v", e)
		}
	})
}

func TestPartlyDeniedSubscribe(t *testing.T) {
	eachDoor(t, shared, func(t *testing.T, url string, level byte) {
		id := unique("sub")
		c := mustLogin(t, url, as("alice", id, level))
		no := by(level, 0x80, 0x87)
		ask := []struct {
			filter string
			want   byte
		}{
			{"e2e/secret/" + id, no}, {"e2e/" + id, 1}, {"other/" + id, no}, {"e2e/secret/#", no}, {"e2e/+/" + id, 1}, {"$SYS/#", no},
		}
		var filters []string
		var want []byte
		for _, a := range ask {
			filters, want = append(filters, a.filter), append(want, a.want)
		}
		c.send(t, subscribe(level, 7, 1, filters...))
		p := c.expect(t, tSuback)
		if p.id() != 7 || !slices.Equal(p.codes(), want) {
			t.Errorf("SUBACK %d % x, want 7 % x", p.id(), p.codes(), want)
		}
		// All refused: answered without the broker.
		c.send(t, subscribe(level, 8, 0, "other/#", "$share/g/e2e/#"))
		if got := c.expect(t, tSuback); got.id() != 8 || !slices.Equal(got.codes(), []byte{no, no}) {
			t.Errorf("SUBACK %d % x, want 8 % x", got.id(), got.codes(), []byte{no, no})
		}
		// The granted ones are real: a message comes back, the secret does not.
		out := mustLogin(t, shared.broker.tcp, connect{level: v311, id: unique("out"), noUser: true})
		for i, topic := range []string{"e2e/secret/" + id, "e2e/x/" + id, "e2e/" + id} {
			out.publish(t, message{topic: topic, payload: "x", qos: 1, id: uint16(i + 1)})
		}
		for _, want := range []string{"e2e/x/" + id, "e2e/" + id} {
			if m := c.receive(t); m.topic != want {
				t.Errorf("received %q, want %q", m.topic, want)
			}
		}
		c.send(t, unsubscribe(level, 9, "e2e/"+id, "never/subscribed"))
		if p := c.expect(t, tUnsuback); p.id() != 9 {
			t.Errorf("UNSUBACK %d, want 9", p.id())
		}
	})
}

func TestForbiddenWill(t *testing.T) {
	eachDoor(t, shared, func(t *testing.T, url string, level byte) {
		id := unique("will")
		o := observe(t, shared.broker)
		con := as("alice", id, level)
		con.will = &message{topic: "e2e/secret/" + id, payload: "gone", qos: 1}
		c, p := login(t, url, con)
		if want := by(level, 5, 0x87); p.code() != want {
			t.Errorf("CONNACK %#x, want %#x", p.code(), want)
		}
		c.ended(t)
		noneBelow(t, o.flush(t), "e2e/secret")
		shared.audited(t, id, "the refused CONNECT", func(e event) bool { return e.Packet == "CONNECT" && e.Reason == "acl-denied" })
	})
}

func TestWill(t *testing.T) {
	eachDoor(t, shared, func(t *testing.T, url string, level byte) {
		id := unique("will")
		topic := "e2e/will/" + id
		o := observe(t, shared.broker)
		con := as("alice", id, level)
		con.will = &message{topic: topic, payload: "gone", qos: 1}

		c := mustLogin(t, url, con)
		c.send(t, disconnect())
		c.ended(t)
		c.Close()
		// The same id again: its CONNACK comes after the broker has dealt with
		// the connection before.
		c = mustLogin(t, url, con)
		noneBelow(t, o.flush(t), topic)

		c.Close() // lost, without goodbye
		o.until(t, func(m message) bool { return m.topic == topic && m.payload == "gone" })
	})
}

func TestCredentials(t *testing.T) {
	eachDoor(t, shared, func(t *testing.T, url string, level byte) {
		wrong, unknown, none := as("alice", unique("cred"), level), as("eve", unique("cred"), level), as("", unique("cred"), level)
		wrong.password = "letmein"
		none.noUser = true
		for _, c := range []struct {
			name         string
			con          connect
			before, five byte
		}{
			{"wrong password", wrong, 4, 0x86},
			{"unknown user", unknown, 4, 0x86},
			{"anonymous", none, 5, 0x87},
		} {
			cl, p := login(t, url, c.con)
			if want := by(level, c.before, c.five); p.code() != want {
				t.Errorf("%s: CONNACK %#x, want %#x", c.name, p.code(), want)
			}
			if rest := cl.ended(t); len(rest) > 0 {
				t.Errorf("%s: %v after the CONNACK", c.name, rest)
			}
		}
	})
}

func TestLockedOut(t *testing.T) {
	s := startFor(t, shared.broker, config{values: map[string]string{
		"auth": `{"enabled": true, "providers": [{"type": "file", "path": "users.json"}]}`,
	}})
	con := as("locked", unique("lock"), v311)
	con.password = "guess"
	for i := range 10 {
		con.password = fmt.Sprint("guess", i)
		if _, p := login(t, s.tcp, con); p.code() != 4 {
			t.Fatalf("guess %d: CONNACK %#x, want 4", i, p.code())
		}
	}
	con.password = password("locked")
	if _, p := login(t, s.tcp, con); p.code() != 3 {
		t.Errorf("3.1.1 while locked out: CONNACK %#x, want 3", p.code())
	}
	con.level = v5
	if _, p := login(t, s.tcp, con); p.code() != 0x97 {
		t.Errorf("5.0 while locked out: CONNACK %#x, want 0x97", p.code())
	}
	mustLogin(t, s.tcp, as("alice", unique("lock"), v5)) // others are not
}

func TestTakeover(t *testing.T) {
	eachDoor(t, shared, func(t *testing.T, url string, level byte) {
		id := unique("taken")
		victim := mustLogin(t, url, as("alice", id, level))
		if _, p := login(t, url, as("bob", id, level)); p.code() != by(level, 2, 0x85) {
			t.Errorf("another's client id: CONNACK %#x, want %#x", p.code(), by(level, 2, 0x85))
		}
		if got := victim.publish(t, message{topic: "e2e/" + id, qos: 1, id: 1}); got != 0 {
			t.Errorf("the victim's publish answered %#x", got)
		}
		mustLogin(t, url, as("alice", id, level)) // its own it may take over
	})
}

// TestFilteredDelivery: a filter that covers more than the client may read is
// granted, and what it may not read does not come.
func TestFilteredDelivery(t *testing.T) {
	eachDoor(t, shared, func(t *testing.T, url string, level byte) {
		id := unique("deliver")
		c := mustLogin(t, url, as("alice", id, level))
		c.send(t, subscribe(level, 1, 2, "e2e/#"))
		if got := c.expect(t, tSuback).codes(); !slices.Equal(got, []byte{2}) {
			t.Fatalf("SUBACK % x, want 02", got)
		}
		out := mustLogin(t, shared.broker.tcp, connect{level: v311, id: unique("out"), noUser: true})
		for i := range 9 {
			out.publish(t, message{topic: "e2e/secret/" + id, payload: "secret", qos: byte(i % 3), id: uint16(100 + i)})
			out.publish(t, message{topic: "e2e/open/" + id, payload: fmt.Sprint(i), qos: byte(i % 3), id: uint16(200 + i)})
		}
		for i := 0; i < 9; {
			m := c.receive(t)
			if m.topic == "e2e/secret/"+id {
				t.Fatalf("delivered: %q on %q", m.payload, m.topic)
			}
			if m.topic == "e2e/open/"+id {
				if m.payload != fmt.Sprint(i) || m.qos != byte(i%3) {
					t.Errorf("received %q at QoS %d, want %d at %d", m.payload, m.qos, i, i%3)
				}
				i++
			}
		}
		shared.audited(t, id, "the filtered delivery", func(e event) bool {
			return e.Event == "mqtt,delivery-filtered" && e.Topic == "e2e/secret/"+id
		})
	})
}

// TestUnseenSubscription: a session that the broker kept from a connection that
// we never saw brings deliveries with it; they are checked all the same.
func TestUnseenSubscription(t *testing.T) {
	eachDoor(t, shared, func(t *testing.T, url string, level byte) {
		id := unique("resume")
		expiry := connect{level: level, id: id, noUser: true, keep: true}
		if level == v5 {
			expiry.props = []byte{0x11, 0, 0, 1, 0} // Session Expiry Interval
		}
		direct := mustLogin(t, shared.broker.tcp, expiry)
		direct.send(t, subscribe(level, 1, 2, "e2e/secret/"+id, "e2e/open/"+id, "elsewhere/"+id))
		direct.expect(t, tSuback)
		direct.send(t, disconnect())
		direct.ended(t)

		out := mustLogin(t, shared.broker.tcp, connect{level: v311, id: unique("out"), noUser: true})
		n := uint16(1)
		for _, topic := range []string{"e2e/secret/" + id, "elsewhere/" + id, "e2e/open/" + id} {
			for qos := byte(1); qos <= 2; qos++ {
				out.publish(t, message{topic: topic, payload: "kept", qos: qos, id: n})
				n++
			}
		}
		con := as("alice", id, level)
		con.keep, con.props = true, expiry.props
		c, p := login(t, url, con)
		if p.code() != 0 || (level != v31 && p.body[0] != 1) {
			t.Fatalf("CONNACK % x: the session is not resumed", p.body)
		}
		for qos := byte(1); qos <= 2; qos++ {
			if m := c.receive(t); m.topic != "e2e/open/"+id || m.qos != qos {
				t.Errorf("received %q at QoS %d, want e2e/open/%s at %d", m.topic, m.qos, id, qos)
			}
		}
	})
}

// TestRealClientsRefused: what the real clients make of a refusal.
func TestRealClientsRefused(t *testing.T) {
	for _, c := range trippers {
		t.Run(c.name, func(t *testing.T) {
			tr := trip{URL: shared.tcp, Version: "3.1.1", ClientID: unique("refused"), Username: "alice", Password: "wrong", Topic: "e2e/x", Count: 1}
			if c.name == "paho-go-v5" {
				tr.Version = "5.0"
			}
			if c.name == "mosquitto" {
				// mosquitto_sub tries for ever; mosquitto_pub ends.
				refusedMosquitto(t, tr)
				return
			}
			if got, err := c.run(t, tr); err == nil && got.Error == "" {
				t.Errorf("admitted: %+v", got)
			}
		})
	}
}
