package mqtt

import "bytes"

var sharePrefix = []byte("$share/")

// checkFilter judges a topic filter, shared ones included.
//
// The standard has shared subscriptions in 5.0 only, but brokers grant them to
// older clients too, so their form is asked of every version: a broker and this
// program must not read one filter differently. The code is always
// MalformedPacket: TopicFilterInvalid is for filters that are well-formed and
// still not accepted (section 3.9.3).
func checkFilter(b []byte, offset int) error {
	if len(b) == 0 { // [MQTT-4.7.3-1]
		return malformed(clauseEmpty, offset, "topic filter is empty")
	}
	shared := isShared(b)
	if !shared && plainTopic(b) {
		return nil
	}
	if !validString(b) {
		return badString(b, offset, "topic filter")
	}
	if shared {
		rest := b[len(sharePrefix):]
		name, filter, found := bytes.Cut(rest, []byte{'/'})
		if len(name) == 0 || bytes.ContainsAny(name, "+#") { // [MQTT-4.8.2-1] [MQTT-4.8.2-2]
			clause := "MQTT-4.8.2-1"
			if len(name) > 0 {
				clause = "MQTT-4.8.2-2"
			}
			return malformed(clause, offset, "share name is empty or holds a wildcard")
		}
		if !found || len(filter) == 0 { // [MQTT-4.8.2-2]
			return malformed("MQTT-4.8.2-2", offset, "no topic filter follows the share name")
		}
		b = filter
	}
	for i, c := range b {
		alone := i == 0 || b[i-1] == '/'
		switch {
		case c == '#' && (!alone || i != len(b)-1): // [MQTT-4.7.1-1]
			return malformed("MQTT-4.7.1-1", offset, "# is not alone in the last level of the filter")
		case c == '+' && (!alone || i != len(b)-1 && b[i+1] != '/'): // [MQTT-4.7.1-2]
			return malformed("MQTT-4.7.1-2", offset, "+ is not alone in its level of the filter")
		}
	}
	return nil
}

// isShared reports whether a filter asks for a shared subscription. "$share"
// without a slash is an ordinary filter.
func isShared(b []byte) bool { return bytes.HasPrefix(b, sharePrefix) }
