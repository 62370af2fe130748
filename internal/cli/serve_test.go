package cli

import (
	"os"
	"syscall"
	"testing"
	"time"
)

func TestEcho(t *testing.T) {
	for _, c := range []struct {
		s     os.Signal
		after time.Duration
		want  bool
	}{
		{syscall.SIGTERM, 0, true},
		{syscall.SIGTERM, echoTime - 1, true},
		{syscall.SIGTERM, echoTime, false},
		{syscall.SIGINT, 0, false}, // somebody at a terminal means it
	} {
		if got := echo(c.s, c.after); got != c.want {
			t.Errorf("%v after %v: %v, want %v", c.s, c.after, got, c.want)
		}
	}
}
