package policy

import "github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"

// Engine is a compiled policy: immutable, shared by all connections.
type Engine struct {
	cfg *config.Config
}

// Compile builds the engine of a checked configuration. It fails only on what
// Load cannot see; bounds: 100,000 rules.
func Compile(cfg *config.Config) (*Engine, error) { panic("todo") }

// Config is the configuration the engine was compiled from.
func (e *Engine) Config() *config.Config { return e.cfg }

// RuleName names r for audit and explain.
func (e *Engine) RuleName(r RuleRef) string { panic("todo") }

// Bind gives the subject of an identity. Equal identities share it.
func (e *Engine) Bind(id Identity) *Subject { panic("todo") }
