package topic

import "strings"

// Set is an ordered list of allow and deny patterns: the one of the lowest rank
// that matches decides, Default where none does. A topic that begins with "$"
// is decided only by patterns that name its first level; Default never allows
// it.
//
// The patterns may lie in two indexes, one that many sets share and one of
// their own; ranks count over both. The zero Set denies everything. A Set is
// immutable once in use.
type Set struct {
	Shared, Own *Index
	Default     bool
}

// First is the key of the pattern that decides a topic name, None when the
// default does. It does not allocate.
func (s *Set) First(name []byte) Key {
	if s.Own == nil {
		return s.Shared.First(name)
	}
	return min(s.Shared.First(name), s.Own.First(name))
}

// Allows is the decision about a topic name, with what decided. It does not
// allocate.
func (s *Set) Allows(name []byte) (bool, Key) {
	k := s.First(name)
	if k == None {
		return s.Default && len(name) > 0 && name[0] != '$', None
	}
	return k.Allow(), k
}

// FirstCovering is the key of the first pattern that covers a filter by itself.
func (s *Set) FirstCovering(filter string) Key {
	return min(s.Shared.FirstCovering(filter), s.Own.FirstCovering(filter))
}

func (s *Set) firstWord(word []string) Key {
	return min(s.Shared.firstWord(word), s.Own.firstWord(word))
}

func (s *Set) allowsWord(word []string) (bool, Key) {
	k := s.firstWord(word)
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
func (s *Set) Decide(filter string, mode Mode, witness bool) Decision {
	var buf words
	w := walker{set: s}
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
		allow, k := s.allowsWord(w.plain(d))
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
		w.visit = func(word []string, k Key) bool {
			allow, k := s.allowsWord(word)
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
		d.Witness = s.render(result, filter)
	}
	return d
}

// Least is the least Limit of the allowing patterns that decide some topic
// that the filter matches, with the pattern's key; NoLimit and None when none
// of them has a limit.
func (s *Set) Least(filter string) (limit byte, key Key) {
	limit, key = NoLimit, None
	if s.lowest() == NoLimit {
		return limit, key
	}
	var buf words
	w := walker{set: s, allow: true, limited: true, limit: NoLimit, most: None}
	w.begin(filter, 0, &buf)
	for i := range w.under {
		w.under[i] = None
	}
	w.visit = func(word []string, k Key) bool {
		if k.Limit() < limit && s.firstWord(word) == k {
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
func (s *Set) EachMeeting(filter string, depth int, everything bool, visit func(word Word, key Key) bool) {
	var buf words
	w := walker{set: s, allow: true, everything: everything, most: None}
	w.begin(filter, depth, &buf)
	for i := range w.under {
		w.under[i] = None
	}
	ask := func(word []string, _ Key) bool {
		if allow, k := s.allowsWord(word); allow {
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
func (x *Index) FirstWord(w Word) Key { return x.firstWord(w) }

// render writes a word as a topic, with fresh levels that neither s nor the
// filter mentions.
func (s *Set) render(word []string, filter string) string {
	return render(word, func(level string) bool {
		return !s.Shared.mentions(level) && !s.Own.mentions(level) && !mentions(filter, level)
	})
}

func (x *Index) mentions(level string) bool {
	if x == nil {
		return false
	}
	for i := range x.tree.nodes {
		if x.tree.childWord(int32(i), level) != 0 {
			return true
		}
	}
	return false
}

// words is room for the usual filter, on the caller's stack.
type words struct {
	base  [24]string
	word  [24]string
	under [24]Key
}

// walker visits the words in which patterns of a set meet a filter.
type walker struct {
	set  *Set
	base []string // the filter's levels without "#"
	tail bool     // the filter ends in "#"
	// The depths at which the filter has words that can differ: beyond the
	// longest pattern all are alike, and one stands for them.
	from, to int
	word     []string // the path so far

	// Which patterns are visited: allowing ones, denying ones; at depth d only
	// those before under[d-from], the greatest of which is most; with limited
	// only those whose limit is less than limit.
	allow, deny bool
	under       []Key
	most        Key
	limited     bool
	limit       byte
	everything  bool // "#" and "+" also stand for first levels that begin with "$"

	visit func(word []string, k Key) bool // false ends the walk
}

func (w *walker) begin(filter string, depth int, buf *words) {
	w.base = buf.base[:0]
	for rest, more := filter, true; more; {
		var level string
		if level, rest, more = cut(rest); level == "#" {
			w.tail = true
			break
		}
		w.base = append(w.base, level)
	}
	w.from, w.to = len(w.base), len(w.base)
	if w.tail {
		w.to = max(w.to, w.set.depth(), depth) + 1
		// The empty string is no topic: "#" has no parent, nor has "/#".
		if w.from == 0 || w.from == 1 && w.base[0] == "" {
			w.from++
		}
	}
	w.word = buf.word[:0]
	w.under = buf.under[:0]
	for range w.to - w.from + 1 {
		w.under = append(w.under, 0)
	}
}

// plain is the filter's own word of depth d. It uses w.word's memory.
func (w *walker) plain(d int) []string {
	w.word = append(w.word[:0], w.base...)
	w.word = w.fresh(w.word, d)
	word := w.word
	w.word = w.word[:0]
	return word
}

// fresh appends the filter's levels to a word up to depth d.
func (w *walker) fresh(word []string, d int) []string {
	for len(word) < d {
		if len(word) < len(w.base) {
			word = append(word, w.base[len(word)])
		} else {
			word = append(word, "+")
		}
	}
	return word
}

func (w *walker) run() {
	_ = w.layer(w.set.Shared) && w.layer(w.set.Own)
}

func (w *walker) layer(x *Index) bool {
	if x == nil {
		return true
	}
	w.word = w.word[:0]
	return w.node(&x.tree, root, None)
}

// wants reports whether a pattern is to be visited at depth d.
func (w *walker) wants(k Key, d int) bool {
	if k == None || d < w.from || d > w.to || k >= w.under[d-w.from] {
		return false
	}
	if k.Allow() {
		return w.allow && (!w.limited || k.Limit() < w.limit)
	}
	return w.deny
}

// holds reports whether a pattern to be visited may lie at or below n. Patterns
// from dead on are decided by a "#" above them.
func (w *walker) holds(n *node, dead Key) bool {
	least := None
	if w.allow && (!w.limited || n.limit < w.limit) {
		least = n.allow
	}
	if w.deny {
		least = min(least, n.deny)
	}
	return least != None && least < dead && least < w.most
}

// node visits the patterns at and below a node; w.word leads to it.
func (w *walker) node(g *graph, at int32, dead Key) bool {
	n := &g.nodes[at]
	if !w.holds(n, dead) {
		return true
	}
	depth := len(w.word)
	if w.wants(n.exact, depth) && n.exact < dead {
		if !w.visit(w.word, n.exact) {
			return false
		}
	}
	wild := !(depth == 0 && len(w.base) > 0 && hidden(w.base[0])) // wildcards of patterns reach here
	if wild {
		if n.multi < dead {
			d := max(depth, w.from)
			if depth == 1 && w.word[0] == "" {
				d = max(d, 2) // the empty string is no topic
			}
			for ; d <= w.to; d++ {
				if !w.wants(n.multi, d) {
					continue
				}
				w.word = w.fresh(w.word, d)
				if !w.visit(w.word, n.multi) {
					return false
				}
				w.word = w.word[:depth]
			}
		}
		dead = min(dead, n.multi)
	}
	if depth >= w.to {
		return true
	}
	level := "+"
	if depth < len(w.base) {
		level = w.base[depth]
	}
	if level != "+" {
		if c := g.childWord(at, level); c != 0 && !w.below(g, c, level, dead) {
			return false
		}
	} else {
		for _, c := range n.kids {
			if depth == 0 && hidden(c.label) {
				if w.everything && !w.below(g, c.node, c.label, None) {
					return false
				}
				continue
			}
			if !w.below(g, c.node, c.label, dead) {
				return false
			}
		}
	}
	return !wild || n.plus == 0 || w.below(g, n.plus, level, dead)
}

// below visits a child, whose level in the meet is level.
func (w *walker) below(g *graph, at int32, level string, dead Key) bool {
	depth := len(w.word)
	w.word = append(w.word, level)
	ok := w.node(g, at, dead)
	if ok { // else the word is the result
		w.word = w.word[:depth]
	}
	return ok
}

// Text renders a word for people; fresh levels are written "+".
func (w Word) Text() string { return strings.Join(w, "/") }
