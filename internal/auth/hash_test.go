package auth

import (
	"bytes"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

func TestParseHash(t *testing.T) {
	const body = "abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZabcde" // 53 characters
	const argonTail = "$c2FsdHNhbHQ$" + "MDEyMzQ1Njc4OWFiY2RlZg"
	cases := []struct {
		name, in, want string // want: part of the error, "" none
	}{
		{"2a", "$2a$10$" + body, ""},
		{"2b", "$2b$12$" + body, ""},
		{"2y", "$2y$04$" + body, ""},
		{"2x is the broken one", "$2x$10$" + body, "neither bcrypt"},
		{"plain text", "secret", "neither bcrypt"},
		{"empty", "", "without password hash"},
		{"short", "$2b$12$" + body[1:], "53 characters"},
		{"long", "$2b$12$" + body + "a", "53 characters"},
		{"cost is no number", "$2b$1x$" + body, "53 characters"},
		{"cost too low", "$2b$03$" + body, "cost 3 is not in 4 … 16"},
		{"cost absurd", "$2b$31$" + body, "cost 31 is not in 4 … 16"},
		{"foreign character", "$2b$12$" + "=" + body[1:], "character 8"},
		{"argon2id", "$argon2id$v=19$m=65536,t=3,p=4" + argonTail, ""},
		{"argon2i", "$argon2i$v=19$m=65536,t=3,p=4" + argonTail, "neither bcrypt"},
		{"argon2 old version", "$argon2id$v=16$m=65536,t=3,p=4" + argonTail, "is not v=19"},
		{"argon2 no version", "$argon2id$m=65536,t=3,p=4" + argonTail, "form"},
		{"memory absurd", "$argon2id$v=19$m=2097152,t=1,p=4" + argonTail, "m=2097152 is not in 32 … 262144"},
		{"memory below 8 p", "$argon2id$v=19$m=31,t=1,p=4" + argonTail, "m=31 is not in 32"},
		{"memory wraps", "$argon2id$v=19$m=4294967304,t=1,p=1" + argonTail, "are not m="},
		{"no pass", "$argon2id$v=19$m=65536,t=0,p=4" + argonTail, "t=0 is not in 1 … 16"},
		{"passes absurd", "$argon2id$v=19$m=64,t=99999,p=4" + argonTail, "t=99999 is not in"},
		{"no lane", "$argon2id$v=19$m=65536,t=3,p=0" + argonTail, "p=0 is not in 1 … 16"},
		{"lanes absurd", "$argon2id$v=19$m=65536,t=3,p=255" + argonTail, "p=255 is not in"},
		{"work absurd", "$argon2id$v=19$m=262144,t=16,p=1" + argonTail, "would take seconds"},
		{"leading zero", "$argon2id$v=19$m=65536,t=03,p=4" + argonTail, "are not m="},
		{"other order", "$argon2id$v=19$t=3,m=65536,p=4" + argonTail, "are not m="},
		{"more parameters", "$argon2id$v=19$m=65536,t=3,p=4,data=AA" + argonTail, "are not m="},
		{"salt short", "$argon2id$v=19$m=64,t=1,p=1$c2FsdA$MDEyMzQ1Njc4OWFiY2RlZg", "salt is not 8"},
		{"salt padded", "$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ=$MDEyMzQ1Njc4OWFiY2RlZg", "salt is not 8"},
		{"hash short", "$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$MDEy", "hash is not 16"},
		{"hash missing", "$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ", "form"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			h, err := parseHash(c.in)
			switch {
			case c.want == "" && err != nil:
				t.Errorf("parseHash(%q) = %v, want no error", c.in, err)
			case c.want == "" && h.text != c.in:
				t.Errorf("parseHash(%q).text = %q", c.in, h.text)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("parseHash(%q) = %v, want an error with %q", c.in, err, c.want)
			}
		})
	}
}

// The vectors are those of crypt_blowfish and of the Argon2 reference
// implementation.
func TestHashMatchesForeign(t *testing.T) {
	cases := []struct{ name, hash, password string }{
		{"2a", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", "U*U"},
		{"2y", "$2y$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", "U*U"},
		{"2b", "$2b$05$CCCCCCCCCCCCCCCCCCCCC.VGOzA784oUp/Z0DY336zx7pLYAy0lwK", "U*U*"},
		{"argon2id", "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc", "password"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			h, err := parseHash(c.hash)
			if err != nil {
				t.Fatal(err)
			}
			if !h.matches([]byte(c.password)) {
				t.Errorf("%s does not match %q", c.hash, c.password)
			}
			if h.matches([]byte(c.password + "x")) {
				t.Errorf("%s matches %q", c.hash, c.password+"x")
			}
			d := h.decoy()
			if d.price() != h.price() || d.bcrypt != h.bcrypt {
				t.Errorf("decoy of %s costs %v, want %v", c.hash, d.price(), h.price())
			}
			if d.matches([]byte(c.password)) {
				t.Errorf("decoy of %s matches its password", c.hash)
			}
			if d.bcrypt {
				if _, err := parseHash(d.text); err != nil {
					t.Errorf("decoy %q: %v", d.text, err)
				}
			}
		})
	}
}

func TestHashPassword(t *testing.T) {
	pw := []byte("correct horse")
	before := bytes.Clone(pw)
	text, err := HashPassword(pw, 4)
	if err != nil {
		t.Fatal(err)
	}
	h, err := parseHash(text)
	if err != nil {
		t.Fatalf("parseHash(%q): %v", text, err)
	}
	if !h.matches(pw) || h.matches([]byte("wrong")) {
		t.Errorf("%q does not tell right from wrong", text)
	}
	if !bytes.Equal(pw, before) {
		t.Errorf("the password was changed to %q", pw)
	}
	bad := []struct {
		name string
		pw   []byte
		cost int
		want string
	}{
		{"empty", nil, 4, "empty"},
		{"73 bytes", bytes.Repeat([]byte("a"), 73), 4, "has 73 bytes, and bcrypt reads only 72"},
		{"line feed", []byte("secret\n"), 4, "line feed"},
		{"cost 3", pw, 3, "cost 3 is not in"},
		{"cost 17", pw, 17, "cost 17 is not in"},
	}
	for _, c := range bad {
		if _, err := HashPassword(c.pw, c.cost); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: HashPassword = %v, want an error with %q", c.name, err, c.want)
		}
	}
}

func TestBcryptReadsNoMoreThan72Bytes(t *testing.T) {
	password := bytes.Repeat([]byte("a"), 72)
	text, err := bcrypt.GenerateFromPassword(password, 4)
	if err != nil {
		t.Fatal(err)
	}
	h, err := parseHash(string(text))
	if err != nil {
		t.Fatal(err)
	}
	if !h.candidate(password) || !h.matches(password) {
		t.Error("72 bytes do not match")
	}
	if longer := bytes.Repeat([]byte("a"), 73); h.candidate(longer) || h.matches(longer) {
		t.Error("73 bytes match the hash of the first 72")
	}
}
