//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// eachProxy runs f before a proxy of each generation.
func eachProxy(t *testing.T, f func(t *testing.T, p *proxy)) {
	for _, generation := range []int{1, 2} {
		t.Run(fmt.Sprintf("v%d", generation), func(t *testing.T) { f(t, startProxy(t, shared, generation)) })
	}
}

// eachVersion runs f for every version through a proxy of each generation.
func eachVersion(t *testing.T, f func(t *testing.T, p *proxy, level byte)) {
	eachProxy(t, func(t *testing.T, p *proxy) {
		for _, l := range levels {
			t.Run(l.name, func(t *testing.T) { f(t, p, l.level) })
		}
	})
}

// TestAgentRoundTrips sends every client's messages through a proxy that asks
// the agent, to Mosquitto's own WebSocket listener and back.
func TestAgentRoundTrips(t *testing.T) {
	eachProxy(t, func(t *testing.T, p *proxy) {
		for _, c := range trippers {
			if strings.Contains(c.schemes, "ws") {
				t.Run(c.name, func(t *testing.T) { roundTrips(t, c, map[string]string{"ws": p.url}, false) })
			}
		}
	})
}

// through logs in through a proxy under a correlation id of its own.
func through(t *testing.T, p *proxy, con connect) (cl *client, id string) {
	t.Helper()
	id = traceID()
	protocol := "mqtt"
	if con.level == v31 {
		protocol = "mqttv3.1"
	}
	ws, err := dialWS(p.url, wsOptions{protocol: protocol, header: http.Header{"X-Trace-Id": {id}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ws.Close() })
	cl = wrap(ws, con.level)
	cl.send(t, con.bytes())
	return cl, id
}

func admitted(t *testing.T, p *proxy, con connect) (cl *client, id string) {
	t.Helper()
	cl, id = through(t, p, con)
	if ack := cl.expect(t, tConnack); ack.code() != 0 {
		t.Fatalf("CONNACK %#x", ack.code())
	}
	return cl, id
}

// closes checks that the client's connection ends by a decision of code.
func closes(t *testing.T, p *proxy, cl *client, id string, code int) {
	t.Helper()
	cl.ended(t)
	// A frame of the broker may still be asked about after it.
	all, last := p.of(id), ""
	for _, v := range all {
		if strings.HasPrefix(v, "> ") {
			last = v
		}
	}
	if want := fmt.Sprintf("> close %d", code); last != want {
		t.Errorf("verdicts %q, want %q as the last of the client's", all, want)
	}
}

func TestAgentDeniedPublish(t *testing.T) {
	eachVersion(t, func(t *testing.T, p *proxy, level byte) {
		o := observe(t, shared.broker)
		id := unique("agent")
		c, trace := admitted(t, p, as("alice", id, level))
		for qos := byte(0); qos <= 2; qos++ {
			c.send(t, message{topic: "e2e/secret/" + id, payload: "no", qos: qos, id: 5}.bytes(level))
		}
		// Dropped, all three: the connection lives and nothing came of them.
		if got := c.publish(t, message{topic: "e2e/" + id, payload: "yes", qos: 2, id: 6}); got != 0 {
			t.Errorf("allowed publish answered %#x", got)
		}
		noneBelow(t, o.untilTopic(t, "e2e/"+id), "e2e/secret")
		var drops int
		for _, v := range p.of(trace) {
			if v == "> drop" {
				drops++
			}
		}
		if drops != 3 {
			t.Errorf("verdicts %q, want three drops", p.of(trace))
		}
		e := shared.audited(t, id, "the denied publish", func(e event) bool { return e.Reason == "acl-denied" })
		if e.Door != "agent" || e.Rule != "no-secrets" || e.Username != "alice" {
			t.Errorf("audited as %+v", e)
		}
	})
}

func TestAgentSubscribe(t *testing.T) {
	eachVersion(t, func(t *testing.T, p *proxy, level byte) {
		id := unique("agent")
		c, trace := admitted(t, p, as("alice", id, level))
		// Strict: what could match a secret is refused, and one bad filter
		// has the whole packet dropped.
		c.send(t, subscribe(level, 1, 1, "e2e/#"))
		c.send(t, subscribe(level, 2, 1, "e2e/"+id, "e2e/secret/"+id))
		c.send(t, subscribe(level, 3, 1, "e2e/"+id))
		if p := c.expect(t, tSuback); p.id() != 3 || !slices.Equal(p.codes(), []byte{1}) {
			t.Errorf("SUBACK %d % x, want 3 01", p.id(), p.codes())
		}
		want := []string{"> allow", "< allow", "> drop", "> drop", "> allow", "< allow"}
		if got := p.of(trace); !slices.Equal(got, want) {
			t.Errorf("verdicts %q, want %q", got, want)
		}
	})
}

func TestAgentRefusedConnect(t *testing.T) {
	eachVersion(t, func(t *testing.T, p *proxy, level byte) {
		o := observe(t, shared.broker)
		wrong, unknown, none, will := as("alice", unique("agent"), level), as("eve", unique("agent"), level), as("", unique("agent"), level), as("alice", unique("agent"), level)
		wrong.password, none.noUser = "wrong", true
		will.will = &message{topic: "e2e/secret/will", payload: "x"}
		for name, con := range map[string]connect{"wrong password": wrong, "unknown user": unknown, "anonymous": none, "forbidden will": will} {
			t.Run(name, func(t *testing.T) {
				c, id := through(t, p, con)
				closes(t, p, c, id, 1008)
			})
		}
		noneBelow(t, o.flush(t), "e2e/secret")
	})
}

func TestAgentWill(t *testing.T) {
	eachVersion(t, func(t *testing.T, p *proxy, level byte) {
		o := observe(t, shared.broker)
		con := as("alice", unique("agent"), level)
		con.will = &message{topic: "e2e/will/" + con.id, payload: "gone", qos: 1}
		c, _ := admitted(t, p, con)
		c.Close()
		o.untilTopic(t, con.will.topic)
	})
}

// TestAgentUnseenSubscription: deliveries that no subscription of this
// connection asked for are dropped.
func TestAgentUnseenSubscription(t *testing.T) {
	eachVersion(t, func(t *testing.T, p *proxy, level byte) {
		id := unique("agent")
		direct := connect{level: level, id: id, noUser: true, keep: true}
		if level == v5 {
			direct.props = []byte{0x11, 0, 0, 1, 0}
		}
		d := mustLogin(t, shared.broker.tcp, direct)
		d.send(t, subscribe(level, 1, 0, "e2e/secret/"+id, "e2e/open/"+id))
		d.expect(t, tSuback)
		d.send(t, disconnect())
		d.ended(t)

		con := as("alice", id, level)
		con.keep, con.props = true, direct.props
		c, trace := admitted(t, p, con)
		out := mustLogin(t, shared.broker.tcp, connect{level: v311, id: unique("out"), noUser: true})
		out.publish(t, message{topic: "e2e/secret/" + id, payload: "secret", qos: 1, id: 1})
		out.publish(t, message{topic: "e2e/open/" + id, payload: "open", qos: 1, id: 2})
		if m := c.receive(t); m.topic != "e2e/open/"+id {
			t.Errorf("received %q on %q", m.payload, m.topic)
		}
		want := []string{"> allow", "< allow", "< drop", "< allow"}
		if got := p.of(trace); !slices.Equal(got, want) {
			t.Errorf("verdicts %q, want %q", got, want)
		}
	})
}

// TestAgentFrames: frames and packets do not coincide.
func TestAgentFrames(t *testing.T) {
	noComplaints(t, shared.broker)
	hello := func(id string) []byte { return as("alice", id, v5).bytes() }
	pub := func(topic string, qos byte) []byte {
		return message{topic: topic, payload: "x", qos: qos, id: 9}.bytes(v5)
	}
	eachProxy(t, func(t *testing.T, p *proxy) {
		o := observe(t, shared.broker)
		leak := "e2e/secret/" + unique("frames")
		dial := func(t *testing.T) (*wsConn, *client, string) {
			t.Helper()
			id := traceID()
			ws, err := dialWS(p.url, wsOptions{protocol: "mqtt", header: http.Header{"X-Trace-Id": {id}}})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { ws.Close() })
			return ws, wrap(ws, v5), id
		}
		t.Run("one byte a frame", func(t *testing.T) {
			id := unique("frames")
			_, c, _ := dial(t)
			for _, b := range slices.Concat(hello(id), pub("e2e/"+id, 1)) {
				c.send(t, []byte{b})
			}
			c.expect(t, tConnack)
			c.expect(t, tPuback)
			o.untilTopic(t, "e2e/"+id)
		})
		t.Run("a denied packet begun in another frame", func(t *testing.T) {
			_, c, trace := dial(t)
			c.send(t, hello(unique("frames")))
			c.expect(t, tConnack)
			for _, b := range pub(leak, 0) {
				if _, err := c.Write([]byte{b}); err != nil {
					break // it was closed on the way, as it must
				}
			}
			closes(t, p, c, trace, 1008)
		})
		t.Run("a denied packet among others", func(t *testing.T) {
			_, c, trace := dial(t)
			c.send(t, hello(unique("frames")))
			c.expect(t, tConnack)
			c.send(t, pub("e2e/x", 1), pub(leak, 1))
			closes(t, p, c, trace, 1008)
		})
		t.Run("denied packets alone", func(t *testing.T) {
			id := unique("frames")
			_, c, _ := dial(t)
			c.send(t, hello(id))
			c.expect(t, tConnack)
			c.send(t, pub(leak, 0), pub(leak, 1))
			c.send(t, pub("e2e/"+id, 1))
			c.expect(t, tPuback)
			noneBelow(t, o.untilTopic(t, "e2e/"+id), leak)
		})
		t.Run("fragments, pings and empty frames", func(t *testing.T) {
			id := unique("frames")
			ws, c, _ := dial(t)
			b := slices.Concat(hello(id), pub("e2e/"+id, 1))
			if err := ws.frames(frame{true, opBinary, nil}, frame{true, opPing, []byte("?")}, frame{false, opBinary, b[:5]}, frame{false, opContinuation, b[5:30]}, frame{true, opContinuation, b[30:]}); err != nil {
				t.Fatal(err)
			}
			c.expect(t, tConnack)
			c.expect(t, tPuback)
			o.untilTopic(t, "e2e/"+id)
		})
		for _, c := range []struct {
			name   string
			frames []frame
			code   int
		}{
			{"text", []frame{{true, opText, hello("x")}}, 1003},
			{"reserved opcode", []frame{{true, 3, hello("x")}}, 1002},
			{"continuation of nothing", []frame{{true, opContinuation, hello("x")}}, 1002},
			{"message inside a message", []frame{{false, opBinary, []byte{0x10}}, {true, opBinary, []byte{5}}}, 1002},
			{"no CONNECT", []frame{{true, opBinary, pub(leak, 0)}}, 1008},
			{"not MQTT", []frame{{true, opBinary, []byte("GET / HTTP/1.1\r\n")}}, 1008},
			{"second CONNECT", []frame{{true, opBinary, hello("frames")}, {true, opBinary, hello("frames")}}, 1008},
		} {
			t.Run(c.name, func(t *testing.T) {
				ws, cl, trace := dial(t)
				if err := ws.frames(c.frames...); err != nil {
					t.Fatal(err)
				}
				closes(t, p, cl, trace, c.code)
			})
		}
		noneBelow(t, o.flush(t), leak)
	})
}

// TestAgentAttacks: the attacks of an admitted client, through the proxies.
func TestAgentAttacks(t *testing.T) {
	noComplaints(t, shared.broker)
	eachVersion(t, func(t *testing.T, p *proxy, level byte) {
		for i, a := range attacks(level, "") {
			t.Run(a.name, func(t *testing.T) {
				t.Parallel() // Mosquitto takes its time over WebSockets
				leak := "e2e/leak/" + unique("agent")
				a := attacks(level, leak)[i]
				o := observe(t, shared.broker)
				con := as("alice", unique("agent"), level)
				con.will = &message{topic: "e2e/will/" + con.id, payload: "over"}
				c, trace := admitted(t, p, con)
				c.send(t, a.bytes)
				code := 1008
				if a.want == tooLarge {
					code = 1009
				}
				closes(t, p, c, trace, code)
				noneBelow(t, o.untilTopic(t, con.will.topic), leak)
			})
		}
	})
}

func TestAgentUpgrade(t *testing.T) {
	eachProxy(t, func(t *testing.T, p *proxy) {
		for _, c := range []struct {
			name string
			o    wsOptions
			want int
		}{
			{"compression", wsOptions{protocol: "mqtt", header: http.Header{"Sec-Websocket-Extensions": {"permessage-deflate"}}}, 400},
			{"compression on the second line", wsOptions{protocol: "mqtt", header: http.Header{"Sec-Websocket-Extensions": {"x-other", "x, PerMessage-Deflate; y"}}}, 400},
			{"no subprotocol", wsOptions{}, 400},
			{"another subprotocol", wsOptions{protocol: "chat"}, 400},
		} {
			ws, resp, err := upgrade(p.url, c.o)
			if err == nil {
				ws.Close()
				t.Errorf("%s: accepted", c.name)
				continue
			}
			if resp == nil || resp.StatusCode != c.want {
				t.Errorf("%s: %v, want %d", c.name, err, c.want)
			}
		}
		// Another extension is taken out, and so not agreed to.
		ws, resp, err := upgrade(p.url, wsOptions{protocol: "mqtt", header: http.Header{"Sec-Websocket-Extensions": {"x-other"}}})
		if err != nil {
			t.Fatal(err)
		}
		ws.Close()
		if ext := resp.Header.Get("Sec-Websocket-Extensions"); ext != "" {
			t.Errorf("extension accepted: %q", ext)
		}
		// MQTT.js on Node offers compression by default.
		before := p.count("block 400")
		got, err := mqttJSTrip(t, trip{URL: p.url, Version: "5.0", ClientID: unique("agent"), Username: "alice", Password: password("alice"), Topic: "e2e/x", Count: 1, Deflate: true})
		if err != nil || got.Error == "" || p.count("block 400") != before+1 {
			t.Errorf("MQTT.js with its defaults: %v, %+v; want one more block 400", err, got)
		}
	})
}

// TestAgentSameID: two WebSockets of one correlation id make the proxy mix up
// answers, so the second is refused whichever event it is taken for.
func TestAgentSameID(t *testing.T) {
	eachProxy(t, func(t *testing.T, p *proxy) {
		c, id := admitted(t, p, as("alice", unique("agent"), v5))
		a, err := p.ask.ask("request_headers", map[string]any{
			"correlation_id": id, "method": "GET", "uri": "/mqtt",
			"headers":  map[string][]string{"connection": {"Upgrade"}, "upgrade": {"websocket"}, "sec-websocket-version": {"13"}, "sec-websocket-protocol": {"mqtt"}, "sec-websocket-key": {"oTiA8OiHTzy1PqU//Wboog=="}},
			"metadata": map[string]any{"correlation_id": id, "request_id": "x", "client_ip": "127.0.0.1", "client_port": 0, "protocol": "HTTP/1.1", "route_id": "mqtt-ws", "timestamp": "2026-11-24T11:34:50Z"},
		})
		if err != nil {
			t.Fatal(err)
		}
		if status, _ := a.blocked(); status == 0 || !strings.HasPrefix(a.verdict(), "close ") {
			t.Errorf("answered %s and %s, want block and close", a.Decision, a.Frame)
		}
		if got := c.publish(t, message{topic: "e2e/agent", qos: 1, id: 1}); got != 0 {
			t.Errorf("the first one's publish answered %#x", got)
		}
	})
}

// TestAgentSharedState: the frames of one WebSocket come over any connection
// of the proxy, and a gap in them closes.
func TestAgentSharedState(t *testing.T) {
	a, err := newV2Asker(shared.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer a.close()
	verdicts := func(id string, frames ...map[string]any) (all []string) {
		for _, f := range frames {
			got, err := a.ask("websocket_frame", f)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, got.verdict())
		}
		return all
	}
	connack := pkt(0x20, []byte{0, 0}, props())
	client := func(id string, index int, b []byte) map[string]any {
		return frameEvent(id, "198.51.100.7", frame{true, opBinary, b}, true, index)
	}
	server := func(id string, index int, b []byte) map[string]any {
		return frameEvent(id, "198.51.100.7", frame{true, opBinary, b}, false, index)
	}
	ping := []byte{0xC0, 0}
	bad := client("bad", 0, nil)
	bad["data"] = "not base64!"
	odd := client("odd", 0, nil)
	odd["opcode"] = "fancy"
	hello := func() []byte { return as("alice", unique("agent"), v5).bytes() }
	for _, c := range []struct {
		name   string
		frames []map[string]any
		want   []string
	}{
		{"in order", []map[string]any{client("a", 0, hello()), server("a", 0, connack), client("a", 1, ping), client("a", 2, ping)}, []string{"allow", "allow", "allow", "allow"}},
		{"a gap", []map[string]any{client("b", 0, hello()), server("b", 0, connack), client("b", 2, ping)}, []string{"allow", "allow", "close 1008"}},
		{"unknown, no CONNECT", []map[string]any{client("c", 4, ping)}, []string{"close 1008"}},
		{"unknown, from the server", []map[string]any{server("d", 0, connack)}, []string{"close 1008"}},
		{"not base64", []map[string]any{bad}, []string{"close 1008"}},
		{"unknown opcode", []map[string]any{odd}, []string{"close 1002"}},
	} {
		if got := verdicts(c.name, c.frames...); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// TestAgentGarbage: what is no protocol closes that connection alone.
func TestAgentGarbage(t *testing.T) {
	p := startProxy(t, shared, 2)
	live, _ := admitted(t, p, as("alice", unique("agent"), v311))
	for name, b := range map[string][]byte{
		"text":             []byte("hello, agent"),
		"length 0":         {0, 0, 0, 0, 1},
		"length 4 GiB":     {0xFF, 0xFF, 0xFF, 0xFF, 1, '{'},
		"v1, too long":     {0x7F, 0, 0, 0, '{'},
		"v1, not JSON":     append([]byte{0, 0, 0, 4}, "{{{{"...),
		"v2, not JSON":     append([]byte{0, 0, 0, 5, 1}, "{{{{"...),
		"v2, no handshake": append([]byte{0, 0, 0, 3, 0x15}, "{}"...),
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("unix", shared.socket)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(patience))
			if _, err := conn.Write(b); err != nil {
				t.Fatal(err)
			}
			// What it says before it closes is its affair.
			if _, err := io.Copy(io.Discard, conn); err != nil && !strings.Contains(err.Error(), "reset") {
				t.Errorf("not closed: %v", err)
			}
		})
	}
	// Unknown message types are skipped, Configure is answered.
	c, err := handshake(shared.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := writeMessage(c, []byte{0x7F}, map[string]any{"new": true}); err != nil {
		t.Fatal(err)
	}
	got, err := c.ask(msgConfigure, map[string]any{"correlation_id": "cfg", "config": nil, "config_version": nil})
	if err != nil {
		t.Fatal(err)
	}
	if string(got.Decision) != `"allow"` {
		t.Errorf("an empty Configure answered %s", got.Decision)
	}
	if got := live.publish(t, message{topic: "e2e/agent", qos: 1, id: 1}); got != 0 {
		t.Errorf("another's publish answered %#x", got)
	}
}

// TestAgentDeadline: an answer leaves within decision-timeout-ms, and the slow
// check that it did not wait for serves the next try.
func TestAgentDeadline(t *testing.T) {
	s := startFor(t, shared.broker, config{both: true, values: map[string]string{"agent": `{"decision-timeout-ms": 500}`}})
	// A password file whose one hash takes far longer than that.
	slow := slowHash(t, password("slow"), 15)
	text, err := json.Marshal(map[string]any{"users": map[string]any{"slow": map[string]any{"password_hash": slow, "groups": []string{"clients"}}}})
	if err != nil {
		t.Fatal(err)
	}
	s.proc.Stop()
	if err := replaceFile(s.dir+"/users.json", string(text)); err != nil {
		t.Fatal(err)
	}
	proc := run(t, program, "--socket", s.socket, "--config", s.dir+"/config.json")
	testkit.Eventually(t, "the socket", func() bool {
		c, err := handshake(s.socket)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	s.proc = proc
	p := startProxy(t, s, 2)
	p.giveUpAfter(2 * time.Second)
	// try sends CONNECT and returns what comes first, and the verdict about it.
	// On a machine that stands still an answer may be too late: then there is none.
	try := func(con connect) (ack packet, verdict string) {
		id := traceID()
		ws, err := dialWS(p.url, wsOptions{protocol: "mqtt", header: http.Header{"X-Trace-Id": {id}}})
		if err != nil {
			return packet{}, ""
		}
		defer ws.Close()
		c := wrap(ws, con.level)
		c.send(t, con.bytes())
		if ack, err = c.next(); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("neither answered nor ended")
		}
		if all := p.of(id); len(all) > 0 {
			verdict = all[0]
		}
		return ack, verdict
	}
	con := as("slow", unique("slow"), v5)
	within(t, 2*time.Second, "the answer before the check", func() time.Duration {
		wrong := con
		wrong.password = unique("wrong")
		started := time.Now()
		switch _, verdict := try(wrong); verdict {
		case "> close 1013":
			return time.Since(started)
		case "", "> close 1008": // too late, or after the check
			return time.Hour
		default:
			t.Fatalf("a wrong password: %s", verdict)
			return 0
		}
	})
	testkit.Eventually(t, "the cached check", func() bool {
		ack, _ := try(con)
		return ack.kind() == tConnack && ack.code() == 0
	})
}

// TestAgentTaken: a path with a live agent is left alone, a stale one taken.
func TestAgentTaken(t *testing.T) {
	second := run(t, program, "--socket", shared.socket)
	if code := second.Wait(t); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	c, err := handshake(shared.socket)
	if err != nil {
		t.Fatalf("the first one: %v", err)
	}
	c.Close()
}
