// Package agent is the door behind the Sentinel proxy: it serves the agent
// protocol on a Unix socket, and over gRPC if asked to, and answers every
// WebSocket frame with allow, drop or close.
//
// Each connection of the proxy has one goroutine that reads. A frame that can
// be decided at once is decided there; its session is found in one table that
// all connections share, because the frames of one WebSocket come over any of
// them. Only a CONNECT whose password has to be hashed leaves that goroutine.
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/audit"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/auth"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/health"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/session"
)

// Limits is the page of the documentation that says what an agent cannot
// enforce.
const Limits = "docs/sentinel.md#what-cannot-be-enforced-here"

// Options is what the agent door needs.
type Options struct {
	Socket  string // path; "": off
	GRPC    string // host:port; "": off
	Version string // of this program, for the handshake
	Config  *config.Config
	Gate    *auth.Gate
	Audit   *audit.Log
	Log     *slog.Logger

	// Board has the reasons that others see for which we are not healthy; nil:
	// none.
	Board *health.Board

	// Configure applies a configuration that the proxy pushed; an error is told
	// to the proxy, which then refuses service. It may be called from several
	// goroutines, with the same configuration many times. Nil: this version
	// applies none and refuses any that is not empty.
	Configure func(raw []byte) error
}

// Agent is the agent door.
type Agent struct {
	// Fixed after New.
	gate      *auth.Gate
	audit     *audit.Log
	log       *slog.Logger
	board     *health.Board
	socket    string
	grpc      string
	version   string
	configure func([]byte) error
	epoch     time.Time
	table     *table
	stats     stats
	repeats   *repeats
	told      told

	settings atomic.Pointer[settings]

	// Owned by Start and Stop.
	listener *listener
	rpc      *rpc            // nil: off
	base     context.Context // of checks that go on in the background
	cancel   context.CancelFunc
	work     sync.WaitGroup // accept and sweep
	serving  sync.WaitGroup // connections
	checks   sync.WaitGroup // background checks
	stopOnce sync.Once

	// Guarded by mu.
	mu       sync.Mutex
	draining bool
	conns    map[*conn]struct{}
	pending  []*conn // not yet shaken hands, oldest first
	upgrades map[string]struct{}
	// pushError is why the last pushed configuration was refused, "" if it was not.
	pushError string
}

// New checks and prepares; it opens nothing.
func New(o Options) (*Agent, error) {
	a := &Agent{
		gate: o.Gate, audit: o.Audit, log: o.Log, socket: o.Socket, grpc: o.GRPC, version: o.Version,
		told: told{state: health.Healthy}, board: o.Board, configure: o.Configure, epoch: time.Now(), table: newTable(), repeats: newRepeats(),
		conns: map[*conn]struct{}{}, upgrades: map[string]struct{}{},
	}
	if a.board == nil {
		a.board = new(health.Board)
	}
	set, err := newSettings(o.Config)
	if err != nil {
		return nil, err
	}
	a.settings.Store(set)
	a.base, a.cancel = context.WithCancel(context.Background())
	return a, nil
}

// now is the agent's clock, never 0.
func (a *Agent) now() session.Time { return session.Time(time.Since(a.epoch)) + 1 }

// Start listens on the socket, and for gRPC, and serves until Stop. A live
// agent on the path is an error; a stale socket is replaced.
func (a *Agent) Start() error {
	set := a.settings.Load()
	var l *listener
	var err error
	if a.socket != "" {
		if l, err = listen(a.socket, set.socketMode, set.cfg.Agent.SocketGroup); err != nil {
			return fmt.Errorf("listen on %q: %w", a.socket, err)
		}
	}
	if a.grpc != "" {
		if a.rpc, err = a.listenRPC(a.grpc); err != nil {
			err = fmt.Errorf("serve gRPC on %q: %w", a.grpc, err)
			if l != nil {
				err = errors.Join(err, l.Close())
			}
			return err
		}
		a.work.Go(a.rpc.serve)
		a.rpc.announce(a.log)
	}
	if l != nil {
		a.listener = l
		a.work.Go(a.accept)
	}
	a.work.Go(a.sweep)
	a.log.Info("agent door open", "socket", a.socket,
		"note", "an agent cannot change packets: what would be lowered or stripped is forwarded and audited", "limits", Limits)
	return nil
}

// Reload puts a new configuration in force for new WebSockets and rechecks the
// live ones.
func (a *Agent) Reload(cfg *config.Config) error {
	set, err := a.prepare(cfg)
	if err != nil {
		return err
	}
	a.settings.Store(set)
	a.Recheck()
	return nil
}

// Check says what Reload would, and changes nothing.
func (a *Agent) Check(cfg *config.Config) error {
	_, err := a.prepare(cfg)
	return err
}

func (a *Agent) prepare(cfg *config.Config) (*settings, error) {
	set, err := newSettings(cfg)
	if err == nil && a.rpc != nil && a.rpc.secure != (set.tls != nil) {
		err = errTLSChanged
	}
	return set, err
}

var errTLSChanged = errors.New("agent.grpc-tls: TLS is turned on or off by a restart only")

// GRPCAddr is the real address of gRPC, nil without it. Valid after Start.
func (a *Agent) GRPCAddr() net.Addr {
	if a.rpc == nil {
		return nil
	}
	return a.rpc.callers.Addr()
}

// Recheck has every live session's identity re-evaluated. A session whose
// identity is gone is closed at its next frame: nothing else reaches it.
func (a *Agent) Recheck() {
	fx := &session.Effects{WantVerdicts: true}
	for ws := range a.table.all() {
		ws.guarded(a, func() { ws.recheck(a, fx) })
	}
}

// Stop stops accepting, finishes events in progress and closes all
// connections. Idempotent.
func (a *Agent) Stop(ctx context.Context) (err error) {
	a.stopOnce.Do(func() { err = a.stop(ctx) })
	return err
}

func (a *Agent) stop(ctx context.Context) error {
	var err error
	if a.listener != nil {
		err = a.listener.Close()
	}
	a.mu.Lock()
	a.draining = true
	a.mu.Unlock()
	a.tellHealth(time.Now())
	a.mu.Lock()
	for c := range a.conns {
		c.drain()
	}
	a.mu.Unlock()
	if a.rpc != nil {
		a.serving.Go(func() {
			if e := a.rpc.stop(ctx); e != nil {
				a.log.Warn("gRPC calls were cut off", "error", e)
			}
		})
	}
	done := make(chan struct{})
	go func() { a.serving.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
		err = errors.Join(err, ctx.Err())
		a.mu.Lock()
		for c := range a.conns {
			c.close()
		}
		a.mu.Unlock()
	}
	a.cancel()
	<-done
	a.work.Wait() // the sweeper starts some
	a.checks.Wait()
	fx := &session.Effects{WantVerdicts: true}
	for ws := range a.table.all() {
		ws.guarded(a, func() { ws.stop(a, fx) })
	}
	return err
}
