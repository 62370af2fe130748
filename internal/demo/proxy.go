package demo

import (
	"context"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // RFC 6455 section 1.3 wants it, for no secret
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/agent/wire"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
)

// ProxyOptions says what a Proxy connects.
type ProxyOptions struct {
	Listen string // host:port
	Socket string // of the agent
	Broker string // host:port of an MQTT broker
	Route  string // what the agent is told; "mqtt-ws" unless given
}

// Proxy is a small reverse proxy for MQTT over WebSocket: it asks an agent
// about each upgrade and about each frame, as the Sentinel proxy does, and obeys.
// It is for showing and testing the agent door; what the agent does not answer
// is refused.
type Proxy struct {
	// Fixed after StartProxy.
	opts     ProxyOptions
	pool     *wire.Pool
	server   *http.Server
	listener net.Listener
	ctx      context.Context // ends with Close
	cancel   context.CancelFunc
	wg       sync.WaitGroup

	// Guarded by mu.
	mu   sync.Mutex
	live map[net.Conn]struct{}
}

// The bounds of a peer's slowness.
const (
	proxyTimeout = 10 * time.Second
	brokerRead   = 4 << 10
)

// StartProxy connects to the agent and serves until Close.
func StartProxy(ctx context.Context, o ProxyOptions) (*Proxy, error) {
	if o.Route == "" {
		o.Route = "mqtt-ws"
	}
	pool, err := wire.Dial(ctx, wire.PoolOptions{Socket: o.Socket})
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", o.Listen)
	if err != nil {
		pool.Close()
		return nil, err
	}
	p := &Proxy{opts: o, pool: pool, listener: l, live: map[net.Conn]struct{}{}}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.server = &http.Server{Handler: p, ReadHeaderTimeout: proxyTimeout, MaxHeaderBytes: 16 << 10}
	p.wg.Go(func() { _ = p.server.Serve(l) }) // until Close
	return p, nil
}

// startProxy starts a proxy that ends with ctx.
func startProxy(ctx context.Context, addr, socket, broker string) (string, error) {
	p, err := StartProxy(ctx, ProxyOptions{Listen: addr, Socket: socket, Broker: broker})
	if err != nil {
		return "", err
	}
	context.AfterFunc(ctx, p.Close)
	return p.Addr(), nil
}

// Addr is where the proxy listens.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Close ends all connections and waits for them. Idempotent.
func (p *Proxy) Close() {
	p.cancel()
	_ = p.server.Close() // hijacked connections are ours
	p.mu.Lock()
	for c := range p.live {
		_ = c.Close()
	}
	p.mu.Unlock()
	p.wg.Wait()
	p.pool.Close()
}

// ServeHTTP takes an upgrade to the agent and, if it may, to the broker.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") || r.Header.Get("Sec-WebSocket-Key") == "" {
		http.Error(w, "MQTT over WebSocket is served here", http.StatusUpgradeRequired)
		return
	}
	client, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		client = "unknown"
	}
	headers := map[string][]string{}
	for name, lines := range r.Header {
		headers[strings.ToLower(name)] = lines
	}
	id := traceID(r.Header)
	verdict, err := p.pool.Headers(p.ctx, &wire.HeadersEvent{
		CorrelationID: id, Route: p.opts.Route, ClientIP: client, URI: r.URL.RequestURI(), Headers: headers,
	})
	switch {
	case err != nil:
		http.Error(w, "the agent does not answer", http.StatusServiceUnavailable)
		return
	case verdict.Block != 0:
		http.Error(w, strings.TrimSuffix(verdict.Body, "\n"), verdict.Block)
		return
	}
	broker, err := net.DialTimeout("tcp", p.opts.Broker, proxyTimeout)
	if err != nil {
		http.Error(w, "the broker is away", http.StatusBadGateway)
		return
	}
	hijacker, ok := w.(http.Hijacker)
	if !ok {
		_ = broker.Close()
		http.Error(w, "no upgrade here", http.StatusInternalServerError)
		return
	}
	conn, buffered, err := hijacker.Hijack()
	if err != nil {
		_ = broker.Close()
		return
	}
	t := &tunnel{
		proxy: p, client: conn, broker: broker, in: buffered.Reader, id: id, addr: client,
	}
	if !p.add(conn, broker) {
		return
	}
	defer p.remove(conn, broker)
	if t.accept(r.Header) != nil {
		return
	}
	t.run()
}

// add has Close end the connections; false: it was before.
func (p *Proxy) add(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ctx.Err() != nil {
		for _, c := range conns {
			_ = c.Close()
		}
		return false
	}
	for _, c := range conns {
		p.live[c] = struct{}{}
	}
	p.wg.Add(1)
	return true
}

func (p *Proxy) remove(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
		delete(p.live, c)
	}
	p.wg.Done()
}

// traceID is the id that the client chose, else a random one.
func traceID(h http.Header) string {
	for _, name := range []string{"X-Trace-Id", "X-Correlation-Id", "X-Request-Id"} {
		if id := h.Get(name); id != "" {
			return id
		}
	}
	return rand.Text()[:11]
}

// tunnel is one WebSocket between a client and the broker.
type tunnel struct {
	proxy          *Proxy
	client, broker net.Conn
	in             io.Reader // of the client, with what came behind its request
	id, addr       string

	// Guarded by turn: frames are decided one at a time, of either direction.
	turn   sync.Mutex
	index  [2]uint64
	closed bool
}

// accept answers the upgrade. Compression and other extensions are declined.
func (t *tunnel) accept(h http.Header) error {
	const magic = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
	sum := sha1.Sum([]byte(h.Get("Sec-WebSocket-Key") + magic)) //nolint:gosec // as above
	answer := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " +
		base64.StdEncoding.EncodeToString(sum[:]) + "\r\n"
	offered := strings.Split(strings.ReplaceAll(strings.Join(h.Values("Sec-WebSocket-Protocol"), ","), " ", ""), ",")
	for _, name := range []string{"mqtt", "mqttv3.1"} {
		if slices.Contains(offered, name) {
			answer += "Sec-WebSocket-Protocol: " + name + "\r\n"
			break
		}
	}
	return t.write(t.client, []byte(answer+"\r\n"))
}

// run passes frames until one side ends. Both directions end with it.
func (t *tunnel) run() {
	done := make(chan struct{})
	go func() {
		defer close(done)
		t.fromBroker()
		_ = t.client.Close()
	}()
	t.fromClient()
	_ = t.broker.Close()
	_ = t.client.Close()
	<-done
}

func (t *tunnel) fromClient() {
	var f frame
	for {
		if err := f.read(t.in); err != nil {
			t.end(closeCode(err), "")
			return
		}
		switch t.decide(mqtt.Client, f.op, f.fin, f.payload) {
		case wire.WSDrop:
			continue
		case wire.WSClose:
			return
		}
		var err error
		switch f.op {
		case wire.OpBinary, wire.OpContinuation:
			err = t.write(t.broker, f.payload)
		case wire.OpPing:
			err = t.send(wire.OpPong, f.payload)
		case wire.OpClose:
			_ = t.send(wire.OpClose, f.payload) // it is the end either way
			return
		}
		if err != nil {
			return
		}
	}
}

func (t *tunnel) fromBroker() {
	buf := make([]byte, brokerRead)
	for {
		n, err := t.broker.Read(buf)
		if n > 0 {
			switch t.decide(mqtt.Broker, wire.OpBinary, true, buf[:n]) {
			case wire.WSAllow:
				if t.send(wire.OpBinary, buf[:n]) != nil {
					return
				}
			case wire.WSClose:
				return
			}
		}
		if err != nil {
			t.end(1000, "")
			return
		}
	}
}

// decide asks the agent about a frame, the next one when this one is answered.
// Without an answer the WebSocket ends: failure mode closed.
func (t *tunnel) decide(from mqtt.Side, op wire.Opcode, fin bool, data []byte) wire.WebSocketDecision {
	t.turn.Lock()
	e := wire.FrameEvent{
		CorrelationID: t.id, Route: t.proxy.opts.Route, ClientIP: t.addr, Opcode: op,
		ClientToServer: from == mqtt.Client, Index: t.index[from], Fin: fin, Data: data,
	}
	t.index[from]++
	r, err := t.proxy.pool.Frame(t.proxy.ctx, &e)
	t.turn.Unlock()
	switch {
	case err != nil:
		t.end(1011, "the agent does not answer")
		return wire.WSClose
	case !r.HasWebSocket:
		return wire.WSAllow
	case r.WebSocket == wire.WSClose:
		t.end(r.Code, r.Reason)
	}
	return r.WebSocket
}

// end tells the client why, once.
func (t *tunnel) end(code uint16, reason string) {
	t.turn.Lock()
	defer t.turn.Unlock()
	if t.closed {
		return
	}
	t.closed = true
	_ = t.write(t.client, appendFrame(nil, wire.OpClose, fmt.Appendf([]byte{byte(code >> 8), byte(code)}, "%s", reason))) // if it still listens
	_ = t.client.Close()
	_ = t.broker.Close()
}

// send writes a frame to the client, never two at once.
func (t *tunnel) send(op wire.Opcode, payload []byte) error {
	t.turn.Lock()
	defer t.turn.Unlock()
	return t.write(t.client, appendFrame(nil, op, payload))
}

func (t *tunnel) write(c net.Conn, b []byte) error {
	if err := c.SetWriteDeadline(time.Now().Add(proxyTimeout)); err != nil {
		return err
	}
	_, err := c.Write(b)
	return err
}
