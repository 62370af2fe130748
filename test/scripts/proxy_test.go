package scripts

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// denies PATH says what the proxy says of a client that publishes, in both
// generations of the protocol, and wants it refused.
func denies(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: denies PATH")
	}
	connect := []byte("\x10\x13\x00\x04MQTT\x04\x02\x00\x3c\x00\x07visitor")
	publish := []byte("\x30\x06\x00\x03a/bx")
	for _, v2 := range []bool{false, true} {
		conn, err := net.Dial("unix", ts.MkAbs(args[0]))
		ts.Check(err)
		defer conn.Close()
		ts.Check(conn.SetDeadline(time.Now().Add(testkit.Patience)))
		if v2 {
			answer := ask(ts, conn, "\x01", `{"supported_versions":[2],"proxy_id":"zentinel-proxy","proxy_version":"0.6.54","config":null,"supported_encodings":["json"]}`)
			if !strings.HasPrefix(answer, "\x02") || !strings.Contains(answer, `"success":true`) {
				ts.Fatalf("handshake: %q", answer)
			}
		}
		decide := func(index int, data []byte) string {
			id := fmt.Sprint("denies-", v2)
			event, err := json.Marshal(map[string]any{
				"correlation_id": id, "opcode": "binary", "data": data, "client_to_server": true,
				"frame_index": index, "fin": true, "route_id": "mqtt-ws", "client_ip": "198.51.100.7",
			})
			ts.Check(err)
			if v2 {
				return ask(ts, conn, "\x15", string(event))
			}
			return ask(ts, conn, "", `{"version":1,"event_type":"web_socket_frame","payload":`+string(event)+`}`)
		}
		first, second := decide(0, connect), decide(1, publish)
		if !strings.Contains(first, `"close"`) && !strings.Contains(second, `"close"`) && !strings.Contains(second, `"drop"`) {
			ts.Fatalf("answers %q, %q: nothing is refused", first, second)
		}
		if strings.Contains(second, `"websocket_decision":"allow"`) {
			ts.Fatalf("the publish is allowed: %q", second)
		}
	}
}

// ask writes a message and returns the next one.
func ask(ts *testscript.TestScript, conn net.Conn, kind, payload string) string {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(kind)+len(payload)))
	_, err := conn.Write(append(append(b, kind...), payload...))
	ts.Check(err)
	for {
		var size [4]byte
		_, err = io.ReadFull(conn, size[:])
		ts.Check(err)
		answer := make([]byte, binary.BigEndian.Uint32(size[:]))
		_, err = io.ReadFull(conn, answer)
		ts.Check(err)
		if answer[0] < 0x30 || answer[0] == '{' { // not health or metrics
			return string(answer)
		}
	}
}
