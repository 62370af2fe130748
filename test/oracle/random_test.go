//go:build e2e

package oracle

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
)

// draws is how many random packets go each way.
const draws = 20000

// seed is ORACLE_SEED, or one of the time: a test that fails prints it.
func seed(t *testing.T) uint32 {
	t.Helper()
	if text := os.Getenv("ORACLE_SEED"); text != "" {
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			t.Fatalf("ORACLE_SEED: %v", err)
		}
		return uint32(n)
	}
	return uint32(time.Now().UnixNano())
}

// TestOursAreReadThere: what our codec writes, mqtt-packet reads to the same
// facts.
func TestOursAreReadThere(t *testing.T) {
	n := seed(t)
	t.Logf("ORACLE_SEED=%d", n)
	d := &dice{rand.New(rand.NewPCG(uint64(n), 0))}
	packets := make([]*packet, draws)
	requests := make([]request, draws)
	for i := range packets {
		p := d.packet()
		packets[i], requests[i] = p, request{byte(p.version), hex.EncodeToString(p.encode())}
	}
	exact := 0
	for i, got := range ask(t, requests) {
		if got.Error != "" {
			t.Fatalf("%v %v %s: %s", packets[i].version, packets[i].typ, requests[i].Bytes, got.Error)
		}
		if diff := cmp.Diff(packets[i].facts(), got.Facts.sorted(), cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("%v %v %s:\n%s", packets[i].version, packets[i].typ, requests[i].Bytes, diff)
		}
		if got.Again == requests[i].Bytes {
			exact++
		}
	}
	t.Logf("%d packets read alike, %d written back byte for byte", draws, exact)
}

// TestTheirsAreReadHere: what mqtt-packet writes, our codec reads to the facts
// that were asked of it, and encodes to the same bytes.
func TestTheirsAreReadHere(t *testing.T) {
	n := seed(t)
	t.Logf("ORACLE_SEED=%d", n)
	type written struct {
		Version mqtt.Version
		Broker  bool
		Bytes   string
		Facts   facts
	}
	list := node[written](t, nil, "write", strconv.FormatUint(uint64(n), 10), strconv.Itoa(draws))
	if len(list) != draws {
		t.Fatalf("%d packets, want %d", len(list), draws)
	}
	count := map[mqtt.Type]int{}
	for _, w := range list {
		b, err := hex.DecodeString(w.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		from := mqtt.Client
		if w.Broker {
			from = mqtt.Broker
		}
		p, err := read(b, w.Version, from)
		if err != nil {
			t.Fatalf("%v %s %s: %v", w.Version, w.Facts.Type, w.Bytes, err)
		}
		if again := p.encode(); !bytes.Equal(again, b) {
			t.Fatalf("%v %v\nwritten %x\nencoded %x", w.Version, p.typ, b, again)
		}
		if diff := cmp.Diff(w.Facts.sorted(), p.facts(), cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("%v %v %s:\n%s", w.Version, p.typ, w.Bytes, diff)
		}
		count[p.typ]++
	}
	for typ := mqtt.CONNECT; typ <= mqtt.AUTH; typ++ {
		if count[typ] < draws/100 {
			t.Errorf("only %d packets of type %v", count[typ], typ)
		}
	}
}

// dice draws packets that are legal by construction, without asking the codec,
// and that mqtt-packet can represent: it loses the second of two user
// properties of one name when the first has no value, and the order of the
// properties.
type dice struct{ *rand.Rand }

func (d *dice) coin() bool { return d.IntN(2) == 0 }

func pick[e any](d *dice, list ...e) e { return list[d.IntN(len(list))] }

func (d *dice) text(letters string, least int) string {
	runes := []rune(letters)
	var b strings.Builder
	for n := least + d.IntN(12); n > 0; n-- {
		b.WriteRune(runes[d.IntN(len(runes))])
	}
	return b.String()
}

func (d *dice) name() string  { return d.text("abz09 /$äß€\U0001F321\uFEFF\x01", 0) }
func (d *dice) topic() string { return d.text("ab//$ä€\U0001F321 ", 1) }
func (d *dice) id() uint16    { return uint16(1 + d.IntN(0xFFFF)) }
func (d *dice) qos() byte     { return byte(d.IntN(3)) }

func (d *dice) bytes(most int) []byte {
	b := make([]byte, d.IntN(most+1))
	for i := range b {
		b[i] = byte(d.Uint32())
	}
	return b
}

func (d *dice) filter() []byte {
	return []byte(pick(d, "#", "+", "a", "a/#", "+/b/+/#", "//", "$SYS/+", "$share/g/a/+", "ä/€", "$share/group/#"))
}

// properties draws some of the given ones, in any order.
func (d *dice) properties(v mqtt.Version, ids ...mqtt.PropertyID) (p mqtt.Properties) {
	if v != mqtt.V5 {
		return nil
	}
	d.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	for _, id := range ids {
		if d.coin() {
			continue
		}
		switch id {
		case mqtt.UserProperty:
			for n := d.IntN(3); n >= 0; n-- {
				p = p.AppendUser(pick(d, "same", "k"+d.name()), "v"+d.name())
			}
		case mqtt.PayloadFormat, mqtt.RequestProblemInfo, mqtt.RequestResponseInfo, mqtt.MaximumQoS, mqtt.RetainAvailable,
			mqtt.WildcardAvailable, mqtt.SubscriptionIDAvailable, mqtt.SharedAvailable:
			p = p.AppendUint(id, uint32(d.IntN(2)))
		case mqtt.ServerKeepAlive, mqtt.ReceiveMaximum, mqtt.TopicAliasMaximum, mqtt.TopicAlias:
			p = p.AppendUint(id, uint32(d.id()))
		case mqtt.MessageExpiry, mqtt.SessionExpiryInterval, mqtt.WillDelayInterval, mqtt.MaximumPacketSize:
			p = p.AppendUint(id, max(d.Uint32(), 1))
		case mqtt.SubscriptionIdentifier:
			for n := d.IntN(2); n >= 0; n-- {
				p = p.AppendUint(id, pick[uint32](d, 1, 127, 128, 16383, 16384, 2097151, 2097152, mqtt.MaximumLength))
			}
		case mqtt.ResponseTopic:
			p = p.AppendString(id, d.topic())
		case mqtt.CorrelationData, mqtt.AuthData:
			p = p.AppendString(id, string(d.bytes(40)))
		default:
			p = p.AppendString(id, d.name())
		}
	}
	return p
}

var (
	answer  = []mqtt.PropertyID{mqtt.ReasonString, mqtt.UserProperty}
	message = []mqtt.PropertyID{
		mqtt.PayloadFormat, mqtt.MessageExpiry, mqtt.ContentType, mqtt.ResponseTopic, mqtt.CorrelationData, mqtt.UserProperty,
	}
)

func with(ids []mqtt.PropertyID, more ...mqtt.PropertyID) []mqtt.PropertyID {
	return append(append([]mqtt.PropertyID(nil), ids...), more...)
}

func (d *dice) packet() *packet {
	v := pick(d, mqtt.V31, mqtt.V311, mqtt.V5)
	last := mqtt.DISCONNECT
	if v == mqtt.V5 {
		last = mqtt.AUTH
	}
	p := &packet{typ: mqtt.CONNECT + mqtt.Type(d.IntN(int(last))), version: v}
	five := v == mqtt.V5
	switch p.typ {
	case mqtt.CONNECT:
		d.connect(&p.connect, v)
	case mqtt.CONNACK:
		c := mqtt.Connack{Code: mqtt.ReasonCode(d.IntN(6))}
		if five {
			c.Code = pick[mqtt.ReasonCode](d, 0, 0x80, 0x87, 0x9F)
		}
		c.SessionPresent = c.Code == 0 && d.coin()
		c.Properties = d.properties(v, with(answer,
			mqtt.SessionExpiryInterval, mqtt.ReceiveMaximum, mqtt.MaximumQoS, mqtt.RetainAvailable, mqtt.MaximumPacketSize, mqtt.AssignedClientID,
			mqtt.TopicAliasMaximum, mqtt.WildcardAvailable, mqtt.SubscriptionIDAvailable, mqtt.SharedAvailable, mqtt.ServerKeepAlive,
			mqtt.ResponseInformation, mqtt.ServerReference, mqtt.AuthMethod, mqtt.AuthData)...)
		p.connack = c
	case mqtt.PUBLISH:
		q := mqtt.Publish{QoS: d.qos(), Retain: d.coin(), Topic: []byte(d.topic()), Payload: d.bytes(pick(d, 0, 20, 200, 20000))}
		if q.QoS > 0 {
			q.Dup, q.PacketID = d.coin(), d.id()
		}
		q.Properties = d.properties(v, with(message, mqtt.TopicAlias, mqtt.SubscriptionIdentifier)...)
		if q.Properties.Has(mqtt.TopicAlias) && d.coin() {
			q.Topic = nil
		}
		p.publish = q
	case mqtt.PUBACK, mqtt.PUBREC, mqtt.PUBREL, mqtt.PUBCOMP:
		p.ack = mqtt.Ack{PacketID: d.id()}
		if five {
			p.ack.Form, p.ack.Properties = byte(d.IntN(3)), d.properties(v, with(answer)...)
			p.ack.Code = pick[mqtt.ReasonCode](d, 0, 0x92)
			if p.typ == mqtt.PUBACK || p.typ == mqtt.PUBREC {
				p.ack.Code = pick[mqtt.ReasonCode](d, 0, 0x10, 0x80, 0x87, 0x99)
			}
		}
	case mqtt.SUBSCRIBE:
		p.subscribe = mqtt.Subscribe{PacketID: d.id(), Properties: d.properties(v, mqtt.UserProperty)}
		if five && d.coin() {
			p.subscribe.Properties = p.subscribe.Properties.AppendUint(mqtt.SubscriptionIdentifier, 1+d.Uint32N(mqtt.MaximumLength))
		}
		for n := d.IntN(5); n >= 0; n-- {
			f := mqtt.SubscribeFilter{Filter: d.filter(), QoS: d.qos()}
			if five {
				f.RetainAsPublished, f.RetainHandling = d.coin(), d.qos()
				f.NoLocal = !bytes.HasPrefix(f.Filter, []byte("$share/")) && d.coin()
			}
			p.subscribe.Filters = append(p.subscribe.Filters, f)
		}
	case mqtt.UNSUBSCRIBE:
		p.unsubscribe = mqtt.Unsubscribe{PacketID: d.id(), Properties: d.properties(v, mqtt.UserProperty)}
		for n := d.IntN(5); n >= 0; n-- {
			p.unsubscribe.Filters = append(p.unsubscribe.Filters, d.filter())
		}
	case mqtt.SUBACK, mqtt.UNSUBACK:
		p.suback = mqtt.Suback{PacketID: d.id(), Properties: d.properties(v, with(answer)...)}
		for n := d.IntN(9); n >= 0 && (five || p.typ == mqtt.SUBACK); n-- {
			code := pick[byte](d, 0, 1, 2, 0x80)
			if p.typ == mqtt.UNSUBACK {
				code = pick[byte](d, 0, 0x11, 0x87)
			}
			p.suback.Codes = append(p.suback.Codes, code)
		}
	case mqtt.DISCONNECT:
		if five {
			p.disconnect = mqtt.Disconnect{
				Code: pick[mqtt.ReasonCode](d, 0, 0x81, 0x98), Form: byte(d.IntN(3)),
				Properties: d.properties(v, with(answer, mqtt.ServerReference)...),
			}
		}
	case mqtt.AUTH:
		p.disconnect = mqtt.Disconnect{Code: mqtt.ContinueAuthentication, Properties: d.properties(v, with(answer, mqtt.AuthData)...)}
		p.disconnect.Properties = p.disconnect.Properties.AppendString(mqtt.AuthMethod, d.name())
	}
	return p
}

func (d *dice) connect(c *mqtt.Connect, v mqtt.Version) {
	*c = mqtt.Connect{Version: v, CleanStart: d.coin(), KeepAlive: uint16(d.Uint32()), ClientID: []byte(d.name())}
	c.Properties = d.properties(v, mqtt.SessionExpiryInterval, mqtt.ReceiveMaximum, mqtt.MaximumPacketSize, mqtt.TopicAliasMaximum,
		mqtt.RequestResponseInfo, mqtt.RequestProblemInfo, mqtt.UserProperty, mqtt.AuthMethod)
	if c.HasWill = d.coin(); c.HasWill {
		c.Will = mqtt.Will{QoS: d.qos(), Retain: d.coin(), Topic: []byte(d.topic()), Payload: d.bytes(60)}
		c.Will.Properties = d.properties(v, with(message, mqtt.WillDelayInterval)...)
	}
	if c.HasUsername = d.coin(); c.HasUsername {
		c.Username = []byte(d.name())
	}
	if c.HasPassword = (c.HasUsername || v == mqtt.V5) && d.coin(); c.HasPassword {
		c.Password = d.bytes(40)
	}
}
