package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
)

func event(n int) Event {
	return Event{Event: "mqtt,blocked,acl-denied", Tags: []string{"mqtt", "blocked", "acl-denied"}, Decision: "drop", DurationUS: int64(n)}
}

// read returns the events of a file.
func read(t *testing.T, path string) []Event {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, data)
}

func parse(t *testing.T, data []byte) []Event {
	t.Helper()
	var list []Event
	for line := range strings.Lines(string(data)) {
		var e Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		list = append(list, e)
	}
	return list
}

func open(t *testing.T, include string) (*Log, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	l, err := Open(config.Audit{Output: path, Include: include})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l, path
}

func TestCloseWritesWhatIsQueued(t *testing.T) {
	l, path := open(t, "all")
	for i := range 1000 {
		l.Emit(event(i + 1))
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	list := read(t, path)
	if len(list) != 1000 || l.Dropped() != 0 {
		t.Fatalf("%d events, %d dropped, want 1000 and 0", len(list), l.Dropped())
	}
	for i, e := range list {
		if e.DurationUS != int64(i+1) {
			t.Fatalf("event %d is number %d", i+1, e.DurationUS)
		}
	}
	l.Emit(event(1)) // nothing
	if err := errors.Join(l.Close(), l.Reopen()); err != nil {
		t.Errorf("after Close: %v", err)
	}
	if n := len(read(t, path)); n != 1000 {
		t.Errorf("%d events after Close, want 1000", n)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm()&^0o640 != 0 {
		t.Errorf("mode %v, %v, want at most 0640", info.Mode(), err)
	}
}

func TestOpenAppends(t *testing.T) {
	l, path := open(t, "all")
	l.Emit(event(1))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := Open(config.Audit{Output: path, Include: "all"})
	if err != nil {
		t.Fatal(err)
	}
	l.Emit(event(2))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if n := len(read(t, path)); n != 2 {
		t.Errorf("%d events, want 2", n)
	}
}

func TestOpenErrors(t *testing.T) {
	for output, want := range map[string]string{
		filepath.Join(t.TempDir(), "none", "a.jsonl"): "no such file or directory",
		t.TempDir(): "is a directory",
		"syslog":    "not in this version",
	} {
		if l, err := Open(config.Audit{Output: output}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Open(%q) = %v, %v, want an error with %q", output, l, err, want)
		}
	}
}

func TestInclude(t *testing.T) {
	always := map[string]bool{
		"blocked publish": true, "blocked subscribe": true, "blocked connect": true, "blocked will": true,
		"detected": true, "qos downgraded": true, "qos downgraded in subscribe": true, "retain stripped": true,
		"will removed": true, "qos over limit": true, "retained over limit": true, "delivery filtered": true,
		"subscription removed": true, "deliveries filtered": true,
		"blocked publish, too large": true, "blocked publish, one too many": true,
		"disconnected by policy": true, "refused before CONNECT": true,
	}
	for _, include := range []string{"all", "denied"} {
		l, path := open(t, include)
		seen, events := 0, 0
		l.Subscribe(func(*Event) { seen++ })
		var want []string
		list := kinds(t)
		for _, k := range list {
			l.Emit(k.e)
			if k.e.Count == 0 {
				events++
			}
			if include == "all" && k.e.Count == 0 || include == "denied" && always[k.name] {
				want = append(want, k.e.Event)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range read(t, path) {
			got = append(got, e.Event)
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("%s: got\n%s\nwant\n%s", include, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if seen != events {
			t.Errorf("%s: a subscriber saw %d events, want all %d", include, seen, events)
		}
	}
}

// stalled is an output that takes nothing until it is released.
type stalled struct {
	entered chan struct{} // one value for each write that has begun
	release chan struct{}
	mu      sync.Mutex
	buf     bytes.Buffer
}

func (s *stalled) Write(p []byte) (int, error) {
	s.entered <- struct{}{}
	<-s.release
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(p)
}

// An output that takes nothing never stops those who emit: events are dropped,
// counted, and the stream says so.
func TestEmitNeverBlocks(t *testing.T) {
	out := &stalled{entered: make(chan struct{}, 100), release: make(chan struct{})}
	l := new(Log)
	l.Include("all")
	l.start(&output{w: out}, 8)
	l.Emit(event(1))
	<-out.entered // the writer is inside Write
	for i := range 8 + 5 {
		l.Emit(event(i + 2))
	}
	if n := l.Dropped(); n != 5 {
		t.Errorf("%d dropped, want 5", n)
	}
	close(out.release)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	list := parse(t, out.buf.Bytes())
	told, events := uint64(0), 0
	for _, e := range list {
		if e.Event == "mqtt,audit-dropped" {
			told += e.Dropped
		} else {
			events++
		}
	}
	if events != 9 || told != 5 {
		t.Errorf("%d events and %d told as dropped, want 9 and 5:\n%s", events, told, out.buf.Bytes())
	}
}

// What everybody can cause at the speed of traffic leaves room for refusals.
func TestRefusalsAreNotCrowdedOut(t *testing.T) {
	for _, crowd := range []Event{
		{Event: "mqtt,allowed", Decision: "allow"},
		{Event: "mqtt,delivery-filtered", Decision: "drop"},
		{Event: "mqtt,qos-downgraded", Decision: "rewrite"},
	} {
		out := &stalled{entered: make(chan struct{}, 100), release: make(chan struct{})}
		l := new(Log)
		l.Include("all")
		l.start(&output{w: out}, 8)
		l.Emit(crowd)
		<-out.entered // the writer is inside Write
		for range 100 {
			l.Emit(crowd)
		}
		l.Emit(event(2))
		l.Emit(event(3))
		if n := l.Dropped(); n != 94 {
			t.Errorf("%s: %d dropped, want 94", crowd.Event, n)
		}
		close(out.release)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		blocked := 0
		for _, e := range parse(t, out.buf.Bytes()) {
			if e.Event == "mqtt,blocked,acl-denied" {
				blocked++
			}
		}
		if blocked != 2 {
			t.Errorf("%s: %d refusals written, want 2", crowd.Event, blocked)
		}
	}
}

func TestCloseGivesUpAStalledOutput(t *testing.T) {
	out := &stalled{entered: make(chan struct{}, 100), release: make(chan struct{})}
	l := new(Log)
	l.Include("all")
	l.start(&output{w: out}, 8)
	l.Emit(event(1))
	<-out.entered
	if err := l.close(time.Millisecond); err == nil || !strings.Contains(err.Error(), "takes nothing") {
		t.Errorf("Close = %v", err)
	}
	close(out.release)
	<-l.stopped
}

// failing fails every write that it is told to, having taken part of it.
type failing struct {
	buf  bytes.Buffer
	take int // bytes before the error; -1: no error
}

func (f *failing) Write(p []byte) (int, error) {
	if f.take < 0 {
		return f.buf.Write(p)
	}
	n, _ := f.buf.Write(p[:min(f.take, len(p))])
	return n, errors.New("no space left on device")
}

func TestWriteErrors(t *testing.T) {
	before := slog.Default()
	t.Cleanup(func() { slog.SetDefault(before) })
	var logged bytes.Buffer
	slog.SetDefault(slog.New(slog.NewTextHandler(&logged, nil)))
	one := event(1)
	line := string(append(one.AppendJSON(nil), '\n'))
	out := &failing{take: len(line) + 10}
	l := new(Log)
	l.Include("all")
	l.output.Store(&output{w: out})
	l.subs.Store(&[]*subscriber{})
	if lost := l.put([]byte(line + line + line)); lost != 2 {
		t.Errorf("%d lines lost, want 2", lost)
	}
	out.take = 0
	for range 10 {
		if lost := l.put([]byte(line)); lost != 1 {
			t.Errorf("%d lines lost, want 1", lost)
		}
	}
	out.take = -1
	if lost := l.put([]byte(line)); lost != 0 {
		t.Errorf("%d lines lost, want 0", lost)
	}
	if got, want := out.buf.String(), line+line[:10]+"\n"+line; got != want {
		t.Errorf("output\n%s\nwant\n%s", got, want)
	}
	if l.Faults() != 11 {
		t.Errorf("%d faults, want 11", l.Faults())
	}
	if n := strings.Count(logged.String(), "no space left"); n != 1 {
		t.Errorf("%d log lines about it, want 1", n)
	}
}

// Events that the output did not take are counted, and told once it does.
func TestUnwrittenEventsAreTold(t *testing.T) {
	before := slog.Default()
	t.Cleanup(func() { slog.SetDefault(before) })
	slog.SetDefault(slog.New(slog.DiscardHandler))
	out := &failing{take: 0}
	l := new(Log)
	l.Include("all")
	seen := make(chan struct{}, 10)
	l.start(&output{w: out}, 8)
	l.Subscribe(func(e *Event) {
		if e.Dropped > 0 {
			out.take = -1 // the writer's goroutine, as Write is
			seen <- struct{}{}
		}
	})
	l.Emit(event(1))
	<-seen
	l.Emit(event(2))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	list := parse(t, out.buf.Bytes())
	if len(list) != 2 || list[0].Dropped != 1 || list[1].DurationUS != 2 || l.Dropped() != 1 {
		t.Errorf("%d dropped, output\n%s", l.Dropped(), out.buf.Bytes())
	}
}

// swapped is a file that is closed by a Reopen at the moment of a write.
type swapped struct {
	log  *Log
	next io.Writer
}

func (s *swapped) Write([]byte) (int, error) {
	s.log.output.Store(&output{w: s.next})
	return 0, os.ErrClosed
}

func TestReopenBetweenLoadAndWrite(t *testing.T) {
	var next bytes.Buffer
	l := &Log{}
	l.output.Store(&output{w: &swapped{l, &next}})
	if lost := l.put([]byte("line\n")); lost != 0 || next.String() != "line\n" || l.Faults() != 0 {
		t.Errorf("%d lost, %d faults, the new file holds %q", lost, l.Faults(), next.String())
	}
}

func TestReopen(t *testing.T) {
	l, path := open(t, "all")
	rotated := path + ".1"
	seen := make(chan struct{}, 100)
	l.Subscribe(func(*Event) { seen <- struct{}{} })
	l.Emit(event(1))
	<-seen
	if err := os.Rename(path, rotated); err != nil {
		t.Fatal(err)
	}
	if err := l.Reopen(); err != nil {
		t.Fatal(err)
	}
	l.Emit(event(2))
	<-seen
	// One that fails keeps the file that is open.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := l.Reopen(); err == nil {
		t.Error("Reopen of a directory succeeded")
	}
	l.Emit(event(3))
	<-seen
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := l.Reopen(); err != nil {
		t.Fatal(err)
	}
	l.Emit(event(4))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	// The writer tells before it writes: the first may be in either file.
	list := read(t, path)
	if last := list[len(list)-1]; last.DurationUS != 4 {
		t.Errorf("the last event of the new file is %d, want 4", last.DurationUS)
	}
	if l.Faults() != 0 || l.Dropped() != 0 {
		t.Errorf("%d faults, %d dropped, want none", l.Faults(), l.Dropped())
	}
}

// No event is lost or torn by reopening, however often.
func TestReopenUnderLoad(t *testing.T) {
	l, path := open(t, "all")
	const files, events = 50, 40
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range files * events {
			l.Emit(event(i + 1))
		}
	})
	names := []string{path}
	for i := range files {
		rotated := path + "." + strings.Repeat("x", i+1)
		if err := os.Rename(path, rotated); err != nil {
			t.Fatal(err)
		}
		names = append(names, rotated)
		if err := l.Reopen(); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	seen := map[int64]bool{}
	for _, name := range names {
		for _, e := range read(t, name) {
			seen[e.DurationUS] = true
		}
	}
	if len(seen) != files*events || l.Dropped() != 0 || l.Faults() != 0 {
		t.Errorf("%d events, %d dropped, %d faults, want %d, 0, 0", len(seen), l.Dropped(), l.Faults(), files*events)
	}
}

func TestSubscribe(t *testing.T) {
	l, _ := open(t, "denied")
	var a, b []int64
	cancel := l.Subscribe(func(e *Event) { a = append(a, e.DurationUS) })
	both := make(chan struct{}, 10)
	l.Subscribe(func(e *Event) { b = append(b, e.DurationUS); both <- struct{}{} })
	l.Emit(event(1))
	<-both
	cancel()
	cancel() // again: nothing
	l.Emit(event(2))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if len(a) != 1 || len(b) != 2 {
		t.Errorf("the one that left saw %v, the other %v", a, b)
	}
}

func TestLogIsConcurrent(t *testing.T) {
	l, path := open(t, "all")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 200 {
				l.Emit(event(i))
			}
		})
		wg.Go(func() {
			for range 20 {
				l.Subscribe(func(*Event) {})()
				_ = l.Reopen()
				l.Dropped()
			}
		})
	}
	wg.Wait()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if n := len(read(t, path)); n != 800 {
		t.Errorf("%d events, want 800", n)
	}
}

func BenchmarkEmit(b *testing.B) {
	l, err := Open(config.Audit{Output: os.DevNull, Include: "all"})
	if err != nil {
		b.Fatal(err)
	}
	e := event(1)
	b.ReportAllocs()
	for b.Loop() {
		l.Emit(e)
	}
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
}
