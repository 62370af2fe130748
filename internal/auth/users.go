package auth

import (
	"crypto/sha256"
	"errors"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
)

// users is one version of a users file. Immutable.
type users struct {
	byName  map[userName]*user
	longest int // bytes of the longest name
	// decoy takes as long as the dearest hash of the file; unknown users are
	// checked against it, so that time does not tell who exists. Nil without
	// users: then there is nothing to tell.
	decoy *hash
	// digest is of the file's bytes.
	digest [sha256.Size]byte
}

// userName is the key of a users file's entry.
type userName string

// UnmarshalText refuses a name that no CONNECT may have.
func (*userName) UnmarshalText(text []byte) error {
	name := string(text)
	switch {
	case name == "":
		return errors.New("a user name cannot be empty")
	case len(name) > math.MaxUint16 || strings.ContainsRune(name, 0):
		return errors.New("no CONNECT can carry this user name: it has more than 65535 bytes or U+0000")
	case !speakable(name):
		return errors.New("a CONNECT with this user name is refused: it holds a control character or one that Unicode has set aside")
	}
	return nil
}

// user is one entry of a users file. Immutable; identities share its slices.
type user struct {
	Hash       *hash             `key:"password_hash" need:"true"`
	Groups     []string          `key:"groups" is:"nonempty"` // each once
	Enabled    *bool             `key:"enabled"`              // nil: yes
	Attributes map[string]string `key:"attributes"`
}

func (u *user) enabled() bool { return u.Enabled == nil || *u.Enabled }

// CheckUsers reads every users file of a configuration as a run would and
// returns everything that is wrong with them: a [config.Errors], or nil.
func CheckUsers(cfg *config.Config) error {
	var all config.Errors
	for i := range cfg.Auth.Providers {
		if p := &cfg.Auth.Providers[i]; p.Type == "file" {
			_, err := loadUsers(p.Path)
			all = join(all, err)
		}
	}
	if all != nil {
		return all
	}
	return nil
}

// join appends the mistakes that err is made of.
func join(all config.Errors, err error) config.Errors {
	var more config.Errors
	errors.As(err, &more) // all of a users file's are
	return append(all, more...)
}

// loadUsers reads and parses the file at path. The error is a [config.Errors].
func loadUsers(path string) (*users, error) {
	data, err := config.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return parseUsers(path, data)
}

// parseUsers parses a users file. The error is a [config.Errors].
func parseUsers(name string, data []byte) (*users, error) {
	var file struct {
		Users map[userName]*user `key:"users" need:"true"`
	}
	if err := config.Decode(name, data, &file); err != nil {
		return nil, err
	}
	u := &users{byName: file.Users, digest: sha256.Sum256(data)}
	for name, entry := range u.byName {
		entry.Groups = unique(entry.Groups)
		u.longest = max(u.longest, len(name))
	}
	if dearest := u.dearest(); dearest != nil {
		u.decoy = dearest.decoy()
	}
	return u, nil
}

// unique drops what stands in list before.
func unique(list []string) []string {
	out := list[:0]
	for _, s := range list {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// dearest is the hash that takes longest. Of equals the first by text, so that
// the choice does not depend on the order of a map.
func (u *users) dearest() *hash {
	var most *hash
	for _, entry := range u.byName {
		h := entry.Hash
		if most == nil || h.price() > most.price() || h.price() == most.price() && h.text < most.text {
			most = h
		}
	}
	return most
}

// find returns the user of a name, nil if there is none, and the hash that its
// password is to be checked against, nil if there is nothing to check.
func (u *users) find(name string) (*user, *hash) {
	if entry := u.byName[userName(name)]; entry != nil {
		return entry, entry.Hash
	}
	return nil, u.decoy
}

// since counts what differs from an older version.
func (u *users) since(old *users) (added, removed, changed int) {
	for name, now := range u.byName {
		switch was := old.byName[name]; {
		case was == nil:
			added++
		case !now.same(was):
			changed++
		}
	}
	return added, len(old.byName) - (len(u.byName) - added), changed
}

// same reports whether two versions of an entry say the same.
func (u *user) same(o *user) bool {
	return u.Hash.text == o.Hash.text && u.enabled() == o.enabled() &&
		slices.Equal(u.Groups, o.Groups) && maps.Equal(u.Attributes, o.Attributes)
}
