package mqtt_test

import (
	"testing"

	mochi "github.com/mochi-mqtt/server/v2/packets"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
)

// TestMochiCatalogue runs mochi's own catalogue of packets: what it refuses is
// refused, what it takes is taken, except as listed.
func TestMochiCatalogue(t *testing.T) {
	differs := map[string]string{ // type and description → why
		"PUBLISH dup":                              "DUP with QoS 0 [MQTT-3.3.1-2], which its codec takes and its server refuses",
		"PUBLISH deny publishing to $SYS topics":   "policy, not codec",
		"CONNACK miscellaneous protocol violation": "a code of 5.0 in a CONNACK of 3.1.1",
		"CONNACK bad protocol version":             "session present with an error [MQTT-3.2.2-6]",
		"CONNACK bad client id":                    "likewise",
		"CONNACK server unavailable":               "likewise",
		"CONNACK bad username or password":         "likewise",
		"CONNACK not authorised":                   "likewise",
		"SUBACK invalid shared no local":           "0x82 is not a code of SUBACK [MQTT-3.9.3-2]",
	}
	checked := 0
	for typ, cases := range mochi.TPacketData {
		for _, c := range cases {
			if len(c.RawBytes) < 2 || c.Group == "encode" { // packets to be built, not read
				continue
			}
			v := mqtt.V311
			if c.Packet != nil && c.Packet.ProtocolVersion != 0 {
				v = mqtt.Version(c.Packet.ProtocolVersion)
			}
			want := c.Expect
			if c.FailFirst != nil {
				want = c.FailFirst
			}
			_, err := parse(c.RawBytes, v, mqtt.Client)
			if err != nil { // the catalogue does not say who sends
				if _, err2 := parse(c.RawBytes, v, mqtt.Broker); err2 == nil {
					err = nil
				}
			}
			name := mqtt.Type(typ).String() + " " + c.Desc
			_, known := differs[name]
			switch {
			case known && (err == nil) == (want == nil):
				t.Errorf("%q no longer differs: take it out of the table", name)
			case !known && (err == nil) != (want == nil):
				t.Errorf("%q %v %x: %v, mochi says %v", name, v, c.RawBytes, err, want)
			}
			for _, v := range []mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5} {
				checkAny(t, c.RawBytes, v, mqtt.Client)
				checkAny(t, c.RawBytes, v, mqtt.Broker)
			}
			checked++
		}
	}
	if checked < 100 {
		t.Errorf("only %d packets checked", checked)
	}
}
