// Package testkit is what tests share: packets, brokers, clients, dialogues.
// Nothing but tests imports it.
//
// [Packets] is the catalogue of packets, good and malformed, by the rule that
// they break. [Connect], [Publish], [Subscribe] and their like build packets
// byte by byte, without the mqtt package's own encoding, so that they can judge
// it.
package testkit

import (
	"fmt"
	"sync"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
)

// Packet is one packet of the catalogue: exactly one, complete by its Remaining
// Length unless its fixed header is what is wrong.
type Packet struct {
	Name    string // "connect/will-qos-3/3.1.1", unique
	Bytes   []byte
	Version mqtt.Version // of the connection; of a CONNECT, the one it asks for
	From    mqtt.Side    // who sends it

	// Clause is what it breaks as [mqtt.Error] names it, Code the reason code of
	// the refusal. Both are zero of a good packet.
	Clause string
	Code   mqtt.ReasonCode

	// Overlong says that it is good, but its Remaining Length is not in the
	// shortest form: it is encoded shorter than it came.
	Overlong bool
	// Alone says that the packet itself is good and only the sender must not
	// send it: that is the session's to refuse, by Clause and Code.
	Alone bool
}

// Good reports whether a codec accepts the packet.
func (p Packet) Good() bool { return p.Clause == "" || p.Alone }

// Type is the type in the packet's first byte.
func (p Packet) Type() mqtt.Type { return mqtt.Type(p.Bytes[0] >> 4) }

// Packets returns the catalogue. The bytes are the caller's to read, not to
// write.
func Packets() []Packet { return catalogue() }

var catalogue = sync.OnceValue(func() []Packet {
	c := new(collector)
	for _, add := range []func(*collector){
		headerPackets, connectPackets, connectPropertyPackets, connackPackets, publishPackets, publishPropertyPackets,
		ackPackets, subscribePackets, filterPackets, unsubscribePackets, subackPackets, disconnectPackets, authPackets,
	} {
		add(c)
	}
	names := make(map[string]bool, len(c.packets))
	for _, p := range c.packets {
		if names[p.Name] {
			panic("testkit: two packets are called " + p.Name)
		}
		names[p.Name] = true
	}
	return c.packets
})

// The versions, by what a rule says about them.
var (
	all   = []mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5}
	three = []mqtt.Version{mqtt.V31, mqtt.V311}
	v31   = []mqtt.Version{mqtt.V31}
	v311  = []mqtt.Version{mqtt.V311}
	v5    = []mqtt.Version{mqtt.V5}
)

type collector struct{ packets []Packet }

// good adds a packet for each version; build is called with each.
func (c *collector) good(name string, from mqtt.Side, versions []mqtt.Version, build func(v mqtt.Version) []byte) {
	for _, v := range versions {
		c.packets = append(c.packets, Packet{
			Name: fmt.Sprintf("%s/%v", name, v), Bytes: build(v), Version: v, From: from,
		})
	}
}

// bad adds a packet that is refused for each version.
func (c *collector) bad(name string, from mqtt.Side, versions []mqtt.Version, clause string, code mqtt.ReasonCode, build func(v mqtt.Version) []byte) {
	for _, v := range versions {
		c.packets = append(c.packets, Packet{
			Name: fmt.Sprintf("%s/%v", name, v), Bytes: build(v), Version: v, From: from, Clause: clause, Code: code,
		})
	}
}

// malformed adds a malformed packet.
func (c *collector) malformed(name string, from mqtt.Side, versions []mqtt.Version, clause string, build func(v mqtt.Version) []byte) {
	c.bad(name, from, versions, clause, mqtt.MalformedPacket, build)
}

// protocol adds a protocol error.
func (c *collector) protocol(name string, from mqtt.Side, versions []mqtt.Version, clause string, build func(v mqtt.Version) []byte) {
	c.bad(name, from, versions, clause, mqtt.ProtocolError, build)
}

// fixed is a build for bytes that are the same in every version.
func fixed(b ...byte) func(mqtt.Version) []byte { return func(mqtt.Version) []byte { return b } }

// headerPackets are fixed headers: the attacks' section E.
func headerPackets(c *collector) {
	const (
		flags     = "MQTT-2.1.3-1"
		direction = "MQTT 2.1.2"
		length    = "MQTT 2.1.4"
	)
	c.good("pingreq", mqtt.Client, all, fixed(0xC0, 0))
	c.good("pingresp", mqtt.Broker, all, fixed(0xD0, 0))
	c.malformed("header/type-0", mqtt.Client, all, direction, fixed(0x00, 0))
	c.malformed("header/type-0-broker", mqtt.Broker, all, direction, fixed(0x00, 0))
	c.malformed("header/auth-before-5.0", mqtt.Client, three, direction, fixed(0xF0, 0))
	for _, t := range []mqtt.Type{mqtt.CONNACK, mqtt.SUBACK, mqtt.UNSUBACK, mqtt.PINGRESP} {
		c.protocol("header/client-sends-"+t.String(), mqtt.Client, all, direction, fixed(byte(t)<<4, 0))
	}
	for _, t := range []mqtt.Type{mqtt.CONNECT, mqtt.SUBSCRIBE, mqtt.UNSUBSCRIBE, mqtt.PINGREQ} {
		c.protocol("header/broker-sends-"+t.String(), mqtt.Broker, all, direction, fixed(byte(t)<<4, 0))
	}
	c.protocol("header/broker-sends-DISCONNECT", mqtt.Broker, three, direction, fixed(0xE0, 0))
	for _, first := range []byte{0x11, 0x18, 0x41, 0x52, 0x60, 0x66, 0x6A, 0x70 | 2, 0x80, 0x81, 0x86, 0x8A, 0xA0, 0xA3, 0xAA, 0xC1, 0xE4} {
		versions := all
		if first&0x0F == 0x0A { // DUP, which 3.1 knows
			versions = []mqtt.Version{mqtt.V311, mqtt.V5}
		}
		c.malformed(fmt.Sprintf("header/flags-%02X", first), mqtt.Client, versions, flags, fixed(first, 0))
	}
	for _, first := range []byte{0x21, 0x42, 0x58, 0x91, 0xB2, 0xD8} {
		c.malformed(fmt.Sprintf("header/broker-flags-%02X", first), mqtt.Broker, all, flags, fixed(first, 0))
	}
	c.malformed("header/auth-flags", mqtt.Client, v5, flags, fixed(0xF1, 0))
	c.malformed("header/disconnect-flags-broker", mqtt.Broker, v5, flags, fixed(0xE8, 0))

	c.malformed("header/length-of-five-bytes", mqtt.Client, all, "MQTT 1.5.5", fixed(0x30, 0x80, 0x80, 0x80, 0x80, 0x01))
	c.malformed("header/length-of-five-bytes-connect", mqtt.Client, all, "MQTT 1.5.5", fixed(0x10, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F))
	c.malformed("header/length-of-five-bytes-broker", mqtt.Broker, all, "MQTT 1.5.5", fixed(0x90, 0x83, 0x80, 0x80, 0x80, 0x00))
	c.malformed("header/overlong-pingreq", mqtt.Client, v5, "MQTT-1.5.5-1", fixed(0xC0, 0x80, 0x00))
	c.malformed("header/overlong-publish", mqtt.Client, v5, "MQTT-1.5.5-1",
		fixed(0x30, 0x86, 0x00, 0x00, 0x01, 'a', 0x00, 'h', 'i'))
	for i, b := range [][]byte{
		{0x30, 0x85, 0x00, 0x00, 0x01, 'a', 'h', 'i'},
		{0x30, 0x85, 0x80, 0x00, 0x00, 0x01, 'a', 'h', 'i'},
		{0x30, 0x85, 0x80, 0x80, 0x00, 0x00, 0x01, 'a', 'h', 'i'},
		{0xC0, 0x80, 0x00},
	} {
		c.good(fmt.Sprintf("header/overlong-%d", i), mqtt.Client, three, fixed(b...))
		for j := range three {
			c.packets[len(c.packets)-1-j].Overlong = true
		}
	}

	c.malformed("header/pingreq-with-a-body", mqtt.Client, all, length, fixed(0xC0, 1, 0))
	c.malformed("header/pingresp-with-a-body", mqtt.Broker, all, length, fixed(0xD0, 1, 0))
	c.malformed("header/puback-of-one-byte", mqtt.Client, all, length, fixed(0x40, 1, 0))
	c.malformed("header/puback-of-three-bytes", mqtt.Client, three, length, fixed(0x40, 3, 0, 1, 0))
	c.malformed("header/disconnect-with-a-body", mqtt.Client, three, length, fixed(0xE0, 1, 0))
	c.malformed("header/connect-of-two-bytes", mqtt.Client, all, length, fixed(0x10, 2, 0, 0))
	c.malformed("header/connack-of-three-bytes", mqtt.Broker, three, length, fixed(0x20, 3, 0, 0, 0))
	c.malformed("header/connack-of-two-bytes", mqtt.Broker, v5, length, fixed(0x20, 2, 0, 0))
	c.malformed("header/unsuback-of-three-bytes", mqtt.Broker, three, length, fixed(0xB0, 3, 0, 1, 0))
	c.malformed("header/publish-of-one-byte", mqtt.Client, all, length, fixed(0x30, 1, 0))
	c.malformed("header/publish-qos-1-of-three-bytes", mqtt.Client, all, length, fixed(0x32, 3, 0, 1, 'a'))
	c.malformed("header/publish-of-two-bytes", mqtt.Client, v5, length, fixed(0x30, 2, 0, 0))
	c.malformed("header/subscribe-of-one-byte", mqtt.Client, all, length, fixed(0x82, 1, 0))
}
