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
	adviseID          = "The trace id of this request is, or was, that of another connection. Leave X-Trace-Id, X-Correlation-Id and X-Request-Id out, or send a fresh one for each connection.\n"
	adviseUnreadable  = "The request cannot be inspected.\n"
)

const extensionsHeader = "sec-websocket-extensions"

// requestHeaders answers a request.
func (c *conn) requestHeaders(b []byte) bool {
	var h wire.Headers
	if err := h.Parse(b); err != nil {
		if h.CorrelationID == "" {
			var ok bool
			if h.CorrelationID, ok = wire.CorrelationID(b); !ok {
				c.agent.stats.unreadable.Add(1)
				return false
			}
		}
		ans := c.agent.unreadableRequest(&h)
		c.answer(&ans)
		return true
	}
	ans := c.agent.request(&h)
	c.answer(&ans)
	return true
}

// answer queues an answer to the message at hand.
func (c *conn) answer(ans *wire.Answer) {
	ans.Version = c.generation()
	c.send(ans, c.arrived)
}

// unreadableRequest refuses a request of which only the id could be read.
func (a *Agent) unreadableRequest(h *wire.Headers) wire.Answer {
	a.stats.unreadable.Add(1)
	return a.refuseUpgrade(a.settings.Load(), h, policy.ReasonUninspectable, "unreadable-event", adviseUnreadable)
}

// request decides a request: upgrades on our routes must be such that the proxy
// will show us their frames, and no request may have the id of another
// WebSocket: on any route, upgrade or not, the proxy would mix up the answers.
func (a *Agent) request(h *wire.Headers) wire.Answer {
	set := a.settings.Load()
	ans := wire.Answer{CorrelationID: []byte(h.CorrelationID)}
	refuse := func(check, advice string) wire.Answer {
		return a.refuseUpgrade(set, h, policy.ReasonUpgrade, check, advice)
	}
	if !upgrades(h) {
		if a.table.taken(ans.CorrelationID) {
			return refuse("correlation-id", adviseID)
		}
		return ans
	}
	if set.serves([]byte(h.Route), h.HasRoute) {
		a.sees(h.Route)
		extensions := h.Values[extensionsHeader]
		switch {
		case !set.allowExtensions && slices.ContainsFunc(extensions, compresses):
			return refuse("permessage-deflate", adviseCompression)
		case set.requireSubprotocol && !set.subprotocol(h.Tokens("sec-websocket-protocol")):
			return refuse("subprotocol", adviseSubprotocol)
		case len(extensions) > 0 && !set.allowExtensions && set.block:
			ans.RemoveHeaders = []string{extensionsHeader}
		}
	}
	if !a.table.upgrade(ans.CorrelationID, a.now()) {
		return refuse("correlation-id", adviseID)
	}
	return ans
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
func (a *Agent) refuseUpgrade(set *settings, h *wire.Headers, r policy.Reason, check, advice string) wire.Answer {
	n := a.block(set, h.CorrelationID, parseAddr([]byte(h.ClientIP)), r, check)
	ans := wire.Answer{CorrelationID: []byte(h.CorrelationID), Tags: n.tags, Rules: n.rules}
	if set.block {
		a.stats.upgradesRefused.Add(1)
		ans.Block, ans.Body = 400, advice
		ans.Frame, ans.WebSocket, ans.Code, ans.Reason = true, wire.WSClose, closePolicy, r.Tag()
	}
	return ans
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
