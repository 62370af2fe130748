//go:build matrix

package matrix

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

const documentFile = "../../docs/compatibility.md"

// documentHead stands before the table.
const documentHead = `# Compatibility

Real clients against real brokers: each script is played twice, directly and through the gateway, and what the client sees
must be the same, and right. A run of the tests writes this page (` + "`go test -tags matrix ./test/matrix -update`" + `) and
every run compares it: it says what was tried, not what should work.

`

// document writes what a run has shown, or compares it. A short run compares
// the cells that it tried.
func document() error {
	for _, name := range []string{"test.run", "test.skip"} {
		if flag.Lookup(name).Value.String() != "" {
			return nil // not the whole
		}
	}
	old, err := os.ReadFile(documentFile)
	if err != nil && !*update {
		return err
	}
	text, err := render(string(old))
	switch {
	case err != nil:
		return err
	case text == string(old):
		return nil
	case testing.Short() || !*update:
		return errors.New("docs/compatibility.md is not what this run has shown: run the whole with -update, see test/matrix/doc.go")
	}
	return os.WriteFile(documentFile, []byte(text), 0o644)
}

// render makes the document; cells that were not tried are those of old.
func render(old string) (string, error) {
	var b strings.Builder
	b.WriteString(documentHead)
	row := func(cells ...string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	head, rule := []string{"client", "MQTT", "over"}, []string{"---", "---", "---"}
	for _, br := range brokers {
		head, rule = append(head, br.name), append(rule, "---")
	}
	row(head...)
	row(rule...)
	used := map[*known]bool{}
	for _, c := range clients {
		for _, version := range c.versions {
			for _, scheme := range c.schemes {
				cells := []string{c.name, version, scheme}
				before := cellsOf(old, cells)
				for i, br := range brokers {
					cell, tried := cellFor(c, br, version, scheme, used)
					if !tried && testing.Short() && i < len(before) {
						cell = before[i]
					}
					cells = append(cells, cell)
				}
				row(cells...)
			}
		}
	}
	b.WriteString(`
*ok*: every script below ended alike and right; over ws it is the first script alone. *–*: the broker has no such version.
*gateway*: the broker itself has no such door (here MQTT 5.0 over WebSocket), the gateway adds it. Numbers are the notes.

## The scripts

| what | MQTT | over | QoS |
|---|---|---|---|
`)
	for _, sc := range scripts {
		over, qos := "tcp", "1"
		if sc.core {
			over, qos = "tcp, ws", "0, 1, 2"
		}
		row(sc.title, strings.Join(sc.versions, ", "), over, qos)
	}
	b.WriteString("\n")
	for _, c := range clients {
		var without []string
		for _, sc := range scripts {
			if slices.Contains(c.skip, sc.name) {
				without = append(without, sc.name)
			}
		}
		if without != nil {
			fmt.Fprintf(&b, "%s has no means for: %s.\n", c.name, strings.Join(without, ", "))
		}
	}
	b.WriteString("\n## Notes\n\n")
	for i, k := range knownDifferences {
		if !used[k] && !testing.Short() {
			return "", fmt.Errorf("no case has this difference any more: %s", k.note)
		}
		fmt.Fprintf(&b, "%d. %s\n", i+1, k.note)
	}
	b.WriteString("\n")
	for _, br := range brokers {
		if br.remark != "" {
			fmt.Fprintf(&b, "%s %s: a case that ends wrong is played again, up to %d times.\n", br.name, br.remark, tries)
		}
	}
	fmt.Fprintf(&b, "\n## From the field\n\nThrough the gateway in front of %s:\n\n", brokers[0].name)
	for _, f := range flows {
		fmt.Fprintf(&b, "* %s\n", f.title)
	}
	return b.String(), nil
}

// cellFor is what the cases of a cell have shown.
func cellFor(c *client, br *broker, version, scheme string, used map[*known]bool) (cell string, tried bool) {
	var notes []string
	cell = "ok"
	for _, r := range results {
		if r.client != c.name || r.broker != br.name || r.version != version || r.scheme != scheme {
			continue
		}
		tried = true
		if r.noDirect {
			cell = "gateway"
		}
		if r.known == nil {
			continue
		}
		used[r.known] = true
		if n := fmt.Sprint(slices.Index(knownDifferences, r.known) + 1); !slices.Contains(notes, n) {
			notes = append(notes, n)
		}
	}
	if !tried {
		return "–", false
	}
	slices.Sort(notes)
	if notes != nil {
		cell += " " + strings.Join(notes, ", ")
	}
	return cell, true
}

// cellsOf finds the cells of a row by those that it begins with.
func cellsOf(text string, first []string) []string {
	begin := "| " + strings.Join(first, " | ") + " | "
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, begin); ok {
			return strings.Split(strings.TrimSuffix(rest, " |\n"), " | ")
		}
	}
	return nil
}
