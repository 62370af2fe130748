// Package netloop moves bytes between sockets. It knows no MQTT.
//
// Start with [New]: an [Engine] accepts connections and gives what arrives on
// them to a [Handler]. There are two engines behind the same interfaces, tested
// by one set of tests:
//
//   - loops (Linux): a few event loops over level-triggered epoll, each one
//     goroutine with one read buffer. A connection is a small struct: no
//     goroutine, no buffer and no timer object of its own.
//   - goroutines (everywhere): a reading goroutine a connection over net.Conn
//     and one lock a pair. It is the reference for the loops and the way out.
//
// An accepted connection and the one that it dialled are a pair. All calls to
// the handlers of a pair come one at a time; a handler must not block: on the
// loops it would hold up every connection of its loop. What takes long runs in
// a goroutine of the handler's and comes back with [Conn.Post].
//
// Back-pressure belongs to the pair: what a socket does not take is kept, and
// as long as something is kept the other connection of the pair is not read.
// Bytes of a connection's own answers count too: when more than a read buffer
// is kept, the connection itself is not read either.
package netloop

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"
)

// readSize is the most that one read takes, and so the share of a turn that one
// connection can have.
const readSize = 64 << 10

// lingerBytes is how much is read and thrown away from a peer that keeps
// sending after Finish, before it is closed all the same.
const lingerBytes = 1 << 20

// The errors that Handler.Closed may get besides those of the socket and
// io.EOF.
var (
	// ErrStalled: the peer took nothing for Options.WriteStall.
	ErrStalled = errors.New("netloop: peer stalled")
	// ErrBufferBytes: the connection had us keep an equal share of
	// Options.BufferBytes or more, for long, while others waited for some.
	ErrBufferBytes = errors.New("netloop: keeps too much")
	// ErrPanic: the handler panicked. Its state may be half changed.
	ErrPanic = errors.New("netloop: handler panicked")
	// ErrClosed: the engine was closed.
	ErrClosed = errors.New("netloop: engine closed")
)

// Handler is what happens on a connection. The calls for both connections of a
// pair come one at a time, never from within a call to a [Conn].
type Handler interface {
	// Connected tells that a Dial came to its end. After an error the
	// connection is closed and Closed is not called.
	Connected(c Conn, err error)
	// Data gives the bytes that were kept and what arrived since. The handler
	// returns the part of b that it wants to see again in front of what
	// follows; it may have changed b's bytes. b is valid during the call. It
	// is not empty, but nothing may be new in it after Resume.
	Data(c Conn, b []byte) (rest []byte)
	// Held tells that the engine stopped reading c, because of back-pressure or
	// for want of buffers, and later that it goes on.
	Held(c Conn, stopped bool)
	// Timer tells that the time given to SetTimer has come, up to 1.1 s late
	// for times further away than a second, else up to 20 ms.
	Timer(c Conn)
	// Closed tells that the connection is gone, for another reason than the
	// handler's Close or Finish: io.EOF, a socket error, ErrStalled,
	// ErrBufferBytes, ErrPanic, ErrClosed. It is the last call for c. What had been kept to be sent to c
	// is lost.
	Closed(c Conn, err error)
}

// Drainer is a Handler that can be told that what it wrote has gone.
type Drainer interface {
	// Drained tells that the socket of c has taken all, after Conn.Sent was
	// false. It is not called when the connection ends first.
	Drained(c Conn)
}

// Conn is one connection. Except for Post its methods may only be called from
// the calls to the handlers of its pair and from functions given to its Post.
// After Close, Finish or Handler.Closed they do nothing.
type Conn interface {
	// Write sends b or keeps what the socket does not take; it copies what it
	// keeps. Errors come later, as Closed.
	Write(b []byte)
	// Writev is Write of head and then body, in one system call if it can.
	Writev(head, body []byte)
	// Pending is how many bytes are kept to be sent.
	Pending() int
	// Sent reports whether the socket has taken all that was written. If not, a
	// handler that is a Drainer is called once when it has.
	Sent() bool
	// Pause stops reading, Resume goes on. Resume also has Data called with
	// the kept bytes, if there are any, even when nothing was paused.
	Pause()
	Resume()
	// SetTimer has Timer called once at a time of Now's clock; 0: never.
	// A connection has one timer.
	SetTimer(at int64)
	// Due is the time set by SetTimer, 0 when none is.
	Due() int64
	// Now is the coarse clock: nanoseconds, the same for all connections of an
	// engine, never 0, constant during a turn of a loop.
	Now() int64
	// Local is what Options.Local made: one a loop, or one a pair under the
	// goroutines engine.
	Local() any
	// Post has f run as if it were a call to the pair's handler. It may be
	// called from anywhere. False: the engine is closed, f will not run.
	Post(f func()) bool
	// Dial opens the other connection of the pair, without waiting. When
	// connected is true it is open already and Connected is not called. An
	// error is one that shows at once. A connection that was dialled before
	// must be closed.
	Dial(to netip.AddrPort, h Handler) (peer Conn, connected bool, err error)
	// Handle has h called from now on.
	Handle(h Handler)
	// Vouch tells that the peer is known. Until then it is a stranger, unless
	// it was dialled: all strangers together may have a quarter of
	// Options.BufferBytes.
	Vouch()
	// Keep tells how many bytes the handler itself keeps for the connection, in
	// place of what it told before. They count as what the connection keeps.
	Keep(n int)
	// Finish sends what is kept and last, then ends the connection so that the
	// peer can read it (a close with unread input would reset it): bounded by
	// Options.Linger. The handler is not called again.
	Finish(last []byte)
	// Close ends the connection at once. The handler is not called again.
	Close()
}

// Opened is called for each accepted connection, where the calls of its handler
// come. Nil closes it unread.
type Opened func(c Conn, remote netip.AddrPort) Handler

// Listener accepts connections until it is closed.
type Listener interface {
	// Close stops accepting; open connections go on. Idempotent.
	Close() error
}

// Engine runs connections. All methods may be called at once.
type Engine interface {
	// Serve accepts connections of l, which must be a TCP listener; l belongs
	// to the engine from then on.
	Serve(l net.Listener, opened Opened) (Listener, error)
	// Each visits the accepted connections that are open, each where the calls
	// of its handler come, a few a turn. It returns at once; done (may be nil)
	// runs after the last visit. Connections opened meanwhile may be missed.
	Each(visit func(c Conn, h Handler), done func())
	// Stats is what was counted so far.
	Stats() Stats
	// Close closes every listener and connection (Handler.Closed gets
	// ErrClosed) and waits for all goroutines of the engine. Idempotent.
	Close() error
}

// Stats are an engine's counters and gauges.
type Stats struct {
	Accepted     uint64        // connections given to Opened
	Refused      uint64        // of these, those that Opened refused
	Dialled      uint64        // dials begun
	Open         int64         // sockets open now, both sides
	AcceptErrors uint64        // accepts that failed
	Panics       uint64        // recovered
	Stalled      uint64        // ended by ErrStalled and ErrBufferBytes
	BufferBytes  int64         // kept now: held, to be sent, and by handlers (Conn.Keep)
	LongestTurn  time.Duration // of any loop; 0 under goroutines
}

// Options says how an engine runs. The zero value is usable.
type Options struct {
	// IO is "loops", "goroutines" or "" and "auto" for what suits the system.
	// Loops exist on Linux; elsewhere "loops" is an error.
	IO string
	// Loops is how many event loops run; 0: one a core, at most four. Starting
	// them raises GOMAXPROCS to loops + max(1, loops/2) if it is lower, counting
	// every loop of the process: a loop keeps its processor while it waits, so
	// other goroutines need one.
	Loops int
	// BufferBytes bounds what all connections keep together, each beyond 16 KiB
	// of its own; 0: no bound. At the bound reading waits, and who has kept
	// much for long is ended to make room: see ErrBufferBytes.
	BufferBytes int64
	// WriteStall ends a connection whose peer takes nothing for so long; 0: 30 s.
	WriteStall time.Duration
	// Linger bounds Finish; 0: 2 s.
	Linger time.Duration
	// Local makes what Conn.Local returns; may be nil.
	Local func() any
	// Log gets accept errors and panics; nil: nothing is logged.
	Log *slog.Logger

	// nearby is how many more connections than the others the loop that accepts
	// may have; 0: 16. Tests set -1, so that few connections use all loops.
	nearby int64
}

func (o *Options) defaults() {
	if o.nearby == 0 {
		o.nearby = 16
	}
	if o.WriteStall <= 0 {
		o.WriteStall = 30 * time.Second
	}
	if o.Linger <= 0 {
		o.Linger = 2 * time.Second
	}
	if o.Local == nil {
		o.Local = func() any { return nil }
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}

// New starts an engine.
func New(o Options) (Engine, error) {
	o.defaults()
	switch o.IO {
	case "", "auto":
		if !haveLoops {
			return newGoroutines(o), nil
		}
		return newLoops(o)
	case "loops":
		return newLoops(o)
	case "goroutines":
		return newGoroutines(o), nil
	}
	return nil, fmt.Errorf("no engine %q", o.IO)
}
