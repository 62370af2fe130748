package wire

import (
	"encoding/binary"
	"errors"
)

// Generation is which framing a connection speaks.
type Generation uint8

// The generations. The zero value is not known yet.
const (
	V1 Generation = 1 // uint32 length, JSON; one request, one response
	V2 Generation = 2 // uint32 length, type, payload
)

// Type is the type byte of a v2 message.
type Type byte

// The types of v2. No others exist; one that is not here must never be sent:
// it ends the peer's reader.
const (
	HandshakeRequest    Type = 0x01
	HandshakeResponse   Type = 0x02
	RequestHeaders      Type = 0x10
	RequestBodyChunk    Type = 0x11
	ResponseHeaders     Type = 0x12
	ResponseBodyChunk   Type = 0x13
	RequestComplete     Type = 0x14
	WebSocketFrame      Type = 0x15
	GuardrailInspect    Type = 0x16
	Configure           Type = 0x17
	AgentResponse       Type = 0x20
	HealthStatus        Type = 0x30
	MetricsReport       Type = 0x31
	ConfigUpdateRequest Type = 0x32
	FlowControl         Type = 0x33
	Cancel              Type = 0x40
	Ping                Type = 0x41
	Pong                Type = 0x42
)

// The bounds of one message. They count what the length field counts: in v1
// the JSON, in v2 the type byte and the payload.
const (
	MaxV1 = 10 << 20
	MaxV2 = 16 << 20
)

// headerLen is the length field; in v2 a type byte follows.
const headerLen = 4

// Errors of framing. After any of them the connection is of no use.
var (
	ErrGeneration = errors.New("wire: the first bytes are of neither generation")
	ErrEmpty      = errors.New("wire: message of length zero")
	ErrTooLarge   = errors.New("wire: message above the limit")
)

// DetectLen is how many bytes [Detect] looks at.
const DetectLen = 5

// Detect tells the generations apart by the first five bytes of a connection:
// the fifth is the type of a handshake in v2, the start of a JSON object in v1.
func Detect(b []byte) (Generation, error) {
	switch b[headerLen] {
	case byte(HandshakeRequest):
		return V2, nil
	case '{':
		return V1, nil
	}
	return 0, ErrGeneration
}

// size reads a length field and returns how many bytes follow it.
func (g Generation) size(b []byte) (int, error) {
	n := binary.BigEndian.Uint32(b)
	limit := uint32(MaxV2)
	if g == V1 {
		limit = MaxV1
	}
	switch {
	case n == 0:
		return 0, ErrEmpty
	case n > limit:
		return 0, ErrTooLarge
	}
	return int(n), nil
}

// begin appends the header of a message whose payload is to be appended next.
// t is not written in v1. [end] completes it.
func begin(dst []byte, g Generation, t Type) []byte {
	dst = append(dst, 0, 0, 0, 0)
	if g == V2 {
		dst = append(dst, byte(t))
	}
	return dst
}

// end writes the length of the message that begins at start into its header.
func end(dst []byte, start int) []byte {
	binary.BigEndian.PutUint32(dst[start:], uint32(len(dst)-start-headerLen)) //nolint:gosec // bounded by our own messages
	return dst
}

// AppendMessage appends a whole message.
func AppendMessage(dst []byte, g Generation, t Type, payload []byte) []byte {
	start := len(dst)
	return end(append(begin(dst, g, t), payload...), start)
}
