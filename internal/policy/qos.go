package policy

import (
	"fmt"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/topic"
)

// qosSection is "qos", compiled. Entries of perTopic carry their max-qos as
// limit; the first that matches replaces the global value, up or down.
type qosSection struct {
	enabled   bool
	max       byte
	downgrade bool
	perTopic  *topic.Index // nil when it is off
}

func compileQoS(cfg *config.QoS) (qosSection, error) {
	q := qosSection{enabled: cfg.Enabled, max: qosOf(cfg.MaxQoS), downgrade: cfg.Downgrade}
	entries := make([]topic.Entry, len(cfg.PerTopic))
	for i, t := range cfg.PerTopic {
		if err := topic.CheckFilter(t.Topic); err != nil {
			return q, fmt.Errorf("qos: per-topic %q: %w", t.Topic, err)
		}
		entries[i] = topic.Entry{Pattern: t.Topic, Rank: i, Allow: true, Limit: qosOf(t.MaxQoS)}
	}
	if q.enabled {
		q.perTopic = topic.NewIndex(entries)
	}
	return q, nil
}

func qosOf(n int) byte { return byte(max(0, min(n, 2))) }

// of is the section's maximum where an entry decides, and what decided it.
func (q *qosSection) of(k topic.Key) (byte, RuleRef) {
	switch {
	case !q.enabled:
		return 2, RuleNone
	case k == topic.None:
		return q.max, RuleQoS
	}
	return k.Limit(), RuleQoSPerTopic
}

// qosPublish holds a PUBLISH to the deciding rule's max-qos and to the section;
// the stricter wins, and the rule's holds even when the section is off.
func (s *Subject) qosPublish(m *Message, v *Verdict, tr *Trace) bool {
	if v.QoS == 0 && tr == nil {
		return true
	}
	q := &s.Engine().qos
	most, by := q.of(q.perTopic.First(m.Topic))
	if r := s.ruleMaxQoS(v.Rule); r < most {
		most, by = r, v.Rule
	}
	return s.qosHold(most, by, v, tr)
}

// qosSubscribe holds a filter to the least max-qos of the rules that decide
// some topic of it and to the section, of which an entry counts that covers it.
func (s *Subject) qosSubscribe(f *filter, v *Verdict, tr *Trace) bool {
	if v.QoS == 0 && tr == nil {
		return true
	}
	q := &s.Engine().qos
	most, by := q.of(q.perTopic.FirstCovering(f.text))
	if s.Engine().cfg.ACL.Enabled {
		values := s.values()
		if least, k := s.bound.subscribe.Least(f.text, &values); least < most {
			most, by = least, ruleOf(k)
		}
	}
	return s.qosHold(most, by, v, tr)
}

// qosHold lowers the QoS to most, or denies where downgrade is off.
func (s *Subject) qosHold(most byte, by RuleRef, v *Verdict, tr *Trace) bool {
	over := v.QoS > most
	if tr != nil {
		detail := fmt.Sprintf("QoS %d, at most %d", v.QoS, most)
		switch {
		case over && s.Engine().qos.downgrade:
			detail += ": lowered"
		case over:
			detail += ", and qos.downgrade is false"
		}
		tr.add(Step{Check: "qos", Outcome: outcome(!over || s.Engine().qos.downgrade), Rule: by, Detail: detail})
	}
	if !over {
		return true
	}
	if !s.Engine().qos.downgrade {
		return v.deny(ReasonQoS, by)
	}
	v.QoS, v.QoSRule = most, by
	return true
}
