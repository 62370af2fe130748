package policy

import (
	"net/netip"
	"regexp"
	"testing"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
)

// compile builds an engine over the defaults, changed by f.
func compile(t testing.TB, f func(*config.Config)) *Engine {
	t.Helper()
	cfg := config.Default()
	f(cfg)
	e, err := Compile(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func withRules(rules ...config.Rule) func(*config.Config) {
	return func(c *config.Config) { c.ACL.Rules = rules }
}

func ptr[T any](v T) *T { return &v }

// user is a verified identity.
func user(name string, groups ...string) Identity {
	return Identity{
		Username: name, ClientID: name + "-client", Groups: groups, Standing: Verified,
		Addr: netip.MustParseAddr("192.0.2.7"), Version: mqtt.V5, Listener: "tcp",
	}
}

// description is the ACL of the product's description.
func description(c *config.Config) {
	c.ACL.Rules = []config.Rule{
		{
			Name: "sensor-publish", Match: config.Match{UsernameRegex: regexp.MustCompile("^sensor-")},
			Topics: []string{"sensors/+/data", "sensors/+/status"}, Actions: []string{"publish"}, Decision: "allow", MaxQoS: ptr(1),
		},
		{
			Name: "admin-full-access", Match: config.Match{Groups: []string{"admin"}},
			Topics: []string{"#"}, Actions: []string{"publish", "subscribe"}, Decision: "allow",
		},
		{Name: "block-internal", Topics: []string{"$SYS/#", "internal/#"}, Decision: "deny", Priority: 100},
	}
}

func TestDescription(t *testing.T) {
	e := compile(t, description)
	sensor, admin, nobody := user("sensor-001"), user("root", "admin"), user("bob")
	for _, tc := range []struct {
		name   string
		who    Identity
		action string
		topic  string
		want   Outcome
		rule   string
	}{
		{"a sensor publishes its data", sensor, "publish", "sensors/7/data", Allow, "sensor-publish"},
		{"one level only", sensor, "publish", "sensors/7/room/data", Deny, "default-action"},
		{"a sensor reads nothing", sensor, "subscribe", "sensors/7/data", Deny, "default-action"},
		{"an administrator writes", admin, "publish", "anything/at/all", Allow, "admin-full-access"},
		{"not internal", admin, "publish", "internal/x", Deny, "block-internal"},
		{"not its parent", admin, "publish", "internal", Deny, "block-internal"},
		{"# does not reach $SYS", admin, "publish", "$CONTROL/dynamic-security/v1", Deny, "default-action"},
		{"$SYS is denied by name", admin, "subscribe", "$SYS/broker/uptime", Deny, "block-internal"},
		{"everything but internal is not everything", admin, "subscribe", "#", Deny, "block-internal"},
		{"a part", admin, "subscribe", "sensors/#", Allow, "admin-full-access"},
		{"shared", admin, "subscribe", "$share/g/sensors/#", Allow, "admin-full-access"},
		{"shared, hidden", admin, "subscribe", "$share/g/internal/#", Deny, "block-internal"},
		{"nobody", nobody, "publish", "sensors/7/data", Deny, "default-action"},
		{"a delivery", admin, "deliver", "sensors/7/data", Allow, "admin-full-access"},
		{"a delivery of internals", admin, "deliver", "internal/x", Deny, "block-internal"},
		{"an unsubscribe", nobody, "unsubscribe", "internal/x", Allow, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.who.Door = DoorAgent
			v := ask(e.Bind(tc.who), tc.action, tc.topic, nil)
			if v.Outcome != tc.want || e.RuleName(v.Rule) != tc.rule {
				t.Errorf("%s %q: got %v by %q (%v), want %v by %q", tc.action, tc.topic, v.Outcome, e.RuleName(v.Rule), v.Reason, tc.want, tc.rule)
			}
			if v.Outcome == Deny && v.Reason.Tag() != "acl-denied" {
				t.Errorf("%s %q: tag %q", tc.action, tc.topic, v.Reason.Tag())
			}
		})
	}
}

// ask is one decision by the name of its action.
func ask(s *Subject, action, topic string, tr *Trace) Verdict {
	switch action {
	case "publish":
		return s.Publish(Message{Topic: []byte(topic)}, tr)
	case "subscribe":
		return s.Subscribe([]byte(topic), 0, tr)
	case "unsubscribe":
		return s.Unsubscribe([]byte(topic), tr)
	case "deliver":
		return s.Deliver([]byte(topic), tr)
	case "connect":
		return s.Connect(tr)
	}
	panic("unknown action " + action)
}

func TestConditions(t *testing.T) {
	who := Identity{
		Username: "alice", ClientID: "dev-1", Groups: []string{"a", "b"}, Attributes: map[string]string{"site": "x"},
		Standing: Verified, Addr: netip.MustParseAddr("::ffff:10.1.2.3"), Version: mqtt.V311, Listener: "tls",
	}
	re := regexp.MustCompile
	for _, tc := range []struct {
		name  string
		match config.Match
		who   func(*Identity)
		want  bool
	}{
		{"nothing asked", config.Match{}, nil, true},
		{"username", config.Match{Username: "alice"}, nil, true},
		{"another username", config.Match{Username: "alic"}, nil, false},
		{"username-regex searches", config.Match{UsernameRegex: re("lic")}, nil, true},
		{"username-regex", config.Match{UsernameRegex: re("^lic")}, nil, false},
		{"username-regex without a user name", config.Match{UsernameRegex: re(".*")}, func(id *Identity) { id.Username = "" }, false},
		{"client-id", config.Match{ClientID: "dev-1"}, nil, true},
		{"client-id of another case", config.Match{ClientID: "DEV-1"}, nil, false},
		{"client-id-regex searches", config.Match{ClientIDRegex: re("^dev-")}, nil, true},
		{"client-id-regex", config.Match{ClientIDRegex: re("^ev-")}, nil, false},
		{"client-ip mapped", config.Match{ClientIP: netip.MustParsePrefix("10.1.0.0/16")}, nil, true},
		{"client-ip other", config.Match{ClientIP: netip.MustParsePrefix("10.2.0.0/16")}, nil, false},
		{"client-ip written mapped", config.Match{ClientIP: netip.MustParsePrefix("::ffff:10.1.0.0/112")}, nil, true},
		{"client-ip v6", config.Match{ClientIP: netip.MustParsePrefix("2001:db8::/32")}, func(id *Identity) { id.Addr = netip.MustParseAddr("2001:db8::1") }, true},
		{"client-ip v6 with zone", config.Match{ClientIP: netip.MustParsePrefix("fe80::/10")}, func(id *Identity) { id.Addr = netip.MustParseAddr("fe80::1%eth0") }, true},
		{"client-ip unknown", config.Match{ClientIP: netip.MustParsePrefix("0.0.0.0/0")}, func(id *Identity) { id.Addr = netip.Addr{} }, false},
		{"any of the groups", config.Match{Groups: []string{"z", "b"}}, nil, true},
		{"none of the groups", config.Match{Groups: []string{"z"}}, nil, false},
		{"protocol-version", config.Match{ProtocolVersion: 4}, nil, true},
		{"another protocol-version", config.Match{ProtocolVersion: 5}, nil, false},
		{"listener", config.Match{Listener: "tls"}, nil, true},
		{"another listener", config.Match{Listener: "tcp"}, nil, false},
		{"attributes", config.Match{Attributes: map[string]string{"site": "x"}}, nil, true},
		{"another attribute value", config.Match{Attributes: map[string]string{"site": "y"}}, nil, false},
		{"an attribute not there", config.Match{Attributes: map[string]string{"role": ""}}, nil, false},
		{"all must hold", config.Match{Username: "alice", ClientID: "dev-2"}, nil, false},
		{"all hold", config.Match{Username: "alice", ClientIDRegex: re("1$"), Groups: []string{"a"}, ProtocolVersion: 4}, nil, true},
		{"anonymous is a group", config.Match{Groups: []string{"anonymous"}}, func(id *Identity) { id.Anonymous, id.Username, id.Groups = true, "", nil }, true},
		{"unless unverified", config.Match{Groups: []string{"anonymous"}}, func(id *Identity) { id.Anonymous, id.Standing = true, Unverified }, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			// A second rule with the same condition shares its expressions.
			e := compile(t, withRules(
				config.Rule{Name: "r", Match: tc.match, Topics: []string{"a"}, Decision: "allow"},
				config.Rule{Name: "s", Match: tc.match, Topics: []string{"b"}, Decision: "allow"},
			))
			id := who
			if tc.who != nil {
				tc.who(&id)
			}
			s := e.Bind(id)
			for _, name := range []string{"a", "b"} {
				if got := ask(s, "publish", name, nil).Allowed(); got != tc.want {
					t.Errorf("publish %q: got %v, want %v", name, got, tc.want)
				}
			}
		})
	}
}

func TestPriorities(t *testing.T) {
	e := compile(t, withRules(
		config.Rule{Name: "first", Topics: []string{"a/#"}, Decision: "deny"},
		config.Rule{Name: "second", Topics: []string{"a/b"}, Decision: "allow"},
		config.Rule{Topics: []string{"a/c"}, Decision: "allow", Priority: 5},
		config.Rule{Name: "last", Topics: []string{"#"}, Decision: "allow", Priority: -1},
	))
	s := e.Bind(user("u"))
	for name, want := range map[string]string{"a/b": "first", "a/c": "rules[2]", "x": "last"} {
		if got := e.RuleName(ask(s, "publish", name, nil).Rule); got != want {
			t.Errorf("%q: decided by %q, want %q", name, got, want)
		}
	}
}

func TestTemplates(t *testing.T) {
	rules := withRules(config.Rule{Name: "t", Topics: []string{"u/%u/#", "c/%c", "g/%g/+", "p/x-%u-%c/%x"}, Decision: "allow"})
	for _, tc := range []struct {
		name     string
		who      Identity
		yes, not []string
	}{
		{
			"filled",
			Identity{Username: "alice", ClientID: "c1", Groups: []string{"g1", "g2"}, Standing: Verified},
			[]string{"u/alice", "u/alice/x/y", "c/c1", "g/g1/a", "g/g2/a", "p/x-alice-c1/%x"},
			[]string{"u/bob", "u/%u", "c/%c", "g/%g/a", "g/g3/a"},
		},
		{"nothing to fill in", Identity{Standing: Verified}, nil, []string{"u/", "u//x", "c/", "g//a"}},
		{"a wildcard for a name", Identity{Username: "+", ClientID: "#", Groups: []string{"+"}, Standing: Verified}, nil, []string{"u/alice", "u/+", "c/x", "g/x/a"}},
		{"a level for a name", Identity{Username: "a/b", ClientID: "a\x7f", Groups: []string{"\u0085"}, Standing: Verified}, nil, []string{"u/a/b", "c/a\x7f", "g/\u0085/a"}},
		{"a $ in front", Identity{Username: "$SYS", ClientID: "a$", Standing: Verified}, []string{"c/a$"}, []string{"u/$SYS/x"}},
		{"a template for a name", Identity{Username: "%c", ClientID: "x", Standing: Verified}, []string{"u/%c/a"}, []string{"u/x/a"}},
		{"not UTF-8", Identity{Username: "\xff", Standing: Verified}, nil, []string{"u/\xff"}},
		{"a good group beside a bad one", Identity{Groups: []string{"#", "ok"}, Standing: Verified}, []string{"g/ok/a"}, []string{"g/x/a"}},
		{"no groups when unverified", Identity{Username: "alice", Groups: []string{"g1"}, Standing: Unverified}, nil, []string{"u/alice", "g/g1/a"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := compile(t, rules).Bind(tc.who)
			for _, name := range tc.yes {
				if !ask(s, "publish", name, nil).Allowed() {
					t.Errorf("%q is denied", name)
				}
			}
			for _, name := range tc.not {
				if ask(s, "publish", name, nil).Allowed() {
					t.Errorf("%q is allowed", name)
				}
			}
		})
	}
	// A template may make the first level, but not one that begins with $.
	s := compile(t, withRules(config.Rule{Topics: []string{"%u/x"}, Decision: "allow"})).Bind(user("$SYS"))
	if ask(s, "publish", "$SYS/x", nil).Allowed() {
		t.Error("a user named $SYS reaches $SYS")
	}
}

func TestStandings(t *testing.T) {
	rules := withRules(
		config.Rule{Name: "not-eve", Match: config.Match{Username: "eve"}, Topics: []string{"#"}, Decision: "deny", Priority: 1},
		config.Rule{Name: "staff", Match: config.Match{Groups: []string{"staff"}}, Topics: []string{"staff/#"}, Decision: "deny", Priority: 1},
		config.Rule{Name: "alice", Match: config.Match{Username: "alice"}, Topics: []string{"a"}, Decision: "allow"},
		config.Rule{Name: "all", Topics: []string{"b"}, Decision: "allow"},
		config.Rule{Name: "secret", Topics: []string{"secret/#"}, Decision: "deny"},
	)
	for _, tc := range []struct {
		name          string
		standing      Standing
		who           string
		topic         string
		allowed       bool
		rule          string
		defaultAllows bool
	}{
		{"verified", Verified, "alice", "a", true, "alice", false},
		{"claimed counts", Claimed, "alice", "a", true, "alice", false},
		{"unverified matches no allow rule", Unverified, "alice", "a", false, "default-action", false},
		{"nor one for everybody", Unverified, "alice", "b", false, "default-action", false},
		{"but deny rules for the name", Unverified, "eve", "b", false, "not-eve", true},
		{"and for everybody", Unverified, "alice", "secret/x", false, "secret", true},
		{"has no groups", Unverified, "alice", "staff/x", true, "default-action", true},
		{"the default reaches it", Unverified, "alice", "b", true, "default-action", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := compile(t, func(c *config.Config) {
				rules(c)
				if tc.defaultAllows {
					c.ACL.DefaultAction = "allow"
				}
			})
			id := user(tc.who, "staff")
			id.Standing = tc.standing
			v := ask(e.Bind(id), "publish", tc.topic, nil)
			if v.Allowed() != tc.allowed || e.RuleName(v.Rule) != tc.rule {
				t.Errorf("got %v by %q, want %v by %q", v.Allowed(), e.RuleName(v.Rule), tc.allowed, tc.rule)
			}
		})
	}
}

func TestConnectRules(t *testing.T) {
	named := []config.Rule{
		{Name: "no-eve", Match: config.Match{Username: "eve"}, Actions: []string{"connect"}, Decision: "deny", Priority: 1},
		{Name: "staff", Match: config.Match{Groups: []string{"staff"}}, Actions: []string{"connect"}, Decision: "allow"},
		{Name: "all", Topics: []string{"#"}, Decision: "allow"},
	}
	open := append([]config.Rule{{Name: "everybody", Actions: []string{"connect"}, Decision: "allow", Priority: -1}}, named...)
	for _, tc := range []struct {
		name   string
		rules  []config.Rule
		who    Identity
		change func(*config.Config)
		want   bool
		rule   string
	}{
		{"no rule names connect", named[2:], user("bob"), nil, true, ""},
		{"allowed", named, user("bob", "staff"), nil, true, "staff"},
		{"denied", named, user("eve", "staff"), nil, false, "no-eve"},
		{"the default denies", named, user("bob"), nil, false, "default-action"},
		{"the default allows", named, user("bob"), func(c *config.Config) { c.ACL.DefaultAction = "allow" }, true, "default-action"},
		{"a rule for everybody", open, user("bob"), nil, true, "everybody"},
		{"the highest priority, wherever it is found", []config.Rule{
			{Name: "staff", Match: config.Match{Groups: []string{"staff"}}, Actions: []string{"connect"}, Decision: "deny", Priority: 2},
			{Name: "bob", Match: config.Match{Username: "bob"}, Actions: []string{"connect"}, Decision: "allow", Priority: 1},
		}, user("bob", "staff"), nil, false, "staff"},
		{"unverified", open, Identity{Username: "bob", Groups: []string{"staff"}}, nil, false, "default-action"},
		{"acl off", named, user("eve"), func(c *config.Config) { c.ACL.Enabled = false }, true, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := compile(t, func(c *config.Config) {
				c.ACL.Rules = tc.rules
				if tc.change != nil {
					tc.change(c)
				}
			})
			v := e.Bind(tc.who).Connect(nil)
			if v.Allowed() != tc.want || e.RuleName(v.Rule) != tc.rule || !v.Allowed() && v.Reason != ReasonConnectRule {
				t.Errorf("got %v by %q (%v), want %v by %q", v.Allowed(), e.RuleName(v.Rule), v.Reason, tc.want, tc.rule)
			}
		})
	}
}

func TestUnsubscribe(t *testing.T) {
	e := compile(t, withRules(
		config.Rule{Name: "may", Topics: []string{"alerts/test"}, Actions: []string{"unsubscribe"}, Decision: "allow", Priority: 1},
		config.Rule{Name: "stay", Topics: []string{"alerts/#"}, Actions: []string{"unsubscribe"}, Decision: "deny"},
		config.Rule{Name: "other", Topics: []string{"#"}, Decision: "deny"},
	))
	s := e.Bind(user("u"))
	for filter, want := range map[string]string{
		"alerts/fire": "stay", "alerts/#": "stay", "alerts": "stay", "alerts/+": "stay", "$share/g/alerts/x": "stay",
		"#": "", "+/fire": "", "x": "", "alerts/test": "may",
	} {
		v := ask(s, "unsubscribe", filter, nil)
		if v.Allowed() != (want != "stay") || e.RuleName(v.Rule) != want {
			t.Errorf("%q: got %v by %q, want rule %q", filter, v.Allowed(), e.RuleName(v.Rule), want)
		}
	}
}

func TestACLOff(t *testing.T) {
	e := compile(t, func(c *config.Config) {
		c.ACL.Enabled = false
		c.ACL.Rules = []config.Rule{{Topics: []string{"#"}, Decision: "deny"}}
	})
	s := e.Bind(user("u"))
	for _, action := range []string{"publish", "subscribe", "unsubscribe", "deliver", "connect"} {
		if v := ask(s, action, "$SYS/x", nil); !v.Allowed() {
			t.Errorf("%s: denied for %v", action, v.Reason)
		}
	}
	if v := ask(s, "publish", "", nil); v.Allowed() {
		t.Error("the empty topic is allowed")
	}
}

func TestResponseTopic(t *testing.T) {
	rules := withRules(
		config.Rule{Name: "ask", Topics: []string{"requests/#"}, Actions: []string{"publish"}, Decision: "allow"},
		config.Rule{Name: "answers", Topics: []string{"answers/%u"}, Actions: []string{"subscribe"}, Decision: "allow"},
		config.Rule{Name: "hidden", Topics: []string{"internal/#"}, Decision: "deny"},
	)
	for _, tc := range []struct {
		name, response string
		check          bool
		want           Reason
		rule           string
	}{
		{"may subscribe", "answers/alice", true, ReasonNone, "ask"},
		{"may publish", "requests/x", true, ReasonNone, "ask"},
		{"may neither", "answers/bob", true, ReasonResponseTopic, "default-action"},
		{"denied by rule", "internal/x", true, ReasonResponseTopic, "hidden"},
		{"a wildcard", "answers/+", true, ReasonResponseTopic, ""},
		{"empty", "", true, ReasonResponseTopic, ""},
		{"not checked", "internal/x", false, ReasonNone, "ask"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := compile(t, func(c *config.Config) {
				rules(c)
				c.ACL.CheckResponseTopic = tc.check
			})
			v := e.Bind(user("alice")).Publish(Message{Topic: []byte("requests/1"), ResponseTopic: []byte(tc.response)}, nil)
			if v.Reason != tc.want || v.Allowed() != (tc.want == ReasonNone) || e.RuleName(v.Rule) != tc.rule {
				t.Errorf("got %v by %q, want %v by %q", v.Reason, e.RuleName(v.Rule), tc.want, tc.rule)
			}
		})
	}
}
