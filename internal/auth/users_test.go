package auth

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
)

// testHash is bcrypt of "secret" at the least cost.
const testHash = "$2a$04$T7V6997z0Ht64Hy4YW1QvuYhlbmrfGU5xNmXoeuZD2RML4xFtvNZy"

func TestParseUsers(t *testing.T) {
	const text = `{
  // people
  "users": {
    "alice": {"password_hash": "HASH", "groups": ["a", "b", "a"], "attributes": {"site_id": "x", "site-id": "y"}},
    "bob-1": {"password-hash": "HASH", "enabled": false},
    "bob_1": {"password-hash": "HASH"},
  },
}`
	u, err := parseUsers("u.json", []byte(strings.ReplaceAll(text, "HASH", testHash)))
	if err != nil {
		t.Fatal(err)
	}
	alice := u.byName["alice"]
	if diff := cmp.Diff([]string{"a", "b"}, alice.Groups); diff != "" {
		t.Errorf("groups (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"site_id": "x", "site-id": "y"}, alice.Attributes); diff != "" {
		t.Errorf("attributes are data, their keys are not ours (-want +got):\n%s", diff)
	}
	if !alice.enabled() || u.byName["bob-1"].enabled() || !u.byName["bob_1"].enabled() {
		t.Error("enabled: want alice and bob_1, not bob-1")
	}
	if !alice.Hash.matches([]byte("secret")) {
		t.Error("alice's password does not match")
	}
}

func TestParseUsersEmpty(t *testing.T) {
	u, err := parseUsers("u.json", []byte(`{"users": {}}`))
	if err != nil {
		t.Fatal(err)
	}
	if user, h := u.find("alice"); user != nil || h != nil {
		t.Errorf("find in an empty file = %v, %v", user, h)
	}
}

func TestUsersFileErrors(t *testing.T) {
	cases := []struct {
		name, text string
		want       []string
	}{
		{"empty file", "", []string{"u.json:1:1: the file is empty"}},
		{"cut", `{"users": {"a": {`, []string{"u.json:1:18: not JSON: the file ends too early"}},
		{"syntax", "{\n \"users\": [}\n", []string{"u.json:2:12: not JSON: invalid character '}' at start of value"}},
		{"two documents", `{"users": {}} {}`, []string{"u.json:1:15: not JSON: something follows the end of the document"}},
		{"null", "null", []string{"u.json:1:1: found null; accepted: an object"}},
		{"no users", "{}", []string{"u.json:1:1: users: the key is missing"}},
		{"users is a list", `{"users": []}`, []string{"u.json:1:11: users: found a list; accepted: an object"}},
		{"unknown key", `{"user": {}}`, []string{`u.json:1:2: unknown key "user"`}},
		{"several at once", `{"users": {
  "a": {"password_hash": "HASH", "pasword": "x"},
  "b": {"groups": "admin"},
  "a": {"password_hash": "HASH"},
  "": {"password_hash": "HASH"}
}}`, []string{
			`u.json:2:69~: users["a"]: unknown key "pasword"`,
			`u.json:3:8: users["b"].password_hash: the key is missing`,
			`u.json:3:19: users["b"].groups: found a text; accepted: a list`,
			`u.json:4:3: users["a"]: the key "a" is given twice, first at 2:3`,
			`u.json:5:3: users[""]: a user name cannot be empty`,
		}},
		{"double key", `{"users": {"a": {"password_hash": "HASH", "password-hash": "HASH"}}}`, []string{
			`u.json:1:~: users["a"].password_hash: the key "password-hash" is given twice, first at 1:18`,
		}},
		{"no hash", `{"users": {"a": {"groups": []}}}`, []string{
			`u.json:1:17: users["a"].password_hash: the key is missing`,
		}},
		{"null hash", `{"users": {"a": {"password_hash": null}}}`, []string{
			`u.json:1:35: users["a"].password_hash: found null; accepted: a text`,
		}},
		{"empty hash", `{"users": {"a": {"password_hash": ""}}}`, []string{
			`u.json:1:35: users["a"].password_hash: empty: a user without password hash cannot exist`,
		}},
		{"user is a string", `{"users": {"a": "HASH"}}`, []string{`u.json:1:17: users["a"]: found a text; accepted: an object`}},
		{
			"types", `{"users": {"a b": {"password_hash": "HASH", "enabled": 1, "groups": [1, ""], "attributes": {"x": true}}}}`,
			[]string{
				`u.json:1:~: users["a b"].enabled: found a number; accepted: true or false`,
				`u.json:1:~: users["a b"].groups[0]: found a number; accepted: a text`,
				`u.json:1:~: users["a b"].groups[1]: "" is empty`,
				`u.json:1:~: users["a b"].attributes["x"]: found true; accepted: a text`,
			},
		},
		{"control characters do not reach the terminal", "{\"users\": {\"a\\u001b[2J\": {}}}", []string{
			`u.json:1:12: users["a\x1b[2J"]: a CONNECT with this user name is refused: it holds a control character or one that Unicode has set aside`,
			`u.json:1:26: users["a\x1b[2J"].password_hash: the key is missing`,
		}},
		{"name that no CONNECT may have", `{"users": {"a\u0007": {"password_hash": "HASH"}}}`, []string{
			`u.json:1:12: users["a\a"]: a CONNECT with this user name is refused: it holds a control character or one that Unicode has set aside`,
		}},
		{"U+0000", `{"users": {"\u0000": {"password_hash": "HASH"}}}`, []string{
			`u.json:1:12: users["\x00"]: no CONNECT can carry this user name: it has more than 65535 bytes or U+0000`,
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			u, err := parseUsers("u.json", []byte(strings.ReplaceAll(c.text, "HASH", testHash)))
			errs := join(nil, err)
			if u != nil || len(errs) != len(c.want) {
				t.Fatalf("got %d errors, want %d: %v", len(errs), len(c.want), errs)
			}
			for i, err := range errs {
				got := err.Error()
				// ~ in a case stands for a column that the length of the hash moves.
				if place, rest, loose := strings.Cut(c.want[i], "~: "); loose {
					place = place[:strings.LastIndexByte(place, ':')+1]
					if !strings.HasPrefix(got, place) || !strings.HasSuffix(got, ": "+rest) {
						t.Errorf("error %d: got %q, want %q", i, got, c.want[i])
					}
				} else if got != c.want[i] {
					t.Errorf("error %d: got %q, want %q", i, got, c.want[i])
				}
			}
		})
	}
}

func TestUsersFileHints(t *testing.T) {
	for text, want := range map[string]string{
		`{"users": {"a": {"pasword_hash": ""}}}`: `did you mean "password_hash"?`,
		`{"user": {}}`:                           `did you mean "users"?`,
		`{"users": {"a": {"x": 1}}}`:             "known here: password_hash, groups, enabled, attributes",
		`{"users": {"a": {}`:                     "the { at 1:11 is not closed, or something in it is not",
		`{"users": {}} {}`:                       "one file holds one object, {…}",
	} {
		_, err := parseUsers("u.json", []byte(text))
		if errs := join(nil, err); len(errs) == 0 || errs[len(errs)-1].Hint != want {
			t.Errorf("%s: got %v, want the hint %q", text, err, want)
		}
	}
	_, err := parseUsers("u.json", []byte(`{"users": {"äöü": 1}}`))
	if errs := join(nil, err); len(errs) != 1 || !strings.HasPrefix(errs[0].Error(), "u.json:1:19: ") {
		t.Errorf("got %v, want an error at column 19", err)
	}
}

// No prefix of a sound file is a sound file: half a file never removes users.
func TestUsersFileCutAnywhere(t *testing.T) {
	text := `{"users": {"a": {"password_hash": "` + testHash + `", "groups": ["g"]}}}`
	for i := range text {
		if u, err := parseUsers("u.json", []byte(text[:i])); u != nil || err == nil {
			t.Errorf("cut at byte %d: accepted", i)
		}
	}
}

func TestCheckUsersUnreadable(t *testing.T) {
	dir := t.TempDir()
	missing, large := filepath.Join(dir, "none.json"), filepath.Join(dir, "large.json")
	if err := os.WriteFile(large, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(large, 64<<20+1); err != nil {
		t.Fatal(err)
	}
	cfg := config.Default()
	for _, path := range []string{missing, dir, large} {
		cfg.Auth.Providers = append(cfg.Auth.Providers, config.Provider{Type: "file", Path: path})
	}
	want := missing + ": no such file or directory\n" +
		dir + ": not a regular file\n" +
		large + ": the file is larger than 64 MiB"
	if err := CheckUsers(cfg); err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
}

// TestUsersFileSecrets: what stands where a hash belongs may be a password.
func TestUsersFileSecrets(t *testing.T) {
	for _, text := range []string{
		`{"users": {"a": "hunter2"}}`, `{"users": {"a": {"password_hash": "hunter2"}}}`, `{"users": "hunter2"}`,
		`{"users": {"a": {"password_hash": ["hunter2"]}}}`, `{"users": {"a": {"enabled": "hunter2"}}}`,
		`{"users": {"a": {"password_hash": hunter2}}}`,
	} {
		if _, err := parseUsers("u.json", []byte(text)); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: got %v", text, err)
		}
	}
	if _, err := parseUsers("u.json", []byte(`{"users": {"a": {"password_hash": "${HOME}"}}}`)); err == nil || strings.Contains(err.Error(), "HOME") {
		t.Errorf("a reference to the environment: got %v", err)
	}
}

func FuzzParseUsers(f *testing.F) {
	f.Add([]byte(`{"users": {"a": {"password_hash": "` + testHash + `", "groups": ["g"], "attributes": {"k": "v"}, "enabled": true}}}`))
	f.Add([]byte(`{"users": {"a": {"password_hash": "$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$MDEyMzQ1Njc4OWFiY2RlZg"}, "a": []}, "users": 1,}//`))
	f.Fuzz(func(t *testing.T, data []byte) {
		u, err := parseUsers("u.json", data)
		if (u == nil) == (err == nil) {
			t.Fatalf("users %v and error %v", u, err)
		}
		if u == nil {
			return
		}
		for name, entry := range u.byName {
			if name == "" || entry.Hash == nil {
				t.Fatalf("user %q without name or hash", name)
			}
		}
		if len(u.byName) > 0 && u.decoy == nil {
			t.Fatal("users without decoy")
		}
	})
}
