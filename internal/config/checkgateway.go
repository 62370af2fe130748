package config

import (
	"fmt"
	"net"
	"slices"
	"strings"
)

func (d *document) checkGateway(cfg *Config, p *path) {
	g := &cfg.Gateway
	lp := p.child("listeners")
	for i := range g.Listeners {
		l := &g.Listeners[i]
		if l.Name == "" {
			l.Name = l.Address
		}
		d.checkListener(l, cfg.Auth.Providers, lp.at(i))
		for j := range i {
			if sameListen(g.Listeners[j].Address, l.Address) {
				d.failAt(lp.at(i).child("address"), fmt.Sprintf("%s has this host and port already", lp.at(j)), "")
			}
		}
	}
	d.uniqueNames(len(g.Listeners), func(i int) string { return g.Listeners[i].Name }, "name", lp)
	up := p.child("upstreams")
	for i := range g.Upstreams {
		d.checkUpstream(&g.Upstreams[i], up.at(i))
	}
	d.uniqueNames(len(g.Upstreams), func(i int) string { return g.Upstreams[i].URL }, "url", up)
	if len(g.Listeners) > 0 && len(g.Upstreams) == 0 {
		d.warnAt(lp, false, "there are listeners but no upstreams: a run needs --upstream mqtt://host:1883")
	}
}

func (d *document) checkListener(l *Listener, providers []Provider, p *path) {
	scheme, _, _, err := ParseListenAddress(l.Address)
	if err != nil {
		return // reported where it stands
	}
	tp := p.child("tls")
	switch encrypted := scheme == "tls" || scheme == "wss"; {
	case !encrypted && d.given(tp):
		want := map[string]string{"tcp": "tls", "ws": "wss"}[scheme]
		d.failAt(tp, "a "+scheme+":// listener has no tls", "write the address with "+want+"://")
	case encrypted && l.TLS.CertFile == "" && !d.refused(tp.child("cert-file")):
		d.failAt(tp, "a "+scheme+":// listener needs tls with cert-file and key-file", "")
	case encrypted:
		d.pair("cert-file", "key-file", l.TLS.CertFile != "", l.TLS.KeyFile != "", tp)
		needsCA := ""
		if l.TLS.ClientAuth == "request" || l.TLS.ClientAuth == "require" {
			needsCA = "client-auth"
		} else if l.TLS.CRLFile != "" {
			needsCA = "crl-file"
		}
		if needsCA != "" && l.TLS.ClientCAFile == "" && !d.refused(tp.child("client-ca-file")) {
			d.failAt(tp.child(needsCA), needsCA+" needs client-ca-file beside it", "")
		}
	}
	if len(l.AllowedOrigins) > 0 && scheme != "ws" && scheme != "wss" {
		d.failAt(p.child("allowed-origins"), "only ws:// and wss:// listeners have origins", "")
	}
	if (l.ProxyProtocol == "accept" || l.ProxyProtocol == "require") && len(l.TrustedProxies) == 0 && !d.refused(p.child("trusted-proxies")) {
		d.failAt(p.child("proxy-protocol"), "proxy-protocol needs trusted-proxies beside it", "anyone could otherwise claim any address")
	}
	if l.Auth != nil {
		d.checkListenerAuth(l.Auth, providers, p.child("auth").child("providers"))
	}
}

func (d *document) checkListenerAuth(a *ListenerAuth, providers []Provider, p *path) {
	var names []string
	for _, pr := range providers {
		if pr.Name != "" {
			names = append(names, pr.Name)
		}
	}
	for i, name := range a.Providers {
		if name == "" || slices.Contains(names, name) {
			continue
		}
		slices.Sort(names)
		names = slices.Compact(names)
		hint := "the named providers are " + strings.Join(names, ", ")
		if near := Suggest(name, names); near != "" {
			hint = fmt.Sprintf("did you mean %q?", near)
		} else if len(names) == 0 {
			hint = `give the provider a "name"`
		}
		d.failAt(p.at(i), "no provider has the name "+d.shown(p.at(i)), hint)
	}
}

func (d *document) checkUpstream(u *Upstream, p *path) {
	scheme, hostport, err := ParseUpstreamURL(u.URL)
	if err != nil {
		return // reported where it stands
	}
	tp := p.child("tls")
	if scheme == "mqtt" && d.given(tp) {
		d.failAt(tp, "an mqtt:// upstream has no tls", "write the url with mqtts://")
	}
	d.pair("cert-file", "key-file", u.TLS.CertFile != "", u.TLS.KeyFile != "", tp)
	d.warnEscaped(u.ClientID, p.child("client-id"))
	if !strings.Contains(u.ClientID, "%c") && !d.refused(p.child("client-id")) {
		d.warnAt(p.child("client-id"), false, "all connections of a user have one id, so each ends the one before at the broker; anonymous clients share one too")
	}
	d.warnEscaped(u.Username, p.child("username"))
	if u.Credentials == "replace" && u.Username == "" && !d.refused(p.child("username")) {
		d.failAt(p.child("credentials"), `"replace" needs username beside it`, "")
	}
	if u.Username != "" && (u.Credentials == "pass" || u.Credentials == "strip") {
		d.failAt(p.child("username"), fmt.Sprintf("credentials is %q, so this would not be used", u.Credentials), `write "credentials": "replace", or leave username out`)
	}
	if u.Password != "" && u.Username == "" && !d.refused(p.child("username")) {
		d.failAt(p.child("password"), "password needs username beside it", "")
	}
	if host, _, _ := net.SplitHostPort(hostport); scheme == "mqtt" && u.Password != "" && !isLoopback(host) {
		d.warnAt(p.child("password"), false, "it crosses the network in plain text; use mqtts:// once this version has it, or a tunnel")
	}
}
