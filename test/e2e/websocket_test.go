//go:build e2e

package e2e

import (
	"bufio"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Opcodes of RFC 6455.
const (
	opContinuation byte = 0
	opText         byte = 1
	opBinary       byte = 2
	opClose        byte = 8
	opPing         byte = 9
	opPong         byte = 10
)

// frame is one WebSocket frame, payload unmasked.
type frame struct {
	fin     bool
	op      byte
	payload []byte
}

// readFrame reads one frame and also returns the bytes as they came.
func readFrame(r *bufio.Reader) (f frame, raw []byte, err error) {
	take := func(n int) ([]byte, error) {
		b := make([]byte, n)
		_, err := io.ReadFull(r, b)
		raw = append(raw, b...)
		return b, err
	}
	head, err := take(2)
	if err != nil {
		return f, nil, err
	}
	f.fin, f.op = head[0]&0x80 != 0, head[0]&0x0f
	n := int(head[1] & 0x7f)
	if n >= 126 {
		ext, err := take([]int{2, 8}[n-126])
		if err != nil {
			return f, nil, err
		}
		if len(ext) == 2 {
			n = int(binary.BigEndian.Uint16(ext))
		} else {
			n = int(binary.BigEndian.Uint64(ext))
		}
	}
	var mask []byte
	if head[1]&0x80 != 0 {
		if mask, err = take(4); err != nil {
			return f, nil, err
		}
	}
	body, err := take(n)
	f.payload = append([]byte(nil), body...)
	for i := range f.payload {
		if mask != nil {
			f.payload[i] ^= mask[i%4]
		}
	}
	return f, raw, err
}

// bytes encodes f; the client's side masks.
func (f frame) bytes(masked bool) []byte {
	b := []byte{f.op, 0}
	if f.fin {
		b[0] |= 0x80
	}
	switch n := len(f.payload); {
	case n < 126:
		b[1] = byte(n)
	case n < 1<<16:
		b[1] = 126
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	default:
		b[1] = 127
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	if !masked {
		return append(b, f.payload...)
	}
	var key [4]byte
	rand.Read(key[:])
	b[1] |= 0x80
	b = append(b, key[:]...)
	for i, c := range f.payload {
		b = append(b, c^key[i%4])
	}
	return b
}

// wsOptions are what an upgrade asks for.
type wsOptions struct {
	protocol string
	header   http.Header
}

// upgrade connects and asks for a WebSocket; it returns the answer whatever it
// is, and the connection if it is 101.
func upgrade(rawURL string, o wsOptions) (*wsConn, *http.Response, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, nil, err
	}
	conn, err := net.DialTimeout("tcp", u.Host, patience)
	if err != nil {
		return nil, nil, err
	}
	key := make([]byte, 16)
	rand.Read(key)
	req := &http.Request{Method: http.MethodGet, URL: u, Host: u.Host, Header: http.Header{
		"Upgrade": {"websocket"}, "Connection": {"Upgrade"}, "Sec-Websocket-Version": {"13"},
		"Sec-Websocket-Key": {base64.StdEncoding.EncodeToString(key)},
	}}
	if o.protocol != "" {
		req.Header.Set("Sec-Websocket-Protocol", o.protocol)
	}
	for k, v := range o.header {
		req.Header[k] = v
	}
	conn.SetDeadline(time.Now().Add(patience))
	if err := req.Write(conn); err != nil {
		conn.Close()
		return nil, nil, err
	}
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, req)
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		io.Copy(io.Discard, resp.Body)
		conn.Close()
		return nil, resp, fmt.Errorf("upgrade: %s", resp.Status)
	}
	if got, want := resp.Header.Get("Sec-Websocket-Accept"), acceptKey(req.Header.Get("Sec-Websocket-Key")); got != want {
		conn.Close()
		return nil, resp, fmt.Errorf("upgrade: accept key %q, want %q", got, want)
	}
	conn.SetDeadline(time.Time{})
	return &wsConn{Conn: conn, r: r}, resp, nil
}

func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

func dialWS(rawURL string, o wsOptions) (*wsConn, error) {
	c, resp, err := upgrade(rawURL, o)
	if err == nil && resp.Header.Get("Sec-Websocket-Protocol") != o.protocol {
		c.Close()
		return nil, fmt.Errorf("upgrade: subprotocol %q, want %q", resp.Header.Get("Sec-Websocket-Protocol"), o.protocol)
	}
	return c, err
}

// wsConn carries a byte stream in binary frames: every Write is one frame.
// What the peer closes with is kept.
type wsConn struct {
	net.Conn
	r    *bufio.Reader
	rest []byte

	mu    sync.Mutex
	code  int // of the peer's close frame
	pongs [][]byte
}

func (c *wsConn) Write(b []byte) (int, error) {
	if _, err := c.Conn.Write(frame{true, opBinary, b}.bytes(true)); err != nil {
		return 0, err
	}
	return len(b), nil
}

// frames writes hand-made frames in one write.
func (c *wsConn) frames(fs ...frame) error {
	var b []byte
	for _, f := range fs {
		b = append(b, f.bytes(true)...)
	}
	_, err := c.Conn.Write(b)
	return err
}

func (c *wsConn) Read(b []byte) (int, error) {
	for len(c.rest) == 0 {
		f, _, err := readFrame(c.r)
		if err != nil {
			return 0, err
		}
		switch f.op {
		case opClose:
			c.mu.Lock()
			c.code = 1005
			if len(f.payload) >= 2 {
				c.code = int(binary.BigEndian.Uint16(f.payload))
			}
			c.mu.Unlock()
			return 0, io.EOF
		case opPong:
			c.mu.Lock()
			c.pongs = append(c.pongs, f.payload)
			c.mu.Unlock()
		case opPing:
			if err := c.frames(frame{true, opPong, f.payload}); err != nil {
				return 0, err
			}
		case opText:
			return 0, fmt.Errorf("a text frame: %q", strings.ToValidUTF8(string(f.payload), "?"))
		default:
			c.rest = f.payload
		}
	}
	n := copy(b, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// closeCode is the code that the peer closed with, 0 while it has not.
func (c *wsConn) closeCode() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.code
}
