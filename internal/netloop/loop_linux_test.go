package netloop

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

func TestPreemptible(t *testing.T) {
	for godebug, want := range map[string]bool{
		"":                                     true,
		"gctrace=1":                            true,
		"asyncpreemptoff=1":                    false,
		"gctrace=1,asyncpreemptoff=1":          false,
		"asyncpreemptoff=0":                    true,
		"asyncpreemptoff=1,asyncpreemptoff=0":  true,
		"asyncpreemptoff=0, asyncpreemptoff=1": true, // the runtime does not trim either
	} {
		if got := preemptible(godebug); got != want {
			t.Errorf("%q: got %v, want %v", godebug, got, want)
		}
	}
}

// inChild runs one of the roles of child in a process of its own.
func inChild(t *testing.T, role string, env ...string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), "NETLOOP_TEST_CHILD="+role), env...)
	timer := time.AfterFunc(2*testkit.Patience, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", role, err, out)
	}
}

func child(role string) int {
	var err error
	switch role {
	case "collect":
		err = collect()
	case "descriptors":
		err = descriptors(true)
	case "no reserve":
		err = descriptors(false)
	case "idle":
		err = idle()
	default:
		err = fmt.Errorf("no role %q", role)
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// Collections complete while loops are idle, in every way of waiting.
func TestCollectWhileIdle(t *testing.T) {
	t.Run("raw", func(t *testing.T) { inChild(t, "collect", "GODEBUG=") })
	t.Run("asyncpreemptoff", func(t *testing.T) { inChild(t, "collect", "GODEBUG=asyncpreemptoff=1") })
	t.Run("one processor", func(t *testing.T) { inChild(t, "collect", "GOMAXPROCS=1") })
}

func collect() error {
	e, err := New(Options{IO: "loops"})
	if err != nil {
		return err
	}
	nl, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if _, err := e.Serve(nl, opensEcho); err != nil {
		return err
	}
	c, err := net.Dial("tcp", nl.Addr().String())
	if err != nil {
		return err
	}
	buf := make([]byte, 4)
	for i := range 10 {
		// An event puts the loops back into their first way of waiting.
		if _, err := c.Write(frame(nil)); err != nil {
			return err
		}
		if _, err := c.Read(buf); err != nil {
			return err
		}
		done := make(chan struct{})
		go func() { runtime.GC(); close(done) }()
		select {
		case <-done:
		case <-time.After(testkit.Patience):
			return fmt.Errorf("collection %d did not complete", i)
		}
	}
	return e.Close()
}

// The loop that accepts keeps the first connections; then the one with the
// fewest gets the next.
func TestPlace(t *testing.T) {
	for _, tt := range []struct {
		nearby int64
		counts []int64 // of the loops before, the first is the one that accepts
		want   int
	}{
		{16, []int64{0, 0, 0}, 0},
		{16, []int64{16, 0, 0}, 0},
		{16, []int64{17, 0, 0}, 1},
		{16, []int64{17, 1, 0}, 2},
		{16, []int64{17, 1, 1}, 0},
		{16, []int64{1000, 984, 983}, 2},
		{-1, []int64{0, 0, 0}, 0},
		{-1, []int64{1, 1, 0}, 2},
	} {
		e := &loops{o: Options{nearby: tt.nearby}}
		for _, n := range tt.counts {
			l := &loop{}
			l.count.Store(n)
			e.loops = append(e.loops, l)
		}
		if got := slices.Index(e.loops, e.place(e.loops[0])); got != tt.want {
			t.Errorf("nearby %d, connections %v: got loop %d, want %d", tt.nearby, tt.counts, got, tt.want)
		}
	}
}

// An idle loop is left alone: without the ordinary wait the runtime's monitor
// would interrupt it every 10 ms.
func TestIdle(t *testing.T) { inChild(t, "idle", "GODEBUG=") }

func idle() error {
	e, err := New(Options{IO: "loops", Loops: 1})
	if err != nil {
		return err
	}
	l := e.(*loops).loops[0]
	interrupts := func() int {
		ch := make(chan int)
		l.post(func() { ch <- l.waiter.interrupts })
		return <-ch
	}
	before := interrupts()
	<-time.After(time.Second)
	if n := interrupts() - before; n > 10 {
		return fmt.Errorf("interrupted %d times in an idle second", n)
	}
	return e.Close()
}

func TestOutOfDescriptors(t *testing.T) {
	inChild(t, "descriptors")
	inChild(t, "no reserve")
}

// descriptors runs into the limit and checks that the engine says so, turns
// clients away while it has a reserve, does not spin, and recovers.
func descriptors(reserve bool) error {
	e, err := New(Options{IO: "loops", Loops: 1})
	if err != nil {
		return err
	}
	nl, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	addr := nl.Addr().String()
	if _, err := e.Serve(nl, opensEcho); err != nil {
		return err
	}
	// Descriptors of the clients are taken first, so that only the engine runs
	// short.
	var clients []*net.TCPConn
	var spare []int
	for range 20 {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		spare = append(spare, fd)
	}
	top := slices.Max(spare)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(top + 6), Max: 4096}); err != nil {
		return err
	}
	var filler []int
	if !reserve {
		done := make(chan struct{})
		l := e.(*loops).loops[0]
		l.post(func() {
			defer close(done)
			_ = unix.Close(l.listeners[0].reserve)
			l.listeners[0].reserve = -1
			for {
				fd, err := unix.Dup(l.ep)
				if err != nil {
					return
				}
				filler = append(filler, fd)
			}
		})
		<-done
	}
	sa := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: nl.Addr().(*net.TCPAddr).Port}
	for _, fd := range spare {
		if err := unix.Connect(fd, sa); err != nil {
			return fmt.Errorf("connect: %w", err)
		}
		if err := unix.SetNonblock(fd, true); err != nil {
			return err
		}
	}
	deadline := time.Now().Add(testkit.Patience)
	for e.Stats().AcceptErrors < 3 {
		if time.Now().After(deadline) {
			return fmt.Errorf("no accept failed: %+v", e.Stats())
		}
		runtime.Gosched()
	}
	var before, after unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &before)
	<-time.After(500 * time.Millisecond)
	_ = unix.Getrusage(unix.RUSAGE_SELF, &after)
	if used := time.Duration(after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()); used > 200*time.Millisecond {
		return fmt.Errorf("%v of CPU in 500ms while nothing can be accepted", used)
	}
	if n := e.Stats().AcceptErrors; n > 20 {
		return fmt.Errorf("%d accepts failed, want a few", n)
	}
	turnedAway := 0
	for _, fd := range spare {
		if _, err := unix.Read(fd, make([]byte, 1)); !errors.Is(err, unix.EAGAIN) {
			turnedAway++
		}
	}
	if (turnedAway > 0) != reserve {
		return fmt.Errorf("%d clients were turned away, with reserve: %v", turnedAway, reserve)
	}
	for _, fd := range append(spare, filler...) {
		_ = unix.Close(fd)
	}
	for time.Now().Before(deadline) {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			continue
		}
		clients = append(clients, c.(*net.TCPConn))
		_ = c.SetDeadline(time.Now().Add(time.Second))
		buf := make([]byte, 4)
		if _, err := c.Write(frame(nil)); err == nil {
			if _, err := c.Read(buf); err == nil && bytes.Equal(buf, frame(nil)) {
				return e.Close()
			}
		}
		_ = c.Close()
	}
	return fmt.Errorf("no recovery: %d clients, %+v", len(clients), e.Stats())
}

// An idle connection costs its struct and a place in the table.
func TestConnSize(t *testing.T) {
	if size := unsafe.Sizeof(conn{}); size > 80 {
		t.Errorf("conn takes %d bytes, want at most 80", size)
	}
}

// The path of a message that passes allocates nothing.
func TestNoAllocations(t *testing.T) {
	nl, to := backend(t)
	_, addr := start(t, Options{IO: "loops", Loops: 1}, opensRelay(to, make(chan error, 4)))
	c := dial(t, addr)
	up := accept(t, nl)
	msg, buf := random(128), make([]byte, 128)
	pass := func(n int) {
		for range n {
			write(t, c, msg)
			if _, err := up.Read(buf); err != nil {
				t.Fatal(err)
			}
		}
	}
	// Not testing.AllocsPerRun: it takes every processor but one away, and a
	// loop needs its own.
	var before, after runtime.MemStats
	pass(100)
	runtime.ReadMemStats(&before)
	const n = 2000
	pass(n)
	runtime.ReadMemStats(&after)
	if got := after.Mallocs - before.Mallocs; got > n/20 {
		t.Errorf("%d allocations for %d messages, want none", got, n)
	}
}

// The wheel against a list: nothing is looked at late, nothing is lost.
func TestWheel(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for round := range 200 {
		const n = 40
		now := r.Int64N(1 << 40)
		w := newWheel(now)
		links := make([]link, n+1)
		at := make([]int64, n+1) // 0: not set
		link := func(n uint32) *link { return &links[n] }
		for step := range 300 {
			i := uint32(1 + r.IntN(n))
			switch r.IntN(4) {
			case 0, 1:
				at[i] = now + r.Int64N(1<<(20+r.UintN(18)))
				w.set(i, &links[i], at[i], now, link)
			case 2:
				at[i] = 0
				w.remove(&links[i], link)
			case 3:
				if next := w.next(); next != 0 && r.IntN(2) == 0 {
					now = max(now, next)
				} else {
					now += r.Int64N(1 << (15 + r.UintN(20)))
				}
				for _, k := range w.due(now, nil, link) {
					switch {
					case at[k] == 0:
						t.Fatalf("round %d step %d: %d is due but was removed", round, step, k)
					case at[k] <= now:
						at[k] = 0
					default:
						w.set(k, &links[k], at[k], now, link)
					}
				}
			}
			next := w.next()
			for k, a := range at {
				if a == 0 {
					continue
				}
				grain := int64(1 << fineShift)
				if links[k].slot > slots {
					grain = 1 << coarseShift
				}
				if links[k].slot == 0 {
					t.Fatalf("round %d step %d: %d is set and in no slot", round, step, k)
				}
				if next == 0 || next > a+grain {
					t.Fatalf("round %d step %d: %d is due at %d, the wheel's next is %d", round, step, k, a, next)
				}
			}
		}
	}
}
