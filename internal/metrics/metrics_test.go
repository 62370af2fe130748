package metrics

import (
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unsafe"
)

// TestTallies: what several have counted is summed up, and no two tallies share
// a pair of cache lines.
func TestTallies(t *testing.T) {
	if n := unsafe.Sizeof(Tally{}); n != 128 {
		t.Errorf("a tally has %d bytes", n)
	}
	var all Tallies
	a, b := all.Next(), all.Next()
	if a == b {
		t.Fatal("two have one tally")
	}
	a.Add(0, 3, 1)
	b.Add(0, 4, 0)
	b.Add(1, 5, 5)
	a.Frames[2].Add(6)
	b.Frames[2].Add(7)
	if p, m := all.Packets(0); p != 7 || m != 1 {
		t.Errorf("%d packets, %d messages of side 0", p, m)
	}
	if p, m := all.Packets(1); p != 5 || m != 5 {
		t.Errorf("%d packets, %d messages of side 1", p, m)
	}
	if all.Frames(2) != 13 || all.Frames(0) != 0 {
		t.Errorf("frames %d and %d", all.Frames(2), all.Frames(0))
	}
	if n := testing.AllocsPerRun(100, func() { a.Add(1, 1, 1) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestReasons(t *testing.T) {
	var r Reasons
	tag := func(i uint8) string { return []string{"a", "b", "a"}[i] }
	r[2].Add(1)
	r[0].Add(2)
	got := string(AppendText(nil, r.Append(nil, AgentBlocked, "b", tag)))
	if !strings.HasSuffix(got, "{reason=\"a\"} 3\nmqtt_agent_packets_blocked_total{reason=\"b\"} 0\n") {
		t.Error(got)
	}
}

func TestAppendText(t *testing.T) {
	got := string(AppendText(nil, []Sample{
		Of(AgentFrames, uint64(3), "decision", "allow"),
		Of(AgentHeld, int64(1<<40)),
		Of(AgentFrames, uint64(1), "decision", "drop"),
		Of(Build, 1, "version", "1\"\\\n", "os", "linux"),
		Of(GatewayTurn, 0.25),
	}))
	const want = `# HELP mqtt_agent_frames_total WebSocket frames, by what was decided.
# TYPE mqtt_agent_frames_total counter
mqtt_agent_frames_total{decision="allow"} 3
mqtt_agent_frames_total{decision="drop"} 1
# HELP mqtt_agent_held_bytes Bytes of packets that are not whole.
# TYPE mqtt_agent_held_bytes gauge
mqtt_agent_held_bytes 1099511627776
# HELP mqtt_build_info The running version; always 1.
# TYPE mqtt_build_info gauge
mqtt_build_info{version="1\"\\\n",os="linux"} 1
# HELP mqtt_gateway_longest_turn_seconds The longest turn of an event loop.
# TYPE mqtt_gateway_longest_turn_seconds gauge
mqtt_gateway_longest_turn_seconds 0.25
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestNames: names are unique and say what they are.
func TestNames(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "metrics.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile(`^mqtt_[a-z]+(_[a-z]+)*$`)
	seen := map[string]bool{}
	ast.Inspect(f, func(n ast.Node) bool {
		lit, ok := n.(*ast.CompositeLit)
		if !ok {
			return true
		}
		if id, ok := lit.Type.(*ast.Ident); !ok || id.Name != "Metric" || len(lit.Elts) != 3 {
			return true
		}
		text := func(i int) string {
			s, err := strconv.Unquote(lit.Elts[i].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		n0, help := text(0), text(1)
		kind := lit.Elts[2].(*ast.Ident).Name
		switch {
		case !name.MatchString(n0), seen[n0]:
			t.Errorf("%q is no name, or twice there", n0)
		case strings.HasSuffix(n0, "_total") != (kind == "Counter"):
			t.Errorf("%s: a %s", n0, kind)
		case !strings.HasSuffix(help, ".") || strings.ContainsAny(help, "\n\\"):
			t.Errorf("%s: help %q", n0, help)
		}
		seen[n0] = true
		return true
	})
	if len(seen) < 20 {
		t.Errorf("%d metrics found", len(seen))
	}
}
