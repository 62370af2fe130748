package auth

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/session"
)

// Foresight is what a gate would answer to a CONNECT.
type Foresight struct {
	// Identity is who is admitted; Known says that a users file has the user.
	// In detect-only, who would be refused is not admitted here.
	Identity policy.Identity
	Known    bool

	Reason policy.Reason // why not; ReasonNone: admitted
	Rule   policy.RuleRef
	Why    string // for people; "" when admitted
}

// Foresee says what a gate would answer to a CONNECT as id, whose groups are not
// looked at, for questions about a policy: the gate's own code, for which the
// password, if there is one, is the right one. Without a user name id is
// anonymous. Only users files are asked: where there are other providers, a
// user whom they may know is taken to be admitted. The users files are read;
// their mistakes are the error, as [New] gives it.
func Foresee(cfg *config.Config, engine *policy.Engine, id policy.Identity, password bool) (Foresight, error) {
	named := id.Username != ""
	r := Request{Door: id.Door, Listener: id.Listener, Addr: id.Addr, Connect: &session.ConnectInfo{
		Version: id.Version, ClientID: id.ClientID, Username: id.Username,
		HasUsername: named, HasPassword: named && password,
	}}
	if id.ClientID == "" && id.Door == policy.DoorGateway { // it makes one
		made := strings.TrimSuffix(cfg.Auth.ClientIDTemplate, "*")
		r.Connect.ClientID, r.Connect.Assigned = strings.ReplaceAll(made, "%u", id.Username), true
	}
	only := *cfg
	only.General.BlockMode = true
	only.Auth.Providers = slices.DeleteFunc(slices.Clone(cfg.Auth.Providers), func(p config.Provider) bool { return p.Type != "file" })
	st, err := newState(&only, engine, nil)
	if err != nil {
		return Foresight{}, err
	}
	g := &Gate{tuning: tuning{now: time.Now}, cache: newCache(), lockout: newLockout(), owners: newOwners()}
	g.state.Store(st)
	var done []*job
	var grant Grant
	for need := new(check); need != nil; {
		if grant, need = g.decide(&r, done); need != nil {
			done = append(done, &job{check: *need, right: true})
		}
	}
	if s := grant.Admission.Subject; s != nil {
		id := *s.Identity()
		return Foresight{Identity: id, Known: id.Provider != ""}, nil
	}
	f := Foresight{Reason: grant.Admission.Reason, Rule: grant.Admission.Rule}
	if f.Reason == policy.ReasonBadCredentials && f.Rule != policy.RuleCharacters && len(only.Auth.Providers) < len(cfg.Auth.Providers) && r.Connect.HasPassword {
		return Foresight{Identity: identity(&r)}, nil
	}
	f.Why = st.why(&r, f.Rule)
	return f, nil
}

// why says for people what refuses r.
func (st *state) why(r *Request, rule policy.RuleRef) string {
	switch rule {
	case policy.RuleNoPassword:
		return "a user name without a password is not accepted"
	case policy.RuleUserDisabled:
		return "the user is disabled"
	case policy.RuleUnknownUser:
		return "no users file has this user"
	case policy.RuleProviders:
		if len(st.providers) == 0 {
			return "there is no provider"
		}
		return "the listener asks no provider"
	case policy.RuleAllowAnonymous:
		for _, l := range st.listeners {
			if r.Listener == "" && l.AllowAnonymous != nil && *l.AllowAnonymous {
				return "auth.allow-anonymous is false, but a listener says otherwise: ask with --listener"
			}
		}
		return "allow-anonymous is false"
	case policy.RuleClientIDPattern:
		return "the client id does not match client-id-pattern" + st.beforeCredentials()
	case policy.RuleClientIDLength:
		n := utf8.RuneCountInString(r.Connect.ClientID)
		is, than := "shorter than min-client-id-length", st.ids.min
		if n >= st.ids.min {
			is, than = "longer than max-client-id-length", st.ids.max
		}
		unit := "characters"
		if n == 1 {
			unit = "character"
		}
		return fmt.Sprintf("the client id has %d %s, %s, which is %d", n, unit, is, than) + st.beforeCredentials()
	case policy.RuleClientIDTemplate:
		if matchesTemplate(st.ids.template, r.Connect.ClientID, r.Connect.Username) {
			return "the client id fits another user, of a longer name, too"
		}
		return "the client id does not match client-id-template" + st.beforeCredentials()
	case policy.RuleEmptyClientID:
		if !st.ids.assignable(r.Connect) {
			return "the client id is empty, and client-id-template makes none without a user name that fits"
		}
		return "the client id is empty, which client-id-pattern or min-client-id-length rules out" + st.beforeCredentials()
	case policy.RuleCharacters:
		return "the client id or user name holds a character that brokers do not take"
	}
	return "a deny rule cannot be filled in with this name"
}

// beforeCredentials tells who wonders that it is the client id.
func (st *state) beforeCredentials() string {
	if st.cfg.Auth.Enabled {
		return " (checked before credentials)"
	}
	return ""
}
