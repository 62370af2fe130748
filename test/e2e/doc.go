// Package e2e drives real clients through the built program to a real broker
// and back: Debian's Mosquitto behind, mosquitto_pub and mosquitto_sub, Paho
// Go, Paho Python, MQTT.js and hand-made bytes in front.
//
// The tests are behind the build tag e2e, because they need those parts
// installed; a part that is missing is an error that names its package, never
// a skipped test. docs/testing.md says how to run them.
package e2e
