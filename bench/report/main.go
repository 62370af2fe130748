// Command report prints the table of bench/run from the load tool's JSON.
//
// Every ratio pairs a target with HAProxy in the same round; the median over
// the rounds is printed with its minimum and maximum.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
)

// document is what the load tool writes, as far as the table needs it.
type document struct {
	Results []result `json:"results"`
}

type result struct {
	Target    string  `json:"target"`
	Round     int     `json:"round"`
	Delivered float64 `json:"delivered"`
	Connects  float64 `json:"connects"`
	Lost      int64   `json:"lost"`
	Unacked   int64   `json:"unacked"`
	Errors    string  `json:"error"`
	Latency   struct {
		P50 float64 `json:"p50_us"`
		P99 float64 `json:"p99_us"`
	} `json:"latency_due"`
	Usage struct {
		CPU map[string]float64 `json:"cpu_s"`
	} `json:"usage"`
	PerConn map[string]float64 `json:"rss_per_conn_b"`
	IdleCPU map[string]float64 `json:"hold_cpu_s"`
}

// row is one line of the table: what to take from a result.
type row struct {
	file, title, unit string
	figure            func(r result) float64
}

func cpuPerMillion(r result) float64 { return r.Usage.CPU[r.Target] / r.Delivered * 1e6 }

var rows = []row{
	{"rate2000", "2,000/s QoS 1: CPU a message", "µs", cpuPerMillion},
	{"rate2000", "2,000/s QoS 1: latency p50", "µs", func(r result) float64 { return r.Latency.P50 }},
	{"rate2000", "2,000/s QoS 1: latency p99", "µs", func(r result) float64 { return r.Latency.P99 }},
	{"rate20000", "20,000/s QoS 0: CPU a message", "µs", cpuPerMillion},
	{"ws2000", "WebSocket, 2,000/s QoS 1: CPU a message", "µs", cpuPerMillion},
	{"sink0", "before a sink, QoS 0 64 B: CPU a message", "µs", cpuPerMillion},
	{"sink1", "before a sink, QoS 1 128 B: CPU a message", "µs", cpuPerMillion},
	{"connect", "connect: CPU per 1,000", "ms", func(r result) float64 { return r.Usage.CPU[r.Target] / r.Connects * 1e6 }},
	{"idle-tcp", "idle TCP: memory a connection", "B", func(r result) float64 { return r.PerConn[r.Target] }},
	{"idle-ws", "idle WebSocket: memory a connection", "B", func(r result) float64 { return r.PerConn[r.Target] }},
	{"idle-tcp", "idle TCP: CPU while held", "s", func(r result) float64 { return r.IdleCPU[r.Target] }},
}

var columns = []string{"haproxy", "nginx", "relay", "gateway"}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: report FOLDER")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
}

func run(folder string) error {
	tw := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(tw, "\t%s\n", strings.Join(columns, "\t"))
	var bad []string
	for _, r := range rows {
		data, err := os.ReadFile(filepath.Join(folder, r.file+".json"))
		if err != nil {
			return err
		}
		var doc document
		if err := json.Unmarshal(data, &doc); err != nil {
			return fmt.Errorf("%s: %w", r.file, err)
		}
		base := map[int]float64{}
		values := map[string][]float64{}
		ratios := map[string][]float64{}
		for _, res := range doc.Results { // a round's first target is HAProxy
			if res.Lost+res.Unacked != 0 || res.Errors != "" {
				bad = append(bad, fmt.Sprintf("%s, %s, round %d: lost %d, unacknowledged %d, %s", r.file, res.Target, res.Round, res.Lost, res.Unacked, res.Errors))
			}
			v := r.figure(res)
			name, _, _ := strings.Cut(res.Target, "_")
			if name == columns[0] {
				base[res.Round] = v
			}
			values[name] = append(values[name], v)
			if b := base[res.Round]; b > 0 {
				ratios[name] = append(ratios[name], v/b)
			}
		}
		fmt.Fprintf(tw, "%s", r.title)
		for _, c := range columns {
			fmt.Fprintf(tw, "\t%s", cell(values[c], ratios[c], r.unit))
		}
		fmt.Fprintln(tw)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	slices.Sort(bad)
	for _, b := range slices.Compact(bad) {
		fmt.Println("not clean:", b)
	}
	return nil
}

// cell is "median unit, ratio (min–max)".
func cell(values, ratios []float64, unit string) string {
	if len(values) == 0 {
		return "–"
	}
	text := fmt.Sprintf("%.4g %s", median(values), unit)
	if len(ratios) > 0 {
		text += fmt.Sprintf(", %.2f", median(ratios))
	}
	if len(ratios) > 1 {
		text += fmt.Sprintf(" (%.2f–%.2f)", slices.Min(ratios), slices.Max(ratios))
	}
	return text
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}
