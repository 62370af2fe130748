//go:build e2e && proxy

package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// TestZentinelGRPC: the proxy reaches the agent over gRPC. Releases that speak
// generation 1 enforce what it says about frames. With the newest none gets
// through: it cannot ask about a frame, and the agent says so.
func TestZentinelGRPC(t *testing.T) {
	noComplaints(t, shared.broker)
	agent, admin := fmt.Sprintf("127.0.0.1:%d", freePort()), fmt.Sprintf("127.0.0.1:%d", freePort())
	s := startFor(t, shared.broker, config{
		both: true, flags: []string{"--grpc-address", agent},
		values: map[string]string{"admin": fmt.Sprintf(`{"address": %q, "console": false}`, admin)},
	})
	pairs := []string{
		"127.0.0.1:9001", fmt.Sprintf("127.0.0.1:%d", s.broker.wsPort),
		`unix-socket "/run/mqtt-agent/agent.sock"`, fmt.Sprintf(`grpc "http://%s"`, agent),
	}
	if older() {
		url, _ := zentinel(t, "agent.kdl", append(pairs, "timeout-ms 1000", "timeout-ms 90\n        failure-mode \"closed\"")...)
		zentinelDenies(t, s, url, false)
		return
	}
	public := fmt.Sprintf("127.0.0.1:%d", freePort())
	file := filepath.Join(t.TempDir(), "agent.kdl")
	if err := os.WriteFile(file, []byte(documented(t, "agent.kdl", append(pairs, "0.0.0.0:8080", public)...)), 0o600); err != nil {
		t.Fatal(err)
	}
	proc, err := testkit.Launch(exec.Command(filepath.Join(cache(), "zentinel-"+zentinelVersion(), "bin", "zentinel"), "-c", file))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		proc.Kill() // politely it takes half a minute
	}()
	const reason = "grpc-v2-frames-not-enforced"
	testkit.Eventually(t, "health degraded by the proxy that has connected", func() bool {
		r, err := http.Get("http://" + admin + "/healthz")
		if err != nil {
			return false
		}
		defer r.Body.Close()
		body, err := io.ReadAll(r.Body)
		return err == nil && strings.Contains(string(body), `"degraded","reasons":["`+reason+`"]`)
	})
	testkit.Eventually(t, "the proxy's port", func() bool {
		c, err := net.Dial("tcp", public)
		if err != nil {
			return false
		}
		c.Close() // only probed
		return true
	})
	if got := attempt(t, "ws://"+public+"/mqtt", as("alice", unique("zentinel"), v5)); got != nil {
		t.Errorf("CONNECT answered %v", got)
	}
}
