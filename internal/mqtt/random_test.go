package mqtt_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
)

// The generators make views that are legal by construction, without asking the
// codec.
var (
	genVersion = rapid.SampledFrom([]mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5})
	genText    = rapid.StringOfN(rapid.RuneFrom([]rune("abz09 /$äß€\U0001F321\uFEFF\x01")), 0, 40, -1)
	genTopic   = rapid.StringOfN(rapid.RuneFrom([]rune("ab//$ä€\U0001F321 ")), 1, 40, -1)
	genFilter  = rapid.SampledFrom([]string{"#", "+", "a", "a/#", "+/b/+/#", "//", "$SYS/+", "$share/g/a/+", "ä/€", "$share/group/#"})
	genBytes   = rapid.SliceOfN(rapid.Byte(), 0, 200)
	genID      = rapid.Uint16Range(1, 65535)
)

func genProperties(t *rapid.T, ids ...mqtt.PropertyID) (p mqtt.Properties) {
	for _, id := range rapid.Permutation(ids).Draw(t, "ids") {
		if rapid.Bool().Draw(t, "has") {
			continue
		}
		switch id {
		case mqtt.UserProperty:
			for range rapid.IntRange(1, 3).Draw(t, "users") {
				p = p.AppendUser(genText.Draw(t, "name"), genText.Draw(t, "value"))
			}
		case mqtt.PayloadFormat, mqtt.RequestProblemInfo, mqtt.RequestResponseInfo, mqtt.MaximumQoS, mqtt.RetainAvailable,
			mqtt.WildcardAvailable, mqtt.SubscriptionIDAvailable, mqtt.SharedAvailable:
			p = p.AppendUint(id, rapid.Uint32Range(0, 1).Draw(t, "flag"))
		case mqtt.ServerKeepAlive, mqtt.ReceiveMaximum, mqtt.TopicAliasMaximum, mqtt.TopicAlias:
			p = p.AppendUint(id, rapid.Uint32Range(1, 65535).Draw(t, "n"))
		case mqtt.MessageExpiry, mqtt.SessionExpiryInterval, mqtt.WillDelayInterval, mqtt.MaximumPacketSize:
			p = p.AppendUint(id, rapid.Uint32Range(1, 0xFFFFFFFF).Draw(t, "n"))
		case mqtt.SubscriptionIdentifier:
			p = p.AppendUint(id, rapid.Uint32Range(1, mqtt.MaximumLength).Draw(t, "n"))
		case mqtt.ResponseTopic:
			p = p.AppendString(id, genTopic.Draw(t, "topic"))
		case mqtt.CorrelationData, mqtt.AuthData:
			p = p.AppendString(id, string(genBytes.Draw(t, "data")))
		default:
			p = p.AppendString(id, genText.Draw(t, "text"))
		}
	}
	return p
}

func drawText(t *rapid.T, g *rapid.Generator[string], what string) []byte {
	return []byte(g.Draw(t, what))
}

func genView(t *rapid.T) (p view, from mqtt.Side) {
	v := genVersion.Draw(t, "version")
	typ := rapid.SampledFrom([]mqtt.Type{
		mqtt.CONNECT, mqtt.CONNACK, mqtt.PUBLISH, mqtt.PUBACK, mqtt.PUBREC, mqtt.PUBREL, mqtt.PUBCOMP,
		mqtt.SUBSCRIBE, mqtt.SUBACK, mqtt.UNSUBSCRIBE, mqtt.UNSUBACK, mqtt.DISCONNECT,
	}).Draw(t, "type")
	p = view{Header: mqtt.Header{Type: typ}, Version: v}
	five := func(ids ...mqtt.PropertyID) mqtt.Properties {
		if v != mqtt.V5 {
			return nil
		}
		return genProperties(t, ids...)
	}
	boolean := func(what string) bool { return rapid.Bool().Draw(t, what) }
	qos := func() byte { return rapid.ByteRange(0, 2).Draw(t, "qos") }
	answer := []mqtt.PropertyID{mqtt.ReasonString, mqtt.UserProperty}
	message := []mqtt.PropertyID{mqtt.PayloadFormat, mqtt.MessageExpiry, mqtt.ContentType, mqtt.ResponseTopic, mqtt.CorrelationData, mqtt.UserProperty}
	switch typ {
	case mqtt.CONNECT:
		c := &mqtt.Connect{Version: v, CleanStart: boolean("clean"), KeepAlive: rapid.Uint16().Draw(t, "keep alive"), ClientID: drawText(t, genText, "id")}
		c.Properties = five(mqtt.SessionExpiryInterval, mqtt.ReceiveMaximum, mqtt.MaximumPacketSize, mqtt.TopicAliasMaximum,
			mqtt.RequestResponseInfo, mqtt.RequestProblemInfo, mqtt.UserProperty, mqtt.AuthMethod)
		if c.HasWill = boolean("will"); c.HasWill {
			c.Will = mqtt.Will{QoS: qos(), Retain: boolean("retain"), Topic: drawText(t, genTopic, "topic"), Payload: genBytes.Draw(t, "payload")}
			c.Will.Properties = five(append(message, mqtt.WillDelayInterval)...)
		}
		if c.HasUsername = boolean("user"); c.HasUsername {
			c.Username = drawText(t, genText, "name")
		}
		if c.HasPassword = (c.HasUsername || v == mqtt.V5) && boolean("password"); c.HasPassword {
			c.Password = genBytes.Draw(t, "secret")
		}
		p.Connect = c
	case mqtt.CONNACK:
		from = mqtt.Broker
		code := rapid.SampledFrom([]mqtt.ReasonCode{0, 0x80, 0x87, 0x9F}).Draw(t, "code")
		if v != mqtt.V5 {
			code = mqtt.ReasonCode(rapid.ByteRange(0, 5).Draw(t, "return"))
		}
		p.Connack = &mqtt.Connack{SessionPresent: code == 0 && boolean("present"), Code: code, Properties: five(append(answer,
			mqtt.SessionExpiryInterval, mqtt.ReceiveMaximum, mqtt.MaximumQoS, mqtt.RetainAvailable, mqtt.MaximumPacketSize, mqtt.AssignedClientID,
			mqtt.TopicAliasMaximum, mqtt.WildcardAvailable, mqtt.SubscriptionIDAvailable, mqtt.SharedAvailable, mqtt.ServerKeepAlive,
			mqtt.ResponseInformation, mqtt.ServerReference, mqtt.AuthMethod, mqtt.AuthData)...)}
	case mqtt.PUBLISH:
		q := &mqtt.Publish{QoS: qos(), Retain: boolean("retain"), Topic: drawText(t, genTopic, "topic"), Payload: genBytes.Draw(t, "payload")}
		if q.QoS > 0 {
			q.Dup, q.PacketID = boolean("dup"), genID.Draw(t, "id")
		}
		q.Properties = five(append(message, mqtt.TopicAlias, mqtt.SubscriptionIdentifier)...)
		if q.Properties.Has(mqtt.TopicAlias) && boolean("alias alone") {
			q.Topic = nil
		}
		p.Publish = q
	case mqtt.PUBACK, mqtt.PUBREC, mqtt.PUBREL, mqtt.PUBCOMP:
		a := &mqtt.Ack{PacketID: genID.Draw(t, "id"), Dup: v == mqtt.V31 && typ == mqtt.PUBREL && boolean("dup")}
		if v == mqtt.V5 {
			a.Form, a.Properties = rapid.ByteRange(0, 2).Draw(t, "form"), genProperties(t, answer...)
			if typ == mqtt.PUBACK || typ == mqtt.PUBREC {
				a.Code = rapid.SampledFrom([]mqtt.ReasonCode{0, 0x10, 0x80, 0x99}).Draw(t, "code")
			} else if boolean("failed") {
				a.Code = mqtt.PacketIDNotFound
			}
		}
		p.Ack = a
	case mqtt.SUBSCRIBE:
		s := &mqtt.Subscribe{PacketID: genID.Draw(t, "id"), Dup: v == mqtt.V31 && boolean("dup"), Properties: five(mqtt.SubscriptionIdentifier, mqtt.UserProperty)}
		for range rapid.IntRange(1, 5).Draw(t, "filters") {
			f := mqtt.SubscribeFilter{Filter: drawText(t, genFilter, "filter"), QoS: qos()}
			if v == mqtt.V5 {
				f.RetainAsPublished, f.RetainHandling = boolean("rap"), rapid.ByteRange(0, 2).Draw(t, "rh")
				f.NoLocal = string(f.Filter[:1]) != "$" && boolean("no local")
			}
			s.Filters = append(s.Filters, f)
		}
		p.Subscribe = s
	case mqtt.UNSUBSCRIBE:
		u := &mqtt.Unsubscribe{PacketID: genID.Draw(t, "id"), Dup: v == mqtt.V31 && boolean("dup"), Properties: five(mqtt.UserProperty)}
		for range rapid.IntRange(1, 5).Draw(t, "filters") {
			u.Filters = append(u.Filters, drawText(t, genFilter, "filter"))
		}
		p.Unsubscribe = u
	case mqtt.SUBACK, mqtt.UNSUBACK:
		from = mqtt.Broker
		s := &mqtt.Suback{PacketID: genID.Draw(t, "id"), Properties: five(answer...)}
		codes := []byte{0, 1, 2, 0x80}
		if typ == mqtt.UNSUBACK {
			codes = []byte{0, 0x11, 0x87}
		}
		if typ == mqtt.SUBACK || v == mqtt.V5 {
			s.Codes = rapid.SliceOfN(rapid.SampledFrom(codes), 1, 9).Draw(t, "codes")
		}
		p.Suback = s
	case mqtt.DISCONNECT:
		d := &mqtt.Disconnect{}
		if v == mqtt.V5 {
			from = rapid.SampledFrom([]mqtt.Side{mqtt.Client, mqtt.Broker}).Draw(t, "from")
			d.Code = rapid.SampledFrom([]mqtt.ReasonCode{0, 0x81, 0x98}).Draw(t, "code")
			d.Form, d.Properties = rapid.ByteRange(0, 2).Draw(t, "form"), genProperties(t, append(answer, mqtt.ServerReference)...)
		}
		p.Disconnect = d
	}
	return p, from
}

// TestRandomViews: what is encoded parses to the same facts, and encodes again
// to the same bytes.
func TestRandomViews(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		want, from := genView(rt)
		b := want.encode()
		got, err := parse(b, want.Version, from)
		if err != nil {
			rt.Fatalf("%v %v %x: %v", want.Version, want.Header.Type, b, err)
		}
		if again := got.encode(); string(again) != string(b) {
			rt.Fatalf("%v %v\nencoded %x\nagain   %x", want.Version, want.Header.Type, b, again)
		}
		if diff := cmp.Diff(ourFacts(want), ourFacts(got), cmpopts.EquateEmpty()); diff != "" {
			rt.Fatalf("%x: %s", b, diff)
		}
	})
}
