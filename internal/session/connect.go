package session

import (
	"bytes"
	"errors"
	"strings"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
)

// ConnectInfo is what a CONNECT asks for, in strings that belong to the
// session. Valid from NeedVerify on; Password is nil after Admit.
type ConnectInfo struct {
	Version     mqtt.Version
	Assigned    bool
	CleanStart  bool
	HasUsername bool
	HasPassword bool
	KeepAlive   uint16
	ClientID    string // as sent; with Assigned as assigned by us
	Username    string
	Password    []byte
	AuthMethod  string // "" none
}

// Admission answers NeedVerify: a Subject when admitted, else why not.
type Admission struct {
	Subject *policy.Subject // nil: refused
	Reason  policy.Reason
	Rule    policy.RuleRef
	By      *policy.Engine // whose rule Rule is, where there is no Subject; may be nil
	// Detected is set in detect-only: Subject is bound to the claimed name,
	// unverified, and Reason says why it would have been refused.
	Detected bool
}

// start is a CONNECT on its way, until CONNACK has passed. Of one that comes to
// nothing info stays.
type start struct {
	h         mqtt.Header
	pos       int    // where it began in its Feed's input
	raw       []byte // its body
	c         mqtt.Connect
	info      ConnectInfo
	will      policy.Verdict
	aboutWill bool           // what is being decided is the will
	detected  bool           // admitted although it would have been refused
	by        *policy.Engine // who refuses it
	upID      string
	expiry    uint32 // session expiry as sent upstream
	lowered   bool   // below what the client asked for
	aliasMax  uint16 // as sent upstream: what the broker may use
	keepAlive uint16 // what we cap it to; 0: not at all
	asked     Time   // when it was asked who it is
	waited    Time   // for the answer
}

// connect takes a whole CONNECT: the checks that need nobody else, then the
// question who it is.
func (s *Session) connect(h mqtt.Header, body, b []byte, pos int, fx *Effects) int {
	st := &start{h: h, pos: pos, raw: bytes.Clone(body)}
	if err := st.c.Parse(st.raw); err != nil {
		var me *mqtt.Error
		if errors.As(err, &me) && me.Code == mqtt.UnsupportedVersion && !s.set.detect {
			s.version = refusalVersion(st.raw)
			s.tally(mqtt.Client, h)
			return s.refused(h, pos, policy.ReasonVersion, policy.RuleProtocolVersions, fx)
		}
		return s.malformed(mqtt.Client, h, b, pos, err, fx)
	}
	c := &st.c
	if h.Overlong && c.Version == mqtt.V5 && !s.set.detect { // [MQTT-1.5.5-1]
		s.version = mqtt.V5
		return s.fault(mqtt.Client, h, b, pos, faultOf(CauseMalformed, policy.ReasonMalformed, policy.RuleNone), fx)
	}
	s.tally(mqtt.Client, h)
	s.version, s.start = c.Version, st
	st.info = ConnectInfo{
		Version: c.Version, ClientID: string(c.ClientID), CleanStart: c.CleanStart, KeepAlive: c.KeepAlive,
		HasUsername: c.HasUsername, Password: c.Password, HasPassword: c.HasPassword, AuthMethod: string(c.AuthMethod),
	}
	if bytes.HasPrefix(c.ClientID, c.Username) { // as ids often are made: one string for both
		st.info.Username = st.info.ClientID[:len(c.Username)]
	} else {
		st.info.Username = string(c.Username)
	}
	if s.auth = c.HasAuthMethod; s.auth {
		s.rare().authMethod = st.info.AuthMethod
	}
	s.expires = c.SessionExpiry == 0
	s.keepAlive, s.keepAliveUp = c.KeepAlive, c.KeepAlive
	if r, rule := s.connectLimits(c); r != policy.ReasonNone {
		if s.blocksConnect(r, rule, fx) {
			return s.refused(h, pos, r, rule, fx)
		}
	}
	s.state, s.deadline, st.asked = stateVerify, 0, s.now
	s.ticket++
	fx.Need, fx.Ticket = NeedVerify, s.ticket
	s.schedule()
	return h.Size()
}

// refusalVersion is the version whose CONNACK a client of an unknown protocol
// level understands: bridges set 0x80 on a 3.x level and retry plainly when
// they are told so, later levels are taken to read 5.0's.
func refusalVersion(body []byte) mqtt.Version {
	if len(body) < 2 {
		return mqtt.V311
	}
	n := int(body[0])<<8 | int(body[1])
	if len(body) < 2+n+1 {
		return mqtt.V311
	}
	if level := body[2+n] &^ 0x80; level >= byte(mqtt.V5) {
		return mqtt.V5
	}
	return mqtt.V311
}

// connectLimits checks what needs no identity. It also assigns a client id;
// whether clients may leave that to us is among the rules that admit them.
func (s *Session) connectLimits(c *mqtt.Connect) (policy.Reason, policy.RuleRef) {
	cfg := s.set.Config
	l := &cfg.General.Limits
	if !s.set.speaks(c.Version) {
		return policy.ReasonVersion, policy.RuleProtocolVersions
	}
	if l.UserProperties > 0 && c.UserProperties > l.UserProperties {
		return policy.ReasonLimit, policy.RuleUserProperties
	}
	if most := l.KeepAliveSecs; most > 0 && (c.KeepAlive == 0 || int(c.KeepAlive) > most) {
		if c.Version != mqtt.V5 {
			return policy.ReasonLimit, policy.RuleKeepAlive
		}
		if s.set.Can.Rewrite {
			s.start.keepAlive = uint16(min(most, 0xFFFF))
		}
	}
	if most := l.WillDelaySecs; most > 0 && c.HasWill && int64(c.Will.Delay) > most && !s.set.Can.Rewrite {
		return policy.ReasonLimit, policy.RuleWillDelay
	}
	if len(c.ClientID) > 0 {
		return policy.ReasonNone, policy.RuleNone
	}
	if !c.CleanStart { // [MQTT-3.1.3-8]
		return policy.ReasonClientID, policy.RuleEmptyClientID
	}
	if s.set.Can.Rewrite {
		info := &s.start.info
		info.ClientID, info.Assigned = s.assign(cfg.Auth.ClientIDTemplate), true
	}
	return policy.ReasonNone, policy.RuleNone
}

// assign makes the id of a client that sent none.
func (s *Session) assign(template string) string {
	if template == "" {
		return "gw-" + s.set.NewID()
	}
	id := strings.ReplaceAll(template, "%u", s.start.info.Username)
	if cut, open := strings.CutSuffix(id, "*"); open && strings.HasSuffix(template, "*") {
		id = cut + s.set.NewID()
	}
	return id
}

// blocksConnect reports a CONNECT that is refused. False: detect-only, it goes
// on.
func (s *Session) blocksConnect(r policy.Reason, rule policy.RuleRef, fx *Effects) bool {
	if !s.set.detect {
		return true
	}
	s.start.detected = true
	s.connectEvent(KindDetected, DecisionDetect, r, rule, fx)
	return false
}

// connectEvent reports a decision about the CONNECT, or about its will while
// that is decided.
func (s *Session) connectEvent(k Kind, d Decision, r policy.Reason, rule policy.RuleRef, fx *Effects) {
	e := Event{Kind: k, Decision: d, Reason: r, Rule: rule, Packet: mqtt.CONNECT, From: mqtt.Client}
	if st := s.start; st != nil {
		e.Waited, e.By = st.waited, st.by
		if w := &st.c.Will; st.aboutWill {
			e.Will = true
			e.Topic, e.QoS, e.Retain, e.PayloadBytes = w.Topic, w.QoS, w.Retain, len(w.Payload)
		}
	}
	s.event(fx, e)
}

// refused refuses a CONNECT that Feed is at.
func (s *Session) refused(h mqtt.Header, pos int, r policy.Reason, rule policy.RuleRef, fx *Effects) int {
	s.verdict(fx, mqtt.Client, h, 0, pos, DecisionClose, r, rule)
	s.refuse(End{Cause: CauseRefused, Reason: r, Rule: rule}, fx)
	return h.Size()
}

// refuse ends the session before CONNACK 0, with a CONNACK that says why.
func (s *Session) refuse(e End, fx *Effects) {
	s.connectEvent(KindBlocked, DecisionClose, e.Reason, e.Rule, fx)
	s.refusal = true
	s.ending(e, fx)
}

// Admit answers NeedVerify. A ticket that is not the awaited one is ignored.
// The PacketVerdict of the CONNECT comes here; its place is in the input of the
// Feed that asked.
func (s *Session) Admit(now Time, ticket uint32, a Admission, fx *Effects) {
	s.now = now
	if s.state == stateVerify && ticket == s.ticket {
		s.admit(a, fx)
	}
	s.finish(fx)
}

func (s *Session) admit(a Admission, fx *Effects) {
	st := s.start
	st.info.Password, st.waited = nil, s.now-st.asked
	s.heard = s.now // until now we did not read
	if a.Subject == nil {
		st.by = a.By
		s.refused(st.h, st.pos, a.Reason, a.Rule, fx)
		return
	}
	s.subj = a.Subject
	if a.Detected {
		s.blocksConnect(a.Reason, a.Rule, fx)
	}
	if !s.decideConnect(fx) {
		return
	}
	d := DecisionAllow
	if st.detected {
		d = DecisionDetect
	}
	s.verdict(fx, mqtt.Client, st.h, 0, st.pos, d, policy.ReasonNone, policy.RuleNone)
	if s.set.Can.Reply {
		s.needDial(fx)
		return
	}
	s.state, st.aliasMax = stateConnack, st.c.TopicAliasMaximum
	s.limitDeliveries(&st.c)
	s.schedule()
}

// redecide decides again about a CONNECT that has not gone upstream when the
// policy changes: what is sent to the broker is what the policy in force
// allows.
func (s *Session) redecide(fx *Effects) {
	before, reported := s.start.will, len(fx.Events)
	if s.decideConnect(fx) && s.start.will == before {
		fx.Events = fx.Events[:reported] // nothing new
	}
}

// decideConnect decides the CONNECT of who is admitted, and its will; false: it
// was refused.
func (s *Session) decideConnect(fx *Effects) bool {
	st := s.start
	if v := s.subj.Connect(nil); !v.Allowed() && s.blocksConnect(v.Reason, v.Rule, fx) {
		s.refused(st.h, st.pos, v.Reason, v.Rule, fx)
		return false
	}
	if !st.c.HasWill {
		return true
	}
	st.aboutWill = true
	ok := s.decideWill(fx)
	st.aboutWill = false
	return ok
}

// decideWill decides the will; false: the CONNECT was refused for it.
func (s *Session) decideWill(fx *Effects) bool {
	st := s.start
	w := &st.c.Will
	v := s.subj.Will(policy.Message{
		Topic: topicUp(w.Topic), ResponseTopic: topicUp(w.ResponseTopic), QoS: w.QoS, Retain: w.Retain,
		PacketSize: st.h.Size(), PayloadSize: len(w.Payload), Payload: w.Payload, UserProperties: w.UserProperties,
	}, nil)
	if (!v.Allowed() || v.RemoveWill && !s.set.Can.Rewrite) && s.blocksConnect(v.Reason, v.Rule, fx) {
		s.refused(st.h, st.pos, v.Reason, v.Rule, fx)
		return false
	}
	if s.set.detect {
		st.will = policy.Verdict{Outcome: policy.Allow, QoS: w.QoS}
		return true
	}
	st.will = v
	if v.RemoveWill {
		s.connectEvent(KindWillRemoved, DecisionRewrite, v.Reason, v.Rule, fx)
		return true
	}
	d, lowered, stripped := s.set.Can.changes()
	if v.QoS < w.QoS {
		s.connectEvent(lowered, d, policy.ReasonQoS, v.QoSRule, fx)
	}
	if v.ClearRetain && w.Retain {
		s.connectEvent(stripped, d, policy.ReasonRetained, v.RetainRule, fx)
	}
	return true
}

// needDial asks for a broker connection.
func (s *Session) needDial(fx *Effects) {
	s.state, s.deadline = stateDial, 0
	s.ticket++
	fx.Need, fx.Ticket = NeedDial, s.ticket
	s.schedule()
}

// limitDeliveries sets what the client takes at most.
func (s *Session) limitDeliveries(c *mqtt.Connect) {
	s.maxDelivery = c.MaximumPacketSize
	if most := s.set.maxDelivery; most > 0 && !s.set.detect && (s.maxDelivery == 0 || uint64(most) < uint64(s.maxDelivery)) {
		s.maxDelivery = uint32(most)
	}
}
