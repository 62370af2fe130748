package agent

import (
	"hash/maphash"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/session"
)

// seen remembers the correlation ids of WebSockets. Clients can choose them and
// nobody tells when a WebSocket has ended, so an id that was there once may
// still be somebody's: it is not given to another. That is remembered for
// keepTime at least. An id that was never there is now and then taken for one
// that was, and refused: one in 100,000 for each layer, and more when ids come
// faster than they may be forgotten. Never the other way round.
type seen struct {
	seeds  [stages]maphash.Seed
	layers []*layer // oldest first; the last one takes marks
	limit  int      // of marks in the last one
}

// stage is how far the WebSocket of an id has come.
type stage uint8

const (
	upgraded stage = iota // its upgrade was allowed
	begun                 // a frame of it has come
	stages
)

// freed are ids that are free again although they were seen: their WebSockets
// have closed in order. The oldest of more than maxFreed are forgotten, and
// taken then.
type freed struct {
	ids  map[string]bool // whether another upgrade was allowed since
	ring []string
	next int
}

// The bounds of what is kept of ids that are free again, which few clients ever
// use: those that send a trace id of their own, the same each time. A longer id
// stays taken.
const (
	maxFreed   = 16384
	maxFreedID = 128
)

func newFreed() freed { return freed{ids: map[string]bool{}} }

func (f *freed) add(id string) {
	if len(id) > maxFreedID {
		return
	}
	f.ids[id] = false
	if len(f.ring) < maxFreed {
		f.ring = append(f.ring, id)
		return
	}
	if old := f.ring[f.next]; old != id {
		delete(f.ids, old)
	}
	f.ring[f.next] = id
	f.next = (f.next + 1) % maxFreed
}

// layer is a Bloom filter.
type layer struct {
	words [layerBits / 64]uint64
	marks int
	last  session.Time // of the newest mark
}

// The size of what is remembered: 32 MiB at most, which is four million
// WebSockets; the next 128,000 take a MiB more. [TestSeenForgets]
const (
	layerBits  = 1 << 23
	layerMarks = layerBits / 32
	layerTests = 8
	maxLayers  = 32
	keepTime   = 12 * 3600 * session.Second
)

func newSeen() seen {
	s := seen{limit: layerMarks}
	for i := range s.seeds {
		s.seeds[i] = maphash.MakeSeed()
	}
	return s
}

// has reports whether an id has come as far as at.
func (s *seen) has(id []byte, at stage) bool {
	h := maphash.Bytes(s.seeds[at], id)
	for _, l := range s.layers {
		if l.has(h) {
			return true
		}
	}
	return false
}

// add remembers that an id has come as far as at.
func (s *seen) add(id []byte, at stage, now session.Time) {
	h := maphash.Bytes(s.seeds[at], id)
	if len(s.layers) == 0 || s.layers[len(s.layers)-1].marks >= s.limit {
		s.turn(now)
	}
	s.layers[len(s.layers)-1].add(h, now)
}

// turn makes place for marks: a new layer, else the oldest one's when it is old
// enough to be forgotten, else beside what stands in it.
func (s *seen) turn(now session.Time) {
	if len(s.layers) < maxLayers {
		s.layers = append(s.layers, new(layer))
		return
	}
	oldest := s.layers[0]
	if now-oldest.last >= keepTime {
		*oldest = layer{}
	}
	copy(s.layers, s.layers[1:])
	s.layers[len(s.layers)-1] = oldest
	s.limit = oldest.marks + layerMarks
}

// bit is the i-th place of a hash.
func bit(h uint64, i uint32) (word uint32, mask uint64) {
	at := uint32(h) + i*(uint32(h>>32)|1) //nolint:gosec // both halves are wanted
	return at % layerBits / 64, 1 << (at % 64)
}

func (l *layer) has(h uint64) bool {
	for i := range uint32(layerTests) {
		if word, mask := bit(h, i); l.words[word]&mask == 0 {
			return false
		}
	}
	return true
}

func (l *layer) add(h uint64, now session.Time) {
	l.last = now
	if l.has(h) {
		return
	}
	l.marks++
	for i := range uint32(layerTests) {
		word, mask := bit(h, i)
		l.words[word] |= mask
	}
}
