// Package matrix compares what real clients see of real brokers with what they
// see of them through the gateway: the same script, directly and through, must
// end alike. Further flows of the field (bridges, Home Assistant, Tasmota,
// requests, restarts) run through the gateway in front of Mosquitto.
//
// The tests are behind the build tag matrix, because they need the parts that
// test/matrix/install brings; a part that is missing is an error that says so,
// never a skipped test.
//
//	test/matrix/install
//	go test -tags matrix -count=1 -timeout 20m ./test/matrix
//
// A run compares docs/compatibility.md with what it saw; with -update it writes
// it. With -short brokers other than Mosquitto see one client of each language.
package matrix
