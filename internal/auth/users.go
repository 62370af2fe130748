package auth

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/tailscale/hujson"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
)

// maxUsersFile bounds the bytes of a users file.
const maxUsersFile = 64 << 20

// users is one version of a users file. Immutable.
type users struct {
	byName  map[string]*user
	longest int // bytes of the longest name
	// decoy takes as long as the dearest hash of the file; unknown users are
	// checked against it, so that time does not tell who exists. Nil without
	// users: then there is nothing to tell.
	decoy *hash
	// digest is of the file's bytes.
	digest [sha256.Size]byte
}

// user is one entry of a users file. Immutable; identities share its slices.
type user struct {
	hash       *hash
	groups     []string
	attributes map[string]string
	enabled    bool
}

// UsersFileError is one mistake in a users file, or, with Line 0, why it could
// not be read.
type UsersFileError struct {
	File         string
	Line, Column int    // from 1; the column counts characters
	Path         string // users.alice.groups[0]; "" for the document
	Hint         string // what to do; "" when the error says it
	Err          error
}

// Error is one line, without the hint.
func (e *UsersFileError) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", e.Line, e.Column)
	}
	b.WriteString(": ")
	if e.Path != "" {
		b.WriteString(e.Path)
		b.WriteString(": ")
	}
	b.WriteString(e.Err.Error())
	return b.String()
}

// Unwrap returns e.Err.
func (e *UsersFileError) Unwrap() error { return e.Err }

// Attrs are the parts of e for a line of a log.
func (e *UsersFileError) Attrs() (attrs []any) {
	place := e.File
	if e.Line > 0 {
		place = fmt.Sprintf("%s:%d:%d", place, e.Line, e.Column)
	}
	attrs = append(attrs, "place", place)
	if e.Path != "" {
		attrs = append(attrs, "key", e.Path)
	}
	attrs = append(attrs, "error", e.Err.Error())
	if e.Hint != "" {
		attrs = append(attrs, "hint", e.Hint)
	}
	return attrs
}

// CheckUsersFile reads the users file at path as the provider "file" would and
// returns everything that is wrong with it, in the order of the file. Each
// error is a [*UsersFileError].
func CheckUsersFile(path string) []error {
	_, errs := loadUsers(path)
	return errs
}

// loadUsers reads and parses the file at path.
func loadUsers(path string) (*users, []error) {
	data, err := readUsers(path)
	if err != nil {
		return nil, []error{&UsersFileError{File: path, Err: err}}
	}
	return parseUsers(path, data)
}

// readUsers reads a regular file within maxUsersFile. Opening a pipe would
// wait for its writer, for ever.
func readUsers(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, bare(err)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, bare(err)
	}
	defer func() { _ = f.Close() }() // only read from
	data, err := io.ReadAll(io.LimitReader(f, maxUsersFile+1))
	if err != nil {
		return nil, bare(err)
	}
	if len(data) > maxUsersFile {
		return nil, fmt.Errorf("larger than %d bytes", maxUsersFile)
	}
	return data, nil
}

// bare takes the path off an error of package os: the place says it already.
func bare(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// parseUsers parses a users file: JSON, where // comments and trailing commas
// are tolerated as in the configuration.
func parseUsers(file string, data []byte) (*users, []error) {
	root, err := hujson.Parse(data)
	p := usersParser{file: file, data: data}
	if err != nil {
		return nil, []error{p.syntax(err)}
	}
	u := &users{byName: map[string]*user{}, digest: sha256.Sum256(data)}
	top := p.object(root, "")
	for _, m := range top {
		if m.key != "users" {
			p.unknown(m, "", "users")
			continue
		}
		for _, entry := range p.members(m.value, "users", false) {
			p.user(u, entry)
		}
	}
	if len(top) == 0 && len(p.errs) == 0 {
		p.fail(root.StartOffset, "", `no "users"`)
	}
	if len(p.errs) > 0 {
		slices.SortStableFunc(p.errs, func(a, b *UsersFileError) int {
			return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
		})
		errs := make([]error, len(p.errs))
		for i, err := range p.errs {
			errs[i] = err
		}
		return nil, errs
	}
	if dearest := u.dearest(); dearest != nil {
		u.decoy = dearest.decoy()
	}
	return u, nil
}

// dearest is the hash that takes longest. Of equals the first by text, so that
// the choice does not depend on the order of a map.
func (u *users) dearest() *hash {
	var most *hash
	for _, entry := range u.byName {
		h := entry.hash
		if most == nil || h.price() > most.price() || h.price() == most.price() && h.text < most.text {
			most = h
		}
	}
	return most
}

// usersParser collects the mistakes of one file.
type usersParser struct {
	file string
	data []byte
	errs []*UsersFileError
	line lineCounter
}

// member is one key of an object with its value.
type member struct {
	key   string
	path  string
	at    int // offset of the key
	value hujson.Value
}

// user parses one entry of "users" into u.
func (p *usersParser) user(u *users, m member) {
	before := len(p.errs)
	if m.key == "" {
		p.fail(m.at, m.path, "a user name cannot be empty")
	}
	if len(m.key) > math.MaxUint16 || strings.ContainsRune(m.key, 0) {
		p.fail(m.at, m.path, "no CONNECT can carry this user name: it has more than 65535 bytes or U+0000")
	}
	entry := &user{enabled: true}
	given := p.object(m.value, m.path)
	for _, f := range given {
		switch f.key {
		case "password_hash":
			if s, ok := p.text(f.value, f.path); ok {
				h, err := parseHash(s)
				if err != nil {
					p.fail(f.value.StartOffset, f.path, err.Error())
				}
				entry.hash = h
			}
		case "groups":
			entry.groups = p.texts(f.value, f.path)
		case "enabled":
			entry.enabled = p.boolean(f.value, f.path)
		case "attributes":
			entry.attributes = p.attributes(f.value, f.path)
		default:
			p.unknown(f, m.path, "password_hash", "groups", "enabled", "attributes")
		}
	}
	if entry.hash == nil && len(p.errs) == before {
		p.fail(m.value.StartOffset, m.path, "no password_hash: a user without one cannot exist")
	}
	if len(p.errs) == before && !speakable(m.key) {
		p.fail(m.at, m.path, "a CONNECT with this user name is refused: it holds a control character or one that Unicode has set aside")
	}
	u.byName[m.key] = entry
	u.longest = max(u.longest, len(m.key))
}

// object returns the members of an object whose keys are ours: "-" and "_" are
// equal in them.
func (p *usersParser) object(v hujson.Value, path string) []member {
	return p.members(v, path, true)
}

// members returns the members of an object and reports doubles. Keys that are
// data are not touched.
func (p *usersParser) members(v hujson.Value, path string, ours bool) []member {
	obj, ok := v.Value.(*hujson.Object)
	if !ok {
		p.wrong(v, path, "an object")
		return nil
	}
	first := make(map[string]int, len(obj.Members))
	list := make([]member, 0, len(obj.Members))
	for _, om := range obj.Members {
		key := om.Name.Value.(hujson.Literal).String()
		if ours {
			key = strings.ReplaceAll(key, "-", "_")
		}
		m := member{key: key, path: join(path, key), at: om.Name.StartOffset, value: om.Value}
		if at, double := first[key]; double {
			line, column := p.line.of(p.data, at)
			p.fail(m.at, m.path, fmt.Sprintf("the key %.64q is given twice, first at %d:%d", key, line, column))
			continue
		}
		first[key] = m.at
		list = append(list, m)
	}
	return list
}

func (p *usersParser) text(v hujson.Value, path string) (string, bool) {
	lit, ok := v.Value.(hujson.Literal)
	if !ok || lit.Kind() != '"' {
		p.wrong(v, path, "a text")
		return "", false
	}
	return lit.String(), true
}

func (p *usersParser) boolean(v hujson.Value, path string) bool {
	lit, ok := v.Value.(hujson.Literal)
	if !ok || lit.Kind() != 't' && lit.Kind() != 'f' {
		p.wrong(v, path, "true or false")
		return false
	}
	return lit.Bool()
}

func (p *usersParser) texts(v hujson.Value, path string) []string {
	arr, ok := v.Value.(*hujson.Array)
	if !ok {
		p.wrong(v, path, "a list of texts")
		return nil
	}
	var list []string
	for i, e := range arr.Elements {
		at := path + "[" + strconv.Itoa(i) + "]"
		s, ok := p.text(e, at)
		switch {
		case !ok:
		case s == "":
			p.fail(e.StartOffset, at, "a group cannot be empty")
		case !slices.Contains(list, s):
			list = append(list, s)
		}
	}
	return list
}

func (p *usersParser) attributes(v hujson.Value, path string) map[string]string {
	members := p.members(v, path, false)
	if len(members) == 0 {
		return nil
	}
	attributes := make(map[string]string, len(members))
	for _, m := range members {
		if s, ok := p.text(m.value, m.path); ok {
			attributes[m.key] = s
		}
	}
	return attributes
}

// unknown reports a key that is none of ours.
func (p *usersParser) unknown(m member, in string, known ...string) {
	p.fail(m.at, in, fmt.Sprintf("unknown key %.64q", m.key))
	hint := "known here: " + strings.Join(known, ", ")
	if near := config.Suggest(m.key, known); near != "" {
		hint = fmt.Sprintf("did you mean %q?", near)
	}
	p.errs[len(p.errs)-1].Hint = hint
}

// wrong reports a value of the wrong type.
func (p *usersParser) wrong(v hujson.Value, path, want string) {
	found := map[hujson.Kind]string{
		'n': "null", 't': "true", 'f': "false", '"': "a text", '0': "a number", '{': "an object", '[': "a list",
	}[v.Value.Kind()]
	p.fail(v.StartOffset, path, fmt.Sprintf("found %s; accepted: %s", found, want))
}

func (p *usersParser) fail(offset int, path, text string) {
	line, column := p.line.of(p.data, offset)
	p.errs = append(p.errs, &UsersFileError{File: p.file, Line: line, Column: column, Path: path, Err: errors.New(text)})
}

// syntax turns the parser's error into ours with its place.
func (p *usersParser) syntax(err error) error {
	offset, text, hint := config.ExplainSyntax(p.data, err)
	p.fail(min(offset, len(p.data)), "", text)
	p.errs[0].Hint = hint
	return p.errs[0]
}

// join appends a key to a path; a key that would be misread is quoted.
func join(path, key string) string {
	plain := key != ""
	for _, r := range key {
		plain = plain && (r == '_' || r == '-' || r == '@' ||
			'0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z')
	}
	switch {
	case !plain:
		return fmt.Sprintf("%s[%.64q]", path, key)
	case path == "":
		return key
	}
	return path + "." + key
}

// lineCounter turns offsets into places. It remembers the last one, so that
// walking a file forward costs one pass.
type lineCounter struct {
	offset, line, start int // line from 0; start is the offset where it begins
}

func (c *lineCounter) of(data []byte, offset int) (line, column int) {
	if offset < c.offset {
		*c = lineCounter{}
	}
	for ; c.offset < offset; c.offset++ {
		if data[c.offset] == '\n' {
			c.line, c.start = c.line+1, c.offset+1
		}
	}
	return c.line + 1, utf8.RuneCount(data[c.start:offset]) + 1
}

// find returns the user of a name, nil if there is none, and the hash that its
// password is to be checked against, nil if there is nothing to check.
func (u *users) find(name string) (*user, *hash) {
	if entry := u.byName[name]; entry != nil {
		return entry, entry.hash
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
	return u.hash.text == o.hash.text && u.enabled == o.enabled &&
		slices.Equal(u.groups, o.groups) && maps.Equal(u.attributes, o.attributes)
}
