package session

import (
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
)

// Kind is what an event tells.
type Kind uint8

// The kinds, with the audit's tags.
const (
	KindAllowed             Kind = iota // mqtt,allowed: only with audit.include "all" or general.log-packets
	KindConnected                       // mqtt,connect,success
	KindBlocked                         // mqtt,blocked,REASON
	KindDetected                        // mqtt,detect-only,REASON
	KindQoSDowngraded                   // mqtt,qos-downgraded
	KindRetainStripped                  // mqtt,retain-stripped
	KindQoSOverLimit                    // mqtt,qos-over-limit (agent door)
	KindRetainedOverLimit               // mqtt,retained-over-limit (agent door)
	KindWillRemoved                     // mqtt,will-removed
	KindDeliveryFiltered                // mqtt,delivery-filtered
	KindSubscriptionRemoved             // mqtt,subscription-removed: a new policy does not allow it
	KindDisconnected                    // mqtt,disconnect
)

// Event is one decision for the audit. Its slices are views into the input or
// the session, valid until the Effects are reset.
type Event struct {
	Kind        Kind
	Decision    Decision
	Reason      policy.Reason
	Rule        policy.RuleRef
	By          *policy.Engine // whose rule it is, where the session has no subject; may be nil
	Packet      mqtt.Type
	From        mqtt.Side // who sent the packet
	Will        bool      // of a CONNECT: the decision is about its will, and so is what follows
	Topic       []byte
	Filters     [][]byte
	MoreFilters int // so many others are not in Filters
	// Further: an event before it is about the same packet, and counts it. One
	// request can be refused by several rules.
	Further      bool
	QoS          byte
	Retain       bool
	PayloadBytes int
	PacketBytes  int  // of a packet that was too large to be read: the whole of it
	Waited       Time // of a CONNECT: for the answer of Admit
	// Repeat: what stays the same of it was reported in this minute, a refusal
	// several times, and it is counted: who keeps a record can leave it out. A
	// later event has the Count, and no topic or filters: so many were repeats.
	Repeat bool
	Count  uint64
	End    End // KindDisconnected
}

// changes are how it is told that a QoS is too high or a retain flag is not
// allowed: as changed, or, in the door that cannot do that, as only seen.
func (c Capabilities) changes() (d Decision, lowered, stripped Kind) {
	if !c.Rewrite {
		return DecisionAllow, KindQoSOverLimit, KindRetainedOverLimit
	}
	return DecisionRewrite, KindQoSDowngraded, KindRetainStripped
}

// Counters is what a session counted, for the disconnect event and metrics.
type Counters struct {
	Packets, Messages, Bytes [2]uint64 // by sender; Bytes as received
	Denials                  uint64
}
