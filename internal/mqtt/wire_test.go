package mqtt

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// The plain versions of the two scans that read eight bytes at a time.
func plainValidString(b []byte) bool {
	return utf8.Valid(b) && bytes.IndexByte(b, 0) < 0
}

func plainPlainTopic(b []byte) bool {
	for _, c := range b {
		if c == 0 || c >= 0x80 || c == '+' || c == '#' {
			return false
		}
	}
	return true
}

// TestScans puts every byte at every place of strings of every length about a
// word, among bytes that are good.
func TestScans(t *testing.T) {
	for size := range 34 {
		for at := range size {
			for c := range 256 {
				for _, filler := range []string{"a", "\x7F", "\x01", "/", "*", "\"", "$", ","} {
					b := []byte(strings.Repeat(filler, size))
					b[at] = byte(c)
					if got, want := validString(b), plainValidString(b); got != want {
						t.Fatalf("validString(%q) = %v, want %v", b, got, want)
					}
					if got, want := plainTopic(b), plainPlainTopic(b); got != want {
						t.Fatalf("plainTopic(%q) = %v, want %v", b, got, want)
					}
				}
			}
		}
	}
}

func TestScansRandom(t *testing.T) {
	mixed := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "topic/level", "+", "#", "\x00", "ä", "€", "\U0001F321", "\xED\xA0\x80", "\xC0\x80", "\xFF", "\x80"}), 0, 12)
	rapid.Check(t, func(t *rapid.T) {
		b := []byte(strings.Join(mixed.Draw(t, "parts"), ""))
		if got, want := validString(b), plainValidString(b); got != want {
			t.Fatalf("validString(%q) = %v, want %v", b, got, want)
		}
		if got, want := plainTopic(b), plainPlainTopic(b); got != want {
			t.Fatalf("plainTopic(%q) = %v, want %v", b, got, want)
		}
	})
}

func TestVarint(t *testing.T) {
	for _, n := range []int{0, 1, 127, 128, 16383, 16384, 2097151, 2097152, MaximumLength} {
		b := appendVarint(nil, n)
		if len(b) != varintLen(n) {
			t.Errorf("%d takes %d bytes, varintLen says %d", n, len(b), varintLen(n))
		}
		if got, size, ok := varint(append(b, 0xFF)); !ok || got != n || size != len(b) {
			t.Errorf("%d read as %d of %d bytes, %v", n, got, size, ok)
		}
		for cut := range b {
			if _, size, ok := varint(b[:cut]); size != 0 || !ok {
				t.Errorf("%d cut at %d: size %d, %v", n, cut, size, ok)
			}
		}
	}
	if _, size, ok := varint([]byte{0x80, 0x80, 0x80, 0x80}); size != 0 || ok {
		t.Error("four bytes that all ask for another are not refused")
	}
}
