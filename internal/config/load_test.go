package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// same compares configurations; regular expressions by their text.
func same(t *testing.T, got, want *Config) {
	t.Helper()
	opts := cmp.Options{
		cmp.AllowUnexported(Config{}),
		cmp.Comparer(func(a, b *regexp.Regexp) bool { return a == b || a != nil && b != nil && a.String() == b.String() }),
		cmp.Comparer(func(a, b Prefix) bool { return a == b }),
		cmp.Comparer(func(a, b Secret) bool { return a == b }),
		cmp.Comparer(func(_, _ *origin) bool { return true }),
	}
	if diff := cmp.Diff(want, got, opts); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestEmptyIsDefault(t *testing.T) {
	got, warnings, errs := parse(t, "{}")
	if len(errs) > 0 || len(warnings) > 0 {
		t.Fatal(errs, warnings)
	}
	want := Default()
	same(t, got, want)
}

// TestDefaultIsAccepted writes the defaults down and reads them back: each is
// a value that its own key accepts.
func TestDefaultIsAccepted(t *testing.T) {
	for _, r := range schemaRows() {
		if r.value == "–" || r.value == "required" || r.table == "" || strings.Contains(r.table, "[]") || r.table == "rate-limit.per-client" {
			continue
		}
		text := `"` + r.key + `": ` + strings.Trim(r.value, "`")
		for _, key := range slices.Backward(strings.Split(r.table, ".")) {
			text = `"` + key + `": {` + text + `}`
		}
		cfg, _, errs := parse(t, "{"+text+"}")
		if len(errs) > 0 {
			t.Errorf("{%s}\n%v", text, errs)
			continue
		}
		want := Default()
		same(t, cfg, want)
	}
}

func TestProviderDefaults(t *testing.T) {
	cfg, _, err := Parse("c.json", etc(t), []byte(`{"auth": {"providers": [
		{"path": "mqtt-users.json", "type": "file"},
		{"type": "jwt", "secret": "0123456789abcdef0123456789abcdef", "require_expiry": false},
		{"type": "certificate"},
		{"type": "http", "url": "https://a/b", "cache-ttl-secs": 7}
	]}}`), lookup(nil))
	if err != nil {
		t.Fatal(err)
	}
	p := cfg.Auth.Providers
	if !p[0].HotReload || p[0].CacheTTLSecs != 300 || p[0].Path == "mqtt-users.json" {
		t.Errorf("file: %+v", p[0])
	}
	if p[1].UsernameClaim != "sub" || p[1].GroupsClaim != "groups" || p[1].JWKSRefreshSecs != 300 || !p[1].DisconnectOnExpiry || p[1].RequireExpiry || p[1].CacheTTLSecs != 0 {
		t.Errorf("jwt: %+v", p[1])
	}
	if p[2].ExtractFrom != "common_name" || p[2].Source != "tls" {
		t.Errorf("certificate: %+v", p[2])
	}
	if p[3].TimeoutMS != 5000 || p[3].CacheTTLSecs != 7 {
		t.Errorf("http: %+v", p[3])
	}
}

// TestForms is about values that are written in more than one way, or become
// something else than what is written.
func TestForms(t *testing.T) {
	cfg, _, errs := parse(t, `{
		"auth": {"client-id-pattern": "a|b", "failure_lockout": false},
		"acl": {"rules": [
			{"name": "first", "decision": "allow", "topics": ["a"], "match": {"client-ip": "10.1.2.3/8", "attributes": {"a_b": "${X:-v}"}}, "max-qos": 0, "allow-retain": false},
			{"decision": "deny", "topics": ["b"], "match": {"client-ip": "::ffff:10.0.0.1"}}
		]},
		"inspection": {"patterns": {"sqli": true, "path-traversal": "audit"}},
		"rate-limit": {"per-client": {"bytes-per-second": 1e3}, "per-topic": [{"topic": "x/#", "limit": {"burst-bytes": 5, "burst": 3}}]},
		"gateway": {"listeners": [{"address": "tcp://:1883", "auth": {"providers": []}}], "upstreams": [{"url": "mqtt://h"}]}
	}`)
	if errs != nil {
		t.Fatal(errs)
	}
	for id, want := range map[string]bool{"a": true, "b": true, "ab": false, "xb": false, "a\n": false} {
		if got := cfg.Auth.ClientIDPattern.MatchString(id); got != want {
			t.Errorf("client-id-pattern a|b on %q: got %t, want %t", id, got, want)
		}
	}
	if cfg.Auth.FailureLockout.Attempts != 0 {
		t.Errorf("failure-lockout false: %+v", cfg.Auth.FailureLockout)
	}
	r := cfg.ACL.Rules
	if r[0].Label != "first" || r[1].Label != "rules[1]" {
		t.Errorf("labels %q, %q", r[0].Label, r[1].Label)
	}
	if got := r[0].Match.ClientIP.String(); got != "10.0.0.0/8" {
		t.Errorf("10.1.2.3/8 became %s", got)
	}
	if got := r[1].Match.ClientIP.String(); got != "10.0.0.1/32" {
		t.Errorf("::ffff:10.0.0.1 became %s", got)
	}
	if got := r[0].Match.Attributes; !reflect.DeepEqual(got, map[string]string{"a_b": "v"}) {
		t.Errorf("attributes %v", got)
	}
	if r[0].MaxQoS == nil || *r[0].MaxQoS != 0 || r[0].AllowRetain == nil || *r[0].AllowRetain || r[1].MaxQoS != nil || r[1].AllowRetain != nil {
		t.Errorf("max-qos and allow-retain: given %v %v, not given %v %v", r[0].MaxQoS, r[0].AllowRetain, r[1].MaxQoS, r[1].AllowRetain)
	}
	if p := cfg.Inspection.Patterns; p.SQLi != SwitchOn || p.PathTraversal != SwitchAudit || p.CommandInjection != SwitchOff {
		t.Errorf("patterns %+v", p)
	}
	if l := cfg.RateLimit.PerClient; l.Burst != 10 || l.BurstBytes != 1000 {
		t.Errorf("per-client %+v", l)
	}
	if l := cfg.RateLimit.PerTopic[0]; l.Limit.Burst != 3 || l.Limit.BurstBytes != 5 || l.Scope != "shared" {
		t.Errorf("per-topic %+v", l)
	}
	l := cfg.Gateway.Listeners[0]
	if l.Name != "tcp://:1883" || l.TLS.MinVersion != "1.2" || l.Auth.Providers == nil || l.Auth.AllowAnonymous != nil {
		t.Errorf("listener %+v: an empty list of providers is not the same as none", l)
	}
	if u := cfg.Gateway.Upstreams[0]; u.ClientID != "%c" || u.Credentials != "" {
		t.Errorf("upstream %+v", u)
	}
}

func TestRulesFileOrder(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "r.json"), []byte(`{"rules": [{"decision": "deny", "topics": ["x"]}, {"name": "n", "decision": "deny", "topics": ["y"]}]}`))
	cfg, _, err := Parse("c.json", dir, []byte(`{"acl": {"rules-file": "r.json", "rules": [{"decision": "allow", "topics": ["a"]}]}}`), lookup(nil))
	if err != nil {
		t.Fatal(err)
	}
	var labels []string
	for _, r := range cfg.ACL.Rules {
		labels = append(labels, r.Label)
	}
	if got, want := strings.Join(labels, " "), "rules[0] rules-file.rules[0] n"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestLoad reads a file whose relative paths start at its own folder, from
// another working directory.
func TestLoad(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "etc/users.json"), []byte(`{}`))
	writeFile(t, filepath.Join(dir, "rules/r.json"), []byte(`{"rules": []}`))
	name := filepath.Join(dir, "etc/c.json")
	text := `{"auth": {"providers": [{"type": "file", "path": "users.json"}, {"type": "file", "path": "users.json"}]}, "acl": {"rules-file": "../rules/r.json"}, "audit": {"output": "a.jsonl"}}`
	writeFile(t, name, []byte(strings.Replace(text, "[]}", `[{"decision": "deny", "topics": ["#"]}]}`, 1)))
	writeFile(t, filepath.Join(dir, "rules/r.json"), []byte(`{"rules": [{"decision": "deny", "topics": ["#"]}]}`))
	cfg, _, err := Load(name)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{filepath.Join(dir, "etc/users.json"), filepath.Join(dir, "rules/r.json")}
	if diff := cmp.Diff(want, []string{cfg.Auth.Providers[0].Path, cfg.ACL.RulesFile}); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if got := cfg.Audit.Output; got != filepath.Join(dir, "etc/a.jsonl") {
		t.Errorf("audit.output became %s", got)
	}
}

func TestLoadMissing(t *testing.T) {
	cfg, _, err := Load(filepath.Join(t.TempDir(), "none.json"))
	var errs Errors
	if cfg != nil || !errors.As(err, &errs) || !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("got %v, %T %v", cfg, err, err)
	}
	if !strings.HasSuffix(err.Error(), "none.json: no such file or directory") {
		t.Errorf("got %v", err)
	}
	if _, _, err := Load(t.TempDir()); err == nil {
		t.Error("a folder was read as a configuration")
	}
	_, _, err = Parse("c.json", t.TempDir(), []byte(`{"acl": {"rules-file": "none.json"}}`), lookup(nil))
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file is not fs.ErrNotExist: %v", err)
	}
}

// TestUsersFileForAll warns of a users file that everybody may read.
func TestUsersFileForAll(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "users.json")
	writeFile(t, file, []byte("{}"))
	for mode, want := range map[fs.FileMode]bool{0o600: false, 0o640: false, 0o644: true, 0o604: true} {
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		_, warnings, err := Parse("c.json", dir, []byte(`{"auth": {"providers": [{"type": "file", "path": "users.json"}]}}`), lookup(nil))
		if err != nil {
			t.Fatal(err)
		}
		if got := len(warnings) == 1 && warnings[0].Path == "auth.providers[0].path" && !warnings[0].Blocks; got != want {
			t.Errorf("mode %04o: got %v, want a warning: %v", mode, warnings, want)
		}
	}
}

// TestExamples reads what stands in the folder examples, from there.
func TestExamples(t *testing.T) {
	const dir = "../../examples/"
	users, err := os.ReadFile(dir + "users.json")
	if err != nil {
		t.Fatal(err)
	}
	private := t.TempDir()
	writeFile(t, filepath.Join(private, "users.json"), users)
	for name, want := range map[string][]string{
		"mosquitto.json":       nil,
		"behind-sentinel.json": nil,
		"sentinel-agent.json":  {"inspection.enabled", "rate-limit.enabled"},
	} {
		text, err := os.ReadFile(dir + name)
		if err != nil {
			t.Fatal(err)
		}
		cfg, warnings, err := Parse(name, private, []byte(inDir(string(text), etc(t))), lookup(nil))
		if err != nil {
			t.Errorf("%s:\n%v", name, err)
			continue
		}
		var got []string
		for _, w := range warnings {
			got = append(got, w.Path)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: warnings: -want +got\n%s", name, diff)
		}
		if len(cfg.ACL.Rules) == 0 || !cfg.Auth.Enabled {
			t.Errorf("%s: not what was written: %+v", name, cfg)
		}
	}
	if _, wrong := parseJSON(users); wrong != nil {
		t.Errorf("users.json: %+v", wrong)
	}
}

// TestCut reads every beginning of a file: none passes but the whole.
func TestCut(t *testing.T) {
	text, err := os.ReadFile("../../examples/mosquitto.json")
	if err != nil {
		t.Fatal(err)
	}
	whole := len(strings.TrimRight(string(text), "\n"))
	for n := range whole {
		if _, wrong := parseJSON(text[:n]); wrong == nil {
			t.Fatalf("the first %d of %d bytes pass", n, whole)
		} else if wrong.offset < 0 || wrong.offset > n+1 {
			t.Fatalf("cut at %d: the error is placed at %d", n, wrong.offset)
		}
	}
	if _, wrong := parseJSON(text[:whole]); wrong != nil {
		t.Fatal(wrong)
	}
}

func TestTooManyErrors(t *testing.T) {
	text := `{"acl": {"rules": [` + strings.Repeat("1,\n", maxErrors+50) + `]}}`
	_, _, errs := parse(t, text)
	if len(errs) != maxErrors || !strings.Contains(errs[maxErrors-1].Hint, "50 more errors") {
		t.Errorf("got %d errors, last: %+v", len(errs), errs[len(errs)-1])
	}
	if errs[0].Place != "c.json:1:20" || errs[999].Place != "c.json:1000:1" {
		t.Errorf("places %s, %s", errs[0].Place, errs[999].Place)
	}
}

func TestTooManyRules(t *testing.T) {
	rule := `{"decision": "deny", "topics": ["#"]},`
	_, _, errs := parse(t, `{"acl": {"rules": [`+strings.Repeat(rule, MaxRules+1)+`]}}`)
	if len(errs) != 1 || errs[0].Path != "acl.rules" {
		t.Errorf("100,001 rules: %v", errs)
	}
}

func TestInvalidUTF8(t *testing.T) {
	_, _, errs := parse(t, "{\n  \"acl\": \xff}")
	if len(errs) != 1 || errs[0].Place != "c.json:2:10" {
		t.Errorf("got %v", errs)
	}
}

func TestFileEnds(t *testing.T) {
	for _, text := range []string{"\uFEFF{}", "{} // a comment without a line end", "{}\r\n", "/* a */{}/* b */", "{\"qos\": {},}"} {
		if _, _, errs := parse(t, text); errs != nil {
			t.Errorf("%q: %v", text, errs)
		}
	}
}

func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(data), "-- config.json --\n")
		text, _, _ := strings.Cut(rest, "\n-- ")
		f.Add([]byte(text))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg, _, err := Parse("c.json", dir, data, lookup(map[string]string{"A": "x"}))
		var errs Errors
		switch {
		case err == nil && cfg == nil, err != nil && cfg != nil:
			t.Fatalf("neither or both: %v, %v", cfg, err)
		case err == nil:
			return
		case !errors.As(err, &errs) || len(errs) == 0:
			t.Fatalf("no list of errors: %T %v", err, err)
		}
		for _, e := range errs {
			if e.Place == "" || e.Text == "" || strings.ContainsAny(e.Text+e.Hint+e.Path, "\n\x1b") {
				t.Fatalf("%+v", e)
			}
		}
	})
}
