package config

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// document is one file being bound and checked.
type document struct {
	*report
	src  *source
	root *node
	dir  string // where relative paths start
	env  func(string) (string, bool)
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
		s.byKey[s.fields[i].key] = &s.fields[i]
	}
	shapes.Store(t, s)
	return s
}

// The types that are not bound by their kind alone.
var (
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
		kp := p.child(key)
		if first, twice := seen[key]; twice {
			d.duplicate(m, first, kp)
			continue
		}
		seen[key] = m.offset
		if owner != "" && f.owners != nil && !slices.Contains(f.owners, owner) {
			d.fail(m.offset, kp, fmt.Sprintf("%s is a key of type %s; this one is of type %q", quote(m.name), oneOf(f.owners), owner), "")
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

// owner finds the value of "type" that decides which keys belong here, and
// sets the defaults that go with it. "" when it is missing or wrong.
func (d *document) owner(n *node, v reflect.Value, s *shape) string {
	f := s.byKey["type"]
	m := n.member("type")
	if f == nil || m == nil || m.value.kind != kindText {
		return ""
	}
	text, _ := expand(m.value.raw, d.env)
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
	hint, near := "", suggest(m.name, known)
	if near != "" {
		hint = fmt.Sprintf("did you mean %q?", near)
	} else if len(known) <= 12 {
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
	d.refuse(n, p, "found "+n.describe(secret)+"; accepted: "+want, hint)
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

func (d *document) list(n *node, v reflect.Value, f *field, p *path) {
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
		d.wrongType(n, p, "an object of texts", false, "")
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
		e := reflect.New(v.Type().Elem()).Elem()
		d.text(m.value, e, &field{}, kp)
		out.SetMapIndex(reflect.ValueOf(m.name), e)
	}
	v.Set(out)
}

func (d *document) boolean(n *node, v reflect.Value, p *path) {
	if n.kind != kindBool {
		hint := ""
		if n.kind == kindText && (n.raw == "true" || n.raw == "false") {
			hint = "write " + n.raw + " without quotes"
		}
		d.wrongType(n, p, "true or false", false, hint)
		return
	}
	v.SetBool(n.boolean)
}

// onOff binds a [Switch].
func (d *document) onOff(n *node, v reflect.Value, p *path) {
	s := SwitchOff
	switch {
	case n.kind == kindBool && n.boolean:
		s = SwitchOn
	case n.kind == kindText && n.raw == "audit":
		s = SwitchAudit
	case n.kind != kindBool:
		d.wrongType(n, p, `true, false or "audit"`, false, "")
		return
	}
	v.Set(reflect.ValueOf(s))
}

func (d *document) whole(n *node, v reflect.Value, f *field, p *path) {
	want := "a whole number"
	if f.accept != nil {
		want = strings.Join(f.accept, ", ")
	}
	if !d.isNumber(n, p, want) {
		return
	}
	i, err := strconv.ParseInt(n.text, 10, 64)
	switch {
	case err != nil && strings.ContainsAny(n.text, ".eE"):
		d.wrongType(n, p, want, false, "")
	case err != nil || float64(i) < f.low || float64(i) > f.high:
		d.outOfRange(n, f, p)
	case f.accept != nil && !slices.Contains(f.accept, n.text):
		d.wrongType(n, p, want, false, "")
	default:
		v.SetInt(i)
	}
}

func (d *document) float(n *node, v reflect.Value, f *field, p *path) {
	if !d.isNumber(n, p, "a number") {
		return
	}
	x, err := strconv.ParseFloat(n.text, 64)
	if err != nil || x < f.low || x > f.high {
		d.outOfRange(n, f, p)
		return
	}
	v.SetFloat(x)
}

func (d *document) isNumber(n *node, p *path, want string) bool {
	if n.kind == kindNumber {
		return true
	}
	hint := ""
	if n.kind == kindText {
		if _, err := strconv.ParseFloat(n.raw, 64); err == nil {
			hint = fmt.Sprintf("write %.32s without quotes", n.raw)
		}
	}
	d.wrongType(n, p, want, false, hint)
	return false
}

func (d *document) outOfRange(n *node, f *field, p *path) {
	d.refuse(n, p, "found "+n.describe(false)+"; accepted: "+f.span(), "")
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

// plain takes a text out of n: expanded, not yet judged.
func (d *document) plain(n *node, p *path, want string, secret bool) (string, bool) {
	if n.kind != kindText {
		hint := ""
		if n.kind == kindNumber && !secret {
			hint = fmt.Sprintf("write \"%.32s\" in quotes", n.text)
		}
		d.wrongType(n, p, want, secret, hint)
		return "", false
	}
	text, errs := expand(n.raw, d.env)
	for _, err := range errs {
		hint := "write $${ for a literal ${"
		var unset *unsetError
		if errors.As(err, &unset) {
			hint = fmt.Sprintf("set it, or give a default: ${%s:-default}", unset.name)
		}
		d.refuse(n, p, err.Error(), hint)
	}
	n.text = text
	return text, errs == nil
}

func (d *document) text(n *node, v reflect.Value, f *field, p *path) {
	secret := v.Type() == typeSecret
	want := "a text"
	if f.enum != nil {
		want = oneOf(f.enum)
	}
	text, ok := d.plain(n, p, want, secret)
	switch {
	case !ok:
		return
	case f.enum != nil && !slices.Contains(f.enum, text):
		hint := ""
		if near := suggest(text, f.enum); near != "" {
			hint = fmt.Sprintf("did you mean %q?", near)
		}
		d.wrongType(n, p, want, secret, hint)
		return
	case text == "" && f.nonEmpty:
		d.refuse(n, p, "found an empty text", "leave the key out, or name something")
		return
	case text == "" && !judgesEmpty[f.is]:
		v.SetString("") // the same as not given
		return
	case f.is != "":
		out, w := valueChecks[f.is](d, text)
		if w != nil {
			d.failWrong(n, p, w, secret)
			return
		}
		text = out
	}
	v.SetString(text)
}

// judgesEmpty are the checks that an empty text is given to.
var judgesEmpty = map[string]bool{"filter": true, "rule-filter": true, "nonempty": true}

// failWrong reports a text that its check does not accept.
func (d *document) failWrong(n *node, p *path, w *wrong, secret bool) {
	found := quote(n.raw)
	if secret || w.hides {
		found = "the text"
	}
	d.refuse(n, p, found+" "+w.text, w.hint)
	d.errs[len(d.errs)-1].Err = w.err
}

func (d *document) regexp(n *node, v reflect.Value, f *field, p *path) {
	text, ok := d.plain(n, p, "a text that is a regular expression", false)
	if !ok {
		return
	}
	if text == "" {
		if f.nonEmpty || f.need {
			d.refuse(n, p, "found an empty text, which every name matches", "leave the key out, or write a pattern")
		}
		return
	}
	re, err := regexp.Compile(text)
	if err != nil {
		why := strings.TrimPrefix(err.Error(), "error parsing regexp: ")
		hint := ""
		if strings.Contains(why, "Perl syntax") || strings.Contains(why, "escape sequence") {
			hint = "the syntax is RE2: no look-around, no back references"
		}
		if n.raw != n.text {
			why = "invalid syntax"
		}
		d.refuse(n, p, quote(n.raw)+" is not a regular expression: "+why, hint)
		return
	}
	if f.is == "anchored" {
		re = regexp.MustCompile(`\A(?:` + text + `)\z`)
	}
	v.Set(reflect.ValueOf(re))
}

func (d *document) prefix(n *node, v reflect.Value, f *field, p *path) {
	text, ok := d.plain(n, p, "a text that is an address or a range", false)
	if !ok {
		return
	}
	if text == "" && f.nonEmpty {
		d.refuse(n, p, "found an empty text", "leave the key out, or name something")
		return
	}
	prefix, err := parsePrefix(text)
	if err != nil {
		d.refuse(n, p, quote(n.raw)+" is not an address or a range: "+err.Error(), `for example "192.168.1.0/24", "10.0.0.7" or "2001:db8::/32"`)
		return
	}
	v.Set(reflect.ValueOf(prefix))
}

// parsePrefix reads an address or a CIDR range. IPv4 addresses written as IPv6
// become IPv4; the bits behind the length are cleared.
func parsePrefix(s string) (netip.Prefix, error) {
	addr, length, isRange := strings.Cut(s, "/")
	a, err := netip.ParseAddr(addr)
	switch {
	case err != nil:
		return netip.Prefix{}, errors.New("no IP address")
	case a.Zone() != "":
		return netip.Prefix{}, errors.New("a zone cannot be matched")
	}
	bits, most := a.BitLen(), a.BitLen()
	if isRange {
		if bits, err = strconv.Atoi(length); err != nil || bits < 0 || bits > most || length != strconv.Itoa(bits) {
			return netip.Prefix{}, fmt.Errorf("the length is not 0 to %d", most)
		}
	}
	if a.Is4In6() && bits >= 96 {
		a, bits = a.Unmap(), bits-96
	}
	return netip.PrefixFrom(a, bits).Masked(), nil
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
