// Package conformance says where each normative statement of MQTT 5.0 that
// touches a gateway is checked and by which test.
//
// The table is data: a statement in words of our own, whom it binds, what it
// means here. It is joined with the places that name the statement, in the code
// and in the tests, and the result is docs/conformance.md:
//
//	go test ./test/conformance -update
//
// Without -update the test fails when the document is stale, when the code or a
// test names a statement that the table does not have, when a place or a test
// that the table names does not exist, and when a statement that is checked
// here has no code or no test.
package conformance
