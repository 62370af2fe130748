package model

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
)

// packet is one packet of a stream, read strictly.
type packet struct {
	typ  mqtt.Type
	raw  []byte
	conn mqtt.Connect
	cack mqtt.Connack
	pub  mqtt.Publish
	ack  mqtt.Ack
	sub  mqtt.Subscribe
	uns  mqtt.Unsubscribe
	sack mqtt.Suback
	disc mqtt.Disconnect
}

// stream cuts bytes into packets.
type stream struct {
	v    mqtt.Version // 0 until CONNECT told
	from mqtt.Side
	buf  []byte
}

// next returns the next whole packet, nil when there is none yet.
func (s *stream) next() (*packet, error) {
	h, err := mqtt.ParseHeader(s.buf, s.v, s.from)
	if errors.Is(err, mqtt.ErrIncomplete) || len(s.buf) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if len(s.buf) < h.Size() {
		return nil, nil
	}
	raw := bytes.Clone(s.buf[:h.Size()])
	s.buf = s.buf[h.Size():]
	p, err := parse(h, raw, s.v, s.from)
	if err == nil && p.typ == mqtt.CONNECT {
		s.v = p.conn.Version
	}
	return p, err
}

func parse(h mqtt.Header, raw []byte, v mqtt.Version, from mqtt.Side) (*packet, error) {
	p := &packet{typ: h.Type, raw: raw}
	body := raw[h.Len:]
	var err error
	var again []byte
	switch h.Type {
	case mqtt.CONNECT:
		err = p.conn.Parse(body)
		again = p.conn.Append(nil)
	case mqtt.CONNACK:
		err = p.cack.Parse(v, body)
		again = p.cack.Append(nil, v)
	case mqtt.PUBLISH:
		err = p.pub.Parse(h, v, body)
		again = p.pub.Append(nil, v)
	case mqtt.PUBACK, mqtt.PUBREC, mqtt.PUBREL, mqtt.PUBCOMP:
		err = p.ack.Parse(h, v, body)
		again = p.ack.Append(nil, h.Type, v)
	case mqtt.SUBSCRIBE:
		err = p.sub.Parse(h, v, body)
		again = p.sub.Append(nil, v)
	case mqtt.UNSUBSCRIBE:
		err = p.uns.Parse(h, v, body)
		again = p.uns.Append(nil, v)
	case mqtt.SUBACK, mqtt.UNSUBACK:
		err = p.sack.Parse(h, v, body)
		again = p.sack.Append(nil, h.Type, v)
	case mqtt.DISCONNECT, mqtt.AUTH:
		err = p.disc.Parse(h, v, from, body)
		again = p.disc.Append(nil, h.Type, v)
	default:
		again = raw
	}
	if err == nil && !bytes.Equal(again, raw) {
		err = fmt.Errorf("%v is not canonical", h.Type)
	}
	return p, err
}

// String names a packet for the trace.
func (p *packet) String() string {
	switch p.typ {
	case mqtt.CONNECT:
		c := &p.conn
		will := ""
		if c.HasWill {
			will = fmt.Sprintf(" will %s q%d retain=%v", c.Will.Topic, c.Will.QoS, c.Will.Retain)
		}
		return fmt.Sprintf("CONNECT %s v%v clean=%v keepalive=%d%s%s", c.ClientID, c.Version, c.CleanStart, c.KeepAlive, properties(c.Properties), will)
	case mqtt.CONNACK:
		return fmt.Sprintf("CONNACK present=%v code=%#x%s", p.cack.SessionPresent, byte(p.cack.Code), properties(p.cack.Properties))
	case mqtt.PUBLISH:
		return fmt.Sprintf("PUBLISH %q q%d id=%d dup=%v retain=%v%s %.12s (%d bytes)", p.pub.Topic, p.pub.QoS, p.pub.PacketID,
			p.pub.Dup, p.pub.Retain, properties(p.pub.Properties), p.pub.Payload, len(p.raw))
	case mqtt.PUBACK, mqtt.PUBREC, mqtt.PUBREL, mqtt.PUBCOMP:
		return fmt.Sprintf("%v id=%d code=%#x", p.typ, p.ack.PacketID, byte(p.ack.Code))
	case mqtt.SUBSCRIBE:
		var f []string
		for _, x := range p.sub.Filters {
			f = append(f, fmt.Sprintf("%s q%d", x.Filter, x.QoS))
		}
		return fmt.Sprintf("SUBSCRIBE id=%d %s", p.sub.PacketID, strings.Join(f, ", "))
	case mqtt.UNSUBSCRIBE:
		return fmt.Sprintf("UNSUBSCRIBE id=%d %s", p.uns.PacketID, bytes.Join(p.uns.Filters, []byte(", ")))
	case mqtt.SUBACK, mqtt.UNSUBACK:
		return fmt.Sprintf("%v id=%d % x", p.typ, p.sack.PacketID, p.sack.Codes)
	case mqtt.DISCONNECT:
		return fmt.Sprintf("DISCONNECT code=%#x", byte(p.disc.Code))
	}
	return p.typ.String()
}

func properties(p mqtt.Properties) string {
	var b strings.Builder
	for len(p) > 0 {
		prop, rest, ok := p.Next()
		if !ok {
			return b.String() + " ?"
		}
		fmt.Fprintf(&b, " %#x=", byte(prop.ID))
		if len(prop.Data) > 0 {
			fmt.Fprintf(&b, "%q", prop.Data)
		} else {
			fmt.Fprint(&b, prop.Uint)
		}
		p = rest
	}
	return b.String()
}
