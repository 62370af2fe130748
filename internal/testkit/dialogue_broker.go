package testkit

import (
	"strings"
	"time"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
)

// brokenDialogues are about brokers that break off, fall silent, answer what was
// not asked, and announce what nobody may.
func brokenDialogues(b *dialogueBook) {
	for _, v := range []mqtt.Version{mqtt.V311, mqtt.V5} {
		for name, bytes := range map[string][]byte{
			"length-of-five-bytes": {0x30, 0xFF, 0xFF, 0xFF, 0xFF, 1},
			"type-0":               {0, 0},
			"pingresp-with-a-body": {0xD0, 1, 0},
			"puback-of-one-byte":   {0x40, 1, 0},
			"puback-of-id-0":       {0x40, 2, 0, 0},
			"pubrel-without-flags": {0x60, 2, 0, 1},
			"another-protocol":     []byte("HTTP/1.1 400 Bad Request\r\n\r\n"),
		} {
			b.add("broken/"+name, v, BothDoors, conf()).opens().
				broker(bytes).is("close").events("blocked,protocol-error").
				toClient(bye(v, 0x8B)).disconnects("broker-fault", 0x8B)
		}
		big := Publish(v, "dev/a", 0, 0, strings.Repeat("x", 400))
		b.add("broken/cut-in-a-delivery", v, GatewayDoor, conf()).opens().
			broker(big[:100]).is("allow").toClient(big[:100]).
			act(BrokerLost).disconnects("upstream-lost", 0x8B)
		b.add("broken/cut-in-an-acknowledgement", v, GatewayDoor, conf()).opens().
			client(Publish(v, "dev/a", 1, 7, "x")).passes().
			broker(Ack(v, mqtt.PUBACK, 7, 0)[:3]).
			act(BrokerLost).toClient(bye(v, 0x8B)).disconnects("upstream-lost", 0x8B)
		b.add("broken/cut-in-connack", v, GatewayDoor, conf()).client(hello(v)).toBroker(hello(v)).
			broker(welcome(v)[:3]).
			act(BrokerLost).toClient(away(v)).events("blocked,server-unavailable").ends("upstream-lost", 0)
		b.add("broken/silent", v, GatewayDoor, conf()).opens(KeepAlive(10)).
			wait(4*time.Second).client(Publish(v, "dev/secret/a", 0, 0, "x")).is("drop").events("blocked,acl-denied").
			wait(time.Second).toBroker(Pingreq()).
			wait(9*time.Second).
			wait(time.Second).toClient(bye(v, 0x8B)).disconnects("upstream-lost", 0x8B)
		b.add("broken/wrong-acknowledgements", v, GatewayDoor, conf()).opens().
			client(Publish(v, "dev/a", 2, 7, "x"), Publish(v, "dev/a", 1, 8, "x")).passes().
			broker(Ack(v, mqtt.PUBACK, 7, 0), Ack(v, mqtt.PUBREC, 8, 0)).passes(). // the client's to judge
			broker(Ack(v, mqtt.PUBREC, 7, 0), Ack(v, mqtt.PUBACK, 8, 0)).passes().
			client(Ack(v, mqtt.PUBREL, 7, 0)).passes().
			broker(Ack(v, mqtt.PUBCOMP, 7, 0), Ack(v, mqtt.PUBCOMP, 7, 0)).passes()
		b.add("broken/suback-for-unsubscribe", v, BothDoors, conf()).opens().
			client(Unsubscribe(v, 3, "dev/a")).passes().
			broker(Suback(v, 3, 0)).is("close").events("blocked,protocol-error").
			toClient(bye(v, 0x8B)).disconnects("broker-fault", 0x8B)
		b.add("broken/suback-twice", v, BothDoors, conf()).opens().
			client(Subscribe(v, 3, "dev/a")).passes().
			broker(Suback(v, 3, 0)).passes().
			broker(Suback(v, 3, 0)).is("close").events("blocked,protocol-error").
			toClient(bye(v, 0x8B)).disconnects("broker-fault", 0x8B)
		// The broker was asked for one filter of the two.
		split := func(name string) *talk {
			return b.add("broken/split/"+name, v, GatewayDoor, conf()).opens().
				client(Subscribe(v, 3, "other", "dev/a")).toBroker(Subscribe(v, 3, "dev/a")).is("rewrite").events("blocked,acl-denied")
		}
		for name, answer := range map[string][]byte{
			"answered-for-all":     Suback(v, 3, 0, 0),
			"answered-as-unsuback": Unsuback(v, 3, 0),
			"answered-for-another": Suback(v, 4, 0),
		} {
			split(name).broker(answer).is("close").events("blocked,protocol-error").
				toClient(bye(v, 0x8B)).disconnects("broker-fault", 0x8B)
		}
		split("client-leaves").client(Disconnect(v, 0)).passes().disconnects("client-disconnect", 0)
		split("client-lost").act(ClientLost).disconnects("client-lost", 0)
	}
	oddConnacks(b)
	v := mqtt.V5
	b.add("broken/fewer-aliases-than-used", v, BothDoors, conf()).client(hello(v)).passes().
		broker(Connack(v, false, 0, With(Prop16(mqtt.ReceiveMaximum, 20), Prop32(mqtt.MaximumPacketSize, 65536), Prop16(mqtt.TopicAliasMaximum, 2)))).
		passes().events("connect,success").
		client(Publish(v, "dev/a", 0, 0, "1", With(Prop16(mqtt.TopicAlias, 2)))).passes().
		client(Publish(v, "dev/a", 0, 0, "1", With(Prop16(mqtt.TopicAlias, 3)))).is("close").events("blocked,protocol-error").
		toClient(Disconnect(v, 0x94)).disconnects("protocol", 0x94)
	b.add("broken/server-keep-alive-0", v, BothDoors, conf()).client(hello(v, KeepAlive(10))).passes().
		broker(Connack(v, false, 0, With(Prop16(mqtt.ReceiveMaximum, 20), Prop32(mqtt.MaximumPacketSize, 65536), Prop16(mqtt.ServerKeepAlive, 0)))).
		passes().events("connect,success").
		wait(time.Hour).client(Pingreq()).passes() // no keep-alive holds
}

// away is CONNACK for a broker that is not there.
func away(v mqtt.Version) []byte { return pick(v, Connack(v, false, 0x88), Connack(v, false, 3)) }

// oddConnacks are about CONNACKs that no broker may send, and the ways in which
// brokers refuse a version.
func oddConnacks(b *dialogueBook) {
	five := func(p ...[]byte) []byte { return Connack(mqtt.V5, false, 0, With(p...)) }
	odd := func(name string, v mqtt.Version, connack []byte) {
		b.add("connack/odd/"+name, v, GatewayDoor, conf()).client(hello(v)).toBroker(hello(v)).
			broker(connack).is("close").toClient(away(v)).
			events("blocked,protocol-error").disconnects("broker-fault", 0)
	}
	for name, connack := range map[string][]byte{
		"receive-maximum-0":     five(Prop16(mqtt.ReceiveMaximum, 0)),
		"maximum-packet-size-0": five(Prop32(mqtt.MaximumPacketSize, 0)),
		"maximum-qos-2":         five(Prop8(mqtt.MaximumQoS, 2)),
		"retain-available-2":    five(Prop8(mqtt.RetainAvailable, 2)),
		"property-twice":        five(Prop16(mqtt.ReceiveMaximum, 5), Prop16(mqtt.ReceiveMaximum, 5)),
		"property-of-publish":   five(Prop16(mqtt.TopicAlias, 5)),
		"property-unknown":      five([]byte{0x7E, 1}),
		"flags":                 Raw(0x20, []byte{2, 0, 0}),
		"refused-and-present":   Raw(0x20, []byte{1, 0x87, 0}),
		"code-unknown":          Raw(0x20, []byte{0, 1, 0}),
		"accepts-in-old-form":   Raw(0x20, []byte{0, 0}),
		"three-bytes-too-many":  Raw(0x20, []byte{0, 0, 0, 0, 0, 0}),
	} {
		odd(name, mqtt.V5, connack)
	}
	for name, connack := range map[string][]byte{
		"flags":               Raw(0x20, []byte{2, 0}),
		"refused-and-present": Raw(0x20, []byte{1, 5}),
		"code-unknown":        Raw(0x20, []byte{0, 6}),
		"new-form":            Raw(0x20, []byte{0, 0, 0}),
	} {
		odd(name, mqtt.V311, connack)
	}
	for _, v := range all {
		refused := pick(v, Connack(v, false, 0x84), Connack(v, false, 1))
		b.add("connack/version-refused", v, BothDoors, conf(allVersions)).client(hello(v)).passes().
			broker(refused).passes().events("disconnect").ends("broker-refused", code(v, 0x84, 1))
	}
}
