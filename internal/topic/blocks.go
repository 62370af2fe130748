package topic

import (
	"math/bits"
	"slices"
)

// blocks answers First for patterns that mix "+" and literals so thoroughly
// that a name has very many paths through their tree. It compares 64 patterns
// at a time, in the order of their keys: n patterns of d levels cost at most
// n/64·d steps, whatever the name, and memory in proportion to their levels.
type blocks struct {
	keys   []Key              // by position
	wild   [][]uint64         // by level: positions that any level satisfies
	lits   []map[string][]run // by level and literal: positions that ask for it
	length [][]uint64         // by number of levels, the last for all greater: positions it fits
}

// run is the part of a sparse bit set that lies in one block.
type run struct {
	block int
	bits  uint64
}

// blockLevels is the longest pattern that blocks are built for.
const blockLevels = 64

// newBlocks builds the blocks of entries, the longest of which has depth levels.
func newBlocks(entries []Entry, depth int) *blocks {
	type keyed struct {
		key     Key
		pattern string
	}
	sorted := make([]keyed, len(entries))
	for i, e := range entries {
		sorted[i] = keyed{makeKey(e.Rank, e.Allow, e.Limit), e.Pattern}
	}
	slices.SortStableFunc(sorted, func(a, b keyed) int { return int(int64(a.key) - int64(b.key)) })

	depth = max(depth, 1) // "$" is looked at there
	size := blockCount(len(entries))
	b := &blocks{
		keys:   make([]Key, len(entries)),
		wild:   make([][]uint64, depth),
		lits:   make([]map[string][]run, depth),
		length: make([][]uint64, depth+2),
	}
	for i := range b.length {
		b.length[i] = make([]uint64, size)
	}
	for i := range b.wild {
		b.wild[i], b.lits[i] = make([]uint64, size), make(map[string][]run)
	}
	for i, e := range sorted {
		b.keys[i] = e.key
		block, bit := i/64, uint64(1)<<(i%64)
		level, rest, more := "", e.pattern, true
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
			runs := b.lits[at][level]
			if n := len(runs); n > 0 && runs[n-1].block == block {
				runs[n-1].bits |= bit
			} else {
				b.lits[at][level] = append(runs, run{block, bit})
			}
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
	return b
}

func blockCount(patterns int) int { return (patterns + 63) / 64 }

// blockCost bounds the steps of a lookup.
func blockCost(patterns, depth int) int { return blockCount(patterns) * (depth + 1) }

func (b *blocks) first(name []byte) Key {
	var lits [blockLevels][]run
	levels := 0
	for rest, more := name, true; more && levels <= len(b.lits); levels++ {
		var level []byte
		if level, rest, more = cutBytes(rest); levels < len(b.lits) {
			lits[levels] = b.lits[levels][string(level)]
		}
	}
	return b.scan(&lits, levels, name[0] == '$')
}

func (b *blocks) firstWord(word []string) Key {
	var lits [blockLevels][]run
	for i, level := range word[:min(len(word), len(b.lits))] {
		lits[i] = b.lits[i][level]
	}
	return b.scan(&lits, min(len(word), len(b.lits)+1), hidden(word[0]))
}

// scan looks for the first position that fits at every level. lits are the
// positions whose literal the name has.
func (b *blocks) scan(lits *[blockLevels][]run, levels int, onlyLiteral bool) Key {
	checked := min(levels, len(b.wild))
	for block, fits := range b.length[levels] {
		for i := 0; i < checked && fits != 0; i++ {
			ok := b.wild[i][block]
			if i == 0 && onlyLiteral {
				ok = 0
			}
			l := lits[i]
			for len(l) > 0 && l[0].block < block {
				l = l[1:]
			}
			if len(l) > 0 && l[0].block == block {
				ok |= l[0].bits
			}
			lits[i] = l
			fits &= ok
		}
		if fits != 0 {
			return b.keys[block*64+bits.TrailingZeros64(fits)]
		}
	}
	return None
}
