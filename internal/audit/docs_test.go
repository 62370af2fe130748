package audit

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/session"
)

// documented are the words in the first column of a section's table.
func documented(t *testing.T, section string) []string {
	t.Helper()
	text, err := os.ReadFile("../../docs/audit.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "\n## "+section+"\n")
	if !found {
		t.Fatalf("docs/audit.md has no section %q", section)
	}
	rest, _, _ = strings.Cut(rest, "\n## ")
	var words []string
	for line := range strings.Lines(rest) {
		if column := strings.Split(line, "|"); len(column) > 2 {
			for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(column[1], -1) {
				words = append(words, m[1])
			}
		}
	}
	return words
}

// compare holds a section against what the code can say. Words that only other
// rooms know may stand beside it.
func compare(t *testing.T, section string, code, others []string) {
	t.Helper()
	docs := documented(t, section)
	for _, w := range code {
		if !slices.Contains(docs, w) {
			t.Errorf("%s: %q is not told", section, w)
		}
	}
	for i, w := range docs {
		if !slices.Contains(code, w) && !slices.Contains(others, w) {
			t.Errorf("%s: there is no %q", section, w)
		}
		if slices.Contains(docs[:i], w) {
			t.Errorf("%s: %q is told twice", section, w)
		}
	}
}

// TestDocs: docs/audit.md says what the code says.
func TestDocs(t *testing.T) {
	var keys []string
	event := reflect.TypeFor[Event]()
	for i := range event.NumField() {
		if key, _, _ := strings.Cut(event.Field(i).Tag.Get("json"), ","); key != "" {
			keys = append(keys, key)
		}
	}
	compare(t, "Keys", keys, nil)

	var events []string
	for k := session.KindAllowed; k <= session.KindDisconnected; k++ {
		e := strings.Join(tags(k, policy.ReasonNone), ",")
		if k == session.KindBlocked || k == session.KindDetected {
			e += ",REASON"
		}
		events = append(events, e)
	}
	compare(t, "Events", append(events, "mqtt,audit-dropped"), nil)

	var reasons []string
	for r := policy.ReasonNone + 1; r.Tag() != ""; r++ {
		reasons = append(reasons, r.Tag())
	}
	compare(t, "Reasons", reasons, nil)

	var rules []string
	for r := policy.RuleNone - 1; new(policy.Engine).RuleName(r) != ""; r-- {
		rules = append(rules, new(policy.Engine).RuleName(r))
	}
	compare(t, "Rules", rules, []string{
		"event-in-work", "frame-index", "frame-order", "frame-size", "text-frame", "control-frame", "reserved-opcode",
		"continuation", "unreadable-event", "base64", "unknown-connection", "correlation-id", "permessage-deflate",
		"subprotocol", "max-sessions",
	})

	var ends []string
	for _, e := range endings {
		ends = append(ends, e.reason)
	}
	compare(t, "Ends", ends, nil)
}

// TestDocsExample: the line that is shown is one that is written.
func TestDocsExample(t *testing.T) {
	text, err := os.ReadFile("../../docs/audit.md")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)```json\n(.*?)\n```").FindSubmatch(text)
	golden, err := os.ReadFile("testdata/events.json.txt")
	if err != nil {
		t.Fatal(err)
	}
	if m == nil || !strings.Contains(string(golden), "\n"+string(m[1])+"\n") {
		t.Error("no event is written like the example")
	}
}
