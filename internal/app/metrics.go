package app

import "github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/metrics"

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
		all = append(all, a.gateway.Metrics()...)
	}
	return all
}
