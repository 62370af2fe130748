package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	pahopackets "github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	pahov3 "github.com/eclipse/paho.mqtt.golang"
	mochi "github.com/mochi-mqtt/server/v2"
	mochiauth "github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
	"golang.org/x/crypto/bcrypt"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// devRules let everybody use dev/#, and nobody anything else.
const devRules = `"acl": {"rules": [{"name": "dev", "topics": ["dev/#"], "decision": "allow"}]}`

// newBroker runs a broker that allows everything; seen gets every message that
// reaches it.
func newBroker(t testing.TB) (addr string, seen chan packets.Packet) {
	t.Helper()
	b := mochi.New(&mochi.Options{Logger: slog.New(slog.DiscardHandler), InlineClient: true})
	if err := b.AddHook(new(mochiauth.AllowHook), nil); err != nil {
		t.Fatal(err)
	}
	nl, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.AddListener(listeners.NewNet("test", nl)); err != nil {
		t.Fatal(err)
	}
	seen = make(chan packets.Packet, 1000)
	if err := b.Serve(); err != nil {
		t.Fatal(err)
	}
	if err := b.Subscribe("#", 1, func(_ *mochi.Client, _ packets.Subscription, p packets.Packet) {
		if !strings.HasPrefix(p.TopicName, "$") { // it publishes figures of its own, each second
			seen <- p
		}
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return nl.Addr().String(), seen
}

// serveBroker is a gateway in front of a broker of its own.
func serveBroker(t *testing.T, transport, text string) (*rig, chan packets.Packet) {
	t.Helper()
	addr, seen := newBroker(t)
	cfg := parse(t, text)
	cfg.Gateway.IO, cfg.Gateway.Upstreams = transport, brokers(addr)
	return start(t, cfg), seen
}

// dial5 opens a transport for a 5.0 client, which writes a packet in several
// calls, from several goroutines.
func (r *rig) dial5(web bool) net.Conn {
	r.t.Helper()
	if web {
		return pahopackets.NewThreadSafeConn(r.dialWS())
	}
	return pahopackets.NewThreadSafeConn(r.dialTCP())
}

// connect5 connects a 5.0 client.
func (r *rig) connect5(web bool, cp *paho.Connect, got chan *paho.Publish) (*paho.Client, *paho.Connack, error) {
	r.t.Helper()
	c := paho.NewClient(paho.ClientConfig{
		Conn: r.dial5(web), PacketTimeout: testkit.Patience,
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
			if got != nil {
				got <- p.Packet
			}
			return true, nil
		}},
	})
	cp.KeepAlive, cp.CleanStart = 30, true
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	ack, err := c.Connect(ctx, cp)
	return c, ack, err
}

// connect3 connects a 3.1.1 client.
func (r *rig) connect3(web bool, id string, change func(*pahov3.ClientOptions)) (pahov3.Client, error) {
	url := "tcp://" + r.tcp
	if web {
		url = r.ws
	}
	o := pahov3.NewClientOptions().AddBroker(url).SetClientID(id).SetProtocolVersion(4).SetAutoReconnect(false).
		SetConnectRetry(false).SetConnectTimeout(testkit.Patience)
	if change != nil {
		change(o)
	}
	c := pahov3.NewClient(o)
	tok := c.Connect()
	tok.WaitTimeout(testkit.Patience)
	return c, tok.Error()
}

func TestRoundTrip5(t *testing.T) {
	overAll(t, func(t *testing.T, transport string) {
		r, _ := serveBroker(t, transport, `{`+devRules+`}`)
		for _, web := range []bool{false, true} {
			got := make(chan *paho.Publish, 100)
			c, _, err := r.connect5(web, &paho.Connect{ClientID: fmt.Sprint("c", web)}, got)
			if err != nil {
				t.Fatal(err)
			}
			ctx := t.Context()
			if _, err := c.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "dev/+/x", QoS: 2}}}); err != nil {
				t.Fatal(err)
			}
			for qos := range byte(3) {
				for _, n := range []int{0, 1, 100, 70_000, 300_000} {
					payload := bytes.Repeat([]byte{'a' + qos}, n)
					if _, err := c.Publish(ctx, &paho.Publish{Topic: "dev/1/x", QoS: qos, Payload: payload}); err != nil {
						t.Fatalf("web %v, QoS %d, %d bytes: %v", web, qos, n, err)
					}
					p := testkit.Receive(t, "the message", got)
					if p.Topic != "dev/1/x" || p.QoS != qos || !bytes.Equal(p.Payload, payload) {
						t.Fatalf("web %v: got %s QoS %d, %d bytes; want QoS %d, %d bytes", web, p.Topic, p.QoS, len(p.Payload), qos, n)
					}
				}
			}
			if err := c.Disconnect(&paho.Disconnect{}); err != nil {
				t.Error(err)
			}
			<-c.Done()
		}
	})
}

func TestRoundTrip3(t *testing.T) {
	overAll(t, func(t *testing.T, transport string) {
		r, _ := serveBroker(t, transport, `{`+devRules+`}`)
		for _, web := range []bool{false, true} {
			c, err := r.connect3(web, fmt.Sprint("c", web), nil)
			if err != nil {
				t.Fatal(err)
			}
			got := make(chan pahov3.Message, 100)
			if tok := c.Subscribe("dev/+/x", 2, func(_ pahov3.Client, m pahov3.Message) { got <- m }); !tok.WaitTimeout(testkit.Patience) || tok.Error() != nil {
				t.Fatal(tok.Error())
			}
			for qos := range byte(3) {
				for _, n := range []int{0, 1, 70_000} {
					payload := bytes.Repeat([]byte{'a' + qos}, n)
					if tok := c.Publish("dev/1/x", qos, false, payload); !tok.WaitTimeout(testkit.Patience) || tok.Error() != nil {
						t.Fatalf("QoS %d, %d bytes: %v", qos, n, tok.Error())
					}
					if m := testkit.Receive(t, "the message", got); m.Qos() != qos || !bytes.Equal(m.Payload(), payload) {
						t.Fatalf("got QoS %d, %d bytes; want QoS %d, %d bytes", m.Qos(), len(m.Payload()), qos, n)
					}
				}
			}
			c.Disconnect(100)
		}
	})
}

// What is denied is answered, and does not reach the broker.
func TestDenied5(t *testing.T) {
	overAll(t, func(t *testing.T, transport string) {
		r, seen := serveBroker(t, transport, `{`+devRules+`}`)
		id := r.g.ids.Load() + 1
		c, _, err := r.connect5(false, &paho.Connect{ClientID: "c"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx := t.Context()
		for qos, want := range map[byte]byte{1: 0x87, 2: 0x87} {
			resp, err := c.Publish(ctx, &paho.Publish{Topic: "secret", QoS: qos, Payload: []byte("x")})
			if resp == nil || resp.ReasonCode != want { // with or without an error
				t.Errorf("QoS %d: got %+v, %v; want 0x%02X", qos, resp, err, want)
			}
		}
		ack, err := c.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{
			{Topic: "secret/#", QoS: 1}, {Topic: "dev/a", QoS: 1}, {Topic: "other", QoS: 0},
		}})
		if ack == nil || !bytes.Equal(ack.Reasons, []byte{0x87, 1, 0x87}) {
			t.Errorf("subscribe: got %+v, %v; want 87 01 87", ack, err)
		}
		if _, err := c.Publish(ctx, &paho.Publish{Topic: "dev/a", QoS: 1, Payload: []byte("fine")}); err != nil {
			t.Fatal(err)
		}
		if p := testkit.Receive(t, "the allowed message", seen); p.TopicName != "dev/a" {
			t.Errorf("the broker saw %q", p.TopicName)
		}
		_ = c.Disconnect(&paho.Disconnect{})
		<-c.Done()
		want := []string{"mqtt,connect,success", "mqtt,blocked,acl-denied", "mqtt,blocked,acl-denied", "mqtt,blocked,acl-denied", "mqtt,disconnect"}
		if got := r.tags(id, len(want)); fmt.Sprint(got) != fmt.Sprint(want) && len(got) < len(want) {
			t.Errorf("audited %q, want %q", got, want)
		}
	})
}

func TestDenied3(t *testing.T) {
	overAll(t, func(t *testing.T, transport string) {
		r, seen := serveBroker(t, transport, `{`+devRules+`}`)
		c, err := r.connect3(false, "c", nil)
		if err != nil {
			t.Fatal(err)
		}
		if tok := c.Publish("secret", 1, false, "x"); !tok.WaitTimeout(testkit.Patience) || tok.Error() != nil {
			t.Errorf("a denied QoS 1 message of 3.1.1 is acknowledged and lost: %v", tok.Error())
		}
		tok := c.SubscribeMultiple(map[string]byte{"dev/a": 1, "secret": 1}, nil)
		if !tok.WaitTimeout(testkit.Patience) {
			t.Fatal("no SUBACK")
		}
		if got := tok.(*pahov3.SubscribeToken).Result(); got["dev/a"] != 1 || got["secret"] != 0x80 {
			t.Errorf("granted %v", got)
		}
		if tok := c.Publish("dev/a", 1, false, "fine"); !tok.WaitTimeout(testkit.Patience) || tok.Error() != nil {
			t.Fatal(tok.Error())
		}
		if p := testkit.Receive(t, "the allowed message", seen); p.TopicName != "dev/a" {
			t.Errorf("the broker saw %q", p.TopicName)
		}
		c.Disconnect(100)
	})
}

// refusedWith connects with both versions and compares the codes.
func refusedWith(t *testing.T, r *rig, code5 byte, code3 byte, change5 func(*paho.Connect), change3 func(*pahov3.ClientOptions)) {
	t.Helper()
	for _, web := range []bool{false, true} {
		cp := &paho.Connect{ClientID: "five"}
		if change5 != nil {
			change5(cp)
		}
		_, ack, err := r.connect5(web, cp, nil)
		if err == nil || ack == nil || ack.ReasonCode != code5 {
			t.Errorf("5.0, web %v: got %+v, %v; want 0x%02X", web, ack, err, code5)
		}
		_, err = r.connect3(web, "three", change3)
		if want := errorOf3(code3); err == nil || err.Error() != want {
			t.Errorf("3.1.1, web %v: got %v, want %s", web, err, want)
		}
	}
}

// errorOf3 is how the 3.1.1 client puts a return code.
func errorOf3(code byte) string {
	return map[byte]string{
		2: "identifier rejected", 3: "server Unavailable", 4: "bad user name or password", 5: "not Authorized",
	}[code]
}

func TestForbiddenWill(t *testing.T) {
	overAll(t, func(t *testing.T, transport string) {
		r, _ := serveBroker(t, transport, `{`+devRules+`}`)
		refusedWith(t, r, 0x87, 5,
			func(c *paho.Connect) { c.WillMessage = &paho.WillMessage{Topic: "secret", Payload: []byte("x")} },
			func(o *pahov3.ClientOptions) { o.SetWill("secret", "x", 0, false) })
	})
}

// An id that we would assign is not one that a rule for client ids asks for.
func TestEmptyClientID(t *testing.T) {
	for _, rule := range []string{`"client-id-pattern": ".*"`, `"min-client-id-length": 1`} {
		overAll(t, func(t *testing.T, transport string) {
			r, _ := serveBroker(t, transport, `{`+devRules+`, "auth": {`+rule+`}}`)
			refusedWith(t, r, 0x85, 2,
				func(c *paho.Connect) { c.ClientID = "" },
				func(o *pahov3.ClientOptions) { o.SetClientID("") })
			testkit.Eventually(t, "four refusals by empty-client-id", func() bool {
				r.mu.Lock()
				defer r.mu.Unlock()
				n := 0
				for _, e := range r.events {
					if e.Event == "mqtt,blocked,client-id-invalid" && e.Rule == "empty-client-id" {
						n++
					}
				}
				return n == 4
			})
		})
	}
}

func TestBrokerDown(t *testing.T) {
	overAll(t, func(t *testing.T, transport string) {
		cfg := parse(t, `{`+devRules+`}`)
		cfg.Gateway.IO, cfg.Gateway.Upstreams = transport, brokers(testkit.Refuses(t), testkit.Refuses(t))
		refusedWith(t, start(t, cfg), 0x88, 3, nil, nil)
	})
}

func TestFailOver(t *testing.T) {
	overAll(t, func(t *testing.T, transport string) {
		addr, _ := newBroker(t)
		cfg := parse(t, `{`+devRules+`}`)
		cfg.Gateway.IO, cfg.Gateway.Upstreams = transport, brokers(testkit.Refuses(t), addr)
		r := start(t, cfg)
		began := time.Now()
		for range 3 {
			c, _, err := r.connect5(false, &paho.Connect{ClientID: "c"}, nil)
			if err != nil {
				t.Fatal(err)
			}
			_ = c.Disconnect(&paho.Disconnect{})
			<-c.Done()
		}
		if b := r.g.Brokers()[0]; !b.Down(1) {
			t.Error("the broker that cannot be dialled is not marked down")
		}
		again := uint64(time.Since(began) / time.Second) // how often it may be tried again
		if n := r.g.Stats().Dialled; n > 4+again {
			t.Errorf("%d dials for 3 clients: the broker that is down is tried again and again", n)
		}
	})
}

// The CONNECT of a client that passes a password takes time to verify; nothing
// else waits for it.
func TestPasswords(t *testing.T) {
	overAll(t, func(t *testing.T, transport string) {
		users := filepath.Join(t.TempDir(), "users.json")
		hash, err := bcrypt.GenerateFromPassword([]byte("right"), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		write := func(list string) {
			if err := os.WriteFile(users, []byte(`{"users": {`+list+`}}`), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write(`"ann": {"password_hash": "` + string(hash) + `"}`)
		r, _ := serveBroker(t, transport, `{`+devRules+`, "auth": {"enabled": true, "failure-lockout": false,
			"providers": [{"type": "file", "path": "`+users+`", "hot-reload": false}]}}`)
		refusedWith(t, r, 0x86, 4,
			func(c *paho.Connect) {
				c.Username, c.UsernameFlag, c.Password, c.PasswordFlag = "ann", true, []byte("wrong"), true
			},
			func(o *pahov3.ClientOptions) { o.SetUsername("ann").SetPassword("wrong") })
		refusedWith(t, r, 0x87, 5, nil, nil) // anonymous

		cp := &paho.Connect{ClientID: "c", Username: "ann", UsernameFlag: true, Password: []byte("right"), PasswordFlag: true}
		c, _, err := r.connect5(false, cp, nil)
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() { <-c.Done(); close(ended) }()
		// A client whose user is gone is ended when identities are rechecked.
		write(`"bob": {"password_hash": "` + string(hash) + `"}`)
		cfg := r.g.config()
		engine, err := policy.Compile(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.gate.Reload(cfg, engine); err != nil {
			t.Fatal(err)
		}
		r.g.Recheck()
		testkit.Receive(t, "the revoked client is ended", ended)
	})
}

func TestMaxConnections(t *testing.T) {
	overAll(t, func(t *testing.T, transport string) {
		r, _ := serveBroker(t, transport, `{`+devRules+`, "general": {"max-connections": 1}}`)
		c, _, err := r.connect5(false, &paho.Connect{ClientID: "first"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		refusedWith(t, r, 0x9F, 3, nil, nil)
		_ = c.Disconnect(&paho.Disconnect{})
		<-c.Done()
		testkit.Eventually(t, "the place is free", func() bool { return r.g.Stats().Connected == 0 })
		if c, _, err = r.connect5(false, &paho.Connect{ClientID: "next"}, nil); err != nil {
			t.Fatal(err)
		}
		_ = c.Disconnect(&paho.Disconnect{})
		<-c.Done()
	})
}

// A connection too many that has not said CONNECT is closed unread.
func TestPending(t *testing.T) {
	overAll(t, func(t *testing.T, transport string) {
		t.Run("pending-per-ip", func(t *testing.T) { onePendingTooMany(t, transport, "pending-per-ip") })
		t.Run("pending-connections", func(t *testing.T) { onePendingTooMany(t, transport, "pending-connections") })
	})
}

func onePendingTooMany(t *testing.T, transport, limit string) {
	r, _ := serveBroker(t, transport, `{`+devRules+`, "general": {"limits": {"`+limit+`": 2}}}`)
	a, b := r.dialTCP(), r.dialTCP()
	testkit.Eventually(t, "both are counted", func() bool { return r.g.Stats().Pending == 2 })
	c := r.dialTCP()
	expectEnd(t, "the third", c)
	if s := r.g.Stats(); s.RefusedPending != 1 {
		t.Errorf("counted %d refusals, want 1", s.RefusedPending)
	}
	for _, c := range []io.Closer{a, b} {
		_ = c.Close()
	}
	testkit.Eventually(t, "their places are free", func() bool { return r.g.Stats().Pending == 0 })
	if c, _, err := r.connect5(false, &paho.Connect{ClientID: "c"}, nil); err != nil {
		t.Error(err)
	} else {
		_ = c.Disconnect(&paho.Disconnect{})
		<-c.Done()
	}
}

// Drain tells clients, at the rate it is given.
func TestDrain(t *testing.T) {
	t.Parallel()
	overAll(t, func(t *testing.T, transport string) {
		r, _ := serveBroker(t, transport, `{`+devRules+`}`)
		const n = 20
		codes := make(chan byte, n)
		for i := range n {
			conn := r.dial5(i%2 == 0)
			c := paho.NewClient(paho.ClientConfig{
				Conn: conn, PacketTimeout: testkit.Patience,
				OnServerDisconnect: func(d *paho.Disconnect) { codes <- d.ReasonCode },
			})
			if _, err := c.Connect(t.Context(), &paho.Connect{ClientID: fmt.Sprint("c", i), CleanStart: true}); err != nil {
				t.Fatal(err)
			}
		}
		idle := r.dialTCP()
		ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
		defer cancel()
		began := time.Now()
		done := make(chan error, 2)
		for range 2 { // the second call waits for the first
			go func() { done <- r.g.Stop(ctx, 100) }()
		}
		for range n {
			if code := testkit.Receive(t, "DISCONNECT", codes); code != 0x8B {
				t.Errorf("got 0x%02X, want 0x8B", code)
			}
		}
		if d := time.Since(began); d < 150*time.Millisecond {
			t.Errorf("%d clients were ended within %v at 100 a second", n, d)
		}
		expectEnd(t, "one that never said CONNECT", idle)
		for range 2 {
			if err := testkit.Receive(t, "Stop", done); err != nil {
				t.Error(err)
			}
		}
		if _, err := net.Dial("tcp", r.tcp); err == nil {
			t.Error("the listener still accepts")
		}
	})
}

// A silent client is ended after one and a half keep-alives, one that says
// nothing at all after the time to connect.
func TestTimeouts(t *testing.T) {
	t.Parallel()
	overAll(t, func(t *testing.T, transport string) {
		r, s := serveScript(t, transport, `{`+devRules+`}`) // a real broker looks at the time as well
		began := time.Now()
		silent := r.dialTCP()
		send(t, silent, testkit.Connect(mqtt.V311, "c", testkit.KeepAlive(1)))
		_, _ = s.accept().Write([]byte{0x20, 2, 0, 0})
		got, err := io.ReadAll(silent) // without a CONNACK if the machine stands still
		if took := time.Since(began); took < 1500*time.Millisecond || errors.Is(err, os.ErrDeadlineExceeded) ||
			len(got) > 0 && !bytes.Equal(got, []byte{0x20, 2, 0, 0}) {
			t.Errorf("the silent client got % x, %v after %v", got, err, took)
		}

		r, _ = serveBroker(t, transport, `{`+devRules+`, "general": {"connect-timeout-secs": 1}}`)
		began = time.Now()
		expectEnd(t, "the mute one", r.dialTCP())
		if took := time.Since(began); took < time.Second {
			t.Errorf("the mute one is ended after %v", took)
		}
		testkit.Awake(t, func() error { // it upgrades within a second
			web, err := r.tryWS()
			if err != nil {
				return err
			}
			_, _, err = web.ws.Read(t.Context())
			if got := websocket.CloseStatus(err); got != websocket.StatusPolicyViolation {
				return fmt.Errorf("the mute WebSocket is closed with %d (%w), want 1008", got, err)
			}
			return nil
		})
	})
}

func TestRefusedConfigurations(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*config.Gateway)
	}{
		{"no listener", func(g *config.Gateway) { g.Listeners = nil }},
		{"no upstream", func(g *config.Gateway) { g.Upstreams = nil }},
		{"tls", func(g *config.Gateway) { g.Listeners[0].Address = "tls://127.0.0.1:0" }},
		{"wss", func(g *config.Gateway) { g.Listeners[0].Address = "wss://127.0.0.1:0" }},
		{"PROXY in", func(g *config.Gateway) { g.Listeners[0].ProxyProtocol = "require" }},
		{"PROXY out", func(g *config.Gateway) { g.Upstreams[0].ProxyProtocol = "v2" }},
		{"mqtts", func(g *config.Gateway) { g.Upstreams[0].URL = "mqtts://127.0.0.1:1" }},
	} {
		cfg := config.Default()
		cfg.Gateway.Listeners = []config.Listener{{Address: "tcp://127.0.0.1:0"}}
		cfg.Gateway.Upstreams = brokers("127.0.0.1:1")
		if _, err := New(Options{Config: cfg}); err != nil {
			t.Fatalf("before %s: %v", c.name, err)
		}
		c.change(&cfg.Gateway)
		if _, err := New(Options{Config: cfg}); err == nil {
			t.Errorf("%s: accepted", c.name)
		}
	}
}

func TestStartFails(t *testing.T) {
	nl, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer nl.Close()
	cfg := config.Default()
	cfg.Gateway.Listeners = []config.Listener{{Address: "tcp://127.0.0.1:0"}, {Address: "tcp://" + nl.Addr().String()}}
	cfg.Gateway.Upstreams = brokers("127.0.0.1:1")
	g, err := New(Options{Config: cfg})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Start(); err == nil {
		t.Error("a taken address was listened on")
	}
	if err := g.Stop(t.Context(), 0); err != nil {
		t.Error(err)
	}
}

func TestCensusByPlace(t *testing.T) {
	g := &config.General{BlockMode: true, MaxConnectionsPerIP: 1, Limits: config.Limits{PendingPerIP: 1, PendingConnections: 3}}
	c := newCensus()
	addr := netip.MustParseAddr
	arrives := func(a string, want policy.RuleRef) {
		t.Helper()
		if got := c.arrive(addr(a), false, g); got != want {
			t.Errorf("%s arrives: got rule %d, want %d", a, got, want)
		}
	}
	arrives("192.0.2.1", policy.RuleNone)
	arrives("::ffff:192.0.2.1", policy.RulePendingPerIP)
	arrives("2001:db8::1", policy.RuleNone)
	arrives("2001:db8::ffff:1", policy.RulePendingPerIP) // the same /64
	arrives("2001:db8:0:1::1", policy.RuleNone)
	arrives("192.0.2.9", policy.RulePendingConnections)
	connects := func(a string, want policy.RuleRef) {
		t.Helper()
		if got := c.connect(addr(a), g); got != want {
			t.Errorf("%s connects: got rule %d, want %d", a, got, want)
		}
	}
	connects("192.0.2.1", policy.RuleNone)
	arrives("192.0.2.1", policy.RuleNone)
	connects("192.0.2.1", policy.RuleMaxConnectionsPerIP)
	connects("2001:db8::1", policy.RuleNone)
	for a, connected := range map[string]bool{"2001:db8::2": true, "2001:db8:0:1::1": false} {
		c.leave(addr(a), connected)
	}
	c.leave(addr("192.0.2.1"), true)
	c.leave(addr("192.0.2.1"), true)
	if p, n := c.count(); p != 0 || n != 0 || len(c.byPlace) != 0 {
		t.Errorf("left %d, %d, %d places", p, n, len(c.byPlace))
	}
	g.BlockMode = false
	for range 5 {
		arrives("192.0.2.1", policy.RuleNone)
		connects("192.0.2.1", policy.RuleNone)
	}
}
