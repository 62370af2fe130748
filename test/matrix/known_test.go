//go:build matrix

package matrix

import "strings"

// known is a difference that is not a defect of the gateway: it has been seen
// without it, or stands in the source of the broker.
type known struct {
	client, broker, script, scheme, version string // prefixes; "" is any
	qos                                     string // those it is about; "" is any
	note                                    string
	apart                                   bool // the two outcomes differ as well
	mended                                  bool // through the gateway all is well
	sometimes                               bool // and sometimes without
	anyOrder                                bool // of lines: the outcomes differ in nothing else
}

var knownDifferences = []*known{
	{
		broker: "Mochi", script: "properties", apart: true, sometimes: true,
		note: "Mochi 2.7 answers a PUBLISH of quality of service 1 that has user properties with a reason code that PUBACK does not have (0x01). Some clients overlook it; the gateway ends the connection, as it does for every broken packet of a broker.",
	},
	{
		broker: "Mochi", script: "retained", apart: true, sometimes: true,
		note: "Mochi 2.7 acknowledges a message before it hands it out: who subscribes in between sees it twice, retained and not.",
	},
	{
		client: "mosquitto", broker: "Mochi", script: "session", apart: true, sometimes: true,
		note: "Mochi 2.7 refuses a SUBSCRIBE whose packet id it uses itself for a message to that client (0x91, in MQTT 3.1.1 too), which befalls a client that comes back and subscribes again.",
	},
	{
		broker: "Mochi", script: "session", anyOrder: true, sometimes: true,
		note: "Mochi 2.7 delivers the messages that it kept in any order.",
	},
	{
		client: "mosquitto", broker: "rumqttd", script: "round trip", version: "5.0", qos: "2", apart: true, sometimes: true,
		note: "rumqttd 0.20 pays no heed to the Receive Maximum of a client. The programs of Mosquitto say 20, and end when 21 messages are under way, which is a matter of time.",
	},
	{
		client: "Paho C", broker: "Mochi", script: "round trip", scheme: "ws", apart: true, mended: true, sometimes: true,
		note: "Paho C 1.3 leaves all packets but the first of a WebSocket frame lying until another frame comes, and this broker sends several in one. Through the gateway all is well: it sends each packet in a frame of its own.",
	},
	{
		client: "Paho C", broker: "rumqttd", script: "round trip", scheme: "ws", apart: true, mended: true, sometimes: true,
		note: "The same of Paho C with rumqttd.",
	},
}

func knownFor(r result) *known {
	for _, k := range knownDifferences {
		if strings.HasPrefix(r.client, k.client) && strings.HasPrefix(r.broker, k.broker) && strings.HasPrefix(r.script, k.script) &&
			strings.HasPrefix(r.scheme, k.scheme) && strings.HasPrefix(r.version, k.version) && (k.qos == "" || strings.Contains(k.qos, string('0'+r.qos))) {
			return k
		}
	}
	return nil
}
