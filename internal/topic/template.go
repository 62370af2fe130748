package topic

import "strings"

// Values stand for the placeholders %u and %c in the patterns of templates. An
// empty one stands for nothing: a level with its placeholder matches no level.
// One that is not empty is part of a level: it is valid UTF-8, holds neither
// "/" nor "+" nor "#", and does not begin with "$". A nil *Values has none.
type Values struct{ Username, ClientID string }

// at is the value for the placeholder that begins at s[i], if one does.
func (v *Values) at(s string, i int) (value string, ok bool) {
	if s[i] != '%' || i+1 == len(s) || s[i+1] != 'u' && s[i+1] != 'c' {
		return "", false
	}
	switch {
	case v == nil:
		return "", true
	case s[i+1] == 'u':
		return v.Username, true
	}
	return v.ClientID, true
}

// holdsPlaceholder reports whether a level of a template is one to be filled.
func holdsPlaceholder(level string) bool {
	return strings.Contains(level, "%u") || strings.Contains(level, "%c")
}

// levelIs reports whether a level of a template is level, once it is filled. It
// does not allocate.
func levelIs[L Text](template string, v *Values, level L) bool {
	j := 0
	for i := 0; i < len(template); i++ {
		value, ok := v.at(template, i)
		if !ok {
			if j == len(level) || level[j] != template[i] {
				return false
			}
			j++
			continue
		}
		if value == "" || len(level)-j < len(value) || string(level[j:j+len(value)]) != value {
			return false
		}
		i++
		j += len(value)
	}
	return j == len(level)
}

// fill writes a template with its values; ok is false when one is missing.
func fill(template string, v *Values) (filled string, ok bool) {
	var b strings.Builder
	for i := 0; i < len(template); i++ {
		value, is := v.at(template, i)
		switch {
		case !is:
			b.WriteByte(template[i])
			continue
		case value == "":
			return "", false
		}
		b.WriteString(value)
		i++
	}
	return b.String(), true
}

// filled is the pattern that e is with v; ok is false when it is none.
func (e *Entry) filled(v *Values) (pattern string, ok bool) {
	if !e.Template {
		return e.Pattern, true
	}
	return fill(e.Pattern, v)
}

// matches is Match of the filled pattern. It does not allocate.
func (e *Entry) matches(name []byte, v *Values) bool {
	if !e.Template {
		return Match(e.Pattern, name)
	}
	if len(name) == 0 || name[0] == '$' && e.Pattern[0] != '$' {
		return false // [MQTT-4.7.2-1]
	}
	pattern, more, nameMore := e.Pattern, true, true
	for more {
		var want string
		if want, pattern, more = cut(pattern); want == "#" {
			return true // also as the parent
		}
		if !nameMore {
			return false
		}
		var have []byte
		have, name, nameMore = cutBytes(name)
		if want != "+" && !levelIs(want, v, have) {
			return false
		}
	}
	return !nameMore
}
