package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/tailscale/hujson"
)

// maxDepth is how deep lists and objects may stand in each other. The schema
// needs nine; the parser recurses.
const maxDepth = 64

// syntaxError is a file that is no JSON, at its offset.
type syntaxError struct {
	offset int
	text   string
	hint   string
}

// parseJSON reads JSON with comments and trailing commas. Texts are not yet
// expanded from the environment.
func parseJSON(data []byte) (*node, *syntaxError) {
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size == 1 {
			return nil, &syntaxError{i, fmt.Sprintf("the byte 0x%02x is not UTF-8", data[i]), "save the file as UTF-8"}
		}
		i += size
	}
	// The copy keeps offsets true: a byte order mark becomes blanks, and a line
	// comment at the very end gets the line end it needs.
	data = append(bytes.Clone(data), '\n')
	if bytes.HasPrefix(data, []byte("\uFEFF")) {
		copy(data, "   ")
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, &syntaxError{0, "the file is empty", "write {} for a configuration of defaults"}
	}
	if at := tooDeep(data); at >= 0 {
		return nil, &syntaxError{at, fmt.Sprintf("lists and objects stand more than %d deep in each other", maxDepth), ""}
	}
	v, err := hujson.Parse(data)
	if err != nil {
		return nil, placeSyntax(data, err)
	}
	return convert(&v)
}

// placeSyntax takes the place out of a parser's error, which has it only in
// its text.
func placeSyntax(data []byte, err error) *syntaxError {
	text := err.Error()
	var line, column int
	if n, _ := fmt.Sscanf(text, "hujson: line %d, column %d:", &line, &column); n == 2 {
		_, text, _ = strings.Cut(text, "column ")
		_, text, _ = strings.Cut(text, ": ")
	}
	if len(text) > 160 {
		text = strings.ToValidUTF8(text[:160], "") + "..."
	}
	offset := 0
	for ; line > 1; line-- {
		offset += bytes.IndexByte(data[offset:], '\n') + 1
	}
	e := &syntaxError{offset: offset + max(column-1, 0), text: "not JSON: " + text}
	switch rest := data[min(e.offset, len(data)):]; {
	case strings.Contains(text, "EOF"):
		e.text, e.hint = "not JSON: the file ends too early", "a closing } ] or \" is missing"
	case strings.Contains(text, "after object value"), strings.Contains(text, "after array value"):
		e.hint = "a comma is missing before this"
	case strings.HasPrefix(text, "invalid literal"): // what stands there may be a secret
		e.text, e.hint = "not JSON: neither a number nor true, false or null", "texts and keys stand in double quotes"
		if bytes.HasPrefix(rest, []byte(`"`)) {
			e.text, e.hint = "not JSON: a text with an escape or a line end that is not allowed in it", `a backslash is written \\`
		}
	case bytes.HasPrefix(rest, []byte("'")):
		e.hint = "texts and keys stand in double quotes"
	case strings.Contains(text, "at start of object name"):
		e.hint = "keys stand in double quotes"
	}
	return e
}

// tooDeep returns the offset of the bracket that goes beyond maxDepth, or -1.
func tooDeep(data []byte) int {
	depth := 0
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case '"':
			for i++; i < len(data) && data[i] != '"'; i++ {
				if data[i] == '\\' {
					i++
				}
			}
		case '/':
			rest := data[i:]
			var end int
			switch {
			case bytes.HasPrefix(rest, []byte("//")):
				end = bytes.IndexByte(rest, '\n')
			case bytes.HasPrefix(rest, []byte("/*")):
				if end = bytes.Index(rest[2:], []byte("*/")); end >= 0 {
					end += 3
				}
			}
			if end < 0 {
				return -1 // not closed: the parser will say so
			}
			i += end
		case '{', '[':
			if depth++; depth > maxDepth {
				return i
			}
		case '}', ']':
			depth--
		}
	}
	return -1
}

// convert makes our tree of the parser's.
func convert(v *hujson.Value) (*node, *syntaxError) {
	n := &node{offset: v.StartOffset}
	switch t := v.Value.(type) {
	case *hujson.Object:
		n.kind = kindObject
		n.members = make([]member, 0, len(t.Members))
		for i := range t.Members {
			m := &t.Members[i]
			name, err := convert(&m.Name)
			if err != nil {
				return nil, err
			}
			value, err := convert(&m.Value)
			if err != nil {
				return nil, err
			}
			n.members = append(n.members, member{name.text, name.offset, value})
		}
	case *hujson.Array:
		n.kind = kindList
		n.items = make([]*node, 0, len(t.Elements))
		for i := range t.Elements {
			item, err := convert(&t.Elements[i])
			if err != nil {
				return nil, err
			}
			n.items = append(n.items, item)
		}
	case hujson.Literal:
		switch t.Kind() {
		case 't', 'f':
			n.kind, n.boolean = kindBool, t.Bool()
		case '0':
			n.kind, n.text = kindNumber, string(t)
		case '"':
			n.kind = kindText
			if !bytes.ContainsRune(t, '\\') { // the parser saw to the rest
				n.text = string(t[1 : len(t)-1])
				n.raw = n.text
				break
			}
			if err := json.Unmarshal(t, &n.text); err != nil {
				return nil, &syntaxError{v.StartOffset, "not JSON: " + err.Error(), ""}
			}
			if strings.ContainsRune(n.text, utf8.RuneError) && bytes.Contains(bytes.ToLower(t), []byte(`\ud`)) {
				return nil, &syntaxError{v.StartOffset, `not JSON: a \u escape of half a character`, ""}
			}
			n.raw = n.text
		}
	}
	return n, nil
}
