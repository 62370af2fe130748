package auth

import (
	"bytes"
	"context"
	"crypto/sha256"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
)

// watch is the goroutine that follows the users files of one state.
type watch struct {
	cancel context.CancelFunc
	done   chan struct{}
}

// stop ends it and waits. On nil it does nothing.
func (w *watch) stop() {
	if w != nil {
		w.cancel()
		<-w.done
	}
}

// startWatch follows st's watched files, if there are any.
func (g *Gate) startWatch(st *state) *watch {
	if !slices.ContainsFunc(st.providers, func(p *provider) bool { return p.watched }) {
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	w := &watch{cancel: cancel, done: make(chan struct{})}
	f := &follower{gate: g, state: st}
	go func() {
		defer close(w.done)
		f.run(ctx)
	}()
	return w
}

// restless is how many times as long as files should rest before they are read
// they may go on changing: a user who was removed must not stay because somebody
// goes on writing.
const restless = 3

// follower reads users files again when they changed: all together, once none
// of them has changed for a while, so that the new half of one never meets the
// old half of another. It watches directories, because files are replaced by
// renaming, by Kubernetes two links away; and it looks at the files now and
// then, because notification is not to be had on every file system.
type follower struct {
	// Fixed.
	gate  *Gate
	state *state

	// Owned by run.
	seen    []os.FileInfo // by provider; nil: not there, or not watched
	failure string        // what the last reading failed with, told once
}

// run ends with ctx.
func (f *follower) run(ctx context.Context) {
	f.seen = make([]os.FileInfo, len(f.state.providers))
	var events chan fsnotify.Event
	var faults chan error
	if w, err := fsnotify.NewWatcher(); err != nil {
		f.gate.log.Warn("users files are polled: no file notification", "error", err)
	} else {
		defer func() { _ = w.Close() }() // nothing is written by it
		events, faults = w.Events, w.Errors
		for _, dir := range f.directories() {
			if err := w.Add(dir); err != nil {
				f.gate.log.Warn("users files are polled: no file notification", "directory", dir, "error", err)
			}
		}
	}
	poll := time.NewTicker(f.gate.tuning.poll)
	defer poll.Stop()
	// The first reading is due at once: a file may have changed since the
	// state was made.
	f.moved()
	quiet := f.gate.tuning.quiet
	rest := time.NewTimer(quiet)
	defer rest.Stop()
	changed := time.Now() // when the first change that was not read came; zero: all were
	for {
		touched := false
		select {
		case <-ctx.Done():
			return
		case e := <-events:
			touched = f.concerns(e.Name) || f.moved()
		case err := <-faults: // events were lost
			f.gate.log.Debug("file notification", "error", err)
			touched = true
		case <-poll.C:
			touched = f.moved()
		case <-rest.C:
			if touched = f.moved(); !touched || time.Since(changed) >= restless*quiet {
				f.read()
				changed = time.Time{}
			}
		}
		if touched {
			if changed.IsZero() {
				changed = time.Now()
			}
			rest.Reset(min(quiet, time.Until(changed.Add(restless*quiet))))
		}
	}
}

// directories are those that hold the watched files.
func (f *follower) directories() []string {
	var dirs []string
	for _, p := range f.state.providers {
		if dir := filepath.Dir(p.path); p.watched && !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// concerns reports whether name is one of the watched files.
func (f *follower) concerns(name string) bool {
	return slices.ContainsFunc(f.state.providers, func(p *provider) bool {
		return p.watched && filepath.Clean(p.path) == filepath.Clean(name)
	})
}

// moved looks at the files and reports whether one differs from what was there
// before.
func (f *follower) moved() bool {
	moved := false
	for i, p := range f.state.providers {
		if !p.watched {
			continue
		}
		now, err := os.Stat(p.path)
		if err != nil {
			now = nil
		}
		if !sameFile(f.seen[i], now) {
			f.seen[i], moved = now, true
		}
	}
	return moved
}

func sameFile(a, b os.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime()) && a.Mode() == b.Mode()
}

// read reads the files and, if all are sound and one has changed, puts them in
// force.
func (f *follower) read() {
	old := *f.state.users.Load()
	all := slices.Clone(old)
	var bad config.Errors
	for i, p := range f.state.providers {
		if !p.watched {
			continue
		}
		data, err := config.ReadFile(p.path)
		if err != nil {
			bad = join(bad, err)
			continue
		}
		if digest := sha256.Sum256(data); bytes.Equal(digest[:], old[i].digest[:]) {
			continue
		}
		all[i], err = parseUsers(p.path, data)
		bad = join(bad, err)
	}
	if bad != nil {
		if failure := bad.Error(); f.failure != failure {
			f.failure = failure
			for _, mistake := range bad {
				f.gate.log.Error("mistake in a users file", mistake.Attrs()...)
			}
			f.gate.log.Error("users files are not usable, the old users stay", "mistakes", len(bad))
		}
		return
	}
	failed := f.failure != ""
	f.failure = ""
	if slices.Equal(all, old) {
		if failed {
			f.gate.log.Info("users files are usable again, and the same as before")
		}
		return
	}
	f.state.users.Store(&all)
	for i, p := range f.state.providers {
		if all[i] != old[i] {
			added, removed, changed := all[i].since(old[i])
			f.gate.log.Info("users file reloaded", "file", p.path, "users", len(all[i].byName),
				"added", added, "removed", removed, "changed", changed)
		}
	}
	select {
	case f.gate.changed <- struct{}{}:
	default: // one value says it already
	}
}
