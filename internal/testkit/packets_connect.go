package testkit

import (
	"fmt"
	"strings"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
)

// badStrings are strings that no UTF-8 field may hold, by the clause.
var badStrings = []struct{ name, clause, value string }{
	{"nul", "MQTT-1.5.4-2", "de\x00vice"},
	{"nul-far", "MQTT-1.5.4-2", "device/of/plant/1\x00"},
	{"surrogate", "MQTT-1.5.4-1", "dev\xED\xA0\x80"},
	{"surrogate-last", "MQTT-1.5.4-1", "dev\xED\xBF\xBF"},
	{"overlong", "MQTT-1.5.4-1", "dev\xC0\xAF"},
	{"cut", "MQTT-1.5.4-1", "dev\xE2\x82"},
	{"lone-continuation", "MQTT-1.5.4-1", "dev\x80ice/of/plant"},
	{"latin-1", "MQTT-1.5.4-1", "Z\xFCrich"},
	{"above-10FFFF", "MQTT-1.5.4-1", "\xF4\x90\x80\x80"},
}

// oddStrings are strings that look wrong and are not.
var oddStrings = []struct{ name, value string }{
	{"umlaut", "Zürich"},
	{"byte-order-mark", "\uFEFFdevice"},
	{"control", "dev\x01ice\x7F"},
	{"non-character", "dev\uFFFF"},
	{"four-bytes", "device/\U0001F321"},
	{"not-normal", "Zu\u0308rich"},
	{"long", strings.Repeat("d", 65535)},
}

// goodConnect adds a CONNECT with the given options for each version.
func (c *collector) goodConnect(name string, versions []mqtt.Version, id string, opts ...Option) {
	c.good("connect/"+name, mqtt.Client, versions, func(v mqtt.Version) []byte { return Connect(v, id, opts...) })
}

func (c *collector) badConnect(name string, versions []mqtt.Version, clause string, opts ...Option) {
	c.malformed("connect/"+name, mqtt.Client, versions, clause, func(v mqtt.Version) []byte { return Connect(v, "dev", opts...) })
}

func connectPackets(c *collector) {
	c.goodConnect("least", all, "dev")
	c.goodConnect("empty-id", all, "")
	c.goodConnect("resume", all, "dev", Resume())
	c.goodConnect("no-keep-alive", all, "dev", KeepAlive(0))
	c.goodConnect("longest-keep-alive", all, "dev", KeepAlive(65535))
	c.goodConnect("user", all, "dev", User("alice"))
	c.goodConnect("user-and-password", all, "dev", User("alice"), Password("secret"))
	c.goodConnect("empty-user-and-password", all, "dev", User(""), Password(""))
	c.goodConnect("binary-password", all, "dev", User("alice"), Password("\x00\xFF\xC0"))
	c.goodConnect("password-alone", v5, "dev", Password("token"))
	for qos := range byte(3) {
		c.goodConnect(fmt.Sprintf("will-qos-%d", qos), all, "dev", Will("status/dev", "gone", qos, false))
		c.goodConnect(fmt.Sprintf("will-retained-qos-%d", qos), all, "dev", Will("status/dev", "gone", qos, true))
	}
	c.goodConnect("empty-will", all, "dev", Will("status/dev", "", 0, true))
	c.goodConnect("binary-will", all, "dev", Will("status/dev", "\x00\xFF", 0, false))
	c.goodConnect("everything", all, "dev", Resume(), Will("status/dev", "gone", 2, true), User("alice"), Password("secret"))
	for _, s := range oddStrings {
		c.goodConnect("id-"+s.name, all, s.value)
	}

	c.badConnect("reserved-flag", all, "MQTT-3.1.2-3", Flags(0x01))
	c.badConnect("will-qos-without-will", all, "MQTT-3.1.2-11", Flags(0x08))
	c.badConnect("will-qos-3-without-will", all, "MQTT-3.1.2-11", Flags(0x18))
	c.badConnect("will-retain-without-will", all, "MQTT-3.1.2-13", Flags(0x20))
	c.badConnect("will-qos-3", all, "MQTT-3.1.2-12", Will("status/dev", "gone", 3, false))
	c.badConnect("password-alone", three, "MQTT 3.1.1 MQTT-3.1.2-22", Password("token"))
	c.badConnect("will-topic-plus", all, "MQTT-3.3.2-2", Will("status/+", "gone", 0, false))
	c.badConnect("will-topic-hash", all, "MQTT-3.3.2-2", Will("#", "gone", 0, false))
	c.badConnect("will-topic-wildcard-far", all, "MQTT-3.3.2-2", Will("status/of/the/device/#", "gone", 0, false))
	c.badConnect("will-topic-empty", all, "MQTT-4.7.3-1", Will("", "gone", 0, false))
	for _, s := range badStrings {
		c.malformed("connect/id-"+s.name, mqtt.Client, all, s.clause, func(v mqtt.Version) []byte { return Connect(v, s.value) })
		c.badConnect("user-"+s.name, all, s.clause, User(s.value))
		c.badConnect("will-topic-"+s.name, all, s.clause, Will(s.value, "gone", 0, false))
	}

	// Fields that the flags promise and the body does not have, and the reverse.
	c.malformed("connect/no-id", mqtt.Client, v311, "MQTT-4.13.1-1",
		fixed(0x10, 10, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 60))
	c.malformed("connect/no-keep-alive-bytes", mqtt.Client, v311, "MQTT-4.13.1-1",
		fixed(0x10, 9, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0))
	c.malformed("connect/no-level", mqtt.Client, v311, "MQTT-4.13.1-1",
		fixed(0x10, 6, 0, 4, 'M', 'Q', 'T', 'T'))
	c.malformed("connect/no-properties", mqtt.Client, v5, "MQTT-4.13.1-1",
		fixed(0x10, 10, 0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 60))
	c.malformed("connect/id-length-lies", mqtt.Client, v311, "MQTT-4.13.1-1",
		fixed(0x10, 15, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 60, 0, 4, 'd', 'e', 'v'))
	c.malformed("connect/name-length-lies", mqtt.Client, v311, "MQTT-4.13.1-1",
		fixed(0x10, 15, 0xFF, 0xFF, 'M', 'Q', 'T', 'T', 4, 2, 0, 60, 0, 3, 'd', 'e', 'v'))
	c.malformed("connect/user-missing", mqtt.Client, all, "MQTT-4.13.1-1", func(v mqtt.Version) []byte {
		b := Connect(v, "dev", Flags(0x80)) // builds an empty user name
		return Raw(0x10, b[2:len(b)-2])
	})
	c.malformed("connect/password-missing", mqtt.Client, all, "MQTT-4.13.1-1", func(v mqtt.Version) []byte {
		b := Connect(v, "dev", User("alice"), Flags(0x40))
		return Raw(0x10, b[2:len(b)-2])
	})
	c.malformed("connect/will-payload-missing", mqtt.Client, all, "MQTT-4.13.1-1", func(v mqtt.Version) []byte {
		b := Connect(v, "dev", Will("status/dev", "", 0, false))
		return Raw(0x10, b[2:len(b)-2])
	})
	c.malformed("connect/user-without-flag", mqtt.Client, all, "MQTT-4.13.1-1", func(v mqtt.Version) []byte {
		return Raw(0x10, Connect(v, "dev")[2:], Str("alice"))
	})
	c.malformed("connect/trailing-byte", mqtt.Client, all, "MQTT-4.13.1-1", func(v mqtt.Version) []byte {
		return Raw(0x10, Connect(v, "dev")[2:], []byte{0})
	})

	// Protocol names and levels. The version is what one may answer in.
	const name, level = "MQTT-3.1.2-1", "MQTT-3.1.2-2"
	for _, n := range []string{"", "mqtt", "MQTt", "MQIsdq", "MQTTT", "MQISDP", "HTTP"} {
		c.bad("connect/name-"+n, mqtt.Client, v311, name, mqtt.UnsupportedVersion, func(mqtt.Version) []byte {
			return Raw(0x10, Str(n), []byte{4, 2}, U16(60), Str("dev"))
		})
	}
	for _, l := range []byte{0, 1, 2, 6, 0x7F, 0x83, 0x84, 0x85, 0xFF} {
		c.bad(fmt.Sprintf("connect/level-%02X", l), mqtt.Client, all, level, mqtt.UnsupportedVersion, func(v mqtt.Version) []byte {
			return Connect(v, "dev", Level(l))
		})
	}
	c.bad("connect/MQTT-level-3", mqtt.Client, v311, level, mqtt.UnsupportedVersion, func(v mqtt.Version) []byte {
		return Connect(v, "dev", Level(3))
	})
	for _, l := range []byte{4, 5} {
		c.bad(fmt.Sprintf("connect/MQIsdp-level-%d", l), mqtt.Client, v31, level, mqtt.UnsupportedVersion, func(v mqtt.Version) []byte {
			return Connect(v, "dev", Level(l))
		})
	}
	c.malformed("connect/name-nul", mqtt.Client, v311, "MQTT-1.5.4-2", func(mqtt.Version) []byte {
		return Raw(0x10, Str("MQT\x00"), []byte{4, 2}, U16(60), Str("dev"))
	})
}

func connackPackets(c *collector) {
	c.good("connack/accepted", mqtt.Broker, all, func(v mqtt.Version) []byte { return Connack(v, false, 0) })
	c.good("connack/session-present", mqtt.Broker, all, func(v mqtt.Version) []byte { return Connack(v, true, 0) })
	for code := byte(1); code <= 5; code++ {
		c.good(fmt.Sprintf("connack/return-%d", code), mqtt.Broker, three, func(v mqtt.Version) []byte { return Connack(v, false, code) })
	}
	for _, code := range []byte{0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95, 0x97, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F} {
		c.good(fmt.Sprintf("connack/code-%02X", code), mqtt.Broker, v5, func(v mqtt.Version) []byte { return Connack(v, false, code) })
	}
	c.good("connack/every-property", mqtt.Broker, v5, func(v mqtt.Version) []byte {
		return Connack(v, false, 0, With(
			Prop32(mqtt.SessionExpiryInterval, 3600), Prop16(mqtt.ReceiveMaximum, 20), Prop8(mqtt.MaximumQoS, 1),
			Prop8(mqtt.RetainAvailable, 0), Prop32(mqtt.MaximumPacketSize, 1024), PropStr(mqtt.AssignedClientID, "auto-1"),
			Prop16(mqtt.TopicAliasMaximum, 10), PropStr(mqtt.ReasonString, "welcome"), PropUser("a", "b"), PropUser("a", "b"),
			Prop8(mqtt.WildcardAvailable, 1), Prop8(mqtt.SubscriptionIDAvailable, 0), Prop8(mqtt.SharedAvailable, 1),
			Prop16(mqtt.ServerKeepAlive, 30), PropStr(mqtt.ResponseInformation, "r/"), PropStr(mqtt.ServerReference, "other:1883"),
			PropStr(mqtt.AuthMethod, "SCRAM-SHA-1"), PropStr(mqtt.AuthData, "\x00\x01")))
	})
	c.malformed("connack/reserved-flags", mqtt.Broker, all, "MQTT-3.2.2-1", func(v mqtt.Version) []byte {
		return Raw(0x20, []byte{2, 0}, section(v))
	})
	c.protocol("connack/session-present-and-refused", mqtt.Broker, three, "MQTT-3.2.2-6", func(v mqtt.Version) []byte { return Connack(v, true, 5) })
	c.protocol("connack/session-present-and-refused", mqtt.Broker, v5, "MQTT-3.2.2-6", func(v mqtt.Version) []byte { return Connack(v, true, 0x87) })
	c.malformed("connack/return-6", mqtt.Broker, three, "MQTT-3.2.2-8", func(v mqtt.Version) []byte { return Connack(v, false, 6) })
	for _, code := range []byte{0x01, 0x05, 0x8B, 0x8D, 0x8F, 0x96, 0xA2, 0xFF} {
		c.protocol(fmt.Sprintf("connack/code-%02X", code), mqtt.Broker, v5, "MQTT-3.2.2-8", func(v mqtt.Version) []byte { return Connack(v, false, code) })
	}
	c.malformed("connack/trailing-byte", mqtt.Broker, v5, "MQTT-4.13.1-1", fixed(0x20, 4, 0, 0, 0, 0))
	for _, p := range []struct {
		name, clause string
		property     []byte
	}{
		{"receive-maximum-0", "MQTT 3.1.2.11.3", Prop16(mqtt.ReceiveMaximum, 0)},
		{"maximum-packet-size-0", "MQTT 3.1.2.11.4", Prop32(mqtt.MaximumPacketSize, 0)},
		{"maximum-qos-2", "MQTT 3.2.2.3.4", Prop8(mqtt.MaximumQoS, 2)},
		{"retain-available-2", "MQTT 3.2.2.3.5", Prop8(mqtt.RetainAvailable, 2)},
		{"wildcard-available-2", "MQTT 3.2.2.3.11", Prop8(mqtt.WildcardAvailable, 2)},
		{"subscription-id-available-2", "MQTT 3.2.2.3.12", Prop8(mqtt.SubscriptionIDAvailable, 2)},
		{"shared-available-255", "MQTT 3.2.2.3.13", Prop8(mqtt.SharedAvailable, 255)},
		{"two-assigned-ids", "MQTT 2.2.2.2", append(PropStr(mqtt.AssignedClientID, "a"), PropStr(mqtt.AssignedClientID, "b")...)},
	} {
		c.protocol("connack/"+p.name, mqtt.Broker, v5, p.clause, func(v mqtt.Version) []byte { return Connack(v, false, 0, With(p.property)) })
	}
}
