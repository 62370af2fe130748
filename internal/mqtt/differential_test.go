package mqtt_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	paho5 "github.com/eclipse/paho.golang/packets"
	paho3 "github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/google/go-cmp/cmp"
	mochi "github.com/mochi-mqtt/server/v2/packets"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// facts are what any codec can say of a packet.
type facts struct {
	Type                                      mqtt.Type
	ID                                        uint16
	Code                                      byte
	Dup, Retain                               bool
	QoS                                       byte
	Topic, Payload                            string
	Filters                                   []string
	Codes                                     []byte
	Session                                   bool
	Level                                     byte
	Clean, HasWill, HasUser, HasPass, WRetain bool
	WillQoS                                   byte
	KeepAlive                                 uint16
	ClientID, User, Password, WTopic, WillMsg string
	Properties, WillProperties                []string // sorted by id
}

func properties(p mqtt.Properties) (list []string) {
	for {
		prop, rest, ok := p.Next()
		if !ok {
			break
		}
		list = append(list, fmt.Sprintf("%02x %d %q %q", byte(prop.ID), prop.Uint, prop.Data, prop.Value))
		p = rest
	}
	slices.SortStableFunc(list, func(a, b string) int { return strings.Compare(a[:2], b[:2]) })
	return list
}

func ourFacts(p view) facts {
	f := facts{Type: p.Header.Type}
	switch {
	case p.Connect != nil:
		c := p.Connect
		f.Level, f.Clean, f.KeepAlive, f.ClientID = byte(c.Version), c.CleanStart, c.KeepAlive, string(c.ClientID)
		f.HasWill, f.HasUser, f.HasPass = c.HasWill, c.HasUsername, c.HasPassword
		f.User, f.Password = string(c.Username), string(c.Password)
		f.WTopic, f.WillMsg, f.WillQoS, f.WRetain = string(c.Will.Topic), string(c.Will.Payload), c.Will.QoS, c.Will.Retain
		f.Properties, f.WillProperties = properties(c.Properties), properties(c.Will.Properties)
	case p.Connack != nil:
		f.Session, f.Code, f.Properties = p.Connack.SessionPresent, byte(p.Connack.Code), properties(p.Connack.Properties)
	case p.Publish != nil:
		q := p.Publish
		f.Dup, f.QoS, f.Retain, f.Topic, f.ID = q.Dup, q.QoS, q.Retain, string(q.Topic), q.PacketID
		f.Payload, f.Properties = string(q.Payload), properties(q.Properties)
	case p.Ack != nil:
		f.ID, f.Code, f.Properties = p.Ack.PacketID, byte(p.Ack.Code), properties(p.Ack.Properties)
	case p.Subscribe != nil:
		f.ID, f.Properties = p.Subscribe.PacketID, properties(p.Subscribe.Properties)
		for _, s := range p.Subscribe.Filters {
			f.Filters = append(f.Filters, filterFact(string(s.Filter), s.QoS, s.NoLocal, s.RetainAsPublished, s.RetainHandling))
		}
	case p.Unsubscribe != nil:
		f.ID, f.Properties = p.Unsubscribe.PacketID, properties(p.Unsubscribe.Properties)
		for _, s := range p.Unsubscribe.Filters {
			f.Filters = append(f.Filters, string(s))
		}
	case p.Suback != nil:
		f.ID, f.Codes, f.Properties = p.Suback.PacketID, append([]byte(nil), p.Suback.Codes...), properties(p.Suback.Properties)
	case p.Disconnect != nil:
		f.Code, f.Properties = byte(p.Disconnect.Code), properties(p.Disconnect.Properties)
	}
	return f
}

func filterFact(filter string, qos byte, noLocal, asPublished bool, handling byte) string {
	return fmt.Sprintf("%s qos=%d nl=%v rap=%v rh=%d", filter, qos, noLocal, asPublished, handling)
}

// other is another codec.
type other struct {
	name     string
	versions []mqtt.Version
	// decode reads one packet; accept without facts means that it cannot say.
	decode func(p testkit.Packet) (facts, []byte, error)

	// What it does otherwise than this package, each with the reason: differs
	// by the beginning of the name of a good packet that it refuses, misreads or
	// does not write back; accepts by the clause that a packet breaks which it
	// takes. The test fails on what is missing here and on what is too much.
	differs, accepts map[string]string
}

// because turns reasons with their clauses into clauses with their reason.
func because(groups map[string][]string) map[string]string {
	m := map[string]string{}
	for reason, clauses := range groups {
		for _, c := range clauses {
			m[c] = reason
		}
	}
	return m
}

// What all three leave to others, or let pass.
const (
	topics    = "topic names and filters are the server's to judge, or nobody's"
	values    = "the range of a property's value is not judged"
	longForms = "a variable byte integer may be longer than needed"
	direction = "a codec for both sides does not judge who sends what"
	lengths   = "the length of a type without a body is not judged, surplus bytes are skipped"
	texts     = "strings, or some of them, are taken as bytes"
	reasons   = "a reason code, or a flag, is taken as it is"
	willFlags = "will flags without a will are skipped"
	ids       = "packet identifier 0 is taken"
	twice     = "of a property that is there twice one is dropped"
	contents  = "what a packet must hold is not asked for"
)

func TestDifferential(t *testing.T) {
	for _, o := range []other{mochiCodec, paho5Codec, paho3Codec} {
		t.Run(o.name, func(t *testing.T) {
			seen := map[string]string{} // names and clauses that differ, with an example
			compared, exact := 0, 0
			for _, p := range testkit.Packets() {
				if !slices.Contains(o.versions, p.Version) {
					continue
				}
				theirs, encoded, err := o.decode(p)
				if p.Clause != "" && !p.Alone {
					if err == nil {
						seen[p.Clause] = p.Name
						if _, known := o.accepts[p.Clause]; !known {
							t.Errorf("%s: accepts what breaks %s: %.60x", p.Name, p.Clause, p.Bytes)
						}
					}
					continue
				}
				if p.Overlong {
					continue
				}
				ours, _ := parse(p.Bytes, p.Version, p.From)
				want := ourFacts(ours)
				known := ""
				for name := range o.differs {
					if strings.HasPrefix(p.Name, name) {
						known = name
					}
				}
				diff := ""
				switch {
				case err != nil:
					diff = "refuses: " + err.Error()
				default:
					plain := want
					plain.Properties, plain.WillProperties = nil, nil
					if diff = cmp.Diff(plain, theirs); diff != "" {
						break
					}
					again, err := parse(encoded, p.Version, p.From)
					if err != nil {
						diff = fmt.Sprintf("writes %.80x, which is refused: %v", encoded, err)
					} else {
						diff = cmp.Diff(want, ourFacts(again))
					}
				}
				if diff != "" {
					if seen[known] = p.Name; known == "" {
						t.Errorf("%s: %.60x\n%s", p.Name, p.Bytes, diff)
					}
					continue
				}
				compared++
				if bytes.Equal(encoded, p.Bytes) {
					exact++
				}
			}
			for name := range o.differs {
				if seen[name] == "" {
					t.Errorf("it no longer differs on %s: take that out of the table", name)
				}
			}
			for clause := range o.accepts {
				if seen[clause] == "" {
					t.Errorf("it no longer accepts what breaks %s: take that out of the table", clause)
				}
			}
			t.Logf("%d packets read alike, %d of them written back byte for byte", compared, exact)
			if compared < 100 {
				t.Errorf("only %d packets compared", compared)
			}
		})
	}
}

// recovered turns a panic of another codec into an error.
func recovered(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("panics: %v", r)
	}
}

var mochiCodec = other{
	name:     "mochi",
	versions: []mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5},
	differs: map[string]string{
		"connect/empty-user-and-password":       "a password of no bytes is refused; the standard allows it",
		"connect/empty-will":                    "a will of no bytes is refused; the standard allows it",
		"connect/property-22":                   "a Topic Alias Maximum of 0 is not written back",
		"connect/will/property-08":              "a Response Topic is written back only if the server's settings allow it",
		"connect/will/property-09":              "Correlation Data likewise",
		"connect/every-property":                "likewise",
		"connack/every-property":                "Response Information likewise",
		"publish/property-08":                   "Response Topic likewise",
		"publish/property-09":                   "Correlation Data likewise",
		"publish/every-property":                "likewise",
		"publish/property-0B":                   "PublishValidate judges what a client sends",
		"publish/several-subscription-ids":      "likewise",
		"publish/subscription-id-from-a-client": "likewise; here the session does that",
		"PUBACK/code-10":                        "a code below 0x80 is not written back",
		"PUBREC/code-10":                        "likewise",
		"PUBREC/code-95":                        "the standard does not list it; Mosquitto sends it",
		"PUBREL/dup":                            "DUP of 3.1 is refused",
		"subscribe/dup":                         "likewise",
		"unsubscribe/dup":                       "likewise",
		"disconnect/client-code-":               "a code without properties is not read",
		"disconnect/broker-code-":               "likewise",
		"auth/success-short":                    "an AUTH of no bytes is refused; the standard allows it",
	},
	accepts: because(map[string][]string{
		topics: {"MQTT-3.3.2-2", "MQTT-3.3.2-14", "MQTT-4.7.3-1", "MQTT-4.7.1-1", "MQTT-4.7.1-2", "MQTT-4.8.2-1", "MQTT-4.8.2-2", "MQTT-3.8.3-4"},
		values: {
			"MQTT 3.1.2.11.3", "MQTT 3.1.2.11.4", "MQTT 3.1.2.11.6", "MQTT 3.1.2.11.7", "MQTT 3.3.2.3.2", "MQTT 3.2.2.3.4",
			"MQTT 3.2.2.3.5", "MQTT 3.2.2.3.11", "MQTT 3.2.2.3.12", "MQTT 3.2.2.3.13", "MQTT 3.8.2.1.2",
		},
		longForms: {"MQTT-1.5.5-1"},
		direction: {"MQTT 2.1.2", "MQTT-3.14.2-2"},
		lengths:   {"MQTT 2.1.4", "MQTT-4.13.1-1"},
		texts:     {"MQTT-1.5.4-1", "MQTT-1.5.4-2"},
		reasons: {
			"MQTT-3.2.2-1", "MQTT-3.2.2-6", "MQTT-3.2.2-8", "MQTT-3.4.2-1", "MQTT-3.9.3-2", "MQTT-3.11.3-2", "MQTT-3.14.2-1",
			"MQTT-3.15.2-1", "MQTT 3.8.3.1", "MQTT-3.8.3-5",
		},
		willFlags: {"MQTT-3.1.2-11"},
		ids:       {"MQTT-2.2.1-3"},
		twice:     {"MQTT 2.2.2.2"},
		contents:  {"MQTT 3.1.1 MQTT-3.1.2-22", "MQTT 3.1.2.11.10", "MQTT 3.15.2.2.2"},
	}),
	decode: func(p testkit.Packet) (f facts, encoded []byte, err error) {
		defer recovered(&err)
		pk := &mochi.Packet{ProtocolVersion: byte(p.Version)}
		if err := pk.FixedHeader.Decode(p.Bytes[0]); err != nil {
			return f, nil, err
		}
		r := bytes.NewReader(p.Bytes[1:])
		n, _, err := mochi.DecodeLength(r)
		if err != nil {
			return f, nil, err
		}
		body := p.Bytes[len(p.Bytes)-r.Len():]
		if n > len(body) {
			return f, nil, errors.New("incomplete")
		}
		pk.FixedHeader.Remaining = n
		body = body[:n]
		var buf bytes.Buffer
		var code mochi.Code
		f.Type = mqtt.Type(pk.FixedHeader.Type)
		step := func(decode func([]byte) error, encode func(*bytes.Buffer) error, validate func() mochi.Code) {
			if err = decode(append([]byte(nil), body...)); err != nil {
				return
			}
			if validate != nil {
				if code = validate(); code != mochi.CodeSuccess {
					err = code
					return
				}
			}
			err = encode(&buf)
		}
		switch f.Type {
		case mqtt.CONNECT:
			step(pk.ConnectDecode, pk.ConnectEncode, pk.ConnectValidate)
			c := pk.Connect
			f.Level, f.Clean, f.KeepAlive, f.ClientID = pk.ProtocolVersion, c.Clean, c.Keepalive, c.ClientIdentifier
			f.HasWill, f.HasUser, f.HasPass = c.WillFlag, c.UsernameFlag, c.PasswordFlag
			f.User, f.Password = string(c.Username), string(c.Password)
			f.WTopic, f.WillMsg, f.WillQoS, f.WRetain = c.WillTopic, string(c.WillPayload), c.WillQos, c.WillRetain
		case mqtt.CONNACK:
			step(pk.ConnackDecode, pk.ConnackEncode, nil)
			f.Session, f.Code = pk.SessionPresent, pk.ReasonCode
		case mqtt.PUBLISH:
			step(pk.PublishDecode, pk.PublishEncode, func() mochi.Code { return pk.PublishValidate(65535) })
			f.Dup, f.QoS, f.Retain = pk.FixedHeader.Dup, pk.FixedHeader.Qos, pk.FixedHeader.Retain
			f.Topic, f.ID, f.Payload = pk.TopicName, pk.PacketID, string(pk.Payload)
		case mqtt.PUBACK, mqtt.PUBREC, mqtt.PUBREL, mqtt.PUBCOMP:
			d, e := pk.PubackDecode, pk.PubackEncode
			switch f.Type {
			case mqtt.PUBREC:
				d, e = pk.PubrecDecode, pk.PubrecEncode
			case mqtt.PUBREL:
				d, e = pk.PubrelDecode, pk.PubrelEncode
			case mqtt.PUBCOMP:
				d, e = pk.PubcompDecode, pk.PubcompEncode
			}
			step(d, e, func() mochi.Code {
				if !pk.ReasonCodeValid() && pk.ProtocolVersion == 5 {
					return mochi.ErrProtocolViolation
				}
				return mochi.CodeSuccess
			})
			f.ID, f.Code = pk.PacketID, pk.ReasonCode
		case mqtt.SUBSCRIBE:
			step(pk.SubscribeDecode, pk.SubscribeEncode, pk.SubscribeValidate)
			f.ID = pk.PacketID
			for _, s := range pk.Filters {
				f.Filters = append(f.Filters, filterFact(s.Filter, s.Qos, s.NoLocal, s.RetainAsPublished, s.RetainHandling))
			}
		case mqtt.UNSUBSCRIBE:
			step(pk.UnsubscribeDecode, pk.UnsubscribeEncode, pk.UnsubscribeValidate)
			f.ID = pk.PacketID
			for _, s := range pk.Filters {
				f.Filters = append(f.Filters, s.Filter)
			}
		case mqtt.SUBACK:
			step(pk.SubackDecode, pk.SubackEncode, nil)
			f.ID, f.Codes = pk.PacketID, pk.ReasonCodes
		case mqtt.UNSUBACK:
			step(pk.UnsubackDecode, pk.UnsubackEncode, nil)
			f.ID, f.Codes = pk.PacketID, pk.ReasonCodes
		case mqtt.PINGREQ:
			step(pk.PingreqDecode, pk.PingreqEncode, nil)
		case mqtt.PINGRESP:
			step(pk.PingrespDecode, pk.PingrespEncode, nil)
		case mqtt.DISCONNECT:
			step(pk.DisconnectDecode, pk.DisconnectEncode, nil)
			f.Code = pk.ReasonCode
		case mqtt.AUTH:
			step(pk.AuthDecode, pk.AuthEncode, pk.AuthValidate)
			f.Code = pk.ReasonCode
		default:
			err = errors.New("unknown type")
		}
		return f, buf.Bytes(), err
	},
}

var paho5Codec = other{
	name:     "paho.golang",
	versions: []mqtt.Version{mqtt.V5},
	differs: map[string]string{
		"connect/will/property-01":         "of the will's properties only the delay and user properties are written back",
		"connect/will/property-02":         "likewise",
		"connect/will/property-03":         "likewise",
		"connect/will/property-08":         "likewise",
		"connect/will/property-09":         "likewise",
		"connect/every-property":           "likewise",
		"publish/several-subscription-ids": "one is kept",
		"disconnect/client/":               "a DISCONNECT of no bytes is not read; the standard allows it",
		"disconnect/broker/":               "likewise",
		"auth/success-short":               "written back with an empty property section, so without a method",
	},
	accepts: because(map[string][]string{
		topics: {
			"MQTT-3.3.2-2", "MQTT-3.3.2-14", "MQTT-4.7.3-1", "MQTT-4.7.1-1", "MQTT-4.7.1-2", "MQTT-4.8.2-1", "MQTT-4.8.2-2",
			"MQTT-3.8.3-4", "MQTT 3.3.2.1",
		},
		values: {
			"MQTT 3.1.2.11.3", "MQTT 3.1.2.11.4", "MQTT 3.1.2.11.6", "MQTT 3.1.2.11.7", "MQTT 3.3.2.3.2", "MQTT 3.2.2.3.4",
			"MQTT 3.2.2.3.5", "MQTT 3.2.2.3.11", "MQTT 3.2.2.3.12", "MQTT 3.2.2.3.13", "MQTT 3.8.2.1.2", "MQTT-3.3.2-8",
		},
		longForms: {"MQTT-1.5.5-1"},
		direction: {"MQTT 2.1.2", "MQTT-3.14.2-2"},
		lengths:   {"MQTT 2.1.4", "MQTT-4.13.1-1"},
		texts:     {"MQTT-1.5.4-1", "MQTT-1.5.4-2"},
		reasons: {
			"MQTT-2.1.3-1", "MQTT-3.1.2-3", "MQTT-3.1.2-12", "MQTT-3.2.2-1", "MQTT-3.2.2-6", "MQTT-3.2.2-8", "MQTT-3.3.1-2",
			"MQTT-3.3.1-4", "MQTT-3.4.2-1", "MQTT-3.5.2-1", "MQTT-3.6.2-1", "MQTT-3.7.2-1", "MQTT-3.9.3-2", "MQTT-3.11.3-2",
			"MQTT-3.14.2-1", "MQTT-3.15.2-1", "MQTT 3.8.3.1", "MQTT-3.8.3-5",
		},
		"the version is the caller's to judge": {"MQTT-3.1.2-2"},
		willFlags:                              {"MQTT-3.1.2-11", "MQTT-3.1.2-13"},
		ids:                                    {"MQTT-2.2.1-3"},
		twice:                                  {"MQTT 2.2.2.2"},
		contents:                               {"MQTT 3.1.2.11.10", "MQTT 3.15.2.2.2", "MQTT-3.8.3-2", "MQTT-3.10.3-2"},
	}),
	decode: func(p testkit.Packet) (f facts, encoded []byte, err error) {
		defer recovered(&err)
		if p.Clause == "MQTT 1.5.5" && len(p.Bytes) < 8 {
			return f, nil, errors.New("it allocates as much as five bytes of length promise")
		}
		cp, err := paho5.ReadPacket(bytes.NewReader(p.Bytes))
		if err != nil {
			return f, nil, err
		}
		f.Type = mqtt.Type(cp.Type)
		switch c := cp.Content.(type) {
		case *paho5.Connect:
			f.Level, f.Clean, f.KeepAlive, f.ClientID = c.ProtocolVersion, c.CleanStart, c.KeepAlive, c.ClientID
			f.HasWill, f.HasUser, f.HasPass = c.WillFlag, c.UsernameFlag, c.PasswordFlag
			f.User, f.Password = c.Username, string(c.Password)
			f.WTopic, f.WillMsg, f.WillQoS, f.WRetain = c.WillTopic, string(c.WillMessage), c.WillQOS, c.WillRetain
		case *paho5.Connack:
			f.Session, f.Code = c.SessionPresent, c.ReasonCode
		case *paho5.Publish:
			f.Dup, f.QoS, f.Retain, f.Topic, f.ID, f.Payload = c.Duplicate, c.QoS, c.Retain, c.Topic, c.PacketID, string(c.Payload)
		case *paho5.Puback:
			f.ID, f.Code = c.PacketID, c.ReasonCode
		case *paho5.Pubrec:
			f.ID, f.Code = c.PacketID, c.ReasonCode
		case *paho5.Pubrel:
			f.ID, f.Code = c.PacketID, c.ReasonCode
		case *paho5.Pubcomp:
			f.ID, f.Code = c.PacketID, c.ReasonCode
		case *paho5.Subscribe:
			f.ID = c.PacketID
			for _, s := range c.Subscriptions {
				f.Filters = append(f.Filters, filterFact(s.Topic, s.QoS, s.NoLocal, s.RetainAsPublished, s.RetainHandling))
			}
		case *paho5.Unsubscribe:
			f.ID, f.Filters = c.PacketID, c.Topics
		case *paho5.Suback:
			f.ID, f.Codes = c.PacketID, c.Reasons
		case *paho5.Unsuback:
			f.ID, f.Codes = c.PacketID, c.Reasons
		case *paho5.Disconnect:
			f.Code = c.ReasonCode
		case *paho5.Auth:
			f.Code = c.ReasonCode
		}
		var buf bytes.Buffer
		_, err = cp.WriteTo(&buf)
		return f, buf.Bytes(), err
	},
}

var paho3Codec = other{
	name:     "paho.mqtt.golang",
	versions: []mqtt.Version{mqtt.V31, mqtt.V311},
	accepts: because(map[string][]string{
		topics:    {"MQTT-3.3.2-2", "MQTT-4.7.3-1", "MQTT-4.7.1-1", "MQTT-4.7.1-2", "MQTT-4.8.2-1", "MQTT-4.8.2-2"},
		direction: {"MQTT 2.1.2"},
		lengths:   {"MQTT 2.1.4", "MQTT-4.13.1-1"},
		texts:     {"MQTT-1.5.4-1", "MQTT-1.5.4-2"},
		reasons: {
			"MQTT-2.1.3-1", "MQTT-3.1.2-12", "MQTT-3.2.2-1", "MQTT-3.2.2-6", "MQTT-3.2.2-8", "MQTT-3.3.1-2", "MQTT-3.3.1-4",
			"MQTT-3.8.3-5", "MQTT-3.9.3-2",
		},
		willFlags: {"MQTT-3.1.2-11", "MQTT-3.1.2-13"},
		ids:       {"MQTT-2.2.1-3"},
		contents:  {"MQTT-3.8.3-2", "MQTT-3.10.3-2"},
	}),
	decode: func(p testkit.Packet) (f facts, encoded []byte, err error) {
		defer recovered(&err)
		cp, err := paho3.ReadPacket(bytes.NewReader(p.Bytes))
		if err != nil {
			return f, nil, err
		}
		f.Type = p.Type()
		switch c := cp.(type) {
		case *paho3.ConnectPacket:
			if code := c.Validate(); code != paho3.Accepted {
				return f, nil, paho3.ConnErrors[code]
			}
			f.Level, f.Clean, f.KeepAlive, f.ClientID = c.ProtocolVersion, c.CleanSession, c.Keepalive, c.ClientIdentifier
			f.HasWill, f.HasUser, f.HasPass = c.WillFlag, c.UsernameFlag, c.PasswordFlag
			f.User, f.Password = c.Username, string(c.Password)
			f.WTopic, f.WillMsg, f.WillQoS, f.WRetain = c.WillTopic, string(c.WillMessage), c.WillQos, c.WillRetain
		case *paho3.ConnackPacket:
			f.Session, f.Code = c.SessionPresent, c.ReturnCode
		case *paho3.PublishPacket:
			f.Dup, f.QoS, f.Retain, f.Topic, f.ID, f.Payload = c.Dup, c.Qos, c.Retain, c.TopicName, c.MessageID, string(c.Payload)
		case *paho3.PubackPacket:
			f.ID = c.MessageID
		case *paho3.PubrecPacket:
			f.ID = c.MessageID
		case *paho3.PubrelPacket:
			f.ID = c.MessageID
		case *paho3.PubcompPacket:
			f.ID = c.MessageID
		case *paho3.SubscribePacket:
			f.ID = c.MessageID
			for i, s := range c.Topics {
				f.Filters = append(f.Filters, filterFact(s, c.Qoss[i], false, false, 0))
			}
		case *paho3.UnsubscribePacket:
			f.ID, f.Filters = c.MessageID, c.Topics
		case *paho3.SubackPacket:
			f.ID, f.Codes = c.MessageID, c.ReturnCodes
		case *paho3.UnsubackPacket:
			f.ID = c.MessageID
		}
		var buf bytes.Buffer
		err = cp.Write(&buf)
		return f, buf.Bytes(), err
	},
}
