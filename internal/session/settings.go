package session

import (
	"math/rand/v2"
	"slices"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
)

// Second is a second on the driver's clock.
const Second Time = 1e9

// Time is nanoseconds on the driver's monotonic clock. 0 is never.
type Time int64

// Capabilities are the door's.
type Capabilities struct {
	Rewrite bool // may change packets
	Reply   bool // may send packets of its own; also: dials the upstream itself
}

// Settings is what is fixed for all sessions of a door under one
// configuration. See [NewSettings].
type Settings struct {
	Can    Capabilities
	Config *config.Config
	// NewID returns the 22 letters of an assigned client id. NewSettings sets
	// one that is good enough to be unguessable in practice; a driver may set
	// its own before the first session.
	NewID func() string

	// What is read for each packet, taken out of Config.
	detect         bool
	includeAll     bool
	onDeny         onDeny
	agentClose     bool
	connectTimeout Time
	connackTimeout Time
	connectBytes   int
	maxPacket      int
	maxDelivery    int
	maxAliases     int
	maxWindow      int
	quenchRevoked  bool // no will when policy ends the connection
	quenchDrained  bool // nor when a drain does
	denialRate     rate
	packetRate     rate
}

// onDeny is gateway.on-deny.
type onDeny uint8

const (
	onDenyAck onDeny = iota
	onDenyDrop
	onDenyDisconnect
)

// maxBuffered bounds what is held back of one packet of the broker that has to
// be read whole, and of the head of a PUBLISH: nothing legal comes near it (a
// SUBACK has a byte a filter; a head is a topic and properties).
const maxBuffered = 1 << 20

// NewSettings derives what is fixed for all sessions of a door.
func NewSettings(door policy.Door, cfg *config.Config) *Settings {
	g, l := &cfg.General, &cfg.General.Limits
	set := &Settings{
		Config: cfg, NewID: newID,
		detect:         !g.BlockMode,
		includeAll:     cfg.Audit.Include == "all" || g.LogPackets,
		connectTimeout: Time(g.ConnectTimeoutSecs) * Second,
		connackTimeout: Time(cfg.Gateway.ConnectTimeoutMS) * (Second / 1000),
		connectBytes:   l.ConnectBytes,
		maxPacket:      g.MaxPacketSize,
		maxDelivery:    g.MaxDeliverySize,
		maxAliases:     l.TopicAliases,
		maxWindow:      l.ReceiveMaximum,
		denialRate:     newRate(l.DenialsPerMinute, 60*Second),
		packetRate:     newRate(l.PacketsPerSecond, Second),
	}
	if door == policy.DoorGateway {
		set.Can = Capabilities{Rewrite: true, Reply: true}
		set.quenchRevoked = cfg.Gateway.RevokedWill != "fire"
		set.quenchDrained = cfg.Gateway.DrainWill == "suppress"
	}
	set.agentClose = door == policy.DoorAgent && cfg.Agent.OnDeny == "close"
	switch {
	case door == policy.DoorAgent:
	case cfg.Gateway.OnDeny == "drop":
		set.onDeny = onDenyDrop
	case cfg.Gateway.OnDeny == "disconnect":
		set.onDeny = onDenyDisconnect
	}
	return set
}

// Renew puts the settings of a new configuration in force for a live session.
// What its client was told stays as it was: the Receive Maximum, the topic
// aliases, the largest delivery, to a 5.0 client its largest packet; and at the
// agent door its answer to a denial.
//
// A session that blocks goes on blocking when the new settings are detect-only.
// The other way round Renew changes nothing and reports false: what passed
// unread cannot be decided afterwards, and the caller ends the connection.
func (s *Session) Renew(set *Settings) (ok bool) {
	old := s.set
	switch {
	case set.Config == old.Config:
		return true
	case s.state == stateConnect || s.state == stateEnded:
		s.set = set
		return true
	case old.detect && !set.detect:
		return false
	}
	maxPacket := set.maxPacket
	if s.version == mqtt.V5 && set.Can.Rewrite {
		maxPacket = old.maxPacket
	}
	if set.maxWindow != old.maxWindow || set.detect != old.detect || set.agentClose != old.agentClose || set.maxPacket != maxPacket {
		own := *set
		own.maxWindow, own.detect, own.agentClose, own.maxPacket = old.maxWindow, old.detect, old.agentClose, maxPacket
		set = &own
	}
	s.set = set
	return true
}

// speaks reports whether a version is among protocol-versions.
func (set *Settings) speaks(v mqtt.Version) bool {
	return slices.Contains(set.Config.General.ProtocolVersions, v.String())
}

// assignedLetters is how many random letters an assigned client id has: 22 of
// 62 are 131 bits.
const assignedLetters = 22

func newID() string {
	const letters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	var id [assignedLetters]byte
	for i := range id {
		id[i] = letters[rand.IntN(len(letters))]
	}
	return string(id[:])
}
