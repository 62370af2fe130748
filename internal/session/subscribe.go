package session

import (
	"bytes"
	"math"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
)

// sharePrefix is how the filter of a shared subscription begins.
const sharePrefix = "$share/"

// split is a request of the client divided into what goes upstream and what is
// refused here.
type split struct {
	filters []asked
	sent    int
	lowered bool           // a QoS was lowered
	by      policy.RuleRef // what lowered the first
	refused []refusal      // in the order of what came first
	held    []lost         // refused by the rules, and held by this session
	whole   int            // so many filters were refused together: filters is empty
	code    byte           // of whole
}

// refusal is what one rule refused of a request, for one reason.
type refusal struct {
	reason policy.Reason
	rule   policy.RuleRef
	named  [][]byte // the first namedFilters
	more   int      // so many others
}

const (
	// namedFilters is how many filters of a refusal are told.
	namedFilters = 16
	// namedRules is how many refusals of a request are told apart. What is beyond
	// is told under policy.RuleOthers, one for each reason.
	namedRules = 16
)

func (d *split) refuse(filter []byte, code byte, v policy.Verdict) {
	r := d.refusalOf(v.Reason, v.Rule)
	if len(r.named) < namedFilters {
		r.named = append(r.named, filter)
	} else {
		r.more++
	}
	d.filters = append(d.filters, asked{filter: string(filter), code: code})
}

func (d *split) refusalOf(reason policy.Reason, rule policy.RuleRef) *refusal {
	for i := range d.refused {
		if r := &d.refused[i]; r.rule == rule && r.reason == reason {
			return r
		}
	}
	if len(d.refused) >= namedRules && rule != policy.RuleOthers {
		return d.refusalOf(reason, policy.RuleOthers)
	}
	d.refused = append(d.refused, refusal{reason: reason, rule: rule})
	return &d.refused[len(d.refused)-1]
}

// refuseWhole refuses n filters together, of which these are the first.
func (d *split) refuseWhole(first [][]byte, n int, code byte, v policy.Verdict) {
	d.whole, d.code = n, code
	d.refused = []refusal{{reason: v.Reason, rule: v.Rule, named: first, more: n - len(first)}}
}

func (d *split) grant(filter []byte) {
	d.filters = append(d.filters, asked{filter: string(filter), sent: true})
	d.sent++
}

// subscribe decides a SUBSCRIBE filter by filter.
func (s *Session) subscribe(h mqtt.Header, body, b []byte, pos int, fx *Effects) int {
	var p mqtt.Subscribe
	more, err := p.ParseFirst(h, s.version, body, s.mostFilters())
	if err != nil {
		return s.malformed(mqtt.Client, h, b, pos, err, fx)
	}
	if !s.answerFits(len(p.Filters) + more) {
		return s.fault(mqtt.Client, h, b, pos, faultOf(CauseProtocol, policy.ReasonPacketTooLarge, policy.RuleMaxDeliverySize), fx)
	}
	if n, ok := s.mayRequest(p.PacketID, h, b, pos, fx); !ok {
		return n
	}
	if !s.tally(mqtt.Client, h) {
		return s.flood(h, pos, fx)
	}
	var d split
	if v := s.requestLimits(more, p.UserProperties); v.Allowed() {
		d = s.divide(&p)
	} else {
		first := make([][]byte, min(len(p.Filters), namedFilters))
		for i := range first {
			first[i] = p.Filters[i].Filter
		}
		d.refuseWhole(first, len(p.Filters)+more, filterCode(s.version, v.Reason), v)
	}
	if d.lowered && !s.set.detect {
		dec, k, _ := s.set.Can.changes()
		s.often(fx, Event{
			Kind: k, Decision: dec, Reason: policy.ReasonQoS, Rule: d.by,
			Packet: mqtt.SUBSCRIBE, From: mqtt.Client, Filters: d.granted(),
		})
	}
	if n, done := s.refuseSplit(&d, p.PacketID, h, b, pos, fx); done {
		return n
	}
	s.request(request{id: p.PacketID, typ: mqtt.SUBSCRIBE, split: len(d.refused) > 0, asked: d.sent, filters: d.filters})
	if s.set.Can.Rewrite && !s.set.detect && (len(d.refused) > 0 || d.lowered) {
		p.Filters = sent(p.Filters, d.filters)
		s.ownNow(fx, mqtt.Broker, p.Append(fx.Scratch, s.version))
	} else {
		s.passBody(mqtt.Client, h, b, pos, 0, fx)
	}
	s.revoke(d.held, fx)
	return h.Size()
}

// divide decides the filters of a SUBSCRIBE, and lowers in p the QoS of those
// that may only have less.
func (s *Session) divide(p *mqtt.Subscribe) (d split) {
	most := s.set.Config.General.Limits.Subscriptions
	room := most - s.held.len() - s.requests.pending()
	fresh := 0 // granted, and not held before
	for i := range p.Filters {
		f := &p.Filters[i]
		filter := topicUp(f.Filter)
		held := s.held.has(string(filter))
		v := s.subj.Subscribe(filter, f.QoS, nil)
		if v.Allowed() && most > 0 && fresh >= room && !held {
			v = policy.Verdict{Reason: policy.ReasonLimit, Rule: policy.RuleSubscriptions}
		}
		if !v.Allowed() {
			d.refuse(filter, filterCode(s.version, v.Reason), v)
			if v.Reason == policy.ReasonACL && held {
				d.held = append(d.held, lost{string(filter), v})
			}
			continue
		}
		if v.QoS < f.QoS {
			if !d.lowered {
				d.lowered, d.by = true, v.QoSRule
			}
			if s.set.Can.Rewrite && !s.set.detect {
				f.QoS = v.QoS
			}
		}
		if !held {
			fresh++
		}
		d.grant(filter)
	}
	return d
}

// unsubscribe decides an UNSUBSCRIBE filter by filter.
func (s *Session) unsubscribe(h mqtt.Header, body, b []byte, pos int, fx *Effects) int {
	var p mqtt.Unsubscribe
	more, err := p.ParseFirst(h, s.version, body, s.mostFilters())
	if err != nil {
		return s.malformed(mqtt.Client, h, b, pos, err, fx)
	}
	if !s.answerFits(len(p.Filters) + more) {
		return s.fault(mqtt.Client, h, b, pos, faultOf(CauseProtocol, policy.ReasonPacketTooLarge, policy.RuleMaxDeliverySize), fx)
	}
	if n, ok := s.mayRequest(p.PacketID, h, b, pos, fx); !ok {
		return n
	}
	if !s.tally(mqtt.Client, h) {
		return s.flood(h, pos, fx)
	}
	var d split
	if v := s.requestLimits(more, p.UserProperties); v.Allowed() {
		for _, f := range p.Filters {
			filter := topicUp(f)
			if v := s.subj.Unsubscribe(filter, nil); v.Allowed() {
				d.grant(filter)
			} else {
				d.refuse(filter, byte(unsubackRefusal), v)
			}
		}
	} else {
		first := p.Filters[:min(len(p.Filters), namedFilters)]
		d.refuseWhole(first, len(p.Filters)+more, byte(unsubackRefusal), v)
	}
	if n, done := s.refuseSplit(&d, p.PacketID, h, b, pos, fx); done {
		return n
	}
	s.request(request{id: p.PacketID, typ: mqtt.UNSUBSCRIBE, split: len(d.refused) > 0, asked: d.sent, filters: d.filters})
	if s.set.Can.Rewrite && !s.set.detect && len(d.refused) > 0 {
		p.Filters = sent(p.Filters, d.filters)
		s.ownNow(fx, mqtt.Broker, p.Append(fx.Scratch, s.version))
	} else {
		s.passBody(mqtt.Client, h, b, pos, 0, fx)
	}
	return h.Size()
}

// mostFilters is how many filters of a request are looked at: with more it is
// refused whole.
func (s *Session) mostFilters() int {
	if most := s.set.Config.General.Limits.FiltersPerSubscribe; most > 0 {
		return most
	}
	return math.MaxInt
}

// requestLimits judges a request as a whole. more: it has that many filters
// beyond mostFilters.
func (s *Session) requestLimits(more, userProperties int) policy.Verdict {
	l := &s.set.Config.General.Limits
	if more > 0 {
		return policy.Verdict{Reason: policy.ReasonLimit, Rule: policy.RuleFiltersPerSubscribe}
	}
	if l.UserProperties > 0 && userProperties > l.UserProperties {
		return policy.Verdict{Reason: policy.ReasonLimit, Rule: policy.RuleUserProperties}
	}
	return policy.Verdict{Outcome: policy.Allow, Rule: policy.RuleNone}
}

// refuseSplit reports what was refused of a request. done: nothing of it goes
// upstream, and n bytes are consumed.
func (s *Session) refuseSplit(d *split, id uint16, h mqtt.Header, b []byte, pos int, fx *Effects) (n int, done bool) {
	if len(d.refused) == 0 {
		s.allowedFilters(d, h, pos, fx)
		return 0, false
	}
	first := &d.refused[0]
	if s.set.detect {
		s.tellRefused(d, KindDetected, DecisionDetect, h.Type, fx)
		s.verdict(fx, mqtt.Client, h, 0, pos, DecisionDetect, first.reason, first.rule)
		for i := range d.filters {
			if !d.filters[i].sent {
				d.filters[i].sent, d.sent = true, d.sent+1
			}
		}
		return 0, false
	}
	// What the agent door cannot split it refuses whole.
	all := d.sent == 0 || !s.set.Can.Rewrite
	closes := s.set.onDeny == onDenyDisconnect && all || s.set.agentClose
	dec := DecisionRewrite
	switch {
	case closes:
		dec = DecisionClose
	case all:
		dec = DecisionDrop
	}
	s.tellRefused(d, KindBlocked, dec, h.Type, fx)
	if s.denied() {
		return s.tooManyDenials(h, b, pos, fx), true
	}
	s.verdict(fx, mqtt.Client, h, 0, pos, dec, first.reason, first.rule)
	switch {
	case closes:
		s.ending(faultOf(CausePolicy, first.reason, first.rule), fx)
	case !all:
		return 0, false
	default:
		if s.set.Can.Reply && s.set.onDeny == onDenyAck {
			s.answerSplit(d, id, h.Type, fx)
		}
		s.revoke(d.held, fx)
	}
	return h.Size(), true
}

// answerSplit answers a request of which nothing goes upstream.
func (s *Session) answerSplit(d *split, id uint16, typ mqtt.Type, fx *Effects) {
	a := mqtt.Suback{PacketID: id, Codes: bytes.Repeat([]byte{d.code}, d.whole)}
	if typ == mqtt.SUBSCRIBE || s.version == mqtt.V5 {
		for _, f := range d.filters {
			a.Codes = append(a.Codes, f.code)
		}
	}
	answer := mqtt.SUBACK
	if typ == mqtt.UNSUBSCRIBE {
		answer = mqtt.UNSUBACK
	}
	s.own(fx, mqtt.Client, a.Append(fx.Scratch, answer, s.version))
}

func (s *Session) allowedFilters(d *split, h mqtt.Header, pos int, fx *Effects) {
	dec := DecisionAllow
	if d.lowered && s.set.Can.Rewrite && !s.set.detect {
		dec = DecisionRewrite
	}
	s.verdict(fx, mqtt.Client, h, 0, pos, dec, policy.ReasonNone, policy.RuleNone)
	if s.set.includeAll && dec == DecisionAllow {
		s.event(fx, Event{
			Kind: KindAllowed, Rule: policy.RuleNone, Packet: h.Type, From: mqtt.Client, Filters: d.granted(),
		})
	}
}

// tellRefused reports each rule that refused something of a request.
func (s *Session) tellRefused(d *split, k Kind, dec Decision, typ mqtt.Type, fx *Effects) {
	for i := range d.refused {
		r := &d.refused[i]
		s.often(fx, Event{
			Kind: k, Decision: dec, Reason: r.reason, Rule: r.rule, Further: i > 0,
			Packet: typ, From: mqtt.Client, Filters: r.named, MoreFilters: r.more,
		})
	}
}

// sent are the filters of a packet that go upstream, in the memory of all.
func sent[F any](all []F, filters []asked) []F {
	kept := all[:0]
	for i, f := range all {
		if filters[i].sent {
			kept = append(kept, f)
		}
	}
	return kept
}

// granted are the filters that go upstream, for the audit.
func (d *split) granted() [][]byte {
	var out [][]byte
	for _, f := range d.filters {
		if f.sent {
			out = append(out, []byte(f.filter))
		}
	}
	return out
}
