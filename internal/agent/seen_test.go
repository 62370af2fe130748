package agent

import (
	"encoding/binary"
	"testing"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/session"
)

// TestSeenForgets: ids are remembered for keepTime at least, however many there
// are, within a bound of memory.
func TestSeenForgets(t *testing.T) {
	s := newSeen()
	id := func(i int) []byte { return binary.LittleEndian.AppendUint64(nil, uint64(i)) }
	now := session.Time(1)
	const n = layerMarks * 3 / 2
	for i := range n {
		s.add(id(i), upgraded, now)
		s.add(id(i), upgraded, now) // counts once
	}
	if got := len(s.layers); got != 2 {
		t.Errorf("%d layers for %d ids", got, n)
	}
	wrong := 0
	for i := range n {
		if !s.has(id(i), upgraded) {
			t.Fatalf("id %d is forgotten", i)
		}
		if s.has(id(i), begun) {
			wrong++
		}
	}
	if wrong > n/10_000 {
		t.Errorf("%d of %d ids are taken for others", wrong, n)
	}

	// All layers are full: nothing is forgotten before its time.
	for len(s.layers) < maxLayers {
		s.turn(now)
	}
	for i := range maxLayers {
		s.layers[i].marks, s.layers[i].last = layerMarks, now
	}
	now += keepTime - 1
	for i := range n {
		s.add(id(n+i), upgraded, now)
	}
	if !s.has(id(0), upgraded) || !s.has(id(n), upgraded) || len(s.layers) != maxLayers {
		t.Error("an id is forgotten for want of place")
	}
	// And then the oldest ones are.
	now += keepTime
	for range maxLayers {
		s.turn(now)
	}
	if s.has(id(0), upgraded) || s.has(id(n), upgraded) || s.limit != layerMarks {
		t.Errorf("old ids are still there, limit %d", s.limit)
	}
}

func BenchmarkSeen(b *testing.B) {
	s := newSeen()
	for range maxLayers {
		s.turn(1)
	}
	var id [8]byte
	for i := 0; b.Loop(); i++ {
		binary.LittleEndian.PutUint64(id[:], uint64(i))
		if !s.has(id[:], upgraded) {
			s.add(id[:], upgraded, 1)
		}
	}
}
