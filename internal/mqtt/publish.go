package mqtt

// Publish is a view of PUBLISH.
type Publish struct {
	Dup        bool
	QoS        byte
	Retain     bool
	Topic      []byte // may be empty with 5.0 and an alias
	PacketID   uint16 // QoS 1 and 2
	Properties Properties
	Payload    []byte // nil after ParseHead

	// From Properties. Append encodes Properties and looks at none of these.
	TopicAlias    uint16 // 0: none
	ResponseTopic []byte // nil: none
	// HasSubscriptionID says that a Subscription Identifier is there. Parse does
	// not know which side speaks: from a client it is a protocol error that the
	// caller refuses [MQTT-3.3.4-6].
	HasSubscriptionID bool
	UserProperties    int
}

// ParseHead reads everything before the payload; body may end anywhere, and
// what lies beyond h.Length is not looked at. It returns how many bytes of body
// the head takes, or [ErrIncomplete]: then call it again with more of the same
// body. Until the head is there no time is spent on its contents, so that a
// head that drips in costs no more than one that comes at once. A head can be
// as long as the packet: how much of it to wait for is the caller's to bound.
//
// After a refusal the flags are set, and PacketID if it could be read: whoever
// discards a message that a broker should not have sent can acknowledge it.
func (p *Publish) ParseHead(h Header, v Version, body []byte) (int, error) {
	*p = Publish{Dup: h.Flags&0x08 != 0, QoS: h.Flags >> 1 & 3, Retain: h.Flags&1 != 0}
	if len(body) > h.Length {
		body = body[:h.Length]
	}
	// after is what must follow the topic.
	after := 0
	if p.QoS > 0 {
		after += 2
	}
	if v == V5 {
		after++
	}
	if len(body) < 2 {
		if h.Length < 2+after {
			return 0, cut(0, "topic name")
		}
		return 0, ErrIncomplete
	}
	i := 2 + int(uint16At(body, 0))
	if i+after > h.Length {
		return 0, cut(0, "topic name")
	}
	if len(body) < i+after {
		return 0, ErrIncomplete
	}
	p.Topic = body[2:i:i]
	if p.QoS > 0 {
		if p.PacketID = uint16At(body, i); p.PacketID == 0 { // [MQTT-2.2.1-3] [MQTT-2.2.1-4]
			return 0, malformed(clausePacketID, i, "packet identifier 0")
		}
		i += 2
	}
	if v == V5 {
		if body[i] == 0 {
			i++
		} else {
			var err error
			if i, err = p.parseProperties(h, body, i); err != nil {
				return 0, err
			}
		}
	}
	if len(p.Topic) == 0 && v == V5 {
		if p.TopicAlias == 0 {
			return 0, protocolError("MQTT 3.3.2.1", 0, "neither topic name nor topic alias")
		}
		return i, nil
	}
	// [MQTT-3.3.2-1] [MQTT-3.3.2-2]
	if err := checkTopicName(p.Topic, 0, "topic name", "MQTT-3.3.2-2"); err != nil {
		return 0, err
	}
	return i, nil
}

// parseProperties reads the properties at body[i:], where at least one byte is.
func (p *Publish) parseProperties(h Header, body []byte, i int) (next int, err error) {
	n, size, ok := varint(body[i:])
	// What the length alone makes wrong, propertiesAt refuses at once.
	if ok && (size == 0 || size == varintLen(n) && n <= h.Length-i-size && n > len(body)-i-size) && len(body) < h.Length {
		return i, ErrIncomplete
	}
	var set propertySet
	if p.Properties, set, i, err = propertiesAt(body, i, PUBLISH); err != nil {
		return i, err
	}
	p.UserProperties = set.users
	p.HasSubscriptionID = set.has(SubscriptionIdentifier)
	if set.has(TopicAlias) {
		prop, _ := p.Properties.Get(TopicAlias)
		p.TopicAlias = uint16(prop.Uint)
	}
	if set.has(ResponseTopic) {
		prop, _ := p.Properties.Get(ResponseTopic)
		p.ResponseTopic = prop.Data
	}
	return i, nil
}

// Parse reads a whole PUBLISH; body is exactly h.Length bytes.
func (p *Publish) Parse(h Header, v Version, body []byte) error {
	if err := checkLength(h, body); err != nil {
		return err
	}
	i, err := p.ParseHead(h, v, body)
	if err != nil {
		return err
	}
	p.Payload = body[i:]
	return nil
}

// Append encodes p.
func (p *Publish) Append(dst []byte, v Version) []byte {
	return append(p.AppendHead(dst, v, len(p.Payload)), p.Payload...)
}

// AppendHead encodes everything before a payload of n bytes that follows.
func (p *Publish) AppendHead(dst []byte, v Version, n int) []byte {
	n += 2 + len(p.Topic)
	if p.QoS > 0 {
		n += 2
	}
	if v == V5 {
		n += p.Properties.sectionLen()
	}
	flags := p.QoS << 1
	if p.Dup {
		flags |= 0x08
	}
	if p.Retain {
		flags |= 0x01
	}
	dst = appendData(appendHeader(dst, PUBLISH, flags, n), p.Topic)
	if p.QoS > 0 {
		dst = appendUint16(dst, p.PacketID)
	}
	if v == V5 {
		dst = p.Properties.appendSection(dst)
	}
	return dst
}
