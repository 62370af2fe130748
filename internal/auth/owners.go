package auth

import (
	"sync"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
)

// owner is who holds a client id: a user name, or all anonymous clients as one.
type owner string

// anonymous is no user name: none has a NUL [MQTT-1.5.4-2].
const anonymous owner = "\x00"

func ownerOf(id *policy.Identity) owner {
	if id.Anonymous {
		return anonymous
	}
	return owner(id.Username)
}

// owners is which identity holds which client id. It has one lease for each
// connection; there is one for every idle client, so it is kept small.
type owners struct {
	// Guarded by mu.
	mu    sync.Mutex
	ids   map[string]*Lease // the newest of an id
	mixed bool              // takeover was free for all: an id may have several owners
}

// Lease is one connection's hold on a client id; see [Gate.Release].
type Lease struct {
	id           string // "": ended
	who          owner
	older, newer *Lease // of the same id
}

func newOwners() *owners { return &owners{ids: map[string]*Lease{}} }

// take notes that who is connected as id. With exclusive it is not ok when
// another identity holds id. The empty id, whose real one the broker assigns,
// has no owner and no lease.
func (o *owners) take(id string, who owner, exclusive bool) (l *Lease, ok bool) {
	if id == "" {
		return nil, true
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	newest := o.ids[id]
	for held := newest; held != nil; held = held.older {
		switch {
		case held.who == who:
		case exclusive:
			return nil, false
		default:
			o.mixed = true
		}
		if !o.mixed {
			break // the others are the same
		}
	}
	l = &Lease{id: id, who: who, older: newest}
	if newest != nil {
		newest.newer = l
	}
	o.ids[id] = l
	return l, true
}

// release ends a lease; nil, or one that has ended, is nothing to end.
func (o *owners) release(l *Lease) {
	if l == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if l.id == "" {
		return
	}
	if l.older != nil {
		l.older.newer = l.newer
	}
	switch {
	case l.newer != nil:
		l.newer.older = l.older
	case l.older != nil:
		o.ids[l.id] = l.older
	default:
		delete(o.ids, l.id)
	}
	*l = Lease{}
}
