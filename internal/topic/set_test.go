package topic

import (
	"math/rand/v2"
	"strings"
	"testing"
)

// TestDecideAgainstEveryTopic compares decisions over sets with first match,
// topic by topic.
func TestDecideAgainstEveryTopic(t *testing.T) {
	n := cases(t, 50_000)
	r := rand.New(rand.NewPCG(1, uint64(n)))
	granted := map[bool]int{}
	for range n {
		entries := randomEntries(r, 6)
		s, v := randomSet(r, entries)
		o := newOracle(s, entries)
		filter := randomPattern(r)
		matches := *oracleMatches[filter]

		for _, mode := range []Mode{Strict, Filter} {
			want := matches.without(o.allowed).empty()
			if mode == Filter {
				want = !matches.and(o.allowed).empty()
			}
			got := s.Decide(filter, v, mode, true)
			granted[got.Allow]++
			if got.Allow != want {
				t.Fatalf("filter %q mode %v over %+v default %v: got %+v, want %v", filter, mode, entries, s.Default, got, want)
			}
			if !Match(filter, got.Witness) {
				t.Fatalf("filter %q mode %v over %+v: witness %q is not matched by it", filter, mode, entries, got.Witness)
			}
			allow, key := s.Allows([]byte(got.Witness), v)
			if allow != got.Allow || key != got.Key {
				t.Fatalf("filter %q mode %v over %+v default %v: witness %q is %v by %v, the decision is %v by %v",
					filter, mode, entries, s.Default, got.Witness, allow, key, got.Allow, got.Key)
			}
			if quiet := s.Decide(filter, v, mode, false); quiet.Allow != got.Allow || quiet.Key != got.Key || quiet.Witness != "" {
				t.Fatalf("filter %q mode %v over %+v: without witness %+v, with it %+v", filter, mode, entries, quiet, got)
			}
		}

		least := byte(NoLimit)
		for i, e := range entries {
			if e.Allow && !matches.and(o.decides[i]).empty() {
				least = min(least, e.Limit)
			}
		}
		if got, key := s.Least(filter, v); got != least || got != key.Limit() {
			t.Fatalf("least limit of %q over %+v: got %d by %v, want %d", filter, entries, got, key, least)
		}

		cover := None
		for _, e := range entries {
			if Covers(e.Pattern, filter) {
				cover = min(cover, makeKey(e.Rank, e.Allow, e.Limit))
			}
		}
		if got := s.FirstCovering(filter, v); got != cover {
			t.Fatalf("first that covers %q over %+v: got %v, want %v", filter, entries, got, cover)
		}

		for range 8 {
			i := r.IntN(len(oracleTopics))
			name := oracleTopics[i]
			if allow, key := s.Allows([]byte(name), v); allow != o.allowed.has(i) || key != o.first(i) {
				t.Fatalf("topic %q over %+v default %v: got %v by %v, want %v by %v",
					name, entries, s.Default, allow, key, o.allowed.has(i), o.first(i))
			}
		}
	}
	if granted[true] < n/10 || granted[false] < n/10 {
		t.Errorf("cases are lopsided: %v", granted)
	}
}

// TestEachMeetingReachesEveryDecider checks that the words shown stand for all
// ways in which a topic that the filter matches can be allowed.
func TestEachMeetingReachesEveryDecider(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	for range cases(t, 5_000) / 10 {
		entries := randomEntries(r, 6)
		s, v := randomSet(r, entries)
		o := newOracle(s, entries)
		filter := randomPattern(r)
		want := map[Key]bool{}
		for i, name := range oracleTopics {
			everything := name[0] == '$' && (filter[0] == '#' || filter[0] == '+') &&
				oracleMatch(strings.Split(filter, "/")[min(1, strings.Count(filter, "/")):], strings.Split(name, "/")[1:], false)
			switch filter {
			case "#":
				everything = name[0] == '$'
			case "+":
				everything = name[0] == '$' && !strings.Contains(name, "/")
			}
			if (oracleMatches[filter].has(i) || everything) && o.allowed.has(i) {
				want[o.first(i)] = true
			}
		}
		got := map[Key]bool{}
		s.EachMeeting(filter, v, r.IntN(3), true, func(w Word, k Key) bool {
			if k != s.indexed().firstWord(w, v) {
				t.Fatalf("filter %q over %+v: word %q shown with key %v", filter, entries, w, k)
			}
			got[k] = true
			return true
		})
		if len(got) != len(want) {
			t.Fatalf("filter %q over %+v default %v: got deciders %v, want %v", filter, entries, s.Default, got, want)
		}
		for k := range want {
			if !got[k] {
				t.Fatalf("filter %q over %+v: decider %v not reached", filter, entries, k)
			}
		}
	}
}

func TestDecide(t *testing.T) {
	allow := func(p string) Entry { return Entry{Pattern: p, Allow: true, Limit: NoLimit} }
	deny := func(p string) Entry { return Entry{Pattern: p, Limit: NoLimit} }
	for _, tc := range []struct {
		name           string
		entries        []Entry
		allowByDefault bool
		filter         string
		strict, some   bool
		strictWitness  string
	}{
		{"wider than the rule", []Entry{allow("sensors/+")}, false, "sensors/#", false, true, "sensors"},
		{"parent is part of the filter", []Entry{allow("sensors/+/#")}, false, "sensors/#", false, true, "sensors"},
		{"two rules cover it together", []Entry{allow("sensors"), allow("sensors/+/#")}, false, "sensors/#", true, true, "sensors"},
		{"a higher deny inside", []Entry{deny("internal/#"), allow("#")}, false, "#", false, true, "internal"},
		{"a lower deny inside", []Entry{allow("#"), deny("internal/#")}, false, "#", true, true, "any"},
		{"a deny that an allow above it covers", []Entry{allow("a/b"), deny("+/b"), allow("a/#")}, false, "a/+", true, true, "a/any"},
		{"default allow never reaches $", nil, true, "$SYS/#", false, false, "$SYS"},
		{"default allow", nil, true, "#", true, true, "any"},
		{"nothing allowed", nil, false, "a/b", false, false, "a/b"},
		{"# does not name $SYS", []Entry{allow("#")}, true, "$SYS/+", false, false, "$SYS/any"},
		{"$SYS named", []Entry{allow("$SYS/#")}, false, "$SYS/broker/+", true, true, "$SYS/broker/any"},
		{"no parent above the empty level", []Entry{allow("/+/#")}, false, "/#", true, true, "/any"},
		{"the empty string is no topic", []Entry{allow("/#"), deny("+")}, true, "+", false, false, "any"},
		{"fresh level is one that no rule mentions", []Entry{deny("any"), deny("any2"), allow("+")}, false, "+", false, true, "any"},
		{"many levels", []Entry{allow("#")}, false, strings.Repeat("+/", 200) + "#", true, true, strings.Repeat("any/", 199) + "any"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for i := range tc.entries {
				tc.entries[i].Rank = i
			}
			s := Set{Own: NewIndex(tc.entries), Default: tc.allowByDefault}
			strict := s.Decide(tc.filter, nil, Strict, true)
			if strict.Allow != tc.strict || strict.Witness != tc.strictWitness {
				t.Errorf("strict %q: got %v with witness %q, want %v with %q", tc.filter, strict.Allow, strict.Witness, tc.strict, tc.strictWitness)
			}
			if some := s.Decide(tc.filter, nil, Filter, true); some.Allow != tc.some {
				t.Errorf("filter %q: got %v with witness %q, want %v", tc.filter, some.Allow, some.Witness, tc.some)
			}
		})
	}
}
