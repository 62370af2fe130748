package topic

import (
	"errors"
	"unicode/utf8"
)

// Text is what names and filters are held in.
type Text interface{ ~string | ~[]byte }

// MaxBytes is the longest name or filter that fits an MQTT string.
const MaxBytes = 65535

// What can be wrong with a name or a filter.
var (
	ErrEmpty    = errors.New("topic is empty")                             // [MQTT-4.7.3-1]
	ErrTooLong  = errors.New("topic is longer than 65535 bytes")           // [MQTT-4.7.3-3]
	ErrUTF8     = errors.New("topic is not valid UTF-8")                   // [MQTT-1.5.4-1]
	ErrNUL      = errors.New("topic holds U+0000")                         // [MQTT-4.7.3-2]
	ErrWildcard = errors.New("topic name holds + or #")                    // [MQTT-3.3.2-2]
	ErrPlus     = errors.New("+ does not stand alone in its level")        // [MQTT-4.7.1-2]
	ErrHash     = errors.New("# is not alone in the last level")           // [MQTT-4.7.1-1]
	ErrShare    = errors.New("$share needs a group and a filter after it") // [MQTT-4.8.2-1], [MQTT-4.8.2-2]
)

// CheckName tells what is wrong with a topic name, nil when nothing is.
func CheckName[T Text](name T) error {
	if err := checkString(name); err != nil {
		return err
	}
	for i := 0; i < len(name); i++ {
		if name[i] == '+' || name[i] == '#' {
			return ErrWildcard
		}
	}
	return nil
}

// CheckFilter tells what is wrong with a topic filter, nil when nothing is. A
// filter that begins with "$share/" must be a well-formed shared one.
func CheckFilter[T Text](filter T) error {
	if err := checkString(filter); err != nil {
		return err
	}
	_, rest, shared, err := SplitShare(filter)
	if err != nil {
		return err
	}
	if shared {
		filter = rest
	}
	start := 0 // of the level
	for i := 0; i < len(filter); i++ {
		switch filter[i] {
		case '/':
			start = i + 1
		case '+':
			if i != start || i+1 < len(filter) && filter[i+1] != '/' {
				return ErrPlus
			}
		case '#':
			if i != start || i+1 != len(filter) {
				return ErrHash
			}
		}
	}
	return nil
}

// checkString holds what names and filters have in common.
func checkString[T Text](s T) error {
	if len(s) == 0 {
		return ErrEmpty
	}
	if len(s) > MaxBytes {
		return ErrTooLong
	}
	ascii := true
	for i := 0; i < len(s); i++ {
		if s[i] == 0 {
			return ErrNUL
		}
		if s[i] >= utf8.RuneSelf {
			ascii = false
		}
	}
	if !ascii && !utf8.Valid([]byte(s)) {
		return ErrUTF8
	}
	return nil
}

// SplitShare takes "$share/GROUP/" off a filter. For any other filter shared is
// false and rest is the filter. A filter whose first level is "$share" and that
// has no group, a wildcard in the group or nothing after it gives ErrShare, in
// every protocol version: brokers share for 3.1.1 clients too.
func SplitShare[T Text](filter T) (group, rest T, shared bool, err error) {
	const prefix = "$share"
	if len(filter) < len(prefix) || string(filter[:len(prefix)]) != prefix {
		return group, filter, false, nil
	}
	if len(filter) > len(prefix) && filter[len(prefix)] != '/' {
		return group, filter, false, nil // "$shared/x"
	}
	if len(filter) <= len(prefix)+1 {
		return group, filter, true, ErrShare
	}
	after := filter[len(prefix)+1:]
	for i := 0; i < len(after); i++ {
		switch after[i] {
		case '+', '#':
			return group, filter, true, ErrShare
		case '/':
			if i == 0 || i+1 == len(after) {
				return group, filter, true, ErrShare
			}
			return after[:i], after[i+1:], true, nil
		}
	}
	return group, filter, true, ErrShare
}

// Levels is how many levels a name or filter has.
func Levels[T Text](s T) int {
	n := 1
	for i := 0; i < len(s); i++ {
		if s[i] == '/' {
			n++
		}
	}
	return n
}
