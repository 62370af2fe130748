package session

import (
	"math"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
)

const (
	// repeatTime is how often at most a connection tells the same again.
	repeatTime = 60 * Second
	// ownRefusals is how many refusals of one kind are told before they are
	// counted: more than a client that errs has, and less than one that floods.
	ownRefusals = 16
	// maxRepeats bounds the different things a connection keeps count of. What
	// is beyond counts under policy.RuleOthers, one for each kind and packet.
	maxRepeats = 8
)

// repeat counts what happened again since it was last told.
type repeat struct {
	what  Event // without a topic or filters: what stays the same
	next  Time  // not told again before
	told  uint8 // so many were, of those that may be
	count uint64
}

// repeats are what a connection told lately and what has come since. A nil one
// is empty: most connections never have anything changed or withheld.
type repeats struct{ list []repeat }

// of returns the entry of what an event tells; one that is new may be told at
// once.
func (r *repeats) of(e *Event, now Time) *repeat {
	what := Event{
		Kind: e.Kind, Decision: e.Decision, Reason: e.Reason, Rule: e.Rule, Packet: e.Packet, From: e.From,
	}
	old := -1
	for i := range r.list {
		p := &r.list[i]
		switch {
		case p.what.alike(&what):
			return p
		case p.count == 0 && now >= p.next:
			old = i
		}
	}
	switch {
	case old >= 0:
		r.list[old] = repeat{what: what}
		return &r.list[old]
	case len(r.list) >= maxRepeats && what.Rule != policy.RuleOthers:
		others := what
		others.Rule = policy.RuleOthers
		return r.of(&others, now)
	}
	r.list = append(r.list, repeat{what: what})
	return &r.list[len(r.list)-1]
}

func (e *Event) alike(o *Event) bool {
	return e.Kind == o.Kind && e.Rule == o.Rule && e.Reason == o.Reason && e.Packet == o.Packet && e.From == o.From
}

// often reports what a peer can have happen with every packet. The first of it,
// or the first few where something is refused or would be, are events like
// others, the next are repeats; a minute's number of them is one more event.
func (s *Session) often(fx *Effects, e Event) {
	p := s.rare().repeats.of(&e, s.now)
	if p.count > 0 && s.now >= p.next {
		s.tellRepeat(p, fx)
	}
	own := uint8(1)
	if e.Kind == KindBlocked || e.Kind == KindDetected {
		own = ownRefusals
	}
	if s.now >= p.next {
		p.next, p.told = s.now+repeatTime, 0
	}
	switch {
	case e.Decision == DecisionClose: // the last one
	case p.told < own:
		p.told++
	default:
		e.Repeat = true
		p.count++
		s.earlier(p.next)
	}
	s.event(fx, e)
}

func (s *Session) tellRepeat(p *repeat, fx *Effects) {
	e := p.what
	e.Count = p.count
	p.count, p.next, p.told = 0, s.now+repeatTime, math.MaxUint8
	s.event(fx, e)
}

// tellRepeats reports what is due of what happened again; at the end of the
// connection, all of it.
func (s *Session) tellRepeats(all bool, fx *Effects) {
	list := s.few().repeats.list
	for i := range list {
		if p := &list[i]; p.count > 0 && (all || s.now >= p.next) {
			s.tellRepeat(p, fx)
		}
	}
}

// repeatsAt is when something that happened again is to be told; 0: nothing.
func (s *Session) repeatsAt() (at Time) {
	list := s.few().repeats.list
	for i := range list {
		if p := &list[i]; p.count > 0 && (at == 0 || p.next < at) {
			at = p.next
		}
	}
	return at
}
