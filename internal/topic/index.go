package topic

import (
	"bytes"
	"cmp"
	"slices"
)

// Key says what decides a topic: smaller keys come first. It packs the rank of
// a pattern and what its owner attached to it.
type Key uint32

// None is the key of no pattern. Its Rank is meaningless.
const None = ^Key(0)

// NoLimit is the Limit of patterns that have none.
const NoLimit = 3

// makeKey packs a key; patterns of one rank have equal attachments.
func makeKey(rank int, allow bool, limit byte) Key {
	k := Key(rank)<<3 | Key(limit&3)
	if allow {
		k |= 4
	}
	return k
}

// Rank is the rank of the pattern.
func (k Key) Rank() int { return int(k >> 3) }

// Allow is Entry.Allow of the pattern; false for None.
func (k Key) Allow() bool { return k != None && k&4 != 0 }

// Limit is Entry.Limit of the pattern; NoLimit for None.
func (k Key) Limit() byte { return byte(k & 3) }

// Entry is one pattern of an Index. Patterns of the same rank have the same
// Allow and Limit.
type Entry struct {
	Pattern string // a valid filter without $share
	Rank    int    // 0 … 1<<29-2; the lowest that matches wins
	Allow   bool
	Limit   byte // 0 … 2, or NoLimit
	// Template: %u and %c in Pattern stand for what the one who asks is called.
	// Else they are text.
	Template bool
}

// Index finds the first of many patterns that matches. It is immutable. A nil
// *Index has no patterns.
type Index struct {
	tree   graph   // the patterns level by level
	blocks *blocks // the patterns 64 at a time; nil when the tree is always good enough
	mixed  bool    // names have too many paths in the tree: blocks answer First
	visits int     // nodes that a walk for a filter may visit before blocks take over
	depth  int     // levels of the longest pattern, "#" not counted
	steps  int     // what the dearest name costs, at most
}

// graph is a set of nodes. Node 0 is none, node 1 the root.
type graph struct {
	nodes []node
	big   map[edge]int32 // literal children of nodes with more than few
	fills [][]kid        // children below levels to be filled, in the order of their min; 0 is none
}

// few literal children are searched one by one.
const few = 6

type edge struct {
	parent int32
	label  string
}

type kid struct {
	label string
	node  int32
}

type node struct {
	kids  []kid // literal levels below, in the order of their min
	plus  int32 // below "+"
	fill  int32 // which of fills
	exact Key   // of the pattern that ends here
	multi Key   // of the pattern that goes on with "#"
	min   Key   // least key here and below
	// Least keys here and below of allowing and of denying patterns, least limit
	// of allowing ones.
	allow, deny Key
	limit       byte
}

const root = 1

// What blocks are built for: names that visit more than manySteps nodes, or more
// than manyPatterns, which a filter could lead past one by one. It may visit
// manyVisits nodes before it is asked of the blocks instead.
const (
	manySteps    = 64
	manyPatterns = 256
	manyVisits   = 128
)

// NewIndex builds the index of entries, nil when there are none.
func NewIndex(entries []Entry) *Index {
	if len(entries) == 0 {
		return nil
	}
	x := &Index{}
	g := &x.tree
	g.nodes = make([]node, 1, 2+2*len(entries))
	g.fills = make([][]kid, 1)
	g.add()
	// In the order of ranks, so that a node's kids are in the order of their
	// least keys.
	entries = slices.Clone(entries)
	slices.SortStableFunc(entries, func(a, b Entry) int { return cmp.Compare(a.Rank, b.Rank) })
	for i := range entries {
		g.insert(&entries[i])
		n := Levels(entries[i].Pattern)
		if p := entries[i].Pattern; p[len(p)-1] == '#' {
			n--
		}
		x.depth = max(x.depth, n)
	}
	x.steps, x.visits = g.worst(root), manyVisits
	if x.depth <= blockLevels {
		cost := blockCost(len(entries), x.depth)
		x.mixed = x.steps > manySteps && x.steps > cost
		if x.mixed || len(entries) > manyPatterns {
			x.blocks = newBlocks(entries, x.depth)
			x.blocks.findLive(x)
		}
		if x.mixed {
			x.steps = cost
		}
	}
	return x
}

// Steps bounds what First does, whatever the name: nodes visited, or words of
// 64 patterns compared. It is about the number of levels of the longest
// pattern, and grows only with patterns that have "+" and literals at the same
// place many times over.
func (x *Index) Steps() int {
	if x == nil {
		return 0
	}
	return x.steps
}

// Depth is the number of levels of the longest pattern, "#" not counted.
func (x *Index) Depth() int {
	if x == nil {
		return 0
	}
	return x.depth
}

func (g *graph) add() int32 {
	g.nodes = append(g.nodes, node{
		exact: None, multi: None, min: None, allow: None, deny: None, limit: NoLimit,
	})
	return int32(len(g.nodes) - 1)
}

func (g *graph) insert(e *Entry) {
	k := makeKey(e.Rank, e.Allow, e.Limit)
	at := int32(root)
	g.note(at, k)
	rest, more := e.Pattern, true
	for more {
		var level string
		level, rest, more = cut(rest)
		switch level {
		case "#":
			g.nodes[at].multi = min(g.nodes[at].multi, k)
			return
		case "+":
			if g.nodes[at].plus == 0 {
				next := g.add()
				g.nodes[at].plus = next
			}
			at = g.nodes[at].plus
		default:
			if e.Template && holdsPlaceholder(level) {
				at = g.below(at, level)
				break
			}
			next := g.childWord(at, level)
			if next == 0 {
				next = g.add()
				g.link(at, kid{level, next})
			}
			at = next
		}
		g.note(at, k)
	}
	g.nodes[at].exact = min(g.nodes[at].exact, k)
}

// note records that k is at or below a node.
func (g *graph) note(at int32, k Key) {
	n := &g.nodes[at]
	n.min = min(n.min, k)
	if k.Allow() {
		n.allow = min(n.allow, k)
		n.limit = min(n.limit, k.Limit())
	} else {
		n.deny = min(n.deny, k)
	}
}

// below is the child for a level to be filled, a new one if there is none.
func (g *graph) below(parent int32, template string) int32 {
	at := g.nodes[parent].fill
	if at == 0 {
		at = int32(len(g.fills))
		g.fills = append(g.fills, nil)
		g.nodes[parent].fill = at
	}
	for _, f := range g.fills[at] {
		if f.label == template {
			return f.node
		}
	}
	next := g.add()
	g.fills[at] = append(g.fills[at], kid{template, next})
	return next
}

// link adds a literal child.
func (g *graph) link(parent int32, c kid) {
	n := &g.nodes[parent]
	n.kids = append(n.kids, c)
	switch {
	case len(n.kids) == few+1:
		if g.big == nil {
			g.big = make(map[edge]int32)
		}
		for _, c := range n.kids {
			g.big[edge{parent, c.label}] = c.node
		}
	case len(n.kids) > few:
		g.big[edge{parent, c.label}] = c.node
	}
}

// child is the literal child for a level, 0 when there is none.
func (g *graph) child(parent int32, level []byte) int32 {
	kids := g.nodes[parent].kids
	if len(kids) > few {
		return g.big[edge{parent, string(level)}]
	}
	for i := range kids {
		if kids[i].label == string(level) {
			return kids[i].node
		}
	}
	return 0
}

// childWord is child for a string. One generic function for both costs
// BenchmarkFirst a tenth.
func (g *graph) childWord(parent int32, level string) int32 {
	kids := g.nodes[parent].kids
	if len(kids) > few {
		return g.big[edge{parent, level}]
	}
	for i := range kids {
		if kids[i].label == level {
			return kids[i].node
		}
	}
	return 0
}

// worst bounds the nodes of the tree that one name can visit.
func (g *graph) worst(at int32) int {
	if at == 0 {
		return 0
	}
	n := &g.nodes[at]
	most := 0
	for _, c := range n.kids {
		most = max(most, g.worst(c.node))
	}
	for _, f := range g.fills[n.fill] {
		most += g.worst(f.node)
	}
	return 1 + most + g.worst(n.plus)
}

// First is the key of the first pattern that matches a valid topic name, None
// when none does. Templates match nothing. It does not allocate.
func (x *Index) First(name []byte) Key { return x.first(name, nil) }

func (x *Index) first(name []byte, v *Values) Key {
	if x == nil || len(name) == 0 {
		return None
	}
	if x.mixed {
		return x.blocks.first(name, v)
	}
	if name[0] != '$' {
		return x.tree.search(root, name, true, None, v)
	}
	// Only the literal child of the root leads to "$" [MQTT-4.7.2-1].
	level, rest, more := cutBytes(name)
	best := None
	if n := &x.tree.nodes[root]; n.fill != 0 {
		best = x.tree.searchFills(n.fill, level, rest, more, best, v)
	}
	if at := x.tree.child(root, level); at != 0 {
		best = x.tree.search(at, rest, more, best, v)
	}
	return best
}

func cutBytes(s []byte) (level, rest []byte, more bool) {
	if i := bytes.IndexByte(s, '/'); i >= 0 {
		return s[:i], s[i+1:], true
	}
	return s, nil, false
}

// search is branch and bound over the tree: best is the least key found so far,
// the branch that can hold a lesser one goes first. more says that levels
// follow, in rest.
func (g *graph) search(at int32, rest []byte, more bool, best Key, v *Values) Key {
	for {
		n := &g.nodes[at]
		best = min(best, n.multi) // also as the parent
		if !more {
			return min(best, n.exact)
		}
		var level []byte
		level, rest, more = cutBytes(rest)
		if n.fill != 0 {
			best = g.searchFills(n.fill, level, rest, more, best, v)
		}
		literal, plus := int32(0), n.plus
		if len(n.kids) > 0 {
			literal = g.child(at, level)
		}
		if literal != 0 && g.nodes[literal].min >= best {
			literal = 0
		}
		if plus != 0 && g.nodes[plus].min >= best {
			plus = 0
		}
		switch {
		case literal == 0 && plus == 0:
			return best
		case literal == 0:
			at = plus
		case plus == 0:
			at = literal
		default:
			near, far := literal, plus
			if g.nodes[plus].min < g.nodes[literal].min {
				near, far = plus, literal
			}
			best = g.search(near, rest, more, best, v)
			if g.nodes[far].min >= best {
				return best
			}
			at = far
		}
	}
}

// searchFills is search below the levels to be filled that a level is.
func (g *graph) searchFills(fills int32, level, rest []byte, more bool, best Key, v *Values) Key {
	for _, f := range g.fills[fills] {
		if g.nodes[f.node].min >= best {
			break // they are in the order of their least keys
		}
		if levelIs(f.label, v, level) {
			best = g.search(f.node, rest, more, best, v)
		}
	}
	return best
}

// firstWord is First for a word.
func (x *Index) firstWord(word []string, v *Values) Key {
	if x == nil || len(word) == 1 && word[0] == "" {
		return None
	}
	if x.mixed {
		return x.blocks.firstWord(word, v)
	}
	return x.tree.firstWord(word, v)
}

func (g *graph) firstWord(word []string, v *Values) Key {
	return g.searchWord(root, word, hidden(word[0]), None, v)
}

func (g *graph) searchWord(at int32, word []string, onlyLiteral bool, best Key, v *Values) Key {
	n := &g.nodes[at]
	if !onlyLiteral {
		best = min(best, n.multi)
	}
	if len(word) == 0 {
		return min(best, n.exact)
	}
	if c := g.childWord(at, word[0]); c != 0 && g.nodes[c].min < best {
		best = g.searchWord(c, word[1:], false, best, v)
	}
	for _, f := range g.fills[n.fill] {
		if g.nodes[f.node].min < best && levelIs(f.label, v, word[0]) {
			best = g.searchWord(f.node, word[1:], false, best, v)
		}
	}
	if !onlyLiteral && n.plus != 0 && g.nodes[n.plus].min < best {
		best = g.searchWord(n.plus, word[1:], false, best, v)
	}
	return best
}

// FirstCovering is the key of the first pattern that covers a valid filter by
// itself, None when none does. Templates cover nothing.
func (x *Index) FirstCovering(filter string) Key { return x.firstCovering(filter, nil) }

func (x *Index) firstCovering(filter string, v *Values) Key {
	if x == nil || len(filter) == 0 {
		return None
	}
	c := covering{g: &x.tree, values: v, emptyFirst: filter[0] == '/', best: None}
	c.search(root, filter, true, 0)
	return c.best
}

// covering is one search of FirstCovering.
type covering struct {
	g          *graph
	values     *Values
	emptyFirst bool // the filter's first level is empty
	best       Key
}

func (c *covering) search(at int32, rest string, more bool, depth int) {
	if at == 0 {
		return
	}
	n := &c.g.nodes[at]
	if n.min >= c.best {
		return
	}
	if !more {
		c.best = min(c.best, n.exact, n.multi)
		return
	}
	level, rest, more := cut(rest)
	onlyLiteral := depth == 0 && hidden(level)
	if !onlyLiteral {
		c.best = min(c.best, n.multi)
	}
	switch {
	case level == "#":
		// As in Covers: where depth levels are no topic, "+/#" covers "#".
		if (depth == 0 || depth == 1 && c.emptyFirst) && n.plus != 0 {
			c.best = min(c.best, c.g.nodes[n.plus].multi)
		}
		return
	case level != "+":
		c.search(c.g.childWord(at, level), rest, more, depth+1)
		for _, f := range c.g.fills[n.fill] {
			if levelIs(f.label, c.values, level) {
				c.search(f.node, rest, more, depth+1)
			}
		}
	}
	if !onlyLiteral {
		c.search(n.plus, rest, more, depth+1)
	}
}
