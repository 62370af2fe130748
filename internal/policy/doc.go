// Package policy is the rules: what a client may do, and why.
//
// [Compile] turns a checked configuration into an immutable [Engine];
// [Engine.Bind] gives the [Subject] of one identity: the rules that can match
// it, templates filled, indexed by topic. A Subject answers one question a
// packet kind and may be used from many goroutines at once. The package does no
// I/O, reads no clock and holds no state of a connection.
//
// A [Verdict] is a small value whose zero denies. With a [*Trace] the same code
// writes down every check on the way: there is no second implementation for
// explain.
package policy
