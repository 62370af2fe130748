package testkit

import (
	"bytes"
	"fmt"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
)

var answerProperties = []mqtt.PropertyID{mqtt.ReasonString, mqtt.UserProperty}

func ackPackets(c *collector) {
	// 0x95 is Mosquitto's, for a message above its message_size_limit.
	received := []byte{0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x95, 0x97, 0x99}
	released := []byte{0x00, 0x92}
	for _, a := range []struct {
		t      mqtt.Type
		legal  []byte
		clause string
	}{
		{mqtt.PUBACK, received, "MQTT-3.4.2-1"},
		{mqtt.PUBREC, received, "MQTT-3.5.2-1"},
		{mqtt.PUBREL, released, "MQTT-3.6.2-1"},
		{mqtt.PUBCOMP, released, "MQTT-3.7.2-1"},
	} {
		name := a.t.String()
		first := Ack(mqtt.V311, a.t, 1, 0)[0]
		for _, from := range []mqtt.Side{mqtt.Client, mqtt.Broker} {
			c.good(fmt.Sprintf("%s/%v", name, from), from, all, func(v mqtt.Version) []byte { return Ack(v, a.t, 4711, 0) })
		}
		c.good(name+"/id-65535", mqtt.Client, all, func(v mqtt.Version) []byte { return Ack(v, a.t, 65535, 0) })
		for code := range 256 {
			short := func(mqtt.Version) []byte { return Raw(first, U16(7), []byte{byte(code)}) }
			what := fmt.Sprintf("%s/code-%02X", name, code)
			if bytes.IndexByte(a.legal, byte(code)) >= 0 {
				c.good(what, mqtt.Client, v5, short)
				c.good(what+"-with-length", mqtt.Client, v5, func(mqtt.Version) []byte { return Raw(first, U16(7), []byte{byte(code), 0}) })
			} else if code < 0x20 || code >= 0x7F && code < 0xA4 || code == 0xFF {
				c.protocol(what, mqtt.Client, v5, a.clause, short)
			}
		}
		c.malformed(name+"/id-0", mqtt.Client, all, "MQTT-2.2.1-3", func(v mqtt.Version) []byte { return Ack(v, a.t, 0, 0) })
		c.malformed(name+"/trailing-byte", mqtt.Client, v5, "MQTT-4.13.1-1", func(mqtt.Version) []byte { return Raw(first, U16(7), []byte{0, 0, 0}) })
		c.propertyCases(name, mqtt.Client, answerProperties, nil, func(section []byte) []byte { return Raw(first, U16(7), []byte{0}, section) })
	}
	c.good("PUBREL/dup", mqtt.Client, v31, fixed(0x6A, 2, 0, 7))
	c.good("PUBREL/dup-broker", mqtt.Broker, v31, fixed(0x6A, 2, 0, 7))
}

func subackPackets(c *collector) {
	c.good("suback/qos", mqtt.Broker, all, func(v mqtt.Version) []byte { return Suback(v, 10, 0, 1, 2) })
	c.good("suback/failure", mqtt.Broker, all, func(v mqtt.Version) []byte { return Suback(v, 10, 0x80, 0) })
	for _, code := range []byte{0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2} {
		c.good(fmt.Sprintf("suback/code-%02X", code), mqtt.Broker, v5, func(v mqtt.Version) []byte { return Suback(v, 10, code) })
		c.protocol(fmt.Sprintf("suback/code-%02X", code), mqtt.Broker, three, "MQTT-3.9.3-2", func(v mqtt.Version) []byte { return Suback(v, 10, code) })
	}
	for _, code := range []byte{3, 0x11, 0x7F, 0x81, 0xFF} {
		c.protocol(fmt.Sprintf("suback/code-%02X", code), mqtt.Broker, all, "MQTT-3.9.3-2", func(v mqtt.Version) []byte { return Suback(v, 10, 0, code) })
	}
	c.malformed("suback/no-code", mqtt.Broker, all, "MQTT-3.9.3-2", func(v mqtt.Version) []byte { return Suback(v, 10) })
	c.malformed("suback/id-0", mqtt.Broker, all, "MQTT-2.2.1-3", func(v mqtt.Version) []byte { return Suback(v, 0, 1) })
	c.propertyCases("suback", mqtt.Broker, answerProperties, nil, func(section []byte) []byte { return Raw(0x90, U16(7), section, []byte{0}) })

	c.good("unsuback", mqtt.Broker, all, func(v mqtt.Version) []byte { return Unsuback(v, 10, 0) })
	for _, code := range []byte{0x11, 0x80, 0x83, 0x87, 0x8F, 0x91} {
		c.good(fmt.Sprintf("unsuback/code-%02X", code), mqtt.Broker, v5, func(v mqtt.Version) []byte { return Unsuback(v, 10, 0, code) })
	}
	for _, code := range []byte{1, 2, 0x97, 0xA2, 0xFF} {
		c.protocol(fmt.Sprintf("unsuback/code-%02X", code), mqtt.Broker, v5, "MQTT-3.11.3-2", func(v mqtt.Version) []byte { return Unsuback(v, 10, code) })
	}
	c.malformed("unsuback/no-code", mqtt.Broker, v5, "MQTT-3.11.3-2", func(v mqtt.Version) []byte { return Unsuback(v, 10) })
	c.malformed("unsuback/id-0", mqtt.Broker, all, "MQTT-2.2.1-3", func(v mqtt.Version) []byte { return Unsuback(v, 0, 0) })
	c.propertyCases("unsuback", mqtt.Broker, answerProperties, nil, func(section []byte) []byte { return Raw(0xB0, U16(7), section, []byte{0}) })
}

func disconnectPackets(c *collector) {
	both := []byte{0x00, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99}
	legal := map[mqtt.Side][]byte{
		mqtt.Client: append([]byte{0x04}, both...),
		mqtt.Broker: append([]byte{0x87, 0x89, 0x8B, 0x8C, 0x8D, 0x8E, 0x8F, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2}, both...),
	}
	c.good("disconnect/client", mqtt.Client, all, func(v mqtt.Version) []byte { return Disconnect(v, 0) })
	c.good("disconnect/broker", mqtt.Broker, v5, func(v mqtt.Version) []byte { return Disconnect(v, 0) })
	for _, from := range []mqtt.Side{mqtt.Client, mqtt.Broker} {
		for code := range 256 {
			short := func(mqtt.Version) []byte { return Raw(0xE0, []byte{byte(code)}) }
			what := fmt.Sprintf("disconnect/%v-code-%02X", from, code)
			if bytes.IndexByte(legal[from], byte(code)) >= 0 {
				c.good(what, from, v5, short)
			} else if code < 0x12 || code >= 0x84 && code < 0xA4 {
				c.protocol(what, from, v5, "MQTT-3.14.2-1", short)
			}
		}
		c.good(fmt.Sprintf("disconnect/%v-with-length", from), from, v5, fixed(0xE0, 2, 0, 0))
		c.malformed(fmt.Sprintf("disconnect/%v-trailing-byte", from), from, v5, "MQTT-4.13.1-1", fixed(0xE0, 3, 0, 0, 0))
	}
	c.propertyCases("disconnect", mqtt.Client, append([]mqtt.PropertyID{mqtt.SessionExpiryInterval, mqtt.ServerReference}, answerProperties...), nil,
		func(section []byte) []byte { return Raw(0xE0, []byte{0}, section) })
	c.protocol("disconnect/session-expiry-from-the-broker", mqtt.Broker, v5, "MQTT-3.14.2-2", func(v mqtt.Version) []byte {
		return Disconnect(v, 0x8B, With(one[mqtt.SessionExpiryInterval]))
	})
	c.good("disconnect/server-reference", mqtt.Broker, v5, func(v mqtt.Version) []byte {
		return Disconnect(v, 0x9C, With(one[mqtt.ServerReference], one[mqtt.ReasonString], PropUser("a", "b")))
	})
}

func authPackets(c *collector) {
	method := With(one[mqtt.AuthMethod])
	auth := func(code byte, opts ...Option) func(mqtt.Version) []byte {
		return func(mqtt.Version) []byte { return Auth(code, opts...) }
	}
	c.good("auth/continue", mqtt.Client, v5, auth(0x18, method))
	c.good("auth/continue-broker", mqtt.Broker, v5, auth(0x18, method, With(one[mqtt.AuthData])))
	c.good("auth/again", mqtt.Client, v5, auth(0x19, method, With(one[mqtt.AuthData])))
	c.good("auth/success", mqtt.Broker, v5, auth(0x00, method))
	c.good("auth/success-short", mqtt.Broker, v5, fixed(0xF0, 0))
	const code = "MQTT-3.15.2-1"
	c.protocol("auth/success-from-the-client", mqtt.Client, v5, code, auth(0x00, method))
	c.protocol("auth/success-short-from-the-client", mqtt.Client, v5, code, fixed(0xF0, 0))
	c.protocol("auth/again-from-the-broker", mqtt.Broker, v5, code, auth(0x19, method))
	c.protocol("auth/code-87", mqtt.Broker, v5, code, auth(0x87, method))
	c.protocol("auth/no-method", mqtt.Client, v5, "MQTT 3.15.2.2.2", auth(0x18))
	c.protocol("auth/data-without-method", mqtt.Client, v5, "MQTT 3.15.2.2.2", auth(0x18, With(one[mqtt.AuthData])))
	c.malformed("auth/no-property-length", mqtt.Client, v5, "MQTT-4.13.1-1", fixed(0xF0, 1, 0x18))
	c.malformed("auth/trailing-byte", mqtt.Client, v5, "MQTT-4.13.1-1", func(mqtt.Version) []byte { return Raw(0xF0, Auth(0x18, method)[2:], []byte{0}) })
	c.propertyCases("auth", mqtt.Client, append([]mqtt.PropertyID{mqtt.AuthMethod, mqtt.AuthData}, answerProperties...), []mqtt.PropertyID{mqtt.AuthMethod},
		func(section []byte) []byte { return Raw(0xF0, []byte{0x18}, section) })
}
