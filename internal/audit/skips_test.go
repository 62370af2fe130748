package audit

import (
	"testing"
	"time"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/session"
)

// TestSkips holds the short cut against what it cuts short.
func TestSkips(t *testing.T) {
	for _, include := range []string{"denied", "all"} {
		l, _ := open(t, include)
		s := session.New(session.NewSettings(policy.DoorGateway, config.Default()), 1)
		var c Conn
		each := func(check func(e *session.Event)) {
			for k := session.KindAllowed; k <= session.KindDisconnected; k++ {
				for cause := session.CauseNone; cause <= session.CauseInternal; cause++ {
					check(&session.Event{Kind: k, End: session.End{Cause: cause}})
					check(&session.Event{Kind: k, End: session.End{Cause: cause}, Repeat: true})
					check(&session.Event{Kind: k, End: session.End{Cause: cause}, Count: 7})
				}
			}
		}
		each(func(e *session.Event) {
			out := c.Event(s, e, time.Now())
			if l.Skips(e) && l.wants(&out) {
				t.Errorf("include %s: kind %d, cause %d is skipped and wanted", include, e.Kind, e.End.Cause)
			}
		})
		connected := &session.Event{Kind: session.KindConnected}
		if got, want := l.Skips(connected), include == "denied"; got != want {
			t.Errorf("include %s: Skips(connected) = %v", include, got)
		}
		cancel := l.Subscribe(func(*Event) {})
		each(func(e *session.Event) {
			if l.Skips(e) && e.Count == 0 {
				t.Errorf("include %s: kind %d is skipped though somebody listens", include, e.Kind)
			}
		})
		cancel()
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}
