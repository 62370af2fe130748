package session

import (
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
)

// ConnectInfo is what a CONNECT asks for, in strings that belong to the
// session. Valid from NeedVerify on; Password is nil after Answer.
type ConnectInfo struct {
	Version     mqtt.Version
	ClientID    string // as sent; with Assigned as assigned by us
	Assigned    bool
	CleanStart  bool
	KeepAlive   uint16
	Username    string
	HasUsername bool
	Password    []byte
	HasPassword bool
	AuthMethod  string // "" none
}

// Admission answers NeedVerify: a Subject when admitted, else why not.
type Admission struct {
	Subject *policy.Subject // nil: refused
	Reason  policy.Reason
	Rule    policy.RuleRef
	// Detected is set in detect-only: Subject is bound to the claimed name,
	// unverified, and Reason says why it would have been refused.
	Detected bool
}

// Dialled answers NeedDial.
type Dialled struct {
	OK       bool
	Upstream *config.Upstream // which one: credentials, client id
}

// Session is one client's dialogue with its broker.
type Session struct {
	set *Settings
}

// NewSettings derives what is fixed for all sessions of a door.
func NewSettings(door policy.Door, cfg *config.Config) *Settings { panic("todo") }

// New starts a session at the client's first byte. now starts the time until
// the CONNECT must have come.
func New(set *Settings, now Time) *Session { panic("todo") }

// Connect is what the CONNECT asked for, nil before.
func (s *Session) Connect() *ConnectInfo { panic("todo") }

// Subject is the policy in force, nil before admission.
func (s *Session) Subject() *policy.Subject { panic("todo") }

// Counters is what s counted so far.
func (s *Session) Counters() *Counters { panic("todo") }

// Feed pushes bytes of one side in and returns how many were consumed: whole
// packets, and the payload of a decided PUBLISH as it comes. The driver keeps
// the rest and feeds it again together with what follows. Nothing is consumed
// from the client while an answer is awaited, and after the end.
func (s *Session) Feed(now Time, from mqtt.Side, b []byte, fx *Effects) int { panic("todo") }

// Admit answers NeedVerify. A ticket that is not the awaited one is ignored.
func (s *Session) Admit(now Time, ticket uint32, a Admission, fx *Effects) { panic("todo") }

// Dialled answers NeedDial.
func (s *Session) Dialled(now Time, ticket uint32, d Dialled, fx *Effects) { panic("todo") }

// Policy puts a new subject in force: after a reload, or when the identity
// changed.
func (s *Session) Policy(now Time, subj *policy.Subject, fx *Effects) { panic("todo") }

// Tick does what is due.
func (s *Session) Tick(now Time, fx *Effects) { panic("todo") }

// Lost tells that a side is gone.
func (s *Session) Lost(now Time, side mqtt.Side, fx *Effects) { panic("todo") }

// End ends the session for a cause of the driver's: drain, revoked, kicked,
// stalled, an internal fault.
func (s *Session) End(now Time, e End, fx *Effects) { panic("todo") }
