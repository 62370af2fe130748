//go:build e2e && proxy

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// This file drives the real proxy, Zentinel, with the very configuration of
// docs/sentinel.md. Its version is that of the newest release, or what
// ZENTINEL_VERSION says: 0.5.8 is the last that speaks generation 1.

func zentinelVersion() string {
	if v := os.Getenv("ZENTINEL_VERSION"); v != "" {
		return v
	}
	return "0.6.54"
}

// older is set for the releases that speak generation 1.
func older() bool { return strings.HasPrefix(zentinelVersion(), "0.5.") }

// documented is the file NAME of docs/sentinel.md, with each of the pairs old,
// new replaced.
func documented(t *testing.T, name string, pairs ...string) string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "sentinel.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok := strings.Cut(string(page), "```kdl\n// "+name+": ")
	if !ok {
		t.Fatalf("docs/sentinel.md has no %s", name)
	}
	text, _, _ = strings.Cut(text, "\n```")
	text = "// " + text
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("%s of docs/sentinel.md has no %q:\n%s", name, pairs[i], text)
		}
		text = strings.ReplaceAll(text, pairs[i], pairs[i+1])
	}
	return text
}

// zentinel starts the proxy with the documented file NAME, its ports and paths
// replaced, and waits for a CONNACK through it. It returns the URL of its
// WebSockets.
func zentinel(t *testing.T, name string, pairs ...string) (url string, proc *testkit.Process) {
	t.Helper()
	program := filepath.Join(cache(), "zentinel-"+zentinelVersion(), "bin", "zentinel")
	if _, err := os.Stat(program); err != nil {
		t.Fatalf("the proxy is not built: run .ci/run proxy (%v)", err)
	}
	public := fmt.Sprintf("127.0.0.1:%d", freePort())
	pairs = append(pairs, "0.0.0.0:8080", public)
	if name != "route.kdl" && !older() {
		pairs = append(pairs, "timeout-ms 1000", "timeout-ms 90000") // a busy machine is not what is tested
	}
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(documented(t, name, pairs...)), 0o600); err != nil {
		t.Fatal(err)
	}
	proc, err := testkit.Launch(exec.Command(program, "-c", file))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		proc.Kill() // politely it takes half a minute
		if t.Failed() {
			t.Logf("output of the proxy:\n%s", proc.Tail(40))
		}
	})
	url = "ws://" + public + "/mqtt"
	testkit.Eventually(t, "CONNACK through the proxy", func() bool {
		select {
		case <-proc.Done:
			t.Fatalf("the proxy ended with %d", proc.Code)
		default:
		}
		return connack(url, as("alice", "ready", v5))
	})
	return url, proc
}

// inspected is the program in front of the shared broker, with one user whose
// password takes bcrypt of cost 12, behind the proxy.
func inspected(t *testing.T) *setup {
	t.Helper()
	dir := t.TempDir()
	text, err := json.Marshal(map[string]any{"users": map[string]any{"slow": map[string]any{"password_hash": slowHash(t, password("slow"), 12), "groups": []string{"clients"}}}})
	if err != nil {
		t.Fatal(err)
	}
	slow := filepath.Join(dir, "slow.json")
	if err := replaceFile(slow, string(text)); err != nil {
		t.Fatal(err)
	}
	agent := `{"decision-timeout-ms": 60000}` // below the proxy's, as docs/sentinel.md advises
	if older() {
		agent = `{"decision-timeout-ms": 50}`
	}
	return startFor(t, shared.broker, config{both: true, values: map[string]string{
		"agent": agent,
		"auth":  fmt.Sprintf(`{"enabled": true, "providers": [{"type": "file", "path": "users.json"}, {"type": "file", "path": %q}], "failure-lockout": false}`, slow),
		"gateway": fmt.Sprintf(`{
    "listeners": [
      {"name": "tcp", "address": "tcp://127.0.0.1:TCP"},
      {"name": "ws", "address": "ws://127.0.0.1:WS/mqtt", "allowed-origins": ["*"]}
    ],
    "upstreams": [{"url": "mqtt://127.0.0.1:%d"}]
  }`, shared.broker.port),
	}})
}

// asked starts the proxy that asks the agent of s.
func asked(t *testing.T, s *setup) (url string, proc *testkit.Process) {
	t.Helper()
	pairs := []string{"127.0.0.1:9001", fmt.Sprintf("127.0.0.1:%d", s.broker.wsPort), "/run/mqtt-agent/agent.sock", s.socket}
	if older() {
		pairs = append(pairs, "timeout-ms 1000", "timeout-ms 90\n        failure-mode \"closed\"")
	}
	return zentinel(t, "agent.kdl", pairs...)
}

// TestZentinelAgent: clients of all kinds through the proxy, which asks the
// agent about every frame.
func TestZentinelAgent(t *testing.T) {
	noComplaints(t, shared.broker)
	s := inspected(t)
	url, _ := asked(t, s)
	t.Run("allowed", func(t *testing.T) {
		for _, c := range trippers {
			if strings.Contains(c.schemes, "ws") {
				t.Run(c.name, func(t *testing.T) { roundTrips(t, c, map[string]string{"ws": url}, false) })
			}
		}
	})
	t.Run("denied", func(t *testing.T) { zentinelDenies(t, s, url, false) })
	t.Run("wrong password", func(t *testing.T) {
		for _, l := range levels {
			con := as("alice", unique("zentinel"), l.level)
			con.password = "wrong"
			if got := attempt(t, url, con); got != nil {
				t.Errorf("%s: answered %v", l.name, got)
			}
			// Not before the deadline, if the password is looked up among slow ones.
			refused := func(e event) bool { return e.Reason == "auth-failed" || e.Reason == "decision-timeout" }
			if e := s.audited(t, con.id, "the refused CONNECT", refused); e.Door != "agent" {
				t.Errorf("audited as %+v", e)
			}
		}
		tr := trip{URL: url, Version: "5.0", ClientID: unique("zentinel"), Username: "alice", Password: "wrong", Topic: "e2e/x", Count: 1}
		if got, err := mqttJSTrip(t, tr); err != nil || got.Error == "" || len(got.Granted) > 0 {
			t.Errorf("MQTT.js: %+v, %v", got, err)
		}
	})
	t.Run("bcrypt of cost 12", func(t *testing.T) {
		con := as("slow", unique("zentinel"), v5)
		testkit.Eventually(t, "the slow user's CONNACK", func() bool { return connack(url, con) })
		tr := trip{URL: url, Version: "5.0", ClientID: unique("zentinel"), Username: "slow", Password: password("slow"), Topic: "e2e/slow", QoS: 1, Count: 3}
		if got, err := pythonTrip(t, tr); err != nil || got.Error != "" || len(got.Received) != 3 {
			t.Errorf("%+v, %v", got, err)
		}
		con.password = "wrong"
		if got := attempt(t, url, con); got != nil {
			t.Errorf("a wrong password answered %v", got)
		}
	})
	t.Run("compression", func(t *testing.T) {
		// The client is told what to change, and MQTT.js with its defaults
		// does not get past.
		status, body := refusedUpgrade(t, url, http.Header{"Sec-Websocket-Extensions": {"permessage-deflate; client_max_window_bits"}})
		if status != http.StatusBadRequest || !strings.Contains(body, "wsOptions: {perMessageDeflate: false}") {
			t.Errorf("%d %q", status, body)
		}
		tr := trip{URL: url, Version: "5.0", ClientID: unique("zentinel"), Username: "alice", Password: password("alice"), Topic: "e2e/x", Count: 1, Deflate: true}
		if got, err := mqttJSTrip(t, tr); err != nil || got.Error == "" || len(got.Granted) > 0 {
			t.Errorf("MQTT.js: %+v, %v", got, err)
		}
	})
}

// zentinelDenies: a denied publish never arrives, whoever sends it in how many
// frames. MQTT.js on Node begins a packet before it can be refused, so that
// its connection ends; of others the packet is dropped. With answers, the
// client hears of it.
func zentinelDenies(t *testing.T, s *setup, url string, answers bool) {
	o := observe(t, shared.broker)
	for _, version := range []string{"3.1.1", "5.0"} {
		for qos := byte(0); qos <= 1; qos++ {
			t.Run(fmt.Sprintf("paho-python/%s/qos%d", version, qos), func(t *testing.T) {
				tr := denied(url, version, qos)
				tr.Unanswered = !answers && qos > 0
				got, err := pythonTrip(t, tr)
				if err != nil || got.Error != "" || len(got.Received) != tr.Count {
					t.Errorf("%+v, %v", got, err)
				}
				zentinelAudited(t, s, tr)
			})
			t.Run(fmt.Sprintf("mqtt-js/%s/qos%d", version, qos), func(t *testing.T) {
				tr := denied(url, version, qos)
				got, err := mqttJSTrip(t, tr)
				if err != nil || answers == (got.Error != "") {
					t.Errorf("%+v, %v", got, err)
				}
				zentinelAudited(t, s, tr)
			})
		}
	}
	noneBelow(t, o.flush(t), "e2e/secret")
}

func denied(url, version string, qos byte) trip {
	id := unique("zentinel")
	return trip{
		URL: url, Version: version, ClientID: id, Username: "alice", Password: password("alice"),
		Topic: "e2e/" + id, QoS: qos, Count: 3, DeniedTopic: "e2e/secret/" + id,
	}
}

func zentinelAudited(t *testing.T, s *setup, tr trip) {
	t.Helper()
	e := s.audited(t, tr.ClientID, "the denied publish", func(e event) bool { return e.Reason == "acl-denied" })
	if e.Topic != tr.DeniedTopic || e.Rule != "no-secrets" {
		t.Errorf("audited as %+v", e)
	}
}

// attempt sends CONNECT and returns the packets that come before the end.
func attempt(t *testing.T, url string, con connect) []packet {
	t.Helper()
	c := open(t, url, con.level)
	c.send(t, con.bytes())
	return c.ended(t)
}

// refusedUpgrade asks for a WebSocket and returns the refusal.
func refusedUpgrade(t *testing.T, url string, extra http.Header) (status int, body string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, strings.Replace(url, "ws://", "http://", 1), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = http.Header{
		"Upgrade": {"websocket"}, "Connection": {"Upgrade"}, "Sec-Websocket-Version": {"13"},
		"Sec-Websocket-Key": {"oTiA8OiHTzy1PqU//Wboog=="}, "Sec-Websocket-Protocol": {"mqtt"},
	}
	for k, v := range extra {
		req.Header[k] = v
	}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return resp.StatusCode, ""
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// TestZentinelSameID: the proxy matches answers to frames by an id that a
// client may choose, and mixes up two WebSockets that have the same. Neither
// passes the refusals of the other.
func TestZentinelSameID(t *testing.T) {
	url, _ := asked(t, inspected(t))
	o := observe(t, shared.broker)
	dial := func(id string) (*client, error) {
		ws, err := dialWS(url, wsOptions{protocol: "mqtt", header: http.Header{"X-Trace-Id": {id}}})
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() { ws.Close() })
		return wrap(ws, v5), nil
	}
	t.Run("one after the other", func(t *testing.T) {
		id := traceID()
		c, err := dial(id)
		if err != nil {
			t.Fatal(err)
		}
		c.send(t, as("alice", unique("zentinel"), v5).bytes())
		c.expect(t, tConnack)
		if status, body := refusedUpgrade(t, url, http.Header{"X-Trace-Id": {id}}); status != http.StatusBadRequest || !strings.Contains(body, "X-Trace-Id") {
			t.Errorf("the second: %d %q", status, body)
		}
		if got := c.publish(t, message{topic: "e2e/agent", qos: 1, id: 1}); got != 0 {
			t.Errorf("the first one's publish answered %#x", got)
		}
	})
	// At once, before either has sent a frame: one opens, and what it may not do
	// it does not.
	t.Run("at once", func(t *testing.T) {
		opened := 0
		for range 25 {
			id := traceID()
			var both [2]*client
			var wg sync.WaitGroup
			for i := range both {
				wg.Go(func() { both[i], _ = dial(id) })
			}
			wg.Wait()
			for _, c := range both {
				if c == nil {
					continue
				}
				opened++
				bad := as("alice", unique("evil"), v5)
				bad.will = &message{topic: "e2e/secret/will", payload: "leak"}
				c.Write(bad.bytes())
				c.Write(message{topic: "e2e/secret/publish", payload: "leak"}.bytes(v5))
				c.ended(t)
			}
			if both[0] != nil && both[1] != nil {
				t.Error("two WebSockets were open with one id")
			}
		}
		if opened == 0 {
			t.Error("none was opened")
		}
		noneBelow(t, o.flush(t), "e2e/secret")
	})
}

// TestZentinelTwoListeners: the proxy passes every request through itself, so
// that clients that offer compression are inspected and ids are the proxy's.
func TestZentinelTwoListeners(t *testing.T) {
	if older() {
		return // its listeners know no trusted-proxies
	}
	noComplaints(t, shared.broker)
	s := inspected(t)
	url, _ := zentinel(t, "two-listeners.kdl", "127.0.0.1:9001", fmt.Sprintf("127.0.0.1:%d", s.broker.wsPort),
		"/run/mqtt-agent/agent.sock", s.socket, "127.0.0.1:8081", fmt.Sprintf("127.0.0.1:%d", freePort()))
	t.Run("defaults of MQTT.js", func(t *testing.T) { roundTrips(t, defaultMQTTJS, map[string]string{"ws": url}, false) })
	t.Run("denied", func(t *testing.T) { zentinelDenies(t, s, url, false) })
	t.Run("browser", func(t *testing.T) { browses(t, s, url, false) })
	t.Run("ids", func(t *testing.T) {
		id := http.Header{"X-Trace-Id": {"mine"}, "X-Correlation-Id": {"mine"}, "X-Request-Id": {"mine"}}
		for range 2 {
			ws, err := dialWS(url, wsOptions{protocol: "mqtt", header: id})
			if err != nil {
				t.Fatal(err)
			}
			defer ws.Close()
			c := wrap(ws, v5)
			c.send(t, as("alice", unique("zentinel"), v5).bytes())
			c.expect(t, tConnack)
		}
	})
}

// defaultMQTTJS is MQTT.js as it comes: it offers compression.
var defaultMQTTJS = tripper{name: "mqtt-js", versions: "3.1.1 5.0", schemes: "ws", run: func(t *testing.T, tr trip) (result, error) {
	tr.Deflate = true
	return mqttJSTrip(t, tr)
}}

// TestZentinelRoute: the proxy's route points at our own WebSocket listener.
// Everybody is inspected and gets proper answers.
func TestZentinelRoute(t *testing.T) {
	noComplaints(t, shared.broker)
	s := inspected(t)
	url, _ := zentinel(t, "route.kdl", "127.0.0.1:9001", strings.TrimSuffix(strings.TrimPrefix(s.ws, "ws://"), "/mqtt"))
	for _, c := range slices.Concat(trippers, []tripper{defaultMQTTJS}) {
		if strings.Contains(c.schemes, "ws") {
			t.Run(c.name, func(t *testing.T) { roundTrips(t, c, map[string]string{"ws": url}, true) })
		}
	}
	t.Run("denied", func(t *testing.T) { zentinelDenies(t, s, url, true) })
	t.Run("browser", func(t *testing.T) { browses(t, s, url, true) })
	t.Run("bcrypt of cost 12", func(t *testing.T) {
		con := as("slow", unique("zentinel"), v311)
		mustLogin(t, url, con)
		con.password = "wrong"
		if _, ack := login(t, url, con); ack.code() == 0 {
			t.Error("a wrong password was accepted")
		}
	})
}

// browses runs a round trip in a browser, which offers compression and cannot
// be told not to.
func browses(t *testing.T, s *setup, url string, answers bool) {
	o := observe(t, shared.broker)
	tr := denied(url, "5.0", 1)
	tr.Unanswered = !answers
	got, err := chromiumTrip(t, tr)
	if err != nil {
		t.Fatal(err)
	}
	if got.Error != "" || len(got.Received) != tr.Count || answers && (got.Denied == nil || *got.Denied != 0x87) {
		t.Errorf("%+v, denied %s", got, show(got.Denied))
	}
	zentinelAudited(t, s, tr)
	noneBelow(t, o.flush(t), "e2e/secret")
}

// chromiumTrip is MQTT.js in Chromium, on a page of our own that reports back.
func chromiumTrip(t *testing.T, tr trip) (got result, err error) {
	chromium, err := part("chromium", "chromium")
	if err != nil {
		return got, err
	}
	job, err := json.Marshal(tr)
	if err != nil {
		return got, err
	}
	results := make(chan []byte, 1)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, "<script src=/mqtt.js></script><script>const job = %s</script><script src=/client.js></script>", job)
	})
	mux.HandleFunc("GET /mqtt.js", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, filepath.Join(nodeModules(t), "mqtt", "dist", "mqtt.min.js"))
	})
	mux.HandleFunc("GET /client.js", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, filepath.Join("clients", "browser_client.js"))
	})
	mux.HandleFunc("POST /result", func(_ http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		select {
		case results <- text:
		default:
		}
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return got, err
	}
	srv := &http.Server{Handler: mux}
	go srv.Serve(l) // ends with srv.Close
	defer srv.Close()
	proc := run(t, chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
		"--user-data-dir="+t.TempDir(), fmt.Sprintf("--remote-debugging-port=%d", freePort()), "http://"+l.Addr().String()+"/")
	err = testkit.Poll("the browser's result", patience, func() bool {
		select {
		case text := <-results:
			err = json.Unmarshal(text, &got)
			return true
		case <-proc.Done:
			err = errors.New("chromium ended")
			return true
		default:
			return false
		}
	})
	return got, err
}
