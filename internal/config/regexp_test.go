package config

import (
	"fmt"
	"os"
	"regexp/syntax"
	"strings"
	"testing"
)

// TestRegexpBounds: what expressions are compiled to is bounded, each and
// together, and less of a push than of a file.
func TestRegexpBounds(t *testing.T) {
	rules := func(n int, pattern string) string {
		var all []string
		for i := range n {
			all = append(all, fmt.Sprintf(`{"match":{"username-regex":"%s%d"},"topics":["a"],"decision":"allow"}`, pattern, i))
		}
		return `{"acl":{"rules":[` + strings.Join(all, ",") + `]}}`
	}
	large := `([a-z]{1,100}){1,9}` // 900 steps
	base := Default()
	for _, c := range []struct {
		name, text   string
		file, pushed string // part of the error
	}{
		{"a few", rules(10, large), "", ""},
		{"many small ones", rules(1000, "u"), "", ""},
		{"many large ones", rules(600, large), "", "all regular expressions together"},
		{"large for a push", rules(1, `\\pL{900}`), "", "is too large"},
		{"large", rules(1, `\\pL{900}\\pL{900}`), "is too large", "is too large"},
		{"long", rules(1, strings.Repeat("x", 1<<18)), "is too large", "is too large"},
		{"anchored", `{"auth":{"client-id-pattern":"` + strings.Repeat(`\\pL{1000}`, 3) + `"}}`, "is too large", "is too large"},
	} {
		_, _, err := Parse("c.json", t.TempDir(), []byte(c.text), os.LookupEnv)
		wantText(t, c.name+", file", err, c.file)
		_, _, err = Merge(base, []byte(c.text))
		wantText(t, c.name+", pushed", err, c.pushed)
	}
	d := &document{report: &report{regexps: ofFile.all - 100}, src: &source{name: "c.json"}}
	for i, want := range []bool{true, false, false} {
		if got := d.affordable(&node{}, strings.Repeat("x", 50), nil); got != want {
			t.Errorf("expression %d at the end of all: %v", i, got)
		}
	}
	if len(d.errs) != 1 || !strings.Contains(d.errs[0].Text, "all regular expressions together") {
		t.Errorf("errors %v, want one", d.errs)
	}

	// What the file holds is not charged to the push.
	cfg, _, err := Parse("c.json", t.TempDir(), []byte(rules(600, large)), os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = Merge(cfg, []byte(`{"qos":{"enabled":true},"inspection":{"patterns":{"custom-patterns":[{"name":"x","pattern":"x"}]}}}`))
	wantText(t, "a push beside large rules", err, "")
}

func wantText(t *testing.T, name string, err error, part string) {
	t.Helper()
	if (err == nil) != (part == "") || err != nil && !strings.Contains(err.Error(), part) {
		t.Errorf("%s: %v, want %q", name, err, part)
	}
}

// TestCostOf: the estimate is never far below the real size.
func TestCostOf(t *testing.T) {
	for _, text := range []string{
		"", "abc", "[a-z]+", "a|bc|[d-f]*", `^(([a-z]{1,100}){1,9}|x)$`, `(?i)hello{3,}`, `(a?){100}`, `\pL{50}`, `((x{2}){3}){4,}`, `\b.*?(?s:.)$`,
	} {
		re, err := syntax.Parse(text, syntax.Perl)
		if err != nil {
			t.Fatal(err)
		}
		prog, err := syntax.Compile(re.Simplify())
		if err != nil {
			t.Fatal(err)
		}
		parsed, _ := syntax.Parse(text, syntax.Perl)
		if cost := costOf(parsed); 2*cost+regexpCost < len(prog.Inst) {
			t.Errorf("%q costs %d, has %d instructions", text, cost, len(prog.Inst))
		}
	}
}
