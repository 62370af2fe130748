package mqtt

import "strconv"

// Version is a protocol version by its level: 3 is MQTT 3.1, 4 is 3.1.1.
type Version byte

// The versions. The zero value is "not known yet", before CONNECT.
const (
	V31  Version = 3
	V311 Version = 4
	V5   Version = 5
)

// String returns "3.1", "3.1.1" or "5.0".
func (v Version) String() string {
	switch v {
	case V31:
		return "3.1"
	case V311:
		return "3.1.1"
	case V5:
		return "5.0"
	case 0:
		return "unknown"
	}
	return "level " + strconv.Itoa(int(v))
}

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

var typeNames = [16]string{
	"RESERVED", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP",
	"SUBSCRIBE", "SUBACK", "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH",
}

// String returns the name as the standard writes it, "PUBLISH".
func (t Type) String() string { return typeNames[t&15] }

// Side is one end of a connection: as a sender, whose packets these are.
type Side uint8

// The two sides.
const (
	Client Side = iota
	Broker
)

// Peer returns the other side.
func (s Side) Peer() Side { return 1 - s }

// String returns "client" or "broker".
func (s Side) String() string {
	if s == Client {
		return "client"
	}
	return "broker"
}
