package auth

import (
	"context"
	"encoding/json"
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
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/session"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// fixture is a gate under test with its clock and a record of its hashing.
type fixture struct {
	*Gate
	t   *testing.T
	cfg *config.Config

	mu     sync.Mutex
	now    time.Time
	hashed []string // the hashes that a password was compared with
	before func()   // called before each comparison; nil: nothing
}

// entry is a user in a users file.
type entry struct {
	Hash       string            `json:"password_hash"`
	Groups     []string          `json:"groups,omitempty"`
	Attributes map[string]string `json:"attributes,omitempty"`
	Enabled    *bool             `json:"enabled,omitempty"`
}

var no = false

// dearHash is of "secret" and costs more than testHash.
const dearHash = "$argon2id$v=19$m=1024,t=1000,p=1$c2FsdHNhbHQ$MDEyMzQ1Njc4OWFiY2RlZg"

func writeUsers(t *testing.T, path string, users map[string]entry) {
	t.Helper()
	data, err := json.Marshal(map[string]any{"users": users})
	if err != nil {
		t.Fatal(err)
	}
	replaceFile(t, path, data)
}

// replaceFile replaces a file at once.
func replaceFile(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// start starts a gate with alice (right password "secret", groups a and b) and
// the disabled bob behind a provider of type file; change alters its
// configuration. Comparing costs nothing: only "secret" is right.
func start(t *testing.T, change func(*config.Config)) *fixture {
	t.Helper()
	path := filepath.Join(t.TempDir(), "users.json")
	writeUsers(t, path, map[string]entry{
		"alice": {Hash: testHash, Groups: []string{"a", "b"}, Attributes: map[string]string{"site": "x"}},
		"bob":   {Hash: testHash, Enabled: &no},
	})
	cfg := config.Default()
	cfg.Auth.Enabled = true
	cfg.Auth.Providers = []config.Provider{{Type: "file", Path: path, CacheTTLSecs: 300}}
	if change != nil {
		change(cfg)
	}
	return startConfig(t, cfg, slog.New(slog.DiscardHandler))
}

func startConfig(t *testing.T, cfg *config.Config, log *slog.Logger) *fixture {
	t.Helper()
	return startWatching(t, cfg, log, 20*time.Millisecond, 10*time.Millisecond)
}

func startWatching(t *testing.T, cfg *config.Config, log *slog.Logger, quiet, poll time.Duration) *fixture {
	t.Helper()
	f := &fixture{t: t, cfg: cfg, now: time.Unix(1e9, 0)}
	g, err := newGate(cfg, compile(t, cfg), log, tuning{
		now: f.clock, verify: f.verify, workers: 1, quiet: quiet, poll: poll,
	})
	if err != nil {
		t.Fatal(err)
	}
	f.Gate = g
	t.Cleanup(g.Close)
	return f
}

func compile(t *testing.T, cfg *config.Config) *policy.Engine {
	t.Helper()
	engine, err := policy.Compile(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return engine
}

func (f *fixture) clock() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

func (f *fixture) pass(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = f.now.Add(d)
}

func (f *fixture) verify(h *hash, password []byte) bool {
	f.mu.Lock()
	before := f.before
	f.hashed = append(f.hashed, h.text)
	f.mu.Unlock()
	if before != nil {
		before()
	}
	return string(password) == "secret"
}

// count returns how many comparisons there were since it was last called.
func (f *fixture) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := len(f.hashed)
	f.hashed = nil
	return n
}

// connect makes a request from 192.0.2.1; username "-" and password "-" are
// not given.
func connect(id, username, password string) Request {
	c := &session.ConnectInfo{Version: mqtt.V5, ClientID: id, CleanStart: true}
	if username != "-" {
		c.Username, c.HasUsername = username, true
	}
	if password != "-" {
		c.Password, c.HasPassword = []byte(password), true
	}
	return Request{Connect: c, Addr: netip.MustParseAddr("192.0.2.1")}
}

// ask tries r and, if that is not enough, admits it.
func (f *fixture) ask(r Request) Grant {
	f.t.Helper()
	if grant, ok := f.Try(r); ok {
		return grant
	}
	ctx, cancel := context.WithTimeout(f.t.Context(), testkit.Patience)
	defer cancel()
	return f.Admit(ctx, r)
}

// admitted fails the test unless r is admitted, and returns its identity; the
// client id is free again.
func (f *fixture) admitted(r Request) *policy.Identity {
	f.t.Helper()
	grant := f.ask(r)
	if grant.Admission.Subject == nil || grant.Admission.Detected {
		f.t.Fatalf("%q as %q refused: reason %d, rule %d", r.Connect.Username, r.Connect.ClientID, grant.Admission.Reason, grant.Admission.Rule)
	}
	f.Release(grant.Lease)
	return grant.Admission.Subject.Identity()
}

// refused fails the test unless r is refused for reason by rule.
func (f *fixture) refused(r Request, reason policy.Reason, rule policy.RuleRef) {
	f.t.Helper()
	a := f.ask(r).Admission
	if a.Subject != nil || a.Reason != reason || a.Rule != rule || a.Detected {
		f.t.Fatalf("%q as %q: got %+v, want reason %d, rule %d", r.Connect.Username, r.Connect.ClientID, a, reason, rule)
	}
}

func TestGateDecides(t *testing.T) {
	anonymousOn := func(c *config.Config) { c.Auth.AllowAnonymous = true }
	method := func(r Request) Request { r.Connect.AuthMethod = "SCRAM"; return r }
	listener := func(r Request, name string) Request { r.Listener = name; return r }
	listeners := func(c *config.Config) {
		c.Auth.Providers[0].Name = "people"
		c.Auth.AllowAnonymous = true
		c.Gateway.Listeners = []config.Listener{
			{Name: "closed", Auth: &config.ListenerAuth{AllowAnonymous: &no}},
			{Name: "named", Auth: &config.ListenerAuth{Providers: []string{"people"}}},
			{Name: "others", Auth: &config.ListenerAuth{Providers: []string{"machines"}}},
			{Name: "none", Auth: &config.ListenerAuth{Providers: []string{}}},
			{Name: "plain"},
			{Address: "tcp://127.0.0.1:1", Auth: &config.ListenerAuth{AllowAnonymous: &no}},
		}
	}
	nameless := func(c *config.Config) { listeners(c); c.Auth.Providers[0].Name = "" }
	longer := func(template string) func(*config.Config) {
		return func(c *config.Config) {
			c.Auth.ClientIDTemplate = template
			writeUsers(t, c.Auth.Providers[0].Path, map[string]entry{"alice": {Hash: testHash}, "alice-x": {Hash: testHash}})
		}
	}
	cases := []struct {
		name   string
		change func(*config.Config)
		r      Request
		reason policy.Reason // ReasonNone: admitted
		rule   policy.RuleRef
	}{
		{"right", nil, connect("c", "alice", "secret"), policy.ReasonNone, 0},
		{"wrong", nil, connect("c", "alice", "guess"), policy.ReasonBadCredentials, policy.RuleWrongPassword},
		{"unknown user", nil, connect("c", "eve", "secret"), policy.ReasonBadCredentials, policy.RuleUnknownUser},
		{"disabled user", nil, connect("c", "bob", "secret"), policy.ReasonBadCredentials, policy.RuleUserDisabled},
		{"no password", nil, connect("c", "alice", "-"), policy.ReasonBadCredentials, policy.RuleNoPassword},
		{"empty password", nil, connect("c", "alice", ""), policy.ReasonBadCredentials, policy.RuleWrongPassword},
		{"password over 72 bytes", nil, connect("c", "alice", "secret"+strings.Repeat("x", 67)), policy.ReasonBadCredentials, policy.RuleWrongPassword},
		{"password alone", nil, connect("c", "-", "secret"), policy.ReasonBadCredentials, policy.RuleProviders},
		{"anonymous not allowed", nil, connect("c", "-", "-"), policy.ReasonNotAllowed, policy.RuleAllowAnonymous},
		{"anonymous", anonymousOn, connect("c", "-", "-"), policy.ReasonNone, 0},
		{"wrong is never anonymous", anonymousOn, connect("c", "alice", "guess"), policy.ReasonBadCredentials, policy.RuleWrongPassword},
		{"empty user name is not anonymous", anonymousOn, connect("c", "", "-"), policy.ReasonBadCredentials, policy.RuleNoPassword},
		{"empty user name and password", anonymousOn, connect("c", "", "secret"), policy.ReasonBadCredentials, policy.RuleUnknownUser},
		{"user name alone is not anonymous", anonymousOn, connect("c", "alice", "-"), policy.ReasonBadCredentials, policy.RuleNoPassword},
		{"method is not anonymous", anonymousOn, method(connect("c", "-", "-")), policy.ReasonBadCredentials, policy.RuleProviders},
		{"method beside right credentials", nil, method(connect("c", "alice", "secret")), policy.ReasonNone, 0},
		{"method beside wrong credentials", nil, method(connect("c", "alice", "guess")), policy.ReasonBadCredentials, policy.RuleWrongPassword},
		{"no providers", func(c *config.Config) { c.Auth.Providers = nil }, connect("c", "alice", "secret"), policy.ReasonBadCredentials, policy.RuleProviders},

		{"listener closes anonymous", listeners, listener(connect("c", "-", "-"), "closed"), policy.ReasonNotAllowed, policy.RuleAllowAnonymous},
		{"listener inherits anonymous", listeners, listener(connect("c", "-", "-"), "named"), policy.ReasonNone, 0},
		{"listener without auth", listeners, listener(connect("c", "alice", "secret"), "plain"), policy.ReasonNone, 0},
		{"listener without name", listeners, listener(connect("c", "-", "-"), "tcp://127.0.0.1:1"), policy.ReasonNotAllowed, policy.RuleAllowAnonymous},
		{"listener names the provider", listeners, listener(connect("c", "alice", "secret"), "named"), policy.ReasonNone, 0},
		{"listener names another", listeners, listener(connect("c", "alice", "secret"), "others"), policy.ReasonBadCredentials, policy.RuleProviders},
		{"listener names none", listeners, listener(connect("c", "alice", "secret"), "none"), policy.ReasonBadCredentials, policy.RuleProviders},
		{"named list excludes a provider without name", nameless, listener(connect("c", "alice", "secret"), "named"), policy.ReasonBadCredentials, policy.RuleProviders},
		{"no list includes it", nameless, listener(connect("c", "alice", "secret"), "plain"), policy.ReasonNone, 0},
		{"agent door", listeners, connect("c", "alice", "secret"), policy.ReasonNone, 0},

		{"client id pattern", func(c *config.Config) { c.Auth.ClientIDPattern = regexp.MustCompile("^(?:x.*)$") }, connect("c", "alice", "secret"), policy.ReasonClientID, policy.RuleClientIDPattern},
		{"client id pattern binds anonymous", func(c *config.Config) {
			c.Auth.ClientIDPattern, c.Auth.AllowAnonymous = regexp.MustCompile("^(?:x.*)$"), true
		}, connect("c", "-", "-"), policy.ReasonClientID, policy.RuleClientIDPattern},
		{"client id with a control character", nil, connect("a\x01b", "alice", "secret"), policy.ReasonClientID, policy.RuleCharacters},
		{"client id with a C1 control character", nil, connect("a\u0085b", "alice", "secret"), policy.ReasonClientID, policy.RuleCharacters},
		{"client id with a non-character", nil, connect("a\U0001FFFEb", "alice", "secret"), policy.ReasonClientID, policy.RuleCharacters},
		{"client id with a non-character of the block", nil, connect("a\uFDD0b", "alice", "secret"), policy.ReasonClientID, policy.RuleCharacters},
		{"client id in Greek, with a space", nil, connect("α β\uFFFD", "alice", "secret"), policy.ReasonNone, 0},
		{"user name with a control character", nil, connect("c", "alice\n", "secret"), policy.ReasonBadCredentials, policy.RuleCharacters},
		{"user name with a control character, without authentication", func(c *config.Config) { c.Auth.Enabled = false }, connect("c", "alice\x7f", "secret"), policy.ReasonBadCredentials, policy.RuleCharacters},
		{"user name that a deny rule cannot be filled with", func(c *config.Config) {
			c.Auth.Enabled = false
			c.ACL.DefaultAction, c.ACL.Rules = "allow", []config.Rule{{Topics: []string{"own/%u"}, Decision: "deny"}}
		}, connect("c", "a/b", "-"), policy.ReasonNotAllowed, 1},
		{"client id too long", nil, connect(strings.Repeat("c", 129), "alice", "secret"), policy.ReasonClientID, policy.RuleClientIDLength},
		{"client id template", func(c *config.Config) { c.Auth.ClientIDTemplate = "%u-*" }, connect("eve-1", "alice", "secret"), policy.ReasonClientID, policy.RuleClientIDTemplate},
		{"client id template of a longer user name", longer("%u-*"), connect("alice-x-1", "alice", "secret"), policy.ReasonClientID, policy.RuleClientIDTemplate},
		{"client id template of a longer user name, disabled", func(c *config.Config) {
			c.Auth.ClientIDTemplate = "p%u*"
			writeUsers(t, c.Auth.Providers[0].Path, map[string]entry{"alice": {Hash: testHash}, "alicex": {Hash: testHash, Enabled: &no}})
		}, connect("palicex1", "alice", "secret"), policy.ReasonClientID, policy.RuleClientIDTemplate},
		{"client id template of the longer user name itself", longer("%u-*"), connect("alice-x-1", "alice-x", "secret"), policy.ReasonNone, 0},
		{"client id template that only looks like a longer user name", longer("%u-*"), connect("alice-y-1", "alice", "secret"), policy.ReasonNone, 0},
		{"client id template, the longer user name has another place", longer("%u-*"), connect("alice-x", "alice", "secret"), policy.ReasonNone, 0},
		{"assigned client id, anonymous not allowed", func(c *config.Config) { c.Auth.ClientIDTemplate = "%u-*" }, assigned(connect("-xyz", "-", "-")), policy.ReasonNotAllowed, policy.RuleAllowAnonymous},
		{"assigned client id, wrong credentials", func(c *config.Config) { c.Auth.ClientIDTemplate = "%u-*" }, assigned(connect("a/b-xyz", "a/b", "guess")), policy.ReasonBadCredentials, policy.RuleUnknownUser},
		{"assigned client id, user name with a control character", func(c *config.Config) { c.Auth.ClientIDTemplate = "%u-*" }, assigned(connect("a\x01-xyz", "a\x01", "guess")), policy.ReasonBadCredentials, policy.RuleCharacters},
		{"assigned client id, a template that anonymous clients do not fit", func(c *config.Config) {
			c.Auth.ClientIDTemplate, c.Auth.AllowAnonymous = "%u-*", true
		}, assigned(connect("-xyz", "-", "-")), policy.ReasonClientID, policy.RuleEmptyClientID},
		{"assigned client id, the template is another now", func(c *config.Config) { c.Auth.ClientIDTemplate = "%u-*" }, assigned(connect("gw-xyz", "alice", "secret")), policy.ReasonClientID, policy.RuleEmptyClientID},
		{"assigned client id", func(c *config.Config) { c.Auth.ClientIDTemplate = "%u-*" }, assigned(connect("alice-xyz", "alice", "secret")), policy.ReasonNone, 0},
		{"client id rules without authentication", func(c *config.Config) {
			c.Auth.Enabled, c.Auth.ClientIDPattern = false, regexp.MustCompile("^(?:x.*)$")
		}, connect("c", "-", "-"), policy.ReasonClientID, policy.RuleClientIDPattern},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			f := start(t, c.change)
			if c.reason == policy.ReasonNone {
				f.admitted(c.r)
			} else {
				f.refused(c.r, c.reason, c.rule)
			}
			if n := len(f.owners.ids); n != 0 {
				t.Errorf("%d client ids are still owned", n)
			}
		})
	}
}

// assigned is r with a client id that the gateway made.
func assigned(r Request) Request {
	r.Connect.Assigned = true
	return r
}

func TestGateIdentity(t *testing.T) {
	mapped := netip.MustParseAddr("::ffff:192.0.2.7")
	f := start(t, func(c *config.Config) { c.Auth.AllowAnonymous = true })
	r := connect("dev", "alice", "secret")
	r.Addr, r.Listener, r.Door = mapped, "l", policy.DoorAgent
	id := f.admitted(r)
	if id.Username != "alice" || id.ClientID != "dev" || id.Standing != policy.Verified || id.Provider != "file" ||
		strings.Join(id.Groups, " ") != "a b" || id.Attributes["site"] != "x" || id.Anonymous ||
		id.Addr != mapped.Unmap() || id.Version != mqtt.V5 || id.Listener != "l" || id.Door != policy.DoorAgent {
		t.Errorf("alice is %+v", id)
	}
	id = f.admitted(connect("dev", "-", "-"))
	if !id.Anonymous || id.Username != "" || id.Standing != policy.Verified || strings.Join(id.Groups, " ") != "anonymous" {
		t.Errorf("nobody is %+v", id)
	}
}

func TestGateOff(t *testing.T) {
	f := start(t, func(c *config.Config) { c.Auth.Enabled = false })
	id := f.admitted(connect("c", "alice", "whatever"))
	if id.Standing != policy.Claimed || id.Username != "alice" || id.Groups != nil || id.Anonymous {
		t.Errorf("alice is %+v, want claimed, without groups", id)
	}
	id = f.admitted(connect("c", "-", "-"))
	if id.Standing != policy.Claimed || !id.Anonymous || strings.Join(id.Groups, " ") != "anonymous" {
		t.Errorf("nobody is %+v, want claimed, anonymous", id)
	}
	if n := f.count(); n != 0 {
		t.Errorf("%d comparisons with authentication off", n)
	}
}

func TestGateDetectOnly(t *testing.T) {
	f := start(t, func(c *config.Config) { c.General.BlockMode = false })
	owner := f.ask(connect("c", "alice", "secret"))
	if owner.Admission.Detected || owner.Lease == nil {
		t.Fatalf("alice: %+v", owner)
	}
	defer f.Release(owner.Lease)
	cases := []struct {
		name   string
		r      Request
		reason policy.Reason
		rule   policy.RuleRef
	}{
		{"wrong password", connect("d", "alice", "guess"), policy.ReasonBadCredentials, policy.RuleWrongPassword},
		{"anonymous", connect("d", "-", "-"), policy.ReasonNotAllowed, policy.RuleAllowAnonymous},
		{"client id", connect(strings.Repeat("d", 200), "alice", "secret"), policy.ReasonClientID, policy.RuleClientIDLength},
		{"takeover", connect("c", "bob", "guess"), policy.ReasonBadCredentials, policy.RuleUserDisabled},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			grant := f.ask(c.r)
			a := grant.Admission
			if a.Subject == nil || !a.Detected || a.Reason != c.reason || a.Rule != c.rule || grant.Lease != nil {
				t.Fatalf("got %+v, want detected with reason %d, rule %d", grant, c.reason, c.rule)
			}
			id := a.Subject.Identity()
			if id.Standing != policy.Unverified || id.Groups != nil || id.Username != c.r.Connect.Username {
				t.Errorf("identity %+v, want the claimed name, unverified, without groups", id)
			}
		})
	}
}

func TestGateTakeover(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users.json")
	writeUsers(t, path, map[string]entry{"alice": {Hash: testHash}, "eve": {Hash: testHash}})
	users := func(c *config.Config) { c.Auth.Providers[0].Path, c.Auth.AllowAnonymous = path, true }
	off := func(c *config.Config) { c.Auth.Enabled = false }
	anyone := func(c *config.Config) { users(c); c.Auth.Takeover = "any" }
	cases := []struct {
		name          string
		change        func(*config.Config)
		first, second string // user names; "-" anonymous
		ok            bool
	}{
		{"same", users, "alice", "alice", true},
		{"another", users, "alice", "eve", false},
		{"anonymous after verified", users, "alice", "-", false},
		{"verified after anonymous", users, "-", "eve", false},
		{"anonymous are one", users, "-", "-", true},
		{"claimed, same", off, "alice", "alice", true},
		{"claimed, another", off, "alice", "eve", false},
		{"claimed, none", off, "-", "-", true},
		{"claimed, empty is not none", off, "-", "", false},
		{"any", anyone, "alice", "eve", true},
	}
	password := func(username string) string {
		if username == "-" {
			return "-"
		}
		return "secret"
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			f := start(t, c.change)
			first := f.ask(connect("c", c.first, password(c.first)))
			if first.Admission.Subject == nil {
				t.Fatalf("the first was refused: %+v", first)
			}
			f.admitted(connect("d", c.second, password(c.second)))
			again := connect("c", c.second, password(c.second))
			if c.ok {
				f.admitted(again)
			} else {
				f.refused(again, policy.ReasonClientID, policy.RuleTakeover)
			}
			f.Release(first.Lease)
			f.admitted(again)
			if n := len(f.owners.ids); n != 0 {
				t.Errorf("%d client ids are still owned", n)
			}
		})
	}
}

func TestGateLockout(t *testing.T) {
	f := start(t, func(c *config.Config) {
		c.Auth.FailureLockout.Attempts = 3
		c.Auth.AllowAnonymous = true
	})
	for i := range 3 {
		f.refused(connect("c", "alice", strings.Repeat("g", i+1)), policy.ReasonBadCredentials, policy.RuleWrongPassword)
	}
	f.count()
	f.refused(connect("c", "alice", "secret"), policy.ReasonLockedOut, policy.RuleFailureLockout)
	if n := f.count(); n != 0 {
		t.Errorf("%d comparisons while locked out", n)
	}
	other := connect("c", "alice", "secret")
	other.Addr = netip.MustParseAddr("192.0.2.2")
	f.admitted(other)
	f.admitted(connect("c", "-", "-"))
	f.pass(59 * time.Second)
	f.refused(connect("c", "alice", "secret"), policy.ReasonLockedOut, policy.RuleFailureLockout)
	f.pass(time.Second)
	f.admitted(connect("c", "alice", "secret"))
}

// What costs no comparison is not counted: it would fill the table for free.
func TestGateLockoutCountsComparisons(t *testing.T) {
	f := start(t, func(c *config.Config) { c.Auth.FailureLockout.Attempts = 3 })
	for range 10 {
		f.refused(connect("c", "alice", "-"), policy.ReasonBadCredentials, policy.RuleNoPassword)
		f.refused(connect("c", "alice", strings.Repeat("x", 73)), policy.ReasonBadCredentials, policy.RuleWrongPassword)
	}
	if n := len(f.lockout.keys); n != 0 {
		t.Errorf("%d keys, want 0", n)
	}
	f.admitted(connect("c", "alice", "secret"))
}

// A remembered wrong pair counts as a failure each time.
func TestGateLockoutCountsRepeats(t *testing.T) {
	f := start(t, func(c *config.Config) { c.Auth.FailureLockout.Attempts = 3 })
	for range 3 {
		f.refused(connect("c", "alice", "guess"), policy.ReasonBadCredentials, policy.RuleWrongPassword)
	}
	if n := f.count(); n != 1 {
		t.Errorf("%d comparisons for one pair, want 1", n)
	}
	f.refused(connect("c", "alice", "secret"), policy.ReasonLockedOut, policy.RuleFailureLockout)
}

func TestGateCache(t *testing.T) {
	f := start(t, func(c *config.Config) { c.Auth.FailureLockout.Attempts = 0 })
	steps := []struct {
		name string
		pass time.Duration
		do   func()
		want int
	}{
		{"first", 0, func() { f.admitted(connect("c", "alice", "secret")) }, 1},
		{"again", 299 * time.Second, func() { f.admitted(connect("c", "alice", "secret")) }, 0},
		{"expired", time.Second, func() { f.admitted(connect("c", "alice", "secret")) }, 1},
		{"wrong", 0, func() {
			f.refused(connect("c", "alice", "guess"), policy.ReasonBadCredentials, policy.RuleWrongPassword)
		}, 1},
		{"wrong again", 9 * time.Second, func() {
			f.refused(connect("c", "alice", "guess"), policy.ReasonBadCredentials, policy.RuleWrongPassword)
		}, 0},
		{"wrong expired", time.Second, func() {
			f.refused(connect("c", "alice", "guess"), policy.ReasonBadCredentials, policy.RuleWrongPassword)
		}, 1},
	}
	for _, s := range steps {
		f.pass(s.pass)
		s.do()
		if n := f.count(); n != s.want {
			t.Errorf("%s: %d comparisons, want %d", s.name, n, s.want)
		}
	}
	if _, ok := f.Try(connect("c", "alice", "another")); ok {
		t.Error("Try answered what was never checked")
	}
}

// Time does not tell who exists: an unknown user costs one comparison with a
// hash like the dearest one, a disabled user one with its own.
func TestGateUnknownUserCostsTheDearestHash(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users.json")
	dear := strings.Replace(dearHash, "t=1000", "t=16", 1)
	writeUsers(t, path, map[string]entry{
		"cheap": {Hash: testHash}, "dear": {Hash: dear}, "disabled": {Hash: testHash, Enabled: &no},
	})
	f := start(t, func(c *config.Config) { c.Auth.Providers[0].Path = path })
	cases := []struct {
		user string
		like string
		rule policy.RuleRef
	}{
		{"cheap", testHash, policy.RuleWrongPassword},
		{"dear", dear, policy.RuleWrongPassword},
		{"disabled", testHash, policy.RuleUserDisabled},
		{"unknown", dear, policy.RuleUnknownUser},
		{"", dear, policy.RuleUnknownUser},
	}
	for _, c := range cases {
		t.Run(c.user, func(t *testing.T) {
			want, err := parseHash(c.like)
			if err != nil {
				t.Fatal(err)
			}
			var got []*hash
			f.pool.verify = func(h *hash, _ []byte) bool { got = append(got, h); return false }
			f.refused(connect("c", c.user, "guess"), policy.ReasonBadCredentials, c.rule)
			if len(got) != 1 || got[0].price() != want.price() || got[0].bcrypt != want.bcrypt {
				t.Errorf("compared with %v, want one like %s", got, c.like)
			}
		})
	}
}

func TestGateLongPasswordCostsNothing(t *testing.T) {
	f := start(t, nil)
	for _, user := range []string{"alice", "bob", "eve"} {
		if _, ok := f.Try(connect("c", user, strings.Repeat("x", 73))); !ok {
			t.Errorf("%s: not answered at once", user)
		}
	}
	if n := f.count(); n != 0 {
		t.Errorf("%d comparisons, want 0", n)
	}
}

// Providers are tried in order; the first that accepts wins.
func TestGateProviderOrder(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a.json"), filepath.Join(dir, "b.json")
	writeUsers(t, a, map[string]entry{"both": {Hash: testHash, Groups: []string{"a"}}, "off": {Hash: testHash, Enabled: &no}})
	writeUsers(t, b, map[string]entry{"both": {Hash: testHash, Groups: []string{"b"}}, "off": {Hash: testHash, Groups: []string{"b"}}, "only": {Hash: testHash}})
	f := start(t, func(c *config.Config) {
		c.Auth.Providers = []config.Provider{{Type: "file", Path: a, CacheTTLSecs: 300}, {Type: "file", Path: b, Name: "second", CacheTTLSecs: 300}}
	})
	for user, want := range map[string]string{"both": "file a", "off": "second b", "only": "second "} {
		id := f.admitted(connect("c", user, "secret"))
		if got := id.Provider + " " + strings.Join(id.Groups, ","); got != want {
			t.Errorf("%s: got %q, want %q", user, got, want)
		}
	}
	f.count()
	f.refused(connect("c", "eve", "secret"), policy.ReasonBadCredentials, policy.RuleUnknownUser)
	if n := f.count(); n != 2 {
		t.Errorf("an unknown user cost %d comparisons at two providers, want 2", n)
	}
}

func TestProviderLabels(t *testing.T) {
	cases := []struct {
		names []string // "" none; all of type file
		want  string
	}{
		{[]string{""}, "file"},
		{[]string{"x", ""}, "x file"},
		{[]string{"", ""}, "providers[0] providers[1]"},
		{[]string{"file", ""}, "file providers[1]"},
	}
	for _, c := range cases {
		var providers []config.Provider
		for _, name := range c.names {
			providers = append(providers, config.Provider{Type: "file", Name: name})
		}
		var got []string
		for i := range providers {
			got = append(got, label(providers, i))
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%q: got %q, want %q", c.names, s, c.want)
		}
	}
}
