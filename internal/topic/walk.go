package topic

import "math"

// words is room for the usual filter, on the caller's stack.
type words struct {
	base  [24]string
	word  [24]string
	under [24]Key
}

// walker visits the words in which patterns of a set meet a filter.
type walker struct {
	set    *Set
	values *Values
	base   []string // the filter's levels without "#"
	tail   bool     // the filter ends in "#"
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

	left  int                             // nodes that may still be visited in the tree
	over  bool                            // more than that were asked for
	visit func(word []string, k Key) bool // false ends the walk
}

func (w *walker) begin(filter string, depth int, buf *words) {
	w.base, w.word = buf.base[:0], buf.word[:0]
	if n := Levels(filter); n > len(buf.base) {
		w.base, w.word = make([]string, 0, n), make([]string, 0, n+1)
	}
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
	w.word, w.left, w.over = w.word[:0], math.MaxInt, false
	if x.blocks != nil {
		w.left = x.visits
	}
	ok := w.node(&x.tree, root, None)
	if w.over {
		return x.blocks.meeting(w) // may show some again
	}
	return ok
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
	if w.left--; w.left < 0 {
		w.over = true
		return false
	}
	depth := len(w.word)
	if w.wants(n.exact, depth) && n.exact < dead {
		if !w.visit(w.word, n.exact) {
			return false
		}
	}
	wild := depth > 0 || len(w.base) == 0 || !hidden(w.base[0]) // wildcards of patterns reach here
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
		for _, f := range g.fills[n.fill] {
			w.left--
			if levelIs(f.label, w.values, level) && !w.below(g, f.node, level, dead) {
				return false
			}
		}
	} else {
		for _, c := range n.kids {
			if g.nodes[c.node].min >= w.most {
				break // kids are in the order of their least keys
			}
			if !w.beside(g, c.node, c.label, dead) {
				return false
			}
		}
		for _, f := range g.fills[n.fill] {
			if g.nodes[f.node].min >= w.most {
				break // as the kids
			}
			if label, ok := fill(f.label, w.values); ok && !w.beside(g, f.node, label, dead) {
				return false
			}
		}
	}
	return !wild || n.plus == 0 || w.below(g, n.plus, level, dead)
}

// beside visits a child with a literal, where the filter has a wildcard.
func (w *walker) beside(g *graph, at int32, level string, dead Key) bool {
	w.left-- // also for those that nothing is looked for in
	if len(w.word) == 0 && hidden(level) {
		return !w.everything || w.below(g, at, level, None)
	}
	return w.below(g, at, level, dead)
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

// pattern visits the words of one pattern, which meets the filter at every level
// where both have literals.
func (w *walker) pattern(pattern string, k Key) bool {
	var buf [24]string
	levels, tail := buf[:0], false
	for rest, more := pattern, true; more; {
		var level string
		if level, rest, more = cut(rest); level == "#" {
			tail = true
			break
		}
		levels = append(levels, level)
	}
	to := len(levels)
	if tail {
		to = w.to
	}
	for d := max(w.from, len(levels)); d <= min(to, w.to); d++ {
		if !w.wants(k, d) {
			continue
		}
		w.word = w.word[:0]
		for i := range d {
			level := "+"
			if i < len(w.base) {
				level = w.base[i]
			}
			if i < len(levels) && levels[i] != "+" {
				if i == 0 && hidden(levels[0]) && level == "+" && !w.everything {
					return true
				}
				level = levels[i]
			}
			w.word = append(w.word, level)
		}
		if d == 1 && w.word[0] == "" {
			continue // the empty string is no topic
		}
		if !w.visit(w.word, k) {
			return false
		}
	}
	return true
}
