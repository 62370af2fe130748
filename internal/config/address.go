package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// addressError is why an address or URL is not accepted. It never holds the
// address: that could hold a password.
type addressError struct {
	text, hint string
	hides      bool
}

func (e *addressError) Error() string {
	if e.hint == "" {
		return e.text
	}
	return e.text + " (" + e.hint + ")"
}

func addressWrong(err error) *wrong {
	var ae *addressError
	if !errors.As(err, &ae) {
		return nil
	}
	return &wrong{text: ae.text, hint: ae.hint, hides: ae.hides}
}

// ParseListenAddress takes a listener's address apart: scheme tcp, tls, ws or
// wss; host and port as net.Listen takes them, the host empty for every
// address; and for ws and wss the path, "" for any path. A port of 0 is one
// that the system chooses.
func ParseListenAddress(addr string) (scheme, hostport, path string, err error) {
	const example = `for example "tcp://0.0.0.0:1883" or "ws://:8083/mqtt"`
	u, err := splitURL(addr, example, "tcp", "tls", "ws", "wss")
	if err != nil {
		return "", "", "", err
	}
	if u.Path != "" && (u.Scheme == "tcp" || u.Scheme == "tls") {
		return "", "", "", &addressError{text: "is not an address to listen on: only ws:// and wss:// have a path", hint: example}
	}
	if err := checkHostPort(u.Host, true); err != nil {
		return "", "", "", err
	}
	return u.Scheme, u.Host, u.Path, nil
}

// ListenNetwork is what net.Listen is given for a host and port. An IPv4 address
// is IPv4 only: package net takes 0.0.0.0 for the wildcard of both families.
func ListenNetwork(hostport string) string {
	if a, err := netip.ParseAddrPort(hostport); err == nil && a.Addr().Is4() {
		return "tcp4"
	}
	return "tcp"
}

// ParseUpstreamURL takes a broker's URL apart: scheme mqtt or mqtts, and host
// and port as net.Dial takes them, the port being 1883 or 8883 if none is
// given.
func ParseUpstreamURL(s string) (scheme, hostport string, err error) {
	return parseBroker(s, "mqtt", "mqtts")
}

// defaultPorts are those of a broker's URL.
var defaultPorts = map[string]string{"mqtt": "1883", "mqtts": "8883", "ws": "80", "wss": "443"}

func parseBroker(s string, schemes ...string) (scheme, hostport string, err error) {
	const example = `for example "mqtt://127.0.0.1:1883"`
	u, err := splitURL(s, example, schemes...)
	if err != nil {
		return "", "", err
	}
	if u.Path != "" && (u.Scheme == "mqtt" || u.Scheme == "mqtts") {
		return "", "", &addressError{text: "is not a broker's URL: nothing may follow the port", hint: example}
	}
	if u.Hostname() == "" {
		return "", "", &addressError{text: "names no host", hint: example}
	}
	host := u.Host
	if u.Port() == "" {
		host = net.JoinHostPort(u.Hostname(), defaultPorts[u.Scheme])
	}
	if err := checkHostPort(host, false); err != nil {
		return "", "", err
	}
	return u.Scheme, host, nil
}

// meant are the schemes that other programs have for ours.
var meant = map[string]string{"tcp": "mqtt", "tls": "mqtts", "ssl": "mqtts", "mqtt": "tcp", "mqtts": "tls", "http": "ws", "https": "wss"}

// splitURL parses s and refuses what no address here has.
func splitURL(s, example string, schemes ...string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return nil, &addressError{text: "is not an address", hint: example, hides: strings.Contains(s, "@")}
	case u.User != nil:
		return nil, &addressError{text: "holds a user name or password", hint: "give them by the keys username and password", hides: true}
	case !slices.Contains(schemes, u.Scheme) || u.Opaque != "":
		hint := example
		if near := Suggest(u.Scheme, schemes); near != "" && u.Opaque == "" && u.Scheme != "" {
			hint = "did you mean " + near + "://?"
		} else if means := meant[u.Scheme]; slices.Contains(schemes, means) && u.Opaque == "" {
			hint = "did you mean " + means + "://?"
		}
		return nil, &addressError{text: "does not begin with " + strings.Join(schemes, "://, ") + "://", hint: hint, hides: strings.Contains(s, "@")}
	case u.RawQuery != "" || u.Fragment != "" || u.ForceQuery:
		return nil, &addressError{text: "holds a ? or #, which addresses here do not have", hint: example}
	}
	return u, nil
}

// checkHostPort accepts host:port. A listener may leave the host out, and have
// the port 0.
func checkHostPort(s string, listen bool) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return &addressError{text: "is not host:port", hint: `for example "127.0.0.1:1883", or "[::1]:1883"`}
	}
	low := 1
	if listen {
		low = 0
	}
	if n, err := strconv.Atoi(port); err != nil || n < low || n > 65535 || port != strconv.Itoa(n) {
		return &addressError{text: fmt.Sprintf("has a port that is not %d to 65535", low)}
	}
	switch {
	case host == "" && listen:
		return nil
	case isHostName(host):
		return nil
	}
	if _, err := netip.ParseAddr(host); err != nil {
		return &addressError{text: "has a host that is neither a name nor an address"}
	}
	return nil
}

// isHostName accepts letters, digits, "-", "_" and ".", not only digits and
// dots: that would be an address with a mistake in it.
func isHostName(s string) bool {
	name := false
	for _, c := range s {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '-', c == '_':
			name = true
		case c >= '0' && c <= '9', c == '.':
		default:
			return false
		}
	}
	return name && len(s) <= 253
}

// ApplyListen puts listeners and brokers given on the command line in the
// place of the file's. An address or URL that the file has too keeps the
// file's settings; others have the defaults. An empty list changes nothing.
//
// It fails on an address that is none, on one that this version cannot serve,
// and when a rule names a listener that is gone: a deny would be lost with it.
func ApplyListen(cfg *Config, listen, upstream []string) error {
	var errs []error
	if len(listen) > 0 {
		var out []Listener
		for _, addr := range listen {
			if _, _, _, err := ParseListenAddress(addr); err != nil {
				errs = append(errs, flagError("--listen", addr, err))
				continue
			}
			l := listenerDefault()
			l.Address, l.Name = addr, addr
			if i := slices.IndexFunc(cfg.Gateway.Listeners, func(l Listener) bool { return l.Address == addr }); i >= 0 {
				l = cfg.Gateway.Listeners[i]
			}
			if slices.ContainsFunc(out, func(o Listener) bool { return sameListen(o.Address, addr) }) {
				errs = append(errs, fmt.Errorf("--listen %s: given twice", addr))
			}
			out = append(out, l)
		}
		cfg.Gateway.Listeners = out
		for i := range cfg.ACL.Rules {
			if r := &cfg.ACL.Rules[i]; r.Match.Listener != "" && !cfg.Gateway.hasListener(r.Match.Listener) {
				errs = append(errs, fmt.Errorf("--listen takes away the listener %.64q that the rule %.64q names", r.Match.Listener, r.Label))
			}
		}
	}
	if len(upstream) > 0 {
		var out []Upstream
		for _, u := range upstream {
			if _, _, err := ParseUpstreamURL(u); err != nil {
				errs = append(errs, flagError("--upstream", u, err))
				continue
			}
			up := upstreamDefault()
			up.URL = u
			if i := slices.IndexFunc(cfg.Gateway.Upstreams, func(o Upstream) bool { return o.URL == u }); i >= 0 {
				up = cfg.Gateway.Upstreams[i]
			}
			if slices.ContainsFunc(out, func(o Upstream) bool { return o.URL == u }) {
				errs = append(errs, fmt.Errorf("--upstream %s: given twice", u))
			}
			out = append(out, up)
		}
		cfg.Gateway.Upstreams = out
	}
	for _, g := range unenforcedGateway(&cfg.Gateway) {
		errs = append(errs, fmt.Errorf("%s: %s", g.what, g.text))
	}
	return errors.Join(errs...)
}

// flagError names the flag; the value too, unless it may hold a password.
func flagError(flag, value string, err error) error {
	var ae *addressError
	if errors.As(err, &ae) && ae.hides {
		return fmt.Errorf("%s: the value %w", flag, err)
	}
	return fmt.Errorf("%s %.128s: it %w", flag, value, err)
}

// sameListen reports whether two addresses would be listened on twice.
func sameListen(a, b string) bool {
	_, ha, _, errA := ParseListenAddress(a)
	_, hb, _, errB := ParseListenAddress(b)
	return errA == nil && errB == nil && ha == hb && !strings.HasSuffix(ha, ":0")
}

func (g *Gateway) hasListener(name string) bool {
	return slices.ContainsFunc(g.Listeners, func(l Listener) bool { return l.Name == name })
}
