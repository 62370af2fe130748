package app

import (
	"errors"
	"log/slog"
	"slices"
	"testing"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/health"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// TestHealth: a broker that is not there and a reload that failed degrade, and
// what is mended is forgotten.
func TestHealth(t *testing.T) {
	cfg := config.Default()
	cfg.Broker.URL = "mqtt://" + testkit.Refuses(t)
	cfg.Audit.Output = t.TempDir() + "/audit.jsonl"
	var broken error
	a, err := New(Options{
		Load: func() (*config.Config, error) { next := *cfg; return &next, broken },
		Log:  slog.New(slog.DiscardHandler), DrainTimeout: testkit.Patience,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := a.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		if s, _ := a.Health(); s != health.Draining {
			t.Errorf("after the end: %v", s)
		}
	}()
	if err := a.Start(); err != nil {
		t.Fatal(err)
	}
	await := func(state health.State, want ...string) {
		t.Helper()
		var s health.State
		var r []string
		if !testkit.Within(testkit.Patience, func() bool { s, r = a.Health(); return s == state && slices.Equal(r, want) }) {
			t.Fatalf("health %v %q, want %v %q", s, r, state, want)
		}
	}
	await(health.Degraded, health.BrokerDown)
	broken = errors.New("no such file")
	if a.Reload() == nil {
		t.Fatal("reloaded")
	}
	await(health.Degraded, health.BrokerDown, health.ReloadFailed)
	broken, cfg.Broker.URL = nil, ""
	if err := a.Reload(); err != nil {
		t.Fatal(err)
	}
	await(health.Healthy)
}
