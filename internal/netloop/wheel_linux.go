package netloop

import "math/bits"

// wheel holds the timers of a loop's connections in two rows of slots: a fine
// one (16.8 ms a slot, for what is due within a second) and a coarse one
// (1.07 s a slot). A timer stands in the slot in which it is due or, when it is
// further away than the row reaches, in the last one; it is looked at when the
// slot's time has come, and put into a later one if it is not due yet. So a
// timer that moves to later costs nothing.
//
// Slots are lists through the connections themselves, by their numbers; number
// 0 is no connection.
type wheel struct {
	fine, coarse row
}

const (
	fineShift   = 24 // 2^24 ns a slot
	coarseShift = 30 // 2^30 ns a slot
	slots       = 64
)

// row is one ring of slots. done is the last slot time that was handled.
type row struct {
	shift uint
	done  int64
	used  uint64 // a bit a slot
	head  [slots]uint32
}

// link is a connection's place in the wheel.
type link struct {
	next, prev uint32
	slot       uint8 // 1 … 64 fine, 65 … 128 coarse, 0 none
}

func newWheel(now int64) wheel {
	return wheel{
		fine:   row{shift: fineShift, done: now >> fineShift},
		coarse: row{shift: coarseShift, done: now >> coarseShift},
	}
}

// time is when the slot of a linked connection comes next.
func (r *row) time(slot uint8) int64 {
	ahead := (int64(slot) - r.done - 1) & (slots - 1)
	return (r.done + 1 + ahead) << r.shift
}

// pick returns the slot for at.
func (r *row) pick(at int64) uint8 {
	t := (at + 1<<r.shift - 1) >> r.shift
	t = max(r.done+1, min(t, r.done+slots))
	return uint8(t & (slots - 1))
}

// set puts connection n, whose link is ln, where it is looked at no later than
// the slot of at; links gives the link of any other connection.
func (w *wheel) set(n uint32, ln *link, at, now int64, links func(uint32) *link) {
	if ln.slot != 0 && w.at(ln.slot) <= at {
		return // looked at early enough
	}
	w.remove(ln, links)
	r, base := &w.coarse, uint8(1+slots)
	if at-now < 1<<coarseShift {
		r, base = &w.fine, 1
	}
	if r.used == 0 { // nothing was due meanwhile, so nobody moved it on
		r.done = max(r.done, now>>r.shift)
	}
	s := r.pick(at)
	ln.slot, ln.prev, ln.next = base+s, 0, r.head[s]
	if ln.next != 0 {
		links(ln.next).prev = n
	}
	r.head[s] = n
	r.used |= 1 << s
}

// at is when a slot, numbered as in a link, comes next.
func (w *wheel) at(slot uint8) int64 {
	if slot > slots {
		return w.coarse.time(slot - 1 - slots)
	}
	return w.fine.time(slot - 1)
}

// remove takes a link out.
func (w *wheel) remove(ln *link, links func(uint32) *link) {
	if ln.slot == 0 {
		return
	}
	r, s := &w.fine, ln.slot-1
	if ln.slot > slots {
		r, s = &w.coarse, ln.slot-1-slots
	}
	if ln.prev != 0 {
		links(ln.prev).next = ln.next
	} else if r.head[s] = ln.next; ln.next == 0 {
		r.used &^= 1 << s
	}
	if ln.next != 0 {
		links(ln.next).prev = ln.prev
	}
	*ln = link{}
}

// next is when the first used slot comes; 0 when none is used.
func (w *wheel) next() int64 {
	a, b := w.fine.next(), w.coarse.next()
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

func (r *row) next() int64 {
	if r.used == 0 {
		return 0
	}
	first := uint((r.done + 1) & (slots - 1))
	ahead := bits.TrailingZeros64(bits.RotateLeft64(r.used, -int(first)))
	return (r.done + 1 + int64(ahead)) << r.shift
}

// due takes out every connection whose slot's time has come and appends its
// number to dst.
func (w *wheel) due(now int64, dst []uint32, links func(uint32) *link) []uint32 {
	dst = w.fine.due(now, dst, links)
	return w.coarse.due(now, dst, links)
}

func (r *row) due(now int64, dst []uint32, links func(uint32) *link) []uint32 {
	to := now >> r.shift
	for t := max(r.done+1, to-slots+1); t <= to && r.used != 0; t++ {
		s := t & (slots - 1)
		for n := r.head[s]; n != 0; {
			ln := links(n)
			dst = append(dst, n)
			n = ln.next
			*ln = link{}
		}
		r.head[s] = 0
		r.used &^= 1 << s
	}
	r.done = max(r.done, to)
	return dst
}
