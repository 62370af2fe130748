package testkit

import (
	"io"
	"net/http"
	"testing"
)

// Ask sends a request, without keeping the connection, and returns what it is
// answered.
func Ask(t testing.TB, r *http.Request) (code int, body string) {
	t.Helper()
	r.Close = true
	out, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Body.Close()
	b, err := io.ReadAll(out.Body)
	if err != nil {
		t.Fatal(err)
	}
	return out.StatusCode, string(b)
}
