package mqtt

import "errors"

// ErrIncomplete says that the bytes end inside the packet.
var ErrIncomplete = errors.New("mqtt: incomplete packet")

// Error is a malformed packet or a protocol error.
type Error struct {
	Code   ReasonCode // MalformedPacket, ProtocolError, UnsupportedVersion, …
	Clause string     // "MQTT-3.3.2-2"
	Offset int        // in the packet's body, -1 when in the fixed header
	Text   string     // lower case, for people
}

// ParseHeader reads the fixed header at the start of b. v is 0 before CONNECT
// is parsed. What can be refused with the bytes present is refused at once: a
// type that this side never sends, reserved flags [MQTT-2.1.3-1], QoS 3.
func ParseHeader(b []byte, v Version, from Side) (Header, error) { panic("todo") }

// Parse reads the body of a CONNECT. A protocol level that is not ours gives an
// *Error with code UnsupportedVersion, with Version or Bridge set as far as
// they are known.
func (c *Connect) Parse(body []byte) error { panic("todo") }

// Append encodes c.
func (c *Connect) Append(dst []byte) []byte { panic("todo") }

func (c *Connack) Parse(v Version, body []byte) error  { panic("todo") }
func (c *Connack) Append(dst []byte, v Version) []byte { panic("todo") }

// ParseHead reads everything before the payload; body may end anywhere. It
// returns how many bytes of body the head takes, or ErrIncomplete.
func (p *Publish) ParseHead(h Header, v Version, body []byte) (int, error) { panic("todo") }

// Parse reads a whole PUBLISH; body is exactly h.Length bytes.
func (p *Publish) Parse(h Header, v Version, body []byte) error { panic("todo") }
func (p *Publish) Append(dst []byte, v Version) []byte          { panic("todo") }

// AppendHead encodes everything before a payload of n bytes that follows.
func (p *Publish) AppendHead(dst []byte, v Version, n int) []byte { panic("todo") }

func (a *Ack) Parse(h Header, v Version, body []byte) error         { panic("todo") }
func (a *Ack) Append(dst []byte, t Type, v Version) []byte          { panic("todo") }
func (s *Subscribe) Parse(h Header, v Version, body []byte) error   { panic("todo") }
func (s *Subscribe) Append(dst []byte, v Version) []byte            { panic("todo") }
func (u *Unsubscribe) Parse(h Header, v Version, body []byte) error { panic("todo") }
func (u *Unsubscribe) Append(dst []byte, v Version) []byte          { panic("todo") }
func (s *Suback) Parse(h Header, v Version, body []byte) error      { panic("todo") }
func (s *Suback) Append(dst []byte, t Type, v Version) []byte       { panic("todo") }

// Parse reads DISCONNECT (t DISCONNECT) or AUTH (t AUTH) from the given side.
func (d *Disconnect) Parse(h Header, v Version, from Side, body []byte) error { panic("todo") }
func (d *Disconnect) Append(dst []byte, t Type, v Version) []byte             { panic("todo") }

// AppendPing encodes PINGREQ or PINGRESP.
func AppendPing(dst []byte, t Type) []byte { panic("todo") }

func (e *Error) Error() string { panic("todo") }
