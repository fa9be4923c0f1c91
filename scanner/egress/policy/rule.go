package policy

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/smtpsweep/smtpsweep/targets"
)

// rules reads a section of rules.
func (b *builder) rules(e entry, action Action) {
	seq, ok := e.value.(*ast.SequenceNode)
	switch {
	case !ok:
		b.wrong(e.at, "%s: a list of rules is wanted: - {from: all, to: any, ports: [25]}", e.key)
		return
	case len(seq.Values) == 0:
		b.wrong(e.at, "%s is an empty list: write a rule, or take it out", e.key)
		return
	case len(seq.Values)+len(b.policy.Rules) > maxRules:
		b.wrong(e.at, "more than %d rules", maxRules)
		return
	}
	for _, v := range seq.Values {
		b.rule(v, action)
	}
}

// ruleKeys are the keys of a rule; the last two of an exception only.
var ruleKeys = []string{"from", "to", "ports", "owner", "until"}

func (b *builder) rule(n ast.Node, action Action) {
	where := placeOf(n)
	keys, ok := entries(n)
	if !ok {
		b.wrong(where, "a rule is wanted: {from: all, to: any, ports: [25]}")
		return
	}
	r := &Rule{Action: action, Line: where.line, Column: where.column}
	wanted := ruleKeys
	if action != Exception {
		wanted = ruleKeys[:3]
	}
	had := map[string]bool{}
	for _, e := range keys {
		had[e.key] = true
		switch {
		case slices.Contains(wanted, e.key):
			b.ruleKey(r, e)
		case slices.Contains(ruleKeys, e.key):
			b.wrong(e.at, "%s belongs to an exception, and this is a rule of %s: move it to exceptions", e.key, action)
		default:
			b.wrong(e.at, "unknown key %s: a rule of this list has %s", quote(e.key), strings.Join(wanted, ", "))
		}
	}
	for _, key := range wanted {
		switch {
		case had[key]:
		case key == "owner" || key == "until":
			b.wrong(where, "%s is missing: an exception says who answers for it and when it ends; what has no end belongs to allow", key)
		default:
			b.wrong(where, "%s is missing", key)
		}
	}
	if b.pairs += len(fromKeys(r)) * len(toKeys(r)); b.pairs > maxPairs {
		b.wrong(where, "too large: the lists of from and to make more than %d pairs in all; prefixes and segments make it shorter", maxPairs)
		b.pairs = 0 // say it once
		return
	}
	b.policy.Rules = append(b.policy.Rules, r)
}

// ruleKey reads one key of a rule.
func (b *builder) ruleKey(r *Rule, e entry) {
	switch e.key {
	case "from":
		for _, w := range b.words(e, "segments, addresses and prefixes") {
			f, why := b.from(w.text)
			if why != "" {
				b.wrong(w.at, "from: %s", why)
				continue
			}
			r.From = append(r.From, f)
		}
	case "to":
		for _, w := range b.words(e, "addresses, prefixes and names") {
			t, why := b.to(w.text)
			if why != "" {
				b.wrong(w.at, "to: %s", why)
				continue
			}
			r.To = append(r.To, t)
		}
	case "ports":
		for _, w := range b.words(e, "ports") {
			p, why := parsePorts(w.text)
			if why != "" {
				b.wrong(w.at, "ports: %s", why)
				continue
			}
			r.Ports = append(r.Ports, p)
		}
	case "owner":
		if w, ok := wordOf(e.value); ok && strings.TrimSpace(w.text) != "" {
			r.Owner = strings.TrimSpace(w.text)
		} else {
			b.wrong(e.at, "owner: the name of who answers for the exception is wanted")
		}
	case "until":
		w, ok := wordOf(e.value)
		day, err := time.Parse(time.DateOnly, w.text)
		if !ok || err != nil || day.Year() < 2000 {
			b.wrong(e.at, "until: %s is no date: a day is wanted, such as 2026-12-31", quote(w.text))
			return
		}
		r.Until = day
	}
}

// from reads an element of "from".
func (b *builder) from(text string) (f From, why string) {
	f.Text = text
	if text == "all" {
		f.All = true
		return f, ""
	}
	if s := b.policy.segmentNamed(text); s != nil {
		f.Segment, f.Prefixes = s, s.Prefixes
		return f, ""
	}
	if !looksLikeAddress(text) {
		return f, b.unknownSegment(text)
	}
	prefix, why := parsePrefix(text)
	f.Prefixes = []netip.Prefix{prefix}
	return f, why
}

// unknownSegment says that there is no such segment, and which there are.
func (b *builder) unknownSegment(text string) string {
	if text == "any" {
		return "any is for to; write from: all"
	}
	var names []string
	for _, s := range b.policy.Segments {
		names = append(names, s.Name)
	}
	if len(names) == 0 {
		return "unknown segment " + quote(text) + ": none is defined under segments"
	}
	return "unknown segment " + quote(text) + "; there are " + list(names)
}

// to reads an element of "to".
func (b *builder) to(text string) (t To, why string) {
	t.Text = text
	if text == "any" {
		t.Any = true
		return t, ""
	}
	if s := b.policy.segmentNamed(text); s != nil {
		t.Prefixes = s.Prefixes
		return t, ""
	}
	if looksLikeAddress(text) {
		prefix, why := parsePrefix(text)
		t.Prefixes = []netip.Prefix{prefix}
		return t, why
	}
	t.Name = hostName(text)
	switch {
	case text == "all":
		return t, "all is for from; write to: any"
	case !strings.Contains(t.Name, "."):
		return t, quote(text) + " is neither a segment nor the full name of a host, such as mail.example.org"
	case !isHostName(t.Name):
		return t, quote(text) + " is no name of a host, address or prefix"
	}
	return t, ""
}

// isHostName reports whether a name is one in ASCII (RFC 1123, 2.1; underscores
// occur all the same).
func isHostName(name string) bool {
	if len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		bad := func(r rune) bool { return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '_') }
		if label == "" || len(label) > 63 || strings.ContainsFunc(label, bad) || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
	}
	return true
}

// looksLikeAddress reports whether a text is meant as an address or a prefix, so
// that a mistake in it is one and never the name of something.
func looksLikeAddress(text string) bool {
	if strings.ContainsAny(text, ":/%") {
		return true
	}
	last := text[strings.LastIndexByte(text, '.')+1:]
	return last != "" && strings.Trim(last, "0123456789") == ""
}

// parsePrefix reads an address or a prefix.
func parsePrefix(text string) (p netip.Prefix, why string) {
	if !strings.Contains(text, "/") {
		a, err := netip.ParseAddr(text)
		switch {
		case err != nil:
			return p, quote(text) + " is no address: 192.0.2.7 or 2001:db8::7 is wanted"
		case a.Zone() != "":
			return p, quote(text) + " has a zone, which means nothing to other machines"
		}
		return single(a), ""
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return p, quote(text) + " is no prefix: 192.0.2.0/24 or 2001:db8::/32 is wanted"
	}
	if p.Addr().Is4In6() {
		return netip.Prefix{}, quote(text) + " is a prefix of IPv4 addresses written as IPv6: write it as IPv4"
	}
	if m := p.Masked(); m != p {
		return p, quote(text) + " has bits set behind the prefix: is " + m.String() + " meant?"
	}
	return p, ""
}

// parsePorts reads a number, a range or a word.
func parsePorts(text string) (p Ports, why string) {
	if strings.ContainsAny(text, ",/") {
		return p, quote(text) + " is no port: write [25, 465-587, submission]"
	}
	ports, err := targets.ParsePorts(text)
	if err != nil {
		var bad *targets.SpecError
		if errors.As(err, &bad) {
			return p, strings.TrimSuffix(bad.Reason+"; "+bad.Hint, "; ")
		}
		return p, err.Error()
	}
	return Ports{ports[0].Number, ports[len(ports)-1].Number}, ""
}
