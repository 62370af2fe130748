//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

func TestBrokerAway(t *testing.T) {
	b := brokerFor(t)
	s := startFor(t, b, config{values: gatewayWithin(2*time.Second, b, "")})
	live := mustLogin(t, s.tcp, as("alice", unique("away"), v5))
	b.proc.Stop()
	// The live one is told that the broker is gone.
	if got := live.ended(t); len(got) != 1 || got[0].kind() != tDisconnect || got[0].code() != 0x8B {
		t.Errorf("a live 5.0 client got %v, want DISCONNECT 0x8b", got)
	}
	eachDoor(t, s, func(t *testing.T, url string, level byte) {
		within(t, 5*time.Second, "connect-timeout-ms of 2000", func() time.Duration {
			started := time.Now()
			c, p := login(t, url, as("alice", unique("away"), level))
			if want := by(level, 3, 0x88); p.code() != want {
				t.Errorf("CONNACK %#x, want %#x", p.code(), want)
			}
			c.ended(t)
			return time.Since(started)
		})
		// Wrong credentials are still told so: nobody was asked.
		wrong := as("bob", unique("away"), level)
		wrong.password = "wrong"
		if _, p := login(t, url, wrong); p.code() != by(level, 4, 0x86) {
			t.Errorf("wrong password while away: CONNACK %#x, want %#x", p.code(), by(level, 4, 0x86))
		}
	})
	back, err := startBroker(t.TempDir(), b.port, b.wsPort)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(back.proc.Stop)
	testkit.Eventually(t, "service after the broker is back", func() bool { return connack(s.tcp, as("alice", unique("back"), v5)) })
	// The log says both once, not for each client.
	for _, line := range []string{`level=WARN msg="broker is away`, `level=INFO msg="broker is back"`} {
		testkit.Eventually(t, line, func() bool { return strings.Contains(s.proc.Out.String(), line) })
		if n := strings.Count(s.proc.Out.String(), line); n != 1 {
			t.Errorf("%d lines %s, want 1", n, line)
		}
	}
}

// TestBrokerSilent: a broker that takes the connection and never answers is as
// good as away.
func TestBrokerSilent(t *testing.T) {
	b := brokerFor(t)
	s := startFor(t, b, config{values: gatewayWithin(2*time.Second, b, "")})
	b.proc.Signal(syscall.SIGSTOP)
	defer b.proc.Signal(syscall.SIGCONT)
	within(t, 5*time.Second, "connect-timeout-ms of 2000", func() time.Duration {
		started := time.Now()
		c, p := login(t, s.tcp, as("alice", unique("silent"), v5))
		if p.code() != 0x88 {
			t.Errorf("CONNACK %#x, want 0x88", p.code())
		}
		c.ended(t)
		return time.Since(started)
	})
}

// TestDisabledUser: an edit of the users file ends who is gone, without a
// signal, and without their will.
func TestDisabledUser(t *testing.T) {
	s := startFor(t, shared.broker, config{})
	o := observe(t, shared.broker)
	id := unique("disabled")
	con := as("bob", id, v5)
	con.will = &message{topic: "e2e/will/" + id, payload: "gone"}
	bob := mustLogin(t, s.tcp, con)
	con.id, con.will = unique("disabled"), &message{topic: "e2e/will/half/" + id, payload: "gone"}
	half := mustLogin(t, s.tcp, con) // inside a PUBLISH
	half.send(t, message{topic: "e2e/half/" + id, payload: strings.Repeat("x", 1000)}.bytes(v5)[:100])
	old := mustLogin(t, s.ws, as("bob", unique("disabled"), v311))
	alice := mustLogin(t, s.tcp, as("alice", unique("disabled"), v5))
	if err := writeUsers(s.dir, "bob"); err != nil {
		t.Fatal(err)
	}
	if got := bob.ended(t); len(got) != 1 || got[0].kind() != tDisconnect || got[0].code() != 0x87 {
		t.Errorf("5.0: got %v, want DISCONNECT 0x87", got)
	}
	if got := half.ended(t); len(got) != 1 || got[0].code() != 0x87 {
		t.Errorf("inside a PUBLISH: got %v, want DISCONNECT 0x87", got)
	}
	if got := old.ended(t); len(got) != 0 {
		t.Errorf("3.1.1: got %v, want only the end", got)
	}
	if _, p := login(t, s.tcp, as("bob", unique("disabled"), v311)); p.code() != 4 {
		t.Errorf("CONNECT of a disabled user: %#x, want 4", p.code())
	}
	if got := alice.publish(t, message{topic: "e2e/" + id, qos: 1, id: 1}); got != 0 {
		t.Errorf("alice's publish answered %#x", got)
	}
	noneBelow(t, o.untilTopic(t, "e2e/"+id), "e2e/will")
	// A file that cannot be read changes nothing.
	if err := replaceFile(filepath.Join(s.dir, "users.json"), `{"users": {"alice": `); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "a log line about the broken file", func() bool { return strings.Count(s.proc.Out.String(), "users.json") > 0 })
	mustLogin(t, s.tcp, as("alice", unique("disabled"), v5))
	if err := writeUsers(s.dir); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "bob's return", func() bool { return connack(s.tcp, as("bob", unique("disabled"), v5)) })
}

func TestReload(t *testing.T) {
	s := startFor(t, shared.broker, config{})
	port := func(url string) (n int) {
		fmt.Sscanf(url[strings.LastIndex(url, ":"):], ":%d", &n)
		return n
	}
	all := sections(s.dir, port(s.tcp), port(s.ws), s.broker.port)
	reload := func(want string) {
		t.Helper()
		seen := strings.Count(s.proc.Out.String(), want)
		s.proc.Signal(syscall.SIGHUP)
		testkit.Eventually(t, want, func() bool { return strings.Count(s.proc.Out.String(), want) > seen })
	}
	id := unique("reload")
	c := mustLogin(t, s.tcp, as("alice", id, v5))
	sub := mustLogin(t, s.ws, as("alice", unique("reload"), v5))
	sub.send(t, subscribe(v5, 1, 1, "e2e/now/"+id))
	sub.expect(t, tSuback)
	if got := c.publish(t, message{topic: "e2e/now/" + id, qos: 1, id: 1}); got != 0 {
		t.Fatalf("before: answered %#x", got)
	}
	sub.receive(t)

	// Broken: the old policy stays, whole.
	if err := replaceFile(filepath.Join(s.dir, "config.json"), `{"acl": {"rules": [{"topics": ["x"], "decision": "perhaps"}]}}`); err != nil {
		t.Fatal(err)
	}
	reload("reload failed")
	if got := c.publish(t, message{topic: "e2e/now/" + id, qos: 1, id: 2}); got != 0 {
		t.Errorf("after a failed reload: answered %#x", got)
	}
	sub.receive(t)

	// Sound: in force for the live ones.
	all["acl"] = strings.Replace(all["acl"], `"e2e/secret/#"`, `"e2e/secret/#", "e2e/now/#"`, 1)
	if err := writeConfig(s.dir, all); err != nil {
		t.Fatal(err)
	}
	reload("msg=reloaded")
	testkit.Eventually(t, "the new policy", func() bool {
		return c.publish(t, message{topic: "e2e/now/" + id, qos: 1, id: 3}) == 0x87
	})
	out := mustLogin(t, s.broker.tcp, connect{level: v311, id: unique("out"), noUser: true})
	out.publish(t, message{topic: "e2e/now/" + id, payload: "late", qos: 1, id: 1})
	sub.send(t, subscribe(v5, 2, 1, "e2e/then/"+id))
	for p := sub.read(t); p.kind() != tSuback; p = sub.read(t) {
		if p.kind() == tPublish && p.message().payload == "late" {
			t.Error("delivered under the new policy")
		}
	}
}

func TestDrain(t *testing.T) {
	s := startFor(t, shared.broker, config{})
	o := observe(t, shared.broker)
	id := unique("drain")
	con := as("alice", id, v5)
	con.will = &message{topic: "e2e/will/" + id, payload: "drained"}
	five := []*client{mustLogin(t, s.tcp, con), mustLogin(t, s.ws, as("alice", unique("drain"), v5))}
	three := mustLogin(t, s.tcp, as("alice", unique("drain"), v311))
	s.proc.Signal(syscall.SIGTERM)
	for _, c := range five {
		if got := c.ended(t); len(got) != 1 || got[0].kind() != tDisconnect || got[0].code() != 0x8B {
			t.Errorf("5.0 got %v, want DISCONNECT 0x8b", got)
		}
	}
	if got := three.ended(t); len(got) != 0 {
		t.Errorf("3.1.1 got %v, want only the end", got)
	}
	if code := s.proc.Wait(t); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	o.untilTopic(t, "e2e/will/"+id) // drain-will: fire
	text, err := os.ReadFile(filepath.Join(s.dir, "audit.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "mqtt,disconnect") || !strings.HasSuffix(string(text), "\n") {
		t.Errorf("the audit file does not end whole:\n%s", testkit.Tail(string(text), 5))
	}
}

// TestSecondSignal: during a drain a reload is none, and a second signal is the
// end at once.
func TestSecondSignal(t *testing.T) {
	s := startFor(t, shared.broker, config{flags: []string{"--drain-rate", "1", "--drain-timeout", "10m"}})
	for range 150 { // minutes of draining
		mustLogin(t, s.tcp, as("alice", unique("signal"), v5))
	}
	logged := func(text string) {
		t.Helper()
		testkit.Eventually(t, text, func() bool { return strings.Contains(s.proc.Out.String(), text) })
	}
	s.proc.Signal(syscall.SIGTERM)
	logged("msg=draining reason=SIGTERM")
	s.proc.Signal(syscall.SIGHUP)
	logged("no reload while draining")
	s.proc.Signal(syscall.SIGINT)
	if code := s.proc.Wait(t); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	logged("stopped at once")
}

// TestOwnBrokerCredentials: with authentication here the client's password
// never goes to the broker.
func TestOwnBrokerCredentials(t *testing.T) {
	b := brokerFor(t)
	s := startFor(t, b, config{})
	id := unique("strip")
	mustLogin(t, s.tcp, as("alice", id, v5))
	testkit.Eventually(t, "the CONNECT in the broker's log", func() bool { return strings.Contains(b.proc.Out.String(), "as "+id+" ") })
	if strings.Contains(b.proc.Out.String(), "u'alice'") {
		t.Errorf("the broker was told the user name:\n%s", b.proc.Tail(10))
	}
}
