package session

import (
	"slices"
	"strings"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
)

const (
	// maxOwn bounds our own UNSUBSCRIBEs that wait for an answer.
	maxOwn = 256
	// ownBytes is how many bytes of filters we put into one, ownHead how many
	// come before them at most.
	ownBytes = 64 << 10
	ownHead  = 8
)

// Policy puts a new subject in force: after a reload, or when the identity
// changed. Who may not connect any more is ended. Subscriptions that it does not
// allow any more are ended upstream, a shared one by ending the connection: a
// delivery filtered at one member would be lost to its group. A nil subject ends
// the connection as revoked.
func (s *Session) Policy(now Time, subj *policy.Subject, fx *Effects) {
	s.now = now
	switch {
	case s.state == stateEnded || s.subj == nil:
	case subj == nil:
		s.ending(faultOf(CausePolicy, policy.ReasonNotAllowed, policy.RuleRevoked), fx)
	default:
		s.subj = subj
		s.generation++
		switch {
		case s.set.detect:
		case s.state == stateDial:
			s.redecide(fx)
		default:
			s.recheck(fx)
		}
	}
	s.finish(fx)
}

// recheck applies a new policy to who is connected, and to the subscriptions
// held.
func (s *Session) recheck(fx *Effects) {
	if v := s.subj.Connect(nil); !v.Allowed() {
		s.ending(faultOf(CausePolicy, v.Reason, v.Rule), fx)
		return
	}
	if s.state != stateOpen {
		return
	}
	var list []lost
	for _, f := range s.held.sorted() {
		if v := s.subj.Subscribe([]byte(f), 0, nil); !v.Allowed() {
			list = append(list, lost{f, v})
		}
	}
	s.withdraw(list, fx)
}

// lost is a subscription that the policy does not allow any more.
type lost struct {
	filter string
	why    policy.Verdict
}

func (l lost) shared() bool { return strings.HasPrefix(l.filter, sharePrefix) }

// withdraw is revoke for what a new policy takes away, and reports it: one
// event for each rule that does.
func (s *Session) withdraw(list []lost, fx *Effects) {
	if s.state == stateEnded {
		return
	}
	told := func(k Kind, d Decision, l lost) {
		s.event(fx, Event{
			Kind: k, Decision: d, Reason: l.why.Reason, Rule: l.why.Rule,
			Packet: mqtt.SUBSCRIBE, From: mqtt.Client, Filters: [][]byte{[]byte(l.filter)},
		})
	}
	if i := slices.IndexFunc(list, lost.shared); i >= 0 {
		told(KindBlocked, DecisionClose, list[i])
	} else if s.set.Can.Reply {
		at := make(map[policy.RuleRef]int) // in fx.Events
		for _, l := range list {
			i, ok := at[l.why.Rule]
			if ok {
				fx.Events[i].Filters = append(fx.Events[i].Filters, []byte(l.filter))
				continue
			}
			at[l.why.Rule] = len(fx.Events)
			told(KindSubscriptionRemoved, DecisionDrop, l)
		}
	}
	s.revoke(list, fx)
}

// revoke ends subscriptions upstream that the policy does not allow any more. A
// shared one ends the connection: a delivery filtered at one member would be
// lost to its group, and the broker deals what is unacknowledged to others.
func (s *Session) revoke(list []lost, fx *Effects) {
	if s.state == stateEnded {
		return
	}
	if i := slices.IndexFunc(list, lost.shared); i >= 0 {
		s.ending(faultOf(CausePolicy, list[i].why.Reason, list[i].why.Rule), fx)
		return
	}
	if !s.set.Can.Reply {
		return
	}
	var group []string
	size, most := 0, ownBytes
	if s.maxUpstream > 0 {
		most = min(most, int(s.maxUpstream)-ownHead)
	}
	for _, l := range list {
		f := l.filter
		s.held.remove(f)
		if size += len(f) + 2; size > most && len(group) > 0 {
			s.unsubscribeOurs(group, fx)
			group, size = nil, len(f)+2
		}
		group = append(group, f)
	}
	if len(group) > 0 {
		s.unsubscribeOurs(group, fx)
	}
}

// unsubscribeOurs sends an UNSUBSCRIBE of ours, with the highest packet id that
// is not in use.
func (s *Session) unsubscribeOurs(group []string, fx *Effects) {
	if s.state == stateEnded {
		return
	}
	id := uint16(0xFFFF)
	for ; id > 0 && (s.ex.get(id) != nil || s.requests.uses(id)); id-- {
	}
	if id == 0 || s.requests != nil && s.requests.own >= maxOwn {
		// A broker that leaves so many unanswered keeps subscriptions alive
		// that the policy has ended.
		s.ending(faultOf(CausePolicy, policy.ReasonACL, policy.RuleUpstream), fx)
		return
	}
	u := mqtt.Unsubscribe{PacketID: id}
	for _, f := range group {
		u.Filters = append(u.Filters, []byte(f))
	}
	s.request(request{id: id, typ: mqtt.UNSUBSCRIBE, own: true, asked: len(group)})
	s.own(fx, mqtt.Broker, u.Append(fx.Scratch, s.version))
}
