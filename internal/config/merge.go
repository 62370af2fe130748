package config

import (
	"os"
	"slices"
	"strings"
)

// origin is what a configuration was made of.
type origin struct {
	name, dir string
	data      []byte
	env       func(string) (string, bool)
}

// pushable are the sections that a proxy may push, and the keys in them; none
// named: all.
var pushable = map[string][]string{
	"auth": nil, "acl": nil, "inspection": nil, "rate-limit": nil, "qos": nil, "retained": nil,
	"general": {"block-mode", "log-packets"},
}

const pushHint = "it belongs in the agent's own configuration file"

// Merge puts a pushed configuration, a JSON object, over base, which is not
// changed: objects merge by key, everything else replaces. base counts as it
// was read from its file; files that it names are read again. Only what a
// proxy may decide is accepted: auth, acl, inspection, rate-limit, qos,
// retained, general.block-mode and general.log-packets, and in them neither
// files nor providers of type http. ${NAME} in it is text. A scalar stands for
// a list of one, because that is how proxies write it.
//
// The error is an [Errors]; the places of pushed values are pushed:line:column.
func Merge(base *Config, pushed []byte) (*Config, []Warning, error) {
	o := base.origin
	if o == nil {
		o = &origin{data: []byte("{}"), env: os.LookupEnv}
	}
	d := &document{report: &report{}, src: &source{name: o.name, data: o.data}, dir: o.dir, env: o.env}
	more := &document{report: d.report, src: &source{name: "pushed", data: pushed}, dir: o.dir, env: o.env}
	if !d.parse() || !more.parse() || !more.mayBePushed() {
		_, err := d.done()
		return nil, nil, err
	}
	d.src.then, d.src.after = more.src, len(o.data)+1
	more.root.shift(d.src.after)
	d.root.merge(more.root)
	cfg, warnings, err := d.bind()
	if err != nil {
		return nil, warnings, err
	}
	// Whoever made base may have changed it after it was read.
	out := *base
	out.Auth, out.ACL, out.Inspection, out.RateLimit = cfg.Auth, cfg.ACL, cfg.Inspection, cfg.RateLimit
	out.QoS, out.Retained = cfg.QoS, cfg.Retained
	out.General.BlockMode, out.General.LogPackets = cfg.General.BlockMode, cfg.General.LogPackets
	return &out, warnings, nil
}

// mayBePushed reports whether d holds nothing but what proxies may push; keys
// that do not exist are left to bind.
func (d *document) mayBePushed() bool {
	var top *path
	if d.root.kind != kindObject {
		d.wrongType(d.root, top, "an object", false, "")
		return false
	}
	known := shapeOf(typeConfig)
	ok := true
	refuse := func(m *member, p *path) {
		ok = false
		d.fail(m.offset, p, "a pushed configuration cannot set this", pushHint)
	}
	for i := range d.root.members {
		m := &d.root.members[i]
		section := normal(m.name)
		keys, may := pushable[section]
		f := known.byKey[section]
		switch {
		case f == nil:
		case !may:
			refuse(m, top.child(section))
		case keys != nil:
			inside := shapeOf(f.typ)
			for j := range m.value.members {
				k := &m.value.members[j]
				if key := normal(k.name); inside.byKey[key] != nil && !slices.Contains(keys, key) {
					refuse(k, top.child(section).child(key))
				}
			}
		}
	}
	return ok
}

// mayPush is which of the keys known at p a proxy may push.
func mayPush(p *path, known []string) []string {
	if p == nil {
		return slices.DeleteFunc(slices.Clone(known), func(key string) bool { _, may := pushable[key]; return !may })
	}
	if keys := pushable[p.String()]; keys != nil {
		return keys
	}
	return known
}

// shift moves the places of n and of all in it.
func (n *node) shift(by int) {
	n.offset += by
	for _, item := range n.items {
		item.shift(by)
	}
	for i := range n.members {
		n.members[i].offset += by
		n.members[i].value.shift(by)
	}
}

// merge puts the members of p, an object of the later source, into n. A key
// that p has twice stays twice, for bind to refuse.
func (n *node) merge(p *node) {
	own := make(map[string]int, len(n.members))
	for i, o := range slices.Backward(n.members) {
		own[normal(o.name)] = i
	}
	for _, m := range p.members {
		key := normal(m.name)
		i, is := own[key]
		if !is {
			n.members = append(n.members, m)
			continue
		}
		delete(own, key)
		o := &n.members[i]
		o.offset = m.offset
		if o.value.kind == kindObject && m.value.kind == kindObject {
			o.value.merge(m.value)
			continue
		}
		o.value = m.value
	}
}

// scalar reports whether n is a single value.
func (n *node) scalar() bool { return n.kind == kindBool || n.kind == kindNumber || n.kind == kindText }

// Unenforced is an error that names each of the warnings that forbid to run,
// nil when there is none.
func Unenforced(warnings []Warning) error {
	var blocked Errors
	for _, w := range warnings {
		if w.Blocks {
			blocked = append(blocked, &Error{Place: w.Place, Path: w.Path, Text: w.Text})
		}
	}
	if blocked == nil {
		return nil
	}
	return &unenforcedError{blocked}
}

// unenforcedError lists what is enabled and not enforced.
type unenforcedError struct{ each Errors }

func (e *unenforcedError) Error() string {
	return "this version cannot enforce what the configuration enables:\n  " + strings.ReplaceAll(e.each.Error(), "\n", "\n  ")
}

// Unwrap gives each to errors.As, at its place.
func (e *unenforcedError) Unwrap() []error { return e.each.Unwrap() }
