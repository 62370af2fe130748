package agent

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/agent/wire"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/audit"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/auth"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// door is an agent under test, with what it said to the audit.
type door struct {
	*Agent
	gate *auth.Gate
	dir  string

	heard  sync.Mutex
	events []audit.Event // guarded by heard
}

// parse reads a configuration with a deadline that no slow machine misses,
// unless it sets one.
func parse(tb testing.TB, dir, text string) *config.Config {
	tb.Helper()
	cfg, _, err := config.Parse("test.json", dir, []byte(text), os.LookupEnv)
	if err != nil {
		tb.Fatal(err)
	}
	if !strings.Contains(text, "decision-timeout-ms") {
		cfg.Agent.DecisionTimeoutMS = int(testkit.Patience.Milliseconds())
	}
	return cfg
}

// open starts an agent; it ends with the test.
func open(tb testing.TB, text string, users map[string]string, change ...func(*Options)) *door {
	tb.Helper()
	dir := tb.TempDir()
	d := &door{dir: dir}
	if users != nil {
		writeUsers(tb, dir, users)
	}
	cfg := parse(tb, dir, text)
	engine, err := policy.Compile(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	if d.gate, err = auth.New(cfg, engine, quiet); err != nil {
		tb.Fatal(err)
	}
	log, err := audit.Open(config.Audit{Output: filepath.Join(dir, "audit.jsonl")})
	if err != nil {
		tb.Fatal(err)
	}
	cancel := log.Subscribe(func(e *audit.Event) {
		d.heard.Lock()
		defer d.heard.Unlock()
		d.events = append(d.events, *e)
	})
	o := Options{Socket: filepath.Join(dir, "s"), Version: "1.2.3", Config: cfg, Gate: d.gate, Audit: log, Log: quiet}
	for _, f := range change {
		f(&o)
	}
	d.Agent, err = New(o)
	if err != nil {
		tb.Fatal(err)
	}
	if err := d.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		ctx, stop := context.WithTimeout(context.Background(), testkit.Patience)
		defer stop()
		if err := d.Stop(ctx); err != nil {
			tb.Error(err)
		}
		cancel()
		d.gate.Close()
		if err := log.Close(); err != nil {
			tb.Error(err)
		}
		if n := d.table.live.Load(); n != 0 {
			tb.Errorf("%d WebSockets are left", n)
		}
		if n := d.table.held.Load(); n != 0 {
			tb.Errorf("%d held bytes are left", n)
		}
	})
	return d
}

// writeUsers writes a users file: name to hash.
func writeUsers(tb testing.TB, dir string, users map[string]string) {
	tb.Helper()
	type user struct {
		Hash string `json:"password_hash"`
	}
	all := map[string]user{}
	for name, hash := range users {
		all[name] = user{hash}
	}
	b, err := json.Marshal(map[string]any{"users": all})
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "users.json"), b, 0o600)
	}
	if err != nil {
		tb.Fatal(err)
	}
}

func hash(tb testing.TB, password string, cost int) string {
	tb.Helper()
	h, err := auth.HashPassword([]byte(password), cost)
	if err != nil {
		tb.Fatal(err)
	}
	return h
}

// proxy connects to the agent.
func (d *door) proxy(tb testing.TB, g wire.Generation) *testkit.Proxy {
	tb.Helper()
	return testkit.DialProxy(tb, d.socket, g)
}

// count is how many events with these tags the audit got so far.
func (d *door) count(tags string) int {
	d.heard.Lock()
	defer d.heard.Unlock()
	n := 0
	for i := range d.events {
		if d.events[i].Event == tags {
			n++
		}
	}
	return n
}

// await waits until the audit has an event with these tags.
func (d *door) await(tb testing.TB, tags string) {
	tb.Helper()
	await(tb, "audit event "+tags, func() bool { return d.count(tags) > 0 })
}

// await waits until something holds.
func await(tb testing.TB, what string, holds func() bool) {
	tb.Helper()
	testkit.Eventually(tb, what, holds)
}

// openRules is a policy in which dev/# is free and all else denied.
const openRules = `"acl":{"rules":[{"name":"no","topics":["dev/secret/#"],"decision":"deny","priority":1},{"name":"dev","topics":["dev/#"],"decision":"allow"}]}`

func conf(sections ...string) string {
	return "{" + strings.Join(append([]string{openRules}, sections...), ",") + "}"
}

// connect opens a WebSocket whose CONNECT and CONNACK have passed.
func connect(tb testing.TB, p *testkit.Proxy, id string, opts ...testkit.Option) *testkit.WebSocket {
	tb.Helper()
	w := p.Open(id)
	want(tb, "CONNECT", w.Send(tb, mqtt.Client, testkit.Connect(mqtt.V311, id, opts...)), wire.WSAllow)
	want(tb, "CONNACK", w.Send(tb, mqtt.Broker, testkit.Connack(mqtt.V311, false, 0)), wire.WSAllow)
	return w
}

// want checks an answer to a frame.
func want(tb testing.TB, what string, r wire.Response, d wire.WebSocketDecision) {
	tb.Helper()
	if !r.HasWebSocket || r.WebSocket != d {
		tb.Fatalf("%s: %+v, want %v", what, r, d)
	}
}

// wantClose checks that a frame closes with a code.
func wantClose(tb testing.TB, what string, r wire.Response, code uint16) {
	tb.Helper()
	if !r.HasWebSocket || r.WebSocket != wire.WSClose || r.Code != code || r.Block == 0 {
		tb.Fatalf("%s: %+v, want close %d and block", what, r, code)
	}
	if len(r.Tags) < 3 || !slices.Equal(r.Tags[:2], []string{"mqtt", "blocked"}) {
		tb.Fatalf("%s: tags %q", what, r.Tags)
	}
	if len(r.Rules) != 1 || r.Rules[0] == "" {
		tb.Fatalf("%s: %q of rules %q: a denial names its rule", what, r.Tags, r.Rules)
	}
}

func wantRule(tb testing.TB, r wire.Response, rule string) {
	tb.Helper()
	if !slices.Equal(r.Rules, []string{rule}) {
		tb.Fatalf("denied by %q, want %q", r.Rules, rule)
	}
}

var generations = []wire.Generation{wire.V1, wire.V2}

// silent is how many connections of gRPC have called nothing.
func (g *rpc) silent() int {
	g.callers.mu.Lock()
	defer g.callers.mu.Unlock()
	return len(g.callers.silent)
}
