package config

import (
	"fmt"
	"net"
	"reflect"
	"slices"
	"strings"
)

// MaxRules bounds the rules of the configuration and its rules file together.
const MaxRules = 100_000

// check judges what single values cannot tell: what belongs together, what
// contradicts itself. Values that were refused already have their defaults and
// are not judged again.
func (d *document) check(cfg *Config) {
	var top *path
	d.checkAuth(&cfg.Auth, cfg.Gateway.Listeners, top.child("auth"))
	d.warnUnboundIDs(cfg, top.child("auth").child("enabled"))
	d.checkGateway(cfg, top.child("gateway")) // before acl, which names listeners
	d.checkACL(cfg, top.child("acl"))
	d.checkInspection(&cfg.Inspection, top.child("inspection"))
	d.checkRates(&cfg.RateLimit, top.child("rate-limit"))
	d.checkGRPC(&cfg.Agent.GRPCTLS, top.child("agent").child("grpc-tls"))
	d.checkBroker(&cfg.Broker, top.child("broker"))
	d.checkAdmin(&cfg.Admin, top.child("admin"))
}

// complete sets what follows from other values.
func complete(cfg *Config) {
	fill := func(l *Limit) {
		if l != nil && l.BurstBytes == 0 {
			l.BurstBytes = int(l.BytesPerSecond)
		}
	}
	fill(cfg.RateLimit.PerClient)
	fill(cfg.RateLimit.Global)
	for i := range cfg.RateLimit.PerTopic {
		fill(&cfg.RateLimit.PerTopic[i].Limit)
	}
}

// pair fails when only one of two keys that belong together is given.
func (d *document) pair(a, b string, hasA, hasB bool, p *path) {
	if hasA != hasB {
		has, lacks := a, b
		if hasB {
			has, lacks = b, a
		}
		if d.refused(p.child(lacks)) {
			return
		}
		d.failAt(p.child(has), fmt.Sprintf("%s needs %s beside it", has, lacks), "")
	}
}

// uniqueNames fails on a name that an earlier entry has.
func (d *document) uniqueNames(n int, name func(int) string, key string, p *path) {
	first := map[string]int{}
	for i := range n {
		s := name(i)
		if s == "" {
			continue
		}
		if j, twice := first[s]; twice {
			d.failAt(p.at(i).child(key), fmt.Sprintf("%s has this %s already", p.at(j), key), "")
			continue
		}
		first[s] = i
	}
}

// rulesFile is the file that "acl.rules-file" names.
type rulesFile struct {
	Rules []Rule `key:"rules" need:"true"`
}

func (d *document) checkACL(cfg *Config, p *path) {
	acl := &cfg.ACL
	known := d.ruleNames(nil, acl.Rules, p.child("rules"))
	d.checkRules(acl.Rules, cfg, "", p.child("rules"))
	if acl.RulesFile != "" {
		acl.Rules = append(acl.Rules, d.readRules(cfg, known, p.child("rules-file"))...)
	}
	if len(acl.Rules) > MaxRules {
		d.failAt(p.child("rules"), fmt.Sprintf("found %d rules; accepted: %d", len(acl.Rules), MaxRules), "")
	}
}

// readRules reads the file of "acl.rules-file", which stands at p. Its mistakes
// are placed in it.
func (d *document) readRules(cfg *Config, known map[string]string, p *path) []Rule {
	data, err := readFile(cfg.ACL.RulesFile)
	if err != nil {
		d.failAt(p, "cannot be read: "+err.Error(), "")
		return nil
	}
	more := &document{
		report: d.report, dir: d.dir, env: d.env,
		src: &source{name: cfg.ACL.RulesFile, order: d.src.order + 1, data: data},
	}
	if !more.parse() {
		return nil
	}
	var file rulesFile
	more.fill(reflect.ValueOf(&file).Elem())
	var top *path
	more.ruleNames(known, file.Rules, top.child("rules"))
	more.checkRules(file.Rules, cfg, "rules-file.", top.child("rules"))
	return file.Rules
}

// ruleNames warns of a name that another rule has: audit and explain could not
// tell them apart.
func (d *document) ruleNames(known map[string]string, rules []Rule, p *path) map[string]string {
	if known == nil {
		known = map[string]string{}
	}
	for i := range rules {
		name := rules[i].Name
		if name == "" {
			continue
		}
		if other, twice := known[name]; twice {
			d.warnAt(p.at(i).child("name"), false, fmt.Sprintf("the rule at %s has the same name, so audit and explain do not tell them apart", other))
			continue
		}
		known[name] = p.at(i).String()
	}
	return known
}

// checkRules judges rules and labels them.
func (d *document) checkRules(rules []Rule, cfg *Config, prefix string, p *path) {
	g := &cfg.Gateway
	allows := func(r Rule) bool { return r.Decision == "allow" }
	open := cfg.ACL.DefaultAction == "allow" || slices.ContainsFunc(rules, allows) || slices.ContainsFunc(cfg.ACL.Rules, allows)
	for i := range rules {
		r, rp := &rules[i], p.at(i)
		r.Label = r.Name
		if r.Label == "" {
			r.Label = fmt.Sprintf("%srules[%d]", prefix, i)
		}
		if d.refused(rp) {
			continue
		}
		if len(r.Topics) == 0 && d.wantsTopics(r, rp) {
			d.failAt(rp.child("topics"), "the rule names no topics", `write "topics": ["#"] for all; only a rule whose actions are ["connect"] needs none`)
		}
		if len(r.Topics) > 0 && len(r.Actions) == 1 && r.Actions[0] == "connect" {
			d.warnAt(rp.child("topics"), false, "a rule about connecting does not look at topics")
		}
		if r.Decision == "deny" && open {
			d.warnUnfit(r.Topics, rp.child("topics"))
		}
		if name := r.Match.Listener; name != "" && !g.hasListener(name) {
			lp := rp.child("match").child("listener")
			if len(g.Listeners) == 0 {
				d.warnAt(lp, false, "no listener is configured, so the rule matches nobody")
				continue
			}
			var names []string
			for _, l := range g.Listeners {
				names = append(names, l.Name)
			}
			hint := "the listeners are " + strings.Join(names, ", ")
			if near := Suggest(name, names); near != "" {
				hint = fmt.Sprintf("did you mean %q?", near)
			}
			d.failAt(lp, "no listener has the name "+d.shown(lp), hint)
		}
	}
}

// wantsTopics reports whether a rule without topics is a mistake that was not
// reported already.
func (d *document) wantsTopics(r *Rule, p *path) bool {
	if d.refused(p.child("topics")) || d.refused(p.child("actions")) {
		return false
	}
	if len(r.Actions) == 0 {
		return true
	}
	return slices.ContainsFunc(r.Actions, func(a string) bool { return a != "connect" && a != "" })
}

func (d *document) checkInspection(c *Inspection, p *path) {
	pp := p.child("patterns").child("custom-patterns")
	d.uniqueNames(len(c.Patterns.Custom), func(i int) string { return c.Patterns.Custom[i].Name }, "name", pp)
	for i := range c.Patterns.Custom {
		if re := c.Patterns.Custom[i].Pattern; re != nil && re.MatchString("") {
			d.failAt(pp.at(i).child("pattern"), "the pattern matches an empty payload, so it would block everything", "")
		}
	}
	for i := range c.Payload {
		for j := range c.Payload[i].Fields {
			f, fp := &c.Payload[i].Fields[j], p.child("payload").at(i).child("fields").at(j)
			if f.Min != nil && f.Max != nil && *f.Min > *f.Max {
				d.failAt(fp.child("min"), fmt.Sprintf("min %v is above max %v: no number passes", *f.Min, *f.Max), "")
			}
		}
	}
}

func (d *document) checkRates(c *RateLimit, p *path) {
	sp := p.child("store")
	if c.Store.Type == "redis" && c.Store.URL == "" && !d.refused(sp.child("url")) {
		d.failAt(sp.child("type"), "a store of type redis needs url", `for example "url": "redis://127.0.0.1:6379"`)
	}
	if c.Store.Type == "local" && c.Store.URL != "" {
		d.failAt(sp.child("url"), "a local store has no url", `write "type": "redis"`)
	}
}

func (d *document) checkGRPC(c *GRPCTLS, p *path) {
	d.pair("cert-file", "key-file", c.CertFile != "", c.KeyFile != "", p)
	if c.ClientCAFile != "" && c.CertFile == "" && !d.refused(p.child("cert-file")) {
		d.failAt(p.child("client-ca-file"), "client-ca-file needs cert-file and key-file beside it", "")
	}
}

func (d *document) checkBroker(c *Broker, p *path) {
	if c.Password != "" && c.Username == "" && !d.refused(p.child("username")) {
		d.failAt(p.child("password"), "password needs username beside it", "")
	}
}

func (d *document) checkAdmin(c *Admin, p *path) {
	host, _, err := net.SplitHostPort(c.Address)
	if err == nil && !isLoopback(host) && c.Token == "" {
		d.failAt(p.child("address"), d.shown(p.child("address"))+" can be reached from other machines and there is no token",
			`give "token": "${ADMIN_TOKEN}", or listen on 127.0.0.1`)
	}
}
