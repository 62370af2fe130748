package agent

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/agent/wire"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// cutter cuts what a side sends into frames.
type cutter struct {
	name string
	cut  func([]byte) [][]byte
	// clean: packets and frames coincide, so a refusal is a drop where it may
	// be. Else it may have to be a close.
	clean bool
}

var cutters = []cutter{
	{"a packet a frame", packets, true},
	{"a byte a frame", func(b []byte) [][]byte { return pieces(b, 1) }, false},
	{"seven bytes a frame", func(b []byte) [][]byte { return pieces(b, 7) }, false},
	{"fields", fields, false},
}

// packets cuts at the boundaries of packets; what is none stays one piece.
func packets(b []byte) (all [][]byte) {
	for len(b) > 0 {
		n := packetLen(b)
		all, b = append(all, b[:n]), b[n:]
	}
	return all
}

func packetLen(b []byte) int {
	n, shift := 0, 0
	for i := 1; i < len(b) && i < 5; i++ {
		n |= int(b[i]&0x7F) << shift
		shift += 7
		if b[i] < 0x80 {
			return min(len(b), 1+i+n)
		}
	}
	return len(b)
}

func pieces(b []byte, n int) (all [][]byte) {
	for len(b) > n {
		all, b = append(all, b[:n]), b[n:]
	}
	return append(all, b)
}

// fields cuts as MQTT.js on Node does: first byte, length, then two bytes of a
// string's length and the string, in turn.
func fields(b []byte) (all [][]byte) {
	for _, p := range packets(b) {
		head := 2
		for head < len(p) && head < 5 && p[head-1] >= 0x80 {
			head++
		}
		head = min(head, len(p))
		all = append(all, p[:1])
		if head > 1 {
			all = append(all, p[1:head])
		}
		for p = p[head:]; len(p) > 0; {
			n := min(2, len(p))
			all = append(all, p[:n])
			if n == 2 {
				n = min(2+int(p[0])<<8+int(p[1]), len(p))
				if n > 2 {
					all = append(all, p[2:n])
				}
			}
			p = p[n:]
		}
	}
	return all
}

var decisions = map[string]wire.WebSocketDecision{"allow": wire.WSAllow, "detect": wire.WSAllow, "drop": wire.WSDrop, "close": wire.WSClose}

// TestDialogues drives the conversations that every door knows through this
// one: over both generations of the socket and of gRPC, cut into frames in
// several ways.
func TestDialogues(t *testing.T) {
	type served struct {
		*door
		calls, stream *testkit.Proxy // over gRPC
	}
	doors := map[string]served{} // by configuration
	n := 0
	for _, d := range testkit.Dialogues() {
		if d.Doors == testkit.GatewayDoor || d.Timed() {
			continue
		}
		a, ok := doors[d.Config]
		if !ok {
			a.door = open(t, d.Config, nil, overRPC)
			a.calls, a.stream = a.rpcProxy(t, wire.V1), a.rpcProxy(t, wire.V2)
			doors[d.Config] = a
		}
		for _, g := range generations {
			p := testkit.DialProxy(t, a.socket, g)
			for _, c := range cutters {
				n++
				run(t, a.door, &d, p.Open(fmt.Sprint("dialogue-", n)), c, fmt.Sprintf("%s, v%d, %s", d.Name, g, c.name))
			}
			p.Close()
		}
		for _, c := range cutters {
			n++
			run(t, a.door, &d, a.calls.Open(fmt.Sprint("dialogue-", n)), c, fmt.Sprintf("%s, gRPC v1, %s", d.Name, c.name))
		}
		n++
		run(t, a.door, &d, a.stream.Open(fmt.Sprint("dialogue-", n)), cutters[0], d.Name+", gRPC v2")
	}
	if n == 0 {
		t.Fatal("no dialogue is for this door")
	}
}

func run(t *testing.T, a *door, d *testkit.Dialogue, w *testkit.WebSocket, c cutter, name string) {
	t.Helper()
	defer func() {
		// The next dialogue has its own client.
		if !w.Closed {
			w.Frame(t, mqtt.Client, wire.OpClose, true, nil)
		}
	}()
	reloaded := false
	defer func() {
		if reloaded {
			reload(t, a, d.Config)
		}
	}()
	for i, s := range d.Steps {
		from := mqtt.Client
		switch s.Act {
		case testkit.BrokerSends:
			from = mqtt.Broker
		case testkit.ClientSends:
		case testkit.Reload:
			reload(t, a, s.Config)
			reloaded = true
			continue
		default:
			return // nothing that a frame shows
		}
		before := len(w.Passed[from])
		worst := wire.WSAllow
		cut := c.cut
		if c.clean && d.Doors == testkit.AgentDoor {
			cut = func(b []byte) [][]byte { return [][]byte{b} } // it is about this frame
		}
		if blocks, ok := w.Via().(*streamProxy); ok {
			blocks.as = decisions[s.Decision] // gRPC v2 does not say which refusal it is
		}
		for _, frame := range cut(s.Bytes) {
			r := w.Send(t, from, frame)
			worst = min(worst, r.WebSocket)
			if w.Closed {
				break
			}
		}
		wanted, known := decisions[s.Decision]
		passed := w.Passed[from][before:]
		switch {
		case !known:
		case s.End == "client-disconnect" && wanted == wire.WSAllow && w.Closed:
			return // bytes behind a DISCONNECT, which nobody reads, do not pass
		case wanted == wire.WSAllow && (worst != wire.WSAllow || !bytes.Equal(passed, s.Bytes)):
			t.Errorf("%s: step %d: %v, want allow; passed %x of %x", name, i, worst, passed, s.Bytes)
			return
		case c.clean && worst != wanted:
			t.Errorf("%s: step %d: %v, want %v", name, i, worst, wanted)
			return
		case wanted != wire.WSAllow && (worst == wire.WSAllow || bytes.Equal(passed, s.Bytes)):
			t.Errorf("%s: step %d: %v, want %v; passed %x of %x", name, i, worst, wanted, passed, s.Bytes)
			return
		}
		if w.Closed || s.End != "" {
			return
		}
	}
}

func reload(t *testing.T, a *door, text string) {
	t.Helper()
	cfg := parse(t, a.dir, text)
	engine, err := policy.Compile(cfg)
	if err == nil {
		err = a.gate.Reload(cfg, engine)
	}
	if err == nil {
		err = a.Reload(cfg)
	}
	if err != nil {
		t.Fatal(err)
	}
}
