// Package session is one MQTT dialogue as a state machine, without I/O, clock,
// goroutine or lock.
//
// Both doors drive a [Session] the same way: bytes ([Session.Feed]), answers to
// what it asked for ([Session.Admit], [Session.Dialled]), a new policy
// ([Session.Policy]) and new settings ([Session.Renew]), time ([Session.Tick]),
// back-pressure ([Session.Hold]), what has gone upstream ([Session.Sent]),
// losses ([Session.Lost]) and ends ([Session.End]) are pushed in; what is to
// happen comes out in an [Effects] that the driver reuses.
//
// # What a driver does with Effects
//
// After every call: send Out, to the broker first; report Events; on Need,
// answer with the Ticket; stop reading from a side while Pause says so, and
// feed what it kept of that side as soon as a call leaves Pause unset; call
// Tick at Wake; on Owes, call Sent when the broker's socket has taken all of it;
// on Ended, close both sides when Out is sent. Contiguous allowed packets are
// one span of the input.
//
// A door that can reply sends Out and need not look at Verdicts. A door that
// cannot (the agent's) has an empty Out: it passes or refuses what it was given
// by Verdicts, and by Ended.
//
// # What it does not do
//
// It decides nothing about topics and identities ([policy.Subject] does), and
// dials, hashes, logs and counts for metrics nothing.
//
// A Session belongs to its driver: one call at a time.
package session
