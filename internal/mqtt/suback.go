package mqtt

// Suback is a view of SUBACK and of UNSUBACK. Codes are the raw codes; a 3.x
// UNSUBACK has none.
type Suback struct {
	PacketID   uint16
	Properties Properties
	Codes      []byte
}

// Sections 3.9.3 and 3.11.3.
var (
	granted         = codes(Success, GrantedQoS1, GrantedQoS2)
	subackCodes3    = granted.with(ReasonCode(SubackFailure))
	subackCodes     = granted.with(subscribeErrors...).with(SharedSubscriptionsNotSupported, SubscriptionIDsNotSupported, WildcardsNotSupported)
	subscribeErrors = []ReasonCode{UnspecifiedError, ImplementationSpecific, NotAuthorized, TopicFilterInvalid, PacketIDInUse, QuotaExceeded}
	unsubackCodes   = codes(Success, NoSubscriptionExisted, UnspecifiedError, ImplementationSpecific, NotAuthorized, TopicFilterInvalid, PacketIDInUse)
)

// Parse reads SUBACK or UNSUBACK; body is exactly h.Length bytes. Whether there
// are as many codes as filters were asked for is the caller's to judge.
func (s *Suback) Parse(h Header, v Version, body []byte) error {
	if err := checkLength(h, body); err != nil {
		return err
	}
	*s = Suback{}
	if len(body) < 2 {
		return cut(0, "packet identifier")
	}
	if s.PacketID = uint16At(body, 0); s.PacketID == 0 { // [MQTT-2.2.1-6]
		return malformed(clausePacketID, 0, "packet identifier 0")
	}
	i := 2
	legal, clause := &subackCodes3, "MQTT-3.9.3-2"
	switch {
	case v == V5:
		var err error
		if s.Properties, _, i, err = propertiesAt(body, i, h.Type); err != nil {
			return err
		}
		legal = &subackCodes
		if h.Type == UNSUBACK {
			legal, clause = &unsubackCodes, "MQTT-3.11.3-2"
		}
	case h.Type == UNSUBACK:
		if len(body) > 2 {
			return surplus(2)
		}
		return nil
	}
	s.Codes = body[i:]
	if len(s.Codes) == 0 {
		return malformed(clause, i, "no reason code")
	}
	for j, c := range s.Codes {
		// [MQTT-3.9.3-2] [MQTT-3.11.3-2]. 3.1 has no failure code; brokers
		// answer its clients with that of 3.1.1.
		if !legal.has(ReasonCode(c)) {
			return protocolError(clause, i+j, "not a reason code of "+h.Type.String())
		}
	}
	return nil
}

// Append encodes s as a packet of type t.
func (s *Suback) Append(dst []byte, t Type, v Version) []byte {
	n := 2 + len(s.Codes)
	switch {
	case v == V5:
		n += s.Properties.sectionLen()
	case t == UNSUBACK:
		return appendUint16(appendHeader(dst, t, 0, 2), s.PacketID)
	}
	dst = appendUint16(appendHeader(dst, t, 0, n), s.PacketID)
	if v == V5 {
		dst = s.Properties.appendSection(dst)
	}
	return append(dst, s.Codes...)
}
