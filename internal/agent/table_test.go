package agent

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/agent/wire"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
)

func tableSettings(change func(*config.Config)) *settings {
	cfg := config.Default()
	if change != nil {
		change(cfg)
	}
	return &settings{cfg: cfg}
}

func newWebSocket(set *settings, n int, addr string) *webSocket {
	ws := &webSocket{key: fmt.Sprint("key", n), id: fmt.Sprint("id", n), set: set, waiting: true}
	if addr != "" {
		ws.network = network(netip.MustParseAddr(addr))
	}
	return ws
}

func TestTableBounds(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*config.Config)
		want   full
	}{
		{"max-sessions", func(c *config.Config) { c.Agent.MaxSessions = 2 }, fullTable},
		{"max-connections", func(c *config.Config) { c.General.MaxConnections = 2 }, fullTotal},
		{"pending-connections", func(c *config.Config) { c.General.Limits.PendingConnections = 2 }, fullWaiting},
		{"max-connections-per-ip", func(c *config.Config) { c.General.MaxConnectionsPerIP = 2 }, fullAddr},
		{"pending-per-ip", func(c *config.Config) { c.General.Limits.PendingPerIP = 2 }, fullAddrNew},
	} {
		set, tab := tableSettings(c.change), newTable()
		// One IPv6 /64 is one address.
		first, second := newWebSocket(set, 1, "2001:db8::1"), newWebSocket(set, 2, "2001:db8::2")
		third := newWebSocket(set, 3, "2001:db8::3")
		if a, b := tab.add(first), tab.add(second); a != fullNot || b != fullNot {
			t.Fatalf("%s: first %d, second %d", c.name, a, b)
		}
		if got := tab.add(third); got != c.want {
			t.Errorf("%s: third %d, want %d", c.name, got, c.want)
		}
		tab.remove(first, true, false, 1)
		if got := tab.add(third); got != fullNot {
			t.Errorf("%s: after one left: %d", c.name, got)
		}
		tab.remove(second, true, false, 1)
		tab.remove(third, true, false, 1)
		if tab.live.Load() != 0 || tab.waiting.Load() != 0 || len(tab.addrs) != 0 || len(tab.ids) != 0 {
			t.Errorf("%s: left behind: %d live, %d waiting, %d addresses, %d ids", c.name, tab.live.Load(), tab.waiting.Load(), len(tab.addrs), len(tab.ids))
		}
	}
}

func TestTableUnique(t *testing.T) {
	set, tab := tableSettings(nil), newTable()
	a := newWebSocket(set, 1, "")
	tab.add(a)
	if got := tab.add(newWebSocket(set, 1, "")); got != fullKey {
		t.Errorf("same key: %d, want %d", got, fullKey)
	}
	other := newWebSocket(set, 2, "")
	other.id = a.id
	if got := tab.add(other); got != fullID {
		t.Errorf("same id under another key: %d, want %d", got, fullID)
	}
	if tab.byID(a.id) != a || tab.find([]byte(a.key)) != a {
		t.Error("the first is not found any more")
	}
}

// TestAppendKey: the parts of a key do not run into each other.
func TestAppendKey(t *testing.T) {
	frames := []wire.Frame{
		{CorrelationID: []byte("ab"), ClientIP: []byte("c")},
		{CorrelationID: []byte("a"), ClientIP: []byte("bc")},
		{HasRoute: true, CorrelationID: []byte("ab"), ClientIP: []byte("c")},
		{HasRoute: true, Route: []byte("a"), CorrelationID: []byte("b"), ClientIP: []byte("c")},
		{HasRoute: true, Route: []byte("ab"), ClientIP: []byte("c")},
		{HasRoute: true, Route: []byte("ab"), CorrelationID: []byte("c")},
	}
	seen := map[string]int{}
	for i := range frames {
		key := string(appendKey(nil, &frames[i]))
		if j, ok := seen[key]; ok {
			t.Errorf("frames %d and %d have one key", i, j)
		}
		seen[key] = i
	}
}

func TestEnded(t *testing.T) {
	tab := newTable()
	for i := range shards * maxEnded * 2 {
		tab.ended(fmt.Sprint(i), 1)
	}
	n := 0
	for i := range tab.shards {
		n += len(tab.shards[i].ended)
	}
	if n == 0 || n > shards*maxEnded {
		t.Errorf("%d ended ones kept", n)
	}
	tab.forget(2 + endedTime)
	tab.ended("k", 1)
	if !tab.over([]byte("k")) || tab.over([]byte("1")) {
		t.Error("which has ended is not known")
	}
}

func TestParseAddr(t *testing.T) {
	for in, want := range map[string]string{
		"198.51.100.7": "198.51.100.7", "198.51.100.7:40112": "198.51.100.7", "[2001:db8::9]:40112": "2001:db8::9",
		"2001:db8::9": "2001:db8::9", "::ffff:192.0.2.1": "192.0.2.1", "[::ffff:192.0.2.1]:1": "192.0.2.1",
		"fe80::1%eth0": "fe80::1", "unknown": "invalid IP", "": "invalid IP", "example.test:80": "invalid IP",
	} {
		if got := parseAddr([]byte(in)).String(); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}
