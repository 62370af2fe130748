// Package model runs sessions between a model of a client and a model of a
// broker, under random schedules, and checks after every step what must hold
// whatever happens: nothing forbidden is forwarded, nothing acknowledged is
// lost, nothing doubles within a connection, packet ids never collide, answers
// answer something, every connection ends with a reason and fires its will by
// the table, tables stay small, and what was begun is answered in the end.
//
// A schedule is a string of bytes, each a choice: who speaks, how many bytes
// get through, when time passes, when the gateway restarts. Random schedules
// draw the bytes from a seed, the fuzzer makes them, and a finding is kept as
// the bytes that showed it, in testdata/fuzz/FuzzSequence:
//
//	go test ./test/model
//	go test ./test/model -fuzz FuzzSequence
//	MODEL_TIME=60s go test ./test/model -run TestRandomSchedules
//	MODEL_SEED=4711 go test ./test/model -run TestRandomSchedules -v
//
// A failing schedule is shortened before it is shown, with the whole dialogue
// by the names of its packets. MODEL_LONG=1 makes the tests of volume run with
// a million messages.
package model
