package session

import (
	"errors"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
)

// state is how far a dialogue has come.
type state uint8

const (
	stateConnect state = iota // nothing but CONNECT may come
	stateVerify               // NeedVerify is asked
	stateDial                 // NeedDial is asked
	stateConnack              // CONNECT is upstream, CONNACK has not come
	stateOpen
	stateOpaque  // detect-only: bytes that do not parse pass uninspected
	stateClosing // ends when the client's packet in transit has gone by
	stateEnded
)

// half is one direction's stream inside a packet whose head was decided.
type half struct {
	left uint32 // bytes of the packet still to come
	skip bool   // they are discarded, not forwarded
}

// reply is an acknowledgement of ours.
type reply struct {
	typ  mqtt.Type // 0: none
	code mqtt.ReasonCode
	id   uint16
	late bool // not before the message is on its way
}

// Session is one client's dialogue with its broker. What few clients need
// hangs on pointers that are nil until then: an idle session is small.
type Session struct {
	// Fixed after New.
	set *Settings

	// Set by CONNECT and its answers.
	subj        *policy.Subject
	start       *start    // the CONNECT on its way; nil before and after
	maxDelivery uint32    // bytes; the client's Maximum Packet Size and ours; 0: none
	maxUpstream uint32    // bytes; the broker's; 0: none
	window      uint16    // QoS 1 and 2 in flight towards the broker
	aliasMax    [2]uint16 // by sender, as the receiver announced; 0: none are legal
	keepAlive   uint16    // seconds, as the client was told; 0: none
	keepAliveUp uint16    // as the broker counts

	generation uint16    // of subj
	unacked    [2]uint16 // deliveries of QoS 1, 2 since the last of turns that the client has to acknowledge
	ticket     uint32

	// The streams.
	half  [2]half
	count Counters

	// The tables, each nil until used.
	ex       *exchanges // QoS 1 and 2 of the client towards the broker
	requests *requests
	held     *filters // granted subscriptions
	seldom   *seldom

	// Time. All on the driver's clock.
	now       Time
	heard     Time // last bytes of the client, or of our reading again
	sentUp    Time // last bytes to the broker
	heardDown Time // last bytes of the broker
	wake      Time // what Effects say
	deadline  Time // of CONNECT, of CONNACK, of stateClosing; 0: none
	packets   bucket

	// Single bytes, together: they would each take eight.
	state         state
	hold          [2]hold // why reading stopped before a packet
	version       mqtt.Version
	brokerQoS     byte
	brokerRetains bool
	narrow        bool // the broker announced a Maximum QoS or no Retain Available
	whole         bool // PUBLISH goes up whole: no will may be published if we end the connection
	windowPaced   bool // the window is the broker's alone: pace, never end
	opaque        bool // to be stateOpaque once dialled
	connected     bool // CONNACK 0 has passed
	refusal       bool // the CONNECT was refused, and that was reported
	resumed       bool // with session present
	auth          bool // CONNECT had an Authentication Method
	expires       bool // CONNECT had no Session Expiry Interval, or 0: the session ends with the connection
	authTurn      bool // the broker sent AUTH before CONNACK: the client answers
	will          bool // the broker has a will of the client
	driverHolds   bool // the driver does not read from the client
	dropped       bool // a packet of this call was refused
	aliased       bool // a packet of this call told an alias
	unparking     bool // the input of forward is what was parked
}

// seldom is what few sessions need.
type seldom struct {
	queue      [2][]byte // of ours, until a payload has gone by
	then       [2]reply  // what the sender is answered when the rest of its packet has come
	alias      [2]aliases
	owed       []byte     // acknowledgements of what goes up at QoS 0, until that has gone
	parked     []byte     // PUBLISH packets of the client beyond the broker's window
	filtered   *exchanges // QoS 2 of the broker that we answer ourselves
	turns      turns      // acknowledgements of filtered deliveries that wait for the client's
	repeats    repeats    // what need not be told again yet
	denials    bucket
	authMethod string // of CONNECT
	pinged     Time   // since when a PINGREQ of ours is unanswered; 0: none is
	heldSince  Time   // since when hold[Client] stands
	holdID     uint16 // holdPacketID: which
	ownPings   uint8  // PINGRESPs to swallow
	end        End    // in stateClosing
}

// nothing is what few says of the many. It is never written.
var nothing seldom

// few is seldom for reading.
func (s *Session) few() *seldom {
	if s.seldom == nil {
		return &nothing
	}
	return s.seldom
}

// rare is seldom for writing.
func (s *Session) rare() *seldom { return made(&s.seldom) }

// made is what p points to, made when it is first needed.
func made[T any](p **T) *T {
	if *p == nil {
		*p = new(T)
	}
	return *p
}

// New is a session that was started; see [Session.Start].
func New(set *Settings, now Time) *Session {
	s := new(Session)
	s.Start(set, now)
	return s
}

// Start begins at the client's first byte. now starts the time until the CONNECT
// must have come. It is for a driver that holds its session by value, and called
// once.
func (s *Session) Start(set *Settings, now Time) {
	s.set, s.now, s.heard, s.sentUp, s.heardDown = set, now, now, now, now
	if set.connectTimeout > 0 {
		s.deadline = now + set.connectTimeout
	}
	s.wake = s.deadline
}

// Connect is what the CONNECT asked for: nil before it, and after it has been
// accepted, from when on the Subject says who the client is.
func (s *Session) Connect() *ConnectInfo {
	if s.start == nil {
		return nil
	}
	return &s.start.info
}

// KeepAlive is the seconds that the client was told; 0: none.
func (s *Session) KeepAlive() uint16 { return s.keepAlive }

// Ticket is that of the last Need; see [Effects].
func (s *Session) Ticket() uint32 { return s.ticket }

// Subject is the policy in force, nil before admission.
func (s *Session) Subject() *policy.Subject { return s.subj }

// Counters is what s counted so far.
func (s *Session) Counters() *Counters { return &s.count }

// Feed pushes bytes of one side in and returns how many were consumed: whole
// packets, and the payload of a decided PUBLISH as it comes. The driver keeps
// the rest and feeds it again together with what follows, or, when
// Effects.Pause of that side was set, alone as soon as a later call leaves it
// unset. Nothing is consumed from the client while an answer is awaited, and
// after the end.
func (s *Session) Feed(now Time, from mqtt.Side, b []byte, fx *Effects) int {
	s.now = now
	if len(b) > 0 {
		if from == mqtt.Client {
			s.heard = now
		} else {
			s.heardDown = now
		}
	}
	pos := 0
	for pos < len(b) && s.takes(from) {
		n := s.step(from, b, pos, fx)
		if n == 0 {
			fx.Partial[from] = s.hold[from] == holdNone && s.state != stateEnded
			break
		}
		pos += n
	}
	if s.half[from].left > 0 {
		fx.Partial[from] = true
	}
	s.count.Bytes[from] += uint64(pos)
	if s.dropped || s.aliased {
		s.settleAliases()
	}
	s.finish(fx)
	return pos
}

// takes reports whether packets of a side may be read now.
func (s *Session) takes(from mqtt.Side) bool {
	switch s.state {
	case stateOpen, stateOpaque:
		return true
	case stateConnect:
		return true // a broker that speaks first is at fault
	case stateConnack:
		return from == mqtt.Broker || !s.set.Can.Reply || s.authTurn
	case stateClosing:
		return from == mqtt.Client
	default:
		return false
	}
}

// step takes the next packet, or the next piece of one, that begins at b[pos].
// It returns the bytes consumed; 0: more are needed, or reading is held.
func (s *Session) step(from mqtt.Side, b []byte, pos int, fx *Effects) int {
	if s.half[from].left > 0 {
		return s.through(from, b, pos, fx)
	}
	if s.state == stateOpaque {
		s.forward(fx, from.Peer(), pos, len(b))
		return len(b) - pos
	}
	if s.seldom != nil && s.queueFull(from) {
		return s.wait(from, holdQueue)
	}
	if s.state == stateConnack && from == mqtt.Broker {
		if n, done := s.oldConnack(b, pos, fx); done {
			return n
		}
	}
	h, err := mqtt.ParseHeader(b[pos:], s.version, from)
	if err != nil {
		if errors.Is(err, mqtt.ErrIncomplete) {
			// The first byte says the type: what may not come now is refused
			// before its length is known.
			if t := mqtt.Type(b[pos] >> 4); !s.possible(from, t) {
				return s.misplaced(from, mqtt.Header{Type: t, Len: 1}, b, pos, fx)
			}
			return 0
		}
		return s.malformed(from, mqtt.Header{Type: mqtt.Type(b[pos] >> 4), Len: 1}, b, pos, err, fx)
	}
	if !s.possible(from, h.Type) {
		return s.misplaced(from, h, b, pos, fx)
	}
	if from == mqtt.Client {
		return s.fromClient(h, b, pos, fx)
	}
	return s.fromBroker(h, b, pos, fx)
}

// possible reports whether a packet of this type may come now.
func (s *Session) possible(from mqtt.Side, t mqtt.Type) bool {
	if from == mqtt.Broker {
		switch s.state {
		case stateConnect:
			return false
		case stateConnack: // [MQTT-3.2.0-1]
			return t == mqtt.CONNACK || t == mqtt.AUTH && s.auth
		}
		return t != mqtt.CONNACK && (t != mqtt.AUTH || s.auth)
	}
	switch {
	case s.state == stateConnect: // [MQTT-3.1.0-1]
		return t == mqtt.CONNECT
	case t == mqtt.CONNECT: // [MQTT-3.1.0-2]
		return false
	case t == mqtt.AUTH:
		return s.auth
	case s.auth && s.state == stateConnack: // [MQTT-3.1.2-30]
		return t == mqtt.DISCONNECT
	}
	return true
}

// fromClient decides a packet of the client that may come now.
func (s *Session) fromClient(h mqtt.Header, b []byte, pos int, fx *Effects) int {
	size := h.Size()
	if s.state == stateConnect {
		if max := s.set.connectBytes; max > 0 && size > max {
			return s.fault(mqtt.Client, h, b, pos, faultOf(CauseProtocol, policy.ReasonLimit, policy.RuleConnectBytes), fx)
		}
	}
	if max := s.set.maxPacket; max > 0 && size > max {
		if !s.set.detect || h.Type == mqtt.CONNECT {
			return s.fault(mqtt.Client, h, b, pos, faultOf(CauseProtocol, policy.ReasonPacketTooLarge, policy.RuleMaxPacketSize), fx)
		}
		if h.Type != mqtt.PUBLISH {
			return s.passUnread(mqtt.Client, h, b, pos, fx)
		}
	}
	if h.Overlong && !s.set.Can.Rewrite && !s.set.detect {
		return s.fault(mqtt.Client, h, b, pos, faultOf(CauseMalformed, policy.ReasonMalformed, policy.RuleNone), fx)
	}
	if h.Type == mqtt.PUBLISH {
		return s.publish(h, b, pos, fx)
	}
	if len(b)-pos < size {
		return 0
	}
	body := b[pos+h.Len : pos+size]
	switch h.Type {
	case mqtt.CONNECT:
		return s.connect(h, body, b, pos, fx)
	case mqtt.SUBSCRIBE:
		return s.subscribe(h, body, b, pos, fx)
	case mqtt.UNSUBSCRIBE:
		return s.unsubscribe(h, body, b, pos, fx)
	case mqtt.PUBACK, mqtt.PUBREC, mqtt.PUBREL, mqtt.PUBCOMP:
		return s.clientAck(h, body, b, pos, fx)
	case mqtt.DISCONNECT:
		return s.clientDisconnect(h, body, b, pos, fx)
	case mqtt.AUTH:
		return s.authPacket(mqtt.Client, h, body, b, pos, fx)
	default: // PINGREQ
		return s.pass(mqtt.Client, h, b, pos, fx)
	}
}

// fromBroker decides a packet of the broker that may come now.
func (s *Session) fromBroker(h mqtt.Header, b []byte, pos int, fx *Effects) int {
	size := h.Size()
	if h.Overlong && !s.set.Can.Rewrite && !s.set.detect {
		return s.fault(mqtt.Broker, h, b, pos, faultOf(CauseBrokerFault, policy.ReasonMalformed, policy.RuleNone), fx)
	}
	if h.Type == mqtt.PUBLISH {
		return s.deliver(h, b, pos, fx)
	}
	// What has to be buffered whole is bounded; no broker sends such packets.
	if size > maxBuffered {
		return s.fault(mqtt.Broker, h, b, pos, faultOf(CauseBrokerFault, policy.ReasonPacketTooLarge, policy.RuleMaxDeliverySize), fx)
	}
	if len(b)-pos < size {
		return 0
	}
	body := b[pos+h.Len : pos+size]
	switch h.Type {
	case mqtt.CONNACK:
		return s.connack(h, body, b, pos, fx)
	case mqtt.PUBACK, mqtt.PUBREC, mqtt.PUBREL, mqtt.PUBCOMP:
		return s.brokerAck(h, body, b, pos, fx)
	case mqtt.SUBACK, mqtt.UNSUBACK:
		return s.suback(h, body, b, pos, fx)
	case mqtt.PINGRESP:
		if s.few().ownPings > 0 {
			s.seldom.ownPings--
			s.seldom.pinged = 0
			s.tally(mqtt.Broker, h)
			return size
		}
		return s.pass(mqtt.Broker, h, b, pos, fx)
	case mqtt.DISCONNECT:
		return s.brokerDisconnect(h, body, b, pos, fx)
	default: // AUTH
		return s.authPacket(mqtt.Broker, h, body, b, pos, fx)
	}
}
