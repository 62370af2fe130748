package demo

import (
	"encoding/binary"
	"errors"
	"io"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/agent/wire"
)

// frame is one WebSocket frame of a client, unmasked (RFC 6455 section 5.2).
type frame struct {
	op      wire.Opcode
	fin     bool
	payload []byte // reused by the next read
}

// maxFrame is the largest frame that is shown to an agent.
const maxFrame = 1 << 20

var (
	errFrame    = errors.New("demo: frame is not masked or has reserved bits")
	errTooLarge = errors.New("demo: frame above 1 MiB")
)

// closeCode is what a client is told after an error of read.
func closeCode(err error) uint16 {
	switch {
	case errors.Is(err, errFrame):
		return 1002
	case errors.Is(err, errTooLarge):
		return 1009
	}
	return 1000
}

var opcodes = [16]wire.Opcode{
	0: wire.OpContinuation, 1: wire.OpText, 2: wire.OpBinary, 8: wire.OpClose, 9: wire.OpPing, 10: wire.OpPong,
}

// read reads the next frame. What the real proxy would not inspect is an error.
func (f *frame) read(r io.Reader) error {
	var head [14]byte
	if _, err := io.ReadFull(r, head[:2]); err != nil {
		return err
	}
	f.fin, f.op = head[0]&0x80 != 0, opcodes[head[0]&15]
	n := uint64(head[1] & 0x7f)
	more := 4 // the mask
	switch n {
	case 126:
		more += 2
	case 127:
		more += 8
	}
	if head[0]&0x70 != 0 || head[1]&0x80 == 0 {
		return errFrame
	}
	if _, err := io.ReadFull(r, head[2:2+more]); err != nil {
		return err
	}
	switch n {
	case 126:
		n = uint64(binary.BigEndian.Uint16(head[2:]))
	case 127:
		n = binary.BigEndian.Uint64(head[2:])
	}
	if n > maxFrame {
		return errTooLarge
	}
	if uint64(cap(f.payload)) < n {
		f.payload = make([]byte, n)
	}
	f.payload = f.payload[:n]
	if _, err := io.ReadFull(r, f.payload); err != nil {
		return err
	}
	mask := head[2+more-4 : 2+more]
	for i := range f.payload {
		f.payload[i] ^= mask[i%4]
	}
	return nil
}

// appendFrame appends a frame of a server.
func appendFrame(dst []byte, op wire.Opcode, payload []byte) []byte {
	first := byte(0x80)
	for i, o := range opcodes {
		if o == op {
			first |= byte(i)
			break
		}
	}
	switch n := len(payload); {
	case n < 126:
		dst = append(dst, first, byte(n))
	case n <= 0xffff:
		dst = append(dst, first, 126, byte(n>>8), byte(n))
	default:
		dst = binary.BigEndian.AppendUint64(append(dst, first, 127), uint64(n))
	}
	return append(dst, payload...)
}
