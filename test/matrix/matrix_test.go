//go:build matrix

package matrix

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

var update = flag.Bool("update", false, "write docs/compatibility.md")

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := testMain(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "matrix:", err)
		code = 1
	}
	os.Exit(code)
}

func testMain(m *testing.M) (int, error) {
	if err := findParts(); err != nil {
		return 1, err
	}
	dir, err := os.MkdirTemp("", "mqtt-matrix-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	if program, err = testkit.Program(dir); err != nil {
		return 1, err
	}
	defer func() {
		for _, w := range workers {
			w.stop()
		}
	}()
	if code := m.Run(); code != 0 {
		return code, nil
	}
	return 0, document()
}

// result is one case that was tried.
type result struct {
	client, broker, script, scheme, version string
	qos                                     byte
	noDirect                                bool   // the broker has no such door
	known                                   *known // nil: right both ways
}

// results are those of TestMatrix, in its order.
var results []result

// TestMatrix plays every script with every client to every broker, directly and
// through the gateway: the outcomes are equal, and right but where the broker
// is known to differ.
func TestMatrix(t *testing.T) {
	for _, b := range brokers {
		t.Run(short(b.name), func(t *testing.T) { tryBroker(t, b) })
	}
}

// short is a name of a test: the first word, without its version.
func short(name string) string {
	words := strings.Fields(name)
	return strings.ToLower(strings.ReplaceAll(strings.Join(words[:len(words)-1], "-"), "/", "-"))
}

func tryBroker(t *testing.T, b *broker) {
	began := time.Now()
	r, err := b.start(b, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer r.stop()
	t.Logf("%s is ready after %v", b.name, since(began))
	// A gateway for each port of the broker.
	gateways := map[string]*gateway{} // by version
	byURL := map[string]*gateway{}
	for _, version := range both {
		up := r.url("tcp", version)
		if up == "" {
			continue
		}
		if byURL[up] == nil {
			g, err := startGateway(t.TempDir(), version, gatewayConfig{upstream: up})
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := g.stop(); err != nil {
					t.Error(err)
				}
			}()
			byURL[up] = g
		}
		gateways[version] = byURL[up]
	}
	for _, c := range clients {
		if testing.Short() && !b.all && !c.representative {
			continue
		}
		t.Run(short(c.name), func(t *testing.T) {
			began := time.Now()
			tryClient(t, c, r, gateways)
			t.Logf("%v", since(began))
		})
	}
}

func tryClient(t *testing.T, c *client, r *running, gateways map[string]*gateway) {
	for _, sc := range scripts {
		if slices.Contains(c.skip, sc.name) {
			continue
		}
		schemes, qos := []string{"tcp"}, []byte{1}
		if sc.core {
			schemes, qos = c.schemes, []byte{0, 1, 2}
		}
		for _, scheme := range schemes {
			for _, version := range both {
				if gateways[version] == nil || !slices.Contains(c.versions, version) || !slices.Contains(sc.versions, version) {
					continue
				}
				for _, q := range qos {
					name := fmt.Sprintf("%s/%s/%s", strings.ReplaceAll(sc.name, " ", "-"), scheme, version)
					if sc.core {
						name += fmt.Sprint("/qos", q)
					}
					t.Run(name, func(t *testing.T) {
						res := compare(t, sc, c, r, gateways[version], scheme, version, q)
						results = append(results, res)
					})
				}
			}
		}
	}
}

// tries is how often a case of a broker with a remark is played at most.
const tries = 3

// compare plays a script both ways.
func compare(t *testing.T, sc *script, c *client, r *running, g *gateway, scheme, version string, qos byte) result {
	res := result{client: c.name, broker: r.name, script: sc.name, scheme: scheme, version: version, qos: qos}
	want := right(sc, c, version, qos)
	// try plays it at a door; id is the client id, or what it begins with.
	try := func(url string) (outcome, id string) {
		for range tries {
			s := &scene{client: c, url: url, version: version, qos: qos, topic: "m/" + unique("case")}
			if outcome, id = play(sc, s), s.id(); outcome == want || r.remark == "" {
				break
			}
		}
		return outcome, id
	}
	direct := want
	if url := r.url(scheme, version); url != "" {
		direct, _ = try(url)
	} else {
		res.noDirect = true
	}
	through, id := try(g.url(scheme))
	k := knownFor(res)
	res.known = k
	if k == nil {
		k = new(known)
	}
	if k.anyOrder {
		direct, through, want = sorted(direct), sorted(through), sorted(want)
	}
	switch {
	case through != direct && !k.apart, through != want && k.mended:
		t.Errorf("through the gateway\n  %s\ndirectly\n  %s\nevents\n  %s", indent(through), indent(direct), indent(g.events(id)))
	case res.known == nil && direct != want:
		t.Errorf("directly\n  %s\nwant\n  %s", indent(direct), indent(want))
	case res.known != nil && direct == want && through == want && !k.sometimes:
		t.Errorf("right both ways, but known for: %s", k.note)
	}
	return res
}

func sorted(s string) string {
	lines := strings.Split(s, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func indent(s string) string { return strings.ReplaceAll(s, "\n", "\n  ") }
