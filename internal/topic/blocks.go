package topic

import "math/bits"

// blocks are the patterns of an index 64 at a time, in the order of their keys,
// as bit sets by level. n patterns of d levels are compared in at most n/64·d
// steps, whatever the name or filter, and take memory in proportion to their
// levels. They step in where the tree has too many paths: for names, when
// patterns mix "+" and literals thoroughly; for filters, when "+" in the filter
// leads past very many patterns that it does not meet.
type blocks struct {
	entries []Entry            // by position
	keys    []Key              // by position
	wild    [][]uint64         // by level: positions that any level satisfies
	lits    []map[string][]run // by level and literal: positions that ask for it
	fills   [][]toFill         // by level: positions that ask for a level to be filled
	length  [][]uint64         // by number of levels, the last for all greater: positions it fits
	longer  [][]uint64         // by number of levels: positions that so many or more fit
	allow   []uint64           // positions that allow
	live    []uint64           // positions that decide some topic
}

// run is the part of a sparse bit set that lies in one block.
type run struct {
	block int
	bits  uint64
}

// toFill is a level of templates, with the positions that ask for it.
type toFill struct {
	template string
	runs     []run
}

// fit is a toFill that a name has at a level.
type fit struct {
	level int
	runs  []run
}

// blockLevels is the longest pattern that blocks are built for.
const blockLevels = 64

// newBlocks builds the blocks of entries, which are in the order of their ranks
// and of which the longest has depth levels.
func newBlocks(entries []Entry, depth int) *blocks {
	depth = max(depth, 1) // "$" is looked at there
	size := blockCount(len(entries))
	b := &blocks{
		entries: entries,
		keys:    make([]Key, len(entries)),
		wild:    make([][]uint64, depth),
		lits:    make([]map[string][]run, depth),
		fills:   make([][]toFill, depth),
		length:  make([][]uint64, depth+2),
		longer:  make([][]uint64, depth+2),
		allow:   make([]uint64, size),
		live:    make([]uint64, size),
	}
	for i := range b.length {
		b.length[i], b.longer[i] = make([]uint64, size), make([]uint64, size)
	}
	for i := range b.wild {
		b.wild[i], b.lits[i] = make([]uint64, size), make(map[string][]run)
	}
	type place struct {
		level    int
		template string
	}
	known := make(map[place]int) // where in fills
	for i, e := range entries {
		b.keys[i] = makeKey(e.Rank, e.Allow, e.Limit)
		block, bit := i/64, uint64(1)<<(i%64)
		if e.Allow {
			b.allow[block] |= bit
		}
		level, rest, more := "", e.Pattern, true
		at, tail := 0, false
		for ; more; at++ {
			if level, rest, more = cut(rest); level == "#" {
				tail = true
				break
			}
			if level == "+" {
				b.wild[at][block] |= bit
				continue
			}
			if e.Template && holdsPlaceholder(level) {
				p := place{at, level}
				k, ok := known[p]
				if !ok {
					k = len(b.fills[at])
					known[p] = k
					b.fills[at] = append(b.fills[at], toFill{template: level})
				}
				b.fills[at][k].runs = withBit(b.fills[at][k].runs, block, bit)
				continue
			}
			b.lits[at][level] = withBit(b.lits[at][level], block, bit)
		}
		b.length[at][block] |= bit
		if tail {
			for ; at < depth; at++ {
				b.wild[at][block] |= bit
				b.length[at+1][block] |= bit
			}
			b.length[depth+1][block] |= bit
		}
	}
	for i := len(b.longer) - 1; i >= 0; i-- {
		for block := range size {
			b.longer[i][block] = b.length[i][block]
			if i+1 < len(b.longer) {
				b.longer[i][block] |= b.longer[i+1][block]
			}
		}
	}
	return b
}

// withBit sets a bit of a sparse set, in ascending order.
func withBit(runs []run, block int, bit uint64) []run {
	if n := len(runs); n > 0 && runs[n-1].block == block {
		runs[n-1].bits |= bit
		return runs
	}
	return append(runs, run{block, bit})
}

// findLive fills live, with the index's tree: a pattern that is not the first
// to match its own fresh words is not the first to match any topic. What a
// template is the first to match depends on who asks: it counts as live.
func (b *blocks) findLive(x *Index) {
	var buf [24]string
	for i, e := range b.entries {
		if e.Template {
			b.live[i/64] |= 1 << (i % 64)
			continue
		}
		word := buf[:0]
		level, rest, more := "", e.Pattern, true
		for more {
			if level, rest, more = cut(rest); level != "#" {
				word = append(word, level)
			}
		}
		to := len(word)
		if level == "#" {
			to = x.depth + 1
		}
		for ; len(word) <= to; word = append(word, "+") {
			if len(word) > 0 && x.tree.firstWord(word, nil) == b.keys[i] {
				b.live[i/64] |= 1 << (i % 64)
				break
			}
		}
	}
}

func blockCount(patterns int) int { return (patterns + 63) / 64 }

// blockCost bounds the steps of a lookup.
func blockCost(patterns, depth int) int { return blockCount(patterns) * (depth + 1) }

func (b *blocks) first(name []byte, v *Values) Key {
	var lits [blockLevels][]run
	var buf [4]fit
	fits, levels := buf[:0], 0
	for rest, more := name, true; more && levels <= len(b.lits); levels++ {
		var level []byte
		if level, rest, more = cutBytes(rest); levels < len(b.lits) {
			lits[levels] = b.lits[levels][string(level)]
			fits = appendFits(fits, b.fills[levels], levels, v, level)
		}
	}
	return b.scan(&lits, fits, levels, name[0] == '$')
}

func (b *blocks) firstWord(word []string, v *Values) Key {
	var lits [blockLevels][]run
	var buf [4]fit
	fits := buf[:0]
	for i, level := range word[:min(len(word), len(b.lits))] {
		lits[i] = b.lits[i][level]
		fits = appendFits(fits, b.fills[i], i, v, level)
	}
	return b.scan(&lits, fits, min(len(word), len(b.lits)+1), hidden(word[0]))
}

// appendFits appends those of fills that a level is.
func appendFits[L Text](fits []fit, fills []toFill, at int, v *Values, level L) []fit {
	for i := range fills {
		if levelIs(fills[i].template, v, level) {
			fits = append(fits, fit{at, fills[i].runs})
		}
	}
	return fits
}

// advance is the part of a sparse set in a block; blocks are asked for in
// ascending order.
func advance(l *[]run, block int) uint64 {
	for len(*l) > 0 && (*l)[0].block < block {
		*l = (*l)[1:]
	}
	if len(*l) > 0 && (*l)[0].block == block {
		return (*l)[0].bits
	}
	return 0
}

// literal is the part in a block of the positions whose literal, filled or not,
// a name has at a level.
func literal(lits *[blockLevels][]run, fits []fit, level, block int) uint64 {
	bits := advance(&lits[level], block)
	for i := range fits {
		if fits[i].level == level {
			bits |= advance(&fits[i].runs, block)
		}
	}
	return bits
}

// scan looks for the first position that fits at every level. lits and filled
// are the positions whose literal the name has.
func (b *blocks) scan(lits *[blockLevels][]run, filled []fit, levels int, onlyLiteral bool) Key {
	checked := min(levels, len(b.wild))
	for block, fits := range b.length[levels] {
		for i := 0; i < checked && fits != 0; i++ {
			ok := b.wild[i][block]
			if i == 0 && onlyLiteral {
				ok = 0
			}
			fits &= ok | literal(lits, filled, i, block)
		}
		if fits != 0 {
			return b.keys[block*64+bits.TrailingZeros64(fits)]
		}
	}
	return None
}

// meeting shows w the words in which patterns meet its filter.
func (b *blocks) meeting(w *walker) bool {
	last := len(b.wild) + 1
	lengths := b.length[min(len(w.base), last)]
	if w.tail {
		lengths = b.longer[min(len(w.base), last)]
	}
	var lits [blockLevels][]run
	var filled []fit
	levels := min(len(w.base), len(b.wild))
	for i, level := range w.base[:levels] {
		if level != "+" {
			lits[i] = b.lits[i][level]
			filled = appendFits(filled, b.fills[i], i, w.values, level)
		}
	}
	onlyLiteral := len(w.base) > 0 && hidden(w.base[0])
	for block, fits := range lengths {
		if b.keys[block*64] >= w.most {
			return true
		}
		fits &= b.live[block]
		switch {
		case !w.deny:
			fits &= b.allow[block]
		case !w.allow:
			fits &^= b.allow[block]
		}
		for i := 0; i < levels && fits != 0; i++ {
			if w.base[i] == "+" {
				continue
			}
			ok := b.wild[i][block]
			if i == 0 && onlyLiteral {
				ok = 0
			}
			fits &= ok | literal(&lits, filled, i, block)
		}
		for ; fits != 0; fits &= fits - 1 {
			i := block*64 + bits.TrailingZeros64(fits)
			if pattern, ok := b.entries[i].filled(w.values); ok && !w.pattern(pattern, b.keys[i]) {
				return false
			}
		}
	}
	return true
}
