package session

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"testing"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// TestMain also sees that no test had anything written where many read.
func TestMain(m *testing.M) {
	code := m.Run()
	if !reflect.DeepEqual(nothing, seldom{}) {
		fmt.Fprintf(os.Stderr, "FAIL: written to what is shared: %+v\n", nothing)
		code = 1
	}
	os.Exit(code)
}

// TestEmptyExchanges asks tables of nothing.
func TestEmptyExchanges(t *testing.T) {
	var none *exchanges
	none.remove(7)
	e := new(exchanges)
	e.remove(7)
	if none.get(7) != nil || e.get(7) != nil || e.n != 0 {
		t.Errorf("an empty table has id 7: %+v", e)
	}
}

// TestExchangesAgainstMap compares the table with a map over random operations,
// with ids that collide.
func TestExchangesAgainstMap(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for round := range 30 {
		e, want := new(exchanges), map[uint16]exchange{}
		ids := 1 + rnd.IntN(400)
		for op := range 600 {
			id := uint16(1 + rnd.IntN(ids)*(1+round%3*64))
			switch rnd.IntN(3) {
			case 0, 1:
				if x := e.get(id); x != nil && rnd.IntN(4) == 0 {
					e.set(x, stageReleased)
					want[id] = *x
				} else if rnd.IntN(3) > 0 {
					x := exchange{id: id, stage: stage(1 + rnd.IntN(6)), again: rnd.IntN(2) == 0}
					e.put(id, x.stage, x.again)
					want[id] = x
				}
			default:
				if _, ok := want[id]; ok {
					e.remove(id)
					delete(want, id)
				}
			}
			if op%10 != 0 {
				continue
			}
			var by [stages]uint16
			for id, x := range want {
				if got := e.get(id); got == nil || *got != x {
					t.Fatalf("round %d op %d: get(%d) = %v, want %v", round, op, id, got, x)
				}
				by[x.stage]++
			}
			if int(e.n) != len(want) || e.by != by {
				t.Fatalf("round %d op %d: n %d by stage %d, want %d %d", round, op, e.n, e.by, len(want), by)
			}
			if _, ok := want[id]; !ok && e.get(id) != nil {
				t.Fatalf("round %d op %d: get(%d) of a free id", round, op, id)
			}
		}
	}
}

func TestExchangesHoldEveryID(t *testing.T) {
	e := new(exchanges)
	for id := 1; id <= 0xFFFF; id++ {
		e.put(uint16(id), stageSent1, false)
	}
	for id := 1; id <= 0xFFFF; id++ {
		e.remove(uint16(id))
	}
	if e.n != 0 || e.by != [stages]uint16{} || e.slots != nil {
		t.Errorf("left %d, %d, %d slots", e.n, e.by, len(e.slots))
	}
}

func TestFiltersAgainstMap(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	f, want := new(filters), map[string]struct{}{}
	for range 5000 {
		name := fmt.Sprint("f", rnd.IntN(60))
		if rnd.IntN(2) == 0 {
			f.add(name)
			want[name] = struct{}{}
		} else {
			f.remove(name)
			delete(want, name)
		}
		if got := f.sorted(); !slices.Equal(got, slices.Sorted(maps.Keys(want))) || f.len() != len(want) {
			t.Fatalf("got %v, want %v", got, want)
		}
		if _, ok := want[name]; f.has(name) != ok {
			t.Fatalf("has(%s) is not %v", name, ok)
		}
	}
}

func TestBucket(t *testing.T) {
	r := newRate(60, 60*Second)
	var b bucket
	now := 100 * Second
	for i := range 60 {
		if !b.take(now, r) {
			t.Fatalf("refused the %dth of a burst of 60", i+1)
		}
	}
	if b.take(now, r) {
		t.Error("allowed the 61st at once")
	}
	if now += Second; !b.take(now, r) || b.take(now, r) {
		t.Error("after a second exactly one more is allowed")
	}
	if now += 3600 * Second; !b.take(now, r) {
		t.Error("refused after an hour")
	}
	for range 59 {
		b.take(now, r)
	}
	if b.take(now, r) {
		t.Error("a long quiet time gives more than a whole burst")
	}
	if !new(bucket).take(0, rate{}) {
		t.Error("no rate refuses")
	}
}

// TestHeadLen compares the quick look with the parser, at every cut.
func TestHeadLen(t *testing.T) {
	for _, p := range testkit.Packets() {
		if p.Type() != mqtt.PUBLISH || !p.Good() {
			continue
		}
		h, err := mqtt.ParseHeader(p.Bytes, p.Version, p.From)
		if err != nil {
			t.Fatal(err)
		}
		body := p.Bytes[h.Len:h.Size()]
		var v mqtt.Publish
		want, err := v.ParseHead(h, p.Version, body)
		if err != nil {
			t.Fatalf("%s: %v", p.Name, err)
		}
		for n := range len(body) + 1 {
			got := headLen(h, p.Version, body[:n])
			_, err := v.ParseHead(h, p.Version, body[:n])
			if complete := n >= want; complete && got != want || !complete && (got <= n || !errors.Is(err, mqtt.ErrIncomplete)) {
				t.Errorf("%s cut at %d: %d, the head is %d (%v)", p.Name, n, got, want, err)
			}
		}
	}
}

// TestAnswersAreLegal has every answer of ours read by our own strict parser:
// no code stands where the standard does not list it.
func TestAnswersAreLegal(t *testing.T) {
	for r := range policy.ReasonDecisionTimeout + 1 {
		a := answerTo(r)
		for _, typ := range []mqtt.Type{mqtt.PUBACK, mqtt.PUBREC} {
			b := (&mqtt.Ack{PacketID: 1, Code: a.ack, Form: 1}).Append(nil, typ, mqtt.V5)
			legal(t, r, b, mqtt.Broker, func(h mqtt.Header, body []byte) error { return new(mqtt.Ack).Parse(h, mqtt.V5, body) })
		}
		// No filter is refused for what is in a payload.
		if r != policy.ReasonInspection && r != policy.ReasonPayloadSize && r != policy.ReasonUninspectable {
			filterAnswer(t, r, mqtt.SUBACK, filterCode(mqtt.V5, r))
			filterAnswer(t, r, mqtt.SUBACK, filterCode(mqtt.V311, r))
		}
		b := (&mqtt.Connack{Code: a.connack5}).Append(nil, mqtt.V5)
		legal(t, r, b, mqtt.Broker, func(_ mqtt.Header, body []byte) error { return new(mqtt.Connack).Parse(mqtt.V5, body) })
		b = (&mqtt.Connack{Code: a.connack3}).Append(nil, mqtt.V311)
		if err := new(mqtt.Connack).Parse(mqtt.V311, b[2:]); err != nil {
			t.Errorf("%v: CONNACK % x: %v", r, b, err)
		}
		disconnect(t, r, a.disconnect)
	}
	filterAnswer(t, "unsubscribe", mqtt.UNSUBACK, byte(unsubackRefusal))
	for c, code := range endings {
		if code != mqtt.Success {
			disconnect(t, c, code)
		}
	}
	for _, code := range []mqtt.ReasonCode{mqtt.ReceiveMaximumExceeded, mqtt.TopicAliasInvalid, mqtt.MessageRateTooHigh, mqtt.AdministrativeAction} {
		disconnect(t, "own", code)
	}
}

func filterAnswer(t *testing.T, why any, typ mqtt.Type, code byte) {
	t.Helper()
	b := (&mqtt.Suback{PacketID: 1, Codes: []byte{code}}).Append(nil, typ, mqtt.V5)
	legal(t, why, b, mqtt.Broker, func(h mqtt.Header, body []byte) error { return new(mqtt.Suback).Parse(h, mqtt.V5, body) })
}

func disconnect(t *testing.T, why any, code mqtt.ReasonCode) {
	t.Helper()
	b := (&mqtt.Disconnect{Code: code, Form: 1}).Append(nil, mqtt.DISCONNECT, mqtt.V5)
	legal(t, why, b, mqtt.Broker, func(h mqtt.Header, body []byte) error {
		return new(mqtt.Disconnect).Parse(h, mqtt.V5, mqtt.Broker, body)
	})
}

func legal(t *testing.T, why any, b []byte, from mqtt.Side, parse func(h mqtt.Header, body []byte) error) {
	t.Helper()
	h, err := mqtt.ParseHeader(b, mqtt.V5, from)
	if err == nil {
		err = parse(h, b[h.Len:])
	}
	if err != nil {
		t.Errorf("%v: % x: %v", why, b, err)
	}
}
