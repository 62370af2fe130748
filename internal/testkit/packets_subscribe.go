package testkit

import (
	"fmt"
	"strings"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
)

func subscribePackets(c *collector) {
	for qos := range byte(3) {
		c.good(fmt.Sprintf("subscribe/qos-%d", qos), mqtt.Client, all, func(v mqtt.Version) []byte {
			return SubscribeWith(v, 10, []Filter{{"a/b", qos}})
		})
	}
	c.good("subscribe/three", mqtt.Client, all, func(v mqtt.Version) []byte {
		return SubscribeWith(v, 65535, []Filter{{"a/b", 0}, {"c/+", 1}, {"d/#", 2}})
	})
	c.good("subscribe/same-filter-twice", mqtt.Client, all, func(v mqtt.Version) []byte { return Subscribe(v, 1, "a", "a") })
	c.good("subscribe/thousand", mqtt.Client, all, func(v mqtt.Version) []byte {
		return Subscribe(v, 1, strings.Split(strings.Repeat("a ", 1000)+"b", " ")...)
	})
	c.good("subscribe/dup", mqtt.Client, v31, func(v mqtt.Version) []byte { b := Subscribe(v, 1, "a"); b[0] |= 8; return b })
	c.good("subscribe/every-option", mqtt.Client, v5, func(v mqtt.Version) []byte {
		var f []Filter
		for o := range byte(0x30) {
			if o&3 != 3 {
				f = append(f, Filter{fmt.Sprintf("f/%d", o), o})
			}
		}
		return SubscribeWith(v, 9, f, With(PropVar(mqtt.SubscriptionIdentifier, 300), PropUser("a", "b")))
	})
	c.propertyCases("subscribe", mqtt.Client, []mqtt.PropertyID{mqtt.SubscriptionIdentifier, mqtt.UserProperty}, nil, func(section []byte) []byte {
		return Raw(0x82, U16(7), section, Str("a/b"), []byte{1})
	})
	with := func(f Filter, p ...[]byte) func(mqtt.Version) []byte {
		return func(v mqtt.Version) []byte { return SubscribeWith(v, 7, []Filter{{"ok", 0}, f}, With(p...)) }
	}
	c.protocol("subscribe/subscription-id-0", mqtt.Client, v5, "MQTT 3.8.2.1.2", with(Filter{"a", 0}, PropVar(mqtt.SubscriptionIdentifier, 0)))
	c.malformed("subscribe/id-0", mqtt.Client, all, "MQTT-2.2.1-3", func(v mqtt.Version) []byte { return Subscribe(v, 0, "a") })
	c.protocol("subscribe/no-filter", mqtt.Client, all, "MQTT-3.8.3-2", func(v mqtt.Version) []byte { return Subscribe(v, 1) })
	const broken, reserved = "MQTT-4.13.1-1", "MQTT-3.8.3-5"
	c.malformed("subscribe/no-options", mqtt.Client, three, broken, fixed(0x82, 5, 0, 1, 0, 1, 'a'))
	c.malformed("subscribe/no-options", mqtt.Client, v5, broken, fixed(0x82, 6, 0, 1, 0, 0, 1, 'a'))
	c.malformed("subscribe/second-without-options", mqtt.Client, three, broken, fixed(0x82, 9, 0, 1, 0, 1, 'a', 0, 0, 1, 'b'))
	c.malformed("subscribe/filter-length-lies", mqtt.Client, three, broken, fixed(0x82, 6, 0, 1, 0, 5, 'a', 0))
	c.malformed("subscribe/trailing-byte", mqtt.Client, all, broken, func(v mqtt.Version) []byte { return Raw(0x82, Subscribe(v, 1, "a")[2:], []byte{0}) })
	c.malformed("subscribe/qos-3", mqtt.Client, three, reserved, with(Filter{"a", 3}))
	c.protocol("subscribe/qos-3", mqtt.Client, v5, "MQTT 3.8.3.1", with(Filter{"a", 3}))
	c.malformed("subscribe/option-no-local", mqtt.Client, three, reserved, with(Filter{"a", 4}))
	c.protocol("subscribe/retain-handling-3", mqtt.Client, v5, "MQTT 3.8.3.1", with(Filter{"a", 0x30}))
	c.malformed("subscribe/option-bit-6", mqtt.Client, all, reserved, with(Filter{"a", 0x40}))
	c.malformed("subscribe/option-bit-7", mqtt.Client, all, reserved, with(Filter{"a", 0x80}))
	c.protocol("subscribe/no-local-on-shared", mqtt.Client, v5, "MQTT-3.8.3-4", with(Filter{"$share/g/a", 4}))
}

func filterPackets(c *collector) {
	add := func(name, filter, clause string) {
		for _, b := range []struct {
			name  string
			build func(v mqtt.Version) []byte
		}{
			{"subscribe/" + name, func(v mqtt.Version) []byte { return Subscribe(v, 1, filter) }},
			{"unsubscribe/" + name, func(v mqtt.Version) []byte { return Unsubscribe(v, 1, filter) }},
		} {
			if clause == "" {
				c.good(b.name, mqtt.Client, all, b.build)
			} else {
				c.malformed(b.name, mqtt.Client, all, clause, b.build)
			}
		}
	}
	for i, f := range []string{
		"#", "+", "/", "+/+", "/+", "+/#", "a/#", "a/+/b", "a//b", "//", "/#", "+/", "$SYS/#", "$share", "$shared/g",
		"$share/g/#", "$share/g/+", "$share/g//", "$share/g/ ", "$share/$share/$share/a", "sensors/plant-1/+/temperature/#",
	} {
		add(fmt.Sprintf("filter-good-%d", i), f, "")
	}
	for _, s := range oddStrings {
		add("filter-"+s.name, s.value, "")
	}
	for _, s := range badStrings {
		add("filter-"+s.name, s.value, s.clause)
	}
	add("filter-empty", "", "MQTT-4.7.3-1")
	for i, f := range []string{"a#", "#/a", "a/#/b", "##", "a/b#", "#a", "sensors/plant-1/line-4#", "$share/g/#/a", "a/+/#/b", "#/"} {
		add(fmt.Sprintf("filter-hash-%d", i), f, "MQTT-4.7.1-1")
	}
	for i, f := range []string{"a+", "+a", "a/+b", "a/b+/c", "++", "sensors/plant-1/line+/a", "$share/g/a+", "+#"} {
		add(fmt.Sprintf("filter-plus-%d", i), f, "MQTT-4.7.1-2")
	}
	add("share-without-name", "$share//a", "MQTT-4.8.2-1")
	add("share-with-nothing", "$share/", "MQTT-4.8.2-1")
	for i, f := range []string{"$share/g", "$share/g/", "$share/g+/a", "$share/#/a", "$share/+/a", "$share/a#b/a"} {
		add(fmt.Sprintf("share-%d", i), f, "MQTT-4.8.2-2")
	}
}

func unsubscribePackets(c *collector) {
	c.good("unsubscribe/three", mqtt.Client, all, func(v mqtt.Version) []byte { return Unsubscribe(v, 10, "a/b", "c/+", "d/#") })
	c.good("unsubscribe/dup", mqtt.Client, v31, func(v mqtt.Version) []byte { b := Unsubscribe(v, 1, "a"); b[0] |= 8; return b })
	c.propertyCases("unsubscribe", mqtt.Client, []mqtt.PropertyID{mqtt.UserProperty}, nil, func(section []byte) []byte {
		return Raw(0xA2, U16(7), section, Str("a/b"))
	})
	c.malformed("unsubscribe/id-0", mqtt.Client, all, "MQTT-2.2.1-3", func(v mqtt.Version) []byte { return Unsubscribe(v, 0, "a") })
	c.protocol("unsubscribe/no-filter", mqtt.Client, all, "MQTT-3.10.3-2", func(v mqtt.Version) []byte { return Unsubscribe(v, 1) })
	c.malformed("unsubscribe/filter-length-lies", mqtt.Client, three, "MQTT-4.13.1-1", fixed(0xA2, 5, 0, 1, 0, 5, 'a'))
	c.malformed("unsubscribe/trailing-byte", mqtt.Client, all, "MQTT-4.13.1-1", func(v mqtt.Version) []byte { return Raw(0xA2, Unsubscribe(v, 1, "a")[2:], []byte{0}) })
}
