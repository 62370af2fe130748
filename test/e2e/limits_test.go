//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// gatewaySection is sections' with more keys in it.
func gatewaySection(b *broker, more string, upstreams ...string) map[string]string {
	return gatewayWithin(600*time.Second, b, more, upstreams...)
}

// gatewayWithin is gatewaySection with another limit to the time that a broker
// may take.
func gatewayWithin(limit time.Duration, b *broker, more string, upstreams ...string) map[string]string {
	if len(upstreams) == 0 {
		upstreams = []string{fmt.Sprintf(`{"url": "mqtt://127.0.0.1:%d"}`, b.port)}
	}
	if more != "" {
		more = ", " + more
	}
	return map[string]string{"gateway": `{"listeners": [{"name": "tcp", "address": "tcp://127.0.0.1:TCP"}, {"name": "ws", "address": "ws://127.0.0.1:WS/mqtt"}], "upstreams": [` +
		strings.Join(upstreams, ", ") + fmt.Sprintf(`], "connect-timeout-ms": %d%s}`, limit.Milliseconds(), more)}
}

func TestOnDenyDrop(t *testing.T) {
	s := startFor(t, shared.broker, config{values: gatewaySection(shared.broker, `"on-deny": "drop"`)})
	eachDoor(t, s, func(t *testing.T, url string, level byte) {
		c := mustLogin(t, url, as("alice", unique("drop"), level))
		for qos := byte(0); qos <= 2; qos++ {
			c.send(t, message{topic: "e2e/secret/x", qos: qos, id: 1 + uint16(qos)}.bytes(level))
		}
		if got := c.publish(t, message{topic: "e2e/x", qos: 1, id: 9}); got != 0 { // the first answer is this one's
			t.Errorf("answered %#x", got)
		}
	})
}

func TestOnDenyDisconnect(t *testing.T) {
	s := startFor(t, shared.broker, config{values: gatewaySection(shared.broker, `"on-deny": "disconnect"`)})
	eachDoor(t, s, func(t *testing.T, url string, level byte) {
		for name, b := range map[string][]byte{
			"publish":   message{topic: "e2e/secret/x", qos: 0}.bytes(level),
			"subscribe": subscribe(level, 1, 0, "e2e/secret/x"),
		} {
			t.Run(name, func(t *testing.T) {
				c := mustLogin(t, url, as("alice", unique("end"), level))
				c.send(t, b)
				checkEnd(t, c.ended(t), level, 0x87)
			})
		}
	})
}

// TestFailOver: the first upstream that is there is taken.
func TestFailOver(t *testing.T) {
	away := fmt.Sprintf(`{"url": "mqtt://127.0.0.1:%d"}`, freePort())
	here := fmt.Sprintf(`{"url": "mqtt://127.0.0.1:%d"}`, shared.broker.port)
	s := startFor(t, shared.broker, config{values: gatewaySection(shared.broker, "", away, here)})
	o := observe(t, shared.broker)
	c := mustLogin(t, s.tcp, as("alice", unique("fail"), v5))
	c.publish(t, message{topic: "e2e/fail-over", qos: 1, id: 1})
	o.untilTopic(t, "e2e/fail-over")
}

// TestUpstreamCredentials: what the broker is told of who a client is.
func TestUpstreamCredentials(t *testing.T) {
	for _, c := range []struct{ name, more, want string }{
		{"pass", `"credentials": "pass"`, "u'alice'"},
		{"replace", `"username": "gw-%u", "password": "x"`, "u'gw-alice'"},
		{"replaced by default", `"username": "gateway", "password": "x"`, "u'gateway'"},
		{"client id", `"client-id": "via-%c"`, "via-"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := brokerFor(t)
			s := startFor(t, b, config{values: gatewaySection(b, "", fmt.Sprintf(`{"url": "mqtt://127.0.0.1:%d", %s}`, b.port, c.more))})
			id := unique("cred")
			mustLogin(t, s.tcp, as("alice", id, v5))
			var told string
			testkit.Eventually(t, "the CONNECT in the broker's log", func() bool {
				for line := range strings.Lines(b.proc.Out.String()) {
					if strings.Contains(line, "New client connected") && strings.Contains(line, id+" (") {
						told = strings.TrimSpace(line)
					}
				}
				return told != ""
			})
			if !strings.Contains(told, c.want) {
				t.Errorf("%s: want %s", told, c.want)
			}
		})
	}
}

// TestSlowHandshake: who holds a connection without a CONNECT loses it.
func TestSlowHandshake(t *testing.T) {
	s := startFor(t, shared.broker, config{values: map[string]string{"general": `{"connect-timeout-secs": 1}`}})
	whole := as("alice", unique("slow"), v311).bytes()
	for name, first := range map[string]string{"tcp, nothing": "", "tcp, half": string(whole[:9]), "ws, nothing": "", "ws, half": "GET /mqtt HTTP/1.1\r\nHost: x\r\n"} {
		t.Run(name, func(t *testing.T) {
			url := s.tcp
			if strings.HasPrefix(name, "ws") {
				url = s.ws
			}
			within(t, 5*time.Second, "connect-timeout-secs of 1", func() time.Duration {
				conn, err := net.Dial("tcp", strings.TrimSuffix(url[strings.Index(url, "//")+2:], "/mqtt"))
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				started := time.Now()
				_, _ = conn.Write([]byte(first)) // it may have ended
				wrap(conn, v311).ended(t)
				return time.Since(started)
			})
		})
	}
}

// TestCaps: connections beyond the caps are refused, and the others are not
// harmed.
func TestCaps(t *testing.T) {
	s := startFor(t, shared.broker, config{values: map[string]string{"general": `{"max-connections-per-ip": 3}`}})
	var held []*client
	for range 3 {
		// The connections that asked for readiness may still be leaving.
		testkit.Eventually(t, "one of three places", func() bool {
			c, p := login(t, s.tcp, as("alice", unique("cap"), v5))
			held = append(held, c)
			if p.code() != 0 {
				held = held[:len(held)-1]
			}
			return p.code() == 0
		})
	}
	if _, p := login(t, s.tcp, as("alice", unique("cap"), v5)); p.code() != 0x9F {
		t.Errorf("5.0: CONNACK %#x, want 0x9f", p.code())
	}
	if _, p := login(t, s.tcp, as("alice", unique("cap"), v311)); p.code() != 3 {
		t.Errorf("3.1.1: CONNACK %#x, want 3", p.code())
	}
	held[0].send(t, disconnect())
	testkit.Eventually(t, "a free place", func() bool { return connack(s.tcp, as("alice", unique("cap"), v5)) })
	if got := held[1].publish(t, message{topic: "e2e/x", qos: 1, id: 1}); got != 0 {
		t.Errorf("another's publish answered %#x", got)
	}
}

// TestDenialsPerMinute: being denied is not free.
func TestDenialsPerMinute(t *testing.T) {
	s := startFor(t, shared.broker, config{values: map[string]string{"general": `{"protocol-versions": ["3.1", "3.1.1", "5.0"], "limits": {"denials-per-minute": 20}}`}})
	eachDoor(t, s, func(t *testing.T, url string, level byte) {
		c := mustLogin(t, url, as("alice", unique("denied"), level))
		var b []byte
		for range 40 {
			b = append(b, message{topic: "e2e/secret/x"}.bytes(level)...)
		}
		c.send(t, b)
		checkEnd(t, c.ended(t), level, 0x97)
	})
}

// TestKeepAlive: a silent client is ended.
func TestKeepAlive(t *testing.T) {
	within(t, 6*time.Second, "1.5 times a keep-alive of 1 s", func() time.Duration {
		con := as("alice", unique("silent"), v5)
		con.keepAlive = 1
		started := time.Now()
		c := mustLogin(t, shared.tcp, con)
		got := c.ended(t)
		took := time.Since(started)
		if took < 1400*time.Millisecond {
			t.Errorf("ended after %v already", took)
		}
		if len(got) == 1 && got[0].code() == 0x8B && took > 2*time.Second {
			return time.Hour // the broker was the first to see it: once more
		}
		checkEnd(t, got, v5, 0x8D)
		return took
	})
}

// TestDescriptors: when there are no more descriptors, accept backs off and
// recovers.
func TestDescriptors(t *testing.T) {
	dir := t.TempDir()
	tcp := freePort()
	all := sections(dir, tcp, freePort(), shared.broker.port)
	if err := writeUsers(dir); err != nil {
		t.Fatal(err)
	}
	if err := writeConfig(dir, all); err != nil {
		t.Fatal(err)
	}
	proc := run(t, "sh", "-c", `ulimit -n 64 && exec "$0" "$@"`, program, "gateway", "--config", dir+"/config.json")
	url := fmt.Sprintf("tcp://127.0.0.1:%d", tcp)
	testkit.Eventually(t, "CONNACK", func() bool { return connack(url, as("alice", "ready", v5)) })
	live := mustLogin(t, url, as("alice", unique("fd"), v5))
	var held []net.Conn
	for range 100 {
		conn, err := net.Dial("tcp", url[len("tcp://"):])
		if err != nil {
			t.Fatal(err) // the backlog takes them
		}
		held = append(held, conn)
	}
	if got := live.publish(t, message{topic: "e2e/x", qos: 1, id: 1}); got != 0 {
		t.Errorf("a live one's publish answered %#x", got)
	}
	for _, conn := range held {
		conn.Close()
	}
	testkit.Eventually(t, "recovery", func() bool { return connack(url, as("alice", unique("fd"), v5)) })
	select {
	case <-proc.Done:
		t.Errorf("it ended with %d", proc.Code)
	default:
	}
}

// TestSlowReader: a subscriber that reads nothing holds back its broker, not
// the others, and costs a bounded memory.
func TestSlowReader(t *testing.T) {
	b := brokerFor(t)
	s := startFor(t, b, config{})
	id := unique("slow")
	slow := mustLogin(t, s.tcp, as("alice", id, v311))
	slow.send(t, subscribe(v311, 1, 0, "e2e/flood"))
	slow.expect(t, tSuback)
	out := mustLogin(t, b.tcp, connect{level: v311, id: unique("out"), noUser: true})
	payload := strings.Repeat("x", 100_000)
	for i := range 500 { // 50 MB
		if got := out.publish(t, message{topic: "e2e/flood", payload: payload, qos: 1, id: uint16(i + 1)}); got != 0 {
			t.Fatalf("answered %#x", got)
		}
	}
	other := mustLogin(t, s.tcp, as("bob", unique("other"), v311))
	if got := other.publish(t, message{topic: "e2e/x", qos: 1, id: 1}); got != 0 {
		t.Errorf("another's publish answered %#x", got)
	}
	if mb := rss(t, s.proc); mb > 64 {
		t.Errorf("%d MiB resident", mb)
	}
}

// TestReceiveMaximum: QoS 2 that is never completed ends at our maximum, which
// the client was told.
func TestReceiveMaximum(t *testing.T) {
	s := startFor(t, shared.broker, config{values: map[string]string{"general": `{"limits": {"receive-maximum": 5}}`}})
	for _, url := range []string{s.tcp, s.ws} {
		c, p := login(t, url, as("alice", unique("recv"), v5))
		if !strings.Contains(string(p.body[3:]), "\x21\x00\x05") {
			t.Errorf("CONNACK % x without a Receive Maximum of 5", p.body)
		}
		var b []byte
		for i := range 20 {
			b = append(b, message{topic: "e2e/x", qos: 2, id: uint16(i + 1)}.bytes(v5)...)
		}
		c.send(t, b)
		got := c.ended(t)
		if len(got) == 0 || got[len(got)-1].kind() != tDisconnect || got[len(got)-1].code() != 0x93 {
			t.Errorf("got %v, want DISCONNECT 0x93 at the end", got)
		}
	}
}
