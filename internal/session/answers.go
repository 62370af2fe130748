package session

import (
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
)

// answer is what a client of the gateway door is told for a reason: the one
// table of policy section 6. The agent door sends nothing of its own; what it
// does with a refused frame is its own table.
type answer struct {
	connack5   mqtt.ReasonCode
	connack3   mqtt.ReasonCode // 0: no return code says it, close
	ack        mqtt.ReasonCode // PUBACK, PUBREC, and a filter of SUBACK
	disconnect mqtt.ReasonCode // on-deny: disconnect, and endings
}

// 0x95, 0x9A and 0x9B are never in the ack column: the standard does not list
// them for PUBACK and PUBREC, and clients drop the connection over them.
var answers = [...]answer{
	policy.ReasonNone:               {mqtt.UnspecifiedError, mqtt.ReturnServerUnavailable, mqtt.UnspecifiedError, mqtt.UnspecifiedError},
	policy.ReasonACL:                {mqtt.NotAuthorized, mqtt.ReturnNotAuthorized, mqtt.NotAuthorized, mqtt.NotAuthorized},
	policy.ReasonConnectRule:        {mqtt.NotAuthorized, mqtt.ReturnNotAuthorized, mqtt.NotAuthorized, mqtt.NotAuthorized},
	policy.ReasonWill:               {mqtt.NotAuthorized, mqtt.ReturnNotAuthorized, mqtt.NotAuthorized, mqtt.NotAuthorized},
	policy.ReasonResponseTopic:      {mqtt.NotAuthorized, mqtt.ReturnNotAuthorized, mqtt.NotAuthorized, mqtt.NotAuthorized},
	policy.ReasonBadCredentials:     {mqtt.BadUserNameOrPassword, mqtt.ReturnBadCredentials, mqtt.NotAuthorized, mqtt.NotAuthorized},
	policy.ReasonNotAllowed:         {mqtt.NotAuthorized, mqtt.ReturnNotAuthorized, mqtt.NotAuthorized, mqtt.NotAuthorized},
	policy.ReasonLockedOut:          {mqtt.QuotaExceeded, mqtt.ReturnServerUnavailable, mqtt.NotAuthorized, mqtt.NotAuthorized},
	policy.ReasonAuthBusy:           {mqtt.ServerBusy, mqtt.ReturnServerUnavailable, mqtt.NotAuthorized, mqtt.ServerBusy},
	policy.ReasonClientID:           {mqtt.ClientIDNotValid, mqtt.ReturnIDRejected, mqtt.NotAuthorized, mqtt.NotAuthorized},
	policy.ReasonVersion:            {mqtt.UnsupportedVersion, mqtt.ReturnBadVersion, mqtt.NotAuthorized, mqtt.ProtocolError},
	policy.ReasonTooManyConnections: {mqtt.ConnectionRateExceeded, mqtt.ReturnServerUnavailable, mqtt.QuotaExceeded, mqtt.QuotaExceeded},
	policy.ReasonServerUnavailable:  {mqtt.ServerUnavailable, mqtt.ReturnServerUnavailable, mqtt.UnspecifiedError, mqtt.ServerShuttingDown},
	policy.ReasonDraining:           {mqtt.ServerUnavailable, mqtt.ReturnServerUnavailable, mqtt.UnspecifiedError, mqtt.ServerShuttingDown},
	policy.ReasonRate:               {mqtt.ConnectionRateExceeded, mqtt.ReturnServerUnavailable, mqtt.QuotaExceeded, mqtt.MessageRateTooHigh},
	policy.ReasonInspection:         {mqtt.NotAuthorized, mqtt.ReturnNotAuthorized, mqtt.PayloadFormatInvalid, mqtt.PayloadFormatInvalid},
	policy.ReasonPayloadSize:        {mqtt.NotAuthorized, mqtt.ReturnNotAuthorized, mqtt.PayloadFormatInvalid, mqtt.PayloadFormatInvalid},
	policy.ReasonQoS:                {mqtt.NotAuthorized, mqtt.ReturnNotAuthorized, mqtt.NotAuthorized, mqtt.QoSNotSupported},
	policy.ReasonRetained:           {mqtt.NotAuthorized, mqtt.ReturnNotAuthorized, mqtt.NotAuthorized, mqtt.RetainNotSupported},
	policy.ReasonRetainedSize:       {mqtt.NotAuthorized, mqtt.ReturnNotAuthorized, mqtt.NotAuthorized, mqtt.RetainNotSupported},
	policy.ReasonMalformed:          {mqtt.MalformedPacket, 0, mqtt.UnspecifiedError, mqtt.MalformedPacket},
	policy.ReasonProtocol:           {mqtt.ProtocolError, 0, mqtt.UnspecifiedError, mqtt.ProtocolError},
	policy.ReasonPacketTooLarge:     {mqtt.PacketTooLarge, 0, mqtt.QuotaExceeded, mqtt.PacketTooLarge},
	policy.ReasonLimit:              {mqtt.QuotaExceeded, mqtt.ReturnNotAuthorized, mqtt.QuotaExceeded, mqtt.QuotaExceeded},
	policy.ReasonUpgrade:            {mqtt.UnspecifiedError, 0, mqtt.UnspecifiedError, mqtt.UnspecifiedError},
	policy.ReasonUninspectable:      {mqtt.NotAuthorized, mqtt.ReturnNotAuthorized, mqtt.PayloadFormatInvalid, mqtt.PayloadFormatInvalid},
	policy.ReasonDecisionTimeout:    {mqtt.ServerBusy, mqtt.ReturnServerUnavailable, mqtt.UnspecifiedError, mqtt.ServerBusy},
}

// answerTo returns the row of a reason; one that has none is answered like an
// unspecified error.
func answerTo(r policy.Reason) *answer {
	if int(r) < len(answers) && answers[r].ack != 0 {
		return &answers[r]
	}
	return &answers[policy.ReasonNone]
}

// filterCode is what stands in SUBACK for a refused filter.
func filterCode(v mqtt.Version, r policy.Reason) byte {
	if v != mqtt.V5 {
		return mqtt.SubackFailure
	}
	return byte(answerTo(r).ack)
}

// unsubackRefusal is what stands in UNSUBACK for a refused filter, for whatever
// reason: the standard lists no code for a quota there.
const unsubackRefusal = mqtt.NotAuthorized

// ackCode is what stands in PUBACK and PUBREC for a refused PUBLISH. Before
// 5.0 nothing can be refused there: the message is acknowledged and not
// forwarded ([MQTT-3.3.5-2] of 3.1.1).
func ackCode(v mqtt.Version, r policy.Reason) mqtt.ReasonCode {
	if v != mqtt.V5 {
		return mqtt.Success
	}
	return answerTo(r).ack
}

// endings is what a client that is connected is told when its connection ends
// for a cause, unless the End names a code (policy section 9).
var endings = [...]mqtt.ReasonCode{
	CauseNone:             mqtt.UnspecifiedError,
	CauseClientDisconnect: mqtt.Success, // not sent: the client ended it
	CauseClientLost:       mqtt.Success, // not sent: nobody is there
	CauseKeepAlive:        mqtt.KeepAliveTimeout,
	CauseMalformed:        mqtt.MalformedPacket,
	CauseProtocol:         mqtt.ProtocolError,
	CauseRefused:          mqtt.NotAuthorized,
	CausePolicy:           mqtt.NotAuthorized,
	CauseDrain:            mqtt.ServerShuttingDown,
	CauseUpstreamLost:     mqtt.ServerShuttingDown,
	CauseBrokerFault:      mqtt.ServerShuttingDown,
	CauseBrokerRefused:    mqtt.UnspecifiedError,
	CauseBrokerDisconnect: mqtt.Success, // not sent: the broker's own was forwarded
	CauseConnectTimeout:   mqtt.KeepAliveTimeout,
	CauseStalled:          mqtt.UnspecifiedError,
	CauseInternal:         mqtt.ImplementationSpecific,
}
