package app

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
)

// push is what the proxy has pushed. Guarded by App.mu but for compiling.
type push struct {
	last    []byte  // in force, compact; nil: none
	refused refusal // the last one that was refused
	busy    <-chan struct{}

	compiling sync.WaitGroup
}

// refusal is a pushed configuration and why it is not in force.
type refusal struct {
	raw []byte
	err error
}

// The bounds of a pushed configuration, beside those of its regular
// expressions (package config): its size, compact, how many values are in it,
// since the shortest take a thousand times their length, and how long it may
// take to be read and compiled. Decisions go on meanwhile.
const (
	maxPush       = 2 << 20
	maxPushValues = 150_000 // some thirty thousand short rules
	compileTime   = 2 * time.Second
)

var (
	errPushSize    = fmt.Errorf("the pushed configuration has more than %d bytes or %d values: put its rules into the agent's own file", maxPush, maxPushValues)
	errCompileTime = fmt.Errorf("the policy takes longer than %v to be compiled", compileTime)
	errCompileBusy = errors.New("an earlier configuration is still being compiled")
)

// Push puts a configuration of the proxy's over the file's, in place of the one
// pushed before. It is in force when Push returns, or, with an error, nothing
// has changed. Proxies push the same one on each connection: that costs nothing.
// raw is not kept. Push may be called from several goroutines.
func (a *App) Push(raw []byte) error {
	var compact bytes.Buffer
	if err := json.Compact(&compact, raw); err != nil {
		return fmt.Errorf("the pushed configuration is not JSON: %w", err)
	}
	if compact.Len() > maxPush || values(compact.Bytes()) > maxPushValues {
		return errPushSize
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	switch key := compact.Bytes(); {
	case a.stopped:
		return errors.New("the agent is stopping")
	case a.push.last != nil && bytes.Equal(key, a.push.last):
		return nil
	case a.push.refused.err != nil && bytes.Equal(key, a.push.refused.raw):
		return a.push.refused.err
	}
	err := a.apply(compact.Bytes())
	switch {
	case errors.Is(err, errCompileBusy):
	case err != nil:
		a.push.refused = refusal{compact.Bytes(), err}
	default:
		a.push.last, a.push.refused = compact.Bytes(), refusal{}
		a.log.Info("configuration pushed by the proxy is in force", "bytes", compact.Len())
	}
	return err
}

// values is how many values JSON has at most: commas in a text count as well.
func values(compact []byte) (n int) {
	for _, c := range compact {
		if c == ',' || c == '[' || c == '{' {
			n++
		}
	}
	return n
}

// apply compiles a pushed configuration within its bounds and puts it in
// force. The caller holds mu.
func (a *App) apply(raw []byte) error {
	type outcome struct {
		cfg    *config.Config
		engine *policy.Engine
		err    error
	}
	if a.push.busy != nil {
		select {
		case <-a.push.busy:
		default:
			return errCompileBusy
		}
	}
	base := a.base
	done, ended := make(chan outcome, 1), make(chan struct{})
	a.push.busy = ended
	a.push.compiling.Go(func() { // ends by itself; nobody waits for longer than compileTime
		defer close(ended)
		var o outcome
		if o.cfg, o.err = merge(base, raw); o.err == nil {
			o.engine, o.err = policy.Compile(o.cfg)
		}
		done <- o
	})
	limit := time.NewTimer(compileTime)
	defer limit.Stop()
	select {
	case o := <-done:
		a.push.busy = nil
		if o.err != nil {
			return o.err
		}
		return a.swap(o.cfg, o.engine)
	case <-limit.C:
		return errCompileTime
	}
}

// merge is the configuration in force with raw pushed. What this version does
// not enforce is refused.
func merge(base *config.Config, raw []byte) (*config.Config, error) {
	cfg, warnings, err := config.Merge(base, raw)
	if err == nil {
		err = config.Unenforced(warnings)
	}
	if err != nil {
		return nil, err
	}
	return cfg, nil
}
