package config

import (
	"fmt"
	"math"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const docsFile = "../../docs/configuration.md"

// docRow is one key as the documentation's tables have it.
type docRow struct {
	table string // the heading's path, with ", type `x`" for a provider's
	key   string
	typ   string
	value string // its default
}

// schemaRows lists every key of the schema. An object type that stands in
// several places is listed at the first.
func schemaRows() []docRow {
	var rows []docRow
	done := map[reflect.Type]bool{}
	var walk func(v reflect.Value, table, kind string)
	walk = func(v reflect.Value, table, kind string) {
		if done[v.Type()] && kind == "" {
			return
		}
		done[v.Type()] = true
		type next struct {
			v     reflect.Value
			table string
		}
		var below []next
		for _, f := range shapeOf(v.Type()).fields {
			if kind != "" && f.owners != nil && !slices.Contains(f.owners, kind) {
				continue
			}
			fv := v.Field(f.index)
			path := strings.TrimPrefix(table+"."+f.key, ".")
			rows = append(rows, docRow{strings.TrimPrefix(table, "."), f.key, docType(f, fv.Type()), docDefault(f, fv)})
			switch t := fv.Type(); {
			case t == typeRegexp || t == typePrefix:
			case t.Kind() == reflect.Struct:
				below = append(below, next{fv, path})
			case t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.Struct:
				below = append(below, next{entryDefault(t.Elem()), path})
			case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct && t.Elem() != typePrefix:
				below = append(below, next{entryDefault(t.Elem()), path + "[]"})
			}
		}
		if v.Type() == reflect.TypeFor[Provider]() && kind == "" {
			// The keys that all have, then each type's.
			rows = slices.DeleteFunc(rows, func(r docRow) bool { return r.table == table })
			for _, k := range []string{"file", "jwt", "certificate", "http"} {
				walk(reflect.ValueOf(providerDefault(k)), table+":"+k, k)
			}
			return
		}
		for _, n := range below {
			walk(n.v, n.table, "")
		}
	}
	walk(reflect.ValueOf(Default()).Elem(), "", "")
	return rows
}

var plurals = map[string]string{
	"object": "objects", "text": "texts", "topic filter": "topic filters", "address or range": "addresses or ranges",
}

func docType(f field, t reflect.Type) string {
	switch {
	case t == typeRegexp:
		return "regex"
	case t == typePrefix:
		return "address or range"
	case t == typeSecret:
		return "secret"
	case t == typeSwitch:
		return "`true`, `false` or `\"audit\"`"
	case t == typeLockout:
		return "object or `false`"
	case t == typeJSONSchema:
		return "object or list of objects"
	case t.Kind() == reflect.Slice:
		one := docType(f, t.Elem())
		if many, ok := plurals[one]; ok {
			one = many
		}
		return "list of " + one
	case t.Kind() == reflect.Pointer:
		return docType(f, t.Elem())
	case t.Kind() == reflect.Struct:
		return "object"
	case t.Kind() == reflect.Map && t.Elem() == typeSecret:
		return "object of secrets"
	case t.Kind() == reflect.Map:
		return "object of texts"
	case t.Kind() == reflect.Bool:
		return "bool"
	case f.enum != nil:
		return "`" + strings.Join(f.enum, "`, `") + "`"
	case f.is == "file":
		return "path"
	case strings.HasSuffix(f.is, "filter"):
		return "topic filter"
	case t.Kind() == reflect.String:
		return "text"
	}
	name := "int"
	if t.Kind() == reflect.Float64 {
		name = "number"
	}
	switch {
	case f.accept != nil:
		return name + ": " + strings.Join(f.accept, ", ")
	case math.IsInf(f.high, 1):
		return name
	}
	return name + ", " + f.span()
}

func docDefault(f field, v reflect.Value) string {
	switch {
	case f.need:
		return "required"
	case f.accept != nil:
		return "–"
	}
	switch v.Kind() {
	case reflect.Bool:
		return fmt.Sprintf("`%t`", v.Bool())
	case reflect.Int, reflect.Int64:
		if float64(v.Int()) < f.low {
			return "–"
		}
		return strconv.FormatInt(v.Int(), 10)
	case reflect.Float64:
		return strconv.FormatFloat(v.Float(), 'f', -1, 64)
	case reflect.Uint8:
		return "`false`" // the zero Switch
	case reflect.String:
		if v.Len() == 0 {
			return "–"
		}
		return fmt.Sprintf("`%q`", v.String())
	case reflect.Slice:
		if v.Len() == 0 {
			return "–"
		}
		var items []string
		for i := range v.Len() {
			items = append(items, strconv.Quote(v.Index(i).String()))
		}
		return "`[" + strings.Join(items, ", ") + "]`"
	}
	return "–"
}

// docHeading takes the path, and for a provider the type, out of a heading.
var docHeading = regexp.MustCompile("^##+ `([^`]+)`(?: of type `([^`]+)`)?")

// docTableRow is a row of a table of keys.
var docTableRow = regexp.MustCompile("^\\| `([^`]+)` \\| (.*?) \\| (.*?) \\| (.*) \\|$")

// TestDocs holds documentation and schema together: every key stands in its
// table with its type and default, and no table has a key that is not.
func TestDocs(t *testing.T) {
	text, err := os.ReadFile(docsFile)
	if err != nil {
		t.Fatal(err)
	}
	documented := map[docRow]bool{}
	table, inTables := "", false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		switch m := docHeading.FindStringSubmatch(line); {
		case strings.HasPrefix(line, "## The sections"):
			table, inTables = "", true
		case m != nil:
			table, inTables = m[1], true
			if m[2] != "" {
				table = strings.Replace(m[1], "[]", "[]:"+m[2], 1)
			}
		case strings.HasPrefix(line, "## "):
			inTables = false
		}
		if m := docTableRow.FindStringSubmatch(line); m != nil && inTables {
			documented[docRow{table, m[1], m[2], m[3]}] = true
			if strings.TrimSpace(m[4]) == "" {
				t.Errorf("%s: %s has no meaning", table, m[1])
			}
		}
	}
	for _, r := range schemaRows() {
		if !documented[r] {
			t.Errorf("%s lacks, under the heading %q:\n| `%s` | %s | %s | … |", docsFile, r.table, r.key, r.typ, r.value)
		}
		delete(documented, r)
	}
	for r := range documented {
		t.Errorf("%s has what the schema has not: %+v", docsFile, r)
	}
}

// TestDocsUnenforced: what this version does not do is told.
func TestDocsUnenforced(t *testing.T) {
	text, err := os.ReadFile(docsFile)
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## What this version reads and does not do\n")
	section, _, _ = strings.Cut(section, "\n## ")
	for _, g := range gaps {
		if !strings.Contains(section, "`"+g.at+"`") {
			t.Errorf("%s is not named under what this version does not do", g.at)
		}
	}
	for _, kind := range unenforcedTypes {
		if !strings.Contains(section, "`"+kind+"`") {
			t.Errorf("providers of type %s are not named under what this version does not do", kind)
		}
	}
}

// TestDocsMistakes: what the documentation shows of errors is what they are.
func TestDocsMistakes(t *testing.T) {
	text, err := os.ReadFile(docsFile)
	if err != nil {
		t.Fatal(err)
	}
	_, files := readArchive(t, "testdata/docs-mistakes.txtar")
	if want := files[len(files)-1].data; !strings.Contains(string(text), want) {
		t.Errorf("%s does not show\n%s", docsFile, want)
	}
}

// TestDocsExamples reads every example of the documentation.
func TestDocsExamples(t *testing.T) {
	text, err := os.ReadFile(docsFile)
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```json\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	if len(blocks) < 5 {
		t.Fatalf("%d examples", len(blocks))
	}
	dir := etc(t)
	for _, b := range blocks {
		_, warnings, err := Parse("example.json", dir, []byte(inDir(b[1], dir)), lookup(nil))
		if err != nil || len(warnings) > 0 {
			t.Errorf("%s\n%v\n%v", b[1], err, warnings)
		}
	}
}

// etc makes a folder with the files that examples name.
func etc(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	writeFile(t, dir+"/mqtt-users.json", []byte(`{"users": {}}`))
	writeFile(t, dir+"/sensor-schema.json", []byte(`{}`))
	return dir
}

// inDir puts the folders that examples name into dir.
func inDir(text, dir string) string {
	return strings.NewReplacer("/etc/sentinel/", dir+"/", "/var/log/sentinel/", dir+"/").Replace(text)
}

// TestDocsMarkGaps: what this version does not do bears the mark, in its
// section or at its key.
func TestDocsMarkGaps(t *testing.T) {
	text, err := os.ReadFile(docsFile)
	if err != nil {
		t.Fatal(err)
	}
	sections := strings.Split(string(text), "\n## ")
	marked := func(section, row string) bool {
		for _, s := range sections {
			body, ours := strings.CutPrefix(s, "`"+section+"`")
			if !ours {
				continue
			}
			intro, _, _ := strings.Cut(body, "\n|")
			for line := range strings.Lines(body) {
				if strings.Contains(line, "†") && strings.HasPrefix(line, row) {
					return true
				}
			}
			return strings.Contains(intro, "†")
		}
		return false
	}
	for _, g := range gaps {
		section, key, _ := strings.Cut(g.at, ".")
		if !marked(section, "| `"+key+"` |") {
			t.Errorf("%s is not marked with † under %q", g.at, section)
		}
	}
	for row, section := range map[string]string{"| `proxy-protocol` | `off`, `accept`": "gateway", "| `proxy-protocol` | `off`, `v1`": "gateway", "| `address` |": "gateway", "| `url` |": "gateway"} {
		if !marked(section, row) {
			t.Errorf("%s… is not marked with †", row)
		}
	}
	for _, kind := range unenforcedTypes {
		if _, s, _ := strings.Cut(string(text), "### `auth.providers[]` of type `"+kind+"`\n"); !strings.HasPrefix(s, "\n**Not in this version** †") {
			t.Errorf("providers of type %s are not marked with †", kind)
		}
	}
}
