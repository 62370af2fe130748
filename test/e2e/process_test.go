//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// run starts a program for a test, which ends it and shows its output on
// failure.
func run(t *testing.T, name string, args ...string) *testkit.Process {
	t.Helper()
	p, err := testkit.Launch(exec.Command(name, args...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Stop()
		if t.Failed() {
			t.Logf("output of %s:\n%s", p.Name, p.Tail(60))
		}
	})
	return p
}

// within has f try, some times at most, what is promised to take no longer than
// limit: a machine that stands still may spoil a try, a program that is slow
// spoils all. f is how long it took.
func within(t *testing.T, limit time.Duration, what string, f func() time.Duration) {
	t.Helper()
	const tries = 10
	var took []time.Duration
	for range tries {
		d := f()
		if d <= limit {
			return
		}
		took = append(took, d.Round(time.Millisecond))
	}
	t.Errorf("%s: took %v, not within %v once", what, took, limit)
}

// freePort is a port that nobody else gets while the tests run.
func freePort() int {
	port, err := testkit.Port()
	if err != nil {
		panic(err)
	}
	return port
}

// connack says whether a real CONNACK that accepts comes from url.
func connack(url string, c connect) bool {
	conn, err := dialURL(url)
	if err != nil {
		return false
	}
	defer conn.Close()
	cl := wrap(conn, c.level)
	if _, err := cl.Write(c.bytes()); err != nil {
		return false
	}
	p, err := cl.next()
	if err != nil || p.kind() != tConnack || p.code() != 0 {
		return false
	}
	_, err = cl.Write(disconnect())
	return err == nil
}

// part finds an installed program or says which package has it.
func part(program, pkg string) (string, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		return "", fmt.Errorf("%s is not installed: apt-get install %s", program, pkg)
	}
	return path, nil
}

// cache is where the parts lie that the system's packages do not have; .ci/run
// fills it.
func cache() string {
	dir := os.Getenv("MQTT_GATEWAY_CI_CACHE")
	if dir != "" {
		return dir
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "no-cache-folder"
	}
	return filepath.Join(dir, "mqtt-gateway-ci")
}

// The versions that the parts outside the system's packages have.
const (
	pahoPython = "2.2.0"
	mqttJS     = "5.16.0"
)

// python is an interpreter that has Paho.
func python(t *testing.T) string {
	t.Helper()
	path := filepath.Join(cache(), "paho-mqtt-"+pahoPython, "bin", "python")
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("Paho Python is not installed: python3 -m venv %[1]s && %[1]s/bin/pip install paho-mqtt==%[2]s", filepath.Dir(filepath.Dir(path)), pahoPython)
	}
	return path
}

// nodeModules is a folder for NODE_PATH that has MQTT.js.
func nodeModules(t *testing.T) string {
	t.Helper()
	if _, err := part("node", "nodejs"); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(cache(), "mqtt.js-"+mqttJS, "node_modules")
	if _, err := os.Stat(filepath.Join(path, "mqtt")); err != nil {
		t.Fatalf("MQTT.js is not installed: npm install --prefix %s mqtt@%s", filepath.Dir(path), mqttJS)
	}
	return path
}

// rss is the resident memory of a program in MiB.
func rss(t *testing.T, p *testkit.Process) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var kb int
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &kb); err == nil {
			return kb >> 10
		}
	}
	t.Fatalf("no VmRSS in %s", text)
	return 0
}
