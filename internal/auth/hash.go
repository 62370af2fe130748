package auth

import (
	"bytes"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
)

// maxBcryptPassword is how many bytes of a password bcrypt reads.
const maxBcryptPassword = 72

// The bounds of password hashes: a hash beyond them would let one CONNECT
// occupy a worker, or the machine's memory, for too long.
const (
	maxBcryptCost    = 16     // about 4 s
	maxArgonMemory   = 262144 // KiB: 256 MiB a worker
	maxArgonTime     = 16
	maxArgonParallel = 16
	maxArgonWork     = 1 << 20 // KiB × passes
	minArgonSalt     = 8
	maxArgonSalt     = 64
	minArgonKey      = 16
	maxArgonKey      = 64
)

// hash is a parsed password hash of a users file. Immutable.
type hash struct {
	text string // as in the file: what a cached answer is bound to

	bcrypt bool
	cost   int // bcrypt

	// argon2id
	memory   uint32 // KiB
	time     uint32
	parallel uint8
	salt     []byte
	key      []byte
}

// UnmarshalText is [parseHash].
func (h *hash) UnmarshalText(text []byte) error {
	parsed, err := parseHash(string(text))
	if err == nil {
		*h = *parsed
	}
	return err
}

// parseHash reads bcrypt's $2a$, $2b$, $2y$ and argon2id's PHC form.
func parseHash(s string) (*hash, error) {
	switch {
	case strings.HasPrefix(s, "$2a$"), strings.HasPrefix(s, "$2b$"), strings.HasPrefix(s, "$2y$"):
		return parseBcrypt(s)
	case strings.HasPrefix(s, "$argon2id$"):
		return parseArgon(s)
	case s == "":
		return nil, errors.New("empty: a user without password hash cannot exist")
	}
	return nil, fmt.Errorf("neither bcrypt ($2a$, $2b$, $2y$) nor argon2id ($argon2id$v=19$m=…,t=…,p=…$salt$hash)")
}

func parseBcrypt(s string) (*hash, error) {
	const length = len("$2b$12$") + 22 + 31
	if len(s) != length || s[6] != '$' || s[4] < '0' || s[4] > '9' || s[5] < '0' || s[5] > '9' {
		return nil, fmt.Errorf("bcrypt hash is not of the form $2b$NN$ and 53 characters (it has %d in all, want %d)", len(s), length)
	}
	for i := 7; i < length; i++ {
		if strings.IndexByte(bcryptAlphabet, s[i]) < 0 {
			return nil, fmt.Errorf("bcrypt hash has %q at character %d, which its alphabet does not hold", s[i], i+1)
		}
	}
	cost := int(s[4]-'0')*10 + int(s[5]-'0')
	if cost < bcrypt.MinCost || cost > maxBcryptCost {
		return nil, fmt.Errorf("bcrypt cost %d is not in %d … %d", cost, bcrypt.MinCost, maxBcryptCost)
	}
	return &hash{text: s, bcrypt: true, cost: cost}, nil
}

func parseArgon(s string) (*hash, error) {
	parts := strings.Split(s, "$") // "", argon2id, v=19, m=…,t=…,p=…, salt, hash
	if len(parts) != 6 {
		return nil, errors.New("argon2id hash is not of the form $argon2id$v=19$m=…,t=…,p=…$salt$hash")
	}
	if parts[2] != "v=19" {
		return nil, fmt.Errorf("argon2id version %.16q is not v=19", parts[2])
	}
	params := strings.Split(parts[3], ",")
	if len(params) != 3 {
		return nil, fmt.Errorf("argon2id parameters %.40q are not m=…,t=…,p=…", parts[3])
	}
	number := func(i int, name string, least, most uint64) (uint64, error) {
		digits, ok := strings.CutPrefix(params[i], name+"=")
		n, err := strconv.ParseUint(digits, 10, 32)
		if !ok || err != nil || strconv.FormatUint(n, 10) != digits {
			return 0, fmt.Errorf("argon2id parameters %.40q are not m=…,t=…,p=…", parts[3])
		}
		if n < least || n > most {
			return 0, fmt.Errorf("argon2id %s=%d is not in %d … %d", name, n, least, most)
		}
		return n, nil
	}
	p, err := number(2, "p", 1, maxArgonParallel)
	if err != nil {
		return nil, err
	}
	m, err := number(0, "m", 8*p, maxArgonMemory) // RFC 9106: at least 8 p
	if err != nil {
		return nil, err
	}
	t, err := number(1, "t", 1, maxArgonTime)
	if err != nil {
		return nil, err
	}
	if m*t > maxArgonWork {
		return nil, fmt.Errorf("argon2id m=%d × t=%d is more than %d KiB: one check would take seconds", m, t, maxArgonWork)
	}
	b64 := base64.RawStdEncoding.Strict()
	salt, err := b64.DecodeString(parts[4])
	if err != nil || len(salt) < minArgonSalt || len(salt) > maxArgonSalt {
		return nil, fmt.Errorf("argon2id salt is not %d … %d bytes of unpadded base64", minArgonSalt, maxArgonSalt)
	}
	key, err := b64.DecodeString(parts[5])
	if err != nil || len(key) < minArgonKey || len(key) > maxArgonKey {
		return nil, fmt.Errorf("argon2id hash is not %d … %d bytes of unpadded base64", minArgonKey, maxArgonKey)
	}
	return &hash{
		text: s, memory: uint32(m), time: uint32(t), parallel: uint8(p), salt: salt, key: key,
	}, nil
}

// candidate reports whether password could be h's at all. bcrypt would ignore
// what lies beyond 72 bytes, so a longer one never is.
func (h *hash) candidate(password []byte) bool {
	return !h.bcrypt || len(password) <= maxBcryptPassword
}

// matches does the work. It takes as long as the hash's parameters say,
// whatever the password.
func (h *hash) matches(password []byte) bool {
	if !h.candidate(password) {
		return false
	}
	if h.bcrypt {
		return bcrypt.CompareHashAndPassword([]byte(h.text), password) == nil
	}
	key := argon2.IDKey(password, h.salt, h.time, h.memory, h.parallel, uint32(len(h.key)))
	return subtle.ConstantTimeCompare(key, h.key) == 1
}

// price estimates the time of matches, only to compare hashes with each
// other: nanoseconds on one core of 2024.
func (h *hash) price() float64 {
	if h.bcrypt {
		return 50e6 * math.Pow(2, float64(h.cost-10))
	}
	return 900 * float64(h.memory) * float64(h.time)
}

// decoy returns a hash that takes as long as h and that no password is known
// for: what an unknown user is checked against.
func (h *hash) decoy() *hash {
	d := *h
	if h.bcrypt {
		// Both halves are valid characters of its alphabet; the last one of a
		// salt has only two bits.
		d.text = h.text[:7] + strings.Repeat(".", 22) + randomText(31)
		return &d
	}
	d.salt, d.key = randomBytes(len(h.salt)), randomBytes(len(h.key))
	d.text = "decoy " + randomText(31)
	return &d
}

// randomBytes returns n random bytes.
func randomBytes(n int) []byte {
	b := make([]byte, n)
	// crypto/rand never fails: it ends the program if the system has no
	// randomness.
	_, _ = rand.Read(b)
	return b
}

// bcryptAlphabet is that of bcrypt's own base64.
const bcryptAlphabet = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

// randomText returns n random characters of bcrypt's alphabet.
func randomText(n int) string {
	b := randomBytes(n)
	for i := range b {
		b[i] = bcryptAlphabet[b[i]&63]
	}
	return string(b)
}

// HashPassword returns a bcrypt hash ($2a$) of pw for a users file; cost is
// within 4 … 16. An empty password is an error, and so is one that ends with a
// line feed, which surely is a mistake, or has more than the 72 bytes that
// bcrypt reads. pw is not changed.
func HashPassword(pw []byte, cost int) (string, error) {
	switch {
	case len(pw) == 0:
		return "", errors.New("the password is empty")
	case bytes.HasSuffix(pw, []byte("\n")):
		return "", errors.New("the password ends with a line feed")
	case len(pw) > maxBcryptPassword:
		return "", fmt.Errorf("the password has %d bytes, and bcrypt reads only %d", len(pw), maxBcryptPassword)
	case cost < bcrypt.MinCost || cost > maxBcryptCost:
		return "", fmt.Errorf("bcrypt cost %d is not in %d … %d", cost, bcrypt.MinCost, maxBcryptCost)
	}
	b, err := bcrypt.GenerateFromPassword(pw, cost)
	return string(b), err
}
