package topic

import (
	"fmt"
	"strings"
	"testing"
)

// sets of rules that benchmarks and allocation tests share.

// perDevice are n rules, three to a device, as a site would have them.
func perDevice(n int) []Entry {
	entries := make([]Entry, 0, n)
	for i := 0; len(entries) < n; i++ {
		for _, p := range []string{"devices/%d/data/#", "devices/%d/status", "sites/+/%d/cmd"} {
			if len(entries) < n {
				entries = append(entries, Entry{Pattern: fmt.Sprintf(p, i), Rank: len(entries), Allow: true, Limit: NoLimit})
			}
		}
	}
	return entries
}

// everyMix are all words of a and + with the given length, ended by x: 2^levels
// rules of which each one meets each other, the worst for a tree.
func everyMix(levels int) []Entry {
	entries := make([]Entry, 1<<levels)
	for i := range entries {
		var b strings.Builder
		for l := range levels {
			b.WriteString([]string{"a/", "+/"}[i>>l&1])
		}
		entries[i] = Entry{Pattern: b.String() + "x", Rank: i, Limit: NoLimit}
	}
	return entries
}

// scattered are n rules with two literals among twelve "+", so that a name has
// many paths.
func scattered(n int) []Entry {
	entries := make([]Entry, n)
	for i := range entries {
		levels := strings.Split(strings.Repeat("+/", 12)+"x", "/")
		levels[i%12] = "a"
		levels[(i/12)%12] = fmt.Sprint("b", i%7)
		entries[i] = Entry{Pattern: strings.Join(levels, "/"), Rank: i, Limit: NoLimit}
	}
	return entries
}

// apart are n denies under an allow of everything, none of which meets
// +/+/z/+, as late as possible.
func apart(n int) []Entry {
	entries := make([]Entry, n, n+1)
	for i := range entries {
		entries[i] = Entry{Pattern: fmt.Sprintf("a%d/b%d/c%d/d", i%300, i, i), Rank: i, Limit: NoLimit}
	}
	return append(entries, Entry{Pattern: "#", Rank: n, Allow: true, Limit: NoLimit})
}

func TestFirstDoesNotAllocate(t *testing.T) {
	v := &Values{Username: "devices", ClientID: "1"}
	own := []Entry{{Pattern: "%u/%c/data/temperature", Template: true}, {Pattern: "+/%c/status", Template: true}}
	for name, entries := range map[string][]Entry{
		"few": perDevice(10), "many": perDevice(10_000), "mixed": everyMix(8), "templates": own, "mixed with templates": append(everyMix(8), own...),
	} {
		s := Set{Shared: NewIndex(entries), Own: NewIndex(perDevice(3))}
		topic := []byte("devices/1/data/temperature")
		if n := testing.AllocsPerRun(100, func() { s.Allows(topic, v) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	filter, topic := []byte("devices/+/data/#"), []byte("devices/1/data/temperature")
	if n := testing.AllocsPerRun(100, func() { Match(filter, topic) }); n != 0 {
		t.Errorf("Match: %v allocations", n)
	}
	if n := testing.AllocsPerRun(100, func() { _ = CheckFilter(filter); _ = CheckName(topic) }); n != 0 {
		t.Errorf("CheckFilter, CheckName: %v allocations", n)
	}
	utf8 := []byte("geräte/één/data")
	if n := testing.AllocsPerRun(100, func() { _ = CheckName(utf8) }); n != 0 {
		t.Errorf("CheckName of more than ASCII: %v allocations", n)
	}
}

// TestStepsAreBounded holds the promise of [Index.Steps].
func TestStepsAreBounded(t *testing.T) {
	for _, tc := range []struct {
		name    string
		entries []Entry
		most    int
	}{
		{"one site's devices", perDevice(30_000), 10},
		{"every mix of + and a literal", everyMix(14), 16384 / 64 * 17},
		{"literals anywhere", scattered(1000), 1000 / 64 * 17},
	} {
		if got := NewIndex(tc.entries).Steps(); got > tc.most {
			t.Errorf("%s: up to %d steps, want at most %d", tc.name, got, tc.most)
		}
	}
}

func TestTemplateLevels(t *testing.T) {
	for _, tc := range []struct {
		template, level string
		want            bool
	}{
		{"%u", "bob", true},
		{"%u", "bo", false},
		{"%u", "bobs", false},
		{"%u", "%u", false},
		{"%c", "x-1", true},
		{"dev-%c", "dev-x-1", true},
		{"dev-%c", "dev-", false},
		{"%u-%c", "bob-x-1", true},
		{"%u-%c", "bob-x-12", false},
		{"%c%c", "x-1x-1", true},
		{"100%", "100%", true},
		{"%d-%u", "%d-bob", true},
		{"%%u", "%bob", true},
		{"a%u", "bob", false},
	} {
		v := &Values{Username: "bob", ClientID: "x-1"}
		if got := levelIs(tc.template, v, tc.level); got != tc.want {
			t.Errorf("%q is %q: %v", tc.template, tc.level, got)
		}
		if got, ok := fill(tc.template, v); !ok || (got == tc.level) != tc.want {
			t.Errorf("%q filled is %q", tc.template, got)
		}
		if holdsPlaceholder(tc.template) {
			if levelIs(tc.template, nil, tc.level) || levelIs(tc.template, &Values{}, tc.level) {
				t.Errorf("%q without values is %q", tc.template, tc.level)
			}
			if _, ok := fill(tc.template, &Values{}); ok {
				t.Errorf("%q is filled with nothing", tc.template)
			}
		}
	}
}

// TestPlaceholdersAsText: what is no template may hold %u, as a name of a group
// does that was put into one.
func TestPlaceholdersAsText(t *testing.T) {
	s := Set{Shared: NewIndex([]Entry{{Pattern: "a/%u", Allow: true}}), Few: []Entry{{Pattern: "b/%u", Allow: true, Rank: 1}}}
	v := &Values{Username: "bob"}
	for name, want := range map[string]bool{"a/%u": true, "b/%u": true, "a/bob": false, "b/bob": false} {
		if got, _ := s.Allows([]byte(name), v); got != want {
			t.Errorf("%s: allowed %v", name, got)
		}
	}
}

// TestBlocksAndTreeAgree compares the two on more patterns than the oracle has
// room for.
func TestBlocksAndTreeAgree(t *testing.T) {
	for name, entries := range map[string][]Entry{"mix": everyMix(9), "scattered": scattered(500), "devices": perDevice(500)} {
		tree, both := NewIndex(entries), NewIndex(entries)
		tree.mixed, both.mixed, both.blocks = false, true, newBlocks(entries, both.depth)
		for i, e := range entries {
			for _, level := range []string{"a", "b3", "z", "$x"} {
				topic := []byte(strings.ReplaceAll(strings.ReplaceAll(e.Pattern, "+", level), "#", level))
				if i%3 == 0 {
					topic = append(topic, "/more"...)
				}
				if got, want := both.First(topic), tree.First(topic); got != want {
					t.Fatalf("%s: %q: blocks say %v, the tree %v", name, topic, got, want)
				}
			}
		}
	}
}

func BenchmarkFirst(b *testing.B) {
	for _, bc := range []struct {
		name    string
		entries []Entry
		topic   func(i int) string
	}{
		{"device/10", perDevice(10), func(i int) string { return fmt.Sprintf("devices/%d/data/temperature", i%3) }},
		{"device/100000", perDevice(100_000), func(i int) string { return fmt.Sprintf("devices/%d/data/temperature", i*331) }},
		{"mix/65536", everyMix(16), func(int) string { return strings.Repeat("a/", 16) + "y" }},
		{"scattered/1000", scattered(1000), func(int) string { return strings.Repeat("a/", 12) + "x" }},
	} {
		b.Run(bc.name, func(b *testing.B) {
			s := Set{Shared: NewIndex(bc.entries)}
			topics := make([][]byte, 64)
			for i := range topics {
				topics[i] = []byte(bc.topic(i))
			}
			b.ReportAllocs()
			b.ReportMetric(float64(s.Shared.Steps()), "steps-at-most")
			i := 0
			for b.Loop() {
				s.First(topics[i&63], nil)
				i++
			}
		})
	}
}

func BenchmarkNewIndex(b *testing.B) {
	entries := perDevice(100_000)
	for b.Loop() {
		NewIndex(entries)
	}
}

func BenchmarkDecide(b *testing.B) {
	denies := make([]Entry, 1000) // an allow with a deny inside, again and again
	for i := range denies {
		p := fmt.Sprintf("site/%d/#", i/2)
		if i%2 == 1 {
			p = fmt.Sprintf("site/%d/+/secret", i/2)
		}
		denies[i] = Entry{Pattern: p, Rank: 1000 - i, Allow: i%2 == 0, Limit: NoLimit}
	}
	dead := make([]Entry, 1001) // the same the other way round: denies that never decide
	for i := range denies {
		dead[i] = denies[i]
		dead[i].Rank = i
	}
	dead[1000] = Entry{Pattern: "#", Rank: 1001, Allow: true, Limit: NoLimit}
	for _, bc := range []struct {
		name    string
		entries []Entry
		filter  string
	}{
		{"own", perDevice(1000), "devices/17/data/#"},
		{"all", perDevice(1000), "#"},
		{"level", perDevice(1000), "devices/+/status"},
		{"denies", denies, "#"},
		{"site", denies, "site/100/#"},
		{"dead", dead, "#"},
		{"deep", dead, strings.Repeat("+/", 63) + "#"},
		{"mix", everyMix(10), strings.Repeat("+/", 10) + "+"},
		{"apart", apart(1000), "+/+/z/+"},
		{"apart100000", apart(100_000), "+/+/z/+"},
		{"apart100000.all", apart(100_000), "+/+/+/+/+"},
		{"apart100000.level", apart(100_000), "a7/+/c7/+/#"},
	} {
		for _, mode := range []Mode{Strict, Filter} {
			b.Run(fmt.Sprintf("%s/%s", bc.name, map[Mode]string{Strict: "strict", Filter: "filter"}[mode]), func(b *testing.B) {
				s := Set{Shared: NewIndex(bc.entries)}
				b.ReportAllocs()
				for b.Loop() {
					s.Decide(bc.filter, nil, mode, false)
				}
			})
		}
	}
}
