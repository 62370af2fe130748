package policy

import "github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/topic"

// Subject is the policy bound to one identity. It is immutable and may be used
// from many goroutines at once.
type Subject struct {
	identity Identity
	bound    *bound
	fit      values // which values of the identity templates are filled with
}

// values are what stands in templates.
func (s *Subject) values() (v topic.Values) {
	if s.fit&valueUsername != 0 {
		v.Username = s.identity.Username
	}
	if s.fit&valueClientID != 0 {
		v.ClientID = s.identity.ClientID
	}
	return v
}

// Message is what a PUBLISH, a will or a delivery is judged by. Topic is the
// real one: an alias is resolved before. It is a valid topic name; an empty one
// is denied. The slices are not kept.
type Message struct {
	Topic          []byte
	ResponseTopic  []byte // nil: none
	QoS            byte
	Retain         bool
	PacketSize     int // the whole packet in bytes
	PayloadSize    int
	Payload        []byte // only when [Subject.Inspects]
	UserProperties int
}

// Identity is who s was bound for.
func (s *Subject) Identity() *Identity { return &s.identity }

// Engine is the policy s is a share of.
func (s *Subject) Engine() *Engine { return s.bound.engine }

// Inspects reports whether Publish wants the payload.
func (s *Subject) Inspects() bool { return false }
