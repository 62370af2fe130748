//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// program is the one under test, built once.
var program string

// shared is the broker and the program in front of it that most tests use.
var shared *setup

func TestMain(m *testing.M) {
	code, err := testMain(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	os.Exit(code)
}

func testMain(m *testing.M) (code int, err error) {
	dir, err := os.MkdirTemp("", "mqtt-e2e-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	for name, pkg := range map[string]string{"mosquitto": "mosquitto", "mosquitto_pub": "mosquitto-clients", "mosquitto_sub": "mosquitto-clients"} {
		if _, err := part(name, pkg); err != nil {
			return 1, err
		}
	}
	if program, err = testkit.Program(dir); err != nil {
		return 1, err
	}
	b, err := startBroker(filepath.Join(dir, "broker"), freePort(), freePort())
	if err != nil {
		return 1, err
	}
	defer b.proc.Stop()
	shared, err = start(filepath.Join(dir, "shared"), b, config{both: true})
	if err != nil {
		return 1, err
	}
	defer func() {
		shared.proc.Stop()
		if code == 0 && shared.proc.Code != 0 {
			err = fmt.Errorf("the program ended with %d:\n%s", shared.proc.Code, shared.proc.Tail(60))
		}
		if code != 0 {
			fmt.Fprintf(os.Stderr, "output of the shared program:\n%s\n", shared.proc.Tail(40))
		}
	}()
	return m.Run(), nil
}

// broker is a running Mosquitto.
type broker struct {
	proc    *testkit.Process
	tcp, ws string
	port    int
	wsPort  int
}

// startBroker starts Debian's Mosquitto with a configuration of its own and
// waits for its CONNACK.
func startBroker(dir string, port, wsPort int) (*broker, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	// bind_interface: a WebSocket listener of 2.0 is bound to every address
	// whatever it says itself.
	conf := filepath.Join(dir, "mosquitto.conf")
	text := fmt.Sprintf(`per_listener_settings false
allow_anonymous true
user root
log_dest stderr
log_type all
listener %d 127.0.0.1
listener %d 127.0.0.1
protocol websockets
bind_interface lo
`, port, wsPort)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return nil, err
	}
	proc, err := testkit.Launch(exec.Command("mosquitto", "-c", conf))
	if err != nil {
		return nil, err
	}
	b := &broker{
		proc: proc, port: port, wsPort: wsPort,
		tcp: fmt.Sprintf("tcp://127.0.0.1:%d", port), ws: fmt.Sprintf("ws://127.0.0.1:%d/mqtt", wsPort),
	}
	for _, url := range []string{b.tcp, b.ws} {
		if err := testkit.Poll("CONNACK of Mosquitto on "+url, patience, func() bool { return connack(url, connect{level: v311, id: "ready", noUser: true}) }); err != nil {
			proc.Stop()
			return nil, fmt.Errorf("%w\n%s", err, proc.Out.String())
		}
	}
	return b, nil
}

// brokerFor starts a Mosquitto of a test's own.
func brokerFor(t *testing.T) *broker {
	t.Helper()
	b, err := startBroker(t.TempDir(), freePort(), freePort())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.proc.Stop)
	return b
}

// people are the users; the password of NAME is "secret-NAME".
var people = map[string][]string{
	"alice":  {"clients"},
	"bob":    {"clients"},
	"locked": {"clients"},
	"nobody": {},
}

func password(user string) string { return "secret-" + user }

// as is a CONNECT of one of people.
func as(user, id string, level byte) connect {
	return connect{level: level, id: id, user: user, password: password(user)}
}

// setup is the program running in front of a broker.
type setup struct {
	broker  *broker
	proc    *testkit.Process
	dir     string
	tcp, ws string
	socket  string // of the agent door, when both
}

// config is what differs between set-ups.
type config struct {
	both   bool              // the default command: both doors; else `gateway`
	values map[string]string // whole sections that replace those below, as JSON; :TCP and :WS are the ports
	flags  []string
}

// sections is the configuration: e2e/# for the group, but for its secrets.
func sections(dir string, tcp, ws, upstream int) map[string]string {
	return map[string]string{
		// Wrong passwords are tried more often here than anybody may.
		"auth": `{"enabled": true, "providers": [{"type": "file", "path": "users.json"}], "failure-lockout": false}`,
		"acl": `{
    "default-action": "deny",
    "rules": [
      {"name": "no-secrets", "topics": ["e2e/secret/#"], "decision": "deny", "priority": 10},
      {"name": "clients", "match": {"groups": ["clients"]}, "topics": ["e2e/#"], "decision": "allow"}
    ]
  }`,
		"general": `{"protocol-versions": ["3.1", "3.1.1", "5.0"], "connect-timeout-secs": 600}`,
		"gateway": fmt.Sprintf(`{
    "listeners": [
      {"name": "tcp", "address": "tcp://127.0.0.1:%d"},
      {"name": "ws", "address": "ws://127.0.0.1:%d/mqtt"}
    ],
    "upstreams": [{"url": "mqtt://127.0.0.1:%d"}],
    "connect-timeout-ms": 600000
  }`, tcp, ws, upstream),
		// Generous, as the time to connect is: a busy machine is not what is tested.
		"agent": `{"decision-timeout-ms": 60000}`,
		"audit": fmt.Sprintf(`{"output": %q, "include": "all"}`, filepath.Join(dir, "audit.jsonl")),
	}
}

// writeConfig writes users and configuration.
func writeConfig(dir string, all map[string]string) error {
	var parts []string
	for _, name := range []string{"auth", "acl", "inspection", "qos", "retained", "general", "agent", "gateway", "audit", "admin"} {
		if text, ok := all[name]; ok {
			parts = append(parts, fmt.Sprintf("  %q: %s", name, text))
		}
	}
	text := "{\n  // written by the end-to-end tests\n" + strings.Join(parts, ",\n") + "\n}\n"
	return replaceFile(filepath.Join(dir, "config.json"), text)
}

// replaceFile puts a file in place in one step, as an editor does.
func replaceFile(path, text string) error {
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// writeUsers writes the users file; the disabled are there but not enabled.
func writeUsers(dir string, disabled ...string) error { return writeUsersIn(dir, people, disabled...) }

// writeUsersIn is writeUsers with other people and groups.
func writeUsersIn(dir string, people map[string][]string, disabled ...string) error {
	users := map[string]any{}
	for name, groups := range people {
		hash, err := bcrypt.GenerateFromPassword([]byte(password(name)), bcrypt.MinCost)
		if err != nil {
			return err
		}
		users[name] = map[string]any{"password_hash": string(hash), "groups": groups, "enabled": !contains(disabled, name)}
	}
	text, err := json.MarshalIndent(map[string]any{"users": users}, "", "  ")
	if err != nil {
		return err
	}
	return replaceFile(filepath.Join(dir, "users.json"), string(text))
}

func contains(all []string, one string) bool {
	for _, s := range all {
		if s == one {
			return true
		}
	}
	return false
}

// start starts the program in front of b and waits for a CONNACK through each
// of its listeners.
func start(dir string, b *broker, c config) (*setup, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	tcp, ws := freePort(), freePort()
	s := &setup{
		broker: b, dir: dir, socket: filepath.Join(dir, "agent.sock"),
		tcp: fmt.Sprintf("tcp://127.0.0.1:%d", tcp), ws: fmt.Sprintf("ws://127.0.0.1:%d/mqtt", ws),
	}
	all := sections(dir, tcp, ws, b.port)
	ports := strings.NewReplacer(":TCP", fmt.Sprint(":", tcp), ":WS", fmt.Sprint(":", ws))
	for name, text := range c.values {
		all[name] = ports.Replace(text)
	}
	if err := writeUsers(dir); err != nil {
		return nil, err
	}
	if err := writeConfig(dir, all); err != nil {
		return nil, err
	}
	args := []string{"gateway"}
	if c.both {
		args = []string{"--socket", s.socket}
	}
	args = append(append(args, "--config", filepath.Join(dir, "config.json")), c.flags...)
	var err error
	if s.proc, err = testkit.Launch(exec.Command(program, args...)); err != nil {
		return nil, err
	}
	for _, url := range []string{s.tcp, s.ws} {
		err := testkit.Poll("CONNACK of the program on "+url, patience, func() bool {
			return s.proc.Ended() != nil || connack(url, as("alice", "ready", v5))
		})
		err = errors.Join(err, s.proc.Ended())
		if err != nil {
			s.proc.Stop()
			return nil, fmt.Errorf("%v: %w\n%s", args, err, s.proc.Out.String())
		}
	}
	return s, nil
}

// startFor is start for one test.
func startFor(t *testing.T, b *broker, c config) *setup {
	t.Helper()
	s, err := start(t.TempDir(), b, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.proc.Stop()
		if t.Failed() {
			t.Logf("output of the program:\n%s", s.proc.Tail(60))
		}
	})
	return s
}

// event is a line of the audit file.
type event struct {
	Event    string   `json:"event"`
	Decision string   `json:"decision"`
	Reason   string   `json:"reason"`
	Rule     string   `json:"rule"`
	Door     string   `json:"door"`
	ClientID string   `json:"client_id"`
	Username string   `json:"username"`
	Packet   string   `json:"packet"`
	Topic    string   `json:"topic"`
	Filters  []string `json:"filters"`
}

// audited waits for an event of client id that f takes.
func (s *setup) audited(t *testing.T, id, what string, f func(event) bool) event {
	t.Helper()
	var found event
	var seen []string
	err := testkit.Poll("audit of "+what, patience, func() bool {
		seen = seen[:0]
		text, err := os.ReadFile(filepath.Join(s.dir, "audit.jsonl"))
		if err != nil {
			return false
		}
		for line := range strings.Lines(string(text)) {
			var e event
			if !strings.HasSuffix(line, "\n") {
				break // still being written
			}
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatalf("audit line %q: %v", line, err)
			}
			if e.ClientID != id {
				continue
			}
			seen = append(seen, line)
			if f(e) {
				found = e
				return true
			}
		}
		return false
	})
	if err != nil {
		t.Fatalf("%v; events of %s:\n%s", err, id, strings.Join(seen, ""))
	}
	return found
}

// slowHash is a bcrypt hash; one of cost 12 takes some hundred milliseconds to
// check, each more twice as long.
func slowHash(t *testing.T, password string, cost int) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), cost)
	if err != nil {
		t.Fatal(err)
	}
	return string(hash)
}
