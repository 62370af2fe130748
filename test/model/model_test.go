package model

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// seeds is how many random schedules an ordinary test runs.
const seeds = 3000

// TestRandomSchedules runs schedules of fixed seeds; MODEL_SEED one of them,
// MODEL_TIME random ones for a time.
func TestRandomSchedules(t *testing.T) {
	if s := os.Getenv("MODEL_SEED"); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		check(t, seed)
		return
	}
	if s := os.Getenv("MODEL_TIME"); s != "" {
		d, err := time.ParseDuration(s)
		if err != nil {
			t.Fatal(err)
		}
		first := uint64(time.Now().UnixNano())
		n := uint64(0)
		for end := time.Now().Add(d); time.Now().Before(end) && len(seen) < 10; n++ {
			check(t, first+n)
		}
		t.Logf("%d schedules from seed %d", n, first)
		return
	}
	for seed := range uint64(seeds) {
		if check(t, seed); t.Failed() {
			return
		}
	}
}

// seen are the kinds of failures that were shown: of each the first will do.
var seen = map[string]bool{}

// check runs the schedule of a seed and shows what is wrong with it.
func check(t *testing.T, seed uint64) {
	t.Helper()
	c := drawn(seed)
	if _, err := run(c, false); err != nil && !seen[err.kind] {
		seen[err.kind] = true
		report(t, fmt.Sprintf("seed %d", seed), c.rec, err)
	}
}

// report shortens a failing schedule and shows it.
func report(t *testing.T, what string, in []byte, err *failure) {
	t.Helper()
	in = shorten(in, func(b []byte) bool {
		_, e := run(given(b), false)
		return e != nil && e.kind == err.kind
	}, 3000)
	w, short := run(given(in), true)
	var trace string
	if w != nil {
		trace = strings.Join(w.trace, "\n")
	}
	t.Errorf("%s: %v\nshortened: %v\n[]byte(%q)\n%s", what, err, short, in, trace)
}

func FuzzSequence(f *testing.F) {
	for seed := range uint64(20) {
		c := drawn(seed)
		run(c, false)
		f.Add(c.rec)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) > 4096 {
			return
		}
		if _, err := run(given(in), false); err != nil {
			w, _ := run(given(in), true)
			t.Fatalf("%v\n%s", err, strings.Join(w.trace, "\n"))
		}
	})
}
