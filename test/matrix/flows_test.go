//go:build matrix

package matrix

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// flow is one of the field, through the gateway in front of Mosquitto.
type flow struct {
	name  string
	title string
	run   func(t *testing.T, up *running)
}

var flows = []*flow{
	{"bridge", "a bridge of Mosquitto in both directions, MQTT 3.1.1 and 5.0, `try_private` `true` and `false`; what it publishes where nobody may is lost alone; what it kept while the gateway was away arrives", bridge},
	{"home assistant", "Home Assistant: 500 filters in one SUBSCRIBE, of which one is refused; a refusal for now is never 4 or 5", homeAssistant},
	{"tasmota", "Tasmota: a retained will, *Online* and *Offline* on one topic, also when the gateway is lost", tasmota},
	{"request and response", "MQTT 5 requests by Response Topic and Correlation Data, of every client that has them and of mosquitto_rr", requests},
	{"shared subscription", "a shared subscription of two members, each through a gateway of its own; one leaves", sharedAcrossGateways},
	{"restart", "persistent sessions over three restarts of the gateway in the middle of 600 messages each of QoS 1 and 2 (Paho Python, MQTT.js): none lost, none of QoS 2 twice", restarts},
}

// TestFlows plays what the field does.
func TestFlows(t *testing.T) {
	b := brokerNamed("Mosquitto")
	up, err := b.start(b, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer up.stop()
	for _, f := range flows {
		t.Run(strings.ReplaceAll(f.name, " ", "-"), func(t *testing.T) { f.run(t, up) })
	}
}

// front starts a gateway for the time of a test.
func front(t *testing.T, c gatewayConfig) *gateway {
	t.Helper()
	g, err := startGateway(t.TempDir(), "3.1.1", c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.stop(); err != nil {
			t.Error(err)
		}
	})
	return g
}

// dialer opens connections of one client; every failure ends the test.
type dialer struct {
	t *testing.T
	c *client
	o options
}

func (d dialer) open(suffix string, change func(o *options)) conn {
	d.t.Helper()
	o := d.o
	o.ID, o.Clean = unique("flow")+suffix, true
	if change != nil {
		change(&o)
	}
	c, a, err := d.c.open(o)
	if err != nil || a.Code != 0 {
		d.t.Fatalf("%s: connect to %s: code %#x, %v", d.c.name, o.URL, a.Code, err)
	}
	return c
}

// observer is a client past the gateway.
func observer(t *testing.T, up *running, version string) conn {
	t.Helper()
	return dialer{t, clientNamed("Paho Go v" + version[:1]), options{URL: up.url("tcp", version), Version: version}}.open("-observer", nil)
}

func mustSubscribe(t *testing.T, c conn, qos byte, filters ...string) {
	t.Helper()
	granted, err := c.subscribe(qos, filters...)
	if err != nil || slices.ContainsFunc(granted, func(code int) bool { return code != int(qos) }) {
		t.Fatalf("subscribe %v: granted %v, %v", filters, granted, err)
	}
}

func mustPublish(t *testing.T, c conn, all ...message) {
	t.Helper()
	if err := c.publish(all...); err != nil {
		t.Fatal(err)
	}
}

// expect takes what has come since the connection was opened.
func expect(t *testing.T, c conn, want ...message) {
	t.Helper()
	got, err := c.receive(len(want))
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
		t.Fatalf("got\n  %s\n%v\nwant\n  %s", g, err, w)
	}
}

func end(t *testing.T, how func() error) {
	t.Helper()
	if err := how(); err != nil {
		t.Error(err)
	}
}

func homeAssistant(t *testing.T, up *running) {
	g := front(t, gatewayConfig{upstream: up.url("tcp", "3.1.1")})
	python := clientNamed("Paho Python") // Home Assistant's own
	for _, version := range both {
		t.Run(version, func(t *testing.T) {
			root := "m/" + unique("ha")
			refused := map[string]int{"3.1.1": 0x80, "5.0": 0x87}[version]
			var filters []string
			var want []int
			for i := range 500 {
				filters = append(filters, fmt.Sprintf("%s/%d/config", root, i))
				want = append(want, 1)
			}
			filters[123], want[123] = "m/secret/config", refused
			c := dialer{t, python, options{URL: g.tcp, Version: version}}.open("", nil)
			defer end(t, c.disconnect)
			granted, err := c.subscribe(1, filters...)
			if err != nil || !slices.Equal(granted, want) {
				t.Fatalf("granted %v, %v", granted, err)
			}
			o := observer(t, up, version)
			defer end(t, o.disconnect)
			var all []message
			for i, f := range filters {
				if want[i] == 1 {
					all = append(all, message{Topic: f, Payload: "{}", QoS: 1})
				}
			}
			for some := range slices.Chunk(all, 50) { // as many as Mosquitto keeps in flight
				mustPublish(t, o, some...)
			}
			expect(t, c, all...)
		})
	}
	for _, version := range both {
		// Paho Go tells the code as it came.
		d := dialer{t, clientNamed("Paho Go v" + version[:1]), options{Version: version}}
		refused := func(t *testing.T, url string, want int) {
			t.Helper()
			o := d.o
			o.URL, o.ID, o.Clean = url, unique("ha"), true
			_, a, err := d.c.open(o)
			if a.Code != want {
				t.Errorf("refused with %#x (%v), want %#x", a.Code, err, want)
			}
		}
		code := func(v5 int) int { return map[string]int{"3.1.1": 3, "5.0": v5}[version] }
		t.Run("the broker is away/"+version, func(t *testing.T) {
			g, err := writeGateway(t.TempDir(), gatewayConfig{upstream: tcpURL(freePort())})
			if err == nil {
				err = g.launch()
			}
			if err != nil {
				t.Fatal(err)
			}
			defer func() { end(t, g.stop) }()
			testkit.Eventually(t, "the gateway listens", func() bool {
				c, err := dial(g.tcp)
				if err == nil {
					err = c.Close()
				}
				return err == nil
			})
			refused(t, g.tcp, code(0x88))
		})
		t.Run("too many/"+version, func(t *testing.T) {
			g := front(t, gatewayConfig{upstream: up.url("tcp", version), general: `, "max-connections": 1`})
			d.o.URL = g.tcp
			var one conn
			testkit.Eventually(t, "the first is admitted", func() bool { // the check for readiness may still be leaving
				c, a, err := d.c.open(options{URL: g.tcp, Version: version, ID: unique("ha"), Clean: true})
				one = c
				return err == nil && a.Code == 0
			})
			defer end(t, one.disconnect)
			refused(t, g.tcp, code(0x9F))
		})
	}
}

func tasmota(t *testing.T, up *running) {
	g := front(t, gatewayConfig{upstream: up.url("tcp", "3.1.1")})
	topic := "m/tele/" + unique("tasmota") + "/LWT"
	online := message{Topic: topic, Payload: "Online", QoS: 1, Retain: true}
	offline := message{Topic: topic, Payload: "Offline", QoS: 1, Retain: true}
	live := func(m message) message { m.Retain = false; return m }
	d := dialer{t, clientNamed("Paho Go v3"), options{URL: g.tcp, Version: "3.1.1"}}
	device := func() conn {
		c := d.open("-device", func(o *options) { o.Will = &offline })
		mustPublish(t, c, online)
		return c
	}
	// late is what one sees that comes now.
	late := func(want message) conn {
		t.Helper()
		c := d.open("-late", nil)
		mustSubscribe(t, c, 1, topic)
		expect(t, c, want)
		return c
	}
	first := device()
	viewer := late(online)
	end(t, first.drop)
	expect(t, viewer, online, live(offline))
	end(t, late(offline).disconnect)

	second := device()
	expect(t, viewer, online, live(offline), live(online))
	end(t, second.disconnect) // a will is not for those who say so
	end(t, viewer.disconnect)
	end(t, late(online).disconnect)

	third := device()
	o := observer(t, up, "3.1.1")
	defer end(t, o.disconnect)
	mustSubscribe(t, o, 1, topic)
	expect(t, o, online)
	g.proc.Kill()
	expect(t, o, online, live(offline))
	_ = third.disconnect() // it is lost
	if err := g.start("3.1.1"); err != nil {
		t.Fatal(err)
	}
	end(t, late(offline).disconnect)
}

func requests(t *testing.T, up *running) {
	g := front(t, gatewayConfig{upstream: up.url("tcp", "5.0")})
	topic := "m/" + unique("request")
	responder := dialer{t, clientNamed("Paho Go v5"), options{URL: g.tcp, Version: "5.0"}}.open("-responder", nil)
	defer end(t, responder.disconnect)
	mustSubscribe(t, responder, 1, topic)
	asked := 0
	// answer answers the next request.
	answer := func(t *testing.T) {
		t.Helper()
		asked++
		got, err := responder.receive(asked)
		if err != nil || len(got) != asked || got[asked-1].ResponseTopic == "" {
			t.Fatalf("requests: %v, %v", got, err)
		}
		r := got[asked-1]
		mustPublish(t, responder, message{Topic: r.ResponseTopic, Payload: "answer to " + r.Payload, QoS: 1, Correlation: r.Correlation})
	}
	for _, c := range clients {
		if slices.Contains(c.skip, "properties") || !slices.Contains(c.versions, "5.0") || strings.HasPrefix(c.name, "mosquitto") {
			continue
		}
		t.Run(short(c.name), func(t *testing.T) {
			own := topic + "/" + unique("answer")
			requester := dialer{t, c, options{URL: g.url(c.schemes[len(c.schemes)-1]), Version: "5.0"}}.open("", nil)
			defer end(t, requester.disconnect)
			mustSubscribe(t, requester, 1, own)
			mustPublish(t, requester, message{Topic: topic, Payload: c.name, QoS: 1, ResponseTopic: own, Correlation: "of " + c.name})
			answer(t)
			expect(t, requester, message{Topic: own, Payload: "answer to " + c.name, QoS: 1, Correlation: "of " + c.name})
		})
	}
	t.Run("mosquitto_rr", func(t *testing.T) {
		cmd := exec.Command("mosquitto_rr", "-h", "127.0.0.1", "-p", fmt.Sprint(g.port), "-V", "mqttv5", "-q", "1", "-W", "120",
			"-t", topic, "-e", topic+"/rr", "-m", "rr", "-D", "publish", "correlation-data", "of rr", "-F", "%p %D")
		got := make(chan string, 1)
		go func() { // ends with the command, which has a limit
			out, err := cmd.CombinedOutput()
			got <- fmt.Sprint(string(out), err)
		}()
		answer(t)
		if out := <-got; out != "answer to rr of rr\n<nil>" {
			t.Error(out)
		}
	})
}

func sharedAcrossGateways(t *testing.T, up *running) {
	topic := "m/" + unique("shared")
	var members []conn
	leaves := unique("leaves")
	for i := range 2 {
		g := front(t, gatewayConfig{upstream: up.url("tcp", "5.0")})
		c := dialer{t, clientNamed("Paho Go v5"), options{URL: g.tcp, Version: "5.0"}}.open("-member", func(o *options) {
			if i == 1 {
				o.ID = leaves
			}
		})
		mustSubscribe(t, c, 1, "$share/g/"+topic)
		members = append(members, c)
	}
	o := observer(t, up, "5.0")
	defer end(t, o.disconnect)
	mustPublish(t, o, numbered(topic, 1, inBurst)...)
	var seen []string
	testkit.Eventually(t, "all messages", func() bool {
		seen = nil
		for _, c := range members {
			got, err := c.receive(1)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range got {
				seen = append(seen, m.Payload)
			}
		}
		return len(seen) >= inBurst
	})
	slices.Sort(seen)
	if len(seen) != inBurst || len(slices.Compact(seen)) != inBurst {
		t.Fatalf("two members saw %v", seen)
	}
	end(t, members[1].disconnect)
	// Before the broker knows, it would still deal it messages.
	testkit.Eventually(t, "the end of a member", func() bool { return strings.Contains(up.proc.Out.String(), "Received DISCONNECT from "+leaves) })
	before, err := members[0].receive(0)
	if err != nil {
		t.Fatal(err)
	}
	mustPublish(t, o, numbered(topic, 1, inBurst)...)
	got, err := members[0].receive(len(before) + inBurst)
	if err != nil || len(got) != len(before)+inBurst {
		t.Fatalf("the member that is left saw %d more, %v", len(got)-len(before), err)
	}
	end(t, members[0].disconnect)
}
