package gateway

import (
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/netloop"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/session"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// TestDialogues runs every dialogue of the catalogue that needs no time to
// pass through a real gateway: both engines, TCP and WebSocket, whole packets
// and pieces.
func TestDialogues(t *testing.T) {
	ways := []struct {
		name  string
		web   bool
		piece int // bytes a write; 0: all
	}{
		{"tcp", false, 0},
		{"tcp in pieces", false, 5},
		{"ws", true, 0},
		{"ws in pieces", true, 7},
	}
	overAll(t, func(t *testing.T, transport string) {
		for _, w := range ways {
			t.Run(w.name, func(t *testing.T) {
				t.Parallel()
				shared := map[string]*stage{}
				for _, d := range testkit.Dialogues() {
					if d.Doors == testkit.AgentDoor || d.Timed() {
						continue
					}
					// A gateway serves all dialogues of its configuration
					// that leave it as it is.
					own := slices.ContainsFunc(d.Steps, func(s testkit.Step) bool {
						return s.Act == testkit.Reload || s.Act == testkit.DialFails
					})
					st := shared[d.Config]
					if own || st == nil {
						st = newStage(t, &d, transport)
						if !own {
							shared[d.Config] = st
						}
					}
					st.play(t, &d, w.web, w.piece)
				}
			})
		}
	})
}

// stage is a gateway with a scripted broker.
type stage struct {
	*rig
	broker *script
	up     bool // the broker can be dialled
}

func newStage(t *testing.T, d *testkit.Dialogue, transport string) *stage {
	t.Helper()
	s := &stage{broker: newScript(t)}
	s.up = !slices.ContainsFunc(d.Steps, func(s testkit.Step) bool { return s.Act == testkit.DialFails })
	s.rig = start(t, s.config(t, d.Config, transport))
	s.g.state.Load().settings.NewID = func() string { return strings.Repeat("x", 22) }
	return s
}

func (s *stage) config(t *testing.T, text, transport string) *config.Config {
	cfg := parse(t, text)
	cfg.Gateway.IO = transport
	cfg.Gateway.Upstreams = brokers(s.broker.addr)
	if !s.up {
		cfg.Gateway.Upstreams = brokers(testkit.Refuses(t))
	}
	return cfg
}

// play performs one dialogue with a client of its own.
func (s *stage) play(t *testing.T, d *testkit.Dialogue, web bool, piece int) {
	t.Run(d.Name, func(t *testing.T) {
		s.t, s.broker.t = t, t
		id := s.g.ids.Load() + 1
		var client raw
		if web {
			client = s.dialWS()
		} else {
			client = s.dialTCP()
		}
		var up *net.TCPConn
		var want []string
		var sent [2]uint64
		ended := false
		for i := range d.Steps {
			step := &d.Steps[i]
			switch step.Act {
			case testkit.ClientSends:
				sent[mqtt.Client] += uint64(len(step.Bytes))
				cut(t, client, step.Bytes, piece)
			case testkit.BrokerSends:
				if up == nil {
					up = s.broker.accept()
				}
				sent[mqtt.Broker] += uint64(len(step.Bytes))
				cut(t, up, step.Bytes, piece)
			case testkit.ClientLost:
				client.Close()
			case testkit.BrokerLost:
				if up == nil {
					up = s.broker.accept()
				}
				up.Close()
			case testkit.DialFails:
			default:
				s.post(step)
			}
			want = append(want, step.Events...)
			if len(step.ToBroker) > 0 {
				if up == nil {
					up = s.broker.accept()
				}
				expect(t, "broker", up, step.ToBroker)
			}
			if len(step.ToClient) > 0 {
				expect(t, "client", client, step.ToClient)
			}
			if step.End != "" {
				ended = true
				break
			}
			s.settle(sent)
			if t.Failed() {
				break
			}
		}
		if t.Failed() {
			return
		}
		last := d.Steps[len(d.Steps)-1].Act
		if !ended {
			// Nothing else may have been sent to either.
			client.Close()
			if opened(want) {
				want = append(want, "disconnect")
			}
		} else if last != testkit.ClientLost {
			expectEnd(t, "client", client)
		}
		if up != nil && last != testkit.BrokerLost {
			expectEnd(t, "broker", up)
		}
		client.Close()
		testkit.Eventually(t, "the connection is gone", func() bool { st := s.g.Stats(); return st.Pending+st.Connected == 0 })
		if !ended && !opened(want) {
			return // what else is told depends on how far it came
		}
		for i := range want {
			want[i] = "mqtt," + want[i]
		}
		if diff := cmp.Diff(want, s.tags(id, len(want))); diff != "" {
			t.Errorf("events (-want +got)\n%s", diff)
		}
	})
}

func opened(events []string) bool { return slices.Contains(events, "connect,success") }

// cut writes b in pieces.
func cut(t *testing.T, c interface{ Write([]byte) (int, error) }, b []byte, piece int) {
	t.Helper()
	if piece == 0 {
		piece = max(len(b), 1)
	}
	for len(b) > 0 {
		n := min(piece, len(b))
		if len(b) > 4096 {
			n = len(b) / 2 // not a thousand pieces
		}
		if _, err := c.Write(b[:n]); err != nil {
			return // the gateway may have ended the connection at an earlier piece
		}
		b = b[n:]
	}
}

// drivers runs f for every driver on its loop, and waits.
func (r *rig) drivers(f func(*driver)) {
	r.t.Helper()
	done := make(chan struct{})
	r.g.engine.Each(func(_ netloop.Conn, h netloop.Handler) {
		if d := driverOf(h); d != nil {
			f(d)
		}
	}, func() { close(done) })
	select {
	case <-done:
	case <-time.After(testkit.Patience):
		r.t.Fatal("a loop does not answer")
	}
}

// settle waits until the session has taken what was sent. The beginning of a
// packet that does not come it never takes: for that it waits some turns of the
// loops, not some time, in which the machine may stand still.
func (s *stage) settle(sent [2]uint64) {
	turns := 0
	testkit.Eventually(s.t, "the session takes what was sent", func() bool {
		turns++
		done := true
		s.drivers(func(d *driver) {
			for side := range sent {
				done = done && (d.over || d.waits[side] || d.s.Counters().Bytes[side] >= sent[side])
			}
		})
		return done || turns > 200
	})
}

// post performs a step that comes from inside.
func (s *stage) post(step *testkit.Step) {
	s.t.Helper()
	switch step.Act {
	case testkit.Drain:
		s.drivers(func(d *driver) { d.stop(session.End{Cause: session.CauseDrain}) })
	case testkit.Kick:
		s.drivers(func(d *driver) { d.stop(session.End{Cause: session.CausePolicy, Code: mqtt.AdministrativeAction}) })
	case testkit.Revoke:
		s.drivers(func(d *driver) {
			l := d.local()
			l.fx.Reset()
			d.s.Policy(d.now(d.sides[0]), nil, &l.fx)
			d.apply(l, nil)
		})
	case testkit.Reload:
		cfg := s.config(s.t.(*testing.T), step.Config, s.g.config().Gateway.IO)
		cfg.Gateway.Listeners = s.g.config().Gateway.Listeners
		engine, err := policy.Compile(cfg)
		if err != nil {
			s.t.Fatal(err)
		}
		if err := s.gate.Reload(cfg, engine); err != nil {
			s.t.Fatal(err)
		}
		if err := s.g.Reload(cfg); err != nil {
			s.t.Fatal(err)
		}
		testkit.Eventually(s.t, "every session is rechecked", func() bool {
			done := true
			s.drivers(func(d *driver) {
				done = done && (d.over || d.s.Subject() == nil || d.s.Subject().Engine() == engine)
			})
			return done
		})
	default:
		s.t.Fatalf("unknown act %v", step.Act)
	}
}
