package policy

import (
	"testing"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
)

func TestUnfit(t *testing.T) {
	own := config.Rule{Name: "own", Topics: []string{"x", "private/%u/#"}, Decision: "deny"}
	device := config.Rule{Name: "device", Topics: []string{"d/%c"}, Decision: "deny"}
	open := func(rules ...config.Rule) func(*config.Config) {
		return func(c *config.Config) { c.ACL.DefaultAction, c.ACL.Rules = "allow", rules }
	}
	all := config.Rule{Name: "all", Topics: []string{"#"}, Decision: "allow"}
	id := func(username, clientID string, groups ...string) Identity {
		i := user(username, groups...)
		i.ClientID = clientID
		return i
	}
	with := func(r config.Rule, f func(*config.Rule)) config.Rule { f(&r); return r }
	for _, tc := range []struct {
		name   string
		policy func(*config.Config)
		id     Identity
		reason Reason
		rule   string
	}{
		{"fit", open(own, device), id("bob", "c"), ReasonNone, ""},
		{"a user name with /", open(own, device), id("bob/x", "c"), ReasonNotAllowed, "own"},
		{"a user name with +", open(own), id("bob+", "c"), ReasonNotAllowed, "own"},
		{"a user name with #", open(own), id("#", "c"), ReasonNotAllowed, "own"},
		{"a user name with $", open(own), id("$bob", "c"), ReasonNotAllowed, "own"},
		{"a client id", open(own, device), id("bob", "c/1"), ReasonClientID, "device"},
		{"a value that no rule needs", open(own), id("bob", "c/1"), ReasonNone, ""},
		{"no value", open(own, device), id("", ""), ReasonNone, ""},
		{"nothing behind it allows", withRules(own), id("bob/x", "c"), ReasonNone, ""},
		{"an allow rule before it", withRules(all, own), id("bob/x", "c"), ReasonNone, ""},
		{"an allow rule behind it", withRules(own, all), id("bob/x", "c"), ReasonNotAllowed, "own"},
		{"unsubscribe is allowed by itself", withRules(with(own, func(r *config.Rule) { r.Actions = []string{"unsubscribe"} })), id("bob/x", "c"), ReasonNotAllowed, "own"},
		{"a rule for others", open(with(own, func(r *config.Rule) { r.Match.Username = "eve" })), id("bob/x", "c"), ReasonNone, ""},
		{"an allow rule with it", open(with(own, func(r *config.Rule) { r.Decision = "allow" })), id("bob/x", "c"), ReasonNone, ""},
		{"a group", open(with(own, func(r *config.Rule) { r.Topics = []string{"g/%g"} })), id("bob", "c", "a", "b/c"), ReasonNotAllowed, "own"},
		{"acl off", func(c *config.Config) { open(own)(c); c.ACL.Enabled = false }, id("bob/x", "c"), ReasonNone, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := compile(t, tc.policy)
			reason, rule := e.Unfit(&tc.id)
			if reason != tc.reason || e.RuleName(rule) != tc.rule {
				t.Errorf("%q as %q: got %q by %q, want %q by %q", tc.id.Username, tc.id.ClientID, reason.Tag(), e.RuleName(rule), tc.reason.Tag(), tc.rule)
			}
		})
	}
}
