package policy

import (
	"fmt"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/topic"
)

// ruleOf is the rule that a key of the subject's sets stands for.
func ruleOf(k topic.Key) RuleRef {
	if k == topic.None {
		return RuleDefaultAction
	}
	return ruleAt(k.Rank())
}

// aclTopic decides one topic by first match. v.Rule is what decided.
func (s *Subject) aclTopic(set *topic.Set, name []byte, v *Verdict, tr *Trace) bool {
	if len(name) == 0 { // not even without an ACL: [MQTT-4.7.3-1]
		return v.deny(ReasonMalformed, RuleNone)
	}
	if !s.Engine().cfg.ACL.Enabled {
		if tr != nil {
			tr.add(Step{Check: "acl", Outcome: Allow, Rule: RuleNone, Detail: "acl.enabled is false"})
		}
		return true
	}
	values := s.values()
	allow, k := set.Allows(name, &values)
	v.Rule = ruleOf(k)
	if tr != nil {
		tr.add(Step{Check: "acl", Outcome: outcome(allow), Rule: v.Rule, Detail: s.why(v.Rule, string(name))})
	}
	if !allow {
		return v.deny(ReasonACL, v.Rule)
	}
	return true
}

func (s *Subject) aclPublish(m *Message, v *Verdict, tr *Trace) bool {
	return s.aclTopic(s.bound.publish, m.Topic, v, tr)
}

// aclResponse asks that the sender could itself publish or subscribe where it
// makes others answer. v.Rule stays what decided the topic.
func (s *Subject) aclResponse(m *Message, v *Verdict, tr *Trace) bool {
	acl := &s.Engine().cfg.ACL
	if m.ResponseTopic == nil || !acl.Enabled || !acl.CheckResponseTopic {
		return true
	}
	if err := topic.CheckName(m.ResponseTopic); err != nil { // [MQTT-3.3.2-14]
		if tr != nil {
			tr.add(Step{Check: "response-topic", Outcome: Deny, Rule: RuleNone, Detail: fmt.Sprintf("%q: %v", m.ResponseTopic, err)})
		}
		return v.deny(ReasonResponseTopic, RuleNone)
	}
	action, values := "publish", s.values()
	allow, k := s.bound.publish.Allows(m.ResponseTopic, &values)
	if !allow {
		action = "subscribe"
		allow, k = s.bound.subscribe.Allows(m.ResponseTopic, &values)
	}
	if tr != nil {
		detail := "as " + action + ": " + s.why(ruleOf(k), string(m.ResponseTopic))
		if !allow {
			detail = "neither publish nor subscribe is allowed there; " + detail
		}
		tr.add(Step{Check: "response-topic", Outcome: outcome(allow), Rule: ruleOf(k), Detail: detail})
	}
	if !allow {
		return v.deny(ReasonResponseTopic, ruleOf(k))
	}
	return true
}

// aclSubscribe decides a filter over all topics that it matches.
func (s *Subject) aclSubscribe(f *filter, v *Verdict, tr *Trace) bool {
	if !s.Engine().cfg.ACL.Enabled {
		if tr != nil {
			tr.add(Step{Check: "acl", Outcome: Allow, Rule: RuleNone, Detail: "acl.enabled is false"})
		}
		return true
	}
	mode := s.mode(f.shared)
	values := s.values()
	d := s.bound.subscribe.Decide(f.text, &values, mode, tr != nil)
	v.Rule = ruleOf(d.Key)
	if tr != nil {
		var detail string
		switch {
		case mode == topic.Strict && d.Allow:
			detail = "every topic that %q matches is allowed, such as: "
		case mode == topic.Strict:
			detail = "%q matches topics that are not allowed, such as: "
		case d.Allow:
			detail = "%q matches topics that are allowed, such as: "
		default:
			detail = "no topic that %q matches is allowed, such as: "
		}
		tr.add(Step{
			Check: "acl", Outcome: outcome(d.Allow), Rule: v.Rule, Witness: d.Witness,
			Detail: "subscribe-mode " + s.modeName(f.shared) + ": " + fmt.Sprintf(detail, f.text) + s.why(v.Rule, d.Witness),
		})
	}
	if !d.Allow {
		return v.deny(ReasonACL, v.Rule)
	}
	return true
}

// mode is how filters are decided. A shared one is always strict: what is
// filtered at one member is lost to the group [MQTT-4.8.2-6].
func (s *Subject) mode(shared bool) topic.Mode {
	if shared {
		return topic.Strict
	}
	switch s.Engine().cfg.ACL.SubscribeMode {
	case "strict":
		return topic.Strict
	case "filter":
		return topic.Filter
	}
	return topic.Mode(s.identity.Door == DoorGateway)
}

func (s *Subject) modeName(shared bool) string {
	name := "strict"
	if s.mode(shared) == topic.Filter {
		name = "filter"
	}
	switch {
	case shared:
		return name + " (shared subscription)"
	case s.Engine().cfg.ACL.SubscribeMode == "strict", s.bound.engine.cfg.ACL.SubscribeMode == "filter":
		return name
	}
	return name + " (auto, " + s.identity.Door.String() + " door)"
}

func (s *Subject) aclUnsubscribe(f *filter, v *Verdict, tr *Trace) bool {
	if !s.Engine().cfg.ACL.Enabled {
		return true
	}
	values := s.values()
	k := s.bound.unsubscribe.FirstCovering(f.text, &values)
	if k == topic.None {
		if tr != nil {
			tr.add(Step{Check: "acl", Outcome: Allow, Rule: RuleNone, Detail: fmt.Sprintf("no rule that names unsubscribe covers %q", f.text)})
		}
		return true
	}
	v.Rule = ruleOf(k)
	if tr != nil {
		tr.add(Step{Check: "acl", Outcome: outcome(k.Allow()), Rule: v.Rule, Detail: fmt.Sprintf("names unsubscribe and covers %q", f.text)})
	}
	if !k.Allow() {
		return v.deny(ReasonACL, v.Rule)
	}
	return true
}

func (s *Subject) aclConnect(v *Verdict, tr *Trace) {
	r := s.bound.connect
	if !s.Engine().cfg.ACL.Enabled || r == RuleNone {
		if tr != nil {
			tr.add(Step{Check: "connect", Outcome: Allow, Rule: RuleNone, Detail: "no rule names connect"})
		}
		return
	}
	allow, detail := s.Engine().cfg.ACL.DefaultAction == "allow", "no rule that names connect holds for this client"
	if r > 0 {
		allow, detail = s.Engine().rule(r).allow, "the first rule that names connect and holds for this client"
	}
	v.Rule = r
	if tr != nil {
		tr.add(Step{Check: "connect", Outcome: outcome(allow), Rule: r, Detail: detail})
	}
	if !allow {
		v.deny(ReasonConnectRule, r)
	}
}

// ruleMaxQoS is the highest QoS that the deciding rule allows.
func (s *Subject) ruleMaxQoS(r RuleRef) byte {
	if r <= 0 {
		return 2
	}
	return min(s.Engine().rule(r).limit, 2)
}

// ruleRetains reports whether the deciding rule lets a message be retained.
func (s *Subject) ruleRetains(r RuleRef) bool { return r <= 0 || !s.Engine().rule(r).noRetain }
