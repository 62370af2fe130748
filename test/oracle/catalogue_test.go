//go:build e2e

package oracle

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// misread are good packets that mqtt-packet refuses or reads otherwise, by the
// beginning of their names; rewritten are those that it reads alike and writes
// in other bytes that say the same. The test fails on what is missing in a
// table and on what is too much.
var (
	misread   = map[string]string{}
	rewritten = map[string]string{}
)

// accepted are the clauses that mqtt-packet lets a packet break, with the
// reason.
var accepted = map[string]string{}

// TestCatalogue: every good packet of the catalogue is read there to the same
// facts and written back to the same bytes.
func TestCatalogue(t *testing.T) {
	var (
		packets  []testkit.Packet
		requests []request
	)
	for _, p := range testkit.Packets() {
		if p.Good() {
			packets = append(packets, p)
			requests = append(requests, request{byte(p.Version), hex.EncodeToString(p.Bytes)})
		}
	}
	differs, writes := newTable(misread), newTable(rewritten)
	alike, exact := 0, 0
	for i, got := range ask(t, requests) {
		p := packets[i]
		ours, err := read(p.Bytes, p.Version, p.From)
		if err != nil {
			t.Fatalf("%s: %v", p.Name, err)
		}
		diff := got.Error
		if diff == "" {
			diff = cmp.Diff(ours.facts(), got.Facts.sorted(), cmpopts.EquateEmpty())
		}
		if diff != "" {
			if !differs.knows(p.Name) {
				t.Errorf("%s: %.60x\n%s", p.Name, p.Bytes, diff)
			}
			continue
		}
		alike++
		if got.Again == requests[i].Bytes {
			exact++
			continue
		}
		if !writes.knows(p.Name) {
			t.Errorf("%s: read   %.120s\nwritten %.120s %s", p.Name, requests[i].Bytes, got.Again, got.Cannot)
			continue
		}
		if got.Cannot != "" {
			continue
		}
		again, err := hex.DecodeString(got.Again)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := read(again, p.Version, p.From)
		if err != nil {
			t.Errorf("%s: written %.120x, which is refused: %v", p.Name, again, err)
		} else if diff := cmp.Diff(ours.facts(), theirs.facts()); diff != "" {
			t.Errorf("%s: written %.120x, which says something else: %s", p.Name, again, diff)
		}
	}
	differs.report(t, "misread")
	writes.report(t, "rewritten")
	t.Logf("of %d packets %d read alike, %d of these written back byte for byte", len(packets), alike, exact)
	if alike < 1000 {
		t.Errorf("only %d packets were read alike", alike)
	}
}

// TestMalformed counts the packets that mqtt-packet takes and this codec
// refuses, with the clauses that they break.
func TestMalformed(t *testing.T) {
	var (
		packets  []testkit.Packet
		requests []request
	)
	for _, p := range testkit.Packets() {
		if !p.Good() {
			packets = append(packets, p)
			requests = append(requests, request{byte(p.Version), hex.EncodeToString(p.Bytes)})
		}
	}
	count, total := map[string]int{}, 0
	for i, got := range ask(t, requests) {
		p := packets[i]
		if got.Error != "" {
			continue
		}
		count[p.Clause]++
		total++
		if _, known := accepted[p.Clause]; !known {
			t.Errorf("%s: accepts what breaks %s: %.60x", p.Name, p.Clause, p.Bytes)
		}
	}
	reasons := map[string]int{}
	for clause, reason := range accepted {
		if count[clause] == 0 {
			t.Errorf("it no longer accepts what breaks %s: take that out of the table", clause)
		}
		reasons[reason] += count[clause]
	}
	var lines []string
	for reason, n := range reasons {
		lines = append(lines, fmt.Sprintf("%5d %s", n, reason))
	}
	slices.Sort(lines)
	slices.Reverse(lines)
	t.Logf("of %d malformed packets %d are accepted:\n%s", len(packets), total, strings.Join(lines, "\n"))
	if total == len(packets) {
		t.Error("nothing was refused")
	}
}

// table is a table of known differences and which of its lines were met.
type table struct {
	reasons map[string]string
	met     map[string]int
}

func newTable(reasons map[string]string) *table { return &table{reasons, map[string]int{}} }

// knows reports whether a line covers a name: the longest that it begins with.
func (k *table) knows(name string) bool {
	line := ""
	for l := range k.reasons {
		if strings.HasPrefix(name, l) && len(l) > len(line) {
			line = l
		}
	}
	if line == "" {
		return false
	}
	k.met[line]++
	return true
}

// report logs the lines that were met and fails for those that were not.
func (k *table) report(t *testing.T, what string) {
	t.Helper()
	var lines []string
	for line, reason := range k.reasons {
		if k.met[line] == 0 {
			t.Errorf("%s: it no longer differs on %s: take that out of the table", what, line)
		}
		lines = append(lines, fmt.Sprintf("%4d %s: %s", k.met[line], line, reason))
	}
	slices.Sort(lines)
	t.Logf("%s:\n%s", what, strings.Join(lines, "\n"))
}
