package agent

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/agent/wire"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/session"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// sharers are some WebSockets of one attacker, who chooses their ids, and a
// proxy that has the agent asked over any transport, frame by frame.
type sharers struct {
	door    *door
	rand    *rand.Rand
	through []testkit.Asker
	shown   bool // the agent sees upgrades
	open    []*testkit.WebSocket
	ended   map[*testkit.WebSocket]bool // their brokers take nothing more
	said    []string
}

// TestSharedIDsAtRandom: whatever WebSockets that share ids do, in whatever
// order, what arrives at a broker over one of them holds no forbidden PUBLISH.
// SHARED_TIME runs it for longer, SHARED_SEED once.
func TestSharedIDsAtRandom(t *testing.T) {
	a := open(t, conf(`"general":{"limits":{"pending-per-ip":0,"pending-connections":0}}`, `"auth":{"takeover":"any"}`), nil, overRPC)
	through := []testkit.Asker{a.proxy(t, wire.V1).Pool, a.proxy(t, wire.V2).Pool, a.rpcProxy(t, wire.V1).Via}
	end, rounds := time.Now().Add(time.Second), 0
	if s := os.Getenv("SHARED_TIME"); s != "" {
		d, err := time.ParseDuration(s)
		if err != nil {
			t.Fatal(err)
		}
		end = time.Now().Add(d)
	}
	seed, once := rand.Uint64(), false
	if s := os.Getenv("SHARED_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
		once = true
	}
	passed := 0
	for ; (rounds < 20 || time.Now().Before(end)) && !t.Failed(); seed++ {
		s := &sharers{door: a, rand: rand.New(rand.NewPCG(seed, 0)), through: through, ended: map[*testkit.WebSocket]bool{}}
		passed += s.play(t, fmt.Sprint(seed, "-", rounds, "-"))
		rounds++
		if t.Failed() {
			t.Errorf("seed %d, round %d:\n%s", seed, rounds, strings.Join(s.said, "\n"))
		}
		if once {
			break
		}
	}
	if passed == 0 && !once {
		t.Errorf("nothing was allowed in %d rounds", rounds)
	}
}

// play has two or three WebSockets do things, and returns how many packets
// arrived.
func (s *sharers) play(t *testing.T, id string) (arrived int) {
	s.shown = s.rand.IntN(3) == 0
	var waiting []*testkit.WebSocket
	for range 2 + s.rand.IntN(2) {
		w := (&testkit.Proxy{}).Open(id + strconv.Itoa(s.rand.IntN(8)/7))
		switch s.rand.IntN(12) {
		case 0:
			w.ClientIP = "198.51.100.8"
		case 1:
			w.Route = "other"
		}
		waiting = append(waiting, w)
	}
	for range 24 {
		if n := len(waiting); n > 0 && (len(s.open) == 0 || s.rand.IntN(4) == 0) {
			s.upgrade(t, waiting[n-1])
			waiting = waiting[:n-1]
			continue
		}
		if len(s.open) > 0 {
			s.turn(s.open[s.rand.IntN(len(s.open))])
		}
	}
	for _, w := range s.open {
		for i, p := range packets(w.Passed[mqtt.Client]) {
			if len(p) < 2 || !wholePacket(p) || (i == 0) != (p[0]>>4 == byte(mqtt.CONNECT)) || p[0]>>4 == byte(mqtt.DISCONNECT) {
				break // what a broker would not read
			}
			if arrived++; p[0]>>4 == byte(mqtt.PUBLISH) && !strings.HasPrefix(string(p[4:]), "dev/") && !strings.HasPrefix(string(p[5:]), "dev/") {
				t.Errorf("%s: %q arrived", s.name(w), p)
			}
		}
	}
	fx := &session.Effects{WantVerdicts: true}
	for ws := range s.door.table.all() {
		ws.stop(s.door.Agent, fx)
	}
	return arrived
}

func (s *sharers) name(w *testkit.WebSocket) string {
	for i := range s.open {
		if s.open[i] == w {
			return string(rune('A'+i)) + " (" + w.ID[len(w.ID)-1:] + ")"
		}
	}
	return "?"
}

func (s *sharers) asker() testkit.Asker { return s.through[s.rand.IntN(len(s.through))] }

// upgrade opens w, unless the agent refuses.
func (s *sharers) upgrade(t *testing.T, w *testkit.WebSocket) {
	if s.shown {
		headers := map[string][]string{"upgrade": {"websocket"}, "sec-websocket-protocol": {"mqtt"}}
		r, err := s.asker().Headers(t.Context(), &wire.HeadersEvent{CorrelationID: w.ID, Route: w.Route, ClientIP: w.ClientIP, Headers: headers})
		if err != nil || r.Block != 0 {
			s.said = append(s.said, "upgrade refused, "+w.ID)
			return
		}
	}
	s.open = append(s.open, w)
	s.said = append(s.said, s.name(w)+" opens")
}

// turn has w do something, or time pass.
func (s *sharers) turn(w *testkit.WebSocket) {
	hello := testkit.Connect(v4, string(rune('a'+s.rand.IntN(2))), testkit.KeepAlive(60*s.rand.IntN(2)))
	large := testkit.Publish(v4, "dev/a", 0, 0, strings.Repeat("x", 1<<10))
	forbidden := publish("other", byte(s.rand.IntN(2)))
	binary := func(what string, b ...[]byte) { s.send(w, what, mqtt.Client, wire.OpBinary, join(b...)) }
	switch s.rand.IntN(20) {
	case 0, 1:
		s.send(w, "ping", mqtt.Client, wire.OpPing, nil)
	case 2:
		binary("an empty message")
	case 3:
		s.send(w, "a broker's ping", mqtt.Broker, wire.OpPing, nil)
	case 4, 5:
		binary("CONNECT", hello)
	case 6, 7:
		binary("CONNECT, a head", hello, large[:20])
	case 8, 9:
		binary("CONNECT, forbidden", hello, forbidden)
	case 10, 11:
		binary("forbidden", forbidden)
	case 12:
		binary("a head", large[:20])
	case 13:
		binary("forbidden, the rest", forbidden, large[20+len(forbidden):])
	case 14:
		binary("allowed", publish("dev/b", 0))
	case 15:
		s.send(w, "CONNACK", mqtt.Broker, wire.OpBinary, testkit.Connack(v4, false, 0))
	case 16:
		binary("DISCONNECT", testkit.Disconnect(v4, 0))
	case 17:
		side := mqtt.Side(s.rand.IntN(2))
		s.send(w, fmt.Sprint("close from ", side), side, wire.OpClose, nil)
	case 18:
		s.said = append(s.said, "an hour")
		s.door.tick(s.door.now()+maxSilence+session.Second, time.Now(), &session.Effects{WantVerdicts: true})
	case 19:
		s.said = append(s.said, "complete")
		s.door.decider().completed(w.ID)
	}
}

// send has the agent asked about a frame and does what it says.
func (s *sharers) send(w *testkit.WebSocket, what string, from mqtt.Side, op wire.Opcode, data []byte) {
	if w.Closed {
		return
	}
	e := w.Event(from, op, true, data)
	r, err := s.asker().Frame(s.door.base, &e)
	w.Closed = err != nil || r.WebSocket == wire.WSClose
	switch {
	case w.Closed || r.WebSocket != wire.WSAllow:
	case op == wire.OpClose:
		s.ended[w] = true
	case !op.Control() && !s.ended[w]:
		w.Passed[from] = append(w.Passed[from], data...)
	}
	s.said = append(s.said, fmt.Sprintf("%s: %s: %v %s", s.name(w), what, r.WebSocket, r.Reason))
}
