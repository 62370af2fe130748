package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/auth"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// TestIdleMemory bounds what an idle client holds on the heap, the room of the
// collector not counted: its session, its driver and its connections. Client
// and broker are bare descriptors, so that nothing else of it is theirs. What
// makes it grow is to be worth it, and this figure is to go with it.
func TestIdleMemory(t *testing.T) {
	const warm, clients = 64, 1000
	for _, c := range []struct {
		name  string
		web   bool
		bytes float64
	}{{"tcp", false, 794}, {"ws", true, 874}} {
		t.Run(c.name, func(t *testing.T) {
			broker, at := listening(t)
			cfg := parse(t, `{"acl": {"rules": [
				{"topics": ["devices/%c/#"], "decision": "allow"},
				{"match": {"client-id-regex": "^idle"}, "topics": ["load/#"], "decision": "allow"}]}}`)
			cfg.Gateway.IO = "loops"
			cfg.Gateway.Upstreams = brokers(at)
			addr := startBare(t, cfg, c.web)
			open := make([]int, 0, 2*(warm+clients))
			defer func() {
				for _, fd := range open {
					_ = unix.Close(fd)
				}
			}()
			idle := func(i int) {
				client := socket(t)
				open = append(open, client)
				if err := again(func() error { return unix.Connect(client, addr) }); err != nil {
					t.Fatal(err)
				}
				p := testkit.Connect(mqtt.V311, fmt.Sprintf("idle-client-%d", i), testkit.User("idle"))
				if c.web {
					put(t, client, []byte("GET /mqtt HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
						"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"))
					take(t, client)
					p = append([]byte{0x82, 0x80 | byte(len(p)), 0, 0, 0, 0}, p...)
				}
				put(t, client, p)
				var up int
				if err := again(func() (err error) { up, _, err = unix.Accept(broker); return err }); err != nil {
					t.Fatal(err)
				}
				open = append(open, up)
				patience(t, up)
				take(t, up)
				put(t, up, testkit.Connack(mqtt.V311, false, 0))
				take(t, client)
			}
			for i := range warm {
				idle(i)
			}
			before := live()
			for i := range clients {
				idle(warm + i)
			}
			if got := float64(live()-before) / clients; got > c.bytes*1.05 {
				t.Errorf("%.0f bytes for each idle client, want at most %.0f", got, c.bytes)
			} else {
				t.Logf("%.0f bytes for each idle client", got)
			}
		})
	}
}

// live is what of the heap is in use.
func live() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // the first may have left sweeping to do
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// startBare runs a gateway that nobody listens to, with one listener, and
// returns its address.
func startBare(t *testing.T, cfg *config.Config, web bool) unix.Sockaddr {
	t.Helper()
	cfg.Gateway.Listeners = []config.Listener{{Name: "plain", Address: "tcp://127.0.0.1:0"}}
	if web {
		cfg.Gateway.Listeners = []config.Listener{{Name: "web", Address: "ws://127.0.0.1:0/mqtt"}}
	}
	engine, err := policy.Compile(cfg)
	if err != nil {
		t.Fatal(err)
	}
	gate, err := auth.New(cfg, engine, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(gate.Close)
	g, err := New(Options{Config: cfg, Gate: gate})
	if err == nil {
		err = g.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, stop := context.WithTimeout(context.Background(), testkit.Patience)
		defer stop()
		if err := g.Stop(ctx, 0); err != nil {
			t.Error(err)
		}
	})
	return &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: g.Addrs()[0].(*net.TCPAddr).Port}
}

// listening is a bare listener that is closed with the test, and its address.
func listening(t *testing.T) (fd int, addr string) {
	t.Helper()
	fd = socket(t)
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 16); err != nil {
		t.Fatal(err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fd, fmt.Sprintf("127.0.0.1:%d", sa.(*unix.SockaddrInet4).Port)
}

// socket is to be closed.
func socket(t *testing.T) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	patience(t, fd)
	return fd
}

// patience has calls on fd fail that wait too long.
func patience(t *testing.T, fd int) {
	t.Helper()
	most := unix.NsecToTimeval(int64(testkit.Patience))
	for _, which := range []int{unix.SO_RCVTIMEO, unix.SO_SNDTIMEO} {
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, which, &most); err != nil {
			t.Fatal(err)
		}
	}
}

// again makes a system call until no signal interrupts it.
func again(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func put(t *testing.T, fd int, b []byte) {
	t.Helper()
	var n int
	if err := again(func() (err error) { n, err = unix.Write(fd, b); return err }); err != nil || n < len(b) {
		t.Fatalf("wrote %d of %d bytes: %v", n, len(b), err)
	}
}

// take waits for bytes.
func take(t *testing.T, fd int) {
	t.Helper()
	var b [512]byte
	var n int
	if err := again(func() (err error) { n, err = unix.Read(fd, b[:]); return err }); err != nil || n == 0 {
		t.Fatalf("read %d bytes: %v", n, err)
	}
}
