package app

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// logged collects a log's lines, without time and level.
type logged struct {
	testkit.Buffer
	taken int // bytes
}

func (l *logged) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == slog.LevelKey {
			return slog.Attr{}
		}
		return a
	}}))
}

// take returns what was logged since the last call.
func (l *logged) take() string {
	s := l.rest()
	l.taken += len(s)
	return s
}

func (l *logged) rest() string { return l.String()[l.taken:] }

// await returns once the log holds text.
func (l *logged) await(t *testing.T, text string) {
	t.Helper()
	testkit.Eventually(t, "logged: "+text, func() bool { return strings.Contains(l.rest(), text) })
}

func wantLines(t *testing.T, what, got string, want ...string) {
	t.Helper()
	if got != strings.Join(want, "\n")+"\n" {
		t.Errorf("%s: logged\n%swant\n%s", what, got, strings.Join(want, "\n"))
	}
}

// TestRunLog: an operator sees what runs, since when, and why it ended.
func TestRunLog(t *testing.T) {
	dir, lines := t.TempDir(), new(logged)
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("users.json", `{"users":{"a":{"password_hash":"$2a$04$abcdefghijklmnopqrstuuFcTn0PzGIKzhJ8dGzC1mTc0qnI3JrZW"}}}`)
	const rest = `"audit":{"output":"/dev/null"},
		"gateway":{"listeners":[{"name":"tcp","address":"tcp://127.0.0.1:0"},{"address":"ws://127.0.0.1:0/mqtt"}],"upstreams":[{"url":"mqtt://127.0.0.1:1"}]},
		"auth":{"enabled":true,"providers":[{"type":"file","path":"users.json","hot-reload":false}]}`
	file := write("c.json", `{`+rest+`,"acl":{"rules":[{"name":"one","topics":["a"],"decision":"allow"},{"topics":["b"],"decision":"allow"}]}}`)
	a, err := New(Options{
		Gateway: true, Version: "1.2.3", File: file, Log: lines.logger(), DrainTimeout: time.Minute,
		Load: func() (*config.Config, error) { cfg, _, err := config.Load(file); return cfg, err },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx, nil, nil) }()
	lines.await(t, "msg=ready")
	addrs := a.Addrs()

	reload := func() string {
		t.Helper()
		if err := a.Reload(); err != nil {
			a.sayRefused(err)
		}
		return lines.take()
	}
	wantLines(t, "start", lines.take(), `msg=ready version=1.2.3 config=`+file+` mode=enforced rules=2 users=1 audit=/dev/null`+
		` listeners="[tcp tcp://`+addrs[0].String()+` ws://`+addrs[1].String()+`/mqtt]" upstreams=[mqtt://127.0.0.1:1]`)

	wantLines(t, "nothing changed", reload(), `msg=reloaded changed=[] rules=2 users=1`)

	write("users.json", `{"users":{}}`)
	write("c.json", `{`+rest+`,"qos":{"enabled":true},"acl":{"rules":[{"name":"one","topics":["A"],"decision":"allow"},{"name":"two","topics":["b"],"decision":"allow"},{"name":"three","topics":["c"],"decision":"deny"}]}}`)
	wantLines(t, "changed", reload(), `msg=reloaded changed="[acl qos]" rules=3 rules_added=2 rules_removed=1 rules_changed=1 users=0 users_before=1`)

	write("c.json", `{`+rest+`,"acl":{"rules":[{"topics":["a"],"decision":"perhaps"},{"topics":["#/b"],"decision":"deny"}]}}`)
	got := strings.Split(strings.TrimSpace(reload()), "\n")
	if len(got) != 3 || !strings.Contains(got[0], "c.json:3:") || !strings.Contains(got[0], "key=acl.rules[0].decision") ||
		!strings.Contains(got[1], "key=acl.rules[1].topics[0]") || got[2] != `msg="reload failed, the old configuration stays in force" mistakes=2` {
		t.Errorf("two mistakes: %q", got)
	}
	write("c.json", `{`+rest+`}`)
	write("users.json", `{"users":{"a":{},"b":{"password_hash":"x"}}}`)
	got = strings.Split(strings.TrimSpace(reload()), "\n")
	if len(got) != 3 || !strings.Contains(got[0], "users.json:1:") || !strings.Contains(got[0], "users[\\\"a\\\"].password_hash") || !strings.Contains(got[1], "users[\\\"b\\\"].password_hash") {
		t.Errorf("two mistakes in the users file: %q", got)
	}

	cancel(errors.New("SIGTERM"))
	if err := <-ended; err != nil {
		t.Error(err)
	}
	last := lines.take()
	for _, want := range []string{"msg=draining reason=SIGTERM timeout=1m0s\n", "msg=stopped reason=SIGTERM drained_in=", "in_time=true ran_for="} {
		if !strings.Contains(last, want) {
			t.Errorf("at the end: %q, want %q in it", last, want)
		}
	}
}

func TestNeedStart(t *testing.T) {
	first, now := config.Default(), config.Default()
	if got := needStart(first, now, true, true); got != nil {
		t.Errorf("nothing changed: %q", got)
	}
	now.Audit.Output, now.Gateway.IO, now.Agent.SocketMode = "/var/log/a", "goroutines", "0600"
	now.Gateway.Listeners = []config.Listener{{Address: "tcp://:1"}}
	for _, tc := range []struct {
		gateway, agent bool
		want           string
	}{
		{true, false, "audit.output gateway.io"},
		{false, true, "audit.output agent.socket-mode gateway.listeners"},
		{true, true, "audit.output agent.socket-mode gateway.io"},
	} {
		if got := strings.Join(needStart(first, now, tc.gateway, tc.agent), " "); got != tc.want {
			t.Errorf("gateway %v, agent %v: %s, want %s", tc.gateway, tc.agent, got, tc.want)
		}
	}
}
