package config

import (
	"math"
	"reflect"
	"strconv"
	"strings"
	"sync"
)

// field is one key of a struct as its tags say.
type field struct {
	index    int
	key      string
	typ      reflect.Type
	enum     []string
	accept   []string
	low      float64
	high     float64
	is       string
	need     bool
	nonEmpty bool
	owners   []string // values of "type" that own the key; none: all
}

// shape is the keys of one struct.
type shape struct {
	fields []field
	keys   []string
	byKey  map[string]*field
	typed  bool // some keys belong to a value of "type"
}

var shapes sync.Map // reflect.Type → *shape

// shapeOf reads the tags of a struct type. A wrong tag is a bug and panics.
func shapeOf(t reflect.Type) *shape {
	if s, ok := shapes.Load(t); ok {
		return s.(*shape)
	}
	s := &shape{byKey: map[string]*field{}}
	list := func(tag string) []string {
		if tag == "" {
			return nil
		}
		return strings.Split(tag, ",")
	}
	bound := func(tag string, none float64) float64 {
		if tag == "any" {
			return none
		}
		f, err := strconv.ParseFloat(tag, 64)
		if err != nil {
			panic(err)
		}
		return f
	}
	for i := range t.NumField() {
		sf := t.Field(i)
		key, ok := sf.Tag.Lookup("key")
		if !ok {
			continue
		}
		f := field{
			index: i, key: key, typ: sf.Type,
			enum: list(sf.Tag.Get("enum")), accept: list(sf.Tag.Get("accept")),
			is: sf.Tag.Get("is"), need: sf.Tag.Get("need") != "", nonEmpty: sf.Tag.Get("nonempty") != "",
			owners: list(sf.Tag.Get("for")),
			low:    0, high: math.Inf(1),
		}
		if tag, ok := sf.Tag.Lookup("min"); ok {
			f.low, f.high = bound(tag, math.Inf(-1)), bound(sf.Tag.Get("max"), math.Inf(1))
		}
		if f.is != "" && valueChecks[f.is] == nil {
			panic("no value check " + f.is)
		}
		s.typed = s.typed || f.owners != nil
		s.fields = append(s.fields, f)
		s.keys = append(s.keys, key)
	}
	for i := range s.fields {
		s.byKey[normal(s.fields[i].key)] = &s.fields[i]
	}
	shapes.Store(t, s)
	return s
}

// example says what to write for a key that is missing.
func (f *field) example() string {
	switch {
	case f.enum != nil:
		return "accepted: " + oneOf(f.enum)
	case f.low > 0 || !math.IsInf(f.high, 1):
		return "accepted: " + f.span()
	}
	return ""
}

// span is the accepted range for people.
func (f *field) span() string {
	low, high := strconv.FormatFloat(f.low, 'f', -1, 64), strconv.FormatFloat(f.high, 'f', -1, 64)
	switch {
	case math.IsInf(f.high, 1) && math.IsInf(f.low, -1):
		return "any number"
	case math.IsInf(f.high, 1):
		return low + " or more"
	}
	return low + " to " + high
}

// oneOf lists words for people: "a", "b" or "c".
func oneOf(words []string) string {
	var b strings.Builder
	for i, w := range words {
		switch {
		case i > 0 && i == len(words)-1:
			b.WriteString(" or ")
		case i > 0:
			b.WriteString(", ")
		}
		b.WriteString(strconv.Quote(w))
	}
	return b.String()
}
