package gateway

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"testing"

	"github.com/coder/websocket"
	"github.com/eclipse/paho.golang/paho"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

func TestClientOf(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/64")}
	for _, tc := range []struct{ peer, list, want string }{
		{"10.0.0.1", "203.0.113.7", "203.0.113.7"},
		{"::ffff:10.0.0.1", "203.0.113.7", "203.0.113.7"},
		{"192.0.2.1", "203.0.113.7", "192.0.2.1"}, // a stranger who claims
		{"10.0.0.1", "198.51.100.1, 203.0.113.7", "203.0.113.7"},
		{"10.0.0.1", "203.0.113.7, 10.0.0.2", "203.0.113.7"},
		{"10.0.0.1", "203.0.113.7,10.0.0.3 ,\t10.0.0.2", "203.0.113.7"},
		{"10.0.0.1", "203.0.113.7:4711", "203.0.113.7"},
		{"10.0.0.1", "[2001:db8:1::7]:4711", "2001:db8:1::7"},
		{"10.0.0.1", "[2001:db8:1::7]", "2001:db8:1::7"},
		{"10.0.0.1", "fe80::1%eth0", "fe80::1"},
		{"2001:db8::1", "2001:db8::2, 2001:db8::3", "2001:db8::2"},
		{"10.0.0.1", "203.0.113.7, unknown", "10.0.0.1"},
		{"10.0.0.1", "203.0.113.7, 10.0.0.2, _hidden, 10.0.0.3", "10.0.0.3"},
		{"10.0.0.1", ",", "10.0.0.1"},
		{"10.0.0.1", "", "10.0.0.1"},
	} {
		if got := clientOf(netip.MustParseAddr(tc.peer), tc.list, trusted); got != netip.MustParseAddr(tc.want) {
			t.Errorf("%s with %q acts for %s, want %s", tc.peer, tc.list, got, tc.want)
		}
	}
}

// dialFor connects a WebSocket as a proxy does for a client.
func (r *rig) dialFor(client string) (*webConn, *http.Response, error) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	r.t.Cleanup(cancel)
	ws, resp, err := websocket.Dial(ctx, r.ws, &websocket.DialOptions{
		Subprotocols: []string{"mqtt"}, HTTPClient: webClient(r.t),
		HTTPHeader: http.Header{"X-Forwarded-For": {"192.0.2.99", client}},
	})
	if err != nil {
		return nil, resp, err
	}
	r.t.Cleanup(func() { _ = ws.CloseNow() })
	return &webConn{Conn: websocket.NetConn(ctx, ws, websocket.MessageBinary), ws: ws}, resp, nil
}

// TestForwarded: behind a trusted proxy rules and caps are about the client.
func TestForwarded(t *testing.T) {
	overAll(t, func(t *testing.T, transport string) {
		addr, _ := newBroker(t)
		cfg := parse(t, `{
			"acl": {"rules": [{"match": {"client-ip": "203.0.113.0/24"}, "actions": ["connect", "publish"], "topics": ["#"], "decision": "allow"}]},
			"general": {"limits": {"pending-per-ip": 1}}
		}`)
		cfg.Gateway.IO, cfg.Gateway.Upstreams = transport, brokers(addr)
		listener := func(l *config.Listener) {
			l.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		}
		r := start(t, cfg, listener)
		for i, want := range map[string]byte{"203.0.113.7": 0, "198.51.100.7": 0x87} {
			c, _, err := r.dialFor(i)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Write(testkit.Connect(mqtt.V5, "c"+i)); err != nil {
				t.Fatal(err)
			}
			ack := make([]byte, 64)
			n, err := c.Read(ack)
			if err != nil || n < 4 || ack[0] != 0x20 || ack[3] != want {
				t.Errorf("%s: % x, %v; want reason code 0x%02x", i, ack[:n], err, want)
			}
		}
		// A client of many that are silent, behind the same proxy as others.
		if _, _, err := r.dialFor("203.0.113.8"); err != nil {
			t.Fatal(err)
		}
		_, resp, err := r.dialFor("203.0.113.8")
		if err == nil || resp == nil || resp.StatusCode != http.StatusTooManyRequests {
			t.Errorf("a second that waits: %v, %v", resp, err)
		}
		if _, _, err := r.dialFor("203.0.113.9"); err != nil {
			t.Errorf("of another address: %v", err)
		}
		testkit.Eventually(t, "the refusal is audited", func() bool {
			r.mu.Lock()
			defer r.mu.Unlock()
			for _, e := range r.events {
				if e.Rule == "pending-per-ip" && e.ClientIP == "203.0.113.8" {
					return true
				}
			}
			return false
		})
	})
}

// TestNotForwarded: who is no trusted proxy claims nothing.
func TestNotForwarded(t *testing.T) {
	r, _ := serveBroker(t, transports()[0], `{"acl": {"rules": [{"match": {"client-ip": "203.0.113.0/24"}, "topics": ["#"], "actions": ["connect"], "decision": "allow"}]}}`)
	c, _, err := r.dialFor("203.0.113.7")
	if err != nil {
		t.Fatal(err)
	}
	cp := &paho.Connect{ClientID: "c", KeepAlive: 30, CleanStart: true}
	client := paho.NewClient(paho.ClientConfig{Conn: c, PacketTimeout: testkit.Patience})
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	if ack, err := client.Connect(ctx, cp); err == nil || ack == nil || ack.ReasonCode != 0x87 {
		t.Error(fmt.Sprint(ack, err))
	}
}

func TestCensusMoves(t *testing.T) {
	g := &config.General{BlockMode: true, Limits: config.Limits{PendingPerIP: 1}}
	c := newCensus()
	proxy, a, b := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	for _, tc := range []struct {
		to   netip.Addr
		want policy.RuleRef
	}{{a, policy.RuleNone}, {b, policy.RuleNone}, {a, policy.RulePendingPerIP}} {
		if got := c.arrive(proxy, true, g); got != policy.RuleNone {
			t.Errorf("a proxy arrives: rule %d", got)
		}
		if got := c.move(proxy, tc.to, g); got != tc.want {
			t.Errorf("for %s: rule %d, want %d", tc.to, got, tc.want)
		}
	}
	for _, of := range []netip.Addr{a, b, a} {
		c.leave(of, false)
	}
	if p, n := c.count(); p != 0 || n != 0 || len(c.byPlace) != 0 {
		t.Errorf("left %d, %d, %d places", p, n, len(c.byPlace))
	}
}
