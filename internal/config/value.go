package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/topic"
)

// wrong is why a text is not accepted; it follows the quoted text.
type wrong struct {
	text, hint string
	err        error
	hides      bool // the text may hold a password: do not quote it
}

// valueChecks are the checks that the tag "is" names. Each gives the text to
// keep, changed only where its comment says so.
var valueChecks = map[string]func(d *document, s string) (string, *wrong){
	"nonempty":           checkNonEmpty,
	"anchored":           keep, // a regular expression, see (*document).regexp
	"filter":             checkFilter,
	"rule-filter":        checkRuleFilter,
	"file":               checkFile,
	"output":             checkOutput,
	"client-id-template": checkClientIDTemplate,
	"client-id-out":      checkClientIDOut,
	"upstream-username":  checkUpstreamUsername,
	"claim":              checkClaim,
	"json-pointer":       checkJSONPointer,
	"octal":              checkOctal,
	"origin":             checkOrigin,
	"header-name":        checkHeaderName,
	"https-url":          checkHTTPSURL,
	"web-url":            checkWebURL,
	"broker-url":         checkBrokerURL,
	"upstream-url":       checkUpstreamURL,
	"listen-address":     checkListenAddress,
	"admin-address":      checkAdminAddress,
}

func keep(_ *document, s string) (string, *wrong) { return s, nil }

func checkNonEmpty(_ *document, s string) (string, *wrong) {
	if s == "" {
		return "", &wrong{text: "is empty"}
	}
	return s, nil
}

// checkFilter accepts a topic filter, a shared subscription not being one.
func checkFilter(_ *document, s string) (string, *wrong) {
	if s == "$share" || strings.HasPrefix(s, "$share/") {
		w := &wrong{text: "is a shared subscription, not a topic filter"}
		if _, filter, _, err := topic.SplitShare(s); err == nil {
			w.hint = "write the filter alone: " + quote(filter)
		}
		return "", w
	}
	if err := topic.CheckFilter(s); err != nil {
		return "", &wrong{text: "is not a topic filter: " + err.Error()}
	}
	return s, nil
}

// checkRuleFilter is checkFilter for a rule; a shared subscription is decided
// by its filter, so rules never name the group.
func checkRuleFilter(d *document, s string) (string, *wrong) {
	s, w := checkFilter(d, s)
	if w != nil && w.hint != "" {
		w.hint += "; rules hold for shared subscriptions to it too"
	}
	return s, w
}

// checkFile accepts a regular file that can be read. A relative path becomes
// one from the folder of the configuration.
func checkFile(d *document, s string) (string, *wrong) {
	name := d.resolve(s)
	info, err := os.Stat(name)
	switch {
	case err != nil:
		return "", d.unreadable(s, name, err)
	case !info.Mode().IsRegular():
		return "", &wrong{text: "is not a regular file"}
	}
	f, err := os.Open(name)
	if err != nil {
		return "", d.unreadable(s, name, err)
	}
	_ = f.Close() // nothing was written
	return name, nil
}

func (d *document) resolve(s string) string {
	if filepath.IsAbs(s) {
		return s
	}
	return filepath.Join(d.dir, s)
}

func (d *document) unreadable(s, name string, err error) *wrong {
	w := &wrong{text: "cannot be read: " + plainError(err).Error(), err: err}
	if s != name {
		w.hint = "looked for " + quote(name) + ": a relative path starts at the folder of the configuration"
	}
	return w
}

// checkOutput accepts stdout, stderr, syslog, or a file in a folder that
// exists; a relative path is resolved as for checkFile.
func checkOutput(d *document, s string) (string, *wrong) {
	switch s {
	case "stdout", "stderr", "syslog":
		return s, nil
	}
	if near := Suggest(s, []string{"stdout", "stderr", "syslog"}); near != "" && !strings.ContainsAny(s, "/.") {
		return "", &wrong{text: "is neither stdout, stderr, syslog nor the path of a file", hint: fmt.Sprintf("did you mean %q?", near)}
	}
	name := d.resolve(s)
	if info, err := os.Stat(filepath.Dir(name)); err != nil {
		w := d.unreadable(s, name, err)
		w.text = "is in a folder that cannot be read: " + plainError(err).Error()
		return "", w
	} else if !info.IsDir() {
		return "", &wrong{text: "is not in a folder"}
	}
	if info, err := os.Stat(name); strings.HasSuffix(s, "/") || err == nil && info.IsDir() {
		return "", &wrong{text: "is a folder", hint: "name a file in it"}
	}
	return name, nil
}

// checkClientIDTemplate accepts text with %u and one "*" at its end.
func checkClientIDTemplate(_ *document, s string) (string, *wrong) {
	body := strings.TrimSuffix(s, "*")
	if strings.Contains(body, "*") {
		return "", &wrong{text: `is not a template: "*" may stand only once, at the end`}
	}
	if strings.Contains(strings.ReplaceAll(body, "%u", ""), "%") {
		return "", &wrong{text: "is not a template: %u is the only placeholder", hint: `for example "%u" or "%u-*"`}
	}
	return s, nil
}

// checkClientIDOut accepts the client id towards the broker. Without %c or %u
// all clients would have one id and end each other's connections.
func checkClientIDOut(_ *document, s string) (string, *wrong) {
	bare := strings.NewReplacer("%c", "", "%u", "").Replace(s)
	switch {
	case strings.Contains(bare, "%"):
		return "", &wrong{text: "is not a template: %c and %u are the only placeholders", hint: `for example "%c" or "site1-%c"`}
	case bare == s:
		return "", &wrong{text: "gives every client the same id, and brokers end the older connection", hint: `let it hold %c, for example "site1-%c"`}
	}
	if w := checkDelimited(s); w != nil {
		return "", w
	}
	return s, nil
}

// checkClaim accepts a claim's name, or with a "/" first a JSON pointer.
func checkClaim(d *document, s string) (string, *wrong) {
	if strings.HasPrefix(s, "/") {
		return checkJSONPointer(d, s)
	}
	return s, nil
}

// checkJSONPointer follows RFC 6901, section 3.
func checkJSONPointer(_ *document, s string) (string, *wrong) {
	if !strings.HasPrefix(s, "/") {
		return "", &wrong{text: "is not a JSON pointer: it must begin with /", hint: `for example "/temp" or "/sensor/temp"`}
	}
	for i := range len(s) {
		if s[i] == '~' && (i+1 == len(s) || s[i+1] != '0' && s[i+1] != '1') {
			return "", &wrong{text: "is not a JSON pointer: ~ is written ~0"}
		}
	}
	return s, nil
}

// checkOctal accepts the mode of a socket.
func checkOctal(_ *document, s string) (string, *wrong) {
	digits := strings.TrimPrefix(s, "0")
	if len(digits) != 3 || strings.Trim(digits, "01234567") != "" {
		return "", &wrong{text: "is not a mode: three octal digits with a 0 before them", hint: `for example "0660"`}
	}
	return s, nil
}

// checkOrigin accepts "*" or scheme://host[:port], as browsers write it.
func checkOrigin(_ *document, s string) (string, *wrong) {
	if s == "*" {
		return s, nil
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme == "" || u.Host == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.Opaque != "" {
		return "", &wrong{text: "is not an origin", hint: `for example "https://panel.example.com", without a path, or "*" for all`}
	}
	return strings.ToLower(s), nil
}

// checkHeaderName follows RFC 9110, section 5.6.2.
func checkHeaderName(_ *document, s string) (string, *wrong) {
	for i := range len(s) {
		c := s[i]
		if c >= utf8.RuneSelf || !unicode.IsLetter(rune(c)) && !unicode.IsDigit(rune(c)) && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return "", &wrong{text: "is not the name of a header"}
		}
	}
	if s == "" {
		return "", &wrong{text: "is not the name of a header"}
	}
	return s, nil
}

func checkHTTPSURL(d *document, s string) (string, *wrong) {
	s, w := checkWebURL(d, s)
	if w != nil {
		return "", w
	}
	if u, _ := url.Parse(s); u.Scheme == "http" && !isLoopback(u.Hostname()) {
		return "", &wrong{text: "would be fetched in plain text, where anyone on the way can put keys of theirs", hint: "use https://"}
	}
	return s, nil
}

// checkWebURL accepts an http or https URL without a user name or password.
func checkWebURL(_ *document, s string) (string, *wrong) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return "", &wrong{text: "is not a URL", hides: true}
	case u.User != nil:
		return "", &wrong{text: "holds a user name or password", hint: "take it out of the URL", hides: true}
	case u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return "", &wrong{text: "is not a URL with https://", hint: `for example "https://auth.example.com/keys"`, hides: u.Scheme == ""}
	}
	return s, nil
}

func checkBrokerURL(_ *document, s string) (string, *wrong) {
	_, _, err := parseBroker(s, "mqtt", "mqtts", "ws", "wss")
	return s, addressWrong(err)
}

func checkUpstreamURL(_ *document, s string) (string, *wrong) {
	_, _, err := ParseUpstreamURL(s)
	return s, addressWrong(err)
}

func checkListenAddress(_ *document, s string) (string, *wrong) {
	_, _, _, err := ParseListenAddress(s)
	return s, addressWrong(err)
}

func checkAdminAddress(_ *document, s string) (string, *wrong) {
	return s, addressWrong(checkHostPort(s, true))
}

// isLoopback reports whether a host is this machine, by its spelling alone.
func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}
