// Package agent is the door behind the Sentinel proxy: it serves the agent
// protocol on a Unix socket and answers every WebSocket frame with allow, drop
// or close.
package agent

import (
	"context"
	"log/slog"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/audit"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/auth"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
)

// Options is what the agent door needs.
type Options struct {
	Socket  string // path
	Version string // of this program, for the handshake
	Config  *config.Config
	Gate    *auth.Gate
	Audit   *audit.Log
	Log     *slog.Logger
}

// Agent is the agent door.
type Agent struct{}

// New checks and prepares; it opens nothing.
func New(o Options) (*Agent, error) { panic("todo") }

// Start listens on the socket and serves until Stop. A live agent on the path
// is an error; a stale socket is replaced.
func (a *Agent) Start() error { panic("todo") }

// Recheck has every live session's identity re-evaluated.
func (a *Agent) Recheck() { panic("todo") }

// Reload puts a new configuration in force for new WebSockets and rechecks the
// live ones.
func (a *Agent) Reload(cfg *config.Config) error { panic("todo") }

// Stop stops accepting, finishes events in progress and closes all
// connections. Idempotent.
func (a *Agent) Stop(ctx context.Context) error { panic("todo") }
