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
		return nil, &syntaxError{0, "the file is empty", "one file holds one object, {…}"}
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
	rest := data[min(e.offset, len(data)):]
	next := byte(0)
	if len(rest) > 0 {
		next = rest[0]
	}
	switch {
	case strings.Contains(text, "EOF"):
		e.text, e.hint = "not JSON: the file ends too early", notClosed(data)
	case strings.Contains(text, "after top-level value"):
		e.text, e.hint = "not JSON: something follows the end of the document", "one file holds one object, {…}"
		if next == '}' || next == ']' {
			e.hint = fmt.Sprintf("one %c too many, here or before", next)
		}
	case strings.Contains(text, "after object value"), strings.Contains(text, "after array value"):
		e.hint = afterValue(next)
	case strings.Contains(text, "after object name"):
		e.hint = "a : is missing before this"
	case strings.Contains(text, "at start of value") && (next == ',' || next == '}' || next == ']'):
		e.hint = "a value is missing before this"
		if next == ',' {
			e.hint = "a value is missing before this, or the comma is one too many"
		}
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

// afterValue is the hint for what stands where a comma or a bracket should.
func afterValue(next byte) string {
	switch next {
	case '}':
		return "a ] is missing before this"
	case ']':
		return "a } is missing before this"
	case ';':
		return "a comma stands between two values"
	case '#':
		return "a comment begins with //"
	case ':':
		return "a key and its value stand in { }"
	}
	return "a comma is missing before this"
}

// notClosed is the hint for a file that ends too early: what is open there.
func notClosed(data []byte) string {
	var open []int
	unclosed := func(what string, at int) string {
		line, column := (&source{data: data}).position(at)
		return fmt.Sprintf("%s at %d:%d is not closed", what, line, column)
	}
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case '"', '/':
			end := skip(data[i:])
			if end < 0 {
				what := "the text"
				if data[i] == '/' {
					what = "the comment"
				}
				return unclosed(what, i)
			}
			i += end
		case '{', '[':
			open = append(open, i)
		case '}', ']':
			if len(open) > 0 {
				open = open[:len(open)-1]
			}
		}
	}
	if len(open) == 0 {
		return "a closing } or ] is missing"
	}
	at := open[len(open)-1]
	return unclosed(fmt.Sprintf("the %c", data[at]), at) + ", or something in it is not"
}

// skip is the offset of the last byte of the text or comment that data begins
// with, -1 when it is not closed.
func skip(data []byte) int {
	switch {
	case data[0] == '"':
		for i := 1; i < len(data); i++ {
			switch data[i] {
			case '\\':
				i++
			case '"':
				return i
			}
		}
		return -1
	case bytes.HasPrefix(data, []byte("//")):
		return bytes.IndexByte(data, '\n')
	case bytes.HasPrefix(data, []byte("/*")):
		if end := bytes.Index(data[2:], []byte("*/")); end >= 0 {
			return end + 3
		}
		return -1
	}
	return 0
}

// tooDeep returns the offset of the bracket that goes beyond maxDepth, or -1.
func tooDeep(data []byte) int {
	depth := 0
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case '"', '/':
			end := skip(data[i:])
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
