package upstream

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
)

// TestAwayAndBack: one line when a broker goes, one when it is back, whatever
// the number of clients; and not for each turn of one that comes and goes.
func TestAwayAndBack(t *testing.T) {
	var text bytes.Buffer
	s, err := New(&config.Gateway{Upstreams: []config.Upstream{{URL: "mqtt://a:1"}}}, slog.New(slog.NewTextHandler(&text, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	b, now := s.Brokers()[0], int64(1)
	logged := func(what string, want ...string) {
		t.Helper()
		lines := strings.Split(strings.TrimSuffix(text.String(), "\n"), "\n")
		if text.Len() == 0 {
			lines = nil
		}
		text.Reset()
		ok := len(lines) == len(want)
		for i := range want {
			ok = ok && strings.Contains(lines[i], want[i])
		}
		if !ok {
			t.Errorf("%s: logged %q, want %q", what, lines, want)
		}
	}
	b.worked()
	logged("all is well")
	for range 1000 {
		b.failed(now, errors.New("connection refused"))
	}
	logged("it goes", `level=WARN msg="broker is away`)
	b.worked()
	b.worked()
	logged("it comes back", `level=INFO msg="broker is back" upstream=mqtt://a:1`)
	for range 1000 {
		now += int64(time.Millisecond)
		b.failed(now, errTimeout)
		b.worked()
	}
	logged("it comes and goes")
	now += int64(sayEvery)
	b.failed(now, errors.New("connection refused"))
	logged("it goes later", `upstream=mqtt://a:1 error="connection refused"`)
}

// TestDownNotSaidAtTheEnd: dials that end because the set is closed are no news
// of a broker.
func TestDownNotSaidAtTheEnd(t *testing.T) {
	var text bytes.Buffer
	s, err := New(&config.Gateway{Upstreams: []config.Upstream{{URL: "mqtt://127.0.0.1:1"}}}, slog.New(slog.NewTextHandler(&text, nil)))
	if err != nil {
		t.Fatal(err)
	}
	d := s.Dial(&fakeConn{now: 1}, "c", &owner{got: make(chan answer, 1)})
	s.Close()
	d.next(errTimeout)
	if text.Len() > 0 || s.Brokers()[0].fails.Load() != 0 {
		t.Errorf("logged %q", text.String())
	}
}
