package health

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestBoard(t *testing.T) {
	var b Board
	if len(b.Reasons()) != 0 || Sum(b.Reasons(), false) != Healthy {
		t.Errorf("empty: %q", b.Reasons())
	}
	if !b.Set("b", true) || b.Set("b", true) || !b.Set("a", true) || b.Set("c", false) {
		t.Error("news is told wrongly")
	}
	if got := b.Reasons(); !slices.Equal(got, []string{"a", "b"}) || Sum(got, false) != Degraded || Sum(got, true) != Draining {
		t.Errorf("reasons %q", got)
	}
	if !b.Set("a", false) || !slices.Equal(b.Reasons(), []string{"b"}) {
		t.Errorf("reasons %q", b.Reasons())
	}
}

// broker answers each connection with what it is made of; it hears the CONNECT.
func broker(t *testing.T, answer []byte) (url string, heard <-chan []byte) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() }) // the end of a test
	ch := make(chan []byte, 100)
	go func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b := make([]byte, 1<<10)
			n, _ := c.Read(b)
			if _, err := c.Write(answer); err == nil && answer != nil {
				_, _ = io.Copy(io.Discard, c) // until the probe is done
			}
			if answer == nil {
				_, _ = io.Copy(io.Discard, c) // it gives up
			}
			ch <- b[:n]
			c.Close() // the end
		}
	}()
	return "mqtt://" + l.Addr().String(), ch
}

// patience is a time that no probe takes, in milliseconds.
const patience = int(testkit.Patience / time.Millisecond)

func TestProbe(t *testing.T) {
	gone := "mqtt://" + testkit.Refuses(t)
	accept, _ := broker(t, testkit.Connack(mqtt.V311, false, 0))
	refuse, _ := broker(t, testkit.Connack(mqtt.V311, false, 5))
	newer, _ := broker(t, testkit.Connack(mqtt.V5, false, 0x84))
	silent, _ := broker(t, nil)
	http1, _ := broker(t, []byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
	short, _ := broker(t, []byte{0x20, 0})
	for _, c := range []struct{ name, url, want string }{
		{"accepts", accept, ""},
		{"refuses", refuse, ""},
		{"refuses in MQTT 5", newer, ""},
		{"is silent", silent, "no CONNACK within 100ms"},
		{"is no broker", http1, "something else"},
		{"answers nonsense", short, ""},
		{"is not there", gone, "connection refused"},
	} {
		began, limit := time.Now(), patience
		if c.url == silent || c.url == short {
			limit = 100
		}
		err := Probe(t.Context(), &config.Broker{URL: c.url, ProbeTimeoutMS: limit})
		switch {
		case c.name == "answers nonsense":
			if err == nil {
				t.Errorf("%s: no error", c.name)
			}
		case c.want == "" && err != nil, c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
		if took := time.Since(began); took > testkit.Patience/2 {
			t.Errorf("%s: took %v", c.name, took)
		}
	}
}

// TestProbeConnect: what the probe says is a CONNECT with the credentials and
// an id of its own.
func TestProbeConnect(t *testing.T) {
	url, heard := broker(t, testkit.Connack(mqtt.V311, false, 0))
	cfg := config.Broker{URL: url, ProbeTimeoutMS: patience, Username: "health", Password: "secret"}
	var before []byte
	for range 2 {
		if err := Probe(t.Context(), &cfg); err != nil {
			t.Fatal(err)
		}
		got := <-heard
		want := testkit.Connect(mqtt.V311, "probe-0123456789abcdef", testkit.User("health"), testkit.Password("secret"), testkit.KeepAlive(10))
		at := bytes.Index(got, []byte("probe-"))
		if len(got) != len(want) || at < 0 || bytes.Equal(got, before) {
			t.Fatalf("CONNECT %q, want one like %q", got, want)
		}
		copy(want[at:], got[at:at+22])
		if !bytes.Equal(got, want) {
			t.Errorf("CONNECT %x, want %x", got, want)
		}
		before = got
	}
	long := connect(&config.Broker{Username: strings.Repeat("u", 200)})
	if n := int(long[1]&0x7F) | int(long[2])<<7; n != len(long)-3 {
		t.Errorf("remaining length %d of %d", n, len(long))
	}
}

func TestProbeWebSocket(t *testing.T) {
	serve := func(answer []byte) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"mqtt"}})
			if err != nil {
				return
			}
			defer c.CloseNow() // the end
			if _, b, err := c.Read(r.Context()); err != nil || b[0] != 0x10 || c.Subprotocol() != "mqtt" {
				return
			}
			if c.Write(r.Context(), websocket.MessageBinary, answer) == nil {
				c.Read(r.Context()) // DISCONNECT
			}
		}))
		t.Cleanup(s.Close)
		return "ws" + strings.TrimPrefix(s.URL, "http") + "/mqtt"
	}
	if err := Probe(t.Context(), &config.Broker{URL: serve(testkit.Connack(mqtt.V311, false, 0)), ProbeTimeoutMS: patience}); err != nil {
		t.Errorf("over WebSocket: %v", err)
	}
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	if err := Probe(t.Context(), &config.Broker{URL: "ws" + strings.TrimPrefix(plain.URL, "http"), ProbeTimeoutMS: patience}); err == nil {
		t.Error("a web server is taken for a broker")
	}
}

// TestWatch: a broker that goes and comes is seen, and a reload asks another.
func TestWatch(t *testing.T) {
	up, heard := broker(t, testkit.Connack(mqtt.V311, false, 0))
	down := "mqtt://" + testkit.Refuses(t)
	var board Board
	w := NewWatch(&board, slog.New(slog.DiscardHandler))
	defer w.Stop()
	w.Set(config.Broker{})
	testkit.Eventually(t, "no broker, no reason", func() bool { return len(board.Reasons()) == 0 })
	w.Set(config.Broker{URL: down, ProbeIntervalSecs: 1, ProbeTimeoutMS: patience})
	testkit.Eventually(t, "the broker is down", func() bool { return slices.Contains(board.Reasons(), BrokerDown) })
	cfg := config.Broker{URL: up, ProbeIntervalSecs: 3600, ProbeTimeoutMS: patience}
	w.Set(cfg)
	<-heard
	testkit.Eventually(t, "the broker is there", func() bool { return len(board.Reasons()) == 0 })
	w.Set(cfg)
	select {
	case <-heard:
		t.Error("the same configuration asks at once again")
	default:
	}
	w.Set(config.Broker{URL: down, ProbeIntervalSecs: 3600, ProbeTimeoutMS: patience})
	testkit.Eventually(t, "the broker is down", func() bool { return len(board.Reasons()) == 1 })
	w.Stop()
	if r := board.Reasons(); len(r) != 0 {
		t.Errorf("after the end: %q", r)
	}
}
