// Package gateway is the door in the path: listeners, the WebSocket layer, the
// driver of sessions over a transport, and the dialling of upstreams.
package gateway

import (
	"context"
	"log/slog"
	"net"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/audit"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/auth"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
)

// Options is what the gateway door needs.
type Options struct {
	Config *config.Config
	Gate   *auth.Gate
	Audit  *audit.Log
	Log    *slog.Logger
}

// Gateway is the gateway door.
type Gateway struct{}

// New checks and prepares; it opens nothing.
func New(o Options) (*Gateway, error) { panic("todo") }

// Start opens the listeners and serves until Stop.
func (g *Gateway) Start() error { panic("todo") }

// Addrs are the addresses really listened on, in the order of the
// configuration.
func (g *Gateway) Addrs() []net.Addr { panic("todo") }

// Recheck has every live session's identity re-evaluated.
func (g *Gateway) Recheck() { panic("todo") }

// Reload puts a new configuration in force for new connections and rechecks
// the live ones.
func (g *Gateway) Reload(cfg *config.Config) error { panic("todo") }

// Stop drains: no new connections, live ones are told and closed, at most rate
// a second, until ctx ends. Idempotent.
func (g *Gateway) Stop(ctx context.Context, rate int) error { panic("todo") }
