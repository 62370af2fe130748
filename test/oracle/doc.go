// Package oracle compares the codec with mqtt-packet, the one of MQTT.js and
// aedes, in both directions: packets of the catalogue and random ones of ours
// are read there to the same fields and written back to the same bytes, packets
// written there are read here and encoded to the same bytes.
//
// The tests are behind the build tag e2e, because they need Node and
// mqtt-packet; a part that is missing is an error that says how to install it,
// never a skipped test. The comparison with codecs written in Go stands beside
// the codec, in internal/mqtt.
package oracle
