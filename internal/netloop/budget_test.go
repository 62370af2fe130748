package netloop

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// left is what is charged at the moment, and to how many connections.
func (b *budget) left() [4]int64 {
	return [4]int64{b.total.bytes.Load(), b.total.conns.Load(), b.strangers.bytes.Load(), b.strangers.conns.Load()}
}

// endure has nobody ended to make room: a machine that stands still uses up
// patience.
func (b *budget) endure() { b.patience = int64(time.Hour) }

// hall is an engine of echoes that fills up.
type hall struct {
	t      *testing.T
	e      Engine
	addr   string
	vouch  atomic.Bool  // for connections that are opened from now on
	kept   int64        // by fill
	seen   atomic.Int64 // how often something was kept
	closed chan error
}

func newHall(t *testing.T, o Options, change ...func(Engine)) *hall {
	h := &hall{t: t, closed: make(chan error, 64)}
	h.e, h.addr = start(t, o, func(c Conn, _ netip.AddrPort) Handler {
		if h.vouch.Load() {
			c.Vouch()
		}
		return &handler{
			data: func(c Conn, b []byte) []byte {
				rest := echo(c, b)
				if len(rest) > 0 {
					h.seen.Add(1)
				}
				return rest
			},
			closed: func(_ Conn, err error) { h.closed <- err },
		}
	}, change...)
	return h
}

// enduring is a change for newHall.
func enduring(e Engine) { e.(interface{ endure() }).endure() }

// open connects, and has it served once.
func (h *hall) open() *net.TCPConn {
	h.t.Helper()
	c := dial(h.t, h.addr)
	write(h.t, c, frame(nil))
	read(h.t, c, 4)
	return c
}

// fill has so many connections keep n bytes each of a longer message, or has
// one be ended for it already: a machine that stands still uses up patience.
func (h *hall) fill(conns, n int) {
	h.t.Helper()
	part := frame(make([]byte, n+1))[:n]
	for range conns {
		write(h.t, h.open(), part)
		h.kept += int64(n)
		testkit.Eventually(h.t, "the bytes are kept", func() bool {
			s := h.e.Stats()
			return s.BufferBytes >= h.kept || s.Stalled > 0
		})
	}
}

// pieces sends a message of n bytes in two pieces, the first of which is read
// before the second comes, and takes the echo.
func (h *hall) pieces(c net.Conn, n int) {
	h.t.Helper()
	whole := frame(random(n))
	before := h.seen.Load()
	write(h.t, c, whole[:n/2])
	testkit.Eventually(h.t, "a piece is kept", func() bool { return h.seen.Load() > before })
	write(h.t, c, whole[n/2:])
	if !bytes.Equal(read(h.t, c, len(whole)), whole) {
		h.t.Fatal("the echo differs")
	}
}

// While a few keep all there is, ordinary messages get through in pieces, of
// strangers too.
func TestReserve(t *testing.T) {
	both(t, func(t *testing.T, o Options) {
		o.BufferBytes = 256 << 10
		h := newHall(t, o, enduring)
		stranger := h.open()
		h.vouch.Store(true)
		known := h.open()
		h.fill(3, 120_000)
		h.pieces(known, reserve-100)
		h.pieces(stranger, reserve-100)
		if n := h.e.Stats().Stalled; n != 0 {
			t.Errorf("%d were ended for it, want none", n)
		}
	})
}

// Strangers cannot have more than their part, however many they are.
func TestStrangersPart(t *testing.T) {
	both(t, func(t *testing.T, o Options) {
		o.BufferBytes = 1 << 20
		h := newHall(t, o, enduring)
		h.vouch.Store(true)
		known := h.open()
		h.vouch.Store(false)
		part := frame(make([]byte, 130_000))[:120_000]
		for range 12 {
			write(t, h.open(), part)
		}
		b := h.e.(interface{ left() [4]int64 })
		testkit.Eventually(t, "the strangers' part is used up", func() bool { return b.left()[2] >= o.BufferBytes/strangersPart })
		h.pieces(known, 200_000)
		if most := o.BufferBytes/strangersPart + 4*2*readSize; b.left()[0] > most {
			t.Errorf("%d bytes are kept, want at most %d", b.left()[0], most)
		}
		if n := h.e.Stats().Stalled; n != 0 {
			t.Errorf("%d were ended for it, want none", n)
		}
	})
}

// A stranger that is vouched for is none any more.
func TestVouch(t *testing.T) {
	both(t, func(t *testing.T, o Options) {
		o.BufferBytes = 1 << 20
		conns := make(chan Conn, 1)
		e, addr := start(t, o, func(c Conn, _ netip.AddrPort) Handler {
			conns <- c
			return &handler{data: echo}
		})
		c := dial(t, addr)
		whole := frame(random(100_000))
		write(t, c, whole[:50_000])
		b := e.(interface{ left() [4]int64 })
		testkit.Eventually(t, "a stranger is charged", func() bool { return b.left()[2] > 0 })
		conn := <-conns
		conn.Post(conn.Vouch)
		testkit.Eventually(t, "it is none any more", func() bool { return b.left()[2] == 0 && b.left()[3] == 0 })
		write(t, c, whole[50_000:])
		read(t, c, len(whole))
		testkit.Eventually(t, "nothing is charged", func() bool { return b.left() == [4]int64{} })
	})
}

// What a handler keeps counts like what a connection holds: with it, nothing
// more is read when the bytes are used up, and in the end it has to make room.
func TestKeep(t *testing.T) {
	both(t, func(t *testing.T, o Options) {
		o.BufferBytes = 100_000
		o.WriteStall = 500 * time.Millisecond
		conns, closed := make(chan Conn, 8), make(chan error, 8)
		e, addr := start(t, o, func(c Conn, _ netip.AddrPort) Handler {
			c.Vouch()
			conns <- c
			return &handler{data: echo, closed: func(_ Conn, err error) { closed <- err }}
		})
		b := e.(interface{ left() [4]int64 })
		keep := func(c Conn, n int) {
			done := make(chan struct{})
			c.Post(func() { c.Keep(n); close(done) })
			<-done
		}
		dial(t, addr)
		c := testkit.Receive(t, "one is open", conns)
		for _, n := range []int{40_000, 30_000, 30_000, reserve, 0} {
			keep(c, n)
			want := [4]int64{}
			if n > reserve {
				want = [4]int64{int64(n - reserve), 1}
			}
			if got := e.Stats().BufferBytes; got != int64(n) || b.left() != want {
				t.Errorf("%d bytes are kept, charged %v, want %d and %v", got, b.left(), n, want)
			}
		}
		keep(c, 100_000+reserve)
		dial(t, addr)
		other := testkit.Receive(t, "another is open", conns)
		keep(other, 1000)
		for range 2 { // one may go on, and the other has room made
			nc := dial(t, addr)
			testkit.Receive(t, "one more is open", conns)
			write(t, nc, frame(make([]byte, 40_000))[:39_000])
		}
		if err := testkit.Receive(t, "one is ended", closed); !errors.Is(err, ErrBufferBytes) {
			t.Errorf("ended with %v, want %v", err, ErrBufferBytes)
		}
		keep(c, 5) // is gone
		testkit.Eventually(t, "its bytes are given back", func() bool { return b.left()[0] < 100_000 })
		keep(other, 0)
	})
}

// Held bytes of all connections together stay within the budget, and come to
// their right when there is room.
func TestBufferBudget(t *testing.T) {
	both(t, func(t *testing.T, o Options) {
		o.BufferBytes = 256 << 10
		h := newHall(t, o, enduring)
		h.vouch.Store(true)
		const conns, size = 16, 100_000
		whole := frame(random(size))
		list := make([]*net.TCPConn, conns)
		for i := range list {
			list[i] = dial(t, h.addr)
			write(t, list[i], whole[:size-10]) // a kernel buffer takes it
		}
		testkit.Eventually(t, "the budget is used up", func() bool { return h.e.Stats().BufferBytes >= o.BufferBytes })
		// Loops look at it each for itself, and capacities are powers of two.
		bound := o.BufferBytes + 6*readSize + conns*2*reserve
		for _, c := range list {
			write(t, c, whole[size-10:])
			if n := h.e.Stats().BufferBytes; n > bound {
				t.Fatalf("%d bytes are kept, want at most %d", n, bound)
			}
		}
		for _, c := range list {
			if got := read(t, c, len(whole)); !bytes.Equal(got, whole) {
				t.Fatal("the echo differs")
			}
		}
	})
}

// One that has more than its share is ended after patience, not before, and
// only when something is used up.
func TestPatience(t *testing.T) {
	for stall, want := range map[time.Duration]time.Duration{time.Second: time.Second, time.Minute: patience} {
		var b budget
		b.bound(&Options{BufferBytes: 100_000, WriteStall: stall})
		var large, small account
		b.charge(&large, reserve+99_000, false, 10)
		late := 10 + int64(want)
		if b.crowds(&large, false, late) {
			t.Errorf("stall %v: ended although there is room", stall)
		}
		b.charge(&small, reserve+1_000, false, 10)
		if b.crowds(&large, false, late-1) || !b.crowds(&large, false, late) {
			t.Errorf("stall %v: not ended after %v", stall, want)
		}
		if b.crowds(&small, false, late) {
			t.Errorf("stall %v: one that has little is ended", stall)
		}
	}
}

// Those that keep most for long make room for those that wait.
func TestBufferBudgetOfTheSilent(t *testing.T) {
	both(t, func(t *testing.T, o Options) {
		o.BufferBytes = 256 << 10
		o.WriteStall = 500 * time.Millisecond
		h := newHall(t, o)
		h.vouch.Store(true)
		h.fill(1, 20_000) // less than its share
		h.fill(2, 120_000)
		h.fill(2, 60_000) // the last one is the one that may go on, and does not
		var waiting []*net.TCPConn
		whole := frame(random(40_000))
		for range 4 {
			c := h.open()
			write(t, c, whole[:30_000])
			waiting = append(waiting, c)
		}
		for _, c := range waiting {
			write(t, c, whole[30_000:])
			read(t, c, len(whole))
		}
		if err := testkit.Receive(t, "one is ended", h.closed); !errors.Is(err, ErrBufferBytes) {
			t.Errorf("ended with %v, want %v", err, ErrBufferBytes)
		}
		if n := h.e.Stats().Stalled; n == 0 || n > 2 {
			t.Errorf("%d were ended, want one or two", n)
		}
	})
}

// A drop of the next message does not keep the buffer of the last one.
func TestHeldShrinks(t *testing.T) {
	both(t, func(t *testing.T, o Options) {
		h := newHall(t, o)
		c := h.open()
		big := frame(make([]byte, 500_000))
		write(t, c, big[:400_000])
		testkit.Eventually(t, "most of it is kept", func() bool { return h.e.Stats().BufferBytes >= 400_000 })
		write(t, c, append(big[400_000:], 0, 0))
		read(t, c, len(big))
		testkit.Eventually(t, "little is kept", func() bool {
			n := h.e.Stats().BufferBytes
			return n > 0 && n <= reserve
		})
	})
}
