package config

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the expected texts in testdata")

// TestGolden loads every testdata/*.txtar. An archive holds the files of a
// folder, config.json (or another name given in its comment) among them, an
// optional "env" of NAME=value lines, and "want": the outcome, every error and
// warning.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no testdata: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			comment, archive := readArchive(t, file)
			dir := t.TempDir()
			name, want, env := "config.json", -1, map[string]string{"DIR": dir}
			for i, f := range archive {
				switch f.name {
				case "want":
					want = i
				case "env":
					for line := range strings.Lines(f.data) {
						k, v, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
						env[k] = v
					}
				default:
					writeFile(t, filepath.Join(dir, f.name), []byte(f.data))
					if strings.HasPrefix(f.name, "config.") {
						name = f.name
					}
				}
			}
			path := filepath.Join(dir, name)
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			cfg, warnings, err := Parse(path, dir, data, lookup(env))
			got := strings.ReplaceAll(outcome(cfg, warnings, err), dir+string(filepath.Separator), "")
			if *update {
				if want < 0 {
					want, archive = len(archive), append(archive, entry{name: "want"})
				}
				archive[want].data = got
				writeFile(t, file, formatArchive(comment, archive))
				return
			}
			if want < 0 {
				t.Fatalf("%s has no want; run with -update", file)
			}
			if diff := cmp.Diff(archive[want].data, got); diff != "" {
				t.Errorf("%s\n-want +got\n%s", file, diff)
			}
		})
	}
}

// outcome is what validate would print, warnings last.
func outcome(cfg *Config, warnings []Warning, err error) string {
	var b strings.Builder
	switch {
	case err == nil && cfg != nil:
		b.WriteString("ok\n")
	case err != nil && cfg == nil:
		fmt.Fprintln(&b, err)
	default:
		fmt.Fprintf(&b, "neither or both: %v %v\n", cfg != nil, err)
	}
	for _, w := range warnings {
		kind := "warning"
		if w.Blocks {
			kind = "not enforced"
		}
		fmt.Fprintf(&b, "%s: %s: %s: %s\n", w.Place, kind, w.Path, w.Text)
	}
	return b.String()
}

func lookup(env map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		v, ok := env[name]
		return v, ok
	}
}

func writeFile(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// parse is Parse of a text without environment and without files.
func parse(t *testing.T, text string) (*Config, []Warning, Errors) {
	t.Helper()
	cfg, warnings, err := Parse("c.json", t.TempDir(), []byte(text), lookup(nil))
	var errs Errors
	if err != nil && !errors.As(err, &errs) {
		t.Fatalf("the error is no Errors: %T %v", err, err)
	}
	return cfg, warnings, errs
}
