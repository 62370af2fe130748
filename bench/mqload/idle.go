//go:build linux

package main

// The idle and connect commands: what a connection costs, and how fast
// connections come and go.

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// raiseFiles makes room for n sockets or says why there is none.
func raiseFiles(n int) error {
	var lim syscall.Rlimit
	need := uint64(n + 64)
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil || lim.Cur >= need {
		return err
	}
	want := syscall.Rlimit{Cur: need, Max: max(need, lim.Max)}
	if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &want) == nil {
		return nil
	}
	return fmt.Errorf("%d connections need %d open files; the hard limit is %d and may not be raised here (start several mqload, or raise it outside)", n, need, lim.Max)
}

// source spreads n connections over 127.0.0.2, 127.0.0.3, … , 25,000 each.
func source(i, n int) net.IP {
	const each = 25000
	if n <= each {
		return nil
	}
	k := 2 + i/each
	return net.IPv4(127, 0, byte(k>>8), byte(k))
}

type idleResult struct {
	Target    string             `json:"target"`
	Conns     int                `json:"conns"`
	Connected int                `json:"connected"`
	Failures  map[string]int     `json:"failures"`
	Connect   pctl               `json:"connect"` // TCP dial to CONNACK
	PerSecond float64            `json:"connects_per_s"`
	Hold      float64            `json:"hold_s"`
	Dropped   int                `json:"dropped"` // closed by the other side while idle
	RSSBefore map[string]float64 `json:"rss_before_b"`
	RSSAfter  map[string]float64 `json:"rss_after_b"`
	PerConn   map[string]float64 `json:"rss_per_conn_b"`
	RSSClosed map[string]float64 `json:"rss_closed_b"` // 3 s after closing them all
	IdleCPU   map[string]float64 `json:"hold_cpu_s"`   // while held
	Probed    int                `json:"probed"`
	ProbeFail int                `json:"probe_failures"`
	Probe     pctl               `json:"probe"` // publish to own subscription and back
}

func rssOf(procs []proc) map[string]float64 {
	m := map[string]float64{}
	for _, p := range procs {
		m[p.name] = p.status("VmRSS")
	}
	return m
}

func runIdle(ctx context.Context, t target, o connOpts, n int, rate float64, hold time.Duration, subscribe bool, procs []proc) (res idleResult, err error) {
	if err := raiseFiles(n); err != nil {
		return res, err
	}
	res = idleResult{Target: t.Name, Conns: n, Hold: hold.Seconds(), Failures: map[string]int{}, PerConn: map[string]float64{}}
	res.RSSBefore = rssOf(procs)
	o.bufSize = 256
	conns := make([]*client, n)
	topic := func(i int) string { return fmt.Sprintf("mqload/idle/%d", i) }

	var lat hist
	var mu sync.Mutex
	var wg sync.WaitGroup
	start := time.Now()
	slots := make(chan struct{}, 128) // at most so many handshakes at a time
	for i := range n {
		if d := time.Until(start.Add(time.Duration(float64(i) / rate * 1e9))); d > 0 {
			time.Sleep(d)
		}
		if ctx.Err() != nil {
			break
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			began := nano()
			c, err := dial(t, &o, source(i, n))
			if err == nil {
				err = c.connect(fmt.Sprintf("mqload-idle-%d", i), &o)
			}
			took := nano() - began
			if err == nil && subscribe {
				err = c.subscribe(0, []string{topic(i)})
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				if c != nil {
					c.raw.Close()
				}
				res.Failures[reason(err)]++
				return
			}
			c.nc.SetDeadline(time.Time{})
			conns[i] = c
			lat.add(took)
			res.Connected++
		})
	}
	wg.Wait()
	res.PerSecond = float64(res.Connected) / time.Since(start).Seconds()
	res.Connect = lat.pctl()
	open := slices.DeleteFunc(slices.Clone(conns), func(c *client) bool { return c == nil })

	end := meter(procs)
	for left := hold; left > 0 && ctx.Err() == nil; {
		step := min(left, time.Duration(o.keepalive)*time.Second/2)
		time.Sleep(step)
		if left -= step; left > 0 {
			for _, c := range open {
				c.send(ptPingreq<<4, 0)
			}
		}
	}
	res.IdleCPU = end().CPU
	res.RSSAfter = rssOf(procs)
	for name, b := range res.RSSAfter {
		res.PerConn[name] = (b - res.RSSBefore[name]) / float64(max(res.Connected, 1))
	}
	for _, c := range open {
		if !c.alive() {
			res.Dropped++
		}
	}

	// One round trip through a random 1 %.
	var probe hist
	for _, i := range rand.Perm(n)[:min(n, max(n/100, 10))] {
		if c := conns[i]; c != nil {
			res.Probed++
			took, err := c.roundTrip(topic(i), !subscribe, o.timeout)
			if err != nil {
				res.ProbeFail++
				res.Failures["probe: "+reason(err)]++
				continue
			}
			probe.add(took)
		}
	}
	res.Probe = probe.pctl()
	for _, c := range open {
		c.bye(0)
	}
	time.Sleep(3 * time.Second)
	res.RSSClosed = rssOf(procs)
	return res, nil
}

// roundTrip publishes to the connection's own topic and waits for it.
func (c *client) roundTrip(topic string, subscribe bool, timeout time.Duration) (int64, error) {
	c.nc.SetDeadline(time.Now().Add(timeout))
	if subscribe {
		if err := c.subscribe(0, []string{topic}); err != nil {
			return 0, err
		}
	}
	b := appendStr(nil, topic)
	if c.proto == 5 {
		b = append(b, 0)
	}
	began := nano()
	b = binary.LittleEndian.AppendUint64(b, uint64(began))
	if err := c.send(packet(ptPublish<<4, b)...); err != nil {
		return 0, err
	}
	for {
		hdr, body, err := c.await()
		if err != nil {
			return 0, err
		}
		if hdr>>4 != ptPublish {
			continue
		}
		if _, _, pay, ok := publishBody(hdr, body, c.proto); ok && len(pay) == 8 && int64(binary.LittleEndian.Uint64(pay)) == began {
			return nano() - began, nil
		}
	}
}

// reason makes errors of many connections countable.
func reason(err error) string {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Op + ": " + op.Err.Error()
	}
	return err.Error()
}

type churnResult struct {
	Target    string         `json:"target"`
	Round     int            `json:"round"`
	Seconds   float64        `json:"seconds"`
	Connects  uint64         `json:"connects"`
	PerSecond float64        `json:"connects_per_s"`
	Connect   pctl           `json:"connect"` // TCP dial to CONNACK
	Connack   pctl           `json:"connack"` // CONNECT to CONNACK
	Failures  map[string]int `json:"failures"`
	Usage     usage          `json:"usage"`
}

// runChurn connects and disconnects with conc workers, at rate if above zero.
func runChurn(t target, o connOpts, conc int, rate float64, d time.Duration, procs []proc, round int) churnResult {
	res := churnResult{Target: t.Name, Round: round, Failures: map[string]int{}}
	o.bufSize = 256
	var wg sync.WaitGroup
	var mu sync.Mutex
	var total, connack hist
	var turn atomic.Int64
	end, began := meter(procs), time.Now()
	for w := range conc {
		wg.Go(func() {
			for {
				i := turn.Add(1) - 1
				if rate > 0 {
					time.Sleep(time.Until(began.Add(time.Duration(float64(i) / rate * 1e9))))
				}
				if time.Since(began) >= d {
					return
				}
				t0 := nano()
				// A source address per worker keeps TIME_WAIT pairs apart.
				c, err := dial(t, &o, net.IPv4(127, 0, 1, byte(1+w%250)))
				t1 := nano()
				if err == nil {
					err = c.connect(fmt.Sprintf("mqload-churn-%d-%d", w, i), &o)
				}
				t2 := nano()
				mu.Lock()
				if err != nil {
					res.Failures[reason(err)]++
				} else {
					res.Connects++
					total.add(t2 - t0)
					connack.add(t2 - t1)
				}
				mu.Unlock()
				if err == nil {
					c.bye(time.Second)
				} else if c != nil {
					c.raw.Close()
				} else {
					time.Sleep(10 * time.Millisecond)
				}
			}
		})
	}
	wg.Wait()
	res.Seconds = time.Since(began).Seconds()
	res.Usage = end()
	res.PerSecond = float64(res.Connects) / res.Seconds
	res.Connect, res.Connack = total.pctl(), connack.pctl()
	return res
}
