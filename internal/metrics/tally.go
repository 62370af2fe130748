package metrics

import (
	"maps"
	"slices"
	"sync/atomic"
)

// Tallies count what every packet counts. It is spread over several tallies, on
// cache lines of their own: those who decide take one each and share it with
// few others, and it is summed up when somebody asks.
type Tallies struct {
	parts [16]Tally
	given atomic.Uint32
}

// Tally is one part. Its index is mqtt.Side, of who sent it.
type Tally struct {
	packets, messages [2]atomic.Uint64
	Frames            [3]atomic.Uint64 // by an order of the owner's
	_                 [128 - 7*8]byte  // two cache lines: they are fetched in pairs
}

// Next is a tally for one more who decides.
func (t *Tallies) Next() *Tally { return &t.parts[t.given.Add(1)%uint32(len(t.parts))] }

// Add counts packets of one side, and how many of them were messages.
func (t *Tally) Add(side int, packets, messages uint64) {
	if packets > 0 {
		t.packets[side].Add(packets)
	}
	if messages > 0 {
		t.messages[side].Add(messages)
	}
}

// Packets are all packets of a side so far, and the messages among them.
func (t *Tallies) Packets(side int) (packets, messages uint64) {
	for i := range t.parts {
		packets += t.parts[i].packets[side].Load()
		messages += t.parts[i].messages[side].Load()
	}
	return packets, messages
}

// Frames are all frames so far that were counted under an index.
func (t *Tallies) Frames(index int) (n uint64) {
	for i := range t.parts {
		n += t.parts[i].Frames[index].Load()
	}
	return n
}

// Reasons count by a closed list of reasons, which is indexed by a byte.
type Reasons [256]atomic.Uint64

// Append appends a sample for each tag: several reasons may have one. What never
// was is left out, but for the first tag: so there always is a sample.
func (r *Reasons) Append(all []Sample, m *Metric, first string, tag func(uint8) string) []Sample {
	sums := map[string]uint64{first: 0}
	for i := range r {
		if n := r[i].Load(); n > 0 {
			sums[tag(uint8(i))] += n //nolint:gosec // an index of the array
		}
	}
	for _, t := range slices.Sorted(maps.Keys(sums)) {
		all = append(all, Of(m, sums[t], "reason", t))
	}
	return all
}
