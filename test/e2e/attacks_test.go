//go:build e2e

package e2e

import (
	"bytes"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// How an attack must end.
const (
	malformed     = 0x81 // DISCONNECT before the end, 5.0 only
	protocolError = 0x82
	aliasInvalid  = 0x94
	tooLarge      = 0x95
	either        = -1 // malformed or protocol error: readings differ
)

// firstAttacks are what a stranger sends in the place of a CONNECT. Not a byte
// may reach the broker: it does not even see a connection.
func firstAttacks(level byte) map[string][]byte {
	good := connect{level: level, id: "attack", user: "alice", password: password("alice")}
	name, user := str("MQTT"), slices.Concat(str("alice"), str(password("alice")))
	if level == v31 {
		name = str("MQIsdp")
	}
	none := onlyV5(level, props())
	// raw is a CONNECT from its flags on.
	raw := func(flags byte, parts ...[]byte) []byte {
		return pkt(0x10, name, []byte{level, flags}, u16(60), slices.Concat(parts...))
	}
	will := func(topic string, flags byte) []byte {
		return raw(0xC2|flags, none, str("attack"), none, str(topic), str("x"), user)
	}
	all := map[string][]byte{
		"PUBLISH first":                  message{topic: "e2e/first"}.bytes(level),
		"PINGREQ first":                  {0xC0, 0},
		"AUTH first":                     {0xF0, 0},
		"CONNACK first":                  {0x20, 2, 0, 0},
		"type 0":                         {0x00, 0},
		"HTTP":                           []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
		"TLS hello":                      {0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3},
		"PUBLISH of 256 MiB first":       {0x30, 0xFF, 0xFF, 0xFF, 0x7F, 0, 3, 'e', '2', 'e'},
		"CONNECT of 256 MiB":             {0x10, 0xFF, 0xFF, 0xFF, 0x7F, 0, 4, 'M', 'Q', 'T', 'T'},
		"length of five bytes":           {0x10, 0x80, 0x80, 0x80, 0x80, 0x01},
		"CONNECT with header flags":      append([]byte{0x11}, good.bytes()[1:]...),
		"reserved connect flag":          raw(0xC3, none, str("attack"), user),
		"protocol name unknown":          pkt(0x10, str("MQTX"), []byte{level, 0xC2}, u16(60), none, str("attack"), user),
		"protocol name empty":            pkt(0x10, str(""), []byte{level, 0xC2}, u16(60), none, str("attack"), user),
		"trailing byte":                  raw(0xC2, none, str("attack"), user, []byte{0}),
		"password beyond the packet":     raw(0xC2, none, str("attack"), str("alice"), []byte{0, 99, 'x'}),
		"client id beyond the packet":    raw(0x02, none, []byte{0xFF, 0xFF, 'x'}),
		"cut after the flags":            pkt(0x10, name, []byte{level, 0xC2}),
		"will QoS 3":                     will("e2e/will", 0x04|0x18),
		"will QoS without will":          raw(0xC2|0x08, none, str("attack"), user),
		"will retain without will":       raw(0xC2|0x20, none, str("attack"), user),
		"will topic with a wildcard":     will("e2e/+", 0x04),
		"will topic with NUL":            will("e2e/\x00", 0x04),
		"will topic empty":               will("", 0x04),
		"client id not UTF-8":            raw(0xC2, none, str("att\xff"), user),
		"client id with NUL":             raw(0xC2, none, str("att\x00ack"), user),
		"client id with a surrogate":     raw(0xC2, none, str("att\xed\xa0\x80"), user),
		"user name not UTF-8":            raw(0xC2, none, str("attack"), str("ali\xc0\x80ce"), str("x")),
		"user name with NUL":             raw(0xC2, none, str("attack"), str("alice\x00"), str(password("alice"))),
		"empty client id, session kept":  raw(0xC0, none, str(""), user),
		"level 6":                        pkt(0x10, str("MQTT"), []byte{6, 0xC2}, u16(60), none, str("attack"), user),
		"level 3 by the new name":        pkt(0x10, str("MQTT"), []byte{3, 0xC2}, u16(60), str("attack"), user),
		"level 4 by the old name":        pkt(0x10, str("MQIsdp"), []byte{4, 0xC2}, u16(60), str("attack"), user),
		"bridge bit":                     pkt(0x10, name, []byte{level | 0x80, 0xC2}, u16(60), none, str("attack"), user),
		"SUBSCRIBE and then the CONNECT": append(subscribe(level, 1, 0, "#"), good.bytes()...),
	}
	if level != v5 {
		all["password without user name"] = raw(0x42, str("attack"), str("x"))
		return all
	}
	with := func(p ...byte) []byte { return raw(0xC2, props(p), str("attack"), user) }
	for name, p := range map[string][]byte{
		"receive maximum 0":          {0x21, 0, 0},
		"receive maximum twice":      {0x21, 0, 9, 0x21, 0, 9},
		"maximum packet size 0":      {0x27, 0, 0, 0, 0},
		"session expiry twice":       {0x11, 0, 0, 0, 1, 0x11, 0, 0, 0, 1},
		"request problem info 2":     {0x17, 2},
		"property unknown":           {0x7E, 1},
		"property of PUBLISH":        {0x23, 0, 1},
		"property cut":               {0x11, 0, 0},
		"authentication data alone":  {0x16, 0, 1, 'x'},
		"user property not UTF-8":    {0x26, 0, 1, 0xFF, 0, 1, 'v'},
		"user property with NUL":     {0x26, 0, 1, 'k', 0, 1, 0},
		"property length of 5 bytes": {},
	} {
		all[name] = with(p...)
	}
	all["property length of 5 bytes"] = raw(0xC2, []byte{0x80, 0x80, 0x80, 0x80, 0x01}, str("attack"), user)
	all["property length over-long"] = raw(0xC2, []byte{0x80, 0x00}, str("attack"), user)
	all["remaining length over-long"] = func() []byte {
		b := good.bytes()
		if b[1] >= 0x80 {
			panic("too long for this")
		}
		return slices.Concat([]byte{b[0], b[1] | 0x80, 0x00}, b[2:])
	}()
	all["property length beyond the packet"] = raw(0xC2, []byte{0x7F}, str("attack"), user)
	all["will property twice"] = raw(0xC6, props(), str("attack"), props([]byte{0x18, 0, 0, 0, 1, 0x18, 0, 0, 0, 1}), str("e2e/will"), str("x"), user)
	all["will property of CONNECT"] = raw(0xC6, props(), str("attack"), props([]byte{0x21, 0, 1}), str("e2e/will"), str("x"), user)
	return all
}

// connections counts what the broker has accepted, that of the count included.
func (b *broker) connections(t *testing.T) int {
	t.Helper()
	return strings.Count(b.log(t), "New connection from")
}

func TestAttackFirst(t *testing.T) {
	noComplaints(t, shared.broker)
	eachDoor(t, shared, func(t *testing.T, url string, level byte) {
		before := shared.broker.connections(t)
		for name, attack := range firstAttacks(level) {
			t.Run(name, func(t *testing.T) {
				c := open(t, url, level)
				c.send(t, attack)
				for _, p := range c.ended(t) {
					if p.kind() != tConnack || p.code() == 0 {
						t.Errorf("answered %v", p)
					}
				}
				after := shared.broker.connections(t)
				if n := after - before - 1; n > 0 { // but for ours
					t.Errorf("the broker saw %d connections", n)
				}
				before = after
			})
		}
	})
}

// attack is what an admitted client sends.
type attack struct {
	name  string
	bytes []byte
	want  int
}

// attacks are those of an admitted client of level; none of them has a good
// packet in it. Topics that must not be seen are below leak.
func attacks(level byte, leak string) []attack {
	none := onlyV5(level, props())
	topic := str(leak + "/x")
	raw := func(flags byte, parts ...[]byte) []byte { return pkt(0x30|flags, slices.Concat(parts...)) }
	sub := func(filter string, options byte) []byte {
		return pkt(0x82, u16(1), none, str(filter), []byte{options})
	}
	all := []attack{
		{"second CONNECT", as("alice", "again", level).bytes(), protocolError},
		{"CONNACK", []byte{0x20, 2, 0, 0}, protocolError},
		{"SUBACK", pkt(0x90, u16(1), none, []byte{0}), protocolError},
		{"UNSUBACK", pkt(0xB0, u16(1), none, onlyV5(level, []byte{0})), protocolError},
		{"PINGRESP", []byte{0xD0, 0}, protocolError},
		{"type 0", []byte{0, 0}, either},
		{"QoS 3", raw(6, topic, u16(1), none, []byte("x")), malformed},
		{"QoS 0 with DUP", raw(8, topic, none, []byte("x")), either},
		{"packet id 0", raw(2, topic, u16(0), none, []byte("x")), either},
		{"topic empty", raw(0, str(""), none, []byte("x")), either},
		{"topic with +", raw(0, str(leak+"/+"), none, []byte("x")), either},
		{"topic with #", raw(0, str(leak+"/#"), none, []byte("x")), either},
		{"topic with NUL", raw(0, str(leak+"/\x00"), none, []byte("x")), malformed},
		{"topic not UTF-8", raw(0, str(leak+"/\xff"), none, []byte("x")), malformed},
		{"topic with a surrogate", raw(0, str(leak+"/\xed\xa0\x80"), none, []byte("x")), malformed},
		{"topic of an over-long form", raw(0, str(leak+"/\xc0\xaf"), none, []byte("x")), malformed},
		{"topic beyond the packet", pkt(0x30, []byte{0xFF, 0xFF}, []byte(leak)), malformed},
		{"PUBLISH without a topic", []byte{0x30, 0}, malformed},
		{"PUBLISH cut in its id", pkt(0x32, topic, []byte{0}), malformed},
		{"length of five bytes", []byte{0x30, 0x80, 0x80, 0x80, 0x80, 0x01}, malformed},
		{"larger than allowed", slices.Concat([]byte{0x30}, varint(1<<20+1), topic), tooLarge},
		{"PUBACK with flags", []byte{0x41, 2, 0, 1}, malformed},
		{"PUBREL without flags", []byte{0x60, 2, 0, 1}, malformed},
		{"PUBACK too short", []byte{0x40, 1, 0}, malformed},
		{"PUBACK of id 0", []byte{0x40, 2, 0, 0}, either},
		{"SUBSCRIBE without flags", append([]byte{0x80}, sub("e2e/x", 0)[1:]...), malformed},
		{"SUBSCRIBE without filters", pkt(0x82, u16(1), none), either},
		{"SUBSCRIBE of id 0", pkt(0x82, u16(0), none, str("e2e/x"), []byte{0}), either},
		{"SUBSCRIBE cut before its options", pkt(0x82, u16(1), none, str("e2e/x")), malformed},
		{"SUBSCRIBE at QoS 3", sub("e2e/x", 3), either},
		{"SUBSCRIBE with reserved bits", sub("e2e/x", 0xC0), either},
		{"filter empty", sub("", 0), either},
		{"filter with NUL", sub("e2e/\x00", 0), malformed},
		{"filter not UTF-8", sub("e2e/\xfe", 0), malformed},
		{"filter with # inside", sub("e2e/#/x", 0), either},
		{"filter with + in a word", sub("e2e/x+", 0), either},
		{"UNSUBSCRIBE without flags", append([]byte{0xA0}, unsubscribe(level, 1, "e2e/x")[1:]...), malformed},
		{"UNSUBSCRIBE without filters", pkt(0xA2, u16(1), none), either},
		{"PINGREQ with flags", []byte{0xC1, 0}, malformed},
		{"PINGREQ with a body", []byte{0xC0, 1, 0}, malformed},
		{"DISCONNECT with flags", []byte{0xE1, 0}, malformed},
		{"noise", []byte{0xF7, 0x9A, 0x01, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}, either},
	}
	if level != v5 {
		return append(all,
			attack{"AUTH", []byte{0xF0, 0}, either},
			attack{"PUBACK with a reason", []byte{0x40, 3, 0, 1, 0}, malformed},
			attack{"DISCONNECT with a reason", []byte{0xE0, 1, 4}, malformed},
		)
	}
	pub := func(p ...byte) []byte { return raw(0, topic, props(p), []byte("x")) }
	subp := func(options byte, filter string, p ...byte) []byte {
		return pkt(0x82, u16(1), props(p), str(filter), []byte{options})
	}
	return append(all,
		attack{"alias 0", pub(0x23, 0, 0), aliasInvalid},
		attack{"alias twice", pub(0x23, 0, 1, 0x23, 0, 1), either},
		attack{"alias unknown", raw(0, str(""), props([]byte{0x23, 0, 5}), []byte("x")), protocolError},
		attack{"alias above the maximum", pub(0x23, 0xFF, 0xFF), aliasInvalid},
		attack{"subscription id from a client", pub(0x0B, 1), either},
		attack{"payload format 2", pub(0x01, 2), either},
		attack{"payload format twice", pub(0x01, 0, 0x01, 0), either},
		attack{"response topic with a wildcard", pub(append([]byte{0x08}, str("e2e/#")...)...), either},
		attack{"response topic empty", pub(append([]byte{0x08}, str("")...)...), either},
		attack{"property unknown", pub(0x7E, 0), either},
		attack{"property of CONNECT", pub(0x21, 0, 1), either},
		attack{"property cut", pub(0x02, 0, 0), malformed},
		attack{"property length over-long", raw(0, topic, []byte{0x80, 0x00}, []byte("x")), malformed},
		attack{"property length beyond the packet", raw(0, topic, []byte{0x7F}, []byte("x")), malformed},
		attack{"property length of five bytes", raw(0, topic, []byte{0x80, 0x80, 0x80, 0x80, 0x01}), malformed},
		attack{"remaining length over-long", append([]byte{0x30, byte(len(topic)+2) | 0x80, 0x00}, slices.Concat(topic, []byte{0, 'x'})...), malformed},
		attack{"user property not UTF-8", pub(0x26, 0, 1, 0xFF, 0, 0), malformed},
		attack{"subscription id 0", subp(0, "e2e/x", 0x0B, 0), either},
		attack{"subscription id twice", subp(0, "e2e/x", 0x0B, 1, 0x0B, 1), either},
		attack{"retain handling 3", sub("e2e/x", 0x30), either},
		attack{"no local on a shared one", sub("$share/g/e2e/x", 0x04), protocolError},
		attack{"share without a filter", sub("$share/g", 0), either},
		attack{"share without a group", sub("$share//e2e/x", 0), either},
		attack{"share with a wildcard group", sub("$share/+/e2e/x", 0), either},
		attack{"AUTH without a method", []byte{0xF0, 0}, protocolError},
		attack{"AUTH with one", pkt(0xF0, []byte{0x18}, props([]byte{0x15}, str("PLAIN"))), protocolError},
		attack{"PUBACK with an unknown reason", []byte{0x40, 3, 0, 1, 0x42}, either},
		attack{"DISCONNECT raises the expiry", pkt(0xE0, []byte{0}, props([]byte{0x11, 0, 0, 0, 9})), protocolError},
		attack{"DISCONNECT with a server's reason", []byte{0xE0, 1, 0x8B}, either},
	)
}

func TestAttackAdmitted(t *testing.T) {
	noComplaints(t, shared.broker)
	eachDoor(t, shared, func(t *testing.T, url string, level byte) {
		o := observe(t, shared.broker)
		for i, a := range attacks(level, "") {
			t.Run(a.name, func(t *testing.T) {
				leak := "e2e/leak/" + unique("attack")
				a := attacks(level, leak)[i]
				// The will comes after everything that the connection sent.
				con := as("alice", unique("attack"), level)
				con.will = &message{topic: "e2e/will/" + con.id, payload: "over"}
				c := mustLogin(t, url, con)
				c.send(t, a.bytes)
				got := c.ended(t)
				checkEnd(t, got, level, a.want)
				noneBelow(t, o.untilTopic(t, con.will.topic), leak)
			})
		}
	})
}

// checkEnd checks what came before the end of a connection.
func checkEnd(t *testing.T, got []packet, level byte, want int) {
	t.Helper()
	if level != v5 {
		if len(got) > 0 {
			t.Errorf("got %v, want only the end", got)
		}
		return
	}
	if len(got) != 1 || got[0].kind() != tDisconnect {
		t.Errorf("got %v, want one DISCONNECT", got)
		return
	}
	code := int(got[0].code())
	if code != want && (want != either || code != malformed && code != protocolError) {
		t.Errorf("DISCONNECT %#x, want %#x", code, want)
	}
}

// TestAttackLives: what is refused without ending the connection, and does not
// get through either.
func TestAttackLives(t *testing.T) {
	noComplaints(t, shared.broker)
	eachDoor(t, shared, func(t *testing.T, url string, level byte) {
		o := observe(t, shared.broker)
		id := unique("lives")
		c := mustLogin(t, url, as("alice", id, level))
		no := by(level, 0, 0x87)
		for i, topic := range []string{
			"$SYS/broker/log", "$CONTROL/dynamic-security/v1", "/e2e/" + id, "E2E/" + id, "e2e /" + id, "e2ex/" + id, "é2e/" + id,
			"$share/g/e2e/" + id, "e2e/secret", "e2e/secret/", "e2e/secret//" + id,
		} {
			if got := c.publish(t, message{topic: topic, payload: "x", qos: 1, id: uint16(i + 1)}); got != no {
				t.Errorf("PUBLISH to %q answered %#x, want %#x", topic, got, no)
			}
		}
		limit := by(level, 0, 0x97)
		for i, topic := range []string{"e2e/" + strings.Repeat("/", 70), "e2e/" + strings.Repeat("x", 1100), "e2e/" + strings.Repeat("/", 60000)} {
			if got := c.publish(t, message{topic: topic, payload: "x", qos: 1, id: uint16(i + 50)}); got != limit {
				t.Errorf("PUBLISH to %.20q… (%d bytes) answered %#x, want %#x", topic, len(topic), got, limit)
			}
		}
		if level == v5 {
			many := message{topic: "e2e/" + id, payload: "x", qos: 1, id: 90, props: bytes.Repeat([]byte{0x26, 0, 1, 'k', 0, 1, 'v'}, 5000)}
			if got := c.publish(t, many); got != limit {
				t.Errorf("PUBLISH with 5000 user properties answered %#x, want %#x", got, limit)
			}
		}
		// Acknowledgements of nothing, storms of them.
		for i := range uint16(200) {
			c.send(t, ack(tPuback, 1000+i), ack(tPubrec, 2000+i), ack(tPubcomp, 3000+i))
		}
		if got := c.publish(t, message{topic: "e2e/" + id, payload: "end", qos: 0}); got != 0 {
			t.Errorf("answered %#x", got)
		}
		for _, m := range o.untilTopic(t, "e2e/"+id) {
			if m.payload == "x" {
				t.Errorf("leaked: %q", m.topic)
			}
		}
	})
}

// TestAliasOfDenied: a denied topic is denied by its alias too, and what the
// broker was never told it is never asked to resolve.
func TestAliasOfDenied(t *testing.T) {
	for _, url := range []string{shared.tcp, shared.ws} {
		id := unique("alias")
		o := observe(t, shared.broker)
		c := mustLogin(t, url, as("alice", id, v5))
		alias := func(n byte) []byte { return []byte{0x23, 0, n} }
		for _, step := range []struct {
			m    message
			want byte
		}{
			{message{topic: "e2e/secret/" + id, props: alias(1)}, 0x87},
			{message{topic: "", props: alias(1)}, 0x87},
			{message{topic: "e2e/" + id, props: alias(2), payload: "first"}, 0},
			{message{topic: "", props: alias(2), payload: "second"}, 0},
			{message{topic: "e2e/secret/" + id, props: alias(2)}, 0x87}, // redefined here, not there
			{message{topic: "", props: alias(2), payload: "secret"}, 0x87},
			{message{topic: "e2e/third/" + id, props: alias(1), payload: "third"}, 0},
			{message{topic: "", props: alias(1), payload: "fourth"}, 0},
		} {
			step.m.qos, step.m.id = 1, 9
			if got := c.publish(t, step.m); got != step.want {
				t.Errorf("%q % x answered %#x, want %#x", step.m.topic, step.m.props, got, step.want)
			}
		}
		var got []string
		for _, m := range o.until(t, func(m message) bool { return m.payload == "fourth" }) {
			if strings.HasSuffix(m.topic, id) {
				got = append(got, m.topic+" "+m.payload)
			}
		}
		want := []string{"e2e/" + id + " first", "e2e/" + id + " second", "e2e/third/" + id + " third"}
		if !slices.Equal(got, want) {
			t.Errorf("the broker saw %q, want %q", got, want)
		}
	}
}

// TestOverlongLength: 3.x does not forbid a Remaining Length that is longer
// than need be; it is taken, and the broker sees the short form.
func TestOverlongLength(t *testing.T) {
	for _, url := range []string{shared.tcp, shared.ws} {
		id := unique("overlong")
		o := observe(t, shared.broker)
		c := mustLogin(t, url, as("alice", id, v311))
		b := message{topic: "e2e/" + id, payload: "long", qos: 1, id: 3}.bytes(v311)
		c.send(t, []byte{b[0], b[1] | 0x80, 0x80, 0x00}, b[2:])
		c.expect(t, tPuback)
		o.untilTopic(t, "e2e/"+id)
	}
}

// TestCutAnywhere: the same dialogue in one piece, byte by byte, and cut once
// at every place, comes out the same.
func TestCutAnywhere(t *testing.T) {
	noComplaints(t, shared.broker)
	for _, url := range []string{shared.tcp, shared.ws} {
		id := unique("cut")
		o := observe(t, shared.broker)
		dialogue := slices.Concat(
			as("alice", id, v5).bytes(),
			subscribe(v5, 1, 1, "e2e/secret/x", "e2e/none/"+id),
			message{topic: "e2e/secret/" + id, payload: "no", qos: 1, id: 2}.bytes(v5),
			message{topic: "e2e/" + id, payload: "yes", qos: 1, id: 3}.bytes(v5),
		)
		dialog := func(pieces ...[]byte) string {
			c := open(t, url, v5)
			for _, p := range pieces {
				c.send(t, p)
			}
			c.expect(t, tConnack)
			// Ours may overtake the broker's.
			got := []string{c.read(t).String(), c.read(t).String(), c.read(t).String()}
			slices.Sort(got)
			c.send(t, disconnect())
			c.Close()
			if n := len(o.untilTopic(t, "e2e/"+id)); n > 0 {
				t.Errorf("%d messages before the allowed one", n)
			}
			return strings.Join(got, "\n")
		}
		want := dialog(dialogue)
		for _, answer := range []string{"type 9 00 01 00 87 01", "type 4 00 02 87", "type 4 00 03"} {
			if !strings.Contains(want, answer) {
				t.Errorf("in one piece: got\n%s\nwithout %q", want, answer)
			}
		}
		var single [][]byte
		for i := range dialogue {
			single = append(single, dialogue[i:i+1])
		}
		if got := dialog(single...); got != want {
			t.Errorf("byte by byte: got\n%swant\n%s", got, want)
		}
		for cut := 1; cut < len(dialogue); cut++ {
			if got := dialog(dialogue[:cut], dialogue[cut:]); got != want {
				t.Errorf("cut at %d: got\n%swant\n%s", cut, got, want)
			}
		}
	}
}

// TestWebSocketAttacks: what can be done to the layer below MQTT.
func TestWebSocketAttacks(t *testing.T) {
	noComplaints(t, shared.broker)
	hello := func(id string) []byte { return as("alice", id, v5).bytes() }
	o := observe(t, shared.broker)
	ended := func(t *testing.T, c *wsConn, want int) {
		t.Helper()
		wrap(c, v5).ended(t)
		if got := c.closeCode(); got != want {
			t.Errorf("close code %d, want %d", got, want)
		}
	}
	dial := func(t *testing.T) *wsConn {
		t.Helper()
		c, err := dialWS(shared.ws, wsOptions{protocol: "mqtt"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	for _, c := range []struct {
		name   string
		frames []frame
		raw    []byte // sent as it is, after frames
		code   int
	}{
		{"text", []frame{{true, opText, hello("ws")}}, nil, 1003},
		{"reserved opcode", []frame{{true, 3, hello("ws")}}, nil, 1002},
		{"continuation of nothing", []frame{{true, opContinuation, hello("ws")}}, nil, 1002},
		{"message inside a message", []frame{{false, opBinary, []byte{0x10}}, {true, opBinary, []byte{5}}}, nil, 1002},
		{"ping in pieces", []frame{{false, opPing, nil}}, nil, 1002},
		{"ping too long", []frame{{true, opPing, make([]byte, 126)}}, nil, 1002},
		{"not masked", nil, frame{true, opBinary, hello("ws")}.bytes(false), 1002},
		{"compressed", nil, func() []byte { b := frame{true, opBinary, hello("ws")}.bytes(true); b[0] |= 0x40; return b }(), 1002},
		{"frame of 2^63", nil, []byte{0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4}, 1002},
	} {
		t.Run(c.name, func(t *testing.T) {
			ws := dial(t)
			if err := ws.frames(c.frames...); err != nil {
				t.Fatal(err)
			}
			if _, err := ws.Conn.Write(c.raw); err != nil {
				t.Fatal(err)
			}
			ended(t, ws, c.code)
		})
	}
	t.Run("upgrade", func(t *testing.T) {
		for _, c := range []struct {
			name string
			o    wsOptions
			want int
		}{
			{"no subprotocol", wsOptions{}, 400},
			{"another subprotocol", wsOptions{protocol: "chat"}, 400},
			{"foreign origin", wsOptions{protocol: "mqtt", header: map[string][]string{"Origin": {"https://evil.example"}}}, 403},
			{"old version", wsOptions{protocol: "mqtt", header: map[string][]string{"Sec-Websocket-Version": {"8"}}}, 426},
		} {
			ws, resp, err := upgrade(shared.ws, c.o)
			if err == nil {
				ws.Close()
				t.Errorf("%s: accepted", c.name)
				continue
			}
			if resp == nil || resp.StatusCode != c.want {
				t.Errorf("%s: %v, want %d", c.name, err, c.want)
			}
		}
		ws, resp, err := upgrade(shared.ws, wsOptions{protocol: "mqtt", header: map[string][]string{"Sec-Websocket-Extensions": {"permessage-deflate; client_max_window_bits"}}})
		if err != nil {
			t.Fatal(err)
		}
		ws.Close()
		if ext := resp.Header.Get("Sec-Websocket-Extensions"); ext != "" {
			t.Errorf("extension accepted: %q", ext)
		}
	})
	t.Run("a path that is not ours", func(t *testing.T) {
		_, resp, err := upgrade(strings.TrimSuffix(shared.ws, "/mqtt")+"/other", wsOptions{protocol: "mqtt"})
		if resp == nil || resp.StatusCode != http.StatusNotFound {
			t.Errorf("%v, want 404", err)
		}
	})
	t.Run("the second packet of a frame", func(t *testing.T) {
		id := unique("ws")
		ws := dial(t)
		c := wrap(ws, v5)
		c.send(t, hello(id), message{topic: "e2e/" + id + "/1", qos: 1, id: 1}.bytes(v5),
			message{topic: "e2e/secret/" + id, qos: 1, id: 2}.bytes(v5), message{topic: "e2e/" + id + "/2", qos: 1, id: 3}.bytes(v5))
		c.expect(t, tConnack)
		codes := map[uint16]byte{}
		for range 3 {
			p := c.expect(t, tPuback)
			codes[p.id()] = p.code()
		}
		if codes[1] != 0 && codes[1] != nobody || codes[2] != 0x87 || codes[3] != 0 && codes[3] != nobody {
			t.Errorf("answered %v", codes)
		}
		noneBelow(t, o.untilTopic(t, "e2e/"+id+"/2"), "e2e/secret")
	})
	t.Run("fragments with a ping between", func(t *testing.T) {
		id := unique("ws")
		ws := dial(t)
		c := wrap(ws, v5)
		b := slices.Concat(hello(id), message{topic: "e2e/" + id, qos: 1, id: 1}.bytes(v5))
		if err := ws.frames(frame{false, opBinary, b[:3]}, frame{true, opPing, []byte("?")}, frame{false, opContinuation, nil},
			frame{false, opContinuation, b[3:20]}, frame{true, opContinuation, b[20:]}, frame{true, opBinary, nil}); err != nil {
			t.Fatal(err)
		}
		c.expect(t, tConnack)
		c.expect(t, tPuback)
		if len(ws.pongs) != 1 || !bytes.Equal(ws.pongs[0], []byte("?")) {
			t.Errorf("pongs %q, want one of \"?\"", ws.pongs)
		}
		o.untilTopic(t, "e2e/"+id)
	})
	t.Run("more promised than the frame has", func(t *testing.T) {
		ws := dial(t)
		c := wrap(ws, v311)
		if err := ws.frames(frame{true, opBinary, as("alice", unique("ws"), v311).bytes()}); err != nil {
			t.Fatal(err)
		}
		c.expect(t, tConnack)
		if err := ws.frames(frame{true, opBinary, []byte{0x30, 0x7F, 0, 5, 'e', '2', 'e'}}, frame{true, opPing, []byte("!")}); err != nil {
			t.Fatal(err)
		}
		// It waits for the rest; a ping is answered meanwhile.
		ws.SetReadDeadline(time.Now().Add(patience))
		if f, _, err := readFrame(ws.r); err != nil || f.op != opPong {
			t.Errorf("%v, opcode %d instead of a pong", err, f.op)
		}
	})
	t.Run("close is answered", func(t *testing.T) {
		ws := dial(t)
		if err := ws.frames(frame{true, opClose, []byte{0x03, 0xE8}}); err != nil {
			t.Fatal(err)
		}
		ended(t, ws, 1000)
	})
}
