package cli

import (
	"context"
	"os/signal"
	"syscall"
	"time"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/demo"
)

// demoCmd shows the product at work.
type demoCmd struct {
	For time.Duration `placeholder:"DUR" help:"Stop after so long; without it, Ctrl-C ends it."`
}

// Help is shown by --help.
func (demoCmd) Help() string {
	return "Starts an embedded broker, the gateway and the agent door in front of it and sample devices, and prints every decision and lines to try.\n\n" +
		"Example: " + Name + " demo"
}

// Run runs the demo until a signal.
func (c *demoCmd) Run(ctx context.Context, stdio *IO) error {
	log := newLogger(stdio.Err, "warn", false)
	ctx, stop := signals(ctx, log, nil)
	defer stop()
	// A pipe that is closed (demo | head) is an error of a write, after which the
	// demo takes its files away; by default it ends the program on the spot.
	signal.Ignore(syscall.SIGPIPE)
	defer signal.Reset(syscall.SIGPIPE)
	if c.For > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.For)
		defer cancel()
	}
	return demo.Run(ctx, demo.Options{Out: stdio.Out, Color: stdio.Color, Version: Version, Log: log})
}
