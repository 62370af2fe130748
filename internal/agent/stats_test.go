package agent

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/agent/wire"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/metrics"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// TestMetrics: what happened is counted, over all connections and transports,
// and proxies are told the same. A packet counts once, whatever refuses it.
func TestMetrics(t *testing.T) {
	a := open(t, conf(), nil, overRPC)
	for i, p := range []*testkit.Proxy{a.proxy(t, wire.V1), a.proxy(t, wire.V2), a.rpcProxy(t, wire.V1)} {
		w := connect(t, p, fmt.Sprint("w", i))
		want(t, "allowed", w.Send(t, mqtt.Client, join(publish("dev/a", 0), publish("dev/b", 0))), wire.WSAllow)
		several := w.Send(t, mqtt.Client, testkit.Subscribe(mqtt.V311, 3, "other", "dev/secret/a", "$share", "other/a"))
		want(t, "refused", several, wire.WSDrop)
		if !slices.Equal(several.Rules, []string{"default-action", "no", "protocol"}) {
			t.Errorf("refused by %q, want the three of them", several.Rules)
		}
		wantClose(t, "text", w.Frame(t, mqtt.Client, wire.OpText, true, []byte("x")), 1003)
		p.Upgrade(t, "u", map[string][]string{"upgrade": {"websocket"}})
	}
	text := string(metrics.AppendText(nil, a.Metrics()))
	for _, line := range []string{
		`mqtt_agent_packets_processed_total{from="client"} 12`, `mqtt_agent_packets_processed_total{from="broker"} 3`,
		`mqtt_agent_messages_processed_total{from="client"} 6`,
		`mqtt_agent_packets_blocked_total{reason="acl-denied"} 3`, `mqtt_agent_packets_blocked_total{reason="protocol-error"} 3`,
		`mqtt_agent_packets_blocked_total{reason="upgrade-refused"} 3`, `mqtt_agent_packets_detected_total{reason="acl-denied"} 0`,
		`mqtt_agent_authenticated_total 3`, `mqtt_agent_frames_total{decision="allow"} 9`,
		`mqtt_agent_frames_total{decision="drop"} 3`, `mqtt_agent_frames_total{decision="close"} 3`,
		`mqtt_agent_upgrades_refused_total 3`, `mqtt_agent_websockets 0`, `mqtt_agent_connections 9`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("no line %q in\n%s", line, text)
		}
	}
	r := a.report(a.epoch)
	b := r.AppendMessage(nil)
	var told struct {
		Counters []struct {
			Name   string
			Labels map[string]string
			Value  uint64
		}
	}
	if err := json.Unmarshal(b[wire.DetectLen:], &told); err != nil || strings.Contains(string(b), "null") {
		t.Fatalf("%s: %v", b, err)
	}
	for _, c := range told.Counters {
		if c.Name == "mqtt_agent_packets_blocked_total" && c.Labels["reason"] == "acl-denied" && c.Value == 3 {
			return
		}
	}
	t.Errorf("proxies are told %s", b)
}
