package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	gorilla "github.com/gorilla/websocket"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/netloop"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// inside is a handler within the WebSocket layer: it echoes lines.
type inside struct {
	client netloop.Conn
	closed chan error
}

func (h *inside) Data(c netloop.Conn, b []byte) []byte {
	for {
		n := bytes.IndexByte(b, '\n') + 1
		switch line := string(b[:n]); {
		case n == 0:
			return b
		case line == "bye\n":
			c.Finish(nil)
			return nil
		case line == "policy\n":
			c.(*wsConn).code = wsPolicy
			c.Finish(nil)
			return nil
		case line == "three\n":
			c.Write(bytes.Repeat([]byte{0xd0, 0}, 3))
			return b[n:]
		case line == "pause\n":
			c.Pause()
			c.Post(c.Resume)
			return b[n:]
		}
		c.Write(b[:n])
		b = b[n:]
	}
}

func (h *inside) Connected(netloop.Conn, error)    {}
func (h *inside) Held(netloop.Conn, bool)          {}
func (h *inside) Timer(c netloop.Conn)             { c.Finish(nil); h.closed <- errors.New("timer") }
func (h *inside) Closed(_ netloop.Conn, err error) { h.closed <- err }

// webServer runs a WebSocket layer with inside behind it and returns its
// address and what its handlers are told.
func webServer(t *testing.T, transport string, timeout time.Duration) (string, chan error) {
	t.Helper()
	e, err := netloop.New(netloop.Options{IO: transport, Local: func() any { return new(local) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		e.Close()
		if s := e.Stats(); s.Open != 0 || s.BufferBytes != 0 || s.Panics != 0 {
			t.Errorf("left after Close: %+v", s)
		}
	})
	nl, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := make(chan error, 16)
	rules := &upgradeRules{path: "/mqtt"}
	if _, err := e.Serve(nl, func(c netloop.Conn, _ netip.AddrPort) netloop.Handler {
		if timeout > 0 {
			c.SetTimer(c.Now() + int64(timeout))
		}
		h := &inside{closed: closed}
		w := &wsConn{Conn: c, inner: h, rules: rules}
		h.client = w
		return w
	}); err != nil {
		t.Fatal(err)
	}
	return nl.Addr().String(), closed
}

func TestWebSocketWithCoder(t *testing.T) {
	overAll(t, func(t *testing.T, transport string) {
		addr, closed := webServer(t, transport, 0)
		ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
		defer cancel()
		for _, mode := range []websocket.CompressionMode{websocket.CompressionDisabled, websocket.CompressionContextTakeover} {
			c, resp, err := websocket.Dial(ctx, "ws://"+addr+"/mqtt", &websocket.DialOptions{
				Subprotocols: []string{"other", "mqtt"}, CompressionMode: mode, HTTPClient: webClient(t),
			})
			if err != nil {
				t.Fatal(err)
			}
			if got := resp.Header.Get("Sec-WebSocket-Extensions"); got != "" || c.Subprotocol() != "mqtt" {
				t.Errorf("negotiated %q and %q", got, c.Subprotocol())
			}
			c.SetReadLimit(-1)
			for _, n := range []int{1, 124, 125, 126, 127, 1000, 65534, 65535, 65536, 65537, 300_000} {
				line := append(bytes.Repeat([]byte("x"), n-1), '\n')
				done := make(chan error, 1)
				go func() { done <- c.Write(ctx, websocket.MessageBinary, line) }()
				var got []byte
				for len(got) < n {
					_, b, err := c.Read(ctx)
					if err != nil {
						t.Fatal(err)
					}
					got = append(got, b...)
				}
				if !bytes.Equal(got, line) {
					t.Fatalf("%d bytes: the echo differs", n)
				}
				if err := testkit.Receive(t, "write", done); err != nil {
					t.Fatal(err)
				}
			}
			pinged := make(chan error, 1)
			go func() { pinged <- c.Ping(ctx) }()
			go func() { _ = c.Write(ctx, websocket.MessageBinary, []byte("pause\nafter\n")) }()
			var after []byte
			for len(after) < len("after\n") {
				_, b, err := c.Read(ctx)
				if err != nil {
					t.Fatal(err)
				}
				after = append(after, b...)
			}
			if string(after) != "after\n" {
				t.Errorf("got %q", after)
			}
			reading := make(chan error, 1)
			go func() { _, _, err := c.Read(ctx); reading <- err }()
			if err := testkit.Receive(t, "the pong", pinged); err != nil {
				t.Errorf("ping: %v", err)
			}
			if err := c.Close(websocket.StatusNormalClosure, "done"); err != nil {
				t.Errorf("close: %v", err)
			}
			if err := testkit.Receive(t, "the end inside", closed); !errors.Is(err, io.EOF) {
				t.Errorf("inside: %v, want %v", err, io.EOF)
			}
			testkit.Receive(t, "the reader", reading)
		}
	})
}

// TestPacketsInFramesOfTheirOwn: what is written together still comes a packet a
// frame, for clients that read no further than the first in each.
func TestPacketsInFramesOfTheirOwn(t *testing.T) {
	overAll(t, func(t *testing.T, transport string) {
		addr, _ := webServer(t, transport, 0)
		c := dialGorilla(t, addr)
		if err := c.WriteMessage(gorilla.BinaryMessage, []byte("three\n")); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if _, b, err := c.ReadMessage(); !bytes.Equal(b, []byte{0xd0, 0}) || err != nil {
				t.Fatalf("got % x, %v", b, err)
			}
		}
	})
}

func TestWebSocketClosedFromInside(t *testing.T) {
	overAll(t, func(t *testing.T, transport string) {
		addr, _ := webServer(t, transport, 0)
		for line, want := range map[string]int{"bye\n": 1000, "policy\n": 1008} {
			c := dialGorilla(t, addr)
			if err := c.WriteMessage(gorilla.BinaryMessage, []byte("one\n"+line+"never\n")); err != nil {
				t.Fatal(err)
			}
			if _, b, err := c.ReadMessage(); string(b) != "one\n" || err != nil {
				t.Errorf("got %q, %v", b, err)
			}
			_, _, err := c.ReadMessage()
			var ce *gorilla.CloseError
			if !errors.As(err, &ce) || ce.Code != want {
				t.Errorf("%q: closed with %v, want %d", line, err, want)
			}
		}
	})
}

func dialGorilla(t *testing.T, addr string) *gorilla.Conn {
	t.Helper()
	d := gorilla.Dialer{Subprotocols: []string{"mqtt"}}
	c, _, err := d.Dial("ws://"+addr+"/mqtt", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetReadDeadline(time.Now().Add(testkit.Patience))
	return c
}

// Broken streams are answered with the code for them, after what was good.
func TestWebSocketErrors(t *testing.T) {
	overAll(t, func(t *testing.T, transport string) {
		addr, closed := webServer(t, transport, 0)
		for _, c := range []struct {
			name string
			send []byte
			code int
		}{
			{"text", clientFrame(true, opText, []byte("x\n"), 1), 1003},
			{"compressed", []byte{0xC2, 0x80, 0, 0, 0, 0}, 1002},
			{"not masked", []byte{0x82, 1, 'x'}, 1002},
			{"close with a wrong code", clientFrame(true, opClose, []byte{0, 1}, 1), 1002},
			{"close without code", clientFrame(true, opClose, nil, 1), 1000},
			{"close with a code", clientFrame(true, opClose, []byte{0x0F, 0xA0}, 1), 4000},
			{"frames after close", append(clientFrame(true, opClose, nil, 1), clientFrame(true, opBinary, []byte("late\n"), 1)...), 1000},
		} {
			ws := dialGorilla(t, addr)
			if _, err := ws.NetConn().Write(append(clientFrame(true, opBinary, []byte("good\n"), 9), c.send...)); err != nil {
				t.Fatal(err)
			}
			if _, b, err := ws.ReadMessage(); string(b) != "good\n" || err != nil {
				t.Errorf("%s: got %q, %v", c.name, b, err)
			}
			_, _, err := ws.ReadMessage()
			var ce *gorilla.CloseError
			if !errors.As(err, &ce) || ce.Code != c.code {
				t.Errorf("%s: closed with %v, want %d", c.name, err, c.code)
			}
			testkit.Receive(t, "the end inside", closed)
		}
	})
}

// Upgrade and frames, cut at every byte.
func TestWebSocketCutAtEveryByte(t *testing.T) {
	overAll(t, func(t *testing.T, transport string) {
		addr, _ := webServer(t, transport, 0)
		head := request(get)
		stream := []byte(head)
		stream = append(stream, clientFrame(false, opBinary, []byte("he"), 0x11223344)...)
		stream = append(stream, clientFrame(true, opPing, []byte("!"), 3)...)
		stream = append(stream, clientFrame(true, opContinuation, []byte("llo\nbye\n"), 0x55667788)...)
		for cut := range len(stream) + 1 {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			_ = c.SetDeadline(time.Now().Add(testkit.Patience))
			send(t, c, stream[:cut])
			send(t, c, stream[cut:])
			got, err := io.ReadAll(c)
			c.Close()
			text := string(got)
			_, frames, ok := strings.Cut(text, "\r\n\r\n")
			pong, line, bye := "\x8a\x01!", "\x82\x06hello\n", "\x88\x02\x03\xe8"
			if !ok || !strings.HasPrefix(text, "HTTP/1.1 101 ") || err != nil ||
				strings.Replace(frames, pong, "", 1) != line+bye { // the pong may come before, between, or too late
				t.Fatalf("cut at %d: got %q, %v", cut, text, err)
			}
		}
	})
}

func TestUpgradeRefusedOnTheWire(t *testing.T) {
	overAll(t, func(t *testing.T, transport string) {
		addr, closed := webServer(t, transport, 0)
		for _, c := range []struct{ name, send, status string }{
			{"another path", request("GET / HTTP/1.1"), "404"},
			{"no protocol", request(get, "Sec-WebSocket-Protocol:"), "400"},
			{"MQTT", "\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00", "400"},
			{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "400"},
			{"endless head", "GET /mqtt HTTP/1.1\r\n" + strings.Repeat("X: "+strings.Repeat("y", 100)+"\r\n", 100), "431"},
			{"endless line", "GET /" + strings.Repeat("x", 10_000), "431"},
		} {
			nc, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			_ = nc.SetDeadline(time.Now().Add(testkit.Patience))
			send(t, nc, []byte(c.send))
			got, err := io.ReadAll(nc)
			nc.Close()
			if err != nil || !strings.HasPrefix(string(got), "HTTP/1.1 "+c.status+" ") {
				t.Errorf("%s: got %q, %v; want %s", c.name, got, err, c.status)
			}
			var no *refusal
			if err := testkit.Receive(t, "the end inside", closed); !errors.As(err, &no) || fmt.Sprint(no.status) != c.status {
				t.Errorf("%s: inside %v", c.name, err)
			}
		}
	})
}

// A client that sends its request by drips runs into the time to connect.
func TestSlowUpgrade(t *testing.T) {
	overAll(t, func(t *testing.T, transport string) {
		addr, closed := webServer(t, transport, 100*time.Millisecond)
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		_ = nc.SetDeadline(time.Now().Add(testkit.Patience))
		send(t, nc, []byte("GET /mqtt HT"))
		if got, err := io.ReadAll(nc); err != nil || !strings.HasPrefix(string(got), "HTTP/1.1 408 ") {
			t.Errorf("got %q, %v", got, err)
		}
		testkit.Receive(t, "the timer", closed)
	})
}

// The Zentinel proxy loses a WebSocket whose 101 comes too soon. What the client
// has sent meanwhile is not lost, and it may go away meanwhile.
func TestUpgradeThroughZentinel(t *testing.T) {
	overAll(t, func(t *testing.T, transport string) {
		addr, closed := webServer(t, transport, 0)
		dial := func() net.Conn {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			_ = c.SetDeadline(time.Now().Add(testkit.Patience))
			send(t, c, []byte(request(get, "X-Forwarded-By: Zentinel")))
			return c
		}
		started := time.Now()
		c := dial()
		send(t, c, clientFrame(true, opBinary, []byte("hello\nbye\n"), 1))
		first := make([]byte, 1)
		if _, err := io.ReadFull(c, first); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(started); took < zentinelPause-time.Millisecond {
			t.Errorf("answered after %v", took)
		}
		rest, err := io.ReadAll(c)
		if got := string(first) + string(rest); err != nil || !strings.HasPrefix(got, "HTTP/1.1 101 ") || !strings.HasSuffix(got, "\r\n\r\n\x82\x06hello\n\x88\x02\x03\xe8") {
			t.Errorf("got %q, %v", got, err)
		}
		dial().Close()
		testkit.Receive(t, "the end inside", closed)
	})
}

// Many pings at once are answered with one pong: nobody can have us write more
// often than we read.
func TestPingFlood(t *testing.T) {
	overAll(t, func(t *testing.T, transport string) {
		addr, _ := webServer(t, transport, 0)
		ws := dialGorilla(t, addr)
		pongs := 0
		last := ""
		ws.SetPongHandler(func(s string) error { pongs++; last = s; return nil })
		var flood []byte
		for i := range 3000 {
			flood = append(flood, clientFrame(true, opPing, fmt.Appendf(nil, "%d", i), uint32(i))...)
		}
		flood = append(flood, clientFrame(true, opBinary, []byte("end\n"), 1)...)
		flood = append(flood, clientFrame(true, opPing, []byte("very last"), 1)...)
		flood = append(flood, clientFrame(true, opBinary, []byte("bye\n"), 1)...)
		if _, err := ws.NetConn().Write(flood); err != nil {
			t.Fatal(err)
		}
		for {
			if _, _, err := ws.ReadMessage(); err != nil {
				break
			}
		}
		if pongs > 50 {
			t.Errorf("%d pongs for 3001 pings in one write (the last %q)", pongs, last)
		}
	})
}
