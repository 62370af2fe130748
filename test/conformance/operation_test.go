package conformance

const resend = "Nothing is sent again by us; what the ends send again is forwarded, or answered as the first time."

var deliveryStatements = []statement{
	forwarded("MQTT-4.1.0-1", "Session state is not discarded while the connection is open.", both,
		sessions+" Our tables last as long as the connection."),
	forwarded("MQTT-4.1.0-2", "Session state is discarded when it has expired.", server, sessions),
	checked("MQTT-4.2.0-1", "There is a transport that is ordered, lossless, both ways.", both, fromClient|fromBroker,
		"@netloop.Engine", "@gateway.wsConn.Data", "e2e.TestRoundTrips").remark("TCP and WebSocket."),
	checked("MQTT-4.3.1-1", "A PUBLISH of QoS 0 has DUP 0.", both, fromClient|fromBroker|asSender,
		"@session.Session.rewritten", "@mqtt.ParseHeader", "catalogue publish/client-dup-qos-0", "dialogue downgrade/2-to-0"),
	forwarded("MQTT-4.3.2-1", "QoS 1: a new message has an unused packet id.", both, "No PUBLISH is ours; a lowered one keeps its id."),
	forwarded("MQTT-4.3.2-2", "QoS 1: it is sent with DUP 0.", both, "No PUBLISH is ours."),
	forwarded("MQTT-4.3.2-3", "QoS 1: it is unacknowledged until PUBACK.", both, resend),
	checked("MQTT-4.3.2-4", "QoS 1: it is answered with PUBACK of its packet id.", both, asSender,
		"@session.Session.accept", "@session.Session.publishDenied", "dialogue delivery/filtered/qos1", "dialogue publish/denied/qos1", "dialogue downgrade/1-to-0").
		remark("Where it is answered here."),
	checked("MQTT-4.3.2-5", "QoS 1: after PUBACK the packet id is a new message, whatever DUP says.", both, fromClient|fromBroker,
		"@session.Session.enter", "@session.Session.brokerAck"),
	forwarded("MQTT-4.3.3-1", "QoS 2: a new message has an unused packet id.", both, "No PUBLISH is ours; a lowered one keeps its id."),
	forwarded("MQTT-4.3.3-2", "QoS 2: it is sent with DUP 0.", both, "No PUBLISH is ours."),
	forwarded("MQTT-4.3.3-3", "QoS 2: it is unacknowledged until PUBREC.", both, resend),
	checked("MQTT-4.3.3-4", "QoS 2: PUBREC below 0x80 is answered with PUBREL, and not before.", both, fromClient),
	forwarded("MQTT-4.3.3-5", "QoS 2: PUBREL is unacknowledged until PUBCOMP.", both, resend),
	forwarded("MQTT-4.3.3-6", "QoS 2: after PUBREL the PUBLISH is not sent again.", both, resend),
	forwarded("MQTT-4.3.3-7", "QoS 2: a PUBLISH that was sent does not expire.", both, resend),
	checked("MQTT-4.3.3-8", "QoS 2: it is answered with PUBREC of its packet id.", both, asSender,
		"@session.Session.accept", "@session.Session.publishDenied", "dialogue delivery/filtered/qos2", "dialogue publish/denied/qos2").
		remark("Where it is answered here."),
	checked("MQTT-4.3.3-9", "QoS 2: after PUBREC of 0x80 or more the packet id is a new message.", both, fromClient,
		"@session.Session.publishDenied", "@session.Session.brokerAck", "dialogue downgrade/broker-refuses"),
	checked("MQTT-4.3.3-10", "QoS 2: until PUBREL the same packet id is answered with PUBREC and delivered once.", both, fromClient,
		"@session.Session.enter", "dialogue downgrade/2-to-1", "dialogue publish/denied-released/qos2").
		remark("A PUBLISH with DUP 0 on such an id is refused: PUBREC 0x91, in 3.x a close."),
	checked("MQTT-4.3.3-11", "QoS 2: PUBREL is answered with PUBCOMP of its packet id.", both, asSender,
		"@session.Session.clientAck", "@session.Session.brokerAck", "dialogue downgrade/2-to-1", "dialogue delivery/filtered/qos2"),
	checked("MQTT-4.3.3-12", "QoS 2: after PUBCOMP the packet id is a new message.", both, fromClient|fromBroker,
		"@session.Session.clientAck", "@session.Session.deliver", "dialogue downgrade/2-to-1", "dialogue delivery/filtered/qos2-id-dealt-anew"),
	forwarded("MQTT-4.3.3-13", "QoS 2: the exchange goes on when the message has expired.", both, routing),
	forwarded("MQTT-4.4.0-1", "A resumed session sends again what is unacknowledged; nothing is sent again otherwise.", both, resend, "dialogue downgrade/resumed"),
	checked("MQTT-4.4.0-2", "After PUBACK or PUBREC of 0x80 or more nothing is sent again.", both, fromBroker,
		"@session.Session.brokerAck", "dialogue downgrade/broker-refuses"),
	forwarded("MQTT-4.5.0-1", "A message joins the sessions of those who subscribed.", server, routing),
	checked("MQTT-4.5.0-2", "A client acknowledges every PUBLISH that it gets, whether it wants it or not.", client, asSender,
		"@session.Session.filter", "dialogue delivery/filtered/qos1", "dialogue delivery/filtered/qos2", "dialogue delivery/bad-topic").
		remark("Towards the broker, for deliveries that the client does not get."),
	forwarded("MQTT-4.6.0-1", "A client sends again in the order of the first time.", client, "Each direction is forwarded in its order."),
	checked("MQTT-4.6.0-2", "A client sends PUBACKs in the order of the PUBLISHes.", client, asSender,
		"@session.Session.inTurn", "@session.Session.acknowledged", "dialogue delivery/filtered/in-turn").
		remark("The PUBACK for a filtered delivery waits for those that the client owes for earlier ones. A client that never acknowledges holds them up until the broker's window is full; beyond 1,024 that wait the oldest goes before its turn."),
	checked("MQTT-4.6.0-3", "A client sends PUBRECs in the order of the PUBLISHes.", client, asSender,
		"@session.Session.inTurn", "@session.Session.acknowledged", "dialogue delivery/filtered/in-turn").
		remark("The PUBREC for a filtered delivery likewise."),
	forwarded("MQTT-4.6.0-4", "A client sends PUBRELs in the order of the PUBRECs.", client, "No PUBREL is ours."),
	forwarded("MQTT-4.6.0-5", "Messages of one topic and QoS are delivered in their order.", server, "Each direction is forwarded in its order."),
	forwarded("MQTT-4.6.0-6", "Every topic is ordered but for shared subscriptions.", server, routing),
}

var topicStatements = []statement{
	checked("MQTT-4.7.0-1", "Wildcards stand in filters alone.", both, fromClient|fromBroker, "@mqtt.checkTopicName", "catalogue publish/client-wildcard-plus"),
	checked("MQTT-4.7.1-1", "# is alone in its level, and the last.", both, fromClient, "topic.TestCheck"),
	checked("MQTT-4.7.1-2", "+ is alone in its level.", both, fromClient, "topic.TestCheck"),
	checked("MQTT-4.7.2-1", "A filter that begins with a wildcard matches no topic that begins with $.", server, fromClient|fromBroker,
		"@topic.Match", "topic.TestMatch").remark("In the rules."),
	checked("MQTT-4.7.3-1", "Topic names and filters have at least one character.", both, fromClient|fromBroker),
	checked("MQTT-4.7.3-2", "They do not hold U+0000.", both, fromClient|fromBroker, "@mqtt.validString", "catalogue publish/topic-nul", "catalogue subscribe/filter-nul"),
	checked("MQTT-4.7.3-3", "They take at most 65,535 bytes.", both, fromClient|fromBroker|asSender, "@mqtt.appendData", "@mqtt.dataAt", "catalogue publish/topic-long").
		remark("Two bytes of length say no more."),
	checked("MQTT-4.7.3-4", "They are matched as they are, without normalization.", server, fromClient|fromBroker, "@topic.Match"),
	checked("MQTT-4.8.2-1", "A shared subscription begins with $share/ and a name of at least one character.", client, fromClient, "topic.TestSplitShare"),
	checked("MQTT-4.8.2-2", "The name has no /, + or #; a / and a filter follow.", client, fromClient, "topic.TestSplitShare"),
	forwarded("MQTT-4.8.2-3", "Deliveries respect the granted QoS.", server, routing),
	forwarded("MQTT-4.8.2-4", "A delivery of QoS 2 that was cut is completed to the same client.", server, routing),
	forwarded("MQTT-4.8.2-5", "If its session ends first, nobody else gets it.", server, routing),
	checked("MQTT-4.8.2-6", "A message that one client of a group refuses goes to no other.", server, asSender, "dialogue reload/shared-ends", "policy.TestSubscribeModes").
		remark("So that none is lost by a filtered delivery, a shared filter is granted only if all of it may be read, and a connection ends that may no more."),
}

var operationStatements = []statement{
	checked("MQTT-4.9.0-1", "The send quota begins with the Receive Maximum, or less.", both, fromClient|asSender,
		"@session.Session.mergeConnack", "dialogue limit/receive-maximum", "dialogue limit/receive-maximum-ours"),
	checked("MQTT-4.9.0-2", "At a quota of 0 no PUBLISH of QoS 1 or 2 is sent.", both, fromClient|asSender,
		"@session.Session.room", "dialogue limit/receive-maximum", "dialogue limit/receive-maximum-ours"),
	otherwise("MQTT-4.9.0-3", "At a quota of 0 all other packets are still processed.", both, fromClient,
		"While a client that ignores the broker's Receive Maximum is not read, none of its packets is.", "dialogue limit/receive-maximum"),
	forwarded("MQTT-4.12.0-1", "An Authentication Method that is not supported is refused.", server, "By the broker. The method is no part of our own authentication."),
	inPart("MQTT-4.12.0-2", "A server that needs more sends AUTH with 0x18.", server, fromBroker,
		"Before CONNACK 0x00 is taken too.", "@mqtt.Disconnect.checkCode", "catalogue auth/again-from-the-broker", "dialogue order/auth"),
	inPart("MQTT-4.12.0-3", "A client answers AUTH with AUTH 0x18.", client, fromClient,
		"Before CONNACK 0x19 is taken too.", "@mqtt.Disconnect.checkCode", "catalogue auth/success-from-the-client", "dialogue order/auth"),
	forwarded("MQTT-4.12.0-4", "A server may refuse at any time, and then closes.", server, unasked, "dialogue connack/refused"),
	inPart("MQTT-4.12.0-5", "Every AUTH and a successful CONNACK name the method of CONNECT.", both, fromClient|fromBroker,
		"AUTH is checked; the method in CONNACK is not compared."),
	inPart("MQTT-4.12.0-6", "Without a method in CONNECT a server sends no AUTH, and no method in CONNACK.", server, fromBroker,
		"AUTH is checked; a method in CONNACK is forwarded.", "@session.Session.possible"),
	checked("MQTT-4.12.0-7", "Without a method in CONNECT a client sends no AUTH.", client, fromClient, "@session.Session.possible", "dialogue order/auth-unasked"),
	checked("MQTT-4.12.1-1", "Re-authentication names the method of CONNECT.", client, fromClient, "@session.Session.authPacket", "dialogue order/auth"),
	forwarded("MQTT-4.12.1-2", "A failed re-authentication closes.", both, unasked),
	checked("MQTT-4.13.1-1", "A malformed packet or a protocol error ends the connection.", server, fromClient|fromBroker|asSender,
		"@session.Session.malformed", "@session.Session.misplaced", "dialogue order/malformed").
		remark("A delivery with sound framing and bad content is discarded instead: closing would loop for ever on a retained one."),
	checked("MQTT-4.13.2-1", "A CONNACK or DISCONNECT of 0x80 or more ends the connection, sent or not.", both, fromClient|fromBroker|asSender,
		"@session.Session.connack", "@session.Session.brokerDisconnect", "dialogue connack/refused", "dialogue end/broker-disconnects"),
}

var transportStatements = []statement{
	checked("MQTT-6.0.0-1", "MQTT goes in binary frames; another data frame closes.", both, fromClient|asSender,
		"agent.TestWebSocketRules", "gateway.TestFrameErrors", "e2e.TestWebSocketAttacks"),
	checked("MQTT-6.0.0-2", "A frame may hold several packets, or parts of some.", both, fromClient,
		"@gateway.frames.decode", "@agent.webSocket.feed", "gateway.TestFramesCutAtEveryByte", "agent.TestFrames"),
	checked("MQTT-6.0.0-3", "A client offers the subprotocol mqtt.", client, fromClient,
		"@gateway.upgradeRules.check", "@agent.settings.subprotocol", "gateway.TestUpgrade", "agent.TestUpgrade").
		remark("mqttv3.1 is taken too: 3.1 has that name."),
	inPart("MQTT-6.0.0-4", "The subprotocol selected is mqtt.", server, asSender,
		"A client that offers mqttv3.1 first is given that, also when it offers mqtt.",
		"@gateway.upgradeRules.check", "gateway.TestUpgrade"),
	inPart("MQTT-7.0.0-1", "A server that connects to servers conforms as client and server.", server, fromClient|fromBroker|asSender,
		"This document says how far.", "@session.Session.step", "session.TestDialogues", "gateway.TestDialogues"),
	checked("MQTT-7.0.0-2", "Nothing outside the standard is needed to interoperate.", both, fromClient|fromBroker,
		"@session.Session.step", "e2e.TestRoundTrips"),
}
