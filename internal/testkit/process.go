package testkit

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Buffer is a bytes.Buffer that may be read while it is written.
type Buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write appends.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// String is all that was written so far.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// Process is a running program whose output is kept.
type Process struct {
	Name string
	Out  Buffer        // standard output and error
	Done chan struct{} // closed when it has ended
	Code int           // its exit code, -1 after a signal; set before Done is closed

	cmd *exec.Cmd
}

// Launch starts a program.
func Launch(cmd *exec.Cmd) (*Process, error) {
	p := &Process{Name: filepath.Base(cmd.Path), Done: make(chan struct{}), cmd: cmd}
	cmd.Stdout, cmd.Stderr = &p.Out, &p.Out
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() { // ends with the program
		defer close(p.Done)
		err := cmd.Wait()
		var ee *exec.ExitError
		switch {
		case errors.As(err, &ee):
			p.Code = ee.ExitCode()
		case err != nil:
			p.Code = -1
		}
	}()
	return p, nil
}

// Program builds the program under test into a directory, from a package two
// directories below the top.
func Program(dir string) (string, error) {
	name := filepath.Join(dir, "sentinel-mqtt-agent")
	if out, err := exec.Command("go", "build", "-o", name, "../../cmd/sentinel-mqtt-agent").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return name, nil
}

// PID is its number.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Signal sends a signal; the program may have ended.
func (p *Process) Signal(s os.Signal) { _ = p.cmd.Process.Signal(s) }

// Kill ends the program at once.
func (p *Process) Kill() {
	p.Signal(syscall.SIGKILL)
	<-p.Done
}

// Stop ends the program: politely, then not.
func (p *Process) Stop() {
	p.Signal(syscall.SIGTERM)
	select {
	case <-p.Done:
	case <-time.After(Patience):
		p.Kill()
	}
}

// Ended is nil while the program runs, then what it ended with.
func (p *Process) Ended() error {
	select {
	case <-p.Done:
		return fmt.Errorf("%s ended with %d:\n%s", p.Name, p.Code, p.Tail(40))
	default:
		return nil
	}
}

// Wait waits for the program to end and returns its exit code.
func (p *Process) Wait(t testing.TB) int {
	t.Helper()
	Receive(t, "the end of "+p.Name, p.Done)
	return p.Code
}

// Tail is the last lines of its output.
func (p *Process) Tail(lines int) string { return Tail(p.Out.String(), lines) }

// Tail is the last lines of a text.
func Tail(s string, lines int) string {
	all := strings.Split(s, "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
