package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
	"unsafe"

	gorilla "github.com/gorilla/websocket"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/session"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// open connects a 3.1.1 client to a scripted broker.
func (r *rig) open(t *testing.T, s *script, id string) (client, up *net.TCPConn) {
	t.Helper()
	client = r.dialTCP()
	send(t, client, testkit.Connect(mqtt.V311, id))
	up = s.accept()
	expect(t, "broker", up, testkit.Connect(mqtt.V311, id))
	send(t, up, []byte{0x20, 2, 0, 0})
	expect(t, "client", client, []byte{0x20, 2, 0, 0})
	return client, up
}

func serveScript(t *testing.T, transport, text string) (*rig, *script) {
	t.Helper()
	s := newScript(t)
	cfg := parse(t, text)
	cfg.Gateway.IO, cfg.Gateway.Upstreams = transport, brokers(s.addr)
	return start(t, cfg), s
}

// A subscriber that does not read holds up its own broker connection, a bounded
// amount of memory, and nobody else.
func TestSlowSubscriber(t *testing.T) {
	overAll(t, func(t *testing.T, transport string) {
		r, s := serveScript(t, transport, `{`+devRules+`}`)
		client, up := r.open(t, s, "slow")
		packet := testkit.Publish(mqtt.V311, "dev/a", 0, 0, strings.Repeat("x", 5000))
		const packets = 8000
		flooded := make(chan error, 1)
		go func() {
			for range packets {
				if _, err := up.Write(packet); err != nil {
					flooded <- err
					return
				}
			}
			flooded <- nil
		}()
		testkit.Eventually(t, "bytes are kept", func() bool { return r.g.Stats().BufferBytes > 0 })
		other, otherUp := r.open(t, s, "other")
		for range 50 {
			send(t, otherUp, packet)
			expect(t, "the other client", other, packet)
		}
		if n := r.g.Stats().BufferBytes; n > 1<<20 {
			t.Errorf("%d bytes are kept", n)
		}
		for i := range packets {
			got := make([]byte, len(packet))
			if _, err := io.ReadFull(client, got); err != nil || !bytes.Equal(got, packet) {
				t.Fatalf("packet %d differs (%v)", i, err)
			}
		}
		if err := testkit.Receive(t, "the broker", flooded); err != nil {
			t.Error(err)
		}
	})
}

// A client cannot have answers pile up by not reading them.
func TestAnswersNobodyReads(t *testing.T) {
	overAll(t, func(t *testing.T, transport string) {
		r, s := serveScript(t, transport, `{`+devRules+`, "general": {"limits": {"denials-per-minute": 0}}}`)
		client, _ := r.open(t, s, "greedy")
		denied := bytes.Repeat(testkit.Publish(mqtt.V311, "other", 1, 7, ""), 5000)
		_ = client.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
		var written int
		for range 2000 {
			n, err := client.Write(denied)
			if written += n; err != nil {
				break
			}
			if n := r.g.Stats().BufferBytes; n > 1<<20 {
				t.Fatalf("%d bytes are kept after %d written", n, written)
			}
		}
		t.Logf("%d bytes were taken", written)
	})
}

// What all clients together have us keep is bounded by buffer-bytes, and those
// that need nothing kept are served.
func TestBufferBytes(t *testing.T) {
	overAll(t, func(t *testing.T, transport string) {
		const most, each, clients = 128 << 10, 200_000, 8
		r, s := serveScript(t, transport, `{`+devRules+`, "general": {"limits": {"buffer-bytes": 131072}}}`)
		part := append([]byte{0x82, 0xC0, 0x96, 0x31}, make([]byte, each)...) // of a SUBSCRIBE of 805,696 bytes
		var kept int64
		for i := range clients {
			c, _ := r.open(t, s, fmt.Sprint("greedy", i))
			go func() { // ends with the connection
				_, _ = c.Write(part)
			}()
		}
		testkit.Eventually(t, "the bytes are used up", func() bool {
			kept = max(kept, r.g.Stats().BufferBytes)
			return kept >= most
		})
		other, up := r.open(t, s, "other")
		packet := testkit.Publish(mqtt.V311, "dev/a", 0, 0, strings.Repeat("x", 500))
		for range 200 {
			send(t, other, packet)
			expect(t, "broker", up, packet)
			kept = max(kept, r.g.Stats().BufferBytes)
		}
		if kept > each*clients/2 {
			t.Errorf("%d bytes were kept, buffer-bytes is %d", kept, most)
		}
		t.Logf("at most %d bytes were kept", kept)
	})
}

// Messages beyond what the broker takes are kept, and count as what their client
// has us keep; so do the filters of requests that the broker does not answer.
func TestKeptCounts(t *testing.T) {
	overAll(t, func(t *testing.T, transport string) {
		r, s := serveScript(t, transport, `{`+devRules+`}`)
		c, up := r.open(t, s, "c1")
		testkit.Eventually(t, "nothing is kept at first", func() bool { return r.g.Stats().BufferBytes == 0 }) // the CONNACK has gone
		asks := testkit.Subscribe(mqtt.V311, 1, "dev/"+strings.Repeat("x", 900))
		send(t, c, asks)
		expect(t, "broker", up, asks)
		testkit.Eventually(t, "a filter is kept", func() bool { return r.g.Stats().BufferBytes >= 900 })
		send(t, up, testkit.Suback(mqtt.V311, 1, 0))
		expect(t, "client", c, testkit.Suback(mqtt.V311, 1, 0))
		testkit.Eventually(t, "nothing is kept", func() bool { return r.g.Stats().BufferBytes == 0 })

		bounded := testkit.With(testkit.Prop32(mqtt.MaximumPacketSize, 65536), testkit.Prop16(mqtt.TopicAliasMaximum, 5))
		connack := testkit.Connack(mqtt.V5, false, 0, testkit.With(testkit.Prop16(mqtt.ReceiveMaximum, 1), testkit.Prop32(mqtt.MaximumPacketSize, 65536)))
		c5 := r.dialTCP()
		send(t, c5, testkit.Connect(mqtt.V5, "c5", bounded))
		up5 := s.accept()
		expect(t, "broker", up5, testkit.Connect(mqtt.V5, "c5", bounded))
		send(t, up5, connack)
		expect(t, "client", c5, connack)
		first, second := testkit.Publish(mqtt.V5, "dev/a", 2, 1, "x"), testkit.Publish(mqtt.V5, "dev/a", 2, 2, strings.Repeat("x", 20_000))
		send(t, c5, first)
		expect(t, "broker", up5, first)
		send(t, c5, second)
		testkit.Eventually(t, "a message is kept", func() bool { return r.g.Stats().BufferBytes >= 20_000 })
		send(t, up5, testkit.Ack(mqtt.V5, mqtt.PUBREC, 1, byte(mqtt.UnspecifiedError)))
		expect(t, "broker", up5, second)
		testkit.Eventually(t, "nothing is kept", func() bool { return r.g.Stats().BufferBytes == 0 })
	})
}

// A few that have us keep all of buffer-bytes hold up nobody's ordinary packets,
// and not for long those that need more; in the end they go, and the audit says
// why. Strangers alone cannot use it up.
func TestBufferBytesOfAFew(t *testing.T) {
	overAll(t, func(t *testing.T, transport string) {
		const most = 1 << 20
		r, s := serveScript(t, transport, `{`+devRules+`, "gateway": {"write-stall-secs": 1}, "general": {"limits": {"buffer-bytes": 1048576}}}`)
		stranger := testkit.Connect(mqtt.V311, "s", testkit.User(strings.Repeat("u", 65_000)), testkit.Password(strings.Repeat("p", 60_000)))
		for range 8 {
			send(t, r.dialTCP(), stranger[:len(stranger)-10])
		}
		// Either is so, or was: a machine that stands still uses up their second.
		uses := func(n int64) func() bool {
			return func() bool { return r.g.Stats().BufferBytes >= n || r.audited("buffer-bytes") > 0 }
		}
		testkit.Eventually(t, "the strangers' part is used up", uses(most/4))
		victim, up := r.open(t, s, "victim")
		var filters []string
		for i := range 1000 {
			filters = append(filters, fmt.Sprintf("dev/%0100d", i))
		}
		large := testkit.Subscribe(mqtt.V311, 1, filters...)
		send(t, victim, large[:50_000])
		testkit.Eventually(t, "half of it is kept", uses(most/4+50_000))
		send(t, victim, large[50_000:])
		expect(t, "the victim's broker", up, large)
		if n := r.g.Stats().BufferBytes; n > most {
			t.Errorf("strangers have us keep %d bytes", n)
		}
		part := append([]byte{0x82, 0xC0, 0x96, 0x31}, make([]byte, 500_000)...) // of a SUBSCRIBE of 805,696 bytes
		for i := range 4 {
			c, _ := r.open(t, s, fmt.Sprint("greedy", i))
			go func() { // ends with the connection
				_, _ = c.Write(part)
			}()
		}
		testkit.Eventually(t, "the bytes are used up", uses(most))
		connect := testkit.Connect(mqtt.V311, "late")
		late := r.dialTCP()
		send(t, late, connect[:5])
		send(t, late, connect[5:])
		expect(t, "broker", s.accept(), connect)
		large = testkit.Subscribe(mqtt.V311, 2, filters...)
		send(t, victim, large)
		expect(t, "the victim's broker", up, large)
		found := map[string]bool{}
		testkit.Eventually(t, "the audit says why", func() bool {
			r.mu.Lock()
			defer r.mu.Unlock()
			for _, e := range r.events {
				if e.Rule == "buffer-bytes" && e.Reason == "limit-exceeded" && e.Decision == "close" {
					found[e.Event] = true
				}
			}
			return len(found) >= 2
		})
		if !found["mqtt,blocked,limit-exceeded"] || !found["mqtt,disconnect"] {
			t.Errorf("audited %v", found)
		}
	})
}

// A CONNECT over connect-bytes closes a WebSocket with the code for it.
func TestWebSocketTooLarge(t *testing.T) {
	overAll(t, func(t *testing.T, transport string) {
		r, _ := serveScript(t, transport, `{`+devRules+`, "general": {"limits": {"connect-bytes": 100}}}`)
		ws := dialGorilla(t, r.g.Addrs()[1].String())
		if err := ws.WriteMessage(gorilla.BinaryMessage, testkit.Connect(mqtt.V311, string(bytes.Repeat([]byte("c"), 120)))); err != nil {
			t.Fatal(err)
		}
		_, _, err := ws.ReadMessage()
		var ce *gorilla.CloseError
		if !errors.As(err, &ce) || ce.Code != int(wsTooLarge) {
			t.Errorf("closed with %v, want %d", err, wsTooLarge)
		}
	})
}

// A panic ends one client, frees what it held, and is counted.
func TestPanic(t *testing.T) {
	overAll(t, func(t *testing.T, transport string) {
		r, s := serveScript(t, transport, `{`+devRules+`}`)
		r.panics = 1
		well, wellUp := r.open(t, s, "well")
		ill, illUp := r.open(t, s, "ill")
		r.drivers(func(d *driver) {
			if d.s.Subject().Identity().ClientID == "ill" {
				d.sides[mqtt.Client].Post(func() { panic("a bug") })
			}
		})
		expectEnd(t, "the client", ill)
		expectEnd(t, "its broker connection", illUp)
		testkit.Eventually(t, "it is forgotten", func() bool {
			st := r.g.Stats()
			return st.Connected == 1 && st.Panics == 1 && r.g.Brokers()[0].Open() == 1
		})
		send(t, well, []byte{0xC0, 0})
		expect(t, "the other's broker", wellUp, []byte{0xC0, 0})
		r.open(t, s, "ill") // its client id is free again
	})
}

// The broker's end of a connection that the client broke off comes at once, so
// that the will is published.
func TestClientLost(t *testing.T) {
	overAll(t, func(t *testing.T, transport string) {
		r, s := serveScript(t, transport, `{`+devRules+`}`)
		client, up := r.open(t, s, "c")
		last := testkit.Publish(mqtt.V311, "dev/last", 0, 0, strings.Repeat("w", 100_000))
		send(t, client, last)
		client.Close()
		expect(t, "broker", up, last)
		expectEnd(t, "broker", up)
	})
}

// A client that we do not read because its broker takes nothing is not silent.
func TestBackPressureIsNoSilence(t *testing.T) {
	t.Parallel()
	overAll(t, func(t *testing.T, transport string) {
		r, s := serveScript(t, transport, `{`+devRules+`}`)
		testkit.Awake(t, func() error { return r.pressed(s) }) // before and after it may be silent
	})
}

// pressed connects a client with a keep-alive of a second, whose broker takes
// nothing for longer than that, and then all.
func (r *rig) pressed(s *script) error {
	testkit.Eventually(r.t, "the one before is gone", func() bool { return r.g.Stats().Open == 0 })
	connect := testkit.Connect(mqtt.V311, "c", testkit.KeepAlive(1))
	client := r.dialTCP()
	defer client.Close()
	if _, err := client.Write(connect); err != nil {
		return err
	}
	up := s.accept()
	defer up.Close()
	if _, err := up.Write([]byte{0x20, 2, 0, 0}); err != nil {
		return err
	}
	if _, err := io.ReadFull(client, make([]byte, 4)); err != nil {
		return fmt.Errorf("CONNACK: %w", err)
	}
	packet := testkit.Publish(mqtt.V311, "dev/a", 0, 0, strings.Repeat("x", 50_000))
	const packets = 400
	sent := make(chan error, 1)
	go func() {
		_, err := client.Write(bytes.Repeat(packet, packets))
		sent <- err
	}()
	testkit.Eventually(r.t, "bytes are kept, or all is over", func() bool {
		s := r.g.Stats()
		return s.BufferBytes > 0 || s.Connected == 0
	})
	<-time.After(2800 * time.Millisecond) // longer than one and a half keep-alives, and a slot
	got := make([]byte, len(packet))
	if _, err := io.ReadFull(up, got[:len(connect)]); err != nil {
		return fmt.Errorf("CONNECT: %w", err)
	}
	for n := range packets {
		// A PINGREQ of the gateway's own may stand between.
		for got[0] = 0xC0; got[0] == 0xC0; {
			if _, err := io.ReadFull(up, got[:2]); err != nil {
				return fmt.Errorf("after %d packets: %w", n, err)
			}
		}
		if _, err := io.ReadFull(up, got[2:]); err != nil || !bytes.Equal(got, packet) {
			return fmt.Errorf("packet %d differs (%w)", n, err)
		}
	}
	return testkit.Receive(r.t, "the client", sent)
}

// A client that sends more packets than it may is ended, whatever comes in one
// piece, and the audit says why.
func TestPacketsPerSecond(t *testing.T) {
	overAll(t, func(t *testing.T, transport string) {
		r, s := serveScript(t, transport, `{`+devRules+`, "general": {"limits": {"packets-per-second": 3}}}`)
		client, up := r.open(t, s, "c")
		_, _ = client.Write(bytes.Repeat([]byte{0xC0, 0}, 1000)) // five minutes of it
		got, _ := io.ReadAll(up)
		if len(got) >= 2*1000 {
			t.Errorf("all of them passed")
		}
		testkit.Eventually(t, "the audit says why", func() bool { return r.audited("packets-per-second") >= 2 })
	})
}

// A client id belongs to who is connected with it, until then.
func TestClientIDIsFreed(t *testing.T) {
	overAll(t, func(t *testing.T, transport string) {
		r, s := serveScript(t, transport, `{`+devRules+`}`)
		as := func(user string) []byte { return testkit.Connect(mqtt.V311, "id", testkit.User(user)) }
		ann := r.dialTCP()
		send(t, ann, as("ann"))
		up := s.accept()
		expect(t, "broker", up, as("ann"))
		send(t, up, []byte{0x20, 2, 0, 0})
		expect(t, "ann", ann, []byte{0x20, 2, 0, 0})
		bob := r.dialTCP()
		send(t, bob, as("bob"))
		expect(t, "bob, while ann is there", bob, []byte{0x20, 2, 0, 2})
		ann.Close()
		expectEnd(t, "broker", up)
		bob = r.dialTCP()
		send(t, bob, as("bob"))
		expect(t, "broker", s.accept(), as("bob"))
	})
}

func TestCloseCode(t *testing.T) {
	for c := session.CauseClientDisconnect; c <= session.CauseInternal; c++ {
		if code := closeCode(session.End{Cause: c}); code < 1000 || code > 1014 {
			t.Errorf("cause %d closes with %d", c, code)
		}
	}
}

// There are very many idle clients.
func TestSizes(t *testing.T) {
	for name, c := range map[string]struct{ got, most uintptr }{
		"driver": {unsafe.Sizeof(driver{}), 352},
		"wsConn": {unsafe.Sizeof(wsConn{}), 80},
	} {
		if c.got > c.most {
			t.Errorf("%s takes %d bytes, want at most %d", name, c.got, c.most)
		}
	}
}
