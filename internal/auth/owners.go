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

// owners is which identity holds which client id. It has one lease for each
// connection; there is one for every idle client, so it is kept small.
type owners struct {
	// Guarded by mu.
	mu    sync.Mutex
	ids   map[string]*lease // the newest of an id
	mixed bool              // takeover was free for all: an id may have several owners
}

// lease is one connection's hold on a client id.
type lease struct {
	owners       *owners
	id           string
	older, newer *lease // of the same id
	who          owner
	ended        bool
}

func newOwners() *owners { return &owners{ids: map[string]*lease{}} }

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
	newest := o.ids[id]
	for l := newest; l != nil; l = l.older {
		switch {
		case l.who == who:
		case exclusive:
			return nil
		default:
			o.mixed = true
		}
		if !o.mixed {
			break // the others are the same
		}
	}
	l := &lease{owners: o, id: id, who: who, older: newest}
	if newest != nil {
		newest.newer = l
	}
	o.ids[id] = l
	return l.release
}

func (l *lease) release() {
	o := l.owners
	o.mu.Lock()
	defer o.mu.Unlock()
	if l.ended {
		return
	}
	l.ended = true
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
}
