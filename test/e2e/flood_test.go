//go:build e2e

package e2e

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// flood publishes numbered messages as fast as they are acknowledged, and comes
// back after a cut as a client with a session does.
type flood struct {
	url    string
	con    connect
	topic  string
	qos    byte
	window int
	count  int
	denied int   // after so many messages one follows that is denied; 0: none
	seen   *sink // at most lag messages behind

	c        *client
	next     int // number of the next message
	nextID   uint16
	inflight map[uint16]*flight
	unsure   map[int]bool // in flight at a cut: may arrive twice
	out      []byte
}

// flight is a message that is not finished.
type flight struct {
	n        int // of a denied one: -1
	released bool
}

// lag is how many messages a flood may be ahead of its sink: brokers drop what
// piles up.
const lag = 400

// open connects, and repeats what an earlier connection left.
func (f *flood) open(t *testing.T) {
	t.Helper()
	first := f.c == nil
	if first {
		f.inflight, f.unsure = map[uint16]*flight{}, map[int]bool{}
	}
	var p packet
	testkit.Eventually(t, "CONNACK", func() bool {
		conn, err := dialURL(f.url)
		if err != nil {
			return false
		}
		f.c = wrap(conn, f.con.level)
		f.c.r = bufio.NewReaderSize(conn, 64<<10)
		if _, err = f.c.Write(f.con.bytes()); err == nil {
			p, err = f.c.next()
		}
		if err != nil {
			conn.Close()
		}
		return err == nil
	})
	if p.code() != 0 || p.body[0] == 1 == first && f.con.keep {
		t.Fatalf("CONNACK % x", p.body)
	}
	if i := strings.Index(string(p.body), "\x21"); f.con.level == v5 && i > 0 && len(p.body) > i+2 {
		f.window = min(f.window, int(binary.BigEndian.Uint16(p.body[i+1:])))
	}
	for _, id := range slices.SortedFunc(maps.Keys(f.inflight), func(a, b uint16) int { return f.inflight[a].n - f.inflight[b].n }) {
		x := f.inflight[id]
		if x.n >= 0 {
			f.unsure[x.n] = true
		}
		if x.released {
			f.out = append(f.out, ack(tPubrel, id)...)
		} else {
			f.out = append(f.out, f.message(x.n, id, true)...)
		}
	}
}

func (f *flood) send(n int) {
	for f.nextID++; f.nextID == 0 || f.inflight[f.nextID] != nil; f.nextID++ {
	}
	f.inflight[f.nextID] = &flight{n: n}
	f.out = append(f.out, f.message(n, f.nextID, false)...)
}

func (f *flood) message(n int, id uint16, dup bool) []byte {
	if n < 0 {
		return message{topic: "e2e/secret/" + f.topic, payload: "denied", qos: f.qos, id: id, dup: dup}.bytes(f.con.level)
	}
	return message{topic: f.topic, payload: strconv.Itoa(n), qos: f.qos, id: id, dup: dup}.bytes(f.con.level)
}

// run publishes until the message of a number was sent, or, with till = count,
// all were acknowledged. False: the connection was cut.
func (f *flood) run(t *testing.T, till int) bool {
	t.Helper()
	for f.next < till || till == f.count && len(f.inflight) > 0 {
		for f.next < till && len(f.inflight) < f.window && f.next-f.seen.arrived() < lag {
			f.send(f.next)
			if f.next++; f.denied > 0 && f.next%f.denied == 0 {
				f.send(-1)
			}
		}
		f.c.SetWriteDeadline(time.Now().Add(patience))
		if _, err := f.c.Write(f.out); err != nil {
			return false
		}
		f.out = f.out[:0]
		switch {
		case f.next >= till && till < f.count:
			return true
		case len(f.inflight) == 0:
			f.seen.wait(t, f.next-lag+1)
		default:
			if !f.acknowledged(t) {
				return false
			}
		}
	}
	return true
}

// acknowledged reads what has come, at least one packet.
func (f *flood) acknowledged(t *testing.T) bool {
	t.Helper()
	for more := true; more; more = f.c.r.Buffered() > 0 {
		p, err := f.c.next()
		if err != nil {
			return false
		}
		if p.kind() == tDisconnect {
			t.Fatalf("ended by the program: %v", p)
		}
		id := p.id()
		x := f.inflight[id]
		switch {
		case x != nil && x.n < 0 && p.code() == 0x87 && f.con.level == v5:
			delete(f.inflight, id)
		case x == nil || p.code() >= 0x80 || x.n < 0 && f.con.level == v5:
			t.Fatalf("%v for %v", p, x)
		case p.kind() == tPubrec && f.qos == 2 && !x.released:
			x.released = true
			f.out = append(f.out, ack(tPubrel, id)...)
		case p.kind() == tPuback && f.qos == 1, p.kind() == tPubcomp && x.released:
			delete(f.inflight, id)
		default:
			t.Fatalf("%v for %v", p, x)
		}
	}
	return true
}

// sink is a subscriber on the broker itself that counts what arrives.
type sink struct {
	c       *client
	count   []uint8 // by number
	order   bool    // nothing may come before an earlier one
	n       atomic.Int64
	more    chan struct{}
	failure chan error // gets one value at the end
}

// sinkOf subscribes and counts up to the message "end".
func sinkOf(t *testing.T, broker, topic string, qos byte, count int, order bool) *sink {
	t.Helper()
	k := &sink{count: make([]uint8, count), order: order, more: make(chan struct{}, 1), failure: make(chan error, 1)}
	k.c = mustLogin(t, broker, connect{level: v311, id: unique("sink"), noUser: true, keepAlive: 0xFFFF})
	k.c.r = bufio.NewReaderSize(k.c.Conn, 256<<10)
	k.c.send(t, subscribe(v311, 1, qos, topic))
	k.c.expect(t, tSuback)
	go func() { k.failure <- k.run() }() // ends with the message "end" or the connection
	return k
}

func (k *sink) arrived() int { return int(k.n.Load()) }

// wait waits until n different messages have arrived.
func (k *sink) wait(t *testing.T, n int) {
	t.Helper()
	limit := time.After(patience)
	for k.arrived() < n {
		select {
		case <-k.more:
		case err := <-k.failure:
			t.Fatalf("the subscriber ended at %d messages: %v", k.arrived(), err)
		case <-limit:
			t.Fatalf("%d messages have arrived, waiting for %d", k.arrived(), n)
		}
	}
}

func (k *sink) run() error {
	w := bufio.NewWriterSize(k.c.Conn, 64<<10)
	last := -1
	for {
		if k.c.r.Buffered() == 0 {
			k.c.SetWriteDeadline(time.Now().Add(patience))
			if err := w.Flush(); err != nil {
				return err
			}
			select {
			case k.more <- struct{}{}:
			default:
			}
		}
		p, err := k.c.next()
		if err != nil {
			return err
		}
		m := p.message()
		if m.qos > 0 {
			w.Write(ack(tPuback, m.id))
		}
		if m.payload == "end" {
			return w.Flush()
		}
		n, err := strconv.Atoi(m.payload)
		if err != nil || n >= len(k.count) {
			return fmt.Errorf("a message that nobody sent: %q", m.payload)
		}
		if k.order && n <= last {
			return fmt.Errorf("message %d after %d", n, last)
		}
		last = n
		if k.count[n] < 255 {
			k.count[n]++
		}
		if k.count[n] == 1 {
			k.n.Add(1)
		}
	}
}

// end publishes the last message past the program and waits for it.
func (k *sink) end(t *testing.T, broker, topic string) {
	t.Helper()
	k.wait(t, len(k.count))
	mustLogin(t, broker, connect{level: v311, id: unique("end"), noUser: true}).publish(t, message{topic: topic, payload: "end", qos: 1, id: 1})
	select {
	case err := <-k.failure:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(patience):
		t.Fatal("the last message does not arrive")
	}
}
