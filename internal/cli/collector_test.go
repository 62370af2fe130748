package cli

import (
	"runtime"
	"testing"
)

func TestWorthwhile(t *testing.T) {
	const k, m = 1 << 10, 1 << 20
	for _, c := range []struct {
		name               string
		live, since, spare uint64
		want               bool
	}{
		{"a small heap at rest", 4 * m, 10 * k, 2 * m, true},
		{"nothing to gain", 4 * m, 10 * k, 200 * k, false},
		{"clients come", 4 * m, 200 * k, 2 * m, false},
		{"a large heap at rest", 512 * m, 500 * k, 200 * m, true},
		{"a large heap, little to gain", 512 * m, 500 * k, 10 * m, false},
		{"a large heap, clients come", 512 * m, 5 * m, 200 * m, false},
	} {
		if got := worthwhile(c.live, c.since, c.spare); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// TestHeapRests: after work there is something to give back, and then there is
// not: a process at rest does not collect again and again.
func TestHeapRests(t *testing.T) {
	h := newHeap()
	var work [][]byte
	for range 256 {
		work = append(work, make([]byte, 64<<10))
	}
	if h.rests() {
		t.Error("at rest while it allocates")
	}
	runtime.KeepAlive(work)
	runtime.GC()
	h.rests() // what the collection allocated
	// Pages may come back late.
	given := 0
	for quiet := 0; quiet < 5 && given < 10; {
		if quiet++; h.rests() {
			h.giveBack()
			given, quiet = given+1, 0
		}
	}
	if given == 0 || given == 10 {
		t.Errorf("gave back %d times: %+v", given, h.samples)
	}
}
