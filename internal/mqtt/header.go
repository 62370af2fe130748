package mqtt

// MaximumLength is the largest Remaining Length that four bytes can say.
const MaximumLength = 268_435_455

// Header is a fixed header.
type Header struct {
	Type     Type
	Flags    byte // low four bits of the first byte
	Len      int  // bytes of the fixed header itself
	Length   int  // Remaining Length
	Overlong bool // Remaining Length not in its shortest form; never with V5
}

// Size is the whole packet in bytes.
func (h Header) Size() int { return h.Len + h.Length }

// Append encodes h with the shortest form of its Remaining Length.
func (h Header) Append(dst []byte) []byte { return appendHeader(dst, h.Type, h.Flags, h.Length) }

// ParseHeader reads the fixed header at the start of b. v is 0 before CONNECT
// is parsed. What can be refused with the bytes present is refused at once: a
// type that this side never sends, reserved flags, QoS 3, a length that this
// type cannot have. One byte is enough to refuse a wrong first byte.
//
// It says nothing about the order of packets: a PUBLISH before CONNECT is the
// session's to refuse.
func ParseHeader(b []byte, v Version, from Side) (Header, error) {
	if len(b) == 0 {
		return Header{}, ErrIncomplete
	}
	h := Header{Type: Type(b[0] >> 4), Flags: b[0] & 0x0F}
	if h.Type == PUBLISH {
		if qos := h.Flags & 0x06; qos == 0x06 { // [MQTT-3.3.1-4]
			return Header{}, malformed("MQTT-3.3.1-4", -1, "QoS 3")
		} else if qos == 0 && h.Flags&0x08 != 0 { // [MQTT-3.3.1-2]
			return Header{}, malformed("MQTT-3.3.1-2", -1, "DUP with QoS 0")
		}
	} else if err := checkFirst(h.Type, h.Flags, v, from); err != nil {
		return Header{}, err
	}
	if len(b) >= 2 && b[1] < 0x80 {
		h.Len, h.Length = 2, int(b[1])
	} else {
		n, size, ok := varint(b[1:])
		if size == 0 {
			if !ok {
				return Header{}, malformed(clauseVarint, -1, "remaining length of more than four bytes")
			}
			return Header{}, ErrIncomplete
		}
		h.Len, h.Length = 1+size, n
		if size != varintLen(n) {
			// 3.x does not ask for the shortest form, 5.0 does.
			if v == V5 { // [MQTT-1.5.5-1]
				return Header{}, malformed(clauseMinimal, -1, "remaining length is not in its shortest form")
			}
			h.Overlong = true
		}
	}
	if lo, hi := lengthBounds(h.Type, h.Flags, v, from); h.Length < lo || h.Length > hi {
		return Header{}, malformed(clauseLength, -1, "remaining length is impossible for "+h.Type.String())
	}
	return h, nil
}

// checkFirst judges the first byte of everything but PUBLISH.
func checkFirst(t Type, flags byte, v Version, from Side) error {
	const (
		toBroker = 1<<CONNECT | 1<<SUBSCRIBE | 1<<UNSUBSCRIBE | 1<<PINGREQ
		toClient = 1<<CONNACK | 1<<SUBACK | 1<<UNSUBACK | 1<<PINGRESP
	)
	switch bit := 1 << t; {
	case t == 0, t == AUTH && v != V5:
		return malformed(clauseDirection, -1, "reserved packet type")
	case from == Client && bit&toClient != 0,
		from == Broker && bit&toBroker != 0,
		from == Broker && t == DISCONNECT && v != V5:
		return protocolError(clauseDirection, -1, "the "+from.String()+" never sends "+t.String())
	}
	want := byte(0)
	if t == PUBREL || t == SUBSCRIBE || t == UNSUBSCRIBE {
		want = 0x02
		// MQTT 3.1 gives these three a DUP flag (section 2.1) and its clients
		// set it when they repeat one; the views keep it.
		if v == V31 {
			flags &^= 0x08
		}
	}
	if flags != want { // [MQTT-2.1.3-1]
		return malformed("MQTT-2.1.3-1", -1, "reserved flags of "+t.String())
	}
	return nil
}

// lengthBounds returns what a Remaining Length can be, given the type's fixed
// fields. What is missing from a payload is for Parse to say, which knows the
// clause.
func lengthBounds(t Type, flags byte, v Version, from Side) (lo, hi int) {
	five := 0 // one byte of property length
	if v == V5 {
		five = 1
	}
	switch t {
	case PUBLISH:
		if from == Broker {
			// The framing is sound: what is in it can be discarded, which a
			// retained message that is too short must be, not closed on.
			return 0, MaximumLength
		}
		lo = 2 + five
		if flags&0x06 != 0 {
			lo += 2
		}
		return lo, MaximumLength
	case PUBACK, PUBREC, PUBREL, PUBCOMP:
		if v == V31 || v == V311 {
			return 2, 2
		}
		return 2, MaximumLength
	case CONNECT:
		return 3, MaximumLength // a name, empty at worst, and a level
	case CONNACK:
		if v == V31 || v == V311 {
			return 2, 2
		}
		return 2 + five, MaximumLength
	case UNSUBACK:
		if v == V31 || v == V311 {
			return 2, 2
		}
		return 2 + five, MaximumLength
	case SUBSCRIBE, UNSUBSCRIBE, SUBACK:
		return 2 + five, MaximumLength
	case DISCONNECT:
		if v == V31 || v == V311 {
			return 0, 0
		}
		return 0, MaximumLength
	case AUTH:
		return 0, MaximumLength
	}
	return 0, 0 // PINGREQ, PINGRESP
}

// AppendPing encodes PINGREQ or PINGRESP.
func AppendPing(dst []byte, t Type) []byte { return append(dst, byte(t)<<4, 0) }

// appendHeader encodes a fixed header for a body of n bytes. A body that no
// Remaining Length can say is a bug of the caller.
func appendHeader(dst []byte, t Type, flags byte, n int) []byte {
	if n > MaximumLength {
		panic("mqtt: packet of more than 268,435,455 bytes")
	}
	return appendVarint(append(dst, byte(t)<<4|flags), n)
}
