package config

import (
	"fmt"
	"strings"
)

// FillUpstream puts the client id and the user name into a template of an
// upstream, once: a value that holds a percent sign is not filled again.
//
// Different pairs of them give different texts, or one client could reach what
// the broker keeps for another: bob-x with the id 1 and bob with the id x-1 must
// not both be "bob-x-1" by "%u-%c". So where another value follows one, the
// character between them is written as %XX in it, and so is the percent sign:
// "bob%2Dx-1" and "bob-x-1". A text that holds one value takes it as it is.
func FillUpstream(template, clientID, username string) string {
	if template == "%c" {
		return clientID
	}
	var b strings.Builder
	for {
		i := nextValue(template)
		if i < 0 {
			b.WriteString(template)
			return b.String()
		}
		value := clientID
		if template[i+1] == 'u' {
			value = username
		}
		b.WriteString(template[:i])
		template = template[i+2:]
		if next := nextValue(template); next >= 0 {
			value = escape(value, delimiter(template[:next]))
		}
		b.WriteString(value)
	}
}

// nextValue is where the first %c or %u of a template stands, or -1.
func nextValue(template string) int {
	for i := 0; i+1 < len(template); i++ {
		if template[i] == '%' && (template[i+1] == 'c' || template[i+1] == 'u') {
			return i
		}
	}
	return -1
}

// delimiter is the character of what stands between two values that ends the
// first of them: one that %XX does not hold. 0 when there is none.
func delimiter(between string) rune {
	for _, r := range between {
		if !strings.ContainsRune("%0123456789ABCDEF", r) {
			return r
		}
	}
	return 0
}

// escape writes the delimiter and the percent sign as %XX.
func escape(value string, delimiter rune) string {
	percent := func(s string) string {
		var b strings.Builder
		for i := range len(s) {
			fmt.Fprintf(&b, "%%%02X", s[i])
		}
		return b.String()
	}
	if delimiter == 0 {
		return value
	}
	d := string(delimiter)
	return strings.NewReplacer("%", percent("%"), d, percent(d)).Replace(value)
}

// checkDelimited refuses a template whose values would run into each other.
func checkDelimited(s string) *wrong {
	at := nextValue(s)
	for at >= 0 {
		s = s[at+2:]
		if at = nextValue(s); at >= 0 && delimiter(s[:at]) == 0 {
			return &wrong{
				text: "gives different clients the same text: no character stands between two placeholders that ends the first",
				hint: `for example "%u-%c"; digits, A to F and % do not end one`,
			}
		}
	}
	return nil
}

// warnEscaped warns of the character that is written as %XX in a template's
// values, because names that hold it are common.
func (d *document) warnEscaped(template string, p *path) {
	names := map[byte]string{'u': "user name", 'c': "client id"}
	for at := nextValue(template); at >= 0; {
		letter := template[at+1]
		template = template[at+2:]
		if at = nextValue(template); at >= 0 {
			c := string(delimiter(template[:at]))
			d.warnAt(p, false, fmt.Sprintf("%s in the %s is written %s here, or different clients would have one text",
				quote(c), names[letter], quote(escape(c, delimiter(c)))))
		}
	}
}

// warnPercent warns of what looks like a placeholder and is none where it
// stands.
func (d *document) warnPercent(n *node, is string, p *path) {
	text := ""
	switch is {
	case "rule-filter":
		text = "%%%c stands for itself; %%u, %%c and %%g are filled in"
	case "filter", "regexp":
		text = "%%%c stands for itself here; it is filled in only in topics of rules"
	case "anchored":
		text = "%%%c stands for itself here; client-id-template fills in %%u"
	default:
		return
	}
	told := map[byte]bool{}
	for i := 0; i+1 < len(n.raw); i++ {
		c := n.raw[i+1]
		if lower := c | 0x20; n.raw[i] != '%' || lower < 'a' || lower > 'z' || told[c] {
			continue
		}
		if filled := strings.IndexByte("ucg", c) >= 0; filled != (is == "rule-filter") {
			d.warnAt(p, false, fmt.Sprintf(text, c))
			told[c] = true
		}
	}
}

// warnUnfit warns of the clients that a deny rule keeps out as a whole.
func (d *document) warnUnfit(topics []string, p *path) {
	for i, t := range topics {
		if d.refused(p.at(i)) {
			continue
		}
		name := ""
		switch u, c := strings.Contains(t, "%u"), strings.Contains(t, "%c"); {
		case u && c:
			name = "user name or client id"
		case u:
			name = "user name"
		case c:
			name = "client id"
		default:
			continue
		}
		d.warnAt(p.at(i), false, "the rule cannot be filled in for a client whose "+name+" holds / + # or a control character, or begins with $: such a client is refused at CONNECT")
	}
}

// checkUpstreamUsername accepts the user name towards the broker.
func checkUpstreamUsername(_ *document, s string) (string, *wrong) {
	if w := checkDelimited(s); w != nil {
		return "", w
	}
	return s, nil
}
