package testkit

import (
	"strings"
	"time"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
)

func subscribeDialogues(b *dialogueBook) {
	for _, v := range all {
		refused := code(v, 0x87, 0x80)
		b.add("subscribe/granted", v, BothDoors, conf(allVersions)).opens().
			client(SubscribeWith(v, 3, []Filter{{"dev/a", 1}, {"dev/b/+", 0}})).passes().
			broker(Suback(v, 3, 1, 0)).passes().
			client(Unsubscribe(v, 4, "dev/a")).passes().
			broker(Unsuback(v, 4, 0)).passes()
		b.add("subscribe/partly-denied", v, GatewayDoor, conf(allVersions)).opens().
			client(SubscribeWith(v, 3, []Filter{{"other/a", 1}, {"dev/b", 2}, {"dev/secret/#", 0}, {"dev/c", 0}})).is("rewrite").
			toBroker(SubscribeWith(v, 3, []Filter{{"dev/b", 2}, {"dev/c", 0}})).events("blocked,acl-denied", "blocked,acl-denied").
			broker(Suback(v, 3, 2, 0x80)).is("rewrite").toClient(Suback(v, 3, refused, 2, refused, 0x80))
		b.add("subscribe/partly-denied", v, AgentDoor, conf(allVersions)).opens().
			client(Subscribe(v, 3, "dev/b/c", "other/a")).is("drop").events("blocked,acl-denied")
		b.add("subscribe/all-denied", v, BothDoors, conf(allVersions)).opens().
			client(Subscribe(v, 3, "other/a", "dev/secret/#")).is("drop").
			toClient(Suback(v, 3, refused, refused)).events("blocked,acl-denied", "blocked,acl-denied").
			client(Pingreq()).passes()
		b.add("subscribe/denied-by-one-rule", v, BothDoors, conf(allVersions)).opens().
			client(Subscribe(v, 3, "other/a", "other/b")).is("drop").
			toClient(Suback(v, 3, refused, refused)).events("blocked,acl-denied")
		b.add("subscribe/refused-for-several-reasons", v, BothDoors, conf(allVersions)).opens().
			client(Subscribe(v, 3, "$share", "dev/secret/#", "other/a", "$share")).is("drop").
			toClient(Suback(v, 3, 0x80, refused, refused, 0x80)).
			events("blocked,protocol-error", "blocked,acl-denied", "blocked,acl-denied")
		b.add("subscribe/qos-lowered", v, GatewayDoor, conf(allVersions, `"qos": {"enabled": true, "max-qos": 1}`)).
			client(hello(v)).toBroker(hello(v)).
			broker(Connack(v, false, 0, With(Prop8(mqtt.MaximumQoS, 1), Prop16(mqtt.ReceiveMaximum, 20), Prop32(mqtt.MaximumPacketSize, 65536)))).passes().events("connect,success").
			client(SubscribeWith(v, 3, []Filter{{"dev/a", 2}, {"dev/b", 0}})).is("rewrite").
			toBroker(SubscribeWith(v, 3, []Filter{{"dev/a", 1}, {"dev/b", 0}})).events("qos-downgraded").
			broker(Suback(v, 3, 1, 0)).passes()
		b.add("subscribe/qos-seen", v, AgentDoor, conf(allVersions, `"qos": {"enabled": true, "max-qos": 1}`)).opens().
			client(SubscribeWith(v, 3, []Filter{{"dev/a", 2}})).passes().events("qos-over-limit")
		b.add("subscribe/id-in-use", v, BothDoors, conf(allVersions)).opens().
			client(Subscribe(v, 3, "dev/a")).passes().
			client(Subscribe(v, 3, "dev/b")).is("close").events("blocked,protocol-error").
			toClient(bye(v, 0x82)).disconnects("protocol", 0x82)
		b.add("subscribe/wrong-number-of-codes", v, BothDoors, conf(allVersions)).opens().
			client(Subscribe(v, 3, "dev/a")).passes().
			broker(Suback(v, 3, 0, 0)).is("close").events("blocked,protocol-error").
			toClient(bye(v, 0x8B)).disconnects("broker-fault", 0x8B)
		b.add("subscribe/unasked-answer", v, BothDoors, conf(allVersions)).opens().
			broker(Suback(v, 3, 0)).is("close").events("blocked,protocol-error").
			toClient(bye(v, 0x8B)).disconnects("broker-fault", 0x8B)
		denying := strings.Replace(conf(allVersions), `"rules": [`,
			`"rules": [{"topics": ["dev/keep/#"], "actions": ["unsubscribe"], "decision": "deny", "priority": 20}, `, 1)
		b.add("unsubscribe/partly-denied", v, GatewayDoor, denying).opens().
			client(Unsubscribe(v, 3, "dev/keep/a", "dev/b")).is("rewrite").toBroker(Unsubscribe(v, 3, "dev/b")).events("blocked,acl-denied").
			broker(Unsuback(v, 3, 0x11)).is("rewrite").toClient(Unsuback(v, 3, 0x87, 0x11))
		b.add("unsubscribe/all-denied", v, BothDoors, denying).opens().
			client(Unsubscribe(v, 3, "dev/keep/a")).is("drop").toClient(Unsuback(v, 3, 0x87)).events("blocked,acl-denied")
		b.add("unsubscribe/denied-by-two-rules", v, BothDoors,
			strings.Replace(denying, `"rules": [`, `"rules": [{"topics": ["up/#"], "actions": ["unsubscribe"], "decision": "deny", "priority": 30}, `, 1)).opens().
			client(Unsubscribe(v, 3, "dev/keep/a", "up/a")).is("drop").toClient(Unsuback(v, 3, 0x87, 0x87)).
			events("blocked,acl-denied", "blocked,acl-denied")
	}
	b.add("subscribe/no-local-on-shared", mqtt.V5, BothDoors, conf()).opens().
		client(SubscribeWith(mqtt.V5, 3, []Filter{{"$share/g/dev/a", 4}})).is("close").
		events("blocked,protocol-error").toClient(Disconnect(mqtt.V5, 0x82)).disconnects("protocol", 0x82)
	b.add("subscribe/properties-kept", mqtt.V5, GatewayDoor, conf()).opens().
		client(SubscribeWith(mqtt.V5, 3, []Filter{{"other", 0}, {"dev/a", 0x2D}}, With(PropVar(mqtt.SubscriptionIdentifier, 300), PropUser("a", "b")))).
		toBroker(SubscribeWith(mqtt.V5, 3, []Filter{{"dev/a", 0x2D}}, With(PropVar(mqtt.SubscriptionIdentifier, 300), PropUser("a", "b")))).
		is("rewrite").events("blocked,acl-denied").
		broker(Raw(0x90, U16(3), Props(PropUser("c", "d")), []byte{1})).
		toClient(Raw(0x90, U16(3), Props(PropUser("c", "d")), []byte{0x87, 1})).is("rewrite")
}

func deliveryDialogues(b *dialogueBook) {
	for _, v := range all {
		b.add("delivery/allowed", v, BothDoors, conf(allVersions)).opens().
			broker(Publish(v, "dev/a", 0, 0, "x"), Publish(v, "dev/a", 1, 1, "x"), Publish(v, "dev/a", 2, 2, "x")).passes().
			client(Ack(v, mqtt.PUBACK, 1, 0), Ack(v, mqtt.PUBREC, 2, 0)).passes().
			broker(Ack(v, mqtt.PUBREL, 2, 0)).passes().
			client(Ack(v, mqtt.PUBCOMP, 2, 0)).passes()
		b.add("delivery/filtered/qos0", v, BothDoors, conf(allVersions)).opens().
			broker(Publish(v, "dev/secret/a", 0, 0, "x")).is("drop").events("delivery-filtered").
			broker(Publish(v, "up/a", 0, 0, "x")).is("drop").events("delivery-filtered")
		b.add("delivery/filtered/qos1", v, BothDoors, conf(allVersions)).opens().
			broker(Publish(v, "dev/secret/a", 1, 5, "x")).is("drop").events("delivery-filtered").
			toBroker(Ack(v, mqtt.PUBACK, 5, 0))
		b.add("delivery/filtered/qos2", v, GatewayDoor, conf(allVersions)).opens().
			broker(Publish(v, "dev/secret/a", 2, 5, "x")).is("drop").events("delivery-filtered").
			toBroker(Ack(v, mqtt.PUBREC, 5, 0)).
			broker(Ack(v, mqtt.PUBREL, 5, 0)).toBroker(Ack(v, mqtt.PUBCOMP, 5, 0)).
			broker(Publish(v, "dev/a", 2, 5, "y")).passes().
			client(Ack(v, mqtt.PUBREC, 5, 0)).passes().
			broker(Ack(v, mqtt.PUBREL, 5, 0)).passes()
		// Acknowledgements of filtered deliveries do not overtake the client's.
		b.add("delivery/filtered/in-turn", v, GatewayDoor, conf(allVersions)).opens().
			broker(Publish(v, "dev/secret/a", 1, 1, "x"), Publish(v, "dev/a", 1, 2, "x"), Publish(v, "dev/a", 1, 3, "x"),
				Publish(v, "dev/secret/a", 1, 4, "x"), Publish(v, "dev/secret/a", 1, 5, "x"),
				Publish(v, "dev/a", 1, 6, "x"), Publish(v, "dev/secret/a", 1, 7, "x")).is("drop").
			toClient(Publish(v, "dev/a", 1, 2, "x"), Publish(v, "dev/a", 1, 3, "x"), Publish(v, "dev/a", 1, 6, "x")).
			toBroker(Ack(v, mqtt.PUBACK, 1, 0)).
			events("delivery-filtered", "delivery-filtered", "delivery-filtered", "delivery-filtered").
			// PUBRECs have an order of their own.
			broker(Publish(v, "dev/secret/a", 2, 8, "x")).is("drop").events("delivery-filtered").toBroker(Ack(v, mqtt.PUBREC, 8, 0)).
			broker(Publish(v, "dev/a", 2, 9, "x")).passes().
			broker(Publish(v, "dev/secret/a", 2, 10, "x")).is("drop").events("delivery-filtered").
			client(Ack(v, mqtt.PUBACK, 2, 0)).passes().
			client(Ack(v, mqtt.PUBACK, 3, 0)).is("allow").
			toBroker(Ack(v, mqtt.PUBACK, 3, 0), Ack(v, mqtt.PUBACK, 4, 0), Ack(v, mqtt.PUBACK, 5, 0)).
			client(Ack(v, mqtt.PUBREC, 9, 0)).is("allow").toBroker(Ack(v, mqtt.PUBREC, 9, 0), Ack(v, mqtt.PUBREC, 10, 0)).
			broker(Ack(v, mqtt.PUBREL, 10, 0)).toBroker(Ack(v, mqtt.PUBCOMP, 10, 0)).
			client(Ack(v, mqtt.PUBACK, 6, 0)).is("allow").toBroker(Ack(v, mqtt.PUBACK, 6, 0), Ack(v, mqtt.PUBACK, 7, 0)).
			broker(Publish(v, "dev/secret/a", 1, 11, "x")).is("drop").events("delivery-filtered").toBroker(Ack(v, mqtt.PUBACK, 11, 0))
		kept := Publish(v, "dev/secret/a", 1, 2, "xyz")
		b.add("delivery/filtered/in-turn-behind-a-payload", v, GatewayDoor, conf(allVersions)).opens().
			broker(Publish(v, "dev/a", 1, 1, "x")).passes().
			broker(kept[:len(kept)-2]).is("drop").events("delivery-filtered").
			client(Ack(v, mqtt.PUBACK, 1, 0)).passes().
			broker(kept[len(kept)-2:]).toBroker(Ack(v, mqtt.PUBACK, 2, 0))
		b.add("delivery/filtered/qos2-id-dealt-anew", v, GatewayDoor, conf(allVersions)).opens().
			broker(Publish(v, "dev/secret/a", 2, 5, "x")).is("drop").events("delivery-filtered").
			toBroker(Ack(v, mqtt.PUBREC, 5, 0)).
			broker(Publish(v, "dev/a", 2, 5, "y"), Ack(v, mqtt.PUBREL, 5, 0)).passes()
		b.add("delivery/filtered/qos2-again", v, GatewayDoor, conf(allVersions)).resumes().
			broker(Publish(v, "dev/secret/a", 2, 5, "x", Dup())).is("drop").events("delivery-filtered").
			toBroker(Ack(v, mqtt.PUBREC, 5, 0)).
			broker(Ack(v, mqtt.PUBREL, 5, 0)).passes().
			client(Ack(v, mqtt.PUBCOMP, 5, 0)).passes()
		big := Publish(v, "dev/a", 1, 5, strings.Repeat("x", 3000))
		b.add("delivery/too-large", v, BothDoors, conf(`"general": {"protocol-versions": ["3.1", "3.1.1", "5.0"], "max-delivery-size": 2000}`)).
			client(Connect(v, "c1", With(Prop32(mqtt.MaximumPacketSize, 2000)))).passes().
			broker(welcome(v)).passes().events("connect,success").
			broker(big).is("drop").events("delivery-filtered").toBroker(Ack(v, mqtt.PUBACK, 5, 0)).
			broker(Publish(v, "dev/a", 0, 0, "x")).passes()
		bad := Publish(v, "dev/+", 1, 5, "x")
		b.add("delivery/bad-topic", v, BothDoors, conf(allVersions)).opens().
			broker(bad).is("drop").events("delivery-filtered").toBroker(Ack(v, mqtt.PUBACK, 5, 0)).
			broker(Publish(v, "dev/a", 0, 0, "x")).passes()
		b.add("delivery/poisoned", v, BothDoors, conf(allVersions)).opens().
			broker(Raw(0x31, []byte{0, 9}, []byte("ab"))).is("drop").events("delivery-filtered").
			broker(Raw(0x31, []byte{0, 9})).is("drop").events("delivery-filtered").
			broker(Raw(0x30)).is("drop").events("delivery-filtered").
			broker(Raw(0x32, []byte{0})).is("drop").events("delivery-filtered").
			broker(Publish(v, "dev/a", 0, 0, "x")).passes()
		if v != mqtt.V31 {
			b.add("delivery/qos-3", v, BothDoors, conf(allVersions)).opens().
				broker(Publish(v, "dev/a", 3, 5, "x")).is("close").events("blocked,protocol-error").
				toClient(bye(v, 0x8B)).disconnects("broker-fault", 0x8B)
		}
	}
}

// orderDialogues are about packets that may not come now.
func orderDialogues(b *dialogueBook) {
	for _, v := range all {
		b.add("order/publish-first", v, BothDoors, conf(allVersions)).
			client(Publish(v, "dev/a", 0, 0, "x")).is("close").events("blocked,protocol-error").ends("protocol", 0x82)
		b.add("order/second-connect", v, BothDoors, conf(allVersions)).opens().
			client(hello(v)).is("close").events("blocked,protocol-error").
			toClient(bye(v, 0x82)).disconnects("protocol", 0x82)
		for name, p := range map[string][]byte{
			"connack": Connack(v, false, 0), "suback": Suback(v, 3, 0), "unsuback": Unsuback(v, 3, 0), "pingresp": Pingresp(),
		} {
			b.add("order/client-sends-"+name, v, BothDoors, conf(allVersions)).opens().
				client(p).is("close").events("blocked,protocol-error").toClient(bye(v, 0x82)).disconnects("protocol", 0x82)
		}
		b.add("order/malformed", v, BothDoors, conf(allVersions)).opens().
			client(Publish(v, "dev/#", 0, 0, "x")).is("close").events("blocked,protocol-error").
			toClient(bye(v, 0x81)).disconnects("malformed", 0x81)
		b.add("order/after-disconnect", v, GatewayDoor, conf(allVersions)).opens().
			client(Disconnect(v, 0), Publish(v, "dev/a", 0, 0, "x")).is("allow").toBroker(Disconnect(v, 0)).
			disconnects("client-disconnect", 0)
		b.add("order/after-disconnect", v, AgentDoor, conf(allVersions)).opens().
			client(Disconnect(v, 0), Publish(v, "dev/a", 0, 0, "x")).is("close").events("blocked,protocol-error").
			disconnects("protocol", 0)
		b.add("order/broker-sends-connack-twice", v, BothDoors, conf(allVersions)).opens().
			broker(welcome(v)).is("close").events("blocked,protocol-error").
			toClient(bye(v, 0x8B)).disconnects("broker-fault", 0x8B)
		b.add("order/broker-sends-subscribe", v, BothDoors, conf(allVersions)).opens().
			broker(Subscribe(v, 3, "dev/a")).is("close").events("blocked,protocol-error").
			toClient(bye(v, 0x8B)).disconnects("broker-fault", 0x8B)
		b.add("order/broker-publishes-before-connack", v, BothDoors, conf(allVersions)).
			client(hello(v)).passes().
			broker(Publish(v, "dev/a", 0, 0, "x")).is("close").
			toClient(pick(v, Connack(v, false, 0x88), Connack(v, false, 3))).
			events("blocked,protocol-error").disconnects("broker-fault", 0)
		b.add("order/unknown-ids", v, BothDoors, conf(allVersions)).opens().
			client(Ack(v, mqtt.PUBACK, 77, 0), Ack(v, mqtt.PUBREL, 78, 0)).passes().
			broker(Ack(v, mqtt.PUBACK, 77, 0), Ack(v, mqtt.PUBCOMP, 78, 0)).passes()
	}
	long := []byte{0x30, 0x87, 0x00, 0, 5, 'd', 'e', 'v', '/', 'a'}
	for _, v := range three {
		b.add("order/overlong-length", v, GatewayDoor, conf(allVersions)).opens().
			client(long).is("allow").toBroker(Publish(v, "dev/a", 0, 0, "")).
			broker(long).is("allow").toClient(Publish(v, "dev/a", 0, 0, ""))
		b.add("order/overlong-length", v, AgentDoor, conf(allVersions)).opens().
			client(long).is("close").events("blocked,protocol-error").disconnects("malformed", 0)
	}
	v := mqtt.V5
	method := With(PropStr(mqtt.AuthMethod, "M"), Prop32(mqtt.MaximumPacketSize, 65536))
	b.add("order/auth", v, BothDoors, conf()).
		client(Connect(v, "c1", method)).passes().
		broker(Auth(0x18, With(PropStr(mqtt.AuthMethod, "M")))).passes().
		client(Auth(0x18, With(PropStr(mqtt.AuthMethod, "M")))).passes().
		broker(welcome(v, With(PropStr(mqtt.AuthMethod, "M")))).is("allow").toClient(pick(v, Connack(v, false, 0, With(
		Prop16(mqtt.ReceiveMaximum, 20), Prop32(mqtt.MaximumPacketSize, 65536), Prop16(mqtt.TopicAliasMaximum, 5), PropStr(mqtt.AuthMethod, "M"))), nil)).
		events("connect,success").
		client(Auth(0x19, With(PropStr(mqtt.AuthMethod, "M")))).passes()
	b.add("order/publish-in-auth", v, BothDoors, conf()).
		client(Connect(v, "c1", method)).passes().
		broker(Auth(0x18, With(PropStr(mqtt.AuthMethod, "M")))).passes().
		client(Publish(v, "dev/a", 0, 0, "x")).is("close").events("blocked,protocol-error").
		toClient(Connack(v, false, 0x82)).disconnects("protocol", 0x82)
	b.add("order/auth-unasked", v, BothDoors, conf()).opens().
		client(Auth(0x19, With(PropStr(mqtt.AuthMethod, "M")))).is("close").
		events("blocked,protocol-error").toClient(Disconnect(v, 0x82)).disconnects("protocol", 0x82)
}

func timeDialogues(b *dialogueBook) {
	for _, v := range []mqtt.Version{mqtt.V311, mqtt.V5} {
		b.add("time/silent-client", v, BothDoors, conf()).opens(KeepAlive(10)).
			wait(14*time.Second).
			wait(time.Second).toClient(bye(v, 0x8D)).disconnects("keep-alive", 0x8D)
		b.add("time/pings", v, BothDoors, conf()).opens(KeepAlive(10)).
			wait(10 * time.Second).client(Pingreq()).passes().broker(Pingresp()).passes().
			wait(14 * time.Second).client(Pingreq()).passes()
		denied := Publish(v, "dev/secret/a", 0, 0, "x")
		b.add("time/feeds-the-broker", v, GatewayDoor, conf()).opens(KeepAlive(10)).
			wait(4 * time.Second).client(denied).is("drop").events("blocked,acl-denied").
			wait(time.Second).toBroker(Pingreq()).
			broker(Pingresp()).
			wait(3 * time.Second).client(denied).is("drop").events("blocked,acl-denied").
			wait(2 * time.Second).toBroker(Pingreq()).
			client(Pingreq()).passes().
			broker(Pingresp()).
			broker(Pingresp()).passes()
		b.add("time/two-pings-of-ours", v, GatewayDoor, conf()).opens(KeepAlive(10)).
			wait(4 * time.Second).client(denied).is("drop").events("blocked,acl-denied").
			wait(time.Second).toBroker(Pingreq()).
			wait(4 * time.Second).client(denied).is("drop").events("blocked,acl-denied").
			wait(time.Second).toBroker(Pingreq()).
			broker(Pingresp()).
			broker(Pingresp()).
			client(Pingreq()).passes().
			broker(Pingresp()).passes()
		b.add("time/no-connect", v, BothDoors, conf(`"general": {"connect-timeout-secs": 7}`)).
			client(hello(v)[:5]).
			wait(6*time.Second).
			wait(time.Second).ends("connect-timeout", 0)
		b.add("time/no-keep-alive", v, BothDoors, conf()).opens(KeepAlive(0)).
			wait(3600 * time.Second).client(Pingreq()).passes()
	}
	v := mqtt.V5
	w := Connack(v, false, 0, With(Prop32(mqtt.MaximumPacketSize, 65536), Prop16(mqtt.ReceiveMaximum, 20), Prop16(mqtt.ServerKeepAlive, 4)))
	b.add("time/server-keep-alive", v, BothDoors, conf()).
		client(hello(v)).passes().broker(w).passes().events("connect,success").
		wait(6*time.Second).toClient(Disconnect(v, 0x8D)).disconnects("keep-alive", 0x8D)
}

// endDialogues are the endings of the session's own and of its driver.
func endDialogues(b *dialogueBook) {
	for _, v := range all {
		b.add("end/drain", v, GatewayDoor, conf(allVersions)).opens().
			act(Drain).toClient(bye(v, 0x8B)).disconnects("drain", 0x8B)
		b.add("end/drain-quietly", v, GatewayDoor, conf(allVersions, `"gateway": {"drain-will": "suppress"}`)).opens().
			act(Drain).toClient(bye(v, 0x8B)).toBroker(Disconnect(v, 0)).disconnects("drain", 0x8B)
		b.add("end/drain-before-connack", v, GatewayDoor, conf(allVersions)).
			client(hello(v)).toBroker(hello(v)).
			act(Drain).toClient(pick(v, Connack(v, false, 0x88), Connack(v, false, 3))).disconnects("drain", 0)
		b.add("end/revoked", v, GatewayDoor, conf(allVersions)).opens().
			act(Revoke).toClient(bye(v, 0x87)).toBroker(Disconnect(v, 0)).disconnects("policy", 0x87)
		b.add("end/revoked-will-fires", v, GatewayDoor, conf(allVersions, `"gateway": {"revoked-will": "fire"}`)).opens().
			act(Revoke).toClient(bye(v, 0x87)).disconnects("policy", 0x87)
		b.add("end/kicked", v, GatewayDoor, conf(allVersions)).opens().
			act(Kick).toClient(bye(v, 0x98)).toBroker(Disconnect(v, 0)).disconnects("policy", 0x98)
		b.add("end/client-lost", v, BothDoors, conf(allVersions)).opens().act(ClientLost).disconnects("client-lost", 0)
		b.add("end/upstream-lost", v, BothDoors, conf(allVersions)).opens().
			act(BrokerLost).toClient(bye(v, 0x8B)).disconnects("upstream-lost", 0x8B)
	}
	v := mqtt.V5
	b.add("end/broker-disconnects", v, BothDoors, conf()).opens().
		broker(Disconnect(v, 0x8E)).passes().disconnects("broker-disconnect", 0x8E)
	b.add("end/broker-sends-elsewhere", v, GatewayDoor, conf()).opens().
		broker(Disconnect(v, 0x9D, With(PropStr(mqtt.ServerReference, "other:1883"), PropUser("a", "b")))).
		toClient(Disconnect(v, 0x8B, With(PropUser("a", "b")))).disconnects("broker-disconnect", 0x8B)
}

// reloadDialogues are about a policy that changes under a connection.
func reloadDialogues(b *dialogueBook) {
	narrow := strings.Replace(conf(allVersions), `"dev/secret/#"`, `"dev/secret/#", "dev/a/#"`, 1)
	shut := strings.Replace(conf(allVersions), `"rules": [`, `"rules": [{"name": "shut", "actions": ["connect"], "decision": "deny"},`, 1)
	for _, v := range all {
		t := b.add("reload/subscription-ended", v, GatewayDoor, conf(allVersions)).opens().
			client(Subscribe(v, 3, "dev/a/x", "dev/b")).passes().broker(Suback(v, 3, 0, 0)).passes().
			act(Reload).toBroker(Unsubscribe(v, 0xFFFF, "dev/a/x")).events("subscription-removed")
		t.last().Config = narrow
		t.broker(Publish(v, "dev/a/x", 0, 0, "x")).is("drop").events("delivery-filtered").
			client(Publish(v, "dev/b", 1, 0xFFFF, "x")). // waits for our UNSUBACK
			broker(Unsuback(v, 0xFFFF, 0)).toBroker(Publish(v, "dev/b", 1, 0xFFFF, "x"))
		t = b.add("reload/subscription-in-flight", v, GatewayDoor, conf(allVersions)).opens().
			client(Subscribe(v, 0xFFFF, "dev/a/x", "dev/b")).passes().
			act(Reload)
		t.last().Config = narrow
		t.broker(Suback(v, 0xFFFF, 0, 0)).is("allow").toClient(Suback(v, 0xFFFF, 0, 0)).
			toBroker(Unsubscribe(v, 0xFFFF, "dev/a/x")).events("subscription-removed")
		refused := code(v, 0x87, 0x80)
		t = b.add("reload/shared-ends", v, GatewayDoor, conf(allVersions)).opens().
			client(Subscribe(v, 3, "$share/g/dev/a/x")).passes().broker(Suback(v, 3, 0)).passes().
			act(Reload).events("blocked,acl-denied").
			toClient(bye(v, 0x87)).toBroker(Disconnect(v, 0)).disconnects("policy", 0x87)
		t.last().Config = narrow
		t = b.add("reload/may-not-connect", v, GatewayDoor, conf(allVersions)).opens().
			act(Reload).toClient(bye(v, 0x87)).toBroker(Disconnect(v, 0)).disconnects("policy", 0x87)
		t.last().Config = shut
		t = b.add("reload/may-not-connect-before-connack", v, GatewayDoor, conf(allVersions)).
			client(hello(v)).toBroker(hello(v)).
			act(Reload).toClient(pick(v, Connack(v, false, 0x87), Connack(v, false, 5))).
			toBroker(Disconnect(v, 0)).disconnects("policy", 0x87)
		t.last().Config = shut
		t = b.add("reload/never-answered", v, GatewayDoor, conf(allVersions)).opens().
			client(Subscribe(v, 3, "dev/a/x")).passes().broker(Suback(v, 3, 0)).passes().
			act(Reload).toBroker(Unsubscribe(v, 0xFFFF, "dev/a/x")).events("subscription-removed")
		t.last().Config = narrow
		t.client(Subscribe(v, 4, "dev/a/x")).is("drop").toClient(Suback(v, 4, refused)).events("blocked,acl-denied").
			client(Publish(v, "dev/b", 1, 0xFFFF, "x")).
			wait(5*time.Second).toClient(bye(v, 0x8B)).disconnects("broker-fault", 0x8B)
	}
}

// settingDialogues are about settings that change under a connection.
func settingDialogues(b *dialogueBook) {
	for _, v := range all {
		reloads := func(t *talk, config string) *talk {
			t = t.act(Reload)
			t.last().Config = config
			return t
		}
		t := b.add("reload/topic-bytes", v, BothDoors, conf(allVersions)).opens().
			client(Publish(v, "dev/abcdef", 0, 0, "x")).passes()
		reloads(t, conf(`"general": {"protocol-versions": ["3.1", "3.1.1", "5.0"], "limits": {"topic-bytes": 9}}`)).
			client(Publish(v, "dev/abcdef", 0, 0, "x")).is("drop").events("blocked,limit-exceeded").
			client(Publish(v, "dev/abcde", 0, 0, "x")).passes()
		doors, small := BothDoors, conf(`"general": {"protocol-versions": ["3.1", "3.1.1", "5.0"], "max-packet-size": 100}`)
		if v == mqtt.V5 {
			doors = AgentDoor
		}
		t = b.add("reload/max-packet-size", v, doors, conf(allVersions)).opens().
			client(Publish(v, "dev/a", 0, 0, strings.Repeat("x", 100))).passes()
		reloads(t, small).
			client(Publish(v, "dev/a", 0, 0, strings.Repeat("x", 100))).is("close").events("blocked,packet-too-large").
			toClient(bye(v, 0x95)).disconnects("protocol", 0x95)
		// What the client was told in CONNACK holds.
		if v == mqtt.V5 {
			t = b.add("reload/max-packet-size-told", v, GatewayDoor, conf(allVersions)).opens()
			reloads(t, small).client(Publish(v, "dev/a", 0, 0, strings.Repeat("x", 100))).passes()
		}
		t = b.add("reload/receive-maximum", v, GatewayDoor, conf(allVersions)).opens()
		reloads(t, conf(`"general": {"protocol-versions": ["3.1", "3.1.1", "5.0"], "limits": {"receive-maximum": 1}}`)).
			client(Publish(v, "dev/a", 1, 7, "x")).passes().
			client(Publish(v, "dev/a", 1, 8, "x")).passes()
		off := conf(`"general": {"block-mode": false, "protocol-versions": ["3.1", "3.1.1", "5.0"]}`)
		t = b.add("reload/goes-on-blocking", v, BothDoors, conf(allVersions)).opens()
		reloads(t, off).client(Publish(v, "other/a", 0, 0, "x")).is("drop").events("blocked,acl-denied")
		t = b.add("reload/begins-to-block", v, GatewayDoor, off).opens().
			client(Publish(v, "other/a", 0, 0, "x")).is("detect").
			toBroker(Publish(v, "other/a", 0, 0, "x")).events("detect-only,acl-denied")
		reloads(t, conf(allVersions)).toClient(bye(v, 0x87)).toBroker(Disconnect(v, 0)).disconnects("policy", 0x87)
	}
}

// detectDialogues are about detect-only: everything passes, and is reported.
func detectDialogues(b *dialogueBook) {
	off := conf(`"general": {"block-mode": false}`, `"qos": {"enabled": true, "max-qos": 0}`,
		`"retained": {"enabled": true, "allow-retained": false}`)
	for _, v := range []mqtt.Version{mqtt.V311, mqtt.V5} {
		d := func(name string) *talk {
			return b.add("detect/"+name, v, BothDoors, off).
				client(hello(v, Will("dev/secret/w", "x", 1, true))).is("detect").toBroker(hello(v, Will("dev/secret/w", "x", 1, true))).
				events("detect-only,acl-denied").
				broker(welcome(v)).passes().events("connect,success")
		}
		d("publish").
			client(Publish(v, "dev/secret/a", 2, 7, "x", Retain())).is("detect").
			toBroker(Publish(v, "dev/secret/a", 2, 7, "x", Retain())).events("detect-only,acl-denied").
			client(Publish(v, "dev/a", 1, 8, "x")).passes()
		d("subscribe").
			client(SubscribeWith(v, 3, []Filter{{"dev/b", 2}, {"other/a", 2}})).is("detect").
			toBroker(SubscribeWith(v, 3, []Filter{{"dev/b", 2}, {"other/a", 2}})).events("detect-only,acl-denied").
			broker(Suback(v, 3, 2, 2)).passes()
		d("subscribe-by-several-rules").
			client(Subscribe(v, 3, "dev/secret/a", "other/a")).is("detect").
			toBroker(Subscribe(v, 3, "dev/secret/a", "other/a")).events("detect-only,acl-denied", "detect-only,acl-denied").
			broker(Suback(v, 3, 0, 0)).passes()
		many := strings.Split(strings.Repeat("dev/b ", 1000)+"dev/b", " ")
		granted := strings.Repeat("\x00", len(many))
		d("filters-per-subscribe").
			client(Subscribe(v, 3, many...)).is("detect").toBroker(Subscribe(v, 3, many...)).events("detect-only,limit-exceeded").
			broker(Suback(v, 3, []byte(granted)...)).passes().
			client(Unsubscribe(v, 4, many...)).is("detect").toBroker(Unsubscribe(v, 4, many...)).events("detect-only,limit-exceeded").
			broker(Unsuback(v, 4, []byte(granted)...)).passes()
		d("delivery").
			broker(Publish(v, "other/a", 1, 5, "x")).is("detect").toClient(Publish(v, "other/a", 1, 5, "x")).events("detect-only,acl-denied")
		d("bytes").
			client([]byte("GET / HTTP/1.1\r\n")).is("detect").toBroker([]byte("GET / HTTP/1.1\r\n")).events("detect-only,protocol-error").
			client([]byte("more\r\n")).toBroker([]byte("more\r\n")).
			broker([]byte("HTTP/1.1 400\r\n")).toClient([]byte("HTTP/1.1 400\r\n"))
	}
	b.add("detect/bytes-first", mqtt.V311, GatewayDoor, off).
		client([]byte("GET / HTTP/1.1\r\n")).toBroker([]byte("GET / HTTP/1.1\r\n")).events("detect-only,protocol-error").
		broker([]byte("HTTP/1.1 400\r\n")).toClient([]byte("HTTP/1.1 400\r\n"))
}

// streamDialogues are about payloads that pass through while something of ours
// wants to be said.
func streamDialogues(b *dialogueBook) {
	for _, v := range []mqtt.Version{mqtt.V311, mqtt.V5} {
		big := Publish(v, "dev/a", 0, 0, strings.Repeat("x", 400))
		b.add("stream/answer-waits-for-payload", v, GatewayDoor, conf()).opens().
			broker(big[:100]).is("allow").toClient(big[:100]).
			client(Publish(v, "dev/secret/a", 1, 7, "x")).is("drop").events("blocked,acl-denied").
			broker(big[100:]).toClient(big[100:], pick(v, Ack(v, mqtt.PUBACK, 7, 0x87), Ack(v, mqtt.PUBACK, 7, 0)))
		b.add("stream/ack-waits-for-payload", v, GatewayDoor, conf()).opens().
			client(big[:100]).is("allow").toBroker(big[:100]).
			broker(Publish(v, "dev/secret/a", 1, 7, "x")).is("drop").events("delivery-filtered").
			client(big[100:]).toBroker(big[100:], Ack(v, mqtt.PUBACK, 7, 0))
		denied := Publish(v, "dev/secret/a", 1, 7, strings.Repeat("x", 400))
		b.add("stream/denied-at-its-head", v, BothDoors, conf()).opens().
			client(denied[:100]).is("drop").events("blocked,acl-denied").
			client(denied[100:]).toClient(pick(v, Ack(v, mqtt.PUBACK, 7, 0x87), Ack(v, mqtt.PUBACK, 7, 0))).
			client(Pingreq()).passes()
		b.add("stream/revoked-in-a-payload", v, GatewayDoor, conf()).opens().
			client(big[:100]).is("allow").toBroker(big[:100]).
			act(Revoke).toClient(bye(v, 0x87)).disconnects("policy", 0x87)
		will := Will("dev/w", "gone", 0, false)
		b.add("stream/whole-with-a-will", v, GatewayDoor, conf()).opens(will).
			client(big[:100]).
			client(big[100:]).is("allow").toBroker(big)
		b.add("stream/revoked-in-a-payload-with-a-will", v, GatewayDoor, conf()).opens(will).
			client(big[:100]).
			act(Revoke).toBroker(Disconnect(v, 0)).toClient(bye(v, 0x87)).disconnects("policy", 0x87)
		b.add("stream/will-may-fire", v, GatewayDoor, conf(`"gateway": {"revoked-will": "fire"}`)).opens(will).
			client(big[:100]).is("allow").toBroker(big[:100]).
			act(Revoke).toClient(bye(v, 0x87)).disconnects("policy", 0x87)
		b.add("stream/drained-in-a-delivery", v, GatewayDoor, conf()).opens().
			broker(big[:100]).is("allow").toClient(big[:100]).
			act(Drain).disconnects("drain", 0x8B)
	}
}
