package gateway

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // RFC 6455 names it; nothing is protected by it
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
)

const (
	// maxUpgrade bounds the head of an upgrade request.
	maxUpgrade = 8 << 10
	// maxHeaders bounds its header lines.
	maxHeaders = 64
)

// upgradeRules is what a listener asks of an upgrade.
type upgradeRules struct {
	path    string   // "": any
	origins []string // allowed-origins
}

// refusal is an answer to an upgrade that is refused.
type refusal struct {
	status int
	reason string // of the status line
	header string // one more header line with its end, or nothing
	body   string // for people
	// For the audit; nothing: the upgrade itself is refused.
	why  policy.Reason
	rule policy.RuleRef
}

func (r *refusal) Error() string { return r.body }

// append encodes the whole response.
func (r *refusal) append(dst []byte) []byte {
	return fmt.Appendf(dst, "HTTP/1.1 %d %s\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\n"+
		"%sContent-Length: %d\r\n\r\n%s\n", r.status, r.reason, r.header, len(r.body)+1, r.body)
}

func badRequest(body string) *refusal {
	return &refusal{status: 400, reason: "Bad Request", body: body}
}

const upgradeHeader = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"

// headEnd is where the head of a request ends: after the empty line. 0: it has
// not come whole.
func headEnd(b []byte) int {
	if i := bytes.Index(b[:min(len(b), maxUpgrade)], []byte("\r\n\r\n")); i >= 0 {
		return i + 4
	}
	return 0
}

// upgradeRequest is the part of the request that counts.
type upgradeRequest struct {
	path, host, key, origin        string
	hosts, keys, origins, versions int
	version                        string
	protocols                      []string
	upgrade, connection            bool
	zentinel                       bool   // it comes from that proxy, or says so
	forwarded                      string // X-Forwarded-For
}

// parseUpgrade reads the head of a request, up to and with its empty line.
func parseUpgrade(head []byte) (*upgradeRequest, *refusal) {
	text := strings.TrimSuffix(string(head), "\r\n\r\n")
	first, rest, _ := strings.Cut(text, "\r\n")
	method, target, proto, ok := cut3(first)
	switch {
	case !ok || !strings.HasPrefix(proto, "HTTP/"):
		return nil, badRequest("This is an MQTT over WebSocket endpoint; what came is not HTTP.")
	case proto != "HTTP/1.1":
		return nil, &refusal{status: 505, reason: "HTTP Version Not Supported", body: "A WebSocket upgrade needs HTTP/1.1."}
	case method != "GET":
		return nil, &refusal{status: 405, reason: "Method Not Allowed", header: "Allow: GET\r\n", body: "A WebSocket upgrade is a GET request."}
	case !strings.HasPrefix(target, "/") || strings.ContainsFunc(target, unprintable):
		return nil, badRequest("The request's target is not a path.")
	}
	r := &upgradeRequest{}
	r.path, _, _ = strings.Cut(target, "?")
	for n := 0; rest != ""; n++ {
		var line string
		line, rest, _ = strings.Cut(rest, "\r\n")
		name, value, ok := strings.Cut(line, ":")
		if !ok || name == "" || strings.ContainsFunc(name, notToken) {
			return nil, badRequest("A header line of the request is malformed.")
		}
		value = strings.Trim(value, " \t")
		if strings.ContainsFunc(value, func(c rune) bool { return unprintable(c) && c != '\t' && c != ' ' && c < 0x80 }) {
			return nil, badRequest("A header value of the request holds a control character.")
		}
		if n >= maxHeaders {
			return nil, &refusal{status: 431, reason: "Request Header Fields Too Large", body: "The request has too many header lines."}
		}
		r.header(name, value)
		if strings.EqualFold(name, "Transfer-Encoding") || strings.EqualFold(name, "Content-Length") && value != "0" {
			return nil, badRequest("A WebSocket upgrade has no body.")
		}
	}
	return r, nil
}

func (r *upgradeRequest) header(name, value string) {
	switch strings.ToLower(name) {
	case "host":
		r.host, r.hosts = value, r.hosts+1
	case "upgrade":
		r.upgrade = r.upgrade || hasToken(value, "websocket")
	case "connection":
		r.connection = r.connection || hasToken(value, "upgrade")
	case "origin":
		r.origin, r.origins = value, r.origins+1
	case "x-forwarded-by":
		r.zentinel = value == "Zentinel" || value == "Sentinel"
	case "x-forwarded-for":
		if r.forwarded != "" {
			r.forwarded += ","
		}
		r.forwarded += value
	case "sec-websocket-key":
		r.key, r.keys = value, r.keys+1
	case "sec-websocket-version":
		r.version, r.versions = value, r.versions+1
	case "sec-websocket-protocol":
		for p := range strings.SplitSeq(value, ",") {
			r.protocols = append(r.protocols, strings.Trim(p, " \t"))
		}
		// Sec-WebSocket-Extensions is not read: none is ever negotiated, and
		// declining says nothing.
	}
}

// check decides the upgrade; it returns the response that accepts it.
func (rules *upgradeRules) check(r *upgradeRequest) ([]byte, *refusal) {
	// [MQTT-6.0.0-3] [MQTT-6.0.0-4]. Clients of 3.1 offer only its own name;
	// where 3.1 is not spoken their CONNECT is told so.
	protocol := ""
	for _, name := range [...]string{"mqtt", "mqttv3.1"} {
		if slices.Contains(r.protocols, name) {
			protocol = name
			break
		}
	}
	key, err := base64.StdEncoding.Strict().DecodeString(r.key)
	switch {
	case rules.path != "" && r.path != rules.path:
		return nil, &refusal{status: 404, reason: "Not Found", body: "There is nothing at this path."}
	case r.hosts != 1 || r.host == "":
		return nil, badRequest("The request needs one Host header.")
	case !r.upgrade || !r.connection:
		return nil, &refusal{
			status: 426, reason: "Upgrade Required", header: upgradeHeader,
			body: "This is an MQTT over WebSocket endpoint: connect with an MQTT client, by ws:// or wss://.",
		}
	case r.versions != 1 || r.version != "13":
		return nil, &refusal{status: 426, reason: "Upgrade Required", header: upgradeHeader, body: "The WebSocket version here is 13."}
	case r.keys != 1 || err != nil || len(key) != 16:
		return nil, badRequest("The request needs one Sec-WebSocket-Key of 16 bytes in base64.")
	case !rules.originAllowed(r):
		return nil, &refusal{status: 403, reason: "Forbidden", body: "Pages of this origin may not connect here."}
	case protocol == "":
		return nil, badRequest(`The request does not offer the WebSocket subprotocol "mqtt" (Sec-WebSocket-Protocol: mqtt), which MQTT needs.`)
	}
	return fmt.Appendf(nil, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Accept: %s\r\nSec-WebSocket-Protocol: %s\r\n\r\n", acceptKey(r.key), protocol), nil
}

// acceptKey answers a key, RFC 6455, section 4.2.2.
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) //nolint:gosec // see the import
	return base64.StdEncoding.EncodeToString(sum[:])
}

// originAllowed keeps pages of other sites from using a browser's network
// place or credentials. Clients that are no browsers send no Origin.
func (rules *upgradeRules) originAllowed(r *upgradeRequest) bool {
	if r.origins == 0 || slices.Contains(rules.origins, "*") {
		return true
	}
	if r.origins > 1 {
		return false
	}
	if len(rules.origins) > 0 {
		return slices.ContainsFunc(rules.origins, func(o string) bool {
			return strings.EqualFold(strings.TrimSuffix(o, "/"), r.origin)
		})
	}
	u, err := url.Parse(r.origin)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return false // "null" too
	}
	return strings.EqualFold(stripPort(u.Host, u.Scheme), stripPort(r.host, u.Scheme))
}

// stripPort takes the port off that a scheme has anyway.
func stripPort(host, scheme string) string {
	if scheme == "https" {
		return strings.TrimSuffix(host, ":443")
	}
	return strings.TrimSuffix(host, ":80")
}

// cut3 splits a line at its two single spaces.
func cut3(s string) (a, b, c string, ok bool) {
	a, rest, ok1 := strings.Cut(s, " ")
	b, c, ok2 := strings.Cut(rest, " ")
	return a, b, c, ok1 && ok2 && a != "" && b != "" && !strings.Contains(c, " ")
}

// hasToken reports whether a comma-separated list has a token, in any case.
func hasToken(list, token string) bool {
	for t := range strings.SplitSeq(list, ",") {
		if strings.EqualFold(strings.Trim(t, " \t"), token) {
			return true
		}
	}
	return false
}

func unprintable(c rune) bool { return c <= ' ' || c == 0x7F }

// notToken reports what may not stand in a header's name, RFC 9110, 5.6.2.
func notToken(c rune) bool {
	return (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && !strings.ContainsRune("!#$%&'*+-.^_`|~", c)
}
