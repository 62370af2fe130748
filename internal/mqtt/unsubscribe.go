package mqtt

import "math"

// Unsubscribe is a view of UNSUBSCRIBE. Filters is reused by the next Parse.
type Unsubscribe struct {
	PacketID       uint16
	Properties     Properties
	Filters        [][]byte
	Dup            bool // 3.1 only, as in Subscribe
	UserProperties int
}

// Parse reads UNSUBSCRIBE; body is exactly h.Length bytes. Filters grows by
// eight bytes for one of the body at worst: the caller bounds the packet, or
// uses ParseFirst.
func (u *Unsubscribe) Parse(h Header, v Version, body []byte) error {
	_, err := u.ParseFirst(h, v, body, math.MaxInt)
	return err
}

// ParseFirst is Parse that keeps the first most filters at most. More is how
// many others the packet has; they are checked alike.
func (u *Unsubscribe) ParseFirst(h Header, v Version, body []byte, most int) (more int, err error) {
	if err := checkLength(h, body); err != nil {
		return 0, err
	}
	*u = Unsubscribe{Filters: u.Filters[:0], Dup: h.Flags&0x08 != 0}
	var i int
	if u.PacketID, u.Properties, u.UserProperties, i, err = requestHead(body, v, UNSUBSCRIBE); err != nil {
		return 0, err
	}
	if i == len(body) { // [MQTT-3.10.3-2]
		return 0, protocolError("MQTT-3.10.3-2", i, "no topic filter")
	}
	for i < len(body) {
		filter, next, err := binaryAt(body, i, "topic filter")
		if err != nil {
			return 0, err
		}
		if err := checkFilter(filter, i); err != nil { // [MQTT-3.10.3-1]
			return 0, err
		}
		if i = next; len(u.Filters) < most {
			u.Filters = append(u.Filters, filter)
		} else {
			more++
		}
	}
	return more, nil
}

// Append encodes u.
func (u *Unsubscribe) Append(dst []byte, v Version) []byte {
	n := 2
	if v == V5 {
		n += u.Properties.sectionLen()
	}
	for _, f := range u.Filters {
		n += 2 + len(f)
	}
	dst = appendRequestHead(dst, UNSUBSCRIBE, v, u.Dup, n, u.PacketID, u.Properties)
	for _, f := range u.Filters {
		dst = appendData(dst, f)
	}
	return dst
}
