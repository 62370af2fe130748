package agent

import (
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/session"
)

// connected notes that the broker has accepted the client. One with the same id
// was ended there for it, which nobody tells: it is ended here, too. The caller
// holds mu.
func (ws *webSocket) connected(a *Agent) {
	s := ws.sess.Subject()
	if s == nil {
		return
	}
	if older := a.table.connect(ws, s.Identity().ClientID); older != nil && older != ws {
		a.checks.Go(func() { older.guarded(a, func() { older.takenOver(a) }) }) // never under two locks
	}
}

// takenOver ends the WebSocket of a client that came again over another.
func (ws *webSocket) takenOver(a *Agent) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.gone {
		return
	}
	fx := &session.Effects{WantVerdicts: true}
	if ws.doom == nil {
		ws.sess.Lost(a.now(), mqtt.Broker, fx)
		ws.report(a, fx, false)
	}
	ws.free(a)
	a.table.ended(ws.key, a.now())
}
