package netloop

import (
	"sync/atomic"
	"time"
)

const (
	// reserve is what each connection may keep whatever the others keep, so
	// that ordinary packets which come in pieces always get through. It is not
	// charged to Options.BufferBytes.
	reserve = 16 << 10
	// strangersPart is which part of Options.BufferBytes strangers may have
	// together: one in so many.
	strangersPart = 4
	// patience is how long a connection may be charged with more than an equal
	// share of what is used up, or WriteStall if that is less. One that
	// completes its packets is charged for moments.
	patience = 5 * time.Second
)

// budget is what the connections of an engine keep beyond their reserves.
type budget struct {
	// Fixed.
	most     int64 // 0: no bound
	patience int64

	// Shared.
	total, strangers pool // strangers are part of total
}

func (b *budget) bound(o *Options) {
	b.most, b.patience = o.BufferBytes, int64(min(patience, o.WriteStall))
}

// pool is a sum of charges.
type pool struct{ bytes, conns atomic.Int64 }

func (p *pool) add(bytes, conns int64) {
	p.bytes.Add(bytes)
	if conns != 0 {
		p.conns.Add(conns)
	}
}

// account is what one connection is charged with. Only the time of the first
// byte counts: adding to a packet byte by byte is as good as silence.
type account struct {
	charged int64
	since   int64 // when charged was last 0
}

// charge brings a up to date: its connection keeps so many bytes.
func (b *budget) charge(a *account, kept int, stranger bool, now int64) {
	was := a.charged
	a.charged = max(0, int64(kept)-reserve)
	if was == a.charged {
		return
	}
	var conns int64
	switch {
	case was == 0:
		conns, a.since = 1, now
	case a.charged == 0:
		conns = -1
	}
	b.total.add(a.charged-was, conns)
	if stranger {
		b.strangers.add(a.charged-was, conns)
	}
}

// vouch takes a charged stranger's account out of the strangers'.
func (b *budget) vouch(a *account) {
	if a.charged > 0 {
		b.strangers.add(-a.charged, -1)
	}
}

// exhausted reports whether nothing is left for one more.
func (b *budget) exhausted(stranger bool) bool {
	return b.most > 0 && (b.total.bytes.Load() >= b.most || stranger && b.strangers.bytes.Load() >= b.most/strangersPart)
}

// crowds reports whether a connection is to be ended to make room: what it
// draws on is used up, and it was charged with an equal share of that or more,
// for longer than patience. When something is used up one of those that draw on
// it has such a share.
func (b *budget) crowds(a *account, stranger bool, now int64) bool {
	return b.exhausted(stranger) && a.charged > 0 && now-a.since >= b.patience &&
		(b.total.crowded(a, b.most) || stranger && b.strangers.crowded(a, b.most/strangersPart))
}

func (p *pool) crowded(a *account, most int64) bool {
	return p.bytes.Load() >= most && a.charged*p.conns.Load() >= most
}
