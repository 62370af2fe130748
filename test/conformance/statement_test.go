package conformance

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// party is whom a statement binds.
type party string

const (
	client party = "client"
	server party = "server"
	both   party = "both"
)

// touch is how a statement touches a gateway.
type touch uint8

const (
	fromClient touch = 1 << iota // as the receiver of what a client sends
	fromBroker                   // as the receiver of what a broker sends
	asSender                     // in packets of ours, or changed by us
)

func (t touch) String() string {
	var words []string
	for i, w := range []string{"from the client", "from the broker", "as sender"} {
		if t&(1<<i) != 0 {
			words = append(words, w)
		}
	}
	return strings.Join(words, ", ")
}

// standing is what becomes of a statement here.
type standing uint8

const (
	kept      standing = iota // checked or held; code and test say where
	partly                    // likewise, with a gap that why names
	passed                    // the business of one end; what concerns it is forwarded
	different                 // done otherwise, knowingly
	missing                   // it touches us, and nothing looks at it
)

var standings = [...]string{
	kept: "checked here", partly: "checked in part", passed: "forwarded", different: "done otherwise", missing: "not checked",
}

// statement is one line of the table.
type statement struct {
	clause string
	text   string // in words of our own
	binds  party
	touch  touch
	stands standing
	why    string   // of all but kept, where it is a remark
	code   []string // also checked at: without its tag, "session.Session.possible"
	tests  []string // also tested by: "dialogue order/second-connect", "catalogue publish/topic-nul", "session.TestHeadLen"
}

// refs puts what is a place in the code and what is a test where it belongs: a
// place begins with "@".
func (s statement) refs(list []string) statement {
	for _, r := range list {
		if place, ok := strings.CutPrefix(r, "@"); ok {
			s.code = append(s.code, place)
		} else {
			s.tests = append(s.tests, r)
		}
	}
	return s
}

func checked(clause, text string, binds party, t touch, refs ...string) statement {
	return statement{clause: clause, text: text, binds: binds, touch: t, stands: kept}.refs(refs)
}

func inPart(clause, text string, binds party, t touch, why string, refs ...string) statement {
	return statement{clause: clause, text: text, binds: binds, touch: t, stands: partly, why: why}.refs(refs)
}

func forwarded(clause, text string, binds party, why string, refs ...string) statement {
	return statement{clause: clause, text: text, binds: binds, stands: passed, why: why}.refs(refs)
}

func otherwise(clause, text string, binds party, t touch, why string, refs ...string) statement {
	return statement{clause: clause, text: text, binds: binds, touch: t, stands: different, why: why}.refs(refs)
}

func unchecked(clause, text string, binds party, t touch, why string, refs ...string) statement {
	return statement{clause: clause, text: text, binds: binds, touch: t, stands: missing, why: why}.refs(refs)
}

// remark adds a remark to a statement that is kept.
func (s statement) remark(why string) statement { s.why = why; return s }

// chapter is a part of the table under a heading.
type chapter struct {
	title      string
	statements []statement
}

// chapters are the statements of MQTT 5.0, in its order.
var chapters = []chapter{
	{"Data and packets", dataStatements},
	{"CONNECT", connectStatements},
	{"CONNACK", connackStatements},
	{"PUBLISH", publishStatements},
	{"PUBACK, PUBREC, PUBREL, PUBCOMP", ackStatements},
	{"SUBSCRIBE, SUBACK", subscribeStatements},
	{"UNSUBSCRIBE, UNSUBACK, PINGREQ", unsubscribeStatements},
	{"DISCONNECT, AUTH", disconnectStatements},
	{"Sessions and delivery", deliveryStatements},
	{"Topics", topicStatements},
	{"Flow control, authentication, errors", operationStatements},
	{"WebSocket and conformance", transportStatements},
}

// elsewhere are rules that are not numbered statements of MQTT 5.0.
var elsewhere = []chapter{
	{"Rules without a number, by section", sectionRules},
	{"Statements of MQTT 3.1.1 that 5.0 does not have", olderStatements},
}

// byClause finds a line of either table.
var byClause = func() map[string]*statement {
	m := map[string]*statement{}
	for _, list := range [][]chapter{chapters, elsewhere} {
		for _, c := range list {
			for i := range c.statements {
				s := &c.statements[i]
				if m[s.clause] != nil {
					panic("two lines for " + s.clause)
				}
				m[s.clause] = s
			}
		}
	}
	return m
}()

var numbered = regexp.MustCompile(`^MQTT-(\d+\.\d+\.\d+)-(\d+)$`)

// gaps are numbers that the standard leaves out.
var gaps = map[string]bool{"MQTT-2.2.1-1": true}

// TestTableIsComplete: the numbers of a section follow each other, and every
// line says what its standing asks for.
func TestTableIsComplete(t *testing.T) {
	last := map[string]int{}
	for _, c := range chapters {
		for _, s := range c.statements {
			m := numbered.FindStringSubmatch(s.clause)
			if m == nil {
				t.Errorf("%q is no number of a statement", s.clause)
				continue
			}
			n, err := strconv.Atoi(m[2])
			if err != nil {
				t.Fatal(err)
			}
			want := last[m[1]] + 1
			for gaps[fmt.Sprintf("MQTT-%s-%d", m[1], want)] {
				want++
			}
			if last[m[1]] = n; n != want {
				t.Errorf("%s comes where MQTT-%s-%d should", s.clause, m[1], want)
			}
		}
	}
	for clause, s := range byClause {
		switch {
		case s.text == "" || !strings.HasSuffix(s.text, "."):
			t.Errorf("%s: no sentence: %q", clause, s.text)
		case s.stands == passed && s.touch != 0:
			t.Errorf("%s is forwarded and touches us %v", clause, s.touch)
		case s.stands != passed && s.touch == 0:
			t.Errorf("%s is %s and does not touch us", clause, standings[s.stands])
		case s.stands != kept && s.why == "":
			t.Errorf("%s is %s without a reason", clause, standings[s.stands])
		}
	}
}
