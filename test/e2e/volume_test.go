//go:build e2e

package e2e

import (
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// number is an environment variable, or what stands for it.
func number(t *testing.T, name string, otherwise int) int {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// quietBroker is a Mosquitto that does not log each packet.
func quietBroker(t *testing.T) *broker { return quietBrokerWith(t, "") }

// quietBrokerWith is quietBroker with a line more in its configuration.
func quietBrokerWith(t *testing.T, line string) *broker {
	t.Helper()
	b := &broker{port: freePort()}
	b.tcp = fmt.Sprintf("tcp://127.0.0.1:%d", b.port)
	conf := filepath.Join(t.TempDir(), "mosquitto.conf")
	text := fmt.Sprintf("allow_anonymous true\nuser root\nlog_type error\nlog_type warning\nlistener %d 127.0.0.1\n%s\n", b.port, line)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	b.proc = run(t, "mosquitto", "-c", conf)
	testkit.Eventually(t, "CONNACK of Mosquitto", func() bool { return connack(b.tcp, connect{level: v311, id: "ready", noUser: true}) })
	return b
}

// mochiBroker is a Mochi inside this process.
func mochiBroker(t *testing.T) *broker {
	t.Helper()
	b := &broker{port: freePort()}
	b.tcp = fmt.Sprintf("tcp://127.0.0.1:%d", b.port)
	m := mochi.New(&mochi.Options{Logger: slog.New(slog.DiscardHandler)})
	if err := m.AddHook(new(auth.AllowHook), nil); err != nil {
		t.Fatal(err)
	}
	if err := m.AddListener(listeners.NewTCP(listeners.Config{ID: "tcp", Address: fmt.Sprintf("127.0.0.1:%d", b.port)})); err != nil {
		t.Fatal(err)
	}
	if err := m.Serve(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return b
}

// lowering starts the program with a maximum of QoS below that of the flood.
func lowering(t *testing.T, b *broker, most byte, io string) *setup {
	t.Helper()
	values := gatewaySection(b, fmt.Sprintf(`"io": %q`, io))
	values["qos"] = fmt.Sprintf(`{"enabled": true, "max-qos": %d}`, most)
	values["audit"] = `{"output": "/dev/null"}`
	return startFor(t, b, config{values: values})
}

// TestVolume lowers many messages within one connection: each arrives once, in
// its order. E2E_MESSAGES says how many.
func TestVolume(t *testing.T) {
	count := number(t, "E2E_MESSAGES", 20_000)
	for _, c := range []struct {
		name      string
		broker    func(*testing.T) *broker
		level     byte
		qos, most byte
		io        string
		ws        bool
	}{
		{"2 to 1/Mosquitto/tcp/5.0", quietBroker, v5, 2, 1, "auto", false},
		{"1 to 0/Mosquitto/ws/3.1.1", quietBroker, v311, 1, 0, "auto", true},
		{"2 to 1/Mochi/ws/3.1.1", mochiBroker, v311, 2, 1, "goroutines", true},
		{"1 to 0/Mochi/tcp/5.0", mochiBroker, v5, 1, 0, "goroutines", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := c.broker(t)
			s := lowering(t, b, c.most, c.io)
			topic := "e2e/" + unique("volume")
			k := sinkOf(t, b.tcp, topic, c.most, count, true)
			f := &flood{url: s.tcp, con: as("alice", unique("volume"), c.level), topic: topic, qos: c.qos, window: 100, count: count, seen: k}
			if c.ws {
				f.url = s.ws
			}
			f.open(t)
			started := time.Now()
			if !f.run(t, count) {
				t.Fatalf("the connection was cut at message %d", f.next)
			}
			took := time.Since(started)
			k.end(t, b.tcp, topic)
			for n, times := range k.count {
				if times != 1 {
					t.Errorf("message %d arrived %d times", n, times)
				}
			}
			t.Logf("%d messages in %.1f s, %.0f a second; the program takes %d MiB", count, took.Seconds(), float64(count)/took.Seconds(), rss(t, s.proc))
		})
	}
}

// TestVolumeRestarts kills the program again and again under a flood: nothing is
// lost, and twice comes only what was in flight at a cut. E2E_RESTARTS says how
// often.
func TestVolumeRestarts(t *testing.T) {
	count, restarts := number(t, "E2E_MESSAGES", 20_000), number(t, "E2E_RESTARTS", 4)
	for _, c := range []struct {
		qos, most byte
		level     byte
	}{{2, 1, v311}, {1, 0, v5}, {2, 0, v5}, {2, 2, v5}} {
		t.Run(fmt.Sprintf("%d to %d", c.qos, c.most), func(t *testing.T) {
			b := quietBroker(t)
			s := lowering(t, b, c.most, "auto")
			topic := "e2e/" + unique("restarts")
			k := sinkOf(t, b.tcp, topic, min(c.most, 1), count, false)
			f := &flood{url: s.tcp, con: as("alice", unique("restarts"), c.level), topic: topic, qos: c.qos, window: 100, count: count, seen: k}
			f.con.keep = true
			if c.level == v5 {
				f.con.props = []byte{0x11, 0, 0, 0xFF, 0xFF}
			}
			f.open(t)
			for i := range restarts {
				if !f.run(t, (i+1)*count/(restarts+1)) {
					t.Fatal("the connection was cut")
				}
				s.proc.Kill()
				s.again(t)
				for f.acknowledged(t) { // what had come before the end
				}
				f.out = f.out[:0]
				if c.most == 0 {
					// A broker that hears of the new connection before it has read
					// the old one to its end drops the rest of it: nothing that a
					// gateway wrote at QoS 0 is safe from that.
					k.wait(t, f.next-len(f.inflight))
				}
				f.open(t)
			}
			if !f.run(t, count) {
				t.Fatal("the connection was cut")
			}
			k.end(t, b.tcp, topic)
			twice := 0
			for n, times := range k.count {
				if times > 1 {
					twice++
				}
				if times == 0 || times > 1 && !f.unsure[n] {
					t.Errorf("message %d arrived %d times; in flight at a cut: %v", n, times, f.unsure[n])
				}
			}
			t.Logf("%d messages, %d restarts, %d messages in flight at one, %d arrived twice", count, restarts, len(f.unsure), twice)
		})
	}
}

// again starts the program anew, as it was.
func (s *setup) again(t *testing.T) {
	t.Helper()
	var err error
	if s.proc, err = testkit.Launch(exec.Command(program, "gateway", "--config", filepath.Join(s.dir, "config.json"))); err != nil {
		t.Fatal(err)
	}
}
