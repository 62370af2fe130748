package topic

import (
	"strconv"
	"strings"
)

// Set is an ordered list of allow and deny patterns: the one of the lowest rank
// that matches decides, Default where none does. A topic that begins with "$"
// is decided only by patterns that name its first level; Default never allows
// it.
//
// The patterns may lie in two indexes, one that many sets share and one of
// their own; ranks count over both. In place of Own there may be Few: at most
// MaxFew patterns, in the order of their ranks, which take far less memory than
// an index and are looked through as fast. The zero Set denies everything. A
// Set is immutable once in use.
type Set struct {
	Shared, Own *Index
	Few         []Entry
	Default     bool
}

// MaxFew is how many patterns a Set may hold without an index of its own.
const MaxFew = 4

// indexed is s with an index in place of its few patterns, for questions that
// need one and are asked seldom.
func (s *Set) indexed() *Set {
	if len(s.Few) == 0 {
		return s
	}
	return &Set{Shared: s.Shared, Own: NewIndex(s.Few), Default: s.Default}
}

// First is the key of the pattern that decides a topic name, None when the
// default does. It does not allocate.
func (s *Set) First(name []byte, v *Values) Key {
	first := s.Shared.first(name, v)
	if s.Own != nil {
		return min(first, s.Own.first(name, v))
	}
	for i := range s.Few {
		e := &s.Few[i]
		k := makeKey(e.Rank, e.Allow, e.Limit)
		if k >= first {
			break
		}
		if e.matches(name, v) {
			return k
		}
	}
	return first
}

// Allows is the decision about a topic name, with what decided. It does not
// allocate.
func (s *Set) Allows(name []byte, v *Values) (bool, Key) {
	k := s.First(name, v)
	if k == None {
		return s.Default && len(name) > 0 && name[0] != '$', None
	}
	return k.Allow(), k
}

// FirstCovering is the key of the first pattern that covers a filter by itself.
func (s *Set) FirstCovering(filter string, v *Values) Key {
	first := min(s.Shared.firstCovering(filter, v), s.Own.firstCovering(filter, v))
	for i := range s.Few {
		e := &s.Few[i]
		if pattern, ok := e.filled(v); ok && Covers(pattern, filter) {
			return min(first, makeKey(e.Rank, e.Allow, e.Limit))
		}
	}
	return first
}

func (s *Set) firstWord(word []string, v *Values) Key {
	return min(s.Shared.firstWord(word, v), s.Own.firstWord(word, v))
}

func (s *Set) allowsWord(word []string, v *Values) (bool, Key) {
	k := s.firstWord(word, v)
	if k == None {
		return s.Default && !hidden(word[0]), None
	}
	return k.Allow(), k
}

func (s *Set) depth() int {
	return max(s.Shared.Depth(), s.Own.Depth())
}

// Mode is how a filter that stands for many topics is decided.
type Mode bool

// The modes.
const (
	// Strict: granted only if every topic that the filter matches is allowed.
	Strict Mode = false
	// Filter: granted if some topic that the filter matches is allowed.
	Filter Mode = true
)

// Decision is what a Set says about a filter.
type Decision struct {
	Allow bool
	Key   Key // what decides the witness; None: the default
	// Witness is a topic that the filter matches and Key decides: a refused one
	// when a strict decision refuses, a granted one when one grants, likewise
	// in mode Filter. Only when asked for.
	Witness string
}

// Decide decides a valid filter, without $share, over all topics that it
// matches. The decision is exact. It costs a walk over the patterns that meet
// the filter and that could change the decision, and a lookup for each.
func (s *Set) Decide(filter string, v *Values, mode Mode, witness bool) Decision {
	s = s.indexed()
	var buf words
	w := walker{set: s, values: v}
	w.begin(filter, 0, &buf)
	// The decision is settled by one topic: a refused one (strict) or an allowed
	// one (filter). Every topic t that the filter matches is decided as the word
	// "filter meets the pattern that decides t" is: what matches that word
	// matches t too, so nothing before the deciding pattern does. It is therefore
	// enough to ask about these words, and about the filter's own for the
	// default.
	settles := bool(mode)
	found, first := None, -1
	settled := false
	for d := w.from; d <= w.to; d++ {
		allow, k := s.allowsWord(w.plain(d), v)
		if first < 0 {
			first, found = d, k
		}
		if allow == settles {
			found, first, settled = k, d, true
			break
		}
		w.under[d-w.from] = k
		w.most = max(w.most, k)
	}
	var result []string
	if !settled {
		w.allow, w.deny = settles, !settles
		w.visit = func(word []string, _ Key) bool {
			allow, k := s.allowsWord(word, v)
			if allow != settles {
				return true
			}
			found, result, settled = k, word, true
			return false
		}
		w.run()
	}
	d := Decision{Allow: settled == settles, Key: found}
	if witness {
		if result == nil {
			result = w.plain(first)
		}
		d.Witness = s.render(result, filter, v)
	}
	return d
}

// Least is the least Limit of the allowing patterns that decide some topic
// that the filter matches, with the pattern's key; NoLimit and None when none
// of them has a limit.
func (s *Set) Least(filter string, v *Values) (limit byte, key Key) {
	s = s.indexed()
	limit, key = NoLimit, None
	if s.lowest() == NoLimit {
		return limit, key
	}
	var buf words
	w := walker{set: s, values: v, allow: true, limited: true, limit: NoLimit, most: None}
	w.begin(filter, 0, &buf)
	for i := range w.under {
		w.under[i] = None
	}
	w.visit = func(word []string, k Key) bool {
		if k.Limit() < limit && s.firstWord(word, v) == k {
			limit, key = k.Limit(), k
			w.limit = limit
		}
		return limit > 0
	}
	w.run()
	return limit, key
}

// lowest is the least limit of all allowing patterns.
func (s *Set) lowest() byte {
	l := byte(NoLimit)
	if s.Shared != nil {
		l = s.Shared.tree.nodes[root].limit
	}
	if s.Own != nil {
		l = min(l, s.Own.tree.nodes[root].limit)
	}
	return l
}

// EachMeeting calls visit with every word in which an allowing pattern meets
// the filter, and with the words of the filter alone where the default allows
// them, until visit returns false. Levels that are fresh in a word are mentioned
// by no pattern of s; key decides it. "#" of the filter has words of up to depth
// levels and as many as s can tell apart. With everything, wildcards of the
// filter also stand for first levels that begin with "$".
//
// It is for questions about all topics that a client may publish, asked once in
// a while.
func (s *Set) EachMeeting(filter string, v *Values, depth int, everything bool, visit func(word Word, key Key) bool) {
	s = s.indexed()
	var buf words
	w := walker{set: s, values: v, allow: true, everything: everything, most: None}
	w.begin(filter, depth, &buf)
	for i := range w.under {
		w.under[i] = None
	}
	ask := func(word []string, _ Key) bool {
		if allow, k := s.allowsWord(word, v); allow {
			return visit(word, k)
		}
		return true
	}
	for d := w.from; d <= w.to; d++ {
		if !ask(w.plain(d), None) {
			return
		}
	}
	w.visit = ask
	w.run()
}

// Word is a topic some of whose levels are fresh: mentioned by no pattern.
type Word []string

// FirstWord is First for a word.
func (x *Index) FirstWord(w Word) Key { return x.firstWord(w, nil) }

// render writes a word as a topic, with fresh levels that neither s nor the
// filter mentions.
func (s *Set) render(word []string, filter string, v *Values) string {
	fresh := func(level string) bool {
		return !s.Shared.mentions(level, v) && !s.Own.mentions(level, v) && !mentions(filter, level)
	}
	level := "any"
	for i := 2; !fresh(level); i++ {
		level = "any" + strconv.Itoa(i)
	}
	var b strings.Builder
	for i, l := range word {
		if i > 0 {
			b.WriteByte('/')
		}
		if l == "+" {
			l = level
		}
		b.WriteString(l)
	}
	return b.String()
}

func (x *Index) mentions(level string, v *Values) bool {
	if x == nil {
		return false
	}
	for i := range x.tree.nodes {
		if x.tree.childWord(int32(i), level) != 0 {
			return true
		}
	}
	for _, fills := range x.tree.fills {
		for _, f := range fills {
			if levelIs(f.label, v, level) {
				return true
			}
		}
	}
	return false
}
