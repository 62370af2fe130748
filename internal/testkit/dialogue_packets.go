package testkit

import (
	"strings"
	"time"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
)

func connectDialogues(b *dialogueBook) {
	for _, v := range all {
		b.add("connect/accepted", v, BothDoors, conf(allVersions)).opens().
			client(Disconnect(v, 0)).passes().disconnects("client-disconnect", 0)
		b.add("connect/with-will", v, BothDoors, conf(allVersions)).opens(Will("dev/gone", "x", 1, false))
		b.add("connect/forbidden-will", v, BothDoors, conf(allVersions)).
			client(hello(v, Will("dev/secret/x", "x", 0, false))).is("close").
			toClient(pick(v, Connack(v, false, 0x87), Connack(v, false, 5))).
			events("blocked,acl-denied").ends("refused", 0)
		b.add("connect/dial-fails", v, GatewayDoor, conf(allVersions)).
			act(DialFails).
			client(hello(v)).
			toClient(pick(v, Connack(v, false, 0x88), Connack(v, false, 3))).
			events("blocked,server-unavailable").ends("upstream-lost", 0)
		b.add("connect/will-lowered", v, GatewayDoor, conf(allVersions, `"qos": {"enabled": true, "max-qos": 1}`)).
			client(hello(v, Will("dev/gone", "x", 2, false))).is("").
			toBroker(hello(v, Will("dev/gone", "x", 1, false))).events("qos-downgraded")
		b.add("connect/will-unretained", v, GatewayDoor, conf(allVersions, `"retained": {"enabled": true, "allow-retained": false}`)).
			client(hello(v, Will("dev/gone", "x", 0, true))).
			toBroker(hello(v, Will("dev/gone", "x", 0, false))).events("retain-stripped")
	}
	removing := strings.Replace(conf(allVersions), `"acl": {`, `"acl": {"on-denied-will": "remove", `, 1)
	for _, v := range all {
		b.add("connect/will-removed", v, GatewayDoor, removing).
			client(hello(v, Will("dev/secret/x", "x", 0, false))).
			toBroker(hello(v)).events("will-removed")
	}
	b.add("connect/version-not-spoken", mqtt.V5, BothDoors, conf(`"general": {"protocol-versions": ["3.1.1"]}`)).
		client(hello(mqtt.V5)).is("close").toClient(Connack(mqtt.V5, false, 0x84)).
		events("blocked,protocol-version").ends("refused", 0)
	b.add("connect/version-not-spoken", mqtt.V31, BothDoors, conf()).
		client(hello(mqtt.V31)).is("close").toClient(Connack(mqtt.V31, false, 1)).
		events("blocked,protocol-version").ends("refused", 0)
	b.add("connect/bridge-bit", mqtt.V311, BothDoors, conf()).
		client(Connect(mqtt.V311, "c1", Level(0x84))).is("close").toClient(Connack(mqtt.V311, false, 1)).
		events("blocked,protocol-version").ends("refused", 0)
	b.add("connect/level-6", mqtt.V5, BothDoors, conf()).
		client(Connect(mqtt.V5, "c1", Level(6))).is("close").toClient(Connack(mqtt.V5, false, 0x84)).
		events("blocked,protocol-version").ends("refused", 0)

	for _, v := range []mqtt.Version{mqtt.V311, mqtt.V5} {
		b.add("connect/empty-id-kept-session", v, BothDoors, conf()).
			client(Connect(v, "", Resume())).is("close").
			toClient(pick(v, Connack(v, false, 0x85), Connack(v, false, 2))).
			events("blocked,client-id-invalid").ends("refused", 0)
		props := With(Prop32(mqtt.MaximumPacketSize, 65536))
		b.add("connect/empty-id", v, GatewayDoor, conf()).
			client(Connect(v, "", props)).is("").
			toBroker(Connect(v, "gw-"+strings.Repeat("x", 22), props)).
			broker(Connack(v, false, 0, With(Prop16(mqtt.ReceiveMaximum, 20), Prop32(mqtt.MaximumPacketSize, 65536)))).
			toClient(Connack(v, false, 0, With(Prop16(mqtt.ReceiveMaximum, 20), Prop32(mqtt.MaximumPacketSize, 65536),
				PropStr(mqtt.AssignedClientID, "gw-"+strings.Repeat("x", 22))))).events("connect,success")
		capped := `"general": {"limits": {"keep-alive-secs": 30}}`
		if v == mqtt.V311 {
			b.add("connect/keep-alive-capped", v, BothDoors, conf(capped)).
				client(hello(v)).is("close").toClient(Connack(v, false, 2)).
				events("blocked,limit-exceeded").ends("refused", 0)
		}
	}
}

func connackDialogues(b *dialogueBook) {
	v := mqtt.V5
	from := func(name, config string, opts ...Option) *talk {
		return b.add("connack/"+name, v, GatewayDoor, config).client(Connect(v, "c1", opts...)).is("")
	}
	from("ours-are-smaller", conf(`"general": {"max-packet-size": 5000, "limits": {"receive-maximum": 7, "topic-aliases": 3}}`)).
		toBroker(Connect(v, "c1", With(Prop32(mqtt.MaximumPacketSize, 16<<20)))).
		broker(Connack(v, false, 0, With(PropUser("k", "v"), Prop16(mqtt.TopicAliasMaximum, 9)))).
		toClient(Connack(v, false, 0, With(PropUser("k", "v"), Prop16(mqtt.TopicAliasMaximum, 3),
			Prop32(mqtt.MaximumPacketSize, 5000), Prop16(mqtt.ReceiveMaximum, 7)))).
		events("connect,success")
	small := With(Prop32(mqtt.MaximumPacketSize, 100))
	figures := func(more ...[]byte) Option {
		return With(append([][]byte{Prop16(mqtt.ReceiveMaximum, 20), Prop32(mqtt.MaximumPacketSize, 65536)}, more...)...)
	}
	from("session-expiry-lowered", conf(`"general": {"limits": {"session-expiry-secs": 60}}`),
		With(Prop32(mqtt.MaximumPacketSize, 100), Prop32(mqtt.SessionExpiryInterval, 3600))).
		toBroker(Connect(v, "c1", With(Prop32(mqtt.MaximumPacketSize, 100), Prop32(mqtt.SessionExpiryInterval, 60)))).
		broker(Connack(v, false, 0, figures())).
		toClient(Connack(v, false, 0, figures(Prop32(mqtt.SessionExpiryInterval, 60)))).events("connect,success").
		client(Disconnect(v, 0, With(Prop32(mqtt.SessionExpiryInterval, 9999)))).
		toBroker(Disconnect(v, 0, With(Prop32(mqtt.SessionExpiryInterval, 60)))).is("rewrite").
		disconnects("client-disconnect", 0)
	from("keep-alive-lowered", conf(`"general": {"limits": {"keep-alive-secs": 30}}`), small, KeepAlive(0)).
		toBroker(Connect(v, "c1", small, KeepAlive(0))).
		broker(Connack(v, false, 0, figures())).
		toClient(Connack(v, false, 0, figures(Prop16(mqtt.ServerKeepAlive, 30)))).events("connect,success").
		wait(45*time.Second).toClient(Disconnect(v, 0x8D)).disconnects("keep-alive", 0x8D)
	from("server-reference-removed", conf(), small).toBroker(Connect(v, "c1", small)).
		broker(Connack(v, false, 0x9C, With(PropStr(mqtt.ServerReference, "other:1883")))).
		toClient(Connack(v, false, 0x88)).events("disconnect").ends("broker-refused", 0x88)
	from("announces-what-rules-allow", conf(`"qos": {"enabled": true, "max-qos": 1}`, `"retained": {"enabled": true, "allow-retained": false}`), small).
		toBroker(Connect(v, "c1", small)).
		broker(Connack(v, false, 0, figures())).
		toClient(Connack(v, false, 0, figures(Prop8(mqtt.MaximumQoS, 1), Prop8(mqtt.RetainAvailable, 0)))).events("connect,success")
	from("version-refused-in-old-form", conf(), small).toBroker(Connect(v, "c1", small)).
		broker([]byte{0x20, 2, 0, 1}).toClient(Connack(v, false, 0x84)).events("disconnect").ends("broker-refused", 0x84)
	for _, v := range []mqtt.Version{mqtt.V311, mqtt.V5} {
		b.add("connack/bare-close", v, GatewayDoor, conf()).client(hello(v)).toBroker(hello(v)).
			act(BrokerLost).toClient(pick(v, Connack(v, false, 0x88), Connack(v, false, 3))).
			events("blocked,server-unavailable").ends("upstream-lost", 0)
		b.add("connack/never", v, GatewayDoor, conf()).client(hello(v)).toBroker(hello(v)).
			wait(5*time.Second).toClient(pick(v, Connack(v, false, 0x88), Connack(v, false, 3))).
			events("blocked,server-unavailable").ends("upstream-lost", 0)
		b.add("connack/refused", v, BothDoors, conf()).client(hello(v)).passes().
			broker(pick(v, Connack(v, false, 0x87), Connack(v, false, 5))).passes().
			events("disconnect").ends("broker-refused", 0)
	}
}

func publishDialogues(b *dialogueBook) {
	for _, v := range all {
		for qos := byte(0); qos <= 2; qos++ {
			name := named("qos%d", qos)
			t := b.add("publish/allowed/"+name, v, BothDoors, conf(allVersions)).opens().
				client(Publish(v, "dev/a", qos, 7, "hello")).passes()
			switch qos {
			case 1:
				t.broker(Ack(v, mqtt.PUBACK, 7, 0)).passes()
			case 2:
				t.broker(Ack(v, mqtt.PUBREC, 7, 0)).passes().
					client(Ack(v, mqtt.PUBREL, 7, 0)).passes().
					broker(Ack(v, mqtt.PUBCOMP, 7, 0)).passes()
			}
			t.client(Pingreq()).passes().broker(Pingresp()).passes()

			denied := func(config string) *talk {
				return b.add("publish/denied/"+name, v, BothDoors, config).opens().
					client(Publish(v, "dev/secret/a", qos, 7, "hello")).is("drop").events("blocked,acl-denied")
			}
			t = denied(conf(allVersions))
			switch qos {
			case 1:
				t.toClient(pick(v, Ack(v, mqtt.PUBACK, 7, 0x87), Ack(v, mqtt.PUBACK, 7, 0)))
			case 2:
				t.toClient(pick(v, Ack(v, mqtt.PUBREC, 7, 0x87), Ack(v, mqtt.PUBREC, 7, 0)))
			}
			t.client(Publish(v, "dev/b", 0, 0, "on")).passes()
			if qos == 2 && v != mqtt.V5 {
				b.add("publish/denied-released/qos2", v, GatewayDoor, conf(allVersions)).opens().
					client(Publish(v, "dev/secret/a", 2, 7, "hello")).is("drop").events("blocked,acl-denied").
					toClient(Ack(v, mqtt.PUBREC, 7, 0)).
					client(Publish(v, "dev/secret/a", 2, 7, "hello", Dup())).is("drop").events("blocked,acl-denied").
					toClient(Ack(v, mqtt.PUBREC, 7, 0)).
					client(Ack(v, mqtt.PUBREL, 7, 0)).toClient(Ack(v, mqtt.PUBCOMP, 7, 0)).is("rewrite").
					client(Ack(v, mqtt.PUBREL, 7, 0)).passes()
			}
			b.add("publish/denied-drop/"+name, v, GatewayDoor, conf(allVersions, `"gateway": {"on-deny": "drop"}`)).opens().
				client(Publish(v, "dev/secret/a", qos, 7, "hello")).is("drop").events("blocked,acl-denied")
			b.add("publish/denied-disconnect/"+name, v, GatewayDoor, conf(allVersions, `"gateway": {"on-deny": "disconnect"}`)).opens().
				client(Publish(v, "dev/secret/a", qos, 7, "hello")).is("close").events("blocked,acl-denied").
				toClient(bye(v, 0x87)).toBroker(Disconnect(v, 0)).disconnects("policy", 0x87)
			if qos > 0 {
				b.add("publish/denied-close/"+name, v, AgentDoor, conf(allVersions, `"agent": {"on-deny": "close"}`)).opens().
					client(Publish(v, "dev/secret/a", qos, 7, "hello")).is("close").events("blocked,acl-denied").
					disconnects("policy", 0)
			}
		}
		b.add("publish/mixed", v, BothDoors, conf(allVersions)).opens().
			client(Publish(v, "dev/a", 0, 0, "1"), Publish(v, "dev/secret/a", 0, 0, "2"), Publish(v, "dev/b", 0, 0, "3")).
			is("drop").toBroker(Publish(v, "dev/a", 0, 0, "1"), Publish(v, "dev/b", 0, 0, "3")).events("blocked,acl-denied")
		b.add("publish/retained-dropped", v, BothDoors, conf(allVersions, `"retained": {"enabled": true, "allow-retained": false}`)).
			client(hello(v)).toBroker(hello(v)).
			broker(Connack(v, false, 0, With(Prop8(mqtt.RetainAvailable, 0), Prop16(mqtt.ReceiveMaximum, 20), Prop32(mqtt.MaximumPacketSize, 65536)))).passes().events("connect,success").
			client(Publish(v, "dev/a", 1, 7, "x", Retain())).is("drop").events("blocked,retained-denied").
			toClient(pick(v, Ack(v, mqtt.PUBACK, 7, 0x87), Ack(v, mqtt.PUBACK, 7, 0)))
		b.add("publish/retained-stripped", v, GatewayDoor, conf(allVersions, `"retained": {"enabled": true, "allow-retained": false, "on-denied": "strip"}`)).opens().
			client(Publish(v, "dev/a", 0, 0, "x", Retain())).toBroker(Publish(v, "dev/a", 0, 0, "x")).
			is("rewrite").events("retain-stripped")
		b.add("publish/retained-stripped", v, AgentDoor, conf(allVersions, `"retained": {"enabled": true, "allow-retained": false, "on-denied": "strip"}`)).opens().
			client(Publish(v, "dev/a", 0, 0, "x", Retain())).passes().events("retained-over-limit")
	}
	v := mqtt.V5
	b.add("publish/response-topic-denied", v, BothDoors, conf()).opens().
		client(Publish(v, "dev/a", 1, 7, "x", With(PropStr(mqtt.ResponseTopic, "dev/secret/r")))).is("drop").
		toClient(Ack(v, mqtt.PUBACK, 7, 0x87)).events("blocked,acl-denied")
}

// ackDialogues are about what the broker says of the client's messages.
func ackDialogues(b *dialogueBook) {
	over := hello(mqtt.V5) // with its Remaining Length in two bytes
	over = append([]byte{over[0], over[1] | 0x80, 0}, over[2:]...)
	b.add("connect/overlong", mqtt.V5, BothDoors, conf()).
		client(over).is("close").events("blocked,protocol-error").ends("malformed", 0x81)
	b.add("publish/subscription-id", mqtt.V5, BothDoors, conf()).opens().
		client(Publish(mqtt.V5, "dev/a", 0, 0, "x", With(PropVar(mqtt.SubscriptionIdentifier, 1)))).is("close").
		events("blocked,protocol-error").toClient(Disconnect(mqtt.V5, 0x82)).disconnects("protocol", 0x82)
	b.add("disconnect/expiry-out-of-nothing", mqtt.V5, BothDoors, conf()).opens().
		client(Disconnect(mqtt.V5, 0, With(Prop32(mqtt.SessionExpiryInterval, 60)))).is("close").
		events("blocked,protocol-error").toClient(Disconnect(mqtt.V5, 0x82)).disconnects("protocol", 0x82)
	// Mosquitto says 0x95 where the standard does not list it, and clients drop
	// the connection over that.
	b.add("ack/too-large", mqtt.V5, GatewayDoor, conf()).opens().
		client(Publish(mqtt.V5, "dev/a", 1, 7, "x")).passes().
		broker(Ack(mqtt.V5, mqtt.PUBACK, 7, 0x95)).is("rewrite").toClient(Ack(mqtt.V5, mqtt.PUBACK, 7, 0x97)).
		client(Publish(mqtt.V5, "dev/a", 2, 7, "x")).passes().
		broker(Ack(mqtt.V5, mqtt.PUBREC, 7, 0x95)).is("rewrite").toClient(Ack(mqtt.V5, mqtt.PUBREC, 7, 0x97)).
		client(Publish(mqtt.V5, "dev/a", 2, 7, "y")).passes()
	b.add("ack/too-large-lowered", mqtt.V5, GatewayDoor, conf(`"qos": {"enabled": true, "max-qos": 1}`)).
		client(hello(mqtt.V5)).toBroker(hello(mqtt.V5)).
		broker(Connack(mqtt.V5, false, 0, With(Prop8(mqtt.MaximumQoS, 1), Prop16(mqtt.ReceiveMaximum, 20), Prop32(mqtt.MaximumPacketSize, 65536)))).passes().events("connect,success").
		client(Publish(mqtt.V5, "dev/a", 2, 7, "x")).is("rewrite").toBroker(Publish(mqtt.V5, "dev/a", 1, 7, "x")).events("qos-downgraded").
		broker(Ack(mqtt.V5, mqtt.PUBACK, 7, 0x95)).toClient(Ack(mqtt.V5, mqtt.PUBREC, 7, 0x97))
}

// downgradeDialogues are about QoS above the maximum, in the door that can
// lower it.
func downgradeDialogues(b *dialogueBook) {
	to := func(q string) string { return conf(allVersions, `"qos": {"enabled": true, "max-qos": `+q+`}`) }
	for _, v := range all {
		opened := func(name, config string) *talk {
			t := b.add("downgrade/"+name, v, GatewayDoor, config)
			t.client(hello(v)).toBroker(hello(v))
			return t
		}
		up := func(t *talk, q byte) *talk {
			w := Connack(v, false, 0, With(Prop8(mqtt.MaximumQoS, q), Prop16(mqtt.ReceiveMaximum, 20), Prop32(mqtt.MaximumPacketSize, 65536)))
			return t.broker(w).passes().events("connect,success")
		}
		up(opened("2-to-1", to("1")), 1).
			client(Publish(v, "dev/a", 2, 9, "x")).is("rewrite").toBroker(Publish(v, "dev/a", 1, 9, "x")).events("qos-downgraded").
			client(Publish(v, "dev/a", 2, 9, "x", Dup())).is("rewrite").
			broker(Ack(v, mqtt.PUBACK, 9, 0)).toClient(Ack(v, mqtt.PUBREC, 9, 0)).
			client(Publish(v, "dev/a", 2, 9, "x", Dup())).is("rewrite").toClient(Ack(v, mqtt.PUBREC, 9, 0)).
			client(Ack(v, mqtt.PUBREL, 9, 0)).is("rewrite").toClient(Ack(v, mqtt.PUBCOMP, 9, 0)).
			client(Publish(v, "dev/a", 2, 9, "y")).is("rewrite").toBroker(Publish(v, "dev/a", 1, 9, "y")).events("qos-downgraded")
		up(opened("2-to-0", to("0")), 0).
			client(Publish(v, "dev/a", 2, 9, "x")).is("rewrite").toBroker(Publish(v, "dev/a", 0, 0, "x")).
			toClient(Ack(v, mqtt.PUBREC, 9, 0)).events("qos-downgraded").
			client(Ack(v, mqtt.PUBREL, 9, 0)).is("rewrite").toClient(Ack(v, mqtt.PUBCOMP, 9, 0))
		up(opened("1-to-0", to("0")), 0).
			client(Publish(v, "dev/a", 1, 9, "x")).is("rewrite").toBroker(Publish(v, "dev/a", 0, 0, "x")).
			toClient(Ack(v, mqtt.PUBACK, 9, 0)).events("qos-downgraded")
		busy := up(opened("busy-id", to("1")), 1).
			client(Publish(v, "dev/a", 2, 9, "x")).is("rewrite").toBroker(Publish(v, "dev/a", 1, 9, "x")).events("qos-downgraded").
			client(Publish(v, "dev/a", 2, 9, "y")).events("blocked,protocol-error")
		if v == mqtt.V5 {
			busy.is("drop").toClient(Ack(v, mqtt.PUBREC, 9, 0x91))
		} else {
			busy.is("close").disconnects("protocol", 0)
		}
		b.add("downgrade/refused", v, BothDoors, conf(allVersions, `"qos": {"enabled": true, "max-qos": 0, "downgrade": false}`)).
			client(hello(v)).toBroker(hello(v)).
			broker(Connack(v, false, 0, With(Prop8(mqtt.MaximumQoS, 0), Prop16(mqtt.ReceiveMaximum, 20), Prop32(mqtt.MaximumPacketSize, 65536)))).passes().events("connect,success").
			client(Publish(v, "dev/a", 1, 9, "x")).is("drop").
			toClient(pick(v, Ack(v, mqtt.PUBACK, 9, 0x87), Ack(v, mqtt.PUBACK, 9, 0))).events("blocked,qos-denied")
		b.add("downgrade/only-seen", v, AgentDoor, to("0")).opens().
			client(Publish(v, "dev/a", 1, 9, "x")).passes().events("qos-over-limit")
		b.add("downgrade/resumed", v, GatewayDoor, to("1")).
			client(hello(v, Resume())).toBroker(hello(v, Resume())).
			broker(Connack(v, true, 0, With(Prop8(mqtt.MaximumQoS, 1), Prop16(mqtt.ReceiveMaximum, 20), Prop32(mqtt.MaximumPacketSize, 65536)))).passes().events("connect,success").
			client(Publish(v, "dev/a", 2, 9, "x", Dup())).is("rewrite").toBroker(Publish(v, "dev/a", 1, 9, "x", Dup())).events("qos-downgraded").
			broker(Ack(v, mqtt.PUBACK, 9, 0)).toClient(Ack(v, mqtt.PUBREC, 9, 0)).
			client(Ack(v, mqtt.PUBREL, 9, 0)).is("rewrite").toBroker(Ack(v, mqtt.PUBREL, 9, 0)).toClient(Ack(v, mqtt.PUBCOMP, 9, 0)).
			client(Publish(v, "dev/a", 2, 9, "z")). // waits: the broker's PUBCOMP for the id is on its way
			broker(Ack(v, mqtt.PUBCOMP, 9, 0)).toBroker(Publish(v, "dev/a", 1, 9, "z")).events("qos-downgraded").is("rewrite")
	}
	v := mqtt.V5
	w := Connack(v, false, 0, With(Prop8(mqtt.MaximumQoS, 1), Prop16(mqtt.ReceiveMaximum, 20), Prop32(mqtt.MaximumPacketSize, 65536)))
	b.add("downgrade/broker-refuses", v, GatewayDoor, to("1")).client(hello(v)).toBroker(hello(v)).
		broker(w).passes().events("connect,success").
		client(Publish(v, "dev/a", 2, 9, "x")).is("rewrite").toBroker(Publish(v, "dev/a", 1, 9, "x")).events("qos-downgraded").
		broker(Ack(v, mqtt.PUBACK, 9, 0x97)).toClient(Ack(v, mqtt.PUBREC, 9, 0x97)).
		client(Publish(v, "dev/a", 2, 9, "y")).is("rewrite").toBroker(Publish(v, "dev/a", 1, 9, "y")).events("qos-downgraded")
	// What the broker takes, whatever the policy would let through.
	for _, c := range []struct{ name, config string }{
		{"lower", conf()},
		{"refuse", conf(`"qos": {"downgrade": false}`, `"retained": {"on-denied": "strip"}`)},
	} {
		t := b.add("downgrade/above-the-broker/"+c.name, v, GatewayDoor, c.config).client(hello(v)).toBroker(hello(v)).
			broker(Connack(v, false, 0, With(Prop8(mqtt.MaximumQoS, 1), Prop8(mqtt.RetainAvailable, 0),
				Prop16(mqtt.ReceiveMaximum, 20), Prop32(mqtt.MaximumPacketSize, 65536)))).passes().events("connect,success").
			client(Publish(v, "dev/a", 1, 8, "x")).passes()
		if c.name == "lower" {
			t.client(Publish(v, "dev/a", 2, 9, "x")).is("rewrite").toBroker(Publish(v, "dev/a", 1, 9, "x")).events("qos-downgraded").
				client(Publish(v, "dev/a", 1, 10, "x", Retain())).is("drop").toClient(Ack(v, mqtt.PUBACK, 10, 0x87)).events("blocked,retained-denied")
		} else {
			t.client(Publish(v, "dev/a", 2, 9, "x")).is("drop").toClient(Ack(v, mqtt.PUBREC, 9, 0x87)).events("blocked,qos-denied").
				client(Publish(v, "dev/a", 1, 10, "x", Retain())).is("rewrite").toBroker(Publish(v, "dev/a", 1, 10, "x")).events("retain-stripped")
		}
	}
}

func aliasDialogues(b *dialogueBook) {
	v := mqtt.V5
	alias := func(n int) Option { return With(Prop16(mqtt.TopicAlias, n)) }
	b.add("alias/told-and-used", v, BothDoors, conf()).opens().
		client(Publish(v, "dev/a", 0, 0, "1", alias(1))).passes().
		client(Publish(v, "", 0, 0, "2", alias(1))).passes().
		broker(Publish(v, "dev/d", 0, 0, "3", alias(5))).passes().
		broker(Publish(v, "", 0, 0, "4", alias(5))).passes()
	b.add("alias/denied-topic", v, BothDoors, conf()).opens().
		client(Publish(v, "dev/secret/a", 0, 0, "1", alias(1))).is("drop").events("blocked,acl-denied").
		client(Publish(v, "", 0, 0, "2", alias(1))).is("drop").events("blocked,acl-denied").
		client(Publish(v, "dev/a", 0, 0, "3", alias(1))).passes().
		client(Publish(v, "", 0, 0, "4", alias(1))).passes()
	b.add("alias/redefined-unheard", v, GatewayDoor, conf(`"retained": {"enabled": true, "allow-retained": false}`)).
		client(hello(v)).toBroker(hello(v)).
		broker(welcome(v)).toClient(Connack(v, false, 0, With(Prop16(mqtt.ReceiveMaximum, 20), Prop32(mqtt.MaximumPacketSize, 65536),
		Prop16(mqtt.TopicAliasMaximum, 5), Prop8(mqtt.RetainAvailable, 0)))).events("connect,success").
		client(Publish(v, "dev/a", 0, 0, "1", alias(1))).passes().
		client(Publish(v, "dev/b", 0, 0, "2", alias(1), Retain())).is("drop").events("blocked,retained-denied").
		client(Publish(v, "", 0, 0, "3", alias(1))).is("allow").toBroker(Publish(v, "dev/b", 0, 0, "3", alias(1))).
		client(Publish(v, "", 0, 0, "4", alias(1))).passes()
	b.add("alias/redefined-unheard", v, AgentDoor, conf(`"retained": {"enabled": true, "allow-retained": false}`)).opens().
		client(Publish(v, "dev/a", 0, 0, "1", alias(1))).passes().
		client(Publish(v, "dev/b", 0, 0, "2", alias(1), Retain())).is("drop").events("blocked,retained-denied").
		client(Publish(v, "", 0, 0, "3", alias(1))).is("close").events("blocked,uninspectable").disconnects("protocol", 0)
	b.add("alias/told-in-a-dropped-frame", v, AgentDoor, conf()).opens().
		client(Publish(v, "dev/a", 0, 0, "1", alias(1)), Publish(v, "dev/secret/a", 0, 0, "2")).is("drop").events("blocked,acl-denied").
		client(Publish(v, "", 0, 0, "3", alias(1))).is("close").events("blocked,uninspectable").disconnects("protocol", 0)
	b.add("alias/unknown", v, BothDoors, conf()).opens().
		client(Publish(v, "", 0, 0, "2", alias(2))).is("close").events("blocked,protocol-error").
		toClient(Disconnect(v, 0x82)).disconnects("protocol", 0x82)
	b.add("alias/above-maximum", v, BothDoors, conf()).opens().
		client(Publish(v, "dev/a", 0, 0, "2", alias(6))).is("close").events("blocked,protocol-error").
		toClient(Disconnect(v, 0x94)).disconnects("protocol", 0x94)
	b.add("alias/filtered-delivery", v, GatewayDoor, conf()).opens().
		broker(Publish(v, "dev/secret/a", 0, 0, "1", alias(1))).is("drop").events("delivery-filtered").
		broker(Publish(v, "dev/a", 0, 0, "2", alias(1))).passes().
		broker(Publish(v, "", 0, 0, "3", alias(1))).passes()
	b.add("alias/broker-above-maximum", v, BothDoors, conf()).opens().
		broker(Publish(v, "dev/a", 0, 0, "1", alias(6))).is("close").events("blocked,protocol-error").
		toClient(Disconnect(v, 0x8B)).disconnects("broker-fault", 0x8B)
}
