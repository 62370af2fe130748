package topic

import (
	"errors"
	"strings"
	"testing"
)

func TestMatch(t *testing.T) {
	for _, tc := range []struct {
		filter, name string
		want         bool
	}{
		// Section 4.7 of MQTT 5.0, its examples.
		{"sport/tennis/player1/#", "sport/tennis/player1", true},
		{"sport/tennis/player1/#", "sport/tennis/player1/ranking", true},
		{"sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true},
		{"sport/#", "sport", true},
		{"#", "sport/tennis", true},
		{"sport/tennis/+", "sport/tennis/player1", true},
		{"sport/tennis/+", "sport/tennis/player1/ranking", false},
		{"sport/+", "sport", false},
		{"sport/+", "sport/", true},
		{"+/+", "/finance", true},
		{"/+", "/finance", true},
		{"+", "/finance", false},
		{"#", "$SYS/monitor", false},
		{"+/monitor/Clients", "$SYS/monitor/Clients", false},
		{"$SYS/#", "$SYS/monitor", true},
		{"$SYS/monitor/+", "$SYS/monitor/Clients", true},
		// Edges.
		{"$SYS/#", "$SYS", true},
		{"a/$b", "a/$b", true},
		{"a/+", "a/$b", true},
		{"/#", "/", true},
		{"/#", "a", false},
		{"+/#", "a", true},
		{"a", "ab", false},
		{"ab", "a", false},
		{"a/b", "a/bc", false},
		{"a/", "a/", true},
		{"a/", "a", false},
		{"a", "a/", false},
		{"//", "//", true},
		{"+//", "//", true},
		{"a/b", "a//b", false},
		{"Accounts", "ACCOUNTS", false},
		{"é/+", "é/x", true},
		{"", "a", false},
		{"a", "", false},
	} {
		if got := Match(tc.filter, tc.name); got != tc.want {
			t.Errorf("Match(%q, %q) = %v, want %v", tc.filter, tc.name, got, tc.want)
		}
		if got := Match([]byte(tc.filter), []byte(tc.name)); got != tc.want {
			t.Errorf("Match of bytes (%q, %q) = %v, want %v", tc.filter, tc.name, got, tc.want)
		}
	}
}

// TestPairsAgainstEveryTopic compares all pairs of small patterns with the
// oracle.
func TestPairsAgainstEveryTopic(t *testing.T) {
	for _, a := range oraclePatterns {
		for i, name := range oracleTopics {
			if got, want := Match(a, name), oracleMatches[a].has(i); got != want {
				t.Fatalf("Match(%q, %q) = %v, want %v", a, name, got, want)
			}
		}
		for _, b := range oraclePatterns {
			ab := oracleMatches[a].and(*oracleMatches[b])
			if got, want := Covers(a, b), ab == *oracleMatches[b]; got != want {
				t.Fatalf("Covers(%q, %q) = %v, want %v", a, b, got, want)
			}
		}
	}
}

func TestCheck(t *testing.T) {
	long := strings.Repeat("a", MaxBytes)
	for _, tc := range []struct {
		text         string
		name, filter error
	}{
		{"a", nil, nil},
		{"/", nil, nil},
		{"a/b c/é", nil, nil},
		{"$SYS/x", nil, nil},
		{"$shared/x", nil, nil},
		{long, nil, nil},
		{long + "a", ErrTooLong, ErrTooLong},
		{"", ErrEmpty, ErrEmpty},
		{"a\x00b", ErrNUL, ErrNUL},
		{"a\xffb", ErrUTF8, ErrUTF8},
		{"a\xed\xa0\x80", ErrUTF8, ErrUTF8}, // a surrogate
		{"a\xc0\x80", ErrUTF8, ErrUTF8},     // U+0000, over-long
		{"+", ErrWildcard, nil},
		{"#", ErrWildcard, nil},
		{"a/+/b/#", ErrWildcard, nil},
		{"a+", ErrWildcard, ErrPlus},
		{"+a/b", ErrWildcard, ErrPlus},
		{"a/b+/c", ErrWildcard, ErrPlus},
		{"a#", ErrWildcard, ErrHash},
		{"#/a", ErrWildcard, ErrHash},
		{"a/##", ErrWildcard, ErrHash},
		{"$share/g/a/#", ErrWildcard, nil},
		{"$share/g/a+", ErrWildcard, ErrPlus},
		{"$share", nil, ErrShare},
		{"$share/g", nil, ErrShare},
		{"$share/g/", nil, ErrShare},
		{"$share//a", nil, ErrShare},
		{"$share/+/a", ErrWildcard, ErrShare},
		{"$share/g#/a", ErrWildcard, ErrShare},
	} {
		if got := CheckName(tc.text); !errors.Is(got, tc.name) {
			t.Errorf("CheckName(%.32q) = %v, want %v", tc.text, got, tc.name)
		}
		if got := CheckFilter([]byte(tc.text)); !errors.Is(got, tc.filter) {
			t.Errorf("CheckFilter(%.32q) = %v, want %v", tc.text, got, tc.filter)
		}
	}
}

func TestSplitShare(t *testing.T) {
	for _, tc := range []struct {
		filter, group, rest string
		shared              bool
	}{
		{"$share/g/a/#", "g", "a/#", true},
		{"$share/g//", "g", "/", true},
		{"$share/g/$share/h/a", "g", "$share/h/a", true},
		{"a/$share/g/b", "", "a/$share/g/b", false},
		{"$shares/g/b", "", "$shares/g/b", false},
	} {
		group, rest, shared, err := SplitShare(tc.filter)
		if err != nil || group != tc.group || rest != tc.rest || shared != tc.shared {
			t.Errorf("SplitShare(%q) = %q, %q, %v, %v; want %q, %q, %v", tc.filter, group, rest, shared, err, tc.group, tc.rest, tc.shared)
		}
	}
}

func TestLevels(t *testing.T) {
	for s, want := range map[string]int{"a": 1, "/": 2, "a/b/#": 3} {
		if got := Levels(s); got != want {
			t.Errorf("Levels(%q) = %d, want %d", s, got, want)
		}
	}
}

func FuzzCheck(f *testing.F) {
	for _, s := range []string{"a", "+/#", "$share/g/a", "a/b+", "\xff", ""} {
		f.Add(s, "a/b")
	}
	f.Fuzz(func(t *testing.T, filter, name string) {
		if !errors.Is(CheckFilter(filter), CheckFilter([]byte(filter))) {
			t.Fatalf("string and bytes differ for %q", filter)
		}
		if CheckFilter(filter) != nil || CheckName(name) != nil {
			return
		}
		want := oracleMatch(strings.Split(filter, "/"), strings.Split(name, "/"), true)
		if got := Match(filter, name); got != want {
			t.Fatalf("Match(%q, %q) = %v, want %v", filter, name, got, want)
		}
		x := NewIndex([]Entry{{Pattern: filter}})
		if got := x.First([]byte(name)) != None; got != want {
			t.Fatalf("First(%q) in index of %q = %v, want %v", name, filter, got, want)
		}
	})
}
