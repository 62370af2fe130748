package mqtt

// Properties is the property section of a 5.0 packet without its length,
// already validated: each id is legal for the packet, single ones occur once,
// values are in range. Nil and empty are equal.
type Properties []byte

// PropertyID is a property identifier.
type PropertyID byte

// The properties of MQTT 5.0, section 2.2.2.2.
const (
	PayloadFormat           PropertyID = 0x01
	MessageExpiry           PropertyID = 0x02
	ContentType             PropertyID = 0x03
	ResponseTopic           PropertyID = 0x08
	CorrelationData         PropertyID = 0x09
	SubscriptionIdentifier  PropertyID = 0x0B
	SessionExpiryInterval   PropertyID = 0x11
	AssignedClientID        PropertyID = 0x12
	ServerKeepAlive         PropertyID = 0x13
	AuthMethod              PropertyID = 0x15
	AuthData                PropertyID = 0x16
	RequestProblemInfo      PropertyID = 0x17
	WillDelayInterval       PropertyID = 0x18
	RequestResponseInfo     PropertyID = 0x19
	ResponseInformation     PropertyID = 0x1A
	ServerReference         PropertyID = 0x1C
	ReasonString            PropertyID = 0x1F
	ReceiveMaximum          PropertyID = 0x21
	TopicAliasMaximum       PropertyID = 0x22
	TopicAlias              PropertyID = 0x23
	MaximumQoS              PropertyID = 0x24
	RetainAvailable         PropertyID = 0x25
	UserProperty            PropertyID = 0x26
	MaximumPacketSize       PropertyID = 0x27
	WildcardAvailable       PropertyID = 0x28
	SubscriptionIDAvailable PropertyID = 0x29
	SharedAvailable         PropertyID = 0x2A
)

// Property is one property. Uint holds a number of any width, Data a string or
// binary, Value the second string of a user property.
type Property struct {
	ID    PropertyID
	Uint  uint32
	Data  []byte
	Value []byte
}

// Next returns the first property of p and what follows it; ok is false at the
// end.
func (p Properties) Next() (prop Property, rest Properties, ok bool) { panic("todo") }

// Has reports whether p holds id.
func (p Properties) Has(id PropertyID) bool { panic("todo") }

// AppendWithout appends p to dst, leaving out every property of the given ids.
func (p Properties) AppendWithout(dst Properties, ids ...PropertyID) Properties { panic("todo") }

// AppendUint appends a numeric property in the width of its id.
func (p Properties) AppendUint(id PropertyID, v uint32) Properties { panic("todo") }

// AppendString appends a string or binary property.
func (p Properties) AppendString(id PropertyID, s string) Properties { panic("todo") }

// AppendUser appends a user property.
func (p Properties) AppendUser(name, value string) Properties { panic("todo") }
