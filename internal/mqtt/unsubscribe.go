package mqtt

// Unsubscribe is a view of UNSUBSCRIBE. Filters is reused by the next Parse.
type Unsubscribe struct {
	PacketID       uint16
	Properties     Properties
	Filters        [][]byte
	Dup            bool // 3.1 only, as in Subscribe
	UserProperties int
}

// Parse reads UNSUBSCRIBE; body is exactly h.Length bytes. Filters grows by
// eight bytes for one of the body at worst: the caller bounds the packet.
func (u *Unsubscribe) Parse(h Header, v Version, body []byte) error {
	if err := checkLength(h, body); err != nil {
		return err
	}
	*u = Unsubscribe{Filters: u.Filters[:0], Dup: h.Flags&0x08 != 0}
	var (
		i   int
		err error
	)
	if u.PacketID, u.Properties, u.UserProperties, i, err = requestHead(body, v, UNSUBSCRIBE); err != nil {
		return err
	}
	if i == len(body) { // [MQTT-3.10.3-2]
		return protocolError("MQTT-3.10.3-2", i, "no topic filter")
	}
	for i < len(body) {
		filter, next, err := binaryAt(body, i, "topic filter")
		if err != nil {
			return err
		}
		if err := checkFilter(filter, i); err != nil { // [MQTT-3.10.3-1]
			return err
		}
		u.Filters = append(u.Filters, filter)
		i = next
	}
	return nil
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
