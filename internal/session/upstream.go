package session

import (
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
)

// Dialled answers NeedDial with the broker that was dialled, nil when none
// could be. A ticket that is not the awaited one is ignored: the driver then
// closes what it dialled.
func (s *Session) Dialled(now Time, ticket uint32, u *config.Upstream, fx *Effects) {
	s.now = now
	if s.state == stateDial && ticket == s.ticket {
		s.dialled(u, fx)
	}
	s.finish(fx)
}

func (s *Session) dialled(u *config.Upstream, fx *Effects) {
	switch {
	case u == nil:
		s.refuse(End{Cause: CauseUpstreamLost, Reason: policy.ReasonServerUnavailable}, fx)
		return
	case s.opaque:
		s.state, s.wake = stateOpaque, 0
		return
	}
	c := s.start.c
	s.outline(&c, u)
	s.will = c.HasWill
	s.whole = c.HasWill && !s.set.detect && (s.set.quenchRevoked || s.set.quenchDrained)
	s.state = stateConnack
	if s.set.connackTimeout > 0 {
		s.deadline = s.now + s.set.connackTimeout
	}
	s.limitDeliveries(&s.start.c)
	s.ownNow(fx, mqtt.Broker, c.Append(fx.Scratch))
	s.schedule()
}

// outline turns the client's CONNECT into the one that goes upstream.
func (s *Session) outline(c *mqtt.Connect, u *config.Upstream) {
	st := s.start
	name := st.info.Username
	if !st.detected {
		name = s.subj.Identity().Username
	}
	st.upID = config.FillUpstream(u.ClientID, st.info.ClientID, name)
	if u.ClientID == "" {
		st.upID = st.info.ClientID
	}
	c.ClientID = []byte(st.upID)
	s.credentials(c, u, name)
	s.outlineWill(c)
	if s.version != mqtt.V5 {
		return
	}
	var drop [3]mqtt.PropertyID
	set := mqtt.Properties(nil)
	n := 0
	put := func(id mqtt.PropertyID, v uint32) {
		drop[n], n = id, n+1
		set = set.AppendUint(id, v)
	}
	st.expiry, st.aliasMax = c.SessionExpiry, c.TopicAliasMaximum
	if most := s.set.Config.General.Limits.SessionExpirySecs; most > 0 && int64(c.SessionExpiry) > most && !s.set.detect {
		st.expiry, st.lowered = uint32(most), true
		put(mqtt.SessionExpiryInterval, st.expiry)
	}
	if most := s.set.maxDelivery; most > 0 && !s.set.detect && (c.MaximumPacketSize == 0 || uint64(most) < uint64(c.MaximumPacketSize)) {
		put(mqtt.MaximumPacketSize, uint32(most))
	}
	if most := s.set.maxAliases; most > 0 && int(c.TopicAliasMaximum) > most {
		st.aliasMax = uint16(most)
		put(mqtt.TopicAliasMaximum, uint32(most))
	}
	if n > 0 {
		c.Properties = append(c.Properties.AppendWithout(nil, drop[:n]...), set...)
	}
}

// outlineWill applies what was decided about the will.
func (s *Session) outlineWill(c *mqtt.Connect) {
	if !c.HasWill {
		return
	}
	v := &s.start.will
	if v.RemoveWill {
		c.HasWill, c.Will = false, mqtt.Will{}
		return
	}
	c.Will.Topic = topicUp(c.Will.Topic)
	c.Will.QoS = min(c.Will.QoS, v.QoS)
	if v.ClearRetain {
		c.Will.Retain = false
	}
	most := s.set.Config.General.Limits.WillDelaySecs
	if most > 0 && int64(c.Will.Delay) > most && !s.set.detect {
		c.Will.Properties = c.Will.Properties.AppendWithout(nil, mqtt.WillDelayInterval).
			AppendUint(mqtt.WillDelayInterval, uint32(most))
	}
}

// credentials applies upstreams[].credentials.
func (s *Session) credentials(c *mqtt.Connect, u *config.Upstream, name string) {
	mode := u.Credentials
	if mode == "" {
		switch {
		case u.Username != "":
			mode = "replace"
		case !s.set.Config.Auth.Enabled:
			mode = "pass"
		default:
			mode = "strip"
		}
	}
	if s.start.detected {
		mode = "pass" // never ours for one that would have been refused
	}
	switch mode {
	case "pass":
		return
	case "replace":
		c.HasUsername, c.Username = true, []byte(config.FillUpstream(u.Username, s.start.info.ClientID, name))
		c.HasPassword, c.Password = u.Password != "", []byte(u.Password)
	default:
		c.HasUsername, c.HasPassword, c.Username, c.Password = false, false, nil, nil
	}
}

// oldConnack takes a CONNACK in 3.x form for a 5.0 client, as brokers without
// 5.0 send it. done: it was one.
func (s *Session) oldConnack(b []byte, pos int, fx *Effects) (n int, done bool) {
	if s.version != mqtt.V5 || s.set.detect || len(b)-pos < 2 || b[pos] != byte(mqtt.CONNACK)<<4 || b[pos+1] != 2 {
		return 0, false
	}
	if len(b)-pos < 4 {
		return 0, true
	}
	h := mqtt.Header{Type: mqtt.CONNACK, Len: 2, Length: 2}
	code := mqtt.ReasonCode(b[pos+3])
	if b[pos+2] != 0 || code == mqtt.ReturnAccepted || code > mqtt.ReturnNotAuthorized {
		return s.fault(mqtt.Broker, h, b, pos, faultOf(CauseBrokerFault, policy.ReasonMalformed, policy.RuleNone), fx), true
	}
	s.tally(mqtt.Broker, h)
	s.verdict(fx, mqtt.Broker, h, 0, pos, DecisionAllow, policy.ReasonNone, policy.RuleNone)
	c := mqtt.Connack{Code: mqtt.ServerUnavailable}
	if code == mqtt.ReturnBadVersion {
		c.Code = mqtt.UnsupportedVersion
	}
	s.ownNow(fx, mqtt.Client, c.Append(fx.Scratch, mqtt.V5))
	s.ending(End{Cause: CauseBrokerRefused, Code: c.Code}, fx)
	return h.Size(), true
}

// connack takes the broker's CONNACK.
func (s *Session) connack(h mqtt.Header, body, b []byte, pos int, fx *Effects) int {
	var c mqtt.Connack
	if err := c.Parse(s.version, body); err != nil {
		return s.malformed(mqtt.Broker, h, b, pos, err, fx)
	}
	if c.Code != 0 && s.trailed(h, b, pos) {
		return s.misplaced(mqtt.Broker, h, b, pos, fx)
	}
	s.tally(mqtt.Broker, h)
	s.verdict(fx, mqtt.Broker, h, 0, pos, DecisionAllow, policy.ReasonNone, policy.RuleNone)
	if c.HasServerKeepAlive {
		s.keepAlive, s.keepAliveUp = c.ServerKeepAlive, c.ServerKeepAlive
	}
	// Everything that the merge reads is s.start's, which ends here.
	changed := s.set.Can.Rewrite && s.mergeConnack(&c)
	if changed && !s.fitConnack(&c) {
		// With what we had to say it is more than the client takes, and without
		// that it would be untrue.
		s.refuse(End{Cause: CausePolicy, Reason: policy.ReasonPacketTooLarge, Rule: policy.RuleMaxDeliverySize}, fx)
		return h.Size()
	}
	if c.Code == 0 {
		s.connectEvent(KindConnected, DecisionAllow, policy.ReasonNone, policy.RuleNone, fx)
		s.opened(&c)
	}
	if changed {
		s.ownNow(fx, mqtt.Client, c.Append(fx.Scratch, s.version))
	} else {
		s.passBody(mqtt.Broker, h, b, pos, 0, fx)
	}
	if c.Code != 0 {
		s.ending(End{Cause: CauseBrokerRefused, Code: c.Code}, fx)
	}
	return h.Size()
}

// fitConnack takes out of a CONNACK what a client that takes only small packets
// does without; false: it does not fit [MQTT-3.1.2-24] [MQTT-3.2.2-19]
// [MQTT-3.2.2-20].
func (s *Session) fitConnack(c *mqtt.Connack) bool {
	if !s.tooLarge(len(c.Append(nil, s.version))) {
		return true
	}
	c.Properties = c.Properties.AppendWithout(nil, mqtt.ReasonString, mqtt.UserProperty)
	return !s.tooLarge(len(c.Append(nil, s.version)))
}

// opened starts the open dialogue.
func (s *Session) opened(c *mqtt.Connack) {
	s.connected, s.resumed = true, c.SessionPresent
	s.state, s.deadline = stateOpen, 0
	s.authTurn = false
	s.heard = s.now // until now we did not read
	if s.version == mqtt.V5 {
		s.openAliases(c.TopicAliasMaximum)
	}
	s.start = nil
	s.schedule()
}

// mergeConnack makes the broker's CONNACK ours, by the table of policy section
// 5, and keeps what later packets are measured by. It reports a change.
func (s *Session) mergeConnack(c *mqtt.Connack) bool {
	st := s.start
	// 3.x has no figure of the broker: the window is ours.
	s.window = uint16(min(uint(s.set.maxWindow), 0xFFFF))
	s.windowPaced = true
	if s.version != mqtt.V5 {
		return false
	}
	m := merge{props: c.Properties}
	if c.Code != 0 {
		m.remove(mqtt.ServerReference, len(c.ServerReference) > 0)
		if elsewhere(c.Code) {
			c.Code, m.changed = mqtt.ServerUnavailable, true
		}
		c.Properties = m.props
		return m.changed
	}
	ours := uint32(s.set.maxAliases)
	if ours > 0 && uint32(c.TopicAliasMaximum) > ours {
		m.set(mqtt.TopicAliasMaximum, ours)
		c.TopicAliasMaximum = uint16(ours)
	}
	m.remove(mqtt.ServerReference, len(c.ServerReference) > 0)
	switch {
	case st.info.Assigned:
		m.remove(mqtt.AssignedClientID, true)
		m.props = m.props.AppendString(mqtt.AssignedClientID, st.info.ClientID)
	case len(c.AssignedClientID) > 0 && st.upID != st.info.ClientID:
		m.remove(mqtt.AssignedClientID, true) // an id between us and the broker
	}
	s.maxUpstream = c.MaximumPacketSize
	if !s.set.detect {
		s.mergeLimits(c, &m)
	}
	if k := st.keepAlive; k > 0 && !s.set.detect {
		if !c.HasServerKeepAlive || c.ServerKeepAlive == 0 || c.ServerKeepAlive > k {
			m.set(mqtt.ServerKeepAlive, uint32(k))
			s.keepAlive = k
		}
	}
	c.Properties = m.props
	return m.changed
}

func (s *Session) mergeLimits(c *mqtt.Connack, m *merge) {
	s.brokerQoS, s.brokerRetains = c.MaximumQoS, c.RetainAvailable
	s.narrow = c.MaximumQoS < 2 || !c.RetainAvailable
	qos, retain := s.subj.Ceiling()
	if qos < 2 && qos < c.MaximumQoS {
		m.set(mqtt.MaximumQoS, uint32(qos))
	}
	if !retain && c.RetainAvailable {
		m.set(mqtt.RetainAvailable, 0)
	}
	if ours := s.set.maxPacket; ours > 0 && (c.MaximumPacketSize == 0 || uint64(c.MaximumPacketSize) > uint64(ours)) {
		m.set(mqtt.MaximumPacketSize, uint32(min(ours, 0xFFFFFFFF)))
	}
	s.window, s.windowPaced = c.ReceiveMaximum, true
	if ours := s.set.maxWindow; ours > 0 && int(c.ReceiveMaximum) > ours {
		m.set(mqtt.ReceiveMaximum, uint32(ours))
		s.window, s.windowPaced = uint16(ours), false
	}
	if s.start.lowered && !c.HasSessionExpiry {
		m.set(mqtt.SessionExpiryInterval, s.start.expiry)
	}
}

// elsewhere reports the codes that send a client to another server: that
// would lead around us.
func elsewhere(c mqtt.ReasonCode) bool {
	return c == mqtt.UseAnotherServer || c == mqtt.ServerMoved
}

// merge edits properties, in a copy with each change: what was parsed stays the
// input's.
type merge struct {
	props   mqtt.Properties
	changed bool
}

func (m *merge) set(id mqtt.PropertyID, v uint32) {
	m.props = m.props.AppendWithout(nil, id).AppendUint(id, v)
	m.changed = true
}

func (m *merge) remove(id mqtt.PropertyID, present bool) {
	if present {
		m.props, m.changed = m.props.AppendWithout(nil, id), true
	}
}
