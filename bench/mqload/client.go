//go:build linux

package main

// The MQTT 3.1.1 / 5 client side: addresses, dialling, WebSocket framing and
// the few packets a load tool needs. Nothing here allocates per message.

import (
	"bufio"
	"crypto/rand"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

// MQTT packet types.
const (
	ptConnect = 1 + iota
	ptConnack
	ptPublish
	ptPuback
	ptPubrec
	ptPubrel
	ptPubcomp
	ptSubscribe
	ptSuback
	ptUnsubscribe
	ptUnsuback
	ptPingreq
	ptPingresp
	ptDisconnect
)

type target struct {
	Name, URL  string
	addr, path string
	ws, tls    bool
}

// parseTarget reads NAME=URL (or a bare URL). Only loopback hosts are taken:
// this is a load generator.
func parseTarget(s string) (target, error) {
	t := target{Name: s, URL: s}
	if name, u, ok := strings.Cut(s, "="); ok && !strings.Contains(name, "://") {
		t.Name, t.URL = name, u
	}
	u, err := url.Parse(t.URL)
	if err != nil {
		return t, err
	}
	port := map[string]string{"tcp": "1883", "mqtt": "1883", "tls": "8883", "mqtts": "8883", "ws": "80", "wss": "443"}[u.Scheme]
	if port == "" {
		return t, fmt.Errorf("target %s: unknown scheme %q (tcp, tls, ws, wss)", s, u.Scheme)
	}
	if u.Port() != "" {
		port = u.Port()
	}
	t.tls = u.Scheme == "tls" || u.Scheme == "mqtts" || u.Scheme == "wss"
	t.ws = u.Scheme == "ws" || u.Scheme == "wss"
	t.addr, t.path = net.JoinHostPort(u.Hostname(), port), u.RequestURI()
	ips, err := net.LookupIP(u.Hostname())
	if err != nil {
		return t, err
	}
	for _, ip := range ips {
		if !ip.IsLoopback() {
			return t, fmt.Errorf("target %s: %s is not a loopback address; mqload only loads this machine", s, ip)
		}
	}
	return t, nil
}

// connOpts are the settings every connection of a command shares.
type connOpts struct {
	proto      int // 4 or 5
	user, pass string
	insecure   bool
	roots      *x509.CertPool
	keepalive  int
	bufSize    int
	timeout    time.Duration
}

func (o *connOpts) loadCA(file string) error {
	if file == "" {
		return nil
	}
	pem, err := os.ReadFile(file)
	if err == nil {
		o.roots = x509.NewCertPool()
		if !o.roots.AppendCertsFromPEM(pem) {
			err = fmt.Errorf("no certificate in %s", file)
		}
	}
	return err
}

// framer writes MQTT packets as they go on the wire: as they are on TCP, or
// one masked binary frame each on WebSocket. One framer per writing goroutine.
type framer struct {
	ws  bool
	key uint32
}

// open appends the frame header for an n byte packet; the caller then appends
// exactly n bytes and calls seal on them.
func (f *framer) open(dst []byte, n int) []byte {
	if !f.ws {
		return dst
	}
	f.key = f.key*1664525 + 1013904223
	dst = append(dst, 0x82)
	switch {
	case n < 126:
		dst = append(dst, 0x80|byte(n))
	case n < 1<<16:
		dst = binary.BigEndian.AppendUint16(append(dst, 0x80|126), uint16(n))
	default:
		dst = binary.BigEndian.AppendUint64(append(dst, 0x80|127), uint64(n))
	}
	return binary.LittleEndian.AppendUint32(dst, f.key)
}

func (f *framer) seal(p []byte) {
	if f.ws {
		maskXor(p, f.key)
	}
}

func (f *framer) append(dst []byte, pkt ...byte) []byte {
	dst = append(f.open(dst, len(pkt)), pkt...)
	f.seal(dst[len(dst)-len(pkt):])
	return dst
}

func maskXor(p []byte, key uint32) {
	k := uint64(key) | uint64(key)<<32
	for len(p) >= 8 {
		binary.LittleEndian.PutUint64(p, binary.LittleEndian.Uint64(p)^k)
		p = p[8:]
	}
	for i := range p {
		p[i] ^= byte(k >> (8 * (i & 3)))
	}
}

// client is one MQTT connection.
type client struct {
	framer
	nc      net.Conn
	raw     net.Conn // the TCP connection below nc
	proto   int
	recvMax int // the server's Receive Maximum
	wmu     sync.Mutex
	buf     []byte // MQTT bytes, unread part is buf[r:w]
	r, w    int
	in      *wsReader
}

func dial(t target, o *connOpts, source net.IP) (*client, error) {
	d := net.Dialer{Timeout: o.timeout}
	if source != nil {
		d.LocalAddr = &net.TCPAddr{IP: source}
		d.Control = func(_, _ string, rc syscall.RawConn) error { // choose the port at connect: 64k per destination
			return rc.Control(func(fd uintptr) { syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, 24, 1) })
		}
	}
	nc, err := d.Dial("tcp", t.addr)
	if err != nil {
		return nil, err
	}
	nc.SetDeadline(time.Now().Add(o.timeout))
	c := &client{nc: nc, raw: nc, proto: o.proto, recvMax: 65535, buf: make([]byte, max(o.bufSize, 256))}
	if t.tls {
		host, _, _ := net.SplitHostPort(t.addr)
		tc := tls.Client(nc, &tls.Config{ServerName: host, InsecureSkipVerify: o.insecure, RootCAs: o.roots})
		if err := tc.Handshake(); err != nil {
			nc.Close()
			return nil, err
		}
		c.nc = tc
	}
	if t.ws {
		if err := c.upgrade(t, o); err != nil {
			nc.Close()
			return nil, err
		}
	}
	return c, nil
}

func (c *client) upgrade(t target, o *connOpts) error {
	var nonce [20]byte
	rand.Read(nonce[:])
	key := base64.StdEncoding.EncodeToString(nonce[:16])
	fmt.Fprintf(c.nc, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n", t.path, t.addr, key)
	br := bufio.NewReaderSize(c.nc, 4096)
	resp, err := http.ReadResponse(br, &http.Request{Method: http.MethodGet})
	if err != nil {
		return fmt.Errorf("websocket handshake: %w", err)
	}
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	if resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Sec-WebSocket-Accept") != base64.StdEncoding.EncodeToString(sum[:]) {
		return fmt.Errorf("websocket handshake refused: %s", resp.Status)
	}
	if p := resp.Header.Get("Sec-WebSocket-Protocol"); p != "mqtt" {
		return fmt.Errorf("websocket subprotocol %q, want mqtt", p)
	}
	c.framer = framer{ws: true, key: binary.LittleEndian.Uint32(nonce[16:])}
	c.in = &wsReader{c: c, buf: make([]byte, max(o.bufSize, 256))}
	c.in.w = copy(c.in.buf, must(br.Peek(br.Buffered())))
	return nil
}

func must[T any](v T, _ error) T { return v }

// wsReader turns server frames back into the MQTT byte stream. Packets may be
// split over frames and frames may hold several packets.
type wsReader struct {
	c    *client
	buf  []byte
	r, w int
	left int  // payload bytes left of the current frame
	op   byte // its opcode
	ctl  []byte
}

func (s *wsReader) Read(p []byte) (n int, err error) {
	for n < len(p) {
		if s.left == 0 {
			ok, err := s.header()
			if err != nil {
				return n, err
			}
			if ok {
				continue
			}
		} else if s.r < s.w {
			k := min(s.left, s.w-s.r)
			if s.op >= 8 {
				s.ctl = append(s.ctl, s.buf[s.r:s.r+k]...)
			} else {
				k = copy(p[n:], s.buf[s.r:s.r+k])
				n += k
			}
			s.r += k
			if s.left -= k; s.left == 0 && s.op == 9 {
				f := framer{ws: true}
				pong := f.append(nil, s.ctl...)
				pong[0] = 0x8a
				s.c.write(pong)
			}
			continue
		}
		if n > 0 {
			return n, nil
		}
		s.w = copy(s.buf, s.buf[s.r:s.w])
		s.r = 0
		k, err := s.c.nc.Read(s.buf[s.w:])
		if s.w += k; k == 0 && err != nil {
			return 0, err
		}
	}
	return n, nil
}

// header reads one frame header; false means more bytes are needed.
func (s *wsReader) header() (bool, error) {
	b := s.buf[s.r:s.w]
	if len(b) < 2 {
		return false, nil
	}
	n, size := int(b[1]&0x7f), 2
	switch n {
	case 126:
		size = 4
	case 127:
		size = 10
	}
	if len(b) < size {
		return false, nil
	}
	switch size {
	case 4:
		n = int(binary.BigEndian.Uint16(b[2:]))
	case 10:
		n = int(binary.BigEndian.Uint64(b[2:]))
	}
	s.op, s.left, s.ctl = b[0]&15, n, s.ctl[:0]
	s.r += size
	switch {
	case b[1]&0x80 != 0:
		return false, errors.New("websocket: masked frame from the server")
	case s.op == 1:
		return false, errors.New("websocket: text frame from the server")
	case s.op == 8:
		return false, io.EOF
	}
	return true, nil
}

// fill reads more bytes; next then yields the packets in them.
func (c *client) fill() (err error) {
	if c.r > 0 {
		c.w = copy(c.buf, c.buf[c.r:c.w])
		c.r = 0
	}
	if c.w == len(c.buf) {
		c.buf = append(c.buf, make([]byte, len(c.buf))...)
	}
	var n int
	if c.in != nil {
		n, err = c.in.Read(c.buf[c.w:])
	} else {
		n, err = c.nc.Read(c.buf[c.w:])
	}
	c.w += n
	if n > 0 {
		return nil
	}
	return err
}

var errVarint = errors.New("malformed remaining length")

// next returns the next whole packet in the buffer (body valid until fill), or
// ok=false when more bytes are needed.
func (c *client) next() (hdr byte, body []byte, ok bool, err error) {
	b := c.buf[c.r:c.w]
	if len(b) < 2 {
		return
	}
	n, k := uvarint(b[1:])
	if k < 0 {
		return 0, nil, false, errVarint
	}
	if k == 0 || len(b) < 1+k+n {
		return
	}
	c.r += 1 + k + n
	return b[0], b[1+k : 1+k+n], true, nil
}

// await reads until the next packet that is no PINGRESP.
func (c *client) await() (byte, []byte, error) {
	for {
		if hdr, body, ok, err := c.next(); ok && hdr>>4 == ptPingresp {
			continue
		} else if ok || err != nil {
			return hdr, body, err
		}
		if err := c.fill(); err != nil {
			return 0, nil, err
		}
	}
}

func (c *client) write(b []byte) error {
	c.wmu.Lock()
	_, err := c.nc.Write(b)
	c.wmu.Unlock()
	return err
}

func (c *client) send(pkt ...byte) error { return c.write(c.append(nil, pkt...)) }

// uvarint returns value and size: size 0 = incomplete, -1 = malformed.
func uvarint(b []byte) (v, k int) {
	for k < len(b) && k < 4 {
		v |= int(b[k]&0x7f) << (7 * k)
		k++
		if b[k-1] < 0x80 {
			return v, k
		}
	}
	if k == 4 {
		return 0, -1
	}
	return 0, 0
}

func appendUvarint(b []byte, v int) []byte {
	for ; v > 0x7f; v >>= 7 {
		b = append(b, byte(v)|0x80)
	}
	return append(b, byte(v))
}

func appendStr(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

func packet(hdr byte, body []byte) []byte {
	return append(appendUvarint([]byte{hdr}, len(body)), body...)
}

// connect sends CONNECT and waits for a successful CONNACK.
func (c *client) connect(id string, o *connOpts) error {
	b := append(appendStr(nil, "MQTT"), byte(o.proto), 0x02)
	if o.user != "" {
		b[len(b)-1] |= 0x80
	}
	if o.pass != "" {
		b[len(b)-1] |= 0x40
	}
	b = binary.BigEndian.AppendUint16(b, uint16(o.keepalive))
	if o.proto == 5 {
		b = append(b, 0)
	}
	b = appendStr(b, id)
	if o.user != "" {
		b = appendStr(b, o.user)
	}
	if o.pass != "" {
		b = appendStr(b, o.pass)
	}
	if err := c.send(packet(ptConnect<<4, b)...); err != nil {
		return err
	}
	hdr, body, err := c.await()
	if err != nil {
		return fmt.Errorf("waiting for CONNACK: %w", err)
	}
	if hdr>>4 != ptConnack || len(body) < 2 {
		return fmt.Errorf("want CONNACK, got packet type %d", hdr>>4)
	}
	if body[1] != 0 {
		return fmt.Errorf("CONNACK code 0x%02x", body[1])
	}
	if o.proto == 5 {
		c.connackProps(body[2:])
	}
	return nil
}

// connackProps picks Receive Maximum out of the CONNACK properties.
func (c *client) connackProps(b []byte) {
	n, k := uvarint(b)
	if k <= 0 || k+n > len(b) {
		return
	}
	for b = b[k : k+n]; len(b) > 0; {
		id, size := b[0], 0
		switch b = b[1:]; id {
		case 0x11, 0x27:
			size = 4
		case 0x13, 0x21, 0x22:
			size = 2
		case 0x24, 0x25, 0x28, 0x29, 0x2a:
			size = 1
		case 0x26:
			if len(b) < 2 {
				return
			}
			size = 2 + int(binary.BigEndian.Uint16(b))
			if len(b) < size+2 {
				return
			}
			size += 2 + int(binary.BigEndian.Uint16(b[size:]))
		default: // a string or binary data
			if len(b) < 2 {
				return
			}
			size = 2 + int(binary.BigEndian.Uint16(b))
		}
		if len(b) < size {
			return
		}
		if id == 0x21 {
			c.recvMax = int(binary.BigEndian.Uint16(b))
		}
		b = b[size:]
	}
}

// subscribe asks for filters at qos, in packets of 50, and checks each grant.
func (c *client) subscribe(qos byte, filters []string) error {
	for len(filters) > 0 {
		n := min(50, len(filters))
		b := []byte{0, 1}
		if c.proto == 5 {
			b = append(b, 0)
		}
		for _, f := range filters[:n] {
			b = append(appendStr(b, f), qos)
		}
		if err := c.send(packet(ptSubscribe<<4|2, b)...); err != nil {
			return err
		}
		hdr, body, err := c.await()
		if err != nil {
			return fmt.Errorf("waiting for SUBACK: %w", err)
		}
		if hdr>>4 != ptSuback || len(body) < 2+n {
			return fmt.Errorf("want SUBACK, got packet type %d", hdr>>4)
		}
		for i, code := range body[len(body)-n:] {
			if code != qos {
				return fmt.Errorf("SUBACK for %s: 0x%02x, asked for QoS %d", filters[i], code, qos)
			}
		}
		filters = filters[n:]
	}
	return nil
}

// publishBody takes a PUBLISH apart: topic, packet id (0 at QoS 0), payload.
func publishBody(hdr byte, b []byte, proto int) (topic []byte, id uint16, payload []byte, ok bool) {
	if len(b) < 2 {
		return
	}
	n := 2 + int(binary.BigEndian.Uint16(b))
	if len(b) < n {
		return
	}
	topic, b = b[2:n], b[n:]
	if hdr&6 != 0 {
		if len(b) < 2 {
			return
		}
		id, b = binary.BigEndian.Uint16(b), b[2:]
	}
	if proto == 5 {
		n, k := uvarint(b)
		if k <= 0 || k+n > len(b) {
			return
		}
		b = b[k+n:]
	}
	return topic, id, b, true
}

// alive looks for a FIN or reset without reading.
func (c *client) alive() bool {
	rc, err := c.raw.(*net.TCPConn).SyscallConn()
	if err != nil {
		return false
	}
	up := false
	rc.Read(func(fd uintptr) bool {
		n, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		up = n > 0 || err == syscall.EAGAIN
		return true
	})
	return up
}

// bye disconnects in order: DISCONNECT, wait a moment for the server to close.
func (c *client) bye(wait time.Duration) {
	c.nc.SetWriteDeadline(time.Now().Add(time.Second))
	c.send(ptDisconnect<<4, 0)
	if wait > 0 {
		c.nc.SetReadDeadline(time.Now().Add(wait))
		for c.r, c.w = 0, 0; c.fill() == nil; {
			c.r, c.w = 0, 0
		}
	}
	c.raw.Close()
}
