package demo

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/gorilla/websocket"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/agent"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/audit"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/auth"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// behindProxy starts a broker, an agent and a proxy, and returns the proxy's
// and the broker's addresses.
func behindProxy(t *testing.T) (proxy, broker string) {
	t.Helper()
	broker, stop, err := startBroker()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	dir := t.TempDir()
	text := `{"acl":{"rules":[{"topics":["dev/#"],"decision":"allow"}]},"agent":{"decision-timeout-ms":60000}}`
	cfg, _, err := config.Parse("test.json", dir, []byte(text), os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	engine, err := policy.Compile(cfg)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	gate, err := auth.New(cfg, engine, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(gate.Close)
	out, err := audit.Open(config.Audit{Output: filepath.Join(dir, "audit")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = out.Close() })
	socket := filepath.Join(dir, "s")
	a, err := agent.New(agent.Options{Socket: socket, Config: cfg, Gate: gate, Audit: out, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Stop(context.Background()) })
	p, err := StartProxy(t.Context(), ProxyOptions{Listen: "127.0.0.1:0", Socket: socket, Broker: broker})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p.Addr(), broker
}

func TestProxyWithPaho(t *testing.T) {
	proxy, broker := behindProxy(t)
	client := func(url, id string) paho.Client {
		o := paho.NewClientOptions().AddBroker(url).SetClientID(id).SetAutoReconnect(false).SetConnectTimeout(testkit.Patience)
		c := paho.NewClient(o)
		if tok := c.Connect(); !tok.WaitTimeout(testkit.Patience) || tok.Error() != nil {
			t.Fatalf("%s: connect: %v", url, tok.Error())
		}
		t.Cleanup(func() { c.Disconnect(0) })
		return c
	}
	seen := make(chan string, 16)
	observer := client("tcp://"+broker, "observer")
	if tok := observer.Subscribe("#", 1, func(_ paho.Client, m paho.Message) { seen <- m.Topic() }); !tok.WaitTimeout(testkit.Patience) {
		t.Fatal("the observer's subscription")
	}
	c := client("ws://"+proxy+"/mqtt", "dev")
	c.Publish("other/a", 0, false, "denied")
	c.Publish("other/b", 1, false, "denied, and never answered")
	if tok := c.Publish("dev/a", 1, false, "allowed"); !tok.WaitTimeout(testkit.Patience) || tok.Error() != nil {
		t.Fatalf("publish: %v", tok.Error())
	}
	select {
	case topic := <-seen:
		if topic != "dev/a" {
			t.Errorf("the broker got %q first, want dev/a", topic)
		}
	case <-time.After(testkit.Patience):
		t.Fatal("nothing arrives")
	}
	got := make(chan string, 1)
	if tok := c.Subscribe("dev/b", 1, func(_ paho.Client, m paho.Message) { got <- string(m.Payload()) }); !tok.WaitTimeout(testkit.Patience) || tok.Error() != nil {
		t.Fatalf("subscribe: %v", tok.Error())
	}
	observer.Publish("dev/b", 1, false, "hello")
	select {
	case m := <-got:
		if m != "hello" {
			t.Errorf("delivered %q", m)
		}
	case <-time.After(testkit.Patience):
		t.Fatal("nothing is delivered")
	}
}

// TestProxyRules: what the agent refuses is refused, by upgrade and by frame.
func TestProxyRules(t *testing.T) {
	proxy, _ := behindProxy(t)
	dialer := websocket.Dialer{Subprotocols: []string{"mqtt"}, HandshakeTimeout: testkit.Patience, WriteBufferSize: 2 * maxFrame}
	compressing := dialer
	compressing.EnableCompression = true
	if _, r, err := compressing.Dial("ws://"+proxy+"/mqtt", nil); err == nil || r == nil || r.StatusCode != http.StatusBadRequest {
		t.Errorf("compression: %v, want 400", err)
	}
	silent := websocket.Dialer{HandshakeTimeout: testkit.Patience}
	if _, r, err := silent.Dial("ws://"+proxy+"/mqtt", nil); err == nil || r == nil || r.StatusCode != http.StatusBadRequest {
		t.Errorf("no subprotocol: %v, want 400", err)
	}
	if r, err := http.Get("http://" + proxy + "/mqtt"); err != nil || r.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("plain request: %v %v", r, err)
	}
	http.DefaultClient.CloseIdleConnections()
	for name, c := range map[string]struct {
		kind int
		data []byte
		code int
	}{
		"text":      {websocket.TextMessage, testkit.Connect(mqtt.V311, "c"), 1003},
		"no MQTT":   {websocket.BinaryMessage, []byte("GET / HTTP/1.1"), 1008},
		"too large": {websocket.BinaryMessage, make([]byte, maxFrame+1), 1009},
	} {
		ws, r, err := dialer.Dial("ws://"+proxy+"/mqtt", nil)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := r.Header.Get("Sec-WebSocket-Protocol"); got != "mqtt" {
			t.Errorf("%s: subprotocol %q", name, got)
		}
		_ = ws.WriteMessage(c.kind, c.data) // it may be cut off in the middle
		_ = ws.SetReadDeadline(time.Now().Add(testkit.Patience))
		if _, _, err = ws.ReadMessage(); !websocket.IsCloseError(err, c.code) && !strings.Contains(err.Error(), "reset") {
			t.Errorf("%s: %v, want close %d", name, err, c.code)
		}
		ws.Close() // the end of a case
	}
}

// TestProxyFrames: a message in fragments, a ping, and an unmasked frame.
func TestProxyFrames(t *testing.T) {
	proxy, _ := behindProxy(t)
	conn, err := net.Dial("tcp", proxy)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() // the end of the test
	_ = conn.SetDeadline(time.Now().Add(testkit.Patience))
	fmt.Fprintf(conn, "GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n")
	in := bufio.NewReader(conn)
	r, err := http.ReadResponse(in, nil)
	if err != nil || r.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v, %v", r, err)
	}
	if got := r.Header.Get("Sec-WebSocket-Accept"); got != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" { // RFC 6455 section 1.3
		t.Errorf("accept %q", got)
	}
	masked := func(first byte, payload []byte) {
		b := append([]byte{first, 0x80 | byte(len(payload)), 1, 2, 3, 4}, payload...)
		for i := range payload {
			b[6+i] ^= byte(i%4 + 1)
		}
		if _, err := conn.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	hello := testkit.Connect(mqtt.V311, "c")
	masked(0x02, hello[:5])
	masked(0x89, []byte("ping"))
	masked(0x80, hello[5:])
	for _, want := range []string{"\x8a\x04ping", "\x82\x04\x20\x02\x00\x00"} {
		got := make([]byte, len(want))
		if _, err := io.ReadFull(in, got); err != nil || string(got) != want {
			t.Fatalf("got %q, %v; want %q", got, err, want)
		}
	}
	if _, err := conn.Write([]byte{0x82, 0x02, 0xc0, 0}); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 4)
	if _, err := io.ReadFull(in, got); err != nil || got[0] != 0x88 || int(got[2])<<8|int(got[3]) != 1002 {
		t.Errorf("an unmasked frame: %x, %v, want close 1002", got, err)
	}
}
