package policy

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/topic"
)

// actions are what a rule speaks about.
type actions uint8

const (
	actPublish actions = 1 << iota
	actSubscribe
	actUnsubscribe
	actConnect
)

// rule is one compiled rule of the ACL.
type rule struct {
	label    string
	actions  actions
	allow    bool
	noRetain bool
	limit    byte // max-qos, or topic.NoLimit
	patterns []pattern
	when     *condition // nil: everybody
	values   values     // that its patterns are filled with
	filled   values     // those of patterns with %g, which are filled when bound
}

// compileRule compiles the i-th rule of the configuration.
func (e *Engine) compileRule(cfg *config.Rule, i int) (rule, error) {
	r := rule{label: cfg.Label, allow: cfg.Decision == "allow", limit: topic.NoLimit}
	if r.label == "" {
		r.label = cfg.Name
	}
	if r.label == "" {
		r.label = fmt.Sprintf("rules[%d]", i)
	}
	for _, a := range cfg.Actions {
		switch a {
		case "publish":
			r.actions |= actPublish
		case "subscribe":
			r.actions |= actSubscribe
		case "unsubscribe":
			r.actions |= actUnsubscribe
		case "connect":
			r.actions |= actConnect
		default:
			return rule{}, fmt.Errorf("acl rule %q: unknown action %q", r.label, a)
		}
	}
	if r.actions == 0 {
		r.actions = actPublish | actSubscribe
	}
	if cfg.MaxQoS != nil && *cfg.MaxQoS < 2 {
		r.limit = byte(max(*cfg.MaxQoS, 0))
	}
	r.noRetain = cfg.AllowRetain != nil && !*cfg.AllowRetain
	for _, t := range cfg.Topics {
		p := parsePattern(t)
		if err := topic.CheckFilter(p.example()); err != nil {
			return rule{}, fmt.Errorf("acl rule %q: topic %q: %w", r.label, t, err)
		}
		r.values |= p.values
		if p.perGroup() {
			r.filled |= p.values
		}
		r.patterns = append(r.patterns, p)
	}
	r.when = e.compileCondition(&cfg.Match)
	return r, nil
}

// condition is "match" of a rule: all that is given must hold. What is asked of
// a user name or a client id does not hold where there is none.
type condition struct {
	username, clientID         string
	usernameRegex, clientRegex *regex
	prefix                     netip.Prefix
	groups                     []string
	version                    mqtt.Version
	listener                   string
	attributes                 map[string]string
}

// regex is a regular expression that several rules may share. memo is its place
// in the answers of one binding, -1 when only one rule asks.
type regex struct {
	re   *regexp.Regexp
	memo int
}

func (e *Engine) compileCondition(m *config.Match) *condition {
	c := condition{
		username: m.Username, clientID: m.ClientID,
		usernameRegex: e.intern('u', m.UsernameRegex), clientRegex: e.intern('c', m.ClientIDRegex),
		prefix: unmapPrefix(m.ClientIP), groups: m.Groups,
		version: mqtt.Version(m.ProtocolVersion), listener: m.Listener, attributes: m.Attributes,
	}
	if c.username == "" && c.clientID == "" && c.usernameRegex == nil && c.clientRegex == nil &&
		!c.prefix.IsValid() && len(c.groups) == 0 && c.version == 0 && c.listener == "" && len(c.attributes) == 0 {
		return nil
	}
	return &c
}

// intern gives equal expressions on the same subject one place to remember the
// answer.
func (e *Engine) intern(subject byte, re *regexp.Regexp) *regex {
	if re == nil {
		return nil
	}
	key := string(subject) + re.String()
	if known := e.regexes[key]; known != nil {
		if known.memo < 0 {
			known.memo = e.memos
			e.memos++
		}
		return known
	}
	r := &regex{re: re, memo: -1}
	e.regexes[key] = r
	return r
}

// unmapPrefix writes ::ffff:a.b.c.d/96+n as a.b.c.d/n, since addresses are
// compared unmapped.
func unmapPrefix(p netip.Prefix) netip.Prefix {
	if p.IsValid() && p.Addr().Is4In6() && p.Bits() >= 96 {
		return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p
}

// binding is one evaluation of conditions for an identity.
type binding struct {
	id     *Identity
	groups []string // in force: none when unverified
	memo   []int8   // answers of shared expressions: 1 yes, -1 no
}

func (c *condition) holds(b *binding) bool {
	switch {
	case c == nil:
		return true
	case c.username != "" && c.username != b.id.Username,
		c.clientID != "" && c.clientID != b.id.ClientID,
		c.version != 0 && c.version != b.id.Version,
		c.listener != "" && c.listener != b.id.Listener,
		c.prefix.IsValid() && !c.prefix.Contains(b.id.Addr),
		len(c.groups) > 0 && !slices.ContainsFunc(c.groups, func(g string) bool { return slices.Contains(b.groups, g) }):
		return false
	}
	for name, value := range c.attributes {
		if got, ok := b.id.Attributes[name]; !ok || got != value || b.id.Standing == Unverified {
			return false
		}
	}
	return c.usernameRegex.holds(b.id.Username, b) && c.clientRegex.holds(b.id.ClientID, b)
}

// holds searches, as the description's examples need ("^sensor-").
func (r *regex) holds(s string, b *binding) bool {
	if r == nil {
		return true
	}
	if s == "" {
		return false
	}
	if r.memo < 0 {
		return r.re.MatchString(s)
	}
	if b.memo[r.memo] == 0 {
		b.memo[r.memo] = -1
		if r.re.MatchString(s) {
			b.memo[r.memo] = 1
		}
	}
	return b.memo[r.memo] > 0
}

// values says which of an identity's values a pattern holds.
type values uint8

const (
	valueUsername values = 1 << iota
	valueClientID
	valueGroup
)

// pattern is a topic pattern of a rule: text with %u, %c and %g in it.
type pattern struct {
	text   string
	values values
}

func parsePattern(text string) pattern {
	p := pattern{text: text}
	for i := 0; i+1 < len(text); i++ {
		if text[i] == '%' {
			p.values |= valueOf(text[i+1])
		}
	}
	return p
}

func valueOf(letter byte) values {
	switch letter {
	case 'u':
		return valueUsername
	case 'c':
		return valueClientID
	case 'g':
		return valueGroup
	}
	return 0
}

// perGroup reports whether it is a pattern for each group of a client. Such ones
// are filled when a client is bound, others when a topic is decided.
func (p pattern) perGroup() bool { return p.values&valueGroup != 0 }

// example is the pattern filled with something harmless.
func (p pattern) example() string { return p.with("x", "x", "x") }

func (p pattern) with(username, clientID, group string) string {
	if p.values == 0 {
		return p.text
	}
	var b strings.Builder
	for i := 0; i < len(p.text); i++ {
		if p.text[i] == '%' && i+1 < len(p.text) {
			switch valueOf(p.text[i+1]) {
			case valueUsername:
				b.WriteString(username)
				i++
				continue
			case valueClientID:
				b.WriteString(clientID)
				i++
				continue
			case valueGroup:
				b.WriteString(group)
				i++
				continue
			}
		}
		b.WriteByte(p.text[i])
	}
	return b.String()
}

// fill appends what the pattern is for an identity: nothing where a value is
// not fit, one pattern a group where it holds %g.
func (p pattern) fill(dst []string, b *binding) []string {
	if p.values&valueUsername != 0 && !Fits(b.id.Username) || p.values&valueClientID != 0 && !Fits(b.id.ClientID) {
		return dst
	}
	if p.values&valueGroup == 0 {
		return append(dst, p.with(b.id.Username, b.id.ClientID, ""))
	}
	for _, g := range b.groups {
		if Fits(g) {
			dst = append(dst, p.with(b.id.Username, b.id.ClientID, g))
		}
	}
	return dst
}

// Fits reports whether a user name, client id or group may stand in a template:
// it is valid UTF-8, not empty, without / + # and control characters, and does
// not begin with "$". A client names itself: a value that could change the shape
// of a pattern, or reach "$", never matches.
func Fits(value string) bool {
	if value == "" || value[0] == '$' || !utf8.ValidString(value) {
		return false
	}
	for _, r := range value {
		if r < 0x20 || r >= 0x7f && r < 0xa0 || r == '/' || r == '+' || r == '#' {
			return false
		}
	}
	return true
}
