//go:build e2e

package e2e

import (
	"bufio"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// This file is the other side of the agent protocol, written from its
// description and sharing no code with the program: a proxy that takes
// WebSocket upgrades, asks the agent about every frame of both directions, one
// at a time, and forwards byte by byte what was allowed.

// answer is the agent's.
type answer struct {
	Version  int             `json:"version"`
	Decision json.RawMessage `json:"decision"`
	Headers  []struct {
		Remove *struct {
			Name string `json:"name"`
		} `json:"remove"`
	} `json:"request_headers"`
	Frame json.RawMessage `json:"websocket_decision"`
	Audit struct {
		Tags   []string       `json:"tags"`
		Custom map[string]any `json:"custom"`
	} `json:"audit"`
}

// blocked is the status and body of a block decision, 0 for allow.
func (a answer) blocked() (status int, body string) {
	var d struct {
		Block *struct {
			Status int    `json:"status"`
			Body   string `json:"body"`
		} `json:"block"`
	}
	if json.Unmarshal(a.Decision, &d) != nil || d.Block == nil {
		return 0, ""
	}
	return d.Block.Status, d.Block.Body
}

// verdict of a frame: allow, drop or "close CODE".
func (a answer) verdict() string {
	var word string
	if json.Unmarshal(a.Frame, &word) == nil && word != "" {
		return word
	}
	var d struct {
		Close *struct {
			Code   *int    `json:"code"`
			Reason *string `json:"reason"`
		} `json:"close"`
	}
	if json.Unmarshal(a.Frame, &d) != nil || d.Close == nil || d.Close.Code == nil || d.Close.Reason == nil {
		return fmt.Sprintf("unreadable: %s", a.Frame)
	}
	return fmt.Sprintf("close %d", *d.Close.Code)
}

// asker is the proxy's connections to the agent, of one generation.
type asker interface {
	// ask sends an event and waits for its answer. payload has its
	// correlation_id.
	ask(event string, payload map[string]any) (answer, error)
	close()
}

func writeMessage(conn net.Conn, kind []byte, payload any) error {
	text, err := json.Marshal(payload)
	if err != nil {
		return err
	}
	b := binary.BigEndian.AppendUint32(nil, uint32(len(kind)+len(text)))
	b = append(append(b, kind...), text...)
	conn.SetWriteDeadline(time.Now().Add(patience))
	_, err = conn.Write(b)
	return err
}

func readMessage(r io.Reader) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n == 0 || n > 16<<20 {
		return nil, fmt.Errorf("a message of %d bytes", n)
	}
	b := make([]byte, n)
	_, err := io.ReadFull(r, b)
	return b, noEOF(err)
}

// parseAnswer is as strict as the proxy's reader.
func parseAnswer(text []byte, version int) (a answer, err error) {
	if err := json.Unmarshal(text, &a); err != nil {
		return a, fmt.Errorf("answer %q: %w", text, err)
	}
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(text, &raw); err != nil {
		return a, err
	}
	for _, key := range []string{"request_headers", "response_headers", "routing_metadata", "audit"} {
		if string(raw[key]) == "null" {
			return a, fmt.Errorf("answer %q: %s is null", text, key)
		}
	}
	if a.Version != version || len(a.Decision) == 0 || string(a.Decision) == "null" {
		return a, fmt.Errorf("answer %q: version %d, decision %q", text, a.Version, a.Decision)
	}
	return a, nil
}

// v1Asker has a pool of connections, one request at a time on each.
type v1Asker struct {
	socket string

	// Guarded by mu.
	mu   sync.Mutex
	idle []net.Conn // last in, first out
	all  []net.Conn
}

func (a *v1Asker) take() (net.Conn, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n := len(a.idle); n > 0 {
		c := a.idle[n-1]
		a.idle = a.idle[:n-1]
		return c, nil
	}
	c, err := net.Dial("unix", a.socket)
	if err == nil {
		a.all = append(a.all, c)
	}
	return c, err
}

func (a *v1Asker) ask(event string, payload map[string]any) (answer, error) {
	c, err := a.take()
	if err != nil {
		return answer{}, err
	}
	if event == "websocket_frame" {
		event = "web_socket_frame"
	}
	err = writeMessage(c, nil, map[string]any{"version": 1, "event_type": event, "payload": payload})
	if err != nil {
		return answer{}, err
	}
	c.SetReadDeadline(time.Now().Add(patience))
	text, err := readMessage(c)
	if err != nil {
		return answer{}, err
	}
	a.mu.Lock()
	a.idle = append(a.idle, c)
	a.mu.Unlock()
	return parseAnswer(text, 1)
}

func (a *v1Asker) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range a.all {
		c.Close()
	}
}

// v2Asker has four connections that take turns.
type v2Asker struct {
	conns [4]*v2Conn
	turn  atomic.Uint64
}

// errUnanswered is the agent's silence: it says nothing where it is too late.
var errUnanswered = errors.New("the agent does not answer")

// v2Conn is one connection with its waiting table.
type v2Conn struct {
	net.Conn
	patience time.Duration // with an answer

	// Guarded by mu.
	mu      sync.Mutex
	waiting map[string]chan answer
	err     error
}

// Message types of version 2.
const (
	msgHandshake      byte = 0x01
	msgHandshakeReply byte = 0x02
	msgRequestHeaders byte = 0x10
	msgWebSocketFrame byte = 0x15
	msgConfigure      byte = 0x17
	msgAnswer         byte = 0x20
)

func newV2Asker(socket string) (*v2Asker, error) {
	a := new(v2Asker)
	for i := range a.conns {
		c, err := handshake(socket)
		if err != nil {
			a.close()
			return nil, err
		}
		a.conns[i] = c
	}
	return a, nil
}

// handshake opens a connection and checks everything that the proxy's reader
// insists on.
func handshake(socket string) (*v2Conn, error) {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return nil, err
	}
	err = writeMessage(conn, []byte{msgHandshake}, map[string]any{
		"supported_versions": []int{2}, "proxy_id": "zentinel-proxy", "proxy_version": "0.6.54", "config": nil, "supported_encodings": []string{"json"},
	})
	if err != nil {
		return nil, err
	}
	conn.SetReadDeadline(time.Now().Add(patience))
	text, err := readMessage(conn)
	if err != nil {
		return nil, fmt.Errorf("handshake: %w", err)
	}
	if text[0] != msgHandshakeReply {
		return nil, fmt.Errorf("handshake: message type %#x", text[0])
	}
	var reply struct {
		Version      *int                       `json:"protocol_version"`
		Success      *bool                      `json:"success"`
		Encoding     *string                    `json:"encoding"`
		Capabilities map[string]json.RawMessage `json:"capabilities"`
	}
	if err := json.Unmarshal(text[1:], &reply); err != nil {
		return nil, fmt.Errorf("handshake %q: %w", text[1:], err)
	}
	if reply.Version == nil || *reply.Version != 2 || reply.Success == nil || !*reply.Success || reply.Encoding != nil && *reply.Encoding != "json" {
		return nil, fmt.Errorf("handshake: %s", text[1:])
	}
	for section, keys := range map[string]string{
		"":         "agent_id name version supported_events features limits",
		"features": "streaming_body websocket guardrails config_push metrics_export concurrent_requests cancellation flow_control health_reporting",
		"limits":   "max_body_size max_concurrency preferred_chunk_size",
	} {
		have := reply.Capabilities
		if section != "" {
			have = nil
			if err := json.Unmarshal(reply.Capabilities[section], &have); err != nil {
				return nil, fmt.Errorf("handshake: %s: %w", section, err)
			}
		}
		for _, key := range strings.Fields(keys) {
			if _, ok := have[key]; !ok {
				return nil, fmt.Errorf("handshake: %q misses %q: %s", section, key, text[1:])
			}
		}
	}
	conn.SetReadDeadline(time.Time{})
	c := &v2Conn{Conn: conn, patience: patience, waiting: map[string]chan answer{}}
	go c.readLoop() // ends with the connection
	return c, nil
}

func (c *v2Conn) readLoop() {
	for {
		text, err := readMessage(c)
		var a answer
		if err == nil {
			switch text[0] {
			case msgAnswer:
				a, err = parseAnswer(text[1:], 2)
			case 0x30, 0x31, 0x32, 0x33:
				continue
			default:
				err = fmt.Errorf("message type %#x", text[0])
			}
		}
		c.mu.Lock()
		if err != nil {
			c.err = err
			for id, w := range c.waiting {
				close(w)
				delete(c.waiting, id)
			}
			c.mu.Unlock()
			return
		}
		id, _ := a.Audit.Custom["correlation_id"].(string)
		if w, ok := c.waiting[id]; ok {
			delete(c.waiting, id)
			w <- a
		}
		c.mu.Unlock()
	}
}

func (a *v2Asker) ask(event string, payload map[string]any) (answer, error) {
	c := a.conns[a.turn.Add(1)%uint64(len(a.conns))]
	return c.ask(map[string]byte{"request_headers": msgRequestHeaders, "websocket_frame": msgWebSocketFrame}[event], payload)
}

func (c *v2Conn) ask(kind byte, payload map[string]any) (answer, error) {
	id := payload["correlation_id"].(string)
	w := make(chan answer, 1)
	c.mu.Lock()
	if c.err != nil {
		defer c.mu.Unlock()
		return answer{}, c.err
	}
	c.waiting[id] = w
	c.mu.Unlock()
	if err := writeMessage(c, []byte{kind}, payload); err != nil {
		return answer{}, err
	}
	timeout := time.NewTimer(c.patience)
	defer timeout.Stop()
	select {
	case got, ok := <-w:
		if !ok {
			c.mu.Lock()
			defer c.mu.Unlock()
			return answer{}, fmt.Errorf("the agent connection ended: %w", c.err)
		}
		return got, nil
	case <-timeout.C:
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.waiting, id)
		return answer{}, errUnanswered
	}
}

func (a *v2Asker) close() {
	for _, c := range a.conns {
		if c != nil {
			c.Close()
		}
	}
}

// proxy relays WebSockets to a broker as the agent says.
type proxy struct {
	url    string
	broker string // host:port of its WebSocket listener
	ask    asker
	withIP func(net.Addr) string // how this generation writes client addresses
	l      net.Listener
	wg     sync.WaitGroup

	givesUp bool // fixed before the first connection

	// Guarded by mu.
	mu       sync.Mutex
	verdicts map[string][]string // by correlation id: "> allow", "< drop"
	faults   []error
}

// startProxy starts a proxy of generation 1 or 2 before the shared program and
// its broker.
func startProxy(t *testing.T, s *setup, generation int) *proxy {
	t.Helper()
	p := &proxy{broker: fmt.Sprintf("127.0.0.1:%d", s.broker.wsPort), verdicts: map[string][]string{}}
	if generation == 1 {
		p.ask = &v1Asker{socket: s.socket}
		p.withIP = net.Addr.String
	} else {
		a, err := newV2Asker(s.socket)
		if err != nil {
			t.Fatal(err)
		}
		p.ask = a
		p.withIP = func(addr net.Addr) string { return addr.(*net.TCPAddr).IP.String() }
	}
	var err error
	if p.l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	p.url = fmt.Sprintf("ws://%s/mqtt", p.l.Addr())
	p.wg.Go(func() { // ends with the listener
		for {
			conn, err := p.l.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.serve(conn) })
		}
	})
	t.Cleanup(func() {
		p.l.Close()
		p.ask.close()
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, err := range p.faults {
			t.Errorf("proxy: %v", err)
		}
	})
	return p
}

// giveUpAfter has the proxy end what is not answered within d, as real ones do.
func (p *proxy) giveUpAfter(d time.Duration) {
	p.givesUp = true
	for _, c := range p.ask.(*v2Asker).conns {
		c.patience = d
	}
}

// fault notes what must not happen between proxy and agent.
func (p *proxy) fault(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if errors.Is(err, net.ErrClosed) || p.givesUp && errors.Is(err, errUnanswered) {
		return
	}
	p.faults = append(p.faults, err)
}

func (p *proxy) note(id, verdict string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.verdicts[id] = append(p.verdicts[id], verdict)
}

// of is what the agent said about the frames of a correlation id.
func (p *proxy) of(id string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.verdicts[id]...)
}

// count is how often the agent gave a verdict.
func (p *proxy) count(verdict string) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, all := range p.verdicts {
		for _, v := range all {
			if v == verdict {
				n++
			}
		}
	}
	return n
}

func traceID() string {
	var b [6]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// serve is one client connection.
func (p *proxy) serve(client net.Conn) {
	defer client.Close()
	cr := bufio.NewReader(client)
	req, err := http.ReadRequest(cr)
	if err != nil {
		return
	}
	id := req.Header.Get("X-Trace-Id")
	if id == "" {
		id = traceID()
	}
	ip := p.withIP(client.RemoteAddr())
	headers := map[string][]string{"host": {req.Host}}
	for k, v := range req.Header {
		headers[strings.ToLower(k)] = v
	}
	got, err := p.ask.ask("request_headers", map[string]any{
		"correlation_id": id, "method": req.Method, "uri": req.RequestURI, "headers": headers,
		"metadata": map[string]any{
			"correlation_id": id, "request_id": "7ec57d9a-199c-44a2-be9a-768385c2ed4f", "client_ip": ip, "client_port": 0,
			"server_name": nil, "protocol": "HTTP/1.1", "tls_version": nil, "tls_cipher": nil, "route_id": "mqtt-ws", "upstream_id": nil,
			"timestamp": time.Now().UTC().Format(time.RFC3339Nano),
		},
	})
	if err != nil {
		p.fault(err)
		return
	}
	if status, body := got.blocked(); status != 0 {
		p.note(id, fmt.Sprintf("block %d", status))
		fmt.Fprintf(client, "HTTP/1.1 %d Blocked\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", status, len(body), body)
		return
	}
	for _, op := range got.Headers {
		if op.Remove != nil {
			req.Header.Del(op.Remove.Name)
		}
	}
	broker, err := net.DialTimeout("tcp", p.broker, patience)
	if err != nil {
		p.fault(err)
		return
	}
	defer broker.Close()
	if err := req.Write(broker); err != nil {
		return
	}
	br := bufio.NewReader(broker)
	resp, err := http.ReadResponse(br, req)
	if err != nil {
		return
	}
	resp.Write(client)
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return
	}
	var turn sync.Mutex // one frame of a WebSocket at a time, whichever way
	relay := func(r *bufio.Reader, to net.Conn, fromClient bool) {
		defer client.Close()
		defer broker.Close()
		mark := map[bool]string{true: "> ", false: "< "}[fromClient]
		for index := 0; ; index++ {
			f, raw, err := readFrame(r)
			if err != nil {
				return
			}
			turn.Lock()
			got, err := p.ask.ask("websocket_frame", frameEvent(id, ip, f, fromClient, index))
			if err != nil {
				p.fault(err)
				turn.Unlock()
				return
			}
			verdict := got.verdict()
			p.note(id, mark+verdict)
			switch {
			case verdict == "allow":
				_, err = to.Write(raw)
			case verdict == "drop":
			case fromClient || !strings.HasPrefix(verdict, "close "):
				err = io.EOF // torn down without a close frame
			default:
				var code int
				fmt.Sscanf(verdict, "close %d", &code)
				to.Write(frame{true, opClose, binary.BigEndian.AppendUint16(nil, uint16(code))}.bytes(false))
				err = io.EOF
			}
			turn.Unlock()
			if err != nil {
				return
			}
		}
	}
	p.wg.Go(func() { relay(br, client, false) })
	relay(cr, broker, true)
}

// frameEvent is the event of one frame.
func frameEvent(id, ip string, f frame, fromClient bool, index int) map[string]any {
	names := map[byte]string{opContinuation: "continuation", opText: "text", opBinary: "binary", opClose: "close", opPing: "ping", opPong: "pong"}
	name, ok := names[f.op]
	if !ok {
		name = "reserved"
	}
	return map[string]any{
		"correlation_id": id, "opcode": name, "data": base64.StdEncoding.EncodeToString(f.payload), "client_to_server": fromClient,
		"frame_index": index, "fin": f.fin, "route_id": "mqtt-ws", "client_ip": ip,
	}
}
