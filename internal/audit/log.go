package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/session"
)

const (
	// queueLength is how many events wait for the writer.
	queueLength = 8192
	// reserved is which part of the queue is for refusals alone: what is
	// allowed, changed or withheld can be caused by everybody, at the speed of
	// traffic.
	reserved = 4 // one in four
	// batchBytes is how much is gathered for one write while more waits.
	batchBytes = 64 << 10
	// closeTimeout is how long Close waits for an output that takes nothing.
	closeTimeout = 5 * time.Second
	// complainEvery is how often a failing output is logged.
	complainEvery = time.Minute
)

// Log takes events and writes them elsewhere. Emit never blocks: when the queue
// is full the event is counted as dropped. Once there is room again an event
// mqtt,audit-dropped says how many are missing before it. All methods may be
// called at once.
//
// What is written is the configuration's "include". With "all" it is every
// event. With "denied" it is every event that tells of something refused,
// changed or detected, of a delivery withheld, and of a connection that was
// ended by policy; what merely happened, a connection that was accepted or that
// one of its ends gave up, is left out, and what a connection repeats, or an
// address over many, is counted: one event a minute says how many. Subscribers
// get every event.
type Log struct {
	// Fixed after Open.
	path    string // "": not a file
	queue   chan *Event
	stopped chan struct{} // closed when the writer has ended

	all     atomic.Bool // include is "all"
	output  atomic.Pointer[output]
	dropped atomic.Uint64
	faults  atomic.Uint64
	subs    atomic.Pointer[[]*subscriber]

	files sync.Mutex // held while the output is opened or closed

	// Guarded by mu.
	mu     sync.RWMutex // Emit holds it for reading; never held across I/O
	closed bool

	// Owned by the writer.
	told       uint64    // of dropped
	complained time.Time // when the output last was
	torn       bool      // the output may end inside a line
	floods     floods
}

// output is where lines go.
type output struct {
	w     io.Writer
	close func() error // nil: not ours to close
}

type subscriber struct{ f func(*Event) }

// Open opens the configured output and starts the writer. A file is appended
// to, and created with mode 0640.
func Open(cfg config.Audit) (*Log, error) {
	l := new(Log)
	l.Include(cfg.Include)
	var out *output
	switch cfg.Output {
	case "stdout", "":
		out = &output{w: os.Stdout}
	case "stderr":
		out = &output{w: os.Stderr}
	case "syslog":
		return nil, errors.New("audit.output: syslog is not in this version")
	default:
		l.path = cfg.Output
		var err error
		if out, err = openFile(l.path); err != nil {
			return nil, err
		}
	}
	l.start(out, queueLength)
	return l, nil
}

func (l *Log) start(out *output, length int) {
	l.queue = make(chan *Event, length)
	l.stopped = make(chan struct{})
	l.output.Store(out)
	l.subs.Store(&[]*subscriber{})
	go func() {
		defer close(l.stopped)
		l.write()
	}()
}

// openFile opens a file to append to. A pipe is refused: opening it would wait
// for its reader.
func openFile(path string) (*output, error) {
	if info, err := os.Stat(path); err == nil && info.Mode()&os.ModeNamedPipe != 0 {
		return nil, fmt.Errorf("open audit file %q: is a named pipe", path)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil {
		return nil, fmt.Errorf("open audit file: %w", err)
	}
	return &output{w: f, close: f.Close}, nil
}

// Emit queues e. It never waits; after Close it does nothing. Of a queue that
// fills up the last quarter is for refusals.
func (l *Log) Emit(e Event) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.closed {
		return
	}
	if len(l.queue) >= cap(l.queue)-cap(l.queue)/reserved && !e.refusal() {
		l.dropped.Add(1)
		return
	}
	select {
	case l.queue <- &e:
	default:
		l.dropped.Add(1)
	}
}

// refusal reports an event that tells of something refused, or that would have
// been; what is withheld from a client is not.
func (e *Event) refusal() bool {
	switch e.Decision {
	case "drop", "close", "detect":
		return e.Event != "mqtt,delivery-filtered"
	}
	return false
}

// Skips reports whether an event of a session would neither be written nor told
// to a subscriber: then it need not be made, nor its writer woken. Connecting
// and leaving are most of what happens.
func (l *Log) Skips(e *session.Event) bool {
	all := l.all.Load()
	if all || len(*l.subs.Load()) > 0 {
		return all && e.Count > 0
	}
	switch e.Kind {
	case session.KindAllowed, session.KindConnected:
		return true
	case session.KindDisconnected:
		return endings[e.End.Cause].by != "policy"
	}
	return e.Repeat
}

// Include is what is written from now on: the configuration's "include".
func (l *Log) Include(what string) { l.all.Store(what == "all") }

// Subscribe calls f with every event from the writer's goroutine, until cancel.
// f must not block: events queue up behind it. It may keep the event but not
// change it. A call that has begun may end after cancel returned.
func (l *Log) Subscribe(f func(*Event)) (cancel func()) {
	s := &subscriber{f}
	l.changeSubs(func(subs []*subscriber) []*subscriber { return append(slices.Clone(subs), s) })
	return func() {
		l.changeSubs(func(subs []*subscriber) []*subscriber {
			return slices.DeleteFunc(slices.Clone(subs), func(other *subscriber) bool { return other == s })
		})
	}
}

func (l *Log) changeSubs(change func([]*subscriber) []*subscriber) {
	for {
		old := l.subs.Load()
		subs := change(*old)
		if l.subs.CompareAndSwap(old, &subs) {
			return
		}
	}
}

// Dropped is how many events were lost: because the queue was full, or because
// the output did not take them.
func (l *Log) Dropped() uint64 { return l.dropped.Load() }

// Faults is how many writes failed.
func (l *Log) Faults() uint64 { return l.faults.Load() }

// Reopen closes and opens the output file again (SIGHUP). When it cannot be
// opened the old one stays in use. Without a file it does nothing. It does not
// wait for a write.
func (l *Log) Reopen() error {
	if l.path == "" {
		return nil
	}
	l.files.Lock()
	defer l.files.Unlock()
	l.mu.RLock()
	closed := l.closed
	l.mu.RUnlock()
	if closed {
		return nil
	}
	out, err := openFile(l.path)
	if err != nil {
		return err
	}
	// The writer notices that its file was closed, and goes on in the new one.
	return l.output.Swap(out).close()
}

// Close writes what is queued and closes the output. An output that takes
// nothing for five seconds is given up, which is an error. Idempotent.
func (l *Log) Close() error { return l.close(closeTimeout) }

func (l *Log) close(timeout time.Duration) error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	close(l.queue)
	l.mu.Unlock()
	var err error
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-l.stopped:
	case <-timer.C:
		err = errors.New("audit output takes nothing: queued events are lost")
	}
	l.files.Lock()
	defer l.files.Unlock()
	if out := l.output.Load(); out.close != nil {
		err = errors.Join(err, out.close())
	}
	return err
}

// write is the writer. It ends when the queue is closed and empty.
func (l *Log) write() {
	minute := time.NewTicker(floodTime)
	defer minute.Stop()
	var buf []byte
	count := func(now time.Time) {
		l.floods.settle(now, func(e *Event) { buf = append(e.AppendJSON(buf), '\n') })
	}
	for open := true; open; {
		var e *Event
		select {
		case e, open = <-l.queue:
			if !open {
				count(time.Now())
			}
		case now := <-minute.C:
			count(now)
		}
		for more := e != nil; more; {
			l.tell(e)
			if l.wants(e) && (l.all.Load() || l.floods.admit(e)) {
				buf = append(e.AppendJSON(buf), '\n')
			}
			if more = len(buf) < batchBytes; more {
				select {
				case e, more = <-l.queue:
				default:
					more = false
				}
			}
		}
		if len(buf) > 0 {
			l.dropped.Add(l.put(buf))
		}
		buf = buf[:0]
		l.confess()
	}
}

// tell hands e to the subscribers; they have had what it counts.
func (l *Log) tell(e *Event) {
	if e.Count > 0 {
		return
	}
	for _, s := range *l.subs.Load() {
		s.f(e)
	}
}

// wants reports whether e is written.
func (l *Log) wants(e *Event) bool {
	switch {
	case l.all.Load():
		return e.Count == 0
	case e.repeat:
		return false
	case e.EndedBy != "":
		return e.EndedBy == "policy"
	case e.Decision == "allow":
		// Over a limit, and allowed only because a frame cannot be changed.
		return e.Event == "mqtt,qos-over-limit" || e.Event == "mqtt,retained-over-limit"
	}
	return true
}

// confess writes how many events are missing, if any are since it last did.
// That is one event at most for each time the writer emptied its batch.
func (l *Log) confess() {
	dropped := l.dropped.Load()
	if dropped == l.told {
		return
	}
	e := Event{
		Time: time.Now(), Event: "mqtt,audit-dropped", Tags: []string{"mqtt", "audit-dropped"}, Dropped: dropped - l.told,
	}
	l.tell(&e)
	if l.put(append(e.AppendJSON(nil), '\n')) == 0 {
		l.told = dropped
	}
}

// put writes whole lines and returns how many of them were not, or not wholly,
// written.
func (l *Log) put(lines []byte) (lost uint64) {
	for {
		out := l.output.Load()
		if l.torn {
			// Not one line with the rest of another.
			if _, err := out.w.Write([]byte{'\n'}); err == nil {
				l.torn = false
			}
		}
		n, err := out.w.Write(lines)
		if err == nil {
			return 0
		}
		if n > 0 {
			l.torn = lines[n-1] != '\n'
			lines = lines[n:]
		}
		if errors.Is(err, os.ErrClosed) && out != l.output.Load() {
			continue // reopened meanwhile
		}
		l.faults.Add(1)
		if now := time.Now(); now.Sub(l.complained) >= complainEvery {
			l.complained = now
			slog.Error("audit output", "error", err, "dropped", l.dropped.Load())
		}
		return uint64(bytes.Count(lines, []byte{'\n'}))
	}
}
