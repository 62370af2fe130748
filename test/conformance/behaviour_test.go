package conformance

import (
	"bytes"
	"testing"
	"time"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/session"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// The tests of this file are for statements that no dialogue of testkit is
// about. Each names its own in its comment.

// TestNothingAfterRefusedConnect [MQTT-3.1.4-6].
func TestNothingAfterRefusedConnect(t *testing.T) {
	g := newGate(t, rules)
	g.send(mqtt.Client, testkit.Connect(v5, "c1", testkit.Will("dev/secret/w", "x", 0, false)),
		testkit.Publish(v5, "dev/a", 0, 0, "x"), testkit.Subscribe(v5, 1, "dev/a"))
	g.gets(mqtt.Broker)
	g.gets(mqtt.Client, testkit.Connack(v5, false, 0x87))
	g.ends(session.CauseRefused)
}

// TestAliasWithoutMaximum [MQTT-3.1.2-27] [MQTT-3.2.2-18]: an end that names no
// maximum is sent no alias.
func TestAliasWithoutMaximum(t *testing.T) {
	aliased := testkit.Publish(v5, "dev/a", 0, 0, "x", testkit.With(testkit.Prop16(mqtt.TopicAlias, 1)))
	for from, cause := range map[mqtt.Side]session.Cause{mqtt.Client: session.CauseProtocol, mqtt.Broker: session.CauseBrokerFault} {
		g := open(t, rules, hello(), figures())
		g.send(from, aliased)
		g.gets(from.Peer(), farewell(from))
		g.ends(cause)
	}
}

// farewell is what the peer of a side that broke the protocol is sent: a client
// is told, a broker's connection is closed.
func farewell(broke mqtt.Side) []byte {
	if broke == mqtt.Client {
		return nil
	}
	return testkit.Disconnect(v5, 0x8B)
}

// TestAliasesEndWithTheConnection [MQTT-3.3.2-7].
func TestAliasesEndWithTheConnection(t *testing.T) {
	five := testkit.Prop16(mqtt.TopicAliasMaximum, 5)
	alias := testkit.With(testkit.Prop16(mqtt.TopicAlias, 1))
	for _, from := range []mqtt.Side{mqtt.Client, mqtt.Broker} {
		first := open(t, rules, hello(five), figures(five))
		first.send(from, testkit.Publish(v5, "dev/a", 0, 0, "x", alias), testkit.Publish(v5, "", 0, 0, "y", alias))
		first.goesOn()
		second := open(t, rules, hello(five), figures(five))
		second.send(from, testkit.Publish(v5, "", 0, 0, "y", alias))
		if second.end == nil {
			t.Errorf("from the %v: the alias of another connection is known", from)
		}
	}
}

// TestPropertiesSurviveRewriting [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16]
// [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20]: a PUBLISH that is lowered,
// stripped or given its topic keeps its properties and their order.
func TestPropertiesSurviveRewriting(t *testing.T) {
	properties := func(more ...[]byte) testkit.Option {
		return testkit.With(append([][]byte{
			testkit.PropUser("b", "2"), testkit.PropStr(mqtt.ContentType, "text/plain"), testkit.PropUser("a", "1"),
			testkit.Prop8(mqtt.PayloadFormat, 1), testkit.PropStr(mqtt.ResponseTopic, "dev/answer"), testkit.PropUser("b", "1"),
			testkit.PropStr(mqtt.CorrelationData, "\x00\xFF"), testkit.Prop32(mqtt.MessageExpiry, 60),
		}, more...)...)
	}
	t.Run("lowered and stripped", func(t *testing.T) {
		g := open(t, rules+`, "qos": {"enabled": true, "max-qos": 1},
			"retained": {"enabled": true, "allow-retained": false, "on-denied": "strip"}`, hello(), figures())
		g.send(mqtt.Client, testkit.Publish(v5, "dev/a", 2, 7, "x", properties(), testkit.Retain()))
		g.gets(mqtt.Broker, testkit.Publish(v5, "dev/a", 1, 7, "x", properties()))
	})
	five := testkit.Prop16(mqtt.TopicAliasMaximum, 5)
	alias := testkit.Prop16(mqtt.TopicAlias, 1)
	for _, from := range []mqtt.Side{mqtt.Client, mqtt.Broker} {
		t.Run("alias from the "+from.String(), func(t *testing.T) {
			// The first is not forwarded, so the receiver does not know the
			// alias that the second uses.
			g := open(t, rules+`, "retained": {"enabled": true, "allow-retained": false}`, hello(five), figures(five))
			unheard := testkit.Publish(v5, "dev/a", 0, 0, "x", testkit.With(alias), testkit.Retain())
			if from == mqtt.Broker {
				unheard = testkit.Publish(v5, "dev/a", 0, 0, string(make([]byte, 65536)), testkit.With(alias))
			}
			g.send(from, unheard)
			g.gets(from.Peer())
			g.send(from, testkit.Publish(v5, "", 1, 7, "x", properties(alias)))
			g.gets(from.Peer(), testkit.Publish(v5, "dev/a", 1, 7, "x", properties(alias)))
		})
	}
}

// TestOwnPacketsSayNoMore [MQTT-3.1.2-29] [MQTT-3.2.2-19] [MQTT-3.2.2-20]
// [MQTT-3.4.2-2] [MQTT-3.4.2-3] [MQTT-3.5.2-2] [MQTT-3.5.2-3] [MQTT-3.7.2-2]
// [MQTT-3.7.2-3] [MQTT-3.14.2-3] [MQTT-3.14.2-4]: what we answer has neither a
// Reason String nor a User Property, so that it fits and is wanted.
func TestOwnPacketsSayNoMore(t *testing.T) {
	quiet := hello(testkit.Prop8(mqtt.RequestProblemInfo, 0))
	lowering := rules + `, "qos": {"enabled": true, "max-qos": 0}`
	for _, c := range []struct {
		name string
		conf string
		from mqtt.Side
		sent [][]byte
		back [][]byte // to the sender
	}{
		{"PUBACK", rules, mqtt.Client, [][]byte{testkit.Publish(v5, "dev/secret/a", 1, 7, "x")}, [][]byte{testkit.Ack(v5, mqtt.PUBACK, 7, 0x87)}},
		{"PUBREC", rules, mqtt.Client, [][]byte{testkit.Publish(v5, "dev/secret/a", 2, 7, "x")}, [][]byte{testkit.Ack(v5, mqtt.PUBREC, 7, 0x87)}},
		{
			"PUBCOMP", lowering, mqtt.Client,
			[][]byte{testkit.Publish(v5, "dev/a", 2, 7, "x"), testkit.Ack(v5, mqtt.PUBREL, 7, 0)},
			[][]byte{testkit.Ack(v5, mqtt.PUBREC, 7, 0), testkit.Ack(v5, mqtt.PUBCOMP, 7, 0)},
		},
		{"SUBACK", rules, mqtt.Client, [][]byte{testkit.Subscribe(v5, 7, "other")}, [][]byte{testkit.Suback(v5, 7, 0x87)}},
		{"PUBACK to the broker", rules, mqtt.Broker, [][]byte{testkit.Publish(v5, "dev/secret/a", 1, 7, "x")}, [][]byte{testkit.Ack(v5, mqtt.PUBACK, 7, 0)}},
		{
			"PUBREC and PUBCOMP to the broker", rules, mqtt.Broker,
			[][]byte{testkit.Publish(v5, "dev/secret/a", 2, 7, "x"), testkit.Ack(v5, mqtt.PUBREL, 7, 0)},
			[][]byte{testkit.Ack(v5, mqtt.PUBREC, 7, 0), testkit.Ack(v5, mqtt.PUBCOMP, 7, 0)},
		},
		{"DISCONNECT", rules, mqtt.Client, [][]byte{quiet}, [][]byte{testkit.Disconnect(v5, 0x82)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := open(t, c.conf, quiet, figures())
			g.send(c.from, c.sent...)
			g.gets(c.from, c.back...)
		})
	}
	t.Run("CONNACK", func(t *testing.T) {
		g := newGate(t, rules)
		g.send(mqtt.Client, testkit.Connect(v5, "c1", testkit.With(testkit.Prop8(mqtt.RequestProblemInfo, 0)), testkit.Will("dev/secret/w", "x", 0, false)))
		g.gets(mqtt.Client, testkit.Connack(v5, false, 0x87))
	})
}

// TestPacketIDIsFreeAgain [MQTT-4.3.2-5] [MQTT-4.3.3-9]: after an answer that
// ends the exchange the packet id is a new message, whatever DUP says.
func TestPacketIDIsFreeAgain(t *testing.T) {
	for qos, answer := range map[byte]mqtt.Type{1: mqtt.PUBACK, 2: mqtt.PUBREC} {
		for _, dup := range []byte{0, 0x08} {
			g := open(t, rules, hello(), figures())
			allowed := testkit.Publish(v5, "dev/a", qos, 7, "new", testkit.Flags(dup))
			g.send(mqtt.Client, testkit.Publish(v5, "dev/secret/a", qos, 7, "old"))
			g.gets(mqtt.Client, testkit.Ack(v5, answer, 7, 0x87))
			g.send(mqtt.Client, allowed)
			g.gets(mqtt.Broker, allowed)

			// The same when the broker refuses.
			refused := testkit.Ack(v5, answer, 7, 0x97)
			g.send(mqtt.Broker, refused)
			g.gets(mqtt.Client, refused)
			g.send(mqtt.Client, allowed)
			g.gets(mqtt.Broker, allowed)
			g.goesOn()
		}
	}
	for _, dup := range []byte{0, 0x08} {
		g := open(t, rules, hello(), figures())
		g.send(mqtt.Broker, testkit.Publish(v5, "dev/secret/a", 1, 7, "old"))
		g.gets(mqtt.Broker, testkit.Ack(v5, mqtt.PUBACK, 7, 0))
		allowed := testkit.Publish(v5, "dev/a", 1, 7, "new", testkit.Flags(dup))
		g.send(mqtt.Broker, allowed)
		g.gets(mqtt.Client, allowed)
	}
}

// TestReleaseBeforePubrec [MQTT-4.3.3-4]: PUBREL before the PUBREC that only
// the broker's answer makes us send.
func TestReleaseBeforePubrec(t *testing.T) {
	g := open(t, rules+`, "qos": {"enabled": true, "max-qos": 1}`, hello(), figures())
	g.send(mqtt.Client, testkit.Publish(v5, "dev/a", 2, 7, "x"))
	g.gets(mqtt.Broker, testkit.Publish(v5, "dev/a", 1, 7, "x"))
	g.send(mqtt.Client, testkit.Ack(v5, mqtt.PUBREL, 7, 0))
	g.gets(mqtt.Client, testkit.Disconnect(v5, 0x82))
	g.ends(session.CauseProtocol)
}

// TestAuthMethod [MQTT-4.12.0-5] [MQTT-4.12.0-6] [MQTT-4.12.1-1]: AUTH names
// the method of CONNECT, and there is none without it.
func TestAuthMethod(t *testing.T) {
	method := func(m string) []byte { return testkit.PropStr(mqtt.AuthMethod, m) }
	auth := func(code byte, m string) []byte { return testkit.Auth(code, testkit.With(method(m))) }
	t.Run("re-authentication", func(t *testing.T) {
		g := open(t, rules, hello(method("M")), figures(method("M")))
		g.send(mqtt.Client, auth(0x19, "M"))
		g.gets(mqtt.Broker, auth(0x19, "M"))
		g.send(mqtt.Client, auth(0x19, "N"))
		g.gets(mqtt.Broker)
		g.ends(session.CauseProtocol)
	})
	t.Run("another method of the broker", func(t *testing.T) {
		g := newGate(t, rules)
		g.send(mqtt.Client, hello(method("M")))
		g.send(mqtt.Broker, auth(0x18, "N"))
		g.ends(session.CauseBrokerFault)
	})
	t.Run("unasked, before CONNACK", func(t *testing.T) {
		g := newGate(t, rules)
		g.send(mqtt.Client, hello())
		g.send(mqtt.Broker, auth(0x18, "M"))
		g.ends(session.CauseBrokerFault)
	})
	t.Run("unasked, after CONNACK", func(t *testing.T) {
		g := open(t, rules, hello(), figures())
		g.send(mqtt.Broker, auth(0x18, "M"))
		g.ends(session.CauseBrokerFault)
	})
}

// TestBrokerDisconnectsBeforeConnack [MQTT-3.14.0-1].
func TestBrokerDisconnectsBeforeConnack(t *testing.T) {
	g := newGate(t, rules)
	g.send(mqtt.Client, hello())
	g.send(mqtt.Broker, testkit.Disconnect(v5, 0x89))
	g.gets(mqtt.Client, testkit.Connack(v5, false, 0x88))
	g.ends(session.CauseBrokerFault)
}

// TestServerKeepAliveIsOurs [MQTT-3.1.2-21]: towards the broker its Server Keep
// Alive counts, not what the client asked for.
func TestServerKeepAliveIsOurs(t *testing.T) {
	g := open(t, rules, testkit.Connect(v5, "c1", testkit.KeepAlive(600), testkit.With(testkit.Prop32(mqtt.MaximumPacketSize, 65536))),
		figures(testkit.Prop16(mqtt.ServerKeepAlive, 8)))
	denied := testkit.Publish(v5, "dev/secret/a", 0, 0, "x")
	pings := 0
	for range 10 {
		g.send(mqtt.Client, denied)
		g.pass(2 * time.Second)
		if b := g.take(mqtt.Broker); len(b) > 0 {
			if !bytes.Equal(b, testkit.Pingreq()) {
				t.Fatalf("to the broker: %x", b)
			}
			pings++
			g.send(mqtt.Broker, testkit.Pingresp())
		}
	}
	g.goesOn()
	g.gets(mqtt.Client) // the answers to our PINGREQs are ours
	if pings < 2 {
		t.Errorf("%d PINGREQs in 20 s at a Server Keep Alive of 8 s", pings)
	}
}

// TestOwnPacketIDs [MQTT-2.2.1-3]: an UNSUBSCRIBE of ours has an id that the
// client does not use.
func TestOwnPacketIDs(t *testing.T) {
	g := open(t, rules, hello(), figures())
	g.send(mqtt.Client, testkit.Subscribe(v5, 1, "dev/a"))
	g.send(mqtt.Broker, testkit.Suback(v5, 1, 0))
	g.send(mqtt.Client, testkit.Publish(v5, "dev/b", 1, 0xFFFF, "x"), testkit.Publish(v5, "dev/b", 1, 0xFFFD, "x"),
		testkit.Subscribe(v5, 0xFFFE, "dev/b"))
	g.take(mqtt.Broker)
	narrow := compile(t, `"acl": {"rules": [{"topics": ["dev/b"], "decision": "allow"}]}`)
	g.call(nil, func() { g.s.Policy(g.now, narrow.Bind(g.identity()), &g.fx) })
	g.gets(mqtt.Broker, testkit.Unsubscribe(v5, 0xFFFC, "dev/a"))
}

// TestNoNormalization [MQTT-4.7.3-4]: a topic that only looks like the rule's
// is another.
func TestNoNormalization(t *testing.T) {
	g := open(t, `"acl": {"rules": [{"topics": ["Z\u00FCrich/#"], "decision": "allow"}]}`, hello(), figures())
	for topic, passes := range map[string]bool{"Z\u00FCrich/a": true, "Zu\u0308rich/a": false, "ZÜRICH/a": false, "\uFEFFZ\u00FCrich/a": false} {
		p := testkit.Publish(v5, topic, 0, 0, "x")
		g.send(mqtt.Client, p)
		if got := bytes.Equal(g.take(mqtt.Broker), p); got != passes {
			t.Errorf("%q passes: %v, want %v", topic, got, passes)
		}
	}
}
