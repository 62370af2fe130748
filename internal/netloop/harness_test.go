package netloop

import (
	"bytes"
	"encoding/binary"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// both runs a test over every engine of this system.
func both(t *testing.T, f func(t *testing.T, o Options)) {
	t.Helper()
	run := func(name string, o Options) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, o)
		})
	}
	if haveLoops {
		run("loops", Options{IO: "loops", Loops: 2, nearby: -1})
		run("one loop", Options{IO: "loops", Loops: 1})
	}
	run("goroutines", Options{IO: "goroutines"})
}

// start runs an engine that accepts with opened, until the test ends. change
// alters it before.
func start(t testing.TB, o Options, opened Opened, change ...func(Engine)) (Engine, string) {
	t.Helper()
	if testing.Verbose() {
		o.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	e, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range change {
		f(e)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		if s := e.Stats(); s.Open != 0 || s.BufferBytes != 0 {
			t.Errorf("after Close: %d sockets and %d bytes left", s.Open, s.BufferBytes)
		}
		if left := e.(interface{ left() [4]int64 }).left(); left != [4]int64{} {
			t.Errorf("after Close: charged are %v", left)
		}
	})
	nl, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := nl.Addr().String()
	if _, err := e.Serve(nl, opened); err != nil {
		t.Fatal(err)
	}
	return e, addr
}

func dial(t testing.TB, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(testkit.Patience)); err != nil {
		t.Fatal(err)
	}
	return c.(*net.TCPConn)
}

func write(t testing.TB, c net.Conn, b []byte) {
	t.Helper()
	if _, err := c.Write(b); err != nil {
		t.Fatalf("write %d bytes: %v", len(b), err)
	}
}

func read(t testing.TB, c net.Conn, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(c, b); err != nil {
		t.Fatalf("read %d bytes: %v", n, err)
	}
	return b
}

func random(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(n)})
	_, _ = r.Read(b)
	return b
}

// handler is a Handler of functions; nil ones do nothing.
type handler struct {
	connected func(Conn, error)
	data      func(Conn, []byte) []byte
	timer     func(Conn)
	closed    func(Conn, error)
	held      func(Conn, bool)
}

func (h *handler) Held(c Conn, stopped bool) {
	if h.held != nil {
		h.held(c, stopped)
	}
}

func (h *handler) Connected(c Conn, err error) {
	if h.connected != nil {
		h.connected(c, err)
	}
}

func (h *handler) Data(c Conn, b []byte) []byte {
	if h.data != nil {
		return h.data(c, b)
	}
	return nil
}

func (h *handler) Timer(c Conn) {
	if h.timer != nil {
		h.timer(c)
	}
}

func (h *handler) Closed(c Conn, err error) {
	if h.closed != nil {
		h.closed(c, err)
	}
}

// frame is a message of the tests' protocol: four bytes of length, then that
// many bytes.
func frame(b []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)
}

// echo answers every whole frame with itself.
func echo(c Conn, b []byte) []byte {
	whole := b
	n := 0
	for len(whole)-n >= 4 {
		size := 4 + int(binary.BigEndian.Uint32(whole[n:]))
		if len(whole)-n < size {
			break
		}
		n += size
	}
	c.Write(whole[:n])
	return whole[n:]
}

func opensEcho(Conn, netip.AddrPort) Handler { return &handler{data: echo} }

// relay joins an accepted connection with a dialled one.
type relay struct {
	a, b   Conn
	closed chan error
	held   chan bool // nil: nobody asks
}

func (r *relay) Held(c Conn, stopped bool) {
	if r.held != nil && c == r.a {
		r.held <- stopped
	}
}

// opensRelay dials to for every connection and passes bytes both ways.
func opensRelay(to netip.AddrPort, closed chan error) Opened {
	return func(c Conn, _ netip.AddrPort) Handler {
		r := &relay{a: c, closed: closed}
		peer, up, err := c.Dial(to, r)
		if err != nil {
			return nil
		}
		r.b = peer
		if !up {
			c.Pause()
		}
		return r
	}
}

func (r *relay) other(c Conn) Conn {
	if c == r.a {
		return r.b
	}
	return r.a
}

func (r *relay) Connected(c Conn, err error) {
	if err != nil {
		r.a.Close()
		r.closed <- err
		return
	}
	r.a.Resume()
}

func (r *relay) Data(c Conn, b []byte) []byte {
	r.other(c).Write(b)
	return nil
}

func (r *relay) Timer(Conn) {}

func (r *relay) Closed(c Conn, err error) {
	r.other(c).Finish(nil)
	select {
	case r.closed <- err:
	default:
	}
}

// backend listens for what relays dial.
func backend(t testing.TB) (net.Listener, netip.AddrPort) {
	t.Helper()
	nl, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nl.Close() })
	return nl, nl.Addr().(*net.TCPAddr).AddrPort()
}

func accept(t testing.TB, nl net.Listener) *net.TCPConn {
	t.Helper()
	if err := nl.(*net.TCPListener).SetDeadline(time.Now().Add(testkit.Patience)); err != nil {
		t.Fatal(err)
	}
	c, err := nl.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(testkit.Patience)); err != nil {
		t.Fatal(err)
	}
	return c.(*net.TCPConn)
}

// count is an io.Writer that compares with a repeated pattern.
type checker struct {
	pattern []byte
	n       int
	bad     atomic.Bool
}

func (k *checker) Write(b []byte) (int, error) {
	for i := 0; i < len(b); {
		from := k.n % len(k.pattern)
		l := min(len(b)-i, len(k.pattern)-from)
		if !bytes.Equal(b[i:i+l], k.pattern[from:from+l]) {
			k.bad.Store(true)
		}
		i += l
		k.n += l
	}
	return len(b), nil
}
