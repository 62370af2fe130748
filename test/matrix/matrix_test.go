//go:build matrix

package matrix

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
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
	program = filepath.Join(dir, "sentinel-mqtt-agent")
	build := exec.Command("go", "build", "-o", program, "../../cmd/sentinel-mqtt-agent")
	if out, err := build.CombinedOutput(); err != nil {
		return 1, fmt.Errorf("build: %w\n%s", err, out)
	}
	defer func() {
		for _, w := range workers {
			w.stop()
		}
	}()
	code := m.Run()
	if code != 0 {
		return code, nil
	}
	return 0, document()
}

// result is the outcome of one case, directly and through the gateway.
type result struct {
	client, broker, script, scheme, version string
	qos                                     byte
	direct, through                         bool // right
	noDirect                                bool // the broker has no such door
	note                                    string
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
		if !b.all && !c.representative {
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

// compare plays a script both ways.
func compare(t *testing.T, sc *script, c *client, r *running, g *gateway, scheme, version string, qos byte) result {
	res := result{client: c.name, broker: r.name, script: sc.name, scheme: scheme, version: version, qos: qos}
	want := right(sc, c, version, qos)
	scene := func(url string) *scene {
		return &scene{client: c, url: url, version: version, qos: qos, topic: "m/" + unique("case")}
	}
	var direct string
	if url := r.url(scheme, version); url != "" {
		direct = play(sc, scene(url))
	} else {
		direct, res.noDirect = want, true
	}
	through := play(sc, scene(g.url(scheme)))
	k := knownFor(res)
	if k != nil {
		res.note = k.note
		if k.anyOrder {
			direct, through, want = sorted(direct), sorted(through), sorted(want)
		}
	}
	res.direct, res.through = direct == want, through == want
	switch {
	case through != direct && (k == nil || !k.through):
		t.Errorf("through the gateway\n  %s\ndirectly\n  %s", indent(through), indent(direct))
	case k == nil && !res.direct:
		t.Errorf("directly\n  %s\nwant\n  %s", indent(direct), indent(want))
	case k != nil && res.direct && res.through && !k.sometimes:
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

// known is a difference that is not a defect of the gateway.
type known struct {
	client, broker, script, scheme, version string // prefixes; "" is any
	note                                    string
	through                                 bool // the two outcomes differ as well
	sometimes                               bool // and sometimes all is well
	anyOrder                                bool // of lines: the outcomes differ in nothing else
}

var knownDifferences = []*known{
	{
		broker: "Mochi", script: "properties", through: true, sometimes: true,
		note: "Mochi 2.7 answers a PUBLISH that has user properties with a reason code that PUBACK does not have (0x01) where the quality of service is 1. Some clients overlook it; the gateway ends the connection, as it does for every broken packet of a broker.",
	},
	{
		client: "mosquitto", broker: "Mochi", script: "session", through: true, sometimes: true,
		note: "Mochi 2.7 refuses a SUBSCRIBE whose packet id it uses itself for a message to that client (0x91, in MQTT 3.1.1 too), which befalls a client that comes back and subscribes again.",
	},
	{
		broker: "Mochi", script: "session", anyOrder: true, sometimes: true,
		note: "Mochi 2.7 delivers the messages that it kept in any order.",
	},
	{
		client: "Paho C", script: "round trip", scheme: "ws", through: true, sometimes: true,
		note: "Paho C 1.3 leaves packets lying that come together in one WebSocket frame until more comes; the gateway sends several in one.",
	},
}

func knownFor(r result) *known {
	for _, k := range knownDifferences {
		if strings.HasPrefix(r.client, k.client) && strings.HasPrefix(r.broker, k.broker) && strings.HasPrefix(r.script, k.script) && strings.HasPrefix(r.scheme, k.scheme) && strings.HasPrefix(r.version, k.version) {
			return k
		}
	}
	return nil
}
