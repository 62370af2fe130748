//go:build matrix

package matrix

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// script is what a client does; its outcome is what the client saw, with its
// own topics written as T.
type script struct {
	name     string
	title    string
	versions []string
	// core: at every transport and QoS; else over TCP at the script's own QoS.
	core bool
	run  func(s *scene) error
}

// scene is one run of a script.
type scene struct {
	client  *client
	url     string
	version string
	qos     byte
	topic   string // of its own
	conns   []conn
	out     []string
}

// id is the client id, or what it begins with.
func (s *scene) id() string { return strings.ReplaceAll(s.topic, "/", "-") }

// say adds to the outcome.
func (s *scene) say(format string, args ...any) {
	line := strings.ReplaceAll(fmt.Sprintf(format, args...), s.topic, "T")
	s.out = append(s.out, line)
}

// open opens a connection that is ended with the scene.
func (s *scene) open(suffix string, o options) (conn, error) {
	o.URL, o.Version, o.ID = s.url, s.version, s.id()+suffix
	c, a, err := s.client.open(o)
	if err != nil {
		return nil, err
	}
	if a.Code != 0 {
		return nil, fmt.Errorf("refused with %#x", a.Code)
	}
	s.conns = append(s.conns, c)
	if a.Present {
		s.say("session present")
	}
	return c, nil
}

func (s *scene) subscribe(c conn, qos byte, filter string) error {
	granted, err := c.subscribe(qos, filter)
	if err != nil {
		return err
	}
	if !s.client.mute {
		s.say("granted %v", granted)
	}
	return nil
}

// leave ends a connection before the scene does.
func (s *scene) leave(c conn, how func() error) error {
	s.conns = slices.DeleteFunc(s.conns, func(one conn) bool { return one == c })
	return how()
}

// play runs a script and returns its outcome.
func play(sc *script, s *scene) string {
	err := sc.run(s)
	for _, c := range s.conns {
		err = errors.Join(err, c.disconnect())
	}
	if err != nil {
		s.say("error: %v", err)
	}
	return strings.Join(s.out, "\n")
}

// right is the outcome that a script must have.
func right(sc *script, c *client, version string, qos byte) string {
	var out []string
	granted := func(qos byte) {
		if !c.mute {
			out = append(out, fmt.Sprintf("granted [%d]", qos))
		}
	}
	saw := func(all ...message) {
		for _, m := range all {
			out = append(out, m.String())
		}
	}
	switch sc.name {
	case "round trip":
		granted(qos)
		saw(burst("T", qos)...)
	case "retained":
		granted(1)
		saw(message{Topic: "T", Payload: "kept", QoS: 1, Retain: true}, message{Topic: "T", Payload: "live", QoS: 1})
		granted(1)
		saw(message{Topic: "T", Payload: "after", QoS: 1})
	case "will":
		granted(1)
		granted(1)
		saw(message{Topic: "T/will", Payload: "gone", QoS: 1})
	case "session":
		granted(1)
		if !strings.HasPrefix(c.name, "mosquitto") { // it does not tell
			out = append(out, "session present")
		} else {
			granted(1)
		}
		saw(numbered("T", 1, 5)...)
	case "properties":
		granted(1)
		saw(rich("T"))
	case "shared":
		granted(1)
		granted(1)
		out = append(out, "20 messages, each once")
	case "large":
		granted(1)
		saw(large("T"))
	default:
		panic("no right outcome of " + sc.name)
	}
	return strings.Join(out, "\n")
}

const inBurst = 20

func numbered(topic string, qos byte, n int) (all []message) {
	for i := range n {
		all = append(all, message{Topic: topic, Payload: fmt.Sprintf("message %d", i), QoS: qos})
	}
	return all
}

// burst is numbered messages and one after which nothing may come: a duplicate
// would come before it.
func burst(topic string, qos byte) []message {
	return append(numbered(topic, qos, inBurst), message{Topic: topic, Payload: "last", QoS: qos})
}

func rich(topic string) message {
	return message{
		Topic: topic, Payload: "rich", QoS: 1, ContentType: "text/plain", ResponseTopic: topic + "/answer", Correlation: "id-42", Format: 1,
		User: [][2]string{{"b", "1"}, {"a", "2"}, {"b", "3"}},
	}
}

func large(topic string) message {
	return message{Topic: topic, Payload: strings.Repeat("0123456789abcdef", 256<<10/16), QoS: 1}
}

var scripts = []*script{
	{name: "round trip", title: "20 messages in order, none twice, the QoS granted that was asked for", versions: both, core: true, run: roundTrip},
	{name: "retained", title: "retained message for who comes later; cleared it is gone", versions: both, run: retained},
	{name: "will", title: "will of a connection that is lost", versions: both, run: will},
	{name: "session", title: "messages kept for a client that is away, its session present when it is back", versions: both, run: session},
	{name: "shared", title: "shared subscription of two members: 20 messages, each once", versions: []string{"5.0"}, run: shared},
	{name: "properties", title: "content type, response topic, correlation, format, user properties as they were sent", versions: []string{"5.0"}, run: properties},
	{name: "large", title: "payload of 256 KiB", versions: both, run: largePayload},
}

// saw takes n messages and says what they were.
func (s *scene) saw(c conn, from, n int) error {
	got, err := c.receive(from + n)
	for _, m := range got[min(from, len(got)):] {
		s.say("%v", m)
	}
	return err
}

func roundTrip(s *scene) error {
	c, err := s.open("", options{Clean: true})
	if err != nil {
		return err
	}
	if err := s.subscribe(c, s.qos, s.topic); err != nil {
		return err
	}
	all := burst(s.topic, s.qos)
	if err := c.publish(all...); err != nil {
		return err
	}
	return s.saw(c, 0, len(all))
}

func retained(s *scene) error {
	a, err := s.open("a", options{Clean: true})
	if err != nil {
		return err
	}
	if err := a.publish(message{Topic: s.topic, Payload: "kept", QoS: 1, Retain: true}); err != nil {
		return err
	}
	late, err := s.open("b", options{Clean: true})
	if err != nil {
		return err
	}
	if err := s.subscribe(late, 1, s.topic); err != nil {
		return err
	}
	if _, err := late.receive(1); err != nil {
		return err
	}
	if err := a.publish(message{Topic: s.topic, Payload: "live", QoS: 1}); err != nil {
		return err
	}
	if err := s.saw(late, 0, 2); err != nil {
		return err
	}
	if err := s.leave(late, late.disconnect); err != nil {
		return err
	}
	if err := a.publish(message{Topic: s.topic, QoS: 1, Retain: true}); err != nil {
		return err
	}
	later, err := s.open("c", options{Clean: true})
	if err != nil {
		return err
	}
	if err := s.subscribe(later, 1, s.topic); err != nil {
		return err
	}
	if err := a.publish(message{Topic: s.topic, Payload: "after", QoS: 1}); err != nil {
		return err
	}
	return s.saw(later, 0, 1)
}

func will(s *scene) error {
	c, err := s.open("a", options{Clean: true})
	if err != nil {
		return err
	}
	if err := s.subscribe(c, 1, s.topic+"/will"); err != nil {
		return err
	}
	doomed, err := s.open("b", options{Clean: true, Will: &message{Topic: s.topic + "/will", Payload: "gone", QoS: 1}})
	if err != nil {
		return err
	}
	if err := s.subscribe(doomed, 1, s.topic+"/other"); err != nil {
		return err
	}
	if err := s.leave(doomed, doomed.drop); err != nil {
		return err
	}
	return s.saw(c, 0, 1)
}

func session(s *scene) error {
	stay := options{Expiry: 300}
	c, err := s.open("a", stay)
	if err != nil {
		return err
	}
	if err := s.subscribe(c, 1, s.topic); err != nil {
		return err
	}
	if err := s.leave(c, c.disconnect); err != nil {
		return err
	}
	other, err := s.open("b", options{Clean: true})
	if err != nil {
		return err
	}
	if err := other.publish(numbered(s.topic, 1, 5)...); err != nil {
		return err
	}
	back, err := s.open("a", stay)
	if err != nil {
		return err
	}
	if _, cli := back.(*cliConn); cli { // it cannot come back without
		if err := s.subscribe(back, 1, s.topic); err != nil {
			return err
		}
	}
	if err := s.saw(back, 0, 5); err != nil {
		return err
	}
	if err := s.leave(back, back.disconnect); err != nil {
		return err
	}
	return s.forget()
}

// forget ends a session: what a broker holds of one case shall not weigh on
// the next.
func (s *scene) forget() error {
	quiet := &scene{client: s.client, url: s.url, version: s.version, topic: s.topic}
	c, err := quiet.open("a", options{Clean: true})
	if err != nil {
		return err
	}
	return c.disconnect()
}

func properties(s *scene) error {
	c, err := s.open("", options{Clean: true})
	if err != nil {
		return err
	}
	if err := s.subscribe(c, 1, s.topic); err != nil {
		return err
	}
	if err := c.publish(rich(s.topic)); err != nil {
		return err
	}
	return s.saw(c, 0, 1)
}

func shared(s *scene) error {
	var members [2]conn
	for i := range members {
		var err error
		if members[i], err = s.open(fmt.Sprint("m", i), options{Clean: true}); err != nil {
			return err
		}
		if err := s.subscribe(members[i], 1, "$share/g/"+s.topic); err != nil {
			return err
		}
	}
	c, err := s.open("p", options{Clean: true})
	if err != nil {
		return err
	}
	if err := c.publish(numbered(s.topic, 1, inBurst)...); err != nil {
		return err
	}
	var count [2]int
	seen := map[string]int{}
	err = testkit.Poll("all messages", patience, func() bool {
		clear(seen)
		for i, m := range members {
			var all []message
			if all, err = m.receive(0); err != nil {
				return true
			}
			count[i] = len(all)
			for _, m := range all {
				seen[m.Payload]++
			}
		}
		return count[0]+count[1] >= inBurst
	})
	if err != nil {
		return err
	}
	if len(seen) != inBurst || count[0]+count[1] != inBurst {
		s.say("%d and %d messages, %d different", count[0], count[1], len(seen))
		return nil
	}
	// How it deals them out is the broker's business.
	s.say("%d messages, each once", inBurst)
	return nil
}

func largePayload(s *scene) error {
	c, err := s.open("", options{Clean: true})
	if err != nil {
		return err
	}
	if err := s.subscribe(c, 1, s.topic); err != nil {
		return err
	}
	if err := c.publish(large(s.topic)); err != nil {
		return err
	}
	got, err := c.receive(1)
	for _, m := range got {
		if m.Payload != large("").Payload {
			s.say("the payload is another")
		}
		s.say("%v", m)
	}
	return err
}
