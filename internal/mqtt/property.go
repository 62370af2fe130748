package mqtt

import (
	"encoding/binary"
	"slices"
)

// Properties is the property section of a 5.0 packet without its length,
// already validated: each id is legal for the packet, single ones occur once,
// values are in range. Nil and empty are equal.
type Properties []byte

// PropertyID is a property identifier.
type PropertyID byte

// The properties of MQTT 5.0, section 2.2.2.2.
const (
	PayloadFormat           PropertyID = 0x01
	MessageExpiry           PropertyID = 0x02
	ContentType             PropertyID = 0x03
	ResponseTopic           PropertyID = 0x08
	CorrelationData         PropertyID = 0x09
	SubscriptionIdentifier  PropertyID = 0x0B
	SessionExpiryInterval   PropertyID = 0x11
	AssignedClientID        PropertyID = 0x12
	ServerKeepAlive         PropertyID = 0x13
	AuthMethod              PropertyID = 0x15
	AuthData                PropertyID = 0x16
	RequestProblemInfo      PropertyID = 0x17
	WillDelayInterval       PropertyID = 0x18
	RequestResponseInfo     PropertyID = 0x19
	ResponseInformation     PropertyID = 0x1A
	ServerReference         PropertyID = 0x1C
	ReasonString            PropertyID = 0x1F
	ReceiveMaximum          PropertyID = 0x21
	TopicAliasMaximum       PropertyID = 0x22
	TopicAlias              PropertyID = 0x23
	MaximumQoS              PropertyID = 0x24
	RetainAvailable         PropertyID = 0x25
	UserProperty            PropertyID = 0x26
	MaximumPacketSize       PropertyID = 0x27
	WildcardAvailable       PropertyID = 0x28
	SubscriptionIDAvailable PropertyID = 0x29
	SharedAvailable         PropertyID = 0x2A
)

// Property is one property. Uint holds a number of any width, Data a string or
// binary, Value the second string of a user property.
type Property struct {
	ID    PropertyID
	Uint  uint32
	Data  []byte
	Value []byte
}

// Next returns the first property of p and what follows it; ok is false at the
// end, and where p is not what a Parse or an Append of this package made.
func (p Properties) Next() (prop Property, rest Properties, ok bool) {
	if len(p) < 2 || p[0] >= byte(len(propertyTable)) {
		return Property{}, nil, false
	}
	prop.ID = PropertyID(p[0])
	b := p[1:]
	switch propertyTable[prop.ID].kind {
	case kindByte:
		prop.Uint, rest = uint32(b[0]), b[1:]
	case kindUint16:
		if len(b) < 2 {
			return Property{}, nil, false
		}
		prop.Uint, rest = uint32(uint16At(b, 0)), b[2:]
	case kindUint32:
		if len(b) < 4 {
			return Property{}, nil, false
		}
		prop.Uint, rest = binary.BigEndian.Uint32(b), b[4:]
	case kindVarint:
		n, size, _ := varint(b)
		if size == 0 {
			return Property{}, nil, false
		}
		prop.Uint, rest = uint32(n), b[size:]
	case kindString, kindBinary, kindPair:
		data, next, ok := dataAt(b, 0)
		if !ok {
			return Property{}, nil, false
		}
		prop.Data = data
		if propertyTable[prop.ID].kind == kindPair {
			if prop.Value, next, ok = dataAt(b, next); !ok {
				return Property{}, nil, false
			}
		}
		rest = b[next:]
	default:
		return Property{}, nil, false
	}
	return prop, rest, true
}

// Get returns the first property of the given id.
func (p Properties) Get(id PropertyID) (Property, bool) {
	for {
		prop, rest, ok := p.Next()
		if !ok || prop.ID == id {
			return prop, ok
		}
		p = rest
	}
}

// Has reports whether p holds id.
func (p Properties) Has(id PropertyID) bool {
	_, ok := p.Get(id)
	return ok
}

// AppendWithout appends p to dst, leaving out every property of the given ids.
func (p Properties) AppendWithout(dst Properties, ids ...PropertyID) Properties {
	for {
		prop, rest, ok := p.Next()
		if !ok {
			return dst
		}
		if !slices.Contains(ids, prop.ID) {
			dst = append(dst, p[:len(p)-len(rest)]...)
		}
		p = rest
	}
}

// AppendUint appends a numeric property in the width of its id. An id that is
// not a number and a value beyond its width are bugs of the caller, and panic.
func (p Properties) AppendUint(id PropertyID, v uint32) Properties {
	limit := uint32(0)
	p = append(p, byte(id))
	switch kindOf(id) {
	case kindByte:
		limit, p = 0xFF, append(p, byte(v))
	case kindUint16:
		limit, p = 0xFFFF, appendUint16(p, uint16(v))
	case kindUint32:
		limit, p = 0xFFFFFFFF, binary.BigEndian.AppendUint32(p, v)
	case kindVarint:
		limit, p = MaximumLength, appendVarint(p, int(v))
	default:
		panic("mqtt: property is not a number")
	}
	if v > limit {
		panic("mqtt: value beyond the width of its property")
	}
	return p
}

// AppendString appends a string or binary property of at most 65,535 bytes. An
// id of another kind and a longer one are bugs of the caller, and panic.
func (p Properties) AppendString(id PropertyID, s string) Properties {
	if k := kindOf(id); k != kindString && k != kindBinary {
		panic("mqtt: property is not a string")
	}
	return appendText(append(p, byte(id)), s)
}

// AppendUser appends a user property; each string is at most 65,535 bytes.
func (p Properties) AppendUser(name, value string) Properties {
	return appendText(appendText(append(p, byte(UserProperty)), name), value)
}

func appendText(dst []byte, s string) []byte {
	if len(s) > 0xFFFF {
		panic("mqtt: string of more than 65,535 bytes")
	}
	return append(appendUint16(dst, uint16(len(s))), s...)
}

// sectionLen is how many bytes p takes with its length.
func (p Properties) sectionLen() int { return varintLen(len(p)) + len(p) }

// appendSection encodes p with its length.
func (p Properties) appendSection(dst []byte) []byte {
	return append(appendVarint(dst, len(p)), p...)
}
