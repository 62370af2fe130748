package mqtt_test

import (
	"errors"
	"fmt"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
)

// A stream is read header by header; the view of the type does the rest.
func Example() {
	stream := []byte("\x32\x0A\x00\x03a/b\x00\x07hey" + "\xC0\x00" + "\x32\x0A\x00")
	for {
		h, err := mqtt.ParseHeader(stream, mqtt.V311, mqtt.Client)
		if err == nil && len(stream) < h.Size() {
			err = mqtt.ErrIncomplete
		}
		if errors.Is(err, mqtt.ErrIncomplete) {
			fmt.Println("wait for more after", len(stream), "bytes")
			return
		}
		if err != nil {
			fmt.Println(err)
			return
		}
		body := stream[h.Len:h.Size()]
		if h.Type == mqtt.PUBLISH {
			var p mqtt.Publish
			if err := p.Parse(h, mqtt.V311, body); err != nil {
				fmt.Println(err)
				return
			}
			fmt.Printf("%v %s %q, packet %d\n", h.Type, p.Topic, p.Payload, p.PacketID)
		} else {
			fmt.Println(h.Type)
		}
		stream = stream[h.Size():]
	}
	// Output:
	// PUBLISH a/b "hey", packet 7
	// PINGREQ
	// wait for more after 3 bytes
}

// A refusal names the clause that the bytes break and where.
func ExampleError() {
	b := []byte("\x30\x06\x00\x03a/#x")
	h, _ := mqtt.ParseHeader(b, mqtt.V311, mqtt.Client)
	var p mqtt.Publish
	err := p.Parse(h, mqtt.V311, b[h.Len:])
	var refusal *mqtt.Error
	if errors.As(err, &refusal) {
		fmt.Printf("%#x %s\n", byte(refusal.Code), refusal.Clause)
	}
	fmt.Println(err)
	// Output:
	// 0x81 MQTT-3.3.2-2
	// mqtt: malformed packet at byte 0: topic name holds a wildcard [MQTT-3.3.2-2]
}
