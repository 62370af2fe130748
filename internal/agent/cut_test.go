package agent

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/agent/wire"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// TestEveryCut cuts packets into two frames at every byte. What is allowed
// passes; of what is refused not all passes, and if its first frame was dropped
// so is its second.
func TestEveryCut(t *testing.T) {
	a := open(t, conf(), nil)
	for _, v := range []mqtt.Version{mqtt.V311, mqtt.V5} {
		for name, c := range map[string]struct {
			packet  []byte
			allowed bool
		}{
			"allowed PUBLISH":   {testkit.Publish(v, "dev/a", 1, 7, "hello"), true},
			"refused PUBLISH":   {testkit.Publish(v, "other", 1, 7, "hello"), false},
			"refused QoS 0":     {testkit.Publish(v, "dev/secret/a", 0, 0, "hello"), false},
			"allowed SUBSCRIBE": {testkit.Subscribe(v, 7, "dev/a", "dev/b/+"), true},
			"refused SUBSCRIBE": {testkit.Subscribe(v, 7, "dev/a", "#"), false},
			"malformed":         {testkit.Publish(v, "dev/+", 0, 0, "hello"), false},
		} {
			p := a.proxy(t, wire.V2)
			for cut := 1; cut < len(c.packet); cut++ {
				w := p.Open(fmt.Sprint(name, v, cut))
				want(t, "CONNECT", w.Send(t, mqtt.Client, testkit.Connect(v, "c")), wire.WSAllow)
				want(t, "CONNACK", w.Send(t, mqtt.Broker, testkit.Connack(v, false, 0)), wire.WSAllow)
				before := len(w.Passed[mqtt.Client])
				first := w.Send(t, mqtt.Client, c.packet[:cut])
				second := first
				if !w.Closed {
					second = w.Send(t, mqtt.Client, c.packet[cut:])
				}
				passed := w.Passed[mqtt.Client][before:]
				where := fmt.Sprintf("%s, %v, cut at %d: %v, %v", name, v, cut, first.WebSocket, second.WebSocket)
				switch {
				case c.allowed && !bytes.Equal(passed, c.packet):
					t.Errorf("%s; passed %x", where, passed)
				case !c.allowed && second.WebSocket == wire.WSAllow, !c.allowed && len(passed) == len(c.packet):
					t.Errorf("%s; passed %x", where, passed)
				case first.WebSocket == wire.WSDrop && second.WebSocket != wire.WSDrop:
					t.Errorf("%s", where)
				case first.WebSocket == wire.WSAllow && second.WebSocket == wire.WSDrop:
					t.Errorf("%s: the broker holds half a packet", where)
				}
				if !w.Closed {
					want(t, where+": then a ping", w.Send(t, mqtt.Client, testkit.Pingreq()), wire.WSAllow)
					w.Frame(t, mqtt.Client, wire.OpClose, true, nil)
				}
			}
			p.Close()
		}
	}
}

// ask has one frame decided in process and says whether it passed.
func ask(tb testing.TB, c *conn, e *wire.FrameEvent) (r wire.Response) {
	tb.Helper()
	c.arrived = c.agent.now()
	c.out, c.marks, c.oldest = c.out[:0], c.marks[:0], 0
	m := e.AppendMessage(nil, wire.V2)
	if !c.message(wire.Message{Type: wire.WebSocketFrame, Payload: m[wire.DetectLen:]}) {
		tb.Fatalf("%s: the connection ends", m)
	}
	if len(c.out) < wire.DetectLen {
		tb.Fatalf("%s: no answer", m)
	}
	if err := r.Parse(c.out[wire.DetectLen:]); err != nil || !r.HasWebSocket {
		tb.Fatalf("%s: %v", c.out, err)
	}
	return r
}

// FuzzFrames sends arbitrary frames. Whatever way a client cuts its bytes, the
// packets that arrive at the broker are ones that pass when each comes alone.
func FuzzFrames(f *testing.F) {
	hello := testkit.Connect(v4, "c")
	for _, b := range [][]byte{
		join(hello, publish("dev/a", 1), testkit.Pingreq()), join(hello, publish("other", 0), publish("dev/a", 0)),
		join(hello, testkit.Subscribe(v4, 3, "dev/a"), testkit.Disconnect(v4, 0), hello),
		join(testkit.Connect(mqtt.V5, "c"), testkit.Publish(mqtt.V5, "other", 0, 0, strings.Repeat("x", 20))),
		publish("dev/a", 0),
		{0x10},
		nil,
	} {
		f.Add(b, []byte{1, 5, 200})
		f.Add(b, []byte{255})
		f.Add(b, []byte{9, 1, 1, 1, 1, 0})
	}
	a := open(f, conf(), nil)
	conns := func() *conn {
		c := a.decider()
		c.nc, c.reader = sink{}, wire.NewReader(nil, wire.V2)
		return c
	}
	n := 0 // ids are used once
	f.Fuzz(func(t *testing.T, stream, cuts []byte) {
		c := conns()
		n++
		w := (&testkit.Proxy{}).Open(fmt.Sprint("cut", n))
		var passed []byte
		for i := 0; len(stream) > 0 && i < 200; i++ {
			n, op, fin := 1, wire.OpBinary, true
			if len(cuts) > 0 {
				cut := cuts[i%len(cuts)]
				n = int(cut)
				if cut >= 250 { // odd frames
					n, fin = int(cut)-250, cut%2 == 0
					op = []wire.Opcode{wire.OpContinuation, wire.OpPing, wire.OpContinuation, wire.OpBinary}[cut%4]
				}
			}
			n = min(n, len(stream))
			e := w.Event(mqtt.Client, op, fin, stream[:n])
			r := ask(t, c, &e)
			if r.WebSocket == wire.WSAllow && !op.Control() {
				passed = append(passed, stream[:n]...)
			}
			stream = stream[n:]
			if r.WebSocket == wire.WSClose {
				break
			}
		}
		end := w.Event(mqtt.Client, wire.OpClose, true, nil)
		ask(t, c, &end)

		// The broker acts on whole packets only.
		alone := (&testkit.Proxy{}).Open(fmt.Sprint("alone", n))
		for _, packet := range packets(passed) {
			if len(packet) < 2 || !wholePacket(packet) {
				break
			}
			e := alone.Event(mqtt.Client, wire.OpBinary, true, packet)
			if r := ask(t, c, &e); r.WebSocket != wire.WSAllow {
				t.Fatalf("%x passed in pieces, alone %v %q", packet, r.WebSocket, r.Reason)
			}
			if packet[0]>>4 == byte(mqtt.DISCONNECT) {
				break
			}
		}
		end = alone.Event(mqtt.Client, wire.OpClose, true, nil)
		ask(t, c, &end)
		if n := a.table.live.Load(); n != 0 {
			t.Fatalf("%d WebSockets are left", n)
		}
		if n := a.table.held.Load(); n != 0 {
			t.Fatalf("%d held bytes are left", n)
		}
	})
}

// wholePacket reports whether b holds all that its length promises.
func wholePacket(b []byte) bool {
	n, shift := 0, 0
	for i := 1; i < len(b) && i < 5; i++ {
		n |= int(b[i]&0x7F) << shift
		shift += 7
		if b[i] < 0x80 {
			return len(b) == 1+i+n
		}
	}
	return false
}
