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
	"slices"
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

// command runs one command; ok is false when a target failed.
func command(ctx context.Context, name string, args []string) (ok bool, err error) {
	fs := flag.NewFlagSet("mqload "+name, flag.ExitOnError)
	var targets, pids listFlag
	var l load
	var ca string
	var asJSON bool
	o := &l.conn
	client := func() {
		fs.Var(&targets, "target", "`NAME=URL`, repeatable: tcp://, tls://, ws:// or wss:// and host:port[/path]; the first is the base of the ratios")
		fs.Var(&pids, "pid", "`NAME=PID[+PID]`, comma separated or repeated: measure these processes and their children")
		fs.IntVar(&l.Proto, "proto", 4, "MQTT version: 4 (3.1.1) or 5")
		fs.StringVar(&o.user, "user", "", "user name (throughput: %d is the client's number)")
		fs.StringVar(&o.pass, "pass", "", "password")
		fs.BoolVar(&o.insecure, "insecure", false, "do not verify TLS certificates")
		fs.StringVar(&ca, "cafile", "", "CA certificates (PEM) to verify TLS with")
		fs.IntVar(&o.keepalive, "keepalive", 60, "keep-alive seconds")
		fs.DurationVar(&o.timeout, "timeout", 10*time.Second, "for dialling and every handshake")
		fs.BoolVar(&asJSON, "json", false, "write JSON to standard output, the tables to standard error")
	}
	listen := fs.String("listen", "127.0.0.1:18890", "loopback address (sink, relay)")
	rounds, rate := 1, fs.Float64("rate", 0, "messages (throughput, all publishers together) or connections a second; 0 = as fast as possible (idle: 500)")
	var conns, conc int
	var hold time.Duration
	var subscribe, echo, splice bool
	var upstream string
	switch name {
	case "throughput":
		client()
		fs.IntVar(&l.Pubs, "pubs", 1, "publishers")
		fs.IntVar(&l.Subs, "subs", 1, "subscribers; 0 = publish only")
		fs.IntVar(&l.QoS, "qos", 0, "QoS of publishing and subscribing")
		fs.IntVar(&l.Size, "size", 128, "payload bytes, at least 32")
		fs.IntVar(&l.Topics, "topics", 1, "topics; subscribers split them, or share them when there are more subscribers than topics")
		fs.IntVar(&l.Window, "window", 256, "messages in flight per publisher: QoS 0 until delivered, QoS 1 and 2 until acknowledged (and 2x until delivered)")
		fs.StringVar(&l.Topic, "topic", "mqload/%d", "topic name, %d is its number")
		fs.StringVar(&l.Prefix, "client-prefix", "mqload", "of the client identifiers")
		fs.DurationVar(&l.Warmup, "warmup", 500*time.Millisecond, "unmeasured time at the start of each round")
		fallthrough
	case "connect":
		if name == "connect" {
			client()
		}
		fs.DurationVar(&l.Duration, "duration", 10*time.Second, "measured time of a round")
		fs.IntVar(&rounds, "rounds", 3, "rounds over all targets: A B C A B C …")
		fs.IntVar(&conc, "conc", 16, "workers (connect)")
	case "idle":
		client()
		fs.IntVar(&conns, "conns", 1000, "connections")
		fs.DurationVar(&hold, "hold", 20*time.Second, "how long to hold them")
		fs.BoolVar(&subscribe, "subscribe", false, "each connection subscribes to a topic of its own before the hold")
	case "sink":
		fs.BoolVar(&echo, "echo", false, "deliver to subscribers by exact topic")
	case "relay":
		fs.StringVar(&upstream, "upstream", "127.0.0.1:1883", "host:port to forward to")
		fs.BoolVar(&splice, "splice", false, "splice(2) in the kernel instead of copying through user space")
	default:
		fmt.Fprint(os.Stderr, usageText)
		return false, fmt.Errorf("unknown command %q", name)
	}
	fs.Parse(args)
	if fs.NArg() > 0 {
		return false, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	if name == "sink" || name == "relay" {
		if _, err := parseTarget("tcp://" + *listen); err != nil {
			return false, err
		}
		ln, err := net.Listen("tcp", *listen)
		if err != nil {
			return false, err
		}
		context.AfterFunc(ctx, func() { ln.Close() })
		if name == "sink" {
			s := &sink{echo: echo}
			err = s.serve(ln)
			fmt.Println("received", s.received.Load())
		} else {
			err = relay(ln, upstream, splice)
		}
		if ctx.Err() != nil {
			err = nil
		}
		return true, err
	}

	o.proto, o.bufSize = l.Proto, 64<<10
	if err := o.loadCA(ca); err != nil {
		return false, err
	}
	procs, err := parsePids(pids)
	if err != nil {
		return false, err
	}
	var ts []target
	for _, s := range targets {
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
	if asJSON {
		text = os.Stderr
	}
	tw := tabwriter.NewWriter(text, 0, 0, 2, ' ', tabwriter.AlignRight)
	ok = true
	progress := func(format string, a ...any) { fmt.Fprintf(os.Stderr, format+"\n", a...) }

	switch name {
	case "throughput":
		if l.Rate = *rate; l.check() != nil {
			return false, l.check()
		}
		if err := raiseFiles(l.Pubs + l.Subs); err != nil {
			return false, err
		}
		var all []result
		interleave(ctx, ts, rounds, func(t target, round int) {
			r := runLoad(&l, t, procs, round)
			all = append(all, r)
			if r.Err != "" || r.Lost+r.Unacked != 0 || r.Dup+r.Reordered+r.Corrupt+r.Rejected+r.Stalls+r.Foreign != 0 {
				progress("round %d %s: error=%q lost=%d unacked=%d duplicates=%d reordered=%d corrupt=%d rejected=%d stalls=%d foreign=%d",
					round+1, t.Name, r.Err, r.Lost, r.Unacked, r.Dup, r.Reordered, r.Corrupt, r.Rejected, r.Stalls, r.Foreign)
			}
			ok = ok && r.Err == ""
		})
		sum := summarise(ts, procs, all)
		doc["case"], doc["results"], doc["summary"] = &l, all, sum
		printLoad(tw, text, &l, rounds, sum, procs)
	case "idle":
		if *rate == 0 {
			*rate = 500
		}
		var all []idleResult
		for i, t := range ts {
			if i > 0 {
				time.Sleep(time.Second)
			}
			r, err := runIdle(ctx, t, *o, conns, *rate, hold, subscribe, procs)
			if err != nil {
				return false, err
			}
			ok = ok && r.Connected == conns && r.Dropped+r.ProbeFail == 0
			all = append(all, r)
		}
		doc["results"] = all
		printIdle(tw, text, all, procs)
	case "connect":
		var all []churnResult
		interleave(ctx, ts, rounds, func(t target, round int) {
			r := runChurn(t, *o, conc, *rate, l.Duration, procs, round)
			all = append(all, r)
			ok = ok && len(r.Failures) == 0
		})
		doc["results"] = all
		printChurn(tw, text, ts, all, procs)
	}
	if asJSON {
		enc := json.NewEncoder(os.Stdout)
		enc.SetIndent("", " ")
		return ok, enc.Encode(doc)
	}
	return ok, nil
}

// summary is a target's figures over the rounds. Ratios and added latencies
// pair each round with the first target's figure in the same round.
type summary struct {
	Target    string           `json:"target"`
	Rounds    int              `json:"rounds"`
	Published stat3            `json:"published_per_s"`
	Delivered stat3            `json:"delivered_per_s"`
	Ratio     stat3            `json:"rate_ratio_to_first"`
	Latency   map[string]stat3 `json:"latency_us"`
	Added     map[string]stat3 `json:"added_latency_us"`
	CPU       map[string]stat3 `json:"cpu_s_per_million"`
	Tool      stat3            `json:"tool_cpu_s_per_million"`
	Busy      map[string]stat3 `json:"cores_used"` // CPU seconds per second
	Other     stat3            `json:"other_cores_used"`
	PeakRSS   map[string]stat3 `json:"peak_rss_b"`
	Lost      int64            `json:"lost"`
	Unacked   int64            `json:"unacked"`
	Faults    [5]uint64        `json:"dup_reordered_corrupt_rejected_stalls"`
	Errors    []string         `json:"errors,omitempty"`
}

// latencies names the latency figures of a result.
func (r *result) latencies() map[string]float64 {
	m := map[string]float64{}
	put := func(prefix string, p pctl) {
		if p.N > 0 {
			m[prefix+"p50"], m[prefix+"p90"], m[prefix+"p99"], m[prefix+"p99.9"], m[prefix+"max"] = p.P50, p.P90, p.P99, p.P999, p.Max
		}
	}
	put("", r.Latency)
	put("due ", r.FromDue)
	put("ack ", r.Ack)
	return m
}

func (r *result) rate() float64 {
	if r.Delivered > 0 {
		return r.DlvRate
	}
	return r.PubRate
}

// millions is what CPU is charged to: deliveries, or publishes without them.
func (r *result) millions() float64 {
	return max(r.rate()*r.Seconds, 1) / 1e6
}

func summarise(ts []target, procs []proc, all []result) (out []summary) {
	base := map[int]*result{}
	for i := range all {
		if all[i].Target == ts[0].Name && all[i].Err == "" {
			base[all[i].Round] = &all[i]
		}
	}
	for _, t := range ts {
		s := summary{Target: t.Name, Latency: map[string]stat3{}, Added: map[string]stat3{}, CPU: map[string]stat3{}, Busy: map[string]stat3{}, PeakRSS: map[string]stat3{}}
		v := map[string][]float64{}
		add := func(key string, x float64) { v[key] = append(v[key], x) }
		for i := range all {
			r := &all[i]
			if r.Target != t.Name {
				continue
			}
			s.Lost, s.Unacked = s.Lost+r.Lost, s.Unacked+r.Unacked
			for i, n := range []uint64{r.Dup, r.Reordered, r.Corrupt, r.Rejected, r.Stalls} {
				s.Faults[i] += n
			}
			if r.Err != "" {
				s.Errors = append(s.Errors, r.Err)
				continue
			}
			s.Rounds++
			add("pub", r.PubRate)
			add("dlv", r.DlvRate)
			add("tool", r.Usage.Tool/r.millions())
			add("other", r.Usage.Other/r.Seconds)
			for _, p := range procs {
				add("cpu "+p.name, r.Usage.CPU[p.name]/r.millions())
				add("busy "+p.name, r.Usage.CPU[p.name]/r.Seconds)
				add("rss "+p.name, r.Usage.PeakRSS[p.name])
			}
			b := base[r.Round]
			if b != nil && b.rate() > 0 {
				add("ratio", r.rate()/b.rate())
			}
			for k, x := range r.latencies() {
				add("lat "+k, x)
				if b != nil {
					add("add "+k, x-b.latencies()[k])
				}
			}
		}
		for k, x := range v {
			kind, name, _ := strings.Cut(k, " ")
			if m := map[string]map[string]stat3{"lat": s.Latency, "add": s.Added, "cpu": s.CPU, "busy": s.Busy, "rss": s.PeakRSS}[kind]; m != nil {
				m[name] = stats(x)
			}
		}
		s.Published, s.Delivered, s.Ratio, s.Tool, s.Other = stats(v["pub"]), stats(v["dlv"]), stats(v["ratio"]), stats(v["tool"]), stats(v["other"])
		out = append(out, s)
	}
	return out
}

func (s stat3) format(f string) string {
	return fmt.Sprintf(f+"/"+f+"/"+f, s.Min, s.Med, s.Max)
}

func row(w io.Writer, cells ...any) {
	for _, c := range cells {
		fmt.Fprintf(w, "%v\t", c)
	}
	fmt.Fprintln(w)
}

func cells(first string, rest []string) []any {
	out := []any{first}
	for _, r := range rest {
		out = append(out, r)
	}
	return out
}

func printLoad(tw *tabwriter.Writer, w io.Writer, l *load, rounds int, sum []summary, procs []proc) {
	fmt.Fprintf(w, "%s, %d interleaved rounds; min/median/max over rounds\n\n", l, rounds)
	row(tw, "target", "published/s", "delivered/s", "ratio", "lost", "unacked", "dup", "reord", "corrupt", "rejected", "stalls", "errors")
	for _, s := range sum {
		row(tw, s.Target, s.Published.format("%.0f"), s.Delivered.format("%.0f"), s.Ratio.format("%.2f"), s.Lost, s.Unacked,
			s.Faults[0], s.Faults[1], s.Faults[2], s.Faults[3], s.Faults[4], len(s.Errors))
	}
	tw.Flush()
	qs := []string{"p50", "p90", "p99", "p99.9", "max"}
	for _, set := range []struct{ prefix, title string }{{"", "latency, write to delivery"}, {"due ", "latency, intended send time to delivery"}, {"ack ", "latency, write to final acknowledgement"}} {
		if set.prefix == "due " && l.Rate == 0 {
			continue
		}
		if !slices.ContainsFunc(sum, func(s summary) bool { return len(s.Latency) > 0 && s.Latency[set.prefix+"p50"].Max > 0 }) {
			continue
		}
		fmt.Fprintf(w, "\n%s, µs; + = median of the paired differences to %s\n", set.title, sum[0].Target)
		row(tw, cells("target", append(slices.Clone(qs), "+p50", "+p99"))...)
		for _, s := range sum {
			c := []any{s.Target}
			for _, q := range qs {
				c = append(c, s.Latency[set.prefix+q].format("%.0f"))
			}
			row(tw, append(c, fmt.Sprintf("%+.0f", s.Added[set.prefix+"p50"].Med), fmt.Sprintf("%+.0f", s.Added[set.prefix+"p99"].Med))...)
		}
		tw.Flush()
	}
	fmt.Fprintf(w, "\nCPU seconds per million deliveries (publishes when nobody subscribes) and peak RSS, medians; processes below 2 %% of a row's CPU are left out;\nmqload = this tool, rest = cores used by the rest of the machine\n")
	row(tw, "target", "own", "CPU s/million of each process", "mqload", "rest", "peak RSS MiB")
	for _, s := range sum {
		cpu, busy := busiest(procs, func(name string) float64 { return s.CPU[name].Med })
		var rss []string
		for _, p := range busy {
			rss = append(rss, fmt.Sprintf("%s %.1f", p.name, s.PeakRSS[p.name].Med/(1<<20)))
		}
		own := "-"
		if c, ok := s.CPU[s.Target]; ok {
			own = c.format("%.2f")
		}
		row(tw, s.Target, own, strings.Join(cpu, ", "), fmt.Sprintf("%.2f", s.Tool.Med), fmt.Sprintf("%.2f", s.Other.Med), strings.Join(rss, ", "))
	}
	tw.Flush()
	for _, s := range sum {
		for _, e := range s.Errors {
			fmt.Fprintf(w, "%s: %s\n", s.Target, e)
		}
	}
	fmt.Fprintln(w)
}

func printIdle(tw *tabwriter.Writer, w io.Writer, all []idleResult, procs []proc) {
	row(tw, "target", "connected", "failed", "dropped", "conn/s", "connect p50 µs", "p99 µs", "probed", "probe fail", "probe p50 µs", "p99 µs")
	for _, r := range all {
		row(tw, r.Target, r.Connected, r.Conns-r.Connected, r.Dropped, fmt.Sprintf("%.0f", r.PerSecond), fmt.Sprintf("%.0f", r.Connect.P50),
			fmt.Sprintf("%.0f", r.Connect.P99), r.Probed, r.ProbeFail, fmt.Sprintf("%.0f", r.Probe.P50), fmt.Sprintf("%.0f", r.Probe.P99))
	}
	tw.Flush()
	fmt.Fprintln(w)
	row(tw, "target", "process", "RSS before MiB", "after hold MiB", "per connection B", "3 s after close MiB", "CPU s in hold")
	for _, r := range all {
		named := slices.ContainsFunc(procs, func(p proc) bool { return p.name == r.Target })
		for _, p := range procs { // those that had a part in it
			if named && p.name != r.Target && r.PerConn[p.name] < 100 && r.IdleCPU[p.name] < 0.1 {
				continue
			}
			row(tw, r.Target, p.name, fmt.Sprintf("%.1f", r.RSSBefore[p.name]/(1<<20)), fmt.Sprintf("%.1f", r.RSSAfter[p.name]/(1<<20)),
				fmt.Sprintf("%.0f", r.PerConn[p.name]), fmt.Sprintf("%.1f", r.RSSClosed[p.name]/(1<<20)), fmt.Sprintf("%.2f", r.IdleCPU[p.name]))
		}
	}
	tw.Flush()
	for _, r := range all {
		for why, n := range r.Failures {
			fmt.Fprintf(w, "%s: %d x %s\n", r.Target, n, why)
		}
	}
}

func printChurn(tw *tabwriter.Writer, w io.Writer, ts []target, all []churnResult, procs []proc) {
	row(tw, "target", "connects/s", "dial to CONNACK p50 µs", "p99 µs", "CONNECT to CONNACK p50 µs", "p99 µs", "failed", "CPU s/1000 of each process", "mqload")
	for _, t := range ts {
		v := map[string][]float64{}
		failed := 0
		for _, r := range all {
			if r.Target != t.Name {
				continue
			}
			k := float64(max(r.Connects, 1)) / 1000
			for key, x := range map[string]float64{"rate": r.PerSecond, "p50": r.Connect.P50, "p99": r.Connect.P99, "a50": r.Connack.P50, "a99": r.Connack.P99, "mqload": r.Usage.Tool / k} {
				v[key] = append(v[key], x)
			}
			for _, p := range procs {
				v["cpu "+p.name] = append(v["cpu "+p.name], r.Usage.CPU[p.name]/k)
			}
			for why, n := range r.Failures {
				failed += n
				fmt.Fprintf(w, "%s round %d: %d x %s\n", t.Name, r.Round+1, n, why)
			}
		}
		c := []any{t.Name}
		for _, key := range []string{"rate", "p50", "p99", "a50", "a99"} {
			c = append(c, stats(v[key]).format("%.0f"))
		}
		cpu, _ := busiest(procs, func(name string) float64 { return stats(v["cpu "+name]).Med })
		row(tw, append(c, failed, strings.Join(cpu, ", "), fmt.Sprintf("%.3f", stats(v["mqload"]).Med))...)
	}
	tw.Flush()
}

// busiest lists the processes that make up more than 2 % of the CPU time.
func busiest(procs []proc, cpu func(name string) float64) (cells []string, busy []proc) {
	var sum float64
	for _, p := range procs {
		sum += cpu(p.name)
	}
	for _, p := range procs {
		if c := cpu(p.name); c > sum/50 {
			cells, busy = append(cells, fmt.Sprintf("%s %.3g", p.name, c)), append(busy, p)
		}
	}
	return
}
