package analyse

import (
	"fmt"
	"io"
	"strconv"
	"strings"
)

// WriteText writes the report for people. What clients name is quoted; nothing
// in it can move a terminal's cursor.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s%s\n%s\n", r.Action, r.subject(), r.Client.text())
	if len(r.Answers) == 2 && sameAnswer(&r.Answers[0], &r.Answers[1]) {
		r.Answers[0].write(&b, "both doors")
	} else {
		for i := range r.Answers {
			r.Answers[i].write(&b, r.Answers[i].Door+" door")
		}
		if r.Differ {
			b.WriteString("\nthe doors differ\n")
		}
	}
	for i, n := range r.Notes {
		if i == 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "note: %s\n", n)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// subject is what the action is about.
func (r *Report) subject() string {
	var b strings.Builder
	switch r.Action {
	case Connect:
		return ""
	case Subscribe:
		fmt.Fprintf(&b, " %q, QoS %d", r.Filter, r.QoS)
	case Unsubscribe:
		fmt.Fprintf(&b, " %q", r.Filter)
	case Deliver:
		fmt.Fprintf(&b, " %q", r.Topic)
	default:
		fmt.Fprintf(&b, " %q, QoS %d", r.Topic, r.QoS)
		if r.Retain {
			b.WriteString(", retained")
		}
		if r.PayloadBytes > 0 {
			fmt.Fprintf(&b, ", %d %s", r.PayloadBytes, plural("byte", r.PayloadBytes))
		}
		if r.ResponseTopic != "" {
			fmt.Fprintf(&b, ", answers to %q", r.ResponseTopic)
		}
	}
	return b.String()
}

// plural is word for n of it.
func plural(word string, n int) string {
	if n == 1 {
		return word
	}
	return word + "s"
}

func (c *Client) text() string {
	var parts []string
	if c.Anonymous {
		parts = append(parts, "anonymous")
	} else {
		parts = append(parts, fmt.Sprintf("user %q (%s)", c.Username, c.Standing))
	}
	if c.ClientID != "" {
		parts = append(parts, fmt.Sprintf("client id %q", c.ClientID))
	}
	if len(c.Groups) > 0 {
		quoted := make([]string, len(c.Groups))
		for i, g := range c.Groups {
			quoted[i] = strconv.Quote(g)
		}
		parts = append(parts, "groups "+strings.Join(quoted, " "))
	}
	if c.ClientIP != "" {
		parts = append(parts, "from "+c.ClientIP)
	}
	if c.Listener != "" {
		parts = append(parts, fmt.Sprintf("listener %q", c.Listener))
	}
	return "as " + strings.Join(append(parts, "MQTT "+c.Protocol), ", ")
}

// sameAnswer reports whether one text stands for both.
func sameAnswer(a, b *Answer) bool {
	var x, y strings.Builder
	a.write(&x, "")
	b.write(&y, "")
	return x.String() == y.String()
}

// words are what a decision is called.
var words = map[string]string{"allow": "allowed", "rewrite": "allowed, changed", "deny": "denied", "detect": "detected"}

func (a *Answer) write(b *strings.Builder, door string) {
	fmt.Fprintf(b, "\n%s: %s", door, words[a.Decision])
	if a.Reason != "" {
		fmt.Fprintf(b, " (%s)", a.Reason)
	}
	if a.Rule != "" {
		fmt.Fprintf(b, " by %s", name(a.Rule))
	}
	fmt.Fprintf(b, "\n  %s\n", a.Effect)
	if a.Witness != "" {
		fmt.Fprintf(b, "  witness: %q\n", a.Witness)
	}
	for _, s := range a.Steps {
		mark := "ok  "
		if !s.Passed {
			mark = "DENY"
		}
		fmt.Fprintf(b, "  %s %-14s %s", mark, s.Check, s.Detail)
		if s.Rule != "" {
			fmt.Fprintf(b, " [%s]", name(s.Rule))
		}
		b.WriteByte('\n')
	}
}

// name writes a rule's name; it is the operator's, but it may have come from a
// file that somebody else wrote.
func name(s string) string {
	if q := strconv.Quote(s); q[1:len(q)-1] != s {
		return q
	}
	return s
}
