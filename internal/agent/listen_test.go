package agent

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"testing"
)

func TestListen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	first, err := listen(path, 0o660, "")
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, err := listen(path, 0o660, ""); err == nil {
		t.Fatal("a live socket was taken")
	}
	if c, err := net.Dial("unix", path); err != nil {
		t.Errorf("the live socket was harmed: %v", err)
	} else {
		c.Close() // only probed
	}
	// A process that dies leaves its socket behind.
	if err := first.UnixListener.Close(); err != nil {
		t.Fatal(err)
	}
	second, err := listen(path, 0o600, "")
	if err != nil {
		t.Fatalf("a stale socket is in the way: %v", err)
	}
	if err := first.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the first one's end took the second one's socket: %v", err)
	}
	if err := second.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket stays behind: %v", err)
	}
}

func TestListenRefuses(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{"a file": file, "a directory": dir, "no directory": filepath.Join(dir, "no", "s")} {
		if l, err := listen(path, 0o660, ""); err == nil {
			l.Close() // it is the failure
			t.Errorf("%s: listens", name)
		}
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "mine" {
		t.Errorf("the file was touched: %q, %v", b, err)
	}
	if _, err := listen(filepath.Join(dir, "s"), 0o660, "no-such-group-here"); err == nil {
		t.Error("an unknown group is no error")
	}
}
