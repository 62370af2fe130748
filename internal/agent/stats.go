package agent

import (
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/agent/wire"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/health"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/metrics"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/session"
)

// stats is what the agent door counts.
type stats struct {
	tallies metrics.Tallies

	blocked, detected metrics.Reasons // packets, and what is refused without one
	authenticated     atomic.Uint64
	unanswered        atomic.Uint64 // dropped although the sender waits for an answer
	late              atomic.Uint64 // answers that were not sent
	unreadable        atomic.Uint64 // events
	upgradesRefused   atomic.Uint64
	upgradeNotSeen    atomic.Uint64
	connections       atomic.Uint64
}

// decided counts a frame.
func (c *conn) decided(d *decision) { c.tally.Frames[d.ws].Add(1) }

// processed counts what a session has counted since it was asked last.
func (c *conn) processed(before, now *session.Counters) {
	for side := range now.Packets {
		c.tally.Add(side, now.Packets[side]-before.Packets[side], now.Messages[side]-before.Messages[side])
	}
}

func (s *stats) count(k session.Kind, r policy.Reason) {
	switch k {
	case session.KindBlocked:
		s.blocked[r].Add(1)
	case session.KindDetected:
		s.detected[r].Add(1)
	}
}

// connection is the next connection's name in the audit.
func (s *stats) connection() string {
	return "a" + strconv.FormatUint(s.connections.Add(1), 36)
}

// Metrics is what was counted so far, and how full the tables are.
func (a *Agent) Metrics() []metrics.Sample {
	s := &a.stats
	a.mu.Lock()
	open := len(a.conns)
	a.mu.Unlock()
	if a.rpc != nil {
		open += a.rpc.callers.count()
	}
	all := []metrics.Sample{
		metrics.Of(metrics.AgentAuthenticated, s.authenticated.Load()),
		metrics.Of(metrics.AgentUnanswered, s.unanswered.Load()),
		metrics.Of(metrics.AgentLate, s.late.Load()),
		metrics.Of(metrics.AgentUnreadable, s.unreadable.Load()),
		metrics.Of(metrics.AgentUpgrades, s.upgradesRefused.Load()),
		metrics.Of(metrics.AgentUpgradeNotSeen, s.upgradeNotSeen.Load()),
		metrics.Of(metrics.AgentWebSockets, a.table.live.Load()),
		metrics.Of(metrics.AgentWaiting, a.table.waiting.Load()),
		metrics.Of(metrics.AgentConnections, open),
		metrics.Of(metrics.AgentHeld, a.table.held.Load()),
	}
	for _, side := range []mqtt.Side{mqtt.Client, mqtt.Broker} {
		packets, messages := s.tallies.Packets(int(side))
		all = append(all,
			metrics.Of(metrics.AgentPackets, packets, "from", side.String()),
			metrics.Of(metrics.AgentMessages, messages, "from", side.String()))
	}
	for _, d := range []wire.WebSocketDecision{wire.WSAllow, wire.WSDrop, wire.WSClose} {
		all = append(all, metrics.Of(metrics.AgentFrames, s.tallies.Frames(int(d)), "decision", d.String()))
	}
	tag := func(r uint8) string { return policy.Reason(r).Tag() }
	all = s.blocked.Append(all, metrics.AgentBlocked, policy.ReasonACL.Tag(), tag)
	return s.detected.Append(all, metrics.AgentDetected, policy.ReasonACL.Tag(), tag)
}

// report is what proxies are told.
func (a *Agent) report(now time.Time) wire.Report {
	r := wire.Report{
		AgentID: agentID, TimestampMS: now.UnixMilli(), IntervalMS: reportTime.Milliseconds(),
		Counters: []wire.Counter{}, Gauges: []wire.Gauge{},
	}
	for _, s := range a.Metrics() {
		var labels map[string]string
		for _, l := range s.Labels {
			labels = map[string]string{l.Name: l.Value}
		}
		if s.Kind == metrics.Gauge {
			r.Gauges = append(r.Gauges, wire.Gauge{Name: s.Name, Help: s.Help, Value: s.Value})
		} else {
			r.Counters = append(r.Counters, wire.Counter{Name: s.Name, Help: s.Help, Label: labels, Value: uint64(s.Value)})
		}
	}
	return r
}

// The reasons of this door for which it is not healthy.
const (
	reasonPush     = "push-refused"
	reasonUpgrade  = "upgrade-not-seen"
	reasonStreamed = "grpc-v2-frames-not-enforced"
)

// Health is the state of the agent door, and for what reasons: its own, and
// those on the board. The proxy and operators are told the same.
func (a *Agent) Health() (health.State, []string) {
	reasons := a.board.Reasons()
	a.mu.Lock()
	draining := a.draining
	if a.pushError != "" {
		reasons = append(reasons, reasonPush)
	}
	a.mu.Unlock()
	if a.stats.upgradeNotSeen.Load() > 0 {
		reasons = append(reasons, reasonUpgrade)
	}
	if a.rpc != nil && len(a.rpc.all()) > 0 {
		reasons = append(reasons, reasonStreamed)
	}
	return health.Sum(reasons, draining), reasons
}

// The sweeper's turns, and how often proxies get a report.
const (
	sweepTime  = time.Second
	reportTime = 10 * time.Second
)

// sweep does what time brings, until the agent stops: silent WebSockets end,
// proxies are told how we are.
func (a *Agent) sweep() {
	turn := time.NewTicker(sweepTime)
	defer turn.Stop()
	fx := &session.Effects{WantVerdicts: true}
	reported := time.Now()
	for {
		select {
		case <-a.base.Done():
			return
		case now := <-turn.C:
			a.tick(a.now(), now, fx)
			if a.rpc != nil {
				a.rpc.stalled(a.now())
			}
			a.tellHealth(now)
			if now.Sub(reported) >= reportTime {
				reported = now
				report := a.report(now)
				a.tell(report.AppendMessage)
				if a.rpc != nil {
					a.rpc.tell(reportV2(&report))
				}
			}
		}
	}
}

// tick ends what has been silent for too long.
func (a *Agent) tick(now session.Time, wall time.Time, fx *session.Effects) {
	for ws := range a.table.all() {
		ws.guarded(a, func() { ws.due(a, now, fx) })
	}
	a.table.forget(now)
	a.repeats.forget(wall)
}

// told is what proxies know of our health.
type told struct {
	mu      sync.Mutex // held while it is told, for the order
	state   health.State
	reasons []string
}

// tellHealth tells proxies how we are, when they were told otherwise.
func (a *Agent) tellHealth(now time.Time) {
	a.told.mu.Lock()
	defer a.told.mu.Unlock()
	state, reasons := a.Health()
	if state == a.told.state && slices.Equal(reasons, a.told.reasons) {
		return
	}
	a.told.state, a.told.reasons = state, reasons
	status := a.told.status(now)
	a.tell(status.AppendMessage)
	if a.rpc != nil {
		a.rpc.tell(statusV2(&status))
	}
}

// introduce makes a proxy that has shaken hands one of those that are told
// things, and has it told what they know: nothing while all is well.
func (a *Agent) introduce(join func(), tell func(*wire.Status)) {
	a.told.mu.Lock()
	defer a.told.mu.Unlock()
	join()
	if a.told.state != health.Healthy {
		status := a.told.status(time.Now())
		tell(&status)
	}
}

// status is the message about it. The caller holds mu.
func (t *told) status(now time.Time) wire.Status {
	return wire.Status{AgentID: agentID, State: int(t.state), Reasons: t.reasons, Limits: Limits, TimestampMS: now.UnixMilli()}
}

// tell sends a message that nobody asked for to every proxy connection of v2.
func (a *Agent) tell(appendTo func([]byte) []byte) {
	a.mu.Lock()
	var all []*conn
	for c := range a.conns {
		if !slices.Contains(a.pending, c) {
			all = append(all, c)
		}
	}
	a.mu.Unlock()
	for _, c := range all {
		if !c.v2.Load() {
			continue
		}
		c.write(appendTo)
		a.checks.Go(c.flush) // a stuck proxy holds up nobody else
	}
}
