package agent

import (
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/audit"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/session"
)

// report audits what a call of the session said, counts it, and returns what
// the answer tells of it. split says that a refusal closes only because the
// packet had begun in an earlier frame. The caller holds mu.
func (ws *webSocket) report(a *Agent, fx *session.Effects, split bool) note {
	var n note
	if len(fx.Events) == 0 {
		return n
	}
	now := time.Now()
	told := false // n is of this packet
	for i := range fx.Events {
		e := &fx.Events[i]
		if e.Count > 0 { // no new one
			a.audit.Emit(ws.who.Event(ws.sess, e, now))
			continue
		}
		if !e.Further {
			a.stats.count(e.Kind, e.Reason)
		}
		if e.Kind == session.KindConnected {
			ws.connected(a)
		}
		out := ws.who.Event(ws.sess, e, now)
		m := note{tags: out.Tags, rank: rankOf(e.Kind)}
		if out.Rule != "" {
			m.rules = []string{out.Rule}
		}
		switch {
		case !e.Further:
			told = m.rank > n.rank
			n = n.or(m)
		case told && !slices.Contains(n.rules, out.Rule):
			n.rules = append(n.rules, out.Rule)
		}
		if split && e.Kind == session.KindBlocked && ws.repeated(a, e, now) {
			// Clients that cut packets into frames reconnect and send the same
			// again and again.
			continue
		}
		if !a.audit.Skips(e) {
			a.audit.Emit(out)
		}
	}
	return n
}

// What matters more in an answer that has room for one thing.
const (
	rankOther = iota + 1
	rankDetected
	rankBlocked
)

func rankOf(k session.Kind) int {
	switch k {
	case session.KindBlocked:
		return rankBlocked
	case session.KindDetected:
		return rankDetected
	case session.KindAllowed, session.KindDisconnected:
		return 0
	}
	return rankOther
}

func blockedTags(r policy.Reason) []string { return []string{"mqtt", "blocked", r.Tag()} }

// block audits a refusal that the session does not see.
func (ws *webSocket) block(a *Agent, r policy.Reason, check string) note {
	return a.block(ws.set, ws.id, ws.addr, r, check)
}

// block audits a refusal without a session: check is what stands for the rule.
func (a *Agent) block(set *settings, id string, addr netip.Addr, r policy.Reason, check string) note {
	if check == "" {
		check = r.Rule().Builtin()
	}
	e := audit.Event{
		Time: time.Now(), Tags: blockedTags(r), Decision: "close", Reason: r.Tag(), Rule: check,
		Door: policy.DoorAgent.String(), CorrelationID: id,
	}
	rank := rankBlocked
	if !set.block {
		e.Tags, e.Decision, rank = []string{"mqtt", "detect-only", r.Tag()}, "detect", rankDetected
		a.stats.count(session.KindDetected, r)
	} else {
		a.stats.count(session.KindBlocked, r)
	}
	e.Event = strings.Join(e.Tags, ",")
	if addr.IsValid() {
		e.ClientIP = addr.String()
	}
	a.audit.Emit(e)
	return note{tags: e.Tags, rules: []string{e.Rule}, rank: rank}
}

// repeats remembers which identity was refused for what a short while ago.
type repeats struct {
	mu   sync.Mutex
	last map[repeat]time.Time
}

type repeat struct {
	user, client string
	addr         netip.Addr
	reason       policy.Reason
	rule         policy.RuleRef
}

const (
	repeatTime = time.Minute
	maxRepeats = 4096
)

func newRepeats() *repeats { return &repeats{last: map[repeat]time.Time{}} }

// repeated reports whether this refusal of this identity was audited less than
// a minute ago.
func (ws *webSocket) repeated(a *Agent, e *session.Event, now time.Time) bool {
	k := repeat{addr: ws.addr, reason: e.Reason, rule: e.Rule}
	if s := ws.sess.Subject(); s != nil {
		k.user, k.client = s.Identity().Username, s.Identity().ClientID
	} else if c := ws.sess.Connect(); c != nil {
		k.user, k.client = c.Username, c.ClientID
	} else {
		return false
	}
	return a.repeats.again(k, now)
}

func (r *repeats) again(k repeat, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if last, ok := r.last[k]; ok && now.Sub(last) < repeatTime {
		return true
	}
	if len(r.last) < maxRepeats {
		r.last[k] = now
	}
	return false
}

// forget takes old ones out.
func (r *repeats) forget(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k, last := range r.last {
		if now.Sub(last) >= repeatTime {
			delete(r.last, k)
		}
	}
}
