package auth

import (
	"sync"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
)

// owner is who holds a client id: all anonymous clients are one.
type owner struct {
	anonymous bool
	username  string
}

func ownerOf(id *policy.Identity) owner {
	if id.Anonymous {
		return owner{anonymous: true}
	}
	return owner{username: id.Username}
}

// owners is which identity holds which client id. It has as many entries as
// there are connections at most.
type owners struct {
	// Guarded by mu.
	mu  sync.Mutex
	ids map[string][]holder
}

// holder is one identity with its connections of one client id. There are
// several only where takeover is free for all, until the older ones have ended.
type holder struct {
	owner owner
	count int
}

func newOwners() *owners { return &owners{ids: map[string][]holder{}} }

// take notes that who is connected as id and returns how to end that, which
// may be called more than once. With exclusive it returns nil when another
// identity holds id. The empty id, whose real one the broker assigns, has no
// owner.
func (o *owners) take(id string, who owner, exclusive bool) (release func()) {
	if id == "" {
		return func() {}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	holders := o.ids[id]
	if i := index(holders, who); i < 0 {
		if exclusive && len(holders) > 0 {
			return nil
		}
		o.ids[id] = append(holders, holder{who, 1})
	} else {
		if exclusive && len(holders) > 1 {
			return nil
		}
		holders[i].count++
	}
	var once sync.Once
	return func() { once.Do(func() { o.release(id, who) }) }
}

func (o *owners) release(id string, who owner) {
	o.mu.Lock()
	defer o.mu.Unlock()
	holders := o.ids[id]
	i := index(holders, who)
	holders[i].count--
	if holders[i].count > 0 {
		return
	}
	holders[i] = holders[len(holders)-1]
	if holders = holders[:len(holders)-1]; len(holders) == 0 {
		delete(o.ids, id)
		return
	}
	o.ids[id] = holders
}

func index(holders []holder, who owner) int {
	for i := range holders {
		if holders[i].owner == who {
			return i
		}
	}
	return -1
}
