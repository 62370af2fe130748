package mqtt_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

func mustParse(t *testing.T, b []byte, v mqtt.Version, from mqtt.Side) view {
	t.Helper()
	p, err := parse(b, v, from)
	if err != nil {
		t.Fatalf("%x: %v", b, err)
	}
	return p
}

// sameView compares views; their Properties are compared by what they say.
func sameView(t *testing.T, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.IgnoreTypes(mqtt.Properties{})); diff != "" {
		t.Error(diff)
	}
}

func TestConnectView(t *testing.T) {
	b := testkit.Connect(mqtt.V5, "dev", testkit.User("alice"), testkit.Password("secret"), testkit.KeepAlive(300),
		testkit.With(testkit.Prop32(mqtt.SessionExpiryInterval, 7200), testkit.Prop16(mqtt.ReceiveMaximum, 17),
			testkit.Prop32(mqtt.MaximumPacketSize, 4096), testkit.Prop16(mqtt.TopicAliasMaximum, 8),
			testkit.Prop8(mqtt.RequestResponseInfo, 1), testkit.Prop8(mqtt.RequestProblemInfo, 0),
			testkit.PropUser("a", "1"), testkit.PropUser("a", "2"), testkit.PropStr(mqtt.AuthMethod, "SCRAM")),
		testkit.Will("status/dev", "gone", 2, true, testkit.Prop32(mqtt.WillDelayInterval, 30),
			testkit.PropStr(mqtt.ResponseTopic, "answers"), testkit.PropUser("w", "1")))
	sameView(t, mustParse(t, b, mqtt.V5, mqtt.Client).Connect, &mqtt.Connect{
		Version: mqtt.V5, CleanStart: true, KeepAlive: 300, ClientID: []byte("dev"),
		HasWill: true, Will: mqtt.Will{
			QoS: 2, Retain: true, Topic: []byte("status/dev"), Payload: []byte("gone"),
			Delay: 30, ResponseTopic: []byte("answers"), UserProperties: 1,
		},
		HasUsername: true, Username: []byte("alice"), HasPassword: true, Password: []byte("secret"),
		SessionExpiry: 7200, ReceiveMaximum: 17, MaximumPacketSize: 4096, TopicAliasMaximum: 8,
		RequestResponse: true, ProblemInfo: false, AuthMethod: []byte("SCRAM"), HasAuthMethod: true, UserProperties: 2,
	})
	for _, v := range []mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5} {
		sameView(t, mustParse(t, testkit.Connect(v, "", testkit.Resume()), v, mqtt.Client).Connect,
			&mqtt.Connect{Version: v, KeepAlive: 60, ReceiveMaximum: 65535, ProblemInfo: true})
	}
}

// TestConnectVersions: a refused version says in which one to answer.
func TestConnectVersions(t *testing.T) {
	for _, c := range []struct {
		name   string
		level  byte
		want   mqtt.Version
		bridge bool
	}{
		{"MQIsdp", 0x83, mqtt.V31, true},
		{"MQIsdp", 4, mqtt.V31, false},
		{"MQTT", 0x84, mqtt.V311, true},
		{"MQTT", 0x83, mqtt.V311, true},
		{"MQTT", 3, mqtt.V311, false},
		{"MQTT", 0, mqtt.V311, false},
		{"MQTT", 6, mqtt.V5, false},
		{"MQTT", 0x85, mqtt.V311, false},
		{"MQTT", 0xFF, mqtt.V311, false},
		{"AMQP", 4, 0, false},
		{"", 5, 0, false},
	} {
		// The rest of the body is of no interest.
		body := append(testkit.Str(c.name), c.level)
		var got mqtt.Connect
		err := got.Parse(body)
		if code := errCode(err); code != mqtt.UnsupportedVersion || got.Version != c.want || got.Bridge != c.bridge {
			t.Errorf("%q level %#x: %v, version %v bridge %v, want %v %v", c.name, c.level, err, got.Version, got.Bridge, c.want, c.bridge)
		}
	}
}

func TestConnackView(t *testing.T) {
	b := testkit.Connack(mqtt.V5, true, 0, testkit.With(
		testkit.Prop32(mqtt.SessionExpiryInterval, 0), testkit.Prop16(mqtt.ReceiveMaximum, 20), testkit.Prop8(mqtt.MaximumQoS, 1),
		testkit.Prop8(mqtt.RetainAvailable, 0), testkit.Prop32(mqtt.MaximumPacketSize, 1024), testkit.PropStr(mqtt.AssignedClientID, "auto"),
		testkit.Prop16(mqtt.TopicAliasMaximum, 10), testkit.Prop16(mqtt.ServerKeepAlive, 0), testkit.PropStr(mqtt.ServerReference, "other")))
	sameView(t, mustParse(t, b, mqtt.V5, mqtt.Broker).Connack, &mqtt.Connack{
		SessionPresent: true, HasSessionExpiry: true, ReceiveMaximum: 20, MaximumQoS: 1, MaximumPacketSize: 1024,
		AssignedClientID: []byte("auto"), TopicAliasMaximum: 10, HasServerKeepAlive: true, ServerReference: []byte("other"),
	})
	sameView(t, mustParse(t, testkit.Connack(mqtt.V311, false, 5), mqtt.V311, mqtt.Broker).Connack,
		&mqtt.Connack{Code: mqtt.ReturnNotAuthorized, ReceiveMaximum: 65535, MaximumQoS: 2, RetainAvailable: true})
}

func TestPublishView(t *testing.T) {
	b := testkit.Publish(mqtt.V5, "a/b", 2, 513, "hello", testkit.Dup(), testkit.Retain(), testkit.With(
		testkit.Prop16(mqtt.TopicAlias, 258), testkit.PropStr(mqtt.ResponseTopic, "answers"), testkit.PropUser("a", "b"),
		testkit.PropVar(mqtt.SubscriptionIdentifier, 7)))
	sameView(t, mustParse(t, b, mqtt.V5, mqtt.Client).Publish, &mqtt.Publish{
		Dup: true, QoS: 2, Retain: true, Topic: []byte("a/b"), PacketID: 513, Payload: []byte("hello"),
		TopicAlias: 258, ResponseTopic: []byte("answers"), HasSubscriptionID: true, UserProperties: 1,
	})
}

func TestSubscribeView(t *testing.T) {
	b := testkit.SubscribeWith(mqtt.V5, 9, []testkit.Filter{{Filter: "a", Options: 0x2D}, {Filter: "$share/g/b", Options: 2}},
		testkit.With(testkit.PropUser("a", "b")))
	var s mqtt.Subscribe
	h, err := mqtt.ParseHeader(b, mqtt.V5, mqtt.Client)
	if err != nil {
		t.Fatal(err)
	}
	want := &mqtt.Subscribe{PacketID: 9, UserProperties: 1, Filters: []mqtt.SubscribeFilter{
		{Filter: []byte("a"), Options: 0x2D, QoS: 1, NoLocal: true, RetainAsPublished: true, RetainHandling: 2},
		{Filter: []byte("$share/g/b"), Options: 2, QoS: 2},
	}}
	for range 2 { // the second time into the same slice
		if err := s.Parse(h, mqtt.V5, b[h.Len:]); err != nil {
			t.Fatal(err)
		}
		sameView(t, &s, want)
	}
	// A lowered QoS is what is encoded, whatever Options was.
	s.Filters[0].QoS = 0
	again := mustParse(t, s.Append(nil, mqtt.V5), mqtt.V5, mqtt.Client)
	if o := again.Subscribe.Filters[0].Options; o != 0x2C {
		t.Errorf("options %#x, want 0x2c", o)
	}
}

func TestDisconnectView(t *testing.T) {
	b := testkit.Disconnect(mqtt.V5, 0x04, testkit.With(testkit.Prop32(mqtt.SessionExpiryInterval, 0)))
	sameView(t, mustParse(t, b, mqtt.V5, mqtt.Client).Disconnect,
		&mqtt.Disconnect{Code: mqtt.DisconnectWithWill, Form: 2, HasSessionExpiry: true})
	b = testkit.Disconnect(mqtt.V5, 0x9D, testkit.With(testkit.PropStr(mqtt.ServerReference, "other")))
	sameView(t, mustParse(t, b, mqtt.V5, mqtt.Broker).Disconnect,
		&mqtt.Disconnect{Code: mqtt.ServerMoved, Form: 2, ServerReference: []byte("other")})
	b = testkit.Auth(0x18, testkit.With(testkit.PropStr(mqtt.AuthMethod, "SCRAM")))
	sameView(t, mustParse(t, b, mqtt.V5, mqtt.Client).Disconnect,
		&mqtt.Disconnect{Code: mqtt.ContinueAuthentication, Form: 2, HasAuthMethod: true, AuthMethod: []byte("SCRAM")})
}

// TestAppendForms: an answer that was made, not parsed, says all that it holds,
// in the shortest form, and 3.x nothing beyond its fields.
func TestAppendForms(t *testing.T) {
	user := mqtt.Properties(nil).AppendUser("a", "b")
	for _, c := range []struct {
		name string
		got  []byte
		want []byte
	}{
		{"puback", (&mqtt.Ack{PacketID: 7}).Append(nil, mqtt.PUBACK, mqtt.V5), testkit.Ack(mqtt.V5, mqtt.PUBACK, 7, 0)},
		{"puback code", (&mqtt.Ack{PacketID: 7, Code: mqtt.NotAuthorized}).Append(nil, mqtt.PUBACK, mqtt.V5), testkit.Ack(mqtt.V5, mqtt.PUBACK, 7, 0x87)},
		{
			"pubrec properties", (&mqtt.Ack{PacketID: 7, Properties: user}).Append(nil, mqtt.PUBREC, mqtt.V5),
			testkit.Ack(mqtt.V5, mqtt.PUBREC, 7, 0, testkit.With(testkit.PropUser("a", "b"))),
		},
		{"pubrel", (&mqtt.Ack{PacketID: 7, Dup: true}).Append(nil, mqtt.PUBREL, mqtt.V311), []byte{0x62, 2, 0, 7}},
		{"pubrel dup", (&mqtt.Ack{PacketID: 7, Dup: true}).Append(nil, mqtt.PUBREL, mqtt.V31), []byte{0x6A, 2, 0, 7}},
		{"puback 3.1.1", (&mqtt.Ack{PacketID: 7, Code: mqtt.NotAuthorized, Form: 2, Properties: user}).Append(nil, mqtt.PUBACK, mqtt.V311), []byte{0x40, 2, 0, 7}},
		{"disconnect", new(mqtt.Disconnect).Append(nil, mqtt.DISCONNECT, mqtt.V5), []byte{0xE0, 0}},
		{"disconnect code", (&mqtt.Disconnect{Code: mqtt.ServerBusy}).Append(nil, mqtt.DISCONNECT, mqtt.V5), []byte{0xE0, 1, 0x89}},
		{"disconnect 3.1.1", (&mqtt.Disconnect{Code: mqtt.ServerBusy}).Append(nil, mqtt.DISCONNECT, mqtt.V311), []byte{0xE0, 0}},
		{"unsuback 3.1.1", (&mqtt.Suback{PacketID: 7, Codes: []byte{0}}).Append(nil, mqtt.UNSUBACK, mqtt.V311), testkit.Unsuback(mqtt.V311, 7)},
		{"unsuback", (&mqtt.Suback{PacketID: 7, Codes: []byte{0, 0x87}}).Append(nil, mqtt.UNSUBACK, mqtt.V5), testkit.Unsuback(mqtt.V5, 7, 0, 0x87)},
		{"connack", (&mqtt.Connack{Code: mqtt.NotAuthorized}).Append(nil, mqtt.V5), testkit.Connack(mqtt.V5, false, 0x87)},
		{"pingreq", mqtt.AppendPing(nil, mqtt.PINGREQ), testkit.Pingreq()},
		{"pingresp", mqtt.AppendPing(nil, mqtt.PINGRESP), testkit.Pingresp()},
	} {
		if diff := cmp.Diff(c.want, c.got); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
}

func TestErrorText(t *testing.T) {
	_, err := parse(testkit.Publish(mqtt.V311, "a/#", 0, 0, "x"), mqtt.V311, mqtt.Client)
	if want := "mqtt: malformed packet at byte 0: topic name holds a wildcard [MQTT-3.3.2-2]"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	_, err = mqtt.ParseHeader([]byte{0x36}, 0, mqtt.Client)
	if want := "mqtt: malformed packet in the fixed header: QoS 3 [MQTT-3.3.1-4]"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if errors.Is(err, mqtt.ErrIncomplete) {
		t.Error("a refusal passes for an incomplete packet")
	}
}

func TestNames(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{mqtt.PUBLISH.String(), "PUBLISH"},
		{mqtt.AUTH.String(), "AUTH"},
		{mqtt.Type(0).String(), "RESERVED"},
		{mqtt.V31.String(), "3.1"},
		{mqtt.V311.String(), "3.1.1"},
		{mqtt.V5.String(), "5.0"},
		{mqtt.Version(0).String(), "unknown"},
		{mqtt.Version(9).String(), "level 9"},
		{mqtt.NotAuthorized.String(), "not authorized"},
		{mqtt.QoSNotSupported.String(), "QoS not supported"},
		{mqtt.ReasonCode(0xEE).String(), "reason code 0xee"},
		{mqtt.Client.String(), "client"},
		{mqtt.Client.Peer().String(), "broker"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}

// TestRefusedPublish: of a message with bad content the flags and the id remain,
// so that it can be acknowledged and discarded.
func TestRefusedPublish(t *testing.T) {
	for name, b := range map[string][]byte{
		"topic":    testkit.Publish(mqtt.V5, "a/#", 2, 513, "x", testkit.Dup()),
		"property": testkit.Publish(mqtt.V5, "a", 2, 513, "x", testkit.Dup(), testkit.With(testkit.Prop8(mqtt.PayloadFormat, 9))),
		"section":  testkit.Raw(0x3C, testkit.Str("a"), testkit.U16(513), []byte{0x7F}),
	} {
		p, err := parse(b, mqtt.V5, mqtt.Broker)
		if err == nil || p.Publish == nil || p.Publish.QoS != 2 || !p.Publish.Dup || p.Publish.PacketID != 513 {
			t.Errorf("%s: %v, %+v", name, err, p.Publish)
		}
	}
}

// TestBodyLongerThanPromised: a caller that hands over more than the packet is
// told so, not obeyed.
func TestBodyLongerThanPromised(t *testing.T) {
	for _, p := range testkit.Packets() {
		switch p.Type() {
		case mqtt.CONNECT, mqtt.CONNACK, mqtt.PINGREQ, mqtt.PINGRESP: // not given a header
			continue
		}
		if !p.Good() {
			continue
		}
		x := mustParse(t, p.Bytes, p.Version, p.From)
		y := view{Header: x.Header}
		if err := y.parseBody(p.Version, p.From, append(bytes.Clone(p.Bytes[x.Header.Len:]), 0)); errCode(err) != mqtt.MalformedPacket {
			t.Fatalf("%s: %v", p.Name, err)
		}
	}
}
