package mqtt

import (
	"bytes"
	"encoding/binary"
	"unicode/utf8"
)

// varint reads a variable byte integer at the start of b. size is 0 when it
// does not end within b; ok is then false when it can no longer end well, that
// is, when four bytes all ask for another.
func varint(b []byte) (n, size int, ok bool) {
	for i := 0; i < len(b) && i < 4; i++ {
		n |= int(b[i]&0x7F) << (7 * i)
		if b[i] < 0x80 {
			return n, i + 1, true
		}
	}
	return 0, 0, len(b) < 4
}

// varintLen is how many bytes the shortest form of n takes.
func varintLen(n int) int {
	switch {
	case n < 1<<7:
		return 1
	case n < 1<<14:
		return 2
	case n < 1<<21:
		return 3
	}
	return 4
}

func appendVarint(dst []byte, n int) []byte {
	for n >= 0x80 {
		dst = append(dst, byte(n)|0x80)
		n >>= 7
	}
	return append(dst, byte(n))
}

func uint16At(b []byte, i int) uint16 { return binary.BigEndian.Uint16(b[i:]) }

func appendUint16(dst []byte, n uint16) []byte { return append(dst, byte(n>>8), byte(n)) }

// appendData encodes a string or binary data with its length. Longer than
// 65,535 bytes is a bug of the caller: its length would lie.
func appendData(dst, data []byte) []byte {
	if len(data) > 0xFFFF {
		panic("mqtt: string of more than 65,535 bytes")
	}
	return append(appendUint16(dst, uint16(len(data))), data...)
}

// dataAt reads a string or binary data at b[i:] and returns where the next
// field starts; ok is false when it reaches over the end of b.
func dataAt(b []byte, i int) (data []byte, next int, ok bool) {
	if len(b)-i < 2 {
		return nil, i, false
	}
	start := i + 2
	next = start + int(uint16At(b, i))
	if next > len(b) {
		return nil, i, false
	}
	return b[start:next:next], next, true
}

// binaryAt is dataAt with the error said.
func binaryAt(b []byte, i int, what string) (data []byte, next int, err error) {
	data, next, ok := dataAt(b, i)
	if !ok {
		return nil, i, cut(i, what)
	}
	return data, next, nil
}

// stringAt reads a UTF-8 string and checks it.
func stringAt(b []byte, i int, what string) (data []byte, next int, err error) {
	data, next, err = binaryAt(b, i, what)
	if err == nil && !validString(data) {
		err = badString(data, i, what)
	}
	return data, next, err
}

// validString reports whether b is a UTF-8 string as MQTT has it: well-formed,
// without surrogates [MQTT-1.5.4-1] and without U+0000 [MQTT-1.5.4-2]. Control
// and non-characters only "should not" be there and pass, as does U+FEFF,
// which is a character like others [MQTT-1.5.4-3].
func validString(b []byte) bool {
	const lows, highs = 0x7F7F7F7F7F7F7F7F, 0x8080808080808080
	i := 0
	for ; len(b)-i >= 8; i += 8 {
		// Of a byte w below 0x80, w+0x7F has its high bit exactly if w is not 0,
		// and does not carry. A byte from 0x80 on clears its bit by &^ w.
		if w := binary.LittleEndian.Uint64(b[i:]); (w+lows)&^w&highs != highs {
			return validStringSlow(b[i:])
		}
	}
	for _, c := range b[i:] {
		if c == 0 || c >= utf8.RuneSelf {
			return validStringSlow(b[i:])
		}
	}
	return true
}

func validStringSlow(b []byte) bool {
	return bytes.IndexByte(b, 0) < 0 && utf8.Valid(b)
}

// plainTopic reports whether b is ASCII without U+0000, + and #: most topic
// names are, and need no other look. False decides nothing.
func plainTopic(b []byte) bool {
	const (
		lows, highs = 0x7F7F7F7F7F7F7F7F, 0x8080808080808080
		pluses      = 0x2B2B2B2B2B2B2B2B
		hashes      = 0x2323232323232323
	)
	if len(b) < 8 {
		for _, c := range b {
			if c == 0 || c == '+' || c == '#' || c >= utf8.RuneSelf {
				return false
			}
		}
		return true
	}
	// As in validString, for three bytes at once. The last word may overlap the
	// one before it.
	last := len(b) - 8
	for i := 0; i < last; i += 8 {
		w := binary.LittleEndian.Uint64(b[i:])
		if (w+lows)&((w^pluses)+lows)&((w^hashes)+lows)&^w&highs != highs {
			return false
		}
	}
	w := binary.LittleEndian.Uint64(b[last:])
	return (w+lows)&((w^pluses)+lows)&((w^hashes)+lows)&^w&highs == highs
}

// badString says what is wrong with a string that validString refuses.
func badString(b []byte, offset int, what string) *Error {
	if utf8.Valid(b) { // [MQTT-1.5.4-2]
		return malformed(clauseNUL, offset, what+" holds U+0000")
	}
	return malformed(clauseUTF8, offset, what+" is not well-formed UTF-8") // [MQTT-1.5.4-1]
}

// checkTopicName judges a topic name: a string of at least one character
// without wildcards. wildcards is the clause that forbids them in this place.
func checkTopicName(b []byte, offset int, what, wildcards string) error {
	if len(b) == 0 { // [MQTT-4.7.3-1]
		return malformed(clauseEmpty, offset, what+" is empty")
	}
	if plainTopic(b) {
		return nil
	}
	if !validString(b) {
		return badString(b, offset, what)
	}
	if bytes.IndexByte(b, '+') >= 0 || bytes.IndexByte(b, '#') >= 0 {
		return malformed(wildcards, offset, what+" holds a wildcard")
	}
	return nil
}
