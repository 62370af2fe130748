// Package metrics is every metric of the program in one place: its name, what
// it tells, and its text for Prometheus.
//
// A part that counts returns [Sample]s when it is asked; nothing is registered.
// What every packet counts goes into [Tallies]. Labels come from closed lists only: never a
// client id, a topic or a user name.
package metrics

import (
	"slices"
	"strconv"
	"strings"
)

// Kind is what a metric's number does.
type Kind uint8

// The kinds.
const (
	Counter Kind = iota // only grows
	Gauge
)

func (k Kind) String() string {
	if k == Gauge {
		return "gauge"
	}
	return "counter"
}

// Metric is one of the list below.
type Metric struct {
	Name, Help string
	Kind       Kind
}

// The metrics of both doors and of what they share.
var (
	Build        = &Metric{"mqtt_build_info", "The running version; always 1.", Gauge}
	Health       = &Metric{"mqtt_health", "1 while healthy, 2 degraded, 3 draining.", Gauge}
	HealthReason = &Metric{"mqtt_health_reason", "1 for each reason for which health is degraded.", Gauge}
	AuditDropped = &Metric{"mqtt_audit_dropped_total", "Audit events that were lost because the output was too slow.", Counter}
	AuditFaults  = &Metric{"mqtt_audit_faults_total", "Writes of the audit that failed.", Counter}
)

// The metrics of the agent door.
var (
	AgentPackets        = &Metric{"mqtt_agent_packets_processed_total", "MQTT packets that were processed, by who sent them.", Counter}
	AgentMessages       = &Metric{"mqtt_agent_messages_processed_total", "PUBLISH packets among them.", Counter}
	AgentBlocked        = &Metric{"mqtt_agent_packets_blocked_total", "Packets, frames and upgrades that were refused, by the reason that the audit gives.", Counter}
	AgentDetected       = &Metric{"mqtt_agent_packets_detected_total", "What would have been refused if block-mode were on.", Counter}
	AgentAuthenticated  = &Metric{"mqtt_agent_authenticated_total", "Clients that were admitted.", Counter}
	AgentFrames         = &Metric{"mqtt_agent_frames_total", "WebSocket frames, by what was decided.", Counter}
	AgentUnanswered     = &Metric{"mqtt_agent_unanswered_total", "Dropped packets whose sender waits for an answer.", Counter}
	AgentLate           = &Metric{"mqtt_agent_late_total", "Answers that were too late to be sent.", Counter}
	AgentUnreadable     = &Metric{"mqtt_agent_unreadable_total", "Events that could not be read.", Counter}
	AgentUpgrades       = &Metric{"mqtt_agent_upgrades_refused_total", "Upgrades that were refused.", Counter}
	AgentUpgradeNotSeen = &Metric{"mqtt_agent_upgrade_not_seen_total", "WebSockets on routes whose upgrades are not shown.", Counter}
	AgentWebSockets     = &Metric{"mqtt_agent_websockets", "WebSockets in the table.", Gauge}
	AgentWaiting        = &Metric{"mqtt_agent_websockets_waiting", "Of them, not yet past CONNECT.", Gauge}
	AgentConnections    = &Metric{"mqtt_agent_connections", "Connections of proxies.", Gauge}
	AgentHeld           = &Metric{"mqtt_agent_held_bytes", "Bytes of packets that are not whole.", Gauge}
)

// The metrics of the gateway door.
var (
	GatewayPackets   = &Metric{"mqtt_gateway_packets_processed_total", "MQTT packets that were processed, by who sent them.", Counter}
	GatewayMessages  = &Metric{"mqtt_gateway_messages_processed_total", "PUBLISH packets among them.", Counter}
	GatewayBlocked   = &Metric{"mqtt_gateway_packets_blocked_total", "Packets and connections that were refused, by the reason that the audit gives.", Counter}
	GatewayDetected  = &Metric{"mqtt_gateway_packets_detected_total", "What would have been refused if block-mode were on.", Counter}
	GatewayAdmitted  = &Metric{"mqtt_gateway_authenticated_total", "Clients that were admitted, by the broker as well.", Counter}
	GatewayAccepted  = &Metric{"mqtt_gateway_accepted_total", "Connections that were accepted.", Counter}
	GatewayRefused   = &Metric{"mqtt_gateway_refused_total", "Connections that a cap of the configuration refused, by which.", Counter}
	GatewayDialled   = &Metric{"mqtt_gateway_dialled_total", "Connections to brokers that were begun.", Counter}
	GatewayErrors    = &Metric{"mqtt_gateway_accept_errors_total", "Accepts that failed.", Counter}
	GatewayStalled   = &Metric{"mqtt_gateway_stalled_total", "Connections that were ended because their peer took nothing, or took up buffer-bytes.", Counter}
	GatewayPanics    = &Metric{"mqtt_gateway_panics_total", "Faults of ours that ended one connection.", Counter}
	GatewaySockets   = &Metric{"mqtt_gateway_sockets", "Sockets that are open, to clients and brokers.", Gauge}
	GatewayPending   = &Metric{"mqtt_gateway_pending", "Clients that were accepted and whose CONNECT has not come.", Gauge}
	GatewayConnected = &Metric{"mqtt_gateway_connected", "Clients whose CONNECT has come.", Gauge}
	GatewayBuffers   = &Metric{"mqtt_gateway_buffer_bytes", "Bytes kept for peers that are slow.", Gauge}
	GatewayTurn      = &Metric{"mqtt_gateway_longest_turn_seconds", "The longest turn of an event loop.", Gauge}
)

// Label is one label of a sample.
type Label struct{ Name, Value string }

// Sample is what a metric says now, for one set of labels.
type Sample struct {
	*Metric
	Labels []Label
	Value  float64
}

// Of makes a sample; labels are names and values in turn.
func Of[N int | int64 | uint64 | float64](m *Metric, value N, labels ...string) Sample {
	s := Sample{Metric: m, Value: float64(value)}
	for i := 0; i+1 < len(labels); i += 2 {
		s.Labels = append(s.Labels, Label{labels[i], labels[i+1]})
	}
	return s
}

// escape is how label values are written.
var escape = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)

// AppendText appends samples in Prometheus' text format (version 0.0.4), those
// of a metric together.
func AppendText(dst []byte, all []Sample) []byte {
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b Sample) int { return strings.Compare(a.Name, b.Name) })
	var last *Metric
	for _, s := range all {
		if s.Metric != last {
			last = s.Metric
			dst = append(dst, "# HELP "+s.Name+" "+s.Help+"\n# TYPE "+s.Name+" "+s.Kind.String()+"\n"...)
		}
		dst = append(dst, s.Name...)
		for i, l := range s.Labels {
			dst = append(dst, "{,"[min(i, 1)])
			dst = append(dst, l.Name+`="`+escape.Replace(l.Value)+`"`...)
		}
		if len(s.Labels) > 0 {
			dst = append(dst, '}')
		}
		dst = append(dst, ' ')
		dst = append(strconv.AppendFloat(dst, s.Value, 'f', -1, 64), '\n')
	}
	return dst
}
