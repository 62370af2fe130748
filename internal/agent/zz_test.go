package agent

import (
	"testing"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/agent/wire"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

func TestZZ(t *testing.T) {
	a := open(t, conf(), nil, overRPC)
	for _, route := range []string{"mqtt-ws", "other"} {
		for _, p := range []*testkit.Proxy{a.proxy(t, wire.V1), a.proxy(t, wire.V2), a.rpcProxy(t, wire.V1)} {
			w := p.Open("id")
			w.Route = route
			r := w.Frame(t, mqtt.Client, wire.OpPing, true, nil)
			t.Logf("%v %v seen %v live %d", r.WebSocket, r.Reason, a.table.seen.has([]byte("id"), begun), a.table.live.Load())
			a.decider().completed("id")
			t.Logf("seen %v live %d", a.table.seen.has([]byte("id"), begun), a.table.live.Load())
		}
	}
}
