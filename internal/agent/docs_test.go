package agent

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestChecksAreDocumented: what stands for a rule where this door refuses is in
// docs/audit.md.
func TestChecksAreDocumented(t *testing.T) {
	docs, err := os.ReadFile("../../docs/audit.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rules, _ := strings.Cut(string(docs), "\n## Rules\n")
	rules, _, _ = strings.Cut(rules, "\n## ")
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile(`(?:\b(?:fail|refuse|refuseUnknown|refuseUpgrade|unreadable|endUnreadable|block|broken)\(|\bcheck :?= ).*?"([a-z0-9-]+)"`)
	found := 0
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		code, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range named.FindAllSubmatch(code, -1) {
			if found++; !strings.Contains(rules, "`"+string(m[1])+"`") {
				t.Errorf("%s: the rule %q is not told", file, m[1])
			}
		}
	}
	if found < 20 {
		t.Fatalf("%d checks found in the code", found)
	}
}
