package app

import (
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// TestAdmin: the admin server tells what every part counted, and a reload
// changes its token.
func TestAdmin(t *testing.T) {
	cfg := config.Default()
	cfg.Audit.Output = filepath.Join(t.TempDir(), "audit.jsonl")
	cfg.Admin.Address = "127.0.0.1:0"
	cfg.Gateway.Listeners = []config.Listener{{Name: "l", Address: "tcp://127.0.0.1:0", ProxyProtocol: "off"}}
	cfg.Gateway.Upstreams = []config.Upstream{{URL: "mqtt://127.0.0.1:1", ProxyProtocol: "off", Credentials: "pass", ClientID: "%c"}}
	a, err := New(Options{
		Load: func() (*config.Config, error) { next := *cfg; return &next, nil }, Log: slog.New(slog.DiscardHandler),
		Socket: filepath.Join(t.TempDir(), "s"), Gateway: true, Version: "1.2.3", DrainRate: 1000,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := a.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	if err := a.Start(); err != nil {
		t.Fatal(err)
	}
	get := func(path string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+a.AdminAddr().String()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		return testkit.Ask(t, r)
	}
	code, text := get("/metrics")
	for _, line := range []string{
		`mqtt_build_info{version="1.2.3"} 1`, "mqtt_health 1", "mqtt_audit_dropped_total 0",
		"mqtt_agent_authenticated_total 0", `mqtt_agent_packets_processed_total{from="client"} 0`,
		`mqtt_gateway_refused_total{cap="pending"} 0`, "mqtt_gateway_connected 0",
	} {
		if code != 200 || !strings.Contains(text, line+"\n") {
			t.Errorf("%d, no line %q in\n%s", code, line, text)
		}
	}
	if code, text := get("/readyz"); code != 200 || !strings.Contains(text, `"healthy"`) {
		t.Errorf("/readyz: %d %s", code, text)
	}
	cfg.Admin.Token = "a-token"
	if err := a.Reload(); err != nil {
		t.Fatal(err)
	}
	if code, _ := get("/metrics"); code != 401 {
		t.Errorf("without the token: %d", code)
	}
}
