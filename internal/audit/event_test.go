package audit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf16"

	"pgregory.net/rapid"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/session"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 123456789, time.UTC)

// named is an event of each kind with a name.
type named struct {
	name string
	e    Event
}

// kinds makes an event of each kind, as the doors do.
func kinds(t *testing.T) []named {
	t.Helper()
	cfg := config.Default()
	cfg.ACL.Rules = []config.Rule{
		{Label: "own-data", Topics: []string{"sensors/#"}, Decision: "allow"},
		{Label: "rules[1]", Topics: []string{"keys/#"}, Decision: "deny"},
	}
	engine, err := policy.Compile(cfg)
	if err != nil {
		t.Fatal(err)
	}
	info := &session.ConnectInfo{
		Version: mqtt.V5, ClientID: "dev-1", Username: "alice", HasUsername: true, HasPassword: true,
	}
	id := policy.Identity{
		Username: "alice", ClientID: "dev-1", Groups: []string{"a", "b"}, Standing: policy.Verified, Provider: "file",
		Version: mqtt.V5,
	}
	verified := engine.Bind(id)
	id.Standing, id.Groups, id.Provider = policy.Claimed, nil, ""
	claimed := engine.Bind(id)
	gateway := &Conn{
		Door: policy.DoorGateway, Listener: "tcp", ID: "c17", Addr: netip.MustParseAddr("192.0.2.1"),
		Since: noon.Add(-90*time.Second - 1234*time.Microsecond),
	}
	agent := &Conn{Door: policy.DoorAgent, CorrelationID: "req-9", Addr: netip.MustParseAddr("::ffff:192.0.2.1")}
	counters := &session.Counters{Bytes: [2]uint64{1000, 2000}, Messages: [2]uint64{10, 20}, Denials: 3}
	publish := session.Event{
		Packet: mqtt.PUBLISH, From: mqtt.Client, Topic: []byte("keys/1"), QoS: 1, Retain: true, PayloadBytes: 21, Rule: 2,
	}
	with := func(e session.Event, change func(*session.Event)) *session.Event { change(&e); return &e }
	connect := session.Event{Packet: mqtt.CONNECT, Rule: policy.RuleNone}
	var list []named
	add := func(name string, c *Conn, subject *policy.Subject, e *session.Event) {
		asked := info
		if subject != nil && e.Packet != mqtt.CONNECT {
			asked = nil // a session keeps it until the client is accepted
		}
		list = append(list, named{name, c.event(asked, subject, counters, e, noon)})
	}
	add("allowed publish", gateway, verified, with(publish, func(e *session.Event) {
		e.Topic, e.QoS, e.Retain, e.Rule = []byte("sensors/1"), 0, false, 1
	}))
	add("connected", gateway, verified, with(connect, func(e *session.Event) { e.Kind = session.KindConnected }))
	add("connected, claimed name", agent, claimed, with(connect, func(e *session.Event) { e.Kind = session.KindConnected }))
	add("blocked publish", agent, verified, with(publish, func(e *session.Event) {
		e.Kind, e.Decision, e.Reason = session.KindBlocked, session.DecisionDrop, policy.ReasonACL
	}))
	add("blocked subscribe", gateway, verified, &session.Event{
		Kind: session.KindBlocked, Decision: session.DecisionDrop, Reason: policy.ReasonACL, Rule: policy.RuleDefaultAction,
		Packet: mqtt.SUBSCRIBE, Filters: [][]byte{[]byte("#"), []byte("keys/+")},
	})
	add("blocked connect", gateway, nil, with(connect, func(e *session.Event) {
		e.Kind, e.Decision = session.KindBlocked, session.DecisionClose
		e.Reason, e.Rule = policy.ReasonBadCredentials, policy.RuleProviders
		e.Waited = 41_250_999 // ns
	}))
	add("blocked will", gateway, verified, with(publish, func(e *session.Event) {
		e.Will = true
		e.Packet, e.Kind, e.Decision, e.Reason = mqtt.CONNECT, session.KindBlocked, session.DecisionClose, policy.ReasonWill
	}))
	add("detected", gateway, verified, with(publish, func(e *session.Event) {
		e.Kind, e.Decision, e.Reason = session.KindDetected, session.DecisionDetect, policy.ReasonACL
	}))
	for name, k := range map[string]session.Kind{
		"qos downgraded": session.KindQoSDowngraded, "retain stripped": session.KindRetainStripped,
		"will removed": session.KindWillRemoved,
	} {
		add(name, gateway, verified, with(publish, func(e *session.Event) {
			e.Kind, e.Decision, e.Rule = k, session.DecisionRewrite, policy.RuleQoS
		}))
	}
	add("qos downgraded in subscribe", gateway, verified, &session.Event{
		Kind: session.KindQoSDowngraded, Decision: session.DecisionRewrite, Rule: policy.RuleQoS,
		Packet: mqtt.SUBSCRIBE, Filters: [][]byte{[]byte("sensors/#")}, QoS: 2,
	})
	for name, k := range map[string]session.Kind{
		"qos over limit": session.KindQoSOverLimit, "retained over limit": session.KindRetainedOverLimit,
	} {
		add(name, agent, verified, with(publish, func(e *session.Event) { e.Kind, e.Rule = k, policy.RuleRetained }))
	}
	add("delivery filtered", gateway, verified, with(publish, func(e *session.Event) {
		e.Kind, e.Decision, e.Reason, e.From = session.KindDeliveryFiltered, session.DecisionDrop, policy.ReasonACL, mqtt.Broker
	}))
	again := with(publish, func(e *session.Event) {
		e.Kind, e.Decision, e.Reason, e.From = session.KindDeliveryFiltered, session.DecisionDrop, policy.ReasonACL, mqtt.Broker
		e.Repeat = true
	})
	add("delivery filtered again", gateway, verified, again)
	add("deliveries filtered", gateway, verified, with(*again, func(e *session.Event) {
		e.Topic, e.Repeat, e.Count = nil, false, 12
	}))
	add("subscription removed", gateway, verified, &session.Event{
		Kind: session.KindSubscriptionRemoved, Decision: session.DecisionDrop, Reason: policy.ReasonACL, Rule: 2,
		Packet: mqtt.SUBSCRIBE, Filters: [][]byte{[]byte("keys/+"), []byte("keys/1")},
	})
	add("blocked publish, too large", gateway, verified, &session.Event{
		Kind: session.KindBlocked, Decision: session.DecisionClose, Reason: policy.ReasonPacketTooLarge, Rule: policy.RuleMaxPacketSize,
		Packet: mqtt.PUBLISH, PacketBytes: 2_000_000,
	})
	add("blocked publish, one too many", gateway, verified, &session.Event{
		Kind: session.KindBlocked, Decision: session.DecisionClose, Reason: policy.ReasonLimit, Rule: policy.RulePacketsPerSecond,
		Packet: mqtt.PUBLISH,
	})
	end := func(name string, e session.End) {
		add(name, gateway, verified, &session.Event{
			Kind: session.KindDisconnected, Decision: session.DecisionClose, Reason: e.Reason, Rule: e.Rule,
			Packet: mqtt.DISCONNECT, End: e,
		})
	}
	end("disconnected by client", session.End{Cause: session.CauseClientDisconnect})
	end("disconnected by keep-alive", session.End{Cause: session.CauseKeepAlive, Code: mqtt.KeepAliveTimeout, Rule: policy.RuleNone})
	end("disconnected by policy", session.End{
		Cause: session.CausePolicy, Code: mqtt.QuotaExceeded, Reason: policy.ReasonLimit, Rule: policy.RuleDenialsPerMinute,
	})
	end("disconnected by broker", session.End{Cause: session.CauseUpstreamLost, Code: mqtt.ServerShuttingDown, Rule: policy.RuleNone})
	list = append(list, named{
		"refused before CONNECT",
		gateway.Refused(policy.ReasonTooManyConnections, policy.RuleMaxConnectionsPerIP, noon),
	})
	slices.SortFunc(list, func(a, b named) int { return strings.Compare(a.name, b.name) })
	return list
}

func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", file)
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	g, w := strings.Split(string(got), "\n"), strings.Split(string(want), "\n")
	for i := range max(len(g), len(w)) {
		if i >= len(g) || i >= len(w) || g[i] != w[i] {
			t.Fatalf("%s, line %d:\n got %s\nwant %s", path, i+1, strings.Join(g[min(i, len(g)):min(i+1, len(g))], ""),
				strings.Join(w[min(i, len(w)):min(i+1, len(w))], ""))
		}
	}
}

func TestGoldenJSON(t *testing.T) {
	var b []byte
	for _, k := range kinds(t) {
		b = append(append(b, "-- "+k.name+"\n"...), append(k.e.AppendJSON(nil), '\n')...)
	}
	golden(t, "events.json.txt", b)
}

func TestGoldenText(t *testing.T) {
	local := time.Local
	t.Cleanup(func() { time.Local = local })
	time.Local = time.UTC
	var b []byte
	for _, k := range kinds(t) {
		b = append(append(b, "-- "+k.name+"\n"...), append(AppendText(nil, &k.e, false), '\n')...)
		plain := AppendText(nil, &k.e, false)
		if coloured := AppendText(nil, &k.e, true); bytes.Contains(plain, []byte{0x1b}) || !bytes.Contains(coloured, []byte(reset)) {
			t.Errorf("%s: colour where none was asked for, or none", k.name)
		}
	}
	golden(t, "events.text.txt", b)
}

func TestEventNamesTheTagsInOrder(t *testing.T) {
	for _, k := range kinds(t) {
		if want := strings.Join(k.e.Tags, ","); k.e.Event != want || k.e.Tags[0] != "mqtt" {
			t.Errorf("%s: event %q, want %q", k.name, k.e.Event, want)
		}
	}
}

func TestEveryCauseHasAnEnding(t *testing.T) {
	for cause := session.CauseNone; cause <= session.CauseInternal; cause++ {
		if int(cause) >= len(endings) || endings[cause].by == "" || endings[cause].reason == "" {
			t.Errorf("cause %d has no ending", cause)
		}
	}
}

// TestEveryDenialNamesItsRule looks at decisions that no rule of the file made.
func TestEveryDenialNamesItsRule(t *testing.T) {
	check := func(e Event, what string) {
		t.Helper()
		if e.Decision != "allow" && e.Rule == "" {
			t.Errorf("%s: %s (%s) has no rule", what, e.Event, e.Reason)
		}
	}
	var c Conn
	for reason, want := range map[policy.Reason]string{
		policy.ReasonMalformed: "protocol", policy.ReasonProtocol: "protocol", policy.ReasonServerUnavailable: "upstream",
		policy.ReasonUpgrade: "upgrade", policy.ReasonNotAllowed: "revoked", policy.ReasonDraining: "drain",
	} {
		if e := c.Refused(reason, policy.RuleNone, noon); e.Rule != want {
			t.Errorf("%s: rule %q, want %q", e.Event, e.Rule, want)
		}
	}
	for cause := session.CauseNone; cause <= session.CauseInternal; cause++ {
		check(c.event(nil, nil, nil, &session.Event{Kind: session.KindDisconnected, End: session.End{Cause: cause}}, noon), endings[cause].reason)
	}
	drained := session.End{Cause: session.CauseDrain, Reason: policy.ReasonDraining}
	e := c.event(nil, nil, nil, &session.Event{Kind: session.KindDisconnected, Reason: drained.Reason, End: drained}, noon)
	if e.Reason != "drain" || e.Rule != "drain" || e.EndedBy != "gateway" {
		t.Errorf("a drain is told as %q by rule %q, ended by %q", e.Reason, e.Rule, e.EndedBy)
	}
}

// What a session lends is copied.
func TestEventCopies(t *testing.T) {
	topic, filter := []byte("a/b"), []byte("c/#")
	e := (&Conn{}).event(nil, nil, nil, &session.Event{
		Packet: mqtt.PUBLISH, Topic: topic, Filters: [][]byte{filter}, Rule: policy.RuleNone,
	}, noon)
	topic[0], filter[0] = 'X', 'X'
	if e.Topic != "a/b" || e.Filters[0] != "c/#" {
		t.Errorf("topic %q, filters %q changed with the buffer", e.Topic, e.Filters)
	}
}

// TestEventIsBounded bounds what one packet can put into a line.
func TestEventIsBounded(t *testing.T) {
	long := strings.Repeat("ä", 30_000)
	cut := strings.Repeat("ä", maxText/2) + "…"
	e := &session.Event{Packet: mqtt.SUBSCRIBE, Topic: []byte(long), MoreFilters: 1000, Rule: policy.RuleNone}
	for range 100 {
		e.Filters = append(e.Filters, []byte("b"+long))
	}
	info := &session.ConnectInfo{Version: mqtt.V5, ClientID: long, Username: long, HasUsername: true}
	out := (&Conn{}).event(info, nil, nil, e, noon)
	if out.Topic != cut || out.ClientID != cut || out.Username != cut {
		t.Errorf("a text of %d bytes is told with %d, %d and %d, want %d", len(long), len(out.Topic), len(out.ClientID), len(out.Username), len(cut))
	}
	if want := "b" + strings.Repeat("ä", maxText/2-1) + "…"; len(out.Filters) != maxFilters || out.Filters[0] != want {
		t.Errorf("%d filters of %d bytes, want %d of %d", len(out.Filters), len(out.Filters[0]), maxFilters, len(want))
	}
	if want := 1100 - maxFilters; out.MoreFilters != want {
		t.Errorf("%d more filters, want %d", out.MoreFilters, want)
	}
	if line := string(AppendText(nil, &out, false)); !strings.Contains(line, " and 1096 more") {
		t.Errorf("the text does not count all filters: %s", line)
	}
	e.Topic = []byte(strings.Repeat("x", maxText))
	if out := (&Conn{}).event(nil, nil, nil, e, noon); out.Topic != string(e.Topic) {
		t.Errorf("a topic of %d bytes is cut", len(e.Topic))
	}
}

// hostile are texts that a client might send.
var hostile = []string{
	"", "plain", "<script>&\"'\\", "\x00\x01\b\f\n\r\t\x1f\x7f", "\x1b[2J\x1b]0;x\x07", "\u2028\u2029\u0085\u202e",
	"\u0080\u009b\u061c\u200e\u200f\u202a\u2066\u2069\ufdd0\ufdef\ufffe\uffff\U0001fffe\U0010ffff", "\u00a0\u200d\u2065\ufdf0",
	"\xff\xfe", "a\xc3", "\xed\xa0\x80", "日本語", "\U0001F600",
	"\ufeff\u200b\u200c\u200d\u2060\u2064\ufff9\ufffb\u00ad\u180e\u0600\U000E0001\U000E0041\U000E007F\U0001D173", strings.Repeat("ä", 100), "\ufffd",
}

// escapeHidden escapes what encoding/json writes as it is, though it is not
// seen or turns what follows.
func escapeHidden(b []byte) []byte {
	var out strings.Builder
	for _, r := range string(b) {
		switch {
		case r == 0x7F, r >= 0x80 && r <= 0x9F, unicode.Is(unicode.Cf, r), r >= 0xFDD0 && r <= 0xFDEF, r&0xFFFE == 0xFFFE:
			for _, u := range utf16.Encode([]rune{r}) {
				fmt.Fprintf(&out, `\u%04x`, u)
			}
		default:
			out.WriteRune(r)
		}
	}
	return []byte(out.String())
}

func TestJSONEqualsEncodingJSON(t *testing.T) {
	check := func(t interface {
		Helper()
		Errorf(string, ...any)
	}, e *Event,
	) {
		t.Helper()
		want, err := json.Marshal(e)
		if err != nil {
			t.Errorf("json.Marshal(%+v): %v", e, err)
		}
		want = escapeHidden(want)
		if got := e.AppendJSON(nil); string(got) != string(want) {
			t.Errorf("\n got %s\nwant %s", got, want)
		}
	}
	for _, k := range kinds(t) {
		check(t, &k.e)
	}
	for _, s := range hostile {
		check(t, &Event{Event: s, MoreFilters: len(s), ClientID: s, Groups: []string{s}, Filters: []string{s, s}, Tags: []string{}})
	}
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.SampledFrom(hostile), rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }))
		texts := rapid.SliceOfN(text, 0, 3)
		yes := rapid.Bool().Draw(t, "bool")
		number := rapid.Int().Draw(t, "int")
		count := rapid.Uint64()
		e := Event{
			Time: time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "s"), rapid.Int64Range(0, 999999999).Draw(t, "ns")).UTC(),
			Tags: texts.Draw(t, "tags"), Groups: texts.Draw(t, "groups"), Filters: texts.Draw(t, "filters"),
			MoreFilters: rapid.IntMin(0).Draw(t, "more"), DurationUS: rapid.Int64().Draw(t, "us"), BytesIn: count.Draw(t, "in"), BytesOut: count.Draw(t, "out"),
			MessagesIn: count.Draw(t, "min"), MessagesOut: count.Draw(t, "mout"), Denials: count.Draw(t, "denials"),
			ConnectedSecs: float64(rapid.Int64Range(0, 1<<40).Draw(t, "ms")) / 1000, Dropped: count.Draw(t, "dropped"),
		}
		for _, s := range []*string{
			&e.Event, &e.Decision, &e.Reason, &e.Rule, &e.Door, &e.Listener, &e.Connection, &e.CorrelationID, &e.ClientID,
			&e.Username, &e.Provider, &e.ClientIP, &e.Protocol, &e.Packet, &e.Direction, &e.Topic, &e.EndedBy, &e.Code,
		} {
			*s = text.Draw(t, "text")
		}
		if yes {
			e.Verified, e.Retain, e.QoS, e.PayloadBytes = &yes, &yes, &number, &number
		}
		check(t, &e)
	})
}

// Whatever a client sends, a line is one line, and says nothing to a terminal.
func TestTextIsOneQuietLine(t *testing.T) {
	for _, s := range hostile {
		for _, packet := range []string{"CONNECT", "PUBLISH"} {
			e := Event{
				Time: noon, Event: "mqtt,blocked,acl-denied", Tags: []string{"mqtt", "blocked", "acl-denied"}, Decision: "drop",
				Packet: packet, ClientID: s, Username: s, Topic: s, Filters: []string{s, s, s, s, s, s},
			}
			line := string(AppendText(nil, &e, false))
			for _, r := range line {
				if r < ' ' || r == 0x7f || 0x80 <= r && r < 0xa0 || r == '\u2028' || r == '\u202e' || r == '\ufffd' && !strings.Contains(s, "\ufffd") {
					t.Errorf("%q: the line holds %q: %s", s, r, line)
				}
			}
		}
	}
	long := Event{ClientID: strings.Repeat("ä", 1000), Tags: []string{"mqtt", "allowed"}}
	if line := AppendText(nil, &long, false); len(line) > 200 {
		t.Errorf("a long client id makes a line of %d bytes", len(line))
	}
}

func BenchmarkAppendJSON(b *testing.B) {
	yes, qos, size := true, 1, 64
	e := Event{
		Time: noon, Event: "mqtt,blocked,acl-denied", Tags: []string{"mqtt", "blocked", "acl-denied"}, Decision: "drop",
		Reason: "acl-denied", Rule: "rules[3]", Door: "gateway", Listener: "tcp", ClientID: "dev-1", Username: "alice",
		Verified: &yes, Groups: []string{"a", "b"}, ClientIP: "192.0.2.1", Protocol: "5.0", Packet: "PUBLISH",
		Direction: "client", Topic: "sensors/1/data", QoS: &qos, Retain: &yes, PayloadBytes: &size,
	}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = e.AppendJSON(buf[:0])
	}
}
