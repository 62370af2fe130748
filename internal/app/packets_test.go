package app

import (
	"bytes"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/audit"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
)

// TestLogPackets turns general.log-packets on and off again.
func TestLogPackets(t *testing.T) {
	out := config.Audit{Output: filepath.Join(t.TempDir(), "audit"), Include: "denied"}
	emit := func(on ...bool) string {
		l, err := audit.Open(out)
		if err != nil {
			t.Fatal(err)
		}
		var text bytes.Buffer
		a := &App{audit: l, log: slog.New(slog.NewTextHandler(&text, nil))}
		for _, on := range on {
			a.logPackets(&config.Config{General: config.General{LogPackets: on}})
		}
		n := 3
		l.Emit(audit.Event{Event: "mqtt,allowed", Packet: "PUBLISH", Topic: "a\nb", PayloadBytes: &n})
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		return text.String()
	}
	if got := emit(true, true); strings.Count(got, "packet=PUBLISH") != 1 || !strings.Contains(got, `topic="a\nb"`) || !strings.Contains(got, "payload_bytes=3") {
		t.Errorf("on: got %q", got)
	}
	if got := emit(false) + emit(true, false); got != "" {
		t.Errorf("off: got %q", got)
	}
}
