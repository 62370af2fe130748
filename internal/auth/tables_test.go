package auth

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/session"
)

func TestClientIDRules(t *testing.T) {
	pattern := regexp.MustCompile(`^(?:[a-z]+|gw-.*)$`)
	cases := []struct {
		name  string
		rules idRules
		info  session.ConnectInfo
		want  policy.RuleRef
	}{
		{"no rules", idRules{}, session.ConnectInfo{ClientID: "x"}, policy.RuleNone},
		{"pattern", idRules{pattern: pattern}, session.ConnectInfo{ClientID: "abc"}, policy.RuleNone},
		{"pattern not met", idRules{pattern: pattern}, session.ConnectInfo{ClientID: "abc1"}, policy.RuleClientIDPattern},
		{"pattern not anchored does not match a part", idRules{pattern: regexp.MustCompile("b")}, session.ConnectInfo{ClientID: "abc"}, policy.RuleClientIDPattern},
		{"pattern with a line feed", idRules{pattern: pattern}, session.ConnectInfo{ClientID: "abc\n"}, policy.RuleClientIDPattern},
		{"pattern and empty id", idRules{pattern: regexp.MustCompile(".*")}, session.ConnectInfo{}, policy.RuleEmptyClientID},
		{"pattern and assigned id", idRules{pattern: pattern}, session.ConnectInfo{ClientID: "gw-abc", Assigned: true}, policy.RuleEmptyClientID},
		{"min and empty id", idRules{min: 1}, session.ConnectInfo{}, policy.RuleEmptyClientID},
		{"min 0 and empty id", idRules{max: 128}, session.ConnectInfo{}, policy.RuleNone},
		{"assigned id is longer than max", idRules{max: 3}, session.ConnectInfo{ClientID: "gw-abc", Assigned: true}, policy.RuleNone},
		{"min", idRules{min: 3}, session.ConnectInfo{ClientID: "äöü"}, policy.RuleNone},
		{"below min", idRules{min: 3}, session.ConnectInfo{ClientID: "äö"}, policy.RuleClientIDLength},
		{"max in characters", idRules{max: 3}, session.ConnectInfo{ClientID: "äöü"}, policy.RuleNone},
		{"above max", idRules{max: 3}, session.ConnectInfo{ClientID: "abcd"}, policy.RuleClientIDLength},
		{"template", idRules{template: "%u"}, session.ConnectInfo{ClientID: "bob", Username: "bob"}, policy.RuleNone},
		{"template with tail", idRules{template: "%u-*"}, session.ConnectInfo{ClientID: "bob-7", Username: "bob"}, policy.RuleNone},
		{"template with empty tail", idRules{template: "%u-*"}, session.ConnectInfo{ClientID: "bob-", Username: "bob"}, policy.RuleNone},
		{"template of another", idRules{template: "%u-*"}, session.ConnectInfo{ClientID: "eve-7", Username: "bob"}, policy.RuleClientIDTemplate},
		{"template without star is whole", idRules{template: "%u"}, session.ConnectInfo{ClientID: "bob-7", Username: "bob"}, policy.RuleClientIDTemplate},
		{"template without user name", idRules{template: "%u*"}, session.ConnectInfo{ClientID: "victim"}, policy.RuleClientIDTemplate},
		{"template without variable", idRules{template: "dev-*"}, session.ConnectInfo{ClientID: "dev-1"}, policy.RuleNone},
		{"user name is no pattern", idRules{template: "%u"}, session.ConnectInfo{ClientID: "victim", Username: "*"}, policy.RuleClientIDTemplate},
		{"user name with /", idRules{template: "%u"}, session.ConnectInfo{ClientID: "a/b", Username: "a/b"}, policy.RuleClientIDTemplate},
		{"user name with %u", idRules{template: "%u-%u"}, session.ConnectInfo{ClientID: "%u-%u", Username: "%u"}, policy.RuleNone},
		{"user name with control", idRules{template: "%u"}, session.ConnectInfo{ClientID: "a\u0085", Username: "a\u0085"}, policy.RuleClientIDTemplate},
		{"user name with $", idRules{template: "%u"}, session.ConnectInfo{ClientID: "$a", Username: "$a"}, policy.RuleClientIDTemplate},
		{"assigned id not from the template: after the user name", idRules{template: "%u-*"}, session.ConnectInfo{ClientID: "gw-x", Assigned: true, Username: "bob"}, policy.RuleNone},
		{"empty id under a template", idRules{template: "%u*"}, session.ConnectInfo{Username: "bob"}, policy.RuleClientIDTemplate},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := c.rules.check(&c.info); got != c.want {
				t.Errorf("check(%+v) = %d, want %d", c.info, got, c.want)
			}
		})
	}
}

// taker takes leases and gives how to end them; nil where none was given.
func taker(o *owners) func(id string, who owner, exclusive bool) (release func()) {
	return func(id string, who owner, exclusive bool) func() {
		l, ok := o.take(id, who, exclusive)
		if !ok {
			return nil
		}
		return func() { o.release(l) }
	}
}

func TestOwners(t *testing.T) {
	alice, eve, nobody := owner("alice"), owner("eve"), anonymous
	o := newOwners()
	take := taker(o)
	first := take("id", alice, true)
	if first == nil {
		t.Fatal("a free id was refused")
	}
	if take("id", eve, true) != nil || take("id", nobody, true) != nil {
		t.Error("another identity took a connected id")
	}
	second := take("id", alice, true)
	if second == nil {
		t.Fatal("the same identity was refused its id")
	}
	first()
	first() // again: nothing
	if take("id", eve, true) != nil {
		t.Error("the id is free although one connection still holds it")
	}
	second()
	third := take("id", eve, true)
	if third == nil {
		t.Fatal("a freed id was refused")
	}
	// takeover: any
	fourth := take("id", alice, false)
	if fourth == nil {
		t.Fatal("any: another identity was refused")
	}
	if take("id", alice, true) != nil || take("id", eve, true) != nil {
		t.Error("exclusive although two identities hold the id")
	}
	third()
	fifth := take("id", alice, true)
	if fifth == nil {
		t.Error("refused although only the same identity holds the id")
	}
	fourth()
	fifth()
	for range 2 {
		if release := take("", eve, true); release == nil {
			t.Error("the empty id has an owner")
		} else {
			release()
		}
	}
	if a, b := take("", eve, true), take("", alice, true); a == nil || b == nil {
		t.Error("two clients with empty ids are taken for one")
	}
	if len(o.ids) != 0 {
		t.Errorf("%d ids left, want 0", len(o.ids))
	}
}

func TestLockout(t *testing.T) {
	cfg := &config.Lockout{Attempts: 3, WindowSecs: 60, LockoutSecs: 30, By: "client_ip"}
	start := time.Unix(1000, 0)
	at := func(secs float64) time.Time { return start.Add(time.Duration(secs * float64(time.Second))) }
	key, ok := newLockout().key(cfg, netip.MustParseAddr("192.0.2.1"), "alice")
	if !ok {
		t.Fatal("no key")
	}
	type step struct {
		at     float64
		fail   bool // else only asked
		locked bool // after the step
	}
	cases := []struct {
		name  string
		steps []step
	}{
		{"three at once", []step{{0, true, false}, {0, true, false}, {0, true, true}, {29.9, false, true}, {30, false, false}}},
		{"a new start after it", []step{{0, true, false}, {0, true, false}, {0, true, true}, {30, true, false}, {30, true, false}, {30, true, true}}},
		{"failures meanwhile do not make it longer", []step{{0, true, false}, {0, true, false}, {0, true, true}, {20, true, true}, {20, true, true}, {30, true, false}}},
		{"the window slides", []step{{0, true, false}, {59, true, false}, {60, true, false}, {60.5, true, true}}},
		{"slow enough for ever", []step{{0, true, false}, {30, true, false}, {60, true, false}, {90, true, false}, {120, true, false}}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			l := newLockout()
			for i, s := range c.steps {
				if s.fail {
					l.fail(cfg, key, at(s.at))
				}
				if got := l.locked(key, at(s.at)); got != s.locked {
					t.Fatalf("step %d at %v s: locked %v, want %v", i, s.at, got, s.locked)
				}
			}
		})
	}
}

func TestLockoutKeys(t *testing.T) {
	l := newLockout()
	addr := netip.MustParseAddr
	cases := []struct {
		name         string
		by           string
		a, b         netip.Addr
		userA, userB string
		same         bool
	}{
		{"address and name", "client_ip+username", addr("192.0.2.1"), addr("192.0.2.1"), "a", "a", true},
		{"other name", "client_ip+username", addr("192.0.2.1"), addr("192.0.2.1"), "a", "b", false},
		{"other address", "client_ip+username", addr("192.0.2.1"), addr("192.0.2.2"), "a", "a", false},
		{"address alone", "client_ip", addr("192.0.2.1"), addr("192.0.2.1"), "a", "b", true},
		{"name alone", "username", addr("192.0.2.1"), addr("192.0.2.2"), "a", "a", true},
		{"mapped", "client_ip", addr("192.0.2.1"), addr("::ffff:192.0.2.1"), "a", "b", true},
		{"one /64", "client_ip", addr("2001:db8::1"), addr("2001:db8::ffff:1:2:3"), "a", "b", true},
		{"another /64", "client_ip", addr("2001:db8::1"), addr("2001:db8:0:1::1"), "a", "b", false},
		{"zone", "client_ip", addr("fe80::1%eth0"), addr("fe80::1%eth1"), "a", "b", true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			cfg := &config.Lockout{Attempts: 1, By: c.by}
			a, okA := l.key(cfg, c.a, c.userA)
			b, okB := l.key(cfg, c.b, c.userB)
			if !okA || !okB || (a == b) != c.same {
				t.Errorf("keys %v %v: equal %v, want %v", a, b, a == b, c.same)
			}
		})
	}
	if _, ok := l.key(&config.Lockout{By: "client_ip"}, addr("192.0.2.1"), "a"); ok {
		t.Error("a key although lock-out is off")
	}
	if _, ok := l.key(&config.Lockout{Attempts: 1, By: "client_ip"}, netip.Addr{}, "a"); ok {
		t.Error("all unknown addresses are one key")
	}
	if _, ok := l.key(&config.Lockout{Attempts: 1, By: "client_ip+username"}, netip.Addr{}, "a"); !ok {
		t.Error("no key for a name at an unknown address")
	}
}

func TestLockoutIsBounded(t *testing.T) {
	cfg := &config.Lockout{Attempts: 3, WindowSecs: 60, LockoutSecs: 60, By: "username"}
	l, now := newLockout(), time.Unix(1000, 0)
	victim, _ := l.key(cfg, netip.Addr{}, "victim")
	for range 3 {
		l.fail(cfg, victim, now)
	}
	var k lockoutKey
	for i := range maxLockoutKeys + 100 {
		binary.LittleEndian.PutUint64(k.user[:], uint64(i))
		l.fail(cfg, k, now)
		if i%1000 == 0 && !l.locked(victim, now) {
			t.Fatalf("a key in use was forgotten after %d others", i)
		}
	}
	if len(l.keys) != maxLockoutKeys || l.recent.Len() != maxLockoutKeys {
		t.Errorf("%d keys, want %d", len(l.keys), maxLockoutKeys)
	}
	remembered := 0
	for e := l.recent.Front(); e != nil; e = e.Next() {
		remembered += len(e.Value.(*failures).times)
	}
	if remembered != l.failures {
		t.Errorf("%d failures counted, %d remembered", l.failures, remembered)
	}
}

func TestLockoutFailuresAreBounded(t *testing.T) {
	cfg := &config.Lockout{Attempts: 1 << 30, WindowSecs: 60, LockoutSecs: 60, By: "username"}
	l, now := newLockout(), time.Unix(1000, 0)
	var a, b lockoutKey
	b.user[0] = 1
	l.fail(cfg, a, now)
	for range maxLockoutFailures - 1 {
		l.fail(cfg, b, now)
	}
	if l.failures != maxLockoutFailures || len(l.keys) != 2 {
		t.Fatalf("%d failures of %d keys, want %d of 2", l.failures, len(l.keys), maxLockoutFailures)
	}
	if l.fail(cfg, b, now); !l.locked(b, now) {
		t.Error("a key with the most failures that are remembered is not locked")
	}
}

func TestCache(t *testing.T) {
	c, start := newCache(), time.Unix(1000, 0)
	at := func(secs int) time.Time { return start.Add(time.Duration(secs) * time.Second) }
	h1, h2 := &hash{text: "one"}, &hash{text: "two"}
	right, wrong := c.pair("alice", h1, []byte("secret")), c.pair("alice", h1, []byte("guess"))
	c.put(right, true, false, at(0))
	c.put(wrong, false, false, at(0))
	cases := []struct {
		name         string
		pair         pair
		ttl, at      int
		right, known bool
	}{
		{"right", right, 300, 299, true, true},
		{"wrong", wrong, 300, 9, false, true},
		{"another user", c.pair("bob", h1, []byte("secret")), 300, 0, false, false},
		{"another hash", c.pair("alice", h2, []byte("secret")), 300, 0, false, false},
		{"shifted boundary", c.pair("aliceo", &hash{text: "ne"}, []byte("secret")), 300, 0, false, false},
		{"another process", newCache().pair("alice", h1, []byte("secret")), 300, 0, false, false},
		{"wrong expired", wrong, 300, 10, false, false},
		{"right expired", right, 300, 300, false, false},
	}
	for _, k := range cases {
		if r, known := c.get(k.pair, time.Duration(k.ttl)*time.Second, at(k.at)); r != k.right || known != k.known {
			t.Errorf("%s: got %v, %v, want %v, %v", k.name, r, known, k.right, k.known)
		}
	}
	c.put(right, true, false, at(1000))
	if _, known := c.get(right, 0, at(1000)); known {
		t.Error("cache-ttl-secs 0: a right pair is known")
	}
	c.put(right, true, true, at(2000))
	if r, known := c.get(right, 0, at(2009)); !r || !known {
		t.Error("the outcome that nobody waited for is gone after 9 s")
	}
	if _, known := c.get(right, 0, at(2010)); known {
		t.Error("the outcome that nobody waited for is known after 10 s")
	}
}

func TestCacheIsBounded(t *testing.T) {
	c, now := newCache(), time.Unix(1000, 0)
	var first pair
	first[31] = 1
	c.put(first, true, false, now)
	for i := range maxWrongPairs + 10 {
		var p pair
		binary.BigEndian.PutUint64(p[:], uint64(i))
		c.put(p, false, false, now)
	}
	if n := c.wrong.recent.Len(); n != maxWrongPairs || len(c.wrong.byHalf) != n {
		t.Errorf("%d wrong pairs, want %d", n, maxWrongPairs)
	}
	if _, known := c.get(first, time.Hour, now); !known {
		t.Error("wrong pairs displaced a right one")
	}
}

// Half a digest in common is not a hit.
func TestCacheComparesTheWholeDigest(t *testing.T) {
	c, now := newCache(), time.Unix(1000, 0)
	a := c.pair("alice", &hash{text: "h"}, []byte("secret"))
	b := a
	b[31] ^= 1
	c.put(a, true, false, now)
	if right, known := c.get(b, time.Hour, now); right || known {
		t.Errorf("got %v, %v for a digest that differs in its last bit", right, known)
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	c := newCache()
	p := c.pair("alice", &hash{text: "h"}, []byte("hunter2"))
	c.put(p, true, false, time.Unix(0, 0))
	if s := fmt.Sprintf("%+v", c.right.byHalf); strings.Contains(s, "hunter2") {
		t.Errorf("the cache holds the password: %s", s)
	}
}

// TestLeasesEndInAnyOrder takes and releases one id by several identities.
func TestLeasesEndInAnyOrder(t *testing.T) {
	a, b := owner("a"), owner("b")
	for _, order := range [][]int{{0, 1, 2}, {2, 1, 0}, {1, 0, 2}, {1, 2, 0}} {
		o := newOwners()
		take := taker(o)
		ends := []func(){take("id", a, false), take("id", a, true), take("id", a, true)}
		for n, i := range order {
			if take("id", b, true) != nil {
				t.Errorf("order %v: taken over after %d ends", order, n)
			}
			ends[i]()
			ends[i]() // again: nothing
		}
		end := take("id", b, true)
		if end == nil {
			t.Fatalf("order %v: still held after all ended", order)
		}
		other := take("id", a, false)
		if take("id", b, true) != nil || take("id", a, true) != nil {
			t.Errorf("order %v: taken by one of two owners", order)
		}
		other()
		if again := take("id", b, true); again == nil {
			t.Errorf("order %v: the one owner left is refused", order)
		} else {
			again()
		}
		end()
		if len(o.ids) != 0 {
			t.Errorf("order %v: %d ids left", order, len(o.ids))
		}
	}
}
