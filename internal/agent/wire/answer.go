package wire

import (
	"strconv"
	"unicode/utf8"
)

// WebSocketDecision is what happens to a frame.
type WebSocketDecision uint8

// The decisions. The zero value closes: an answer nobody filled in lets
// nothing through.
const (
	WSClose WebSocketDecision = iota
	WSDrop
	WSAllow
)

func (d WebSocketDecision) String() string { return [...]string{"close", "drop", "allow"}[d] }

// MaxReason is the bound of a close reason in bytes, RFC 6455 section 5.5.
const MaxReason = 123

// Answer is an AgentResponse. Lists and maps are never written as null, which
// would make the whole answer unreadable for the proxy.
type Answer struct {
	Version       Generation
	CorrelationID []byte

	// Block is the HTTP status of a refusal, 0 allows. Body helps the client.
	Block int
	Body  string

	// Frame says that WebSocket is to be written.
	Frame     bool
	WebSocket WebSocketDecision
	Code      uint16 // of a close
	Reason    string // of a close; cut at MaxReason

	// RemoveHeaders are taken off the request.
	RemoveHeaders []string

	Tags  []string
	Rules []string
}

const (
	allowFrameV2 = `{"version":2,"decision":"allow","websocket_decision":"allow","audit":{"custom":{"correlation_id":"`
	allowFrameV1 = `{"version":1,"decision":"allow","websocket_decision":"allow","audit":{"custom":{"correlation_id":"`
)

// AppendAllow appends the whole message of an allowed frame, the answer of the
// hot path.
func AppendAllow(dst []byte, g Generation, id []byte) []byte {
	start := len(dst)
	dst = begin(dst, g, AgentResponse)
	if g == V1 {
		dst = append(dst, allowFrameV1...)
	} else {
		dst = append(dst, allowFrameV2...)
	}
	dst = AppendEscaped(dst, id)
	return end(append(dst, `"}}}`...), start)
}

// AppendMessage appends a as a whole message.
func (a *Answer) AppendMessage(dst []byte) []byte {
	start := len(dst)
	return end(a.Append(begin(dst, a.Version, AgentResponse)), start)
}

// Append appends a as JSON.
func (a *Answer) Append(dst []byte) []byte {
	dst = append(dst, `{"version":`...)
	dst = append(dst, '0'+byte(a.Version))
	if a.Block == 0 {
		dst = append(dst, `,"decision":"allow"`...)
	} else {
		dst = append(dst, `,"decision":{"block":{"status":`...)
		dst = strconv.AppendInt(dst, int64(a.Block), 10)
		if a.Body != "" {
			dst = append(dst, `,"body":"`...)
			dst = append(appendText(dst, a.Body), '"')
		}
		dst = append(dst, `}}`...)
	}
	if a.Frame {
		dst = a.appendWebSocket(append(dst, `,"websocket_decision":`...))
	}
	if len(a.RemoveHeaders) > 0 {
		dst = append(dst, `,"request_headers":[`...)
		for i, name := range a.RemoveHeaders {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(dst, `{"remove":{"name":"`...)
			dst = append(appendText(dst, name), `"}}`...)
		}
		dst = append(dst, ']')
	}
	dst = append(dst, `,"audit":{`...)
	dst = appendList(dst, `"tags":[`, a.Tags)
	dst = appendList(dst, `"rule_ids":[`, a.Rules)
	dst = append(dst, `"custom":{"correlation_id":"`...)
	return append(AppendEscaped(dst, a.CorrelationID), `"}}}`...)
}

func (a *Answer) appendWebSocket(dst []byte) []byte {
	switch a.WebSocket {
	case WSAllow:
		return append(dst, `"allow"`...)
	case WSDrop:
		return append(dst, `"drop"`...)
	}
	dst = append(dst, `{"close":{"code":`...)
	dst = strconv.AppendUint(dst, uint64(a.Code), 10)
	dst = append(dst, `,"reason":"`...)
	return append(appendText(dst, a.CloseReason()), `"}}`...)
}

// CloseReason is Reason, cut at MaxReason.
func (a *Answer) CloseReason() string { return cut(a.Reason, MaxReason) }

// cut shortens s to at most n bytes, at a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

func appendList(dst []byte, head string, list []string) []byte {
	if len(list) == 0 {
		return dst
	}
	dst = append(dst, head...)
	for i, s := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, '"')
		dst = append(appendText(dst, s), '"')
	}
	return append(dst, ']', ',')
}

const hex = "0123456789abcdef"

// AppendEscaped appends s as the inside of a JSON string that reads back to the
// same bytes. Bytes that are not UTF-8 become U+FFFD.
func AppendEscaped(dst, s []byte) []byte {
	for i := 0; i < len(s); {
		if c := s[i]; c < utf8.RuneSelf {
			dst = appendASCII(dst, c)
			i++
			continue
		}
		r, n := utf8.DecodeRune(s[i:])
		dst = appendRune(dst, r)
		i += n
	}
	return dst
}

func appendText(dst []byte, s string) []byte {
	for _, r := range s {
		if r < utf8.RuneSelf {
			dst = appendASCII(dst, byte(r))
		} else {
			dst = appendRune(dst, r)
		}
	}
	return dst
}

func appendASCII(dst []byte, c byte) []byte {
	switch {
	case c == '"' || c == '\\':
		return append(dst, '\\', c)
	case c < 0x20 || c == 0x7f || c == '<' || c == '>' || c == '&':
		return append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
	}
	return append(dst, c)
}

func appendRune(dst []byte, r rune) []byte {
	if r == 0x2028 || r == 0x2029 {
		return append(append(dst, `\u202`...), hex[r&15])
	}
	return utf8.AppendRune(dst, r)
}
