//go:build e2e

package oracle

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
)

// facts are what a packet says, in words that both codecs have. Binary data is
// hexadecimal.
type facts struct {
	Type       string   `json:"type"`
	ID         int      `json:"id"`
	Code       int      `json:"code"`
	Dup        bool     `json:"dup"`
	QoS        int      `json:"qos"`
	Retain     bool     `json:"retain"`
	Topic      string   `json:"topic"`
	Payload    string   `json:"payload"`
	Filters    []string `json:"filters"`
	Codes      []int    `json:"codes"`
	Present    bool     `json:"present"`
	Properties []string `json:"properties"`

	Level          int      `json:"level"`
	Clean          bool     `json:"clean"`
	KeepAlive      int      `json:"keepAlive"`
	ClientID       string   `json:"clientID"`
	HasUser        bool     `json:"hasUser"`
	User           string   `json:"user"`
	HasPassword    bool     `json:"hasPassword"`
	Password       string   `json:"password"`
	HasWill        bool     `json:"hasWill"`
	WillQoS        int      `json:"willQoS"`
	WillRetain     bool     `json:"willRetain"`
	WillTopic      string   `json:"willTopic"`
	Will           string   `json:"will"`
	WillProperties []string `json:"willProperties"`
}

// sorted puts the properties in an order that does not depend on the packet's:
// by id, user properties by name. Those of one id, or one name, keep theirs.
func (f facts) sorted() facts {
	for _, list := range []*[]string{&f.Properties, &f.WillProperties} {
		*list = slices.Clone(*list)
		slices.SortStableFunc(*list, func(a, b string) int { return strings.Compare(propertyKey(a), propertyKey(b)) })
	}
	return f
}

func propertyKey(s string) string {
	if name, _, pair := strings.Cut(s, "="); pair {
		return name
	}
	return s[:2]
}

// packet is any packet as our codec has it.
type packet struct {
	typ         mqtt.Type
	version     mqtt.Version
	connect     mqtt.Connect
	connack     mqtt.Connack
	publish     mqtt.Publish
	ack         mqtt.Ack
	subscribe   mqtt.Subscribe
	suback      mqtt.Suback
	unsubscribe mqtt.Unsubscribe
	disconnect  mqtt.Disconnect
}

// read reads one whole packet with our codec. Of a CONNECT the version is what
// it says itself.
func read(b []byte, v mqtt.Version, from mqtt.Side) (*packet, error) {
	if mqtt.Type(b[0]>>4) == mqtt.CONNECT {
		v = 0
	}
	h, err := mqtt.ParseHeader(b, v, from)
	if err != nil {
		return nil, err
	}
	if len(b) != h.Size() {
		return nil, fmt.Errorf("%d bytes of a packet of %d", len(b), h.Size())
	}
	p, body := &packet{typ: h.Type, version: v}, b[h.Len:]
	switch h.Type {
	case mqtt.CONNECT:
		err = p.connect.Parse(body)
		p.version = p.connect.Version
	case mqtt.CONNACK:
		err = p.connack.Parse(v, body)
	case mqtt.PUBLISH:
		err = p.publish.Parse(h, v, body)
	case mqtt.PUBACK, mqtt.PUBREC, mqtt.PUBREL, mqtt.PUBCOMP:
		err = p.ack.Parse(h, v, body)
	case mqtt.SUBSCRIBE:
		err = p.subscribe.Parse(h, v, body)
	case mqtt.SUBACK, mqtt.UNSUBACK:
		err = p.suback.Parse(h, v, body)
	case mqtt.UNSUBSCRIBE:
		err = p.unsubscribe.Parse(h, v, body)
	case mqtt.DISCONNECT, mqtt.AUTH:
		err = p.disconnect.Parse(h, v, from, body)
	}
	return p, err
}

// encode writes a packet with our codec.
func (p *packet) encode() []byte {
	switch p.typ {
	case mqtt.CONNECT:
		return p.connect.Append(nil)
	case mqtt.CONNACK:
		return p.connack.Append(nil, p.version)
	case mqtt.PUBLISH:
		return p.publish.Append(nil, p.version)
	case mqtt.PUBACK, mqtt.PUBREC, mqtt.PUBREL, mqtt.PUBCOMP:
		return p.ack.Append(nil, p.typ, p.version)
	case mqtt.SUBSCRIBE:
		return p.subscribe.Append(nil, p.version)
	case mqtt.SUBACK, mqtt.UNSUBACK:
		return p.suback.Append(nil, p.typ, p.version)
	case mqtt.UNSUBSCRIBE:
		return p.unsubscribe.Append(nil, p.version)
	case mqtt.DISCONNECT, mqtt.AUTH:
		return p.disconnect.Append(nil, p.typ, p.version)
	}
	return mqtt.AppendPing(nil, p.typ)
}

// facts are what our codec says.
func (p *packet) facts() facts {
	f := facts{Type: p.typ.String()}
	switch p.typ {
	case mqtt.CONNECT:
		c := &p.connect
		f.Level, f.Clean, f.KeepAlive, f.ClientID = int(c.Version), c.CleanStart, int(c.KeepAlive), string(c.ClientID)
		f.HasUser, f.User = c.HasUsername, string(c.Username)
		f.HasPassword, f.Password = c.HasPassword, hex.EncodeToString(c.Password)
		f.Properties = properties(c.Properties)
		if w := &c.Will; c.HasWill {
			f.HasWill, f.WillQoS, f.WillRetain = true, int(w.QoS), w.Retain
			f.WillTopic, f.Will, f.WillProperties = string(w.Topic), hex.EncodeToString(w.Payload), properties(w.Properties)
		}
	case mqtt.CONNACK:
		f.Present, f.Code, f.Properties = p.connack.SessionPresent, int(p.connack.Code), properties(p.connack.Properties)
	case mqtt.PUBLISH:
		q := &p.publish
		f.Dup, f.QoS, f.Retain, f.Topic, f.ID = q.Dup, int(q.QoS), q.Retain, string(q.Topic), int(q.PacketID)
		f.Payload, f.Properties = hex.EncodeToString(q.Payload), properties(q.Properties)
	case mqtt.PUBACK, mqtt.PUBREC, mqtt.PUBREL, mqtt.PUBCOMP:
		f.ID, f.Code, f.Properties = int(p.ack.PacketID), int(p.ack.Code), properties(p.ack.Properties)
	case mqtt.SUBSCRIBE:
		f.ID, f.Properties = int(p.subscribe.PacketID), properties(p.subscribe.Properties)
		for _, s := range p.subscribe.Filters {
			f.Filters = append(f.Filters, fmt.Sprintf("%s qos=%d nl=%v rap=%v rh=%d", s.Filter, s.QoS, s.NoLocal, s.RetainAsPublished, s.RetainHandling))
		}
	case mqtt.SUBACK, mqtt.UNSUBACK:
		f.ID, f.Properties = int(p.suback.PacketID), properties(p.suback.Properties)
		for _, c := range p.suback.Codes {
			f.Codes = append(f.Codes, int(c))
		}
	case mqtt.UNSUBSCRIBE:
		f.ID, f.Properties = int(p.unsubscribe.PacketID), properties(p.unsubscribe.Properties)
		for _, s := range p.unsubscribe.Filters {
			f.Filters = append(f.Filters, string(s))
		}
	case mqtt.DISCONNECT, mqtt.AUTH:
		f.Code, f.Properties = int(p.disconnect.Code), properties(p.disconnect.Properties)
	}
	return f.sorted()
}

// numeric are the properties whose value is a number.
var numeric = []mqtt.PropertyID{
	mqtt.PayloadFormat, mqtt.MessageExpiry, mqtt.SubscriptionIdentifier, mqtt.SessionExpiryInterval, mqtt.ServerKeepAlive,
	mqtt.RequestProblemInfo, mqtt.WillDelayInterval, mqtt.RequestResponseInfo, mqtt.ReceiveMaximum, mqtt.TopicAliasMaximum,
	mqtt.TopicAlias, mqtt.MaximumQoS, mqtt.RetainAvailable, mqtt.MaximumPacketSize, mqtt.WildcardAvailable,
	mqtt.SubscriptionIDAvailable, mqtt.SharedAvailable,
}

func properties(p mqtt.Properties) (list []string) {
	for {
		prop, rest, ok := p.Next()
		switch {
		case !ok:
			return list
		case prop.ID == mqtt.UserProperty:
			list = append(list, fmt.Sprintf("%02x %x=%x", byte(prop.ID), prop.Data, prop.Value))
		case slices.Contains(numeric, prop.ID):
			list = append(list, fmt.Sprintf("%02x %d", byte(prop.ID), prop.Uint))
		default:
			list = append(list, fmt.Sprintf("%02x %x", byte(prop.ID), prop.Data))
		}
		p = rest
	}
}
