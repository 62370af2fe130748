package mqtt_test

import (
	"errors"
	"testing"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

var versions = []mqtt.Version{0, mqtt.V31, mqtt.V311, mqtt.V5}

// FuzzHeader: no bytes make a fixed header that its prefixes contradict.
func FuzzHeader(f *testing.F) {
	for _, p := range testkit.Packets() {
		f.Add(p.Bytes[:min(5, len(p.Bytes))])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, v := range versions {
			for _, from := range []mqtt.Side{mqtt.Client, mqtt.Broker} {
				h, err := mqtt.ParseHeader(b, v, from)
				if err != nil && !errors.Is(err, mqtt.ErrIncomplete) {
					checkRefusal(t, b, err)
					continue
				}
				if err == nil && (h.Len < 2 || h.Len > 5 || h.Len > len(b) || h.Length < 0 || h.Length > mqtt.MaximumLength ||
					byte(h.Type)<<4|h.Flags != b[0] || h.Overlong && v == mqtt.V5) {
					t.Fatalf("%x %v %v: %+v", b, v, from, h)
				}
				// What is good whole is good in every part, and incomplete.
				for n := range min(len(b), max(h.Len, 1)) {
					if _, err := mqtt.ParseHeader(b[:n], v, from); !errors.Is(err, mqtt.ErrIncomplete) {
						t.Fatalf("%x %v %v: its first %d bytes give %v", b, v, from, n, err)
					}
				}
			}
		}
	})
}

// FuzzPacket: any bytes as a packet of any version from either side: no panic,
// no prefix that parses, what is accepted encodes back to its bytes.
func FuzzPacket(f *testing.F) {
	for _, p := range testkit.Packets() {
		if len(p.Bytes) < 1024 {
			f.Add(p.Bytes)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, v := range versions[1:] {
			for _, from := range []mqtt.Side{mqtt.Client, mqtt.Broker} {
				checkAny(t, b, v, from)
			}
		}
		// Bytes that are not what a parse has validated must not hurt either.
		walk(t, b)
	})
}

func walk(t *testing.T, b []byte) {
	p := mqtt.Properties(b)
	for n := 0; ; n++ {
		prop, rest, ok := p.Next()
		if !ok {
			break
		}
		if len(rest) >= len(p) || n > len(b) {
			t.Fatalf("%x: property %+v leaves %d of %d bytes", b, prop, len(rest), len(p))
		}
		p = rest
	}
	mqtt.Properties(b).Has(mqtt.UserProperty)
	mqtt.Properties(b).AppendWithout(nil, mqtt.UserProperty)
}
