package policy

import (
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/topic"
)

// ceilingBudget bounds the topics that are looked at for one Ceiling, ownBudget
// those of one client beyond what is known for all with the same rules. When it
// is used up the answer is the highest possible: announcing too much costs a
// downgrade, announcing too little takes something from the client.
const (
	ceilingBudget = 20_000
	ownBudget     = 1_000
)

// stranger is somebody whose name no rule mentions.
var stranger = topic.Values{Username: "\x01stranger's name\x01", ClientID: "\x01stranger's id\x01"}

// Ceiling is the highest QoS that some PUBLISH of this client could keep, and
// whether some topic of it could be retained: what CONNACK announces. A client
// that may publish nothing is told 2: there is nothing to lower. The first call
// for a binding works it out, the others are told.
func (s *Subject) Ceiling() (qos byte, retain bool) {
	if !s.Engine().cfg.General.BlockMode {
		return 2, true // nothing is changed in detect-only
	}
	v, known := s.values(), &s.bound.ceilings[0]
	if s.bound.templates {
		known = &s.bound.ceilings[s.fit]
	}
	known.once.Do(func() {
		v := v
		if v.Username != "" {
			v.Username = stranger.Username
		}
		if v.ClientID != "" {
			v.ClientID = stranger.ClientID
		}
		known.maxQoS, known.retain = s.highestQoS(&v, ceilingBudget), s.someRetained(&v, ceilingBudget)
	})
	qos, retain = known.maxQoS, known.retain
	// Where rules allow a stranger's topics they allow those of others as much.
	// But what qos and retained say may name the topics of one.
	if s.bound.templates && qos < s.possibleQoS() {
		qos = max(qos, s.highestQoS(&v, ownBudget))
	}
	if s.bound.templates && !retain {
		retain = s.someRetained(&v, ownBudget)
	}
	return qos, retain
}

// topics calls visit for at most budget topics of a client with values v that stand for all ways in which an allowed
// PUBLISH can be decided by a rule and by one of the filters given; visit
// returns false when it has seen enough. It reports whether all were looked at.
// No filter that visit asks about has more than depth levels.
//
// As with Set.Decide: a topic t that rule and filter match is decided as the
// word in which they meet is, because what matches that word matches t.
func (s *Subject) topics(v *topic.Values, budget int, filters []string, depth int, visit func(w topic.Word, rule RuleRef) bool) (all bool) {
	set := s.bound.publish
	acl := s.Engine().cfg.ACL.Enabled
	if !acl { // everything is allowed, "$" too
		open := []topic.Entry{{Pattern: "#", Allow: true}, {Pattern: "$/#", Allow: true}}
		for _, f := range filters {
			open = append(open, topic.Entry{Pattern: f, Allow: true})
		}
		set = &topic.Set{Own: topic.NewIndex(open)}
	}
	enough := false
	for _, f := range filters {
		set.EachMeeting(f, v, depth, true, func(w topic.Word, k topic.Key) bool {
			if budget--; budget < 0 {
				return false
			}
			rule := RuleNone
			if acl {
				rule = ruleOf(k)
			}
			enough = !visit(w, rule)
			return !enough
		})
		if enough || budget < 0 {
			break
		}
	}
	return budget >= 0
}

// possibleQoS is the highest that the section lets any topic have.
func (s *Subject) possibleQoS() byte {
	q := &s.Engine().qos
	if !q.enabled {
		return 2
	}
	possible := q.max
	for _, t := range s.Engine().cfg.QoS.PerTopic {
		possible = max(possible, qosOf(t.MaxQoS))
	}
	return possible
}

func (s *Subject) highestQoS(v *topic.Values, budget int) byte {
	q := &s.Engine().qos
	filters, possible := []string{"#"}, s.possibleQoS()
	if q.enabled {
		for _, t := range s.Engine().cfg.QoS.PerTopic {
			filters = append(filters, t.Topic)
		}
	}
	some, best := false, byte(0)
	all := s.topics(v, budget, filters, q.perTopic.Depth(), func(w topic.Word, r RuleRef) bool {
		some = true
		most, _ := q.of(q.perTopic.FirstWord(w))
		best = max(best, min(most, s.ruleMaxQoS(r)))
		return best < possible
	})
	if !all {
		return possible
	}
	if !some {
		return 2
	}
	return best
}

func (s *Subject) someRetained(v *topic.Values, budget int) bool {
	r := &s.Engine().retained
	filters := []string{"#"}
	if r.enabled {
		filters = append(filters, s.Engine().cfg.Retained.AllowedTopics...)
	}
	found := false
	depth := max(r.allowed.Depth(), r.blocked.Depth())
	all := s.topics(v, budget, filters, depth, func(w topic.Word, rule RuleRef) bool {
		keep := s.ruleRetains(rule) && (!r.enabled || r.mayKeep(r.blocked.FirstWord(w), r.allowed.FirstWord(w)))
		found = keep || r.strip
		return !found
	})
	return found || !all
}
