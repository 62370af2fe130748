package policy

import (
	"sync"
	"weak"
)

// bound is what identities to which the same rules apply have in common. It is
// immutable but for the ceilings, which are worked out when they are first asked
// for.
type bound struct {
	engine *Engine
	sets
	connect RuleRef // decides CONNECT; RuleNone: no rule speaks about it

	ceilings [valueUsername | valueClientID + 1]ceiling // by what is fit of an identity; with templates
}

// ceiling is what Subject.Ceiling remembers.
type ceiling struct {
	once   sync.Once
	maxQoS byte
	retain bool
}

// boundCache finds what was bound before. It keeps alive only the last few;
// else an entry lives as long as some subject uses it.
type boundCache struct {
	// Guarded by mu.
	mu     sync.Mutex
	known  map[string]weak.Pointer[bound]
	sweep  int // size at which dead entries are looked for
	recent [256]*bound
	next   int
}

// minSweep is the least size at which dead entries are looked for.
const minSweep = 1024

// get returns what is known under key, or builds it. build runs without the
// lock: two who ask at once may both build, and one result is used.
func (c *boundCache) get(key string, build func() *bound) *bound {
	if b := c.lookup(key); b != nil {
		return b
	}
	built := build()
	c.mu.Lock()
	defer c.mu.Unlock()
	if b := c.known[key].Value(); b != nil {
		return b
	}
	if c.known == nil {
		c.known = make(map[string]weak.Pointer[bound])
	}
	if len(c.known) >= max(c.sweep, minSweep) {
		for k, p := range c.known {
			if p.Value() == nil {
				delete(c.known, k)
			}
		}
		c.sweep = 2 * len(c.known)
	}
	c.known[key] = weak.Make(built)
	c.recent[c.next] = built
	c.next = (c.next + 1) % len(c.recent)
	return built
}

func (c *boundCache) lookup(key string) *bound {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known[key].Value()
}
