package netloop

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

func TestEchoCutAtEveryByte(t *testing.T) {
	both(t, func(t *testing.T, o Options) {
		_, addr := start(t, o, opensEcho)
		stream := bytes.Join([][]byte{frame([]byte("a")), frame(nil), frame(random(40)), frame([]byte("z"))}, nil)
		c := dial(t, addr)
		for cut := range len(stream) + 1 {
			write(t, c, stream[:cut])
			write(t, c, stream[cut:])
			if got := read(t, c, len(stream)); !bytes.Equal(got, stream) {
				t.Fatalf("cut at %d: got %q, want %q", cut, got, stream)
			}
		}
		for i := range stream {
			write(t, c, stream[i:i+1])
		}
		if got := read(t, c, len(stream)); !bytes.Equal(got, stream) {
			t.Fatalf("byte by byte: got %q, want %q", got, stream)
		}
	})
}

// A frame may be of any size: what is held grows beside the read buffer.
func TestEchoOfAnySize(t *testing.T) {
	both(t, func(t *testing.T, o Options) {
		e, addr := start(t, o, opensEcho)
		c := dial(t, addr)
		for _, size := range []int{1, headroomProbe - 4, headroomProbe, headroomProbe + 1, readSize - 4, readSize, readSize + 1, 3 * readSize, 1 << 20} {
			want := append(frame(random(size)), frame([]byte("next"))...)
			done := make(chan error, 1)
			go func() { _, err := c.Write(want); done <- err }()
			if got := read(t, c, len(want)); !bytes.Equal(got, want) {
				t.Fatalf("%d bytes: the echo differs", size)
			}
			if err := testkit.Receive(t, "write", done); err != nil {
				t.Fatal(err)
			}
		}
		testkit.Eventually(t, "no buffer is kept", func() bool { return e.Stats().BufferBytes == 0 })
	})
}

const headroomProbe = 8 << 10

func TestManyConnections(t *testing.T) {
	both(t, func(t *testing.T, o Options) {
		e, addr := start(t, o, opensEcho)
		conns := make([]*net.TCPConn, 200)
		for i := range conns {
			conns[i] = dial(t, addr)
		}
		for round := range 3 {
			for i, c := range conns {
				write(t, c, frame(fmt.Appendf(nil, "%d of round %d", i, round)))
			}
			for i, c := range conns {
				want := frame(fmt.Appendf(nil, "%d of round %d", i, round))
				if got := read(t, c, len(want)); !bytes.Equal(got, want) {
					t.Fatalf("connection %d: got %q, want %q", i, got, want)
				}
			}
		}
		for _, c := range conns {
			_ = c.Close()
		}
		testkit.Eventually(t, "every socket is closed", func() bool { return e.Stats().Open == 0 })
		if s := e.Stats(); s.Accepted != 200 || s.Panics != 0 {
			t.Errorf("stats %+v, want 200 accepted and no panic", s)
		}
	})
}

func TestRefused(t *testing.T) {
	both(t, func(t *testing.T, o Options) {
		e, addr := start(t, o, func(Conn, netip.AddrPort) Handler { return nil })
		if n, err := dial(t, addr).Read(make([]byte, 1)); err == nil {
			t.Fatalf("read %d bytes from a refused connection", n)
		}
		testkit.Eventually(t, "it is counted", func() bool { return e.Stats().Refused == 1 })
	})
}

func TestRemoteAddress(t *testing.T) {
	both(t, func(t *testing.T, o Options) {
		got := make(chan netip.AddrPort, 1)
		_, addr := start(t, o, func(_ Conn, remote netip.AddrPort) Handler {
			got <- remote
			return &handler{}
		})
		c := dial(t, addr)
		if got, want := testkit.Receive(t, "accept", got), c.LocalAddr().(*net.TCPAddr).AddrPort(); got != want {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

// A backend that does not read holds up the client, and no memory.
func TestSlowReader(t *testing.T) {
	both(t, func(t *testing.T, o Options) {
		nl, to := backend(t)
		e, addr := start(t, o, opensRelay(to, make(chan error, 4)))
		c := dial(t, addr)
		up := accept(t, nl)
		pattern := random(100_003)
		const total = 64 << 20
		var most atomic.Int64
		written := make(chan int, 1)
		go func() {
			n := 0
			for n < total {
				from := n % len(pattern)
				k, err := c.Write(pattern[from:min(len(pattern), from+total-n)])
				if n += k; err != nil {
					break
				}
				most.Store(max(most.Load(), e.Stats().BufferBytes))
			}
			_ = c.CloseWrite()
			written <- n
		}()
		// Nothing reads, so the writer comes to a stop with far less written
		// than there is; then the backend takes everything.
		testkit.Eventually(t, "bytes are kept", func() bool { return e.Stats().BufferBytes > 0 })
		k := &checker{pattern: pattern}
		if _, err := io.Copy(k, up); err != nil {
			t.Fatal(err)
		}
		if n := testkit.Receive(t, "the writer", written); n != total || k.n != total || k.bad.Load() {
			t.Errorf("wrote %d, arrived %d, differs: %v; want %d", n, k.n, k.bad.Load(), total)
		}
		if m := most.Load(); m > 4*readSize {
			t.Errorf("%d bytes were kept, want at most %d", m, 4*readSize)
		}
	})
}

// The handler learns when the engine stops reading, and when it goes on.
func TestHeld(t *testing.T) {
	both(t, func(t *testing.T, o Options) {
		nl, to := backend(t)
		held := make(chan bool, 1<<16) // nobody takes them meanwhile
		opened := opensRelay(to, make(chan error, 4))
		_, addr := start(t, o, func(c Conn, remote netip.AddrPort) Handler {
			h := opened(c, remote)
			h.(*relay).held = held
			return h
		})
		c := dial(t, addr)
		up := accept(t, nl)
		const total = 16 << 20
		go func() {
			_, _ = io.CopyN(c, zeros{}, total)
			_ = c.CloseWrite()
		}()
		if !testkit.Receive(t, "the stop", held) {
			t.Error("the first call says that it goes on")
		}
		if n, err := io.Copy(io.Discard, up); n != total || err != nil {
			t.Errorf("got %d bytes and %v, want %d", n, err, total)
		}
		for want := false; ; want = !want {
			select {
			case got := <-held:
				if got != want {
					t.Fatalf("told %v twice", got)
				}
				continue
			default:
			}
			if want == false {
				t.Error("never told that it goes on")
			}
			return
		}
	})
}

// While one client is held up by its backend, others of its loop go on.
func TestStallConcernsItsPairOnly(t *testing.T) {
	both(t, func(t *testing.T, o Options) {
		nl, to := backend(t)
		e, addr := start(t, o, opensRelay(to, make(chan error, 4)))
		stuck := dial(t, addr)
		accept(t, nl)
		go func() { _, _ = io.Copy(stuck, zeros{}) }()
		testkit.Eventually(t, "bytes are kept", func() bool { return e.Stats().BufferBytes > 0 })
		c := dial(t, addr)
		up := accept(t, nl)
		for i := range 100 {
			msg := fmt.Appendf(nil, "message %03d", i)
			write(t, c, msg)
			if got := read(t, up, len(msg)); !bytes.Equal(got, msg) {
				t.Fatalf("got %q, want %q", got, msg)
			}
		}
		_ = stuck.Close()
	})
}

// zeros never ends.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// A client that floods gets no more than its share of a loop.
func TestFairness(t *testing.T) {
	both(t, func(t *testing.T, o Options) {
		var flood atomic.Int64
		_, addr := start(t, o, func(c Conn, _ netip.AddrPort) Handler {
			return &handler{data: func(c Conn, b []byte) []byte {
				if b[0] == 0 {
					flood.Add(int64(len(b)))
					return nil
				}
				c.Write(b)
				return nil
			}}
		})
		flooder := dial(t, addr)
		go func() { _, _ = io.Copy(flooder, zeros{}) }()
		testkit.Eventually(t, "the flood runs", func() bool { return flood.Load() > 1<<20 })
		c := dial(t, addr)
		before := flood.Load()
		for i := 0; i < 200 || flood.Load() == before; i++ { // bounded by c's deadline
			write(t, c, []byte("ping"))
			read(t, c, 4)
		}
		_ = flooder.Close()
	})
}

func TestWriteStall(t *testing.T) {
	both(t, func(t *testing.T, o Options) {
		nl, to := backend(t)
		o.WriteStall = 200 * time.Millisecond
		closed := make(chan error, 4)
		e, addr := start(t, o, opensRelay(to, closed))
		c := dial(t, addr)
		accept(t, nl)
		go func() { _, _ = io.Copy(c, zeros{}) }()
		if err := testkit.Receive(t, "the stalled connection is closed", closed); !errors.Is(err, ErrStalled) {
			t.Errorf("closed with %v, want %v", err, ErrStalled)
		}
		testkit.Eventually(t, "both sides are closed", func() bool { return e.Stats().Open == 0 })
		if n := e.Stats().Stalled; n != 1 {
			t.Errorf("counted %d, want 1", n)
		}
	})
}

// A peer that takes a little now and then is not stalled.
func TestSlowProgressIsNoStall(t *testing.T) {
	both(t, func(t *testing.T, o Options) {
		nl, to := backend(t)
		o.WriteStall = time.Second
		e, addr := start(t, o, opensRelay(to, make(chan error, 4)))
		testkit.Awake(t, func() error {
			c := dial(t, addr)
			defer c.Close()
			up := accept(t, nl)
			_ = up.SetReadBuffer(64 << 10)
			go func() { _, _ = io.Copy(c, zeros{}) }()
			testkit.Eventually(t, "bytes are kept", func() bool { return e.Stats().BufferBytes > 0 })
			tick := time.NewTicker(50 * time.Millisecond)
			defer tick.Stop()
			b := make([]byte, 1<<20)
			for began := time.Now(); time.Since(began) < 2*o.WriteStall; {
				<-tick.C
				if _, err := io.ReadFull(up, b); err != nil {
					return fmt.Errorf("closed with %w after %v", err, time.Since(began))
				}
			}
			return nil
		})
	})
}

func TestHalfClose(t *testing.T) {
	both(t, func(t *testing.T, o Options) {
		var got []byte
		closed := make(chan error, 1)
		_, addr := start(t, o, func(c Conn, _ netip.AddrPort) Handler {
			return &handler{
				data:   func(c Conn, b []byte) []byte { got = append(got, b...); return nil },
				closed: func(c Conn, err error) { closed <- err },
			}
		})
		c := dial(t, addr)
		want := random(300_000)
		write(t, c, want)
		_ = c.CloseWrite()
		if err := testkit.Receive(t, "the end", closed); !errors.Is(err, io.EOF) {
			t.Errorf("closed with %v, want %v", err, io.EOF)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("got %d bytes before the end, want %d", len(got), len(want))
		}
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("the client reads %v, want %v", err, io.EOF)
		}
	})
}

func TestReset(t *testing.T) {
	both(t, func(t *testing.T, o Options) {
		closed := make(chan error, 1)
		opened := make(chan struct{}, 1)
		_, addr := start(t, o, func(c Conn, _ netip.AddrPort) Handler {
			opened <- struct{}{}
			return &handler{closed: func(c Conn, err error) { closed <- err }}
		})
		c := dial(t, addr)
		testkit.Receive(t, "accept", opened)
		_ = c.SetLinger(0)
		_ = c.Close()
		if err := testkit.Receive(t, "the end", closed); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("closed with %v, want an error of the socket", err)
		}
	})
}

// A paused connection whose peer goes away must end, and must not keep its loop
// busy meanwhile.
func TestResetWhilePaused(t *testing.T) {
	if !haveLoops {
		return // a goroutine that does not read cannot know
	}
	closed := make(chan error, 1)
	opened := make(chan struct{}, 1)
	_, addr := start(t, Options{IO: "loops", Loops: 1}, func(c Conn, _ netip.AddrPort) Handler {
		c.Pause()
		opened <- struct{}{}
		return &handler{closed: func(c Conn, err error) { closed <- err }}
	})
	c := dial(t, addr)
	testkit.Receive(t, "accept", opened)
	_ = c.SetLinger(0)
	_ = c.Close()
	testkit.Receive(t, "the end", closed)
}

func TestPanicEndsItsPairOnly(t *testing.T) {
	both(t, func(t *testing.T, o Options) {
		closed := make(chan error, 1)
		e, addr := start(t, o, func(c Conn, _ netip.AddrPort) Handler {
			return &handler{
				data: func(c Conn, b []byte) []byte {
					if bytes.Contains(b, []byte("boom")) {
						panic("boom")
					}
					return echo(c, b)
				},
				closed: func(c Conn, err error) {
					if errors.Is(err, ErrPanic) {
						closed <- err
						panic("again, while it is told")
					}
				},
			}
		})
		well := dial(t, addr)
		ill := dial(t, addr)
		write(t, ill, []byte("boom"))
		testkit.Receive(t, "the handler is told", closed)
		if _, err := ill.Read(make([]byte, 1)); err == nil {
			t.Error("the connection goes on after a panic")
		}
		write(t, well, frame([]byte("fine")))
		read(t, well, 8)
		testkit.Eventually(t, "both panics are counted", func() bool { return e.Stats().Panics == 2 })
	})
}

func TestPauseAndResume(t *testing.T) {
	both(t, func(t *testing.T, o Options) {
		conns := make(chan Conn, 1)
		calls := make(chan string, 16)
		var open bool
		_, addr := start(t, o, func(c Conn, _ netip.AddrPort) Handler {
			conns <- c
			return &handler{data: func(c Conn, b []byte) []byte {
				calls <- string(b)
				if !open {
					c.Pause()
					return b
				}
				c.Write(b)
				return nil
			}}
		})
		c := dial(t, addr)
		served := testkit.Receive(t, "accept", conns)
		write(t, c, []byte("first "))
		if got := testkit.Receive(t, "the first call", calls); got != "first " {
			t.Errorf("got %q", got)
		}
		write(t, c, []byte("second"))
		served.Post(func() { open = true; served.Resume() })
		if got := testkit.Receive(t, "what was held", calls); got != "first " {
			t.Errorf("after Resume: got %q, want %q", got, "first ")
		}
		if got := string(read(t, c, 12)); got != "first second" {
			t.Errorf("got %q", got)
		}
	})
}

func TestTimer(t *testing.T) {
	both(t, func(t *testing.T, o Options) {
		fired := make(chan time.Duration, 8)
		_, addr := start(t, o, func(c Conn, _ netip.AddrPort) Handler {
			began := c.Now()
			c.SetTimer(c.Now() + int64(20*time.Millisecond))
			c.SetTimer(c.Now() + int64(time.Hour))           // to later
			c.SetTimer(c.Now() + int64(60*time.Millisecond)) // to earlier
			n := 0
			return &handler{timer: func(c Conn) {
				fired <- time.Duration(c.Now() - began)
				if n++; n == 1 {
					c.SetTimer(c.Now() + int64(40*time.Millisecond))
				}
				if c.Due() != 0 != (n == 1) {
					t.Errorf("due %d after call %d", c.Due(), n)
				}
			}}
		})
		dial(t, addr)
		if d := testkit.Receive(t, "the timer", fired); d < 60*time.Millisecond {
			t.Errorf("fired after %v, want about 60ms", d)
		}
		if d := testkit.Receive(t, "the timer again", fired); d < 100*time.Millisecond {
			t.Errorf("fired after %v, want about 100ms", d)
		}
	})
}

func TestDial(t *testing.T) {
	both(t, func(t *testing.T, o Options) {
		nl, to := backend(t)
		_, addr := start(t, o, opensRelay(to, make(chan error, 4)))
		c := dial(t, addr)
		write(t, c, []byte("to the backend"))
		up := accept(t, nl)
		if got := string(read(t, up, 14)); got != "to the backend" {
			t.Errorf("got %q", got)
		}
		write(t, up, []byte("to the client"))
		_ = up.Close()
		if got, err := io.ReadAll(c); string(got) != "to the client" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
	})
}

func TestDialRefused(t *testing.T) {
	both(t, func(t *testing.T, o Options) {
		to := netip.MustParseAddrPort(testkit.Refuses(t))
		failed := make(chan error, 1)
		_, addr := start(t, o, func(c Conn, _ netip.AddrPort) Handler {
			h := &handler{connected: func(_ Conn, err error) { failed <- err }}
			if _, _, err := c.Dial(to, h); err != nil {
				failed <- err
			}
			return h
		})
		dial(t, addr)
		if err := testkit.Receive(t, "the dial", failed); err == nil {
			t.Error("a dial to a closed port succeeded")
		}
	})
}

// What a handler wrote before Finish and with it arrives whole, even if the
// peer reads late and has sent what was never read.
func TestFinish(t *testing.T) {
	both(t, func(t *testing.T, o Options) {
		o.Linger = testkit.Patience
		for _, tt := range []struct{ before, with int }{{0, 2}, {100, 2}, {2 << 20, 0}, {2 << 20, 100}, {100, 2 << 20}} {
			sent := random(tt.before + tt.with)
			e, addr := start(t, o, func(c Conn, _ netip.AddrPort) Handler {
				return &handler{data: func(c Conn, b []byte) []byte {
					c.Write(sent[:tt.before])
					c.Finish(sent[tt.before:])
					c.Write([]byte("too late"))
					return b
				}}
			})
			c := dial(t, addr)
			write(t, c, []byte("go"))
			got := read(t, c, len(sent)/2)
			write(t, c, random(100_000)) // nobody will read this
			rest, err := io.ReadAll(c)
			if got = append(got, rest...); err != nil || !bytes.Equal(got, sent) {
				t.Errorf("%+v: got %d bytes and %v, want %d", tt, len(got), err, len(sent))
			}
			_ = c.Close()
			testkit.Eventually(t, "the socket is closed", func() bool { return e.Stats().Open == 0 })
		}
	})
}

// A peer that never ends its side is not waited for.
func TestFinishIsBounded(t *testing.T) {
	both(t, func(t *testing.T, o Options) {
		finished := make(chan struct{}, 2)
		finish := func(c Conn, _ netip.AddrPort) Handler {
			return &handler{data: func(c Conn, b []byte) []byte {
				c.Finish(nil)
				finished <- struct{}{}
				return nil
			}}
		}
		o.Linger = 50 * time.Millisecond
		e, addr := start(t, o, finish)
		write(t, dial(t, addr), []byte("x")) // silent from then on
		testkit.Receive(t, "the silent one is served", finished)
		testkit.Eventually(t, "the silent one is closed", func() bool { return e.Stats().Open == 0 })

		o.Linger = time.Hour // but not for so many bytes
		e, addr = start(t, o, finish)
		flooding := dial(t, addr)
		go func() { _, _ = io.Copy(flooding, zeros{}) }()
		testkit.Receive(t, "the flooding one is served", finished)
		testkit.Eventually(t, "the flooding one is closed", func() bool { return e.Stats().Open == 0 })
	})
}

func TestPost(t *testing.T) {
	both(t, func(t *testing.T, o Options) {
		conns := make(chan Conn, 1)
		e, addr := start(t, o, func(c Conn, _ netip.AddrPort) Handler {
			conns <- c
			return &handler{data: echo}
		})
		c := dial(t, addr)
		served := testkit.Receive(t, "accept", conns)
		var order []int
		done := make(chan []int, 1)
		for i := range 100 {
			served.Post(func() { order = append(order, i) })
		}
		served.Post(func() { served.Write([]byte("hello")); done <- order })
		for i, got := range testkit.Receive(t, "the posts", done) {
			if i != got {
				t.Fatalf("post %d ran as %d", got, i)
			}
		}
		if got := string(read(t, c, 5)); got != "hello" {
			t.Errorf("got %q", got)
		}
		served.Post(func() { panic("in a post") })
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("the connection goes on after a panic")
		}
		_ = e.Close()
		if served.Post(func() { t.Error("ran after Close") }) {
			t.Error("Post after Close says that it will run")
		}
	})
}

func TestEach(t *testing.T) {
	both(t, func(t *testing.T, o Options) {
		e, addr := start(t, o, opensEcho)
		for range 100 {
			c := dial(t, addr)
			write(t, c, frame(nil))
			read(t, c, 4)
		}
		var visited atomic.Int64
		done := make(chan struct{})
		e.Each(func(c Conn, h Handler) {
			if visited.Add(1) == 50 {
				panic("of one visit")
			}
		}, func() { close(done) })
		testkit.Receive(t, "the visits", done)
		if n := visited.Load(); n != 100 {
			t.Errorf("%d visits, want 100", n)
		}
	})
}

func TestCloseTellsHandlers(t *testing.T) {
	both(t, func(t *testing.T, o Options) {
		nl, to := backend(t)
		closed := make(chan error, 4)
		e, addr := start(t, o, opensRelay(to, closed))
		c := dial(t, addr)
		up := accept(t, nl)
		write(t, c, []byte("x"))
		read(t, up, 1)
		_ = e.Close()
		if err := testkit.Receive(t, "the handler is told", closed); !errors.Is(err, ErrClosed) {
			t.Errorf("closed with %v, want %v", err, ErrClosed)
		}
		if _, err := e.Serve(nl, opensEcho); err == nil {
			t.Error("Serve works after Close")
		}
	})
}

func TestListenerClose(t *testing.T) {
	both(t, func(t *testing.T, o Options) {
		e, addr := start(t, o, opensEcho)
		nl, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		li, err := e.Serve(nl, opensEcho)
		if err != nil {
			t.Fatal(err)
		}
		open := dial(t, nl.Addr().String())
		write(t, open, frame(nil))
		read(t, open, 4)
		for range 2 {
			if err := li.Close(); err != nil {
				t.Error(err)
			}
		}
		if c, err := net.Dial("tcp", nl.Addr().String()); err == nil {
			_ = c.Close()
			t.Error("the closed listener accepts")
		}
		write(t, open, frame(nil))
		read(t, open, 4)
		dial(t, addr)
	})
}

// floods answers what it is sent with more than a socket takes, and says so
// when that has gone.
type floods struct{ handler }

func (h *floods) Data(c Conn, _ []byte) []byte {
	if !c.Sent() {
		c.Write([]byte("kept before?"))
	}
	c.Write(make([]byte, 16<<20))
	if c.Sent() {
		c.Write([]byte("sent at once?"))
	}
	return nil
}

func (h *floods) Drained(c Conn) {
	c.Write([]byte("gone"))
}

func TestDrained(t *testing.T) {
	both(t, func(t *testing.T, o Options) {
		_, addr := start(t, o, func(Conn, netip.AddrPort) Handler { return new(floods) })
		c := dial(t, addr)
		write(t, c, []byte("x"))
		if got := read(t, c, 16<<20); !bytes.Equal(got, make([]byte, 16<<20)) {
			t.Fatalf("got something else first: %.40q", bytes.TrimLeft(got, "\x00"))
		}
		if got := read(t, c, 4); string(got) != "gone" {
			t.Fatalf("got %q", got)
		}
	})
}
