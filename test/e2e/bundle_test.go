//go:build e2e && proxy

package e2e

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// TestZentinelInstalls: the proxy's own installer takes our release archives,
// from a mirror under the name and version that it knows, and what it installs
// serves with a socket and nothing else.
func TestZentinelInstalls(t *testing.T) {
	if older() {
		return // it installs from its own place only
	}
	const listed = "0.5.0" // of mqtt-gateway, in the proxy's list
	dist, prefix := t.TempDir(), t.TempDir()
	platform := map[string]string{"amd64": "linux-x86_64", "arm64": "linux-aarch64"}[runtime.GOARCH]
	release := exec.Command(filepath.Join("..", "..", "scripts", "release"), listed, dist)
	release.Env = append(os.Environ(), "PLATFORMS="+platform, "SOURCE_DATE_EPOCH=0")
	if out, err := release.CombinedOutput(); err != nil {
		t.Fatalf("scripts/release: %v\n%s", err, out)
	}
	files := http.FileServer(http.Dir(dist))
	mirror := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Whose repository it is is the proxy's affair.
		if _, path, ok := strings.Cut(r.URL.Path, "/releases/"); ok {
			r.URL.Path = "/releases/" + path
		}
		files.ServeHTTP(w, r)
	}))
	defer mirror.Close()

	install := exec.Command(filepath.Join(cache(), "zentinel-"+zentinelVersion(), "bin", "zentinel"), "bundle", "install", "mqtt-gateway", "--prefix", prefix)
	install.Env = append(os.Environ(), "ZENTINEL_BUNDLE_DOWNLOAD_URL="+mirror.URL)
	out, err := install.CombinedOutput()
	if err != nil || strings.Contains(strings.ToLower(string(out)), "warn") {
		t.Fatalf("bundle install: %v\n%s", err, out)
	}
	installed := filepath.Join(prefix, "bin", "zentinel-mqtt-gateway-agent")
	version, err := exec.Command(installed, "--version").Output()
	if err != nil || string(version) != "sentinel-mqtt-agent "+listed+"\n" {
		t.Errorf("--version: %q, %v", version, err)
	}
	socket := filepath.Join(t.TempDir(), "agent.sock")
	run(t, installed, "--socket", socket)
	testkit.Eventually(t, "the socket of what is installed", func() bool {
		c, err := handshake(socket)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}
