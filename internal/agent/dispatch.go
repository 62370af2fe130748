package agent

import (
	"encoding/json"
	"errors"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/agent/wire"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/audit"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/session"
)

// message handles one message. False ends the connection.
func (c *conn) message(m wire.Message) bool {
	if c.generation() == wire.V1 {
		return c.messageV1(m.Payload)
	}
	switch m.Type {
	case wire.HandshakeRequest:
		return c.handshake(m.Payload)
	case wire.WebSocketFrame:
		if c.frame.Scan(m.Payload) {
			c.webSocketFrame()
			return true
		}
		return c.slowFrame(m.Payload, m.Payload)
	case wire.Ping:
		c.write(func(out []byte) []byte { return wire.AppendMessage(out, wire.V2, wire.Pong, m.Payload) })
		return true
	case wire.Cancel:
		c.cancel(m.Payload)
		return true
	}
	return c.other(m.Type, m.Payload, m.Payload)
}

// messageV1 handles a message of v1: one at a time, the next when this one is
// answered.
func (c *conn) messageV1(b []byte) bool {
	if c.frame.ScanV1(b) {
		c.webSocketFrame()
	} else {
		var e wire.Envelope
		if e.Parse(b) != nil {
			// Without an event nobody knows what to answer.
			c.agent.stats.unreadable.Add(1)
			return false
		}
		t := e.Type()
		ok := true
		switch t {
		case wire.WebSocketFrame:
			ok = c.slowFrame(e.Payload, b)
		case 0:
			c.answerOther(nil) // v1 has no skipping: each request wants its response
		default:
			ok = c.other(t, e.Payload, b)
		}
		if !ok {
			return false
		}
	}
	if p := c.current; p != nil {
		c.current = nil
		<-p.done
	}
	return true
}

// other handles what is no frame.
func (c *conn) other(t wire.Type, payload, whole []byte) bool {
	switch t {
	case wire.RequestHeaders:
		return c.requestHeaders(payload)
	case wire.Configure:
		return c.configureEvent(payload)
	case wire.RequestComplete:
		id, ok := wire.CorrelationID(whole)
		if ok {
			c.completed(id)
		}
		return c.allowOther(id, ok)
	case wire.RequestBodyChunk, wire.ResponseHeaders, wire.ResponseBodyChunk, wire.GuardrailInspect:
		id, ok := wire.CorrelationID(whole)
		return c.allowOther(id, ok)
	}
	return true // known but not for us, or unknown: skipped
}

// allowOther allows an event that is none of our business. Without an id there
// is nobody to answer.
func (c *conn) allowOther(id string, ok bool) bool {
	if !ok && c.generation() == wire.V2 {
		c.agent.stats.unreadable.Add(1)
		return false
	}
	c.answerOther([]byte(id))
	return true
}

func (c *conn) answerOther(id []byte) {
	c.send(&wire.Answer{Version: c.generation(), CorrelationID: id}, c.arrived)
}

// completed ends the WebSocket of a request that is over.
func (c *conn) completed(id string) {
	ws := c.agent.table.byID(id)
	if ws == nil {
		return
	}
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.gone {
		return
	}
	if ws.pending != nil {
		ws.pending.abandon(broken("event-in-work"))
	}
	if ws.doom != nil {
		ws.free(c.agent)
		return
	}
	// It may be another request with the same id that is over.
	ws.lost(c, mqtt.Client, false)
}

// webSocketFrame decides the frame in c.frame and queues its answer.
func (c *conn) webSocketFrame() {
	d := c.decide()
	if d.suspended {
		return
	}
	c.decided(&d)
	if d.ws == wire.WSAllow && d.note.rank == 0 {
		c.allowFrame(c.frame.CorrelationID)
		return
	}
	ans := d.answer(c.generation(), c.frame.CorrelationID)
	c.send(&ans, c.arrived)
}

// slowFrame handles a frame that is written in another way than proxies do. It
// is closed on if it cannot be read.
func (c *conn) slowFrame(payload, whole []byte) bool {
	if c.frame.Parse(payload) == nil {
		c.webSocketFrame()
		return true
	}
	a := c.agent
	a.stats.unreadable.Add(1)
	id, ok := wire.CorrelationID(whole)
	if !ok {
		return false
	}
	// Which WebSocket it was is not sure: the one with this id ends.
	if ws := a.table.byID(id); ws != nil {
		c.endUnreadable(ws, "unreadable-event")
	}
	set := a.settings.Load()
	d := decision{ws: wire.WSClose, code: closePolicy, reason: policy.ReasonUninspectable, rule: policy.RuleNone}
	d.note = a.block(set, id, netip.Addr{}, d.reason, "unreadable-event")
	if !set.block {
		d.ws = wire.WSAllow
	}
	c.decided(&d)
	ans := d.answer(c.generation(), []byte(id))
	c.send(&ans, c.arrived)
	return true
}

// endUnreadable ends a WebSocket of which something could not be read; check
// says what.
func (c *conn) endUnreadable(ws *webSocket, check string) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	switch {
	case ws.gone:
	case !ws.set.block:
		ws.opaque = true
	case ws.doom == nil:
		if ws.pending != nil {
			ws.pending.abandon(broken("event-in-work"))
		}
		ws.endSession(c.agent, &c.fx, session.End{Cause: session.CauseProtocol, Reason: policy.ReasonUninspectable, Rule: policy.RuleNone})
		ws.doomed(c.agent, doom{reason: policy.ReasonUninspectable, rule: policy.RuleNone, name: check})
	}
}

// decide decides the frame in c.frame. A fault of ours closes.
func (c *conn) decide() (d decision) {
	a, f := c.agent, &c.frame
	defer func() {
		if r := recover(); r != nil {
			a.log.Error("frame decision failed", "panic", r, "stack", string(debug.Stack()))
			d = c.internal()
		}
	}()
	set := a.settings.Load()
	if !set.serves(f.Route, f.HasRoute) {
		return allow
	}
	e := &c.event
	e.frame, e.arrived, e.side = f, c.arrived, mqtt.Broker
	if f.ClientToServer {
		e.side = mqtt.Client
	}
	var err error
	c.data, err = f.AppendData(c.data[:0])
	e.data = c.data
	c.key = appendKey(c.key[:0], f)
	for {
		ws := a.table.find(c.key)
		if ws == nil {
			if err != nil {
				return c.refuseUnknown(set, policy.ReasonUninspectable, closePolicy, "base64")
			}
			return c.unknown(set, e)
		}
		if err != nil {
			c.endUnreadable(ws, "base64")
			return ws.refuse(a, policy.ReasonUninspectable, closePolicy, "base64")
		}
		if d, again := ws.live(c, e); !again {
			return d
		}
	}
}

// internal is the answer after a panic: the WebSocket ends, unless general.fail-open
// has it go on uninspected.
func (c *conn) internal() decision {
	a := c.agent
	d := decision{ws: wire.WSClose, code: closePolicy, reason: policy.ReasonServerUnavailable, rule: policy.RuleNone}
	ws := a.table.find(c.key)
	if ws == nil {
		return d
	}
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.set.failOpen != nil || !ws.set.block {
		ws.opaque = true
		return allow
	}
	ws.free(a)
	return d
}

// unknown decides a frame of a WebSocket that is not in the table. Only the
// very first one for a correlation id begins a session: any other may belong to
// another WebSocket that has, or had, the same id, so it is never decided as
// the continuation of this one. Control frames pass, but begin it as well: what
// counts is who was there.
func (c *conn) unknown(set *settings, e *event) decision {
	a, f := c.agent, e.frame
	first, shown := a.table.begin(f.CorrelationID, f.Index == 0 || f.Unnumbered, e.arrived)
	// Without an index only the upgrade says that there is one WebSocket.
	begins := first && (f.Index == 0 && !f.Unnumbered || shown && f.Unnumbered)
	switch {
	case f.Opcode.Control() && (!f.Fin || len(e.data) > maxControl):
		return c.refuseUnknown(set, policy.ReasonProtocol, closeProtocol, "control-frame")
	case f.Opcode == wire.OpClose, f.Opcode.Control() && !begins:
		// A ping of a WebSocket that has ended passes: it does no harm.
		return allow
	case !f.ClientToServer && a.table.over(c.key):
		// Sent before the broker knew. Nobody is to read it, and nobody is to
		// blame.
		d := decision{ws: wire.WSClose, code: closeNormal, note: note{tags: []string{"mqtt", "disconnect"}}}
		if !set.block {
			d.ws = wire.WSAllow
		}
		return d
	case f.Opcode == wire.OpText:
		return c.refuseUnknown(set, policy.ReasonProtocol, closeText, "text-frame")
	case f.Opcode != wire.OpBinary && !f.Opcode.Control():
		return c.refuseUnknown(set, policy.ReasonProtocol, closeProtocol, "continuation")
	case !first && f.Index == 0 && f.ClientToServer:
		return c.refuseUnknown(set, policy.ReasonProtocol, closePolicy, "correlation-id")
	case !begins, !f.ClientToServer && len(e.data) > 0 && !f.Opcode.Control():
		return c.refuseUnknown(set, policy.ReasonUninspectable, closePolicy, "unknown-connection")
	}
	return c.admit(set, e, shown)
}

// admit starts a WebSocket with its first frame; shown says that its upgrade was
// seen.
func (c *conn) admit(set *settings, e *event, shown bool) decision {
	a, f := c.agent, e.frame
	ws := &webSocket{
		key: string(c.key), id: string(f.CorrelationID), addr: parseAddr(f.ClientIP), route: string(f.Route), set: set, shown: shown,
		seen: e.arrived, wake: e.arrived, waiting: true, // when to wake it, the session says then
	}
	ws.network = network(ws.addr)
	ws.who = audit.Conn{
		Door: policy.DoorAgent, ID: a.stats.connection(), CorrelationID: ws.id, Addr: ws.addr, Since: time.Now(),
	}
	ws.sess = session.New(set.session, e.arrived)
	ws.mu.Lock()
	defer ws.mu.Unlock()
	switch what := a.table.add(ws); what {
	case fullNot:
	case fullKey, fullID:
		return c.refuseUnknown(set, policy.ReasonProtocol, closePolicy, "correlation-id")
	default:
		return c.refuseFull(set, what)
	}
	if now := a.settings.Load(); now != set { // a reload has passed it by
		ws.set, ws.sess = now, session.New(now.session, e.arrived)
	}
	if !f.Unnumbered { // else there is no route in it
		a.saw(f.Route)
	}
	return ws.frame(c, e)
}

func (c *conn) refuseFull(set *settings, what full) decision {
	check := "max-sessions"
	switch what {
	case fullTotal:
		check = "max-connections"
	case fullAddr:
		check = "max-connections-per-ip"
	case fullWaiting:
		check = "pending-connections"
	case fullAddrNew:
		check = "pending-per-ip"
	}
	return c.refuseUnknown(set, policy.ReasonTooManyConnections, closeLater, check)
}

// refuseUnknown refuses a frame that belongs to no WebSocket in the table.
func (c *conn) refuseUnknown(set *settings, r policy.Reason, code uint16, check string) decision {
	f := &c.frame
	d := decision{ws: wire.WSClose, code: code, reason: r, rule: policy.RuleNone, check: check}
	if !set.block {
		d.ws = wire.WSAllow
		if c.agent.repeats.again(repeat{client: string(c.key), reason: r}, time.Now()) {
			return d // it passes, frame after frame; said once is enough
		}
	}
	d.note = c.agent.block(set, string(f.CorrelationID), parseAddr(f.ClientIP), r, check)
	return d
}

// parseAddr reads a client address: with a port as older proxies write it, or
// bare. Anything else is unknown, the invalid address.
func parseAddr(b []byte) netip.Addr {
	if ap, err := netip.ParseAddrPort(string(b)); err == nil {
		return ap.Addr().Unmap().WithZone("")
	}
	if a, err := netip.ParseAddr(string(b)); err == nil {
		return a.Unmap().WithZone("")
	}
	return netip.Addr{}
}

// cancel gives up an event: an answer that is not yet written is not.
func (c *conn) cancel(b []byte) {
	var e wire.CancelEvent
	if e.Parse(b) != nil || e.CorrelationID == "" {
		return
	}
	c.mu.Lock()
	// The id stands at the end of each answer of ours.
	tail := append(wire.AppendEscaped([]byte(`"correlation_id":"`), []byte(e.CorrelationID)), `"}}}`...)
	c.takeBack(func(m mark) bool {
		ans := c.out[m.from:m.till]
		return len(ans) >= len(tail) && slices.Equal(ans[len(ans)-len(tail):], tail)
	})
	c.mu.Unlock()
	c.giveUp(e.CorrelationID)
}

// giveUp gives up the events with an id that wait for a check.
func (c *conn) giveUp(id string) {
	c.mu.Lock()
	var given []*pending
	for p := range c.waiting {
		if string(p.id) == id {
			given = append(given, p)
		}
	}
	c.mu.Unlock()
	for _, p := range given {
		p.cancel()
	}
}

// handshake answers a handshake, each time it comes.
func (c *conn) handshake(b []byte) bool {
	var h wire.Handshake
	err := h.Parse(b)
	if err != nil {
		err = errors.New("the handshake cannot be read")
	}
	w := c.agent.greet(&h, err, c.agent.push)
	c.write(w.AppendMessage)
	if w.Success {
		c.agent.introduce(func() { c.v2.Store(true) }, func(s *wire.Status) { c.write(s.AppendMessage) })
	}
	return w.Success
}

// greet decides about a proxy that shakes hands; err is what is wrong already.
func (a *Agent) greet(h *wire.Handshake, err error, push func(json.RawMessage) error) wire.Welcome {
	if err == nil && !slices.Contains(h.SupportedVersions, 2) {
		err = errors.New("this agent speaks version 2 of the protocol here")
	}
	if err == nil {
		err = push(h.Config)
	}
	w := a.welcome()
	if err != nil {
		reason := err.Error()
		w.Success, w.Error = false, &reason
		a.log.Warn("proxy refused", "proxy_id", h.ProxyID, "proxy_version", h.ProxyVersion, "reason", reason)
		return w
	}
	a.log.Debug("proxy connected", "proxy_id", h.ProxyID, "proxy_version", h.ProxyVersion)
	return w
}

// welcome is the answer to a handshake.
func (a *Agent) welcome() wire.Welcome {
	return wire.Welcome{
		ProtocolVersion: 2, Success: true, Encoding: "json",
		Capabilities: wire.Capabilities{
			AgentID: agentID, Name: "MQTT Gateway Agent", Version: a.version, SupportedEvents: []int{0, 1, 6},
			Features: wire.Features{
				WebSocket: true, ConfigPush: a.configure != nil && a.settings.Load().cfg.Agent.AcceptConfig != "none", MetricsExport: true, ConcurrentRequests: 100,
				Cancellation: true, HealthReporting: true,
			},
			Limits: wire.Limits{MaxBodySize: 10 << 20, MaxConcurrency: 100, PreferredChunkSize: 64 << 10},
		},
	}
}

const agentID = "mqtt-gateway"

// configureEvent answers a pushed configuration.
func (c *conn) configureEvent(b []byte) bool {
	var e wire.ConfigureEvent
	if e.Parse(b) != nil {
		id, ok := wire.CorrelationID(b)
		if !ok && c.generation() == wire.V2 {
			return false
		}
		c.send(&wire.Answer{Version: c.generation(), CorrelationID: []byte(id), Block: 500, Body: "the configuration cannot be read"}, c.arrived)
		return true
	}
	ans := wire.Answer{Version: c.generation(), CorrelationID: []byte(e.CorrelationID)}
	c.flush() // what is decided does not wait for a policy to be compiled
	if err := c.agent.push(e.Config); err != nil {
		ans.Block, ans.Body = 500, err.Error()
	}
	// Reading and compiling a policy may take longer than a frame may.
	c.send(&ans, c.agent.now())
	return true
}

// push applies a configuration of the proxy's; null and {} are none.
func (a *Agent) push(raw json.RawMessage) error {
	if !wire.Pushed(raw) {
		return nil
	}
	err := errPushNone
	if a.settings.Load().cfg.Agent.AcceptConfig != "none" {
		if err = errPush; a.configure != nil {
			err = a.configure(raw)
		}
	}
	a.pushed(err)
	if err != nil && len(err.Error()) > maxAdvice {
		err = errors.New(strings.ToValidUTF8(err.Error()[:maxAdvice], "") + "…")
	}
	return err
}

// maxAdvice bounds what a proxy is told of a configuration with many mistakes.
const maxAdvice = 4 << 10

// pushed notes the outcome of a push, for health and, once, for the log: a
// proxy that is refused tries again for ever.
func (a *Agent) pushed(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	a.mu.Lock()
	before := a.pushError
	a.pushError = text
	a.mu.Unlock()
	if err != nil && text != before {
		a.log.Error("the proxy pushes a configuration, which is refused", "reason", err)
	}
}
