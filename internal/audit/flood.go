package audit

import (
	"net/netip"
	"time"
)

const (
	// floodTime is how long refusals of one address are counted together.
	floodTime = time.Minute
	// floodLines is how many of them are written in that time, of each kind and
	// rule. A connection has few lines of its own; who reconnects has them
	// again.
	floodLines = 600
	// maxFloods bounds what is counted apart. What is beyond counts together,
	// one for each kind.
	maxFloods = 4096
)

// floods counts the refusals that an address causes over all its connections,
// however often it comes back.
type floods struct {
	list map[floodKey]*flood
}

type floodKey struct {
	network     netip.Addr // IPv6 by /64; the zero one: beyond maxFloods
	event, rule string
}

type flood struct {
	lines int
	kind  Event // what all have in common
	count uint64
}

// admit reports whether e is written. Else it is counted.
func (f *floods) admit(e *Event) bool {
	if !e.refusal() || e.ClientIP == "" {
		return true
	}
	in := f.of(e)
	if in.lines < floodLines {
		in.lines++
		return true
	}
	in.count += max(e.Count, 1)
	return false
}

func (f *floods) of(e *Event) *flood {
	ip := e.ClientIP
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		ip = "" // what a proxy says is no address: all such count together
	}
	if addr = addr.Unmap().WithZone(""); addr.Is6() {
		p, _ := addr.Prefix(64) // 64 bits are never too many for IPv6
		addr, ip = p.Addr(), p.String()
	}
	k := floodKey{addr, e.Event, e.Rule}
	in := f.list[k]
	if in == nil && len(f.list) >= maxFloods {
		k, ip = floodKey{event: e.Event}, ""
		in = f.list[k]
	}
	if in == nil {
		kind := Event{Event: e.Event, Tags: e.Tags, Decision: e.Decision, Reason: e.Reason, Rule: k.rule, Door: e.Door, ClientIP: ip}
		in = &flood{kind: kind}
		if f.list == nil {
			f.list = make(map[floodKey]*flood)
		}
		f.list[k] = in
	}
	return in
}

// settle ends a floodTime: write gets an event for each number of refusals that
// were not written. An address that goes on has no lines of its own in the next.
func (f *floods) settle(now time.Time, write func(*Event)) {
	for k, in := range f.list {
		if in.count == 0 {
			delete(f.list, k)
			continue
		}
		e := in.kind
		e.Time, e.Count = now, in.count
		in.count = 0
		write(&e)
	}
}
