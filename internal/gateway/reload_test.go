package gateway

import (
	"bytes"
	"log/slog"
	"regexp"
	"slices"
	"testing"
)

// TestChangedListeners: a reload names the listeners that are not open as the
// configuration has them now, and none once it is changed back.
func TestChangedListeners(t *testing.T) {
	config := func(listeners string) string {
		return `{"gateway":{"upstreams":[{"url":"mqtt://127.0.0.1:1"}],"listeners":[` + listeners + `]}}`
	}
	const one, two = `{"name":"one","address":"tcp://127.0.0.1:0"}`, `{"address":"ws://127.0.0.1:0/mqtt"}`
	var text bytes.Buffer
	g, err := New(Options{Config: parse(t, config(one+","+two)), Log: slog.New(slog.NewTextHandler(&text, nil))})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, listeners string
		want            []string
	}{
		{"nothing", one + "," + two, nil},
		{"in another order", two + "," + one, nil},
		{"an address", `{"name":"one","address":"tcp://127.0.0.1:1"},` + two, []string{"one"}},
		{"and back", one + "," + two, nil},
		{"origins", one + `,{"address":"ws://127.0.0.1:0/mqtt","allowed-origins":["https://a.example"]}`, []string{"ws://127.0.0.1:0/mqtt"}},
		{"one is gone", two, []string{"one"}},
		{"one is new", one + "," + two + `,{"name":"three","address":"tcp://127.0.0.1:0"}`, []string{"three"}},
		{"a name", `{"name":"uno","address":"tcp://127.0.0.1:0"},` + two, []string{"one", "uno"}},
		{"who may come in, which is in force", `{"name":"one","address":"tcp://127.0.0.1:0","auth":{"allow-anonymous":true}},` + two, nil},
	} {
		text.Reset()
		if err := g.Reload(parse(t, config(tc.listeners))); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, m := range regexp.MustCompile(`msg="a changed listener takes effect at the next start" listener=(\S+)`).FindAllStringSubmatch(text.String(), -1) {
			got = append(got, m[1])
		}
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s: named %q, want %q", tc.name, got, tc.want)
		}
	}
}
