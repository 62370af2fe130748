//go:build linux

package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

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
