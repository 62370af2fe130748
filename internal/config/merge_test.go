package config

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestMerge puts pushed configurations over one file.
func TestMerge(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "users.json"), []byte(`{"users": {}}`))
	const file = `{
	  // The proxy turns these on and off.
	  "auth": { "enabled": false, "providers": [{ "type": "file", "path": "users.json" }], "failure_lockout": { "attempts": 3 } },
	  "acl": { "rules": [{ "topics": ["a/#"], "decision": "allow", "match": { "groups": ["${GROUP}"] } }] },
	  "qos": { "max-qos": 1 },
	  "general": { "max-connections": 7, "protocol-versions": ["5.0"] },
	}`
	base, _, err := Parse("c.json", dir, []byte(file), lookup(map[string]string{"SECRET": "hunter2", "TYPE": "file", "GROUP": "ops"}))
	if err != nil {
		t.Fatal(err)
	}
	base.Agent.DecisionTimeoutMS = 77 // as an option of a command would
	for _, c := range []struct {
		name, pushed, want string
		check              func(c *Config) bool
	}{
		{"nothing", `{}`, "ok", func(c *Config) bool {
			return c.QoS.MaxQoS == 1 && c.General.MaxConnections == 7 && c.ACL.Rules[0].Match.Groups[0] == "ops"
		}},
		{
			"the description's", `{"acl":{"default-action":"deny","enabled":true},"auth":{"allow-anonymous":false,"enabled":true}}`, "ok",
			func(c *Config) bool { return c.Auth.Enabled && len(c.Auth.Providers) == 1 && len(c.ACL.Rules) == 1 },
		},
		{"objects merge", `{"auth":{"failure-lockout":{"window-secs":9}}}`, "ok", func(c *Config) bool {
			return c.Auth.FailureLockout.Attempts == 3 && c.Auth.FailureLockout.WindowSecs == 9
		}},
		{"a scalar replaces an object", `{"auth":{"failure_lockout":false}}`, "ok", func(c *Config) bool { return c.Auth.FailureLockout.Attempts == 0 }},
		{"a list replaces", `{"acl":{"rules":[{"topics":"b/#","decision":"deny"}]}}`, "ok", func(c *Config) bool {
			return len(c.ACL.Rules) == 1 && c.ACL.Rules[0].Topics[0] == "b/#"
		}},
		{"a scalar for a list", `{"retained":{"allowed-topics":"x/#"},"acl":{"rules":[{"topics":"b","decision":"allow","actions":"publish","match":{"protocol-version":5,"client-ip":"10.0.0.0/8"}}]}}`, "ok", func(c *Config) bool {
			return c.Retained.AllowedTopics[0] == "x/#" && c.ACL.Rules[0].Match.ProtocolVersion == 5
		}},
		{"general", `{"general":{"block-mode":false,"log_packets":true}}`, "ok", func(c *Config) bool {
			return !c.General.BlockMode && c.General.LogPackets && c.General.MaxConnections == 7 && len(c.General.ProtocolVersions) == 1
		}},
		{"what base was changed to", `{"qos":{"max-qos":0}}`, "ok", func(c *Config) bool { return c.Agent.DecisionTimeoutMS == 77 && c.QoS.MaxQoS == 0 }},

		{"no environment", `{"acl":{"rules":[{"topics":["${SECRET}/x"],"decision":"allow"}]}}`, "ok", func(c *Config) bool { return c.ACL.Rules[0].Topics[0] == "${SECRET}/x" }},
		{"no environment in a type", `{"auth":{"providers":[{"type":"${TYPE}","path":"/etc/passwd"}]}}`, "pushed:1:31: auth.providers[0].type: found the text \"${TYPE}\"", nil},
		{"no environment in an error", `{"acl":{"default-action":"${SECRET}","rules":[{"topics":["#${SECRET}"],"decision":"allow"}]}}`, "pushed:1:26: acl.default-action: found the text \"${SECRET}\"", nil},

		{"a section of the agent's own", `{"gateway":{"listeners":[]}}`, "pushed:1:2: gateway: a pushed configuration cannot set this", nil},
		{"a key of general", "{\n\"general\":{\"fail-open\":true}}", "pushed:2:12: general.fail-open: a pushed configuration cannot set this", nil},
		{"a users file", `{"auth":{"providers":[{"type":"file","path":"/etc/passwd"}]}}`, `auth.providers[0].path: a pushed configuration cannot name files`, nil},
		{"a rules file", `{"acl":{"rules-file":"/etc/passwd"}}`, `pushed:1:9: acl.rules-file: a pushed configuration cannot name files`, nil},
		{"a schema", `{"inspection":{"json-schema":{"schema-file":"x","topics":"a"}}}`, `cannot name files`, nil},
		{"an http provider", `{"auth":{"providers":[{"type":"http","url":"https://a/b"}]}}`, `pushed:1:23: auth.providers[0]: a pushed configuration cannot have a provider of type http`, nil},
		{"an unknown key", `{"acl":{"default-acton":"deny"}}`, `pushed:1:9: acl: unknown key "default-acton"`, nil},
		{"an unknown section", `{"acll":{}}`, "pushed:1:2: unknown key \"acll\"\n    hint: did you mean \"acl\"?", nil},
		{"a section like nothing", `{"mqtt":{}}`, "unknown key \"mqtt\"\n    hint: known here: auth, acl, inspection, rate-limit, qos, retained, general\n", nil},
		{"a section like one of the agent's own", `{"gatewy":{}}`, "unknown key \"gatewy\"\n    hint: known here: auth, acl", nil},
		{"a key like nothing in general", `{"general":{"x":true}}`, "unknown key \"x\"\n    hint: known here: block-mode, log-packets\n", nil},
		{"a wrong value", `{"qos":{"max-qos":3}}`, "pushed:1:19: qos.max-qos: found the number 3", nil},
		{"a key twice", `{"qos":{"max-qos":1,"max_qos":2}}`, `pushed:1:21: qos.max-qos: the key "max_qos" is given twice, first at 1:9`, nil},
		{"a section twice", `{"qos":{"max-qos":1},"qos":{"max-qos":2}}`, `pushed:1:22: qos: the key "qos" is given twice, first at 1:2`, nil},
		{"an object for a list of rules", `{"acl":{"rules":{"topics":"b"}}}`, "pushed:1:17: acl.rules: found an object; accepted: a list", nil},
		{"null for a section", `{"acl":null}`, "pushed:1:8: acl: found null", nil},
		{"a list", `[]`, "pushed:1:1: found a list; accepted: an object", nil},
		{"no JSON", `{"a`, "pushed:", nil},
		{"what does not go together", `{"auth":{"min-client-id-length":200}}`, "pushed:1:33: auth.min-client-id-length", nil},
		{"not enforced", `{"rate-limit":{"enabled":true}}`, "not enforced: rate-limit.enabled", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg, warnings, err := Merge(base, []byte(c.pushed))
			got := outcome(cfg, warnings, err)
			if !strings.Contains(got, c.want) || err == nil && c.check != nil && !c.check(cfg) {
				t.Errorf("%s\ngot  %s\nwant %s", c.pushed, got, c.want)
			}
			if strings.Contains(got, "hunter2") {
				t.Errorf("a value of the environment was shown: %s", got)
			}
			if e := Unenforced(warnings); (e != nil) != strings.HasPrefix(c.want, "not enforced") {
				t.Errorf("unenforced: %v", e)
			}
		})
	}
	if base.Auth.Enabled || base.QoS.MaxQoS != 1 || len(base.ACL.Rules) != 1 {
		t.Error("base was changed")
	}
	// A list of one stays a mistake in a file.
	if _, _, err := Parse("c.json", dir, []byte(`{"retained":{"allowed-topics":"x/#"}}`), lookup(nil)); err == nil {
		t.Error("a file may write a scalar for a list")
	}
	if cfg, _, err := Merge(Default(), []byte(`{"acl":{"default-action":"allow"}}`)); err != nil || cfg.ACL.DefaultAction != "allow" {
		t.Errorf("over the defaults: %v", err)
	}
}
