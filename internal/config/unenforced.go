package config

import (
	"fmt"
	"slices"
	"strings"
)

// gap is something that the schema has and this version does not do. Each
// line that goes away makes the configuration true in one more place.
type gap struct {
	at     string // the key, for the warning's place
	blocks bool   // enabled, it refuses a run
	text   string
	on     func(c *Config) bool
}

// gaps is the whole list, but for what stands in listeners, upstreams and
// providers, see [unenforcedGateway] and [unenforcedTypes].
var gaps = []gap{
	{
		"inspection.enabled", true, "this version does not inspect payloads",
		func(c *Config) bool { return c.Inspection.Enabled },
	},
	{
		"rate-limit.enabled", true, "this version does not limit rates",
		func(c *Config) bool { return c.RateLimit.Enabled },
	},
	{
		"auth.banned-file", true, "this version does not read a banned file",
		func(c *Config) bool { return c.Auth.BannedFile != "" },
	},
	{
		"general.watch", true, `this version watches users files only, so write "files" or "none"; SIGHUP reloads all`,
		func(c *Config) bool { return c.General.Watch == "all" },
	},
	{
		"audit.output", true, "this version does not write to syslog",
		func(c *Config) bool { return c.Audit.Output == "syslog" },
	},
	{
		"audit.payload-excerpt", true, "this version writes no part of payloads",
		func(c *Config) bool { return c.Audit.PayloadExcerpt > 0 },
	},
	{
		"audit.hash-chain", true, "this version does not chain audit lines",
		func(c *Config) bool { return c.Audit.HashChain },
	},
	{
		"admin.console", false, "this version has no console at admin.address, only metrics and health",
		func(c *Config) bool { return c.Admin.Address != "" && c.Admin.Console },
	},
}

// unenforcedTypes are the types of providers that this version does not have.
var unenforcedTypes = []string{"jwt", "certificate", "http"}

// gatewayGap is one of [unenforcedGateway].
type gatewayGap struct {
	at   *path
	what string // the address or URL it is about
	text string
}

// unenforcedGateway finds what this version does not do at listeners and
// upstreams.
func unenforcedGateway(g *Gateway) []gatewayGap {
	var out []gatewayGap
	var top *path
	for i, l := range g.Listeners {
		p := top.child("gateway").child("listeners").at(i)
		if scheme, _, _, err := ParseListenAddress(l.Address); err == nil && (scheme == "tls" || scheme == "wss") {
			out = append(out, gatewayGap{p.child("address"), l.Address, "this version does not listen with TLS"})
		}
		if l.ProxyProtocol != "off" {
			out = append(out, gatewayGap{p.child("proxy-protocol"), l.Address, "this version does not read the PROXY protocol"})
		}
	}
	for i, u := range g.Upstreams {
		p := top.child("gateway").child("upstreams").at(i)
		if scheme, _, err := ParseUpstreamURL(u.URL); err == nil && scheme == "mqtts" {
			out = append(out, gatewayGap{p.child("url"), u.URL, "this version does not use TLS towards the broker"})
		}
		if u.ProxyProtocol != "off" {
			out = append(out, gatewayGap{p.child("proxy-protocol"), u.URL, "this version does not send the PROXY protocol"})
		}
	}
	return out
}

// unenforced warns of everything in cfg that this version does not do.
func (d *document) unenforced(cfg *Config) {
	for _, g := range gaps {
		if g.on(cfg) {
			var p *path
			for key := range strings.SplitSeq(g.at, ".") {
				p = p.child(key)
			}
			d.warnAt(p, g.blocks, g.text)
		}
	}
	for i, pr := range cfg.Auth.Providers {
		if cfg.Auth.Enabled && slices.Contains(unenforcedTypes, pr.Type) {
			var top *path
			d.warnAt(top.child("auth").child("providers").at(i).child("type"), true, fmt.Sprintf("this version has no provider of type %q", pr.Type))
		}
	}
}
