package cli

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// tuneCollector trades a little more collecting for less memory: packets on
// their way allocate nothing, so there is little to collect, and what is live is
// mostly idle connections. While the process is busy the collector's room is
// half of what is live; when it has come to rest the room is given back, until
// ctx ends. GOGC in the environment wins.
func tuneCollector(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	debug.SetGCPercent(50)
	go func() { // ends with ctx
		tick := time.NewTicker(restTime)
		defer tick.Stop()
		h := newHeap()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if h.rests() {
					h.giveBack()
				}
			}
		}
	}()
}

// restTime is after which time without much allocation a process is at rest.
const restTime = 2 * time.Second

// heap sees when a process is at rest and has memory to give back.
type heap struct {
	samples []metrics.Sample
	before  uint64 // allocated in all, when last asked
	stays   uint64 // of what is spare: some pages each processor keeps at hand
}

// The places of what is measured in heap.samples, all in bytes.
const (
	heapAllocated = iota // ever
	heapLive             // at the last collection
	heapObjects          // live or not collected yet
	heapFree             // neither used nor given back
)

func newHeap() *heap {
	h := &heap{samples: []metrics.Sample{
		heapAllocated: {Name: "/gc/heap/allocs:bytes"},
		heapLive:      {Name: "/gc/heap/live:bytes"},
		heapObjects:   {Name: "/memory/classes/heap/objects:bytes"},
		heapFree:      {Name: "/memory/classes/heap/free:bytes"},
	}}
	h.rests()
	return h
}

// rests reports whether little was allocated since it was last asked and there
// is something to give back. See [worthwhile].
func (h *heap) rests() bool {
	live, since, spare := h.read()
	h.stays = min(h.stays, spare)
	return worthwhile(live, since, spare-h.stays)
}

// giveBack collects and gives back what is spare.
func (h *heap) giveBack() {
	debug.FreeOSMemory()
	_, _, h.stays = h.read()
}

func (h *heap) read() (live, since, spare uint64) {
	metrics.Read(h.samples)
	at := func(i int) uint64 { return h.samples[i].Value.Uint64() }
	since = at(heapAllocated) - h.before
	h.before = at(heapAllocated)
	live = at(heapLive)
	return live, since, max(at(heapObjects), live) - live + at(heapFree)
}

// worthwhile decides whether to collect and give back what is spare: a full
// collection costs as live is large, so it has to be slow to come again (at 512
// MiB live and the most that counts as rest, every half a minute) and to bring
// some percent.
func worthwhile(live, since, spare uint64) bool {
	const little, some = 32 << 10, 128 << 10
	return since <= little+live/512 && spare >= some+live/32
}
