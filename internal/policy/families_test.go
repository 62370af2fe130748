package policy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
)

func TestLimits(t *testing.T) {
	e := compile(t, withRules(config.Rule{Name: "all", Topics: []string{"#"}, Decision: "allow"}))
	s := e.Bind(user("u"))
	long, deep := strings.Repeat("x", 1024), strings.Repeat("a/", 63)+"a"
	for _, tc := range []struct {
		name string
		m    Message
		rule string
	}{
		{"as long as may be", Message{Topic: []byte(long)}, ""},
		{"too long", Message{Topic: []byte(long + "x")}, "topic-bytes"},
		{"as deep as may be", Message{Topic: []byte(deep)}, ""},
		{"too deep", Message{Topic: []byte(deep + "/a")}, "topic-levels"},
		{"properties", Message{Topic: []byte("a"), UserProperties: 64}, ""},
		{"too many properties", Message{Topic: []byte("a"), UserProperties: 65}, "user-properties"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			check := func(v Verdict) {
				t.Helper()
				if v.Allowed() != (tc.rule == "") || !v.Allowed() && (v.Reason != ReasonLimit || e.RuleName(v.Rule) != tc.rule) {
					t.Errorf("got %v by %q (%v), want %q", v.Allowed(), e.RuleName(v.Rule), v.Reason, tc.rule)
				}
			}
			check(s.Publish(tc.m, nil))
			check(s.Will(tc.m, nil))
			if tc.m.UserProperties == 0 {
				check(s.Subscribe(tc.m.Topic, 0, nil))
				check(s.Unsubscribe(tc.m.Topic, nil))
			}
		})
	}
	shared := []byte("$share/" + strings.Repeat("g", 1000) + "/" + strings.Repeat("a", 100))
	if v := s.Subscribe(shared, 0, nil); v.Reason != ReasonLimit {
		t.Errorf("a group without end: %v", v.Reason)
	}
	if v := s.Subscribe([]byte("$share/g/"+deep), 0, nil); !v.Allowed() {
		t.Errorf("the group counts as levels: %v", v.Reason)
	}
	if v := s.Will(Message{Topic: []byte("a"), PayloadSize: 65537}, nil); v.Reason != ReasonLimit || e.RuleName(v.Rule) != "will-bytes" {
		t.Errorf("a large will: %v by %q", v.Reason, e.RuleName(v.Rule))
	}
	none := compile(t, func(c *config.Config) {
		c.General.Limits = config.Limits{}
		c.ACL.DefaultAction = "allow"
	}).Bind(user("u"))
	if v := none.Publish(Message{Topic: []byte(deep + long + deep), UserProperties: 1000}, nil); !v.Allowed() {
		t.Errorf("without limits: %v", v.Reason)
	}
}

func TestMalformedFilters(t *testing.T) {
	s := compile(t, func(c *config.Config) { c.ACL.DefaultAction = "allow" }).Bind(user("u"))
	for _, f := range []string{"", "a#", "a/+b", "#/a", "$share/g", "$share//a", "$share/+/a", "a\x00", "a\xff"} {
		for action, v := range map[string]Verdict{"subscribe": s.Subscribe([]byte(f), 0, nil), "unsubscribe": s.Unsubscribe([]byte(f), nil)} {
			if v.Allowed() || v.Reason != ReasonMalformed {
				t.Errorf("%s %q: %v, %v", action, f, v.Outcome, v.Reason)
			}
		}
	}
}

// qosExample is the section of the product's description.
func qosExample(c *config.Config) {
	c.QoS = config.QoS{Enabled: true, MaxQoS: 1, Downgrade: true, PerTopic: []config.TopicQoS{
		{Topic: "realtime/#", MaxQoS: 0}, {Topic: "reliable/#", MaxQoS: 2},
	}}
}

func TestQoS(t *testing.T) {
	rules := []config.Rule{
		{Name: "zero", Topics: []string{"zero/#", "reliable/zero"}, Decision: "allow", MaxQoS: ptr(0)},
		{Name: "two", Topics: []string{"two/#", "realtime/two"}, Decision: "allow", MaxQoS: ptr(2)},
		{Name: "rest", Topics: []string{"#"}, Decision: "allow"},
	}
	for _, tc := range []struct {
		name    string
		change  func(*config.Config)
		filter  bool
		topic   string
		asked   byte
		want    byte
		by      string // what lowered it, or denied
		allowed bool
	}{
		{"off", nil, false, "a", 2, 2, "", true},
		{"a rule's maximum holds when the section is off", nil, false, "zero/a", 2, 0, "zero", true},
		{"the global maximum", qosExample, false, "a", 2, 1, "max-qos", true},
		{"at the maximum", qosExample, false, "a", 1, 1, "", true},
		{"an entry lowers it", qosExample, false, "realtime/a", 1, 0, "qos.per-topic", true},
		{"an entry raises it", qosExample, false, "reliable/a", 2, 2, "", true},
		{"the strictest wins: rule", qosExample, false, "reliable/zero", 2, 0, "zero", true},
		{"the strictest wins: section", qosExample, false, "two/a", 2, 1, "max-qos", true},
		{"the strictest wins: entry", qosExample, false, "realtime/two", 2, 0, "qos.per-topic", true},
		{"no downgrade", func(c *config.Config) { qosExample(c); c.QoS.Downgrade = false }, false, "a", 2, 2, "max-qos", false},
		{"no downgrade needed", func(c *config.Config) { qosExample(c); c.QoS.Downgrade = false }, false, "a", 1, 1, "", true},
		{"no downgrade of a rule's", func(c *config.Config) { c.QoS.Downgrade = false }, false, "zero/a", 1, 1, "zero", false},

		{"filter: off", nil, true, "a/#", 2, 2, "", true},
		{"filter: the least of the rules that decide a topic of it", nil, true, "#", 2, 0, "zero", true},
		{"filter: only rules that decide one", nil, true, "two/#", 2, 2, "", true},
		{"filter: the global maximum", qosExample, true, "a/#", 2, 1, "max-qos", true},
		{"filter: an entry that covers it", qosExample, true, "reliable/a/+", 2, 2, "", true},
		{"filter: an entry that only meets it", qosExample, true, "+/a", 2, 0, "zero", true},
		{"filter: shared", qosExample, true, "$share/g/realtime/a", 2, 0, "qos.per-topic", true},
		{"filter: no downgrade", func(c *config.Config) { qosExample(c); c.QoS.Downgrade = false }, true, "a/#", 2, 2, "max-qos", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := compile(t, func(c *config.Config) {
				c.ACL.Rules = rules
				if tc.change != nil {
					tc.change(c)
				}
			})
			s := e.Bind(user("u"))
			var v Verdict
			if tc.filter {
				v = s.Subscribe([]byte(tc.topic), tc.asked, nil)
			} else {
				v = s.Publish(Message{Topic: []byte(tc.topic), QoS: tc.asked}, nil)
			}
			by := v.QoSRule
			if !v.Allowed() {
				by = v.Rule
				if v.Reason != ReasonQoS {
					t.Errorf("denied for %v", v.Reason)
				}
			}
			if v.Allowed() != tc.allowed || v.Allowed() && v.QoS != tc.want || e.RuleName(by) != tc.by {
				t.Errorf("got %v with QoS %d by %q, want %v with QoS %d by %q", v.Allowed(), v.QoS, e.RuleName(by), tc.allowed, tc.want, tc.by)
			}
		})
	}
	if v := compile(t, qosExample).Bind(user("u")).Deliver([]byte("a"), nil); v.QoS != 2 && v.Allowed() {
		t.Error("a delivery is lowered")
	}
}

// retainedExample is the section of the product's description.
func retainedExample(c *config.Config) {
	c.Retained = config.Retained{
		Enabled: true, AllowedTopics: []string{"config/#", "status/#"}, BlockedTopics: []string{"sensors/#", "status/no"},
		MaxSize: 65536, OnDenied: "drop",
	}
}

func strip(c *config.Config) { c.Retained.OnDenied = "strip" }

func TestRetained(t *testing.T) {
	rules := []config.Rule{
		{Name: "never", Topics: []string{"never/#", "config/never"}, Decision: "allow", AllowRetain: ptr(false)},
		{Name: "ever", Topics: []string{"ever/#"}, Decision: "allow", AllowRetain: ptr(true)},
		{Name: "rest", Topics: []string{"#"}, Decision: "allow"},
	}
	both := func(fs ...func(*config.Config)) func(*config.Config) {
		return func(c *config.Config) {
			for _, f := range fs {
				f(c)
			}
		}
	}
	open := func(c *config.Config) { c.Retained.AllowRetained = true }
	for _, tc := range []struct {
		name   string
		change func(*config.Config)
		topic  string
		size   int
		reason Reason
		by     string
	}{
		{"off", nil, "a", 1 << 20, ReasonNone, ""},
		{"a rule forbids it when the section is off", nil, "never/a", 1, ReasonRetained, "never"},
		{"not allowed", retainedExample, "a", 1, ReasonRetained, "retained"},
		{"allowed topic", retainedExample, "config/a", 1, ReasonNone, ""},
		{"its parent", retainedExample, "config", 1, ReasonNone, ""},
		{"blocked beats allowed", retainedExample, "status/no", 1, ReasonRetained, "retained"},
		{"blocked beats the default", both(retainedExample, open), "sensors/a", 1, ReasonRetained, "retained"},
		{"allowed by default", both(retainedExample, open), "a", 1, ReasonNone, ""},
		{"the rule tightens", retainedExample, "config/never", 1, ReasonRetained, "never"},
		{"the rule does not loosen", retainedExample, "ever/a", 1, ReasonRetained, "retained"},
		{"as large as may be", retainedExample, "config/a", 65536, ReasonNone, ""},
		{"too large", retainedExample, "config/a", 65537, ReasonRetainedSize, "retained-size"},
		{"a deletion obeys the same rules", retainedExample, "a", 0, ReasonRetained, "retained"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			base := func(c *config.Config) {
				c.ACL.Rules = rules
				if tc.change != nil {
					tc.change(c)
				}
			}
			m := Message{Topic: []byte(tc.topic), PayloadSize: tc.size, Retain: true}
			e := compile(t, base)
			v := e.Bind(user("u")).Publish(m, nil)
			if v.Reason != tc.reason || v.Allowed() != (tc.reason == ReasonNone) || v.ClearRetain ||
				!v.Allowed() && e.RuleName(v.Rule) != tc.by {
				t.Errorf("drop: got %+v by %q, want %v by %q", v, e.RuleName(v.Rule), tc.reason, tc.by)
			}
			if m.Retain = false; !e.Bind(user("u")).Publish(m, nil).Allowed() {
				t.Error("without the flag: denied")
			}
			m.Retain = true
			e = compile(t, both(base, strip))
			v = e.Bind(user("u")).Publish(m, nil)
			if !v.Allowed() || v.ClearRetain != (tc.reason != ReasonNone) || e.RuleName(v.RetainRule) != tc.by {
				t.Errorf("strip: got %+v by %q, want cleared %v by %q", v, e.RuleName(v.RetainRule), tc.reason != ReasonNone, tc.by)
			}
		})
	}
}

// TestCeiling holds what CONNACK announces where the property does not reach.
func TestCeiling(t *testing.T) {
	all := []config.Rule{{Topics: []string{"#"}, Decision: "allow"}}
	for _, tc := range []struct {
		name   string
		change func(*config.Config)
		qos    byte
		retain bool
	}{
		{"nothing configured", func(c *config.Config) { c.ACL.Rules = all }, 2, true},
		{"nothing may be published", func(*config.Config) {}, 2, false},
		{"the description", func(c *config.Config) { c.ACL.Rules = all; qosExample(c); retainedExample(c) }, 2, true},
		{"nothing is changed in detect-only", func(c *config.Config) {
			c.General.BlockMode, c.QoS.Enabled, c.QoS.MaxQoS, c.Retained.Enabled, c.Retained.AllowRetained = false, true, 0, true, false
		}, 2, true},
		{"acl off", func(c *config.Config) { c.ACL.Enabled = false; qosExample(c); c.QoS.PerTopic = c.QoS.PerTopic[:1] }, 1, true},
		{"acl off: $ topics are left", func(c *config.Config) {
			c.ACL.Enabled = false
			c.QoS = config.QoS{Enabled: true, MaxQoS: 2, Downgrade: true, PerTopic: []config.TopicQoS{{Topic: "#"}}}
		}, 2, true},
		{"acl off: an allowed $ topic", func(c *config.Config) {
			c.ACL.Enabled = false
			c.Retained = config.Retained{Enabled: true, AllowedTopics: []string{"$keep/+"}, OnDenied: "drop"}
		}, 2, true},
		{"a bound rule", func(c *config.Config) {
			c.ACL.Rules = []config.Rule{{Topics: []string{"a/%u"}, Decision: "allow", MaxQoS: ptr(0)}}
		}, 0, true},
		{"more than is looked at", func(c *config.Config) {
			for i := range ceilingBudget + 10 {
				c.ACL.Rules = append(c.ACL.Rules, config.Rule{Topics: []string{fmt.Sprint("a/", i)}, Decision: "allow", MaxQoS: ptr(0)})
			}
		}, 2, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := compile(t, tc.change).Bind(user("u"))
			for range 2 { // worked out, then remembered
				if qos, retain := s.Ceiling(); qos != tc.qos || retain != tc.retain {
					t.Errorf("got %d, %v, want %d, %v", qos, retain, tc.qos, tc.retain)
				}
			}
		})
	}
}

func TestWill(t *testing.T) {
	rules := withRules(
		config.Rule{Name: "will", Topics: []string{"wills/#"}, Actions: []string{"publish"}, Decision: "allow", MaxQoS: ptr(1), AllowRetain: ptr(false)},
		config.Rule{Name: "secret", Topics: []string{"secret"}, Decision: "deny"},
	)
	remove := func(c *config.Config) { c.ACL.OnDeniedWill = "remove" }
	noDowngrade := func(c *config.Config) { c.QoS.Downgrade = false }
	qosOff := func(c *config.Config) { c.QoS.Enabled, c.QoS.MaxQoS = true, 0 }
	will := func(topic string, qos byte, retain bool) Message {
		return Message{Topic: []byte(topic), QoS: qos, Retain: retain, PayloadSize: 10}
	}
	for _, tc := range []struct {
		name   string
		door   Door
		change func(*config.Config)
		m      Message
		want   string
	}{
		{"as it is", DoorGateway, nil, will("wills/a", 1, false), "allow by will"},
		{"forbidden topic", DoorGateway, nil, will("secret", 0, false), "deny acl-denied by secret"},
		{"forbidden topic, removed", DoorGateway, remove, will("secret", 0, false), "remove acl-denied by secret"},
		{"$ topic", DoorGateway, nil, will("$CONTROL/x", 0, false), "deny acl-denied by default-action"},
		{"lowered", DoorGateway, nil, will("wills/a", 2, false), "allow by will, QoS 1 by will"},
		{"not lowered", DoorGateway, noDowngrade, will("wills/a", 2, false), "deny qos-denied by will"},
		{"not lowered, removed", DoorGateway, func(c *config.Config) { remove(c); noDowngrade(c) }, will("wills/a", 2, true), "remove qos-denied by will"},
		{"flag cleared though on-denied drops", DoorGateway, nil, will("wills/a", 1, true), "allow by will, not retained by will"},
		{"changed by two", DoorGateway, qosOff, will("wills/a", 2, true), "allow by will, QoS 0 by max-qos, not retained by will"},
		{"over the limit", DoorGateway, nil, Message{Topic: []byte("wills/a"), PayloadSize: 1 << 20}, "deny limit-exceeded by will-bytes"},
		{"a response topic", DoorGateway, nil, Message{Topic: []byte("wills/a"), ResponseTopic: []byte("secret")}, "deny acl-denied by secret"},

		{"agent: forbidden topic", DoorAgent, nil, will("secret", 0, false), "deny acl-denied by secret"},
		{"agent: cannot be removed", DoorAgent, remove, will("secret", 0, false), "deny acl-denied by secret"},
		{"agent: would be lowered", DoorAgent, nil, will("wills/a", 2, false), "allow by will, QoS 1 by will"},
		{"agent: would be stripped", DoorAgent, strip, will("wills/a", 1, true), "allow by will, not retained by will"},
		{"agent: drop means refused", DoorAgent, nil, will("wills/a", 1, true), "deny retained-denied by will"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := compile(t, func(c *config.Config) {
				rules(c)
				if tc.change != nil {
					tc.change(c)
				}
			})
			id := user("u")
			id.Door = tc.door
			v := e.Bind(id).Will(tc.m, nil)
			got := "allow"
			switch {
			case v.RemoveWill && v.Allowed():
				got = "remove " + v.Reason.Tag()
			case !v.Allowed():
				got = "deny " + v.Reason.Tag()
			}
			got += " by " + e.RuleName(v.Rule)
			if v.Allowed() && !v.RemoveWill && v.QoS != tc.m.QoS {
				got += fmt.Sprintf(", QoS %d by %s", v.QoS, e.RuleName(v.QoSRule))
			}
			if v.ClearRetain {
				got += ", not retained by " + e.RuleName(v.RetainRule)
			}
			if got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestSubscribeModes(t *testing.T) {
	rules := []config.Rule{{Name: "one", Topics: []string{"sensors/+"}, Actions: []string{"subscribe"}, Decision: "allow"}}
	for _, tc := range []struct {
		mode   string
		door   Door
		filter string
		want   bool
	}{
		{"auto", DoorGateway, "sensors/#", true},
		{"auto", DoorAgent, "sensors/#", false},
		{"strict", DoorGateway, "sensors/#", false},
		{"filter", DoorAgent, "sensors/#", true},
		{"filter", DoorGateway, "$share/g/sensors/#", false},
		{"filter", DoorGateway, "$share/g/sensors/+", true},
		{"filter", DoorGateway, "actors/#", false},
	} {
		e := compile(t, func(c *config.Config) { c.ACL.Rules, c.ACL.SubscribeMode = rules, tc.mode })
		id := user("u")
		id.Door = tc.door
		if v := e.Bind(id).Subscribe([]byte(tc.filter), 1, nil); v.Allowed() != tc.want {
			t.Errorf("%s, %s door, %q: got %v, want %v", tc.mode, tc.door, tc.filter, v.Allowed(), tc.want)
		}
	}
}

func TestTraceIsTheSameDecision(t *testing.T) {
	e := compile(t, func(c *config.Config) {
		description(c)
		qosExample(c)
		retainedExample(c)
	})
	id := user("root", "admin")
	id.Door = DoorAgent
	s := e.Bind(id)
	var tr Trace
	v := s.Subscribe([]byte("#"), 2, &tr)
	if v.Allowed() || len(tr.Steps) == 0 {
		t.Fatalf("got %+v, %d steps", v, len(tr.Steps))
	}
	last := tr.Steps[len(tr.Steps)-1]
	if last.Check != "acl" || last.Outcome != Deny || last.Rule != v.Rule || last.Witness != "internal" || !strings.Contains(last.Detail, `"internal/#"`) {
		t.Errorf("last step %+v", last)
	}
	for _, name := range []string{"config/a", "a", "internal/x", "$SYS/x"} {
		for qos := range byte(3) {
			m := Message{Topic: []byte(name), QoS: qos, Retain: qos == 1, ResponseTopic: []byte("a")}
			tr = Trace{}
			with, without := s.Publish(m, &tr), s.Publish(m, nil)
			if with != without {
				t.Errorf("publish %q: with trace %+v, without %+v", name, with, without)
			}
			if end := tr.Steps[len(tr.Steps)-1].Outcome; end != with.Outcome {
				t.Errorf("publish %q: verdict %v, the last step says %v", name, with.Outcome, end)
			}
			if with, without := s.Will(m, new(Trace)), s.Will(m, nil); with != without {
				t.Errorf("will %q: with trace %+v, without %+v", name, with, without)
			}
		}
	}
}

func TestNames(t *testing.T) {
	e := compile(t, func(*config.Config) {})
	seen := map[string]bool{}
	last := -RuleRef(len(builtinNames) - 1)
	for r := RuleDefaultAction; r >= last; r-- {
		name := e.RuleName(r)
		if name == "" || seen[name] {
			t.Errorf("built-in %d: name %q", r, name)
		}
		seen[name] = true
	}
	for r := ReasonNone; r <= ReasonDecisionTimeout; r++ {
		if (r.Tag() == "") != (r == ReasonNone) {
			t.Errorf("reason %d: tag %q", r, r.Tag())
		}
	}
	for _, r := range []RuleRef{RuleNone, last - 1, 0, 7} {
		if got := e.RuleName(r); got != "" {
			t.Errorf("RuleName(%d) = %q", r, got)
		}
	}
}

func TestCompileRefuses(t *testing.T) {
	for name, change := range map[string]func(*config.Config){
		"a bad filter":          withRules(config.Rule{Topics: []string{"a/#/b"}, Decision: "allow"}),
		"a template in a +":     withRules(config.Rule{Topics: []string{"a/+%u"}, Decision: "allow"}),
		"an unknown action":     withRules(config.Rule{Topics: []string{"a"}, Actions: []string{"read"}, Decision: "allow"}),
		"too many rules":        withRules(make([]config.Rule, config.MaxRules+1)...),
		"a bad per-topic":       func(c *config.Config) { c.QoS.PerTopic = []config.TopicQoS{{Topic: "#a"}} },
		"a bad retained topic":  func(c *config.Config) { c.Retained.AllowedTopics = []string{"a+"} },
		"a bad blocked topic":   func(c *config.Config) { c.Retained.BlockedTopics = []string{""} },
		"a $share without rest": withRules(config.Rule{Topics: []string{"$share/g"}, Decision: "allow"}),
	} {
		cfg := config.Default()
		change(cfg)
		if _, err := Compile(cfg); err == nil {
			t.Errorf("%s: compiled", name)
		}
	}
}
