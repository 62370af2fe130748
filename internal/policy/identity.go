package policy

import (
	"net/netip"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
)

// Door is where a session came in.
type Door uint8

// The doors.
const (
	DoorGateway Door = iota
	DoorAgent
)

func (d Door) String() string {
	if d == DoorAgent {
		return "agent"
	}
	return "gateway"
}

// Standing says how far the user name of an identity can be trusted.
type Standing uint8

// The standings. The zero value trusts least.
const (
	// Unverified: admitted by fail-open or in detect-only although it would
	// have been refused. Matches deny rules only and has no groups.
	Unverified Standing = iota
	// Claimed: authentication is off, the broker is taken to verify the name.
	Claimed
	// Verified: a provider accepted it, or it is anonymous and that is allowed.
	Verified
)

// Identity is who a connection acts for: what rules are bound to. There is one
// for each client; its single bytes stand together, to be small.
type Identity struct {
	Username   string // "" when none
	ClientID   string // as rules see it; "" never matches %c
	Groups     []string
	Attributes map[string]string
	Provider   string     // name or type of the provider that accepted
	Addr       netip.Addr // unmapped; invalid when unknown
	Listener   string     // "" in the agent door
	Anonymous  bool       // no user name, no password, no method; has the group "anonymous"
	Standing   Standing
	Version    mqtt.Version
	Door       Door
}
