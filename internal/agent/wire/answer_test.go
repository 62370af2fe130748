package wire

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

func TestAppendAllow(t *testing.T) {
	got := AppendAllow(nil, V2, []byte("k3Zr0aPq81x"))
	want := "\x00\x00\x00\x72\x20" + `{"version":2,"decision":"allow","websocket_decision":"allow","audit":{"custom":{"correlation_id":"k3Zr0aPq81x"}}}`
	if string(got) != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	a := Answer{Version: V1, Frame: true, WebSocket: WSAllow}
	var r Response
	if err := r.Parse(AppendAllow(nil, V1, nil)[headerLen:]); err != nil || r.Version != 1 || r.WebSocket != WSAllow {
		t.Errorf("v1: %+v, %v", r, err)
	}
	if err := r.Parse(a.AppendMessage(nil)[headerLen:]); err != nil || r.Version != 1 || r.WebSocket != WSAllow {
		t.Errorf("v1: %+v, %v", r, err)
	}
}

func TestAnswer(t *testing.T) {
	ugly := "a\"\\\x00\x1f\u2028<&>ü\U0001f600"
	for _, c := range []struct {
		name string
		in   Answer
		want Response
	}{
		{
			"the zero frame answer closes",
			Answer{Version: V2, Frame: true, Code: 1008},
			Response{Version: 2, HasWebSocket: true, WebSocket: WSClose, Code: 1008},
		},
		{
			"both refusals",
			Answer{Version: V2, CorrelationID: []byte("x"), Block: 403, Body: "no", Frame: true, WebSocket: WSClose, Code: 1013, Reason: "r"},
			Response{Version: 2, CorrelationID: "x", Block: 403, Body: "no", HasWebSocket: true, WebSocket: WSClose, Code: 1013, Reason: "r"},
		},
		{
			"drop with tags",
			Answer{Version: V2, Frame: true, WebSocket: WSDrop, Tags: []string{"mqtt", "blocked"}, Rules: []string{ugly}},
			Response{Version: 2, HasWebSocket: true, WebSocket: WSDrop, Tags: []string{"mqtt", "blocked"}, Rules: []string{ugly}},
		},
		{
			"header op",
			Answer{Version: V1, RemoveHeaders: []string{"a", "b"}},
			Response{Version: 1, RemoveHeaders: []string{"a", "b"}},
		},
		{
			"text of clients",
			Answer{Version: V2, CorrelationID: []byte(ugly), Frame: true, Reason: ugly},
			Response{Version: 2, CorrelationID: ugly, HasWebSocket: true, Reason: ugly},
		},
		{
			"long reason",
			Answer{Version: V2, Frame: true, Reason: strings.Repeat("ü", 100)},
			Response{Version: 2, HasWebSocket: true, Reason: strings.Repeat("ü", 61)},
		},
	} {
		b := c.in.Append(nil)
		if bytes.Contains(b, []byte("null")) {
			t.Errorf("%s: null in %s", c.name, b)
		}
		var got Response
		if err := got.Parse(b); err != nil {
			t.Errorf("%s: %s: %v", c.name, b, err)
			continue
		}
		gj, _ := json.Marshal(got)
		wj, _ := json.Marshal(c.want)
		if !bytes.Equal(gj, wj) {
			t.Errorf("%s: %s\ngot  %s\nwant %s", c.name, b, gj, wj)
		}
	}
}

func TestAnswerDoesNotAllocate(t *testing.T) {
	a := Answer{Version: V2, CorrelationID: []byte("k3Zr0aPq81x"), Block: 403, Frame: true, Code: 1008, Reason: "acl-denied", Tags: []string{"mqtt", "blocked", "acl-denied"}, Rules: []string{"r"}}
	buf := make([]byte, 0, 1024)
	if n := testing.AllocsPerRun(100, func() {
		buf = AppendAllow(buf[:0], V2, a.CorrelationID)
		buf = a.AppendMessage(buf)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestCorrelationID(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{captured, "WZwGdqeKMFh"},
		{capturedV1, "k3Zr0aPq81x"},
		{captured[:85], "WZwGdqeKMFh"},
		{`{"headers":{"x":["correlation_id"]},"metadata":{"correlation_id":"m"}}`, "m"},
		{`{"a":[{"correlation_id":"inside"}],"correlation_id":"o"}`, "o"},
		{`{"correlation_id":null}`, ""},
		{`{"correlation_id":""}`, ""},
		{`{"x":"correlation_id"}`, ""},
		{`garbage`, ""},
	} {
		if got, ok := CorrelationID([]byte(c.in)); got != c.want || ok != (c.want != "") {
			t.Errorf("%s: %q, %v; want %q", c.in, got, ok, c.want)
		}
	}
}

func TestHeaders(t *testing.T) {
	e := HeadersEvent{CorrelationID: "id", Route: "r", ClientIP: "192.0.2.1", Headers: map[string][]string{
		"Sec-WebSocket-Extensions": {"a, b; c=1", " d "},
	}}
	m := e.AppendMessage(nil, V2)
	var h Headers
	if err := h.Parse(m[DetectLen:]); err != nil || h.CorrelationID != "id" || h.Route != "r" || h.ClientIP != "192.0.2.1" {
		t.Fatalf("%+v, %v", h, err)
	}
	if got := strings.Join(h.Tokens("sec-websocket-extensions"), "|"); got != "a|b; c=1|d" {
		t.Errorf("tokens %q", got)
	}
	for name, in := range map[string]string{
		"ids that differ": strings.Replace(string(m[DetectLen:]), `"correlation_id":"id","headers"`, `"correlation_id":"other","headers"`, 1),
		"no headers":      `{"metadata":{"correlation_id":"id"}}`,
		"no metadata":     `{"correlation_id":"id","headers":{}}`,
		"null headers":    `{"correlation_id":"id","metadata":{"correlation_id":"id"},"headers":null}`,
	} {
		if err := h.Parse([]byte(in)); err == nil {
			t.Errorf("%s: read as %+v", name, h)
		}
	}
}

func TestPushed(t *testing.T) {
	for in, want := range map[string]bool{"": false, "null": false, "{}": false, "{\t}": false, `{"a":1}`: true, "[]": true, "0": true} {
		if got := Pushed(json.RawMessage(in)); got != want {
			t.Errorf("%q: %v", in, got)
		}
	}
}
