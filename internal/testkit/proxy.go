package testkit

import (
	"context"
	"encoding/json"
	"errors"
	"syscall"
	"testing"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/agent/wire"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
)

// Proxy plays the reverse proxy towards an agent: it shakes hands over several
// connections and asks for decisions round robin, as released proxies do.
type Proxy struct {
	*wire.Pool
	Generation wire.Generation
	Via        Asker // asks instead of Pool, when it is not nil
}

// Asker asks an agent for decisions.
type Asker interface {
	Frame(ctx context.Context, e *wire.FrameEvent) (wire.Response, error)
	Headers(ctx context.Context, e *wire.HeadersEvent) (wire.Response, error)
}

func (p *Proxy) asker() Asker {
	if p.Via != nil {
		return p.Via
	}
	return p.Pool
}

// DialProxy connects to an agent over four connections, as soon as the queue of
// the socket has room; they are closed with the test.
func DialProxy(tb testing.TB, socket string, g wire.Generation) *Proxy {
	tb.Helper()
	var pool *wire.Pool
	Eventually(tb, "the socket takes connections", func() bool {
		var err error
		pool, err = wire.Dial(context.Background(), wire.PoolOptions{Socket: socket, Generation: g, Timeout: Patience})
		if err != nil && !errors.Is(err, syscall.EAGAIN) {
			tb.Fatal(err)
		}
		return err == nil
	})
	tb.Cleanup(pool.Close)
	return &Proxy{Pool: pool, Generation: g}
}

// Upgrade asks whether a WebSocket may be opened. Without headers those of an
// ordinary MQTT client are sent.
func (p *Proxy) Upgrade(tb testing.TB, id string, headers map[string][]string) wire.Response {
	tb.Helper()
	if headers == nil {
		headers = map[string][]string{"connection": {"Upgrade"}, "upgrade": {"websocket"}, "sec-websocket-protocol": {"mqtt"}}
	}
	r, err := p.asker().Headers(context.Background(), &wire.HeadersEvent{
		CorrelationID: id, Route: "mqtt-ws", ClientIP: "198.51.100.7", URI: "/mqtt", Headers: headers,
	})
	if err != nil {
		tb.Fatalf("upgrade %q: %v", id, err)
	}
	return r
}

// WebSocket is a WebSocket through a Proxy. Its fields may be changed before
// the first frame.
type WebSocket struct {
	proxy    *Proxy
	ID       string
	Route    string
	ClientIP string

	Index  [2]uint64 // of the next frame, by sender
	Passed [2][]byte // what was forwarded of binary frames, by sender
	Closed bool
}

// Open is a WebSocket that has been upgraded.
func (p *Proxy) Open(id string) *WebSocket {
	return &WebSocket{proxy: p, ID: id, Route: "mqtt-ws", ClientIP: "198.51.100.7"}
}

// Via is who asks for w.
func (w *WebSocket) Via() Asker { return w.proxy.asker() }

// Send sends one binary frame that is a whole message, and does with it what
// the agent says.
func (w *WebSocket) Send(tb testing.TB, from mqtt.Side, data []byte) wire.Response {
	tb.Helper()
	return w.Frame(tb, from, wire.OpBinary, true, data)
}

// Frame sends one frame and does with it what the agent says.
func (w *WebSocket) Frame(tb testing.TB, from mqtt.Side, op wire.Opcode, fin bool, data []byte) wire.Response {
	tb.Helper()
	r, err := w.Try(from, op, fin, data)
	if err != nil {
		tb.Fatalf("frame %d of %q: %v", w.Index[from]-1, w.ID, err)
	}
	return r
}

// Try is Frame for frames that may get no answer.
func (w *WebSocket) Try(from mqtt.Side, op wire.Opcode, fin bool, data []byte) (wire.Response, error) {
	e := w.Event(from, op, fin, data)
	r, err := w.proxy.asker().Frame(context.Background(), &e)
	if err != nil || r.WebSocket == wire.WSClose && r.HasWebSocket {
		w.Closed = true
		return r, err
	}
	if (r.WebSocket == wire.WSAllow || !r.HasWebSocket) && !op.Control() {
		w.Passed[from] = append(w.Passed[from], data...)
	}
	return r, nil
}

// Event is the next frame as an event, not sent.
func (w *WebSocket) Event(from mqtt.Side, op wire.Opcode, fin bool, data []byte) wire.FrameEvent {
	e := wire.FrameEvent{
		CorrelationID: w.ID, Route: w.Route, ClientIP: w.ClientIP, Opcode: op,
		ClientToServer: from == mqtt.Client, Index: w.Index[from], Fin: fin, Data: data,
	}
	w.Index[from]++
	return e
}

// Configure pushes a configuration over a new connection, in the handshake and
// by its event, as proxies do.
func Configure(socket string, g wire.Generation, config json.RawMessage) error {
	pool, err := wire.Dial(context.Background(), wire.PoolOptions{Socket: socket, Generation: g, Conns: 1, Timeout: Patience, Config: config})
	if err != nil {
		return err
	}
	pool.Close()
	return nil
}
