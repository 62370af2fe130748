package admin

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/health"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/metrics"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// source is what a server under test tells.
type source struct {
	reasons  []string
	draining atomic.Bool
}

func (s *source) Health() (health.State, []string) {
	return health.Sum(s.reasons, s.draining.Load()), s.reasons
}

func (s *source) Metrics() []metrics.Sample {
	return []metrics.Sample{metrics.Of(metrics.AuditFaults, 7)}
}

func open(t *testing.T, cfg config.Admin, s *source) *Server {
	t.Helper()
	if cfg.Address == "" {
		cfg.Address = "127.0.0.1:0"
	}
	a := New(cfg, s, "docs/page.md", slog.New(slog.DiscardHandler))
	if err := a.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
		defer cancel()
		if err := a.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return a
}

// 0.0.0.0 is every address of IPv4, and no other.
func TestListenFamily(t *testing.T) {
	a := open(t, config.Admin{Address: "0.0.0.0:0", Token: "t"}, new(source))
	if at := a.Addr().(*net.TCPAddr).AddrPort().Addr(); !at.Is4() {
		t.Errorf("0.0.0.0 is served on %v", at)
	}
}

func get(t *testing.T, a *Server, method, path, host, auth string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+a.Addr().String()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if host != "" {
		r.Host = host
	}
	if auth != "" {
		r.Header.Set("Authorization", auth)
	}
	return testkit.Ask(t, r)
}

func TestPages(t *testing.T) {
	s := &source{}
	a := open(t, config.Admin{}, s)
	page := func(path string, code int, want string) {
		t.Helper()
		if got, body := get(t, a, "GET", path, "", ""); got != code || !strings.Contains(body, want) {
			t.Errorf("%s: %d %q, want %d %q", path, got, body, code, want)
		}
	}
	page("/healthz", 200, `{"status":"healthy","reasons":[],"limits":"docs/page.md"}`)
	page("/readyz", 200, `{"status":"healthy","reasons":[],"limits"`)
	page("/metrics", 200, "# TYPE mqtt_audit_faults_total counter\nmqtt_audit_faults_total 7\n")
	page("/metrics", 200, "\nmqtt_health 1\n")
	page("/", 404, "")
	s.reasons = []string{"broker-down"}
	page("/healthz", 200, `{"status":"degraded","reasons":["broker-down"],`)
	page("/readyz", 200, `"degraded"`)
	page("/metrics", 200, "\n"+`mqtt_health_reason{reason="broker-down"} 1`+"\n")
	s.draining.Store(true)
	page("/healthz", 200, `"draining"`)
	page("/readyz", 503, `"draining"`)
	if code, _ := get(t, a, "POST", "/metrics", "", ""); code != 405 {
		t.Errorf("POST: %d", code)
	}
}

// TestGuard: who does not know the token, or calls by another name, is told
// nothing.
func TestGuard(t *testing.T) {
	a := open(t, config.Admin{Token: "s3cret", AllowedHosts: []string{"ops.example"}}, &source{})
	for _, c := range []struct {
		name, host, auth string
		want             int
	}{
		{"the token", "", "Bearer s3cret", 200},
		{"in another case", "", "bearer s3cret", 200},
		{"no token", "", "", 401},
		{"another one", "", "Bearer s3creT", 401},
		{"a longer one", "", "Bearer s3crets", 401},
		{"not as a token", "", "s3cret", 401},
		{"by password", "", "Basic s3cret", 401},
		{"localhost", "localhost:9464", "Bearer s3cret", 200},
		{"an address", "[::1]:9464", "Bearer s3cret", 200},
		{"an allowed name", "OPS.example", "Bearer s3cret", 200},
		{"a name of somebody else's", "evil.example:9464", "Bearer s3cret", 421},
	} {
		for _, path := range []string{"/metrics", "/healthz", "/readyz"} {
			if got, body := get(t, a, "GET", path, c.host, c.auth); got != c.want || got != 200 && strings.Contains(body, "mqtt_") {
				t.Errorf("%s: %s: %d %q, want %d", c.name, path, got, body, c.want)
			}
		}
	}
	a.Reload(config.Admin{Token: "other"})
	if got, _ := get(t, a, "GET", "/healthz", "", "Bearer s3cret"); got != 401 {
		t.Errorf("the old token after a reload: %d", got)
	}
	if got, _ := get(t, a, "GET", "/healthz?token=other", "", ""); got != 401 {
		t.Errorf("a token in the URL: %d", got)
	}
}

// TestBounded: more connections than there are places for are closed, and a
// place becomes free again.
func TestBounded(t *testing.T) {
	a := open(t, config.Admin{}, &source{})
	testkit.Awake(t, func() error { return oneTooMany(a.Addr().String()) })
	testkit.Eventually(t, "there is room again", func() bool {
		c, err := net.Dial("tcp", a.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.WriteString(c, "GET /healthz HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
		b, _ := io.ReadAll(c)
		c.Close() // done
		return err == nil && strings.Contains(string(b), "healthy")
	})
}

// oneTooMany takes all places, checks that there is none left, and gives them
// back.
func oneTooMany(addr string) error {
	began := time.Now()
	for range maxConns {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return err
		}
		defer c.Close() // gives the place back
	}
	more, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer more.Close()
	if n, err := more.Read(make([]byte, 1)); err == nil {
		return fmt.Errorf("read %d bytes, want the end", n)
	}
	if took := time.Since(began); took >= headerTime {
		return fmt.Errorf("ended after %v, as those are that ask for nothing", took)
	}
	return nil
}
