package auth

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/session"
)

// Request is one CONNECT that asks to be admitted.
type Request struct {
	Connect  *session.ConnectInfo // not kept after the call that got it returns an answer
	Door     policy.Door
	Listener string
	Addr     netip.Addr // unmapped; invalid when unknown
}

// Grant is an answer. Its Lease is to be given to [Gate.Release] when the
// connection ends. It is nil where no client id is held: of who is refused, of
// who detect-only lets pass, of the empty id.
type Grant struct {
	Admission session.Admission
	Lease     *Lease
}

// Gate is the authentication in force. All methods may be called at once.
type Gate struct {
	// Fixed after New.
	log     *slog.Logger
	tuning  tuning
	cache   *cache
	lockout *lockout
	owners  *owners
	pool    *pool
	changed chan struct{} // holds one value

	state atomic.Pointer[state]

	// Guarded by reload.
	reload sync.Mutex
	watch  *watch // nil: nothing to watch, or closed
	closed bool
}

// tuning is what tests set.
type tuning struct {
	now     func() time.Time
	verify  func(*hash, []byte) bool
	workers int
	quiet   time.Duration // how long files must rest before they are read again
	poll    time.Duration // how often files are looked at without notification
}

// maxRounds bounds how often one Admit hashes: once a provider, and again when
// a user changed meanwhile.
const maxRounds = 16

// New builds the gate of a configuration and starts what it needs (hashing
// pool, file watching); Close ends all of it. An unreadable users file or a
// mistake in one is a [config.Errors].
func New(cfg *config.Config, engine *policy.Engine, log *slog.Logger) (*Gate, error) {
	return newGate(cfg, engine, log, tuning{
		now: time.Now, verify: (*hash).matches, workers: workers(), quiet: time.Second, poll: time.Second,
	})
}

func newGate(cfg *config.Config, engine *policy.Engine, log *slog.Logger, t tuning) (*Gate, error) {
	st, err := newState(cfg, engine, nil)
	if err != nil {
		return nil, err
	}
	g := &Gate{
		log: log, tuning: t,
		cache: newCache(), lockout: newLockout(), owners: newOwners(),
		changed: make(chan struct{}, 1),
	}
	g.pool = newPool(t.workers, t.verify, func(j *job, held bool) {
		g.cache.put(j.pair, j.right, held, t.now())
	})
	g.state.Store(st)
	g.watch = g.startWatch(st)
	return g, nil
}

// Try answers at once, without hashing or I/O, or says that it cannot.
func (g *Gate) Try(r Request) (Grant, bool) {
	grant, need := g.decide(&r, nil)
	return grant, need == nil
}

// Admit answers, hashing if it must. It returns when the context ends at the
// latest, with ReasonAuthBusy; the check then goes on and lands in the cache.
// ReasonAuthBusy is also the answer, at once, when there is no place to wait.
func (g *Gate) Admit(ctx context.Context, r Request) Grant {
	var done []*job
	for range maxRounds {
		grant, need := g.decide(&r, done)
		if need == nil {
			return grant
		}
		j := g.pool.submit(Network(r.Addr), *need)
		if j == nil {
			break
		}
		select {
		case <-j.done:
		case <-ctx.Done():
			g.pool.leave(j)
			return g.busy(&r)
		}
		if !j.valid {
			break
		}
		done = append(done, j)
	}
	return g.busy(&r)
}

func (g *Gate) busy(r *Request) Grant {
	return g.state.Load().refuse(r, policy.ReasonAuthBusy, policy.RuleProviders)
}

// decide takes r through all rules of the newest state, in the order of the
// documentation. Where it meets a password that was not checked, in done or
// before, it returns that check instead of an answer.
func (g *Gate) decide(r *Request, done []*job) (Grant, *check) {
	st, c := g.state.Load(), r.Connect
	if rule := st.ids.check(c); rule != policy.RuleNone {
		return st.refuse(r, policy.ReasonClientID, rule), nil
	}
	if !speakable(c.Username) {
		return st.refuse(r, policy.ReasonBadCredentials, policy.RuleCharacters), nil
	}
	id := identity(r)
	if !st.cfg.Auth.Enabled {
		id.Standing = policy.Claimed
		return g.admit(st, r, id), nil
	}
	now, limits := g.tuning.now(), &st.cfg.Auth.FailureLockout
	key, counted := g.lockout.key(limits, r.Addr, c.Username)
	if counted && g.lockout.locked(key, now) {
		return st.refuse(r, policy.ReasonLockedOut, policy.RuleFailureLockout), nil
	}
	id.Standing = policy.Verified
	if id.Anonymous {
		if !st.anonymous(r.Listener) {
			return st.refuse(r, policy.ReasonNotAllowed, policy.RuleAllowAnonymous), nil
		}
		return g.admit(st, r, id), nil
	}
	guessed := false
	if c.HasUsername && c.HasPassword {
		users := *st.users.Load()
		for i, p := range st.providers {
			if !st.serves(p, r.Listener) {
				continue
			}
			user, h := users[i].find(c.Username)
			if h == nil || !h.candidate(c.Password) {
				continue
			}
			pair := g.cache.pair(c.Username, h, c.Password)
			right, known := outcomeOf(done, pair)
			if !known {
				right, known = g.cache.get(pair, p.ttl, now)
			}
			if !known {
				return Grant{}, &check{pair: pair, hash: h, password: c.Password}
			}
			if right && user != nil && user.enabled() {
				id.Provider, id.Groups, id.Attributes = p.label, user.Groups, user.Attributes
				return g.admit(st, r, id), nil
			}
			guessed = true
		}
	}
	if guessed && counted {
		g.lockout.fail(limits, key, now)
	}
	return st.refuse(r, policy.ReasonBadCredentials, st.unproven(r)), nil
}

// unproven says for the audit alone why no provider takes the credentials of r:
// the client is not told who exists.
func (st *state) unproven(r *Request) policy.RuleRef {
	c := r.Connect
	switch {
	case !c.HasUsername:
		return policy.RuleProviders
	case !c.HasPassword:
		return policy.RuleNoPassword
	}
	rule, users := policy.RuleProviders, *st.users.Load()
	for i, p := range st.providers {
		if !st.serves(p, r.Listener) {
			continue
		}
		switch user, _ := users[i].find(c.Username); {
		case user != nil && user.enabled():
			return policy.RuleWrongPassword
		case user != nil:
			rule = policy.RuleUserDisabled
		case rule == policy.RuleProviders:
			rule = policy.RuleUnknownUser
		}
	}
	return rule
}

// outcomeOf finds p among the checks of this request.
func outcomeOf(done []*job, p pair) (right, known bool) {
	for _, j := range done {
		if j.pair == p {
			return j.right, true
		}
	}
	return false, false
}

// admit gives an accepted identity its client id and its policy.
func (g *Gate) admit(st *state, r *Request, id policy.Identity) Grant {
	if r.Connect.Assigned && !st.ids.assignable(r.Connect) {
		return st.refuse(r, policy.ReasonClientID, policy.RuleEmptyClientID)
	}
	if st.belongsToOther(&id) {
		return st.refuse(r, policy.ReasonClientID, policy.RuleClientIDTemplate)
	}
	if reason, rule := st.engine.Unfit(&id); rule != policy.RuleNone {
		return st.refuse(r, reason, rule)
	}
	lease, ok := g.owners.take(id.ClientID, ownerOf(&id), st.cfg.Auth.Takeover != "any")
	if !ok {
		return st.refuse(r, policy.ReasonClientID, policy.RuleTakeover)
	}
	return Grant{Admission: session.Admission{Subject: st.engine.Bind(id)}, Lease: lease}
}

// Release frees the client id of a lease. Nil, or a lease that was released, is
// nothing to free.
func (g *Gate) Release(l *Lease) { g.owners.release(l) }

// identity is what r claims: unverified until the caller says otherwise.
func identity(r *Request) policy.Identity {
	c := r.Connect
	id := policy.Identity{
		Username: c.Username, ClientID: c.ClientID, Version: c.Version,
		Addr: r.Addr.Unmap(), Listener: r.Listener, Door: r.Door,
	}
	if !c.HasUsername && !c.HasPassword && c.AuthMethod == "" {
		id.Anonymous, id.Groups = true, anonymousGroups
	}
	return id
}

// anonymousGroups are the groups of a client that claims nothing.
var anonymousGroups = []string{"anonymous"}

// Recheck re-evaluates a live identity against the newest users and policy: the
// subject to go on with (possibly the same), or ok false when it is gone. Of
// the client id rules pattern and template count, lengths only at CONNECT.
// Where nothing is blocked, who is gone goes on unverified.
func (g *Gate) Recheck(s *policy.Subject) (subject *policy.Subject, ok bool) {
	st := g.state.Load()
	id := *s.Identity()
	if !st.renew(&id) {
		if st.cfg.General.BlockMode {
			return nil, false
		}
		unverify(&id)
	}
	if s.Engine() == st.engine && sameIdentity(&id, s.Identity()) {
		return s, true
	}
	return st.engine.Bind(id), true
}

// Renew brings a grant that took time up to date: a reload that came meanwhile
// has rechecked live sessions, of which this was none yet. Call it where the
// next recheck cannot pass by: on the session's loop, or under its lock.
func (g *Gate) Renew(grant *Grant) {
	if grant.Admission.Subject == nil {
		return
	}
	s, ok := g.Recheck(grant.Admission.Subject)
	if ok {
		grant.Admission.Subject = s
		return
	}
	grant.Admission = session.Admission{Reason: policy.ReasonBadCredentials, Rule: policy.RuleProviders}
	g.Release(grant.Lease)
	grant.Lease = nil
}

// Users is how many users the users files in force hold together, disabled ones
// included.
func (g *Gate) Users() int {
	n := 0
	for _, u := range *g.state.Load().users.Load() {
		n += len(u.byName)
	}
	return n
}

// Changed receives a value when users changed: live connections are to be
// rechecked. Several changes may be one value. It is for one receiver.
func (g *Gate) Changed() <-chan struct{} { return g.changed }

// Reload puts a new configuration and engine in force; on an error the old
// stays. Cached answers and lock-outs live on: they are bound to the users'
// hashes, and to the clock. It does not send on Changed.
func (g *Gate) Reload(cfg *config.Config, engine *policy.Engine) error {
	g.reload.Lock()
	defer g.reload.Unlock()
	if g.closed {
		return nil
	}
	st, err := newState(cfg, engine, g.state.Load())
	if err != nil {
		return err
	}
	g.watch.stop()
	g.state.Store(st)
	g.watch = g.startWatch(st)
	return nil
}

// Close ends the gate's goroutines and waits for them; a check that runs is
// waited for. What is asked afterwards is answered from what is known, else
// with ReasonAuthBusy. Idempotent.
func (g *Gate) Close() {
	g.reload.Lock()
	defer g.reload.Unlock()
	if g.closed {
		return
	}
	g.closed = true
	g.watch.stop()
	g.watch = nil
	g.pool.close()
}
