package session

import (
	"math"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
)

// maxTurns bounds the acknowledgements of a kind that wait for the client's.
// Only a client that takes more messages at once than that, and leaves the first
// unacknowledged, gets there; then the oldest goes before its turn.
const maxTurns = 1024

// turn is an acknowledgement in the client's place whose turn has not come.
type turn struct {
	id    uint16
	after uint16 // so many acknowledgements of the client, since the turn before, come first
}

// turns are the acknowledgements of filtered deliveries that wait, PUBACKs and
// PUBRECs apart: the broker gets each kind in the order of its deliveries
// [MQTT-4.6.0-2] [MQTT-4.6.0-3]. What waits is in flight as the broker counts,
// so its own window bounds what a client can hold up by not acknowledging.
type turns [2][]turn

// delivered notes a message of QoS 1 or 2 that the client has to acknowledge.
func (s *Session) delivered(qos byte) {
	if n := &s.unacked[qos-1]; *n < math.MaxUint16 {
		*n++
	}
}

// inTurn sends PUBACK or PUBREC for a filtered delivery, when the client has
// acknowledged what it got before.
func (s *Session) inTurn(r reply, fx *Effects) {
	k := kindOf(r.typ)
	if s.unacked[k] == 0 && len(s.few().turns[k]) == 0 {
		s.reply(mqtt.Broker, r, fx)
		return
	}
	list := &s.rare().turns[k]
	if *list = append(*list, turn{r.id, s.unacked[k]}); len(*list) > maxTurns {
		first, next := (*list)[0], &(*list)[1]
		next.after += min(first.after, math.MaxUint16-next.after)
		*list = (*list)[1:]
		s.reply(mqtt.Broker, reply{typ: r.typ, id: first.id}, fx)
	}
	s.unacked[k] = 0
}

// acknowledged follows a PUBACK or PUBREC of the client: those of ours go whose
// turn it is now.
func (s *Session) acknowledged(typ mqtt.Type, fx *Effects) {
	k := kindOf(typ)
	list := s.few().turns[k]
	if len(list) == 0 {
		if s.unacked[k] > 0 {
			s.unacked[k]--
		}
		return
	}
	for list[0].after--; list[0].after == 0; {
		s.reply(mqtt.Broker, reply{typ: typ, id: list[0].id}, fx)
		if list = list[1:]; len(list) == 0 {
			list = nil
			break
		}
	}
	s.seldom.turns[k] = list
}

// kindOf is the index of PUBACK and of PUBREC in unacked and turns: their QoS,
// less one.
func kindOf(typ mqtt.Type) int {
	if typ == mqtt.PUBREC {
		return 1
	}
	return 0
}
