package app

import (
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/gateway"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/metrics"
)

// Metrics is what every part has counted so far. It may be called at once.
func (a *App) Metrics() []metrics.Sample {
	all := []metrics.Sample{
		metrics.Of(metrics.Build, 1, "version", a.opts.Version),
		metrics.Of(metrics.AuditDropped, a.audit.Dropped()),
		metrics.Of(metrics.AuditFaults, a.audit.Faults()),
	}
	if a.agent != nil {
		all = append(all, a.agent.Metrics()...)
	}
	if a.gateway != nil {
		s := a.gateway.Stats()
		all = append(all, gatewayMetrics(&s)...)
	}
	return all
}

func gatewayMetrics(s *gateway.Stats) []metrics.Sample {
	return []metrics.Sample{
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
}
