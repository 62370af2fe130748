package config

import (
	"reflect"
	"slices"
)

// Files returns the paths of everything that a run reads: the configuration
// itself first, then what it names, each once. Output files are not among
// them.
func Files(cfg *Config) []string {
	var out []string
	add := func(name string) {
		if name != "" && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	add(cfg.file)
	var walk func(v reflect.Value)
	walk = func(v reflect.Value) {
		switch v.Kind() {
		case reflect.Pointer:
			if !v.IsNil() && v.Type() != typeRegexp {
				walk(v.Elem())
			}
		case reflect.Slice:
			if v.Type().Elem().Kind() == reflect.Struct {
				for i := range v.Len() {
					walk(v.Index(i))
				}
			}
		case reflect.Struct:
			for _, f := range shapeOf(v.Type()).fields {
				if f.is == "file" {
					add(v.Field(f.index).String())
				} else {
					walk(v.Field(f.index))
				}
			}
		}
	}
	walk(reflect.ValueOf(cfg).Elem())
	return out
}
