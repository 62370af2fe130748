package app

import (
	"errors"
	"reflect"
	"slices"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
)

// sayReady is the one line that tells an operator what runs.
func (a *App) sayReady() {
	a.mu.Lock()
	defer a.mu.Unlock()
	cfg, mode, file := a.cfg, "enforced", a.opts.File
	if !cfg.General.BlockMode {
		mode = "detect-only"
	}
	if file == "" {
		file = "built-in defaults"
	}
	attrs := []any{
		"version", a.opts.Version, "config", file, "mode", mode,
		"rules", len(cfg.ACL.Rules), "users", a.gate.Users(), "audit", cfg.Audit.Output,
	}
	if a.gateway != nil {
		upstreams := make([]string, len(cfg.Gateway.Upstreams))
		for i := range upstreams {
			upstreams[i] = cfg.Gateway.Upstreams[i].URL
		}
		attrs = append(attrs, "listeners", a.gateway.Listening(), "upstreams", upstreams)
	}
	if a.agent != nil {
		attrs = append(attrs, "socket", a.opts.Socket)
		if addr := a.agent.GRPCAddr(); addr != nil {
			attrs = append(attrs, "grpc", addr.String())
		}
	}
	a.log.Info("ready", attrs...)
}

// sayReloaded says what a reload changed.
func (a *App) sayReloaded(old, now *config.Config, usersBefore int) {
	var sections []string
	was, is := reflect.ValueOf(old).Elem(), reflect.ValueOf(now).Elem()
	for i := range is.NumField() {
		if key := is.Type().Field(i).Tag.Get("key"); key != "" && !reflect.DeepEqual(was.Field(i).Interface(), is.Field(i).Interface()) {
			sections = append(sections, key)
		}
	}
	attrs := []any{"changed", sections, "rules", len(now.ACL.Rules)}
	if slices.Contains(sections, "acl") {
		added, removed, changed := compareRules(old.ACL.Rules, now.ACL.Rules)
		attrs = append(attrs, "rules_added", added, "rules_removed", removed, "rules_changed", changed)
	}
	users := a.gate.Users()
	attrs = append(attrs, "users", users)
	if users != usersBefore {
		attrs = append(attrs, "users_before", usersBefore)
	}
	a.log.Info("reloaded", attrs...)
	if keys := needStart(a.first, now, a.gateway != nil, a.agent != nil); keys != nil {
		a.log.Warn("some changes take effect at the next start", "keys", keys)
	}
}

// needStart are the keys that are in force as they were at the start. Those of
// the gateway's listeners are its own to tell.
func needStart(first, now *config.Config, gateway, agent bool) (keys []string) {
	differ := func(key string, was, is any) {
		if was != is {
			keys = append(keys, key)
		}
	}
	differ("audit.output", first.Audit.Output, now.Audit.Output)
	differ("admin.address", first.Admin.Address, now.Admin.Address)
	if agent {
		differ("agent.socket-mode", first.Agent.SocketMode, now.Agent.SocketMode)
		differ("agent.socket-group", first.Agent.SocketGroup, now.Agent.SocketGroup)
	}
	if !gateway {
		differ("gateway.listeners", false, len(now.Gateway.Listeners) > 0)
		return keys
	}
	differ("gateway.io", first.Gateway.IO, now.Gateway.IO)
	differ("gateway.write-stall-secs", first.Gateway.WriteStallSecs, now.Gateway.WriteStallSecs)
	differ("general.limits.buffer-bytes", first.General.Limits.BufferBytes, now.General.Limits.BufferBytes)
	return keys
}

// compareRules counts by the rules' labels: a rule without a name is known by
// its place.
func compareRules(old, now []config.Rule) (added, removed, changed int) {
	before := make(map[string]*config.Rule, len(old))
	for i := range old {
		before[old[i].Label] = &old[i]
	}
	for i := range now {
		was, known := before[now[i].Label]
		switch {
		case !known:
			added++
		case !reflect.DeepEqual(was, &now[i]):
			changed++
		}
		delete(before, now[i].Label)
	}
	return added, len(before), changed
}

// sayRefused logs each mistake for which a reload was refused, at its place,
// and then that nothing has changed.
func (a *App) sayRefused(err error) {
	mistakes := eachError(err)
	for _, m := range mistakes {
		a.log.Error("mistake in the configuration", mistakeAttrs(m)...)
	}
	a.log.Error("reload failed, the old configuration stays in force", "mistakes", len(mistakes))
}

// mistakeAttrs are the parts of an error that has a place; else its text alone.
func mistakeAttrs(err error) []any {
	var placed *config.Error
	if errors.As(err, &placed) {
		return placed.Attrs()
	}
	return []any{"error", err.Error()}
}

// eachError is the errors that err joins, at any depth; err itself when it
// joins none.
func eachError(err error) (all []error) {
	for e := err; e != nil; e = errors.Unwrap(e) {
		if list, ok := e.(interface{ Unwrap() []error }); ok {
			for _, part := range list.Unwrap() {
				all = append(all, eachError(part)...)
			}
			return all
		}
	}
	return []error{err}
}
