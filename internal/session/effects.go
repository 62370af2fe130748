package session

import (
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
)

// Span is a run of bytes to send: of the input of this call, or, with Own, of
// the Effects' scratch.
type Span struct {
	From, To int
	Own      bool
}

// Need is what a session waits for. While it waits, Feed consumes nothing from
// the client.
type Need uint8

// The needs.
const (
	NeedNone   Need = iota
	NeedVerify      // the credentials of Session.Connect; answered by Admit
	NeedDial        // a broker connection; answered by Dialled
)

// PacketVerdict is the decision about one packet that this call made.
// [From, To) is its place in the input of this call; To lies beyond the input
// when the packet's payload is still to come. The agent door folds these into
// the answer to a frame.
type PacketVerdict struct {
	Side     mqtt.Side
	Type     mqtt.Type
	QoS      byte // of a PUBLISH
	From, To int
	Decision Decision
	Reason   policy.Reason
	Rule     policy.RuleRef
}

// Decision is what happens to a packet.
type Decision uint8

// The decisions, worst last.
const (
	DecisionAllow  Decision = iota
	DecisionDetect          // would have been denied; block-mode is off
	DecisionRewrite
	DecisionDrop
	DecisionClose
)

func (d Decision) String() string {
	return [...]string{"allow", "detect", "rewrite", "drop", "close"}[d]
}

// Cause says why a connection ended.
type Cause uint8

// The causes.
const (
	CauseNone Cause = iota
	CauseClientDisconnect
	CauseClientLost
	CauseKeepAlive
	CauseMalformed // bytes of the client that do not parse
	CauseProtocol  // a protocol error of the client
	CauseRefused   // CONNECT refused
	CausePolicy    // revoked, denied with on-deny: disconnect, denied too often
	CauseDrain
	CauseUpstreamLost
	CauseBrokerFault   // the broker broke the protocol
	CauseBrokerRefused // CONNACK with an error
	CauseBrokerDisconnect
	CauseConnectTimeout
	CauseStalled  // a peer took nothing for write-stall-secs, or took up buffer-bytes
	CauseInternal // a recovered panic
)

// End is how a connection ends. Everything to be sent before is in the
// Effects' spans: the driver sends them, then closes both sides.
type End struct {
	Cause  Cause
	Code   mqtt.ReasonCode // what a 5.0 client was told, or would be
	Reason policy.Reason
	Rule   policy.RuleRef
}

// Effects is what a call asks its driver to do. The driver calls Reset before
// each call; slices are valid until then.
type Effects struct {
	Out      [2][]Span // by the side that receives
	Scratch  []byte
	Verdicts []PacketVerdict // only collected when WantVerdicts
	Events   []Event
	Need     Need
	Ticket   uint32  // of Need, to be handed to Admit or Dialled
	Partial  [2]bool // the input of that side ends inside a packet
	Pause    [2]bool // do not read from that side until a call says otherwise
	Wake     Time    // call Tick then at the latest; 0: not needed
	Ended    bool
	End      End
	Kept     int  // bytes that the session keeps back for its client: what is parked, and filters that wait for answers
	Owes     bool // call Sent as soon as the bytes for the broker are on their way; with Late

	WantVerdicts bool // kept by Reset
	Late         bool // kept by Reset: the driver tells, by Sent, when to acknowledge
}

// Reset empties e for the next call and keeps its memory.
func (e *Effects) Reset() {
	e.Out[0], e.Out[1] = e.Out[0][:0], e.Out[1][:0]
	e.Scratch, e.Verdicts, e.Events = e.Scratch[:0], e.Verdicts[:0], e.Events[:0]
	e.Need, e.Ticket, e.Partial, e.Pause = NeedNone, 0, [2]bool{}, [2]bool{}
	e.Wake, e.Ended, e.End, e.Kept, e.Owes = 0, false, End{}, 0, false
}

// Bytes returns what is to be sent to a side: input is what Feed was given
// (nil after any other call). One span is returned as it is, several are
// gathered onto buf.
func (e *Effects) Bytes(to mqtt.Side, input, buf []byte) []byte {
	spans := e.Out[to]
	if len(spans) == 0 {
		return nil
	}
	if len(spans) == 1 {
		return e.bytes(spans[0], input)
	}
	buf = buf[:0]
	for _, s := range spans {
		buf = append(buf, e.bytes(s, input)...)
	}
	return buf
}

func (e *Effects) bytes(s Span, input []byte) []byte {
	if s.Own {
		return e.Scratch[s.From:s.To]
	}
	return input[s.From:s.To]
}
