//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"
)

// badBroker accepts one connection after the other and plays its part by hand.
type badBroker struct {
	l    net.Listener
	port int
}

func listenBad(t *testing.T) *badBroker {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return &badBroker{l, l.Addr().(*net.TCPAddr).Port}
}

// serve takes a connection, reads its CONNECT and answers with answer.
func (b *badBroker) serve(t *testing.T, level byte, answer []byte) *client {
	t.Helper()
	b.l.(*net.TCPListener).SetDeadline(time.Now().Add(patience))
	conn, err := b.l.Accept()
	if err != nil {
		t.Fatalf("the program does not dial: %v", err)
	}
	t.Cleanup(func() { conn.Close() })
	c := wrap(conn, level)
	if p := c.read(t); p.kind() != tConnect {
		t.Fatalf("%v instead of CONNECT", p)
	}
	c.send(t, answer)
	return c
}

// welcome is a CONNACK that accepts.
func welcome(level byte, p ...byte) []byte {
	return pkt(0x20, []byte{0, 0}, onlyV5(level, props(p)))
}

// startBad starts the program in front of b, which plays Mosquitto for the
// CONNACKs that start waits for.
func startBad(t *testing.T, b *badBroker) *setup {
	t.Helper()
	done := make(chan struct{})
	go func() { // ends with the two CONNACKs
		defer close(done)
		for range 2 {
			conn, err := b.l.Accept()
			if err != nil {
				return
			}
			c := wrap(conn, v5)
			if _, err := c.next(); err == nil {
				c.Write(welcome(v5))
				c.next()
			}
			conn.Close()
		}
	}()
	s := startFor(t, &broker{port: b.port}, config{})
	<-done
	return s
}

// pair is a client of ours and the broker's end of it.
func pair(t *testing.T, s *setup, b *badBroker, level byte) (c, up *client) {
	t.Helper()
	c = open(t, s.tcp, level)
	c.send(t, as("alice", unique("bad"), level).bytes())
	up = b.serve(t, level, welcome(level))
	if p := c.expect(t, tConnack); p.code() != 0 {
		t.Fatalf("CONNACK %#x", p.code())
	}
	return c, up
}

// TestPoisonedDelivery: a delivery of sound framing and bad content never
// reaches the client, is acknowledged, and harms nothing after it.
func TestPoisonedDelivery(t *testing.T) {
	b := listenBad(t)
	s := startBad(t, b)
	good := func(level byte) []byte { return message{topic: "e2e/good", payload: "good"}.bytes(level) }
	for _, l := range []struct {
		name  string
		level byte
	}{{"3.1.1", v311}, {"5.0", v5}} {
		none := onlyV5(l.level, props())
		for _, c := range []struct {
			name   string
			packet []byte
			ack    byte
		}{
			{"topic with +", pkt(0x32, str("e2e/+"), u16(7), none, []byte("x")), tPuback},
			{"topic empty", pkt(0x32, str(""), u16(7), none, []byte("x")), tPuback},
			{"topic with NUL", pkt(0x34, str("e2e/\x00"), u16(7), none, []byte("x")), tPubrec},
			{"topic not UTF-8", pkt(0x32, str("e2e/\xff"), u16(7), none, []byte("x")), tPuback},
			{"four bytes", []byte{0x31, 2, 0, 9}, 0},
			{"no topic", []byte{0x30, 0}, 0},
		} {
			t.Run(l.name+"/"+c.name, func(t *testing.T) {
				cl, up := pair(t, s, b, l.level)
				up.send(t, c.packet, good(l.level))
				if c.ack != 0 {
					if p := up.expect(t, c.ack); p.id() != 7 {
						t.Errorf("acknowledged %d, want 7", p.id())
					}
				}
				if m := cl.receive(t); m.topic != "e2e/good" || m.payload != "good" {
					t.Errorf("received %q on %q", m.payload, m.topic)
				}
			})
		}
	}
}

// TestBrokenBroker: what cannot be a packet, or is one that a broker does not
// send, ends both legs.
func TestBrokenBroker(t *testing.T) {
	b := listenBad(t)
	s := startBad(t, b)
	for _, c := range []struct {
		name   string
		packet []byte
	}{
		{"length of five bytes", []byte{0x30, 0xFF, 0xFF, 0xFF, 0xFF, 1}},
		{"QoS 3", pkt(0x36, str("e2e/x"), u16(1), props(), []byte("x"))},
		{"CONNECT", as("alice", "x", v5).bytes()},
		{"SUBSCRIBE", subscribe(v5, 1, 0, "e2e/x")},
		{"PINGREQ", []byte{0xC0, 0}},
		{"SUBACK of nothing", pkt(0x90, u16(9), props(), []byte{0})},
		{"second CONNACK", welcome(v5)},
		{"type 0", []byte{0, 0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cl, up := pair(t, s, b, v5)
			up.send(t, c.packet)
			for _, p := range cl.ended(t) {
				if p.kind() != tDisconnect {
					t.Errorf("the client got %v", p)
				}
			}
			up.ended(t)
		})
	}
	t.Run("SUBACK of another length", func(t *testing.T) {
		cl, up := pair(t, s, b, v5)
		cl.send(t, subscribe(v5, 3, 0, "e2e/a", "e2e/b"))
		up.expect(t, tSubscribe)
		up.send(t, pkt(0x90, u16(3), props(), []byte{0}))
		cl.ended(t)
		up.ended(t)
	})
	t.Run("closes its half", func(t *testing.T) {
		cl, up := pair(t, s, b, v5)
		up.Conn.(*net.TCPConn).CloseWrite()
		checkEnd(t, cl.ended(t), v5, 0x8B)
		up.ended(t)
	})
	t.Run("resets", func(t *testing.T) {
		cl, up := pair(t, s, b, v5)
		up.Conn.(*net.TCPConn).SetLinger(0)
		up.Close()
		checkEnd(t, cl.ended(t), v5, 0x8B)
	})
	t.Run("cut inside a delivery", func(t *testing.T) {
		cl, up := pair(t, s, b, v5)
		whole := message{topic: "e2e/cut", payload: "0123456789"}.bytes(v5)
		for n := 1; n < len(whole); n += 3 {
			up.send(t, whole[:n])
			up.Close()
			// A DISCONNECT only where a packet may begin.
			if got := cl.ended(t); len(got) > 1 || len(got) == 1 && got[0].code() != 0x8B {
				t.Errorf("cut at %d: got %v", n, got)
			}
			cl, up = pair(t, s, b, v5)
		}
	})
	t.Run("no CONNACK at all", func(t *testing.T) {
		for name, answer := range map[string][]byte{"PUBLISH": message{topic: "e2e/x"}.bytes(v5), "garbage": []byte("HTTP/1.1 400 Bad Request\r\n")} {
			c := open(t, s.tcp, v5)
			c.send(t, as("alice", unique("bad"), v5).bytes())
			b.serve(t, v5, answer)
			if p := c.expect(t, tConnack); p.code() != 0x88 {
				t.Errorf("%s: CONNACK %#x, want 0x88", name, p.code())
			}
		}
	})
}

// TestConnackMerge: what the client is told is the smaller of the broker's and
// ours, and never another way in.
func TestConnackMerge(t *testing.T) {
	b := listenBad(t)
	s := startBad(t, b)
	c := open(t, s.tcp, v5)
	con := as("alice", unique("merge"), v5)
	con.props = []byte{0x22, 0, 99, 0x21, 0, 33} // Topic Alias Maximum, Receive Maximum
	c.send(t, con.bytes())
	reference := append([]byte{0x1C}, str("around.example")...)
	b.serve(t, v5, welcome(v5, slices.Concat(
		[]byte{0x21, 0, 50}, []byte{0x22, 0, 200}, []byte{0x27, 0, 0, 0x10, 0}, []byte{0x24, 1}, reference, []byte{0x26, 0, 1, 'k', 0, 1, 'v'})...))
	p := c.expect(t, tConnack)
	got := p.body[3:]
	for name, part := range map[string][]byte{
		"Receive Maximum of the broker":     {0x21, 0, 50},
		"Topic Alias Maximum of ours":       {0x22, 0, 16},
		"Maximum Packet Size of the broker": {0x27, 0, 0, 0x10, 0},
		"Maximum QoS of the broker":         {0x24, 1},
		"User Property":                     {0x26, 0, 1, 'k', 0, 1, 'v'},
	} {
		if !bytes.Contains(got, part) {
			t.Errorf("no %s (% x) in % x", name, part, got)
		}
	}
	if bytes.Contains(got, []byte("around")) {
		t.Errorf("Server Reference passed on: % x", got)
	}
	// A redirection is only told as what it means here.
	for code, want := range map[byte]byte{0x9C: 0x88, 0x9D: 0x88, 0x87: 0x87} {
		c := open(t, s.tcp, v5)
		c.send(t, as("alice", unique("merge"), v5).bytes())
		b.serve(t, v5, pkt(0x20, []byte{0, code}, props(reference)))
		p := c.expect(t, tConnack)
		if p.code() != want || bytes.Contains(p.body, []byte("around")) {
			t.Errorf("CONNACK %#x of the broker became %v, want %#x", code, p, want)
		}
	}
}

// TestUpstreamConnect: CONNECT goes up as the client sent it, but for what the
// documentation names.
func TestUpstreamConnect(t *testing.T) {
	b := listenBad(t)
	s := startBad(t, b)
	for _, l := range levels {
		t.Run(l.name, func(t *testing.T) {
			con := as("alice", unique("up"), l.level)
			con.will = &message{topic: "e2e/will", payload: "bye", qos: 2, retain: true}
			con.keepAlive = 77
			want := con
			want.noUser = true // credentials: strip
			c := open(t, s.tcp, l.level)
			c.send(t, con.bytes())
			b.l.(*net.TCPListener).SetDeadline(time.Now().Add(patience))
			conn, err := b.l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			got := wrap(conn, l.level).read(t)
			if g, w := fmt.Sprintf("% x", got.body), fmt.Sprintf("% x", want.bytes()[2:]); l.level != v5 && g != w {
				t.Errorf("went up as\n%s\nwant\n%s", g, w)
			}
			if bytes.Contains(got.body, []byte(password("alice"))) {
				t.Errorf("the password went up: %q", got.body)
			}
		})
	}
}
