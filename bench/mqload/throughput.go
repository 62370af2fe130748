//go:build linux

package main

// The throughput command: P publishers, S subscribers, T topics, one process,
// one monotonic clock.

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
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

	readers, senders sync.WaitGroup
	rejected         atomic.Uint64
	pongs            atomic.Int64
	failure          atomic.Pointer[error]
}

func (r *run) fail(who string, err error) {
	if !r.closing.Load() && err != nil {
		err = fmt.Errorf("%s: %w", who, err)
		r.failure.CompareAndSwap(nil, &err)
		r.stop.Store(true)
	}
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
	if err := r.open(t); err != nil {
		r.close()
		res.Err = err.Error()
		return res
	}
	r.start()
	r.measure(procs, &res)
	r.drain(&res)
	r.close()
	r.tally(&res)
	return res
}

// close ends all connections and waits for their readers.
func (r *run) close() {
	r.stop.Store(true)
	r.closing.Store(true)
	for _, p := range r.pubs {
		p.c.bye(0)
	}
	for _, s := range r.subs {
		s.c.bye(0)
	}
	r.readers.Wait()
}

// open connects everybody. Subscribers split the topics when there are enough,
// else share them; likewise publishers.
func (r *run) open(t target) error {
	l := r.load
	name := func(i int) string { return strings.ReplaceAll(l.Topic, "%d", strconv.Itoa(i)) }
	fan := make([]int64, l.Topics) // the subscribers of each topic
	for i := range l.Subs {
		c, err := r.connect(t, "sub", i)
		if err != nil {
			return err
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
			return fmt.Errorf("sub %d: %w", i, err)
		}
		c.nc.SetDeadline(time.Time{})
	}
	for i := range l.Pubs {
		c, err := r.connect(t, "pub", i)
		if err != nil {
			return err
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
	return nil
}

func (r *run) connect(t target, role string, i int) (*client, error) {
	o := r.conn
	o.user = strings.ReplaceAll(o.user, "%d", strconv.Itoa(i))
	c, err := dial(t, &o, nil)
	if err == nil {
		err = c.connect(fmt.Sprintf("%s-%s%d-%d", r.Prefix, role, i, r.id&0xfff), &o)
	}
	if err != nil {
		err = fmt.Errorf("%s %d: %w", role, i, err)
	}
	return c, err
}

func (r *run) start() {
	for i, s := range r.subs {
		r.readers.Go(func() { r.fail(fmt.Sprintf("sub %d", i), s.read(r)) })
	}
	for i, p := range r.pubs {
		r.readers.Go(func() { r.fail(fmt.Sprintf("pub %d", i), p.readAcks(r)) })
		r.senders.Go(func() { r.fail(fmt.Sprintf("pub %d", i), p.publish(r, i)) })
	}
}

// measure is the warm-up and the measured window.
func (r *run) measure(procs []proc, res *result) {
	r.pause(r.Warmup)
	end := meter(procs)
	s0, c0, d0 := r.counts()
	start := nano()
	r.t0.Store(start)
	r.pause(r.Duration)
	stop := nano()
	r.t1.Store(stop)
	s1, c1, d1 := r.counts()
	res.Usage = end()
	res.Seconds = float64(stop-start) / 1e9
	res.Sent, res.Completed, res.Delivered = s1-s0, c1-c0, d1-d0
	res.PubRate, res.DlvRate = float64(res.Completed)/res.Seconds, float64(res.Delivered)/res.Seconds
}

// drain waits until all is there, or nothing came for a second.
func (r *run) drain(res *result) {
	r.stop.Store(true)
	hung := time.AfterFunc(5*time.Second, func() {
		for _, p := range r.pubs {
			p.c.nc.SetWriteDeadline(time.Now())
		}
	})
	r.senders.Wait()
	hung.Stop()
	lost, unacked := r.missing()
	for idle := 0; idle < 100 && lost+unacked != 0; idle++ {
		time.Sleep(10 * time.Millisecond)
		if l, u := r.missing(); l != lost || u != unacked {
			lost, unacked, idle = l, u, 0
		}
	}
	res.Lost, res.Unacked = lost, unacked
	for _, p := range r.pubs { // all was read before the next round starts
		p.c.nc.SetWriteDeadline(time.Now().Add(5 * time.Second))
		p.c.send(ptPingreq<<4, 0)
	}
	for end := time.Now().Add(5 * time.Second); r.failure.Load() == nil && r.pongs.Load() < int64(r.Pubs) && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if f := r.failure.Load(); f != nil {
		res.Err = (*f).Error()
	}
}

// tally adds up what the connections have seen. They have ended.
func (r *run) tally(res *result) {
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
	res.Rejected = r.rejected.Load()
	res.Latency, res.FromDue, res.Ack = lat.pctl(), due.pctl(), ack.pctl()
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
