//go:build linux

package main

// The MQTT 3.1.1 / 5 client side: addresses, dialling and the few packets a
// load tool needs. Nothing here allocates per message.

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
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
