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
	"strings"

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
	// Refusals are what refuses the client's CONNECT before the rules are asked,
	// by door. A door that is not there is taken to admit it.
	Refusals map[policy.Door]Refusal
	// Listed says that groups and attributes are those of the users file.
	Listed bool

	Doors []policy.Door // none: both

	Action        Action
	Topic         string // a topic, or the filter of Subscribe and Unsubscribe
	ResponseTopic string // "": none
	QoS           byte
	Retain        bool
	Payload       []byte
}

// Refusal is why a client is not admitted.
type Refusal struct {
	Reason policy.Reason
	Rule   policy.RuleRef
	Why    string
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

// Denied reports whether some door denies it. Where nothing is blocked, nothing
// is denied.
func (r *Report) Denied() bool {
	return slices.ContainsFunc(r.Answers, func(a Answer) bool { return a.Decision == "deny" })
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
		Protocol: q.Version.String(), Listener: q.Listener, Standing: "claimed",
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

// answer asks the subject of one door.
func (q *Query) answer(e *policy.Engine, d policy.Door) Answer {
	s := e.Bind(q.identity(e, d))
	var tr policy.Trace
	v, admitted := q.admit(e, d, &tr)
	if admitted || q.Action != Connect {
		v = q.decide(s, &tr)
	}
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

// admit is what comes before the rules at CONNECT, if that is what is asked
// about.
func (q *Query) admit(e *policy.Engine, d policy.Door, tr *policy.Trace) (v policy.Verdict, admitted bool) {
	if q.Action != Connect {
		return v, true
	}
	check := func(name string, refused bool, reason policy.Reason, rule policy.RuleRef, detail string) bool {
		step := policy.Step{Check: name, Outcome: policy.Allow, Rule: rule, Detail: detail}
		if refused {
			step.Outcome = policy.Deny
			v = policy.Verdict{Outcome: policy.Deny, Reason: reason, Rule: rule}
		}
		tr.Steps = append(tr.Steps, step)
		return !refused
	}
	versions := e.Config().General.ProtocolVersions
	if !check("version", !slices.Contains(versions, q.Version.String()), policy.ReasonVersion, policy.RuleProtocolVersions,
		fmt.Sprintf("MQTT %s, of %s", q.Version, strings.Join(versions, ", "))) {
		return v, false
	}
	if r, refused := q.Refusals[d]; refused && !check("admission", true, r.Reason, r.Rule, r.Why) {
		return v, false
	}
	return v, true
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
	size := q.packetSize()
	if v, fits := q.fits(s.Engine(), size, tr); !fits {
		return v
	}
	if q.Action == Deliver {
		return s.Deliver([]byte(q.Topic), tr)
	}
	m := policy.Message{
		Topic: []byte(q.Topic), QoS: q.QoS, Retain: q.Retain, PayloadSize: len(q.Payload), PacketSize: size,
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

// packetSize is the bytes of the whole PUBLISH, which has no properties but
// those that were asked about.
func (q *Query) packetSize() int {
	p := mqtt.Publish{Topic: []byte(q.Topic), QoS: q.QoS}
	if q.ResponseTopic != "" {
		p.Properties = p.Properties.AppendString(mqtt.ResponseTopic, q.ResponseTopic)
	}
	return len(p.AppendHead(nil, q.Version, len(q.Payload))) + len(q.Payload)
}

// fits holds the size of a packet to its limit, as the doors do before they
// read it. A will has limits of its own, and the size of its CONNECT depends on
// what else is in it.
func (q *Query) fits(e *policy.Engine, size int, tr *policy.Trace) (policy.Verdict, bool) {
	most, rule := e.Config().General.MaxPacketSize, policy.RuleMaxPacketSize
	switch q.Action {
	case Deliver:
		most, rule = e.Config().General.MaxDeliverySize, policy.RuleMaxDeliverySize
	case Will:
		return policy.Verdict{}, true
	}
	if most <= 0 {
		return policy.Verdict{}, true
	}
	step := policy.Step{
		Check: "packet size", Outcome: policy.Allow, Rule: rule,
		Detail: fmt.Sprintf("%d bytes of packet, at most %d", size, most),
	}
	if size > most {
		step.Outcome = policy.Deny
	}
	tr.Steps = append(tr.Steps, step)
	if size > most {
		return policy.Verdict{Outcome: policy.Deny, Reason: policy.ReasonPacketTooLarge, Rule: rule}, false
	}
	return policy.Verdict{}, true
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
	case v.Rule == policy.RuleMaxPacketSize:
		return "not forwarded, and the connection ends"
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

// refusalNotes tell that it does not come to the packet.
func (q *Query) refusalNotes(doors []policy.Door) []string {
	var notes []string
	for i, d := range doors {
		r, refused := q.Refusals[d]
		switch {
		case !refused || i > 0 && r == q.Refusals[doors[0]]:
			continue
		case i == 0 && len(doors) == 2 && r == q.Refusals[doors[1]]:
			notes = append(notes, "such a client is refused at CONNECT: "+r.Why)
		default:
			notes = append(notes, fmt.Sprintf("such a client is refused at CONNECT in the %s door: %s", d, r.Why))
		}
	}
	return notes
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
	case cfg.Auth.Enabled && q.Username != "" && len(q.Refusals) == 0:
		groups := "given"
		if q.Listed {
			groups = "in the users file"
		}
		notes = append(notes, "the password is taken to be right, and the groups are those "+groups)
	}
	if q.Action != Connect {
		notes = append(notes, q.refusalNotes(doors)...)
	}
	speaks := slices.Contains(cfg.General.ProtocolVersions, q.Version.String())
	if q.Action != Connect && !speaks {
		notes = append(notes, "general.protocol-versions does not list "+q.Version.String()+": such a client is refused at CONNECT")
	}
	_, refused := q.Refusals[policy.DoorGateway]
	if !refused && q.Action == Connect && speaks && slices.Contains(doors, policy.DoorGateway) {
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
