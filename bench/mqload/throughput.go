//go:build linux

package main

// The throughput command: P publishers, S subscribers, T topics, one process,
// one monotonic clock.

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

// Payload layout: sent and intended time (ns), sequence number per publisher,
// run number, publisher, then 'x' up to the size.
const (
	offSent, offDue, offSeq, offRun, offPub = 0, 8, 16, 24, 28
	minPayload                              = 32
	pad                                     = 'x'
)

type load struct {
	Pubs     int           `json:"pubs"`
	Subs     int           `json:"subs"`
	QoS      int           `json:"qos"`
	Size     int           `json:"size"`
	Topics   int           `json:"topics"`
	Window   int           `json:"window"`
	Rate     float64       `json:"rate"`
	Proto    int           `json:"proto"`
	Duration time.Duration `json:"duration_ns"`
	Warmup   time.Duration `json:"warmup_ns"`
	Topic    string        `json:"topic"`
	Prefix   string        `json:"client_prefix"`
	conn     connOpts
}

func (l *load) String() string {
	rate := "max"
	if l.Rate > 0 {
		rate = fmt.Sprintf("%g msgs/s", l.Rate)
	}
	return fmt.Sprintf("qos=%d size=%d pubs=%d subs=%d topics=%d window=%d rate=%s proto=%d duration=%s",
		l.QoS, l.Size, l.Pubs, l.Subs, l.Topics, l.Window, rate, l.Proto, l.Duration)
}

func (l *load) check() error {
	switch {
	case l.Pubs < 1 || l.Subs < 0 || l.Topics < 1 || l.QoS < 0 || l.QoS > 2 || l.Window < 1 || l.Window > 32768:
		return fmt.Errorf("want pubs>=1, subs>=0, topics>=1, qos 0..2, window 1..32768")
	case l.Size < minPayload:
		return fmt.Errorf("--size must be at least %d (timestamps and sequence numbers)", minPayload)
	case l.Proto != 4 && l.Proto != 5:
		return fmt.Errorf("--proto must be 4 or 5")
	}
	return nil
}

// result is one target in one round. Counts are those of the measured window,
// except the faults, which are of the whole round with warm-up and drain.
type result struct {
	Target    string  `json:"target"`
	Round     int     `json:"round"`
	Seconds   float64 `json:"seconds"`
	Sent      uint64  `json:"sent"`
	Completed uint64  `json:"completed"` // QoS 0: sent; else handshake finished
	Delivered uint64  `json:"delivered"`
	PubRate   float64 `json:"published_per_s"`
	DlvRate   float64 `json:"delivered_per_s"`
	Latency   pctl    `json:"latency"`     // write to delivery
	FromDue   pctl    `json:"latency_due"` // intended send time to delivery (with --rate)
	Ack       pctl    `json:"ack_latency"` // write to PUBACK/PUBCOMP
	Lost      int64   `json:"lost"`        // expected deliveries that never came
	Unacked   int64   `json:"unacked"`     // publishes never acknowledged
	Dup       uint64  `json:"duplicates"`  // delivered again (or >1023 late)
	Reordered uint64  `json:"reordered"`   // older than one delivered before
	Corrupt   uint64  `json:"corrupt"`     // not what was published
	Rejected  uint64  `json:"rejected"`    // MQTT 5 ack with an error code
	Stalls    uint64  `json:"stalls"`      // a publisher saw no progress for a second
	Foreign   uint64  `json:"foreign"`     // left over from an earlier round
	Usage     usage   `json:"usage"`
	Err       string  `json:"error,omitempty"`
}

type run struct {
	*load
	id            uint32
	t0, t1        atomic.Int64 // messages sent in [t0,t1) are in the histograms
	stop, closing atomic.Bool
	pubs          []*publisher
	subs          []*subscriber
	rejected      atomic.Uint64
	pongs         atomic.Int64
	failure       atomic.Pointer[error]
}

func (r *run) fail(who string, err error) {
	if !r.closing.Load() && err != nil {
		err = fmt.Errorf("%s: %w", who, err)
		r.failure.CompareAndSwap(nil, &err)
		r.stop.Store(true)
	}
}

type publisher struct {
	c         *client
	tmpl      [][]byte // a finished packet per topic
	payload   []int    // where its payload starts
	fan       []int64  // deliveries a message on it makes
	maxFan    int64
	window    int64
	seq       uint64
	sent      atomic.Uint64
	completed atomic.Uint64
	expected  atomic.Int64 // deliveries due
	_         [64]byte
	delivered atomic.Int64 // deliveries made
	inflight  atomic.Int64
	wake      chan struct{}
	state     []atomic.Uint32 // per packet id: 0 free, 1 published, 2 released
	since     []int64         // per packet id: when written
	ack       hist
	stalls    uint64
	forgiven  int64 // deliveries given up on when stalled
}

type subscriber struct {
	c                                *client
	unique, dup, reord, bad, foreign uint64
	total                            atomic.Uint64 // unique
	lat, due                         hist
	seen                             []seqWindow // per publisher
}

// seqWindow tells new, reordered and repeated sequence numbers apart, within
// the last 1024 (RFC 6479's sliding bitmap).
type seqWindow struct {
	last uint64
	bits [16]uint64
}

func (w *seqWindow) add(seq uint64) (fresh, late bool) {
	if seq > w.last {
		for i := w.last/64 + 1; i <= seq/64 && i <= w.last/64+16; i++ {
			w.bits[i%16] = 0
		}
		w.last = seq
	} else if late = true; w.last-seq > 1023-64 {
		return false, true
	}
	word, bit := &w.bits[seq/64%16], uint64(1)<<(seq%64)
	fresh = *word&bit == 0
	*word |= bit
	return fresh, late
}

var epoch = time.Now()

func nano() int64 { return int64(time.Since(epoch)) }

var runCount uint32

// runLoad makes one round against one target.
func runLoad(l *load, t target, procs []proc, round int) (res result) {
	runCount++
	r := &run{load: l, id: runCount | uint32(os.Getpid())<<12}
	r.t0.Store(1 << 62)
	r.t1.Store(1 << 62)
	res = result{Target: t.Name, Round: round}
	var readers, senders sync.WaitGroup
	defer func() {
		r.stop.Store(true)
		r.closing.Store(true)
		for _, p := range r.pubs {
			p.c.bye(0)
		}
		for _, s := range r.subs {
			s.c.bye(0)
		}
		readers.Wait()
	}()

	// Topics: subscribers split them when there are enough, else share them;
	// likewise publishers. fan[t] counts the subscribers of topic t.
	name := func(i int) string { return strings.ReplaceAll(l.Topic, "%d", strconv.Itoa(i)) }
	fan := make([]int64, l.Topics)
	open := func(role string, i int) (*client, error) {
		o := l.conn
		o.user = strings.ReplaceAll(o.user, "%d", strconv.Itoa(i))
		c, err := dial(t, &o, nil)
		if err == nil {
			err = c.connect(fmt.Sprintf("%s-%s%d-%d", l.Prefix, role, i, r.id&0xfff), &o)
		}
		if err != nil {
			err = fmt.Errorf("%s %d: %w", role, i, err)
		}
		return c, err
	}
	for i := range l.Subs {
		c, err := open("sub", i)
		if err != nil {
			res.Err = err.Error()
			return
		}
		s := &subscriber{c: c, seen: make([]seqWindow, l.Pubs)}
		r.subs = append(r.subs, s)
		var filters []string
		for t := range l.Topics {
			if t%l.Subs == i || i%l.Topics == t && l.Subs > l.Topics {
				filters = append(filters, name(t))
				fan[t]++
			}
		}
		if err := c.subscribe(byte(l.QoS), filters); err != nil {
			res.Err = fmt.Sprintf("sub %d: %v", i, err)
			return
		}
		c.nc.SetDeadline(time.Time{})
	}
	for i := range l.Pubs {
		c, err := open("pub", i)
		if err != nil {
			res.Err = err.Error()
			return
		}
		c.nc.SetDeadline(time.Time{})
		p := &publisher{c: c, wake: make(chan struct{}, 1), window: int64(min(l.Window, c.recvMax))}
		if l.QoS > 0 {
			p.state, p.since = make([]atomic.Uint32, 65536), make([]int64, 65536)
		}
		for t := range l.Topics {
			if t%l.Pubs == i || i%l.Topics == t && l.Pubs > l.Topics {
				p.addTopic(r, name(t), i)
				p.fan = append(p.fan, fan[t])
				p.maxFan = max(p.maxFan, fan[t])
			}
		}
		r.pubs = append(r.pubs, p)
	}
	for i, s := range r.subs {
		readers.Go(func() { r.fail(fmt.Sprintf("sub %d", i), s.read(r)) })
	}
	for i, p := range r.pubs {
		readers.Go(func() { r.fail(fmt.Sprintf("pub %d", i), p.readAcks(r)) })
		senders.Go(func() { r.fail(fmt.Sprintf("pub %d", i), p.publish(r, i)) })
	}

	// The measured window.
	r.pause(l.Warmup)
	end := meter(procs)
	s0, c0, d0 := r.counts()
	start := nano()
	r.t0.Store(start)
	r.pause(l.Duration)
	stop := nano()
	r.t1.Store(stop)
	s1, c1, d1 := r.counts()
	res.Usage = end()
	res.Seconds = float64(stop-start) / 1e9
	res.Sent, res.Completed, res.Delivered = s1-s0, c1-c0, d1-d0
	res.PubRate, res.DlvRate = float64(res.Completed)/res.Seconds, float64(res.Delivered)/res.Seconds

	// Drain: until all is there, or nothing came for a second.
	r.stop.Store(true)
	hung := time.AfterFunc(5*time.Second, func() {
		for _, p := range r.pubs {
			p.c.nc.SetWriteDeadline(time.Now())
		}
	})
	senders.Wait()
	hung.Stop()
	lost, unacked := r.missing()
	for idle := 0; idle < 100 && lost+unacked != 0; idle++ {
		time.Sleep(10 * time.Millisecond)
		if l, u := r.missing(); l != lost || u != unacked {
			lost, unacked, idle = l, u, 0
		}
	}
	for _, p := range r.pubs { // all was read before the next round starts
		p.c.nc.SetWriteDeadline(time.Now().Add(5 * time.Second))
		p.c.send(ptPingreq<<4, 0)
	}
	for end := time.Now().Add(5 * time.Second); r.failure.Load() == nil && r.pongs.Load() < int64(l.Pubs) && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if f := r.failure.Load(); f != nil {
		res.Err = (*f).Error()
	}
	r.closing.Store(true)
	for _, p := range r.pubs {
		p.c.bye(0)
	}
	for _, s := range r.subs {
		s.c.bye(0)
	}
	readers.Wait()
	var lat, due, ack hist
	for _, s := range r.subs {
		lat.merge(&s.lat)
		due.merge(&s.due)
		res.Dup, res.Reordered, res.Corrupt, res.Foreign = res.Dup+s.dup, res.Reordered+s.reord, res.Corrupt+s.bad, res.Foreign+s.foreign
	}
	for _, p := range r.pubs {
		ack.merge(&p.ack)
		res.Stalls += p.stalls
	}
	res.Lost, res.Unacked, res.Rejected = lost, unacked, r.rejected.Load()
	res.Latency, res.FromDue, res.Ack = lat.pctl(), due.pctl(), ack.pctl()
	r.pubs, r.subs = nil, nil
	return res
}

func (r *run) pause(d time.Duration) {
	for end := time.Now().Add(d); !r.stop.Load() && time.Now().Before(end); {
		time.Sleep(min(20*time.Millisecond, time.Until(end)))
	}
}

func (r *run) counts() (sent, completed, delivered uint64) {
	for _, p := range r.pubs {
		sent += p.sent.Load()
		completed += p.completed.Load()
	}
	for _, s := range r.subs {
		delivered += s.total.Load()
	}
	return
}

// missing counts the deliveries and the acknowledgements still to come.
func (r *run) missing() (deliveries, acks int64) {
	for _, p := range r.pubs {
		deliveries += p.expected.Load() - p.delivered.Load()
		acks += p.inflight.Load()
	}
	return
}

// addTopic prepares the packet for one topic; publish only patches it.
func (p *publisher) addTopic(r *run, topic string, pub int) {
	b := appendStr(nil, topic)
	if r.QoS > 0 {
		b = append(b, 0, 0)
	}
	if r.Proto == 5 {
		b = append(b, 0)
	}
	pay := make([]byte, r.Size)
	for i := range pay {
		pay[i] = pad
	}
	binary.LittleEndian.PutUint32(pay[offRun:], r.id)
	binary.LittleEndian.PutUint32(pay[offPub:], uint32(pub))
	pkt := packet(ptPublish<<4|byte(r.QoS)<<1, append(b, pay...))
	p.tmpl, p.payload = append(p.tmpl, pkt), append(p.payload, len(pkt)-r.Size)
}

// credit says how many messages the windows still allow. At QoS 0 the window
// counts messages not yet delivered; at QoS 1 and 2 messages not yet
// acknowledged, and twice as many not yet delivered.
func (p *publisher) credit(r *run) int64 {
	n := int64(1 << 20)
	if r.QoS > 0 {
		n = p.window - p.inflight.Load()
	}
	if p.maxFan > 0 {
		e2e := p.window
		if r.QoS > 0 {
			e2e *= 2
		}
		due := p.expected.Load() - p.delivered.Load() - p.forgiven
		n = min(n, (e2e*p.maxFan-max(due, 0))/p.maxFan)
	}
	return n
}

const batchBytes = 32 << 10

func (p *publisher) publish(r *run, idx int) error {
	f := framer{ws: p.c.ws, key: uint32(idx)*2654435761 + r.id}
	buf := make([]byte, 0, batchBytes+r.Size+1024)
	need := max(1, p.window/4) // wait for a quarter window, to write in batches
	var interval, next int64
	var clock *timer
	if r.Rate > 0 {
		var err error
		if clock, err = newTimer(); err != nil {
			return err
		}
		defer clock.f.Close()
		interval, need = int64(1e9*float64(r.Pubs)/r.Rate), 1
		next = nano() + interval*int64(idx)/int64(r.Pubs)
	}
	var id uint16
	turn, progress := 0, nano()
	lastSeen := int64(-1)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !r.stop.Load() {
		now, n := nano(), p.credit(r)
		if interval > 0 {
			if now < next {
				if err := clock.sleep(next - now); err != nil {
					return err
				}
				continue
			}
			n = min(n, (now-next)/interval+1)
		}
		if n < need {
			if seen := p.delivered.Load() - p.inflight.Load(); seen != lastSeen {
				lastSeen, progress = seen, now
			} else if now-progress > int64(time.Second) {
				p.stalls++
				p.forgiven = p.expected.Load() - p.delivered.Load()
				progress = now
			}
			select {
			case <-p.wake:
			case <-tick.C:
			}
			continue
		}
		buf = buf[:0]
		var count, due int64
		for ; count < n && len(buf) < batchBytes; count++ {
			tmpl, at := p.tmpl[turn], p.payload[turn]
			buf = f.open(buf, len(tmpl))
			start := len(buf)
			buf = append(buf, tmpl...)
			pkt := buf[start:]
			pay := pkt[at:]
			p.seq++
			binary.LittleEndian.PutUint64(pay[offSent:], uint64(now))
			binary.LittleEndian.PutUint64(pay[offDue:], uint64(now))
			if interval > 0 {
				binary.LittleEndian.PutUint64(pay[offDue:], uint64(next))
				next += interval
			}
			binary.LittleEndian.PutUint64(pay[offSeq:], p.seq)
			if r.QoS > 0 {
				for id++; id == 0 || p.state[id].Load() != 0; id++ {
				}
				p.since[id] = now
				p.state[id].Store(1)
				at -= 2
				if r.Proto == 5 {
					at--
				}
				binary.BigEndian.PutUint16(pkt[at:], id)
			}
			f.seal(pkt)
			due += p.fan[turn]
			if turn++; turn == len(p.tmpl) {
				turn = 0
			}
		}
		p.expected.Add(due)
		p.sent.Add(uint64(count))
		if r.QoS > 0 {
			p.inflight.Add(count)
		} else {
			p.completed.Add(uint64(count))
		}
		if err := p.c.write(buf); err != nil {
			return err
		}
	}
	return nil
}

func (p *publisher) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// readAcks finishes the publisher's QoS 1 and 2 handshakes.
func (p *publisher) readAcks(r *run) error {
	f := framer{ws: p.c.ws, key: r.id}
	var out []byte
	for {
		if err := p.c.fill(); err != nil {
			return err
		}
		now, done := nano(), int64(0)
		t0, t1 := r.t0.Load(), r.t1.Load()
		for out = out[:0]; ; {
			hdr, b, ok, err := p.c.next()
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			kind := hdr >> 4
			if kind == ptPingresp {
				r.pongs.Add(1)
				continue
			}
			if kind < ptPuback || kind > ptPubcomp || kind == ptPubrel || len(b) < 2 || p.state == nil {
				return unexpected(hdr, b)
			}
			id := binary.BigEndian.Uint16(b)
			refused := len(b) > 2 && b[2] >= 0x80
			if refused {
				r.rejected.Add(1)
			}
			want := uint32(1)
			if kind == ptPubcomp {
				want = 2
			}
			if p.state[id].Load() != want || (kind == ptPuback) != (r.QoS == 1) {
				return fmt.Errorf("packet type %d for packet id %d, which awaits none", kind, id)
			}
			if kind == ptPubrec && !refused {
				p.state[id].Store(2)
				out = f.append(out, ptPubrel<<4|2, 2, byte(id>>8), byte(id))
				continue
			}
			if s := p.since[id]; s >= t0 && s < t1 {
				p.ack.add(now - s)
			}
			p.state[id].Store(0)
			done++
		}
		if done > 0 {
			p.inflight.Add(-done)
			p.completed.Add(uint64(done))
			p.poke()
		}
		if len(out) > 0 {
			if err := p.c.write(out); err != nil {
				return err
			}
		}
	}
}

func unexpected(hdr byte, b []byte) error {
	if hdr>>4 == ptDisconnect && len(b) > 0 {
		return fmt.Errorf("DISCONNECT from the server, reason 0x%02x", b[0])
	}
	return fmt.Errorf("unexpected packet, first byte 0x%02x", hdr)
}

func (s *subscriber) read(r *run) error {
	f := framer{ws: s.c.ws, key: r.id}
	var out []byte
	got := make([]int64, r.Pubs)
	for {
		if err := s.c.fill(); err != nil {
			return err
		}
		now := nano()
		t0, t1 := r.t0.Load(), r.t1.Load()
		before := s.unique
		for out = out[:0]; ; {
			hdr, b, ok, err := s.c.next()
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			switch hdr >> 4 {
			case ptPublish:
				_, id, pay, ok := publishBody(hdr, b, r.Proto)
				if ok {
					if qos := hdr >> 1 & 3; qos == 1 {
						out = f.append(out, ptPuback<<4, 2, byte(id>>8), byte(id))
					} else if qos == 2 {
						out = f.append(out, ptPubrec<<4, 2, byte(id>>8), byte(id))
					}
				}
				if !ok || !s.message(r, pay, now, t0, t1, got) {
					s.bad++
				}
			case ptPubrel:
				if len(b) < 2 {
					return unexpected(hdr, b)
				}
				out = f.append(out, ptPubcomp<<4, 2, b[0], b[1])
			default:
				return unexpected(hdr, b)
			}
		}
		if s.unique != before {
			s.total.Store(s.unique)
			for i, n := range got {
				if n > 0 {
					r.pubs[i].delivered.Add(n)
					r.pubs[i].poke()
					got[i] = 0
				}
			}
		}
		if len(out) > 0 {
			if err := s.c.write(out); err != nil {
				return err
			}
		}
	}
}

// message books one delivery; false means it is not what was published.
func (s *subscriber) message(r *run, pay []byte, now, t0, t1 int64, got []int64) bool {
	if len(pay) < minPayload {
		return false
	}
	if run := binary.LittleEndian.Uint32(pay[offRun:]); run != r.id {
		if run>>12 == r.id>>12 && run < r.id {
			s.foreign++
			return true
		}
		return false
	}
	pub := binary.LittleEndian.Uint32(pay[offPub:])
	if len(pay) != r.Size || int(pub) >= r.Pubs || (r.Size > minPayload && (pay[minPayload] != pad || pay[r.Size-1] != pad)) {
		return false
	}
	fresh, late := s.seen[pub].add(binary.LittleEndian.Uint64(pay[offSeq:]))
	if !fresh {
		s.dup++
		return true
	}
	if late {
		s.reord++
	}
	s.unique++
	got[pub]++
	if sent := int64(binary.LittleEndian.Uint64(pay[offSent:])); sent >= t0 && sent < t1 {
		s.lat.add(now - sent)
		s.due.add(now - int64(binary.LittleEndian.Uint64(pay[offDue:])))
	}
	return true
}

// timer is a timerfd behind the runtime's poller: it wakes within some tens of
// microseconds, where time.Sleep has a millisecond's grain, and holds no thread.
type timer struct{ f *os.File }

func newTimer() (*timer, error) {
	fd, _, e := syscall.Syscall(syscall.SYS_TIMERFD_CREATE, 1, syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if e != 0 {
		return nil, e
	}
	return &timer{os.NewFile(fd, "timerfd")}, nil
}

func (t *timer) sleep(ns int64) error {
	spec := [2]syscall.Timespec{1: syscall.NsecToTimespec(max(ns, 1))}
	rc, err := t.f.SyscallConn()
	if err != nil {
		return err
	}
	rc.Control(func(fd uintptr) {
		syscall.Syscall6(syscall.SYS_TIMERFD_SETTIME, fd, 0, uintptr(unsafe.Pointer(&spec)), 0, 0, 0)
	})
	var b [8]byte
	_, err = t.f.Read(b[:])
	return err
}

// interleave runs A B C A B C …, until done or interrupted.
func interleave(ctx context.Context, targets []target, rounds int, f func(t target, round int)) {
	for round := range rounds {
		for _, t := range targets {
			if ctx.Err() == nil {
				f(t, round)
			}
		}
	}
}
