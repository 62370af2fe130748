package metrics

import (
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

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
