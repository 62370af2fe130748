package policy

import (
	"fmt"
	"strings"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/topic"
)

// Trace collects the steps of a decision. A nil *Trace collects nothing and
// costs nothing.
type Trace struct{ Steps []Step }

// add appends a step. Callers that build a detail ask for t != nil first, so
// that nothing is formatted on the path.
func (t *Trace) add(s Step) {
	if t != nil {
		t.Steps = append(t.Steps, s)
	}
}

// outcome is Allow for true.
func outcome(allow bool) Outcome {
	if allow {
		return Allow
	}
	return Deny
}

// counted is n of what, which is plural.
func counted(n int, what string) string {
	if n == 1 {
		what = singular.Replace(what)
	}
	return fmt.Sprintf("%d %s", n, what)
}

var singular = strings.NewReplacer("bytes", "byte", "levels", "level", "properties", "property")

// why says how a decider reaches a topic: the pattern that matches, or what the
// default is.
func (s *Subject) why(r RuleRef, name string) string {
	if r <= 0 {
		if len(name) > 0 && name[0] == '$' {
			return fmt.Sprintf("no rule matches topic %q, and no default reaches a first level that begins with $", name)
		}
		return fmt.Sprintf("no rule matches topic %q", name)
	}
	rule := s.Engine().rule(r)
	b := binding{id: &s.identity, groups: groupsInForce(&s.identity)}
	for _, p := range rule.patterns {
		for _, filled := range p.fill(nil, &b) {
			if !topic.Match(filled, name) {
				continue
			}
			if p.values != 0 {
				return fmt.Sprintf("topic %q matches %q, which is %q for this client", name, filled, p.text)
			}
			return fmt.Sprintf("topic %q matches %q", name, filled)
		}
	}
	return fmt.Sprintf("topic %q", name)
}
