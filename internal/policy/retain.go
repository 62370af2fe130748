package policy

import (
	"fmt"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/topic"
)

// retainedSection is "retained", compiled.
type retainedSection struct {
	enabled          bool
	allow            bool // where neither list says otherwise
	allowed, blocked *topic.Index
	maxSize          int // bytes; 0: no limit
	strip            bool
}

func compileRetained(cfg *config.Retained) (retainedSection, error) {
	r := retainedSection{
		enabled: cfg.Enabled, allow: cfg.AllowRetained, maxSize: cfg.MaxSize, strip: cfg.OnDenied == "strip",
	}
	var err error
	if r.allowed, err = topicList("retained: allowed-topics", cfg.AllowedTopics); err != nil {
		return r, err
	}
	r.blocked, err = topicList("retained: blocked-topics", cfg.BlockedTopics)
	return r, err
}

// topicList compiles a list of filters of which any may match.
func topicList(what string, filters []string) (*topic.Index, error) {
	entries := make([]topic.Entry, len(filters))
	for i, f := range filters {
		if err := topic.CheckFilter(f); err != nil {
			return nil, fmt.Errorf("%s %q: %w", what, f, err)
		}
		entries[i] = topic.Entry{Pattern: f, Rank: i, Limit: topic.NoLimit}
	}
	return topic.NewIndex(entries), nil
}

// mayKeep decides by the lists: blocked beats allowed beats the default.
func (r *retainedSection) mayKeep(blocked, allowed topic.Key) bool {
	return blocked == topic.None && (r.allow || allowed != topic.None)
}

// retainCheck looks for what forbids the retain flag of m: the deciding rule,
// the lists, the size. reason is ReasonNone when nothing does. A deletion (no
// payload) obeys the same rules.
func (s *Subject) retainCheck(m *Message, v *Verdict) (reason Reason, by RuleRef) {
	r := &s.Engine().retained
	switch {
	case !s.ruleRetains(v.Rule):
		return ReasonRetained, v.Rule
	case !r.enabled:
		return ReasonNone, RuleNone
	case !r.mayKeep(r.blocked.First(m.Topic), r.allowed.First(m.Topic)):
		return ReasonRetained, RuleRetained
	case r.maxSize > 0 && m.PayloadSize > r.maxSize:
		return ReasonRetainedSize, RuleRetainedSize
	}
	return ReasonNone, RuleRetained
}

// retainPublish clears or refuses a retain flag that is not allowed.
func (s *Subject) retainPublish(m *Message, v *Verdict, tr *Trace) bool {
	return s.retainHold(m, s.Engine().retained.strip, v, tr)
}

// retainWill clears it where packets can be changed: Tasmota, ESPHome and Home
// Assistant all use retained wills, and one without the flag still tells. The
// agent door treats a will as a PUBLISH.
func (s *Subject) retainWill(m *Message, v *Verdict, tr *Trace) bool {
	return s.retainHold(m, s.Engine().retained.strip || s.identity.Door != DoorAgent, v, tr)
}

func (s *Subject) retainHold(m *Message, strip bool, v *Verdict, tr *Trace) bool {
	if !m.Retain {
		return true
	}
	reason, by := s.retainCheck(m, v)
	if tr != nil {
		tr.add(Step{Check: "retained", Outcome: outcome(reason == ReasonNone || strip), Rule: by, Detail: s.retainDetail(m, reason, by, strip)})
	}
	if reason == ReasonNone {
		return true
	}
	if !strip {
		return v.deny(reason, by)
	}
	v.ClearRetain, v.RetainRule = true, by
	return true
}

func (s *Subject) retainDetail(m *Message, reason Reason, by RuleRef, strip bool) string {
	r := &s.Engine().retained
	var detail string
	switch {
	case reason == ReasonNone && !r.enabled:
		return "retained.enabled is false and the rule does not forbid it"
	case reason == ReasonNone:
		return fmt.Sprintf("topic %q may be retained, %s", m.Topic, counted(m.PayloadSize, "bytes"))
	case reason == ReasonRetainedSize:
		detail = fmt.Sprintf("%s, at most %d in a retained message", counted(m.PayloadSize, "bytes of payload"), r.maxSize)
	case by > 0:
		detail = "the rule's allow-retain is false"
	case r.blocked.First(m.Topic) != topic.None:
		detail = fmt.Sprintf("topic %q is in blocked-topics", m.Topic)
	default:
		detail = fmt.Sprintf("allow-retained is false and topic %q is not in allowed-topics", m.Topic)
	}
	if strip {
		detail += ": the flag is cleared"
	}
	return detail
}
