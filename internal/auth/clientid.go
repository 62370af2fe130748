package auth

import (
	"strings"
	"unicode/utf8"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/session"
)

// idRules are the rules for client ids. They hold for anonymous clients too,
// and with authentication off.
type idRules struct {
	pattern  config.Regexp // nil: none
	min, max int           // characters; max 0: no limit
	template string        // "": none
}

func newIDRules(a *config.Auth) idRules {
	return idRules{
		pattern: a.ClientIDPattern, min: a.MinClientIDLength, max: a.MaxClientIDLength, template: a.ClientIDTemplate,
	}
}

// check returns what refuses the client id of c, or RuleNone. What is wrong
// with an id that the gateway assigned is the user name in it, which is looked
// at later, or that the client sent none.
func (r *idRules) check(c *session.ConnectInfo) policy.RuleRef {
	if c.Assigned || c.ClientID == "" {
		if r.pattern != nil || r.min > 0 {
			return policy.RuleEmptyClientID
		}
		if c.Assigned {
			return policy.RuleNone
		}
	} else if n := utf8.RuneCountInString(c.ClientID); n < r.min || r.max > 0 && n > r.max {
		return policy.RuleClientIDLength
	}
	if rule := r.checkForm(c.ClientID, c.Username); rule != policy.RuleNone {
		return rule
	}
	if !speakable(c.ClientID) {
		return policy.RuleCharacters
	}
	return policy.RuleNone
}

// assignable reports whether an id that the gateway assigned is one of the
// template: not if the user name does not fit into it, and not if a reload has
// changed it meanwhile.
func (r *idRules) assignable(c *session.ConnectInfo) bool {
	return r.template == "" || matchesTemplate(r.template, c.ClientID, c.Username)
}

// checkForm is what of check can be told of a live connection, which may have
// an assigned id: pattern and template.
func (r *idRules) checkForm(id, username string) policy.RuleRef {
	if r.pattern != nil && !matchesWhole(r.pattern, id) {
		return policy.RuleClientIDPattern
	}
	if r.template != "" && !matchesTemplate(r.template, id, username) {
		return policy.RuleClientIDTemplate
	}
	return policy.RuleNone
}

// matchesWhole reports whether re's match is all of s. The configuration
// anchors the pattern when it is bound; one that is not may refuse more than it
// should but never accepts a part.
func matchesWhole(re config.Regexp, s string) bool {
	at := re.FindStringIndex(s)
	return at != nil && at[0] == 0 && at[1] == len(s)
}

// matchesTemplate compares id with a template in which %u is the user name and
// one trailing * stands for anything. A user name that could not be told from
// its surroundings matches nothing.
func matchesTemplate(template, id, username string) bool {
	template, open := strings.CutSuffix(template, "*")
	if strings.Contains(template, "%u") {
		if !policy.Fits(username) {
			return false
		}
		template = strings.ReplaceAll(template, "%u", username)
	}
	if open {
		return strings.HasPrefix(id, template)
	}
	return id == template
}

// belongsToOther reports whether id, which template gives to username, fits a
// user of a longer name too, whose it then is: by "%u-*" the id bob-x-1 is one
// of bob's only while there is no user bob-x. longest is the bytes of the
// longest name, known says which names there are.
func belongsToOther(template, id, username string, longest int, known func(string) bool) bool {
	at := strings.Index(template, "%u")
	if at < 0 || !strings.HasSuffix(template, "*") || len(id) <= at {
		return false
	}
	rest := id[at:] // behind what stands before the name
	for n := len(username) + 1; n <= min(longest, len(rest)); n++ {
		if known(rest[:n]) && matchesTemplate(template, id, rest[:n]) {
			return true
		}
	}
	return false
}

// speakable reports whether brokers take a client id or a user name: Mosquitto
// closes the connection over the characters that the standard advises against,
// control characters and those that Unicode has set aside, and the client would
// be told that the broker is away.
func speakable(s string) bool {
	for _, r := range s {
		if r < 0x20 || r >= 0x7f && r < 0xa0 || r >= 0xfdd0 && r <= 0xfdef || r&0xfffe == 0xfffe {
			return false
		}
	}
	return true
}
