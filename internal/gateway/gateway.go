// Package gateway is the door in the path: listeners, the WebSocket layer, and
// the driver that joins a client's connection, its session and its connection
// to a broker.
//
// Start with [New]. The door decides nothing: what the session says is done.
// One client is one [session.Session] under one driver, which lives on one loop
// of package netloop; whatever takes time (checking a password, looking up a
// name) runs in a goroutine and posts its answer there.
//
// A layer stands between a socket and the driver: it is the handler of the one
// and the connection of the other, as the WebSocket layer shows. TLS and the
// PROXY protocol will be two more; until they are, listeners that ask for them
// are refused by New.
package gateway

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/audit"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/auth"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/netloop"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/session"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/upstream"
)

// Options is what the gateway door needs.
type Options struct {
	Config *config.Config
	Gate   *auth.Gate
	Audit  *audit.Log   // nil: nothing is audited
	Log    *slog.Logger // nil: nothing is logged
}

// Gateway is the gateway door. It is used once: New, Start, Stop. Its methods
// may be called at once.
type Gateway struct {
	// Fixed after New.
	gate     *auth.Gate
	audit    *audit.Log
	log      *slog.Logger
	census   *census
	doors    []*door
	idPrefix string // of connection ids: tells processes apart

	// Fixed after Start.
	engine  netloop.Engine
	started time.Time
	ctx     context.Context // of verifications; ends with Stop
	stop    context.CancelFunc

	counts   counts
	state    atomic.Pointer[state]
	ids      atomic.Uint64
	draining atomic.Bool
	running  sync.WaitGroup // verifications

	// Guarded by mu.
	mu        sync.Mutex
	addrs     []net.Addr
	listeners []netloop.Listener
	sets      []*upstream.Set // every one that was in force
	stopped   chan struct{}   // not nil: Stop was called; closed when it is done
}

// state is what a reload replaces.
type state struct {
	cfg      *config.Config
	settings *session.Settings
	brokers  *upstream.Set
}

func (g *Gateway) config() *config.Config { return g.state.Load().cfg }
func (g *Gateway) brokers() *upstream.Set { return g.state.Load().brokers }

// New checks and prepares; it opens nothing.
func New(o Options) (*Gateway, error) {
	g := &Gateway{gate: o.Gate, audit: o.Audit, log: o.Log, census: newCensus()}
	if g.log == nil {
		g.log = slog.New(slog.DiscardHandler)
	}
	var errs []error
	for i := range o.Config.Gateway.Listeners {
		d, err := newDoor(g, &o.Config.Gateway.Listeners[i])
		if err != nil {
			errs = append(errs, fmt.Errorf("gateway.listeners[%d]: %w", i, err))
			continue
		}
		g.doors = append(g.doors, d)
	}
	if len(o.Config.Gateway.Listeners) == 0 {
		errs = append(errs, errors.New("gateway.listeners: there is none"))
	}
	if len(o.Config.Gateway.Upstreams) == 0 {
		errs = append(errs, errors.New("gateway.upstreams: there is none"))
	}
	set, err := upstream.New(&o.Config.Gateway, g.log)
	if err := errors.Join(append(errs, err)...); err != nil {
		return nil, err
	}
	var prefix [4]byte
	_, _ = rand.Read(prefix[:]) // never fails
	g.idPrefix = hex.EncodeToString(prefix[:]) + "-"
	g.sets = []*upstream.Set{set}
	g.state.Store(&state{cfg: o.Config, settings: session.NewSettings(policy.DoorGateway, o.Config), brokers: set})
	return g, nil
}

// Start opens the listeners and serves until Stop. After an error nothing is
// left open. The transport (gateway.io), write-stall-secs and buffer-bytes are
// those of this moment: a reload does not change them.
func (g *Gateway) Start() (err error) {
	cfg := g.config()
	var opened []net.Listener
	defer func() {
		if err != nil {
			for _, nl := range opened {
				_ = nl.Close()
			}
			if g.engine != nil {
				_ = g.engine.Close()
			}
		}
	}()
	for _, d := range g.doors {
		nl, err := listen(d.hostport)
		if err != nil {
			return fmt.Errorf("listen on %s: %w", d.name, err)
		}
		opened = append(opened, nl)
	}
	g.ctx, g.stop = context.WithCancel(context.Background())
	g.started = time.Now()
	g.engine, err = netloop.New(netloop.Options{
		IO:          cfg.Gateway.IO,
		BufferBytes: int64(cfg.General.Limits.BufferBytes),
		WriteStall:  time.Duration(cfg.Gateway.WriteStallSecs) * time.Second,
		Local:       func() any { return &local{fx: session.Effects{Late: true}, tally: g.counts.tallies.Next()} },
		Log:         g.log,
	})
	if err != nil {
		return fmt.Errorf("start transport: %w", err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, d := range g.doors {
		addr := opened[i].Addr()
		li, err := g.engine.Serve(opened[i], d.open)
		if err != nil {
			return fmt.Errorf("listen on %s: %w", d.name, err)
		}
		g.addrs = append(g.addrs, addr)
		g.listeners = append(g.listeners, li)
		g.log.Debug("listening", "listener", d.name, "address", addr.String())
	}
	return nil
}

// Addrs are the addresses really listened on, in the order of the
// configuration; nil before Start.
func (g *Gateway) Addrs() []net.Addr {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.addrs
}

// Listening names each listener with the address really listened on, in the
// order of the configuration: "tcp tcp://127.0.0.1:1883". None before Start.
func (g *Gateway) Listening() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var all []string
	for i, addr := range g.addrs {
		d, url := g.doors[i], "tcp://"+addr.String()
		if d.ws {
			url = "ws://" + addr.String() + d.rules.path
		}
		if d.name != d.cfg.Address {
			url = d.name + " " + url
		}
		all = append(all, url)
	}
	return all
}

// Recheck has every live session's identity re-evaluated, on its own loop, a
// few a turn. It returns at once.
func (g *Gateway) Recheck() {
	if g.engine != nil {
		g.engine.Each(func(_ netloop.Conn, h netloop.Handler) {
			if d := driverOf(h); d != nil {
				d.recheck()
			}
		}, nil)
	}
}

// driverOf finds the driver behind a connection's handler.
func driverOf(h netloop.Handler) *driver {
	if w, ok := h.(*wsConn); ok {
		h = w.inner
	}
	d, _ := h.(*driver)
	return d
}

// Reload puts a new configuration in force for new connections and for the live
// ones, which it rechecks; see [session.Session.Renew] for what those keep.
// Listeners stay as they are: those that differ are logged.
func (g *Gateway) Reload(cfg *config.Config) error {
	old := g.state.Load()
	next := &state{cfg: cfg, settings: session.NewSettings(policy.DoorGateway, cfg), brokers: old.brokers}
	if !reflect.DeepEqual(old.cfg.Gateway.Upstreams, cfg.Gateway.Upstreams) ||
		old.cfg.Gateway.Balance != cfg.Gateway.Balance || old.cfg.Gateway.ConnectTimeoutMS != cfg.Gateway.ConnectTimeoutMS {
		set, err := upstream.New(&cfg.Gateway, g.log)
		if err != nil {
			return err
		}
		next.brokers = set
		g.mu.Lock()
		g.sets = append(g.sets, set)
		g.mu.Unlock()
	}
	for _, name := range g.changedListeners(cfg.Gateway.Listeners) {
		g.log.Warn("a changed listener takes effect at the next start", "listener", name)
	}
	g.state.Store(next)
	g.Recheck()
	return nil
}

// changedListeners names the listeners that differ from those that are open: in
// more than who may come in by them, which is the gate's and in force.
func (g *Gateway) changedListeners(now []config.Listener) (names []string) {
	comes := make(map[string]*config.Listener, len(now))
	for i := range now {
		comes[now[i].Name] = &now[i]
	}
	for _, d := range g.doors {
		l := comes[d.cfg.Name]
		delete(comes, d.cfg.Name)
		if l != nil {
			same := *l
			same.Auth = d.cfg.Auth
			if reflect.DeepEqual(&same, d.cfg) {
				continue
			}
		}
		names = append(names, d.name)
	}
	for i := range now {
		if comes[now[i].Name] != nil {
			names = append(names, cmp.Or(now[i].Name, now[i].Address))
		}
	}
	return names
}

// Stats are the door's counters and gauges.
type Stats struct {
	netloop.Stats
	Pending          int    // accepted, CONNECT not come
	Connected        int    // CONNECT has come
	RefusedPending   uint64 // by pending-connections and pending-per-ip
	RefusedConnected uint64 // by max-connections and max-connections-per-ip
}

// Stats is what was counted so far.
func (g *Gateway) Stats() Stats {
	var s Stats
	if g.engine != nil {
		s.Stats = g.engine.Stats()
	}
	s.Pending, s.Connected = g.census.count()
	s.RefusedPending, s.RefusedConnected = g.census.refusedPending.Load(), g.census.refusedConnected.Load()
	return s
}

// Brokers are the brokers in force, with their health.
func (g *Gateway) Brokers() []*upstream.Broker { return g.brokers().Brokers() }

// door is one listener.
type door struct {
	g        *Gateway
	name     string
	cfg      *config.Listener
	hostport string
	ws       bool
	rules    upgradeRules
	said     atomic.Int64 // when a refusal was last audited
}

func newDoor(g *Gateway, l *config.Listener) (*door, error) {
	scheme, hostport, path, err := config.ParseListenAddress(l.Address)
	if err != nil {
		return nil, fmt.Errorf("address %q %w", l.Address, err)
	}
	switch {
	case scheme != "tcp" && scheme != "ws":
		return nil, fmt.Errorf("%s:// is not supported by this version", scheme)
	case l.ProxyProtocol == "accept" || l.ProxyProtocol == "require":
		return nil, fmt.Errorf("proxy-protocol %s is not supported by this version", l.ProxyProtocol)
	}
	return &door{
		g: g, cfg: l, name: cmp.Or(l.Name, l.Address), hostport: hostport, ws: scheme == "ws",
		rules: upgradeRules{path: path, origins: l.AllowedOrigins},
	}, nil
}

// open begins with a connection that was accepted.
func (d *door) open(c netloop.Conn, remote netip.AddrPort) netloop.Handler {
	g := d.g
	if g.draining.Load() {
		return nil
	}
	st := g.state.Load()
	addr := remote.Addr()
	if rule := g.census.arrive(addr, contains(d.trusted(), addr), &st.cfg.General); rule != policy.RuleNone {
		d.turnedAway(c, addr, rule)
		return nil
	}
	dr := d.driver(c, addr)
	dr.s.Start(st.settings, session.Time(c.Now()))
	if at := st.cfg.General.ConnectTimeoutSecs; at > 0 {
		c.SetTimer(c.Now() + int64(at)*int64(time.Second))
	}
	if !d.ws {
		dr.sides[0] = c
		return dr
	}
	w := &wsConn{Conn: c, inner: dr, rules: &d.rules}
	dr.sides[0] = w
	return w
}

// turnedAway audits a connection that a cap refused, at most once a second for
// each listener: a stranger can cause as many as it likes.
func (d *door) turnedAway(c netloop.Conn, addr netip.Addr, rule policy.RuleRef) {
	if d.speaks(session.Time(c.Now())) {
		d.driver(c, addr).refused(policy.ReasonTooManyConnections, rule)
	}
}

// speaks reports whether a cap's refusal is audited now.
func (d *door) speaks(now session.Time) bool {
	last := d.said.Load()
	return (last == 0 || int64(now)-last >= int64(time.Second)) && d.said.CompareAndSwap(last, int64(now))
}

// driver is the driver of a connection that was accepted, still without a
// session.
func (d *door) driver(c netloop.Conn, addr netip.Addr) *driver {
	return &driver{door: d, addr: addr, id: d.g.ids.Add(1), since: c.Now()}
}
