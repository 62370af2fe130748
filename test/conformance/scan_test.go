package conformance

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// root is the module's folder.
const root = "../.."

// scan is what the sources say.
type scan struct {
	fset    *token.FileSet
	places  map[string]token.Pos // everything declared: "session.Session.possible"
	code    mentions
	tests   mentions
	unknown []string // names of statements that the table does not have
}

// mentions are the places that name a statement, by clause.
type mentions map[string][]string

func (m mentions) add(clause, place string) {
	if !slices.Contains(m[clause], place) {
		m[clause] = append(m[clause], place)
	}
}

// silent are files in which a name is no test of that statement: tables of what
// other codecs let a packet break, and the catalogue, which is asked itself.
var silent = []string{"internal/mqtt/differential_test.go", "internal/mqtt/mochi_test.go", "test/oracle/", "internal/testkit/"}

// readSources reads every Go file of the module.
func readSources(t *testing.T) *scan {
	t.Helper()
	s := &scan{fset: token.NewFileSet(), places: map[string]token.Pos{}, code: mentions{}, tests: mentions{}}
	packages := map[string][]*source{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch name := d.Name(); {
		case err != nil:
			return err
		case d.IsDir() && path != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "node_modules"):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(name, ".go"):
			return nil
		}
		f, err := parser.ParseFile(s.fset, path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		src := &source{path: filepath.ToSlash(rel), pkg: filepath.Base(filepath.Dir(path)), file: f}
		packages[filepath.Dir(path)] = append(packages[filepath.Dir(path)], src)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, files := range packages {
		names := clauseNames(files)
		for _, src := range files {
			s.read(src, names)
		}
	}
	for _, m := range []mentions{s.code, s.tests} {
		for _, list := range m {
			slices.Sort(list)
		}
	}
	slices.Sort(s.unknown)
	return s
}

// source is one file.
type source struct {
	path string
	pkg  string // the folder's name
	file *ast.File
}

func (src *source) isTest() bool {
	return strings.HasSuffix(src.path, "_test.go") || strings.HasPrefix(src.path, "test/")
}

// clauseNames are the constants of a package whose whole value is a clause.
func clauseNames(files []*source) map[string]string {
	names := map[string]string{}
	for _, src := range files {
		for _, d := range src.file.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.CONST {
				continue
			}
			for _, spec := range g.Specs {
				v := spec.(*ast.ValueSpec)
				for i, value := range v.Values {
					if text, ok := literal(value); ok && len(inText(text)) == 1 && inText(text)[0] == text {
						names[v.Names[i].Name] = text
					}
				}
			}
		}
	}
	return names
}

func literal(n ast.Node) (string, bool) {
	l, ok := n.(*ast.BasicLit)
	if !ok || l.Kind != token.STRING {
		return "", false
	}
	text, err := strconv.Unquote(l.Value)
	return text, err == nil
}

// read collects what a file declares and names.
func (s *scan) read(src *source, names map[string]string) {
	into := s.code
	switch {
	case slices.ContainsFunc(silent, func(c string) bool { return strings.HasPrefix(src.path, c) }):
		into = nil
	case src.isTest():
		into = s.tests
	}
	for _, d := range src.file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			place := src.pkg + "." + d.Name.Name
			if d.Recv != nil {
				place = src.pkg + "." + receiver(d.Recv.List[0].Type) + "." + d.Name.Name
			}
			s.places[place] = d.Pos()
			s.collect(src, d, d.Doc, place, into, names)
		case *ast.GenDecl:
			if src.pkg == "conformance" {
				continue // the table itself
			}
			for _, spec := range d.Specs {
				s.collectSpec(src, d, spec, into, names)
			}
		}
	}
}

// collectSpec is collect for one spec of a declaration. In tests only functions
// count: the tables there name statements for many reasons.
func (s *scan) collectSpec(src *source, d *ast.GenDecl, spec ast.Spec, into mentions, names map[string]string) {
	name := ""
	switch spec := spec.(type) {
	case *ast.TypeSpec:
		name = spec.Name.Name
	case *ast.ValueSpec:
		name = spec.Names[0].Name
	default:
		return
	}
	place := src.pkg + "." + name
	s.places[place] = spec.Pos()
	if _, ok := names[name]; ok {
		return // its uses count
	}
	if src.isTest() {
		into = nil
	}
	var doc *ast.CommentGroup
	if len(d.Specs) == 1 {
		doc = d.Doc
	}
	s.collect(src, spec, doc, place, into, names)
}

func receiver(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e.Name
	}
	return "?"
}

// collect notes what a declaration names in its comments and strings, and by
// the constants of its package.
func (s *scan) collect(src *source, n ast.Node, doc *ast.CommentGroup, place string, into mentions, names map[string]string) {
	note := func(clause string) {
		if byClause[clause] == nil {
			s.unknown = append(s.unknown, src.path+": "+clause)
		} else if into != nil {
			into.add(clause, place)
		}
	}
	from, till := n.Pos(), n.End()
	if doc != nil {
		from = doc.Pos()
	}
	// A comment may follow on the declaration's last line.
	last := s.fset.Position(till).Line
	for _, g := range src.file.Comments {
		if g.Pos() >= from && (g.End() <= till || s.fset.Position(g.Pos()).Line == last) {
			for _, clause := range inComment(g.Text()) {
				note(clause)
			}
		}
	}
	ast.Inspect(n, func(n ast.Node) bool {
		if text, ok := literal(n); ok {
			for _, clause := range inText(text) {
				note(clause)
			}
		}
		if id, ok := n.(*ast.Ident); ok && names[id.Name] != "" {
			note(names[id.Name])
		}
		return true
	})
}

var (
	bracketed = regexp.MustCompile(`\[(MQTT-[^\]\s]*)\](\sof\s3\.1\.1)?`)
	quoted    = regexp.MustCompile(`(MQTT 3\.1\.1 )?\bMQTT-\d[-.\d]*\d`)
	section   = regexp.MustCompile(`^MQTT \d+\.\d+\.\d+(\.\d+)*$`)
)

// inComment are the statements that a comment names: in brackets.
func inComment(text string) (clauses []string) {
	for _, m := range bracketed.FindAllStringSubmatch(text, -1) {
		clause := m[1]
		if m[2] != "" {
			clause = "MQTT 3.1.1 " + clause
		}
		clauses = append(clauses, clause)
	}
	return clauses
}

// inText are the statements and sections that a string names.
func inText(text string) []string {
	if section.MatchString(text) && text != "MQTT 3.1.1" {
		return []string{text}
	}
	return quoted.FindAllString(text, -1)
}

func TestNames(t *testing.T) {
	for text, want := range map[string][]string{
		"[MQTT-3.3.2-2]": {"MQTT-3.3.2-2"},
		"wildcards [MQTT-4.8.2-1] [MQTT-4.8.2-2] are": {"MQTT-4.8.2-1", "MQTT-4.8.2-2"},
		"[MQTT-3.1.2-22] of 3.1.1":                    {"MQTT 3.1.1 MQTT-3.1.2-22"},
		"[MQTT-3-8.3-4]":                              {"MQTT-3-8.3-4"},
		"MQTT-3.3.2-2 without brackets, [RFC 6455]":   nil,
		"[MQTT-nonsense]":                             {"MQTT-nonsense"},
	} {
		if got := inComment(text); !slices.Equal(got, want) {
			t.Errorf("comment %q names %q, want %q", text, got, want)
		}
	}
	for text, want := range map[string][]string{
		"MQTT-3.3.2-2":                     {"MQTT-3.3.2-2"},
		"QoS 3 [MQTT-3.3.1-4]":             {"MQTT-3.3.1-4"},
		"MQTT 3.1.1 MQTT-3.1.2-22":         {"MQTT 3.1.1 MQTT-3.1.2-22"},
		"MQTT 3.1.2.11.10":                 {"MQTT 3.1.2.11.10"},
		"MQTT 3.1.1":                       nil,
		"this is MQTT 3.1.2 in a sentence": nil,
	} {
		if got := inText(text); !slices.Equal(got, want) {
			t.Errorf("text %q names %q, want %q", text, got, want)
		}
	}
}
