package mqtt

import (
	"errors"
	"strconv"
)

// ErrIncomplete says that the bytes end inside the packet and that nothing
// among them is wrong so far.
var ErrIncomplete = errors.New("mqtt: incomplete packet")

// Error is a malformed packet or a protocol error. Every refusal of this
// package is one.
type Error struct {
	Code ReasonCode // MalformedPacket, ProtocolError, UnsupportedVersion, …
	// Clause is the statement of MQTT 5.0 that is broken, "MQTT-3.3.2-2", also
	// for the older versions where they say the same under another number. What
	// the standard forbids without numbering it names the section instead,
	// "MQTT 3.1.2.11.3"; what only 3.1.1 forbids names "MQTT 3.1.1" and its
	// number.
	Clause string
	Offset int    // in the packet's body, -1 when in the fixed header
	Text   string // lower case, for people; never holds bytes of the peer
}

// Error says what is wrong, where, and by which clause.
func (e *Error) Error() string {
	where := "in the fixed header"
	if e.Offset >= 0 {
		where = "at byte " + strconv.Itoa(e.Offset)
	}
	return "mqtt: " + e.Code.String() + " " + where + ": " + e.Text + " [" + e.Clause + "]"
}

// Clauses for what is wrong in a way that no statement of its own forbids.
const (
	clauseBroken     = "MQTT-4.13.1-1"   // a malformed packet ends the connection
	clauseProperties = "MQTT 2.2.2.2"    // which property is legal where, and its type
	clauseDirection  = "MQTT 2.1.2"      // which side sends which type
	clauseLength     = "MQTT 2.1.4"      // Remaining Length
	clausePacketID   = "MQTT-2.2.1-3"    // never zero
	clauseUTF8       = "MQTT-1.5.4-1"    // well-formed, no surrogates
	clauseNUL        = "MQTT-1.5.4-2"    // no U+0000
	clauseEmpty      = "MQTT-4.7.3-1"    // a topic name or filter has a character
	clauseMinimal    = "MQTT-1.5.5-1"    // shortest form of a variable byte integer
	clauseVarint     = "MQTT 1.5.5"      // at most four bytes
	clauseAuth       = "MQTT 3.15.2.2.2" // AUTH holds an Authentication Method
)

func malformed(clause string, offset int, text string) *Error {
	return &Error{Code: MalformedPacket, Clause: clause, Offset: offset, Text: text}
}

func protocolError(clause string, offset int, text string) *Error {
	return &Error{Code: ProtocolError, Clause: clause, Offset: offset, Text: text}
}

// cut says that a field reaches over the end of its packet.
func cut(offset int, what string) *Error {
	return malformed(clauseBroken, offset, what+" reaches over the end of the packet")
}

// surplus says that bytes follow the last field of a packet. A reader that
// skips them and one that does not see different packets, so they are refused.
func surplus(offset int) *Error {
	return malformed(clauseBroken, offset, "bytes follow the last field")
}
