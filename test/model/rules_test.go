package model

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
)

// rule is one ACL rule.
type rule struct {
	filter    string
	allow     bool
	publish   bool
	subscribe bool
	maxQoS    byte
	retain    bool
}

// rules is a policy in plain words, and what it decides worked out the long
// way: the engine under test is not asked.
type rules struct {
	name      string
	list      []rule
	byDefault bool

	qos          bool
	maxQoS       byte
	perTopic     string // a filter with a maximum of its own; "": none
	perTopicQoS  byte
	noDowngrade  bool
	retained     bool
	allowRetain  bool
	strip        bool
	retainFilter string // allowed-topics
	limits       limits
	keep         string // UNSUBSCRIBE is denied for it; "": for nothing
	onDeny       string
	revokedWill  string
	drainWill    string

	engine *policy.Engine
	grants map[string]bool
}

// limits are the same for all policies of a schedule: those of a session are
// fixed when it begins.
type limits struct{ receive, aliases, requests, subscriptions int }

// names are the topics that clients and the backend use.
var names = []string{"a/0", "a/1", "b/0", "b/secret", "c/x/y", "a", "b/0/deep", "$SYS/x", "d"}

// filterNames are what clients subscribe to.
var filterNames = []string{
	"a/0", "a/+", "a/#", "b/#", "#", "+/0", "c/x/y", "b/secret", "$SYS/#",
	"$share/g/a/0", "$share/g/b/#", "$share/h/a/+", "b/0/#", "d",
}

// everyTopic is an alphabet's every topic up to four levels: it holds a letter
// (z) that no rule uses, so that first match over it is first match over all.
var everyTopic = sync.OnceValue(func() []string {
	letters := []string{"a", "b", "c", "d", "0", "1", "x", "y", "secret", "deep", "z"}
	var out []string
	last := []string{""}
	for depth := range 4 {
		var next []string
		for _, prefix := range last {
			for _, l := range letters {
				if depth > 0 {
					l = prefix + "/" + l
				}
				next = append(next, l)
			}
		}
		out = append(out, next...)
		last = next
	}
	return append(out, "$SYS", "$SYS/x", "$SYS/z", "$SYS/x/z")
})

// matches is the matching of section 4.7, level by level.
func matches(filter, name string) bool {
	f, n := strings.Split(filter, "/"), strings.Split(name, "/")
	if strings.HasPrefix(n[0], "$") && f[0] != n[0] {
		return false
	}
	for i, level := range f {
		switch {
		case level == "#":
			return true
		case i >= len(n):
			return false
		case level != "+" && level != n[i]:
			return false
		}
		if i == len(n)-1 && len(f) == i+2 && f[i+1] == "#" {
			return true
		}
	}
	return len(f) == len(n)
}

// unshared takes $share/GROUP/ off.
func unshared(filter string) (group, rest string) {
	if p := strings.SplitN(filter, "/", 3); len(p) == 3 && p[0] == "$share" {
		return p[1], p[2]
	}
	return "", filter
}

func (p *rules) first(name string, publish bool) *rule {
	for i := range p.list {
		if r := &p.list[i]; (publish && r.publish || !publish && r.subscribe) && matches(r.filter, name) {
			return r
		}
	}
	return nil
}

func (p *rules) decides(name string, publish bool) bool {
	if r := p.first(name, publish); r != nil {
		return r.allow
	}
	return p.byDefault && !strings.HasPrefix(name, "$")
}

// highest is the highest QoS that a message on a topic keeps.
func (p *rules) highest(name string) byte {
	q := byte(2)
	if p.qos {
		q = p.maxQoS
		if p.perTopic != "" && matches(p.perTopic, name) {
			q = p.perTopicQoS
		}
	}
	if r := p.first(name, true); r != nil {
		q = min(q, r.maxQoS)
	}
	return q
}

func (p *rules) mayRetain(name string) bool {
	if r := p.first(name, true); r != nil && !r.retain {
		return false
	}
	return !p.retained || p.allowRetain || p.retainFilter != "" && matches(p.retainFilter, name)
}

// forwards says what becomes of a PUBLISH.
func (p *rules) forwards(name string, qos byte, retain bool) (ok bool, q byte, r bool) {
	if !p.decides(name, true) || qos > p.highest(name) && p.noDowngrade {
		return false, 0, false
	}
	if retain && !p.mayRetain(name) {
		if !p.strip {
			return false, 0, false
		}
		retain = false
	}
	return true, min(qos, p.highest(name)), retain
}

// ceiling is what CONNACK should announce. some: a topic may be published to.
func (p *rules) ceiling() (qos byte, retain, some bool) {
	for _, t := range names {
		if !p.decides(t, true) {
			continue
		}
		some = true
		qos = max(qos, p.highest(t))
		retain = retain || p.mayRetain(t) || p.strip
	}
	return qos, retain, some
}

// subscribes says whether a filter is granted: shared ones only if all their
// topics may be read, others if some may.
func (p *rules) subscribes(filter string) bool {
	if v, ok := p.grants[filter]; ok {
		return v
	}
	group, rest := unshared(filter)
	some, all := false, true
	for _, t := range everyTopic() {
		if matches(rest, t) {
			ok := p.decides(t, false)
			some, all = some || ok, all && ok
		}
	}
	v := some
	if group != "" {
		v = some && all
	}
	p.grants[filter] = v
	return v
}

// brief is the policy for the trace.
func (p *rules) brief() string {
	var b strings.Builder
	for _, r := range p.list {
		verb := "deny"
		if r.allow {
			verb = "allow"
		}
		who := ""
		if !r.publish {
			who = " (subscribe)"
		} else if !r.subscribe {
			who = " (publish)"
		}
		fmt.Fprintf(&b, "%s %s%s", verb, r.filter, who)
		if r.allow && (r.maxQoS < 2 || !r.retain) {
			fmt.Fprintf(&b, " q%d retain=%v", r.maxQoS, r.retain)
		}
		b.WriteString("; ")
	}
	fmt.Fprintf(&b, "else allow=%v", p.byDefault)
	if p.qos {
		fmt.Fprintf(&b, "; at most q%d", p.maxQoS)
		if p.perTopic != "" {
			fmt.Fprintf(&b, ", %s q%d", p.perTopic, p.perTopicQoS)
		}
		if p.noDowngrade {
			b.WriteString(", no downgrade")
		}
	}
	if p.keep != "" {
		fmt.Fprintf(&b, "; unsubscribe denied for %s", p.keep)
	}
	if p.retained {
		fmt.Fprintf(&b, "; retained allow=%v strip=%v except %q", p.allowRetain, p.strip, p.retainFilter)
	}
	fmt.Fprintf(&b, "; limits %+v; on-deny %s, revoked-will %s, drain-will %s", p.limits, p.onDeny, p.revokedWill, p.drainWill)
	return b.String()
}

// keeps says that UNSUBSCRIBE is denied.
func (p *rules) keeps(filter string) bool {
	_, rest := unshared(filter)
	return p.keep != "" && rest == p.keep
}

// text is the policy as configuration.
func (p *rules) text() string {
	type object = map[string]any
	var list []object
	for _, r := range p.list {
		o := object{"topics": []string{r.filter}, "decision": "deny"}
		if r.allow {
			o["decision"] = "allow"
			if r.maxQoS < 2 {
				o["max-qos"] = r.maxQoS
			}
			if !r.retain {
				o["allow-retain"] = false
			}
		}
		switch {
		case !r.subscribe:
			o["actions"] = []string{"publish"}
		case !r.publish:
			o["actions"] = []string{"subscribe"}
		default:
			o["actions"] = []string{"publish", "subscribe"}
		}
		list = append(list, o)
	}
	if p.keep != "" {
		list = append(list, object{"topics": []string{p.keep}, "decision": "deny", "actions": []string{"unsubscribe"}})
	}
	action := "deny"
	if p.byDefault {
		action = "allow"
	}
	l := object{"denials-per-minute": 0}
	for key, n := range map[string]int{
		"receive-maximum": p.limits.receive, "topic-aliases": p.limits.aliases,
		"outstanding-requests": p.limits.requests, "subscriptions": p.limits.subscriptions,
	} {
		if n > 0 {
			l[key] = n
		}
	}
	root := object{
		"acl":      object{"rules": list, "default-action": action},
		"general":  object{"protocol-versions": []string{"3.1.1", "5.0"}, "limits": l},
		"qos":      object{"enabled": p.qos, "max-qos": p.maxQoS, "downgrade": !p.noDowngrade},
		"retained": object{"enabled": p.retained, "allow-retained": p.allowRetain, "on-denied": "drop"},
		"gateway":  object{"on-deny": p.onDeny, "revoked-will": p.revokedWill, "drain-will": p.drainWill},
	}
	if p.perTopic != "" {
		root["qos"].(object)["per-topic"] = []object{{"topic": p.perTopic, "max-qos": p.perTopicQoS}}
	}
	if p.strip {
		root["retained"].(object)["on-denied"] = "strip"
	}
	if p.retainFilter != "" {
		root["retained"].(object)["allowed-topics"] = []string{p.retainFilter}
	}
	b, err := json.Marshal(root)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// compiled are the engines of some texts: of the last few thousand, or an hour's
// run would need gigabytes for them.
var compiled = struct {
	sync.Mutex
	engines map[string]*policy.Engine
}{engines: map[string]*policy.Engine{}}

const mostCompiled = 4096

// compile finds or builds the engine.
func (p *rules) compile() *rules {
	text := p.text()
	p.grants = map[string]bool{}
	compiled.Lock()
	defer compiled.Unlock()
	if p.engine = compiled.engines[text]; p.engine != nil {
		return p
	}
	cfg, _, err := config.Parse("model.json", "", []byte(text), func(string) (string, bool) { return "", false })
	if err != nil {
		panic(fmt.Sprintf("configuration %s: %v", text, err))
	}
	if p.engine, err = policy.Compile(cfg); err != nil {
		panic(fmt.Sprintf("configuration %s: %v", text, err))
	}
	if len(compiled.engines) == mostCompiled {
		clear(compiled.engines)
	}
	compiled.engines[text] = p.engine
	return p
}

// chooseRules makes a policy.
func chooseRules(c *choices, name string, l limits, onDeny string) *rules {
	p := &rules{name: name, limits: l, onDeny: onDeny, revokedWill: "suppress", drainWill: "fire", allowRetain: true, maxQoS: 2}
	both := func(f string, allow bool) rule {
		return rule{filter: f, allow: allow, publish: true, subscribe: true, maxQoS: 2, retain: true}
	}
	lists := [][]rule{
		{both("b/secret", false), both("#", true)},
		{both("a/#", true), both("b/secret/#", false), both("b/#", true)},
		{{filter: "a/1", publish: true, maxQoS: 2, retain: true}, {filter: "a/0", subscribe: true, maxQoS: 2, retain: true}, both("+/0", true), both("a/#", true), both("c/#", true)},
		{both("b/#", false), both("$SYS/#", true), both("#", true)},
		{both("a/0", false), both("a/+", true), both("b/+/#", true)},
		{},
	}
	p.list = append(p.list, lists[c.n(len(lists))]...)
	if len(p.list) == 0 {
		p.list = []rule{both("a/1", false), both("b/secret", false)}
		p.byDefault = true
	}
	switch c.n(8) {
	case 1:
		p.list[len(p.list)-1].maxQoS = 1
	case 2:
		p.list[len(p.list)-1].maxQoS = 0
	case 3:
		p.list = append([]rule{{filter: "a/0", allow: true, publish: true, subscribe: true, maxQoS: 1, retain: true}}, p.list...)
	case 4:
		p.list = append([]rule{{filter: "b/0", allow: true, publish: true, subscribe: true, maxQoS: 0, retain: false}}, p.list...)
	}
	switch c.n(8) {
	case 1:
		p.qos, p.maxQoS = true, 1
	case 2:
		p.qos, p.maxQoS = true, 0
	case 3:
		p.qos, p.maxQoS, p.perTopic, p.perTopicQoS = true, 1, "a/#", 2
	case 4:
		p.qos, p.maxQoS, p.perTopic, p.perTopicQoS = true, 2, "b/#", 0
	case 5:
		p.qos, p.maxQoS, p.noDowngrade = true, 1, true
	case 6:
		p.qos, p.maxQoS, p.perTopic, p.perTopicQoS = true, 0, "a/+", 1
	}
	if c.rarely(6) {
		p.keep = "a/0"
	}
	switch c.n(6) {
	case 1:
		p.retained, p.allowRetain, p.strip = true, false, true
	case 2:
		p.retained, p.allowRetain = true, false
	case 3:
		p.retained, p.allowRetain, p.retainFilter = true, false, "a/#"
	}
	return p
}
