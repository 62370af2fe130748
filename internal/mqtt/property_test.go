package mqtt_test

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

func TestPropertiesBuild(t *testing.T) {
	var p mqtt.Properties
	p = p.AppendUint(mqtt.MaximumQoS, 1).
		AppendUint(mqtt.ServerKeepAlive, 0x1234).
		AppendUint(mqtt.SessionExpiryInterval, 0xFFFFFFFF).
		AppendUint(mqtt.SubscriptionIdentifier, 268_435_455).
		AppendString(mqtt.ReasonString, "no").
		AppendString(mqtt.AuthData, "\x00").
		AppendUser("key", "value").
		AppendUser("key", "")
	want := append([]byte(nil), testkit.Props(
		testkit.Prop8(mqtt.MaximumQoS, 1), testkit.Prop16(mqtt.ServerKeepAlive, 0x1234),
		testkit.Prop32(mqtt.SessionExpiryInterval, 0xFFFFFFFF), testkit.PropVar(mqtt.SubscriptionIdentifier, 268_435_455),
		testkit.PropStr(mqtt.ReasonString, "no"), testkit.PropStr(mqtt.AuthData, "\x00"),
		testkit.PropUser("key", "value"), testkit.PropUser("key", ""))[1:]...)
	if diff := cmp.Diff(want, []byte(p)); diff != "" {
		t.Fatal(diff)
	}

	var got []mqtt.Property
	for rest := p; ; {
		prop, next, ok := rest.Next()
		if !ok {
			break
		}
		got, rest = append(got, prop), next
	}
	if diff := cmp.Diff([]mqtt.Property{
		{ID: mqtt.MaximumQoS, Uint: 1},
		{ID: mqtt.ServerKeepAlive, Uint: 0x1234},
		{ID: mqtt.SessionExpiryInterval, Uint: 0xFFFFFFFF},
		{ID: mqtt.SubscriptionIdentifier, Uint: 268_435_455},
		{ID: mqtt.ReasonString, Data: []byte("no")},
		{ID: mqtt.AuthData, Data: []byte("\x00")},
		{ID: mqtt.UserProperty, Data: []byte("key"), Value: []byte("value")},
		{ID: mqtt.UserProperty, Data: []byte("key"), Value: []byte("")},
	}, got); diff != "" {
		t.Fatal(diff)
	}

	if !p.Has(mqtt.AuthData) || p.Has(mqtt.TopicAlias) || mqtt.Properties(nil).Has(mqtt.UserProperty) {
		t.Error("Has is wrong")
	}
	without := p.AppendWithout(mqtt.Properties{}, mqtt.UserProperty, mqtt.ServerKeepAlive, mqtt.TopicAlias)
	if without.Has(mqtt.UserProperty) || without.Has(mqtt.ServerKeepAlive) || !without.Has(mqtt.MaximumQoS) || !without.Has(mqtt.AuthData) {
		t.Errorf("AppendWithout gives %x", without)
	}
	if got := p.AppendWithout(nil); !cmp.Equal(got, p) {
		t.Errorf("AppendWithout nothing gives %x, want %x", got, p)
	}
}

// TestPropertiesMisuse: what a caller must not ask for panics rather than write
// a packet that means something else.
func TestPropertiesMisuse(t *testing.T) {
	for name, do := range map[string]func(){
		"number for a string":   func() { mqtt.Properties(nil).AppendUint(mqtt.ReasonString, 1) },
		"string for a number":   func() { mqtt.Properties(nil).AppendString(mqtt.MaximumQoS, "1") },
		"unknown id":            func() { mqtt.Properties(nil).AppendUint(0x7F, 1) },
		"value beyond a byte":   func() { mqtt.Properties(nil).AppendUint(mqtt.MaximumQoS, 256) },
		"value beyond a varint": func() { mqtt.Properties(nil).AppendUint(mqtt.SubscriptionIdentifier, 268_435_456) },
		"string too long":       func() { mqtt.Properties(nil).AppendString(mqtt.ReasonString, string(make([]byte, 65536))) },
		"topic too long":        func() { (&mqtt.Publish{Topic: make([]byte, 65536)}).Append(nil, mqtt.V5) },
		"packet too long":       func() { (&mqtt.Publish{}).AppendHead(nil, mqtt.V5, mqtt.MaximumLength) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("did not panic")
				}
			}()
			do()
		})
	}
}

// TestPropertiesOfAnything: bytes that nothing validated end, whatever they are.
func TestPropertiesOfAnything(t *testing.T) {
	for id := range 256 {
		for size := range 8 {
			for _, filler := range []byte{0x00, 0x01, 0x80, 0xFF} {
				b := append([]byte{byte(id)}, bytes.Repeat([]byte{filler}, size)...)
				walk(t, b)
			}
		}
	}
}
