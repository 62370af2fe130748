//go:build linux

// Command agent measures decisions of the agent door: how many a second, and
// what CPU time each costs, side by side with two agents that answer allow
// without looking, in turns in one run. The null agent finds the id in a
// message and no more; the reading agent reads the event with encoding/json
// first (over gRPC, which decodes anyway, they are the same). With --library a
// third one takes part over v2: the proxy's own agent library, in Rust, which
// test/interop builds (cargo build --release --bin null).
//
//	go run ./bench/agent            the table of docs/benchmarks.md: four minutes
//	go run ./bench/agent --smoke    a few seconds: does it still work?
//
// Four connections with 64 events in flight each, frames with a PUBLISH of 120
// bytes, the policy of bench/conf/agent.json; over v1, as the proxy does it,
// ten connections with one event each.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

// The load.
const (
	connections   = 4
	flight        = 64 // events, on each of them
	v1Connections = 10
)

// way is one of the ways to reach an agent.
type way struct {
	name    string
	library bool // the library's agent serves it
	run     func(*server, time.Duration) (decisions int, err error)
}

var ways = []way{
	{"v2 JSON, coalesced writes", true, func(s *server, d time.Duration) (int, error) { return overSocket(s.socket, v2, true, d) }},
	{"v2 JSON, one write a frame", true, func(s *server, d time.Duration) (int, error) { return overSocket(s.socket, v2, false, d) }},
	{"v1, one event a connection", false, func(s *server, d time.Duration) (int, error) { return overSocket(s.socket, v1, false, d) }},
	{"gRPC v1", false, func(s *server, d time.Duration) (int, error) { return overGRPC(s.grpc, v1, d) }},
	{"gRPC v2 (cannot enforce)", false, func(s *server, d time.Duration) (int, error) { return overGRPC(s.grpc, v2, d) }},
}

func main() {
	if len(os.Args) == 4 && (os.Args[1] == "null" || os.Args[1] == "reading") {
		fail(serveNull(os.Args[2], os.Args[3], os.Args[1] == "reading"))
		return
	}
	rounds := flag.Int("rounds", 7, "`number` of turns that each agent gets")
	duration := flag.Duration("duration", 2*time.Second, "of a turn")
	program := flag.String("agent", "", "`path` of the program; not given: it is built")
	library := flag.String("library", "", "`path` of the agent on the proxy's library")
	conf := flag.String("config", filepath.Join("bench", "conf", "agent.json"), "its `configuration`")
	smoke := flag.Bool("smoke", false, "one short turn each")
	flag.Parse()
	if *smoke {
		*rounds, *duration = 1, 200*time.Millisecond
	}
	fail(run(*program, *library, *conf, *rounds, *duration))
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench/agent:", err)
		os.Exit(1)
	}
}

// server is an agent that is measured.
type server struct {
	name         string
	cmd          *exec.Cmd
	socket, grpc string
}

// start starts an agent with SOCKET and, if it serves that, GRPC replaced in
// its arguments, and waits for its doors.
func start(name, dir, path string, args ...string) (*server, error) {
	s := &server{name: name, socket: filepath.Join(dir, name+".sock")}
	for i, a := range args {
		switch a {
		case "SOCKET":
			args[i] = s.socket
		case "GRPC":
			s.grpc = freeAddr()
			args[i] = s.grpc
		}
	}
	s.cmd = exec.Command(path, args...)
	log, err := os.Create(filepath.Join(dir, name+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	for range 200 {
		if ping(s) == nil {
			return s, nil
		}
		time.Sleep(25 * time.Millisecond)
	}
	s.stop()
	text, _ := os.ReadFile(log.Name())
	return nil, fmt.Errorf("%s does not serve:\n%s", name, text)
}

func (s *server) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	_ = s.cmd.Wait()                          // killed by a signal, or not: it is over
}

// cpu is the CPU time of the server's threads so far.
func (s *server) cpu() (time.Duration, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", s.cmd.Process.Pid))
	if err != nil || len(files) == 0 {
		return 0, errors.Join(err, fmt.Errorf("%s has ended", s.name))
	}
	var sum int64
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			continue // a thread that has ended since
		}
		ns, err := strconv.ParseInt(strings.Fields(string(text))[0], 10, 64)
		if err != nil {
			return 0, err
		}
		sum += ns
	}
	return time.Duration(sum), nil
}

// turn is what one agent did in one round.
type turn struct {
	rate float64 // decisions a second
	cost float64 // microseconds of CPU a decision
}

func (s *server) measure(w way, d time.Duration) (turn, error) {
	before, err := s.cpu()
	if err != nil {
		return turn{}, err
	}
	began := time.Now()
	n, err := w.run(s, d)
	if err != nil {
		return turn{}, fmt.Errorf("%s, %s: %w", s.name, w.name, err)
	}
	took := time.Since(began)
	after, err := s.cpu()
	if err != nil {
		return turn{}, err
	}
	return turn{float64(n) / took.Seconds(), float64(after-before) / 1e3 / float64(n)}, nil
}

func run(program, library, conf string, rounds int, duration time.Duration) error {
	dir, err := os.MkdirTemp("", "bench-agent-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if program == "" {
		program = filepath.Join(dir, "sentinel-mqtt-agent")
		if out, err := exec.Command("go", "build", "-o", program, "./cmd/sentinel-mqtt-agent").CombinedOutput(); err != nil {
			return fmt.Errorf("build: %w\n%s", err, out)
		}
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	commands := [][]string{
		{"agent", program, "--socket", "SOCKET", "--grpc-address", "GRPC", "--config", conf, "--log-level", "error"},
		{"null", self, "null", "SOCKET", "GRPC"},
		{"reading", self, "reading", "SOCKET", "GRPC"},
	}
	if library != "" {
		commands = append(commands, []string{"library", library, "SOCKET"})
	}
	servers := make([]*server, len(commands))
	for i, c := range commands {
		s, err := start(c[0], dir, c[1], c[2:]...)
		if err != nil {
			return err
		}
		defer s.stop()
		servers[i] = s
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "\t\tCPU a decision\tagent's, ratio\tdecisions/s")
	for _, w := range ways {
		all := make([][]turn, len(servers))
		for range rounds {
			for i, s := range servers {
				if s.grpc == "" && !w.library {
					continue
				}
				t, err := s.measure(w, duration)
				if err != nil {
					return err
				}
				all[i] = append(all[i], t)
			}
		}
		for i, s := range servers {
			if len(all[i]) == 0 {
				continue
			}
			cost := median(rounds, func(r int) float64 { return all[i][r].cost })
			rate := median(rounds, func(r int) float64 { return all[i][r].rate })
			ratio := median(rounds, func(r int) float64 { return all[0][r].cost / all[i][r].cost })
			fmt.Fprintf(table, "%s\t%s\t%.2f µs\t%.2f (%.2f–%.2f)\t%.0f\n", w.name, s.name, cost[1], ratio[1], ratio[0], ratio[2], rate[1])
		}
	}
	return table.Flush()
}

// median is the least, the middle and the greatest of n figures.
func median(n int, f func(int) float64) [3]float64 {
	var v []float64
	for i := range n {
		v = append(v, f(i))
	}
	slices.Sort(v)
	return [3]float64{v[0], v[n/2], v[n-1]}
}
