package topic

import (
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The oracle knows topics only one by one. Its alphabet holds a level that no
// pattern uses ("z"), so that it has room for what "+" and "#" stand for, and
// its topics are one level longer than the longest pattern.

var (
	patternLevels = []string{"a", "b", "", "$s", "+"}
	firstLevels   = []string{"a", "b", "", "$s", "z"}
	otherLevels   = []string{"a", "b", "", "$s", "z"}
)

const patternDepth = 3

// topics is a set of oracle topics, by position.
type topics [14]uint64

func (b *topics) set(i int)      { b[i/64] |= 1 << (i % 64) }
func (b *topics) has(i int) bool { return b[i/64]&(1<<(i%64)) != 0 }
func (b topics) empty() bool     { return b == topics{} }

func (b topics) and(c topics) topics {
	for i := range b {
		b[i] &= c[i]
	}
	return b
}

func (b topics) without(c topics) topics {
	for i := range b {
		b[i] &^= c[i]
	}
	return b
}

var (
	oracleTopics   = makeTopics()
	oraclePatterns = makePatterns()
	oracleMatches  = makeMatches()
)

func makeTopics() []string {
	var all []string
	var grow func(prefix []string)
	grow = func(prefix []string) {
		if t := strings.Join(prefix, "/"); t != "" {
			all = append(all, t)
		}
		if len(prefix) > patternDepth {
			return
		}
		for _, l := range otherLevels {
			grow(append(prefix[:len(prefix):len(prefix)], l))
		}
	}
	for _, l := range firstLevels {
		grow([]string{l})
	}
	return all
}

func makePatterns() []string {
	all := []string{"#"}
	var grow func(prefix []string)
	grow = func(prefix []string) {
		if p := strings.Join(prefix, "/"); p != "" {
			all = append(all, p)
		}
		all = append(all, strings.Join(append(prefix[:len(prefix):len(prefix)], "#"), "/"))
		if len(prefix) == patternDepth {
			return
		}
		for _, l := range patternLevels {
			grow(append(prefix[:len(prefix):len(prefix)], l))
		}
	}
	for _, l := range patternLevels {
		grow([]string{l})
	}
	return all
}

func makeMatches() map[string]*topics {
	m := make(map[string]*topics, len(oraclePatterns))
	for _, p := range oraclePatterns {
		b := new(topics)
		for i, t := range oracleTopics {
			if oracleMatch(strings.Split(p, "/"), strings.Split(t, "/"), true) {
				b.set(i)
			}
		}
		m[p] = b
	}
	return m
}

// oracleMatch is section 4.7 as plainly as it can be said.
func oracleMatch(filter, name []string, first bool) bool {
	if len(filter) > 0 && filter[0] == "#" {
		return !first || !strings.HasPrefix(name[0], "$")
	}
	if len(filter) == 0 || len(name) == 0 {
		return len(filter) == 0 && len(name) == 0
	}
	if filter[0] == "+" {
		if first && strings.HasPrefix(name[0], "$") {
			return false
		}
	} else if filter[0] != name[0] {
		return false
	}
	return oracleMatch(filter[1:], name[1:], false)
}

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

// randomEntries are up to n patterns in up to n ranks; several may share one,
// as those of one rule do.
func randomEntries(r *rand.Rand, n int) []Entry {
	entries := make([]Entry, r.IntN(n+1))
	rank := 0
	for i := range entries {
		e := Entry{Pattern: randomPattern(r), Rank: rank}
		if i > 0 && r.IntN(4) == 0 {
			e.Rank, e.Allow, e.Limit = entries[i-1].Rank, entries[i-1].Allow, entries[i-1].Limit
		} else {
			rank += 1 + r.IntN(2)
			e.Rank, e.Allow, e.Limit = rank, r.IntN(2) == 0, byte(r.IntN(4))
		}
		entries[i] = e
	}
	return entries
}

// randomPattern prefers the short ones, which meet each other more often.
func randomPattern(r *rand.Rand) string {
	p := oraclePatterns[r.IntN(len(oraclePatterns))]
	for i := r.IntN(3); i > 0 && Levels(p) > 2; i-- {
		p = oraclePatterns[r.IntN(len(oraclePatterns))]
	}
	return p
}

// randomValues are such that templates stand for patterns of the oracle; some
// are missing.
func randomValues(r *rand.Rand) *Values {
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	return &Values{Username: pick("a", "s", "b", ""), ClientID: pick("b", "a", "")}
}

// templates are entries that come out the same once they are filled: some
// levels stand as placeholders, and there are some that stand for nothing.
func templates(r *rand.Rand, entries []Entry, v *Values) []Entry {
	var all []Entry
	for _, e := range entries {
		if r.IntN(2) == 0 {
			e.Template = true
			levels := strings.Split(e.Pattern, "/")
			for i, level := range levels {
				switch bare := strings.TrimPrefix(level, "$"); {
				case bare == "" || r.IntN(4) == 0:
				case bare == v.Username:
					levels[i] = strings.Replace(level, bare, "%u", 1)
				case bare == v.ClientID:
					levels[i] = strings.Replace(level, bare, "%c", 1)
				}
			}
			e.Pattern = strings.Join(levels, "/")
		}
		all = append(all, e)
		if missing := map[bool]string{true: "%u", false: "%c"}[v.Username == ""]; (v.Username == "" || v.ClientID == "") && r.IntN(3) == 0 {
			e.Pattern, e.Template = []string{missing, missing + "/#", "+/" + missing, "a" + missing + "/b"}[r.IntN(4)], true
			all = append(all, e)
		}
	}
	return all
}

// randomSet deals entries to two indexes and gives some of them blocks by force.
// It is asked with the values.
func randomSet(r *rand.Rand, entries []Entry) (*Set, *Values) {
	v := randomValues(r)
	var parts [2][]Entry
	for _, e := range templates(r, entries, v) {
		i := r.IntN(2)
		parts[i] = append(parts[i], e)
	}
	s := &Set{Shared: NewIndex(parts[0]), Own: NewIndex(parts[1]), Default: r.IntN(2) == 0}
	if len(parts[1]) <= MaxFew && r.IntN(2) == 0 {
		s.Own, s.Few = nil, sorted(parts[1])
	}
	for i, x := range []*Index{s.Shared, s.Own} {
		if x != nil && r.IntN(2) == 0 {
			x.blocks, x.mixed, x.visits = newBlocks(sorted(parts[i]), x.depth), r.IntN(2) == 0, r.IntN(4)
			x.blocks.findLive(x)
		}
	}
	return s, v
}

func sorted(entries []Entry) []Entry {
	return slices.SortedStableFunc(slices.Values(entries), func(a, b Entry) int { return a.Rank - b.Rank })
}

// oracle is first match, topic by topic.
type oracle struct {
	entries []Entry
	allowed topics
	decides []topics // by entry: topics that it is the first to match
}

func newOracle(s *Set, entries []Entry) *oracle {
	o := &oracle{entries: entries, decides: make([]topics, len(entries))}
	var done topics
	for i, e := range entries {
		o.decides[i] = oracleMatches[e.Pattern].without(done)
		for j := range done {
			done[j] |= o.decides[i][j]
			if e.Allow {
				o.allowed[j] |= o.decides[i][j]
			}
		}
	}
	if s.Default {
		for i, t := range oracleTopics {
			if !done.has(i) && t[0] != '$' {
				o.allowed.set(i)
			}
		}
	}
	return o
}

func (o *oracle) first(topic int) Key {
	for i, e := range o.entries {
		if o.decides[i].has(topic) {
			return makeKey(e.Rank, e.Allow, e.Limit)
		}
	}
	return None
}
