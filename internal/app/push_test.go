package app

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/agent/wire"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pushed is an app with an agent door under test.
type pushed struct {
	*App
	file, socket string
}

func newPushed(t *testing.T, text string) *pushed {
	t.Helper()
	dir := t.TempDir()
	p := &pushed{file: filepath.Join(dir, "c.json"), socket: filepath.Join(dir, "s")}
	p.write(t, text)
	var err error
	p.App, err = New(Options{
		Socket: p.socket, Version: "1.2.3", Log: slog.New(slog.DiscardHandler),
		Load: func() (*config.Config, error) { cfg, _, err := config.Load(p.file); return cfg, err },
	})
	if err == nil {
		err = p.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
		defer cancel()
		if err := p.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return p
}

func (p *pushed) write(t *testing.T, text string) {
	t.Helper()
	if err := os.WriteFile(p.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// config is the one in force.
func (p *pushed) config() *config.Config {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cfg
}

const quiet = `"audit":{"output":"/dev/null"},"agent":{"decision-timeout-ms":60000}`

func TestPush(t *testing.T) {
	p := newPushed(t, `{`+quiet+`,"qos":{"max-qos":1},"acl":{"rules":[{"topics":["dev/#"],"decision":"allow"}]}}`)
	proxy := testkit.DialProxy(t, p.socket, wire.V2)
	w := proxy.Open("w")
	w.Send(t, mqtt.Client, testkit.Connect(mqtt.V311, "c"))
	w.Send(t, mqtt.Broker, testkit.Connack(mqtt.V311, false, 0))
	publish := func(what string, want wire.WebSocketDecision) {
		t.Helper()
		if r := w.Send(t, mqtt.Client, testkit.Publish(mqtt.V311, "dev/a", 0, 0, "x")); r.WebSocket != want {
			t.Errorf("%s: %+v, want %v", what, r, want)
		}
	}
	push := func(config string) error {
		return testkit.Configure(p.socket, wire.V2, json.RawMessage(config))
	}
	publish("the file's policy", wire.WSAllow)

	if err := push(`{"acl":{"rules":[{"topics":"dev/a","decision":"deny"}]}}`); err != nil {
		t.Fatal(err)
	}
	publish("a live session under the pushed policy", wire.WSDrop)
	first := p.config()
	if err := push(`{ "acl": {"rules": [{"topics": "dev/a", "decision": "deny"}]} }`); err != nil || p.config() != first {
		t.Errorf("the same again was compiled again: %v", err)
	}
	for _, nothing := range []string{"null", "{}"} {
		if err := push(nothing); err != nil || p.config() != first {
			t.Errorf("%s changed something: %v", nothing, err)
		}
	}

	for _, bad := range []string{
		`{"acl":{"default-acton":"allow"}}`, `{"rate-limit":{"enabled":true}}`, `{"agent":{"on-deny":"close"}}`, `[1]`,
	} {
		if err := push(bad); err == nil || p.config() != first {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if err := push(`{"acl":{"default-acton":"allow"}}`); err == nil || !strings.Contains(err.Error(), "pushed:1:9") {
		t.Errorf("the reason is not told: %v", err)
	}
	publish("what was refused", wire.WSDrop)

	if err := push(`{"qos":{"enabled":true}}`); err != nil {
		t.Fatal(err)
	}
	publish("a push replaces the one before", wire.WSAllow)
	if cfg := p.config(); !cfg.QoS.Enabled || cfg.QoS.MaxQoS != 1 {
		t.Errorf("qos: %+v", cfg.QoS)
	}

	p.write(t, `{`+quiet+`,"qos":{"max-qos":0}}`)
	if err := p.Reload(); err != nil {
		t.Fatal(err)
	}
	if cfg := p.config(); !cfg.QoS.Enabled || cfg.QoS.MaxQoS != 0 {
		t.Errorf("a reload keeps the last push: %+v", cfg.QoS)
	}
	publish("the file's new rules", wire.WSDrop)
}

// TestPushOnce: a proxy pushes on each connection, twice, all at once.
func TestPushOnce(t *testing.T) {
	p := newPushed(t, `{`+quiet+`}`)
	var all sync.WaitGroup
	seen := make([]*config.Config, 16)
	for i := range seen {
		all.Go(func() {
			if err := p.Push([]byte(`{"acl":{"default-action":"allow"}}`)); err != nil {
				t.Error(err)
			}
			seen[i] = p.config()
		})
	}
	all.Wait()
	for _, cfg := range seen {
		if cfg != seen[0] {
			t.Fatal("compiled more than once")
		}
	}
	// A refused one is compiled once, too, until the file changes.
	bad := []byte(`{"acl":{"rules":[{"topics":["a"],"decision":"allow","match":{"listener":"x"}}],"default-action":"no"}}`)
	refused := func() *config.Error {
		var e *config.Error
		if err := p.Push(bad); !errors.As(err, &e) {
			t.Fatal(err)
		}
		return e
	}
	first := refused()
	if refused() != first {
		t.Error("what was refused is compiled again")
	}
	if err := p.Reload(); err != nil {
		t.Fatal(err)
	}
	if refused() == first {
		t.Error("a reload does not forget what was refused")
	}
}

// TestPushBusy: while one is being compiled that takes too long, others are
// told so.
func TestPushBusy(t *testing.T) {
	p := newPushed(t, `{`+quiet+`}`)
	busy := make(chan struct{})
	p.push.busy = busy
	config := []byte(`{"acl":{"default-action":"allow"}}`)
	if err := p.Push(config); !errors.Is(err, errCompileBusy) {
		t.Errorf("got %v", err)
	}
	close(busy)
	if err := p.Push(config); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	for name, rules := range map[string]string{
		"too large": `{"name":"` + strings.Repeat("x", maxPush) + `"}`, "too many": strings.Repeat("0,", maxPushValues) + "0",
	} {
		if err := p.Push([]byte(`{"acl":{"rules":[` + rules + `]}}`)); !errors.Is(err, errPushSize) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := p.Push([]byte("{")); err == nil {
		t.Error("no JSON was taken")
	}
}
