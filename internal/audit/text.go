package audit

import (
	"bytes"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	// maxShown is how many bytes of a client's text stand in a line.
	maxShown = 64
	// maxShownFilters is how many filters do.
	maxShownFilters = 4
)

// The colours of a terminal.
const (
	dim    = "\x1b[2m"
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	cyan   = "\x1b[36m"
	reset  = "\x1b[0m"
)

// AppendText appends e as one line for people, without a line feed: time, door,
// decision and packet in columns, then who, what and why. Everything a client
// sent is quoted and cut, so that it cannot speak to the terminal.
func AppendText(b []byte, e *Event, colour bool) []byte {
	b = e.Time.Local().AppendFormat(b, "15:04:05.000")
	b = append(b, "  "...)
	b = appendPadded(b, e.Door, 7)
	b = append(b, "  "...)
	if colour {
		b = append(b, colourOf(e)...)
	}
	b = appendPadded(b, e.Decision, 7)
	if colour {
		b = append(b, reset...)
	}
	b = append(b, "  "...)
	b = appendPadded(b, subjectOf(e), 11)
	b = append(b, "  "...)
	b = appendWho(b, e)
	b = appendWhat(b, e)
	b = appendWhy(b, e)
	return bytes.TrimRight(b, " ")
}

func colourOf(e *Event) string {
	switch e.Decision {
	case "allow":
		if e.EndedBy != "" {
			return dim
		}
		return green
	case "detect":
		return yellow
	case "rewrite":
		return cyan
	}
	return red
}

// subjectOf is what the line is about.
func subjectOf(e *Event) string {
	switch {
	case e.EndedBy != "":
		return "DISCONNECT"
	case e.Packet != "":
		return e.Packet
	case e.Dropped > 0:
		return "audit"
	}
	return "connection"
}

func appendWho(b []byte, e *Event) []byte {
	from := len(b)
	switch {
	case e.ClientID != "":
		b = appendQuoted(b, e.ClientID)
	case e.ClientIP != "":
		b = append(b, e.ClientIP...)
	default:
		b = append(b, '-')
	}
	if e.Username != "" {
		b = append(b, " as "...)
		b = appendQuoted(b, e.Username)
		if e.Verified != nil && !*e.Verified {
			b = append(b, '?')
		}
	}
	for n := utf8.RuneCount(b[from:]); n < 26; n++ {
		b = append(b, ' ')
	}
	return b
}

func appendWhat(b []byte, e *Event) []byte {
	if e.Direction == "broker" && e.EndedBy == "" {
		b = append(b, " from the broker"...)
	}
	if e.Will {
		b = append(b, " will"...)
	}
	if e.Topic != "" {
		b = append(b, ' ')
		b = appendQuoted(b, e.Topic)
	}
	shown := e.Filters[:min(len(e.Filters), maxShownFilters)]
	for _, f := range shown {
		b = append(b, ' ')
		b = appendQuoted(b, f)
	}
	if more := len(e.Filters) - len(shown) + e.MoreFilters; more > 0 {
		b = append(b, " and "...)
		b = strconv.AppendInt(b, int64(more), 10)
		b = append(b, " more"...)
	}
	if e.QoS != nil {
		b = append(b, " qos "...)
		b = strconv.AppendInt(b, int64(*e.QoS), 10)
	}
	if e.Retain != nil && *e.Retain {
		b = append(b, " retain"...)
	}
	if e.PayloadBytes != nil {
		b = append(b, ' ')
		b = strconv.AppendInt(b, int64(*e.PayloadBytes), 10)
		b = append(b, " bytes"...)
	}
	if e.PacketBytes > 0 {
		b = append(b, " of "...)
		b = strconv.AppendInt(b, int64(e.PacketBytes), 10)
		b = append(b, " bytes"...)
	}
	return b
}

func appendWhy(b []byte, e *Event) []byte {
	if len(e.Tags) == 2 && e.Decision != "allow" && e.EndedBy == "" || strings.HasSuffix(e.Event, "over-limit") {
		b = append(b, " · "...)
		b = append(b, e.Tags[1]...)
	}
	if e.Reason != "" {
		b = append(b, " · "...)
		b = append(b, e.Reason...)
	}
	if e.Rule != "" && e.Rule != e.Reason {
		b = append(b, " by "...)
		b = append(b, e.Rule...)
	}
	if e.Count > 0 {
		b = append(b, " · "...)
		b = strconv.AppendUint(b, e.Count, 10)
		b = append(b, " more"...)
	}
	if e.EndedBy != "" {
		b = append(b, " · by "...)
		b = append(b, e.EndedBy...)
		b = append(b, ", "...)
		b = strconv.AppendUint(b, e.MessagesIn, 10)
		b = append(b, " in, "...)
		b = strconv.AppendUint(b, e.MessagesOut, 10)
		b = append(b, " out, "...)
		b = strconv.AppendUint(b, e.Denials, 10)
		b = append(b, " denied"...)
	}
	if e.Dropped > 0 {
		b = append(b, " · "...)
		b = strconv.AppendUint(b, e.Dropped, 10)
		b = append(b, " audit events are missing before this one"...)
	}
	return b
}

func appendPadded(b []byte, s string, width int) []byte {
	b = append(b, s...)
	for n := len(s); n < width; n++ {
		b = append(b, ' ')
	}
	return b
}

// appendQuoted appends s in quotes, escaped as in Go, at most maxShown bytes of
// it.
func appendQuoted(b []byte, s string) []byte {
	if len(s) <= maxShown {
		return strconv.AppendQuote(b, s)
	}
	cut := maxShown
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	b = strconv.AppendQuote(b, s[:cut])
	return append(b, "…"...)
}
