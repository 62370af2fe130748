package config

import (
	"cmp"
	"fmt"
	"reflect"
	"regexp"
	"regexp/syntax"
	"strings"
)

// bounds are what regular expressions may cost, in instructions of their
// programs: some fifty bytes each.
type bounds struct{ each, all int }

var (
	ofFile   = bounds{200_000, 5_000_000}
	ofPushed = bounds{50_000, 500_000} // while decisions are to be made
)

// regexpCost is what an expression costs however short it is.
const regexpCost = 30

func (d *document) regexp(n *node, v reflect.Value, f *field, p *path) {
	text, ok := d.plain(n, p, "a text that is a regular expression", false)
	if !ok {
		return
	}
	if text == "" {
		what := "found an empty text, which every name matches"
		if f.is == "anchored" {
			what = "found an empty text, which only the empty id matches"
		}
		d.refuse(n, p, what, "leave the key out, or write a pattern")
		return
	}
	d.warnPercent(n, cmp.Or(f.is, "regexp"), p)
	if !d.affordable(n, text, p) {
		return
	}
	re, err := regexp.Compile(text)
	if err != nil {
		why := strings.TrimPrefix(err.Error(), "error parsing regexp: ")
		hint := ""
		if strings.Contains(why, "Perl syntax") || strings.Contains(why, "escape sequence") {
			hint = "the syntax is RE2: no look-around, no back references"
		}
		if n.raw != n.text {
			why = "invalid syntax"
		}
		d.refuse(n, p, quote(n.raw)+" is not a regular expression: "+why, hint)
		return
	}
	if f.is == "anchored" {
		re = regexp.MustCompile(`\A(?:` + text + `)\z`)
	}
	v.Set(reflect.ValueOf(re))
}

// affordable reports whether a regular expression may be compiled; one that
// cannot be parsed is. An expression is compiled to a program that can be
// thousands of times its length, so this is judged before.
func (d *document) affordable(n *node, text string, p *path) bool {
	b, spent := ofFile, &d.regexps
	if d.src.later(n.offset) {
		b, spent = ofPushed, &d.pushedRegexps
	}
	if *spent > b.all {
		n.refused = true
		return false // that is told already
	}
	cost := len(text)
	if cost <= b.each {
		re, err := syntax.Parse(text, syntax.Perl)
		if err != nil {
			return true
		}
		cost = costOf(re)
	}
	*spent += regexpCost + cost
	switch {
	case cost > b.each:
		d.refuse(n, p, fmt.Sprintf("the regular expression is too large: %d steps; accepted: %d", cost, b.each), "repeats such as {1,100} count as often as they say, and multiply when one is within another")
	case *spent > b.all:
		d.refuse(n, p, fmt.Sprintf("all regular expressions together are too large: over %d steps", b.all), "")
	default:
		return true
	}
	return false
}

// costOf is about how many instructions an expression is compiled to; sets of
// characters that are as large as some count for as many.
func costOf(re *syntax.Regexp) int {
	sum := 1
	for _, sub := range re.Sub {
		sum += costOf(sub)
	}
	switch re.Op {
	case syntax.OpLiteral:
		return len(re.Rune)
	case syntax.OpCharClass:
		return 1 + len(re.Rune)/10
	case syntax.OpRepeat:
		return sum * max(re.Min, re.Max, 1)
	}
	return sum
}
