package gateway

import (
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/auth"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
)

// census counts connections, all together and by address, for the caps of the
// configuration. A connection is pending until its CONNECT has come. Its
// methods may be called at once.
type census struct {
	// What the caps refused.
	refusedPending, refusedConnected atomic.Uint64

	// Guarded by mu.
	mu      sync.Mutex
	total   tally
	byPlace map[netip.Addr]tally // by [auth.Network]
}

// tally is how many connections there are.
type tally struct {
	pending, connected int32
}

func newCensus() *census { return &census{byPlace: map[netip.Addr]tally{}} }

// over reports whether n is beyond a cap, of which 0 is none.
func over(n int32, most int) bool { return most > 0 && int(n) > most }

// arrive counts a connection that was accepted. Another rule than RuleNone
// refuses it: nothing was counted. A proxy stands for many clients, each of
// which is looked at when it is known, by move.
func (c *census) arrive(a netip.Addr, proxy bool, g *config.General) policy.RuleRef {
	a = auth.Network(a)
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.byPlace[a]
	if g.BlockMode {
		l := &g.Limits
		switch {
		case over(c.total.pending+1, l.PendingConnections):
			c.refusedPending.Add(1)
			return policy.RulePendingConnections
		case !proxy && over(t.pending+1, l.PendingPerIP):
			c.refusedPending.Add(1)
			return policy.RulePendingPerIP
		}
	}
	c.total.pending++
	t.pending++
	c.byPlace[a] = t
	return policy.RuleNone
}

// move counts a pending connection as one of another address. Another rule than
// RuleNone is to refuse it; it is counted all the same, until it leaves.
func (c *census) move(from, to netip.Addr, g *config.General) policy.RuleRef {
	from, to = auth.Network(from), auth.Network(to)
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.byPlace[from]
	t.pending--
	c.keep(from, t)
	t = c.byPlace[to]
	t.pending++
	c.keep(to, t)
	if g.BlockMode && over(t.pending, g.Limits.PendingPerIP) {
		c.refusedPending.Add(1)
		return policy.RulePendingPerIP
	}
	return policy.RuleNone
}

// keep stores the tally of a place. The caller holds mu.
func (c *census) keep(a netip.Addr, t tally) {
	if t == (tally{}) {
		delete(c.byPlace, a)
	} else {
		c.byPlace[a] = t
	}
}

// connect moves a connection whose CONNECT has come from the pending ones to
// the connected ones. Another rule than RuleNone is to refuse it; it is counted
// all the same, until it leaves.
func (c *census) connect(a netip.Addr, g *config.General) policy.RuleRef {
	a = auth.Network(a)
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.byPlace[a]
	c.total.pending--
	t.pending--
	c.total.connected++
	t.connected++
	c.byPlace[a] = t
	rule := policy.RuleNone
	switch {
	case !g.BlockMode:
	case over(c.total.connected, g.MaxConnections):
		rule = policy.RuleMaxConnections
	case over(t.connected, g.MaxConnectionsPerIP):
		rule = policy.RuleMaxConnectionsPerIP
	}
	if rule != policy.RuleNone {
		c.refusedConnected.Add(1)
	}
	return rule
}

// leave forgets a connection.
func (c *census) leave(a netip.Addr, connected bool) {
	a = auth.Network(a)
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.byPlace[a]
	if connected {
		c.total.connected--
		t.connected--
	} else {
		c.total.pending--
		t.pending--
	}
	c.keep(a, t)
}

// count is how many there are.
func (c *census) count() (pending, connected int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return int(c.total.pending), int(c.total.connected)
}
