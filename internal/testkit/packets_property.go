package testkit

import (
	"bytes"
	"fmt"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
)

// one is a legal value of each property.
var one = map[mqtt.PropertyID][]byte{
	mqtt.PayloadFormat:           Prop8(mqtt.PayloadFormat, 1),
	mqtt.MessageExpiry:           Prop32(mqtt.MessageExpiry, 60),
	mqtt.ContentType:             PropStr(mqtt.ContentType, "text/plain"),
	mqtt.ResponseTopic:           PropStr(mqtt.ResponseTopic, "answers/dev"),
	mqtt.CorrelationData:         PropStr(mqtt.CorrelationData, "\x00\xFF"),
	mqtt.SubscriptionIdentifier:  PropVar(mqtt.SubscriptionIdentifier, 268435455),
	mqtt.SessionExpiryInterval:   Prop32(mqtt.SessionExpiryInterval, 0xFFFFFFFF),
	mqtt.AssignedClientID:        PropStr(mqtt.AssignedClientID, "auto-1"),
	mqtt.ServerKeepAlive:         Prop16(mqtt.ServerKeepAlive, 0),
	mqtt.AuthMethod:              PropStr(mqtt.AuthMethod, "SCRAM-SHA-1"),
	mqtt.AuthData:                PropStr(mqtt.AuthData, "\x00\xFF"),
	mqtt.RequestProblemInfo:      Prop8(mqtt.RequestProblemInfo, 0),
	mqtt.WillDelayInterval:       Prop32(mqtt.WillDelayInterval, 30),
	mqtt.RequestResponseInfo:     Prop8(mqtt.RequestResponseInfo, 1),
	mqtt.ResponseInformation:     PropStr(mqtt.ResponseInformation, "r/"),
	mqtt.ServerReference:         PropStr(mqtt.ServerReference, "other:1883"),
	mqtt.ReasonString:            PropStr(mqtt.ReasonString, "because"),
	mqtt.ReceiveMaximum:          Prop16(mqtt.ReceiveMaximum, 1),
	mqtt.TopicAliasMaximum:       Prop16(mqtt.TopicAliasMaximum, 0),
	mqtt.TopicAlias:              Prop16(mqtt.TopicAlias, 65535),
	mqtt.MaximumQoS:              Prop8(mqtt.MaximumQoS, 0),
	mqtt.RetainAvailable:         Prop8(mqtt.RetainAvailable, 0),
	mqtt.UserProperty:            PropUser("", ""),
	mqtt.MaximumPacketSize:       Prop32(mqtt.MaximumPacketSize, 1),
	mqtt.WildcardAvailable:       Prop8(mqtt.WildcardAvailable, 0),
	mqtt.SubscriptionIDAvailable: Prop8(mqtt.SubscriptionIDAvailable, 0),
	mqtt.SharedAvailable:         Prop8(mqtt.SharedAvailable, 0),
}

// everyID is the ids of one, in order.
var everyID = func() (ids []mqtt.PropertyID) {
	for id := range mqtt.SharedAvailable + 1 {
		if one[id] != nil {
			ids = append(ids, id)
		}
	}
	return ids
}()

// propertyCases adds what holds of every packet with properties: each legal
// one alone, each illegal one, each single one twice, a section that is cut or
// lies. build places a section (length included) in the packet.
func (c *collector) propertyCases(name string, from mqtt.Side, legal, needed []mqtt.PropertyID, build func(section []byte) []byte) {
	var base [][]byte // what the packet cannot do without
	required := map[mqtt.PropertyID]bool{}
	for _, id := range needed {
		base = append(base, one[id])
		required[id] = true
	}
	with := func(p ...[]byte) func(mqtt.Version) []byte {
		return func(mqtt.Version) []byte {
			return build(Props(append(bytes.Clone(bytes.Join(base, nil)), bytes.Join(p, nil)...)))
		}
	}
	ok := map[mqtt.PropertyID]bool{}
	for _, id := range legal {
		ok[id] = true
		if !required[id] {
			c.good(fmt.Sprintf("%s/property-%02X", name, byte(id)), from, v5, with(one[id]))
			if id != mqtt.UserProperty && (id != mqtt.SubscriptionIdentifier || name != "publish") {
				c.protocol(fmt.Sprintf("%s/property-%02X-twice", name, byte(id)), from, v5, "MQTT 2.2.2.2", with(one[id], one[id]))
			}
		}
	}
	for _, id := range everyID {
		if !ok[id] {
			c.malformed(fmt.Sprintf("%s/property-%02X-elsewhere", name, byte(id)), from, v5, "MQTT 2.2.2.2", with(one[id]))
		}
	}
	const broken = "MQTT-4.13.1-1"
	c.malformed(name+"/property-00", from, v5, "MQTT 2.2.2.2", with([]byte{0x00, 1}))
	c.malformed(name+"/property-7F", from, v5, "MQTT 2.2.2.2", with([]byte{0x7F, 1}))
	c.malformed(name+"/property-of-two-bytes", from, v5, "MQTT 2.2.2.2", with([]byte{0xA6, 0x00, 0, 0, 0, 0}))
	c.malformed(name+"/user-property-cut", from, v5, broken, with([]byte{0x26, 0, 1, 'a', 0, 9, 'b'}))
	c.malformed(name+"/user-property-name-cut", from, v5, broken, with([]byte{0x26, 0, 9, 'a'}))
	c.malformed(name+"/user-property-without-value", from, v5, broken, with([]byte{0x26, 0, 1, 'a'}))
	c.malformed(name+"/user-property-nul", from, v5, "MQTT-1.5.4-2", with(PropUser("a", "\x00")))
	c.malformed(name+"/user-property-surrogate", from, v5, "MQTT-1.5.4-1", with(PropUser("\xED\xA0\x80", "")))
	c.good(name+"/user-properties-1000", from, v5, with(bytes.Repeat(PropUser("k", "v"), 1000)))
	c.malformed(name+"/property-length-overlong", from, v5, "MQTT-1.5.5-1", func(mqtt.Version) []byte {
		p := bytes.Join(append(base, PropUser("a", "b")), nil)
		return build(append([]byte{byte(len(p)) | 0x80, 0}, p...))
	})
	c.malformed(name+"/property-length-of-five-bytes", from, v5, "MQTT 1.5.5", func(mqtt.Version) []byte {
		return build([]byte{0x80, 0x80, 0x80, 0x80, 0x01, 0, 0, 0})
	})
	c.malformed(name+"/property-length-lies", from, v5, broken, func(mqtt.Version) []byte {
		return build([]byte{0xFF, 0xFF, 0x7F})
	})
}

func connectPropertyPackets(c *collector) {
	connect := func(section []byte) []byte {
		return Raw(0x10, Str("MQTT"), []byte{5, 2}, U16(60), section, Str("dev"))
	}
	// Authentication Data needs a method, so all of these have one.
	c.propertyCases("connect", mqtt.Client, []mqtt.PropertyID{
		mqtt.SessionExpiryInterval, mqtt.ReceiveMaximum, mqtt.MaximumPacketSize, mqtt.TopicAliasMaximum,
		mqtt.RequestResponseInfo, mqtt.RequestProblemInfo, mqtt.UserProperty, mqtt.AuthMethod, mqtt.AuthData,
	}, []mqtt.PropertyID{mqtt.AuthMethod}, connect)
	method := one[mqtt.AuthMethod]
	c.protocol("connect/two-auth-methods", mqtt.Client, v5, "MQTT 2.2.2.2", func(mqtt.Version) []byte { return connect(Props(method, method)) })
	c.protocol("connect/auth-data-without-method", mqtt.Client, v5, "MQTT 3.1.2.11.10", func(mqtt.Version) []byte {
		return connect(Props(one[mqtt.AuthData]))
	})
	for _, p := range []struct {
		name, clause string
		property     []byte
	}{
		{"receive-maximum-0", "MQTT 3.1.2.11.3", Prop16(mqtt.ReceiveMaximum, 0)},
		{"maximum-packet-size-0", "MQTT 3.1.2.11.4", Prop32(mqtt.MaximumPacketSize, 0)},
		{"request-response-2", "MQTT 3.1.2.11.6", Prop8(mqtt.RequestResponseInfo, 2)},
		{"request-problem-2", "MQTT 3.1.2.11.7", Prop8(mqtt.RequestProblemInfo, 2)},
	} {
		c.protocol("connect/"+p.name, mqtt.Client, v5, p.clause, func(mqtt.Version) []byte { return connect(Props(p.property)) })
	}
	for _, id := range []mqtt.PropertyID{mqtt.SessionExpiryInterval, mqtt.ReceiveMaximum, mqtt.RequestProblemInfo, mqtt.AuthMethod} {
		for n := 1; n < len(one[id]); n++ {
			c.malformed(fmt.Sprintf("connect/property-%02X-of-%d-bytes", byte(id), n), mqtt.Client, v5, "MQTT-4.13.1-1",
				func(mqtt.Version) []byte { return connect(Props(one[id][:n])) })
		}
	}

	c.propertyCases("connect/will", mqtt.Client, []mqtt.PropertyID{
		mqtt.PayloadFormat, mqtt.MessageExpiry, mqtt.ContentType, mqtt.ResponseTopic, mqtt.CorrelationData,
		mqtt.WillDelayInterval, mqtt.UserProperty,
	}, nil, func(section []byte) []byte {
		return Raw(0x10, Str("MQTT"), []byte{5, 6}, U16(60), Props(), Str("dev"), section, Str("status/dev"), Str("gone"))
	})
	will := func(p []byte) func(mqtt.Version) []byte {
		return func(v mqtt.Version) []byte { return Connect(v, "dev", Will("status/dev", "gone", 1, false, p)) }
	}
	c.protocol("connect/will-payload-format-2", mqtt.Client, v5, "MQTT 3.3.2.3.2", will(Prop8(mqtt.PayloadFormat, 2)))
	c.malformed("connect/will-response-topic-wildcard", mqtt.Client, v5, "MQTT-3.3.2-14", will(PropStr(mqtt.ResponseTopic, "answers/#")))
	c.malformed("connect/will-response-topic-empty", mqtt.Client, v5, "MQTT-4.7.3-1", will(PropStr(mqtt.ResponseTopic, "")))
	c.good("connect/every-property", mqtt.Client, v5, func(v mqtt.Version) []byte {
		return Connect(v, "dev", User("alice"), Password("secret"),
			With(Prop32(mqtt.SessionExpiryInterval, 7200), Prop16(mqtt.ReceiveMaximum, 17), Prop32(mqtt.MaximumPacketSize, 4096),
				Prop16(mqtt.TopicAliasMaximum, 8), Prop8(mqtt.RequestResponseInfo, 1), Prop8(mqtt.RequestProblemInfo, 0),
				PropUser("a", "1"), PropUser("a", "2"), method, one[mqtt.AuthData]),
			Will("status/dev", "gone", 2, true, Prop8(mqtt.PayloadFormat, 1), Prop32(mqtt.MessageExpiry, 60),
				PropStr(mqtt.ContentType, "text/plain"), PropStr(mqtt.ResponseTopic, "answers/dev"),
				PropStr(mqtt.CorrelationData, "\x00"), Prop32(mqtt.WillDelayInterval, 30), PropUser("w", "1")))
	})
}
