package config

import (
	"strings"
	"testing"
)

// TestSyntaxHints: what is told of a file that is no JSON is what is to be
// done.
func TestSyntaxHints(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{`{"acl": {"enabled": true, "x": {"y": true}`, "1:43: not JSON: the file ends too early\n    hint: the { at 1:9 is not closed, or something in it is not"},
		{"{\n // {\n \"acl\": [ \"}]\",", "3:16: not JSON: the file ends too early\n    hint: the [ at 3:9 is not closed, or something in it is not"},
		{`{/* "acl": {}}`, "1:2: not JSON: the file ends too early\n    hint: the comment at 1:2 is not closed"},
		{`{"acl": {}} more`, "1:13: not JSON: something follows the end of the document\n    hint: one file holds one object"},
		{`{"acl": {}}}`, "1:12: not JSON: something follows the end of the document\n    hint: one } too many, here or before"},
		{`{"acl": {"rules": [{"topics": ["a"]}}}`, "1:37: not JSON: invalid character '}' after array value (expecting ',' or ']')\n    hint: a ] is missing before this"},
		{`{"acl": {"rules": [{"topics": ["a"]]}}`, "1:36: not JSON: invalid character ']' after object value (expecting ',' or '}')\n    hint: a } is missing before this"},
		{`{"acl": {} # closed`, "hint: a comment begins with //"},
		{`{"acl": {"enabled": true; "rules": []}}`, "hint: a comma stands between two values"},
		{`{"acl": {"enabled": true "rules": []}}`, "hint: a comma is missing before this"},
		{`{"acl" {}}`, "hint: a : is missing before this"},
		{`{"acl": }`, "hint: a value is missing before this"},
		{`{"acl": {},,}`, "hint: a value is missing before this, or the comma is one too many"},
		{`{"acl": {"enabled": true, "qos": {}, "agent": {}}}`, `1:27: acl: unknown key "qos"` + "\n    hint: \"qos\" stands at the top of the document: is a } missing before it?"},
	} {
		_, _, err := Parse("c.json", t.TempDir(), []byte(c.text), lookup(nil))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s\ngot  %v\nwant %s", c.text, err, c.want)
		}
	}
}
