package agent

import (
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/agent/wire"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/health"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/session"
)

// stats is what the agent door counts.
type stats struct {
	allowed, dropped, closed atomic.Uint64 // frames
	blocked, detected        atomic.Uint64 // packets, and what is refused without one
	authenticated            atomic.Uint64
	unanswered               atomic.Uint64 // dropped although the sender waits for an answer
	late                     atomic.Uint64 // answers that were not sent
	unreadable               atomic.Uint64 // events
	upgradesRefused          atomic.Uint64
	upgradeNotSeen           atomic.Uint64
	connections              atomic.Uint64
}

func (s *stats) decided(d *decision) {
	switch d.ws {
	case wire.WSAllow:
		s.allowed.Add(1)
	case wire.WSDrop:
		s.dropped.Add(1)
	default:
		s.closed.Add(1)
	}
}

func (s *stats) count(k session.Kind) {
	switch k {
	case session.KindBlocked:
		s.blocked.Add(1)
	case session.KindDetected:
		s.detected.Add(1)
	}
}

// connection is the next connection's name in the audit.
func (s *stats) connection() string {
	return "a" + strconv.FormatUint(s.connections.Add(1), 36)
}

// report is what proxies are told.
func (a *Agent) report(now time.Time) wire.Report {
	s := &a.stats
	counter := func(name, help string, v *atomic.Uint64) wire.Counter {
		return wire.Counter{Name: name, Help: help, Value: v.Load()}
	}
	return wire.Report{
		AgentID: agentID, TimestampMS: now.UnixMilli(), IntervalMS: reportTime.Milliseconds(),
		Counters: []wire.Counter{
			counter("mqtt_agent_frames_allowed_total", "WebSocket frames that were forwarded.", &s.allowed),
			counter("mqtt_agent_frames_dropped_total", "WebSocket frames that were dropped.", &s.dropped),
			counter("mqtt_agent_frames_closed_total", "WebSocket frames that ended their connection.", &s.closed),
			counter("mqtt_agent_blocked_total", "Packets and upgrades that were refused.", &s.blocked),
			counter("mqtt_agent_detected_total", "Packets and upgrades that would have been refused.", &s.detected),
			counter("mqtt_agent_authenticated_total", "Clients that were admitted.", &s.authenticated),
			counter("mqtt_agent_unanswered_total", "Dropped packets whose sender waits for an answer.", &s.unanswered),
			counter("mqtt_agent_late_total", "Answers that were too late to be sent.", &s.late),
			counter("mqtt_agent_unreadable_total", "Events that could not be read.", &s.unreadable),
			counter("mqtt_agent_upgrades_refused_total", "Upgrades that were refused.", &s.upgradesRefused),
			counter("mqtt_agent_upgrade_not_seen_total", "WebSockets on routes whose upgrades are not shown.", &s.upgradeNotSeen),
		},
		Gauges: []wire.Gauge{
			{Name: "mqtt_agent_websockets", Help: "WebSockets in the table.", Value: float64(a.table.live.Load())},
			{Name: "mqtt_agent_held_bytes", Help: "Bytes of packets that are not whole.", Value: float64(a.table.held.Load())},
		},
	}
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
	state, reported := health.Healthy, time.Now()
	var reasons []string
	for {
		select {
		case <-a.base.Done():
			return
		case now := <-turn.C:
			a.tick(a.now(), now, fx)
			if a.rpc != nil {
				a.rpc.stalled(a.now())
			}
			s, r := a.Health()
			if s != state || !slices.Equal(r, reasons) {
				state, reasons = s, r
				a.tellHealth(now)
			}
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

// tellHealth tells proxies how we are.
func (a *Agent) tellHealth(now time.Time) {
	state, reasons := a.Health()
	status := wire.Status{AgentID: agentID, State: int(state), Reasons: reasons, TimestampMS: now.UnixMilli()}
	a.tell(status.AppendMessage)
	if a.rpc != nil {
		a.rpc.tell(statusV2(&status))
	}
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
