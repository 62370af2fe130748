package gateway

import (
	"context"
	"sync"
	"time"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/netloop"
)

// drainStep is how often a drain ends its share of connections.
const drainStep = 10 * time.Millisecond

// Stop drains: no new connections, live ones are told and closed, at most rate
// a second (0: all at once), until ctx ends; then everything is closed. It
// returns when nothing of the door is left. Idempotent: a second call waits for
// the first.
func (g *Gateway) Stop(ctx context.Context, rate int) error {
	g.mu.Lock()
	if g.stopped != nil {
		done := g.stopped
		g.mu.Unlock()
		<-done
		return nil
	}
	g.stopped = make(chan struct{})
	listeners := g.listeners
	g.mu.Unlock()
	defer close(g.stopped)

	g.draining.Store(true)
	var err error
	if g.engine != nil {
		for _, li := range listeners {
			_ = li.Close() // of a socket that is ours alone
		}
		g.drain(ctx, rate)
		g.stop()
		err = g.engine.Close()
		g.running.Wait()
	}
	g.mu.Lock()
	sets := g.sets
	g.mu.Unlock()
	for _, s := range sets {
		s.Close()
	}
	return err
}

// drain ends the live connections and waits until they are gone.
func (g *Gateway) drain(ctx context.Context, rate int) {
	tick := time.NewTicker(drainStep)
	defer tick.Stop()
	wait := func() bool {
		select {
		case <-tick.C:
			return true
		case <-ctx.Done():
			return false
		}
	}
	live, ok := g.live(ctx)
	if !ok {
		return
	}
	began := time.Now()
	for n := 0; n < len(live); {
		due := len(live)
		if rate > 0 {
			due = min(due, 1+int(float64(rate)*time.Since(began).Seconds()))
		}
		for ; n < due; n++ {
			c, d := live[n].c, live[n].d
			c.Post(func() { d.stop(draining) })
			live[n] = liveConn{}
		}
		if n < len(live) && !wait() {
			return
		}
	}
	for g.engine.Stats().Open > 0 && wait() {
	}
}

type liveConn struct {
	c netloop.Conn
	d *driver
}

// live lists the live connections.
func (g *Gateway) live(ctx context.Context) (list []liveConn, ok bool) {
	var mu sync.Mutex
	done := make(chan struct{})
	g.engine.Each(func(c netloop.Conn, h netloop.Handler) {
		if d := driverOf(h); d != nil {
			mu.Lock()
			defer mu.Unlock()
			list = append(list, liveConn{c, d})
		}
	}, func() { close(done) })
	select {
	case <-done:
		return list, true
	case <-ctx.Done():
		return nil, false
	}
}
