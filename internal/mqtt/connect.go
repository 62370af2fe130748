package mqtt

import "encoding/binary"

// Connect is a view of CONNECT.
type Connect struct {
	Version     Version
	Bridge      bool // the level had Mosquitto's bridge bit: refused by Parse as an unsupported version
	CleanStart  bool
	KeepAlive   uint16 // seconds; 0 is none
	Properties  Properties
	ClientID    []byte
	HasWill     bool
	Will        Will
	HasUsername bool
	Username    []byte
	HasPassword bool
	Password    []byte

	// From Properties, with the standard's defaults when absent. Append encodes
	// Properties and looks at none of these.
	SessionExpiry     uint32
	ReceiveMaximum    uint16 // 65535 when absent
	MaximumPacketSize uint32 // 0 when absent: no limit
	TopicAliasMaximum uint16
	RequestResponse   bool
	ProblemInfo       bool // Request Problem Information; true when absent
	AuthMethod        []byte
	HasAuthMethod     bool
	UserProperties    int // how many
}

// Will is the will part of CONNECT.
type Will struct {
	QoS            byte
	Retain         bool
	Properties     Properties
	Topic          []byte
	Payload        []byte
	Delay          uint32 // seconds; from Properties, as what follows
	ResponseTopic  []byte // nil: none
	UserProperties int
}

// The connect flags.
const (
	flagCleanStart = 0x02
	flagWill       = 0x04
	flagWillRetain = 0x20
	flagPassword   = 0x40
	flagUsername   = 0x80
)

// bridgeBit is what Mosquitto's bridges set in the protocol level.
const bridgeBit = 0x80

// Parse reads the body of a CONNECT. A protocol name and level that are not
// ours give an *Error with code UnsupportedVersion; then Bridge is set if the
// level is one of ours with Mosquitto's bridge bit, and Version is the version
// in which to answer as far as the name and level tell: 0 if they do not.
//
// What is well-formed and still not allowed everywhere is the caller's to
// judge: an empty client id, its length in 3.1, a Remaining Length that is
// overlong with 5.0.
func (c *Connect) Parse(body []byte) error {
	*c = Connect{ReceiveMaximum: 0xFFFF, ProblemInfo: true}
	i, err := c.parseProtocol(body)
	if err != nil {
		return err
	}
	if len(body)-i < 3 {
		return cut(i, "connect flags and keep alive")
	}
	flags := body[i]
	if err := c.checkFlags(flags, i); err != nil {
		return err
	}
	c.KeepAlive = uint16At(body, i+1)
	i += 3
	if c.Version == V5 {
		if i, err = c.parseProperties(body, i); err != nil {
			return err
		}
	}
	// The fields of the payload, in this order [MQTT-3.1.3-1].
	if c.ClientID, i, err = stringAt(body, i, "client id"); err != nil { // [MQTT-3.1.3-3] [MQTT-3.1.3-4]
		return err
	}
	if c.HasWill {
		c.Will.QoS, c.Will.Retain = flags>>3&3, flags&flagWillRetain != 0
		if i, err = c.Will.parse(body, i, c.Version); err != nil {
			return err
		}
	}
	if c.HasUsername { // [MQTT-3.1.2-17] [MQTT-3.1.3-12]
		// MQTT 3.1 lets a server accept the flag without the string. No client
		// in use does that, and a broker that reads it otherwise would see
		// another packet: refused.
		if c.Username, i, err = stringAt(body, i, "user name"); err != nil {
			return err
		}
	}
	if c.HasPassword { // [MQTT-3.1.2-19]
		// Binary in 3.1.1 and 5.0. In 3.1 it is called a string, but nobody
		// takes it for one.
		if c.Password, i, err = binaryAt(body, i, "password"); err != nil {
			return err
		}
	}
	if i != len(body) {
		return surplus(i)
	}
	return nil
}

// parseProtocol reads the protocol's name and level.
func (c *Connect) parseProtocol(body []byte) (next int, err error) {
	name, i, err := stringAt(body, 0, "protocol name")
	if err != nil {
		return 0, err
	}
	if i == len(body) {
		return 0, cut(i, "protocol level")
	}
	level := Version(body[i])
	switch {
	case string(name) == "MQIsdp":
		c.Version = V31
		if level == V31 {
			return i + 1, nil
		}
	case string(name) == "MQTT":
		switch {
		case level == V311 || level == V5:
			c.Version = level
			return i + 1, nil
		case level > V5 && level&bridgeBit == 0:
			c.Version = V5
		default:
			c.Version = V311
		}
	default: // [MQTT-3.1.2-1]
		return 0, &Error{Code: UnsupportedVersion, Clause: "MQTT-3.1.2-1", Offset: 0, Text: "unknown protocol name"}
	}
	if plain := level &^ bridgeBit; level != plain && (plain == V31 || plain == V311) {
		c.Bridge = true
		return 0, &Error{Code: UnsupportedVersion, Clause: "MQTT-3.1.2-2", Offset: i, Text: "protocol level of a bridge"}
	}
	// [MQTT-3.1.2-2]
	return 0, &Error{Code: UnsupportedVersion, Clause: "MQTT-3.1.2-2", Offset: i, Text: "unknown protocol level for this name"}
}

// checkFlags judges the connect flags and sets what they say.
func (c *Connect) checkFlags(flags byte, offset int) error {
	c.CleanStart = flags&flagCleanStart != 0
	c.HasWill = flags&flagWill != 0
	c.HasUsername = flags&flagUsername != 0
	c.HasPassword = flags&flagPassword != 0
	qos := flags >> 3 & 3
	switch {
	case flags&1 != 0: // [MQTT-3.1.2-3]
		return malformed("MQTT-3.1.2-3", offset, "reserved connect flag")
	case !c.HasWill && qos != 0: // [MQTT-3.1.2-11]
		return malformed("MQTT-3.1.2-11", offset, "will QoS without a will")
	case !c.HasWill && flags&flagWillRetain != 0: // [MQTT-3.1.2-13]
		return malformed("MQTT-3.1.2-13", offset, "will retain without a will")
	case qos == 3: // [MQTT-3.1.2-12]
		return malformed("MQTT-3.1.2-12", offset, "will QoS 3")
	case c.HasPassword && !c.HasUsername && c.Version != V5: // [MQTT-3.1.2-22] of 3.1.1
		return malformed("MQTT 3.1.1 MQTT-3.1.2-22", offset, "password without user name")
	}
	return nil
}

func (c *Connect) parseProperties(body []byte, i int) (next int, err error) {
	at := i
	var set propertySet
	if c.Properties, set, i, err = propertiesAt(body, i, CONNECT); err != nil {
		return i, err
	}
	c.UserProperties = set.users
	if set.has(AuthData) && !set.has(AuthMethod) {
		return i, protocolError("MQTT 3.1.2.11.10", at, "authentication data without a method")
	}
	for p := c.Properties; ; {
		prop, rest, ok := p.Next()
		if !ok {
			return i, nil
		}
		switch prop.ID {
		case SessionExpiryInterval:
			c.SessionExpiry = prop.Uint
		case ReceiveMaximum:
			c.ReceiveMaximum = uint16(prop.Uint)
		case MaximumPacketSize:
			c.MaximumPacketSize = prop.Uint
		case TopicAliasMaximum:
			c.TopicAliasMaximum = uint16(prop.Uint)
		case RequestResponseInfo:
			c.RequestResponse = prop.Uint != 0
		case RequestProblemInfo:
			c.ProblemInfo = prop.Uint != 0
		case AuthMethod:
			c.AuthMethod, c.HasAuthMethod = prop.Data, true
		}
		p = rest
	}
}

// parse reads the will's properties, topic and payload [MQTT-3.1.2-9].
func (w *Will) parse(body []byte, i int, v Version) (next int, err error) {
	if v == V5 {
		var set propertySet
		if w.Properties, set, i, err = propertiesAt(body, i, will); err != nil {
			return i, err
		}
		w.UserProperties = set.users
		if p, ok := w.Properties.Get(WillDelayInterval); ok {
			w.Delay = p.Uint
		}
		if p, ok := w.Properties.Get(ResponseTopic); ok {
			w.ResponseTopic = p.Data
		}
	}
	at := i
	if w.Topic, i, err = binaryAt(body, i, "will topic"); err != nil {
		return i, err
	}
	// [MQTT-3.1.3-11]; a will is published, so its topic is a topic name
	// [MQTT-3.3.2-2].
	if err := checkTopicName(w.Topic, at, "will topic", "MQTT-3.3.2-2"); err != nil {
		return i, err
	}
	w.Payload, i, err = binaryAt(body, i, "will payload")
	return i, err
}

// Append encodes c. Version must be one of the three.
func (c *Connect) Append(dst []byte) []byte {
	name, flags := "MQTT", byte(0)
	if c.Version == V31 {
		name = "MQIsdp"
	}
	n := 2 + len(name) + 4 + 2 + len(c.ClientID)
	if c.Version == V5 {
		n += c.Properties.sectionLen()
	}
	if c.CleanStart {
		flags |= flagCleanStart
	}
	if c.HasWill {
		flags |= flagWill | c.Will.QoS<<3
		if c.Will.Retain {
			flags |= flagWillRetain
		}
		n += 2 + len(c.Will.Topic) + 2 + len(c.Will.Payload)
		if c.Version == V5 {
			n += c.Will.Properties.sectionLen()
		}
	}
	if c.HasUsername {
		flags |= flagUsername
		n += 2 + len(c.Username)
	}
	if c.HasPassword {
		flags |= flagPassword
		n += 2 + len(c.Password)
	}
	dst = appendHeader(dst, CONNECT, 0, n)
	dst = appendText(dst, name)
	dst = append(dst, byte(c.Version), flags)
	dst = binary.BigEndian.AppendUint16(dst, c.KeepAlive)
	if c.Version == V5 {
		dst = c.Properties.appendSection(dst)
	}
	dst = appendData(dst, c.ClientID)
	if c.HasWill {
		if c.Version == V5 {
			dst = c.Will.Properties.appendSection(dst)
		}
		dst = appendData(dst, c.Will.Topic)
		dst = appendData(dst, c.Will.Payload)
	}
	if c.HasUsername {
		dst = appendData(dst, c.Username)
	}
	if c.HasPassword {
		dst = appendData(dst, c.Password)
	}
	return dst
}
