package mqtt

import "strconv"

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

// String returns the name of the code in words, "not authorized"; of a code
// that the standard does not know, its number. The return codes of 3.x share
// their numbers with other codes and are not told apart.
func (c ReasonCode) String() string {
	switch c {
	case Success:
		return "success"
	case GrantedQoS1:
		return "granted QoS 1"
	case GrantedQoS2:
		return "granted QoS 2"
	case DisconnectWithWill:
		return "disconnect with will message"
	case NoMatchingSubscribers:
		return "no matching subscribers"
	case NoSubscriptionExisted:
		return "no subscription existed"
	case ContinueAuthentication:
		return "continue authentication"
	case ReAuthenticate:
		return "re-authenticate"
	case UnspecifiedError:
		return "unspecified error"
	case MalformedPacket:
		return "malformed packet"
	case ProtocolError:
		return "protocol error"
	case ImplementationSpecific:
		return "implementation specific error"
	case UnsupportedVersion:
		return "unsupported protocol version"
	case ClientIDNotValid:
		return "client identifier not valid"
	case BadUserNameOrPassword:
		return "bad user name or password"
	case NotAuthorized:
		return "not authorized"
	case ServerUnavailable:
		return "server unavailable"
	case ServerBusy:
		return "server busy"
	case Banned:
		return "banned"
	case ServerShuttingDown:
		return "server shutting down"
	case BadAuthMethod:
		return "bad authentication method"
	case KeepAliveTimeout:
		return "keep alive timeout"
	case SessionTakenOver:
		return "session taken over"
	case TopicFilterInvalid:
		return "topic filter invalid"
	case TopicNameInvalid:
		return "topic name invalid"
	case PacketIDInUse:
		return "packet identifier in use"
	case PacketIDNotFound:
		return "packet identifier not found"
	case ReceiveMaximumExceeded:
		return "receive maximum exceeded"
	case TopicAliasInvalid:
		return "topic alias invalid"
	case PacketTooLarge:
		return "packet too large"
	case MessageRateTooHigh:
		return "message rate too high"
	case QuotaExceeded:
		return "quota exceeded"
	case AdministrativeAction:
		return "administrative action"
	case PayloadFormatInvalid:
		return "payload format invalid"
	case RetainNotSupported:
		return "retain not supported"
	case QoSNotSupported:
		return "QoS not supported"
	case UseAnotherServer:
		return "use another server"
	case ServerMoved:
		return "server moved"
	case SharedSubscriptionsNotSupported:
		return "shared subscriptions not supported"
	case ConnectionRateExceeded:
		return "connection rate exceeded"
	case MaximumConnectTime:
		return "maximum connect time"
	case SubscriptionIDsNotSupported:
		return "subscription identifiers not supported"
	case WildcardsNotSupported:
		return "wildcard subscriptions not supported"
	}
	return "reason code 0x" + strconv.FormatUint(uint64(c), 16)
}

// Failed reports whether c says that something was refused or went wrong: 0x80
// and above.
func (c ReasonCode) Failed() bool { return c >= 0x80 }

// codeSet is a set of reason codes.
type codeSet [4]uint64

func (s *codeSet) has(c ReasonCode) bool { return s[c>>6]&(1<<(c&63)) != 0 }

func codes(list ...ReasonCode) (s codeSet) {
	for _, c := range list {
		s[c>>6] |= 1 << (c & 63)
	}
	return s
}

// with returns s and the given codes.
func (s codeSet) with(list ...ReasonCode) codeSet {
	for i, w := range codes(list...) {
		s[i] |= w
	}
	return s
}
