package testkit

import (
	"bytes"
	"strings"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
)

// tightDialogues are about clients that take only small packets.
func tightDialogues(b *dialogueBook) {
	v := mqtt.V5
	takes := func(n uint32) Option { return With(Prop32(mqtt.MaximumPacketSize, n)) }
	opens := func(name string) *talk {
		return b.add("tight/"+name, v, GatewayDoor, `{"acl": {"rules": [
			{"topics": ["other"], "actions": ["subscribe", "unsubscribe"], "decision": "deny", "priority": 1},
			{"topics": ["dev/#"], "decision": "allow"}]}}`).
			client(Connect(v, "c1", takes(40))).passes().
			broker(welcome(v)).passes().events("connect,success")
	}
	words := func(n int) []byte { return Props(PropStr(mqtt.ReasonString, strings.Repeat("r", n))) }
	for n, props := range map[int][]byte{30: words(30), 31: Props()} {
		opens(named("suback-with-%d-words", n)).
			client(Subscribe(v, 3, "other", "dev/a")).toBroker(Subscribe(v, 3, "dev/a")).is("rewrite").events("blocked,acl-denied").
			broker(Raw(0x90, U16(3), words(n), []byte{1})).toClient(Raw(0x90, U16(3), props, []byte{0x87, 1})).is("rewrite")
		opens(named("unsuback-with-%d-words", n)).
			client(Unsubscribe(v, 3, "other", "dev/a")).toBroker(Unsubscribe(v, 3, "dev/a")).is("rewrite").events("blocked,acl-denied").
			broker(Raw(0xB0, U16(3), words(n), []byte{0})).toClient(Raw(0xB0, U16(3), props, []byte{0x87, 0})).is("rewrite")
	}
	others := strings.Fields(strings.Repeat("other ", 36))
	for name, ask := range map[string]func(n int) []byte{
		"subscribe":   func(n int) []byte { return Subscribe(v, 3, others[:n]...) },
		"unsubscribe": func(n int) []byte { return Unsubscribe(v, 3, others[:n]...) },
	} {
		answer := Suback(v, 3, bytes.Repeat([]byte{0x87}, 35)...)
		if name == "unsubscribe" {
			answer = Unsuback(v, 3, bytes.Repeat([]byte{0x87}, 35)...)
		}
		opens(name+"-of-too-many").
			client(ask(35)).toClient(answer).is("drop").events("blocked,acl-denied").
			client(ask(36)).is("close").events("blocked,packet-too-large").
			toClient(Disconnect(v, 0x95)).disconnects("protocol", 0x95)
	}
	lowered := conf(`"general": {"max-packet-size": 5000, "limits": {"receive-maximum": 7}}`)
	ours := [][]byte{Prop32(mqtt.MaximumPacketSize, 5000), Prop16(mqtt.ReceiveMaximum, 7)}
	b.add("tight/connack-with-words", v, GatewayDoor, lowered).client(Connect(v, "c1", takes(20))).passes().
		broker(Connack(v, false, 0, With(PropStr(mqtt.ReasonString, "welcome"), PropUser("k", "v"), Prop16(mqtt.TopicAliasMaximum, 3)))).
		toClient(Connack(v, false, 0, With(append([][]byte{Prop16(mqtt.TopicAliasMaximum, 3)}, ours...)...))).events("connect,success")
	b.add("tight/connack-too-large", v, GatewayDoor, lowered).client(Connect(v, "c1", takes(12))).passes().
		broker(Connack(v, false, 0)).toBroker(Raw(0xE0)).toClient(Connack(v, false, 0x95)).
		events("blocked,packet-too-large").ends("policy", 0)
	b.add("tight/no-word-fits", v, GatewayDoor, lowered).client(Connect(v, "c1", takes(4))).passes().
		broker(Connack(v, false, 0)).toBroker(Raw(0xE0)).events("blocked,packet-too-large").ends("policy", 0)
}
