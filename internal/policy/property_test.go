package policy

import (
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/topic"
)

// The world of the properties: levels that rules and identities use, and "z",
// "$z", which none does. Topics are one level longer than the longest pattern.
var (
	worldLevels = []string{"a", "b", "g", "anonymous", "", "$s", "z"}
	worldTopics = func() (all []string) {
		var grow func(prefix string, depth int)
		grow = func(prefix string, depth int) {
			all = append(all, prefix)
			if depth < 3 {
				for _, l := range worldLevels {
					grow(prefix+"/"+l, depth+1)
				}
			}
		}
		for _, l := range append([]string{"$z"}, worldLevels...) {
			grow(l, 1)
		}
		return slices.DeleteFunc(all, func(t string) bool { return t == "" })
	}()
)

// cases is how many random cases a property is tried with: TOPIC_CASES, or few
// enough for every run.
func cases(t *testing.T, usual int) int {
	t.Helper()
	s := os.Getenv("TOPIC_CASES")
	if s == "" {
		return usual
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("TOPIC_CASES: %v", err)
	}
	return n
}

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

func randomTopic(r *rand.Rand, levels ...string) string {
	var t []string
	for range 1 + r.IntN(2) {
		t = append(t, pick(r, levels...))
	}
	if r.IntN(3) == 0 {
		t = append(t, "#")
	}
	if s := strings.Join(t, "/"); s != "" {
		return s
	}
	return "a"
}

func randomConfig(r *rand.Rand) *config.Config {
	cfg := config.Default()
	cfg.ACL.DefaultAction = pick(r, "allow", "deny")
	cfg.ACL.SubscribeMode = pick(r, "strict", "filter", "auto")
	for range r.IntN(5) {
		rule := config.Rule{
			Decision: pick(r, "allow", "deny"),
			Priority: r.IntN(3),
			Actions:  pick(r, nil, []string{"publish"}, []string{"subscribe"}, []string{"subscribe", "unsubscribe"}),
			MaxQoS:   pick(r, nil, nil, ptr(0), ptr(1), ptr(2)),
		}
		if r.IntN(3) == 0 {
			rule.AllowRetain = ptr(r.IntN(2) == 0)
		}
		if r.IntN(3) == 0 {
			rule.Match.Username = pick(r, "a", "b")
		}
		if r.IntN(3) == 0 {
			rule.Match.Groups = pick(r, []string{"a"}, []string{"b", "g"})
		}
		if r.IntN(6) == 0 {
			rule.Match.ClientID = "a"
		}
		for range 1 + r.IntN(2) {
			rule.Topics = append(rule.Topics, randomTopic(r, "a", "b", "", "$s", "+", "+", "%u", "%c", "%g"))
		}
		cfg.ACL.Rules = append(cfg.ACL.Rules, rule)
	}
	plain := func() string { return randomTopic(r, "a", "b", "", "$s", "+", "+") }
	cfg.QoS.Enabled, cfg.QoS.MaxQoS = r.IntN(2) == 0, r.IntN(3)
	for range r.IntN(3) {
		cfg.QoS.PerTopic = append(cfg.QoS.PerTopic, config.TopicQoS{Topic: plain(), MaxQoS: r.IntN(3)})
	}
	cfg.Retained.Enabled, cfg.Retained.AllowRetained = r.IntN(2) == 0, r.IntN(2) == 0
	cfg.Retained.OnDenied = pick(r, "drop", "drop", "strip")
	for range r.IntN(3) {
		cfg.Retained.AllowedTopics = append(cfg.Retained.AllowedTopics, plain())
		cfg.Retained.BlockedTopics = append(cfg.Retained.BlockedTopics, plain())
	}
	return cfg
}

func randomIdentity(r *rand.Rand) Identity {
	return Identity{
		Username:  pick(r, "a", "b", "", "+", "$s"),
		ClientID:  pick(r, "a", "b", "", "#"),
		Groups:    pick(r, nil, []string{"a"}, []string{"b", "a"}, []string{"g", "+"}),
		Anonymous: r.IntN(6) == 0,
		Standing:  pick(r, Verified, Claimed, Verified, Unverified),
		Door:      pick(r, DoorAgent, DoorGateway),
	}
}

// plainly decides a topic by reading the configuration: no index, nothing
// bound, one rule after the other. rule is nil when the default decides.
type plainly struct {
	cfg    *config.Config
	id     *Identity
	groups []string
	sorted []*config.Rule
}

func newPlainly(cfg *config.Config, id *Identity) *plainly {
	p := &plainly{cfg: cfg, id: id, groups: id.Groups}
	if id.Anonymous {
		p.groups = append([]string{"anonymous"}, id.Groups...)
	}
	if id.Standing == Unverified {
		p.groups = nil
	}
	for priority := 2; priority >= 0; priority-- {
		for i := range cfg.ACL.Rules {
			if cfg.ACL.Rules[i].Priority == priority {
				p.sorted = append(p.sorted, &cfg.ACL.Rules[i])
			}
		}
	}
	return p
}

func (p *plainly) holds(r *config.Rule) bool {
	if r.Decision == "allow" && p.id.Standing == Unverified {
		return false
	}
	if m := r.Match; m.Username != "" && m.Username != p.id.Username || m.ClientID != "" && m.ClientID != p.id.ClientID {
		return false
	}
	if len(r.Match.Groups) == 0 {
		return true
	}
	for _, g := range r.Match.Groups {
		if slices.Contains(p.groups, g) {
			return true
		}
	}
	return false
}

func (p *plainly) names(r *config.Rule, action string) bool {
	if len(r.Actions) == 0 {
		return action == "publish" || action == "subscribe"
	}
	return slices.Contains(r.Actions, action)
}

func (p *plainly) patterns(r *config.Rule) (all []string) {
	bad := func(v string) bool { return v == "" || strings.ContainsAny(v, "/+#") || v[0] == '$' }
	for _, t := range r.Topics {
		if strings.Contains(t, "%u") && bad(p.id.Username) || strings.Contains(t, "%c") && bad(p.id.ClientID) {
			continue
		}
		t = strings.ReplaceAll(strings.ReplaceAll(t, "%u", p.id.Username), "%c", p.id.ClientID)
		if !strings.Contains(t, "%g") {
			all = append(all, t)
			continue
		}
		for _, g := range p.groups {
			if !bad(g) {
				all = append(all, strings.ReplaceAll(t, "%g", g))
			}
		}
	}
	return all
}

func (p *plainly) first(action string, match func(pattern string) bool) (rule *config.Rule) {
	for _, r := range p.sorted {
		if p.holds(r) && p.names(r, action) && slices.ContainsFunc(p.patterns(r), match) {
			return r
		}
	}
	return nil
}

func (p *plainly) topic(action, name string) (allow bool, rule *config.Rule) {
	rule = p.first(action, func(pattern string) bool { return topic.Match(pattern, name) })
	if rule == nil {
		return p.cfg.ACL.DefaultAction == "allow" && name[0] != '$', nil
	}
	return rule.Decision == "allow", rule
}

// TestSubjectAgainstPlainReading compares every kind of decision with the
// configuration read plainly, topic by topic.
func TestSubjectAgainstPlainReading(t *testing.T) {
	n := cases(t, 3_000)
	r := rand.New(rand.NewPCG(3, uint64(n)))
	granted, exactCeilings := 0, 0
	for range n {
		cfg := randomConfig(r)
		e, err := Compile(cfg)
		if err != nil {
			t.Fatal(err)
		}
		id := randomIdentity(r)
		s, p := e.Bind(id), newPlainly(cfg, &id)

		filter := randomTopic(r, "a", "b", "", "$s", "+", "+", "z")
		inner, shared := filter, r.IntN(5) == 0
		if shared {
			filter = "$share/g/" + inner
		}
		every, some, least := true, false, 2
		for _, name := range worldTopics {
			if !topic.Match(inner, name) {
				continue
			}
			allow, rule := p.topic("subscribe", name)
			every, some = every && allow, some || allow
			if allow && rule != nil && rule.MaxQoS != nil {
				least = min(least, *rule.MaxQoS)
			}
		}
		want := every
		if mode := cfg.ACL.SubscribeMode; !shared && (mode == "filter" || mode == "auto" && id.Door == DoorGateway) {
			want = some
		}
		var tr Trace
		got := s.Subscribe([]byte(filter), 2, nil)
		if got.Allowed() != want {
			t.Fatalf("%+v subscribes to %q under %+v: got %v, want %v", id, filter, cfg.ACL, got.Allowed(), want)
		}
		if traced := s.Subscribe([]byte(filter), 2, &tr); traced != got {
			t.Fatalf("%q: with trace %+v, without %+v", filter, traced, got)
		}
		for _, step := range tr.Steps {
			if step.Check != "acl" {
				continue
			}
			allow, _ := p.topic("subscribe", step.Witness)
			if allow != want || !topic.Match(inner, step.Witness) {
				t.Fatalf("%q: witness %q is %v, the decision is %v", filter, step.Witness, allow, want)
			}
		}
		if got.Allowed() {
			granted++
			qos := least
			if cfg.QoS.Enabled {
				section := cfg.QoS.MaxQoS
				for _, entry := range cfg.QoS.PerTopic {
					if topic.Covers(entry.Topic, inner) {
						section = entry.MaxQoS
						break
					}
				}
				qos = min(qos, section)
			}
			if int(got.QoS) != qos {
				t.Fatalf("%+v subscribes to %q under %+v %+v: QoS %d, want %d", id, filter, cfg.ACL, cfg.QoS, got.QoS, qos)
			}
		}

		stay := p.first("unsubscribe", func(pattern string) bool { return topic.Covers(pattern, inner) })
		if got, want := s.Unsubscribe([]byte(filter), nil).Allowed(), stay == nil || stay.Decision == "allow"; got != want {
			t.Fatalf("%+v unsubscribes from %q under %+v: got %v, want %v", id, filter, cfg.ACL, got, want)
		}

		// The ceiling is over all topics; what is said about each, over some.
		maxQoS, retain, any := byte(0), false, false
		for _, name := range worldTopics {
			v := s.Publish(Message{Topic: []byte(name), QoS: 2}, nil)
			if v.Allowed() {
				any, maxQoS = true, max(maxQoS, v.QoS)
				retain = retain || s.Publish(Message{Topic: []byte(name), Retain: true}, nil).Allowed()
			}
		}
		if !any {
			maxQoS = 2
		}
		// With templates what is announced may be too much for one whose topics
		// rules name besides, never too little for one who may publish at all.
		gotQoS, gotRetain := s.Ceiling()
		if exact := gotQoS == maxQoS && gotRetain == retain; !exact && (!s.bound.templates || any && gotQoS < maxQoS || retain && !gotRetain) {
			t.Fatalf("%+v under %+v %+v %+v: ceiling %d, %v, want %d, %v", id, cfg.ACL, cfg.QoS, cfg.Retained, gotQoS, gotRetain, maxQoS, retain)
		} else if exact {
			exactCeilings++
		}
		for range 5 {
			name := pick(r, worldTopics...)
			allow, rule := p.topic("publish", name)
			v := s.Publish(Message{Topic: []byte(name), QoS: 2}, nil)
			if v.Allowed() != allow || (v.Rule > 0) != (rule != nil) || rule != nil && p.sorted[v.Rule-1] != rule {
				t.Fatalf("%+v publishes to %q under %+v: got %+v, want %v by %+v", id, name, cfg.ACL, v, allow, rule)
			}
			if allow, _ := p.topic("subscribe", name); s.Deliver([]byte(name), nil).Allowed() != allow {
				t.Fatalf("%+v is delivered %q under %+v: want %v", id, name, cfg.ACL, allow)
			}
		}
	}
	if granted < n/10 || granted > n*9/10 {
		t.Errorf("cases are lopsided: %d of %d granted", granted, n)
	}
	if exactCeilings < n*9/10 {
		t.Errorf("%d of %d ceilings are exact", exactCeilings, n)
	}
}
