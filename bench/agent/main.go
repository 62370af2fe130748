//go:build linux

// Command agent measures decisions of the agent door: how many a second, and
// what CPU time each costs, side by side with two agents that answer allow
// without looking, in turns in one run. The null agent finds the id in a
// message and no more; the reading agent reads the event with encoding/json
// first (over gRPC, which decodes anyway, they are the same).
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
	name string
	run  func(*server, time.Duration) (decisions int, err error)
}

var ways = []way{
	{"v2 JSON, coalesced writes", func(s *server, d time.Duration) (int, error) { return overSocket(s.socket, v2, true, d) }},
	{"v2 JSON, one write a frame", func(s *server, d time.Duration) (int, error) { return overSocket(s.socket, v2, false, d) }},
	{"v1, one event a connection", func(s *server, d time.Duration) (int, error) { return overSocket(s.socket, v1, false, d) }},
	{"gRPC v1", func(s *server, d time.Duration) (int, error) { return overGRPC(s.grpc, v1, d) }},
	{"gRPC v2 (cannot enforce)", func(s *server, d time.Duration) (int, error) { return overGRPC(s.grpc, v2, d) }},
}

func main() {
	if len(os.Args) == 4 && (os.Args[1] == "null" || os.Args[1] == "reading") {
		fail(serveNull(os.Args[2], os.Args[3], os.Args[1] == "reading"))
		return
	}
	rounds := flag.Int("rounds", 7, "`number` of turns that each agent gets")
	duration := flag.Duration("duration", 2*time.Second, "of a turn")
	program := flag.String("agent", "", "`path` of the program; not given: it is built")
	conf := flag.String("config", filepath.Join("bench", "conf", "agent.json"), "its `configuration`")
	smoke := flag.Bool("smoke", false, "one short turn each")
	flag.Parse()
	if *smoke {
		*rounds, *duration = 1, 200*time.Millisecond
	}
	fail(run(*program, *conf, *rounds, *duration))
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

// start starts an agent and waits for its doors.
func start(name, dir, grpc, path string, args ...string) (*server, error) {
	s := &server{name: name, socket: filepath.Join(dir, name+".sock"), grpc: grpc}
	for i, a := range args {
		args[i] = strings.NewReplacer("SOCKET", s.socket, "GRPC", grpc).Replace(a)
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

func run(program, conf string, rounds int, duration time.Duration) error {
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
	servers := make([]*server, 3)
	for i, args := range [][]string{
		{"null", self, "null", "SOCKET", "GRPC"},
		{"reading", self, "reading", "SOCKET", "GRPC"},
		{"agent", program, "--socket", "SOCKET", "--grpc-address", "GRPC", "--config", conf, "--log-level", "error"},
	} {
		s, err := start(args[0], dir, freeAddr(), args[1], args[2:]...)
		if err != nil {
			return err
		}
		defer s.stop()
		servers[i] = s
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 8, 1, ' ', 0)
	fmt.Fprintln(table, "CPU a decision\tnull\treading\tagent\tto null\tto reading\tdecisions/s: null\treading\tagent")
	for _, w := range ways {
		all := make([][]turn, len(servers))
		for range rounds {
			for i, s := range servers {
				t, err := s.measure(w, duration)
				if err != nil {
					return err
				}
				all[i] = append(all[i], t)
			}
		}
		fmt.Fprint(table, w.name)
		for i := range servers {
			fmt.Fprintf(table, "\t%.2f µs", median(rounds, func(r int) float64 { return all[i][r].cost })[1])
		}
		for i := range 2 {
			v := median(rounds, func(r int) float64 { return all[2][r].cost / all[i][r].cost })
			fmt.Fprintf(table, "\t%.2f (%.2f–%.2f)", v[1], v[0], v[2])
		}
		for i := range servers {
			fmt.Fprintf(table, "\t%.0f", median(rounds, func(r int) float64 { return all[i][r].rate })[1])
		}
		fmt.Fprintln(table)
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
