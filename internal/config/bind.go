package config

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// document is one file being bound and checked.
type document struct {
	*report
	src  *source
	root *node
	top  *shape                      // of what the whole document is
	dir  string                      // where relative paths start
	env  func(string) (string, bool) // nil: texts are not expanded

	hides bool // values may be secrets: errors show only of what kind they are
}

// fill binds the whole document into the struct v.
func (d *document) fill(v reflect.Value) {
	d.top = shapeOf(v.Type())
	d.object(d.root, v, nil)
}

func (d *document) fail(offset int, p *path, text, hint string) {
	d.report.fail(d.src, offset, p, text, hint)
}

// refuse is fail for a value, which the checks that follow then leave alone.
func (d *document) refuse(n *node, p *path, text, hint string) {
	n.refused = true
	d.fail(n.offset, p, text, hint)
}

// refused reports whether p was reported already: its own value was refused, or
// it stands there misspelt.
func (d *document) refused(p *path) bool {
	n, all := d.root.locate(p)
	return all && n.refused || !all && n.misspelt[p.key]
}

// failAt is fail at the place of p, or of the nearest thing around it.
func (d *document) failAt(p *path, text, hint string) {
	n, _ := d.root.locate(p)
	d.refuse(n, p, text, hint)
}

// warnAt adds a warning at the place of p.
func (d *document) warnAt(p *path, blocks bool, text string) {
	n, _ := d.root.locate(p)
	d.warns = append(d.warns, Warning{Path: p.String(), Text: text, Blocks: blocks, src: d.src, offset: n.offset})
}

// given reports whether p stands in the file.
func (d *document) given(p *path) bool {
	_, all := d.root.locate(p)
	return all
}

// shown is the text at p as it stands in the file, for an error.
func (d *document) shown(p *path) string {
	n, _ := d.root.locate(p)
	return quote(n.raw)
}

// The types that are not bound by their kind alone.
var (
	typeConfig     = reflect.TypeFor[Config]()
	typeRegexp     = reflect.TypeFor[Regexp]()
	typePrefix     = reflect.TypeFor[Prefix]()
	typeSecret     = reflect.TypeFor[Secret]()
	typeSwitch     = reflect.TypeFor[Switch]()
	typeLockout    = reflect.TypeFor[Lockout]()
	typeJSONSchema = reflect.TypeFor[[]JSONSchema]()
)

// object binds n into the struct v, whose defaults are set already.
func (d *document) object(n *node, v reflect.Value, p *path) {
	if n.kind != kindObject {
		want := "an object"
		if v.Type() == typeLockout {
			want = "an object, true or false"
		}
		d.wrongType(n, p, want, false, "")
		return
	}
	s := shapeOf(v.Type())
	owner := ""
	if s.typed {
		owner = d.owner(n, v, s)
		if owner == "http" && d.src.later(n.offset) {
			d.fail(n.offset, p, "a pushed configuration cannot have a provider of type http", pushHint)
		}
	}
	seen := map[string]int{}
	for _, m := range n.members {
		key := normal(m.name)
		f := s.byKey[key]
		if f == nil {
			if near := d.unknownKey(m, p, s, owner); near != "" {
				if n.misspelt == nil {
					n.misspelt = map[string]bool{}
				}
				n.misspelt[near] = true
			}
			continue
		}
		kp := p.child(f.key)
		if first, twice := seen[key]; twice {
			d.duplicate(m, first, kp)
			continue
		}
		seen[key] = m.offset
		if owner != "" && f.owners != nil && !slices.Contains(f.owners, owner) {
			d.fail(m.offset, kp, fmt.Sprintf("%s is a key of type %s; this one is of type %q", quote(m.name), oneOf(f.owners), owner), "")
			continue
		}
		if f.is == "file" && d.src.later(m.offset) {
			d.fail(m.offset, kp, "a pushed configuration cannot name files", pushHint)
			continue
		}
		d.value(m.value, v.Field(f.index), f, kp)
	}
	for i := range s.fields {
		f := &s.fields[i]
		if !f.need || owner != "" && f.owners != nil && !slices.Contains(f.owners, owner) || f.owners != nil && owner == "" {
			continue
		}
		if m := n.member(f.key); m == nil {
			if !n.misspelt[f.key] {
				d.fail(n.offset, p.child(f.key), "the key is missing", f.example())
			}
		} else if m.value.kind == kindText && m.value.text == "" && !m.value.refused {
			d.refuse(m.value, p.child(f.key), "found an empty text", f.example())
		}
	}
}

// owner finds the value of "type" that decides which keys belong here, and
// sets the defaults that go with it. "" when it is missing or wrong.
func (d *document) owner(n *node, v reflect.Value, s *shape) string {
	f := s.byKey["type"]
	m := n.member("type")
	if f == nil || m == nil || m.value.kind != kindText {
		return ""
	}
	text, _ := d.expand(m.value)
	if !slices.Contains(f.enum, text) {
		return ""
	}
	if v.Type() == reflect.TypeFor[Provider]() {
		v.Set(reflect.ValueOf(providerDefault(text)))
	}
	return text
}

// unknownKey reports m and returns the key that it may stand for, or "".
func (d *document) unknownKey(m member, p *path, s *shape, owner string) string {
	known := s.keys
	if owner != "" {
		known = nil
		for _, f := range s.fields {
			if f.owners == nil || slices.Contains(f.owners, owner) {
				known = append(known, f.key)
			}
		}
	}
	if d.src.later(m.offset) {
		known = mayPush(p, known)
	}
	hint, near := "", Suggest(m.name, known)
	switch {
	case p != nil && d.top.byKey[normal(m.name)] != nil:
		hint, near = quote(m.name)+" stands at the top of the document: is a } missing before it?", ""
	case near != "":
		hint = fmt.Sprintf("did you mean %q?", near)
	case len(known) <= 12:
		hint = "known here: " + strings.Join(known, ", ")
	}
	d.fail(m.offset, p, "unknown key "+quote(m.name), hint)
	return near
}

func (d *document) duplicate(m member, first int, p *path) {
	line, column := d.src.position(first)
	d.fail(m.offset, p, fmt.Sprintf("the key %s is given twice, first at %d:%d", quote(m.name), line, column), "")
}

func (d *document) wrongType(n *node, p *path, want string, secret bool, hint string) {
	if n.kind == kindNull {
		hint = "leave the key out for its default"
	}
	d.refuse(n, p, "found "+n.describe(secret || d.hides)+"; accepted: "+want, hint)
}

// value binds n into v, a field with the tags of f or an entry of one.
func (d *document) value(n *node, v reflect.Value, f *field, p *path) {
	switch v.Type() {
	case typeRegexp:
		d.regexp(n, v, f, p)
		return
	case typePrefix:
		d.prefix(n, v, f, p)
		return
	case typeSwitch:
		d.onOff(n, v, p)
		return
	case typeLockout:
		if n.kind == kindBool {
			if !n.boolean {
				v.Set(reflect.ValueOf(Lockout{By: v.Interface().(Lockout).By}))
			}
			return
		}
	case typeJSONSchema:
		if n.kind == kindObject {
			n = &node{kind: kindList, offset: n.offset, items: []*node{n}}
		}
	}
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		d.foreign(n, u, p)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		e := reflect.New(v.Type().Elem())
		e.Elem().Set(entryDefault(e.Elem().Type()))
		d.value(n, e.Elem(), f, p)
		v.Set(e)
	case reflect.Struct:
		d.object(n, v, p)
	case reflect.Slice:
		d.list(n, v, f, p)
	case reflect.Map:
		d.table(n, v, f, p)
	case reflect.Bool:
		d.boolean(n, v, p)
	case reflect.Int, reflect.Int64:
		d.whole(n, v, f, p)
	case reflect.Float64:
		d.float(n, v, f, p)
	case reflect.String:
		d.text(n, v, f, p)
	default:
		panic("cannot bind " + v.Type().String())
	}
}

// foreign binds a text into a type of another room.
func (d *document) foreign(n *node, u encoding.TextUnmarshaler, p *path) {
	text, ok := d.plain(n, p, "a text", true)
	if !ok {
		return
	}
	if err := u.UnmarshalText([]byte(text)); err != nil {
		d.refuse(n, p, err.Error(), "")
	}
}

func (d *document) list(n *node, v reflect.Value, f *field, p *path) {
	if n.scalar() && v.Type().Elem().Kind() != reflect.Struct && d.src.later(n.offset) {
		// The proxy writes a list of one as a scalar.
		n = &node{kind: kindList, offset: n.offset, items: []*node{n}}
	}
	if n.kind != kindList {
		hint := ""
		if elem := v.Type().Elem().Kind(); elem == reflect.String && n.kind == kindText {
			hint = "write [" + quote(n.raw) + "]"
		} else if elem == reflect.Struct && n.kind == kindObject {
			hint = "write [{…}]"
		}
		want := "a list"
		if v.Type() == typeJSONSchema {
			want = "an object or a list of such"
		}
		d.wrongType(n, p, want, false, hint)
		return
	}
	if len(n.items) == 0 && (f.nonEmpty || f.need) {
		d.refuse(n, p, "the list is empty", "leave the key out, or name something")
		return
	}
	out := reflect.MakeSlice(v.Type(), len(n.items), len(n.items))
	entry := entryDefault(v.Type().Elem())
	seen := map[string]bool{}
	for i, item := range n.items {
		out.Index(i).Set(entry)
		d.value(item, out.Index(i), f, p.at(i))
		if f.enum != nil && item.kind == kindText {
			if seen[item.raw] {
				d.refuse(item, p.at(i), quote(item.raw)+" is named twice", "")
			}
			seen[item.raw] = true
		}
	}
	v.Set(out)
}

// table binds an object whose keys are the user's data.
func (d *document) table(n *node, v reflect.Value, f *field, p *path) {
	if n.kind != kindObject {
		want := "an object"
		if v.Type().Elem().Kind() == reflect.String {
			want = "an object of texts"
		}
		d.wrongType(n, p, want, false, "")
		return
	}
	if len(n.members) == 0 && f.nonEmpty {
		d.refuse(n, p, "the object is empty", "leave the key out, or name something")
		return
	}
	out := reflect.MakeMapWithSize(v.Type(), len(n.members))
	seen := map[string]int{}
	for _, m := range n.members {
		kp := p.entry(m.name)
		if first, twice := seen[m.name]; twice {
			d.duplicate(m, first, kp)
			continue
		}
		seen[m.name] = m.offset
		if f.is != "" {
			if _, w := valueChecks[f.is](d, m.name); w != nil {
				d.fail(m.offset, kp, quote(m.name)+" "+w.text, w.hint)
			}
		}
		key, e := reflect.New(v.Type().Key()), reflect.New(v.Type().Elem()).Elem()
		key.Elem().SetString(m.name)
		if u, ok := key.Interface().(encoding.TextUnmarshaler); ok {
			if err := u.UnmarshalText([]byte(m.name)); err != nil {
				d.fail(m.offset, kp, err.Error(), "")
			}
		}
		d.value(m.value, e, &field{}, kp)
		out.SetMapIndex(key.Elem(), e)
	}
	v.Set(out)
}
