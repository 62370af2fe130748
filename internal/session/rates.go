package session

// rate is how often something may happen: n times in a period, all n at once
// after a quiet time. The zero rate has no limit.
type rate struct {
	each  Time // what one costs
	burst Time // the whole value at once
}

func newRate(n int, period Time) rate {
	if n <= 0 {
		return rate{}
	}
	each := max(period/Time(n), 1)
	return rate{each: each, burst: each * Time(n)}
}

// bucket is the state of a rate: the time at which it will be full again. The
// zero bucket is full.
type bucket Time

// take charges one and reports whether the rate allows it.
func (b *bucket) take(now Time, r rate) bool {
	if r.each == 0 {
		return true
	}
	full := max(Time(*b), now) + r.each
	if full-now > r.burst {
		return false
	}
	*b = bucket(full)
	return true
}
