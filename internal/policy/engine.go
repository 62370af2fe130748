package policy

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/topic"
)

// Engine is a compiled policy: immutable, shared by all connections.
type Engine struct {
	cfg   *config.Config
	rules []rule // in evaluation order; RuleRef n > 0 is rules[n-1]

	// Rules to look at when binding, by the most telling thing they ask for, each
	// list in evaluation order. rest holds all others but those that hold for
	// everybody and have no %g: their patterns are in everybody, as Shared.
	byUsername, byClientID, byGroup map[string][]int32
	rest                            []int32
	denyTemplates                   []int32 // deny rules with templates
	everybody                       sets
	everybodyDenied                 func() sets // only of denying rules, built when first asked for

	lastAllow    int  // place of the last rule that allows, -1: none
	namesConnect bool // some rule speaks about CONNECT
	regexes      map[string]*regex
	memos        int // how many regexes several rules share

	qos      qosSection
	retained retainedSection

	bound boundCache
}

// sets are what decides each action. They are one where that comes out the same.
type sets struct {
	publish, subscribe, unsubscribe *topic.Set
	templates                       bool // some patterns are
}

// Compile builds the engine of a checked configuration. It fails only on what
// Load cannot see, and on more than [config.MaxRules] rules.
func Compile(cfg *config.Config) (*Engine, error) {
	if n := len(cfg.ACL.Rules); n > config.MaxRules {
		return nil, fmt.Errorf("acl: %d rules, at most %d are accepted", n, config.MaxRules)
	}
	e := &Engine{
		cfg:        cfg,
		rules:      make([]rule, 0, len(cfg.ACL.Rules)),
		byUsername: make(map[string][]int32),
		byClientID: make(map[string][]int32),
		byGroup:    make(map[string][]int32),
		regexes:    make(map[string]*regex),
	}
	order := make([]int, len(cfg.ACL.Rules))
	for i := range order {
		order[i] = i
	}
	// Highest priority first, equal ones in file order.
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Compare(cfg.ACL.Rules[b].Priority, cfg.ACL.Rules[a].Priority)
	})
	for _, i := range order {
		r, err := e.compileRule(&cfg.ACL.Rules[i], i)
		if err != nil {
			return nil, err
		}
		e.rules = append(e.rules, r)
	}
	e.lastAllow = -1
	for i := range e.rules {
		e.file(int32(i))
		if e.rules[i].allow {
			e.lastAllow = i
		} else if e.rules[i].values != 0 {
			e.denyTemplates = append(e.denyTemplates, int32(i))
		}
		e.namesConnect = e.namesConnect || e.rules[i].actions&actConnect != 0
	}
	e.everybody = e.forEverybody(func(*rule) bool { return true })
	e.everybodyDenied = sync.OnceValue(func() sets {
		return e.forEverybody(func(r *rule) bool { return !r.allow })
	})
	if cfg.General.FailOpen || !cfg.General.BlockMode { // else nobody is unverified
		e.everybodyDenied()
	}
	var err error
	if e.qos, err = compileQoS(&cfg.QoS); err != nil {
		return nil, err
	}
	if e.retained, err = compileRetained(&cfg.Retained); err != nil {
		return nil, err
	}
	return e, nil
}

// forEverybody are the sets of those for whom no other rules hold, of the rules
// that count.
func (e *Engine) forEverybody(counts func(*rule) bool) sets {
	var b builder
	for i := range e.rules {
		r := &e.rules[i]
		if r.when != nil || !counts(r) {
			continue
		}
		for _, p := range r.patterns {
			if !p.perGroup() {
				b.add(r, i, p.text, p.values != 0)
			}
		}
	}
	shared := func(entries []topic.Entry, byDefault bool) *topic.Set {
		return &topic.Set{Shared: topic.NewIndex(entries), Default: byDefault}
	}
	byDefault := e.cfg.ACL.DefaultAction == "allow"
	all := sets{publish: shared(b.publish, byDefault), unsubscribe: shared(b.unsubscribe, false), templates: b.templates}
	if all.subscribe = all.publish; b.differ {
		all.subscribe = shared(b.subscribe, byDefault)
	}
	return all
}

// file puts a rule where Bind finds it.
func (e *Engine) file(i int32) {
	r := &e.rules[i]
	switch {
	case r.when == nil:
		if r.values&valueGroup != 0 || r.actions&actConnect != 0 {
			e.rest = append(e.rest, i)
		}
	case r.when.username != "":
		e.byUsername[r.when.username] = append(e.byUsername[r.when.username], i)
	case r.when.clientID != "":
		e.byClientID[r.when.clientID] = append(e.byClientID[r.when.clientID], i)
	case len(r.when.groups) > 0:
		for n, g := range r.when.groups {
			if !slices.Contains(r.when.groups[:n], g) {
				e.byGroup[g] = append(e.byGroup[g], i)
			}
		}
	default:
		e.rest = append(e.rest, i)
	}
}

// builder collects patterns by action.
type builder struct {
	publish, subscribe, unsubscribe []topic.Entry
	differ                          bool // publish and subscribe are not the same
	templates                       bool // some are
}

func (b *builder) add(r *rule, rank int, pattern string, template bool) {
	e := topic.Entry{Pattern: pattern, Rank: rank, Allow: r.allow, Limit: r.limit, Template: template}
	if r.actions&actPublish != 0 {
		b.publish = append(b.publish, e)
	}
	if r.actions&actSubscribe != 0 {
		b.subscribe = append(b.subscribe, e)
	}
	if r.actions&actUnsubscribe != 0 {
		b.unsubscribe = append(b.unsubscribe, e)
	}
	b.templates = b.templates || template
	if (r.actions&actPublish != 0) != (r.actions&actSubscribe != 0) {
		b.differ = true
	}
}

// over are the patterns on top of those for everybody.
func (b *builder) over(everybody sets) sets {
	all := sets{
		publish: over(b.publish, everybody.publish), unsubscribe: over(b.unsubscribe, everybody.unsubscribe),
		templates: b.templates || everybody.templates,
	}
	if all.subscribe = all.publish; b.differ || everybody.subscribe != everybody.publish {
		all.subscribe = over(b.subscribe, everybody.subscribe)
	}
	return all
}

func over(entries []topic.Entry, everybody *topic.Set) *topic.Set {
	if len(entries) == 0 {
		return everybody
	}
	s := *everybody
	if len(entries) <= topic.MaxFew {
		s.Few = slices.Clone(entries) // without room to grow
	} else {
		s.Own = topic.NewIndex(entries)
	}
	return &s
}

// Config is the configuration the engine was compiled from.
func (e *Engine) Config() *config.Config { return e.cfg }

// RuleName names r for audit and explain: the rule's name or its place in the
// file, or the built-in check.
func (e *Engine) RuleName(r RuleRef) string {
	if r > 0 && int(r) <= len(e.rules) {
		return e.rule(r).label
	}
	return r.Builtin()
}

// rule is the rule that r > 0 refers to.
func (e *Engine) rule(r RuleRef) *rule { return &e.rules[r-1] }

// Bind gives the subject of an identity: the rules that can match it. Identities
// for which these are the same share all of it but themselves. It costs a look
// at the rules that name the user, the client id or a group of his, and at
// those with a condition that name none of them.
//
// The identity's slices and maps are kept and must not change.
func (e *Engine) Bind(id Identity) *Subject {
	id.Addr = id.Addr.Unmap().WithZone("")
	s := &Subject{identity: id}
	if Fits(id.Username) {
		s.fit |= valueUsername
	}
	if Fits(id.ClientID) {
		s.fit |= valueClientID
	}
	b := binding{id: &s.identity, groups: groupsInForce(&s.identity)}
	if e.memos > 0 {
		b.memo = make([]int8, e.memos)
	}
	matched := e.matching(&b)
	s.bound = e.bound.get(e.bindingKey(&b, matched), func() *bound { return e.bind(&b, matched) })
	return s
}

// groupsInForce are the groups that rules see.
func groupsInForce(id *Identity) []string {
	if id.Standing == Unverified {
		return nil
	}
	if id.Anonymous && !slices.Contains(id.Groups, "anonymous") {
		return append(slices.Clip(id.Groups), "anonymous")
	}
	return id.Groups
}

// matching are the rules beyond those for everybody whose conditions hold, in
// evaluation order.
func (e *Engine) matching(b *binding) []int32 {
	lists := [][]int32{e.rest, e.byUsername[b.id.Username], e.byClientID[b.id.ClientID]}
	for _, g := range b.groups {
		lists = append(lists, e.byGroup[g])
	}
	lists = slices.DeleteFunc(lists, func(l []int32) bool { return len(l) == 0 })
	var candidates []int32
	if len(lists) == 1 {
		candidates = lists[0]
	} else {
		candidates = slices.Concat(lists...)
		slices.Sort(candidates)
		candidates = slices.Compact(candidates) // a rule may name several groups
	}
	var matched []int32
	for _, i := range candidates {
		r := &e.rules[i]
		if r.allow && b.id.Standing == Unverified {
			continue
		}
		if r.when.holds(b) {
			matched = append(matched, i)
		}
	}
	return matched
}

// bindingKey is equal for bindings that come out the same: the same rules and,
// where %g stands in one of their patterns, the same values in it.
func (e *Engine) bindingKey(b *binding, matched []int32) string {
	key := make([]byte, 0, 64+3*len(matched))
	if b.id.Standing == Unverified {
		key = append(key, 1)
	} else {
		key = append(key, 0)
	}
	var used values
	for _, i := range matched {
		key = binary.AppendUvarint(key, uint64(i)+1)
		used |= e.rules[i].filled
	}
	key = append(key, 0)
	add := func(s string) {
		key = binary.AppendUvarint(key, uint64(len(s)))
		key = append(key, s...)
	}
	if used&valueUsername != 0 {
		add(b.id.Username)
	}
	if used&valueClientID != 0 {
		add(b.id.ClientID)
	}
	if used&valueGroup != 0 {
		for _, g := range slices.Sorted(slices.Values(b.groups)) {
			add(g)
		}
	}
	if len(key) > 256 {
		sum := sha256.Sum256(key)
		return string(sum[:])
	}
	return string(key)
}

// bind builds what bindingKey identifies.
func (e *Engine) bind(b *binding, matched []int32) *bound {
	shared := e.everybody
	if b.id.Standing == Unverified {
		shared = e.everybodyDenied()
	}
	var own builder
	connect := RuleDefaultAction
	var filled []string
	for _, i := range matched {
		r := &e.rules[i]
		if r.actions&actConnect != 0 && connect == RuleDefaultAction {
			connect = ruleAt(int(i))
		}
		for _, p := range r.patterns {
			switch {
			case p.perGroup():
				filled = p.fill(filled[:0], b)
				for _, text := range filled {
					own.add(r, int(i), text, false)
				}
			case r.when != nil: // else in shared
				own.add(r, int(i), p.text, p.values != 0)
			}
		}
	}
	if !e.namesConnect {
		connect = RuleNone
	}
	return &bound{engine: e, sets: own.over(shared), connect: connect}
}
