package config

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

func (d *document) boolean(n *node, v reflect.Value, p *path) {
	if n.kind != kindBool {
		hint := ""
		if n.kind == kindText && (n.raw == "true" || n.raw == "false") {
			hint = "write " + n.raw + " without quotes"
		}
		d.wrongType(n, p, "true or false", false, hint)
		return
	}
	v.SetBool(n.boolean)
}

// onOff binds a [Switch].
func (d *document) onOff(n *node, v reflect.Value, p *path) {
	s := SwitchOff
	switch {
	case n.kind == kindBool && n.boolean:
		s = SwitchOn
	case n.kind == kindText && n.raw == "audit":
		s = SwitchAudit
	case n.kind != kindBool:
		d.wrongType(n, p, `true, false or "audit"`, false, "")
		return
	}
	v.Set(reflect.ValueOf(s))
}

func (d *document) whole(n *node, v reflect.Value, f *field, p *path) {
	want := "a whole number"
	if f.accept != nil {
		want = strings.Join(f.accept, ", ")
	}
	if !d.isNumber(n, p, want) {
		return
	}
	i, err := strconv.ParseInt(n.text, 10, 64)
	switch {
	case err != nil && strings.ContainsAny(n.text, ".eE"):
		d.wrongType(n, p, want, false, "")
	case err != nil || float64(i) < f.low || float64(i) > f.high:
		d.outOfRange(n, f, p)
	case f.accept != nil && !slices.Contains(f.accept, n.text):
		d.wrongType(n, p, want, false, "")
	default:
		v.SetInt(i)
	}
}

func (d *document) float(n *node, v reflect.Value, f *field, p *path) {
	if !d.isNumber(n, p, "a number") {
		return
	}
	x, err := strconv.ParseFloat(n.text, 64)
	if err != nil || x < f.low || x > f.high {
		d.outOfRange(n, f, p)
		return
	}
	v.SetFloat(x)
}

func (d *document) isNumber(n *node, p *path, want string) bool {
	if n.kind == kindNumber {
		return true
	}
	hint := ""
	if n.kind == kindText {
		if _, err := strconv.ParseFloat(n.raw, 64); err == nil {
			hint = fmt.Sprintf("write %.32s without quotes", n.raw)
		}
	}
	d.wrongType(n, p, want, false, hint)
	return false
}

func (d *document) outOfRange(n *node, f *field, p *path) {
	d.refuse(n, p, "found "+n.describe(false)+"; accepted: "+f.span(), "")
}

// plain takes a text out of n: expanded, not yet judged.
func (d *document) plain(n *node, p *path, want string, secret bool) (string, bool) {
	if n.kind != kindText {
		hint := ""
		if n.kind == kindNumber && !secret {
			hint = fmt.Sprintf("write \"%.32s\" in quotes", n.text)
		}
		d.wrongType(n, p, want, secret, hint)
		return "", false
	}
	text, errs := d.expand(n)
	for _, err := range errs {
		hint := "write $${ for a literal ${"
		var unset *unsetError
		if errors.As(err, &unset) {
			hint = fmt.Sprintf("set it, or give a default: ${%s:-default}", unset.name)
		}
		d.refuse(n, p, err.Error(), hint)
	}
	n.text = text
	return text, errs == nil
}

func (d *document) text(n *node, v reflect.Value, f *field, p *path) {
	secret := v.Type() == typeSecret
	want := "a text"
	if f.enum != nil {
		want = oneOf(f.enum)
	}
	text, ok := d.plain(n, p, want, secret)
	switch {
	case !ok:
		return
	case f.enum != nil && !slices.Contains(f.enum, text):
		hint := ""
		if near := Suggest(text, f.enum); near != "" {
			hint = fmt.Sprintf("did you mean %q?", near)
		}
		d.wrongType(n, p, want, secret, hint)
		return
	case text == "" && f.nonEmpty:
		d.refuse(n, p, "found an empty text", "leave the key out, or name something")
		return
	case text == "" && !judgesEmpty[f.is]:
		v.SetString("") // the same as not given
		return
	case f.is != "":
		out, w := valueChecks[f.is](d, text)
		if w != nil {
			d.failWrong(n, p, w, secret)
			return
		}
		text = out
	}
	d.warnPercent(n, f.is, p)
	v.SetString(text)
}

// judgesEmpty are the checks that an empty text is given to.
var judgesEmpty = map[string]bool{"filter": true, "rule-filter": true, "nonempty": true}

// failWrong reports a text that its check does not accept.
func (d *document) failWrong(n *node, p *path, w *wrong, secret bool) {
	found := quote(n.raw)
	if secret || w.hides {
		found = "the text"
	}
	d.refuse(n, p, found+" "+w.text, w.hint)
	d.errs[len(d.errs)-1].Err = w.err
}

func (d *document) prefix(n *node, v reflect.Value, f *field, p *path) {
	text, ok := d.plain(n, p, "a text that is an address or a range", false)
	if !ok {
		return
	}
	if text == "" && f.nonEmpty {
		d.refuse(n, p, "found an empty text", "leave the key out, or name something")
		return
	}
	prefix, err := parsePrefix(text)
	if err != nil {
		d.refuse(n, p, quote(n.raw)+" is not an address or a range: "+err.Error(), `for example "192.168.1.0/24", "10.0.0.7" or "2001:db8::/32"`)
		return
	}
	v.Set(reflect.ValueOf(prefix))
}

// parsePrefix reads an address or a CIDR range. IPv4 addresses written as IPv6
// become IPv4; the bits behind the length are cleared.
func parsePrefix(s string) (netip.Prefix, error) {
	addr, length, isRange := strings.Cut(s, "/")
	a, err := netip.ParseAddr(addr)
	switch {
	case err != nil:
		return netip.Prefix{}, errors.New("no IP address")
	case a.Zone() != "":
		return netip.Prefix{}, errors.New("a zone cannot be matched")
	}
	bits, most := a.BitLen(), a.BitLen()
	if isRange {
		if bits, err = strconv.Atoi(length); err != nil || bits < 0 || bits > most || length != strconv.Itoa(bits) {
			return netip.Prefix{}, fmt.Errorf("the length is not 0 to %d", most)
		}
	}
	if a.Is4In6() && bits >= 96 {
		a, bits = a.Unmap(), bits-96
	}
	return netip.PrefixFrom(a, bits).Masked(), nil
}
