package audit

import (
	"strconv"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// AppendJSON appends e as one JSON object, without a line feed: what
// encoding/json makes of it, without its cost. The time is in UTC. Text that is
// not UTF-8 has U+FFFD in place of each wrong byte; < > & and what would not be
// seen, or would change how the rest of the line is seen, are escaped.
func (e *Event) AppendJSON(b []byte) []byte {
	b = append(b, `{"time":"`...)
	b = e.Time.UTC().AppendFormat(b, time.RFC3339Nano)
	b = append(b, `","event":`...)
	b = appendString(b, e.Event)
	b = append(b, `,"tags":`...)
	b = appendStrings(b, e.Tags)
	b = appendField(b, "decision", e.Decision)
	b = appendField(b, "reason", e.Reason)
	b = appendField(b, "rule", e.Rule)
	b = appendField(b, "door", e.Door)
	b = appendField(b, "listener", e.Listener)
	b = appendField(b, "connection", e.Connection)
	b = appendField(b, "correlation_id", e.CorrelationID)
	b = appendField(b, "client_id", e.ClientID)
	b = appendField(b, "username", e.Username)
	b = appendBool(b, "verified", e.Verified)
	b = appendField(b, "provider", e.Provider)
	b = appendList(b, "groups", e.Groups)
	b = appendField(b, "client_ip", e.ClientIP)
	b = appendField(b, "protocol", e.Protocol)
	b = appendField(b, "packet", e.Packet)
	b = appendField(b, "direction", e.Direction)
	if e.Will {
		b = append(b, `,"will":true`...)
	}
	b = appendField(b, "topic", e.Topic)
	b = appendList(b, "filters", e.Filters)
	b = appendCount(b, "more_filters", uint64(e.MoreFilters))
	b = appendInt(b, "qos", e.QoS)
	b = appendBool(b, "retain", e.Retain)
	b = appendInt(b, "payload_bytes", e.PayloadBytes)
	b = appendCount(b, "packet_bytes", uint64(e.PacketBytes))
	b = appendCount(b, "count", e.Count)
	if e.DurationUS != 0 {
		b = strconv.AppendInt(appendKey(b, "duration_us"), e.DurationUS, 10)
	}
	b = appendField(b, "ended_by", e.EndedBy)
	b = appendField(b, "code", e.Code)
	b = appendCount(b, "bytes_in", e.BytesIn)
	b = appendCount(b, "bytes_out", e.BytesOut)
	b = appendCount(b, "messages_in", e.MessagesIn)
	b = appendCount(b, "messages_out", e.MessagesOut)
	b = appendCount(b, "denials", e.Denials)
	if e.ConnectedSecs != 0 {
		b = strconv.AppendFloat(appendKey(b, "connected_secs"), e.ConnectedSecs, 'f', -1, 64)
	}
	b = appendCount(b, "dropped", e.Dropped)
	return append(b, '}')
}

func appendKey(b []byte, key string) []byte {
	b = append(b, `,"`...)
	b = append(b, key...)
	return append(b, `":`...)
}

func appendField(b []byte, key, value string) []byte {
	if value == "" {
		return b
	}
	return appendString(appendKey(b, key), value)
}

func appendList(b []byte, key string, values []string) []byte {
	if len(values) == 0 {
		return b
	}
	return appendStrings(appendKey(b, key), values)
}

func appendBool(b []byte, key string, value *bool) []byte {
	if value == nil {
		return b
	}
	return strconv.AppendBool(appendKey(b, key), *value)
}

func appendInt(b []byte, key string, value *int) []byte {
	if value == nil {
		return b
	}
	return strconv.AppendInt(appendKey(b, key), int64(*value), 10)
}

func appendCount(b []byte, key string, value uint64) []byte {
	if value == 0 {
		return b
	}
	return strconv.AppendUint(appendKey(b, key), value, 10)
}

func appendStrings(b []byte, values []string) []byte {
	if values == nil {
		return append(b, "null"...)
	}
	b = append(b, '[')
	for i, v := range values {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, v)
	}
	return append(b, ']')
}

// hidden reports runes beyond ASCII that speak to a terminal or a viewer rather
// than to its reader: the second control set, line separators, what formats text
// unseen (joiners, marks that turn its direction, tags), and what is no character.
func hidden(r rune) bool {
	return r < 0xA0 || r == '\u2028' || r == '\u2029' || unicode.In(r, unicode.Cf, unicode.Noncharacter_Code_Point)
}

// appendEscape appends \uXXXX, or two of them.
func appendEscape(b []byte, r rune) []byte {
	if r > 0xFFFF {
		high, low := utf16.EncodeRune(r)
		return appendEscape(appendEscape(b, high), low)
	}
	return append(b, '\\', 'u', hex[r>>12], hex[r>>8&0xF], hex[r>>4&0xF], hex[r&0xF])
}

const hex = "0123456789abcdef"

func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			switch {
			case r == utf8.RuneError && n == 1:
				b = append(append(b, s[from:i]...), `\ufffd`...)
				from = i + n
			case hidden(r):
				b = appendEscape(append(b, s[from:i]...), r)
				from = i + n
			}
			i += n
			continue
		}
		if c >= ' ' && c != 0x7F && c != '"' && c != '\\' && c != '<' && c != '>' && c != '&' {
			i++
			continue
		}
		b = append(b, s[from:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\b':
			b = append(b, `\b`...)
		case '\f':
			b = append(b, `\f`...)
		case '\n':
			b = append(b, `\n`...)
		case '\r':
			b = append(b, `\r`...)
		case '\t':
			b = append(b, `\t`...)
		default:
			b = appendEscape(b, rune(c))
		}
		i++
		from = i
	}
	b = append(b, s[from:]...)
	return append(b, '"')
}
