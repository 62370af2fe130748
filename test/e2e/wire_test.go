//go:build e2e

package e2e

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// This file is a second, small reading of the standard: it shares no code with
// the program, so that a mistake there does not hide itself here.

// Protocol levels, as CONNECT writes them.
const (
	v31  byte = 3
	v311 byte = 4
	v5   byte = 5
)

// Packet types, as the first nibble of a packet.
const (
	tConnect    byte = 1
	tConnack    byte = 2
	tPublish    byte = 3
	tPuback     byte = 4
	tPubrec     byte = 5
	tPubrel     byte = 6
	tPubcomp    byte = 7
	tSubscribe  byte = 8
	tSuback     byte = 9
	tUnsub      byte = 10
	tUnsuback   byte = 11
	tPingreq    byte = 12
	tPingresp   byte = 13
	tDisconnect byte = 14
)

// patience bounds every single wait for a peer. It is generous: it is only
// used up when something is broken.
const patience = 2 * time.Minute

func str(s string) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...)
}

func u16(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }

func varint(n int) []byte {
	var b []byte
	for {
		c := byte(n % 128)
		if n /= 128; n > 0 {
			b = append(b, c|0x80)
			continue
		}
		return append(b, c)
	}
}

// pkt frames a packet from its first byte and the parts of its body.
func pkt(first byte, parts ...[]byte) []byte {
	body := slices.Concat(parts...)
	return slices.Concat([]byte{first}, varint(len(body)), body)
}

// props is a property section.
func props(parts ...[]byte) []byte {
	body := slices.Concat(parts...)
	return append(varint(len(body)), body...)
}

// onlyV5 is parts for 5.0, nothing before.
func onlyV5(level byte, parts ...[]byte) []byte {
	if level != v5 {
		return nil
	}
	return slices.Concat(parts...)
}

// conn5 and its like: what a CONNECT says.
type connect struct {
	level     byte
	id        string
	keep      bool // not a clean start
	keepAlive uint16
	user      string
	password  string
	noUser    bool
	will      *message
	props     []byte // 5.0, without their length
}

// message is a PUBLISH or a will.
type message struct {
	topic   string
	payload string
	qos     byte
	retain  bool
	dup     bool
	id      uint16
	props   []byte // 5.0, without their length
}

func (c connect) bytes() []byte {
	name := "MQTT"
	if c.level&0x7f == v31 {
		name = "MQIsdp"
	}
	flags := byte(0)
	if !c.keep {
		flags |= 0x02
	}
	if c.keepAlive == 0 {
		c.keepAlive = 60
	}
	payload := str(c.id)
	if w := c.will; w != nil {
		flags |= 0x04 | w.qos<<3
		if w.retain {
			flags |= 0x20
		}
		payload = slices.Concat(payload, onlyV5(c.level, props(w.props)), str(w.topic), str(w.payload))
	}
	if !c.noUser {
		flags |= 0xC0
		payload = slices.Concat(payload, str(c.user), str(c.password))
	}
	return pkt(tConnect<<4, str(name), []byte{c.level, flags}, u16(c.keepAlive), onlyV5(c.level, props(c.props)), payload)
}

func (m message) bytes(level byte) []byte {
	first := tPublish<<4 | m.qos<<1
	if m.retain {
		first |= 1
	}
	if m.dup {
		first |= 8
	}
	var id []byte
	if m.qos > 0 {
		id = u16(m.id)
	}
	return pkt(first, str(m.topic), id, onlyV5(level, props(m.props)), []byte(m.payload))
}

func subscribe(level byte, id uint16, qos byte, filters ...string) []byte {
	body := slices.Concat(u16(id), onlyV5(level, props()))
	for _, f := range filters {
		body = slices.Concat(body, str(f), []byte{qos})
	}
	return pkt(tSubscribe<<4|2, body)
}

func unsubscribe(level byte, id uint16, filters ...string) []byte {
	body := slices.Concat(u16(id), onlyV5(level, props()))
	for _, f := range filters {
		body = append(body, str(f)...)
	}
	return pkt(tUnsub<<4|2, body)
}

func disconnect() []byte { return []byte{tDisconnect << 4, 0} }

// ack is an acknowledgement with reason 0.
func ack(t byte, id uint16) []byte {
	first := t << 4
	if t == tPubrel {
		first |= 2
	}
	return pkt(first, u16(id))
}

// packet is one that was read.
type packet struct {
	first byte
	body  []byte
	level byte
}

func (p packet) kind() byte { return p.first >> 4 }

func (p packet) String() string { return fmt.Sprintf("type %d % x", p.kind(), p.body) }

// code is the reason or return code of an acknowledgement, CONNACK or
// DISCONNECT: 0 where the packet leaves it out.
func (p packet) code() byte {
	at := 0
	switch p.kind() {
	case tConnack:
		at = 1
	case tPuback, tPubrec, tPubrel, tPubcomp:
		at = 2
	}
	if len(p.body) <= at {
		return 0
	}
	return p.body[at]
}

// id is the packet id of anything but a PUBLISH.
func (p packet) id() uint16 { return binary.BigEndian.Uint16(p.body) }

// codes are those of a SUBACK or UNSUBACK.
func (p packet) codes() []byte {
	rest := p.body[2:]
	if p.level == v5 {
		n, used := readVarint(rest)
		rest = rest[used+n:]
	}
	return rest
}

// message reads a PUBLISH.
func (p packet) message() message {
	m := message{qos: p.first >> 1 & 3, retain: p.first&1 != 0, dup: p.first&8 != 0}
	n := int(binary.BigEndian.Uint16(p.body))
	m.topic = string(p.body[2 : 2+n])
	rest := p.body[2+n:]
	if m.qos > 0 {
		m.id = binary.BigEndian.Uint16(rest)
		rest = rest[2:]
	}
	if p.level == v5 {
		n, used := readVarint(rest)
		m.props = rest[used : used+n]
		rest = rest[used+n:]
	}
	m.payload = string(rest)
	return m
}

func readVarint(b []byte) (n, used int) {
	for shift := 0; ; shift += 7 {
		n |= int(b[used]&0x7f) << shift
		used++
		if b[used-1]&0x80 == 0 {
			return n, used
		}
	}
}

// client is a raw MQTT connection. It is not safe for several goroutines.
type client struct {
	net.Conn
	r     *bufio.Reader
	level byte
}

// wrap makes a client of a connection.
func wrap(conn net.Conn, level byte) *client {
	return &client{Conn: conn, r: bufio.NewReader(conn), level: level}
}

// open connects to tcp://host:port or ws://host:port/path without a word of
// MQTT yet.
func open(t *testing.T, url string, level byte) *client {
	t.Helper()
	conn, err := dialURL(url)
	if err != nil {
		t.Fatalf("dial %s: %v", url, err)
	}
	t.Cleanup(func() { conn.Close() })
	return wrap(conn, level)
}

func dialURL(url string) (net.Conn, error) {
	if addr, ok := strings.CutPrefix(url, "tcp://"); ok {
		return net.DialTimeout("tcp", addr, patience)
	}
	return dialWS(url, wsOptions{protocol: "mqtt"})
}

// login opens, sends CONNECT and returns the client and its CONNACK.
func login(t *testing.T, url string, c connect) (*client, packet) {
	t.Helper()
	cl := open(t, url, c.level)
	cl.send(t, c.bytes())
	p := cl.read(t)
	if p.kind() != tConnack {
		t.Fatalf("%v instead of CONNACK", p)
	}
	return cl, p
}

// mustLogin is login that is admitted.
func mustLogin(t *testing.T, url string, c connect) *client {
	t.Helper()
	cl, p := login(t, url, c)
	if p.code() != 0 {
		t.Fatalf("CONNECT of %s on %s refused with %#x", c.user, url, p.code())
	}
	return cl
}

func (c *client) send(t *testing.T, b ...[]byte) {
	t.Helper()
	c.SetWriteDeadline(time.Now().Add(patience))
	if _, err := c.Write(slices.Concat(b...)); err != nil {
		t.Fatalf("write: %v", err)
	}
}

// next reads one packet or says why there is none.
func (c *client) next() (packet, error) {
	c.SetReadDeadline(time.Now().Add(patience))
	first, err := c.r.ReadByte()
	if err != nil {
		return packet{}, err
	}
	n := 0
	for shift := 0; ; shift += 7 {
		b, err := c.r.ReadByte()
		if err != nil {
			return packet{}, noEOF(err)
		}
		if n |= int(b&0x7f) << shift; b&0x80 == 0 {
			break
		}
	}
	body := make([]byte, n)
	_, err = io.ReadFull(c.r, body)
	return packet{first, body, c.level}, noEOF(err)
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (c *client) read(t *testing.T) packet {
	t.Helper()
	p, err := c.next()
	if err != nil {
		t.Fatalf("read a packet: %v", err)
	}
	return p
}

// expect reads one packet of type kind.
func (c *client) expect(t *testing.T, kind byte) packet {
	t.Helper()
	p := c.read(t)
	if p.kind() != kind {
		t.Fatalf("%v instead of type %d", p, kind)
	}
	return p
}

// ended reads to the end of the connection and returns the packets on the way.
func (c *client) ended(t *testing.T) []packet {
	t.Helper()
	var got []packet
	for {
		p, err := c.next()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("the connection does not end; got %v", got)
		}
		if err != nil {
			return got
		}
		got = append(got, p)
	}
}

// nobody is the reason of success that a broker gives when there is no
// subscriber.
const nobody = 0x10

// publish sends m and returns the reason of its acknowledgement, completing
// QoS 2; 0 also when nobody has subscribed.
func (c *client) publish(t *testing.T, m message) byte {
	t.Helper()
	c.send(t, m.bytes(c.level))
	want := [...]byte{0, tPuback, tPubrec}[m.qos]
	if want == 0 {
		return 0
	}
	p := c.expect(t, want)
	if p.id() != m.id {
		t.Fatalf("acknowledged id %d, not %d", p.id(), m.id)
	}
	if m.qos == 2 && p.code() < 0x80 {
		c.send(t, ack(tPubrel, m.id))
		c.expect(t, tPubcomp)
	}
	if p.code() == nobody {
		return 0
	}
	return p.code()
}

// receive reads the next PUBLISH and acknowledges it, and what is left of those
// before it.
func (c *client) receive(t *testing.T) message {
	t.Helper()
	for {
		p := c.read(t)
		switch p.kind() {
		case tPubrel:
			c.send(t, ack(tPubcomp, p.id()))
		case tPublish:
			m := p.message()
			if m.qos > 0 {
				c.send(t, ack([...]byte{0, tPuback, tPubrec}[m.qos], m.id))
			}
			return m
		default:
			t.Fatalf("%v instead of a delivery", p)
		}
	}
}
