//go:build linux

// Command mqload measures MQTT brokers and proxies side by side: throughput
// and latency, idle connections, and connection churn.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"text/tabwriter"
	"time"
)

const usageText = `mqload <command> [flags]

  throughput  publish through each target in interleaved rounds: rates, latency, loss, CPU, RSS
  idle        hold many connections: connect latency, memory per connection, a probe of 1 %
  connect     connect/disconnect churn: connections per second and latency
  sink        acknowledge everything (--echo: deliver too): shows mqload's own ceiling
  relay       a bare TCP relay: the floor for a proxy hop written in Go

mqload <command> --help lists the flags; targets must be on this machine.
`

type listFlag []string

func (l *listFlag) String() string     { return strings.Join(*l, " ") }
func (l *listFlag) Set(s string) error { *l = append(*l, s); return nil }

func main() {
	if len(os.Args) < 2 {
		fmt.Fprint(os.Stderr, usageText)
		os.Exit(2)
	}
	debug.SetGCPercent(400)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ok, err := command(ctx, os.Args[1], os.Args[2:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "mqload:", err)
		os.Exit(2)
	}
	if !ok {
		os.Exit(1)
	}
}

// settings are what the flags of all commands say.
type settings struct {
	load
	targets, pids listFlag
	ca            string
	asJSON        bool
	listen        string
	rounds        int
	conns, conc   int
	hold          time.Duration
	subscribe     bool
	echo, splice  bool
	upstream      string
}

// parse reads the flags of a command.
func (c *settings) parse(name string, args []string) error {
	fs := flag.NewFlagSet("mqload "+name, flag.ExitOnError)
	o := &c.conn
	server := func() {
		fs.StringVar(&c.listen, "listen", "127.0.0.1:18890", "loopback address")
	}
	client := func() {
		fs.Var(&c.targets, "target", "`NAME=URL`, repeatable: tcp://, tls://, ws:// or wss:// and host:port[/path]; the first is the base of the ratios")
		fs.Var(&c.pids, "pid", "`NAME=PID[+PID]`, comma separated or repeated: measure these processes and their children")
		fs.IntVar(&c.Proto, "proto", 4, "MQTT version: 4 (3.1.1) or 5")
		fs.StringVar(&o.user, "user", "", "user name (throughput: %d is the client's number)")
		fs.StringVar(&o.pass, "pass", "", "password")
		fs.BoolVar(&o.insecure, "insecure", false, "do not verify TLS certificates")
		fs.StringVar(&c.ca, "cafile", "", "CA certificates (PEM) to verify TLS with")
		fs.IntVar(&o.keepalive, "keepalive", 60, "keep-alive seconds")
		fs.DurationVar(&o.timeout, "timeout", 10*time.Second, "for dialling and every handshake")
		fs.BoolVar(&c.asJSON, "json", false, "write JSON to standard output, the tables to standard error")
		fs.Float64Var(&c.Rate, "rate", 0, "messages (throughput, all publishers together) or connections a second; 0 = as fast as possible (idle: 500)")
	}
	inRounds := func() {
		fs.DurationVar(&c.Duration, "duration", 10*time.Second, "measured time of a round")
		fs.IntVar(&c.rounds, "rounds", 3, "rounds over all targets: A B C A B C …")
	}
	switch name {
	case "throughput":
		client()
		inRounds()
		fs.IntVar(&c.Pubs, "pubs", 1, "publishers")
		fs.IntVar(&c.Subs, "subs", 1, "subscribers; 0 = publish only")
		fs.IntVar(&c.QoS, "qos", 0, "QoS of publishing and subscribing")
		fs.IntVar(&c.Size, "size", 128, "payload bytes, at least 32")
		fs.IntVar(&c.Topics, "topics", 1, "topics; subscribers split them, or share them when there are more subscribers than topics")
		fs.IntVar(&c.Window, "window", 256, "messages in flight per publisher: QoS 0 until delivered, QoS 1 and 2 until acknowledged (and 2x until delivered)")
		fs.StringVar(&c.Topic, "topic", "mqload/%d", "topic name, %d is its number")
		fs.StringVar(&c.Prefix, "client-prefix", "mqload", "of the client identifiers")
		fs.DurationVar(&c.Warmup, "warmup", 500*time.Millisecond, "unmeasured time at the start of each round")
	case "connect":
		client()
		inRounds()
		fs.IntVar(&c.conc, "conc", 16, "workers")
	case "idle":
		client()
		fs.IntVar(&c.conns, "conns", 1000, "connections")
		fs.DurationVar(&c.hold, "hold", 20*time.Second, "how long to hold them")
		fs.BoolVar(&c.subscribe, "subscribe", false, "each connection subscribes to a topic of its own before the hold")
	case "sink":
		server()
		fs.BoolVar(&c.echo, "echo", false, "deliver to subscribers by exact topic")
	case "relay":
		server()
		fs.StringVar(&c.upstream, "upstream", "127.0.0.1:1883", "host:port to forward to")
		fs.BoolVar(&c.splice, "splice", false, "splice(2) in the kernel instead of copying through user space")
	default:
		fmt.Fprint(os.Stderr, usageText)
		return fmt.Errorf("unknown command %q", name)
	}
	fs.Parse(args)
	if fs.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	return nil
}

// command runs one command; ok is false when a target failed.
func command(ctx context.Context, name string, args []string) (ok bool, err error) {
	var c settings
	if err := c.parse(name, args); err != nil {
		return false, err
	}
	if c.listen != "" {
		return true, c.serve(ctx, name == "sink")
	}
	return c.measure(ctx, name, args)
}

// serve is the sink or the relay.
func (c *settings) serve(ctx context.Context, sinks bool) error {
	if _, err := parseTarget("tcp://" + c.listen); err != nil {
		return err
	}
	ln, err := net.Listen("tcp", c.listen)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { ln.Close() })
	if sinks {
		s := &sink{echo: c.echo}
		err = s.serve(ln)
		fmt.Println("received", s.received.Load())
	} else {
		err = relay(ln, c.upstream, c.splice)
	}
	if ctx.Err() != nil {
		err = nil
	}
	return err
}

// measure takes the figures of a command and prints them.
func (c *settings) measure(ctx context.Context, name string, args []string) (ok bool, err error) {
	c.conn.proto, c.conn.bufSize = c.Proto, 64<<10
	if err := c.conn.loadCA(c.ca); err != nil {
		return false, err
	}
	procs, err := parsePids(c.pids)
	if err != nil {
		return false, err
	}
	var ts []target
	for _, s := range c.targets {
		t, err := parseTarget(s)
		if err != nil {
			return false, err
		}
		ts = append(ts, t)
	}
	if len(ts) == 0 {
		return false, fmt.Errorf("no --target")
	}
	doc := map[string]any{"command": name, "args": args, "targets": ts}
	text := io.Writer(os.Stdout)
	if c.asJSON {
		text = os.Stderr
	}
	tw := tabwriter.NewWriter(text, 0, 0, 2, ' ', tabwriter.AlignRight)
	ok = true
	switch name {
	case "throughput":
		if err := c.check(); err != nil {
			return false, err
		}
		if err := raiseFiles(c.Pubs + c.Subs); err != nil {
			return false, err
		}
		var all []result
		interleave(ctx, ts, c.rounds, func(t target, round int) {
			r := runLoad(&c.load, t, procs, round)
			all = append(all, r)
			if r.Err != "" || r.Lost+r.Unacked != 0 || r.Dup+r.Reordered+r.Corrupt+r.Rejected+r.Stalls+r.Foreign != 0 {
				fmt.Fprintf(os.Stderr, "round %d %s: error=%q lost=%d unacked=%d duplicates=%d reordered=%d corrupt=%d rejected=%d stalls=%d foreign=%d\n",
					round+1, t.Name, r.Err, r.Lost, r.Unacked, r.Dup, r.Reordered, r.Corrupt, r.Rejected, r.Stalls, r.Foreign)
			}
			ok = ok && r.Err == ""
		})
		sum := summarise(ts, procs, all)
		doc["case"], doc["results"], doc["summary"] = &c.load, all, sum
		printLoad(tw, text, &c.load, c.rounds, sum, procs)
	case "idle":
		if c.Rate == 0 {
			c.Rate = 500
		}
		var all []idleResult
		for i, t := range ts {
			if i > 0 {
				time.Sleep(time.Second)
			}
			r, err := runIdle(ctx, t, c.conn, c.conns, c.Rate, c.hold, c.subscribe, procs)
			if err != nil {
				return false, err
			}
			ok = ok && r.Connected == c.conns && r.Dropped+r.ProbeFail == 0
			all = append(all, r)
		}
		doc["results"] = all
		printIdle(tw, text, all, procs)
	case "connect":
		var all []churnResult
		interleave(ctx, ts, c.rounds, func(t target, round int) {
			r := runChurn(t, c.conn, c.conc, c.Rate, c.Duration, procs, round)
			all = append(all, r)
			ok = ok && len(r.Failures) == 0
		})
		doc["results"] = all
		printChurn(tw, text, ts, all, procs)
	}
	if c.asJSON {
		enc := json.NewEncoder(os.Stdout)
		enc.SetIndent("", " ")
		return ok, enc.Encode(doc)
	}
	return ok, nil
}
