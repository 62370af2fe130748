package config

import (
	"errors"
	"strings"
)

// The ways a reference to the environment can be wrong.
var (
	errNotClosed  = errors.New(`"${" without "}"`)
	errNoVariable = errors.New(`what stands in "${…}" is no name of a variable`)
)

// unsetError is a variable without value and without default.
type unsetError struct{ name string }

func (e *unsetError) Error() string { return "the environment variable " + e.name + " is not set" }

// expand fills the environment into a text of a file. What a proxy pushes is
// not filled: it has no business in the environment of the agent.
func (d *document) expand(n *node) (string, []error) {
	if d.env == nil || d.src.later(n.offset) {
		return n.raw, nil
	}
	return expand(n.raw, d.env)
}

// expand fills ${NAME} and ${NAME:-default} into s; $${ is a literal ${. As in
// a shell the default also stands in for an empty variable. What comes from
// the environment is not expanded again.
func expand(s string, env func(string) (string, bool)) (string, []error) {
	if !strings.Contains(s, "${") {
		return s, nil
	}
	var b strings.Builder
	var errs []error
	for {
		i := strings.Index(s, "${")
		if i < 0 {
			break
		}
		if i > 0 && s[i-1] == '$' {
			b.WriteString(s[:i-1])
			b.WriteString("${")
			s = s[i+2:]
			continue
		}
		b.WriteString(s[:i])
		s = s[i+2:]
		body, rest, closed := strings.Cut(s, "}")
		if !closed {
			errs = append(errs, errNotClosed)
			break
		}
		s = rest
		name, fallback, hasDefault := strings.Cut(body, ":-")
		if !isVariable(name) {
			errs = append(errs, errNoVariable)
			continue
		}
		value, set := env(name)
		switch {
		case set && (value != "" || !hasDefault):
			b.WriteString(value)
		case hasDefault:
			b.WriteString(fallback)
		default:
			errs = append(errs, &unsetError{name})
		}
	}
	b.WriteString(s)
	return b.String(), errs
}

// isVariable reports whether s can be a variable's name: letters, digits and
// "_", not beginning with a digit.
func isVariable(s string) bool {
	for i, c := range s {
		if c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}
