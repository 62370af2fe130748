package auth

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
)

func TestForesee(t *testing.T) {
	who := func(clientID, username string) policy.Identity {
		return policy.Identity{ClientID: clientID, Username: username}
	}
	set := func(f func(*config.Config)) func(*config.Config) { return f }
	for _, c := range []struct {
		name     string
		change   func(*config.Config)
		id       policy.Identity
		password bool
		reason   policy.Reason
		rule     policy.RuleRef
		why      string // or the groups
	}{
		{"admitted", nil, who("c", "alice"), true, policy.ReasonNone, 0, "a b"},
		{"disabled", nil, who("c", "bob"), true, policy.ReasonBadCredentials, policy.RuleUserDisabled, "disabled"},
		{"unknown", nil, who("c", "eve"), true, policy.ReasonBadCredentials, policy.RuleUnknownUser, "no users file"},
		{"no password", nil, who("c", "alice"), false, policy.ReasonBadCredentials, policy.RuleNoPassword, "without a password"},
		{"no provider", set(func(c *config.Config) { c.Auth.Providers = nil }), who("c", "alice"), true, policy.ReasonBadCredentials, policy.RuleProviders, "no provider"},
		{"anonymous", nil, who("c", ""), false, policy.ReasonNotAllowed, policy.RuleAllowAnonymous, "allow-anonymous is false"},
		{"client id", set(func(c *config.Config) { c.Auth.ClientIDPattern = regexp.MustCompile("^(?:x)$") }), who("c", "alice"), true, policy.ReasonClientID, policy.RuleClientIDPattern, "client-id-pattern"},
		{"client id too long", set(func(c *config.Config) { c.Auth.MaxClientIDLength = 2 }), who("abc", "alice"), true, policy.ReasonClientID, policy.RuleClientIDLength, "has 3 characters, longer than max-client-id-length, which is 2 (checked before credentials)"},
		{"client id too short", set(func(c *config.Config) { c.Auth.MinClientIDLength = 2 }), who("c", "alice"), true, policy.ReasonClientID, policy.RuleClientIDLength, "has 1 character, shorter than min-client-id-length, which is 2"},
		{"no client id", set(func(c *config.Config) { c.Auth.ClientIDTemplate = "%u-*" }), who("", ""), false, policy.ReasonNotAllowed, policy.RuleAllowAnonymous, "allow-anonymous is false"},
		{"no client id, anonymous", set(func(c *config.Config) {
			c.Auth.ClientIDTemplate, c.Auth.AllowAnonymous = "%u-*", true
		}), who("", ""), false, policy.ReasonClientID, policy.RuleEmptyClientID, "without a user name that fits"},
		{"detect-only", set(func(c *config.Config) { c.General.BlockMode = false }), who("c", "bob"), true, policy.ReasonBadCredentials, policy.RuleUserDisabled, "disabled"},
		{"authentication off", set(func(c *config.Config) { c.Auth.Enabled = false }), who("c", "eve"), true, policy.ReasonNone, 0, ""},
		{"a deny rule", set(func(c *config.Config) {
			c.Auth.Enabled, c.ACL.DefaultAction = false, "allow"
			c.ACL.Rules = []config.Rule{{Topics: []string{"own/%u"}, Decision: "deny"}}
		}), who("c", "a/b"), true, policy.ReasonNotAllowed, 1, "cannot be filled in"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := start(t, c.change)
			got, err := Foresee(f.cfg, compile(t, f.cfg), c.id, c.password)
			if err != nil {
				t.Fatal(err)
			}
			why := got.Why
			if got.Reason == policy.ReasonNone {
				why = strings.Join(got.Identity.Groups, " ")
			}
			if got.Reason != c.reason || got.Rule != c.rule || !strings.Contains(why, c.why) || got.Known != (c.name == "admitted") {
				t.Errorf("got %+v, want reason %d, rule %d, %q", got, c.reason, c.rule, c.why)
			}
		})
	}
	f := start(t, nil)
	others := *f.cfg
	others.Auth.Providers = append(slices.Clone(f.cfg.Auth.Providers), config.Provider{Type: "jwt"})
	if got, err := Foresee(&others, compile(t, f.cfg), who("c", "eve"), true); err != nil || got.Reason != policy.ReasonNone || got.Known {
		t.Errorf("beside a provider of another type: %+v, %v", got, err)
	}
	cfg := config.Default()
	cfg.Auth.Enabled, cfg.Auth.Providers = true, []config.Provider{{Type: "file", Path: filepath.Join(t.TempDir(), "not")}}
	if _, err := Foresee(cfg, compile(t, cfg), who("c", "alice"), true); err == nil {
		t.Error("a missing users file gave no error")
	}
}
