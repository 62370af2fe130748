package gateway

import (
	"strings"
	"testing"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/metrics"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// TestMetrics: what passed and what was refused is counted, over every
// transport. A packet counts once, whatever refuses it.
func TestMetrics(t *testing.T) {
	overAll(t, func(t *testing.T, transport string) {
		r, s := serveScript(t, transport, `{"acl": {"rules": [
			{"topics": ["dev/secret"], "decision": "deny", "priority": 1}, {"topics": ["dev/#"], "decision": "allow"}]}}`)
		for _, id := range []string{"a", "b"} {
			client, up := r.open(t, s, id)
			allowed := testkit.Publish(mqtt.V311, "dev/a", 0, 0, "x")
			send(t, client, testkit.Subscribe(mqtt.V311, 3, "nowhere", "dev/secret"))
			expect(t, "client", client, testkit.Suback(mqtt.V311, 3, 0x80, 0x80))
			send(t, client, allowed)
			expect(t, "broker", up, allowed)
			send(t, up, allowed)
			expect(t, "client", client, allowed)
			client.Close() // done
		}
		testkit.Eventually(t, "all is counted", func() bool {
			text := string(metrics.AppendText(nil, r.g.Metrics()))
			for _, line := range []string{
				`mqtt_gateway_packets_processed_total{from="client"} 6`, `mqtt_gateway_packets_processed_total{from="broker"} 4`,
				`mqtt_gateway_messages_processed_total{from="broker"} 2`, `mqtt_gateway_packets_blocked_total{reason="acl-denied"} 2`,
				`mqtt_gateway_authenticated_total 2`, `mqtt_gateway_accepted_total 2`, `mqtt_gateway_connected 0`,
			} {
				if !strings.Contains(text, line+"\n") {
					return false
				}
			}
			return true
		})
	})
}
