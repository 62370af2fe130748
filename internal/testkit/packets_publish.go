package testkit

import (
	"fmt"
	"strings"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
)

func publishPackets(c *collector) {
	for _, from := range []mqtt.Side{mqtt.Client, mqtt.Broker} {
		name := "publish/" + from.String() + "-"
		good := func(what string, qos byte, payload string, opts ...Option) {
			c.good(name+what, from, all, func(v mqtt.Version) []byte { return Publish(v, "a/b", qos, 10, payload, opts...) })
		}
		for qos := range byte(3) {
			good(fmt.Sprintf("qos-%d", qos), qos, "hello")
			good(fmt.Sprintf("retained-qos-%d", qos), qos, "hello", Retain())
			good(fmt.Sprintf("empty-qos-%d", qos), qos, "")
			if qos > 0 {
				good(fmt.Sprintf("dup-qos-%d", qos), qos, "hello", Dup())
			}
		}
		c.malformed(name+"qos-3", from, all, "MQTT-3.3.1-4", func(v mqtt.Version) []byte { return Publish(v, "a/b", 3, 10, "hello") })
		c.malformed(name+"dup-qos-0", from, all, "MQTT-3.3.1-2", func(v mqtt.Version) []byte { return Publish(v, "a/b", 0, 0, "hello", Dup()) })
		for qos := byte(1); qos <= 2; qos++ {
			c.malformed(fmt.Sprintf("%sid-0-qos-%d", name, qos), from, all, "MQTT-2.2.1-3", func(v mqtt.Version) []byte {
				return Publish(v, "a/b", qos, 0, "hello")
			})
		}
		for _, t := range []struct{ name, topic string }{{"plus", "a/+"}, {"hash", "#"}, {"plus-inside", "a+b"}, {"hash-far", "sensors/plant-1/line-4/#/t"}} {
			c.malformed(name+"wildcard-"+t.name, from, all, "MQTT-3.3.2-2", func(v mqtt.Version) []byte { return Publish(v, t.topic, 0, 0, "x") })
		}
	}
	topic := func(what, t string) {
		c.good("publish/topic-"+what, mqtt.Client, all, func(v mqtt.Version) []byte { return Publish(v, t, 0, 0, "x") })
	}
	for _, s := range oddStrings {
		topic(s.name, s.value)
	}
	topic("slash", "/")
	topic("empty-levels", "a//b/")
	topic("dollar", "$SYS/broker/uptime")
	topic("share", "$share/g/a")
	topic("spaces", " a / b ")
	topic("slashes", strings.Repeat("/", 65535))
	for n := 1; n <= 33; n++ {
		topic(fmt.Sprintf("of-%d-bytes", n), strings.Repeat("t", n))
	}
	for _, s := range badStrings {
		c.malformed("publish/topic-"+s.name, mqtt.Client, all, s.clause, func(v mqtt.Version) []byte { return Publish(v, s.value, 1, 7, "x") })
	}
	c.malformed("publish/topic-empty", mqtt.Client, three, "MQTT-4.7.3-1", func(v mqtt.Version) []byte { return Publish(v, "", 0, 0, "x") })
	c.protocol("publish/topic-empty", mqtt.Client, v5, "MQTT 3.3.2.1", func(v mqtt.Version) []byte { return Publish(v, "", 0, 0, "x") })
	c.good("publish/payload-of-127-bytes", mqtt.Client, all, func(v mqtt.Version) []byte { return Publish(v, "a", 0, 0, strings.Repeat("x", 127)) })
	c.good("publish/payload-of-16383-bytes", mqtt.Client, all, func(v mqtt.Version) []byte { return Publish(v, "a", 2, 65535, strings.Repeat("x", 16383)) })
	c.good("publish/payload-of-64-bytes", mqtt.Client, all, func(v mqtt.Version) []byte {
		return Publish(v, "sensors/plant1/line4/temperature", 0, 0, strings.Repeat("x", 64))
	})

	const broken = "MQTT-4.13.1-1"
	c.malformed("publish/topic-length-lies", mqtt.Client, all, broken, fixed(0x30, 5, 0, 9, 'a', '/', 'b'))
	c.malformed("publish/topic-length-FFFF", mqtt.Broker, all, broken, fixed(0x30, 5, 0xFF, 0xFF, 'a', '/', 'b'))
	c.malformed("publish/no-id", mqtt.Client, all, broken, fixed(0x32, 5, 0, 3, 'a', '/', 'b'))
	c.malformed("publish/half-an-id", mqtt.Client, all, broken, fixed(0x34, 6, 0, 3, 'a', '/', 'b', 0))
	c.malformed("publish/no-properties", mqtt.Client, v5, broken, fixed(0x30, 5, 0, 3, 'a', '/', 'b'))
	c.malformed("publish/no-properties-qos-1", mqtt.Client, v5, broken, fixed(0x32, 7, 0, 3, 'a', '/', 'b', 0, 1))
	c.malformed("publish/half-a-property-length", mqtt.Client, v5, broken, fixed(0x30, 6, 0, 3, 'a', '/', 'b', 0x80))
	// Without its payload's length a PUBLISH of four bytes has bricked clients.
	c.protocol("publish/retained-of-four-bytes", mqtt.Broker, v5, "MQTT 3.3.2.1", fixed(0x31, 4, 0, 0, 0, 'x'))
	c.malformed("publish/retained-of-four-bytes", mqtt.Broker, three, "MQTT-4.7.3-1", fixed(0x31, 2, 0, 0))
}

func publishPropertyPackets(c *collector) {
	c.propertyCases("publish", mqtt.Broker, []mqtt.PropertyID{
		mqtt.PayloadFormat, mqtt.MessageExpiry, mqtt.ContentType, mqtt.ResponseTopic, mqtt.CorrelationData,
		mqtt.SubscriptionIdentifier, mqtt.TopicAlias, mqtt.UserProperty,
	}, nil, func(section []byte) []byte { return Raw(0x32, Str("a/b"), U16(7), section, []byte("hello")) })

	publish := func(topic string, p ...[]byte) func(mqtt.Version) []byte {
		return func(v mqtt.Version) []byte { return Publish(v, topic, 1, 7, "hello", With(p...)) }
	}
	c.good("publish/alias-set", mqtt.Client, v5, publish("a/b", Prop16(mqtt.TopicAlias, 3)))
	c.good("publish/alias-alone", mqtt.Client, v5, publish("", Prop16(mqtt.TopicAlias, 3)))
	c.bad("publish/alias-0", mqtt.Client, v5, "MQTT-3.3.2-8", mqtt.TopicAliasInvalid, publish("a/b", Prop16(mqtt.TopicAlias, 0)))
	c.bad("publish/alias-0-alone", mqtt.Client, v5, "MQTT-3.3.2-8", mqtt.TopicAliasInvalid, publish("", Prop16(mqtt.TopicAlias, 0)))
	c.good("publish/several-subscription-ids", mqtt.Broker, v5, publish("a/b",
		PropVar(mqtt.SubscriptionIdentifier, 1), PropVar(mqtt.SubscriptionIdentifier, 128), PropVar(mqtt.SubscriptionIdentifier, 1)))
	c.protocol("publish/subscription-id-0", mqtt.Broker, v5, "MQTT 3.8.2.1.2", publish("a/b", PropVar(mqtt.SubscriptionIdentifier, 0)))
	c.malformed("publish/subscription-id-overlong", mqtt.Broker, v5, "MQTT-1.5.5-1", publish("a/b", []byte{0x0B, 0x81, 0x00}))
	c.malformed("publish/subscription-id-of-five-bytes", mqtt.Broker, v5, "MQTT-4.13.1-1", publish("a/b", []byte{0x0B, 0x80, 0x80, 0x80, 0x80, 0x01}))
	c.protocol("publish/subscription-id-from-a-client", mqtt.Client, v5, "MQTT-3.3.4-6", publish("a/b", PropVar(mqtt.SubscriptionIdentifier, 1)))
	c.packets[len(c.packets)-1].Alone = true
	c.protocol("publish/payload-format-2", mqtt.Client, v5, "MQTT 3.3.2.3.2", publish("a/b", Prop8(mqtt.PayloadFormat, 2)))
	c.malformed("publish/response-topic-wildcard", mqtt.Client, v5, "MQTT-3.3.2-14", publish("a/b", PropStr(mqtt.ResponseTopic, "answers/+")))
	c.malformed("publish/response-topic-hash", mqtt.Client, v5, "MQTT-3.3.2-14", publish("a/b", PropStr(mqtt.ResponseTopic, "#")))
	c.malformed("publish/response-topic-empty", mqtt.Client, v5, "MQTT-4.7.3-1", publish("a/b", PropStr(mqtt.ResponseTopic, "")))
	c.malformed("publish/response-topic-nul", mqtt.Client, v5, "MQTT-1.5.4-2", publish("a/b", PropStr(mqtt.ResponseTopic, "a\x00")))
	c.malformed("publish/content-type-surrogate", mqtt.Client, v5, "MQTT-1.5.4-1", publish("a/b", PropStr(mqtt.ContentType, "\xED\xA0\x80")))
	c.good("publish/every-property", mqtt.Client, v5, publish("a/b",
		one[mqtt.PayloadFormat], one[mqtt.MessageExpiry], one[mqtt.TopicAlias], one[mqtt.ResponseTopic], one[mqtt.CorrelationData],
		PropUser("a", "1"), PropUser("b", "2"), one[mqtt.ContentType]))
}
