package testkit

import (
	"fmt"
	"sync"
	"time"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
)

// DoorSet says in which doors a dialogue holds.
type DoorSet uint8

// The sets. In BothDoors the decisions must be equal; what the gateway door
// sends (ToBroker, ToClient) is its own affair.
const (
	BothDoors DoorSet = iota
	GatewayDoor
	AgentDoor
)

// Dialogue is one conversation of a client and a broker with a door between
// them, as data: a session, the gateway and the agent door all run it.
type Dialogue struct {
	Name    string // "publish/denied/qos1/5.0", unique
	Doors   DoorSet
	Version mqtt.Version
	Config  string // a JSON configuration; authentication is off
	User    string // the claimed user name, as it stands in CONNECT
	Steps   []Step
}

// Act is what a step does.
type Act uint8

// The acts.
const (
	ClientSends Act = iota
	BrokerSends
	TimePasses
	ClientLost
	BrokerLost
	Drain
	Kick
	Revoke
	Reload    // Step.Config is put in force
	DialFails // the gateway's next dial, which a client's CONNECT asks for
)

// Step is one act and everything that follows from it.
type Step struct {
	Act    Act
	Bytes  []byte
	Wait   time.Duration
	Config string

	// What each side gets, in the gateway door, exactly. In the agent door what
	// was sent passes, or not, by Decision.
	ToBroker, ToClient []byte
	// Decision is the worst one about the packets sent: allow, detect, rewrite,
	// drop, close. "" is not looked at.
	Decision string
	Events   []string // "blocked,acl-denied": the tags without "mqtt"
	End      string   // how the connection ends: its cause; "" it goes on
	Code     byte     // what a 5.0 client is told at the end; 0 is not looked at
}

// Timed reports whether a dialogue is about time passing, which a test over
// real transports leaves out.
func (d *Dialogue) Timed() bool {
	for _, s := range d.Steps {
		if s.Wait > 0 {
			return true
		}
	}
	return false
}

// Dialogues returns all of them. They are the caller's to read, not to write.
func Dialogues() []Dialogue { return dialogues() }

var dialogues = sync.OnceValue(func() []Dialogue {
	b := new(dialogueBook)
	for _, add := range []func(*dialogueBook){
		connectDialogues, connackDialogues, publishDialogues, ackDialogues, downgradeDialogues, aliasDialogues,
		subscribeDialogues, tightDialogues, deliveryDialogues, orderDialogues, limitDialogues, timeDialogues,
		endDialogues, reloadDialogues, settingDialogues, detectDialogues, streamDialogues, brokenDialogues,
	} {
		add(b)
	}
	names := make(map[string]bool, len(b.list))
	for _, d := range b.list {
		if names[d.Name] {
			panic("testkit: two dialogues are called " + d.Name)
		}
		names[d.Name] = true
	}
	return b.list
})

// dialogueBook collects dialogues.
type dialogueBook struct{ list []Dialogue }

// rules is the ACL of every dialogue: dev/# is open but for dev/secret/#, up/#
// can only be published to, $share works on dev/#.
const rules = `"acl": {"rules": [
	{"name": "no-secrets", "topics": ["dev/secret/#"], "decision": "deny", "priority": 10},
	{"name": "dev", "topics": ["dev/#"], "decision": "allow"},
	{"name": "up", "topics": ["up/#"], "actions": ["publish"], "decision": "allow"}
]}`

// conf is a configuration of the rules and other sections.
func conf(sections ...string) string {
	c := "{" + rules
	for _, s := range sections {
		c += ", " + s
	}
	return c + "}"
}

// allVersions is a section "general" that speaks 3.1 too.
const allVersions = `"general": {"protocol-versions": ["3.1", "3.1.1", "5.0"]}`

// talk is a dialogue being written: each method adds a step or says what
// follows from the last.
type talk struct {
	book *dialogueBook
	at   int // in book.list
	v    mqtt.Version
}

func (t *talk) d() *Dialogue { return &t.book.list[t.at] }

// add starts a dialogue for one version.
func (b *dialogueBook) add(name string, v mqtt.Version, doors DoorSet, config string) *talk {
	name += "/" + v.String()
	if doors == AgentDoor {
		name += "/agent"
	}
	b.list = append(b.list, Dialogue{Name: name, Version: v, Doors: doors, Config: config})
	return &talk{book: b, at: len(b.list) - 1, v: v}
}

func (t *talk) step(s Step) *talk { t.d().Steps = append(t.d().Steps, s); return t }
func (t *talk) last() *Step       { return &t.d().Steps[len(t.d().Steps)-1] }

// client and broker send packets; nothing follows yet.
func (t *talk) client(packets ...[]byte) *talk {
	return t.step(Step{Act: ClientSends, Bytes: concat(packets)})
}

func (t *talk) broker(packets ...[]byte) *talk {
	return t.step(Step{Act: BrokerSends, Bytes: concat(packets)})
}

func (t *talk) act(a Act) *talk            { return t.step(Step{Act: a}) }
func (t *talk) wait(d time.Duration) *talk { return t.step(Step{Act: TimePasses, Wait: d}) }

// passes says that what was sent reaches the other side as it came.
func (t *talk) passes() *talk {
	s := t.last()
	s.Decision = "allow"
	if s.Act == ClientSends {
		s.ToBroker = s.Bytes
	} else {
		s.ToClient = s.Bytes
	}
	return t
}

func (t *talk) toBroker(packets ...[]byte) *talk { t.last().ToBroker = concat(packets); return t }
func (t *talk) toClient(packets ...[]byte) *talk { t.last().ToClient = concat(packets); return t }
func (t *talk) is(decision string) *talk         { t.last().Decision = decision; return t }

func (t *talk) events(tags ...string) *talk {
	t.last().Events = append(t.last().Events, tags...)
	return t
}

// ends says that the connection ends here. A connection that was up reports its
// end.
func (t *talk) ends(cause string, code byte) *talk {
	s := t.last()
	s.End, s.Code = cause, code
	return t
}

func (t *talk) disconnects(cause string, code byte) *talk {
	return t.events("disconnect").ends(cause, code)
}

// hello is a CONNECT that goes upstream as it is: a 5.0 one with a Maximum
// Packet Size below ours.
func hello(v mqtt.Version, opts ...Option) []byte {
	return Connect(v, "c1", append([]Option{With(Prop32(mqtt.MaximumPacketSize, 65536), Prop16(mqtt.TopicAliasMaximum, 5))}, opts...)...)
}

// welcome is a CONNACK that reaches the client as it is: with figures below
// ours.
func welcome(v mqtt.Version, opts ...Option) []byte {
	return Connack(v, false, 0, append([]Option{With(
		Prop16(mqtt.ReceiveMaximum, 20), Prop32(mqtt.MaximumPacketSize, 65536), Prop16(mqtt.TopicAliasMaximum, 5))}, opts...)...)
}

// opens is CONNECT and CONNACK.
func (t *talk) opens(opts ...Option) *talk {
	return t.client(hello(t.v, opts...)).passes().
		broker(welcome(t.v)).passes().events("connect,success")
}

// resumes is opens with session present.
func (t *talk) resumes() *talk {
	t.client(hello(t.v, Resume())).passes()
	w := welcome(t.v)
	w[2] = 1
	return t.broker(w).passes().events("connect,success")
}

func concat(packets [][]byte) []byte {
	var b []byte
	for _, p := range packets {
		b = append(b, p...)
	}
	return b
}

// pick returns one of two by the version: what 5.0 says, or what 3.x does.
func pick(v mqtt.Version, five, three []byte) []byte {
	if v == mqtt.V5 {
		return five
	}
	return three
}

// code is pick for one byte.
func code(v mqtt.Version, five, three byte) byte {
	if v == mqtt.V5 {
		return five
	}
	return three
}

// bye is DISCONNECT to a 5.0 client; 3.x has none.
func bye(v mqtt.Version, code byte) []byte {
	if v != mqtt.V5 {
		return nil
	}
	return Disconnect(v, code)
}

func named(format string, a ...any) string { return fmt.Sprintf(format, a...) }
