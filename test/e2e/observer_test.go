//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// observer is connected to the broker's own port, past the program, and sees
// everything that got through.
type observer struct {
	c *client
	b *broker
}

var serial atomic.Int64

// unique is a name that no other test uses.
func unique(prefix string) string { return fmt.Sprintf("%s-%d", prefix, serial.Add(1)) }

// observe subscribes to everything on the broker itself.
func observe(t *testing.T, b *broker) *observer {
	t.Helper()
	c := mustLogin(t, b.tcp, connect{level: v5, id: unique("observer"), noUser: true})
	c.send(t, subscribe(v5, 1, 2, "#"))
	if codes := c.expect(t, tSuback).codes(); codes[0] != 2 {
		t.Fatalf("observer granted %#x", codes[0])
	}
	return &observer{c, b}
}

// until reads what the broker delivers up to the message that last accepts,
// and returns everything before it.
func (o *observer) until(t *testing.T, last func(message) bool) []message {
	t.Helper()
	var before []message
	for {
		m := o.c.receive(t)
		if last(m) {
			return before
		}
		before = append(before, m)
	}
}

// untilTopic is until for the first message on topic.
func (o *observer) untilTopic(t *testing.T, topic string) []message {
	t.Helper()
	return o.until(t, func(m message) bool { return m.topic == topic })
}

// flush returns everything that the broker has taken up to now.
func (o *observer) flush(t *testing.T) []message {
	t.Helper()
	mark := unique("mark")
	other := mustLogin(t, o.b.tcp, connect{level: v311, id: mark, noUser: true})
	other.publish(t, message{topic: "mark/" + mark, qos: 1, id: 1})
	other.send(t, disconnect())
	return o.untilTopic(t, "mark/"+mark)
}

// noneBelow fails when a message is on topic, or below it.
func noneBelow(t *testing.T, got []message, topic string) {
	t.Helper()
	for _, m := range got {
		if m.topic == topic || strings.HasPrefix(m.topic, topic+"/") {
			t.Errorf("leaked to the broker: %q on %q", m.payload, m.topic)
		}
	}
}

// log is what the broker has logged up to now: what it writes reaches us later
// than what it sends. A connection of our own, named mark, is the end of it.
func (b *broker) log(t *testing.T) string {
	t.Helper()
	mark := unique("mark")
	mustLogin(t, b.tcp, connect{level: v311, id: mark, noUser: true}).Close()
	var log string
	testkit.Eventually(t, "the broker's log", func() (ok bool) {
		log, _, ok = strings.Cut(b.proc.Out.String(), " as "+mark+" (")
		return ok
	})
	return log
}

// complaints are what the broker's log says about packets that it did not like.
func (b *broker) complaints(t *testing.T) []string {
	t.Helper()
	var all []string
	for line := range strings.Lines(b.log(t)) {
		low := strings.ToLower(line)
		if strings.Contains(low, "malformed") || strings.Contains(low, "protocol error") || strings.Contains(low, "invalid") {
			all = append(all, strings.TrimSpace(line))
		}
	}
	return all
}

// noComplaints fails a test at its end when the broker has complained during
// it: what the broker never sees, it cannot complain of.
func noComplaints(t *testing.T, b *broker) {
	t.Helper()
	before := len(b.complaints(t))
	t.Cleanup(func() {
		for _, line := range b.complaints(t)[before:] {
			t.Errorf("the broker complains: %s", line)
		}
	})
}
