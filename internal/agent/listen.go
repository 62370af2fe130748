package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// listener is our Unix socket.
type listener struct {
	*net.UnixListener
	path string
	info fs.FileInfo // of the socket that we made
}

// probeTime is how long a process on the path has to take a connection before
// it counts as dead; a full backlog is alive.
const probeTime = time.Second

// listen makes the socket. A path that somebody listens on, or that is no
// socket, is an error and stays untouched.
func listen(path string, mode fs.FileMode, group string) (*listener, error) {
	gid, err := groupID(group)
	if err != nil {
		return nil, err
	}
	defer lockDir(filepath.Dir(path))()
	if err := clearStale(path); err != nil {
		return nil, err
	}
	// On Linux the file gets the mode of the unbound socket: until it has its
	// group and mode nobody else connects.
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if e := c.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), 0o600) }); e != nil { //nolint:gosec // a descriptor
			return e
		}
		if errors.Is(err, unix.EINVAL) {
			return nil // not on this system
		}
		return err
	}}
	l, err := lc.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	ul := l.(*net.UnixListener)
	ul.SetUnlinkOnClose(false)
	out := &listener{UnixListener: ul, path: path}
	if out.info, err = os.Lstat(path); err == nil && gid >= 0 {
		err = os.Chown(path, -1, gid)
	}
	if err == nil {
		err = os.Chmod(path, mode)
	}
	if err != nil {
		return nil, errors.Join(err, out.Close())
	}
	return out, nil
}

// clearStale takes a stale socket off the path.
func clearStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return errors.New("the path exists and is not a socket")
	}
	c, err := net.DialTimeout("unix", path, probeTime)
	switch {
	case err == nil:
		_ = c.Close() // only probed
		return errors.New("another agent is serving on it")
	case errors.Is(err, unix.ECONNREFUSED):
		return os.Remove(path)
	case errors.Is(err, fs.ErrNotExist):
		return nil
	}
	return fmt.Errorf("probe for another agent: %w", err)
}

// lockDir keeps two starting agents from taking each other's socket for a
// stale one. A lock that somebody else holds on a shared directory, or a
// directory that cannot be read, delays the start by a second at most.
func lockDir(dir string) (unlock func()) {
	d, err := os.Open(dir) //nolint:gosec // the operator's path
	if err != nil {
		return func() {}
	}
	for range 100 {
		err = unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB) //nolint:gosec // a descriptor
		if !errors.Is(err, unix.EWOULDBLOCK) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	return func() { _ = d.Close() } // closing unlocks
}

func groupID(name string) (int, error) {
	if name == "" {
		return -1, nil
	}
	if gid, err := strconv.Atoi(name); err == nil {
		return gid, nil
	}
	g, err := user.LookupGroup(name)
	if err != nil {
		return -1, err
	}
	return strconv.Atoi(g.Gid)
}

// Close stops listening and takes the socket off the path, if it still is
// ours.
func (l *listener) Close() error {
	err := l.UnixListener.Close()
	info, e := os.Lstat(l.path)
	// Inodes are used again: the time of making tells, too.
	if e == nil && l.info != nil && os.SameFile(info, l.info) && info.ModTime().Equal(l.info.ModTime()) {
		e = os.Remove(l.path)
	}
	if errors.Is(e, fs.ErrNotExist) {
		e = nil
	}
	return errors.Join(err, e)
}
