// Package health knows whether the program is well, and why not.
//
// A [Board] holds the reasons for which it is not; whoever sees one puts it
// there and takes it off. [Watch] asks the broker whether it is there.
package health

import (
	"slices"
	"sync"
)

// State is the sum of it. Its numbers are those of the agent protocol.
type State int

// The states.
const (
	Healthy  State = 1
	Degraded State = 2 // serving, and something is not as it should be
	Draining State = 3 // about to stop
)

func (s State) String() string {
	switch s {
	case Healthy:
		return "healthy"
	case Draining:
		return "draining"
	}
	return "degraded"
}

// The reasons of parts that know no other part. The agent door has its own.
const (
	BrokerDown   = "broker-down"
	ReloadFailed = "reload-failed"
)

// Board is the reasons that hold. The zero value has none. Its methods may be
// called at once.
type Board struct {
	mu      sync.Mutex
	reasons []string // sorted
}

// Set says whether a reason holds, and reports whether that is news.
func (b *Board) Set(reason string, holds bool) (news bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	i, held := slices.BinarySearch(b.reasons, reason)
	switch {
	case held == holds:
		return false
	case holds:
		b.reasons = slices.Insert(b.reasons, i, reason)
	default:
		b.reasons = slices.Delete(b.reasons, i, i+1)
	}
	return true
}

// Reasons are those that hold, sorted; the caller's own.
func (b *Board) Reasons() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.reasons)
}

// Sum is the state that reasons make.
func Sum(reasons []string, draining bool) State {
	switch {
	case draining:
		return Draining
	case len(reasons) > 0:
		return Degraded
	}
	return Healthy
}
