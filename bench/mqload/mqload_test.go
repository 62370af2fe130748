//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

func TestQuantiles(t *testing.T) {
	var h hist
	var all []float64
	for range 20000 {
		v := int64(math.Exp(rand.Float64()*16) + 50)
		all = append(all, float64(v))
		h.add(v)
	}
	slices.Sort(all)
	for _, q := range []float64{.01, .5, .9, .99, .999, 1} {
		want := all[int(math.Ceil(q*float64(len(all))))-1]
		if got := h.quantile(q); math.Abs(got-want) > want*.016 {
			t.Errorf("q%g = %g, want %g", q, got, want)
		}
	}
}

func TestSeqWindow(t *testing.T) {
	var w seqWindow
	for _, c := range []struct {
		seq         uint64
		fresh, late bool
	}{
		{1, true, false},
		{3, true, false},
		{2, true, true},
		{2, false, true},
		{3, false, true},
		{900, true, false},
		{4, true, true},
		{5000, true, false},
		{4999, true, true},
		{5000, false, true},
		{3, false, true},
		{6100, true, false},
		{6099, true, true},
	} {
		if fresh, late := w.add(c.seq); fresh != c.fresh || late != c.late {
			t.Errorf("%d: fresh %v late %v, want %v %v", c.seq, fresh, late, c.fresh, c.late)
		}
	}
}

// pipeConn reads from r in pieces of at most n bytes and writes to w.
type pipeConn struct {
	net.Conn
	r *bytes.Reader
	n int
	w bytes.Buffer
}

func (p *pipeConn) Read(b []byte) (int, error)  { return p.r.Read(b[:min(len(b), p.n)]) }
func (p *pipeConn) Write(b []byte) (int, error) { return p.w.Write(b) }

// Frames of every length class, split and joined packets, an empty frame and a ping.
func TestWebSocketFrames(t *testing.T) {
	var want, wire []byte
	frame := func(op byte, p []byte) {
		f := framer{ws: true, key: 1}
		b := append(f.open(nil, len(p)), p...)
		b[0] = 0x80 | op
		mask := len(b) - len(p) - 4
		wire = append(append(append(wire, b[0], b[1]&0x7f), b[2:mask]...), p...) // the server does not mask
	}
	for _, n := range []int{10, 0, 125, 126, 300, 65535, 65536, 70000} {
		p := make([]byte, n)
		for i := range p {
			p[i] = byte(rand.Int())
		}
		want = append(want, p...)
		frame(2, p)
		frame(9, []byte("hi"))
	}
	for _, n := range []int{1, 7, 4096, 1 << 20} {
		pc := &pipeConn{r: bytes.NewReader(wire), n: n}
		s := &wsReader{c: &client{nc: pc}, buf: make([]byte, 512)}
		got, err := io.ReadAll(s)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("reads of %d: %d bytes, want %d, %v", n, len(got), len(want), err)
		}
		if c := bytes.Count(pc.w.Bytes(), []byte{0x8a, 0x82}); c != 8 {
			t.Errorf("%d pongs, want 8", c)
		}
	}
	p := []byte("0123456789abcdef!")
	f := framer{ws: true, key: 77}
	b := f.append(nil, p...)
	maskXor(b[6:], f.key)
	if !bytes.Equal(b[6:], p) || b[0] != 0x82 || b[1] != 0x80|17 {
		t.Errorf("masking does not undo itself: %x", b)
	}
}

func TestConnackProperties(t *testing.T) {
	c := client{recvMax: 65535}
	props := append([]byte{0x11, 0, 0, 0, 9, 0x24, 1}, appendStr([]byte{0x12}, "assigned")...)
	props = append(appendStr(appendStr(append(props, 0x26), "k"), "v"), 0x21, 0, 20, 0x22, 0, 10)
	c.connackProps(append(appendUvarint(nil, len(props)), props...))
	if c.recvMax != 20 {
		t.Errorf("Receive Maximum %d, want 20", c.recvMax)
	}
}

func startSink(t *testing.T, s *sink) target {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go s.serve(l)
	tg, err := parseTarget("sink=tcp://" + l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return tg
}

func small(qos, proto int) *load {
	return &load{
		Pubs: 2, Subs: 2, QoS: qos, Size: 64, Topics: 4, Window: 64, Proto: proto, Duration: 200 * time.Millisecond,
		Warmup: 20 * time.Millisecond, Topic: "t/%d", Prefix: "test", conn: connOpts{proto: proto, bufSize: 4096, keepalive: 60, timeout: testkit.Patience},
	}
}

func TestCleanRuns(t *testing.T) {
	tg := startSink(t, &sink{echo: true})
	for qos := range 3 {
		for _, proto := range []int{4, 5} {
			for _, shape := range [][3]int{{2, 2, 4}, {3, 1, 1}, {1, 5, 1}, {1, 5, 3}} {
				l := small(qos, proto)
				l.Pubs, l.Subs, l.Topics = shape[0], shape[1], shape[2]
				testkit.Awake(t, func() error {
					r := runLoad(l, tg, nil, 0)
					for ; r.Err == "" && (r.Delivered == 0 || r.Latency.N == 0) && l.Duration < time.Minute; l.Duration *= 2 { // too slow for so short
						r = runLoad(l, tg, nil, 0)
					}
					if r.Lost+r.Unacked != 0 || r.Dup+r.Reordered+r.Corrupt+r.Foreign+r.Rejected != 0 {
						t.Errorf("qos %d proto %d %v: %+v", qos, proto, shape, r) // however slow the machine is
					}
					if r.Err != "" || r.Stalls != 0 || r.Delivered == 0 || r.Latency.N == 0 || (qos > 0) != (r.Ack.N > 0) {
						return fmt.Errorf("qos %d proto %d %v: %+v", qos, proto, shape, r)
					}
					return nil
				})
			}
		}
	}
}

// What the counterpart does wrong must show, in its own column.
func TestFaultsShow(t *testing.T) {
	l := small(0, 4)
	l.Rate = 5000
	round := func(s *sink) (r result, faults uint64) {
		t.Helper()
		s.echo = true
		r = runLoad(l, startSink(t, s), nil, 0)
		if r.Err != "" || s.faults.Load() == 0 {
			t.Errorf("%d faults, %s", s.faults.Load(), r.Err)
		}
		return r, s.faults.Load()
	}
	if r, n := round(&sink{dropEvery: 20}); uint64(r.Lost) != n || r.Dup+r.Corrupt+r.Reordered != 0 {
		t.Errorf("%d lost: %+v", n, r)
	}
	// Nobody waits for the second of the last message.
	if r, n := round(&sink{dupEvery: 20}); r.Dup != n && r.Dup != n-1 || r.Lost != 0 || r.Corrupt+r.Reordered != 0 {
		t.Errorf("%d doubled: %+v", n, r)
	}
	if r, n := round(&sink{corruptEvery: 20}); r.Corrupt != n || uint64(r.Lost) != n || r.Dup+r.Reordered != 0 {
		t.Errorf("%d corrupted: %+v", n, r)
	}
	l.Pubs, l.Subs, l.Topics, l.Rate, l.Size = 1, 1, 1, 0, 128
	if r, n := round(&sink{swapEvery: 20}); r.Reordered != n || r.Dup+r.Corrupt != 0 || r.Lost != 0 {
		t.Errorf("%d swapped: %+v", n, r)
	}
}

// sometimes makes rounds until one is as it should be: how fast things go is up
// to the machine, and what else runs there.
func sometimes(t *testing.T, l *load, s *sink, ok func(result) bool) {
	t.Helper()
	tg := startSink(t, s)
	var r result
	for range 50 {
		if r = runLoad(l, tg, nil, 0); ok(r) {
			return
		}
	}
	t.Errorf("never in 50 rounds, the last: %+v", r)
}

func TestRate(t *testing.T) {
	l := small(0, 4)
	l.Rate = 5000
	sometimes(t, l, &sink{echo: true}, func(r result) bool { return math.Abs(r.PubRate-5000) < 1500 })
}

func TestDelayShows(t *testing.T) {
	l := small(0, 4)
	l.Rate = 200
	sometimes(t, l, &sink{echo: true, delay: 20 * time.Millisecond}, func(r result) bool {
		if r.Latency.N > 0 && r.Latency.P50 < 20000 {
			t.Errorf("p50 %g µs behind a delay of 20 ms", r.Latency.P50)
		}
		return r.Latency.N > 0 && r.Latency.P50 < 60000
	})
}

// A counterpart that reads slowly must show in the latency from the intended
// send time, not hide behind a publisher that waits (coordinated omission).
func TestCoordinatedOmission(t *testing.T) {
	l := small(0, 4)
	l.Pubs, l.Subs, l.Topics, l.Window, l.Rate = 1, 1, 1, 1, 200
	sometimes(t, l, &sink{echo: true, delay: 20 * time.Millisecond}, func(r result) bool {
		return r.FromDue.P50 >= 2*r.Latency.P50 && r.PubRate <= 60 // one at a time, 20 ms each
	})
}

func TestCommands(t *testing.T) {
	tg := startSink(t, &sink{echo: true})
	stdout := os.Stdout
	for _, args := range []string{
		"throughput --duration 100ms --rounds 2 --qos 1 --target a=%s --target b=%s --pid self=%p --json",
		"idle --conns 50 --hold 100ms --rate 1000 --target a=%s --pid self=%p --json",
		"connect --duration 100ms --rounds 1 --conc 4 --target a=%s --json",
	} {
		args = strings.NewReplacer("%s", tg.URL, "%p", strconv.Itoa(os.Getpid())).Replace(args)
		f := strings.Fields(args)
		rd, wr, _ := os.Pipe()
		os.Stdout = wr
		ok, err := command(t.Context(), f[0], f[1:])
		os.Stdout = stdout
		wr.Close()
		var doc map[string]any
		if derr := json.NewDecoder(rd).Decode(&doc); !ok || err != nil || derr != nil || doc["results"] == nil {
			t.Errorf("%s: ok %v, %v, %v", args, ok, err, derr)
		}
	}
	if _, err := parseTarget("x=tcp://192.0.2.1:1883"); err == nil {
		t.Error("a target outside this machine was taken")
	}
}
