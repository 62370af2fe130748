package session

import (
	"slices"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
)

// maxWaiting bounds the bytes of filters that wait for their answers; reading
// waits beyond it.
const maxWaiting = 1 << 20

// request is a SUBSCRIBE or UNSUBSCRIBE that the broker has to answer.
type request struct {
	id         uint16
	typ        mqtt.Type
	own        bool // ours: the answer is swallowed
	split      bool // the broker was asked for less than the client asked for
	generation uint16
	asked      int // codes to come
	filters    []asked
}

// asked is one filter of a request, in the client's order.
type asked struct {
	filter string
	code   byte // our answer, when it was refused
	sent   bool // the broker answers
}

// requests are those outstanding. A nil table is empty.
type requests struct {
	list  []request
	own   int
	bytes int // of filters
}

func (r *requests) find(id uint16, typ mqtt.Type) int {
	if r == nil {
		return -1
	}
	return slices.IndexFunc(r.list, func(q request) bool { return q.id == id && q.typ == typ })
}

// uses reports whether some request has the id.
func (r *requests) uses(id uint16) bool {
	return r != nil && slices.ContainsFunc(r.list, func(q request) bool { return q.id == id })
}

// owns reports whether a request of ours has the id.
func (r *requests) owns(id uint16) bool {
	return r != nil && r.own > 0 && slices.ContainsFunc(r.list, func(q request) bool { return q.own && q.id == id })
}

// pending is how many filters the broker has been asked to subscribe to.
func (r *requests) pending() int {
	if r == nil {
		return 0
	}
	n := 0
	for i := range r.list {
		if r.list[i].typ == mqtt.SUBSCRIBE {
			n += r.list[i].asked
		}
	}
	return n
}

// heavy reports whether reading must wait for answers.
func (r *requests) heavy() bool { return r != nil && r.bytes > maxWaiting }

func (r *requests) add(q request) {
	r.list = append(r.list, q)
	if q.own {
		r.own++
	}
	r.bytes += q.bytes()
}

func (q *request) bytes() int {
	n := 0
	for i := range q.filters {
		n += len(q.filters[i].filter)
	}
	return n
}

func (r *requests) remove(i int) {
	if r.list[i].own {
		r.own--
	}
	r.bytes -= r.list[i].bytes()
	r.list = slices.Delete(r.list, i, i+1)
}

// request notes that the broker has to answer q.
func (s *Session) request(q request) {
	q.generation = s.generation
	made(&s.requests).add(q)
}

// mayRequest checks the table before one more request of the client: a hold, an
// end, or room. ok: there is room. Else n is what step returns.
func (s *Session) mayRequest(id uint16, h mqtt.Header, b []byte, pos int, fx *Effects) (n int, ok bool) {
	if s.set.detect {
		return 0, true
	}
	if s.occupied(id) {
		return s.wait(mqtt.Client, holdPacketID), false
	}
	if s.requests.heavy() && s.set.Can.Reply {
		return s.wait(mqtt.Client, holdRequests), false
	}
	if s.requests.uses(id) { // [MQTT-2.2.1-3]
		return s.misplaced(mqtt.Client, h, b, pos, fx), false
	}
	most := s.set.Config.General.Limits.OutstandingRequests
	if most > 0 && s.requests != nil && len(s.requests.list)-s.requests.own >= most || s.requests.heavy() {
		return s.fault(mqtt.Client, h, b, pos, faultOf(CauseProtocol, policy.ReasonLimit, policy.RuleOutstandingRequests), fx), false
	}
	return 0, true
}

// answerFits reports whether a client takes the answer to so many filters, with
// no properties [MQTT-3.1.2-24]. One that does not take it cannot be answered.
func (s *Session) answerFits(filters int) bool {
	if s.version != mqtt.V5 || !s.set.Can.Reply || s.set.detect {
		return true
	}
	h := mqtt.Header{Length: 3 + filters, Len: 2}
	for n := h.Length >> 7; n > 0; n >>= 7 {
		h.Len++
	}
	return !s.tooLarge(h.Size())
}

// tooLarge reports whether a packet of so many bytes is more than a 5.0 client
// takes.
func (s *Session) tooLarge(bytes int) bool {
	return s.version == mqtt.V5 && s.maxDelivery > 0 && uint64(bytes) > uint64(s.maxDelivery)
}

// suback takes SUBACK and UNSUBACK: the client gets the answer to what it
// asked, in its order [MQTT-3.9.3-1].
func (s *Session) suback(h mqtt.Header, body, b []byte, pos int, fx *Effects) int {
	var a mqtt.Suback
	if err := a.Parse(h, s.version, body); err != nil {
		return s.malformed(mqtt.Broker, h, b, pos, err, fx)
	}
	typ := mqtt.SUBSCRIBE
	if h.Type == mqtt.UNSUBACK {
		typ = mqtt.UNSUBSCRIBE
	}
	i := s.requests.find(a.PacketID, typ)
	if i < 0 {
		if s.set.detect {
			return s.pass(mqtt.Broker, h, b, pos, fx)
		}
		return s.misplaced(mqtt.Broker, h, b, pos, fx)
	}
	q := s.requests.list[i]
	coded := typ == mqtt.SUBSCRIBE || s.version == mqtt.V5
	if coded && len(a.Codes) != q.asked && !s.set.detect {
		return s.misplaced(mqtt.Broker, h, b, pos, fx)
	}
	if s.requests.remove(i); len(s.requests.list) == 0 {
		s.requests = nil
	}
	if q.own {
		s.tally(mqtt.Broker, h)
		return h.Size()
	}
	lost := s.settle(&q, a.Codes)
	if !q.split || s.set.detect {
		n := s.pass(mqtt.Broker, h, b, pos, fx)
		s.withdraw(lost, fx)
		return n
	}
	a.Codes = q.merge(a.Codes, coded)
	grown := a.Append(fx.Scratch, h.Type, s.version)
	if s.tooLarge(len(grown) - len(fx.Scratch)) {
		// Reason String and User Property are all that may stand there
		// [MQTT-3.9.2-1] [MQTT-3.9.2-2] [MQTT-3.11.2-1] [MQTT-3.11.2-2].
		a.Properties = nil
		grown = a.Append(fx.Scratch, h.Type, s.version)
	}
	n := s.passChanged(mqtt.Broker, h, pos, grown, fx)
	s.withdraw(lost, fx)
	return n
}

// merge puts the broker's codes among ours.
func (q *request) merge(codes []byte, coded bool) []byte {
	if !coded {
		return nil
	}
	all := make([]byte, len(q.filters))
	next := 0
	for i, f := range q.filters {
		if all[i] = f.code; f.sent {
			all[i] = codes[next]
			next++
		}
	}
	return all
}

// settle notes what the broker granted or ended. It returns the filters that a
// policy put in force meanwhile does not allow any more.
func (s *Session) settle(q *request, codes []byte) (list []lost) {
	next := 0
	for _, f := range q.filters {
		if !f.sent {
			continue
		}
		code := byte(0)
		if next < len(codes) {
			code = codes[next]
		}
		next++
		switch {
		case code >= 0x80:
		case q.typ == mqtt.UNSUBSCRIBE:
			s.held.remove(f.filter)
		default:
			made(&s.held).add(f.filter)
			if q.generation == s.generation || s.set.detect {
				continue
			}
			if v := s.subj.Subscribe([]byte(f.filter), 0, nil); !v.Allowed() {
				list = append(list, lost{f.filter, v})
			}
		}
	}
	return list
}
