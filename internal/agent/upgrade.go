package agent

import (
	"errors"
	"slices"
	"strings"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/agent/wire"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
)

var (
	errPush     = errors.New("this version takes its configuration from its own file only: remove the config block of the agent from the proxy's configuration")
	errPushNone = errors.New("agent.accept-config is none: remove the config block of the agent from the proxy's configuration")
)

// What a client is told whose upgrade is refused: what to change.
const (
	adviseCompression = "WebSocket compression (permessage-deflate) would hide MQTT from inspection and is refused here. " +
		"Turn it off in the client (MQTT.js: wsOptions: {perMessageDeflate: false}), " +
		"or have the operator remove Sec-WebSocket-Extensions from the request before it is inspected.\n"
	adviseSubprotocol = "This path takes MQTT over WebSocket: ask for the subprotocol \"mqtt\" (Sec-WebSocket-Protocol: mqtt).\n"
	adviseID          = "The trace id of this request belongs to a connection that is open. Leave X-Trace-Id, X-Correlation-Id and X-Request-Id out, or send a fresh one.\n"
	adviseUnreadable  = "The request cannot be inspected.\n"
)

const extensionsHeader = "sec-websocket-extensions"

// requestHeaders decides a request: upgrades on our routes must be such that
// the proxy will show us their frames.
func (c *conn) requestHeaders(b []byte) bool {
	a := c.agent
	set := a.settings.Load()
	var h wire.Headers
	if err := h.Parse(b); err != nil {
		a.stats.unreadable.Add(1)
		id := h.CorrelationID
		if id == "" {
			var ok bool
			if id, ok = wire.CorrelationID(b); !ok {
				return false
			}
		}
		c.refuseUpgrade(set, id, &h, policy.ReasonUninspectable, "unreadable-event", adviseUnreadable)
		return true
	}
	if a.table.byID(h.CorrelationID) != nil {
		// On any route, upgrade or not: the proxy would mix up the answers.
		c.refuseUpgrade(set, h.CorrelationID, &h, policy.ReasonUpgrade, "correlation-id", adviseID)
		return true
	}
	if !set.serves([]byte(h.Route), h.HasRoute) || !upgrades(&h) {
		c.answerOther([]byte(h.CorrelationID))
		return true
	}
	a.sees(h.Route)
	ans := wire.Answer{Version: c.generation(), CorrelationID: []byte(h.CorrelationID)}
	extensions := h.Values[extensionsHeader]
	switch {
	case !set.allowExtensions && slices.ContainsFunc(extensions, compresses):
		c.refuseUpgrade(set, h.CorrelationID, &h, policy.ReasonUpgrade, "permessage-deflate", adviseCompression)
		return true
	case set.requireSubprotocol && !set.subprotocol(h.Tokens("sec-websocket-protocol")):
		c.refuseUpgrade(set, h.CorrelationID, &h, policy.ReasonUpgrade, "subprotocol", adviseSubprotocol)
		return true
	case len(extensions) > 0 && !set.allowExtensions && set.block:
		ans.RemoveHeaders = []string{extensionsHeader}
	}
	c.send(&ans, c.arrived)
	return true
}

// upgrades reports whether a request asks for a WebSocket.
func upgrades(h *wire.Headers) bool {
	return slices.ContainsFunc(h.Tokens("upgrade"), func(t string) bool { return strings.EqualFold(t, "websocket") })
}

// compresses reports whether a header line offers compression. The proxy looks
// for the same text, so this does, too: it need not be a proper extension.
func compresses(line string) bool {
	return strings.Contains(strings.ToLower(line), "permessage-deflate")
}

func (s *settings) subprotocol(offered []string) bool {
	return slices.Contains(offered, "mqtt") || s.speaks31 && slices.Contains(offered, "mqttv3.1")
}

// refuseUpgrade refuses a request with both decisions, so that the proxy
// refuses whatever event it takes the answer for.
func (c *conn) refuseUpgrade(set *settings, id string, h *wire.Headers, r policy.Reason, check, advice string) {
	a := c.agent
	n := a.block(set, id, parseAddr([]byte(h.ClientIP)), r, check)
	ans := wire.Answer{Version: c.generation(), CorrelationID: []byte(id), Tags: n.tags}
	if set.block {
		a.stats.upgradesRefused.Add(1)
		ans.Block, ans.Body = 400, advice
		ans.Frame, ans.WebSocket, ans.Code, ans.Reason = true, wire.WSClose, closePolicy, r.Tag()
	}
	c.send(&ans, c.arrived)
}

// maxRoutes bounds what is remembered of upgrades.
const maxRoutes = 1024

// sees notes that upgrades of a route are shown to us.
func (a *Agent) sees(route string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.upgrades) < maxRoutes {
		a.upgrades[route] = struct{}{}
	}
}

// saw notes a new WebSocket; one on a route whose upgrades we never saw was
// perhaps never asked about compression.
func (a *Agent) saw(route []byte) {
	a.mu.Lock()
	_, seen := a.upgrades[string(route)]
	a.mu.Unlock()
	if !seen {
		if a.stats.upgradeNotSeen.Add(1) == 1 {
			a.log.Warn("frames on a route whose upgrades are not shown: list the event request_headers for this agent", "route", string(route))
		}
	}
}
