package policy

// Unfit names the first deny rule that holds for an identity and cannot be
// filled with its user name, client id or a group of it, RuleNone when there is
// none: such a rule matches nothing, so that what it denies would be left to
// the rules behind it and to default-action. Who is admitted must be fit.
// Where nothing behind the rule could allow anything, it is not named. The
// reason is ReasonClientID where the client id is at fault.
func (e *Engine) Unfit(id *Identity) (Reason, RuleRef) {
	b := binding{id: id, groups: groupsInForce(id)}
	// An empty value is no name that the rule could have meant.
	var unfit values
	bad := func(s string, v values) {
		if s != "" && !Fits(s) {
			unfit |= v
		}
	}
	bad(id.Username, valueUsername)
	bad(id.ClientID, valueClientID)
	for _, g := range b.groups {
		bad(g, valueGroup)
	}
	if unfit == 0 || !e.cfg.ACL.Enabled {
		return ReasonNone, RuleNone
	}
	if e.memos > 0 {
		b.memo = make([]int8, e.memos)
	}
	for _, i := range e.denyTemplates {
		r := &e.rules[i]
		if r.values&unfit == 0 || !e.opens(int(i)) || !r.when.holds(&b) {
			continue
		}
		if r.values&unfit&valueClientID != 0 {
			return ReasonClientID, ruleAt(int(i))
		}
		return ReasonNotAllowed, ruleAt(int(i))
	}
	return ReasonNone, RuleNone
}

// opens reports whether something could be allowed where the deny rule at i
// does not match. An UNSUBSCRIBE is allowed unless a rule denies it.
func (e *Engine) opens(i int) bool {
	return i < e.lastAllow || e.cfg.ACL.DefaultAction == "allow" || e.rules[i].actions&actUnsubscribe != 0
}
