package audit

import (
	"fmt"
	"testing"
	"time"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
)

func refusalOf(ip, client, rule string) *Event {
	return &Event{
		Event: "mqtt,blocked,acl-denied", Tags: []string{"mqtt", "blocked", "acl-denied"}, Decision: "drop",
		Reason: "acl-denied", Rule: rule, Door: "gateway", ClientIP: ip, ClientID: client, Connection: client,
	}
}

// TestFloodsAreCounted has an address that is refused over and over, under ever
// new names.
func TestFloodsAreCounted(t *testing.T) {
	var f floods
	var told []Event
	settle := func() {
		told = nil
		f.settle(noon, func(e *Event) { told = append(told, *e) })
	}
	cause := func(n int, e *Event) (written int) {
		for i := range n {
			e.ClientID = fmt.Sprint("c", i)
			if f.admit(e) {
				written++
			}
		}
		return written
	}
	if n := cause(1000, refusalOf("192.0.2.1", "", "r1")); n != floodLines {
		t.Errorf("%d lines, want %d", n, floodLines)
	}
	many := refusalOf("192.0.2.1", "", "r1")
	if many.Count = 50; f.admit(many) {
		t.Error("a number is written when lines are not")
	}
	for name, e := range map[string]*Event{
		"another address": refusalOf("192.0.2.2", "", "r1"), "another rule": refusalOf("192.0.2.1", "", "r2"), "IPv6": refusalOf("2001:db8::1", "", "r1"),
	} {
		if n := cause(floodLines, e); n != floodLines {
			t.Errorf("%s: %d lines, want %d", name, n, floodLines)
		}
	}
	if f.admit(refusalOf("2001:db8::2", "", "r1")) || !f.admit(refusalOf("2001:db8:0:1::2", "", "r1")) {
		t.Error("IPv6 does not count by /64")
	}
	for range 2 * floodLines {
		if allowed := (&Event{Event: "mqtt,allowed", Decision: "allow", ClientIP: "192.0.2.1"}); !f.admit(allowed) {
			t.Fatal("what is allowed is counted")
		}
	}
	settle()
	counts := map[string]uint64{}
	for _, e := range told {
		counts[e.ClientIP+" "+e.Rule] = e.Count
		if e.ClientID != "" || e.Connection != "" || e.Reason != "acl-denied" || e.Time != noon {
			t.Errorf("the number is told as %+v", e)
		}
	}
	if len(counts) != 2 || counts["192.0.2.1 r1"] != 1000-floodLines+50 || counts["2001:db8::/64 r1"] != 1 {
		t.Errorf("counted %v", counts)
	}
	// Who goes on is a number a minute, who pauses for one begins anew.
	if n := cause(10, refusalOf("192.0.2.1", "", "r1")); n != 0 {
		t.Errorf("going on: %d lines, want 0", n)
	}
	settle()
	if len(told) != 1 || told[0].Count != 10 {
		t.Errorf("going on: told %+v", told)
	}
	settle()
	if n := cause(10, refusalOf("192.0.2.1", "", "r1")); len(told) != 0 || n != 10 {
		t.Errorf("after a pause: %d lines, want 10; told %+v", n, told)
	}
}

// TestFloodsAreBounded has more addresses than are counted apart.
func TestFloodsAreBounded(t *testing.T) {
	var f floods
	written := 0
	for i := range 2 * maxFloods {
		if f.admit(refusalOf(fmt.Sprintf("10.0.%d.%d", i>>8, i&0xFF), "", "r1")) {
			written++
		}
	}
	if len(f.list) != maxFloods+1 || written != maxFloods+floodLines {
		t.Errorf("%d counted apart, %d lines, want %d and %d", len(f.list), written, maxFloods+1, maxFloods+floodLines)
	}
	total := uint64(0)
	f.settle(noon, func(e *Event) {
		if total += e.Count; e.ClientIP != "" || e.Rule != "" {
			t.Errorf("others are told as %+v", e)
		}
	})
	if total != maxFloods-floodLines || len(f.list) != 1 {
		t.Errorf("%d counted, %d left, want %d and 1", total, len(f.list), maxFloods-floodLines)
	}
}

// TestFloodsInTheOutput has one go through the queue: the number stands at the
// end, subscribers hear every event, and "all" writes each.
func TestFloodsInTheOutput(t *testing.T) {
	const n = floodLines + 70
	for include, want := range map[string]int{"denied": floodLines + 1, "all": n} {
		l, err := Open(config.Audit{Output: t.TempDir() + "/audit.jsonl", Include: include})
		if err != nil {
			t.Fatal(err)
		}
		seen := 0
		l.Subscribe(func(*Event) { seen++ })
		for range n {
			e := *refusalOf("192.0.2.1", "c", "r1")
			e.Time = time.Now()
			l.Emit(e)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		list := read(t, l.path)
		if len(list) != want || seen != n {
			t.Fatalf("%s: %d lines, %d heard of, want %d and %d", include, len(list), seen, want, n)
		}
		if last := list[len(list)-1]; include == "denied" && last.Count != 70 {
			t.Errorf("the last line counts %d, want 70", last.Count)
		}
	}
}
