package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// maxErrors bounds what one load reports: a file of another kind would
// otherwise print itself back, line by line.
const maxErrors = 1000

// Error is one mistake in a configuration, at its place.
type Error struct {
	Place string // file:line:column, both from 1, the column in characters
	Path  string // acl.rules[2].topics[0]; "" for the whole file
	Text  string // what was found and what is accepted
	Hint  string // what to do; "" when the text says it
	Err   error  // what the operating system said, nil otherwise

	src    *source
	offset int
}

// Error is one line, without the hint.
func (e *Error) Error() string {
	if e.Path == "" {
		return e.Place + ": " + e.Text
	}
	return e.Place + ": " + e.Path + ": " + e.Text
}

// Attrs are the parts of e for a line of a log.
func (e *Error) Attrs() (attrs []any) {
	for _, part := range [][2]string{{"place", e.Place}, {"key", e.Path}, {"error", e.Text}, {"hint", e.Hint}} {
		if part[1] != "" {
			attrs = append(attrs, part[0], part[1])
		}
	}
	return attrs
}

// Unwrap returns Err, so that errors.Is finds fs.ErrNotExist.
func (e *Error) Unwrap() error { return e.Err }

// Errors is every mistake of a load, sorted by place: the configuration file
// first, then the files it names.
type Errors []*Error

// Error is one line for each error, each followed by its hint if it has one.
func (es Errors) Error() string {
	var b strings.Builder
	for i, e := range es {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(e.Error())
		if e.Hint != "" {
			b.WriteString("\n    hint: " + e.Hint)
		}
	}
	return b.String()
}

// Unwrap gives each error to errors.Is and errors.As.
func (es Errors) Unwrap() []error {
	out := make([]error, len(es))
	for i, e := range es {
		out[i] = e
	}
	return out
}

// Warning is something legal that will not do what it seems to.
type Warning struct {
	Place string // file:line:column
	Path  string // acl.rules[2].topics[0]
	Text  string
	// Blocks is set when the section is enabled but not enforced by this
	// version: validate tells, a run is refused.
	Blocks bool

	src    *source
	offset int
}

// report collects the errors and warnings of one load.
type report struct {
	errs  []*Error
	warns []Warning

	// What regular expressions have cost so far, see bounds.
	regexps, pushedRegexps int
}

func (r *report) fail(src *source, offset int, p *path, text, hint string) {
	r.errs = append(r.errs, &Error{Path: p.String(), Text: text, Hint: hint, src: src, offset: offset})
}

// done sorts, cuts and places what was collected.
func (r *report) done() ([]Warning, error) {
	slices.SortStableFunc(r.warns, func(a, b Warning) int {
		return cmp.Or(cmp.Compare(a.src.order, b.src.order), cmp.Compare(a.offset, b.offset))
	})
	for i := range r.warns {
		w := &r.warns[i]
		w.Place = w.src.place(w.offset)
		w.src = nil
	}
	if len(r.errs) == 0 {
		return r.warns, nil
	}
	slices.SortStableFunc(r.errs, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.src.order, b.src.order), cmp.Compare(a.offset, b.offset))
	})
	more := len(r.errs) - maxErrors
	if more > 0 {
		r.errs = r.errs[:maxErrors]
	}
	for _, e := range r.errs {
		e.Place = e.src.place(e.offset)
		e.src = nil
	}
	if more > 0 {
		last := r.errs[maxErrors-1]
		last.Hint = strings.TrimPrefix(fmt.Sprintf("%s; %d more errors are not shown", last.Hint, more), "; ")
	}
	return r.warns, Errors(r.errs)
}
