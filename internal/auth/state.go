package auth

import (
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/session"
)

// state is everything that one configuration says about authentication. It is
// immutable but for users, which are replaced as a whole.
type state struct {
	cfg       *config.Config
	engine    *policy.Engine
	ids       idRules
	listeners map[string]*config.ListenerAuth // only those with rules of their own
	providers []*provider

	users atomic.Pointer[[]*users] // by provider
}

// provider is one entry of auth.providers: a users file.
type provider struct {
	label   string // as identities and audit name it; unique
	name    string // "" none
	path    string
	ttl     time.Duration
	watched bool
}

// newState reads everything the configuration names. before, when not nil, is
// the state that the new one replaces: a listener that the new configuration
// does not know keeps its rules for as long as it has connections.
func newState(cfg *config.Config, engine *policy.Engine, before *state) (*state, error) {
	st := &state{cfg: cfg, engine: engine, ids: newIDRules(&cfg.Auth), listeners: map[string]*config.ListenerAuth{}}
	if before != nil {
		maps.Copy(st.listeners, before.listeners)
	}
	for i := range cfg.Gateway.Listeners {
		l := &cfg.Gateway.Listeners[i]
		name := l.Name
		if name == "" {
			name = l.Address
		}
		delete(st.listeners, name)
		if l.Auth != nil {
			st.listeners[name] = l.Auth
		}
	}
	var all []*users
	if cfg.Auth.Enabled {
		var bad config.Errors
		for i := range cfg.Auth.Providers {
			c := &cfg.Auth.Providers[i]
			if c.Type != "file" {
				return nil, fmt.Errorf("auth.providers[%d]: type %q is not in this version", i, c.Type)
			}
			u, err := loadUsers(c.Path)
			bad = join(bad, err)
			all = append(all, u)
			st.providers = append(st.providers, &provider{
				label: label(cfg.Auth.Providers, i), name: c.Name, path: c.Path,
				ttl:     time.Duration(c.CacheTTLSecs) * time.Second,
				watched: c.HotReload && cfg.General.Watch != "none",
			})
		}
		if bad != nil {
			return nil, bad
		}
	}
	st.users.Store(&all)
	return st, nil
}

// label names a provider: by its name, else its type, else, where that would
// name two, by its place. An identity is rechecked against the provider that
// accepted it and no other.
func label(providers []config.Provider, i int) string {
	if providers[i].Name != "" {
		return providers[i].Name
	}
	for j := range providers {
		if j != i && (providers[j].Name == providers[i].Type || providers[j].Name == "" && providers[j].Type == providers[i].Type) {
			return fmt.Sprintf("providers[%d]", i)
		}
	}
	return providers[i].Type
}

// anonymous reports whether a listener admits clients that claim nothing.
func (st *state) anonymous(listener string) bool {
	if l := st.listeners[listener]; l != nil && l.AllowAnonymous != nil {
		return *l.AllowAnonymous
	}
	return st.cfg.Auth.AllowAnonymous
}

// serves reports whether p may accept clients of a listener.
func (st *state) serves(p *provider, listener string) bool {
	l := st.listeners[listener]
	return l == nil || l.Providers == nil || p.name != "" && slices.Contains(l.Providers, p.name)
}

// refuse is the answer to a client that is not admitted. In detect-only it goes
// on under its claimed name, unverified.
func (st *state) refuse(r *Request, reason policy.Reason, rule policy.RuleRef) Grant {
	a := session.Admission{Reason: reason, Rule: rule, By: st.engine}
	if !st.cfg.General.BlockMode {
		id := identity(r)
		unverify(&id)
		a.Subject, a.Detected = st.engine.Bind(id), true
	}
	return Grant{Admission: a}
}

// unverify takes everything off an identity that only a verified one has.
func unverify(id *policy.Identity) {
	id.Standing, id.Provider, id.Groups, id.Attributes = policy.Unverified, "", nil, nil
}

// belongsToOther reports whether the client id of a verified identity is one
// of another user's, disabled or not.
func (st *state) belongsToOther(id *policy.Identity) bool {
	if id.Anonymous || id.Standing != policy.Verified || st.ids.template == "" {
		return false
	}
	all := *st.users.Load()
	longest := 0
	for _, u := range all {
		longest = max(longest, u.longest)
	}
	return belongsToOther(st.ids.template, id.ClientID, id.Username, longest, func(name string) bool {
		return slices.ContainsFunc(all, func(u *users) bool { return u.byName[userName(name)] != nil })
	})
}

// renew brings a live identity up to date and reports whether it would still be
// admitted.
func (st *state) renew(id *policy.Identity) bool {
	if !st.renewed(id) {
		return false
	}
	_, rule := st.engine.Unfit(id)
	return rule == policy.RuleNone
}

func (st *state) renewed(id *policy.Identity) bool {
	if id.Standing == policy.Unverified {
		// Admitted by fail-open in the agent door, or by detect-only.
		return st.cfg.General.FailOpen && id.Door == policy.DoorAgent
	}
	if st.ids.checkForm(id.ClientID, id.Username) != policy.RuleNone {
		return false
	}
	switch {
	case !st.cfg.Auth.Enabled:
		id.Standing, id.Provider, id.Attributes = policy.Claimed, "", nil
		if !id.Anonymous {
			id.Groups = nil
		}
		return true
	case id.Anonymous:
		id.Standing = policy.Verified
		return st.anonymous(id.Listener)
	}
	for i, p := range st.providers {
		if p.label != id.Provider || !st.serves(p, id.Listener) {
			continue
		}
		user, _ := (*st.users.Load())[i].find(id.Username)
		if user == nil || !user.enabled() {
			return false
		}
		id.Groups, id.Attributes = user.Groups, user.Attributes
		return !st.belongsToOther(id)
	}
	// Its provider is gone, or it has none: then nobody has checked this name,
	// and its password is gone.
	return false
}

// sameIdentity reports whether a recheck changed nothing.
func sameIdentity(a, b *policy.Identity) bool {
	return a.Standing == b.Standing && a.Provider == b.Provider &&
		slices.Equal(a.Groups, b.Groups) && maps.Equal(a.Attributes, b.Attributes)
}
