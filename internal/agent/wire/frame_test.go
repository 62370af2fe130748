package wire

import (
	"bytes"
	"strings"
	"testing"
)

// captured is a frame as release 0.6.54 writes it.
const captured = `{"client_ip":"127.0.0.1","client_to_server":true,"correlation_id":"WZwGdqeKMFh","data":"4AA=","fin":true,"frame_index":5,"opcode":"binary","route_id":"mqtt-ws"}`

const capturedV1 = `{"version":1,"event_type":"web_socket_frame","payload":{"correlation_id":"k3Zr0aPq81x","opcode":"binary","data":"wAA=","client_to_server":true,"frame_index":4,"fin":true,"route_id":"mqtt-ws","client_ip":"198.51.100.7:40112"}}`

func TestFrameScan(t *testing.T) {
	var f Frame
	if !f.Scan([]byte(captured)) {
		t.Fatal("the captured event takes the slow path")
	}
	if string(f.CorrelationID) != "WZwGdqeKMFh" || f.Opcode != OpBinary || !f.ClientToServer || f.Index != 5 ||
		!f.Fin || !f.HasRoute || string(f.Route) != "mqtt-ws" || string(f.ClientIP) != "127.0.0.1" {
		t.Errorf("got %+v", f)
	}
	if data, err := f.AppendData(nil); err != nil || !bytes.Equal(data, []byte{0xe0, 0}) {
		t.Errorf("data %x, %v", data, err)
	}
	if !f.ScanV1([]byte(capturedV1)) || f.Index != 4 || string(f.ClientIP) != "198.51.100.7:40112" {
		t.Errorf("v1: got %+v", f)
	}
}

func TestFrameScanLeavesToParse(t *testing.T) {
	with := func(old, now string) string { return strings.Replace(captured, old, now, 1) }
	for _, c := range []struct {
		name, in string
		readable bool
	}{
		{"escape in a value", with("WZw", `\u0057Zw`), true},
		{"escape in a key", with("data", `d\u0061ta`), true},
		{"outside ASCII", with("WZw", "Wü"), true},
		{"unknown key", with(`"fin"`, `"new":{"a":[1]},"fin"`), true},
		{"id twice, equal", with(`"fin"`, `"correlation_id":"WZwGdqeKMFh","fin"`), true},
		{"id twice, different", with(`"fin"`, `"correlation_id":"other","fin"`), false},
		{"data twice", with(`"fin"`, `"data":"AAAA","fin"`), false},
		{"key in another case", with(`"fin"`, `"Fin"`), false},
		{"no fin", with(`"fin":true,`, ""), false},
		{"null data", with(`"4AA="`, "null"), false},
		{"negative index", with(":5", ":-5"), false},
		{"fraction", with(":5", ":5.0"), false},
		{"leading zero", with(":5", ":05"), false},
		{"index beyond 64 bits", with(":5", ":18446744073709551616"), false},
		{"largest index", with(":5", ":18446744073709551615"), true},
		{"trailing object", captured + "{}", false},
		{"control character", with("WZw", "W\x01w"), false},
		{"not UTF-8", with("WZw", "W\xffw"), false},
		{"array", "[" + captured + "]", false},
		{"empty", "", false},
	} {
		var f Frame
		if f.Scan([]byte(c.in)) {
			t.Errorf("%s: scanned", c.name)
		}
		if err := f.Parse([]byte(c.in)); (err == nil) != c.readable {
			t.Errorf("%s: Parse: %v, want readable %v", c.name, err, c.readable)
		}
	}
	for _, in := range []string{captured[:len(captured)-1], " " + captured + "\n", with(",", " ,\t"), with("true", "false"), with(`"mqtt-ws"`, "null"), with(`"client_ip":"127.0.0.1",`, "")} {
		var fast, slow Frame
		ok := fast.Scan([]byte(in))
		if err := slow.Parse([]byte(in)); ok != (err == nil) || ok && !same(&fast, &slow) {
			t.Errorf("%s: scan %v %+v, parse %v %+v", in, ok, fast, err, slow)
		}
	}
}

func TestFrameEveryPrefix(t *testing.T) {
	for i := range len(captured) {
		var f Frame
		if f.Scan([]byte(captured[:i])) || f.Parse([]byte(captured[:i])) == nil {
			t.Errorf("prefix of %d bytes is read as an event", i)
		}
	}
}

func TestAppendData(t *testing.T) {
	for _, c := range []struct {
		in, want string
		ok       bool
	}{
		{"", "", true},
		{"AA==", "\x00", true},
		{"AAA=", "\x00\x00", true},
		{"AAAA", "\x00\x00\x00", true},
		{"AA", "", false},       // no padding
		{"AB==", "", false},     // stray bits
		{"AA=", "", false},      // half padding
		{"AA==AAAA", "", false}, // padding inside
		{"AA\n==", "", false},   // line break
		{"AAAA\r\nAAAA", "", false},
		{"AAAA\n\n\n\n", "", false},
		{"A-_A", "", false}, // URL alphabet
		{"====", "", false},
	} {
		f := Frame{Data: []byte(c.in)}
		got, err := f.AppendData([]byte("before"))
		if (err == nil) != c.ok || string(got) != "before"+c.want {
			t.Errorf("%q: %q, %v; want %q, ok %v", c.in, got, err, c.want, c.ok)
		}
	}
}

func same(a, b *Frame) bool {
	return bytes.Equal(a.CorrelationID, b.CorrelationID) && a.Opcode == b.Opcode && bytes.Equal(a.Data, b.Data) &&
		a.ClientToServer == b.ClientToServer && a.Index == b.Index && a.Fin == b.Fin &&
		a.HasRoute == b.HasRoute && bytes.Equal(a.Route, b.Route) && bytes.Equal(a.ClientIP, b.ClientIP)
}

// FuzzFrameEvent holds the scanner against encoding/json: what it accepts,
// Parse reads to the same result, and what we write it accepts.
func FuzzFrameEvent(f *testing.F) {
	f.Add([]byte(captured))
	f.Add([]byte(capturedV1))
	f.Add([]byte(strings.Replace(captured, "WZw", `\"`, 1)))
	f.Add([]byte(strings.Replace(captured, ":5", ":1e3", 1)))
	f.Add([]byte(`{"correlation_id":"a","correlation_id":"a"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var fast, slow Frame
		if fast.Scan(b) {
			if err := slow.Parse(b); err != nil || !same(&fast, &slow) {
				t.Fatalf("scanned %+v, parsed %+v, %v", fast, slow, err)
			}
		}
		if fast.ScanV1(b) {
			var e Envelope
			if err := e.Parse(b); err != nil || e.Type() != WebSocketFrame {
				t.Fatalf("scanned a v1 event; parsed %+v, %v", e, err)
			}
			if err := slow.Parse(e.Payload); err != nil || !same(&fast, &slow) {
				t.Fatalf("v1: scanned %+v, parsed %+v, %v", fast, slow, err)
			}
		}
		if slow.Parse(b) == nil {
			if id, ok := CorrelationID(b); !ok && len(slow.CorrelationID) > 0 {
				t.Fatalf("readable event without an id: %q", id)
			}
		}
		var h Headers
		_ = h.Parse(b)
		var e Envelope
		_ = e.Parse(b)
		var r Response
		_ = r.Parse(b)
	})
}

func BenchmarkFrameScan(b *testing.B) {
	for name, size := range map[string]int{"120B": 120, "8KiB": 8 << 10} {
		e := FrameEvent{CorrelationID: "WZwGdqeKMFh", Route: "mqtt-ws", ClientIP: "198.51.100.7", Opcode: OpBinary, ClientToServer: true, Fin: true, Data: make([]byte, size)}
		text := e.Append(nil)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(text)))
			var f Frame
			var scratch []byte
			for b.Loop() {
				if !f.Scan(text) {
					b.Fatal("slow path")
				}
				scratch, _ = f.AppendData(scratch[:0])
			}
		})
	}
}

func TestFrameScanDoesNotAllocate(t *testing.T) {
	text, v1 := []byte(captured), []byte(capturedV1)
	scratch := make([]byte, 0, 64)
	var f Frame
	if n := testing.AllocsPerRun(100, func() {
		f.Scan(text)
		scratch, _ = f.AppendData(scratch[:0])
		f.ScanV1(v1)
	}); n != 0 {
		t.Errorf("%v allocations a frame", n)
	}
}
