// Package cli is the command line: a file per command, flags → parts → exit
// code. [Run] is the whole program.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"text/tabwriter"

	"github.com/alecthomas/kong"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
)

// Name is the program's name.
const Name = "sentinel-mqtt-agent"

// Version is the program's version, set at link time for releases.
var Version = "0.1.0"

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1 // it did not work
	exitUsage  = 2 // the command line or the configuration is wrong
)

// IO is what a command talks to.
type IO struct {
	In       io.Reader
	Out, Err io.Writer
	// Color says that Out is a terminal that wants colour.
	Color bool
}

// commands is the command line as kong reads it.
type commands struct {
	Serve        serveCmd        `cmd:"" default:"withargs" name:"serve" help:"Serve the Sentinel proxy (the default command), and the gateway listeners of the configuration if it has any."`
	Gateway      gatewayCmd      `cmd:"" help:"Stand in the path: accept MQTT clients and pass what is allowed to the broker."`
	Demo         demoCmd         `cmd:"" help:"Show it at work: embedded broker, both doors, sample devices, every decision printed. Needs nothing installed."`
	Validate     validateCmd     `cmd:"" help:"Check a configuration as a run would; print ok or every error."`
	Explain      explainCmd      `cmd:"" help:"Say who may do what, and why: every check on the way to a decision."`
	HashPassword hashPasswordCmd `cmd:"" help:"Read a password and print its hash for a users file."`
	Help         helpCmd         `cmd:"" help:"Show this help, or that of a command: help COMMAND."`
	Version      versionCmd      `cmd:"" help:"Print the version."`

	ShowVersion kong.VersionFlag `name:"version" help:"Print the version and exit."`
}

// exitError carries an exit code and is already reported when silent.
type exitError struct {
	code  int
	err   error
	typed bool // on the command line: --help of the command says more
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}
func (e *exitError) Unwrap() error { return e.err }

// usage marks err as a mistake in the command line or the configuration.
func usage(err error) error { return &exitError{code: exitUsage, err: err} }

// mistyped marks err as a mistake in the command line.
func mistyped(err error) error { return &exitError{exitUsage, err, true} }

// Run parses args, runs the command and returns the exit code. It returns when
// the command is done or ctx ends.
func Run(ctx context.Context, args []string, stdio IO) int {
	var cmds commands
	exit, exited := 0, false
	parser, err := kong.New(&cmds,
		kong.Name(Name),
		kong.Description("Security for MQTT: topic ACLs, authentication and more, in front of any broker.\n\n"+
			"Without a command it serves the Sentinel proxy on a Unix socket. What an agent behind a proxy cannot enforce, "+
			"and the arrangement that can, is in docs/sentinel.md.\n\n"+
			"Example: "+Name+" --socket /tmp/sentinel-mqtt-agent.sock --config /etc/sentinel/mqtt-gateway.json"),
		kong.Vars{"version": Name + " " + Version},
		kong.Writers(stdio.Out, stdio.Err),
		kong.Exit(func(code int) { exit, exited = code, true; panic(exitPanic{}) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}),
		kong.Help(help),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(&stdio),
	)
	if err != nil {
		panic(err) // the struct tags above are wrong
	}
	unsetEmpty(parser)
	kctx, err := parse(parser, args)
	if exited {
		return exit
	}
	if err == nil {
		err = kctx.Run()
	}
	if err == nil {
		return exitOK
	}
	report(stdio.Err, err)
	var ee *exitError
	var pe *kong.ParseError
	if errors.As(err, &pe) {
		kctx = pe.Context
	}
	if pe != nil || errors.As(err, &ee) && ee.typed {
		fmt.Fprintf(stdio.Err, "%s: hint: %s --help\n", Name, Name+commandOf(kctx))
	}
	switch {
	case errors.As(err, &ee):
		return ee.code
	case errors.As(err, &pe):
		return exitUsage
	}
	return exitFailed
}

// unsetEmpty takes an environment variable of ours that is empty for one that
// is not set: that is how a unit file or a compose file leaves one out.
func unsetEmpty(p *kong.Kong) {
	_ = kong.Visit(p.Model, func(node kong.Visitable, next kong.Next) error { // no visit fails
		if f, ok := node.(*kong.Flag); ok {
			for _, env := range f.Envs {
				if os.Getenv(env) == "" {
					_ = os.Unsetenv(env) // fails for names that are none
				}
			}
		}
		return next(nil)
	})
}

// help prints kong's help, and for the whole program also the flags of its
// default command: they are given without naming it.
func help(o kong.HelpOptions, ctx *kong.Context) error {
	if err := kong.DefaultHelpPrinter(o, ctx); err != nil || ctx.Selected() != nil {
		return err
	}
	tw := tabwriter.NewWriter(ctx.Stdout, 2, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "\nFlags of the default command:")
	for _, f := range ctx.Model.DefaultCmd.Flags {
		name := "--" + f.Name
		if !f.IsBool() {
			name += "=" + f.FormatPlaceHolder()
		}
		text := f.Help
		for _, env := range f.Envs {
			text += " ($" + env + ")"
		}
		fmt.Fprintf(tw, "  %s\t%s\n", name, text)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(ctx.Stdout, "\nExit codes: %d done, %d it did not work, %d the command line or the configuration is wrong.\n", exitOK, exitFailed, exitUsage)
	return err
}

// exitPanic unwinds kong after --help and --version.
type exitPanic struct{}

func parse(p *kong.Kong, args []string) (c *kong.Context, err error) {
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(exitPanic); !ok {
				panic(r)
			}
		}
	}()
	return p.Parse(args)
}

// report prints an error for people: every line of a configuration error, one
// hint where there is one.
func report(w io.Writer, err error) {
	text := err.Error()
	if text == "" {
		return
	}
	var errs config.Errors
	if errors.As(err, &errs) {
		fmt.Fprintln(w, errs)
		return
	}
	var pe *kong.ParseError
	if errors.As(err, &pe) {
		text += nearCommand(pe)
	}
	fmt.Fprintf(w, "%s: error: %s\n", Name, text)
}

// commandOf is the command that was asked for, after a space; "" for the
// default one.
func commandOf(ctx *kong.Context) string {
	for _, p := range ctx.Path {
		if p.Command != nil && p.Command != ctx.Model.DefaultCmd {
			return " " + p.Command.Name
		}
	}
	return ""
}

// nearCommand is a suggestion for an argument that looks like the name of a
// command: beside a default command, kong takes it for an argument of that.
func nearCommand(pe *kong.ParseError) string {
	word, ok := strings.CutPrefix(pe.Error(), "unexpected argument ")
	if !ok {
		return ""
	}
	if word == "agent" {
		return ": the agent door is what runs without a command"
	}
	var names []string
	for _, c := range pe.Context.Model.Children {
		names = append(names, c.Name)
	}
	if near := config.Suggest(word, names); near != "" {
		return fmt.Sprintf(", did you mean %q?", near)
	}
	return ""
}

// helpCmd shows help.
type helpCmd struct {
	Command []string `arg:"" optional:"" help:"The command; without one: the whole program."`
}

// Help is shown by --help.
func (helpCmd) Help() string { return "Example: " + Name + " help gateway" }

// Run is the command with --help.
func (c *helpCmd) Run(ctx *kong.Context) error {
	_, err := parse(ctx.Kong, append(c.Command, "--help"))
	return err
}

// versionCmd prints the version.
type versionCmd struct{}

// Help is shown by --help.
func (versionCmd) Help() string { return "Example: " + Name + " version" }

// Run prints name and version as words, then what it was built with.
func (versionCmd) Run(stdio *IO) error {
	goVersion := ""
	if info, ok := debug.ReadBuildInfo(); ok {
		goVersion = " " + info.GoVersion
	}
	_, err := fmt.Fprintf(stdio.Out, "%s %s%s\n", Name, Version, goVersion)
	return err
}

// Stdio is the real one. Colour is on when standard output is a terminal and
// NO_COLOR is not set.
func Stdio() IO {
	color := os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && isTerminal(os.Stdout)
	return IO{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Color: color}
}
