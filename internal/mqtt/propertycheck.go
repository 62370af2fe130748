package mqtt

import "encoding/binary"

type propertyKind uint8

const (
	kindNone propertyKind = iota // no such property
	kindByte
	kindUint16
	kindUint32
	kindVarint
	kindString
	kindBinary
	kindPair
)

// will stands for the will properties of CONNECT in propertyTable: type 0 is no
// packet's.
const will Type = 0

func in(types ...Type) (set uint16) {
	for _, t := range types {
		set |= 1 << t
	}
	return set
}

var (
	acks    = in(PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK)
	answers = acks | in(CONNACK, DISCONNECT, AUTH)
)

// propertyTable is section 2.2.2.2: the type of each property and the packets
// that may hold it.
var propertyTable = [SharedAvailable + 1]struct {
	kind propertyKind
	in   uint16 // a bit for each Type
}{
	PayloadFormat:           {kindByte, in(PUBLISH, will)},
	MessageExpiry:           {kindUint32, in(PUBLISH, will)},
	ContentType:             {kindString, in(PUBLISH, will)},
	ResponseTopic:           {kindString, in(PUBLISH, will)},
	CorrelationData:         {kindBinary, in(PUBLISH, will)},
	SubscriptionIdentifier:  {kindVarint, in(PUBLISH, SUBSCRIBE)},
	SessionExpiryInterval:   {kindUint32, in(CONNECT, CONNACK, DISCONNECT)},
	AssignedClientID:        {kindString, in(CONNACK)},
	ServerKeepAlive:         {kindUint16, in(CONNACK)},
	AuthMethod:              {kindString, in(CONNECT, CONNACK, AUTH)},
	AuthData:                {kindBinary, in(CONNECT, CONNACK, AUTH)},
	RequestProblemInfo:      {kindByte, in(CONNECT)},
	WillDelayInterval:       {kindUint32, in(will)},
	RequestResponseInfo:     {kindByte, in(CONNECT)},
	ResponseInformation:     {kindString, in(CONNACK)},
	ServerReference:         {kindString, in(CONNACK, DISCONNECT)},
	ReasonString:            {kindString, answers},
	ReceiveMaximum:          {kindUint16, in(CONNECT, CONNACK)},
	TopicAliasMaximum:       {kindUint16, in(CONNECT, CONNACK)},
	TopicAlias:              {kindUint16, in(PUBLISH)},
	MaximumQoS:              {kindByte, in(CONNACK)},
	RetainAvailable:         {kindByte, in(CONNACK)},
	UserProperty:            {kindPair, answers | in(CONNECT, PUBLISH, SUBSCRIBE, UNSUBSCRIBE, will)},
	MaximumPacketSize:       {kindUint32, in(CONNECT, CONNACK)},
	WildcardAvailable:       {kindByte, in(CONNACK)},
	SubscriptionIDAvailable: {kindByte, in(CONNACK)},
	SharedAvailable:         {kindByte, in(CONNACK)},
}

func kindOf(id PropertyID) propertyKind {
	if int(id) >= len(propertyTable) {
		return kindNone
	}
	return propertyTable[id].kind
}

// propertySet is what a property section holds.
type propertySet struct {
	seen  uint64 // a bit for each id
	users int    // user properties
}

func (s propertySet) has(id PropertyID) bool { return s.seen&(1<<id) != 0 }

// propertiesAt reads and checks the property section at body[i:] of a packet,
// or of its will. It returns where the next field starts.
func propertiesAt(body []byte, i int, t Type) (p Properties, set propertySet, next int, err error) {
	if i < len(body) && body[i] == 0 {
		return nil, set, i + 1, nil
	}
	n, size, ok := varint(body[i:])
	switch {
	case !ok:
		return nil, set, i, malformed(clauseVarint, i, "property length of more than four bytes")
	case size == 0:
		return nil, set, i, cut(i, "property section")
	case size != varintLen(n): // [MQTT-1.5.5-1]
		return nil, set, i, malformed(clauseMinimal, i, "property length is not in its shortest form")
	case n > len(body)-i-size:
		return nil, set, i, cut(i, "property section")
	}
	i += size
	next = i + n
	p = body[i:next:next]
	set, err = p.check(i, t)
	return p, set, next, err
}

// check validates p, which starts at the given offset of the body.
func (p Properties) check(offset int, t Type) (set propertySet, err error) {
	for i := 0; i < len(p); {
		at := offset + i
		id := PropertyID(p[i])
		kind := kindOf(id)
		// An id is a variable byte integer, but all that exist take one byte.
		if kind == kindNone {
			return set, malformed(clauseProperties, at, "unknown property")
		}
		if propertyTable[id].in&(1<<t) == 0 {
			return set, malformed(clauseProperties, at, "property is not allowed in this packet")
		}
		if id == UserProperty {
			set.users++
		} else if set.has(id) && (id != SubscriptionIdentifier || t != PUBLISH) {
			return set, protocolError(clauseProperties, at, "property is there twice")
		}
		set.seen |= 1 << id
		i++
		var num uint32
		var data []byte
		ok := true
		switch kind {
		case kindByte:
			if ok = len(p)-i >= 1; ok {
				num, i = uint32(p[i]), i+1
			}
		case kindUint16:
			if ok = len(p)-i >= 2; ok {
				num, i = uint32(uint16At(p, i)), i+2
			}
		case kindUint32:
			if ok = len(p)-i >= 4; ok {
				num, i = binary.BigEndian.Uint32(p[i:]), i+4
			}
		case kindVarint:
			n, size, _ := varint(p[i:])
			if ok = size > 0; ok {
				if size != varintLen(n) { // [MQTT-1.5.5-1]
					return set, malformed(clauseMinimal, at, "number is not in its shortest form")
				}
				num, i = uint32(n), i+size
			}
		case kindBinary:
			_, i, ok = dataAt(p, i)
		case kindString:
			if data, i, ok = dataAt(p, i); ok && !validString(data) {
				return set, badString(data, at, "property")
			}
		case kindPair: // [MQTT-1.5.7-1]
			for range 2 {
				if data, i, ok = dataAt(p, i); !ok {
					break
				}
				if !validString(data) {
					return set, badString(data, at, "user property")
				}
			}
		}
		if !ok {
			return set, malformed(clauseBroken, at, "property reaches over the end of its section")
		}
		if err := checkValue(id, num, data, at); err != nil {
			return set, err
		}
	}
	return set, nil
}

// checkValue judges what a value may be beyond its type.
func checkValue(id PropertyID, num uint32, data []byte, at int) error {
	switch id {
	case PayloadFormat, RequestProblemInfo, RequestResponseInfo, MaximumQoS, RetainAvailable,
		WildcardAvailable, SubscriptionIDAvailable, SharedAvailable:
		if num > 1 {
			return protocolError(sectionOf(id), at, "property is neither 0 nor 1")
		}
	case ReceiveMaximum, MaximumPacketSize, SubscriptionIdentifier:
		if num == 0 {
			return protocolError(sectionOf(id), at, "property is 0")
		}
	case TopicAlias:
		if num == 0 { // [MQTT-3.3.2-8]
			return &Error{Code: TopicAliasInvalid, Clause: "MQTT-3.3.2-8", Offset: at, Text: "topic alias 0"}
		}
	case ResponseTopic: // [MQTT-3.3.2-14] for wildcards
		return checkTopicName(data, at, "response topic", "MQTT-3.3.2-14")
	}
	return nil
}

// sectionOf names the section that limits the value of a property.
func sectionOf(id PropertyID) string {
	switch id {
	case PayloadFormat:
		return "MQTT 3.3.2.3.2"
	case RequestProblemInfo:
		return "MQTT 3.1.2.11.7"
	case RequestResponseInfo:
		return "MQTT 3.1.2.11.6"
	case MaximumQoS:
		return "MQTT 3.2.2.3.4"
	case RetainAvailable:
		return "MQTT 3.2.2.3.5"
	case WildcardAvailable:
		return "MQTT 3.2.2.3.11"
	case SubscriptionIDAvailable:
		return "MQTT 3.2.2.3.12"
	case SharedAvailable:
		return "MQTT 3.2.2.3.13"
	case ReceiveMaximum:
		return "MQTT 3.1.2.11.3"
	case MaximumPacketSize:
		return "MQTT 3.1.2.11.4"
	case SubscriptionIdentifier:
		return "MQTT 3.8.2.1.2"
	}
	return clauseProperties
}
