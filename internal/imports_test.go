package internal_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/"

// allowed is which rooms a room may import, tests aside. A new line, or a new
// word in one, is a decision about the architecture: see docs/architecture.md.
var allowed = map[string]string{
	"mqtt":             "",
	"topic":            "",
	"config":           "topic",
	"policy":           "config mqtt topic",
	"session":          "config mqtt policy",
	"analyse":          "mqtt policy topic",
	"auth":             "config policy session",
	"audit":            "config mqtt policy session",
	"health":           "config",
	"metrics":          "",
	"admin":            "config health metrics",
	"netloop":          "",
	"upstream":         "config netloop",
	"gateway":          "audit auth config metrics mqtt netloop policy session upstream",
	"agent":            "agent/pb/agentv1 agent/pb/agentv2 agent/wire audit auth config health metrics mqtt policy session",
	"agent/pb":         "",
	"agent/pb/agentv1": "",
	"agent/pb/agentv2": "",
	"agent/wire":       "",
	"app":              "admin agent audit auth config gateway health metrics policy",
	"demo":             "agent/wire app audit auth config mqtt",
	"cli":              "analyse app auth config demo mqtt policy",
	"testkit":          "agent/wire mqtt",
}

// pure rooms do no I/O, start no goroutine and read no clock: they may import
// from the standard library nothing that could.
var pure = []string{"mqtt", "topic", "policy", "session", "analyse"}

// impure are the standard packages that pure rooms do not touch.
var impure = []string{"context", "log", "log/slog", "net", "net/http", "os", "os/exec", "syscall", "crypto/rand"}

func TestImports(t *testing.T) {
	seen := map[string]bool{}
	used := map[string]bool{} // "room other"
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		room := filepath.ToSlash(filepath.Dir(path))
		may, known := allowed[room]
		if !known {
			t.Errorf("%s: room %q is not in the table", path, room)
			return nil
		}
		seen[room] = true
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range f.Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			other, ours := strings.CutPrefix(name, module)
			if ours && !slices.Contains(strings.Fields(may), other) {
				t.Errorf("%s imports %s: %s may import only [%s]", path, other, room, may)
			}
			used[room+" "+other] = true
			if slices.Contains(pure, room) && slices.Contains(impure, name) {
				t.Errorf("%s imports %s: %s does no I/O", path, name, room)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for room, may := range allowed {
		if !seen[room] {
			t.Errorf("room %q is in the table and not in the tree", room)
		}
		for other := range strings.FieldsSeq(may) {
			if !used[room+" "+other] {
				t.Errorf("%s may import %s, and does not", room, other)
			}
		}
	}
}

// TestPureRoomsReadNoClock finds goroutines and clocks in the pure rooms.
func TestPureRoomsReadNoClock(t *testing.T) {
	for _, room := range pure {
		files, err := filepath.Glob(filepath.Join(room, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range files {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			for _, bad := range forbidden(t, path) {
				t.Errorf("%s: %s in a pure room", path, bad)
			}
		}
	}
}
