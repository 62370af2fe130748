package config

import (
	"fmt"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strings"
)

func (d *document) checkAuth(c *Auth, listeners []Listener, p *path) {
	if c.MinClientIDLength > c.MaxClientIDLength {
		at := p.child("min-client-id-length")
		if !d.given(at) {
			at = p.child("max-client-id-length")
		}
		d.failAt(at, fmt.Sprintf("min-client-id-length %d is above max-client-id-length %d: no client id passes", c.MinClientIDLength, c.MaxClientIDLength), "")
	}
	pp := p.child("providers")
	d.uniqueNames(len(c.Providers), func(i int) string { return c.Providers[i].Name }, "name", pp)
	for i := range c.Providers {
		d.checkProvider(&c.Providers[i], pp.at(i))
	}
	anonymous := func(l Listener) bool { return l.Auth != nil && l.Auth.AllowAnonymous != nil && *l.Auth.AllowAnonymous }
	if c.Enabled && len(c.Providers) == 0 && !c.AllowAnonymous && !slices.ContainsFunc(listeners, anonymous) {
		d.warnAt(p.child("enabled"), false, "there is no provider and allow-anonymous is false: every client is refused")
	}
}

// warnUnboundIDs warns where a user may take every client id that is not
// connected: the broker gives the session that it keeps to whoever comes with
// its id, and with it the messages that wait in it.
func (d *document) warnUnboundIDs(cfg *Config, p *path) {
	if !cfg.Auth.Enabled || len(cfg.Gateway.Listeners) == 0 || strings.Contains(cfg.Auth.ClientIDTemplate, "%u") {
		return
	}
	unbound := func(u Upstream) bool { return !strings.Contains(u.ClientID, "%u") }
	if len(cfg.Gateway.Upstreams) == 0 || slices.ContainsFunc(cfg.Gateway.Upstreams, unbound) {
		d.warnAt(p, false, `a user may take any client id that is not connected, and with it the session that the broker keeps for it: write "client-id-template": "%u-*", or "client-id": "%u-%c" for the upstreams`)
	}
}

func (d *document) checkProvider(c *Provider, p *path) {
	switch c.Type {
	case "file":
		if info, err := os.Stat(c.Path); c.Path != "" && err == nil && info.Mode().Perm()&0o004 != 0 && runtime.GOOS != "windows" {
			d.warnAt(p.child("path"), false, fmt.Sprintf("everybody on this machine may read the file (mode %04o) and try passwords on its hashes: chmod 600", info.Mode().Perm()))
		}
	case "jwt":
		d.checkJWT(c, p)
	case "certificate":
		d.checkCertificate(c, p)
	case "http":
		if u, err := url.Parse(c.URL); err == nil && u.Scheme == "http" && !c.AllowHTTP && !isLoopback(u.Hostname()) {
			d.failAt(p.child("url"), "passwords would cross the network in plain text", `use https://, or write "allow-http": true`)
		}
	}
}

func (d *document) checkJWT(c *Provider, p *path) {
	keys := []string{"secret", "public-key-file", "jwks-url"}
	if c.Secret == "" && c.PublicKeyFile == "" && c.JWKSURL == "" {
		for _, k := range keys {
			if d.refused(p.child(k)) {
				return
			}
		}
		d.failAt(p, "the provider has no key to check tokens with", "give secret, public-key-file or jwks-url")
		return
	}
	for i, alg := range c.Algorithms {
		ap := p.child("algorithms").at(i)
		switch hmac := strings.HasPrefix(alg, "HS"); {
		case hmac && c.Secret == "":
			d.failAt(ap, quote(alg)+" needs secret; a public key never verifies it", "")
		case !hmac && alg != "" && c.PublicKeyFile == "" && c.JWKSURL == "":
			d.failAt(ap, quote(alg)+" needs public-key-file or jwks-url; a secret never verifies it", "")
		}
	}
	// RFC 7518, section 3.2: a key at least as long as the hash.
	need := 0
	if c.Secret != "" {
		need = 32
		for alg, n := range map[string]int{"HS384": 48, "HS512": 64} {
			if slices.Contains(c.Algorithms, alg) {
				need = max(need, n)
			}
		}
	}
	if len(c.Secret) < need {
		d.warnAt(p.child("secret"), false, fmt.Sprintf("the secret is shorter than the %d bytes that its algorithm asks for, so tokens can be forged by guessing it", need))
	}
}

func (d *document) checkCertificate(c *Provider, p *path) {
	if c.GroupsFrom != "" && len(c.GroupsAllowed) == 0 && !d.refused(p.child("groups-allowed")) {
		d.failAt(p.child("groups-from"), "groups-from needs groups-allowed beside it", "whoever signs certificates could otherwise name any group")
	}
	if len(c.GroupsAllowed) > 0 && c.GroupsFrom == "" && !d.refused(p.child("groups-from")) {
		d.failAt(p.child("groups-allowed"), "groups-allowed needs groups-from beside it", "")
	}
	d.pair("header", "header-secret", d.given(p.child("header")), d.given(p.child("header-secret")), p)
}
