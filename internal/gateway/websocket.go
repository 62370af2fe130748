package gateway

import (
	"encoding/binary"
	"errors"
	"io"
	"time"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/netloop"
)

// wsConn is the server's side of a WebSocket as a layer: towards the socket it
// is the handler, towards the handler inside it is a connection that carries
// the payload of binary frames. The upgrade and the frames are read in the
// engine's buffer, in place.
//
// Payload is passed on as it comes, across frames: neither a packet in pieces
// nor several in one frame make a difference inside.
type wsConn struct {
	netloop.Conn                 // the socket
	inner        netloop.Handler // nil: over
	rules        *upgradeRules
	frames       frames
	packets      packetEnds // of what is sent
	decoded      uint32     // bytes kept by the socket that are payload already
	code         uint16     // to close with; 0: normal
	upgraded     bool
	closing      bool // the client's close frame has come
	ponging      bool // a ping of this call is to be answered with local.pong
}

// zentinelPause is what passes before a Zentinel proxy gets our 101. One that
// has it before it has noted that its request is at an end, about half a
// millisecond on an idle machine, takes that for the end of the WebSocket: one
// in seven was lost. (0.5.8 and 0.6.54)
const zentinelPause = 10 * time.Millisecond

// errStop ends the reading of frames at a close frame.
var errStop = errors.New("websocket: close frame")

// Data takes what came on the socket.
func (w *wsConn) Data(_ netloop.Conn, b []byte) []byte {
	if w.inner == nil {
		return nil
	}
	if !w.upgraded {
		n, ok := w.upgrade(b)
		if !ok {
			return b[n:]
		}
		if b = b[n:]; len(b) == 0 {
			return nil
		}
	}
	at, to, end, err := w.frames.decode(b, int(w.decoded), w)
	rest := 0
	if to > at {
		rest = len(w.inner.Data(w, b[at:to]))
	}
	if w.inner == nil { // it ended the connection
		return nil
	}
	if w.ponging {
		w.ponging = false
		w.frame(opPong, w.local().pong)
	}
	switch {
	case w.closing:
		w.over(io.EOF)
		return nil
	case err != nil:
		var we *wsError
		if errors.As(err, &we) {
			w.code = we.code
		}
		w.over(err)
		return nil
	}
	w.decoded = uint32(rest)
	return b[to-rest : end]
}

// over ends both directions and tells the handler inside.
func (w *wsConn) over(err error) {
	h := w.inner
	w.Finish(nil)
	h.Closed(w, err)
}

// upgrade answers the request at the start of b. It returns the bytes used, and
// whether the connection is a WebSocket now.
func (w *wsConn) upgrade(b []byte) (int, bool) {
	n := headEnd(b)
	var no *refusal
	switch {
	case n > 0:
		var r *upgradeRequest
		if r, no = parseUpgrade(b[:n]); no != nil {
			break
		}
		var yes []byte
		if yes, no = w.rules.check(r); no != nil {
			break
		}
		if f, ok := w.inner.(forwardee); ok && r.forwarded != "" {
			if no = f.forwarded(r.forwarded); no != nil {
				break
			}
		}
		if r.zentinel {
			w.Pause()
			// The connection may be gone by then, or the engine.
			time.AfterFunc(zentinelPause, func() { w.Post(func() { w.accept(yes); w.Resume() }) })
			return n, false
		}
		w.accept(yes)
		return n, true
	case len(b) >= maxUpgrade:
		no = &refusal{status: 431, reason: "Request Header Fields Too Large", body: "The request's head is too long."}
	case b[0] < 'A' || b[0] > 'Z': // MQTT's CONNECT, TLS
		no = badRequest("This is an MQTT over WebSocket endpoint; what came is not HTTP.")
	default:
		return 0, false
	}
	h := w.inner
	w.inner = nil
	w.Conn.Finish(no.append(nil))
	h.Closed(w, no)
	return len(b), false
}

// accept answers with 101.
func (w *wsConn) accept(yes []byte) {
	if w.inner != nil {
		w.upgraded = true
		w.Conn.Write(yes)
	}
}

// control takes a control frame.
func (w *wsConn) control(op byte, payload []byte) error {
	switch op {
	case opPing:
		// Only the last of several need be answered (section 5.5.3): a
		// client cannot have us write more often than it does.
		l := w.local()
		w.ponging, l.pong = true, append(l.pong[:0], payload...)
	case opClose:
		code, err := checkClose(payload)
		if err != nil {
			return err
		}
		w.closing, w.code = true, code
		return errStop
	}
	return nil
}

// Write sends b, each packet in a frame of its own, as brokers do: there are
// clients that leave a second packet in a frame lying until another frame comes
// (Paho C 1.3). All leave in one write.
func (w *wsConn) Write(b []byte) {
	if len(b) == 0 || !w.upgraded || w.inner == nil {
		return
	}
	l := w.local()
	l.frame = l.frame[:0]
	for {
		n := w.packets.next(b)
		l.frame = appendFrameHeader(l.frame, opBinary, n)
		if n == len(b) {
			w.Conn.Writev(l.frame, b)
			return
		}
		l.frame = append(l.frame, b[:n]...)
		b = b[n:]
	}
}

// Writev sends head and body.
func (w *wsConn) Writev(head, body []byte) {
	w.Write(head)
	w.Write(body)
}

func (w *wsConn) frame(op byte, payload []byte) {
	l := w.local()
	l.frame = appendFrameHeader(l.frame[:0], op, len(payload))
	w.Conn.Writev(l.frame, payload)
}

func (w *wsConn) local() *local { return w.Local().(*local) }

// Finish sends last and closes with the code that was set.
func (w *wsConn) Finish(last []byte) {
	if w.inner == nil {
		return
	}
	w.Write(last)
	w.inner = nil
	if !w.upgraded { // the client took too long, or we are going away
		w.Conn.Finish((&refusal{status: 408, reason: "Request Timeout", body: "The request did not come in time."}).append(nil))
		return
	}
	if w.code == 0 {
		w.code = wsNormal
	}
	l := w.local()
	l.frame = binary.BigEndian.AppendUint16(appendFrameHeader(l.frame[:0], opClose, 2), w.code)
	w.Conn.Finish(l.frame)
}

// Close closes without a word.
func (w *wsConn) Close() {
	w.inner = nil
	w.Conn.Close()
}

// Handle has h called from now on.
func (w *wsConn) Handle(h netloop.Handler) { w.inner = h }

// Connected is not called for an accepted connection.
func (w *wsConn) Connected(netloop.Conn, error) {}

// Held, Timer and Closed are the handler's inside.

// Held passes on what the engine tells.
func (w *wsConn) Held(_ netloop.Conn, stopped bool) {
	if w.inner != nil {
		w.inner.Held(w, stopped)
	}
}

// Timer passes on the timer.
func (w *wsConn) Timer(netloop.Conn) {
	if w.inner != nil {
		w.inner.Timer(w)
	}
}

// Closed passes on the end.
func (w *wsConn) Closed(_ netloop.Conn, err error) {
	if h := w.inner; h != nil {
		w.inner = nil
		h.Closed(w, err)
	}
}
