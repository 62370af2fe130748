package analyse

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
)

func compile(t *testing.T, change func(*config.Config)) *policy.Engine {
	t.Helper()
	cfg := config.Default()
	one, no := 1, false
	cfg.ACL.Rules = []config.Rule{
		{Name: "readings", Match: config.Match{UsernameRegex: regexp.MustCompile("^sensor-")}, Topics: []string{"sensors/%u/data"}, Actions: []string{"publish"}, Decision: "allow", MaxQoS: &one, AllowRetain: &no},
		{Name: "one level", Topics: []string{"sensors/+"}, Actions: []string{"subscribe"}, Decision: "allow"},
		{Name: "stay", Topics: []string{"alerts/#"}, Actions: []string{"unsubscribe"}, Decision: "deny"},
		{Name: "no eve\x1b[2J", Match: config.Match{Username: "eve"}, Actions: []string{"connect"}, Decision: "deny"},
		{Name: "others", Actions: []string{"connect"}, Decision: "allow"},
	}
	if change != nil {
		change(cfg)
	}
	e, err := policy.Compile(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// TestExplain compares whole texts with files in testdata; run with UPDATE=1 to
// rewrite them.
func TestExplain(t *testing.T) {
	sensor := Query{Username: "sensor-1", ClientID: "c1", Groups: []string{"g"}, ClientIP: netip.MustParseAddr("192.0.2.1")}
	with := func(f func(*Query)) Query {
		q := sensor
		f(&q)
		return q
	}
	strip := func(c *config.Config) { c.Retained.OnDenied = "strip" }
	for _, tc := range []struct {
		name   string
		change func(*config.Config)
		q      Query
	}{
		{"publish", nil, with(func(q *Query) {
			q.Action, q.Topic, q.QoS, q.Payload = Publish, "sensors/sensor-1/data", 1, []byte("21.5")
		})},
		{"publish_too_large", func(c *config.Config) { c.General.MaxPacketSize = 2000 }, with(func(q *Query) {
			q.Action, q.Topic, q.Payload = Publish, "sensors/sensor-1/data", make([]byte, 2000)
		})},
		{"deliver_too_large", func(c *config.Config) { c.General.MaxDeliverySize = 100 }, with(func(q *Query) {
			q.Action, q.Topic, q.Payload = Deliver, "sensors/x", make([]byte, 2000)
		})},
		{"publish_lowered_and_stripped", strip, with(func(q *Query) { q.Action, q.Topic, q.QoS, q.Retain = Publish, "sensors/sensor-1/data", 2, true })},
		{"publish_denied", nil, with(func(q *Query) { q.Action, q.Topic = Publish, "sensors/sensor-2/data" })},
		{"publish_malformed", nil, with(func(q *Query) { q.Action, q.Topic = Publish, "sensors/\x1b[31m/+" })},
		{"publish_response_topic", nil, with(func(q *Query) {
			q.Action, q.Topic, q.ResponseTopic = Publish, "sensors/sensor-1/data", "secret"
		})},
		{"subscribe_wider_than_the_rule", nil, with(func(q *Query) { q.Action, q.Topic, q.QoS = Subscribe, "sensors/#", 1 })},
		{"subscribe_agent_door", nil, with(func(q *Query) {
			q.Action, q.Topic, q.Doors = Subscribe, "sensors/#", []policy.Door{policy.DoorAgent}
		})},
		{"subscribe", nil, with(func(q *Query) { q.Action, q.Topic, q.QoS = Subscribe, "sensors/+", 2 })},
		{"subscribe_shared", nil, with(func(q *Query) { q.Action, q.Topic = Subscribe, "$share/g/sensors/#" })},
		{"unsubscribe_denied", nil, with(func(q *Query) { q.Action, q.Topic = Unsubscribe, "alerts/fire" })},
		{"deliver", nil, with(func(q *Query) { q.Action, q.Topic = Deliver, "sensors/x/y" })},
		{"connect_version", nil, Query{Username: "eve", Action: Connect, Version: mqtt.V31}},
		{"connect_denied", func(c *config.Config) { c.General.ProtocolVersions = []string{"3.1"} }, Query{Username: "eve", Action: Connect, Version: mqtt.V31}},
		{"connect_anonymous", func(c *config.Config) { c.Auth.Enabled = true; c.ACL.Rules[0].Match = config.Match{} }, Query{Action: Connect}},
		{"connect_announces", nil, with(func(q *Query) { q.Action = Connect })},
		{"connect_refused", nil, with(func(q *Query) {
			q.Action, q.Refusals = Connect, map[policy.Door]Refusal{
				policy.DoorAgent: {policy.ReasonClientID, policy.RuleClientIDPattern, "the client id does not match client-id-pattern"},
			}
		})},
		{"publish_by_a_disabled_user", func(c *config.Config) { c.Auth.Enabled = true }, with(func(q *Query) {
			no := Refusal{policy.ReasonBadCredentials, policy.RuleProviders, "the user is disabled"}
			q.Action, q.Topic, q.Payload, q.Listed = Publish, "sensors/sensor-1/data", []byte("1"), true
			q.Refusals = map[policy.Door]Refusal{policy.DoorAgent: no, policy.DoorGateway: no}
		})},
		{"will_removed", func(c *config.Config) { c.ACL.OnDeniedWill = "remove" }, with(func(q *Query) { q.Action, q.Topic = Will, "secret" })},
		{"detect_only", func(c *config.Config) { c.General.BlockMode = false }, with(func(q *Query) { q.Action, q.Topic, q.QoS = Publish, "secret", 1 })},
		{"unverified", func(c *config.Config) { c.Auth.Enabled = true }, with(func(q *Query) { q.Action, q.Topic, q.Unverified = Publish, "sensors/sensor-1/data", true })},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := Explain(compile(t, tc.change), tc.q)
			var b bytes.Buffer
			if err := r.WriteText(&b); err != nil {
				t.Fatal(err)
			}
			got := b.String()
			if strings.ContainsAny(strings.ReplaceAll(got, "\n", ""), "\x1b\x00\r\t") {
				t.Errorf("control characters in the text: %q", got)
			}
			path := filepath.Join("testdata", tc.name+".txt")
			if os.Getenv("UPDATE") != "" {
				if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("text differs from %s (-want +got):\n%s", path, diff)
			}

			out, err := json.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			var back Report
			if err := json.Unmarshal(out, &back); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(r, back); diff != "" {
				t.Errorf("JSON does not read back (-want +got):\n%s", diff)
			}
		})
	}
}

// TestExplainSaysWhatTheDoorsDo compares decisions with what a Subject says
// without a trace.
func TestExplainSaysWhatTheDoorsDo(t *testing.T) {
	e := compile(t, nil)
	for _, door := range []policy.Door{policy.DoorGateway, policy.DoorAgent} {
		for _, filter := range []string{"sensors/#", "sensors/+", "#", "$share/g/sensors/+", "a+"} {
			q := Query{Username: "sensor-1", Action: Subscribe, Topic: filter, QoS: 1, Doors: []policy.Door{door}}
			a := Explain(e, q).Answers[0]
			v := e.Bind(q.identity(e, door)).Subscribe([]byte(filter), 1, nil)
			if (a.Decision != "deny") != v.Allowed() || a.Rule != e.RuleName(v.Rule) || a.Reason != v.Reason.Tag() {
				t.Errorf("%v door, %q: explained %+v, decided %+v", door, filter, a, v)
			}
		}
	}
}

// TestWitness is the question of the issue: a filter wider than the rule.
func TestWitness(t *testing.T) {
	e := compile(t, nil)
	r := Explain(e, Query{Username: "u", Action: Subscribe, Topic: "sensors/#", Doors: []policy.Door{policy.DoorAgent}})
	a := r.Answers[0]
	if a.Decision != "deny" || a.Rule != "default-action" || a.Witness != "sensors" {
		t.Errorf("got %+v", a)
	}
	if r.Differ {
		t.Error("one door differs from itself")
	}
}
