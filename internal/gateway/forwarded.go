package gateway

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
)

// forwardee is a handler that can be told for whom a proxy asks for a
// WebSocket: list is the value of X-Forwarded-For. It may refuse.
type forwardee interface{ forwarded(list string) *refusal }

// contains reports whether an address is one of a listener's trusted-proxies.
func contains(trusted []netip.Prefix, a netip.Addr) bool {
	a = a.Unmap()
	return slices.ContainsFunc(trusted, func(p netip.Prefix) bool { return p.Contains(a) })
}

// clientOf is who a peer acts for. Each proxy appends the address that it was
// asked by, so the list is walked from the right, and believed as long as the
// one who wrote an entry is trusted. What is no address ends the walk.
func clientOf(peer netip.Addr, list string, trusted []netip.Prefix) netip.Addr {
	for list != "" && contains(trusted, peer) {
		i := strings.LastIndexByte(list, ',')
		a, ok := forwardedAddr(strings.Trim(list[i+1:], " \t"))
		if !ok {
			break
		}
		peer, list = a, list[:max(i, 0)]
	}
	return peer
}

// forwardedAddr reads an entry: an address, which some proxies write with a
// port or in brackets.
func forwardedAddr(s string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"))
	if err != nil {
		var ap netip.AddrPort
		ap, err = netip.ParseAddrPort(s)
		a = ap.Addr()
	}
	return a.WithZone(""), err == nil
}

// forwarded has d count and be decided about as the connection of the client
// behind a trusted proxy.
func (d *driver) forwarded(list string) *refusal {
	a := clientOf(d.addr, list, d.door.trusted())
	if a == d.addr {
		return nil
	}
	from := d.addr
	d.addr = a
	rule := d.door.g.census.move(from, a, &d.door.g.config().General)
	if rule == policy.RuleNone {
		return nil
	}
	return &refusal{
		status: 429, reason: "Too Many Requests", body: "Too many connections of your address wait for their CONNECT.",
		why: policy.ReasonTooManyConnections, rule: rule,
	}
}

// trusted are the trusted-proxies.
func (d *door) trusted() []netip.Prefix { return d.cfg.TrustedProxies }
