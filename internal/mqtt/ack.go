package mqtt

// Ack is a view of PUBACK, PUBREC, PUBREL, PUBCOMP.
type Ack struct {
	PacketID   uint16
	Code       ReasonCode
	Properties Properties
	// Form says how much of the tail was there: 0 none, 1 code, 2 code and
	// property length. 3.x: always 0. Append takes it as the least: a code that
	// is not Success and properties are always encoded.
	Form byte
	Dup  bool // PUBREL of 3.1 only, which repeats it with this flag
}

// Sections 3.4.2.1, 3.5.2.1; 3.6.2.1, 3.7.2.1. PacketTooLarge is not listed, but
// Mosquitto 2.0 answers a PUBLISH above its message_size_limit with it: refused,
// the connection would end and the client send the same message again for ever.
var (
	receivedCodes = codes(Success, NoMatchingSubscribers, UnspecifiedError, ImplementationSpecific, NotAuthorized,
		TopicNameInvalid, PacketIDInUse, QuotaExceeded, PayloadFormatInvalid, PacketTooLarge)
	releasedCodes = codes(Success, PacketIDNotFound)
)

// Parse reads PUBACK, PUBREC, PUBREL or PUBCOMP; body is exactly h.Length
// bytes.
func (a *Ack) Parse(h Header, v Version, body []byte) error {
	if err := checkLength(h, body); err != nil {
		return err
	}
	*a = Ack{Dup: h.Flags&0x08 != 0}
	if len(body) < 2 {
		return cut(0, "packet identifier")
	}
	if a.PacketID = uint16At(body, 0); a.PacketID == 0 {
		return malformed(clausePacketID, 0, "packet identifier 0")
	}
	if len(body) == 2 {
		return nil
	}
	if v != V5 {
		return surplus(2)
	}
	a.Code = ReasonCode(body[2])
	legal, clause := &receivedCodes, "MQTT-3.4.2-1"
	switch h.Type {
	case PUBREC:
		clause = "MQTT-3.5.2-1"
	case PUBREL:
		legal, clause = &releasedCodes, "MQTT-3.6.2-1"
	case PUBCOMP:
		legal, clause = &releasedCodes, "MQTT-3.7.2-1"
	}
	if !legal.has(a.Code) { // [MQTT-3.4.2-1] [MQTT-3.5.2-1] [MQTT-3.6.2-1] [MQTT-3.7.2-1]
		return protocolError(clause, 2, "not a reason code of "+h.Type.String())
	}
	var err error
	a.Form, a.Properties, _, err = parseTail(body, 3, h.Type)
	return err
}

// Append encodes a as a packet of type t.
func (a *Ack) Append(dst []byte, t Type, v Version) []byte {
	flags := byte(0)
	if t == PUBREL {
		flags = 0x02
		if a.Dup && v == V31 {
			flags |= 0x08
		}
	}
	if v != V5 {
		return appendUint16(appendHeader(dst, t, flags, 2), a.PacketID)
	}
	form := tailForm(a.Form, a.Code, a.Properties)
	dst = appendUint16(appendHeader(dst, t, flags, 2+tailLen(form, a.Properties)), a.PacketID)
	return appendTail(dst, form, a.Code, a.Properties)
}

// The tail of an acknowledgement, of DISCONNECT and of AUTH: nothing, a code,
// or a code and properties.
const (
	formNone byte = iota
	formCode
	formProperties
)

// parseTail reads what follows a code, up to the end of the body.
func parseTail(body []byte, i int, t Type) (form byte, p Properties, set propertySet, err error) {
	if i == len(body) {
		return formCode, nil, set, nil
	}
	if p, set, i, err = propertiesAt(body, i, t); err != nil {
		return formProperties, nil, set, err
	}
	if i != len(body) {
		return formProperties, nil, set, surplus(i)
	}
	return formProperties, p, set, nil
}

// tailForm is the form that holds code and properties, at least the wanted one.
func tailForm(want byte, code ReasonCode, p Properties) byte {
	switch {
	case len(p) > 0:
		return formProperties
	case code != Success:
		return max(want, formCode)
	}
	return want
}

func tailLen(form byte, p Properties) int {
	if form < formProperties {
		return int(form)
	}
	return 1 + p.sectionLen()
}

func appendTail(dst []byte, form byte, code ReasonCode, p Properties) []byte {
	if form >= formCode {
		dst = append(dst, byte(code))
	}
	if form >= formProperties {
		dst = p.appendSection(dst)
	}
	return dst
}

// checkLength holds a body against the length that its header promised.
func checkLength(h Header, body []byte) error {
	if len(body) < h.Length {
		return ErrIncomplete
	}
	if len(body) > h.Length {
		return surplus(h.Length)
	}
	return nil
}
