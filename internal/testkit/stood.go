package testkit

import (
	"sync"
	"testing"
	"time"
)

// slack is how late a goroutine may be without the machine standing still.
const slack = 100 * time.Millisecond

// Stood measures, until the end of the test, how long the machine stands still:
// it returns a function that tells how long it did so far. A test of a bound of
// time subtracts that, or tries again. The delays that a starved process sees
// count too, but of each no more than what is beyond 100 ms.
func Stood(t testing.TB) func() time.Duration {
	t.Helper()
	var mu sync.Mutex
	var sum time.Duration
	last := time.Now()
	look := func() time.Duration {
		mu.Lock()
		defer mu.Unlock()
		now := time.Now()
		sum += max(0, now.Sub(last)-slack)
		last = now
		return sum
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { // ends with the test
		defer close(stopped)
		tick := time.NewTicker(slack / 10)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				look()
			case <-stop:
				return
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-stopped })
	return look
}

// Awake has try succeed on a machine that does not stand still: an error that
// came while it did says nothing, and try is called again, 20 times at most.
func Awake(t testing.TB, try func() error) {
	t.Helper()
	stood := Stood(t)
	for n := 1; ; n++ {
		before := stood()
		err := try()
		if err == nil {
			return
		}
		if lost := stood() - before; lost == 0 || n == 20 {
			t.Fatal(err)
		} else {
			t.Logf("the machine stood still for %v: %v", lost, err)
		}
	}
}
