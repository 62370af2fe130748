package model

import "math/rand/v2"

// choices are the bytes of a schedule: given, or drawn and recorded.
type choices struct {
	in   []byte
	rnd  *rand.Rand // nil: the bytes are given
	rec  []byte
	over bool // all given bytes are used up
}

func drawn(seed uint64) *choices {
	return &choices{rnd: rand.New(rand.NewPCG(seed, 0x6d716464))}
}

func given(b []byte) *choices { return &choices{in: b} }

// n chooses one of k, at most 256. When the bytes are used up it is 0, which
// every caller makes the plain case.
func (c *choices) n(k int) int {
	var b byte
	switch {
	case c.rnd != nil:
		b = byte(c.rnd.IntN(256))
		c.rec = append(c.rec, b)
	case len(c.in) > 0:
		b, c.in = c.in[0], c.in[1:]
	default:
		c.over = true
	}
	return int(b) % k
}

// rarely is true once in k.
func (c *choices) rarely(k int) bool { return c.n(k) == k-1 }

// pick chooses one of a list; the first is the plain one.
func pick[T any](c *choices, list ...T) T { return list[c.n(len(list))] }

// shorten makes a failing schedule shorter and plainer as long as it fails in
// the same way.
func shorten(b []byte, fails func([]byte) bool, tries int) []byte {
	try := func(next []byte) bool {
		if tries--; tries < 0 || !fails(next) {
			return false
		}
		b = next
		return true
	}
	for again := true; again && tries > 0; {
		again = false
		for size := len(b) / 2; size > 0; size /= 2 {
			for at := 0; at+size <= len(b); {
				next := append(append([]byte(nil), b[:at]...), b[at+size:]...)
				if try(next) {
					again = true
				} else {
					at += size
				}
			}
		}
		for i := range b {
			if b[i] != 0 {
				next := append([]byte(nil), b...)
				next[i] = 0
				try(next)
			}
		}
	}
	return b
}
