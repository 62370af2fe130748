package conformance

const dropsWords = "What we put in may make it larger: then what the broker said in words goes, and what is still too large is not sent."

var subscribeStatements = []statement{
	checked("MQTT-3.8.1-1", "The flags of SUBSCRIBE are 0010.", client, fromClient, "@mqtt.checkFirst", "catalogue header/flags-80", "catalogue header/flags-8A").
		remark("3.1 has DUP there."),
	checked("MQTT-3.8.3-1", "Filters are strings.", client, fromClient, "catalogue subscribe/filter-nul", "catalogue subscribe/filter-surrogate"),
	checked("MQTT-3.8.3-2", "There is at least one filter.", client, fromClient),
	forwarded("MQTT-3.8.3-3", "No Local keeps a client's own messages from it.", server, routing),
	checked("MQTT-3.8.3-4", "No Local on a shared subscription is a protocol error.", client, fromClient, "dialogue subscribe/no-local-on-shared"),
	checked("MQTT-3.8.3-5", "Reserved bits of the options are 0.", server, fromClient),
	checked("MQTT-3.8.4-1", "SUBSCRIBE is answered with SUBACK.", server, asSender, "@session.Session.answerSplit", "dialogue subscribe/all-denied").
		remark("By the broker, unless nothing of it goes up."),
	checked("MQTT-3.8.4-2", "SUBACK has the packet id of its SUBSCRIBE.", server, fromBroker|asSender,
		"@session.Session.suback", "@session.Session.answerSplit", "dialogue subscribe/unasked-answer", "dialogue subscribe/all-denied"),
	forwarded("MQTT-3.8.4-3", "The same filter again replaces its subscription.", server, routing, "dialogue limit/subscriptions"),
	forwarded("MQTT-3.8.4-4", "Retain Handling 0 then sends the retained messages again; none is lost.", server, routing),
	checked("MQTT-3.8.4-5", "Several filters count as several SUBSCRIBEs with one SUBACK.", server, asSender,
		"@session.Session.subscribe", "dialogue subscribe/partly-denied"),
	checked("MQTT-3.8.4-6", "SUBACK has a code for each filter.", server, fromBroker|asSender,
		"@session.Session.suback", "dialogue subscribe/wrong-number-of-codes", "dialogue subscribe/partly-denied"),
	checked("MQTT-3.8.4-7", "The code says the QoS granted or a failure.", server, asSender,
		"@session.request.merge", "dialogue subscribe/partly-denied"),
	forwarded("MQTT-3.8.4-8", "A delivery's QoS is the least of the message's and the granted one.", server, routing+" Deliveries are never lowered by us."),
	checked("MQTT-3.9.2-1", "A Reason String does not make SUBACK larger than the client takes.", server, asSender,
		"@session.Session.suback", "dialogue tight/suback-with-31-words").remark(dropsWords),
	checked("MQTT-3.9.2-2", "A User Property does not make SUBACK larger than the client takes.", server, asSender,
		"@session.Session.suback", "dialogue tight/suback-with-31-words").remark(dropsWords),
	checked("MQTT-3.9.3-1", "The codes are in the order of the filters.", server, asSender, "dialogue subscribe/partly-denied"),
	checked("MQTT-3.9.3-2", "The codes are ones that SUBACK has.", server, fromBroker|asSender, "session.TestAnswersAreLegal"),
}

var unsubscribeStatements = []statement{
	checked("MQTT-3.10.1-1", "The flags of UNSUBSCRIBE are 0010.", client, fromClient, "@mqtt.checkFirst", "catalogue header/flags-A0", "catalogue header/flags-AA").
		remark("3.1 has DUP there."),
	checked("MQTT-3.10.3-1", "Filters are strings.", client, fromClient, "catalogue unsubscribe/filter-nul", "catalogue unsubscribe/filter-surrogate"),
	checked("MQTT-3.10.3-2", "There is at least one filter.", client, fromClient),
	forwarded("MQTT-3.10.4-1", "A filter ends the subscription that equals it byte for byte.", server, routing),
	forwarded("MQTT-3.10.4-2", "No new message is added for delivery.", server, routing),
	forwarded("MQTT-3.10.4-3", "Deliveries that have begun are completed.", server, routing),
	checked("MQTT-3.10.4-4", "UNSUBSCRIBE is answered with UNSUBACK.", server, asSender, "@session.Session.answerSplit", "dialogue unsubscribe/all-denied").
		remark("By the broker, unless nothing of it goes up."),
	checked("MQTT-3.10.4-5", "UNSUBACK has the packet id of its UNSUBSCRIBE, also when nothing was deleted.", server, fromBroker|asSender,
		"@session.Session.suback", "@session.Session.answerSplit", "dialogue unsubscribe/all-denied"),
	checked("MQTT-3.10.4-6", "Several filters count as several UNSUBSCRIBEs with one UNSUBACK.", server, asSender,
		"@session.Session.unsubscribe", "dialogue unsubscribe/partly-denied"),
	checked("MQTT-3.11.2-1", "A Reason String does not make UNSUBACK larger than the client takes.", server, asSender,
		"@session.Session.suback", "dialogue tight/unsuback-with-31-words").remark(dropsWords),
	checked("MQTT-3.11.2-2", "A User Property does not make UNSUBACK larger than the client takes.", server, asSender,
		"@session.Session.suback", "dialogue tight/unsuback-with-31-words").remark(dropsWords),
	checked("MQTT-3.11.3-1", "The codes are in the order of the filters.", server, asSender, "@session.request.merge", "dialogue unsubscribe/partly-denied"),
	checked("MQTT-3.11.3-2", "The codes are ones that UNSUBACK has.", server, fromBroker|asSender),
	forwarded("MQTT-3.12.4-1", "PINGREQ is answered with PINGRESP.", server, "By the broker. A PINGRESP to a PINGREQ of ours stays here.",
		"dialogue time/pings", "dialogue time/feeds-the-broker"),
}

var disconnectStatements = []statement{
	checked("MQTT-3.14.0-1", "A server sends no DISCONNECT before CONNACK below 0x80.", server, fromBroker|asSender,
		"@session.Session.possible", "dialogue end/drain-before-connack"),
	checked("MQTT-3.14.1-1", "The flags of DISCONNECT are 0.", both, fromClient|fromBroker,
		"@mqtt.checkFirst", "catalogue header/flags-E4", "catalogue header/disconnect-flags-broker"),
	checked("MQTT-3.14.2-1", "The code is one that DISCONNECT has.", both, fromClient|fromBroker|asSender, "session.TestAnswersAreLegal").
		remark("0x8C and, from a broker, 0 are taken too."),
	checked("MQTT-3.14.2-2", "A server's DISCONNECT has no Session Expiry Interval.", server, fromBroker),
	checked("MQTT-3.14.2-3", "A Reason String does not make DISCONNECT larger than the receiver takes.", both, asSender, "@session.Session.farewell").remark(noReason),
	checked("MQTT-3.14.2-4", "A User Property does not make DISCONNECT larger than the receiver takes.", both, asSender, "@session.Session.farewell").remark(noReason),
	checked("MQTT-3.14.4-1", "Nothing follows a DISCONNECT.", both, fromClient|fromBroker|asSender,
		"@session.Session.finishEnd", "@session.Session.trailed", "dialogue order/after-disconnect"),
	checked("MQTT-3.14.4-2", "After a DISCONNECT the connection is closed.", both, asSender,
		"@session.Session.finishEnd", "dialogue publish/denied-disconnect/qos1", "e2e.TestDrain"),
	forwarded("MQTT-3.14.4-3", "DISCONNECT 0 of a client discards its will.", server, wills+" An end whose will must not fire sends it.",
		"dialogue end/revoked", "dialogue connect/accepted"),
	checked("MQTT-3.15.1-1", "The flags of AUTH are 0.", both, fromClient|fromBroker, "@mqtt.checkFirst", "catalogue header/auth-flags"),
	checked("MQTT-3.15.2-1", "The code is one that AUTH has, from that side.", both, fromClient|fromBroker),
	forwarded("MQTT-3.15.2-2", "A Reason String does not make AUTH larger than the receiver takes.", both, "No AUTH is ours."),
	forwarded("MQTT-3.15.2-3", "A User Property does not make AUTH larger than the receiver takes.", both, "No AUTH is ours."),
}
