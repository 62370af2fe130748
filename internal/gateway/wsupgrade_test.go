package gateway

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"net"
	"net/http"
	"strings"
	"testing"
)

// hijack is what an http.Server gives to an upgrade.
type hijack struct {
	nc     net.Conn
	header http.Header
	done   bool
}

func (h *hijack) Header() http.Header {
	if h.header == nil {
		h.header = http.Header{}
	}
	return h.header
}
func (h *hijack) Write(b []byte) (int, error) { return len(b), nil }
func (h *hijack) WriteHeader(int)             {}
func (h *hijack) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	nc := discarding{h.nc, h}
	return nc, bufio.NewReadWriter(bufio.NewReader(nc), bufio.NewWriter(nc)), nil
}

// discarding throws the response of an upgrade away.
type discarding struct {
	net.Conn
	h *hijack
}

func (d discarding) Write(b []byte) (int, error) { return len(b), nil }

// upgradeOf is a request that is accepted.
func upgradeOf(path string) *http.Request {
	r, err := http.NewRequest(http.MethodGet, "http://broker.example"+path, nil)
	if err != nil {
		panic(err)
	}
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", "websocket")
	r.Header.Set("Sec-Websocket-Version", "13")
	r.Header.Set("Sec-Websocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
	r.Header.Set("Sec-Websocket-Protocol", "mqtt")
	return r
}

// request is an upgrade as text: lines replace those with the same name, an
// empty value takes one away.
func request(first string, lines ...string) string {
	list := []string{
		"Host: broker.example", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol: mqtt",
	}
	for _, l := range lines {
		name, value, _ := strings.Cut(l, ":")
		found := false
		for i := range list {
			if n, _, _ := strings.Cut(list[i], ":"); n == name && !found {
				list[i], found = l, true
				if value == "" {
					list[i] = ""
				}
			}
		}
		if !found {
			list = append(list, strings.TrimPrefix(l, "+"))
		}
	}
	text := first + "\r\n"
	for _, l := range list {
		if l != "" {
			text += l + "\r\n"
		}
	}
	return text + "\r\n"
}

const get = "GET /mqtt HTTP/1.1"

func TestUpgrade(t *testing.T) {
	for _, c := range []struct {
		name    string
		rules   upgradeRules
		request string
		status  string // of the answer
		holds   string // in the answer
	}{
		{"plain", upgradeRules{}, request(get), "101", "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: mqtt\r\n"},
		{"MQTT 3.1", upgradeRules{}, request(get, "Sec-WebSocket-Protocol: mqttv3.1"), "101", "Protocol: mqttv3.1\r\n"},
		{"both", upgradeRules{}, request(get, "Sec-WebSocket-Protocol: x, mqttv3.1, mqtt"), "101", "Protocol: mqtt\r\n"},
		{"protocols in two lines", upgradeRules{}, request(get, "Sec-WebSocket-Protocol: x", "+Sec-WebSocket-Protocol: mqtt"), "101", "Protocol: mqtt\r\n"},
		{"no protocol", upgradeRules{}, request(get, "Sec-WebSocket-Protocol:"), "400", "Sec-WebSocket-Protocol: mqtt"},
		{"another protocol", upgradeRules{}, request(get, "Sec-WebSocket-Protocol: MQTT"), "400", "subprotocol"},
		{"compression is declined without a word", upgradeRules{}, request(get, "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"), "101", "mqtt"},
		{"any case, more tokens", upgradeRules{}, request(get, "Connection: keep-alive, uPGRADE", "Upgrade: WebSocket"), "101", "mqtt"},
		{"no upgrade", upgradeRules{}, request(get, "Upgrade:"), "426", "MQTT over WebSocket"},
		{"no connection", upgradeRules{}, request(get, "Connection: close"), "426", "Upgrade: websocket"},
		{"version 8", upgradeRules{}, request(get, "Sec-WebSocket-Version: 8"), "426", "Sec-WebSocket-Version: 13"},
		{"two versions", upgradeRules{}, request(get, "+Sec-WebSocket-Version: 13"), "426", "13"},
		{"no key", upgradeRules{}, request(get, "Sec-WebSocket-Key:"), "400", "Sec-WebSocket-Key"},
		{"two keys", upgradeRules{}, request(get, "+Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), "400", "Sec-WebSocket-Key"},
		{"a short key", upgradeRules{}, request(get, "Sec-WebSocket-Key: c2hvcnQ="), "400", "Sec-WebSocket-Key"},
		{"a key that is not base64", upgradeRules{}, request(get, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=!"), "400", "Sec-WebSocket-Key"},
		{"the path", upgradeRules{path: "/mqtt"}, request(get), "101", "mqtt"},
		{"the path, and a query", upgradeRules{path: "/mqtt"}, request("GET /mqtt?x=1 HTTP/1.1"), "101", "mqtt"},
		{"another path", upgradeRules{path: "/mqtt"}, request("GET /mqtt/ HTTP/1.1"), "404", "path"},
		{"no Host", upgradeRules{}, request(get, "Host:"), "400", "Host"},
		{"two Hosts", upgradeRules{}, request(get, "+Host: other.example"), "400", "Host"},
		{"POST", upgradeRules{}, request("POST /mqtt HTTP/1.1"), "405", "Allow: GET"},
		{"HTTP/1.0", upgradeRules{}, request("GET /mqtt HTTP/1.0"), "505", "HTTP/1.1"},
		{"no HTTP", upgradeRules{}, "HELO there\r\n\r\n", "400", "not HTTP"},
		{"absolute target", upgradeRules{}, request("GET http://broker.example/mqtt HTTP/1.1"), "400", "path"},
		{"control character in the target", upgradeRules{}, request("GET /a\x01b HTTP/1.1"), "400", "path"},
		{"two spaces", upgradeRules{}, request("GET  /mqtt HTTP/1.1"), "400", "HTTP"},
		{"a folded line", upgradeRules{}, request(get, "+ folded: x"), "400", "malformed"},
		{"a space before the colon", upgradeRules{}, request(get, "+Origin : http://evil.example"), "400", "malformed"},
		{"a line without colon", upgradeRules{}, request(get, "+nonsense"), "400", "malformed"},
		{"a bare line feed", upgradeRules{}, request(get, "+X: a\nOrigin: http://evil.example"), "400", "control"},
		{"a body", upgradeRules{}, request(get, "Content-Length: 5"), "400", "body"},
		{"chunks", upgradeRules{}, request(get, "Transfer-Encoding: chunked"), "400", "body"},
		{"too many lines", upgradeRules{}, request(get, "+X: "+strings.Repeat("1\r\nX: ", maxHeaders)), "431", "too many"},

		{"the same origin", upgradeRules{}, request(get, "Origin: http://broker.example"), "101", "mqtt"},
		{"the same origin, any case, default port", upgradeRules{}, request(get, "Host: Broker.example:443", "Origin: https://broker.EXAMPLE"), "101", "mqtt"},
		{"another port", upgradeRules{}, request(get, "Origin: http://broker.example:8080"), "403", "origin"},
		{"another origin", upgradeRules{}, request(get, "Origin: http://evil.example"), "403", "origin"},
		{"a longer origin", upgradeRules{}, request(get, "Origin: http://broker.example.evil.example"), "403", "origin"},
		{"null origin", upgradeRules{}, request(get, "Origin: null"), "403", "origin"},
		{"empty origin", upgradeRules{}, request(get, "Origin: "), "403", "origin"},
		{"two origins", upgradeRules{}, request(get, "Origin: http://broker.example", "+Origin: http://broker.example"), "403", "origin"},
		{"every origin", upgradeRules{origins: []string{"*"}}, request(get, "Origin: http://evil.example"), "101", "mqtt"},
		{"a listed origin", upgradeRules{origins: []string{"https://app.example"}}, request(get, "Origin: https://app.example"), "101", "mqtt"},
		{"an origin not listed", upgradeRules{origins: []string{"https://app.example"}}, request(get, "Origin: http://broker.example"), "403", "origin"},
		{"no origin, with a list", upgradeRules{origins: []string{"https://app.example"}}, request(get), "101", "mqtt"},
	} {
		head := []byte(c.request)
		if n := headEnd(head); n != len(head) {
			t.Errorf("%s: the head ends at %d, want %d", c.name, n, len(head))
			continue
		}
		for cut := range head {
			if headEnd(head[:cut]) != 0 {
				t.Errorf("%s: whole after %d of %d bytes", c.name, cut, len(head))
			}
		}
		if got := answer(&c.rules, head); !strings.HasPrefix(got, "HTTP/1.1 "+c.status+" ") || !strings.Contains(got, c.holds) {
			t.Errorf("%s:\n%s\ngot:\n%s\nwant %s with %q", c.name, c.request, got, c.status, c.holds)
		}
	}
}

// answer is what a listener with these rules answers.
func answer(rules *upgradeRules, head []byte) string {
	r, no := parseUpgrade(head)
	if no == nil {
		var yes []byte
		if yes, no = rules.check(r); no == nil {
			return string(yes)
		}
	}
	return string(no.append(nil))
}

// FuzzUpgrade: nothing panics, every answer is a response that net/http reads,
// and what is accepted net/http and a plain reading of it accept too.
func FuzzUpgrade(f *testing.F) {
	f.Add(request(get))
	f.Add(request(get, "Origin: http://broker.example", "Connection: keep-alive, Upgrade"))
	f.Add(request("GET /mqtt?x=1 HTTP/1.1", "Sec-WebSocket-Protocol: a, mqttv3.1"))
	f.Add(request("POST / HTTP/1.0"))
	f.Fuzz(func(t *testing.T, text string) {
		head := []byte(text)
		n := headEnd(head)
		if n == 0 {
			return
		}
		got := answer(&upgradeRules{}, head[:n])
		resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(got)), nil)
		if err != nil {
			t.Fatalf("answer %q: %v", got, err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusSwitchingProtocols {
			return
		}
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(head[:n])))
		if err != nil {
			t.Fatalf("accepted, but net/http says %v", err)
		}
		key, err := base64.StdEncoding.DecodeString(r.Header.Get("Sec-WebSocket-Key"))
		if err != nil || len(key) != 16 || !strings.EqualFold(r.Method, "GET") || r.Host == "" ||
			!strings.Contains(strings.ToLower(r.Header.Get("Upgrade")), "websocket") && len(r.Header["Upgrade"]) < 2 {
			t.Fatalf("accepted: %q", text)
		}
	})
}
