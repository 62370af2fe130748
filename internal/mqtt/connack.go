package mqtt

// Connack is a view of CONNACK.
type Connack struct {
	SessionPresent bool
	Code           ReasonCode // 3.x: the return code 0 … 5
	Properties     Properties

	// From Properties (5.0), with the standard's defaults when absent. Append
	// encodes Properties and looks at none of these.
	SessionExpiry      uint32
	HasSessionExpiry   bool
	ReceiveMaximum     uint16 // 65535 when absent
	MaximumQoS         byte   // 2 when absent
	RetainAvailable    bool   // true when absent
	MaximumPacketSize  uint32 // 0 when absent: no limit
	AssignedClientID   []byte
	TopicAliasMaximum  uint16
	ServerKeepAlive    uint16
	HasServerKeepAlive bool
	ServerReference    []byte
}

// connackCodes is table 3-1 of section 3.2.2.2.
var connackCodes = codes(Success, UnspecifiedError, MalformedPacket, ProtocolError, ImplementationSpecific,
	UnsupportedVersion, ClientIDNotValid, BadUserNameOrPassword, NotAuthorized, ServerUnavailable, ServerBusy,
	Banned, BadAuthMethod, TopicNameInvalid, PacketTooLarge, QuotaExceeded, PayloadFormatInvalid,
	RetainNotSupported, QoSNotSupported, UseAnotherServer, ServerMoved, ConnectionRateExceeded)

// Parse reads the body of a CONNACK.
func (c *Connack) Parse(v Version, body []byte) error {
	*c = Connack{ReceiveMaximum: 0xFFFF, MaximumQoS: 2, RetainAvailable: true}
	if len(body) < 2 {
		return cut(0, "CONNACK")
	}
	// In 3.1 the first byte is reserved and not used; brokers put the flag of
	// 3.1.1 there.
	if body[0]&^1 != 0 { // [MQTT-3.2.2-1]
		return malformed("MQTT-3.2.2-1", 0, "reserved acknowledge flags")
	}
	c.SessionPresent = body[0] == 1
	c.Code = ReasonCode(body[1])
	if c.SessionPresent && c.Code != Success { // [MQTT-3.2.2-6]
		return protocolError("MQTT-3.2.2-6", 0, "session present with an error")
	}
	if v != V5 {
		if c.Code > ReturnNotAuthorized {
			return malformed("MQTT-3.2.2-8", 1, "unknown return code")
		}
		if len(body) > 2 {
			return surplus(2)
		}
		return nil
	}
	if !connackCodes.has(c.Code) { // [MQTT-3.2.2-8]
		return protocolError("MQTT-3.2.2-8", 1, "not a reason code of CONNACK")
	}
	var err error
	i := 2
	if c.Properties, _, i, err = propertiesAt(body, i, CONNACK); err != nil {
		return err
	}
	if i != len(body) {
		return surplus(i)
	}
	for p := c.Properties; ; {
		prop, rest, ok := p.Next()
		if !ok {
			return nil
		}
		c.set(prop)
		p = rest
	}
}

func (c *Connack) set(prop Property) {
	switch prop.ID {
	case SessionExpiryInterval:
		c.SessionExpiry, c.HasSessionExpiry = prop.Uint, true
	case ReceiveMaximum:
		c.ReceiveMaximum = uint16(prop.Uint)
	case MaximumQoS:
		c.MaximumQoS = byte(prop.Uint)
	case RetainAvailable:
		c.RetainAvailable = prop.Uint != 0
	case MaximumPacketSize:
		c.MaximumPacketSize = prop.Uint
	case AssignedClientID:
		c.AssignedClientID = prop.Data
	case TopicAliasMaximum:
		c.TopicAliasMaximum = uint16(prop.Uint)
	case ServerKeepAlive:
		c.ServerKeepAlive, c.HasServerKeepAlive = uint16(prop.Uint), true
	case ServerReference:
		c.ServerReference = prop.Data
	}
}

// Append encodes c.
func (c *Connack) Append(dst []byte, v Version) []byte {
	n := 2
	if v == V5 {
		n += c.Properties.sectionLen()
	}
	present := byte(0)
	if c.SessionPresent {
		present = 1
	}
	dst = append(appendHeader(dst, CONNACK, 0, n), present, byte(c.Code))
	if v == V5 {
		dst = c.Properties.appendSection(dst)
	}
	return dst
}
