// Package session is one MQTT dialogue as a state machine, without I/O, clock,
// goroutine or lock.
//
// Both doors drive a [Session] the same way: bytes ([Session.Feed]), answers to
// what it asked for ([Session.Answer]), a new policy ([Session.Policy]), time
// ([Session.Tick]) and losses ([Session.Lost]) are pushed in; what is to happen
// comes out in an [Effects] that the driver reuses. Contiguous allowed packets
// are one span of the input.
//
// A Session belongs to its driver: one call at a time.
package session
