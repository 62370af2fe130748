package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/auth"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
)

// validateCmd checks a configuration.
type validateCmd struct {
	File   string `arg:"" optional:"" placeholder:"FILE" help:"The file; default: --config."`
	Config string `env:"MQTT_CONFIG" placeholder:"FILE" help:"The file, as for a run."`
}

// Help is shown by --help.
func (validateCmd) Help() string {
	return "Prints ok, or every error with its place, and exits 0 or 2. What this version cannot enforce yet is a warning here and refuses a run: then it prints \"ok, but a run refuses it\".\n\n" +
		"Example: " + Name + " validate /etc/sentinel/mqtt-gateway.json"
}

// Run loads as a run would.
func (c *validateCmd) Run(stdio *IO) error {
	path := c.File
	if path == "" {
		path = c.Config
	}
	if path == "" {
		return mistyped(errors.New("which file? " + Name + " validate FILE"))
	}
	cfg, warnings, err := config.Load(path)
	for _, w := range warnings {
		fmt.Fprintf(stdio.Err, "%s: warning: %s: %s\n", w.Place, w.Path, w.Text)
	}
	if err != nil {
		return usage(err)
	}
	if err := auth.CheckUsers(cfg); err != nil {
		return usage(err)
	}
	if _, err := policy.Compile(cfg); err != nil {
		return usage(err)
	}
	for _, text := range cautions(cfg) {
		fmt.Fprintf(stdio.Err, "%s: warning: %s\n", path, text)
	}
	var refused []string
	for _, w := range warnings {
		if w.Blocks {
			refused = append(refused, w.Path)
		}
	}
	verdict := "ok"
	if refused != nil {
		verdict += ", but a run refuses it: this version does not enforce " + strings.Join(refused, ", ")
	}
	_, err = fmt.Fprintln(stdio.Out, verdict)
	return err
}
