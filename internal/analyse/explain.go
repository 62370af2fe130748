// Package analyse answers questions about a policy without traffic: who may do
// what, and why.
//
// Start with [Explain]. It asks the same [policy.Subject] that the doors ask,
// with a trace: there is no second implementation. The package is pure; a
// report is data that marshals to JSON and writes itself as text.
package analyse

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/topic"
)

// Action is what is asked about.
type Action string

// The actions. Will asks about the will of a CONNECT, Deliver about a PUBLISH
// to the client.
const (
	Connect     Action = "connect"
	Will        Action = "will"
	Publish     Action = "publish"
	Subscribe   Action = "subscribe"
	Unsubscribe Action = "unsubscribe"
	Deliver     Action = "deliver"
)

// Actions are all actions.
func Actions() []Action { return []Action{Connect, Will, Publish, Subscribe, Unsubscribe, Deliver} }

// Query is one question: who, what, at which doors.
type Query struct {
	Username   string // "": anonymous
	ClientID   string
	Groups     []string
	Attributes map[string]string
	ClientIP   netip.Addr   // invalid: unknown
	Version    mqtt.Version // 0: 5.0
	Listener   string       // of the gateway door
	// Unverified asks about a client that was admitted by fail-open or in
	// detect-only. Otherwise its credentials are taken to be right.
	Unverified bool

	Doors []policy.Door // none: both

	Action        Action
	Topic         string // a topic, or the filter of Subscribe and Unsubscribe
	ResponseTopic string // "": none
	QoS           byte
	Retain        bool
	Payload       []byte
}

// Report is the answer to a Query.
type Report struct {
	Action        Action   `json:"action"`
	Topic         string   `json:"topic,omitempty"`
	Filter        string   `json:"filter,omitempty"`
	ResponseTopic string   `json:"response_topic,omitempty"`
	QoS           byte     `json:"qos"`
	Retain        bool     `json:"retain"`
	PayloadBytes  int      `json:"payload_bytes"`
	Client        Client   `json:"client"`
	Answers       []Answer `json:"answers"` // one a door
	Differ        bool     `json:"differ"`  // the doors do not do the same
	Notes         []string `json:"notes,omitempty"`
}

// Client is who the question is about, as rules see it.
type Client struct {
	Username  string   `json:"username,omitempty"`
	Anonymous bool     `json:"anonymous,omitempty"`
	ClientID  string   `json:"client_id,omitempty"`
	Groups    []string `json:"groups,omitempty"`
	ClientIP  string   `json:"client_ip,omitempty"`
	Protocol  string   `json:"protocol"`
	Listener  string   `json:"listener,omitempty"`
	Standing  string   `json:"standing"` // verified, claimed, unverified
}

// Answer is the decision of one door.
type Answer struct {
	Door     string `json:"door"`
	Decision string `json:"decision"` // allow, rewrite, deny, detect
	Reason   string `json:"reason,omitempty"`
	Rule     string `json:"rule,omitempty"`
	Effect   string `json:"effect"`
	// QoS is what the packet goes on with, or the filter is granted; absent when
	// it is denied.
	QoS     *byte  `json:"qos,omitempty"`
	Witness string `json:"witness,omitempty"` // a topic that shows why
	Steps   []Step `json:"steps"`
}

// Step is one check on the way.
type Step struct {
	Check   string `json:"check"`
	Passed  bool   `json:"passed"`
	Rule    string `json:"rule,omitempty"`
	Detail  string `json:"detail,omitempty"`
	Witness string `json:"witness,omitempty"`
}

// Explain answers a question. A topic or filter that is none is an answer too:
// it is denied as malformed.
func Explain(e *policy.Engine, q Query) Report {
	if q.Version == 0 {
		q.Version = mqtt.V5
	}
	doors := q.Doors
	if len(doors) == 0 {
		doors = []policy.Door{policy.DoorGateway, policy.DoorAgent}
	}
	r := Report{
		Action: q.Action, ResponseTopic: q.ResponseTopic,
		QoS: q.QoS, Retain: q.Retain, PayloadBytes: len(q.Payload),
		Client: q.client(e),
	}
	switch q.Action {
	case Subscribe, Unsubscribe:
		r.Filter = q.Topic
	case Connect:
	default:
		r.Topic = q.Topic
	}
	for _, d := range doors {
		r.Answers = append(r.Answers, q.answer(e, d))
	}
	for i := range r.Answers[1:] {
		a, b := &r.Answers[0], &r.Answers[i+1]
		r.Differ = r.Differ || a.Decision != b.Decision || a.Effect != b.Effect
	}
	r.Notes = q.notes(e, doors)
	return r
}

// standing is how far the name can be trusted once the client is admitted.
func (q *Query) standing(e *policy.Engine) policy.Standing {
	switch {
	case q.Unverified:
		return policy.Unverified
	case e.Config().Auth.Enabled:
		return policy.Verified
	}
	return policy.Claimed
}

func (q *Query) identity(e *policy.Engine, d policy.Door) policy.Identity {
	id := policy.Identity{
		Username: q.Username, Anonymous: q.Username == "", ClientID: q.ClientID,
		Groups: q.Groups, Attributes: q.Attributes,
		Standing: q.standing(e), Addr: q.ClientIP, Version: q.Version, Door: d,
	}
	if d == policy.DoorGateway {
		id.Listener = q.Listener
	}
	return id
}

func (q *Query) client(e *policy.Engine) Client {
	c := Client{
		Username: q.Username, Anonymous: q.Username == "", ClientID: q.ClientID,
		Protocol: protocol(q.Version), Listener: q.Listener, Standing: "claimed",
	}
	switch q.standing(e) {
	case policy.Verified:
		c.Standing = "verified"
	case policy.Unverified:
		c.Standing = "unverified"
	}
	if !q.Unverified { // else it has no groups
		c.Groups = q.Groups
		if c.Anonymous && !slices.Contains(c.Groups, "anonymous") {
			c.Groups = append(slices.Clip(c.Groups), "anonymous")
		}
	}
	if q.ClientIP.IsValid() {
		c.ClientIP = q.ClientIP.String()
	}
	return c
}

func protocol(v mqtt.Version) string {
	switch v {
	case mqtt.V31:
		return "3.1"
	case mqtt.V311:
		return "3.1.1"
	}
	return "5.0"
}

// answer asks the subject of one door.
func (q *Query) answer(e *policy.Engine, d policy.Door) Answer {
	s := e.Bind(q.identity(e, d))
	var tr policy.Trace
	v := q.decide(s, &tr)
	a := Answer{
		Door: d.String(), Decision: "deny", Reason: v.Reason.Tag(), Rule: e.RuleName(v.Rule), Steps: []Step{},
	}
	for _, step := range tr.Steps {
		a.Steps = append(a.Steps, Step{
			Check: step.Check, Passed: step.Outcome == policy.Allow, Rule: e.RuleName(step.Rule),
			Detail: step.Detail, Witness: step.Witness,
		})
		if step.Witness != "" {
			a.Witness = step.Witness
		}
	}
	if v.Allowed() {
		a.Decision = "allow"
		switch q.Action {
		case Publish, Subscribe:
			a.QoS = &v.QoS
		case Will:
			if !v.RemoveWill {
				a.QoS = &v.QoS
			}
		}
	}
	a.Effect = q.effect(s, d, v, &a)
	return a
}

// decide asks one question.
func (q *Query) decide(s *policy.Subject, tr *policy.Trace) policy.Verdict {
	switch q.Action {
	case Connect:
		return s.Connect(tr)
	case Subscribe:
		return s.Subscribe([]byte(q.Topic), q.QoS, tr)
	case Unsubscribe:
		return s.Unsubscribe([]byte(q.Topic), tr)
	}
	// The codec refuses these before a Subject sees them.
	if err := topic.CheckName(q.Topic); err != nil {
		tr.Steps = append(tr.Steps, policy.Step{
			Check: "topic", Outcome: policy.Deny, Rule: policy.RuleNone, Detail: fmt.Sprintf("%q: %v", q.Topic, err),
		})
		return policy.Verdict{Outcome: policy.Deny, Reason: policy.ReasonMalformed, Rule: policy.RuleNone}
	}
	if q.Action == Deliver {
		return s.Deliver([]byte(q.Topic), tr)
	}
	m := policy.Message{
		Topic: []byte(q.Topic), QoS: q.QoS, Retain: q.Retain,
		PayloadSize: len(q.Payload), PacketSize: len(q.Topic) + len(q.Payload),
	}
	if s.Inspects() {
		m.Payload = q.Payload
	}
	if q.ResponseTopic != "" {
		m.ResponseTopic = []byte(q.ResponseTopic)
	}
	if q.Action == Will {
		return s.Will(m, tr)
	}
	return s.Publish(m, tr)
}

// effect is what a door makes of a verdict; it may change the decision's word.
func (q *Query) effect(s *policy.Subject, d policy.Door, v policy.Verdict, a *Answer) string {
	changed := v.RemoveWill || v.ClearRetain || a.QoS != nil && *a.QoS < q.QoS
	if !s.Engine().Config().General.BlockMode && (!v.Allowed() || changed) {
		a.Decision = "detect"
		if a.QoS != nil {
			*a.QoS = q.QoS
		}
		return "forwarded unchanged: general.block-mode is false; audited as detect-only"
	}
	switch {
	case !v.Allowed():
		return "not forwarded"
	case v.RemoveWill:
		a.Decision = "rewrite"
		return "the CONNECT is forwarded without its will"
	case !changed && q.Action == Subscribe:
		return fmt.Sprintf("forwarded, granted up to QoS %d; each delivery is checked by its topic", v.QoS)
	case !changed:
		return "forwarded"
	}
	what, by := "", v.RetainRule
	if *a.QoS < q.QoS {
		what = fmt.Sprintf("with QoS %d", *a.QoS)
		switch {
		case !v.ClearRetain:
			by = v.QoSRule
		case v.QoSRule != by:
			what += " by " + name(s.Engine().RuleName(v.QoSRule)) + " and "
		default:
			what += " and "
		}
	}
	if v.ClearRetain {
		what += "without the retain flag"
	}
	what += " by " + name(s.Engine().RuleName(by))
	if d == policy.DoorAgent {
		*a.QoS = q.QoS
		return "forwarded unchanged and audited: an agent cannot send it on " + what
	}
	a.Decision = "rewrite"
	return "forwarded " + what
}

// notes say what the answers take for granted.
func (q *Query) notes(e *policy.Engine, doors []policy.Door) []string {
	var notes []string
	cfg := e.Config()
	switch {
	case q.Unverified:
		notes = append(notes, "the client is unverified: it matches deny rules only and has no groups")
	case !cfg.Auth.Enabled && q.Username != "":
		notes = append(notes, "auth.enabled is false: the user name is the one that the client claims")
	case cfg.Auth.Enabled && q.Username == "" && !cfg.Auth.AllowAnonymous:
		notes = append(notes, "auth.allow-anonymous is false: such a client is refused at CONNECT, unless its listener says otherwise")
	case cfg.Auth.Enabled && q.Username != "":
		notes = append(notes, "the credentials are taken to be right, and the groups to be those given")
	}
	if !slices.Contains(cfg.General.ProtocolVersions, protocol(q.Version)) {
		notes = append(notes, "general.protocol-versions does not list "+protocol(q.Version)+": such a client is refused at CONNECT")
	}
	if q.Action == Connect && slices.Contains(doors, policy.DoorGateway) {
		qos, retain := e.Bind(q.identity(e, policy.DoorGateway)).Ceiling()
		if qos < 2 || !retain {
			available := "available"
			if !retain {
				available = "not available"
			}
			notes = append(notes, fmt.Sprintf("the gateway announces at most QoS %d, and retained messages as %s", qos, available))
		}
	}
	return notes
}
