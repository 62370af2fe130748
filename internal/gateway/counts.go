package gateway

import (
	"sync/atomic"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/metrics"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/session"
)

// counts is what sessions have said.
type counts struct {
	tallies           metrics.Tallies
	blocked, detected metrics.Reasons
	admitted          atomic.Uint64
}

// add counts the events of a call.
func (c *counts) add(events []session.Event) {
	for i := range events {
		e := &events[i]
		switch {
		case e.Count > 0, e.Further: // no new one
		case e.Kind == session.KindBlocked:
			c.blocked[e.Reason].Add(1)
		case e.Kind == session.KindDetected:
			c.detected[e.Reason].Add(1)
		case e.Kind == session.KindConnected:
			c.admitted.Add(1)
		}
	}
}

// Metrics is what was counted so far, and how full the tables are.
func (g *Gateway) Metrics() []metrics.Sample {
	s, c := g.Stats(), &g.counts
	all := []metrics.Sample{
		metrics.Of(metrics.GatewayAdmitted, c.admitted.Load()),
		metrics.Of(metrics.GatewayAccepted, s.Accepted),
		metrics.Of(metrics.GatewayRefused, s.RefusedPending, "cap", "pending"),
		metrics.Of(metrics.GatewayRefused, s.RefusedConnected, "cap", "connected"),
		metrics.Of(metrics.GatewayDialled, s.Dialled),
		metrics.Of(metrics.GatewayErrors, s.AcceptErrors),
		metrics.Of(metrics.GatewayStalled, s.Stalled),
		metrics.Of(metrics.GatewayPanics, s.Panics),
		metrics.Of(metrics.GatewaySockets, s.Open),
		metrics.Of(metrics.GatewayPending, s.Pending),
		metrics.Of(metrics.GatewayConnected, s.Connected),
		metrics.Of(metrics.GatewayBuffers, s.BufferBytes),
		metrics.Of(metrics.GatewayTurn, s.LongestTurn.Seconds()),
	}
	for _, side := range []mqtt.Side{mqtt.Client, mqtt.Broker} {
		packets, messages := c.tallies.Packets(int(side))
		all = append(all,
			metrics.Of(metrics.GatewayPackets, packets, "from", side.String()),
			metrics.Of(metrics.GatewayMessages, messages, "from", side.String()))
	}
	tag := func(r uint8) string { return policy.Reason(r).Tag() }
	all = c.blocked.Append(all, metrics.GatewayBlocked, policy.ReasonACL.Tag(), tag)
	return c.detected.Append(all, metrics.GatewayDetected, policy.ReasonACL.Tag(), tag)
}
