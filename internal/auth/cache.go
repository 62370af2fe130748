package auth

import (
	"container/list"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"sync"
	"time"
)

// The bounds of the credential cache. Right and wrong pairs do not displace
// each other: guessing must not cost others their cached answers.
const (
	maxRightPairs = 65536
	maxWrongPairs = 16384
)

// wrongPairTTL is how long a wrong pair is remembered, and at least how long
// the outcome of a check is that nobody waited for any more.
const wrongPairTTL = 10 * time.Second

// pair is the keyed digest of a user name, the hash that it was checked
// against and the password. Because the hash is part of it, a changed user is
// forgotten at once.
type pair [sha256.Size]byte

// cache remembers the outcome of checks by pair; it never holds a password.
// Its key is random for each process.
type cache struct {
	secret [32]byte // fixed

	// Guarded by mu.
	mu    sync.Mutex
	right pairs
	wrong pairs
}

func newCache() *cache {
	c := &cache{right: newPairs(maxRightPairs), wrong: newPairs(maxWrongPairs)}
	copy(c.secret[:], randomBytes(len(c.secret)))
	return c
}

// pair digests credentials.
func (c *cache) pair(username string, h *hash, password []byte) (p pair) {
	mac := hmac.New(sha256.New, c.secret[:])
	var length [8]byte
	for _, part := range [...][]byte{[]byte(username), []byte(h.text), password} {
		binary.LittleEndian.PutUint64(length[:], uint64(len(part)))
		mac.Write(length[:])
		mac.Write(part)
	}
	mac.Sum(p[:0])
	return p
}

// get returns what is known of p now; ttl is how long a right pair counts.
func (c *cache) get(p pair, ttl time.Duration, now time.Time) (right, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.right.get(p); e != nil {
		if age := now.Sub(e.at); age < ttl || e.held && age < wrongPairTTL {
			return true, true
		}
		c.right.drop(p)
	}
	if e := c.wrong.get(p); e != nil {
		if now.Sub(e.at) < wrongPairTTL {
			return false, true
		}
		c.wrong.drop(p)
	}
	return false, false
}

// put remembers the outcome of a check. held keeps a right one for a while even
// where nothing is to be cached: the client that gave up waiting comes back for
// it.
func (c *cache) put(p pair, right, held bool, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if right {
		c.right.put(outcome{p, now, held})
	} else {
		c.wrong.put(outcome{p, now, held})
	}
}

// outcome is one remembered check.
type outcome struct {
	pair pair
	at   time.Time
	held bool
}

// pairs is a bounded set of outcomes; the one not used for longest goes first.
type pairs struct {
	most   int
	byHalf map[[16]byte]*list.Element // of outcome, by the first half of the digest
	recent *list.List                 // the most recently used in front
}

func newPairs(most int) pairs {
	return pairs{most: most, byHalf: map[[16]byte]*list.Element{}, recent: list.New()}
}

func half(p pair) [16]byte { return [16]byte(p[:16]) }

// get finds by half the digest and compares the whole in constant time.
func (s *pairs) get(p pair) *outcome {
	e := s.byHalf[half(p)]
	if e == nil {
		return nil
	}
	o := e.Value.(*outcome)
	if subtle.ConstantTimeCompare(o.pair[:], p[:]) == 0 {
		return nil
	}
	s.recent.MoveToFront(e)
	return o
}

func (s *pairs) put(o outcome) {
	s.drop(o.pair)
	s.byHalf[half(o.pair)] = s.recent.PushFront(&o)
	if s.recent.Len() > s.most {
		s.drop(s.recent.Back().Value.(*outcome).pair)
	}
}

func (s *pairs) drop(p pair) {
	if e := s.byHalf[half(p)]; e != nil {
		s.recent.Remove(e)
		delete(s.byHalf, half(p))
	}
}
