package demo

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// screen collects what the demo prints and closes done once it has all of want.
type screen struct {
	// Guarded by mu.
	mu   sync.Mutex
	text strings.Builder
	want []string
	done chan struct{}
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text.Write(p)
	missing := s.want[:0]
	for _, w := range s.want {
		if !strings.Contains(s.text.String(), w) {
			missing = append(missing, w)
		}
	}
	if s.want = missing; len(missing) == 0 && s.done != nil {
		close(s.done)
		s.done = nil
	}
	return len(p), nil
}

// TestRun runs the whole demo until both doors have allowed, dropped and
// refused something.
func TestRun(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	done := make(chan struct{})
	s := &screen{done: done, want: []string{
		"mosquitto_pub -h 127.0.0.1", "gateway  allow    PUBLISH", "agent    allow    PUBLISH",
		"gateway  drop     PUBLISH", "agent    drop     PUBLISH", "acl-denied by no-keys", "gateway  close    CONNECT",
	}}
	finished := make(chan error, 1)
	go func() {
		finished <- Run(ctx, Options{Out: s, Version: "test", Log: slog.New(slog.DiscardHandler)})
	}()
	select {
	case <-done:
	case err := <-finished:
		t.Fatalf("ended early: %v\n%s", err, s.text.String())
	}
	cancel()
	if err := <-finished; err != nil {
		t.Error(err)
	}
	if got := s.text.String(); !strings.Contains(got, "Stopped.") {
		t.Errorf("no goodbye:\n%s", got)
	}
}

// pipe is an output whose reader goes after so many writes.
type pipe struct{ left int } // the printer's lock guards it

func (p *pipe) Write(b []byte) (int, error) {
	if p.left--; p.left < 0 {
		return 0, syscall.EPIPE
	}
	return len(b), nil
}

// TestNobodyReads: the demo ends when its output is closed, and takes its files
// away.
func TestNobodyReads(t *testing.T) {
	for _, writes := range []int{0, 3} { // the introduction, a decision
		dir := t.TempDir()
		t.Setenv("TMPDIR", dir)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := Run(ctx, Options{Out: &pipe{writes}, Version: "test", Log: slog.New(slog.DiscardHandler)}); err != nil || ctx.Err() != nil {
			t.Errorf("after %d writes: %v, %v", writes, err, ctx.Err())
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("after %d writes: %v is left, %v", writes, left, err)
		}
	}
}
