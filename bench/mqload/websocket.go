//go:build linux

package main

// MQTT over WebSocket, the client side.

import (
	"bufio"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
)

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
