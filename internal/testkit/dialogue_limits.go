package testkit

import (
	"strings"
	"time"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
)

func limitDialogues(b *dialogueBook) {
	for _, v := range []mqtt.Version{mqtt.V311, mqtt.V5} {
		sized := func(n int) []byte { // a PUBLISH of n bytes
			return Publish(v, "dev/a", 0, 0, strings.Repeat("x", n-len(Publish(v, "dev/a", 0, 0, ""))))
		}
		b.add("limit/max-packet-size", v, BothDoors, conf(`"general": {"max-packet-size": 100}`)).
			client(hello(v)).passes().
			broker(Connack(v, false, 0, With(Prop16(mqtt.ReceiveMaximum, 20), Prop32(mqtt.MaximumPacketSize, 100)))).passes().events("connect,success").
			client(sized(100)).passes().
			client(sized(101)).is("close").events("blocked,packet-too-large").
			toClient(bye(v, 0x95)).disconnects("protocol", 0x95)
		b.add("limit/connect-bytes", v, BothDoors, conf(`"general": {"limits": {"connect-bytes": 60}}`)).
			client(hello(v, User(strings.Repeat("u", 60)))).is("close").events("blocked,limit-exceeded").ends("protocol", 0x97)
		b.add("limit/topic-bytes", v, BothDoors, conf(`"general": {"limits": {"topic-bytes": 9}}`)).opens().
			client(Publish(v, "dev/abcde", 1, 7, "x")).passes().
			client(Publish(v, "dev/abcdef", 1, 8, "x")).is("drop").events("blocked,limit-exceeded").
			toClient(pick(v, Ack(v, mqtt.PUBACK, 8, 0x97), Ack(v, mqtt.PUBACK, 8, 0)))
		limit := code(v, 0x97, 0x80)
		b.add("limit/topic-levels", v, BothDoors, conf(`"general": {"limits": {"topic-levels": 3}}`)).opens().
			client(Publish(v, "dev/b/c", 1, 7, "x")).passes().
			client(Publish(v, "dev/b/c/", 1, 8, "x")).is("drop").events("blocked,limit-exceeded").
			toClient(pick(v, Ack(v, mqtt.PUBACK, 8, 0x97), Ack(v, mqtt.PUBACK, 8, 0))).
			client(Subscribe(v, 3, "dev/+/+/#")).is("drop").events("blocked,limit-exceeded").toClient(Suback(v, 3, limit))
		b.add("limit/will-bytes", v, BothDoors, conf(`"general": {"limits": {"will-bytes": 5}}`)).
			opens(Will("dev/w", "12345", 0, false))
		b.add("limit/will-bytes-exceeded", v, BothDoors, conf(`"general": {"limits": {"will-bytes": 5}}`)).
			client(hello(v, Will("dev/w", "123456", 0, false))).is("close").
			toClient(pick(v, Connack(v, false, 0x97), Connack(v, false, 5))).
			events("blocked,limit-exceeded").ends("refused", 0)
		b.add("limit/filters-per-subscribe", v, BothDoors, conf(`"general": {"limits": {"filters-per-subscribe": 2}}`)).opens().
			client(Subscribe(v, 3, "dev/a", "dev/b")).passes().
			client(Subscribe(v, 4, "dev/a", "dev/b", "dev/c")).is("drop").events("blocked,limit-exceeded").
			toClient(Suback(v, 4, limit, limit, limit)).
			client(Unsubscribe(v, 5, "dev/a", "dev/b")).passes().
			client(Unsubscribe(v, 6, "dev/a", "dev/b", "dev/c")).is("drop").events("blocked,limit-exceeded").
			toClient(Unsuback(v, 6, 0x87, 0x87, 0x87)).
			broker(Unsuback(v, 5, 0, 0), Suback(v, 3, 0, 0)).passes()
		b.add("limit/subscriptions", v, BothDoors, conf(`"general": {"limits": {"subscriptions": 2}}`)).opens().
			client(Subscribe(v, 3, "dev/a", "dev/b")).passes().broker(Suback(v, 3, 0, 0)).passes().
			client(Subscribe(v, 4, "dev/a")).passes().broker(Suback(v, 4, 0)).passes().
			client(Subscribe(v, 5, "dev/c")).is("drop").events("blocked,limit-exceeded").toClient(Suback(v, 5, limit)).
			client(Unsubscribe(v, 6, "dev/a")).passes().broker(Unsuback(v, 6, 0)).passes().
			client(Subscribe(v, 7, "dev/c")).passes()
		b.add("limit/outstanding-requests", v, BothDoors, conf(`"general": {"limits": {"outstanding-requests": 2}}`)).opens().
			client(Subscribe(v, 3, "dev/a"), Subscribe(v, 4, "dev/b")).passes().
			client(Subscribe(v, 5, "dev/c")).is("close").events("blocked,limit-exceeded").
			toClient(bye(v, 0x97)).disconnects("protocol", 0x97)
		b.add("limit/packets-per-second", v, BothDoors, conf(`"general": {"limits": {"packets-per-second": 3}}`)).opens().
			client(Pingreq(), Pingreq()).passes().
			wait(time.Second).
			client(Pingreq(), Pingreq(), Pingreq()).passes().
			client(Pingreq()).is("close").events("blocked,limit-exceeded").
			toClient(bye(v, 0x96)).disconnects("protocol", 0x96)
		denied := Publish(v, "dev/secret/a", 0, 0, "x")
		b.add("limit/denials-per-minute", v, BothDoors, conf(`"general": {"limits": {"denials-per-minute": 2}}`)).opens().
			client(denied, denied).is("drop").events("blocked,acl-denied", "blocked,acl-denied").
			wait(31*time.Second).
			client(denied).is("drop").events("blocked,acl-denied").
			client(denied).is("close").events("blocked,acl-denied").
			toClient(bye(v, 0x97)).toBroker(Disconnect(v, 0)).disconnects("policy", 0x97)
		b.add("limit/receive-maximum", v, GatewayDoor, conf(`"general": {"limits": {"receive-maximum": 2}}`)).
			client(hello(v)).toBroker(hello(v)).
			broker(Connack(v, false, 0, With(Prop32(mqtt.MaximumPacketSize, 65536), Prop16(mqtt.ReceiveMaximum, 2)))).
			passes().events("connect,success").
			client(Publish(v, "dev/a", 1, 1, "x"), Publish(v, "dev/a", 1, 2, "x")).passes().
			client(Publish(v, "dev/a", 1, 3, "x")). // the broker's figure, or none: it waits
			broker(Ack(v, mqtt.PUBACK, 1, 0)).toClient(Ack(v, mqtt.PUBACK, 1, 0)).toBroker(Publish(v, "dev/a", 1, 3, "x"))
	}
	v := mqtt.V5
	b.add("limit/receive-maximum-ours", v, GatewayDoor, conf(`"general": {"limits": {"receive-maximum": 2}}`)).
		client(hello(v)).toBroker(hello(v)).
		broker(Connack(v, false, 0, With(Prop32(mqtt.MaximumPacketSize, 65536)))).
		toClient(Connack(v, false, 0, With(Prop32(mqtt.MaximumPacketSize, 65536), Prop16(mqtt.ReceiveMaximum, 2)))).events("connect,success").
		client(Publish(v, "dev/a", 1, 1, "x"), Publish(v, "dev/a", 2, 2, "x")).passes().
		client(Publish(v, "dev/a", 1, 3, "x")).is("close").events("blocked,limit-exceeded").
		toClient(Disconnect(v, 0x93)).disconnects("protocol", 0x93)
	three := With(PropUser("a", "b"), PropUser("a", "b"), PropUser("a", "b"))
	b.add("limit/user-properties-of-subscribe", v, BothDoors, conf(`"general": {"limits": {"user-properties": 2}}`)).opens().
		client(SubscribeWith(v, 3, []Filter{{"dev/a", 0}, {"dev/b", 0}}, three)).is("drop").events("blocked,limit-exceeded").
		toClient(Suback(v, 3, 0x97, 0x97))
	one := Connack(v, false, 0, With(Prop32(mqtt.MaximumPacketSize, 65536), Prop16(mqtt.ReceiveMaximum, 1)))
	b.add("limit/beyond-the-broker", v, GatewayDoor, conf()).client(hello(v)).toBroker(hello(v)).
		broker(one).passes().events("connect,success").
		client(Publish(v, "dev/a", 2, 1, "x")).passes().
		client(Publish(v, "dev/a", 2, 2, "x")). // only the client can make room: it is kept back
		broker(Ack(v, mqtt.PUBREC, 1, 0)).passes().
		client(Ack(v, mqtt.PUBREL, 1, 0)).passes().
		broker(Ack(v, mqtt.PUBCOMP, 1, 0)).toClient(Ack(v, mqtt.PUBCOMP, 1, 0)).toBroker(Publish(v, "dev/a", 2, 2, "x"))
	b.add("limit/refused-after-a-cut", v, GatewayDoor, conf()).resumes().
		client(Publish(v, "dev/secret/a", 2, 7, "x", Dup())).is("drop").events("blocked,acl-denied").
		toClient(Ack(v, mqtt.PUBREC, 7, 0x87)).toBroker(Ack(v, mqtt.PUBREL, 7, 0)). // the broker may hold the id
		broker(Ack(v, mqtt.PUBCOMP, 7, 0x92))
	many := With(PropUser("a", "b"), PropUser("a", "b"), PropUser("a", "b"), Prop32(mqtt.MaximumPacketSize, 100))
	b.add("limit/user-properties", v, BothDoors, conf(`"general": {"limits": {"user-properties": 2}}`)).
		client(Connect(v, "c1", many)).is("close").toClient(Connack(v, false, 0x97)).
		events("blocked,limit-exceeded").ends("refused", 0)
}
