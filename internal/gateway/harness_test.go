package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/audit"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/auth"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// transports are the engines of this system.
func transports() []string {
	if _, err := os.Stat("/proc/sys/fs/epoll"); err == nil {
		return []string{"loops", "goroutines"}
	}
	return []string{"goroutines"}
}

// overAll runs a test over every engine.
func overAll(t *testing.T, f func(t *testing.T, transport string)) {
	t.Helper()
	for _, io := range transports() {
		t.Run(io, func(t *testing.T) {
			t.Parallel()
			f(t, io)
		})
	}
}

// rig is a running gateway with listeners for TCP and WebSocket.
type rig struct {
	t       testing.TB
	g       *Gateway
	gate    *auth.Gate
	tcp, ws string
	panics  uint64 // how many are expected

	mu     sync.Mutex
	events []audit.Event
}

// parse reads a configuration.
func parse(t testing.TB, text string) *config.Config {
	t.Helper()
	cfg, _, err := config.Parse("test.json", t.TempDir(), []byte(text), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatalf("configuration %s: %v", text, err)
	}
	return cfg
}

// brokers are upstreams by address.
func brokers(addrs ...string) []config.Upstream {
	var list []config.Upstream
	for _, a := range addrs {
		list = append(list, config.Upstream{URL: "mqtt://" + a, ClientID: "%c"})
	}
	return list
}

// start runs a gateway of cfg until the test ends; listeners are its own, the
// one for WebSockets as change has it.
func start(t testing.TB, cfg *config.Config, change ...func(*config.Listener)) *rig {
	t.Helper()
	cfg.Gateway.Listeners = []config.Listener{
		{Name: "plain", Address: "tcp://127.0.0.1:0"},
		{Name: "web", Address: "ws://127.0.0.1:0/mqtt"},
	}
	for _, f := range change {
		f(&cfg.Gateway.Listeners[1])
	}
	if cfg.Gateway.ConnectTimeoutMS == config.Default().Gateway.ConnectTimeoutMS {
		cfg.Gateway.ConnectTimeoutMS = int(testkit.Patience.Milliseconds()) // a dial that takes longer fails
	}
	cfg.Audit.Output = filepath.Join(t.TempDir(), "audit.log")
	engine, err := policy.Compile(cfg)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	gate, err := auth.New(cfg, engine, log)
	if err != nil {
		t.Fatal(err)
	}
	al, err := audit.Open(cfg.Audit)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, gate: gate}
	cancel := al.Subscribe(func(e *audit.Event) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.events = append(r.events, *e)
	})
	if r.g, err = New(Options{Config: cfg, Gate: gate, Audit: al, Log: log}); err != nil {
		t.Fatal(err)
	}
	if err := r.g.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, stop := context.WithTimeout(context.Background(), testkit.Patience)
		defer stop()
		if err := r.g.Stop(ctx, 0); err != nil {
			t.Error(err)
		}
		gate.Close()
		cancel()
		if err := al.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			r.mu.Lock()
			for _, e := range r.events {
				t.Logf("audited %s %s %s %s", e.Connection, e.Event, e.Rule, e.ClientID)
			}
			r.mu.Unlock()
		}
		if s := r.g.Stats(); s.Pending != 0 || s.Connected != 0 || s.Open != 0 || s.BufferBytes != 0 || s.Panics != r.panics {
			t.Errorf("left after Stop: %+v", s)
		}
		for _, b := range r.g.Brokers() {
			if b.Open() != 0 {
				t.Errorf("%s: %d connections are still counted", b.Config().URL, b.Open())
			}
		}
	})
	addrs := r.g.Addrs()
	r.tcp, r.ws = addrs[0].String(), "ws://"+addrs[1].String()+"/mqtt"
	return r
}

// tags waits until n audit events of the connection have come and returns their
// tags.
func (r *rig) tags(id uint64, n int) []string {
	r.t.Helper()
	name := r.g.idPrefix + strconv.FormatUint(id, 16)
	var list []string
	testkit.Within(testkit.Patience, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		list = nil
		for _, e := range r.events {
			if e.Connection == name {
				list = append(list, e.Event)
			}
		}
		return len(list) >= n
	})
	return list
}

// audited is how many audit events so far name a rule.
func (r *rig) audited(rule string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.events {
		if r.events[i].Rule == rule {
			n++
		}
	}
	return n
}

// raw is a client's connection as a stream of bytes.
type raw interface {
	io.ReadWriteCloser
	SetDeadline(time.Time) error
}

// dialTCP connects a client.
func (r *rig) dialTCP() *net.TCPConn {
	r.t.Helper()
	c, err := net.Dial("tcp", r.tcp)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(testkit.Patience))
	return c.(*net.TCPConn)
}

// webConn is a WebSocket as a stream. Each Write is one frame.
type webConn struct {
	net.Conn
	ws *websocket.Conn
}

func (w *webConn) Close() error { return w.ws.CloseNow() }

// dialWS connects a client by WebSocket.
func (r *rig) dialWS() *webConn {
	r.t.Helper()
	c, err := r.tryWS()
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

// tryWS is dialWS for listeners that may refuse.
func (r *rig) tryWS() (*webConn, error) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	r.t.Cleanup(cancel)
	ws, resp, err := websocket.Dial(ctx, r.ws, &websocket.DialOptions{
		Subprotocols: []string{"mqtt"}, CompressionMode: websocket.CompressionContextTakeover, HTTPClient: webClient(r.t),
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %v", err, resp)
	}
	r.t.Cleanup(func() { _ = ws.CloseNow() })
	ws.SetReadLimit(-1)
	return &webConn{Conn: websocket.NetConn(ctx, ws, websocket.MessageBinary), ws: ws}, nil
}

// webClient is a client of its own, so that no idle connection outlives a test.
func webClient(t testing.TB) *http.Client {
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// script is a broker that does what a test says.
type script struct {
	t    testing.TB
	nl   net.Listener
	addr string
}

func newScript(t testing.TB) *script {
	t.Helper()
	nl, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nl.Close() })
	return &script{t: t, nl: nl, addr: nl.Addr().String()}
}

// accept waits for the gateway.
func (s *script) accept() *net.TCPConn {
	s.t.Helper()
	_ = s.nl.(*net.TCPListener).SetDeadline(time.Now().Add(testkit.Patience))
	c, err := s.nl.Accept()
	if err != nil {
		s.t.Fatalf("the gateway does not dial: %v", err)
	}
	s.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(testkit.Patience))
	return c.(*net.TCPConn)
}

func send(t testing.TB, c io.Writer, b []byte) {
	t.Helper()
	if _, err := c.Write(b); err != nil {
		t.Fatalf("write %d bytes: %v", len(b), err)
	}
}

// expect reads exactly what is wanted.
func expect(t testing.TB, who string, c io.Reader, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%s: got % x (%v), want % x", who, clip(got[:n]), err, clip(want))
	}
}

// expectEnd reads to the end, of which nothing may stand before.
func expectEnd(t testing.TB, who string, c io.Reader) {
	t.Helper()
	got, err := io.ReadAll(c)
	if len(got) > 0 {
		t.Errorf("%s: got % x more", who, clip(got))
	}
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		t.Errorf("%s: the connection does not end", who)
	}
}

func clip(b []byte) []byte { return b[:min(len(b), 120)] }
