package agent

import (
	"crypto/tls"
	"fmt"
	"io/fs"
	"slices"
	"strconv"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/session"
)

// settings is one configuration as this door uses it: immutable, swapped by
// Reload. A WebSocket keeps the one it began under.
type settings struct {
	cfg     *config.Config
	session *session.Settings

	timeout     session.Time // agent.decision-timeout-ms
	block       bool         // general.block-mode
	closeOnDeny bool
	failOpen    *policy.Engine      // binds claimed names; nil: off
	routes      map[string]struct{} // nil: all
	socketMode  fs.FileMode
	tls         *tls.Config // agent.grpc-tls; nil: plain text

	allowExtensions    bool
	requireSubprotocol bool
	speaks31           bool
}

func newSettings(cfg *config.Config) (*settings, error) {
	mode, err := strconv.ParseUint(cfg.Agent.SocketMode, 8, 9)
	if err != nil {
		return nil, fmt.Errorf("agent.socket-mode %q: %w", cfg.Agent.SocketMode, err)
	}
	s := &settings{
		cfg: cfg, session: session.NewSettings(policy.DoorAgent, cfg),
		timeout:            session.Time(cfg.Agent.DecisionTimeoutMS) * (session.Second / 1000),
		block:              cfg.General.BlockMode,
		closeOnDeny:        cfg.Agent.OnDeny == "close",
		socketMode:         fs.FileMode(mode),
		allowExtensions:    cfg.Agent.WebSocketExtensions == "allow",
		requireSubprotocol: cfg.Agent.RequireSubprotocol,
		speaks31:           slices.Contains(cfg.General.ProtocolVersions, "3.1"),
	}
	if s.tls, err = loadTLS(&cfg.Agent.GRPCTLS); err != nil {
		return nil, err
	}
	if cfg.General.FailOpen {
		if s.failOpen, err = policy.Compile(cfg); err != nil {
			return nil, fmt.Errorf("compile policy: %w", err)
		}
	}
	if len(cfg.Agent.Routes) > 0 {
		s.routes = make(map[string]struct{}, len(cfg.Agent.Routes))
		for _, r := range cfg.Agent.Routes {
			s.routes[r] = struct{}{}
		}
	}
	return s, nil
}

// serves reports whether a route is ours. An event without a route is: what
// nobody named is not let pass.
func (s *settings) serves(route []byte, known bool) bool {
	if s.routes == nil || !known {
		return true
	}
	_, ours := s.routes[string(route)]
	return ours
}

// waits is how long a check may hold up an answer: what is left of the
// deadline is for the way back, on a machine that has other work, too.
func (s *settings) waits() session.Time {
	return s.timeout - s.timeout/5
}
