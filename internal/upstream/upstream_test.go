package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/netloop"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// answer is what a dial ended with.
type answer struct {
	conn netloop.Conn
	b    *Broker
}

// owner collects the answers of its dials.
type owner struct{ got chan answer }

func (o *owner) Dialled(conn netloop.Conn, b *Broker) { o.got <- answer{conn, b} }
func (o *owner) Connected(netloop.Conn, error)        {}
func (o *owner) Data(_ netloop.Conn, b []byte) []byte { return nil }
func (o *owner) Held(netloop.Conn, bool)              {}
func (o *owner) Timer(netloop.Conn)                   {}
func (o *owner) Closed(netloop.Conn, error)           {}
func (a answer) url() string {
	if a.b == nil {
		return ""
	}
	return a.b.Config().URL
}

// both runs a test over the engines of this system.
func both(t *testing.T, f func(t *testing.T, dial func(*Set, string) (answer, *Dial))) {
	t.Helper()
	for _, io := range []string{"auto", "goroutines"} {
		t.Run(io, func(t *testing.T) {
			e, err := netloop.New(netloop.Options{IO: io})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = e.Close() })
			nl, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			clients := make(chan netloop.Conn, 1)
			if _, err := e.Serve(nl, func(c netloop.Conn, _ netip.AddrPort) netloop.Handler {
				clients <- c
				return &owner{}
			}); err != nil {
				t.Fatal(err)
			}
			f(t, func(s *Set, id string) (answer, *Dial) {
				t.Helper()
				nc, err := net.Dial("tcp", nl.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = nc.Close() })
				c := testkit.Receive(t, "accept", clients)
				o := &owner{got: make(chan answer, 2)}
				dials := make(chan *Dial, 1)
				c.Post(func() { dials <- s.Dial(c, id, o) })
				d := testkit.Receive(t, "Dial", dials)
				return testkit.Receive(t, "the answer", o.got), d
			})
		})
	}
}

// listen is a broker that accepts.
func listen(t *testing.T) string {
	t.Helper()
	nl, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nl.Close() })
	return nl.Addr().String()
}

func newSet(t *testing.T, balance string, addrs ...string) *Set {
	t.Helper()
	g := &config.Gateway{Balance: balance, ConnectTimeoutMS: int(testkit.Patience.Milliseconds())}
	for _, a := range addrs {
		g.Upstreams = append(g.Upstreams, config.Upstream{URL: "mqtt://" + a})
	}
	s, err := New(g, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func TestFirst(t *testing.T) {
	both(t, func(t *testing.T, dial func(*Set, string) (answer, *Dial)) {
		a, b := listen(t), listen(t)
		s := newSet(t, "first", a, b)
		for range 3 {
			if got, _ := dial(s, "c"); got.url() != "mqtt://"+a {
				t.Errorf("got %q, want the first", got.url())
			}
		}
		if n := s.Brokers()[0].Open(); n != 3 {
			t.Errorf("%d connections are counted, want 3", n)
		}
	})
}

func TestFailOver(t *testing.T) {
	both(t, func(t *testing.T, dial func(*Set, string) (answer, *Dial)) {
		down, up := testkit.Refuses(t), listen(t)
		s := newSet(t, "first", down, up)
		began := time.Now()
		for range 3 {
			if got, _ := dial(s, "c"); got.url() != "mqtt://"+up {
				t.Errorf("got %q, want the second", got.url())
			}
		}
		again := int64(time.Since(began) / time.Second) // how often it may be tried again
		if b, fails := s.Brokers()[0], s.Brokers()[0].fails.Load(); !b.Down(1) || fails < 1 || fails > 1+again || b.Open() != 0 {
			t.Errorf("down %v after %d failures, %d open; want down after one", b.Down(1), fails, b.Open())
		}
	})
}

func TestNoBroker(t *testing.T) {
	both(t, func(t *testing.T, dial func(*Set, string) (answer, *Dial)) {
		s := newSet(t, "first", testkit.Refuses(t), testkit.Refuses(t))
		for i := range 2 { // marked down, they are tried all the same
			got, d := dial(s, "c")
			if got.conn != nil || got.b != nil || d.Err() == nil {
				t.Errorf("got %+v, %v", got, d.Err())
			}
			if n := s.Brokers()[1].fails.Load(); n != int64(i+1) {
				t.Errorf("the second was tried %d times, want %d", n, i+1)
			}
		}
	})
}

func TestMaxConnections(t *testing.T) {
	both(t, func(t *testing.T, dial func(*Set, string) (answer, *Dial)) {
		a, b := listen(t), listen(t)
		s := newSet(t, "first", a, b)
		s.Brokers()[0].cfg.MaxConnections = 1
		s.Brokers()[1].cfg.MaxConnections = 1
		first, _ := dial(s, "c")
		second, _ := dial(s, "c")
		third, d := dial(s, "c")
		if first.url() != "mqtt://"+a || second.url() != "mqtt://"+b || third.b != nil || d.Err() == nil {
			t.Errorf("got %q, %q, %q (%v)", first.url(), second.url(), third.url(), d.Err())
		}
		first.b.Release()
		if got, _ := dial(s, "c"); got.url() != "mqtt://"+a {
			t.Errorf("after a release: got %q, want the first", got.url())
		}
	})
}

func TestNames(t *testing.T) {
	both(t, func(t *testing.T, dial func(*Set, string) (answer, *Dial)) {
		_, port, _ := net.SplitHostPort(listen(t))
		s := newSet(t, "first", "broker.example:"+port)
		asked := 0
		s.lookup = func(_ context.Context, _, host string) ([]netip.Addr, error) {
			if asked++; host != "broker.example" {
				t.Errorf("looked up %q", host)
			}
			return []netip.Addr{netip.MustParseAddr("127.0.0.77"), netip.MustParseAddr("127.0.0.1")}, nil
		}
		for range 2 { // the first address refuses, the second accepts
			if got, _ := dial(s, "c"); got.b == nil {
				t.Error("not dialled")
			}
		}
		if asked != 1 {
			t.Errorf("%d look-ups, want 1", asked)
		}
		s = newSet(t, "first", "broker.example:"+port)
		s.lookup = func(context.Context, string, string) ([]netip.Addr, error) { return nil, errors.New("no such name") }
		if got, d := dial(s, "c"); got.b != nil || d.Err() == nil || !s.Brokers()[0].Down(1) {
			t.Errorf("got %+v, %v", got, d.Err())
		}
	})
}

// A dial that is cancelled has no answer and leaves nothing behind.
func TestCancel(t *testing.T) {
	e, err := netloop.New(netloop.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	nl, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := newSet(t, "first", "broker.example:1883")
	looking, go1 := make(chan struct{}), make(chan struct{})
	s.lookup = func(context.Context, string, string) ([]netip.Addr, error) {
		close(looking)
		<-go1
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
	}
	o := &owner{got: make(chan answer, 1)}
	dials := make(chan *Dial, 1)
	conns := make(chan netloop.Conn, 1)
	if _, err := e.Serve(nl, func(c netloop.Conn, _ netip.AddrPort) netloop.Handler {
		dials <- s.Dial(c, "c", o)
		conns <- c
		return o
	}); err != nil {
		t.Fatal(err)
	}
	nc, err := net.Dial("tcp", nl.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	d, c := testkit.Receive(t, "Dial", dials), testkit.Receive(t, "the client", conns)
	testkit.Receive(t, "the look-up", looking)
	done := make(chan struct{})
	c.Post(func() { d.Cancel(); d.Cancel(); close(done) })
	testkit.Receive(t, "Cancel", done)
	close(go1)
	s.Close()
	if n := s.Brokers()[0].Open(); n != 0 || len(o.got) != 0 {
		t.Errorf("%d connections and %d answers are left", n, len(o.got))
	}
}

// An attempt that gets no answer ends after connect-timeout-ms, and the next
// broker is tried. Nobody accepts at the first: its backlog is full.
func TestTimeout(t *testing.T) {
	up := listen(t)
	s := newSet(t, "first", "127.0.0.1:1", up)
	s.timeout = 30 * time.Millisecond
	c := &fakeConn{now: 1}
	o := &owner{got: make(chan answer, 1)}
	d := s.Dial(c, "c", o)
	first := c.dialled[0]
	if first.timer != 1+int64(s.timeout) {
		t.Errorf("the timer is set to %d, want %d", first.timer, 1+int64(s.timeout))
	}
	c.now += int64(s.timeout)
	d.Timer(first)
	if !first.closed || !s.Brokers()[0].Down(c.now) {
		t.Errorf("closed %v, down %v", first.closed, s.Brokers()[0].Down(c.now))
	}
	second := c.dialled[1]
	d.Connected(second, nil)
	if got := testkit.Receive(t, "the answer", o.got); got.conn != second || got.url() != "mqtt://"+up || second.handler != o || second.timer != 0 {
		t.Errorf("got %+v", got)
	}
}

// fakeConn is a client whose dials stay on their way.
type fakeConn struct {
	netloop.Conn
	now     int64
	timer   int64
	closed  bool
	handler netloop.Handler
	dialled []*fakeConn
}

func (c *fakeConn) Now() int64               { return c.now }
func (c *fakeConn) SetTimer(at int64)        { c.timer = at }
func (c *fakeConn) Close()                   { c.closed = true }
func (c *fakeConn) Handle(h netloop.Handler) { c.handler = h }
func (c *fakeConn) Dial(netip.AddrPort, netloop.Handler) (netloop.Conn, bool, error) {
	p := &fakeConn{now: c.now}
	c.dialled = append(c.dialled, p)
	return p, false, nil
}

func TestRoundRobin(t *testing.T) {
	s := newSet(t, "round-robin", "a:1", "b:1", "c:1")
	var got []string
	for range 6 {
		got = append(got, s.order("x", 1)[0].host)
	}
	if strings.Join(got, "") != "abcabc" {
		t.Errorf("got %v", got)
	}
	s.Brokers()[1].failed(1, errTimeout)
	for range 6 {
		if o := s.order("x", 2); len(o) != 2 || slices.Contains(o, s.Brokers()[1]) {
			t.Fatalf("a broker that is down is tried")
		}
	}
}

// The hash spreads clients evenly, gives a client the same broker each time,
// and moves only the clients of a broker that goes.
func TestClientIDHash(t *testing.T) {
	all := newSet(t, "client-id-hash", "a:1", "b:1", "c:1", "d:1")
	less := newSet(t, "client-id-hash", "d:1", "a:1", "c:1")
	count := map[string]int{}
	const n = 4000
	for i := range n {
		id := fmt.Sprintf("device-%d", i)
		o := all.order(id, 1)
		count[o[0].host]++
		if again := all.order(id, 1); !slices.Equal(o, again) {
			t.Fatalf("%s: two orders", id)
		}
		without := slices.DeleteFunc(o, func(b *Broker) bool { return b.host == "b" })
		for j, b := range less.order(id, 1) {
			if b.host != without[j].host {
				t.Fatalf("%s: without b, %s comes at %d, want %s", id, b.host, j, without[j].host)
			}
		}
	}
	for host, got := range count {
		if got < n/4*8/10 || got > n/4*12/10 {
			t.Errorf("%s gets %d of %d", host, got, n)
		}
	}
}

func TestBackOff(t *testing.T) {
	b := newSet(t, "first", "a:1").Brokers()[0]
	now := int64(1)
	for i, want := range []time.Duration{1, 2, 4, 8, 16, 30, 30, 30} {
		b.failed(now, errTimeout)
		end := now + int64(want*time.Second)
		if !b.Down(end-1) || b.Down(end) {
			t.Errorf("failure %d: not down for %v", i+1, want*time.Second)
		}
		now = end
	}
	if b.worked(); b.Down(now - 1) {
		t.Error("down after a dial that worked")
	}
	b.failed(now, errTimeout)
	if b.Down(now + int64(time.Second)) {
		t.Error("a success does not end the doubling")
	}
}

func TestRefusedUpstreams(t *testing.T) {
	for _, u := range []config.Upstream{
		{URL: "mqtts://a:1"}, {URL: "ws://a:1"}, {URL: "a:1"}, {URL: ""}, {URL: "mqtt://a:1", ProxyProtocol: "v1"},
	} {
		if _, err := New(&config.Gateway{Upstreams: []config.Upstream{u}}, nil); err == nil {
			t.Errorf("%+v: accepted", u)
		}
	}
}
