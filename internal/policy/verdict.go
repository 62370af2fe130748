package policy

// Outcome is what was decided. The zero value denies.
type Outcome uint8

// The outcomes.
const (
	Deny Outcome = iota
	Allow
)

// Reason says why something was denied. It is finer than the audit's third
// tag; [Reason.Tag] gives that.
type Reason uint8

// The reasons. The comment is the audit tag.
const (
	ReasonNone               Reason = iota
	ReasonACL                       // acl-denied
	ReasonConnectRule               // acl-denied
	ReasonWill                      // acl-denied
	ReasonResponseTopic             // acl-denied
	ReasonBadCredentials            // auth-failed
	ReasonNotAllowed                // auth-failed: anonymous not allowed, banned
	ReasonLockedOut                 // locked-out
	ReasonAuthBusy                  // server-unavailable: no place to hash, auth service away
	ReasonClientID                  // client-id-invalid
	ReasonVersion                   // protocol-version
	ReasonTooManyConnections        // too-many-connections
	ReasonServerUnavailable         // server-unavailable: broker away
	ReasonDraining                  // server-unavailable
	ReasonRate                      // rate-limited
	ReasonInspection                // inspection-blocked
	ReasonPayloadSize               // inspection-blocked
	ReasonQoS                       // qos-denied
	ReasonRetained                  // retained-denied
	ReasonRetainedSize              // retained-denied
	ReasonMalformed                 // protocol-error
	ReasonProtocol                  // protocol-error
	ReasonPacketTooLarge            // packet-too-large
	ReasonLimit                     // limit-exceeded
	ReasonUpgrade                   // upgrade-refused
	ReasonUninspectable             // uninspectable
	ReasonDecisionTimeout           // decision-timeout
)

// reasonTags are the audit's words, by Reason.
var reasonTags = [...]string{
	ReasonNone:               "",
	ReasonACL:                "acl-denied",
	ReasonConnectRule:        "acl-denied",
	ReasonWill:               "acl-denied",
	ReasonResponseTopic:      "acl-denied",
	ReasonBadCredentials:     "auth-failed",
	ReasonNotAllowed:         "auth-failed",
	ReasonLockedOut:          "locked-out",
	ReasonAuthBusy:           "server-unavailable",
	ReasonClientID:           "client-id-invalid",
	ReasonVersion:            "protocol-version",
	ReasonTooManyConnections: "too-many-connections",
	ReasonServerUnavailable:  "server-unavailable",
	ReasonDraining:           "server-unavailable",
	ReasonRate:               "rate-limited",
	ReasonInspection:         "inspection-blocked",
	ReasonPayloadSize:        "inspection-blocked",
	ReasonQoS:                "qos-denied",
	ReasonRetained:           "retained-denied",
	ReasonRetainedSize:       "retained-denied",
	ReasonMalformed:          "protocol-error",
	ReasonProtocol:           "protocol-error",
	ReasonPacketTooLarge:     "packet-too-large",
	ReasonLimit:              "limit-exceeded",
	ReasonUpgrade:            "upgrade-refused",
	ReasonUninspectable:      "uninspectable",
	ReasonDecisionTimeout:    "decision-timeout",
}

// Tag is the third word of the audit's tags, "" for ReasonNone.
func (r Reason) Tag() string {
	if int(r) >= len(reasonTags) {
		return ""
	}
	return reasonTags[r]
}

// Rule is what stands for the rule of a decision that no rule or setting made:
// every denial has a name to look for. RuleNone where others decide.
func (r Reason) Rule() RuleRef {
	switch r {
	case ReasonMalformed, ReasonProtocol:
		return RuleProtocol
	case ReasonServerUnavailable:
		return RuleUpstream
	case ReasonUpgrade:
		return RuleUpgrade
	case ReasonNotAllowed:
		return RuleRevoked
	case ReasonDraining:
		return RuleDrain
	}
	return RuleNone
}

// RuleRef names what decided: a rule of the engine (> 0: its place in
// evaluation order, from 1), a built-in check (< 0), or nothing (0).
// [Engine.RuleName] gives its name.
type RuleRef int32

// ruleAt is the reference of the rule at a place in evaluation order, from 0.
func ruleAt(i int) RuleRef { return RuleRef(i + 1) }

// The built-in checks; their names are in builtinNames.
const (
	RuleNone RuleRef = -iota
	RuleDefaultAction
	RuleTakeover
	RuleAllowAnonymous
	RuleProviders
	RuleFailureLockout
	RuleBannedFile
	RuleClientIDPattern
	RuleClientIDLength
	RuleClientIDTemplate
	RuleEmptyClientID
	RuleProtocolVersions
	RuleMaxPacketSize
	RuleMaxConnections
	RuleMaxConnectionsPerIP
	RulePendingConnections
	RulePendingPerIP
	RuleTopicBytes
	RuleTopicLevels
	RuleFiltersPerSubscribe
	RuleSubscriptions
	RuleUserProperties
	RuleWillBytes
	RuleWillDelay
	RuleKeepAlive
	RuleReceiveMaximum
	RuleTopicAliases
	RuleOutstandingRequests
	RuleDenialsPerMinute
	RulePacketsPerSecond
	RuleConnectBytes
	RuleBufferBytes
	RuleMaxDeliverySize
	RuleQoS          // "max-qos": the qos section
	RuleQoSPerTopic  // "qos.per-topic"
	RuleRetained     // "retained"
	RuleRetainedSize // "retained-size"
	RulePayloadSize  // "payload-size"
	RuleFailOpen
	RuleCharacters     // "characters": a client id or user name that brokers do not take
	RuleUpstreamQoS    // "upstream-max-qos": what the broker announced
	RuleUpstreamRetain // "upstream-retain"
	RuleProtocol       // "protocol": MQTT itself
	RuleUpstream       // "upstream": no broker, or one that does not answer
	RuleUpgrade        // "upgrade": of a WebSocket
	RuleRevoked        // "revoked": who was admitted would not be any more
	RuleDrain          // "drain": we stop
	RuleOthers         // "others": rules there was no place to count apart
	RuleNoPassword     // "no-password": a user name alone
	RuleUnknownUser    // "unknown-user": none that a provider knows
	RuleUserDisabled   // "user-disabled"
	RuleWrongPassword  // "wrong-password"
)

// builtinNames are the names of the built-in checks, by -RuleRef.
var builtinNames = [...]string{
	-RuleNone:                "",
	-RuleDefaultAction:       "default-action",
	-RuleTakeover:            "takeover",
	-RuleAllowAnonymous:      "allow-anonymous",
	-RuleProviders:           "providers",
	-RuleFailureLockout:      "failure-lockout",
	-RuleBannedFile:          "banned-file",
	-RuleClientIDPattern:     "client-id-pattern",
	-RuleClientIDLength:      "client-id-length",
	-RuleClientIDTemplate:    "client-id-template",
	-RuleEmptyClientID:       "empty-client-id",
	-RuleProtocolVersions:    "protocol-versions",
	-RuleMaxPacketSize:       "max-packet-size",
	-RuleMaxConnections:      "max-connections",
	-RuleMaxConnectionsPerIP: "max-connections-per-ip",
	-RulePendingConnections:  "pending-connections",
	-RulePendingPerIP:        "pending-per-ip",
	-RuleTopicBytes:          "topic-bytes",
	-RuleTopicLevels:         "topic-levels",
	-RuleFiltersPerSubscribe: "filters-per-subscribe",
	-RuleSubscriptions:       "subscriptions",
	-RuleUserProperties:      "user-properties",
	-RuleWillBytes:           "will-bytes",
	-RuleWillDelay:           "will-delay-secs",
	-RuleKeepAlive:           "keep-alive-secs",
	-RuleReceiveMaximum:      "receive-maximum",
	-RuleTopicAliases:        "topic-aliases",
	-RuleOutstandingRequests: "outstanding-requests",
	-RuleDenialsPerMinute:    "denials-per-minute",
	-RulePacketsPerSecond:    "packets-per-second",
	-RuleConnectBytes:        "connect-bytes",
	-RuleBufferBytes:         "buffer-bytes",
	-RuleMaxDeliverySize:     "max-delivery-size",
	-RuleQoS:                 "max-qos",
	-RuleQoSPerTopic:         "qos.per-topic",
	-RuleRetained:            "retained",
	-RuleRetainedSize:        "retained-size",
	-RulePayloadSize:         "payload-size",
	-RuleFailOpen:            "fail-open",
	-RuleCharacters:          "characters",
	-RuleUpstreamQoS:         "upstream-max-qos",
	-RuleUpstreamRetain:      "upstream-retain",
	-RuleProtocol:            "protocol",
	-RuleUpstream:            "upstream",
	-RuleUpgrade:             "upgrade",
	-RuleRevoked:             "revoked",
	-RuleDrain:               "drain",
	-RuleOthers:              "others",
	-RuleNoPassword:          "no-password",
	-RuleUnknownUser:         "unknown-user",
	-RuleUserDisabled:        "user-disabled",
	-RuleWrongPassword:       "wrong-password",
}

// Builtin names a built-in check, which has one name in every engine; "" for a
// rule of one.
func (r RuleRef) Builtin() string {
	if r <= 0 && int(-r) < len(builtinNames) {
		return builtinNames[-r]
	}
	return ""
}

// Verdict is one decision. The zero Outcome denies.
type Verdict struct {
	Outcome Outcome
	Reason  Reason  // why it was denied, or the will removed
	Rule    RuleRef // what decided; also set when allowed
	// QoS is, when allowed, the QoS to go on with: lower than asked when
	// downgraded. For a filter it is the granted maximum.
	QoS byte
	// ClearRetain: the retain flag must be taken off (retained.on-denied strip,
	// or a will).
	ClearRetain bool
	// RemoveWill: the CONNECT goes on without its will (acl.on-denied-will).
	RemoveWill bool
	QoSRule    RuleRef // what lowered the QoS
	RetainRule RuleRef // what cleared the flag
}

// Allowed reports v.Outcome == Allow.
func (v Verdict) Allowed() bool { return v.Outcome == Allow }

// Step is one check on the way to a verdict.
type Step struct {
	Check   string // "acl", "qos", "retained", "limits", "response-topic", …
	Outcome Outcome
	Rule    RuleRef
	Detail  string // evidence for people, e.g. `topic "a/b" matches "a/+"`
	Witness string // a topic that shows why a filter was refused or granted
}
