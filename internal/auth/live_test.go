package auth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// hold makes comparisons wait; each one announces itself on started and goes
// on with a value of proceed, or when the test ends.
func (f *fixture) hold() (started <-chan struct{}, proceed chan<- struct{}) {
	s, p, end := make(chan struct{}), make(chan struct{}), make(chan struct{})
	f.t.Cleanup(func() { close(end) })
	f.mu.Lock()
	f.before = func() {
		select {
		case s <- struct{}{}:
		case <-end:
			return
		}
		select {
		case <-p:
		case <-end:
		}
	}
	f.mu.Unlock()
	return s, p
}

func TestAdmitEndsWithItsContext(t *testing.T) {
	for _, ttl := range []int{300, 0} {
		t.Run(fmt.Sprintf("ttl %d", ttl), func(t *testing.T) {
			f := start(t, func(c *config.Config) { c.Auth.Providers[0].CacheTTLSecs = ttl })
			started, proceed := f.hold()
			ctx, cancel := context.WithCancel(t.Context())
			answer := make(chan Grant)
			r := connect("c", "alice", "secret")
			go func() { answer <- f.Admit(ctx, r) }()
			<-started
			cancel()
			if a := (<-answer).Admission; a.Subject != nil || a.Reason != policy.ReasonAuthBusy {
				t.Fatalf("got %+v, want busy", a)
			}
			// The driver's password is its own again.
			clear(r.Connect.Password)
			proceed <- struct{}{}
			// The check goes on, and its outcome lands in the cache.
			second := connect("c", "alice", "secret")
			for {
				if _, ok := f.Try(second); ok {
					break
				}
				select {
				case <-started:
					t.Fatal("the check was done again")
				case <-t.Context().Done():
					t.Fatal("the check did not land in the cache")
				case <-time.After(time.Millisecond):
				}
			}
			f.admitted(second)
			if n := f.count(); n != 1 {
				t.Errorf("%d comparisons, want 1", n)
			}
		})
	}
}

// Equal checks are done once, whoever asks.
func TestAdmitJoinsEqualChecks(t *testing.T) {
	f := start(t, nil)
	started, proceed := f.hold()
	const clients = 20
	answers := make(chan Grant)
	for range clients {
		go func() { answers <- f.Admit(t.Context(), connect("c", "alice", "secret")) }()
	}
	<-started
	f.waitForWaiters(clients)
	proceed <- struct{}{}
	for range clients {
		if a := (<-answers).Admission; a.Subject == nil {
			t.Errorf("refused: %+v", a)
		}
	}
	if n := f.count(); n != 1 {
		t.Errorf("%d comparisons, want 1", n)
	}
}

// waitForWaiters waits until n requests wait in the pool.
func (f *fixture) waitForWaiters(n int) {
	f.t.Helper()
	for {
		f.pool.mu.Lock()
		waiters := 0
		for _, j := range f.pool.jobs {
			waiters += j.waiters
		}
		f.pool.mu.Unlock()
		if waiters == n {
			return
		}
		select {
		case <-f.t.Context().Done():
			f.t.Fatalf("%d wait, want %d", waiters, n)
		case <-time.After(100 * time.Microsecond):
		}
	}
}

// A user that changes while its password is checked is judged as it is then.
func TestAdmitLooksTheUserUpAgain(t *testing.T) {
	other := strings.Replace(testHash, "$2a$", "$2b$", 1)
	cases := []struct {
		name   string
		now    map[string]entry
		ok     bool
		groups string
		hashed int
	}{
		{"groups", map[string]entry{"alice": {Hash: testHash, Groups: []string{"new"}}}, true, "new", 1},
		{"disabled", map[string]entry{"alice": {Hash: testHash, Enabled: &no}}, false, "", 1},
		{"removed", map[string]entry{"bob": {Hash: testHash}}, false, "", 2},
		{"password", map[string]entry{"alice": {Hash: other, Groups: []string{"new"}}}, true, "new", 2},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			f := start(t, nil)
			started, proceed := f.hold()
			answer := make(chan Grant)
			go func() { answer <- f.Admit(t.Context(), connect("c", "alice", "secret")) }()
			<-started
			writeUsers(t, f.cfg.Auth.Providers[0].Path, c.now)
			if err := f.Reload(f.cfg, compile(t, f.cfg)); err != nil {
				t.Fatal(err)
			}
			f.mu.Lock()
			f.before = nil
			f.mu.Unlock()
			proceed <- struct{}{}
			a := (<-answer).Admission
			if (a.Subject != nil) != c.ok {
				t.Fatalf("got %+v, want admitted %v", a, c.ok)
			}
			if c.ok {
				if got := strings.Join(a.Subject.Identity().Groups, ","); got != c.groups {
					t.Errorf("groups %q, want %q", got, c.groups)
				}
				if a.Subject.Engine() != f.state.Load().engine {
					t.Error("bound to the old policy")
				}
			}
			if n := f.count(); n != c.hashed {
				t.Errorf("%d comparisons, want %d", n, c.hashed)
			}
		})
	}
}

// Guesses that were under way when the lock-out began are not answered.
func TestLockoutHoldsForGuessesUnderWay(t *testing.T) {
	f := start(t, func(c *config.Config) { c.Auth.FailureLockout.Attempts = 1 })
	started, proceed := f.hold()
	first, second := make(chan Grant), make(chan Grant)
	go func() { first <- f.Admit(t.Context(), connect("c", "alice", "guess")) }()
	<-started
	go func() { second <- f.Admit(t.Context(), connect("c", "alice", "secret")) }()
	f.waitForWaiters(2)
	proceed <- struct{}{}
	if a := (<-first).Admission; a.Reason != policy.ReasonBadCredentials {
		t.Errorf("the wrong guess: %+v", a)
	}
	<-started
	proceed <- struct{}{}
	if a := (<-second).Admission; a.Reason != policy.ReasonLockedOut {
		t.Errorf("the guess under way: %+v, want locked out", a)
	}
}

func TestAdmitIsBusyWhenThereIsNoPlace(t *testing.T) {
	f := start(t, nil)
	started, _ := f.hold()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for i := range 1 + maxWaitingPerAddr {
		wg.Go(func() { f.Admit(ctx, connect("c", "alice", fmt.Sprint("guess", i))) })
		if i == 0 {
			<-started // the one that runs does not wait
		}
	}
	f.waitForWaiters(1 + maxWaitingPerAddr)
	if a := f.Admit(ctx, connect("c", "alice", "one more")).Admission; a.Reason != policy.ReasonAuthBusy {
		t.Errorf("the fifth of an address: %+v, want busy at once", a)
	}
	neighbour := connect("c", "alice", "one more")
	neighbour.Addr = netip.MustParseAddr("192.0.2.2")
	wg.Go(func() { f.Admit(ctx, neighbour) })
	f.waitForWaiters(2 + maxWaitingPerAddr)
}

func TestCloseEndsWaiting(t *testing.T) {
	f := start(t, nil)
	started, proceed := f.hold()
	running, waiting := make(chan Grant), make(chan Grant)
	go func() { running <- f.Admit(t.Context(), connect("c", "alice", "secret")) }()
	<-started
	go func() { waiting <- f.Admit(t.Context(), connect("c", "alice", "guess")) }()
	f.waitForWaiters(2)
	closed := make(chan struct{})
	go func() { f.Close(); close(closed) }()
	for {
		f.pool.mu.Lock()
		done := f.pool.closed
		f.pool.mu.Unlock()
		if done {
			break
		}
		select {
		case <-t.Context().Done():
			t.Fatal("the pool is not closed")
		case <-time.After(100 * time.Microsecond):
		}
	}
	proceed <- struct{}{}
	if a := (<-running).Admission; a.Subject == nil {
		t.Errorf("the check that ran: %+v", a)
	}
	if a := (<-waiting).Admission; a.Reason != policy.ReasonAuthBusy {
		t.Errorf("the check that waited: %+v, want busy", a)
	}
	<-closed
	if a := f.Admit(t.Context(), connect("c", "alice", "other")).Admission; a.Reason != policy.ReasonAuthBusy {
		t.Errorf("after Close: %+v, want busy", a)
	}
	f.Close() // again: nothing
}

// The pool's copy of a password does not outlive its check.
func TestPoolWipesPasswords(t *testing.T) {
	p := newPool(1, (*hash).matches, func(*job, bool) {})
	h, err := parseHash(testHash)
	if err != nil {
		t.Fatal(err)
	}
	password := []byte("secret")
	j := p.submit(netip.Addr{}, check{hash: h, password: password})
	<-j.done
	p.close()
	if !j.right || string(password) != "secret" || string(j.password) != "\x00\x00\x00\x00\x00\x00" {
		t.Errorf("right %v, the caller's password %q, the pool's copy %q", j.right, password, j.password)
	}
}

// Addresses take turns, however much one of them has waiting.
func TestPoolIsFair(t *testing.T) {
	var mu sync.Mutex
	var order []string
	gate := make(chan struct{})
	p := newPool(1, func(_ *hash, password []byte) bool {
		if string(password) == "first" {
			<-gate
		}
		mu.Lock()
		defer mu.Unlock()
		order = append(order, string(password))
		return false
	}, func(*job, bool) {})
	defer p.close()
	n := 0
	submit := func(addr, password string) *job {
		n++
		var c check
		c.pair[0], c.password = byte(n), []byte(password)
		return p.submit(netip.MustParseAddr(addr), c)
	}
	submit("192.0.2.9", "first")
	p.mu.Lock()
	for p.waiting > 0 {
		p.mu.Unlock()
		time.Sleep(0) // yield until the worker has taken it
		p.mu.Lock()
	}
	p.mu.Unlock()
	var last *job
	for i := range maxWaitingPerAddr {
		if submit("192.0.2.1", fmt.Sprint("a", i)) == nil {
			t.Fatalf("place %d of an address was refused", i)
		}
	}
	if submit("192.0.2.1", "a4") != nil {
		t.Error("a fifth was queued for one address")
	}
	for i := range 2 {
		submit("192.0.2.2", fmt.Sprint("b", i))
	}
	submit("192.0.2.3", "c0")
	last = p.jobs[pair{5}]
	close(gate)
	<-last.done
	mu.Lock()
	defer mu.Unlock()
	if got := strings.Join(order, " "); got != "first a0 b0 c0 a1 b1 a2 a3" {
		t.Errorf("order %q", got)
	}
}

func TestPoolIsBounded(t *testing.T) {
	gate := make(chan struct{})
	p := newPool(1, func(*hash, []byte) bool { <-gate; return false }, func(*job, bool) {})
	defer p.close()
	defer close(gate)
	queued := 0
	for i := range maxWaiting + 100 {
		c := check{pair: pair{byte(i), byte(i >> 8)}, password: []byte("x")}
		addr := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		if p.submit(addr, c) != nil {
			queued++
		}
	}
	if queued < maxWaiting || queued > maxWaiting+1 { // one may run
		t.Errorf("%d queued, want %d", queued, maxWaiting)
	}
}

func TestRecheck(t *testing.T) {
	type change = func(*testing.T, *config.Config)
	users := func(now map[string]entry) change {
		return func(t *testing.T, c *config.Config) { writeUsers(t, c.Auth.Providers[0].Path, now) }
	}
	set := func(f func(*config.Config)) change { return func(_ *testing.T, c *config.Config) { f(c) } }
	alice, nobody := connect("c", "alice", "secret"), connect("c", "-", "-")
	cases := []struct {
		name   string
		before func(*config.Config)
		r      Request
		after  change
		want   string // standing, groups; "" gone
	}{
		{"nothing", nil, alice, set(func(*config.Config) {}), "2 a,b"},
		{"groups changed", nil, alice, users(map[string]entry{"alice": {Hash: testHash, Groups: []string{"c"}}}), "2 c"},
		{"password changed", nil, alice, users(map[string]entry{"alice": {Hash: strings.Replace(testHash, "2a", "2b", 1)}}), "2 "},
		{"disabled", nil, alice, users(map[string]entry{"alice": {Hash: testHash, Enabled: &no}}), ""},
		{"removed", nil, alice, users(map[string]entry{"bob": {Hash: testHash}}), ""},
		{"removed, detect-only", func(c *config.Config) { c.General.BlockMode = false }, alice, users(map[string]entry{"bob": {Hash: testHash}}), "0 "},
		{"provider renamed", nil, alice, set(func(c *config.Config) { c.Auth.Providers[0].Name = "x" }), ""},
		{"client id forbidden", nil, alice, set(func(c *config.Config) { c.Auth.ClientIDPattern = regexp.MustCompile("^(?:x)$") }), ""},
		{"a deny rule that it cannot be filled with", nil, connect("c/1", "alice", "secret"), set(func(c *config.Config) {
			c.ACL.DefaultAction, c.ACL.Rules = "allow", []config.Rule{{Topics: []string{"own/%c"}, Decision: "deny"}}
		}), ""},
		{"client id of a user who is new", func(c *config.Config) { c.Auth.ClientIDTemplate = "%u-*" }, connect("alice-x-1", "alice", "secret"), users(map[string]entry{"alice": {Hash: testHash}, "alice-x": {Hash: testHash}}), ""},
		{"authentication off", nil, alice, set(func(c *config.Config) { c.Auth.Enabled = false }), "1 "},
		{"authentication on", func(c *config.Config) { c.Auth.Enabled = false }, alice, set(func(c *config.Config) { c.Auth.Enabled = true }), ""},
		{"authentication on, anonymous", func(c *config.Config) { c.Auth.Enabled = false }, nobody, set(func(c *config.Config) { c.Auth.Enabled, c.Auth.AllowAnonymous = true, true }), "2 anonymous"},
		{"authentication on, anonymous forbidden", func(c *config.Config) { c.Auth.Enabled = false }, nobody, set(func(c *config.Config) { c.Auth.Enabled = true }), ""},
		{"anonymous forbidden", func(c *config.Config) { c.Auth.AllowAnonymous = true }, nobody, set(func(c *config.Config) { c.Auth.AllowAnonymous = false }), ""},
		{"anonymous", func(c *config.Config) { c.Auth.AllowAnonymous = true }, nobody, set(func(*config.Config) {}), "2 anonymous"},
		{"anonymous, authentication off", func(c *config.Config) { c.Auth.AllowAnonymous = true }, nobody, set(func(c *config.Config) { c.Auth.Enabled = false }), "1 anonymous"},
		{"detect-only stays", func(c *config.Config) { c.General.BlockMode = false }, nobody, set(func(*config.Config) {}), "0 "},
		{"detect-only ends", func(c *config.Config) { c.General.BlockMode = false }, nobody, set(func(c *config.Config) { c.General.BlockMode = true }), ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			f := start(t, c.before)
			grant := f.ask(c.r)
			s := grant.Admission.Subject
			if s == nil {
				t.Fatal("not admitted")
			}
			if same, ok := f.Recheck(s); !ok || same != s {
				t.Errorf("without a change: got %p, %v, want the same subject %p", same, ok, s)
			}
			next := *f.cfg
			next.Auth.Providers = append([]config.Provider(nil), next.Auth.Providers...)
			c.after(t, &next)
			if err := f.Reload(&next, compile(t, &next)); err != nil {
				t.Fatal(err)
			}
			now, ok := f.Recheck(s)
			got := ""
			if ok {
				got = fmt.Sprint(int(now.Identity().Standing), " ", strings.Join(now.Identity().Groups, ","))
				if now.Engine() != f.state.Load().engine {
					t.Error("bound to the old policy")
				}
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			held := grant.Lease != nil
			f.Renew(&grant)
			switch a := grant.Admission; {
			case (a.Subject != nil) != ok:
				t.Errorf("Renew: got %+v, Recheck said %v", a, ok)
			case ok && a.Subject.Engine() != f.state.Load().engine:
				t.Error("Renew: bound to the old policy")
			case ok && (grant.Lease != nil) != held:
				t.Error("Renew: the client id was given back")
			case !ok && (a.Reason != policy.ReasonBadCredentials || grant.Lease != nil):
				t.Errorf("Renew: got %+v, client id held: %v", a, grant.Lease != nil)
			case !ok && len(f.owners.ids) != 0:
				t.Error("Renew: the client id is still taken")
			}
		})
	}
}

// A listener that a reload removed keeps its rules while it has connections.
func TestReloadKeepsRulesOfARemovedListener(t *testing.T) {
	f := start(t, func(c *config.Config) {
		c.Auth.AllowAnonymous = true
		c.Gateway.Listeners = []config.Listener{{Name: "closed", Auth: &config.ListenerAuth{AllowAnonymous: &no}}}
	})
	next := *f.cfg
	next.Gateway.Listeners = nil
	if err := f.Reload(&next, compile(t, &next)); err != nil {
		t.Fatal(err)
	}
	r := connect("c", "-", "-")
	r.Listener = "closed"
	f.refused(r, policy.ReasonNotAllowed, policy.RuleAllowAnonymous)
}

func TestReloadErrorKeepsTheOld(t *testing.T) {
	f := start(t, nil)
	bad := []struct {
		name     string
		provider config.Provider
		want     string
	}{
		{"missing file", config.Provider{Type: "file", Path: filepath.Join(t.TempDir(), "none.json")}, "no such file"},
		{"type of a later version", config.Provider{Type: "jwt"}, `auth.providers[0]: type "jwt"`},
	}
	for _, c := range bad {
		next := *f.cfg
		next.Auth.Providers = []config.Provider{c.provider}
		if err := f.Reload(&next, compile(t, &next)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: Reload = %v, want an error with %q", c.name, err, c.want)
		}
		if _, err := New(&next, compile(t, &next), slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%s: New accepts it", c.name)
		}
	}
	f.admitted(connect("c", "alice", "secret"))
}

func TestHotReload(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "users.json")
	writeUsers(t, path, map[string]entry{"alice": {Hash: testHash}})
	log := &lines{}
	cfg := config.Default()
	cfg.Auth.Enabled = true
	cfg.Auth.Providers = []config.Provider{{Type: "file", Path: path, CacheTTLSecs: 300, HotReload: true}}
	f := startConfig(t, cfg, slog.New(slog.NewTextHandler(log, nil)))
	s := f.ask(connect("c", "alice", "secret")).Admission.Subject

	// Replaced by a rename.
	writeUsers(t, path, map[string]entry{"alice": {Hash: testHash, Groups: []string{"g"}}})
	f.waitForChange()
	if now, ok := f.Recheck(s); !ok || strings.Join(now.Identity().Groups, ",") != "g" {
		t.Errorf("after a change of groups: %v", ok)
	}
	if want := fmt.Sprintf(`msg="users file reloaded" file=%s users=1 added=0 removed=0 changed=1`, path); log.count(want) != 1 {
		t.Errorf("%q was not logged:\n%s", want, log.text())
	}
	f.count()
	f.admitted(connect("d", "alice", "secret"))
	if n := f.count(); n != 0 {
		t.Errorf("%d comparisons although only groups changed, want 0", n)
	}

	// Broken, then away: the old users stay, and it is told once each.
	replaceFile(t, path, []byte("{"))
	log.wait(t, "users files are not usable")
	f.admitted(connect("d", "alice", "secret"))
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	log.wait(t, "no such file")
	f.admitted(connect("d", "alice", "secret"))
	if n := log.count("old users stay"); n != 2 {
		t.Errorf("%d lines about unusable files, want 2:\n%s", n, log.text())
	}

	// Mended, as it was.
	writeUsers(t, path, map[string]entry{"alice": {Hash: testHash, Groups: []string{"g"}}})
	log.wait(t, "usable again")
	f.admitted(connect("d", "alice", "secret"))

	// Written in place.
	writeUsers(t, path, map[string]entry{"bob": {Hash: testHash}})
	f.waitForChange()
	if _, ok := f.Recheck(s); ok {
		t.Error("a removed user stays")
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bytes.Replace(data, []byte("bob"), []byte("eve"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	f.waitForChange()
	f.admitted(connect("d", "eve", "secret"))
}

// Kubernetes mounts a directory whose files are links to ..data/FILE, where
// ..data is a link that it replaces.
func TestHotReloadKubernetes(t *testing.T) {
	dir := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	mount := func(version string, users map[string]entry) {
		must(os.Mkdir(filepath.Join(dir, version), 0o700))
		writeUsers(t, filepath.Join(dir, version, "users.json"), users)
		must(os.Symlink(version, filepath.Join(dir, "..data_tmp")))
		must(os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
	}
	mount("..1", map[string]entry{"alice": {Hash: testHash}})
	path := filepath.Join(dir, "users.json")
	must(os.Symlink(filepath.Join("..data", "users.json"), path))
	f := start(t, func(c *config.Config) { c.Auth.Providers[0].Path, c.Auth.Providers[0].HotReload = path, true })
	f.admitted(connect("c", "alice", "secret"))
	mount("..2", map[string]entry{"carol": {Hash: testHash}})
	f.waitForChange()
	f.admitted(connect("c", "carol", "secret"))
	f.refused(connect("c", "alice", "secret"), policy.ReasonBadCredentials, policy.RuleUnknownUser)
}

// Notification and polling each suffice alone.
func TestHotReloadEitherWay(t *testing.T) {
	cases := []struct {
		name string
		poll time.Duration
		link bool // the file is a link into a directory that is not watched
	}{
		{"notification", time.Hour, false},
		{"polling", 10 * time.Millisecond, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "users.json")
			writeUsers(t, file, map[string]entry{"user0": {Hash: testHash}})
			path := file
			if c.link {
				path = filepath.Join(t.TempDir(), "link.json")
				if err := os.Symlink(file, path); err != nil {
					t.Fatal(err)
				}
			}
			cfg := config.Default()
			cfg.Auth.Enabled = true
			cfg.Auth.Providers = []config.Provider{{Type: "file", Path: path, HotReload: true}}
			f := startWatching(t, cfg, slog.New(slog.DiscardHandler), 20*time.Millisecond, c.poll)
			// The first change may be met by the reading at the start.
			for i := range 3 {
				user := fmt.Sprint("user", i+1)
				writeUsers(t, file, map[string]entry{user: {Hash: testHash}})
				f.waitForChange()
				f.admitted(connect("c", user, "secret"))
			}
		})
	}
}

// Two files change together or not at all.
func TestHotReloadTogether(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a.json"), filepath.Join(dir, "b.json")
	writeUsers(t, a, map[string]entry{"alice": {Hash: testHash}})
	writeUsers(t, b, map[string]entry{"bob": {Hash: testHash}})
	log := &lines{}
	cfg := config.Default()
	cfg.Auth.Enabled = true
	for _, path := range []string{a, b} {
		cfg.Auth.Providers = append(cfg.Auth.Providers, config.Provider{Type: "file", Path: path, HotReload: true})
	}
	f := startConfig(t, cfg, slog.New(slog.NewTextHandler(log, nil)))
	writeUsers(t, a, map[string]entry{"bob": {Hash: testHash}})
	replaceFile(t, b, []byte("{"))
	log.wait(t, "not usable")
	f.admitted(connect("c", "alice", "secret"))
	writeUsers(t, b, map[string]entry{"alice": {Hash: testHash}})
	f.waitForChange()
	if id := f.admitted(connect("c", "alice", "secret")); id.Provider != "providers[1]" {
		t.Errorf("alice comes from %s, want providers[1]", id.Provider)
	}
}

// Files that never rest are read all the same.
func TestHotReloadRestless(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users.json")
	writeUsers(t, path, map[string]entry{"alice": {Hash: testHash}})
	cfg := config.Default()
	cfg.Auth.Enabled = true
	cfg.Auth.Providers = []config.Provider{{Type: "file", Path: path, HotReload: true}}
	f := startWatching(t, cfg, slog.New(slog.DiscardHandler), 300*time.Millisecond, 10*time.Millisecond)
	s := f.ask(connect("c", "alice", "secret")).Admission.Subject
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { // ends with stop
		defer close(stopped)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			name := fmt.Sprintf("%s.%d", path, i%2)
			if err := errors.Join(os.WriteFile(name, fmt.Appendf(nil, `{"users": {"user%d": {"password_hash": %q}}}`, i, testHash), 0o600), os.Rename(name, path)); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	defer func() { close(stop); <-stopped }()
	f.waitForChange()
	if _, ok := f.Recheck(s); ok {
		t.Error("a removed user stays")
	}
}

// What is wrong is told once, however often it is read, and each mistake on a
// line with its place.
func TestUnusableFileIsToldOnce(t *testing.T) {
	f := start(t, nil)
	log := &lines{}
	f.log = slog.New(slog.NewTextHandler(log, nil))
	st := f.state.Load()
	st.providers[0].watched = true
	reader := &follower{gate: f.Gate, state: st}
	for i, step := range []struct {
		text string
		told int
	}{{"{", 1}, {"{", 1}, {"[]", 2}, {"[]", 2}, {`{"users": {}}`, 2}, {"[]", 3}, {`{"users": {"a": {}, "b": 1}}`, 4}} {
		replaceFile(t, st.providers[0].path, []byte(step.text))
		reader.read()
		if n := log.count("old users stay"); n != step.told {
			t.Errorf("step %d: told %d times, want %d", i, n, step.told)
		}
	}
	all := strings.Split(strings.TrimSpace(log.text()), "\n")
	last := all[max(0, len(all)-3):]
	if len(last) < 3 || !strings.Contains(last[0], "users.json:1:") || !strings.Contains(last[0], `users[\"a\"].password_hash`) ||
		!strings.Contains(last[1], `users[\"b\"]"`) || !strings.Contains(last[2], "mistakes=2") {
		t.Errorf("two mistakes: %q", last)
	}
}

func TestNotWatched(t *testing.T) {
	for name, change := range map[string]func(*config.Config){
		"hot-reload false": func(*config.Config) {},
		"watch none":       func(c *config.Config) { c.Auth.Providers[0].HotReload, c.General.Watch = true, "none" },
		"auth off":         func(c *config.Config) { c.Auth.Providers[0].HotReload, c.Auth.Enabled = true, false },
	} {
		t.Run(name, func(t *testing.T) {
			if f := start(t, change); f.watch != nil {
				t.Error("files are watched")
			}
		})
	}
}

func (f *fixture) waitForChange() {
	f.t.Helper()
	testkit.Receive(f.t, "a change", f.Changed())
}

// lines is a log that tests read.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *lines) count(s string) int { return strings.Count(l.text(), s) }

func (l *lines) wait(t *testing.T, s string) {
	t.Helper()
	if !testkit.Within(testkit.Patience, func() bool { return l.count(s) > 0 }) {
		t.Fatalf("%q was not logged:\n%s", s, l.text())
	}
}

// Everything at once, for the race detector.
func TestGateIsConcurrent(t *testing.T) {
	f := start(t, func(c *config.Config) { c.Auth.Providers[0].HotReload = true; c.Auth.AllowAnonymous = true })
	engine := compile(t, f.cfg)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 50 {
				r := connect(fmt.Sprint("c", i), "alice", "secret")
				switch j % 3 {
				case 1:
					r = connect(fmt.Sprint("c", i), "alice", fmt.Sprint("guess", j))
				case 2:
					r = connect(fmt.Sprint("c", i), "-", "-")
				}
				grant := f.ask(r)
				if grant.Lease != nil {
					f.Recheck(grant.Admission.Subject)
					f.Release(grant.Lease)
				}
			}
		})
	}
	for range 20 {
		if err := f.Reload(f.cfg, engine); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
	if n := len(f.owners.ids); n != 0 {
		t.Errorf("%d client ids are still owned", n)
	}
}
