//go:build matrix

package matrix

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// patience bounds every single wait for a peer. It is generous: it is only used
// up when something is broken.
const patience = 15 * time.Second

// slow is patience with parts that run on a virtual machine of their own.
const slow = 90 * time.Second

// process is a running program whose output is kept.
type process struct {
	name string
	cmd  *exec.Cmd
	out  *buffer
	done chan struct{} // closed when it has ended

	// Set before done is closed.
	code int
}

// buffer is a bytes.Buffer that may be read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// launch starts a program.
func launch(dir, name string, args ...string) (*process, error) {
	p := &process{name: filepath.Base(name), cmd: exec.Command(name, args...), out: new(buffer), done: make(chan struct{})}
	p.cmd.Dir = dir
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go p.reap() // ends with the program
	return p, nil
}

func (p *process) reap() {
	defer close(p.done)
	err := p.cmd.Wait()
	var ee *exec.ExitError
	switch {
	case errors.As(err, &ee):
		p.code = ee.ExitCode()
	case err != nil:
		p.code = -1
	}
}

// stop ends the program: politely, then not.
func (p *process) stop() {
	p.signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(patience):
		p.kill()
	}
}

func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.done
}

func (p *process) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) } // it may have ended

// ended says whether it has, and with what.
func (p *process) ended() error {
	select {
	case <-p.done:
		return fmt.Errorf("%s ended with %d:\n%s", p.name, p.code, tail(p.out.String(), 40))
	default:
		return nil
	}
}

func tail(s string, lines int) string {
	all := strings.Split(s, "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// poll asks until ok or the time is used up.
func poll(what string, limit time.Duration, ok func() bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%s: not within %v", what, limit)
		}
	}
	return nil
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	if err := poll(what, patience, ok); err != nil {
		t.Fatal(err)
	}
}

// nextPort is where freePort looks next: below the ports that the system hands
// out to connections, lest one of them takes it before who is to listen.
var nextPort atomic.Int64

func init() { nextPort.Store(int64(os.Getpid())) }

// freePort is a port that was free a moment ago, on every address: Mosquitto
// 2.0 listens on all.
func freePort() int {
	for {
		port := int(20000 + nextPort.Add(1)%12000)
		l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
		if err != nil {
			continue
		}
		l.Close()
		return port
	}
}

var counter atomic.Int64

// unique is a name that no other case uses.
func unique(prefix string) string { return fmt.Sprintf("%s-%d", prefix, counter.Add(1)) }
