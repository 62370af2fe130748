//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// process is a running program whose output is kept.
type process struct {
	name string
	cmd  *exec.Cmd
	out  *buffer
	done chan struct{} // closed when it has ended

	// Set before done is closed.
	code int
}

// buffer is a bytes.Buffer that may be read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// launch starts a program.
func launch(name string, args ...string) (*process, error) {
	p := &process{name: filepath.Base(name), cmd: exec.Command(name, args...), out: new(buffer), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { // ends with the program
		defer close(p.done)
		err := p.cmd.Wait()
		var ee *exec.ExitError
		switch {
		case errors.As(err, &ee):
			p.code = ee.ExitCode()
		case err != nil:
			p.code = -1
		}
	}()
	return p, nil
}

// run is launch for a test, which ends it and shows its output on failure.
func run(t *testing.T, name string, args ...string) *process {
	t.Helper()
	p, err := launch(name, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.stop()
		if t.Failed() {
			t.Logf("output of %s:\n%s", p.name, tail(p.out.String(), 60))
		}
	})
	return p
}

// stop ends the program: politely, then not.
func (p *process) stop() {
	p.signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(patience):
		p.signal(syscall.SIGKILL)
		<-p.done
	}
}

func (p *process) signal(s os.Signal) { _ = p.cmd.Process.Signal(s) } // it may have ended

// wait waits for the program to end and returns its exit code.
func (p *process) wait(t *testing.T) int {
	t.Helper()
	select {
	case <-p.done:
		return p.code
	case <-time.After(patience):
		t.Fatalf("%s does not end", p.name)
		return -1
	}
}

func tail(s string, lines int) string {
	all := strings.Split(s, "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// poll asks until ok or patience is used up.
func poll(what string, ok func() bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%s: not within %v", what, patience)
		}
	}
	return nil
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	if err := poll(what, ok); err != nil {
		t.Fatal(err)
	}
}

// freePort is a loopback port that was free a moment ago.
func freePort() int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
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
func rss(t *testing.T, p *process) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
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
