package session_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/session"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// TestRefusals is the first two rows of the answers a client sees.
func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		name        string
		reason      policy.Reason
		five, three byte
	}{
		{"bad credentials", policy.ReasonBadCredentials, 0x86, 4},
		{"anonymous", policy.ReasonNotAllowed, 0x87, 5},
		{"client id", policy.ReasonClientID, 0x85, 2},
		{"locked out", policy.ReasonLockedOut, 0x97, 3},
		{"hashing busy", policy.ReasonAuthBusy, 0x89, 3},
		{"broker away", policy.ReasonServerUnavailable, 0x88, 3},
		{"too many", policy.ReasonTooManyConnections, 0x9F, 3},
		{"draining", policy.ReasonDraining, 0x88, 3},
		{"limit", policy.ReasonLimit, 0x97, 5},
	} {
		for _, v := range []mqtt.Version{mqtt.V311, mqtt.V5} {
			t.Run(c.name+"/"+v.String(), func(t *testing.T) {
				r := newRig(t, policy.DoorGateway, engineOf(t, plainConfig))
				r.refuse = &session.Admission{Reason: c.reason, Rule: policy.RuleProviders}
				r.feed(mqtt.Client, testkit.Connect(v, "c1", testkit.User("u"), testkit.Password("p")))
				code := c.three
				if v == mqtt.V5 {
					code = c.five
				}
				r.check(0, &testkit.Step{
					ToClient: testkit.Connack(v, false, code), Decision: "close",
					Events: []string{"blocked," + c.reason.Tag()}, End: "refused",
				}, true)
				if r.s.Connect().Password != nil {
					t.Error("the password is kept")
				}
			})
		}
	}
}

// TestUpstreamConnect is what goes upstream by upstreams[].
func TestUpstreamConnect(t *testing.T) {
	v := mqtt.V311
	client := testkit.Connect(v, "c1", testkit.User("ann"), testkit.Password("secret"))
	bare := testkit.Connect(v, "c1")
	const with, without = `{"auth": {"enabled": true, "allow-anonymous": true}, ` + plainRules + `}`, `{` + plainRules + `}`
	for _, c := range []struct {
		name     string
		config   string
		upstream config.Upstream
		detected bool
		want     []byte
	}{
		{"pass by default", without, config.Upstream{}, false, client},
		{"strip by default with authentication", with, config.Upstream{}, false, bare},
		{
			"replace by default with a user name", with,
			config.Upstream{Username: "gw", Password: "pw"},
			false,
			testkit.Connect(v, "c1", testkit.User("gw"), testkit.Password("pw")),
		},
		{
			"replace with templates", with,
			config.Upstream{Credentials: "replace", Username: "%u.%c", Password: "%u"},
			false,
			testkit.Connect(v, "c1", testkit.User("ann.c1"), testkit.Password("%u")),
		},
		{
			"replace without a password", with,
			config.Upstream{Credentials: "replace", Username: "gw"},
			false,
			testkit.Connect(v, "c1", testkit.User("gw")),
		},
		{"pass", with, config.Upstream{Credentials: "pass"}, false, client},
		{"strip", without, config.Upstream{Credentials: "strip"}, false, bare},
		{
			"client id", without,
			config.Upstream{ClientID: "gw/%u/%c"},
			false,
			testkit.Connect(v, "gw/ann/c1", testkit.User("ann"), testkit.Password("secret")),
		},
		{
			"its own when it would have been refused", `{"general": {"block-mode": false}, ` + plainRules + `}`,
			config.Upstream{Username: "gw", Password: "pw"},
			true, client,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			engine := engineOf(t, c.config)
			s := session.New(session.NewSettings(policy.DoorGateway, engine.Config()), 1)
			subject := engine.Bind(policy.Identity{Username: "ann", ClientID: "c1"})
			var fx session.Effects
			s.Feed(1, mqtt.Client, client, &fx)
			if fx.Need != session.NeedVerify {
				t.Fatalf("needs %d", fx.Need)
			}
			ticket := fx.Ticket
			fx.Reset()
			s.Admit(1, ticket, session.Admission{Subject: subject, Detected: c.detected, Reason: policy.ReasonBadCredentials}, &fx)
			ticket = fx.Ticket
			fx.Reset()
			s.Dialled(1, ticket, &c.upstream, &fx)
			if got := fx.Bytes(mqtt.Broker, nil, nil); !bytes.Equal(got, c.want) {
				t.Errorf("sent % x\nwant % x", got, c.want)
			}
		})
	}
}

const plainRules = `"acl": {"rules": [{"topics": ["dev/#"], "decision": "allow"}]}`

// TestReloadBeforeTheDial changes the policy when the CONNECT has been admitted
// and the broker not been reached: what goes up is what is allowed then.
func TestReloadBeforeTheDial(t *testing.T) {
	v := mqtt.V5
	first := `{"acl": {"rules": [{"topics": ["#"], "decision": "allow"}]}}`
	for _, c := range []struct {
		name, config string
		toBroker     []byte
		toClient     []byte
		events       []string
	}{
		{"unchanged", first, testkit.Connect(v, "c1", testkit.Will("w", "x", 1, true)), nil, nil},
		{
			"the will is denied", `{"acl": {"rules": [{"topics": ["dev/#"], "decision": "allow"}]}}`,
			nil, testkit.Connack(v, false, 0x87),
			[]string{"blocked,acl-denied"},
		},
		{
			"the will is removed", `{"acl": {"on-denied-will": "remove", "rules": [{"topics": ["dev/#"], "decision": "allow"}]}}`,
			testkit.Connect(v, "c1"), nil,
			[]string{"will-removed"},
		},
		{
			"the will is lowered", `{"qos": {"enabled": true, "max-qos": 0}, "acl": {"rules": [{"topics": ["#"], "decision": "allow"}]}}`,
			testkit.Connect(v, "c1", testkit.Will("w", "x", 0, true)), nil,
			[]string{"qos-downgraded"},
		},
		{
			"connecting is denied", `{"acl": {"rules": [{"actions": ["connect"], "decision": "deny"}, {"topics": ["#"], "decision": "allow"}]}}`,
			nil, testkit.Connack(v, false, 0x87),
			[]string{"blocked,acl-denied"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, policy.DoorGateway, engineOf(t, first))
			client := testkit.Connect(v, "c1", testkit.Will("w", "x", 1, true))
			var fx session.Effects
			r.s.Feed(r.now, mqtt.Client, client, &fx)
			ticket := fx.Ticket
			fx.Reset()
			r.s.Admit(r.now, ticket, session.Admission{Subject: r.subject()}, &fx)
			ticket = fx.Ticket
			r.engine = engineOf(t, c.config)
			r.call(nil, mqtt.Client, func() { r.s.Policy(r.now, r.subject(), &r.fx) })
			r.call(nil, mqtt.Client, func() { r.s.Dialled(r.now, ticket, new(config.Upstream), &r.fx) })
			up := bytes.ReplaceAll(r.out[mqtt.Broker], testkit.Props(testkit.Prop32(mqtt.MaximumPacketSize, 16<<20)), testkit.Props())
			if len(up) > 0 {
				up[1] = byte(len(up) - 2)
			}
			if !bytes.Equal(up, c.toBroker) {
				t.Errorf("to the broker % x\nwant % x", up, c.toBroker)
			}
			if !bytes.Equal(r.out[mqtt.Client], c.toClient) {
				t.Errorf("to the client % x\nwant % x", r.out[mqtt.Client], c.toClient)
			}
			if !slices.Equal(r.events, c.events) {
				t.Errorf("events %q, want %q", r.events, c.events)
			}
		})
	}
}

func TestAssignedIDFromTemplate(t *testing.T) {
	letters := strings.Repeat("x", 22)
	for template, want := range map[string]string{
		"": "gw-" + letters, `"client-id-template": "%u"`: "ann", `"client-id-template": "%u-*"`: "ann-" + letters,
	} {
		r := newRig(t, policy.DoorGateway, engineOf(t, `{"auth": {`+template+`}, `+plainRules+`}`))
		r.feed(mqtt.Client, testkit.Connect(mqtt.V311, "", testkit.User("ann")))
		if c := r.s.Connect(); c.ClientID != want || !c.Assigned {
			t.Errorf("%s: assigned %q, want %q", template, c.ClientID, want)
		}
		if want := testkit.Connect(mqtt.V311, want, testkit.User("ann")); !bytes.Equal(r.out[mqtt.Broker], want) {
			t.Errorf("%s: sent % x, want % x", template, r.out[mqtt.Broker], want)
		}
	}
}

func TestDefaultIDs(t *testing.T) {
	set := session.NewSettings(policy.DoorGateway, config.Default())
	seen := map[string]bool{}
	for range 1000 {
		id := set.NewID()
		if len(id) != 22 || seen[id] {
			t.Fatalf("id %q", id)
		}
		seen[id] = true
	}
}

func TestNothingIsConsumedWhileAnAnswerIsAwaited(t *testing.T) {
	engine := engineOf(t, plainConfig)
	s := session.New(session.NewSettings(policy.DoorGateway, engine.Config()), 1)
	connect, publish := testkit.Connect(mqtt.V311, "c1"), testkit.Publish(mqtt.V311, "dev/a", 0, 0, "x")
	var fx session.Effects
	if n := s.Feed(1, mqtt.Client, append(bytes.Clone(connect), publish...), &fx); n != len(connect) || !fx.Pause[mqtt.Client] {
		t.Fatalf("consumed %d, paused %v", n, fx.Pause)
	}
	again := func(what string) {
		t.Helper()
		fx.Reset()
		if n := s.Feed(1, mqtt.Client, publish, &fx); n != 0 || !fx.Pause[mqtt.Client] || fx.Partial[mqtt.Client] {
			t.Errorf("%s: consumed %d, paused %v, partial %v", what, n, fx.Pause, fx.Partial)
		}
	}
	ticket := uint32(1)
	again("verifying")
	fx.Reset()
	s.Admit(1, ticket, session.Admission{Subject: engine.Bind(policy.Identity{})}, &fx)
	ticket = fx.Ticket
	again("dialling")
	fx.Reset()
	s.Dialled(1, ticket, new(config.Upstream), &fx)
	again("before CONNACK")
	fx.Reset()
	s.Feed(1, mqtt.Broker, testkit.Connack(mqtt.V311, false, 0), &fx)
	if fx.Pause[mqtt.Client] {
		t.Error("paused after CONNACK")
	}
	fx.Reset()
	if n := s.Feed(1, mqtt.Client, publish, &fx); n != len(publish) {
		t.Errorf("open: consumed %d", n)
	}
	fx.Reset()
	s.End(1, session.End{Cause: session.CauseDrain}, &fx)
	again("ended")
	if fx.Ended || len(fx.Events) > 0 {
		t.Error("it ended twice")
	}
}

// TestAnswersOfOursAreBounded refuses messages while a delivery is passing to
// the client: their answers wait, and at some point so does the client.
func TestAnswersOfOursAreBounded(t *testing.T) {
	r := openRig(t, policy.DoorGateway, mqtt.V311, `{"general": {"limits": {"denials-per-minute": 0}}, `+plainRules+`}`)
	delivery := testkit.Publish(mqtt.V311, "dev/a", 0, 0, strings.Repeat("x", 100))
	r.feed(mqtt.Broker, delivery[:50])
	r.out = [2][]byte{}
	denied := testkit.Publish(mqtt.V311, "other", 1, 1, "x")
	const n = 10000
	r.feed(mqtt.Client, bytes.Repeat(denied, n))
	left := len(r.pending[mqtt.Client])
	if left == 0 || !r.paused[mqtt.Client] || len(r.out[mqtt.Client]) > 0 {
		t.Fatalf("%d bytes left, paused %v, sent % x", left, r.paused, cut(r.out[mqtt.Client]))
	}
	if waiting := 4 * (n - left/len(denied)); waiting > 20<<10 {
		t.Errorf("%d bytes of answers wait", waiting)
	}
	r.feed(mqtt.Broker, delivery[50:])
	want := append(bytes.Clone(delivery[50:]), bytes.Repeat(testkit.Ack(mqtt.V311, mqtt.PUBACK, 1, 0), n)...)
	if len(r.pending[mqtt.Client]) > 0 || !bytes.Equal(r.out[mqtt.Client], want) {
		t.Errorf("%d bytes left, %d sent, want %d", len(r.pending[mqtt.Client]), len(r.out[mqtt.Client]), len(want))
	}
}

// TestFiltersThatWaitAreBounded subscribes faster than the broker answers.
func TestFiltersThatWaitAreBounded(t *testing.T) {
	r := openRig(t, policy.DoorGateway, mqtt.V311, `{"general": {"limits": {"subscriptions": 0, "outstanding-requests": 0}}, `+plainRules+`}`)
	filters := make([]string, 1000)
	for i := range filters {
		filters[i] = "dev/" + strings.Repeat("x", 996)
	}
	sent := 0
	for id := 1; id < 20; id++ {
		r.feed(mqtt.Client, testkit.Subscribe(mqtt.V311, id, filters...))
		if !r.paused[mqtt.Client] {
			sent++
		}
	}
	if sent != 2 || !r.paused[mqtt.Client] {
		t.Fatalf("%d of 20 megabytes of filters wait", sent)
	}
	r.feed(mqtt.Broker, testkit.Suback(mqtt.V311, 1, make([]byte, 1000)...))
	if got := r.s.Counters().Packets[mqtt.Client]; got != 4 {
		t.Errorf("%d packets of the client were taken, want CONNECT and 3 SUBSCRIBEs", got)
	}
}

func TestBackPressureIsNotSilence(t *testing.T) {
	r := openRig(t, policy.DoorGateway, mqtt.V5, plainConfig) // keep alive 60
	r.hold(true)
	for range 20 {
		r.wait(20 * session.Second)
		r.feed(mqtt.Broker, testkit.Pingresp())
	}
	r.hold(false)
	r.wait(40 * session.Second)
	r.feed(mqtt.Broker, testkit.Pingresp())
	r.wait(40 * session.Second)
	if r.ended {
		t.Fatalf("ended 80 s after reading again: %+v", r.end)
	}
	r.wait(15 * session.Second)
	if !r.ended || r.end.Cause != session.CauseKeepAlive {
		t.Errorf("ended %v %+v", r.ended, r.end)
	}
}

// TestHeldClientKeepsTheBrokerFed: what the client sends waits unread, and the
// broker must not take that for silence.
func TestHeldClientKeepsTheBrokerFed(t *testing.T) {
	r := openRig(t, policy.DoorGateway, mqtt.V5, plainConfig)
	r.out = [2][]byte{}
	if r.hold(true); r.fx.Wake != r.now+30*session.Second {
		t.Fatalf("wants to be woken in %d s, want half the keep alive", (r.fx.Wake-r.now)/session.Second)
	}
	r.wait(31 * session.Second)
	if !bytes.Equal(r.out[mqtt.Broker], testkit.Pingreq()) {
		t.Errorf("sent % x", r.out[mqtt.Broker])
	}
	r.feed(mqtt.Broker, testkit.Pingresp())
	if len(r.out[mqtt.Client]) > 0 {
		t.Error("the client got our PINGRESP")
	}
}

func TestBrokerThatAnswersNothingIsLost(t *testing.T) {
	r := openRig(t, policy.DoorGateway, mqtt.V5, plainConfig)
	denied := testkit.Publish(mqtt.V5, "other", 0, 0, "x")
	for range 40 {
		if r.feed(mqtt.Client, denied); r.ended {
			break
		}
		r.wait(10 * session.Second)
	}
	if !r.ended || r.end.Cause != session.CauseUpstreamLost {
		t.Errorf("ended %v %+v", r.ended, r.end)
	}
}

// TestPayloadPassesByCount: of a large message nothing but its head is looked
// at, whatever its payload says and however it comes.
func TestPayloadPassesByCount(t *testing.T) {
	r := openRig(t, policy.DoorGateway, mqtt.V5, plainConfig)
	r.out = [2][]byte{}
	payload := strings.Repeat(string(testkit.Connect(mqtt.V5, "x")), 20000)
	p := testkit.Publish(mqtt.V5, "dev/a", 1, 7, payload)
	for rest := p; len(rest) > 0; {
		n := min(len(rest), 7001)
		r.feed(mqtt.Client, rest[:n])
		if rest = rest[n:]; len(r.pending[mqtt.Client]) > 0 {
			t.Fatalf("%d bytes were kept", len(r.pending[mqtt.Client]))
		}
	}
	if !bytes.Equal(r.out[mqtt.Broker], p) {
		t.Errorf("%d bytes were forwarded, want %d", len(r.out[mqtt.Broker]), len(p))
	}
	c := r.s.Counters()
	if c.Messages[mqtt.Client] != 1 || c.Packets[mqtt.Client] != 2 || int(c.Bytes[mqtt.Client]) != len(p)+len(testkit.Connect(mqtt.V5, "c1")) {
		t.Errorf("counted %+v", c)
	}
}

func TestAllowedIsReportedWhenAsked(t *testing.T) {
	r := openRig(t, policy.DoorGateway, mqtt.V5, `{"audit": {"include": "all"}, `+plainRules+`}`)
	r.events = nil
	r.feed(mqtt.Client, testkit.Publish(mqtt.V5, "dev/a", 1, 7, "x"))
	r.feed(mqtt.Client, testkit.Subscribe(mqtt.V5, 1, "dev/a"))
	r.feed(mqtt.Client, testkit.Pingreq())
	r.feed(mqtt.Broker, testkit.Publish(mqtt.V5, "dev/a", 0, 0, "x"))
	if got := strings.Join(r.events, " "); got != "allowed allowed allowed allowed" {
		t.Errorf("reported %q", got)
	}
}

func TestWillDelayIsCapped(t *testing.T) {
	r := newRig(t, policy.DoorGateway, engineOf(t, `{"general": {"limits": {"will-delay-secs": 30}}, `+plainRules+`}`))
	small := testkit.With(testkit.Prop32(mqtt.MaximumPacketSize, 100))
	will := func(delay uint32) testkit.Option {
		return testkit.Will("dev/w", "x", 0, false, testkit.Prop32(mqtt.WillDelayInterval, delay))
	}
	r.feed(mqtt.Client, testkit.Connect(mqtt.V5, "c1", small, will(3600)))
	if want := testkit.Connect(mqtt.V5, "c1", small, will(30)); !bytes.Equal(r.out[mqtt.Broker], want) {
		t.Errorf("sent % x\nwant % x", r.out[mqtt.Broker], want)
	}
}

// TestExpandedAliasFitsTheBroker: with its topic in place of the alias a
// message may be more than the broker takes.
func TestExpandedAliasFitsTheBroker(t *testing.T) {
	r := newRig(t, policy.DoorGateway, engineOf(t, `{"retained": {"enabled": true, "allow-retained": false}, `+plainRules+`}`))
	r.feed(mqtt.Client, testkit.Connect(mqtt.V5, "c1"))
	r.feed(mqtt.Broker, testkit.Connack(mqtt.V5, false, 0, testkit.With(testkit.Prop16(mqtt.TopicAliasMaximum, 5), testkit.Prop32(mqtt.MaximumPacketSize, 60))))
	alias, topic := testkit.With(testkit.Prop16(mqtt.TopicAlias, 1)), "dev/"+strings.Repeat("x", 30)
	r.feed(mqtt.Client, testkit.Publish(mqtt.V5, topic, 0, 0, "x", alias, testkit.Retain())) // refused: the broker is not told
	r.out = [2][]byte{}
	r.feed(mqtt.Client, testkit.Publish(mqtt.V5, "", 1, 7, strings.Repeat("x", 30), alias))
	if want := testkit.Ack(mqtt.V5, mqtt.PUBACK, 7, 0x97); len(r.out[mqtt.Broker]) > 0 || !bytes.Equal(r.out[mqtt.Client], want) {
		t.Errorf("the broker got % x, the client % x", r.out[mqtt.Broker], r.out[mqtt.Client])
	}
}

// TestManyRevokedFilters come in packets that the broker takes.
func TestManyRevokedFilters(t *testing.T) {
	r := newRig(t, policy.DoorGateway, engineOf(t, plainConfig))
	r.feed(mqtt.Client, testkit.Connect(mqtt.V5, "c1"))
	r.feed(mqtt.Broker, testkit.Connack(mqtt.V5, false, 0, testkit.With(testkit.Prop32(mqtt.MaximumPacketSize, 500))))
	var filters []string
	for i := range 100 {
		filters = append(filters, "dev/"+string(rune('a'+i%26))+strings.Repeat("y", i))
	}
	r.feed(mqtt.Client, testkit.Subscribe(mqtt.V5, 1, filters...))
	r.feed(mqtt.Broker, testkit.Suback(mqtt.V5, 1, make([]byte, len(filters))...))
	r.out = [2][]byte{}
	r.engine = engineOf(t, `{"acl": {"rules": [{"topics": ["other"], "decision": "allow"}]}}`)
	subject := r.subject()
	r.call(nil, mqtt.Client, func() { r.s.Policy(r.now, subject, &r.fx) })
	gone := map[string]bool{}
	ids := map[uint16]bool{}
	for b := r.out[mqtt.Broker]; len(b) > 0; {
		h, err := mqtt.ParseHeader(b, mqtt.V5, mqtt.Client)
		if err != nil || h.Type != mqtt.UNSUBSCRIBE || h.Size() > 500 {
			t.Fatalf("sent %v of %d bytes: %v", h.Type, h.Size(), err)
		}
		var u mqtt.Unsubscribe
		if err := u.Parse(h, mqtt.V5, b[h.Len:h.Size()]); err != nil || ids[u.PacketID] {
			t.Fatalf("id %d: %v", u.PacketID, err)
		}
		ids[u.PacketID] = true
		for _, f := range u.Filters {
			gone[string(f)] = true
		}
		r.feed(mqtt.Broker, testkit.Unsuback(mqtt.V5, int(u.PacketID), make([]byte, len(u.Filters))...))
		b = b[h.Size():]
	}
	if len(gone) != len(filters) || r.ended || len(r.out[mqtt.Client]) > 0 {
		t.Errorf("%d of %d filters ended, connection ended %v", len(gone), len(filters), r.ended)
	}
}
