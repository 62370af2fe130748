//go:build linux

package main

// Histogram, /proc readings and the small statistics of the reports.

import (
	"fmt"
	"math"
	"math/bits"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// hist is a log-linear histogram of nanoseconds: 64 steps per power of two,
// so a quantile is at most 1.6 % off.
type hist struct {
	n   uint64
	max int64
	b   [40 * 64]uint32
}

func (h *hist) add(ns int64) {
	v := uint64(max(ns, 0))
	i := int(v)
	if v >= 64 {
		e := bits.Len64(v) - 7
		i = (e+1)*64 + int(v>>e) - 64
	}
	h.b[min(i, len(h.b)-1)]++
	h.n++
	h.max = max(h.max, ns)
}

func (h *hist) merge(o *hist) {
	h.n += o.n
	h.max = max(h.max, o.max)
	for i, v := range o.b {
		h.b[i] += v
	}
}

// quantile returns nanoseconds.
func (h *hist) quantile(q float64) float64 {
	rank, seen := uint64(math.Ceil(q*float64(h.n))), uint64(0)
	for i, v := range h.b {
		if seen += uint64(v); v > 0 && seen >= rank {
			if i < 64 {
				return float64(i)
			}
			e := i/64 - 1
			return min((float64(i%64+64)+0.5)*float64(uint64(1)<<e), float64(h.max))
		}
	}
	return 0
}

// pctl is a histogram's summary in microseconds.
type pctl struct {
	N    uint64  `json:"n"`
	P50  float64 `json:"p50_us"`
	P90  float64 `json:"p90_us"`
	P99  float64 `json:"p99_us"`
	P999 float64 `json:"p999_us"`
	Max  float64 `json:"max_us"`
}

func (h *hist) pctl() pctl {
	us := func(q float64) float64 { return h.quantile(q) / 1e3 }
	return pctl{h.n, us(.5), us(.9), us(.99), us(.999), float64(h.max) / 1e3}
}

// stat3 is minimum, median and maximum over rounds.
type stat3 struct {
	Min float64 `json:"min"`
	Med float64 `json:"med"`
	Max float64 `json:"max"`
}

func stats(v []float64) stat3 {
	if len(v) == 0 {
		return stat3{}
	}
	v = slices.Sorted(slices.Values(v))
	m := v[len(v)/2]
	if len(v)%2 == 0 {
		m = (m + v[len(v)/2-1]) / 2
	}
	return stat3{v[0], m, v[len(v)-1]}
}

// proc is a measured process: its pid and all its descendants.
type proc struct {
	name string
	pids []int
}

// parsePids reads NAME=PID[+PID…], comma separated.
func parsePids(list []string) ([]proc, error) {
	var out []proc
	for _, s := range strings.Split(strings.Join(list, ","), ",") {
		if s == "" {
			continue
		}
		name, ids, ok := strings.Cut(s, "=")
		if !ok {
			return nil, fmt.Errorf("--pid %s: want NAME=PID", s)
		}
		p := proc{name: name}
		for _, f := range strings.Split(ids, "+") {
			pid, err := strconv.Atoi(f)
			if err != nil || statFields(pid) == nil {
				return nil, fmt.Errorf("--pid %s: no process %q", s, f)
			}
			p.pids = append(p.pids, pid)
		}
		p.pids = withChildren(p.pids)
		if i := slices.IndexFunc(out, func(o proc) bool { return o.name == name }); i >= 0 {
			out[i].pids = append(out[i].pids, p.pids...)
		} else {
			out = append(out, p)
		}
	}
	return out, nil
}

// statFields returns the fields of /proc/PID/stat after the command name.
func statFields(pid int) []string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	s := string(b)
	return strings.Fields(s[strings.LastIndexByte(s, ')')+1:])
}

func withChildren(pids []int) []int {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for grown := true; grown; {
		grown = false
		for _, d := range dirs {
			pid, _ := strconv.Atoi(filepath.Base(d))
			f := statFields(pid)
			if len(f) < 2 || slices.Contains(pids, pid) {
				continue
			}
			if ppid, _ := strconv.Atoi(f[1]); slices.Contains(pids, ppid) {
				pids, grown = append(pids, pid), true
			}
		}
	}
	return pids
}

// cpu returns user+system seconds of all threads (10 ms ticks).
func (p proc) cpu() (sec float64) {
	for _, pid := range p.pids {
		if f := statFields(pid); len(f) > 12 {
			sec += (must(strconv.ParseFloat(f[11], 64)) + must(strconv.ParseFloat(f[12], 64))) / 100
		}
	}
	return sec
}

// status sums a "VmXXX: n kB" line over the processes, in bytes.
func (p proc) status(key string) (sum float64) {
	for _, pid := range p.pids {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		for line := range strings.Lines(string(b)) {
			if rest, ok := strings.CutPrefix(line, key+":"); ok {
				sum += 1024 * must(strconv.ParseFloat(strings.Fields(rest)[0], 64))
			}
		}
	}
	return sum
}

// resetPeak makes VmHWM start again from the present RSS.
func (p proc) resetPeak() {
	for _, pid := range p.pids {
		os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0)
	}
}

// machineCPU returns the seconds the machine's cores have been idle (exact,
// while the kernel samples the busy time) and stolen by the host.
func machineCPU() (idle, steal float64) {
	b, _ := os.ReadFile("/proc/stat")
	f := strings.Fields(strings.SplitN(string(b), "\n", 2)[0])
	if len(f) < 9 {
		return
	}
	tick := func(i int) float64 { return must(strconv.ParseFloat(f[i], 64)) / 100 }
	return tick(4) + tick(5), tick(8)
}

// usage is CPU and memory of everything of interest over an interval.
type usage struct {
	CPU     map[string]float64 `json:"cpu_s"`      // per --pid
	PeakRSS map[string]float64 `json:"peak_rss_b"` // per --pid
	Tool    float64            `json:"tool_cpu_s"`
	Other   float64            `json:"other_cpu_s"` // the rest of the machine, stolen time included
	Steal   float64            `json:"steal_s"`
}

// meter starts a measurement; calling the result ends it.
func meter(procs []proc) func() usage {
	self := proc{pids: []int{os.Getpid()}}
	for _, p := range procs {
		p.resetPeak()
	}
	before := make([]float64, len(procs))
	for i, p := range procs {
		before[i] = p.cpu()
	}
	tool, start := self.cpu(), nano()
	idle, steal := machineCPU()
	return func() usage {
		u := usage{CPU: map[string]float64{}, PeakRSS: map[string]float64{}}
		idle2, steal2 := machineCPU()
		u.Tool, u.Steal = self.cpu()-tool, steal2-steal
		u.Other = float64(nano()-start)/1e9*float64(runtime.NumCPU()) - (idle2 - idle) - u.Tool
		for i, p := range procs {
			u.CPU[p.name] = p.cpu() - before[i]
			u.PeakRSS[p.name] = p.status("VmHWM")
			u.Other -= u.CPU[p.name]
		}
		return u
	}
}
