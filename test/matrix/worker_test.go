//go:build matrix

package matrix

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// workers are the programs in other languages that run clients for us.
var workers []*workerProcess

// workerProcess is one of them, started when it is first needed. It takes one
// request a line, {"op": …, "conn": …} and what the operation needs, and gives
// one answer a line, {"error": …} or what the operation yields.
type workerProcess struct {
	language, file string

	// Guarded by mu, which is held over a request.
	mu    sync.Mutex
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines chan []byte // closed when it has ended
	log   testkit.Buffer
}

func (w *workerProcess) start() error {
	argv := map[string][]string{
		"python": {parts.python, w.file},
		"node":   {"node", w.file},
		"java":   {"java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dlogback.configurationFile=parts/logback.xml", "-cp", parts.java, w.file},
	}[w.language]
	w.cmd = exec.Command(argv[0], argv[1:]...)
	w.cmd.Env = append(os.Environ(), "NODE_PATH="+parts.node)
	w.cmd.Stderr = &w.log
	var err error
	if w.in, err = w.cmd.StdinPipe(); err != nil {
		return err
	}
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := w.cmd.Start(); err != nil {
		return err
	}
	lines := make(chan []byte)
	w.lines = lines
	go func() { // ends with the program
		defer close(lines)
		r := bufio.NewReader(out)
		for {
			line, err := r.ReadBytes('\n')
			if err != nil {
				return
			}
			lines <- line
		}
	}()
	return nil
}

// stop ends it: its input ends.
func (w *workerProcess) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cmd == nil {
		return
	}
	w.end()
}

func (w *workerProcess) end() {
	w.in.Close()
	for range w.lines { // to its end
	}
	_ = w.cmd.Wait() // how a worker ends is of no interest
	w.cmd = nil
}

// answer is what any operation yields.
type answer struct {
	ack
	Error    string    `json:"error"`
	Granted  []int     `json:"granted"`
	Messages []message `json:"messages"`
	Gone     string    `json:"gone"`
}

// request is what any operation needs.
type request struct {
	options
	Op       string    `json:"op"`
	Conn     string    `json:"conn"`
	QoS      byte      `json:"qos"`
	Filters  []string  `json:"filters,omitempty"`
	Messages []message `json:"messages,omitempty"`
	Count    int       `json:"count"`
}

func (w *workerProcess) ask(r request) (answer, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cmd == nil {
		if err := w.start(); err != nil {
			return answer{}, fmt.Errorf("start %s: %w", w.file, err)
		}
	}
	text, err := json.Marshal(r)
	if err != nil {
		return answer{}, err
	}
	if _, err := w.in.Write(append(text, '\n')); err != nil {
		return answer{}, fmt.Errorf("%s: %w\n%s", w.file, err, testkit.Tail(w.log.String(), 20))
	}
	var a answer
	limit := time.NewTimer(slow)
	defer limit.Stop()
	select {
	case line, ok := <-w.lines:
		if !ok {
			return a, fmt.Errorf("%s has ended\n%s", w.file, testkit.Tail(w.log.String(), 20))
		}
		if err := json.Unmarshal(line, &a); err != nil {
			return a, fmt.Errorf("%s answered %q: %w", w.file, line, err)
		}
	case <-limit.C:
		// A late answer is not to be taken for the next.
		_ = w.cmd.Process.Kill()
		w.end()
		return a, fmt.Errorf("%s does not answer to %s\n%s", w.file, r.Op, testkit.Tail(w.log.String(), 20))
	}
	if a.Error != "" {
		return a, errors.New(a.Error)
	}
	return a, nil
}

// workerConn is a connection in a worker.
type workerConn struct {
	w    *workerProcess
	name string
	o    options
}

func (w *workerProcess) open(o options) (conn, ack, error) {
	c := &workerConn{w: w, name: unique("conn"), o: o}
	a, err := w.ask(request{Op: "connect", Conn: c.name, options: o})
	return c, a.ack, err
}

func (c *workerConn) do(r request) (answer, error) {
	r.Conn, r.options = c.name, c.o
	return c.w.ask(r)
}

func (c *workerConn) subscribe(qos byte, filters ...string) ([]int, error) {
	a, err := c.do(request{Op: "subscribe", QoS: qos, Filters: filters})
	return a.Granted, err
}

func (c *workerConn) publish(all ...message) error {
	_, err := c.do(request{Op: "publish", Messages: all})
	return err
}

func (c *workerConn) receive(count int) ([]message, error) {
	a, err := c.do(request{Op: "receive", Count: count})
	if err == nil && a.Gone != "" && len(a.Messages) < count {
		err = fmt.Errorf("%d of %d messages: %s", len(a.Messages), count, a.Gone)
	}
	return a.Messages, err
}

func (c *workerConn) disconnect() error {
	_, err := c.do(request{Op: "disconnect"})
	return err
}

func (c *workerConn) drop() error {
	_, err := c.do(request{Op: "drop"})
	return err
}
