package config

import (
	"math/rand/v2"
	"testing"
)

func TestFillUpstream(t *testing.T) {
	for _, c := range []struct{ template, clientID, username, want string }{
		{"%c", "a-%u", "bob", "a-%u"},
		{"site1-%c", "a-b", "bob", "site1-a-b"},
		{"%u", "a", "bob-x%", "bob-x%"},
		{"%u-%c", "1", "bob", "bob-1"},
		{"%u-%c", "x-1", "bob", "bob-x-1"},
		{"%u-%c", "1", "bob-x", "bob%2Dx-1"},
		{"%u-%c", "1", "bob%2Dx", "bob%252Dx-1"},
		{"%c/%u/", "a/b", "c/d", "a%2Fb/c/d/"},
		{"%u→%c", "1", "a→b", "a%E2%86%92b→1"},
		{"%u1-%c", "1", "a1-b", "a1%2Db1-1"},
	} {
		if got := FillUpstream(c.template, c.clientID, c.username); got != c.want {
			t.Errorf("FillUpstream(%q, %q, %q) = %q, want %q", c.template, c.clientID, c.username, got, c.want)
		}
	}
}

// TestFillUpstreamIsUnambiguous: no two pairs of client id and user name give
// one text.
func TestFillUpstreamIsUnambiguous(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	value := func() string {
		b := make([]byte, rnd.IntN(5))
		for i := range b {
			b[i] = "a-%2D5x"[rnd.IntN(7)]
		}
		return string(b)
	}
	for _, template := range []string{"%c", "%u-%c", "%c-%u", "p-%u2-%c-s", "%ux%c", "%u%-%c", "%u-%c-%u", "a%c"} {
		type pair struct{ clientID, username string }
		seen := map[string]pair{}
		for range 20000 {
			p := pair{value(), value()}
			if template == "%c" || template == "a%c" {
				p.username = ""
			}
			text := FillUpstream(template, p.clientID, p.username)
			if q, ok := seen[text]; ok && q != p {
				t.Fatalf("%q: %q and %q are both %q", template, p, q, text)
			}
			seen[text] = p
		}
	}
}
