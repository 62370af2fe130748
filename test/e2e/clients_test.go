//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	pahov3 "github.com/eclipse/paho.mqtt.golang"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// trip is one round trip of a real client: subscribe to a topic, publish
// count messages on it, receive them all back.
type trip struct {
	URL      string `json:"url"`
	Version  string `json:"version"`
	ClientID string `json:"client_id"`
	Username string `json:"username"`
	Password string `json:"password"`
	Topic    string `json:"topic"`
	QoS      byte   `json:"qos"`
	Count    int    `json:"count"`
	// DeniedTopic, when given, is published to first and must be refused.
	DeniedTopic string `json:"denied_topic,omitempty"`
	// Unanswered: nobody will tell the client of it, so it must not wait.
	Unanswered bool `json:"unanswered,omitempty"`
	Deflate    bool `json:"deflate,omitempty"`
}

// result is what the client saw.
type result struct {
	Granted  []int    `json:"granted"`
	Received [][3]any `json:"received"` // topic, payload, QoS
	Denied   *int     `json:"denied"`   // reason code, 0 where the protocol has none
	Error    string   `json:"error"`
}

// tripper is a real client.
type tripper struct {
	name     string
	versions string // space separated
	schemes  string // space separated
	run      func(*testing.T, trip) (result, error)
	// deaf is set for a client that does not read the reason of a PUBREC: it
	// goes on with PUBREL, which the broker answers.
	deaf bool
}

var trippers = []tripper{
	{name: "mosquitto", versions: "3.1 3.1.1 5.0", schemes: "tcp", run: mosquittoTrip},
	{name: "paho-go-v3", versions: "3.1.1", schemes: "tcp ws", run: pahoV3Trip},
	{name: "paho-go-v5", versions: "5.0", schemes: "tcp ws", run: pahoV5Trip},
	{name: "paho-python", versions: "3.1 3.1.1 5.0", schemes: "tcp ws", run: pythonTrip, deaf: true},
	{name: "mqtt-js", versions: "3.1 3.1.1 5.0", schemes: "tcp ws", run: mqttJSTrip},
}

// TestRoundTrips sends every client's messages through the gateway door to
// Mosquitto and back: every version, transport and QoS.
func TestRoundTrips(t *testing.T) {
	for _, c := range trippers {
		t.Run(c.name, func(t *testing.T) {
			roundTrips(t, c, map[string]string{"tcp": shared.tcp, "ws": shared.ws}, true)
		})
	}
}

// roundTrips runs c to each door that it can reach. With answers a denied
// publish comes first, whose answer is checked.
func roundTrips(t *testing.T, c tripper, doors map[string]string, answers bool) {
	for _, scheme := range strings.Fields(c.schemes) {
		door, ok := doors[scheme]
		if !ok {
			continue
		}
		for _, version := range strings.Fields(c.versions) {
			for qos := byte(0); qos <= 2; qos++ {
				t.Run(fmt.Sprintf("%s/%s/qos%d", scheme, version, qos), func(t *testing.T) {
					roundTrip(t, c, door, version, qos, answers)
				})
			}
		}
	}
}

func roundTrip(t *testing.T, c tripper, door, version string, qos byte, answers bool) {
	id := unique("trip")
	tr := trip{
		URL: door, Version: version, ClientID: id, Username: "alice", Password: password("alice"),
		Topic: "e2e/" + id, QoS: qos, Count: 15,
	}
	if answers {
		tr.DeniedTopic = "e2e/secret/" + id
	}
	o := observe(t, shared.broker)
	got, err := c.run(t, tr)
	if err != nil {
		t.Fatal(err)
	}
	if got.Error != "" {
		t.Errorf("error: %s", got.Error)
	}
	if len(got.Granted) != 1 || got.Granted[0] != int(qos) {
		t.Errorf("granted %v, want [%d]", got.Granted, qos)
	}
	var want, have []string
	for i := range tr.Count {
		want = append(want, fmt.Sprintf("%s: message %d, QoS %d", tr.Topic, i, qos))
	}
	for _, m := range got.Received {
		have = append(have, fmt.Sprintf("%v: %v, QoS %v", m[0], m[1], m[2]))
	}
	if strings.Join(have, "\n") != strings.Join(want, "\n") {
		t.Errorf("received\n  %s\nwant\n  %s", strings.Join(have, "\n  "), strings.Join(want, "\n  "))
	}
	if answers {
		denied := 0
		if version == "5.0" && (qos == 1 || qos == 2 && !c.deaf) {
			denied = 0x87
		}
		if got.Denied == nil || *got.Denied != denied {
			t.Errorf("denied publish answered %v, want %#x", show(got.Denied), denied)
		}
	}
	seen := o.flush(t)
	noneBelow(t, seen, "e2e/secret")
	n := 0
	for _, m := range seen {
		if m.topic == tr.Topic && m.payload == fmt.Sprintf("message %d", n) && m.qos == qos {
			n++
		}
	}
	if n != tr.Count {
		t.Errorf("the broker saw %d of %d messages in order", n, tr.Count)
	}
}

func show(p *int) string {
	if p == nil {
		return "nothing"
	}
	return fmt.Sprintf("%#x", *p)
}

func intp(n int) *int { return &n }

// scripted runs a client in another language.
func scripted(tr trip, env []string, argv ...string) (result, error) {
	job, err := json.Marshal(tr)
	if err != nil {
		return result{}, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], append(argv[1:], string(job))...)
	cmd.Env = append(os.Environ(), env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return result{}, fmt.Errorf("%v: %w\n%s", argv, err, testkit.Tail(stderr.String(), 20))
	}
	var got result
	if err := json.Unmarshal(stdout.Bytes(), &got); err != nil {
		return result{}, fmt.Errorf("%v printed %q: %w\n%s", argv, stdout.String(), err, stderr.String())
	}
	return got, nil
}

func pythonTrip(t *testing.T, tr trip) (result, error) {
	return scripted(tr, nil, python(t), filepath.Join("clients", "paho_client.py"))
}

func mqttJSTrip(t *testing.T, tr trip) (result, error) {
	// MQTT.js forwards the path of a ws URL only.
	return scripted(tr, []string{"NODE_PATH=" + nodeModules(t)}, "node", filepath.Join("clients", "mqttjs_client.js"))
}

// mosquittoTrip is mosquitto_sub that waits for the messages, and
// mosquitto_pub that reads them from its input.
func mosquittoTrip(t *testing.T, tr trip) (result, error) {
	u, err := url.Parse(tr.URL)
	if err != nil {
		return result{}, err
	}
	version := map[string]string{"3.1": "mqttv31", "3.1.1": "mqttv311", "5.0": "mqttv5"}[tr.Version]
	common := func(suffix string) []string {
		return []string{"-h", u.Hostname(), "-p", u.Port(), "-V", version, "-u", tr.Username, "-P", tr.Password, "-i", tr.ClientID + suffix, "-q", strconv.Itoa(int(tr.QoS))}
	}
	// A line of ours is "|topic|payload|qos". What -d prints of the SUBACK is
	// only to be read at the end: into a pipe it is buffered.
	sub := run(t, "mosquitto_sub", append(common("s"), "-d", "-t", tr.Topic, "-C", strconv.Itoa(tr.Count), "-W", "300", "-F", "|%t|%p|%q")...)
	subscribed := fmt.Sprintf("%ss %d %s\n", tr.ClientID, tr.QoS, tr.Topic)
	testkit.Eventually(t, "subscription of mosquitto_sub", func() bool {
		return strings.Contains(shared.broker.proc.Out.String(), subscribed)
	})
	var got result
	if tr.DeniedTopic != "" {
		out, err := exec.Command("mosquitto_pub", append(common("d"), "-d", "-t", tr.DeniedTopic, "-m", "denied")...).CombinedOutput()
		if err != nil {
			return got, fmt.Errorf("mosquitto_pub: %w\n%s", err, out)
		}
		got.Denied = intp(0)
		if strings.Contains(string(out), "RC:135") || strings.Contains(string(out), "Not authorized") {
			got.Denied = intp(0x87)
		}
	}
	var lines strings.Builder
	for i := range tr.Count {
		fmt.Fprintf(&lines, "message %d\n", i)
	}
	pub := exec.Command("mosquitto_pub", append(common("p"), "-t", tr.Topic, "-l")...)
	pub.Stdin = strings.NewReader(lines.String())
	if out, err := pub.CombinedOutput(); err != nil {
		return got, fmt.Errorf("mosquitto_pub: %w\n%s", err, out)
	}
	if code := sub.Wait(t); code != 0 {
		return got, fmt.Errorf("mosquitto_sub ended with %d", code)
	}
	for line := range strings.Lines(sub.Out.String()) {
		if granted, ok := strings.CutPrefix(strings.TrimSpace(line), "Subscribed (mid: 1): "); ok {
			n, err := strconv.Atoi(granted)
			if err != nil {
				return got, err
			}
			got.Granted = append(got.Granted, n)
		}
		if f := strings.Split(strings.TrimSpace(line), "|"); len(f) == 4 && f[0] == "" {
			got.Received = append(got.Received, [3]any{f[1], f[2], f[3]})
		}
	}
	return got, nil
}

// pahoV3Trip is github.com/eclipse/paho.mqtt.golang.
func pahoV3Trip(_ *testing.T, tr trip) (result, error) {
	o := pahov3.NewClientOptions().AddBroker(tr.URL).SetClientID(tr.ClientID).
		SetUsername(tr.Username).SetPassword(tr.Password).SetProtocolVersion(4).
		SetAutoReconnect(false).SetConnectTimeout(patience).SetOrderMatters(true)
	c := pahov3.NewClient(o)
	wait := func(what string, tok pahov3.Token) error {
		if !tok.WaitTimeout(patience) {
			return fmt.Errorf("%s: no answer", what)
		}
		return tok.Error()
	}
	if err := wait("connect", c.Connect()); err != nil {
		return result{}, err
	}
	defer c.Disconnect(100)
	in := make(chan [3]any, 10*tr.Count)
	sub := c.Subscribe(tr.Topic, tr.QoS, func(_ pahov3.Client, m pahov3.Message) {
		in <- [3]any{m.Topic(), string(m.Payload()), m.Qos()}
	})
	if err := wait("subscribe", sub); err != nil {
		return result{}, err
	}
	got := result{Granted: []int{int(sub.(*pahov3.SubscribeToken).Result()[tr.Topic])}}
	if tr.DeniedTopic != "" {
		if err := wait("denied publish", c.Publish(tr.DeniedTopic, tr.QoS, false, "denied")); err != nil {
			return got, err
		}
		got.Denied = intp(0)
	}
	for i := range tr.Count {
		if err := wait("publish", c.Publish(tr.Topic, tr.QoS, false, fmt.Sprintf("message %d", i))); err != nil {
			return got, err
		}
	}
	return got, collect(&got, in, tr.Count)
}

// collect takes count messages off in.
func collect(got *result, in <-chan [3]any, count int) error {
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for len(got.Received) < count {
		select {
		case m := <-in:
			got.Received = append(got.Received, m)
		case <-deadline.C:
			return errors.New("nothing more came")
		}
	}
	return nil
}

// pahoV5Trip is github.com/eclipse/paho.golang.
func pahoV5Trip(_ *testing.T, tr trip) (got result, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	var conn net.Conn
	if conn, err = dialURL(tr.URL); err != nil {
		return got, err
	}
	in := make(chan [3]any, 10*tr.Count)
	c := paho.NewClient(paho.ClientConfig{
		ClientID: tr.ClientID, Conn: packets.NewThreadSafeConn(conn),
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
			in <- [3]any{p.Packet.Topic, string(p.Packet.Payload), p.Packet.QoS}
			return true, nil
		}},
	})
	if _, err = c.Connect(ctx, &paho.Connect{
		ClientID: tr.ClientID, CleanStart: true, KeepAlive: 30,
		UsernameFlag: true, Username: tr.Username, PasswordFlag: true, Password: []byte(tr.Password),
	}); err != nil {
		return got, err
	}
	defer func() { err = errors.Join(err, c.Disconnect(&paho.Disconnect{})) }()
	sub, err := c.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: tr.Topic, QoS: tr.QoS}}})
	if err != nil {
		return got, err
	}
	for _, code := range sub.Reasons {
		got.Granted = append(got.Granted, int(code))
	}
	if tr.DeniedTopic != "" {
		resp, err := c.Publish(ctx, &paho.Publish{Topic: tr.DeniedTopic, QoS: tr.QoS, Payload: []byte("denied")})
		switch {
		case resp != nil:
			got.Denied = intp(int(resp.ReasonCode)) // with an error: refused
		case err != nil:
			return got, err
		default:
			got.Denied = intp(0)
		}
	}
	for i := range tr.Count {
		if _, err := c.Publish(ctx, &paho.Publish{Topic: tr.Topic, QoS: tr.QoS, Payload: fmt.Appendf(nil, "message %d", i)}); err != nil {
			return got, err
		}
	}
	return got, collect(&got, in, tr.Count)
}

func refusedMosquitto(t *testing.T, tr trip) {
	t.Helper()
	u, err := url.Parse(tr.URL)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("mosquitto_pub", "-h", u.Hostname(), "-p", u.Port(), "-i", tr.ClientID, "-u", tr.Username, "-P", tr.Password, "-t", tr.Topic, "-m", "x").CombinedOutput()
	if err == nil || !strings.Contains(strings.ToLower(string(out)), "not authorised") && !strings.Contains(strings.ToLower(string(out)), "bad user name") {
		t.Errorf("mosquitto_pub: %v, %s", err, out)
	}
}
