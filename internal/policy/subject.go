package policy

// Subject is the policy bound to one identity. It is immutable and may be
// shared.
type Subject struct {
	engine   *Engine
	identity Identity
}

// Message is what a PUBLISH, a will or a delivery is judged by. Topic is the
// real one: an alias is resolved before. The slices are not kept.
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
func (s *Subject) Engine() *Engine { return s.engine }

// Inspects reports whether Publish wants the payload.
func (s *Subject) Inspects() bool { return false }

// Connect decides by the rules that name "connect".
func (s *Subject) Connect(tr *Trace) Verdict { panic("todo") }

// Will decides the will of a CONNECT as its PUBLISH would be, with the
// differences of policy section 9: retain not allowed clears the flag, a QoS
// above the maximum is lowered.
func (s *Subject) Will(m Message, tr *Trace) Verdict { panic("todo") }

// Publish decides a PUBLISH of the client: limits, ACL (with the Response
// Topic), QoS, retained, inspection.
func (s *Subject) Publish(m Message, tr *Trace) Verdict { panic("todo") }

// Subscribe decides one filter of a SUBSCRIBE as it stands in the packet,
// $share included. Verdict.QoS is the QoS to ask the broker for.
func (s *Subject) Subscribe(filter []byte, qos byte, tr *Trace) Verdict { panic("todo") }

// Unsubscribe decides one filter of an UNSUBSCRIBE.
func (s *Subject) Unsubscribe(filter []byte, tr *Trace) Verdict { panic("todo") }

// Deliver decides a PUBLISH to the client by its real topic.
func (s *Subject) Deliver(topic []byte, tr *Trace) Verdict { panic("todo") }

// Ceiling is the highest QoS that some PUBLISH of this client could keep, and
// whether some topic of it could be retained.
func (s *Subject) Ceiling() (qos byte, retain bool) { panic("todo") }
