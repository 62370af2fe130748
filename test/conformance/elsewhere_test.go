package conformance

// sectionRules are what the standard demands without numbering it. The codec
// names such a rule by its section.
var sectionRules = []statement{
	checked("MQTT 1.5.5", "A variable byte integer has at most four bytes.", both, fromClient|fromBroker),
	checked("MQTT 2.1.2", "Each side sends the packets that are its own; type 0 is nobody's.", both, fromClient|fromBroker, "dialogue order/broker-sends-subscribe"),
	checked("MQTT 2.1.4", "The Remaining Length is one that the packet can have.", both, fromClient|fromBroker),
	checked("MQTT 2.2.2.2", "A property stands only in the packets that have it, and once unless it may be repeated.", both, fromClient|fromBroker),
	checked("MQTT 3.1.2.11.3", "Receive Maximum is not 0.", both, fromClient|fromBroker),
	checked("MQTT 3.1.2.11.4", "Maximum Packet Size is not 0.", both, fromClient|fromBroker),
	checked("MQTT 3.1.2.11.6", "Request Response Information is 0 or 1.", client, fromClient),
	checked("MQTT 3.1.2.11.7", "Request Problem Information is 0 or 1.", client, fromClient),
	checked("MQTT 3.1.2.11.10", "Authentication Data needs an Authentication Method.", client, fromClient),
	checked("MQTT 3.2.2.3.4", "Maximum QoS is 0 or 1.", server, fromBroker),
	checked("MQTT 3.2.2.3.5", "Retain Available is 0 or 1.", server, fromBroker),
	checked("MQTT 3.2.2.3.11", "Wildcard Subscription Available is 0 or 1.", server, fromBroker),
	checked("MQTT 3.2.2.3.12", "Subscription Identifiers Available is 0 or 1.", server, fromBroker),
	checked("MQTT 3.2.2.3.13", "Shared Subscription Available is 0 or 1.", server, fromBroker),
	checked("MQTT 3.3.2.1", "A PUBLISH without a topic name has a topic alias.", both, fromClient|fromBroker),
	checked("MQTT 3.3.2.3.2", "Payload Format Indicator is 0 or 1.", both, fromClient|fromBroker),
	checked("MQTT 3.3.2.3.4", "A topic alias that was not defined is a protocol error.", both, fromClient|fromBroker, "@session.Session.resolve", "dialogue alias/unknown"),
	checked("MQTT 3.8.2.1.2", "A Subscription Identifier is not 0.", both, fromClient|fromBroker),
	checked("MQTT 3.8.3.1", "Requested QoS and Retain Handling are not 3.", client, fromClient),
	checked("MQTT 3.14.2.2.2", "A DISCONNECT does not raise a Session Expiry Interval of 0.", client, fromClient,
		"@session.Session.clientDisconnect", "dialogue disconnect/expiry-out-of-nothing"),
	checked("MQTT 3.15.2.2.2", "AUTH has an Authentication Method.", both, fromClient|fromBroker),
}

// olderStatements are what 3.1.1 alone demands.
var olderStatements = []statement{
	checked("MQTT 3.1.1 MQTT-3.1.2-22", "Without a user name there is no password.", client, fromClient),
	checked("MQTT 3.1.1 MQTT-3.3.5-2", "A PUBLISH that is not authorized is acknowledged as its QoS says, or the connection closed.", server, asSender,
		"dialogue publish/denied/qos1", "dialogue publish/denied/qos2"),
	checked("MQTT-3-8.3-4", "The requested QoS is 0, 1 or 2, and the other bits are 0.", client, fromClient,
		"catalogue subscribe/qos-3", "catalogue subscribe/option-no-local").remark("The standard's own number."),
}
