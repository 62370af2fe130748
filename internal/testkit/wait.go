package testkit

import (
	"fmt"
	"testing"
	"time"
)

// Patience bounds every wait of a test for what must come: longer than a loaded
// machine stands still. A test that passes does not wait for it.
const Patience = time.Minute

// Receive is the next value of a channel.
func Receive[T any](t testing.TB, what string, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(Patience):
		t.Fatalf("not within %v: %s", Patience, what)
		panic("unreachable")
	}
}

// Eventually waits until ok holds.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	if err := Poll(what, Patience, ok); err != nil {
		t.Fatal(err)
	}
}

// Poll is Within where a test is not at hand: the error names what did not come.
func Poll(what string, d time.Duration, ok func() bool) error {
	if !Within(d, ok) {
		return fmt.Errorf("not within %v: %s", d, what)
	}
	return nil
}

// Within waits until ok holds, for so long at most, and reports whether it did.
func Within(d time.Duration, ok func() bool) bool {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	end := time.After(d)
	for !ok() {
		select {
		case <-tick.C:
		case <-end:
			return false
		}
	}
	return true
}
