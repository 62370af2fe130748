package agent

import (
	"testing"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/agent/wire"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// TestBlockModeOn: a WebSocket that began when nothing was blocked does not go
// on so, whatever passed over it.
func TestBlockModeOn(t *testing.T) {
	for _, opaque := range []bool{false, true} {
		d := open(t, conf(`"general":{"block-mode":false}`), nil)
		w := d.proxy(t, wire.V2).Open("w")
		w.Send(t, mqtt.Client, testkit.Connect(v4, "c"))
		w.Send(t, mqtt.Broker, testkit.Connack(v4, false, 0))
		want(t, "denied", w.Send(t, mqtt.Client, publish("other/a", 0)), wire.WSAllow)
		if opaque {
			want(t, "malformed", w.Send(t, mqtt.Client, []byte{0xFF, 0}), wire.WSAllow)
		}
		reload(t, d, conf(""))
		wantClose(t, "the next frame", w.Send(t, mqtt.Client, publish("dev/a", 0)), 1008)
	}
}
