package wire

import (
	"encoding/base64"
	"errors"
)

// Opcode is the kind of a WebSocket frame.
type Opcode uint8

// The opcodes. The zero value is one that no proxy should send.
const (
	OpReserved Opcode = iota
	OpContinuation
	OpText
	OpBinary
	OpClose
	OpPing
	OpPong
)

func (o Opcode) String() string {
	return [...]string{"reserved", "continuation", "text", "binary", "close", "ping", "pong"}[o]
}

// Control reports whether o is one of close, ping, pong.
func (o Opcode) Control() bool { return o >= OpClose }

// OpcodeNamed reads a name; one that is not known is reserved.
func OpcodeNamed(name string) Opcode { return opcode([]byte(name)) }

// opcode reads a name; one that is not known is reserved.
func opcode(name []byte) Opcode {
	switch string(name) {
	case "binary":
		return OpBinary
	case "continuation":
		return OpContinuation
	case "text":
		return OpText
	case "close":
		return OpClose
	case "ping":
		return OpPing
	case "pong":
		return OpPong
	}
	return OpReserved
}

// Frame is a websocket_frame event. Its slices are views into the message, or
// copies when it took the slow path.
type Frame struct {
	CorrelationID  []byte // opaque; chosen by the client if it likes
	Opcode         Opcode
	Data           []byte // base64 as it stands in the message; see AppendData
	ClientToServer bool
	Index          uint64 // from 0, by direction
	Fin            bool
	Route          []byte
	HasRoute       bool
	ClientIP       []byte

	// Set by who makes a frame of another transport's event.
	Raw        bool // Data is the payload itself
	Unnumbered bool // Index is not known: the transport does not carry it
}

// Errors of events.
var (
	ErrBase64 = errors.New("wire: data is not canonical base64")
	errEvent  = errors.New("wire: unreadable event")
)

var strict = base64.StdEncoding.Strict()

// AppendData appends the decoded data to dst. Only the one canonical spelling
// is accepted: no line breaks, no missing padding, no stray bits.
func (f *Frame) AppendData(dst []byte) ([]byte, error) {
	if f.Raw {
		return append(dst, f.Data...), nil
	}
	n := len(dst)
	dst, err := strict.AppendDecode(dst, f.Data)
	if err != nil {
		return dst[:n], ErrBase64
	}
	// The decoder skips line breaks; the length tells.
	want := len(f.Data) / 4 * 3
	for i := len(f.Data) - 1; i >= 0 && f.Data[i] == '='; i-- {
		want--
	}
	if len(dst)-n != want || len(f.Data)%4 != 0 {
		return dst[:n], ErrBase64
	}
	return dst, nil
}
