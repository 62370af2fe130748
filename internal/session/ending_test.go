package session_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/session"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// TestRevokedInALargePayload has policy end a client whose will the broker must
// not publish while a PUBLISH too large to be held back is passing: it is waited
// for, not long.
func TestRevokedInALargePayload(t *testing.T) {
	big := testkit.Publish(mqtt.V5, "dev/a", 0, 0, strings.Repeat("x", 100_000))
	for name, c := range map[string]struct {
		then func(r *rig)
		told []byte
	}{
		"its rest comes": {
			func(r *rig) { r.feed(mqtt.Client, append(bytes.Clone(big[50_000:]), testkit.Pingreq()...)) },
			append(bytes.Clone(big[50_000:]), testkit.Disconnect(mqtt.V5, 0)...),
		},
		"its rest does not come": {func(r *rig) { r.wait(session.Second) }, nil},
		"the client leaves":      {func(r *rig) { r.call(nil, mqtt.Client, func() { r.s.Lost(r.now, mqtt.Client, &r.fx) }) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, policy.DoorGateway, engineOf(t, plainConfig))
			r.feed(mqtt.Client, testkit.Connect(mqtt.V5, "c1", testkit.Will("dev/w", "gone", 0, false)))
			r.feed(mqtt.Broker, testkit.Connack(mqtt.V5, false, 0))
			r.out = [2][]byte{}
			r.feed(mqtt.Client, big[:50_000])
			if !bytes.Equal(r.out[mqtt.Broker], big[:50_000]) {
				t.Fatalf("%d bytes went up, want 50000", len(r.out[mqtt.Broker]))
			}
			r.out = [2][]byte{}
			r.call(nil, mqtt.Client, func() { r.s.Policy(r.now, nil, &r.fx) })
			if r.ended {
				t.Fatal("ended inside the packet")
			}
			c.then(r)
			if !r.ended || r.end.Cause != session.CausePolicy {
				t.Errorf("ended %v, cause %v", r.ended, r.end.Cause)
			}
			if !bytes.Equal(r.out[mqtt.Broker], c.told) {
				t.Errorf("the broker got % .40x, want % .40x", r.out[mqtt.Broker], c.told)
			}
		})
	}
}
