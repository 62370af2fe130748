package policy

import (
	"fmt"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/topic"
)

// filter is one filter of a SUBSCRIBE or UNSUBSCRIBE, taken apart.
type filter struct {
	raw    []byte
	text   string // without $share/GROUP/
	shared bool
}

// parseFilter refuses what is no filter: the codec has looked before, and what
// it let through by mistake must not reach a broker that reads it otherwise.
func (s *Subject) parseFilter(raw []byte, v *Verdict, tr *Trace) (filter, bool) {
	f := filter{raw: raw}
	err := topic.CheckFilter(raw)
	if err == nil {
		var rest []byte
		_, rest, f.shared, err = topic.SplitShare(raw)
		f.text = string(rest)
	}
	if err != nil {
		if tr != nil {
			tr.add(Step{Check: "filter", Outcome: Deny, Rule: RuleNone, Detail: fmt.Sprintf("filter %q: %v", raw, err)})
		}
		return f, v.deny(ReasonMalformed, RuleNone)
	}
	return f, true
}

// limitMessage holds a PUBLISH or a will to general.limits.
func (s *Subject) limitMessage(m *Message, v *Verdict, tr *Trace) bool {
	l := &s.Engine().cfg.General.Limits
	return limit("bytes of topic", len(m.Topic), l.TopicBytes, RuleTopicBytes, v, tr) &&
		limit("levels of topic", levels(m.Topic, l.TopicLevels), l.TopicLevels, RuleTopicLevels, v, tr) &&
		limit("user properties", m.UserProperties, l.UserProperties, RuleUserProperties, v, tr)
}

// limitWill holds a will's payload to general.limits.
func (s *Subject) limitWill(m *Message, v *Verdict, tr *Trace) bool {
	return limit("bytes of will", m.PayloadSize, s.Engine().cfg.General.Limits.WillBytes, RuleWillBytes, v, tr)
}

// limitFilter holds a filter to general.limits. The group of a shared one
// counts as bytes, not as levels: it is none.
func (s *Subject) limitFilter(f *filter, v *Verdict, tr *Trace) bool {
	l := &s.Engine().cfg.General.Limits
	return limit("bytes of filter", len(f.raw), l.TopicBytes, RuleTopicBytes, v, tr) &&
		limit("levels of filter", levels(f.text, l.TopicLevels), l.TopicLevels, RuleTopicLevels, v, tr)
}

// levels counts only where a limit asks for it.
func levels[T topic.Text](s T, most int) int {
	if most <= 0 {
		return 0
	}
	return topic.Levels(s)
}

// limit denies what is more than most; most 0 is no limit.
func limit(what string, n, most int, rule RuleRef, v *Verdict, tr *Trace) bool {
	if most <= 0 {
		return true
	}
	if tr != nil {
		tr.add(Step{Check: "limits", Outcome: outcome(n <= most), Rule: rule, Detail: fmt.Sprintf("%s, at most %d", counted(n, what), most)})
	}
	if n > most {
		return v.deny(ReasonLimit, rule)
	}
	return true
}
