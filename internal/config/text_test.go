package config

import "testing"

func TestExpand(t *testing.T) {
	env := lookup(map[string]string{"A": "x", "EMPTY": "", "REF": "${A}", "_a1": "y"})
	for in, want := range map[string]string{
		"":                 "",
		"plain $A $":       "plain $A $",
		"${A}":             "x",
		"<${A}${A}>":       "<xx>",
		"${_a1}":           "y",
		"${EMPTY}":         "",
		"${EMPTY:-d}":      "d",
		"${NONE:-}":        "",
		"${NONE:-a b:-c$}": "a b:-c$",
		"${REF}":           "${A}",
		"$${A}":            "${A}",
		"a$${A}${A}$${":    "a${A}x${",
		"$$${A}":           "$${A}",
		"${A}$${A}":        "x${A}",
	} {
		if got, errs := expand(in, env); got != want || errs != nil {
			t.Errorf("%s: got %q %v, want %q", in, got, errs, want)
		}
	}
	for in, want := range map[string]int{
		"${NONE}": 1, "${NONE}${NONE2}": 2, "${": 1, "a${A": 1, "${}": 1, "${1A}": 1, "${A B}": 1, "${A-d}": 1, "${:-d}": 1, "${NONE}${": 2,
	} {
		if got, errs := expand(in, env); len(errs) != want {
			t.Errorf("%s: got %q %v, want %d errors", in, got, errs, want)
		}
	}
}

func TestSuggest(t *testing.T) {
	words := []string{"decision", "topics", "match", "max-qos", "allow", "deny", "client_ip"}
	for in, want := range map[string]string{
		"desicion":   "decision",
		"Decision":   "decision",
		"topic":      "topics",
		"tpoics":     "topics",
		"maxqos":     "max-qos",
		"max_qos":    "max-qos",
		"client-ip":  "client_ip",
		"alow":       "allow",
		"dney":       "deny",
		"permit":     "",
		"":           "",
		"x":          "",
		"completely": "",
		"überall":    "",
	} {
		if got := Suggest(in, words); got != want {
			t.Errorf("%s: got %q, want %q", in, got, want)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "ab", 2}, {"ab", "", 2}, {"ab", "ba", 1}, {"abc", "abd", 1}, {"abc", "ac", 1}, {"kitten", "sitting", 3}, {"ca", "abc", 3}} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("%q, %q: got %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

func TestPlace(t *testing.T) {
	s := &source{name: "f", data: []byte("ab\nüc\n\nd")}
	for offset, want := range map[int]string{-1: "f", 0: "f:1:1", 2: "f:1:3", 3: "f:2:1", 5: "f:2:2", 7: "f:3:1", 8: "f:4:1", 9: "f:4:2", 99: "f:4:2"} {
		if got := s.place(offset); got != want {
			t.Errorf("offset %d: got %s, want %s", offset, got, want)
		}
	}
}
