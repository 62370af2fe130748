// Package app puts the parts together: it is the only one that knows all the
// others.
//
// An [App] is used once: [New] wires, [App.Start] serves, [App.Reload] swaps
// policy and settings under live connections, [App.Stop] drains and tears down
// in the reverse order of building. [App.Run] is all of it.
package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/admin"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/agent"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/audit"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/auth"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/gateway"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/health"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
)

// Options says what to run.
type Options struct {
	// Load reads the configuration: once in New, again on every Reload.
	Load func() (*config.Config, error)
	// Socket is the path of the agent door's socket; empty: none.
	Socket string
	// GRPC is where the agent door serves gRPC, host:port; empty: not. Without
	// either there is no agent door.
	GRPC string
	// Gateway serves gateway.listeners.
	Gateway bool
	// DrainTimeout bounds Stop in Run; DrainRate is connections a second.
	DrainTimeout time.Duration
	DrainRate    int
	Version      string
	File         string // of the configuration, for the log; empty: none
	Log          *slog.Logger
}

// App is a running program.
type App struct {
	// Fixed after New.
	opts    Options
	log     *slog.Logger
	audit   *audit.Log
	gate    *auth.Gate
	gateway *gateway.Gateway // nil without gateway door
	agent   *agent.Agent     // nil without agent door
	first   *config.Config   // what was in force at the start
	board   *health.Board
	broker  *health.Watch
	admin   *admin.Server // nil without admin.address

	push push

	// Guarded by mu.
	mu      sync.Mutex
	cfg     *config.Config // in force
	unlog   func()         // ends the logging of packets; nil: it is off
	base    *config.Config // of it, what was loaded: cfg without the push
	stopped bool
	stack   []step // what Stop undoes, last first
}

// step is one named piece of teardown.
type step struct {
	name string
	stop func(context.Context) error
}

// New loads the configuration and wires the parts; nothing listens yet. On an
// error everything built so far is undone.
func New(o Options) (_ *App, err error) {
	cfg, err := o.Load()
	if err != nil {
		return nil, err
	}
	board := new(health.Board)
	a := &App{opts: o, log: o.Log, first: cfg, cfg: cfg, base: cfg, board: board, broker: health.NewWatch(board, o.Log)}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.Stop(context.Background()))
		}
	}()
	engine, err := policy.Compile(cfg)
	if err != nil {
		return nil, fmt.Errorf("compile policy: %w", err)
	}
	if a.audit, err = audit.Open(cfg.Audit); err != nil {
		return nil, fmt.Errorf("open audit: %w", err)
	}
	a.onStop("pushed policy", func(context.Context) error { a.push.compiling.Wait(); return nil })
	a.onStop("audit", func(context.Context) error { return a.audit.Close() })
	a.logPackets(cfg)
	if a.gate, err = auth.New(cfg, engine, o.Log); err != nil {
		return nil, fmt.Errorf("start authentication: %w", err)
	}
	a.onStop("authentication", func(context.Context) error { a.gate.Close(); return nil })
	if o.Gateway {
		a.gateway, err = gateway.New(gateway.Options{Config: cfg, Gate: a.gate, Audit: a.audit, Log: o.Log})
		if err != nil {
			return nil, err
		}
	}
	if o.Socket != "" || o.GRPC != "" {
		a.agent, err = agent.New(agent.Options{
			Socket: o.Socket, GRPC: o.GRPC, Version: o.Version, Config: cfg, Gate: a.gate, Audit: a.audit, Log: o.Log,
			Board: board, Configure: a.Push,
		})
		if err != nil {
			return nil, err
		}
	}
	if cfg.Admin.Address != "" {
		limits := ""
		if a.agent != nil {
			limits = agent.Limits
		}
		a.admin = admin.New(cfg.Admin, a, limits, o.Log)
	}
	return a, nil
}

// Start opens the doors.
func (a *App) Start() error {
	if a.admin != nil {
		if err := a.admin.Start(); err != nil {
			return fmt.Errorf("admin server: %w", err)
		}
		a.onStop("admin server", a.admin.Stop) // last: it says that we drain
	}
	a.broker.Set(a.first.Broker)
	a.onStop("broker watch", func(context.Context) error { a.broker.Stop(); return nil })
	watch, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); a.watch(watch) }()
	a.onStop("watch", func(context.Context) error { cancel(); <-done; return nil })
	if a.gateway != nil {
		a.onStop("gateway door", func(ctx context.Context) error { return a.gateway.Stop(ctx, a.opts.DrainRate) })
		if err := a.gateway.Start(); err != nil {
			return err
		}
	}
	if a.agent != nil {
		a.onStop("agent door", a.agent.Stop)
		if err := a.agent.Start(); err != nil {
			return err
		}
	}
	return nil
}

// AdminAddr is the admin server's real address, nil without it.
func (a *App) AdminAddr() net.Addr {
	if a.admin == nil {
		return nil
	}
	return a.admin.Addr()
}

// Health is whether the program is well, and if not for what reasons.
func (a *App) Health() (health.State, []string) {
	if a.agent != nil {
		return a.agent.Health()
	}
	a.mu.Lock()
	draining := a.stopped
	a.mu.Unlock()
	reasons := a.board.Reasons()
	return health.Sum(reasons, draining), reasons
}

// watch has live identities rechecked when users change; it ends with ctx.
func (a *App) watch(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.gate.Changed():
			a.recheck()
		}
	}
}

func (a *App) recheck() {
	if a.gateway != nil {
		a.gateway.Recheck()
	}
	if a.agent != nil {
		a.agent.Recheck()
	}
}

// Audit is the audit log, for a live view.
func (a *App) Audit() *audit.Log { return a.audit }

// Addrs are the gateway door's real addresses, in configuration order.
func (a *App) Addrs() []net.Addr {
	if a.gateway == nil {
		return nil
	}
	return a.gateway.Addrs()
}

// Reload reads the configuration again and puts it in force, under the last
// push, and logs what has changed. Everything that can fail comes first; after
// an error the old configuration stays whole, and health is degraded.
func (a *App) Reload() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stopped {
		return nil
	}
	err := a.reload()
	a.board.Set(health.ReloadFailed, err != nil)
	return err
}

// reload is Reload. The caller holds mu.
func (a *App) reload() error {
	base, err := a.opts.Load()
	if err != nil {
		return err
	}
	cfg := base
	if a.push.last != nil {
		if cfg, err = merge(base, a.push.last); err != nil {
			return fmt.Errorf("put the pushed configuration over the file's: %w", err)
		}
	}
	engine, err := policy.Compile(cfg)
	if err != nil {
		return fmt.Errorf("compile policy: %w", err)
	}
	old, users := a.cfg, a.gate.Users()
	if err := a.swap(cfg, engine); err != nil {
		return err
	}
	a.base = base
	a.push.refused = refusal{} // it may fit now
	a.sayReloaded(old, cfg, users)
	if err := a.audit.Reopen(); err != nil { // the old output stays
		a.log.Error("reopen the audit", "error", err)
	}
	return nil
}

// swap puts a configuration in force; the gate, which comes first, may refuse
// it. The caller holds mu.
func (a *App) swap(cfg *config.Config, engine *policy.Engine) error {
	if a.agent != nil {
		if err := a.agent.Check(cfg); err != nil {
			return err
		}
	}
	if err := a.gate.Reload(cfg, engine); err != nil {
		return err
	}
	// The doors take new settings for new connections and recheck live ones
	// against the gate, which has the new engine already.
	var err error
	if a.gateway != nil {
		err = errors.Join(err, a.gateway.Reload(cfg))
	}
	if a.agent != nil {
		err = errors.Join(err, a.agent.Reload(cfg))
	}
	a.cfg = cfg
	a.broker.Set(cfg.Broker)
	if a.admin != nil {
		a.admin.Reload(cfg.Admin)
	}
	a.audit.Include(cfg.Audit.Include)
	a.logPackets(cfg)
	return err
}

// onStop pushes a piece of teardown.
func (a *App) onStop(name string, stop func(context.Context) error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stack = append(a.stack, step{name, stop})
}

// Stop drains the doors and undoes everything, last built first, until ctx
// ends. A failing step is logged by name and does not stop the others.
// Idempotent.
func (a *App) Stop(ctx context.Context) error {
	a.mu.Lock()
	stack := a.stack
	a.stack, a.stopped = nil, true
	a.mu.Unlock()
	var errs error
	for i := len(stack) - 1; i >= 0; i-- {
		if err := stack[i].stop(ctx); err != nil {
			a.log.Error("stopping", "part", stack[i].name, "error", err)
			errs = errors.Join(errs, err)
		}
	}
	return errs
}

// Run starts, serves until ctx ends, reloads on every value of reload, and
// drains. ready, when not nil, is called once everything listens. The cause of
// ctx's end is logged.
func (a *App) Run(ctx context.Context, reload <-chan struct{}, ready func()) error {
	began := time.Now()
	if err := a.Start(); err != nil {
		stop, cancel := context.WithTimeout(context.Background(), a.opts.DrainTimeout)
		defer cancel()
		return errors.Join(err, a.Stop(stop))
	}
	if ready != nil {
		ready()
	}
	a.sayReady()
	for {
		select {
		case <-reload:
			if err := a.Reload(); err != nil {
				a.sayRefused(err)
			}
		case <-ctx.Done():
			why, drain := context.Cause(ctx), time.Now()
			a.log.Info("draining", "reason", why, "timeout", a.opts.DrainTimeout)
			stop, cancel := context.WithTimeout(context.Background(), a.opts.DrainTimeout)
			defer cancel()
			err := a.Stop(stop)
			a.log.Info("stopped", "reason", why, "drained_in", time.Since(drain).Round(time.Millisecond),
				"in_time", stop.Err() == nil, "ran_for", time.Since(began).Round(time.Millisecond))
			return err
		}
	}
}
