//go:build matrix

package matrix

import (
	"fmt"
	"strings"
	"testing"
)

// bridge puts a second Mosquitto behind the gateway, which is to it a broker
// like any other.
func bridge(t *testing.T, up *running) {
	for _, version := range both {
		for _, private := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/try_private %t", version, private), func(t *testing.T) { bridgeOnce(t, up, version, private) })
		}
	}
}

func bridgeOnce(t *testing.T, up *running, version string, private bool) {
	g := front(t, gatewayConfig{upstream: up.url("tcp", version)})
	root := "m/" + unique("bridge")
	name := strings.ReplaceAll(root, "/", "-")
	state := "$SYS/broker/connection/" + name + "/state"
	o := observer(t, up, version)
	defer end(t, o.disconnect)
	mustSubscribe(t, o, 1, state, root+"/up/#", "m/secret/#")

	b := brokerNamed("Mosquitto")
	// A bridge with `both` would see its own messages again, were it not for No
	// Local of 5.0.
	local, err := mosquittoWith(b, t.TempDir(), freePort(), fmt.Sprintf(`connection b
address 127.0.0.1:%d
remote_clientid %s
restart_timeout 1
cleansession false
try_private %t
bridge_protocol_version %s
topic %s/up/# out 1
topic m/secret/# out 1
topic %[6]s/down/# in 1
topic %[6]s/both/# %s 1
`, g.port, name, private, map[string]string{"3.1.1": "mqttv311", "5.0": "mqttv50"}[version], root, root, map[string]string{"3.1.1": "in", "5.0": "both"}[version]))
	if err != nil {
		t.Fatal(err)
	}
	defer local.stop()
	up1 := message{Topic: state, Payload: "1", QoS: 1}
	expect(t, o, up1)

	inside := observer(t, local, version)
	defer end(t, inside.disconnect)
	mustSubscribe(t, inside, 1, root+"/down/#", root+"/both/#")

	// Outwards: none of what is forbidden, all of the rest.
	mustPublish(t, inside, message{Topic: "m/secret/x", Payload: "secret", QoS: 1})
	sent := numbered(root+"/up/x", 1, inBurst)
	mustPublish(t, inside, sent...)
	seen := append([]message{up1}, sent...)
	expect(t, o, seen...)

	// Inwards, and in both directions without an echo.
	down := numbered(root+"/down/x", 1, inBurst)
	mustPublish(t, o, down...)
	expect(t, inside, down...)
	if version == "5.0" {
		mustPublish(t, inside, message{Topic: root + "/both/x", Payload: "once", QoS: 1})
		down = append(down, message{Topic: root + "/both/x", Payload: "once", QoS: 1})
	}
	mustPublish(t, o, message{Topic: root + "/both/y", Payload: "last", QoS: 1})
	down = append(down, message{Topic: root + "/both/y", Payload: "last", QoS: 1})
	expect(t, inside, down...)

	// The gateway is lost: the will says so; what is published meanwhile
	// arrives when it is back.
	g.proc.Kill()
	seen = append(seen, message{Topic: state, Payload: "0", QoS: 1})
	expect(t, o, seen...)
	kept := message{Topic: root + "/up/kept", Payload: "kept", QoS: 1}
	mustPublish(t, inside, kept)
	if err := g.start(version); err != nil {
		t.Fatal(err)
	}
	// Mosquitto says that it is back before or after it sends what it kept.
	got, err := o.receive(len(seen) + 2)
	if text := fmt.Sprint(got[min(len(seen), len(got)):]); err != nil || len(got) != len(seen)+2 || !strings.Contains(text, up1.String()) || !strings.Contains(text, kept.String()) {
		t.Fatalf("after the restart: %s, %v", text, err)
	}
}
