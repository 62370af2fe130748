package mqtt

// Version is a protocol version by its level: 3 is MQTT 3.1, 4 is 3.1.1.
type Version byte

// The versions. The zero value is "not known yet", before CONNECT.
const (
	V31  Version = 3
	V311 Version = 4
	V5   Version = 5
)

// Type is a control packet type.
type Type byte

// The control packet types.
const (
	CONNECT     Type = 1
	CONNACK     Type = 2
	PUBLISH     Type = 3
	PUBACK      Type = 4
	PUBREC      Type = 5
	PUBREL      Type = 6
	PUBCOMP     Type = 7
	SUBSCRIBE   Type = 8
	SUBACK      Type = 9
	UNSUBSCRIBE Type = 10
	UNSUBACK    Type = 11
	PINGREQ     Type = 12
	PINGRESP    Type = 13
	DISCONNECT  Type = 14
	AUTH        Type = 15
)

// Side is one end of a connection: as a sender, whose packets these are.
type Side uint8

// The two sides.
const (
	Client Side = iota
	Broker
)

// Peer returns the other side.
func (s Side) Peer() Side { return 1 - s }

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

	// From Properties, with the standard's defaults when absent.
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
	Delay          uint32 // seconds
	ResponseTopic  []byte // nil: none
	UserProperties int
}

// Connack is a view of CONNACK.
type Connack struct {
	SessionPresent bool
	Code           ReasonCode // 3.x: the return code 0 … 5
	Properties     Properties

	// From Properties (5.0), with the standard's defaults when absent.
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

// Publish is a view of PUBLISH.
type Publish struct {
	Dup        bool
	QoS        byte
	Retain     bool
	Topic      []byte // may be empty with 5.0 and an alias
	PacketID   uint16 // QoS 1 and 2
	Properties Properties
	Payload    []byte // nil after ParseHead

	// From Properties.
	TopicAlias     uint16 // 0: none
	ResponseTopic  []byte // nil: none
	UserProperties int
}

// Ack is a view of PUBACK, PUBREC, PUBREL, PUBCOMP.
type Ack struct {
	PacketID   uint16
	Code       ReasonCode
	Properties Properties
	// Form says how much of the tail was there: 0 none, 1 code, 2 code and
	// property length. 3.x: always 0.
	Form byte
}

// SubscribeFilter is one filter of SUBSCRIBE.
type SubscribeFilter struct {
	Filter            []byte
	Options           byte // raw options byte
	QoS               byte
	NoLocal           bool
	RetainAsPublished bool
	RetainHandling    byte
}

// Subscribe is a view of SUBSCRIBE. Filters is reused by the next Parse.
type Subscribe struct {
	PacketID       uint16
	Properties     Properties
	Filters        []SubscribeFilter
	UserProperties int
}

// Unsubscribe is a view of UNSUBSCRIBE. Filters is reused by the next Parse.
type Unsubscribe struct {
	PacketID       uint16
	Properties     Properties
	Filters        [][]byte
	UserProperties int
}

// Suback is a view of SUBACK and of UNSUBACK. Codes are the raw codes; a 3.x
// UNSUBACK has none.
type Suback struct {
	PacketID   uint16
	Properties Properties
	Codes      []byte
}

// Disconnect is a view of DISCONNECT, and of AUTH, which has the same form.
type Disconnect struct {
	Code             ReasonCode
	Properties       Properties
	Form             byte // as in Ack
	SessionExpiry    uint32
	HasSessionExpiry bool
	ServerReference  []byte
	AuthMethod       []byte
	HasAuthMethod    bool
}
