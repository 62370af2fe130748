package config

import (
	"fmt"
	"io"
	"log/slog"
)

// Secret is a string that never prints itself: not with any verb that fmt has
// for a string, not as JSON or text, not in slog. string(s) is the value.
type Secret string

const hidden = "***"

// String returns three stars, whatever s holds.
func (Secret) String() string { return hidden }

// GoString returns three stars.
func (Secret) GoString() string { return hidden }

// Format writes three stars for every verb: %d of a string would otherwise
// print it as part of fmt's complaint.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// MarshalText returns three stars; encoding/json and others use it.
func (Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// LogValue returns three stars.
func (Secret) LogValue() slog.Value { return slog.StringValue(hidden) }
