package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/app"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
)

// runFlags are the flags of every command that serves.
type runFlags struct {
	Config       string        `env:"MQTT_CONFIG" placeholder:"FILE" help:"Configuration file (JSON with comments). Without one: built-in defaults, which deny."`
	LogLevel     string        `env:"MQTT_LOG_LEVEL" enum:"trace,debug,info,warn,error" default:"info" help:"trace, debug, info, warn or error."`
	JSONLogs     bool          `name:"json-logs" env:"MQTT_JSON_LOGS" help:"Write logs as JSON lines."`
	DrainTimeout time.Duration `default:"10s" help:"How long a stop may take."`
	DrainRate    int           `default:"1000" help:"Connections ended a second while draining."`
}

// serveCmd is the agent door, and the gateway door when the configuration has
// listeners.
type serveCmd struct {
	Socket      string `env:"AGENT_SOCKET" default:"/tmp/sentinel-mqtt-agent.sock" placeholder:"PATH" help:"Unix socket that the proxy connects to; without this: ${default}; \"\": none."`
	GRPCAddress string `name:"grpc-address" env:"AGENT_GRPC_ADDRESS" placeholder:"HOST:PORT" help:"Serve gRPC here as well as the socket."`
	runFlags
}

// Help is shown by --help.
func (serveCmd) Help() string {
	return "Example: " + Name + " --socket /tmp/sentinel-mqtt-agent.sock --config /etc/sentinel/mqtt-gateway.json\n\n" +
		"What an agent behind the proxy cannot enforce: docs/sentinel.md#what-cannot-be-enforced-here\n\n" +
		"Signals: SIGHUP reloads, SIGTERM and SIGINT drain and exit, a second one exits at once, with 1. More: docs/mosquitto.md."
}

// Run serves until a signal.
func (c *serveCmd) Run(ctx context.Context, stdio *IO) error {
	if c.GRPCAddress != "" {
		if _, _, err := net.SplitHostPort(c.GRPCAddress); err != nil {
			return mistyped(fmt.Errorf("--grpc-address: %w: write it as 127.0.0.1:50051", err))
		}
	}
	return c.serve(ctx, stdio, app.Options{Socket: c.Socket, GRPC: c.GRPCAddress}, nil)
}

// gatewayCmd is only the gateway door.
type gatewayCmd struct {
	Listen   []string `placeholder:"URL" sep:"none" help:"Listen here instead of gateway.listeners: tcp://:1883, ws://:8083/mqtt. Repeatable."`
	Upstream []string `placeholder:"URL" sep:"none" help:"The broker, instead of gateway.upstreams: mqtt://host:1883. Repeatable."`
	runFlags
}

// Help is shown by --help.
func (gatewayCmd) Help() string {
	return "Example: " + Name + " gateway --listen tcp://:1883 --upstream mqtt://127.0.0.1:11883 --config gateway.json"
}

// Run serves until a signal.
func (c *gatewayCmd) Run(ctx context.Context, stdio *IO) error {
	override := func(cfg *config.Config) error {
		if err := config.ApplyListen(cfg, c.Listen, c.Upstream); err != nil {
			return err
		}
		if len(cfg.Gateway.Listeners) == 0 {
			return errors.New("nothing to listen on: give --listen tcp://:1883 or gateway.listeners in the configuration")
		}
		if len(cfg.Gateway.Upstreams) == 0 {
			return errors.New("no broker: give --upstream mqtt://host:1883 or gateway.upstreams in the configuration")
		}
		return nil
	}
	return c.serve(ctx, stdio, app.Options{Gateway: true}, override)
}

// serve loads, runs and drains. With override the gateway door is required;
// without, it is served when the configuration has listeners.
func (f *runFlags) serve(ctx context.Context, stdio *IO, o app.Options, override func(*config.Config) error) error {
	log := newLogger(stdio.Err, f.LogLevel, f.JSONLogs)
	slog.SetDefault(log) // the audit's writer has no other
	// Whoever reads our output may go before we do: that is an error of a write,
	// which the audit counts.
	signal.Ignore(syscall.SIGPIPE)
	reload := make(chan struct{}, 1)
	ctx, stop := signals(ctx, log, reload)
	defer stop()
	load := func() (*config.Config, error) {
		cfg, err := f.load(log)
		if err == nil && override != nil {
			err = override(cfg)
		}
		return cfg, err
	}
	first, err := load()
	if err != nil {
		return usage(err)
	}
	o.Gateway = o.Gateway || len(first.Gateway.Listeners) > 0
	if !o.Gateway && o.Socket == "" && o.GRPC == "" {
		return mistyped(errors.New("nothing to serve: --socket is empty, and there is neither --grpc-address nor gateway.listeners in the configuration"))
	}
	read := first
	o.Load = func() (*config.Config, error) { // New's is read already, warnings and all
		if cfg := read; cfg != nil {
			read = nil
			return cfg, nil
		}
		return load()
	}
	o.Log, o.Version, o.File = log, Version, f.Config
	o.DrainTimeout, o.DrainRate = f.DrainTimeout, f.DrainRate
	a, err := app.New(o)
	if err != nil {
		return usage(err)
	}
	tuneCollector(ctx)
	return a.Run(ctx, reload, func() {
		for _, c := range cautions(first) {
			log.Warn(c)
		}
	})
}

// load reads the configuration and refuses sections that this version does not
// enforce.
func (f *runFlags) load(log *slog.Logger) (*config.Config, error) {
	if f.Config == "" {
		return config.Default(), nil
	}
	cfg, warnings, err := config.Load(f.Config)
	if err != nil {
		return nil, err
	}
	if err := config.Unenforced(warnings); err != nil {
		return nil, err
	}
	for _, w := range warnings {
		log.Warn("configuration", "place", w.Place, "key", w.Path, "warning", w.Text)
	}
	return cfg, nil
}

// cautions are what an operator must know about a configuration that is not
// wrong: logged at the start, and told by validate.
func cautions(cfg *config.Config) (list []string) {
	add := func(holds bool, text string) {
		if holds {
			list = append(list, text)
		}
	}
	acl := &cfg.ACL
	add(!cfg.Auth.Enabled, "authentication is off: user names are claimed, not verified, unless the broker checks them")
	add(!cfg.General.BlockMode, "block-mode is off: nothing is blocked, only audited")
	add(!acl.Enabled, "the topic ACL is off")
	add(acl.Enabled && acl.DefaultAction == "deny" && len(acl.Rules) == 0, "no rules: every topic is denied")
	denies := func(r config.Rule) bool { return r.Decision == "deny" }
	add(acl.Enabled && acl.DefaultAction == "allow" && !slices.ContainsFunc(acl.Rules, denies),
		"no rule denies and default-action is allow: every topic is allowed, but for those that begin with $")
	return list
}

// signals gives a context that ends with SIGTERM or SIGINT, which is then its
// cause; a second one exits at once, unless it is an [echo]. SIGHUP puts a value into reload, if there
// is room; while draining it does nothing. Without reload it is as SIGTERM.
func signals(parent context.Context, log *slog.Logger, reload chan<- struct{}) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	ch := make(chan os.Signal, 4)
	signal.Notify(ch, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	done := make(chan struct{})
	go func() { // ends with done
		var first time.Time
		for {
			select {
			case s := <-ch:
				hup := s == syscall.SIGHUP && reload != nil
				switch {
				case hup && ctx.Err() != nil:
					log.Warn("no reload while draining", "signal", unix.SignalName(s.(syscall.Signal)))
				case hup:
					select {
					case reload <- struct{}{}:
					default: // one is waiting already
					}
				case ctx.Err() != nil && echo(s, time.Since(first)):
				case ctx.Err() != nil:
					log.Warn("stopped at once by a second signal, connections were not drained")
					os.Exit(exitFailed)
				default:
					first = time.Now()
					cancel(errors.New(unix.SignalName(s.(syscall.Signal))))
				}
			case <-done:
				return
			}
		}
	}()
	return ctx, func() { signal.Stop(ch); close(done); cancel(nil) }
}

// echoTime is within which one stop arrives twice.
const echoTime = 500 * time.Millisecond

// echo reports whether s, so long after the first signal, is the same stop
// once more: timeout(1) and some supervisors signal the process and its group.
func echo(s os.Signal, after time.Duration) bool {
	return s == syscall.SIGTERM && after < echoTime
}

// levelTrace is below slog's debug.
const levelTrace = slog.Level(-8)

// newLogger writes to w as text or JSON from the named level on.
func newLogger(w io.Writer, level string, jsonLines bool) *slog.Logger {
	levels := map[string]slog.Level{"trace": levelTrace, "debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
	o := &slog.HandlerOptions{Level: levels[level], ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		switch {
		case a.Key == slog.LevelKey && a.Value.Any() == levelTrace:
			a.Value = slog.StringValue("TRACE")
		case a.Value.Kind() == slog.KindDuration: // JSON would have it in nanoseconds
			a.Value = slog.StringValue(a.Value.Duration().String())
		}
		return a
	}}
	if jsonLines {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }
