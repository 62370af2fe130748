package session_test

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/session"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// engines keeps what was compiled: many dialogues share a configuration.
var engines sync.Map // config text → *policy.Engine

func engineOf(t testing.TB, text string) *policy.Engine {
	t.Helper()
	if e, ok := engines.Load(text); ok {
		return e.(*policy.Engine)
	}
	cfg, _, err := config.Parse("dialogue.json", "", []byte(text), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatalf("configuration %s: %v", text, err)
	}
	e, err := policy.Compile(cfg)
	if err != nil {
		t.Fatalf("configuration %s: %v", text, err)
	}
	engines.Store(text, e)
	return e
}

// rig drives a session the way a door does: it keeps what was not consumed,
// answers what is asked for, and records what comes out.
type rig struct {
	t         testing.TB
	s         *session.Session
	door      policy.Door
	engine    *policy.Engine
	now       session.Time
	fx        session.Effects
	pending   [2][]byte
	paused    [2]bool
	dialFails bool
	verifies  session.Time       // how long the answer of Admit takes
	refuse    *session.Admission // what Admit gets instead of a subject

	// What came out since take.
	out       [2][]byte
	events    []string
	decision  session.Decision
	decided   bool
	verdicts  []session.PacketVerdict
	ended     bool
	end       session.End
	forwarded func(to mqtt.Side, b []byte) // sees every byte, when set
	seen      func(e *session.Event)       // every event, when set
}

func newRig(t testing.TB, door policy.Door, engine *policy.Engine) *rig {
	r := &rig{t: t, door: door, engine: engine, now: 1000 * session.Second}
	set := session.NewSettings(door, engine.Config())
	set.NewID = func() string { return strings.Repeat("x", 22) }
	r.s = session.New(set, r.now)
	r.fx.WantVerdicts = true
	return r
}

func (r *rig) subject() *policy.Subject {
	if s := r.s.Subject(); s != nil {
		return r.engine.Bind(*s.Identity())
	}
	c := r.s.Connect()
	return r.engine.Bind(policy.Identity{
		Username: c.Username, Anonymous: !c.HasUsername, ClientID: c.ClientID,
		Standing: policy.Claimed, Version: c.Version, Door: r.door,
	})
}

// call resets the effects, calls f, and acts on what it asks for.
func (r *rig) call(input []byte, from mqtt.Side, f func()) {
	r.fx.Reset()
	f()
	for to := range r.fx.Out {
		b := r.fx.Bytes(mqtt.Side(to), input, nil)
		r.out[to] = append(r.out[to], b...)
		if r.forwarded != nil && len(b) > 0 {
			r.forwarded(mqtt.Side(to), b)
		}
	}
	for _, v := range r.fx.Verdicts {
		r.decision, r.decided = max(r.decision, v.Decision), true
		r.verdicts = append(r.verdicts, v)
	}
	for i := range r.fx.Events {
		if r.seen != nil {
			r.seen(&r.fx.Events[i])
		}
		if r.fx.Events[i].Count > 0 {
			continue // no new one
		}
		r.events = append(r.events, tags(&r.fx.Events[i]))
	}
	if r.fx.Ended {
		r.ended, r.end = true, r.fx.End
	}
	r.paused = r.fx.Pause
	need, ticket := r.fx.Need, r.fx.Ticket
	switch need {
	case session.NeedVerify:
		a := session.Admission{}
		if a.Subject = r.subject(); r.refuse != nil {
			a = *r.refuse
		}
		r.now += r.verifies
		r.call(nil, from, func() { r.s.Admit(r.now, ticket+1, session.Admission{}, &r.fx) }) // a stale answer
		r.call(nil, from, func() { r.s.Admit(r.now, ticket, a, &r.fx) })
	case session.NeedDial:
		up := new(config.Upstream)
		if r.dialFails {
			up = nil
		}
		r.call(nil, from, func() { r.s.Dialled(r.now, ticket, up, &r.fx) })
	}
}

// feed gives bytes of one side and then, as long as something moves, what was
// kept of either.
func (r *rig) feed(from mqtt.Side, b []byte) {
	r.pending[from] = append(r.pending[from], b...)
	r.feedPending(from)
	r.drainPending()
}

func (r *rig) feedPending(from mqtt.Side) bool {
	if r.ended {
		return false
	}
	input := r.pending[from]
	n := 0
	r.call(input, from, func() { n = r.s.Feed(r.now, from, input, &r.fx) })
	if n < 0 || n > len(input) {
		r.t.Fatalf("Feed(%d bytes) consumed %d", len(input), n)
	}
	r.pending[from] = bytes.Clone(input[n:])
	return n > 0
}

func (r *rig) drainPending() {
	for moved := true; moved; {
		moved = false
		for _, side := range []mqtt.Side{mqtt.Client, mqtt.Broker} {
			if len(r.pending[side]) > 0 && !r.paused[side] && !r.ended {
				moved = r.feedPending(side) || moved
			}
		}
	}
}

// tags are an event's tags without "mqtt".
func tags(e *session.Event) string {
	names := map[session.Kind]string{
		session.KindAllowed: "allowed", session.KindConnected: "connect,success", session.KindBlocked: "blocked",
		session.KindDetected: "detect-only", session.KindQoSDowngraded: "qos-downgraded",
		session.KindRetainStripped: "retain-stripped", session.KindQoSOverLimit: "qos-over-limit",
		session.KindRetainedOverLimit: "retained-over-limit", session.KindWillRemoved: "will-removed",
		session.KindDeliveryFiltered: "delivery-filtered", session.KindSubscriptionRemoved: "subscription-removed",
		session.KindDisconnected: "disconnect",
	}
	s := names[e.Kind]
	if e.Kind == session.KindBlocked || e.Kind == session.KindDetected {
		s += "," + e.Reason.Tag()
	}
	return s
}

func (r *rig) wait(d session.Time) {
	// A driver calls Tick at the wake, not at the end of the wait.
	until := r.now + d
	for !r.ended && r.fx.Wake > 0 && r.fx.Wake <= until {
		if r.fx.Wake > r.now {
			r.now = r.fx.Wake
		}
		last := r.fx.Wake
		r.call(nil, mqtt.Client, func() { r.s.Tick(r.now, &r.fx) })
		if !r.ended && r.fx.Wake > 0 && r.fx.Wake <= last {
			r.t.Fatalf("Tick at %d asks for another at %d", r.now, r.fx.Wake)
		}
	}
	r.now = until
}

// hold is a driver that stops reading from the client, or resumes.
func (r *rig) hold(stopped bool) { r.fx.Wake = r.s.Hold(r.now, stopped) }

// do performs a step, its bytes by way of feed.
func (r *rig) do(s *testkit.Step, feed func(from mqtt.Side, b []byte)) {
	end := func(e session.End) { r.call(nil, mqtt.Client, func() { r.s.End(r.now, e, &r.fx) }) }
	lost := func(side mqtt.Side) { r.call(nil, side, func() { r.s.Lost(r.now, side, &r.fx) }) }
	switch s.Act {
	case testkit.ClientSends:
		feed(mqtt.Client, s.Bytes)
	case testkit.BrokerSends:
		feed(mqtt.Broker, s.Bytes)
	case testkit.TimePasses:
		r.wait(session.Time(s.Wait.Nanoseconds()))
	case testkit.ClientLost:
		lost(mqtt.Client)
	case testkit.BrokerLost:
		lost(mqtt.Broker)
	case testkit.Drain:
		end(session.End{Cause: session.CauseDrain})
	case testkit.Kick:
		end(session.End{Cause: session.CausePolicy, Code: mqtt.AdministrativeAction})
	case testkit.Revoke:
		r.call(nil, mqtt.Client, func() { r.s.Policy(r.now, nil, &r.fx) })
	case testkit.Reload:
		r.engine = engineOf(r.t, s.Config)
		if !r.s.Renew(session.NewSettings(r.door, r.engine.Config())) {
			end(session.End{Cause: session.CausePolicy, Reason: policy.ReasonNotAllowed, Rule: policy.RuleRevoked})
			break
		}
		subject := r.subject()
		r.call(nil, mqtt.Client, func() { r.s.Policy(r.now, subject, &r.fx) })
	case testkit.DialFails:
		r.dialFails = true
	}
	r.drainPending()
}

// check compares what came out of a step, and takes it.
func (r *rig) check(i int, s *testkit.Step, whole bool) {
	r.t.Helper()
	where := fmt.Sprintf("step %d (%v % x)", i, s.Act, cut(s.Bytes))
	if r.door == policy.DoorGateway {
		for side, want := range map[mqtt.Side][]byte{mqtt.Broker: s.ToBroker, mqtt.Client: s.ToClient} {
			if !bytes.Equal(r.out[side], want) {
				r.t.Errorf("%s: the %v got\n  % x\nwant\n  % x", where, side, r.out[side], want)
			}
		}
	} else if len(r.out[0])+len(r.out[1]) > 0 {
		r.t.Errorf("%s: the agent door has bytes to send: % x", where, r.out)
	}
	if s.Decision != "" && whole {
		if got := r.decision.String(); got != s.Decision || !r.decided {
			r.t.Errorf("%s: decided %s, want %s", where, got, s.Decision)
		}
	}
	if diff := cmp.Diff(s.Events, r.events); diff != "" {
		r.t.Errorf("%s: events (-want +got)\n%s", where, diff)
	}
	end := ""
	if r.ended {
		end = causes[r.end.Cause]
	}
	if end != s.End {
		r.t.Errorf("%s: ended %q, want %q", where, end, s.End)
	}
	if r.ended && s.Code != 0 && byte(r.end.Code) != s.Code {
		r.t.Errorf("%s: code 0x%02X, want 0x%02X", where, byte(r.end.Code), s.Code)
	}
	r.out, r.events, r.verdicts = [2][]byte{}, nil, nil
	r.decision, r.decided = session.DecisionAllow, false
}

func cut(b []byte) []byte { return b[:min(len(b), 40)] }

var causes = map[session.Cause]string{
	session.CauseClientDisconnect: "client-disconnect", session.CauseClientLost: "client-lost",
	session.CauseKeepAlive: "keep-alive", session.CauseMalformed: "malformed", session.CauseProtocol: "protocol",
	session.CauseRefused: "refused", session.CausePolicy: "policy", session.CauseDrain: "drain",
	session.CauseUpstreamLost: "upstream-lost", session.CauseBrokerFault: "broker-fault",
	session.CauseBrokerRefused: "broker-refused", session.CauseBrokerDisconnect: "broker-disconnect",
	session.CauseConnectTimeout: "connect-timeout", session.CauseStalled: "stalled", session.CauseInternal: "internal",
}

// doors are those in which a dialogue holds.
func doors(d *testkit.Dialogue) []policy.Door {
	switch d.Doors {
	case testkit.GatewayDoor:
		return []policy.Door{policy.DoorGateway}
	case testkit.AgentDoor:
		return []policy.Door{policy.DoorAgent}
	}
	return []policy.Door{policy.DoorGateway, policy.DoorAgent}
}

func TestDialogues(t *testing.T) {
	for _, d := range testkit.Dialogues() {
		for _, door := range doors(&d) {
			t.Run(d.Name+"/"+door.String(), func(t *testing.T) {
				r := newRig(t, door, engineOf(t, d.Config))
				for i := range d.Steps {
					r.do(&d.Steps[i], r.feed)
					r.check(i, &d.Steps[i], true)
					if t.Failed() {
						return
					}
				}
			})
		}
	}
}

// TestDialoguesByteByByte feeds every packet in pieces of one byte.
func TestDialoguesByteByByte(t *testing.T) {
	for _, d := range testkit.Dialogues() {
		for _, door := range doors(&d) {
			if frames(&d, door) {
				continue
			}
			t.Run(d.Name+"/"+door.String(), func(t *testing.T) {
				r := newRig(t, door, engineOf(t, d.Config))
				for i := range d.Steps {
					r.do(&d.Steps[i], func(from mqtt.Side, b []byte) {
						for j := range b {
							r.feed(from, b[j:j+1])
						}
					})
					r.check(i, &d.Steps[i], true)
					if t.Failed() {
						return
					}
				}
			})
		}
	}
}

// TestDialoguesCut cuts the bytes of every step once, at every place.
func TestDialoguesCut(t *testing.T) {
	for _, d := range testkit.Dialogues() {
		for _, door := range doors(&d) {
			if frames(&d, door) {
				continue
			}
			t.Run(d.Name+"/"+door.String(), func(t *testing.T) {
				for i := range d.Steps {
					for at := 1; at < min(len(d.Steps[i].Bytes), 200); at++ {
						r := newRig(t, door, engineOf(t, d.Config))
						for j := range d.Steps[:i+1] {
							r.do(&d.Steps[j], func(from mqtt.Side, b []byte) {
								if j == i {
									r.feed(from, b[:at])
									b = b[at:]
								}
								r.feed(from, b)
							})
							r.check(j, &d.Steps[j], true)
						}
						if t.Failed() {
							t.Fatalf("step %d cut at %d", i, at)
						}
					}
				}
			})
		}
	}
}

// frames reports dialogues of the agent door that are about what shares a
// frame, which a cut changes.
func frames(d *testkit.Dialogue, door policy.Door) bool {
	return door == policy.DoorAgent && (strings.HasPrefix(d.Name, "alias/told-in-a-dropped-frame") ||
		strings.HasPrefix(d.Name, "order/after-disconnect"))
}
