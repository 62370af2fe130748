package agent

import (
	"fmt"
	"testing"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/agent/wire"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
)

// TestBufferBytes: packets that come in pieces are kept up to buffer-bytes, of
// all WebSockets together; beyond it the frame closes, and the others go on.
func TestBufferBytes(t *testing.T) {
	for _, g := range generations {
		d := open(t, conf(`"general":{"limits":{"buffer-bytes":131072}}`), nil)
		p := d.proxy(t, g)
		part := append([]byte{0x82, 0xC0, 0x96, 0x31}, make([]byte, 40_000)...) // of a SUBSCRIBE of 805,696 bytes
		closed := 0
		for i := range 8 {
			w := connect(t, p, fmt.Sprint("greedy", i))
			if r := w.Send(t, mqtt.Client, part); r.WebSocket == wire.WSClose {
				wantClose(t, "beyond", r, 1013)
				closed++
			}
		}
		if closed == 0 || closed == 8 {
			t.Errorf("%v: %d of 8 were closed", g, closed)
		}
		other := connect(t, p, "other")
		want(t, "another's publish", other.Send(t, mqtt.Client, publish("dev/a", 1)), wire.WSAllow)
	}
}
