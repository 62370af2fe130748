package session_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/session"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// exchangeStep is what one side says and what comes of it.
type exchangeStep struct {
	from               mqtt.Side
	says               []byte
	toBroker, toClient []byte
}

// TestReceiveMaximum is who waits, who is ended and who is neither when as many
// messages are in flight as somebody takes.
func TestReceiveMaximum(t *testing.T) {
	const lowering = `, "qos": {"enabled": true, "max-qos": 1}`
	const one = `, "general": {"limits": {"receive-maximum": 1}}`
	const five, three = mqtt.V5, mqtt.V311
	client, broker := mqtt.Client, mqtt.Broker
	for _, c := range []struct {
		name    string
		version mqtt.Version
		config  string
		connack []byte
		steps   []exchangeStep
	}{
		{
			"beyond the broker's, messages lowered to QoS 1 wait", five, lowering,
			testkit.Connack(five, false, 0, testkit.With(testkit.Prop16(mqtt.ReceiveMaximum, 1))),
			[]exchangeStep{
				{client, testkit.Publish(five, "dev/a", 2, 1, "a"), testkit.Publish(five, "dev/a", 1, 1, "a"), nil},
				{client, testkit.Publish(five, "dev/b", 2, 2, "b"), nil, nil},
				{broker, testkit.Ack(five, mqtt.PUBACK, 1, 0), testkit.Publish(five, "dev/b", 1, 2, "b"), testkit.Ack(five, mqtt.PUBREC, 1, 0)},
				{client, testkit.Ack(five, mqtt.PUBREL, 1, 0), nil, testkit.Ack(five, mqtt.PUBCOMP, 1, 0)},
			},
		},
		{
			"what the client has finished does not count", five, lowering + one,
			testkit.Connack(five, true, 0),
			[]exchangeStep{
				{client, testkit.Publish(five, "dev/a", 2, 1, "a", testkit.Dup()), testkit.Publish(five, "dev/a", 1, 1, "a", testkit.Dup()), nil},
				{broker, testkit.Ack(five, mqtt.PUBACK, 1, 0), nil, testkit.Ack(five, mqtt.PUBREC, 1, 0)},
				{client, testkit.Ack(five, mqtt.PUBREL, 1, 0), testkit.Ack(five, mqtt.PUBREL, 1, 0), testkit.Ack(five, mqtt.PUBCOMP, 1, 0)},
				{client, testkit.Publish(five, "dev/b", 1, 2, "b"), testkit.Publish(five, "dev/b", 1, 2, "b"), nil},
				{broker, testkit.Ack(five, mqtt.PUBCOMP, 1, 0), nil, nil},
			},
		},
		{
			"a refused message waits as an allowed one does", three, one,
			testkit.Connack(three, false, 0),
			[]exchangeStep{
				{client, testkit.Publish(three, "dev/a", 1, 1, "a"), testkit.Publish(three, "dev/a", 1, 1, "a"), nil},
				{client, testkit.Publish(three, "other", 2, 2, "b"), nil, nil},
				{broker, testkit.Ack(three, mqtt.PUBACK, 1, 0), nil, append(testkit.Ack(three, mqtt.PUBACK, 1, 0), testkit.Ack(three, mqtt.PUBREC, 2, 0)...)},
				{client, testkit.Ack(three, mqtt.PUBREL, 2, 0), nil, testkit.Ack(three, mqtt.PUBCOMP, 2, 0)},
			},
		},
		{
			"beyond the broker's, messages of QoS 2 are kept and what makes room passes", five, "",
			testkit.Connack(five, false, 0, testkit.With(testkit.Prop16(mqtt.ReceiveMaximum, 1)), testkit.With(testkit.Prop16(mqtt.TopicAliasMaximum, 2))),
			[]exchangeStep{
				{client, testkit.Publish(five, "dev/a", 2, 1, "a"), testkit.Publish(five, "dev/a", 2, 1, "a"), nil},
				{client, testkit.Publish(five, "dev/b", 2, 2, "b", testkit.With(testkit.Prop16(mqtt.TopicAlias, 1))), nil, nil},
				{client, testkit.Publish(five, "dev/c", 1, 3, "c"), nil, nil}, // in its order
				{client, testkit.Publish(five, "", 2, 4, "d", testkit.With(testkit.Prop16(mqtt.TopicAlias, 1))), nil, nil},
				{client, testkit.Publish(five, "dev/e", 0, 0, "e"), testkit.Publish(five, "dev/e", 0, 0, "e"), nil},
				{client, testkit.Publish(five, "other", 2, 5, "f"), nil, testkit.Ack(five, mqtt.PUBREC, 5, byte(mqtt.NotAuthorized))},
				{client, testkit.Publish(five, "dev/c", 1, 3, "c", testkit.Dup()), nil, nil},
				{client, testkit.Publish(five, "dev/b", 2, 2, "b"), nil, testkit.Ack(five, mqtt.PUBREC, 2, byte(mqtt.PacketIDInUse))},
				{broker, testkit.Ack(five, mqtt.PUBREC, 1, 0), nil, testkit.Ack(five, mqtt.PUBREC, 1, 0)},
				{client, testkit.Ack(five, mqtt.PUBREL, 1, 0), testkit.Ack(five, mqtt.PUBREL, 1, 0), nil},
				{broker, testkit.Ack(five, mqtt.PUBCOMP, 1, 0), testkit.Publish(five, "dev/b", 2, 2, "b"), testkit.Ack(five, mqtt.PUBCOMP, 1, 0)},
				{broker, testkit.Ack(five, mqtt.PUBREC, 2, byte(mqtt.QuotaExceeded)), testkit.Publish(five, "dev/c", 1, 3, "c"), testkit.Ack(five, mqtt.PUBREC, 2, byte(mqtt.QuotaExceeded))},
				{broker, testkit.Ack(five, mqtt.PUBACK, 3, 0), testkit.Publish(five, "dev/b", 2, 4, "d"), testkit.Ack(five, mqtt.PUBACK, 3, 0)},
				{client, testkit.Publish(five, "", 0, 0, "g", testkit.With(testkit.Prop16(mqtt.TopicAlias, 1))), testkit.Publish(five, "dev/b", 0, 0, "g", testkit.With(testkit.Prop16(mqtt.TopicAlias, 1))), nil},
			},
		},
		{
			"a refused message that the broker may hold from before a cut is released there", five, "",
			testkit.Connack(five, true, 0),
			[]exchangeStep{
				{client, testkit.Publish(five, "other", 2, 1, "a", testkit.Dup()), testkit.Ack(five, mqtt.PUBREL, 1, 0), testkit.Ack(five, mqtt.PUBREC, 1, byte(mqtt.NotAuthorized))},
				{client, testkit.Publish(five, "dev/b", 2, 1, "b"), nil, nil},
				{broker, testkit.Ack(five, mqtt.PUBCOMP, 1, byte(mqtt.PacketIDNotFound)), testkit.Publish(five, "dev/b", 2, 1, "b"), nil},
			},
		},
		{
			"a refused message with the id of a parked one leaves that alone", five, "",
			testkit.Connack(five, true, 0, testkit.With(testkit.Prop16(mqtt.ReceiveMaximum, 1))),
			[]exchangeStep{
				{client, testkit.Publish(five, "dev/a", 2, 1, "a"), testkit.Publish(five, "dev/a", 2, 1, "a"), nil},
				{client, testkit.Publish(five, "dev/b", 2, 2, "b"), nil, nil},
				{client, testkit.Publish(five, "other", 2, 2, "c", testkit.Dup()), nil, nil},
				{client, testkit.Publish(five, "other", 2, 2, "c"), nil, testkit.Ack(five, mqtt.PUBREC, 2, byte(mqtt.PacketIDInUse))},
				{client, testkit.Publish(five, "other", 2, 1, "c", testkit.Dup()), nil, nil}, // PUBREC of the first is on its way
				{broker, testkit.Ack(five, mqtt.PUBREC, 1, byte(mqtt.UnspecifiedError)), testkit.Publish(five, "dev/b", 2, 2, "b"), testkit.Ack(five, mqtt.PUBREC, 1, byte(mqtt.UnspecifiedError))},
				{broker, testkit.Ack(five, mqtt.PUBREC, 2, 0), nil, testkit.Ack(five, mqtt.PUBREC, 2, 0)},
				{client, testkit.Ack(five, mqtt.PUBREL, 2, 0), testkit.Ack(five, mqtt.PUBREL, 2, 0), nil},
				{broker, testkit.Ack(five, mqtt.PUBCOMP, 2, 0), nil, testkit.Ack(five, mqtt.PUBCOMP, 2, 0)},
			},
		},
		{
			"a refused message with the id of a lowered one waits for its PUBACK", three, lowering,
			testkit.Connack(three, false, 0),
			[]exchangeStep{
				{client, testkit.Publish(three, "dev/a", 2, 1, "a"), testkit.Publish(three, "dev/a", 1, 1, "a"), nil},
				{client, testkit.Publish(three, "other", 2, 1, "b", testkit.Dup()), nil, nil},
				{broker, testkit.Ack(three, mqtt.PUBACK, 1, 0), nil, testkit.Ack(three, mqtt.PUBREC, 1, 0)},
				{client, testkit.Publish(three, "other", 2, 1, "b", testkit.Dup()), nil, testkit.Ack(three, mqtt.PUBREC, 1, 0)},
				{client, testkit.Ack(three, mqtt.PUBREL, 1, 0), nil, testkit.Ack(three, mqtt.PUBCOMP, 1, 0)},
			},
		},
		{
			"more than is kept is refused", five, "",
			testkit.Connack(five, false, 0, testkit.With(testkit.Prop16(mqtt.ReceiveMaximum, 1))),
			[]exchangeStep{
				{client, testkit.Publish(five, "dev/a", 2, 1, "a"), testkit.Publish(five, "dev/a", 2, 1, "a"), nil},
				{client, testkit.Publish(five, "dev/b", 2, 2, strings.Repeat("b", 30<<10)), nil, nil},
				{client, testkit.Publish(five, "dev/c", 2, 3, strings.Repeat("c", 3<<10)), nil, testkit.Ack(five, mqtt.PUBREC, 3, byte(mqtt.QuotaExceeded))},
				{client, testkit.Publish(five, "dev/d", 2, 4, "d"), nil, nil},
				{broker, testkit.Ack(five, mqtt.PUBREC, 1, byte(mqtt.UnspecifiedError)), testkit.Publish(five, "dev/b", 2, 2, strings.Repeat("b", 30<<10)), testkit.Ack(five, mqtt.PUBREC, 1, byte(mqtt.UnspecifiedError))},
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, policy.DoorGateway, engineOf(t, `{`+plainRules+c.config+`}`))
			r.feed(mqtt.Client, testkit.Connect(c.version, "c1", testkit.Resume()))
			r.feed(mqtt.Broker, c.connack)
			for i, s := range c.steps {
				r.out = [2][]byte{}
				r.feed(s.from, s.says)
				if got := r.out[mqtt.Broker]; !bytes.Equal(got, s.toBroker) {
					t.Errorf("step %d: to the broker % x, want % x", i, got, s.toBroker)
				}
				if got := r.out[mqtt.Client]; !bytes.Equal(got, s.toClient) {
					t.Errorf("step %d: to the client % x, want % x", i, got, s.toClient)
				}
			}
			if r.ended {
				t.Errorf("ended: %+v", r.end)
			}
		})
	}
}

// TestParkedOutliveTheOthers has the table of exchanges emptied, by a refusal,
// while messages are parked.
func TestParkedOutliveTheOthers(t *testing.T) {
	const v, n = mqtt.V5, 60
	r := newRig(t, policy.DoorGateway, engineOf(t, `{`+plainRules+`}`))
	r.feed(mqtt.Client, testkit.Connect(v, "c1", testkit.Resume()))
	r.feed(mqtt.Broker, testkit.Connack(v, true, 0, testkit.With(testkit.Prop16(mqtt.ReceiveMaximum, 1))))
	for id := 1; id <= n; id++ {
		r.feed(mqtt.Client, testkit.Publish(v, "dev/a", 2, id, "x"))
	}
	r.feed(mqtt.Client, testkit.Publish(v, "other", 2, n, "x", testkit.Dup()))
	r.feed(mqtt.Broker, testkit.Ack(v, mqtt.PUBCOMP, n, 0))
	for id := 1; id <= n; id++ {
		if want := testkit.Publish(v, "dev/a", 2, id, "x"); !bytes.HasSuffix(r.out[mqtt.Broker], want) {
			t.Fatalf("message %d did not go up", id)
		}
		r.feed(mqtt.Broker, testkit.Ack(v, mqtt.PUBREC, id, byte(mqtt.UnspecifiedError)))
	}
	if r.ended {
		t.Errorf("ended: %+v", r.end)
	}
}

// TestLateAcknowledgement: what goes up at QoS 0 is acknowledged when it has
// gone, and never when the connection ends before.
func TestLateAcknowledgement(t *testing.T) {
	const v = mqtt.V311
	open := func(t *testing.T) *rig {
		r := openRig(t, policy.DoorGateway, v, `{`+plainRules+`, "qos": {"enabled": true, "max-qos": 0}}`)
		r.fx.Late = true
		r.out = [2][]byte{}
		r.feed(mqtt.Client, append(testkit.Publish(v, "dev/a", 1, 1, "a"), testkit.Publish(v, "dev/b", 2, 2, "b")...))
		if up := append(testkit.Publish(v, "dev/a", 0, 0, "a"), testkit.Publish(v, "dev/b", 0, 0, "b")...); !bytes.Equal(r.out[mqtt.Broker], up) {
			t.Fatalf("to the broker % x, want % x", r.out[mqtt.Broker], up)
		}
		if !r.fx.Owes || len(r.out[mqtt.Client]) > 0 {
			t.Fatalf("owes %v, to the client % x", r.fx.Owes, r.out[mqtt.Client])
		}
		return r
	}
	sent := func(r *rig) { r.call(nil, mqtt.Client, func() { r.s.Sent(r.now, &r.fx) }) }
	t.Run("gone", func(t *testing.T) {
		r := open(t)
		sent(r)
		want := append(testkit.Ack(v, mqtt.PUBACK, 1, 0), testkit.Ack(v, mqtt.PUBREC, 2, 0)...)
		if got := r.out[mqtt.Client]; r.fx.Owes || !bytes.Equal(got, want) {
			t.Errorf("owes %v, to the client % x, want % x", r.fx.Owes, got, want)
		}
	})
	t.Run("behind a delivery", func(t *testing.T) {
		r := open(t)
		p := testkit.Publish(v, "dev/a", 0, 0, strings.Repeat("x", 50))
		r.feed(mqtt.Broker, p[:30])
		sent(r)
		r.feed(mqtt.Broker, p[30:])
		want := append(append(p, testkit.Ack(v, mqtt.PUBACK, 1, 0)...), testkit.Ack(v, mqtt.PUBREC, 2, 0)...)
		if got := r.out[mqtt.Client]; !bytes.Equal(got, want) {
			t.Errorf("to the client % x, want % x", got, want)
		}
	})
	t.Run("never", func(t *testing.T) {
		r := open(t)
		r.call(nil, mqtt.Client, func() { r.s.End(r.now, session.End{Cause: session.CauseDrain}, &r.fx) })
		sent(r)
		if got := r.out[mqtt.Client]; len(got) > 0 {
			t.Errorf("to the client % x", got)
		}
	})
}
