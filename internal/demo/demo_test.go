package demo

import (
	"context"
	"log/slog"
	"strings"
	"sync"
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
