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

// MaxRules is how many ACL rules a policy may have.
const MaxRules = 100_000

// Engine is a compiled policy: immutable, shared by all connections.
type Engine struct {
	cfg   *config.Config
	rules []rule // in evaluation order; a RuleRef ≥ 0 is an index

	// Rules to look at when binding, by the most telling thing they ask for, each
	// list in evaluation order. rest holds all others but those that hold for
	// everybody and have no templates: their patterns are in everybody.
	byUsername, byClientID, byGroup map[string][]int32
	rest                            []int32
	everybody                       patterns
	everybodyDenied                 func() patterns // only of denying rules, built when first asked for

	namesConnect bool // some rule speaks about CONNECT
	regexes      map[string]*regex
	memos        int // how many regexes several rules share

	qos      qosSection
	retained retainedSection

	bound boundCache
}

// patterns are the patterns of a set of rules by action; nil where there are
// none.
type patterns struct{ publish, subscribe, unsubscribe *topic.Index }

// Compile builds the engine of a checked configuration. It fails only on what
// Load cannot see, and on more than MaxRules rules.
func Compile(cfg *config.Config) (*Engine, error) {
	if n := len(cfg.ACL.Rules); n > MaxRules {
		return nil, fmt.Errorf("acl: %d rules, at most %d are accepted", n, MaxRules)
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
	for i := range e.rules {
		e.file(int32(i))
		e.namesConnect = e.namesConnect || e.rules[i].actions&actConnect != 0
	}
	e.everybody = e.forEverybody(func(*rule) bool { return true })
	e.everybodyDenied = sync.OnceValue(func() patterns {
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

// forEverybody are the patterns that need no binding, of the rules that count.
func (e *Engine) forEverybody(counts func(*rule) bool) patterns {
	var b builder
	for i := range e.rules {
		r := &e.rules[i]
		if r.when != nil || !counts(r) {
			continue
		}
		for _, p := range r.patterns {
			if p.values == 0 {
				b.add(r, i, p.text)
			}
		}
	}
	return b.build()
}

// file puts a rule where Bind finds it.
func (e *Engine) file(i int32) {
	r := &e.rules[i]
	switch {
	case r.when == nil:
		if r.values != 0 || r.actions&actConnect != 0 {
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
}

func (b *builder) add(r *rule, rank int, pattern string) {
	e := topic.Entry{Pattern: pattern, Rank: rank, Allow: r.allow, Limit: r.limit}
	if r.actions&actPublish != 0 {
		b.publish = append(b.publish, e)
	}
	if r.actions&actSubscribe != 0 {
		b.subscribe = append(b.subscribe, e)
	}
	if r.actions&actUnsubscribe != 0 {
		b.unsubscribe = append(b.unsubscribe, e)
	}
	if (r.actions&actPublish != 0) != (r.actions&actSubscribe != 0) {
		b.differ = true
	}
}

// sets are the patterns as sets of their own.
func (b *builder) sets() (publish, subscribe, unsubscribe topic.Set) {
	set := func(entries []topic.Entry) topic.Set {
		if len(entries) <= topic.MaxFew {
			return topic.Set{Few: slices.Clone(entries)} // without room to grow
		}
		return topic.Set{Own: topic.NewIndex(entries)}
	}
	publish, unsubscribe = set(b.publish), set(b.unsubscribe)
	if subscribe = publish; b.differ {
		subscribe = set(b.subscribe)
	}
	return publish, subscribe, unsubscribe
}

func (b *builder) build() patterns {
	p := patterns{publish: topic.NewIndex(b.publish), unsubscribe: topic.NewIndex(b.unsubscribe)}
	if b.differ {
		p.subscribe = topic.NewIndex(b.subscribe)
	} else {
		p.subscribe = p.publish
	}
	return p
}

// Config is the configuration the engine was compiled from.
func (e *Engine) Config() *config.Config { return e.cfg }

// Rules is how many ACL rules the policy has.
func (e *Engine) Rules() int { return len(e.rules) }

// RuleName names r for audit and explain: the rule's name or its place in the
// file, or the built-in check.
func (e *Engine) RuleName(r RuleRef) string {
	switch {
	case r > 0 && int(r) <= len(e.rules):
		return e.rule(r).label
	case r <= 0 && int(-r) < len(builtinNames):
		return builtinNames[-r]
	}
	return ""
}

// rule is the rule that r > 0 refers to.
func (e *Engine) rule(r RuleRef) *rule { return &e.rules[r-1] }

// Bind gives the subject of an identity: the rules that can match it, with
// their templates filled. Identities for which this comes out the same share
// all of it but themselves. It costs a look at the rules that name the user,
// the client id or a group of his, and at those that name none of them.
//
// The identity's slices and maps are kept and must not change.
func (e *Engine) Bind(id Identity) *Subject {
	id.Addr = id.Addr.Unmap().WithZone("")
	s := &Subject{engine: e, identity: id}
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

// bindingKey is equal for bindings that come out the same: the same rules, and
// the same values in their patterns.
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
		used |= e.rules[i].values
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
			if r.when == nil && p.values == 0 {
				continue // in shared
			}
			filled = p.fill(filled[:0], b)
			for _, text := range filled {
				own.add(r, int(i), text)
			}
		}
	}
	if !e.namesConnect {
		connect = RuleNone
	}
	bd := &bound{connect: connect}
	bd.publish, bd.subscribe, bd.unsubscribe = own.sets()
	byDefault := e.cfg.ACL.DefaultAction == "allow"
	bd.publish.Shared, bd.publish.Default = shared.publish, byDefault
	bd.subscribe.Shared, bd.subscribe.Default = shared.subscribe, byDefault
	bd.unsubscribe.Shared = shared.unsubscribe
	return bd
}
