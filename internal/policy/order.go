package policy

// The checks of each packet kind, in their order: one call a family. A check
// returns false when it has denied; the verdict says why. What a check lowers
// or strips it writes into the verdict, and later ones go on from there.

// Publish decides a PUBLISH of the client: limits, ACL (with the Response
// Topic), QoS, retained, inspection. The rate is the session's, between the ACL
// and the rest. It does not allocate.
func (s *Subject) Publish(m Message, tr *Trace) Verdict {
	v := allowed(m.QoS)
	_ = s.limitMessage(&m, &v, tr) &&
		s.aclPublish(&m, &v, tr) &&
		s.aclResponse(&m, &v, tr) &&
		s.qosPublish(&m, &v, tr) &&
		s.retainPublish(&m, &v, tr)
	// Inspection goes here: it looks at what every cheaper check let through.
	return v
}

// Will decides the will of a CONNECT as its PUBLISH would be, with the
// differences of policy section 9: where packets can be changed, a retain flag
// that is not allowed is cleared whatever "on-denied" says, and a refused will
// can be taken out instead of refusing the CONNECT.
func (s *Subject) Will(m Message, tr *Trace) Verdict {
	v := allowed(m.QoS)
	ok := s.limitWill(&m, &v, tr) &&
		s.limitMessage(&m, &v, tr) &&
		s.aclPublish(&m, &v, tr) &&
		s.aclResponse(&m, &v, tr) &&
		s.qosPublish(&m, &v, tr) &&
		s.retainWill(&m, &v, tr)
	if ok {
		return v
	}
	if v.Reason == ReasonACL {
		v.Reason = ReasonWill
	}
	// The agent door cannot take anything out of a packet.
	if s.Engine().cfg.ACL.OnDeniedWill == "remove" && s.identity.Door != DoorAgent {
		v.Outcome, v.RemoveWill = Allow, true
		v.QoS, v.ClearRetain = m.QoS, false
		if tr != nil {
			tr.add(Step{Check: "will", Outcome: Allow, Rule: v.Rule, Detail: "acl.on-denied-will is remove: the CONNECT goes on without its will"})
		}
	}
	return v
}

// Subscribe decides one filter of a SUBSCRIBE as it stands in the packet,
// $share included: limits, ACL, QoS. Verdict.QoS is the QoS to ask the broker
// for.
func (s *Subject) Subscribe(filter []byte, qos byte, tr *Trace) Verdict {
	v := allowed(qos)
	f, ok := s.parseFilter(filter, &v, tr)
	_ = ok &&
		s.limitFilter(&f, &v, tr) &&
		s.aclSubscribe(&f, &v, tr) &&
		s.qosSubscribe(&f, &v, tr)
	return v
}

// Unsubscribe decides one filter of an UNSUBSCRIBE. Only a deny rule that names
// "unsubscribe" and covers the filter refuses it.
func (s *Subject) Unsubscribe(filter []byte, tr *Trace) Verdict {
	v := allowed(0)
	f, ok := s.parseFilter(filter, &v, tr)
	_ = ok &&
		s.limitFilter(&f, &v, tr) &&
		s.aclUnsubscribe(&f, &v, tr)
	return v
}

// Deliver decides a PUBLISH to the client by its real topic, as "subscribe"
// there. Its QoS is never lowered. It does not allocate.
func (s *Subject) Deliver(topic []byte, tr *Trace) Verdict {
	v := allowed(2)
	s.aclTopic(s.bound.subscribe, topic, &v, tr)
	return v
}

// Connect decides by the rules that name "connect".
func (s *Subject) Connect(tr *Trace) Verdict {
	v := allowed(0)
	s.aclConnect(&v, tr)
	return v
}

// allowed is the verdict before any check.
func allowed(qos byte) Verdict {
	return Verdict{Outcome: Allow, Rule: RuleNone, QoS: qos}
}

// deny makes v a denial and returns false, for the checks to return.
func (v *Verdict) deny(reason Reason, rule RuleRef) bool {
	v.Outcome, v.Reason, v.Rule = Deny, reason, rule
	v.ClearRetain, v.QoSRule, v.RetainRule = false, RuleNone, RuleNone
	return false
}
