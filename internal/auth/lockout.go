package auth

import (
	"container/list"
	"crypto/hmac"
	"crypto/sha256"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
)

// The bounds of the lock-out table: keys, and remembered failures of all keys
// together. The key that was not used for longest is forgotten first.
const (
	maxLockoutKeys     = 65536
	maxLockoutFailures = 1 << 20
)

// lockoutKey is whom failures are counted for. User names are kept as a keyed
// digest: they are as long as an attacker likes.
type lockoutKey struct {
	network netip.Addr
	user    [16]byte
}

// lockout counts failed checks and says who is refused without one. Only
// failures that cost a check are told to it, so that filling its table costs
// an attacker a check each.
type lockout struct {
	secret [32]byte // fixed

	// Guarded by mu.
	mu       sync.Mutex
	keys     map[lockoutKey]*list.Element // of *failures
	recent   *list.List                   // the most recently used in front
	failures int                          // remembered, of all keys
}

// failures is what is known of one key.
type failures struct {
	key    lockoutKey
	times  []time.Time // within the window, oldest first
	locked time.Time   // until then
}

func newLockout() *lockout {
	l := &lockout{keys: map[lockoutKey]*list.Element{}, recent: list.New()}
	copy(l.secret[:], randomBytes(len(l.secret)))
	return l
}

// key returns whom a failure is counted for, and false when nobody: lock-out is
// off, or by address and the address is unknown, where one client's failures
// would lock out everybody.
func (l *lockout) key(cfg *config.Lockout, addr netip.Addr, username string) (lockoutKey, bool) {
	var k lockoutKey
	if cfg.Attempts <= 0 {
		return k, false
	}
	if cfg.By != "username" {
		if !addr.IsValid() && cfg.By == "client_ip" {
			return k, false
		}
		k.network = Network(addr)
	}
	if cfg.By != "client_ip" {
		mac := hmac.New(sha256.New, l.secret[:])
		mac.Write([]byte(username))
		copy(k.user[:], mac.Sum(nil))
	}
	return k, true
}

// Network is what counts as one address: IPv4, unmapped, whole, and IPv6
// without its zone by /64, which is what a single customer has at least.
func Network(addr netip.Addr) netip.Addr {
	addr = addr.Unmap().WithZone("")
	if addr.Is6() {
		p, _ := addr.Prefix(64) // 64 bits are never too many for IPv6
		return p.Addr()
	}
	return addr
}

// locked reports whether k is refused now.
func (l *lockout) locked(k lockoutKey, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.keys[k]
	if e == nil {
		return false
	}
	l.recent.MoveToFront(e)
	return now.Before(e.Value.(*failures).locked)
}

// fail counts a failure; one too many locks k. Failures of a locked key do not
// make its time longer.
func (l *lockout) fail(cfg *config.Lockout, k lockoutKey, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.keys[k]
	if e == nil {
		e = l.recent.PushFront(&failures{key: k})
		l.keys[k] = e
	} else {
		l.recent.MoveToFront(e)
	}
	f := e.Value.(*failures)
	if now.Before(f.locked) {
		return
	}
	window := time.Duration(cfg.WindowSecs) * time.Second
	expired := 0
	for expired < len(f.times) && now.Sub(f.times[expired]) >= window {
		expired++
	}
	f.times = append(slices.Delete(f.times, 0, expired), now)
	l.failures += 1 - expired
	if len(f.times) >= min(cfg.Attempts, maxLockoutFailures) {
		f.locked = now.Add(time.Duration(cfg.LockoutSecs) * time.Second)
		l.failures -= len(f.times)
		f.times = nil
	}
	for len(l.keys) > maxLockoutKeys || l.failures > maxLockoutFailures {
		l.forget(l.recent.Back())
	}
}

func (l *lockout) forget(e *list.Element) {
	f := l.recent.Remove(e).(*failures)
	l.failures -= len(f.times)
	delete(l.keys, f.key)
}
