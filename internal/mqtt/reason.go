package mqtt

// ReasonCode is a reason code of MQTT 5.0, or in a 3.x CONNACK a return code.
type ReasonCode byte

// The reason codes, section 2.4. Success is also Normal Disconnection and
// Granted QoS 0.
const (
	Success                         ReasonCode = 0x00
	GrantedQoS1                     ReasonCode = 0x01
	GrantedQoS2                     ReasonCode = 0x02
	DisconnectWithWill              ReasonCode = 0x04
	NoMatchingSubscribers           ReasonCode = 0x10
	NoSubscriptionExisted           ReasonCode = 0x11
	ContinueAuthentication          ReasonCode = 0x18
	ReAuthenticate                  ReasonCode = 0x19
	UnspecifiedError                ReasonCode = 0x80
	MalformedPacket                 ReasonCode = 0x81
	ProtocolError                   ReasonCode = 0x82
	ImplementationSpecific          ReasonCode = 0x83
	UnsupportedVersion              ReasonCode = 0x84
	ClientIDNotValid                ReasonCode = 0x85
	BadUserNameOrPassword           ReasonCode = 0x86
	NotAuthorized                   ReasonCode = 0x87
	ServerUnavailable               ReasonCode = 0x88
	ServerBusy                      ReasonCode = 0x89
	Banned                          ReasonCode = 0x8A
	ServerShuttingDown              ReasonCode = 0x8B
	BadAuthMethod                   ReasonCode = 0x8C
	KeepAliveTimeout                ReasonCode = 0x8D
	SessionTakenOver                ReasonCode = 0x8E
	TopicFilterInvalid              ReasonCode = 0x8F
	TopicNameInvalid                ReasonCode = 0x90
	PacketIDInUse                   ReasonCode = 0x91
	PacketIDNotFound                ReasonCode = 0x92
	ReceiveMaximumExceeded          ReasonCode = 0x93
	TopicAliasInvalid               ReasonCode = 0x94
	PacketTooLarge                  ReasonCode = 0x95
	MessageRateTooHigh              ReasonCode = 0x96
	QuotaExceeded                   ReasonCode = 0x97
	AdministrativeAction            ReasonCode = 0x98
	PayloadFormatInvalid            ReasonCode = 0x99
	RetainNotSupported              ReasonCode = 0x9A
	QoSNotSupported                 ReasonCode = 0x9B
	UseAnotherServer                ReasonCode = 0x9C
	ServerMoved                     ReasonCode = 0x9D
	SharedSubscriptionsNotSupported ReasonCode = 0x9E
	ConnectionRateExceeded          ReasonCode = 0x9F
	MaximumConnectTime              ReasonCode = 0xA0
	SubscriptionIDsNotSupported     ReasonCode = 0xA1
	WildcardsNotSupported           ReasonCode = 0xA2
)

// The return codes of a 3.x CONNACK.
const (
	ReturnAccepted          ReasonCode = 0
	ReturnBadVersion        ReasonCode = 1
	ReturnIDRejected        ReasonCode = 2
	ReturnServerUnavailable ReasonCode = 3
	ReturnBadCredentials    ReasonCode = 4
	ReturnNotAuthorized     ReasonCode = 5
)

// SubackFailure is the only failure code of a 3.1.1 SUBACK.
const SubackFailure byte = 0x80
