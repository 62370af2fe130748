package agent

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/agent/wire"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// sink is a connection that takes everything.
type sink struct{ net.Conn }

func (sink) Write(b []byte) (int, error) { return len(b), nil }
func (sink) Close() error                { return nil }

// path is the way of a frame without a socket: message, scanner, table, session,
// answer.
type path struct {
	conn  *conn
	frame wire.FrameEvent
	buf   []byte
}

func newPath(tb testing.TB, g wire.Generation, data []byte) *path {
	tb.Helper()
	a := open(tb, conf(`"agent":{"decision-timeout-ms":60000}`), nil)
	p := &path{}
	p.conn = a.decider()
	p.conn.nc, p.conn.reader, p.conn.arrived, p.conn.deadline = sink{}, wire.NewReader(nil, g), a.now(), 1<<62
	w := (&testkit.Proxy{}).Open("WZwGdqeKMFh")
	for _, first := range []struct {
		from mqtt.Side
		b    []byte
	}{{mqtt.Client, testkit.Connect(v4, "c")}, {mqtt.Broker, testkit.Connack(v4, false, 0)}} {
		p.frame = w.Event(first.from, wire.OpBinary, true, first.b)
		p.push()
	}
	p.frame = w.Event(mqtt.Client, wire.OpBinary, true, data)
	return p
}

// push handles one message.
func (p *path) push() {
	p.buf = p.frame.AppendMessage(p.buf[:0], p.conn.generation())
	m := wire.Message{Payload: p.buf[4:]}
	if p.conn.generation() == wire.V2 {
		m = wire.Message{Type: wire.Type(p.buf[4]), Payload: p.buf[5:]}
	}
	p.conn.message(m)
	if len(p.conn.out) > maxFlush {
		p.conn.flush()
	}
}

// next is the same frame again.
func (p *path) next() {
	p.frame.Index++
	p.push()
}

func TestFrameDoesNotAllocate(t *testing.T) {
	for _, g := range generations {
		for name, data := range map[string][]byte{
			"publish": publish("dev/a", 0), "several": join(publish("dev/a", 0), publish("dev/b", 0), testkit.Pingreq()),
		} {
			p := newPath(t, g, data)
			p.push()
			for range 1000 {
				p.next()
			}
			before := p.conn.tally.Frames[wire.WSAllow].Load()
			if n := testing.AllocsPerRun(1000, p.next); n != 0 {
				t.Errorf("v%d, %s: %v allocations a frame", g, name, n)
			}
			if p.conn.tally.Frames[wire.WSAllow].Load() == before || p.conn.tally.Frames[wire.WSClose].Load() != 0 {
				t.Errorf("v%d, %s: frames were not allowed", g, name)
			}
		}
	}
}

// BenchmarkFrame is the whole decision about a frame, writing of the event
// included, which the proxy does in life.
func BenchmarkFrame(b *testing.B) {
	payload := strings.Repeat("x", 120)
	for _, g := range generations {
		for name, data := range map[string][]byte{
			"allowed": testkit.Publish(v4, "dev/plant1/line4/temperature", 0, 0, payload),
			"ping":    testkit.Pingreq(),
		} {
			b.Run(fmt.Sprintf("v%d/%s", g, name), func(b *testing.B) {
				p := newPath(b, g, data)
				p.push()
				b.ReportAllocs()
				for b.Loop() {
					p.next()
				}
			})
		}
	}
	b.Run("event alone", func(b *testing.B) {
		p := newPath(b, wire.V2, testkit.Publish(v4, "dev/plant1/line4/temperature", 0, 0, payload))
		for b.Loop() {
			p.buf = p.frame.AppendMessage(p.buf[:0], wire.V2)
		}
	})
}

// BenchmarkSocket is decisions over a real socket, 64 in flight on one
// connection.
func BenchmarkSocket(b *testing.B) {
	a := open(b, conf(), nil)
	p := a.proxy(b, wire.V2)
	const flight = 64
	sockets := make([]*testkit.WebSocket, flight)
	for i := range sockets {
		sockets[i] = connect(b, p, fmt.Sprint("w", i))
	}
	r := dial(b, a, wire.V2)
	r.write(b, v2(wire.HandshakeRequest, shake))
	r.next(b, wire.HandshakeResponse)
	data := testkit.Publish(v4, "dev/plant1/line4/temperature", 0, 0, strings.Repeat("x", 120))
	var batch []byte
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		if n%flight == 0 {
			batch = batch[:0]
			for _, w := range sockets {
				e := w.Event(mqtt.Client, wire.OpBinary, true, data)
				batch = e.AppendMessage(batch, wire.V2)
			}
			r.write(b, batch)
		}
		if _, err := r.r.Next(); err != nil {
			b.Fatal(err)
		}
	}
}
