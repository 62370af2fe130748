package mqtt

import "math"

// SubscribeFilter is one filter of SUBSCRIBE.
type SubscribeFilter struct {
	Filter []byte
	// Options is the raw options byte that was parsed. Append encodes the
	// fields below and does not look at it.
	Options           byte
	QoS               byte
	NoLocal           bool // 5.0, as the two below
	RetainAsPublished bool
	RetainHandling    byte
}

// Subscribe is a view of SUBSCRIBE. Filters is reused by the next Parse.
type Subscribe struct {
	PacketID       uint16
	Properties     Properties
	Filters        []SubscribeFilter
	Dup            bool // 3.1 only, which repeats a SUBSCRIBE with this flag
	UserProperties int
}

// Parse reads SUBSCRIBE; body is exactly h.Length bytes. Filters grows by eight
// bytes for one of the body at worst: the caller bounds the packet, or uses
// ParseFirst.
func (s *Subscribe) Parse(h Header, v Version, body []byte) error {
	_, err := s.ParseFirst(h, v, body, math.MaxInt)
	return err
}

// ParseFirst is Parse that keeps the first most filters at most. More is how
// many others the packet has; they are checked alike.
func (s *Subscribe) ParseFirst(h Header, v Version, body []byte, most int) (more int, err error) {
	if err := checkLength(h, body); err != nil {
		return 0, err
	}
	*s = Subscribe{Filters: s.Filters[:0], Dup: h.Flags&0x08 != 0}
	var i int
	if s.PacketID, s.Properties, s.UserProperties, i, err = requestHead(body, v, SUBSCRIBE); err != nil {
		return 0, err
	}
	if i == len(body) { // [MQTT-3.8.3-2]
		return 0, protocolError("MQTT-3.8.3-2", i, "no topic filter")
	}
	for i < len(body) {
		at := i
		filter, next, err := binaryAt(body, i, "topic filter")
		if err != nil {
			return 0, err
		}
		if err := checkFilter(filter, at); err != nil { // [MQTT-3.8.3-1]
			return 0, err
		}
		if next == len(body) {
			return 0, cut(next, "subscription options")
		}
		f := SubscribeFilter{Filter: filter, Options: body[next]}
		if err := f.decode(v, next); err != nil {
			return 0, err
		}
		if i = next + 1; len(s.Filters) < most {
			s.Filters = append(s.Filters, f)
		} else {
			more++
		}
	}
	return more, nil
}

// The subscription options.
const (
	optionNoLocal           = 0x04
	optionRetainAsPublished = 0x08
)

// decode judges the options byte and takes it apart.
func (f *SubscribeFilter) decode(v Version, offset int) error {
	f.QoS = f.Options & 3
	if v != V5 {
		if f.Options > 2 { // [MQTT-3.8.3-5]; in 3.1.1 [MQTT-3-8.3-4]
			return malformed("MQTT-3.8.3-5", offset, "requested QoS is not 0, 1 or 2")
		}
		return nil
	}
	f.NoLocal = f.Options&optionNoLocal != 0
	f.RetainAsPublished = f.Options&optionRetainAsPublished != 0
	f.RetainHandling = f.Options >> 4 & 3
	switch {
	case f.Options&0xC0 != 0: // [MQTT-3.8.3-5]
		return malformed("MQTT-3.8.3-5", offset, "reserved subscription options")
	case f.QoS == 3:
		return protocolError("MQTT 3.8.3.1", offset, "maximum QoS 3")
	case f.RetainHandling == 3:
		return protocolError("MQTT 3.8.3.1", offset, "retain handling 3")
	case f.NoLocal && isShared(f.Filter): // [MQTT-3.8.3-4]
		return protocolError("MQTT-3.8.3-4", offset, "no local on a shared subscription")
	}
	return nil
}

func (f *SubscribeFilter) encode(v Version) byte {
	o := f.QoS
	if v == V5 {
		if f.NoLocal {
			o |= optionNoLocal
		}
		if f.RetainAsPublished {
			o |= optionRetainAsPublished
		}
		o |= f.RetainHandling << 4
	}
	return o
}

// Append encodes s.
func (s *Subscribe) Append(dst []byte, v Version) []byte {
	n := 2
	if v == V5 {
		n += s.Properties.sectionLen()
	}
	for i := range s.Filters {
		n += 2 + len(s.Filters[i].Filter) + 1
	}
	dst = appendRequestHead(dst, SUBSCRIBE, v, s.Dup, n, s.PacketID, s.Properties)
	for i := range s.Filters {
		f := &s.Filters[i]
		dst = append(appendData(dst, f.Filter), f.encode(v))
	}
	return dst
}

// requestHead reads what SUBSCRIBE and UNSUBSCRIBE begin with.
func requestHead(body []byte, v Version, t Type) (id uint16, p Properties, users, next int, err error) {
	if len(body) < 2 {
		return 0, nil, 0, 0, cut(0, "packet identifier")
	}
	if id = uint16At(body, 0); id == 0 { // [MQTT-2.2.1-3]
		return 0, nil, 0, 0, malformed(clausePacketID, 0, "packet identifier 0")
	}
	next = 2
	if v == V5 {
		var set propertySet
		if p, set, next, err = propertiesAt(body, next, t); err != nil {
			return 0, nil, 0, 0, err
		}
		users = set.users
	}
	return id, p, users, next, nil
}

func appendRequestHead(dst []byte, t Type, v Version, dup bool, n int, id uint16, p Properties) []byte {
	flags := byte(0x02)
	if dup && v == V31 {
		flags |= 0x08
	}
	dst = appendUint16(appendHeader(dst, t, flags, n), id)
	if v == V5 {
		dst = p.appendSection(dst)
	}
	return dst
}
