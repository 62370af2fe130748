//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// crowd logs many clients in, half of them 5.0, a tenth with a will below
// e2e/will/NAME.
func crowd(t *testing.T, s *setup, name string, count int) []*client {
	t.Helper()
	all := make([]*client, count)
	errs := make(chan error, 8)
	var wait sync.WaitGroup
	for w := range cap(errs) {
		wait.Go(func() { // ends with its share
			for i := w; i < count; i += cap(errs) {
				level := [...]byte{v311, v5}[i%2]
				con := as("alice", fmt.Sprintf("%s-%d", name, i), level)
				con.keepAlive = 600
				if i%10 < 2 {
					con.will = &message{topic: fmt.Sprintf("e2e/will/%s/%d", name, i), payload: "gone", qos: 1}
				}
				url := [...]string{s.tcp, s.tcp, s.ws, s.ws}[i%4]
				conn, err := dialURL(url)
				if err != nil {
					errs <- err
					return
				}
				c := wrap(conn, level)
				all[i] = c
				if _, err := c.Write(con.bytes()); err != nil {
					errs <- err
					return
				}
				if p, err := c.next(); err != nil || p.code() != 0 {
					errs <- fmt.Errorf("client %d: %v, %w", i, p, err)
					return
				}
			}
		})
	}
	wait.Wait()
	t.Cleanup(func() {
		for _, c := range all {
			if c != nil {
				c.Close()
			}
		}
	})
	select {
	case err := <-errs:
		t.Fatal(err)
	default:
	}
	return all
}

// TestDrainMany ends the program under E2E_CONNECTIONS connections (2,000): long
// before it must, with 0x8B for those that can be told, and with the wills that
// are to fire.
func TestDrainMany(t *testing.T) {
	for _, c := range []struct {
		name, gateway string
		wills         bool
		count         int
	}{
		{"wills fire", "", true, number(t, "E2E_CONNECTIONS", 2000)},
		{"wills suppressed", `"drain-will": "suppress"`, false, 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := quietBroker(t)
			values := gatewaySection(b, c.gateway)
			values["audit"] = `{"output": "/dev/null"}`
			values["general"] = `{"protocol-versions": ["3.1.1", "5.0"], "max-connections-per-ip": 0, "connect-timeout-secs": 600}`
			const limit = 10 * time.Minute
			s := startFor(t, b, config{values: values, flags: []string{"--drain-timeout", limit.String()}})
			o := observe(t, b)
			name := unique("crowd")
			all := crowd(t, s, name, c.count)
			started := time.Now()
			s.proc.Signal(syscall.SIGTERM)
			ends := make(chan string, len(all))
			for i, cl := range all {
				go func() { // ends with the connection, or with patience
					defer cl.Close()
					told := false
					for {
						p, err := cl.next()
						switch {
						case err == nil && p.kind() == tDisconnect && p.code() == 0x8B && cl.level == v5 && !told:
							told = true
							continue
						case err == nil:
							ends <- fmt.Sprintf("client %d got %v", i, p)
						case told != (cl.level == v5):
							ends <- fmt.Sprintf("client %d, level %d: told %v, %v", i, cl.level, told, err)
						default:
							ends <- ""
						}
						return
					}
				}()
			}
			for range all {
				if wrong := <-ends; wrong != "" {
					t.Error(wrong)
				}
			}
			if code := s.proc.Wait(t); code != 0 {
				t.Errorf("exit code %d, want 0", code)
			}
			t.Logf("%d connections drained in %v", len(all), time.Since(started).Round(time.Millisecond))
			mustLogin(t, b.tcp, connect{level: v311, id: unique("end"), noUser: true}).publish(t, message{topic: "e2e/end", qos: 1, id: 1})
			fired := 0
			for _, m := range o.untilTopic(t, "e2e/end") {
				if strings.HasPrefix(m.topic, "e2e/will/"+name+"/") {
					fired++
				}
			}
			want := 0
			if c.wills {
				want = c.count / 5
			}
			if fired != want {
				t.Errorf("%d wills fired, want %d", fired, want)
			}
		})
	}
}

// TestChangedGroup: who is taken out of a group loses what it gave, while the
// rest goes on.
func TestChangedGroup(t *testing.T) {
	b := brokerFor(t)
	values := map[string]string{"acl": `{
    "rules": [
      {"name": "readers", "match": {"groups": ["readers"]}, "topics": ["extra/#"], "decision": "allow"},
      {"name": "clients", "match": {"groups": ["clients"]}, "topics": ["e2e/#"], "decision": "allow"}
    ]
  }`}
	s := startFor(t, b, config{values: values})
	if err := writeUsersIn(s.dir, map[string][]string{"alice": {"clients", "readers"}, "bob": {"clients", "readers"}}); err != nil {
		t.Fatal(err)
	}
	out := mustLogin(t, b.tcp, connect{level: v311, id: unique("out"), noUser: true})
	testkit.Eventually(t, "the group readers", func() bool {
		return mustLogin(t, s.tcp, as("bob", unique("try"), v5)).publish(t, message{topic: "extra/try", qos: 1, id: 1}) == 0
	})
	for _, l := range levels[1:] {
		t.Run(l.name, func(t *testing.T) {
			var id string
			var bob, alice *client
			within(t, 4*time.Second, "what is promised after an edit", func() time.Duration {
				if err := writeUsersIn(s.dir, map[string][]string{"alice": {"clients", "readers"}, "bob": {"clients", "readers"}}); err != nil {
					t.Fatal(err)
				}
				testkit.Eventually(t, "the group readers", func() bool {
					return mustLogin(t, s.tcp, as("bob", unique("try"), v5)).publish(t, message{topic: "extra/try", qos: 1, id: 1}) == 0
				})
				id = unique("group")
				bob, alice = mustLogin(t, s.tcp, as("bob", id, l.level)), mustLogin(t, s.ws, as("alice", unique("group"), l.level))
				for _, c := range []*client{bob, alice} {
					c.send(t, subscribe(l.level, 1, 1, "extra/"+id, "e2e/"+id))
					c.expect(t, tSuback)
				}
				out.publish(t, message{topic: "extra/" + id, payload: "before", qos: 1, id: 1})
				for _, c := range []*client{bob, alice} {
					if m := c.receive(t); m.payload != "before" {
						t.Fatalf("received %q", m.payload)
					}
				}
				edited := time.Now()
				if err := writeUsersIn(s.dir, map[string][]string{"alice": {"clients", "readers"}, "bob": {"clients"}}); err != nil {
					t.Fatal(err)
				}
				testkit.Eventually(t, "the broker is told", func() bool {
					return strings.Contains(b.proc.Out.String(), "Received UNSUBSCRIBE from "+id)
				})
				return time.Since(edited)
			})
			out.publish(t, message{topic: "extra/" + id, payload: "late", qos: 1, id: 2})
			out.publish(t, message{topic: "e2e/" + id, payload: "after", qos: 1, id: 3})
			if m := bob.receive(t); m.payload != "after" {
				t.Errorf("bob received %q on %q", m.payload, m.topic)
			}
			for _, want := range []string{"late", "after"} {
				if m := alice.receive(t); m.payload != want {
					t.Errorf("alice received %q, want %q", m.payload, want)
				}
			}
			bob.send(t, message{topic: "extra/" + id, qos: 1, id: 2}.bytes(l.level))
			if p := bob.expect(t, tPuback); p.code() != by(l.level, 0, 0x87) {
				t.Errorf("bob's publish answered %#x", p.code())
			}
		})
	}
}

// TestRemovedUser: who is no longer in the users file is ended.
func TestRemovedUser(t *testing.T) {
	s := startFor(t, shared.broker, config{})
	alice := mustLogin(t, s.ws, as("alice", unique("removed"), v5))
	within(t, 4*time.Second, "what is promised after an edit", func() time.Duration {
		if err := writeUsers(s.dir); err != nil {
			t.Fatal(err)
		}
		var bob *client
		testkit.Eventually(t, "bob", func() bool {
			c, p := login(t, s.tcp, as("bob", unique("removed"), v5))
			bob = c
			return p.code() == 0
		})
		edited := time.Now()
		if err := writeUsersIn(s.dir, map[string][]string{"alice": {"clients"}}); err != nil {
			t.Fatal(err)
		}
		checkEnd(t, bob.ended(t), v5, 0x87)
		return time.Since(edited)
	})
	if got := alice.publish(t, message{topic: "e2e/x", qos: 1, id: 1}); got != 0 {
		t.Errorf("alice's publish answered %#x", got)
	}
}
