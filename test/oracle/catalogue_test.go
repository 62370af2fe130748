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
	misread = map[string]string{
		"PUBACK/code-95":            "0x95 is Mosquitto's and not the standard's: MQTT.js drops the connection",
		"PUBREC/code-95":            "0x95 is Mosquitto's and not the standard's: MQTT.js drops the connection",
		"PUBREL/dup":                "DUP of 3.1 is refused",
		"subscribe/dup":             "DUP of 3.1 is refused",
		"unsubscribe/dup":           "DUP of 3.1 is refused",
		"disconnect/broker-code-8C": "0x8C is in table 2-6, and not in the list of section 3.14.2.1",
		"auth/success-short":        "an AUTH of no bytes is refused; the standard allows it",
	}
	rewritten = map[string]string{
		"header/overlong-":       "an overlong Remaining Length is written in its shortest form, as we do",
		"connect/empty-id/3.1":   "3.1 has no empty client id: it reads one and cannot write it",
		"connect/password-alone": "a password without a user name is read and cannot be written",
		"PUBACK/code-":           acknowledged,
		"PUBREC/code-":           acknowledged,
		"PUBREL/code-":           acknowledged,
		"PUBCOMP/code-":          acknowledged,
		"disconnect/client":      ended,
		"disconnect/broker":      ended,
	}
)

// How mqtt-packet writes codes, whatever form they came in.
const (
	acknowledged = "a code is written with a property length, success without either"
	ended        = "a code and a property length are always written"
)

// accepted are the clauses that mqtt-packet lets a packet break, with the
// reason.
var accepted = because(map[string][]string{
	"topic names and filters are left to the broker": {
		"MQTT-3.3.2-2", "MQTT-3.3.2-14", "MQTT-4.7.3-1", "MQTT-4.7.1-1", "MQTT-4.7.1-2", "MQTT-4.8.2-1", "MQTT-4.8.2-2", "MQTT-3.8.3-4",
	},
	"strings that are not UTF-8 are read with U+FFFD in place of what is wrong": {"MQTT-1.5.4-1"},
	"U+0000 is taken": {"MQTT-1.5.4-2"},
	"a property is taken in any packet; twice it is a list": {"MQTT 2.2.2.2"},
	"the value of a property is not judged": {
		"MQTT 3.1.2.11.3", "MQTT 3.1.2.11.4", "MQTT 3.1.2.11.6", "MQTT 3.1.2.11.7", "MQTT 3.2.2.3.4", "MQTT 3.2.2.3.5",
		"MQTT 3.2.2.3.11", "MQTT 3.2.2.3.12", "MQTT 3.2.2.3.13", "MQTT 3.3.2.3.2", "MQTT 3.8.2.1.2", "MQTT-3.3.2-8",
	},
	"a variable byte integer may be longer than needed":               {"MQTT-1.5.5-1"},
	"a codec for both sides does not judge who sends what":            {"MQTT 2.1.2", "MQTT-3.14.2-1", "MQTT-3.14.2-2", "MQTT-3.15.2-1"},
	"surplus bytes are skipped, of a type without a body its whole":   {"MQTT 2.1.4", "MQTT-4.13.1-1"},
	"packet identifier 0 is taken":                                    {"MQTT-2.2.1-3"},
	"a list that must hold something may be empty":                    {"MQTT-3.8.3-2", "MQTT-3.10.3-2", "MQTT-3.9.3-2", "MQTT-3.11.3-2"},
	"a CONNACK may say what it likes":                                 {"MQTT-3.2.2-6", "MQTT-3.2.2-8"},
	"what a packet must hold beside a field is not asked for":         {"MQTT 3.1.1 MQTT-3.1.2-22", "MQTT 3.1.2.11.10", "MQTT 3.15.2.2.2", "MQTT 3.3.2.1"},
	"will QoS 3 is taken":                                             {"MQTT-3.1.2-12"},
	"DUP with QoS 0 is taken":                                         {"MQTT-3.3.1-2"},
	"any name goes with any level, and every level may have bit 0x80": {"MQTT-3.1.2-2"},
})

// because turns reasons with their clauses into clauses with their reason.
func because(groups map[string][]string) map[string]string {
	m := map[string]string{}
	for reason, clauses := range groups {
		for _, c := range clauses {
			m[c] = reason
		}
	}
	return m
}

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
	if alike < 700 {
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
