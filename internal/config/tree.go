package config

import (
	"fmt"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"
)

// source is one file's bytes and the way from an offset to a place in it.
type source struct {
	name  string
	order int // among the files of one load
	data  []byte
	lines []int // offsets at which lines begin, found at the first use

	// Offsets from after on are those of another source: see [Merge].
	then  *source
	after int
}

// place is name:line:column, both from 1, the column in characters. A negative
// offset is the file itself.
func (s *source) place(offset int) string {
	if offset < 0 {
		return s.name
	}
	if s.later(offset) {
		return s.then.place(offset - s.after)
	}
	line, column := s.position(offset)
	return s.name + ":" + strconv.Itoa(line) + ":" + strconv.Itoa(column)
}

// later reports whether an offset is one of s.then.
func (s *source) later(offset int) bool { return s.then != nil && offset >= s.after }

func (s *source) position(offset int) (line, column int) {
	if s.later(offset) {
		return s.then.position(offset - s.after)
	}
	if s.lines == nil {
		s.lines = []int{0}
		for i, c := range s.data {
			if c == '\n' {
				s.lines = append(s.lines, i+1)
			}
		}
	}
	offset = min(offset, len(s.data))
	line = sort.SearchInts(s.lines, offset+1)
	return line, utf8.RuneCount(s.data[s.lines[line-1]:offset]) + 1
}

// kind is what a node of the tree is.
type kind uint8

const (
	kindNull kind = iota
	kindBool
	kindNumber
	kindText
	kindList
	kindObject
)

// node is one value of a configuration file, whatever format it was written
// in, with its place.
type node struct {
	kind    kind
	offset  int
	boolean bool
	refused bool   // an error was reported for it
	text    string // a text after the environment; a number as written
	raw     string // a text before the environment
	items   []*node
	members []member

	misspelt map[string]bool // keys that an unknown one probably stands for
}

// member is one key of an object with its value.
type member struct {
	name   string
	offset int
	value  *node
}

// member returns the value of a key, "_" and "-" being equal, or nil.
func (n *node) member(key string) *member {
	key = normal(key)
	for i := range n.members {
		if normal(n.members[i].name) == key {
			return &n.members[i]
		}
	}
	return nil
}

// normal is the spelling of a key that the schema uses.
func normal(key string) string { return strings.ReplaceAll(key, "_", "-") }

// describe says what n is for an error. A value from the environment shows as
// the reference that stands in the file; a secret shows only what kind it is.
func (n *node) describe(secret bool) string {
	switch n.kind {
	case kindBool:
		return strconv.FormatBool(n.boolean)
	case kindNumber:
		if secret {
			return "a number"
		}
		return fmt.Sprintf("the number %.64s", n.text)
	case kindText:
		if secret {
			return "a text"
		}
		return "the text " + quote(n.raw)
	case kindList:
		return "a list"
	case kindObject:
		return "an object"
	}
	return "null"
}

// quote cuts and quotes s for an error.
func quote(s string) string {
	if len(s) > 80 {
		s = strings.ToValidUTF8(s[:77], "") + "..."
	}
	return strconv.Quote(s)
}

// path is the way to a key from the top of a file, for errors. Nil is the top.
type path struct {
	up    *path
	key   string // "" for an entry of a list
	index int
	data  bool // key is the user's, not the schema's
}

func (p *path) child(key string) *path { return &path{up: p, key: key} }
func (p *path) at(index int) *path     { return &path{up: p, index: index} }
func (p *path) entry(key string) *path { return &path{up: p, key: key, data: true} }

// String is acl.rules[2].topics[0].
func (p *path) String() string {
	if p == nil {
		return ""
	}
	up := p.up.String()
	switch {
	case p.data:
		return up + "[" + quote(p.key) + "]"
	case p.key == "":
		return up + "[" + strconv.Itoa(p.index) + "]"
	case up == "":
		return p.key
	}
	return up + "." + p.key
}

// locate follows p from n. When a part of the way is not in the file it gives
// the last node on it that is.
func (n *node) locate(p *path) (found *node, all bool) {
	if p == nil {
		return n, true
	}
	above, ok := n.locate(p.up)
	if !ok {
		return above, false
	}
	if p.key == "" {
		if above.kind == kindList && p.index < len(above.items) {
			return above.items[p.index], true
		}
		// A single object where a list may stand.
		return above, above.kind == kindObject && p.index == 0
	}
	for i := range above.members {
		m := &above.members[i]
		if m.name == p.key || !p.data && normal(m.name) == p.key {
			return m.value, true
		}
	}
	return above, false
}
