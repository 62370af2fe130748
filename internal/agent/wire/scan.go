package wire

import (
	"encoding/binary"
	"math/bits"
)

// The fields of a frame event that were seen.
const (
	sawID = 1 << iota
	sawOpcode
	sawData
	sawSide
	sawIndex
	sawFin
	sawRoute
	sawIP

	// sawNeeded is what an event cannot be without.
	sawNeeded = sawID | sawOpcode | sawData | sawSide | sawIndex | sawFin
)

// Scan reads a v2 websocket_frame event without allocating. It reports false
// for everything that is not the plain form which proxies write (an escape, a
// byte outside ASCII, a repeated or missing key, any surprise); then Parse
// decides. What it accepts, Parse reads to the same result. After false f is
// undefined.
func (f *Frame) Scan(b []byte) bool {
	i, ok := f.scanObject(b, skipSpace(b, 0))
	return ok && skipSpace(b, i) == len(b)
}

// ScanV1 reads a v1 envelope that holds a websocket_frame event, as Scan does.
// It reports false for every other event.
func (f *Frame) ScanV1(b []byte) bool {
	const sawVersion, sawType, sawPayload = 1, 2, 4
	i := skipSpace(b, 0)
	if i >= len(b) || b[i] != '{' {
		return false
	}
	i++
	seen := 0
	for {
		key, next, ok := scanKey(b, i)
		if !ok {
			return false
		}
		i = next
		bit := 0
		switch string(key) {
		case "version":
			var v uint64
			if v, i, ok = scanUint(b, i); !ok || v != 1 {
				return false
			}
			bit = sawVersion
		case "event_type":
			var name []byte
			if name, i, ok = scanString(b, i); !ok || string(name) != "web_socket_frame" && string(name) != "websocket_frame" {
				return false
			}
			bit = sawType
		case "payload":
			if i, ok = f.scanObject(b, i); !ok {
				return false
			}
			bit = sawPayload
		default:
			return false
		}
		if seen&bit != 0 {
			return false
		}
		seen |= bit
		i = skipSpace(b, i)
		if i >= len(b) {
			return false
		}
		switch b[i] {
		case ',':
			i++
		case '}':
			return seen == sawVersion|sawType|sawPayload && skipSpace(b, i+1) == len(b)
		default:
			return false
		}
	}
}

// scanObject reads the object that begins at b[i] and returns where it ends.
func (f *Frame) scanObject(b []byte, i int) (int, bool) {
	if i >= len(b) || b[i] != '{' {
		return 0, false
	}
	i++
	*f = Frame{}
	seen := 0
	for {
		key, next, ok := scanKey(b, i)
		if !ok {
			return 0, false
		}
		i = next
		bit := 0
		switch string(key) {
		case "correlation_id":
			f.CorrelationID, i, ok = scanString(b, i)
			bit = sawID
		case "opcode":
			var name []byte
			name, i, ok = scanString(b, i)
			f.Opcode = opcode(name)
			bit = sawOpcode
		case "data":
			f.Data, i, ok = scanString(b, i)
			bit = sawData
		case "client_to_server":
			f.ClientToServer, i, ok = scanBool(b, i)
			bit = sawSide
		case "frame_index":
			f.Index, i, ok = scanUint(b, i)
			bit = sawIndex
		case "fin":
			f.Fin, i, ok = scanBool(b, i)
			bit = sawFin
		case "route_id":
			if f.HasRoute = !isNull(b, i); f.HasRoute {
				f.Route, i, ok = scanString(b, i)
			} else {
				i += len("null")
			}
			bit = sawRoute
		case "client_ip":
			f.ClientIP, i, ok = scanString(b, i)
			bit = sawIP
		default:
			return 0, false
		}
		if !ok || seen&bit != 0 {
			return 0, false
		}
		seen |= bit
		i = skipSpace(b, i)
		if i >= len(b) {
			return 0, false
		}
		switch b[i] {
		case ',':
			i++
		case '}':
			return i + 1, seen&sawNeeded == sawNeeded
		default:
			return 0, false
		}
	}
}

// scanKey reads a key with its colon and the blanks around.
func scanKey(b []byte, i int) (key []byte, next int, ok bool) {
	key, i, ok = scanString(b, skipSpace(b, i))
	if !ok {
		return nil, 0, false
	}
	i = skipSpace(b, i)
	if i >= len(b) || b[i] != ':' {
		return nil, 0, false
	}
	return key, skipSpace(b, i+1), true
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// scanString reads a string of plain ASCII, eight bytes at a time. The lowest
// mark in a word is exact: a borrow can set false ones only above a true one.
// [BenchmarkFrameScan]
func scanString(b []byte, i int) (s []byte, next int, ok bool) {
	if i >= len(b) || b[i] != '"' {
		return nil, 0, false
	}
	i++
	from := i
	for len(b)-i >= 8 {
		x := binary.LittleEndian.Uint64(b[i:])
		quote, slash := x^ones*'"', x^ones*'\\'
		marks := x // a byte outside ASCII
		marks |= (x - ones*0x20) &^ x
		marks |= (quote - ones) &^ quote
		marks |= (slash - ones) &^ slash
		if marks &= highs; marks != 0 {
			i += bits.TrailingZeros64(marks) / 8
			if b[i] != '"' {
				return nil, 0, false
			}
			return b[from:i], i + 1, true
		}
		i += 8
	}
	for ; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			return b[from:i], i + 1, true
		case c == '\\' || c < 0x20 || c >= 0x80:
			return nil, 0, false
		}
	}
	return nil, 0, false
}

// scanUint reads a plain number: no sign, fraction, exponent or leading zero.
func scanUint(b []byte, i int) (v uint64, next int, ok bool) {
	from := i
	for ; i < len(b) && b[i] >= '0' && b[i] <= '9'; i++ {
		// 19 digits always fit.
		if i-from == 19 {
			return 0, 0, false
		}
		v = v*10 + uint64(b[i]-'0')
	}
	if i == from || b[from] == '0' && i != from+1 {
		return 0, 0, false
	}
	return v, i, true
}

func scanBool(b []byte, i int) (v bool, next int, ok bool) {
	switch {
	case len(b)-i >= 4 && string(b[i:i+4]) == "true":
		return true, i + 4, true
	case len(b)-i >= 5 && string(b[i:i+5]) == "false":
		return false, i + 5, true
	}
	return false, 0, false
}

func isNull(b []byte, i int) bool { return len(b)-i >= 4 && string(b[i:i+4]) == "null" }

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\n' || b[i] == '\r') {
		i++
	}
	return i
}
