package agent

import (
	"encoding/binary"
	"hash/maphash"
	"iter"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/agent/wire"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/session"
)

const shards = 64

// table holds the WebSockets of all proxy connections, by key. Its lock order:
// a WebSocket's lock before a shard's, a shard's before that of ids.
type table struct {
	seed    maphash.Seed
	shards  [shards]shard
	live    atomic.Int64 // WebSockets in it
	waiting atomic.Int64 // of them, not yet past CONNECT
	held    atomic.Int64 // bytes of packets that are not whole

	// Guarded by mu.
	mu    sync.Mutex
	ids   map[string]*webSocket // correlation ids are unique over the process
	seen  seen                  // those of live ones, and of all that may be
	freed freed                 // of those, the ones that are known not to be
	named map[client]*webSocket // who is connected at the broker
	users map[identity]int32    // how many were admitted
	addrs map[netip.Addr]presence
}

// identity is whose a client is: all anonymous clients are one.
type identity struct {
	name      string
	anonymous bool
}

func identityOf(id *policy.Identity) identity { return identity{id.Username, id.Anonymous} }

// client is what a broker knows a connection by. Routes may lead to different
// brokers.
type client struct {
	route, id string
	user      identity
}

// presence is what one address has in the table.
type presence struct{ live, waiting int32 }

type shard struct {
	mu   sync.RWMutex
	live map[string]*webSocket
	// ended are those that have ended in order, and when: what their broker
	// still sends is no attack.
	ended map[string]session.Time
}

// Bounds of those that have ended: one that is forgotten is refused as any
// other that is not known.
const (
	maxEnded  = 64 // a shard
	endedTime = 60 * session.Second
)

func newTable() *table {
	t := &table{seed: maphash.MakeSeed(), ids: map[string]*webSocket{}, seen: newSeen(), freed: newFreed(), named: map[client]*webSocket{}, users: map[identity]int32{}, addrs: map[netip.Addr]presence{}}
	for i := range t.shards {
		t.shards[i].live, t.shards[i].ended = map[string]*webSocket{}, map[string]session.Time{}
	}
	return t
}

// appendKey appends what tells WebSockets apart: route, correlation id, client
// address as given. The lengths keep the parts from running into each other.
func appendKey(dst []byte, f *wire.Frame) []byte {
	route := uint64(0)
	if f.HasRoute {
		route = uint64(len(f.Route)) + 1
	}
	dst = binary.AppendUvarint(dst, route)
	dst = append(dst, f.Route...)
	dst = binary.AppendUvarint(dst, uint64(len(f.CorrelationID)))
	dst = append(dst, f.CorrelationID...)
	return append(dst, f.ClientIP...)
}

func (t *table) shard(key []byte) *shard {
	return &t.shards[maphash.Bytes(t.seed, key)%shards]
}

// find returns the WebSocket of a key, nil when there is none.
func (t *table) find(key []byte) *webSocket {
	s := t.shard(key)
	s.mu.RLock()
	ws := s.live[string(key)]
	s.mu.RUnlock()
	return ws
}

// full says why a WebSocket has no place.
type full uint8

const (
	fullNot     full = iota
	fullTable        // agent.max-sessions
	fullID           // the correlation id is that of another live WebSocket
	fullWaiting      // limits.pending-connections
	fullAddrNew      // limits.pending-per-ip
	fullAddr         // general.max-connections-per-ip
	fullTotal        // general.max-connections
	fullKey          // the key is taken
)

// add puts ws in. A live WebSocket is never evicted for another.
func (t *table) add(ws *webSocket) full {
	set := ws.set
	s := t.shard([]byte(ws.key))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live[ws.key] != nil {
		return fullKey
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	g := &set.cfg.General
	at := t.addrs[ws.network]
	switch {
	case t.ids[ws.id] != nil:
		return fullID
	case t.live.Load() >= int64(set.cfg.Agent.MaxSessions):
		return fullTable
	case over(t.live.Load(), g.MaxConnections):
		return fullTotal
	case over(t.waiting.Load(), g.Limits.PendingConnections):
		return fullWaiting
	case ws.network.IsValid() && over(int64(at.live), g.MaxConnectionsPerIP):
		return fullAddr
	case ws.network.IsValid() && over(int64(at.waiting), g.Limits.PendingPerIP):
		return fullAddrNew
	}
	s.live[ws.key], t.ids[ws.id] = ws, ws
	t.live.Add(1)
	t.waiting.Add(1)
	at.live++
	at.waiting++
	t.addrs[ws.network] = at
	return fullNot
}

// leastShared is how many WebSockets there must be place for that the last
// eighth of them is kept from a user who has half.
const leastShared = 64

// admit counts ws, whose CONNECT is accepted, for its user. False: this one has
// half of the table, and the rest is nearly full. There is no event for the end
// of a WebSocket, so one user's dead ones could keep all others out.
func (t *table) admit(ws *webSocket, u identity) bool {
	most := int64(ws.set.cfg.Agent.MaxSessions)
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.users[u]
	if most >= leastShared && 8*t.live.Load() > 7*most && 2*int64(n) >= most {
		return false
	}
	t.users[u] = n + 1
	ws.user, ws.admits = u, true
	return true
}

// connect notes that the broker has accepted ws and returns the one that it has
// ended for it, nil if there was none.
func (t *table) connect(ws *webSocket, clientID string) (older *webSocket) {
	if clientID == "" || !ws.admits {
		return nil // the broker gives it one
	}
	c := client{ws.route, clientID, ws.user}
	t.mu.Lock()
	defer t.mu.Unlock()
	older = t.named[c]
	t.named[c], ws.name = ws, c
	return older
}

// over reports whether one more than n is above a limit; 0 is none.
func over(n int64, limit int) bool { return limit > 0 && n >= int64(limit) }

// connected takes ws, whose CONNECT was decided, off the waiting ones.
func (t *table) connected(ws *webSocket) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.waiting.Add(-1)
	at := t.addrs[ws.network]
	at.waiting--
	t.addrs[ws.network] = at
}

// remove takes ws out; waiting says that connected was not called for it. Its
// id stays taken, unless it is finished: whether the WebSocket has really ended
// nobody tells.
func (t *table) remove(ws *webSocket, waiting, finished bool, now session.Time) {
	s := t.shard([]byte(ws.key))
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.live, ws.key)
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.ids, ws.id)
	t.seen.add([]byte(ws.id), begun, now)
	if finished {
		t.freed.add(ws.id)
	}
	if t.named[ws.name] == ws {
		delete(t.named, ws.name)
	}
	if ws.admits {
		if t.users[ws.user]--; t.users[ws.user] == 0 {
			delete(t.users, ws.user)
		}
	}
	t.live.Add(-1)
	at := t.addrs[ws.network]
	at.live--
	if waiting {
		t.waiting.Add(-1)
		at.waiting--
	}
	if at == (presence{}) {
		delete(t.addrs, ws.network)
	} else {
		t.addrs[ws.network] = at
	}
}

// byID returns the live WebSocket with a correlation id.
func (t *table) byID(id string) *webSocket {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.ids[id]
}

// taken reports whether a correlation id is, or may be, that of a WebSocket.
func (t *table) taken(id []byte) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.isTaken(id)
}

// isTaken is taken. The caller holds mu.
func (t *table) isTaken(id []byte) bool {
	if t.ids[string(id)] != nil {
		return true
	}
	if again, free := t.freed.ids[string(id)]; free {
		return again
	}
	return t.seen.has(id, upgraded) || t.seen.has(id, begun)
}

// upgrade gives a correlation id to a WebSocket that is to be opened; false: it
// is taken.
func (t *table) upgrade(id []byte, now session.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.isTaken(id) {
		return false
	}
	if _, free := t.freed.ids[string(id)]; free {
		t.freed.ids[string(id)] = true
		return true
	}
	t.seen.add(id, upgraded, now)
	return true
}

// begin notes that a frame has come for a correlation id that has no session;
// may says whether it can be the first of a WebSocket. It reports whether it is
// the first one, and whether the upgrade was shown.
func (t *table) begin(id []byte, may bool, now session.Time) (first, shown bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ids[string(id)] != nil {
		return false, false
	}
	if again, free := t.freed.ids[string(id)]; free {
		if may { // else a late one of the WebSocket that has ended
			delete(t.freed.ids, string(id))
		}
		return may, again
	}
	if t.seen.has(id, begun) {
		return false, false
	}
	t.seen.add(id, begun, now)
	return true, t.seen.has(id, upgraded)
}

// all yields every WebSocket, one shard after the other, without a lock held.
func (t *table) all() iter.Seq[*webSocket] {
	return func(yield func(*webSocket) bool) {
		var some []*webSocket
		for i := range t.shards {
			s := &t.shards[i]
			some = some[:0]
			s.mu.RLock()
			for _, ws := range s.live {
				some = append(some, ws)
			}
			s.mu.RUnlock()
			for _, ws := range some {
				if !yield(ws) {
					return
				}
			}
		}
	}
}

// ended notes that the WebSocket of a key has ended in order.
func (t *table) ended(key string, now session.Time) {
	s := t.shard([]byte(key))
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.ended) < maxEnded {
		s.ended[key] = now
	}
}

// over reports whether the WebSocket of a key has ended in order.
func (t *table) over(key []byte) bool {
	s := t.shard(key)
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, over := s.ended[string(key)]
	return over
}

// forget takes those out that ended some time ago.
func (t *table) forget(now session.Time) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		for key, at := range s.ended {
			if now-at > endedTime {
				delete(s.ended, key)
			}
		}
		s.mu.Unlock()
	}
}

// network is what addresses are counted by: IPv6 by /64.
func network(a netip.Addr) netip.Addr {
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}
