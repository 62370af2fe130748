package session_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/session"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// TestRepeatsAreCounted has a peer that makes an event of every packet: the
// first of each kind and rule is told at once, the others as a number a minute,
// and what is left at the end.
func TestRepeatsAreCounted(t *testing.T) {
	const config = `{` + plainRules + `, "qos": {"enabled": true, "max-qos": 0},
		"general": {"limits": {"denials-per-minute": 0}}}`
	r := openRig(t, policy.DoorGateway, mqtt.V5, config)
	var got []session.Event
	collect := func() {
		for _, e := range r.fx.Events {
			if !e.Repeat {
				e.Topic = bytes.Clone(e.Topic)
				got = append(got, e)
			}
		}
	}
	take := func(want ...string) {
		t.Helper()
		var told []string
		for _, e := range got {
			if e.Kind != session.KindDisconnected {
				told = append(told, fmt.Sprintf("%s %q %d", tags(&e), e.Topic, e.Count))
			}
		}
		if got = nil; !slices.Equal(told, want) {
			t.Errorf("told\n%s\nwant\n%s", strings.Join(told, "\n"), strings.Join(want, "\n"))
		}
	}
	flood := func(n int) {
		for range n {
			r.feed(mqtt.Client, testkit.Publish(r.s.Subject().Identity().Version, "dev/1", 1, 7, ""))
			collect()
			r.feed(mqtt.Broker, testkit.Publish(r.s.Subject().Identity().Version, "secret/1", 0, 0, ""))
			collect()
		}
	}
	tick := func(d session.Time) {
		for ; d > 0; d -= 60 * session.Second {
			r.feed(mqtt.Client, testkit.Pingreq())
			r.feed(mqtt.Broker, testkit.Pingresp())
			r.now += min(d, 60*session.Second)
			r.call(nil, mqtt.Client, func() { r.s.Tick(r.now, &r.fx) })
			collect()
		}
	}
	flood(1000)
	take(`qos-downgraded "dev/1" 0`, `delivery-filtered "secret/1" 0`)
	if wait := r.fx.Wake - r.now; wait <= 0 || wait > 60*session.Second {
		t.Errorf("wakes after %d s, at most 60", wait/session.Second)
	}
	tick(59 * session.Second)
	take()
	tick(session.Second)
	take(`qos-downgraded "" 999`, `delivery-filtered "" 999`)
	tick(300 * session.Second)
	take()
	flood(3)
	take(`qos-downgraded "dev/1" 0`, `delivery-filtered "secret/1" 0`)
	r.feed(mqtt.Client, testkit.Disconnect(mqtt.V5, 0))
	collect()
	take(`qos-downgraded "" 2`, `delivery-filtered "" 2`)
}

// TestRefusalsAreCounted has a client that is refused with every packet, or
// would be: the first 16 by a rule in a minute are told each, the others as a
// number.
func TestRefusalsAreCounted(t *testing.T) {
	const n, v = 100, mqtt.V311
	subscribe := testkit.Subscribe(v, 7, "secret/1")
	for name, c := range map[string]struct {
		config string
		from   mqtt.Side
		packet []byte
		kind   session.Kind
	}{
		"publish":         {``, mqtt.Client, testkit.Publish(v, "secret/1", 1, 7, ""), session.KindBlocked},
		"subscribe":       {``, mqtt.Client, subscribe, session.KindBlocked},
		"would publish":   {`"block-mode": false,`, mqtt.Client, testkit.Publish(v, "secret/1", 1, 7, ""), session.KindDetected},
		"would subscribe": {`"block-mode": false,`, mqtt.Client, subscribe, session.KindDetected},
		"would get":       {`"block-mode": false,`, mqtt.Broker, testkit.Publish(v, "secret/1", 1, 7, ""), session.KindDetected},
		"too large":       {`"block-mode": false, "max-packet-size": 20,`, mqtt.Client, testkit.Subscribe(v, 7, "secret/1", "secret/2"), session.KindDetected},
	} {
		t.Run(name, func(t *testing.T) {
			r := openRig(t, policy.DoorGateway, v, `{`+plainRules+`, "general": {`+c.config+`"limits": {"denials-per-minute": 0}}}`)
			told, counted, repeats := 0, uint64(0), 0
			r.seen = func(e *session.Event) {
				switch {
				case e.Kind != c.kind:
				case e.Repeat:
					repeats++
				case e.Count > 0:
					counted += e.Count
				default:
					told++
				}
			}
			for minute := range 2 {
				for range n {
					r.feed(c.from, c.packet)
				}
				if told != 16 || repeats != n-16 || counted != 0 {
					t.Errorf("minute %d: %d told, %d to be counted, %d counted, want 16, %d, 0", minute, told, repeats, counted, n-16)
				}
				if wait := r.fx.Wake - r.now; r.fx.Wake == 0 || wait > 60*session.Second {
					t.Errorf("wakes after %d s, at most 60", wait/session.Second)
				}
				r.now += 60 * session.Second
				r.call(nil, mqtt.Client, func() { r.s.Tick(r.now, &r.fx) })
				if counted != n-16 {
					t.Errorf("minute %d: %d counted, want %d", minute, counted, n-16)
				}
				told, counted, repeats = 0, 0, 0
				r.now += 60 * session.Second
			}
		})
	}
}

// TestTheLastRefusalIsTold has a client refused without end, and then ended.
func TestTheLastRefusalIsTold(t *testing.T) {
	const v = mqtt.V311
	r := openRig(t, policy.DoorAgent, v, `{`+plainRules+`, "agent": {"on-deny": "close"}}`)
	var last session.Event
	r.seen = func(e *session.Event) {
		if e.Kind == session.KindBlocked && e.Count == 0 {
			last = *e
		}
	}
	for range 100 {
		r.feed(mqtt.Client, testkit.Publish(v, "secret/1", 0, 0, ""))
	}
	if !last.Repeat {
		t.Error("100 refusals are told each")
	}
	r.feed(mqtt.Client, testkit.Publish(v, "secret/1", 1, 7, ""))
	if last.Repeat || last.Decision != session.DecisionClose || !r.ended {
		t.Errorf("the refusal that ends it: decision %v, repeat %v, ended %v", last.Decision, last.Repeat, r.ended)
	}
}

// TestRepeatsAreBounded has more rules withhold something than are counted
// apart.
func TestRepeatsAreBounded(t *testing.T) {
	var rules strings.Builder
	for i := range 50 {
		fmt.Fprintf(&rules, `{"name": "r%d", "topics": ["s/%d"], "decision": "deny"},`, i, i)
	}
	r := openRig(t, policy.DoorGateway, mqtt.V311,
		`{"acl": {"rules": [`+rules.String()+`{"name": "all", "topics": ["#"], "decision": "allow"}]}}`)
	told := map[string]uint64{}
	collect := func() {
		for i := range r.fx.Events {
			if e := &r.fx.Events[i]; e.Kind == session.KindDeliveryFiltered && !e.Repeat {
				told[r.engine.RuleName(e.Rule)] += max(e.Count, 1)
			}
		}
	}
	for range 2 {
		for i := range 50 {
			r.feed(mqtt.Broker, testkit.Publish(mqtt.V311, fmt.Sprintf("s/%d", i), 0, 0, ""))
			collect()
		}
	}
	r.feed(mqtt.Client, testkit.Disconnect(mqtt.V311, 0))
	collect()
	total := uint64(0)
	for _, n := range told {
		total += n
	}
	// The first of the others is told by the name of its rule.
	if len(told) != 10 || told["r0"] != 2 || told["others"] != 83 || total != 100 {
		t.Errorf("told %v: %d in all", told, total)
	}
}

// TestEachChangeNamesItsRule has one PUBLISH changed by two rules.
func TestEachChangeNamesItsRule(t *testing.T) {
	r := openRig(t, policy.DoorGateway, mqtt.V5, `{`+plainRules+`, "qos": {"enabled": true, "max-qos": 0},
		"retained": {"enabled": true, "allow-retained": false, "on-denied": "strip"}}`)
	r.feed(mqtt.Client, testkit.Publish(mqtt.V5, "dev/a", 1, 7, "x", testkit.Retain()))
	var got []string
	for i := range r.fx.Events {
		e := &r.fx.Events[i]
		got = append(got, tags(e)+" by "+r.engine.RuleName(e.Rule))
	}
	if want := []string{"qos-downgraded by max-qos", "retain-stripped by retained"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestEachRefusalNamesItsRule has one request refused by several rules, blocked
// or only detected: each is told with its filters, and the packet counts once.
func TestEachRefusalNamesItsRule(t *testing.T) {
	const acl = `"acl": {"rules": [{"name": "d1", "topics": ["n1/#"], "decision": "deny"},
		{"name": "d2", "topics": ["n2/#"], "decision": "deny"}, {"name": "all", "topics": ["#"], "decision": "allow"}]}`
	for name, general := range map[string]string{"blocked": `"general": {}`, "detect-only": `"general": {"block-mode": false}`} {
		r := openRig(t, policy.DoorGateway, mqtt.V5, `{`+acl+`, `+general+`}`)
		var got []string
		r.seen = func(e *session.Event) {
			got = append(got, fmt.Sprintf("%s %q by %s, further %v", tags(e), e.Filters, r.engine.RuleName(e.Rule), e.Further))
		}
		r.feed(mqtt.Client, testkit.Subscribe(mqtt.V5, 7, "n1/a", "n2/a", "ok", "$SYS/a", "n1/b", "$share"))
		want := []string{
			name + `,acl-denied ["n1/a" "n1/b"] by d1, further false`,
			name + `,acl-denied ["n2/a"] by d2, further true`,
			name + `,acl-denied ["$SYS/a"] by default-action, further true`,
			name + `,protocol-error ["$share"] by , further true`,
		}
		if !slices.Equal(got, want) {
			t.Errorf("told\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if n := r.s.Counters().Denials; name == "blocked" && n != 1 {
			t.Errorf("%d denials, want 1", n)
		}
	}
}

// TestRefusalsOfOneRequestAreBounded has a request with more filters refused by
// more rules than are told apart: none is left uncounted.
func TestRefusalsOfOneRequestAreBounded(t *testing.T) {
	const rules, each = 1000, 100
	var acl strings.Builder
	var filters []string
	for i := range rules {
		fmt.Fprintf(&acl, `{"name": "r%d", "topics": ["s%d/#"], "decision": "deny"},`, i, i)
	}
	for i := range rules * each {
		filters = append(filters, fmt.Sprintf("s%d/a", i%rules))
	}
	r := openRig(t, policy.DoorGateway, mqtt.V5, `{"acl": {"rules": [`+acl.String()+`{"topics": ["#"], "decision": "allow"}]},
		"general": {"max-packet-size": 2000000, "limits": {"filters-per-subscribe": 0}}}`)
	var got []string
	r.seen = func(e *session.Event) {
		got = append(got, fmt.Sprintf("%s %d+%d", r.engine.RuleName(e.Rule), len(e.Filters), e.MoreFilters))
	}
	r.feed(mqtt.Client, testkit.Subscribe(mqtt.V5, 7, filters...))
	var want []string
	for i := range 16 {
		want = append(want, fmt.Sprintf("r%d 16+%d", i, each-16))
	}
	if want = append(want, fmt.Sprintf("others 16+%d", (rules-16)*each-16)); !slices.Equal(got, want) {
		t.Errorf("told %q, want %q", got, want)
	}
}

// TestWillIsNamed tells a CONNECT refused for its will from one refused for
// something else that has a will.
func TestWillIsNamed(t *testing.T) {
	for name, c := range map[string]struct {
		config string
		refuse *session.Admission
		topic  string
		will   bool
	}{
		"will":        {`{` + plainRules + `}`, nil, "secret/w", true},
		"credentials": {`{` + plainRules + `}`, &session.Admission{Reason: policy.ReasonBadCredentials, Rule: policy.RuleProviders}, "", false},
		"removed":     {`{"acl": {"on-denied-will": "remove", "rules": []}}`, nil, "secret/w", true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, policy.DoorGateway, engineOf(t, c.config))
			r.refuse = c.refuse
			var got []session.Event
			r.seen = func(e *session.Event) { got = append(got, *e) }
			r.feed(mqtt.Client, testkit.Connect(mqtt.V5, "c1", testkit.Will("secret/w", "gone", 1, false)))
			if len(got) != 1 || got[0].Will != c.will || string(got[0].Topic) != c.topic {
				t.Errorf("told %+v, want one about the will %v, topic %q", got, c.will, c.topic)
			}
		})
	}
}

// TestConnectTellsHowLongItWaited: each event about a CONNECT has the time that
// the answer about the client took, others have none.
func TestConnectTellsHowLongItWaited(t *testing.T) {
	const waits = 250 * session.Second / 1000
	for name, c := range map[string]struct {
		refuse   *session.Admission
		verifies session.Time
		want     string
	}{
		"admitted": {nil, waits, "will-removed 250 connect,success 250 disconnect 0 "},
		"refused":  {&session.Admission{Reason: policy.ReasonBadCredentials, Rule: policy.RuleProviders}, waits, "blocked,auth-failed 250 "},
		"known":    {nil, 0, "will-removed 0 connect,success 0 disconnect 0 "},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, policy.DoorGateway, engineOf(t, `{"acl": {"on-denied-will": "remove", "rules": []}}`))
			r.refuse, r.verifies = c.refuse, c.verifies
			got := ""
			r.seen = func(e *session.Event) { got += fmt.Sprintf("%s %d ", tags(e), e.Waited/(session.Second/1000)) }
			r.feed(mqtt.Client, testkit.Connect(mqtt.V5, "c1", testkit.Will("secret/w", "gone", 1, false)))
			r.wait(session.Second)
			r.feed(mqtt.Broker, testkit.Connack(mqtt.V5, false, 0))
			r.feed(mqtt.Client, testkit.Disconnect(mqtt.V5, 0))
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// TestRemovedSubscriptionsNameTheirRules changes the policy under several.
func TestRemovedSubscriptionsNameTheirRules(t *testing.T) {
	r := openRig(t, policy.DoorGateway, mqtt.V5, `{`+plainRules+`}`)
	r.feed(mqtt.Client, testkit.Subscribe(mqtt.V5, 1, "dev/a", "dev/b", "dev/c", "dev/d"))
	r.feed(mqtt.Broker, testkit.Suback(mqtt.V5, 1, 0, 0, 0, 0))
	r.engine = engineOf(t, `{"acl": {"rules": [
		{"name": "no-a", "topics": ["dev/a"], "decision": "deny"}, {"name": "only-b", "topics": ["dev/b"], "decision": "allow"}]}}`)
	var got []string
	r.seen = func(e *session.Event) {
		got = append(got, fmt.Sprintf("%s %q by %s, decision %v", tags(e), e.Filters, r.engine.RuleName(e.Rule), e.Decision))
	}
	r.call(nil, mqtt.Client, func() { r.s.Policy(r.now, r.subject(), &r.fx) })
	if want := []string{
		`subscription-removed ["dev/a"] by no-a, decision drop`,
		`subscription-removed ["dev/c" "dev/d"] by default-action, decision drop`,
	}; !slices.Equal(got, want) {
		t.Errorf("told\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
