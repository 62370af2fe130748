//go:build linux

package main

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// patience bounds every wait for an agent.
const patience = 20 * time.Second

func freeAddr() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// ping says whether the doors are open.
func ping(s *server) error {
	for network, addr := range map[string]string{"unix": s.socket, "tcp": s.grpc} {
		if addr == "" {
			continue
		}
		c, err := net.Dial(network, addr)
		if err != nil {
			return err
		}
		c.Close()
	}
	return nil
}

func text(s string) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...) }

// packet is one of MQTT 3.1.1.
func packet(first byte, parts ...[]byte) []byte {
	body := bytes.Join(parts, nil)
	head := []byte{first, byte(len(body))}
	if len(body) > 127 {
		head = []byte{first, byte(len(body)) | 0x80, byte(len(body) >> 7)}
	}
	return append(head, body...)
}

func connectPacket(clientID string) []byte {
	return packet(0x10, text("MQTT"), []byte{4, 0xC2, 0, 60}, text(clientID), text("sensor-001"), text("secret"))
}

var (
	connackPacket = []byte{0x20, 2, 0, 0}
	publishPacket = packet(0x30, text("sensors/kitchen/data"), []byte(strings.Repeat("x", 120)))
)

// turns distinguishes the WebSockets of one turn from those of another.
var turns atomic.Uint64

// socket is a WebSocket: what its frames are made of, in the proxy's own
// spelling.
type socket struct {
	generation generation
	id         string
	head, tail []byte // of a frame with publishPacket, around its index
	index      uint64 // of the client's next frame
}

func newSocket(g generation, prefix string, n int) *socket {
	s := &socket{generation: g, id: fmt.Sprintf("%s-%04d", prefix, n)}
	s.head, s.tail = s.around(publishPacket, true)
	return s
}

func (s *socket) around(data []byte, fromClient bool) (head, tail []byte) {
	head = fmt.Appendf(nil, `{"client_ip":"127.0.0.1","client_to_server":%t,"correlation_id":"%s","data":"%s","fin":true,"frame_index":`,
		fromClient, s.id, base64.StdEncoding.EncodeToString(data))
	tail = []byte(`,"opcode":"binary","route_id":"mqtt-ws"}`)
	if s.generation == v1 {
		return append([]byte(`{"version":1,"event_type":"web_socket_frame","payload":`), head...), append(tail, '}')
	}
	return append([]byte{webSocketFrame}, head...), tail
}

// appendFrame appends the message of a frame.
func appendFrame(dst, head []byte, index uint64, tail []byte) []byte {
	at := len(dst)
	dst = append(append(dst, 0, 0, 0, 0), head...)
	dst = append(strconv.AppendUint(dst, index, 10), tail...)
	binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at-4))
	return dst
}

// next appends the next PUBLISH.
func (s *socket) next(dst []byte) []byte {
	dst = appendFrame(dst, s.head, s.index, s.tail)
	s.index++
	return dst
}

// link is one connection to an agent.
type link struct {
	net.Conn
	buf      []byte
	from, to int
	out      []byte
	sockets  []*socket
}

func dialLink(path string, g generation) (*link, error) {
	c, err := net.Dial("unix", path)
	if err != nil {
		return nil, err
	}
	l := &link{Conn: c, buf: make([]byte, 64<<10)}
	_ = l.SetDeadline(time.Now().Add(patience)) // an error shows in Read
	if g == v1 {
		return l, nil
	}
	hello := `{"supported_versions":[2],"proxy_id":"zentinel-proxy","proxy_version":"0.6.54","config":null,"supported_encodings":["json"]}`
	b := binary.BigEndian.AppendUint32(nil, uint32(1+len(hello)))
	_, err = l.Write(append(append(b, handshakeRequest), hello...))
	if err == nil {
		var m []byte
		if m, err = l.message(); err == nil && m[0] != handshakeResponse {
			err = fmt.Errorf("handshake: %q", m)
		}
	}
	if err != nil {
		l.Close()
	}
	return l, err
}

// buffered is a whole message that has been read already, or nil.
func (l *link) buffered() []byte {
	if l.to-l.from < 4 {
		return nil
	}
	size := int(binary.BigEndian.Uint32(l.buf[l.from:]))
	if l.to-l.from < 4+size {
		return nil
	}
	m := l.buf[l.from+4 : l.from+4+size]
	l.from += 4 + size
	return m
}

func (l *link) fill() error {
	l.to, l.from = copy(l.buf, l.buf[l.from:l.to]), 0
	n, err := l.Read(l.buf[l.to:])
	l.to += n
	return err
}

// message reads the next answer; health and metrics are no answers.
func (l *link) message() ([]byte, error) {
	for {
		m := l.buffered()
		switch {
		case m == nil:
			if err := l.fill(); err != nil {
				return nil, err
			}
		case m[0] < 0x30 || m[0] == '{':
			return m, nil
		}
	}
}

var allowed = []byte(`"websocket_decision":"allow"`)

// open has the agent admit a client.
func (l *link) open(s *socket) error {
	for _, f := range []struct {
		data       []byte
		fromClient bool
	}{{connectPacket("sensor-" + s.id), true}, {connackPacket, false}} {
		head, tail := s.around(f.data, f.fromClient)
		if _, err := l.Write(appendFrame(nil, head, 0, tail)); err != nil {
			return err
		}
		m, err := l.message()
		if err != nil {
			return err
		}
		if !bytes.Contains(m, allowed) {
			return fmt.Errorf("not admitted: %s", m)
		}
	}
	s.index = 1
	l.sockets = append(l.sockets, s)
	return nil
}

// pump keeps every socket's PUBLISH in flight until stop is closed and answers
// how many decisions came.
func (l *link) pump(coalesce bool, stop *atomic.Bool) (int, error) {
	send := func(s *socket) error {
		l.out = s.next(l.out)
		if coalesce {
			return nil
		}
		_, err := l.Write(l.out)
		l.out = l.out[:0]
		return err
	}
	flush := func() error {
		if len(l.out) == 0 {
			return nil
		}
		_, err := l.Write(l.out)
		l.out = l.out[:0]
		return err
	}
	l.out = l.out[:0]
	for _, s := range l.sockets {
		if err := send(s); err != nil {
			return 0, err
		}
	}
	if err := flush(); err != nil {
		return 0, err
	}
	_ = l.SetDeadline(time.Now().Add(patience)) // an error shows in Read
	decisions, open := 0, len(l.sockets)
	for open > 0 {
		m := l.buffered()
		if m == nil {
			if err := errors.Join(flush(), l.fill()); err != nil {
				return 0, err
			}
			continue
		}
		if m[0] >= 0x30 && m[0] != '{' {
			continue
		}
		s := l.sockets[0]
		if len(l.sockets) > 1 {
			id := eventID(m)
			n, err := strconv.Atoi(string(id[max(0, len(id)-4):]))
			if err != nil || n >= len(l.sockets) {
				return 0, fmt.Errorf("an answer to nothing: %s", m)
			}
			s = l.sockets[n]
		}
		if !bytes.Contains(m, allowed) {
			return 0, fmt.Errorf("not allowed: %s", m)
		}
		decisions++
		if stop.Load() {
			open--
			continue
		}
		if err := send(s); err != nil {
			return 0, err
		}
	}
	return decisions, nil
}

// overSocket loads an agent for d over its Unix socket.
func overSocket(path string, g generation, coalesce bool, d time.Duration) (int, error) {
	links, each := connections, flight
	if g == v1 {
		links, each = v1Connections, 1
	}
	all := make([]*link, links)
	run := turns.Add(1)
	for i := range all {
		l, err := dialLink(path, g)
		if err != nil {
			return 0, err
		}
		defer l.Close()
		all[i] = l
		for n := range each {
			if err := l.open(newSocket(g, fmt.Sprintf("%d-%d", run, i), n)); err != nil {
				return 0, err
			}
		}
	}
	return together(d, links, func(i int, stop *atomic.Bool) (int, error) { return all[i].pump(coalesce, stop) })
}

// together runs n of f until d has passed and sums up.
func together(d time.Duration, n int, f func(i int, stop *atomic.Bool) (int, error)) (int, error) {
	var stop atomic.Bool
	type result struct {
		n   int
		err error
	}
	results := make(chan result, n)
	for i := range n {
		go func() { // ends when stop is set and the last answers have come
			n, err := f(i, &stop)
			results <- result{n, err}
		}()
	}
	time.AfterFunc(d, func() { stop.Store(true) })
	sum := 0
	var err error
	for range n {
		r := <-results
		sum += r.n
		if r.err != nil {
			stop.Store(true)
			err = errors.Join(err, r.err)
		}
	}
	return sum, err
}
