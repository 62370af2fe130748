package mqtt

// Disconnect is a view of DISCONNECT, and of AUTH, which has the same form.
type Disconnect struct {
	Code             ReasonCode
	Properties       Properties
	Form             byte   // as in Ack
	SessionExpiry    uint32 // from Properties, as what follows
	HasSessionExpiry bool
	ServerReference  []byte
	AuthMethod       []byte
	HasAuthMethod    bool
}

// The reason codes of DISCONNECT by sender, section 3.14.2.1, and of AUTH,
// section 3.15.2.1.
var (
	disconnectBoth = codes(Success, UnspecifiedError, MalformedPacket, ProtocolError, ImplementationSpecific,
		TopicNameInvalid, ReceiveMaximumExceeded, TopicAliasInvalid, PacketTooLarge, MessageRateTooHigh,
		QuotaExceeded, AdministrativeAction, PayloadFormatInvalid)
	disconnectClient = disconnectBoth.with(DisconnectWithWill)
	// The standard gives 0x00 to the client alone, but a DISCONNECT without a
	// code has no other meaning and brokers send it. 0x8C is in table 2-6.
	disconnectBroker = disconnectBoth.with(NotAuthorized, ServerBusy, ServerShuttingDown, BadAuthMethod,
		KeepAliveTimeout, SessionTakenOver, TopicFilterInvalid, RetainNotSupported, QoSNotSupported,
		UseAnotherServer, ServerMoved, SharedSubscriptionsNotSupported, ConnectionRateExceeded,
		MaximumConnectTime, SubscriptionIDsNotSupported, WildcardsNotSupported)
	authClient = codes(ContinueAuthentication, ReAuthenticate)
	authBroker = codes(Success, ContinueAuthentication)
)

// Parse reads DISCONNECT (h.Type DISCONNECT) or AUTH (h.Type AUTH) from the
// given side; body is exactly h.Length bytes.
func (d *Disconnect) Parse(h Header, v Version, from Side, body []byte) error {
	if err := checkLength(h, body); err != nil {
		return err
	}
	*d = Disconnect{}
	if v != V5 {
		if len(body) > 0 {
			return surplus(0)
		}
		return nil
	}
	if len(body) > 0 {
		d.Code = ReasonCode(body[0])
	}
	if err := d.checkCode(h.Type, from); err != nil {
		return err
	}
	if len(body) == 0 {
		return nil
	}
	var (
		set propertySet
		err error
	)
	if d.Form, d.Properties, set, err = parseTail(body, 1, h.Type); err != nil {
		return err
	}
	switch {
	case h.Type == AUTH && d.Form == formCode:
		// Unlike DISCONNECT, AUTH leaves out both or none.
		return cut(1, "property section")
	case h.Type == AUTH && !set.has(AuthMethod):
		return protocolError(clauseAuth, 1, "no authentication method")
	case h.Type == DISCONNECT && from == Broker && set.has(SessionExpiryInterval): // [MQTT-3.14.2-2]
		return protocolError("MQTT-3.14.2-2", 1, "session expiry from the broker")
	}
	for p := d.Properties; ; {
		prop, rest, ok := p.Next()
		if !ok {
			return nil
		}
		switch prop.ID {
		case SessionExpiryInterval:
			d.SessionExpiry, d.HasSessionExpiry = prop.Uint, true
		case ServerReference:
			d.ServerReference = prop.Data
		case AuthMethod:
			d.AuthMethod, d.HasAuthMethod = prop.Data, true
		}
		p = rest
	}
}

func (d *Disconnect) checkCode(t Type, from Side) error {
	legal, clause := &disconnectClient, "MQTT-3.14.2-1"
	switch {
	case t == AUTH && from == Client:
		legal, clause = &authClient, "MQTT-3.15.2-1"
	case t == AUTH:
		legal, clause = &authBroker, "MQTT-3.15.2-1"
	case from == Broker:
		legal = &disconnectBroker
	}
	if !legal.has(d.Code) { // [MQTT-3.14.2-1] [MQTT-3.15.2-1]
		return protocolError(clause, 0, "not a reason code of "+t.String()+" from the "+from.String())
	}
	return nil
}

// Append encodes d as a packet of type t.
func (d *Disconnect) Append(dst []byte, t Type, v Version) []byte {
	if v != V5 {
		return appendHeader(dst, t, 0, 0)
	}
	form := tailForm(d.Form, d.Code, d.Properties)
	if t == AUTH && form == formCode {
		form = formProperties
	}
	return appendTail(appendHeader(dst, t, 0, tailLen(form, d.Properties)), form, d.Code, d.Properties)
}
