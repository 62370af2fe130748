package config

import (
	"encoding/json"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
)

// sampler writes a value for every key of a struct, none of them its default.
type sampler struct {
	file   string // one that exists
	leaves int
}

// texts are values that a named check accepts.
var texts = map[string]string{
	"": "t", "nonempty": "t", "filter": "a/+", "rule-filter": "a/%u", "client-id-template": "%u-*", "client-id-out": "x-%c", "upstream-username": "%u-%c",
	"claim": "/a/b", "json-pointer": "/t", "octal": "0600", "origin": "https://a.example.com", "header-name": "X-A",
	"https-url": "https://a.example.com/k", "web-url": "https://a.example.com/w", "broker-url": "wss://b/mqtt",
	"upstream-url": "mqtts://b:1", "listen-address": "wss://:1/p", "admin-address": "127.0.0.1:1", "output": "stderr",
}

// object gives the JSON value of a struct; kind is the value of its "type" where
// that decides about keys.
func (s *sampler) object(t reflect.Type, defaults reflect.Value, kind string) map[string]any {
	out := map[string]any{}
	for _, f := range shapeOf(t).fields {
		if f.owners != nil && !slices.Contains(f.owners, kind) {
			continue
		}
		out[f.key] = s.value(f, f.typ, defaults.Field(f.index))
		if f.key == "type" && kind != "" {
			out[f.key] = kind
		}
	}
	return out
}

func (s *sampler) value(f field, t reflect.Type, def reflect.Value) any {
	switch {
	case t == typeRegexp:
		return "^x"
	case t == typePrefix:
		return "10.0.0.0/8"
	case t == typeSwitch:
		return "audit"
	case t == reflect.TypeFor[[]Provider]():
		var all []any
		for _, kind := range []string{"file", "jwt", "certificate", "http"} {
			all = append(all, s.object(t.Elem(), reflect.ValueOf(providerDefault(kind)), kind))
		}
		return all
	case t.Kind() == reflect.Pointer:
		return s.value(f, t.Elem(), entryDefault(t.Elem()))
	case t.Kind() == reflect.Slice:
		return []any{s.value(f, t.Elem(), entryDefault(t.Elem()))}
	case t.Kind() == reflect.Struct:
		return s.object(t, def, "")
	case t.Kind() == reflect.Map:
		return map[string]any{"A-b": "v"}
	}
	s.leaves++
	switch t.Kind() {
	case reflect.Bool:
		return !def.Bool()
	case reflect.Int, reflect.Int64:
		n := int64(max(f.low, -5)) + 2
		if def.Int() == n {
			n--
		}
		if f.accept != nil {
			n = 4
		}
		return n
	case reflect.Float64:
		return 1.5
	}
	for _, word := range slices.Backward(f.enum) {
		if word != def.String() {
			return word
		}
	}
	if f.enum != nil {
		return f.enum[0]
	}
	if f.is == "file" {
		return s.file
	}
	return texts[f.is]
}

// differs fails on every key that still has its default.
func differs(t *testing.T, v, def reflect.Value, p *path) {
	for _, f := range shapeOf(v.Type()).fields {
		fv, dv, fp := v.Field(f.index), def.Field(f.index), p.child(f.key)
		switch {
		case fv.Kind() == reflect.Struct && fv.Type() != typePrefix:
			differs(t, fv, dv, fp)
		case fv.Kind() == reflect.Pointer && fv.Type() != typeRegexp && !fv.IsNil() && fv.Elem().Kind() == reflect.Struct:
			differs(t, fv.Elem(), entryDefault(fv.Type().Elem()), fp)
		case fv.Kind() == reflect.Slice && fv.Len() > 0 && fv.Type().Elem().Kind() == reflect.Struct && fv.Type().Elem() != typePrefix:
			if fv.Type().Elem() == reflect.TypeFor[Provider]() {
				continue // its defaults go by its type
			}
			for i := range fv.Len() {
				differs(t, fv.Index(i), entryDefault(fv.Type().Elem()), fp.at(i))
			}
		case reflect.DeepEqual(fv.Interface(), dv.Interface()):
			t.Errorf("%s keeps its default %v", fp, dv)
		}
	}
}

// TestEveryKeyBinds writes every key of the schema and finds each in the
// configuration.
func TestEveryKeyBinds(t *testing.T) {
	dir := t.TempDir()
	s := &sampler{file: filepath.Join(dir, "f")}
	writeFile(t, s.file, []byte("{}"))
	text, err := json.MarshalIndent(s.object(reflect.TypeFor[Config](), reflect.ValueOf(*Default()), ""), "", " ")
	if err != nil {
		t.Fatal(err)
	}
	root, wrong := parseJSON(text)
	if wrong != nil {
		t.Fatal(wrong)
	}
	d := &document{report: &report{}, src: &source{name: "c.json", data: text}, root: root, env: lookup(nil)}
	cfg := Default()
	d.object(root, reflect.ValueOf(cfg).Elem(), nil)
	if _, err := d.done(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	differs(t, reflect.ValueOf(cfg).Elem(), reflect.ValueOf(Default()).Elem(), nil)
	for i := range cfg.Auth.Providers {
		got := reflect.ValueOf(cfg.Auth.Providers[i])
		def := reflect.ValueOf(providerDefault(cfg.Auth.Providers[i].Type))
		for _, f := range shapeOf(got.Type()).fields {
			if f.key == "type" || f.owners != nil && !slices.Contains(f.owners, cfg.Auth.Providers[i].Type) {
				continue
			}
			if reflect.DeepEqual(got.Field(f.index).Interface(), def.Field(f.index).Interface()) {
				t.Errorf("%s of a provider of type %s keeps its default", f.key, cfg.Auth.Providers[i].Type)
			}
		}
	}
	if s.leaves < 150 {
		t.Errorf("only %d keys were written", s.leaves)
	}
}

// TestChecksAreUsed: a check that no field names is dead.
func TestChecksAreUsed(t *testing.T) {
	used := map[string]bool{}
	seen := map[reflect.Type]bool{}
	var walk func(t reflect.Type)
	walk = func(t reflect.Type) {
		for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
			t = t.Elem()
		}
		if t.Kind() != reflect.Struct || seen[t] || t == typePrefix || t == typeRegexp.Elem() {
			return
		}
		seen[t] = true
		for _, f := range shapeOf(t).fields {
			used[f.is] = true
			walk(f.typ)
		}
	}
	walk(reflect.TypeFor[Config]())
	for name := range valueChecks {
		if !used[name] {
			t.Errorf("no field has the check %s", name)
		}
	}
}
