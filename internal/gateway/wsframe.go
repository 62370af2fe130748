package gateway

import (
	"encoding/binary"
	"math/bits"
)

// The opcodes of RFC 6455, section 5.2.
const (
	opContinuation byte = 0x0
	opText         byte = 0x1
	opBinary       byte = 0x2
	opClose        byte = 0x8
	opPing         byte = 0x9
	opPong         byte = 0xA
)

// The close codes that are sent, RFC 6455, section 7.4.1.
const (
	wsNormal      uint16 = 1000
	wsGoingAway   uint16 = 1001
	wsProtocol    uint16 = 1002 // broken WebSocket
	wsUnsupported uint16 = 1003 // a text frame
	wsPolicy      uint16 = 1008
	wsTooLarge    uint16 = 1009
	wsInternal    uint16 = 1011
	wsTryLater    uint16 = 1013
)

// wsError is a broken WebSocket stream: how it is closed.
type wsError struct {
	code uint16
	text string
}

func (e *wsError) Error() string { return "websocket: " + e.text }

// The ways in which a client's frames can be wrong.
var (
	errReservedBits  = &wsError{wsProtocol, "reserved bits set: no extension is negotiated"}
	errOpcode        = &wsError{wsProtocol, "unknown opcode"}
	errText          = &wsError{wsUnsupported, "text frame: MQTT takes binary frames [MQTT-6.0.0-1]"}
	errNotMasked     = &wsError{wsProtocol, "frame of a client without mask"}
	errLength        = &wsError{wsProtocol, "length not in its shortest form, or beyond 2^63"}
	errControlLong   = &wsError{wsProtocol, "control frame over 125 bytes"}
	errControlPieces = &wsError{wsProtocol, "control frame in pieces"}
	errNoMessage     = &wsError{wsProtocol, "continuation of no message"}
	errInsideMessage = &wsError{wsProtocol, "new message inside another one"}
	errClosePayload  = &wsError{wsProtocol, "close frame with a payload of one byte"}
	errCloseCode     = &wsError{wsProtocol, "close frame with a code that may not be sent"}
)

// maxControl is how long the payload of a control frame may be.
const maxControl = 125

// frames takes a client's stream of frames apart. It buffers nothing: the
// payload of a data frame passes as it comes, however long the frame is.
type frames struct {
	left int64  // payload of the data frame at hand that is still to come
	key  uint32 // its mask, turned so that the next byte comes first
	open bool   // a message has begun: continuations may come
}

// controls takes the control frames of a stream. payload is unmasked and valid
// during the call. After an error, or a close frame, no more is read.
type controls interface {
	control(op byte, payload []byte) error
}

// decode reads the frames in b[from:]. Their payload, unmasked, is joined with
// what stands before from: b[at:to], where at is 0 when from is not. What is
// left of a header or a control frame that has not come whole is b[to:end].
// After an error what came before it is still in b[at:to].
func (f *frames) decode(b []byte, from int, ctl controls) (at, to, end int, err error) {
	to = from
	pos := from
	for pos < len(b) {
		if f.left > 0 {
			n := int(min(f.left, int64(len(b)-pos)))
			if to == 0 {
				at, to = pos, pos
			}
			f.key = unmask(b[to:], b[pos:pos+n], f.key)
			to, pos, f.left = to+n, pos+n, f.left-int64(n)
			continue
		}
		h, err := parseFrame(b[pos:])
		if err != nil {
			return at, to, to, err
		}
		switch op := b[pos] & 0x0F; {
		case op == opContinuation && !f.open:
			return at, to, to, errNoMessage
		case op == opBinary && f.open:
			return at, to, to, errInsideMessage
		}
		if h.size == 0 {
			break
		}
		if h.control() {
			whole := h.size + int(h.length)
			if len(b)-pos < whole {
				break
			}
			payload := b[pos+h.size : pos+whole]
			unmask(payload, payload, h.key)
			pos += whole
			if err := ctl.control(h.op, payload); err != nil {
				return at, to, to, err
			}
			continue
		}
		f.open, f.left, f.key = !h.fin, h.length, h.key
		pos += h.size
	}
	if to == 0 {
		at, to = pos, pos // nothing was decoded: nothing need move
	}
	return at, to, to + copy(b[to:], b[pos:]), nil
}

// frame is a frame's header.
type frame struct {
	size   int // of the header; 0: it has not come whole
	length int64
	key    uint32
	op     byte
	fin    bool
}

func (h *frame) control() bool { return h.op&0x8 != 0 }

// parseFrame reads the header of a client's frame. What can be refused by the
// bytes that are there is refused.
func parseFrame(b []byte) (frame, error) {
	h := frame{op: b[0] & 0x0F, fin: b[0]&0x80 != 0}
	switch {
	case b[0]&0x70 != 0:
		return frame{}, errReservedBits
	case h.op == opText:
		return frame{}, errText
	case h.op > opPong || h.op > opBinary && h.op < opClose:
		return frame{}, errOpcode
	case h.control() && !h.fin:
		return frame{}, errControlPieces
	case len(b) < 2:
		return frame{}, nil
	case b[1]&0x80 == 0:
		return frame{}, errNotMasked
	}
	size := 2
	h.length = int64(b[1] & 0x7F)
	switch {
	case h.control() && h.length > maxControl:
		return frame{}, errControlLong
	case h.length == 126:
		if len(b) < 4 {
			return frame{}, nil
		}
		h.length, size = int64(binary.BigEndian.Uint16(b[2:])), 4
		if h.length < 126 {
			return frame{}, errLength
		}
	case h.length == 127:
		if len(b) < 10 {
			return frame{}, nil
		}
		h.length, size = int64(binary.BigEndian.Uint64(b[2:])), 10
		if h.length < 1<<16 { // beyond 2^63 is negative
			return frame{}, errLength
		}
	}
	if len(b) < size+4 {
		return frame{}, nil
	}
	h.key, h.size = binary.LittleEndian.Uint32(b[size:]), size+4
	return h, nil
}

// unmask writes src with the mask taken off to dst, which may be the same
// memory or lie before it, eight bytes at a time. key's lowest byte is for
// src[0]; it returns the key for what follows.
func unmask(dst, src []byte, key uint32) uint32 {
	n := len(src)
	wide := uint64(key)<<32 | uint64(key)
	i := 0
	for ; i+8 <= n; i += 8 {
		binary.LittleEndian.PutUint64(dst[i:], binary.LittleEndian.Uint64(src[i:])^wide)
	}
	for ; i < n; i++ {
		dst[i] = src[i] ^ byte(key)
		key = bits.RotateLeft32(key, -8)
	}
	return key
}

// frameRoom is the longest header of a frame of ours.
const frameRoom = 10

// appendFrameHeader encodes the header of an unmasked, whole frame.
func appendFrameHeader(dst []byte, op byte, n int) []byte {
	dst = append(dst, 0x80|op)
	switch {
	case n < 126:
		return append(dst, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(dst, 126), uint16(n))
	}
	return binary.BigEndian.AppendUint64(append(dst, 127), uint64(n))
}

// packetEnds finds the ends of MQTT packets in a stream that comes in pieces.
type packetEnds struct {
	left  uint32 // what is still to come, once its length is known
	shift uint8  // of the next byte of the length
	phase uint8  // what comes next: 0 a first byte, 1 a length, 2 the rest, 3 no packets any more
}

// lastShift is that of the last byte that a length can have.
const lastShift = 21

// next returns the number of bytes of b, which is not empty, up to the end of a
// packet, all if none ends in it. After a length that is none, which detect-only
// lets pass, none ever does.
func (p *packetEnds) next(b []byte) int {
	n := 0
	for ; p.phase < 2; n++ {
		switch {
		case n == len(b):
			return n
		case p.phase == 0:
			p.phase = 1
			continue
		}
		p.left |= uint32(b[n]&0x7f) << p.shift
		p.shift += 7
		switch {
		case b[n] < 0x80:
			p.phase = 2
		case p.shift > lastShift:
			p.phase = 3
		}
	}
	if p.phase == 3 {
		return len(b)
	}
	rest := min(int(p.left), len(b)-n)
	if p.left -= uint32(rest); p.left == 0 {
		*p = packetEnds{}
	}
	return n + rest
}

// checkClose reads the payload of a client's close frame and returns the code
// to answer with.
func checkClose(payload []byte) (uint16, error) {
	switch len(payload) {
	case 0:
		return wsNormal, nil
	case 1:
		return 0, errClosePayload
	}
	code := binary.BigEndian.Uint16(payload)
	switch {
	case code >= 1000 && code <= 1003, code >= 1007 && code <= 1014, code >= 3000 && code <= 4999:
		return code, nil
	}
	return 0, errCloseCode
}
