package policy

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/smtpsweep/smtpsweep/targets"
)

// A Mistake is something wrong in a policy file.
type Mistake struct {
	File         string
	Line, Column int // from 1
	Why          string
}

// Error returns place and reason in one line: "policy.yaml:3:14: unknown segment ...".
func (m *Mistake) Error() string { return fmt.Sprintf("%s:%d:%d: %s", m.File, m.Line, m.Column, m.Why) }

// maxMistakes is how many mistakes of a file are told; the rest are counted.
const maxMistakes = 10

// A FileError lists the mistakes of a policy file, in the order of its lines.
type FileError struct {
	Mistakes []*Mistake // the first ten
	More     int        // how many follow
}

// Lines returns the mistakes, a sentence each.
func (e *FileError) Lines() (out []string) {
	for _, m := range e.Mistakes {
		out = append(out, m.Error())
	}
	if e.More > 0 {
		out = append(out, fmt.Sprintf("and %d more", e.More))
	}
	return out
}

// Error returns the mistakes, a line each.
func (e *FileError) Error() string { return strings.Join(e.Lines(), "\n") }

// Parse reads a policy; file is its name, for messages. The error is a *FileError,
// or what the reader says. The whole of what is read, and what it may make us do,
// is bounded.
func Parse(file string, r io.Reader) (*Policy, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxBytes+1))
	if err != nil {
		return nil, err
	}
	p := &builder{policy: &Policy{File: file}}
	if len(text) > maxBytes {
		p.wrong(at{1, 1}, "larger than 1 MiB")
		return nil, p.err()
	}
	top, mistake := parseYAML(text)
	if mistake != nil {
		p.wrong(at{mistake.Line, mistake.Column}, "%s", mistake.Why)
		return nil, p.err()
	}
	p.document(top)
	if len(p.mistakes) == 0 {
		p.contradictions()
	}
	if err := p.err(); err != nil {
		return nil, err
	}
	return p.policy, nil
}

// A builder makes a policy of a document, and collects what is wrong with it.
type builder struct {
	policy   *Policy
	mistakes []*Mistake
	pairs    int // elements of from times elements of to, so far
}

func (b *builder) wrong(where at, format string, args ...any) {
	b.mistakes = append(b.mistakes, &Mistake{b.policy.File, where.line, where.column, fmt.Sprintf(format, args...)})
}

// err returns the mistakes, or nil.
func (b *builder) err() error {
	if len(b.mistakes) == 0 {
		return nil
	}
	slices.SortStableFunc(b.mistakes, func(x, y *Mistake) int {
		return cmp.Or(cmp.Compare(x.Line, y.Line), cmp.Compare(x.Column, y.Column))
	})
	e := &FileError{Mistakes: b.mistakes[:min(maxMistakes, len(b.mistakes))]}
	e.More = len(b.mistakes) - len(e.Mistakes)
	return e
}

// sections are the keys of a policy. Segments come first, wherever they stand:
// the others name them.
var sections = []string{"segments", "deny", "allow", "exceptions"}

func (b *builder) document(top ast.Node) {
	const want = "a policy has segments, deny, allow and exceptions"
	if top == nil {
		b.wrong(at{1, 1}, "the file is empty: %s", want)
		return
	}
	keys, ok := entries(top)
	if !ok {
		b.wrong(placeOf(top), "lines of key: value are wanted: %s", want)
		return
	}
	for _, e := range keys {
		if !slices.Contains(sections, e.key) {
			b.wrong(e.at, "unknown key %s: %s", quote(e.key), want)
		}
	}
	for _, section := range sections {
		for _, e := range keys {
			switch {
			case e.key != section:
			case section == "segments":
				b.segments(e)
			default:
				b.rules(e, map[string]Action{"deny": Deny, "allow": Allow, "exceptions": Exception}[section])
			}
		}
	}
	if len(b.policy.Rules) == 0 && len(b.mistakes) == 0 {
		b.wrong(placeOf(top), "there is no rule: %s", want)
	}
}

// segments reads {relays: [10.1.2.0/28], ...}.
func (b *builder) segments(e entry) {
	names, ok := entries(e.value)
	if !ok || len(names) == 0 {
		b.wrong(e.at, "segments is empty: lines of name: [prefix, ...] are wanted")
		return
	}
	if len(names) > maxRules {
		b.wrong(e.at, "more than %d segments", maxRules)
		return
	}
	holder := map[netip.Prefix]string{}
	for _, n := range names {
		if why := badSegmentName(n.key); why != "" {
			b.wrong(n.at, "%s is no name for a segment: %s", quote(n.key), why)
			continue
		}
		s := &Segment{Name: n.key}
		b.policy.Segments = append(b.policy.Segments, s)
		for _, w := range b.words(n, "addresses and prefixes") {
			prefix, why := parsePrefix(w.text)
			switch other := holder[prefix]; {
			case why != "":
				b.wrong(w.at, "segment %s: %s", n.key, why)
			case other == n.key:
				b.wrong(w.at, "segment %s has %s twice", n.key, prefix)
			case other != "":
				b.wrong(w.at, "segment %s: %s is segment %s already, and an address is in one segment only", n.key, prefix, other)
			default:
				holder[prefix] = n.key
				s.Prefixes = append(s.Prefixes, prefix)
			}
		}
	}
}

// badSegmentName says why a name cannot be a segment's, or nothing.
func badSegmentName(name string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.", r)
	}
	switch {
	case name == "all" || name == "any":
		return "the word means everything"
	case name == "" || len(name) > 63 || strings.ContainsFunc(name, func(r rune) bool { return !plain(r) }):
		return "1 to 63 letters, digits, hyphens, underscores and dots are wanted"
	case strings.Trim(name, "0123456789.") == "":
		return "it looks like an address"
	}
	return ""
}

// words reads a plain value, or a list of them.
func (b *builder) words(e entry, what string) (out []word) {
	if w, ok := wordOf(e.value); ok && w.text != "" {
		return []word{w}
	}
	seq, ok := e.value.(*ast.SequenceNode)
	if !ok {
		b.wrong(e.at, "%s: a list of %s is wanted", e.key, what)
		return nil
	}
	if len(seq.Values) == 0 {
		b.wrong(e.at, "%s is an empty list, which matches nothing: name %s, or take it out", e.key, what)
	}
	for _, v := range seq.Values {
		w, ok := wordOf(v)
		if !ok || w.text == "" {
			b.wrong(placeOf(v), "%s: a list of %s is wanted, and this is something else", e.key, what)
			continue
		}
		out = append(out, w)
	}
	return out
}

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

// A claim is what a rule says of ports, for one element of from and one of to.
type claim struct {
	rule  *Rule
	ports Ports
}

// maxCompared bounds the claims that are compared.
const maxCompared = 20_000_000

// contradictions finds an allow and a deny of which neither is the more specific
// somewhere: they have an element of from and one of to in common, and ranges of
// one size that overlap.
func (b *builder) contradictions() {
	type pair struct{ from, to string }
	claims := map[pair][]claim{}
	said := map[[2]*Rule]bool{}
	compared := 0
	for _, r := range b.policy.Rules {
		if r.Action == Exception {
			continue
		}
		for _, from := range fromKeys(r) {
			for _, to := range toKeys(r) {
				others := claims[pair{from, to}]
				if compared += len(others) * len(r.Ports); compared > maxCompared {
					b.wrong(at{r.Line, r.Column}, "too large: too many rules and ranges of ports for %s to %s", from, to)
					return
				}
				for _, ports := range r.Ports {
					for _, c := range others {
						if both := [2]*Rule{c.rule, r}; c.contradicts(r, ports) && !said[both] {
							said[both] = true
							b.wrong(at{r.Line, r.Column}, "%q contradicts %q of line %d: both are as specific for %s to %s port %d; make one of them narrower",
								r, c.rule, c.rule.Line, from, to, max(c.ports.First, ports.First))
						}
					}
					claims[pair{from, to}] = append(claims[pair{from, to}], claim{r, ports})
				}
			}
		}
	}
}

func (c *claim) contradicts(r *Rule, ports Ports) bool {
	return c.rule.Action != r.Action && c.ports.size() == ports.size() && meetPorts(&c.ports, &ports)
}

// fromKeys names the elements of a rule's from such that equal ones are as specific.
func fromKeys(r *Rule) (out []string) {
	for _, f := range r.From {
		if f.All {
			out = append(out, "all")
		}
		for _, p := range f.Prefixes {
			out = append(out, p.String())
		}
	}
	return out
}

// toKeys does so for its to.
func toKeys(r *Rule) (out []string) {
	for _, t := range r.To {
		if t.Any {
			out = append(out, "any")
		}
		if t.Name != "" {
			out = append(out, t.Name)
		}
		for _, p := range t.Prefixes {
			out = append(out, p.String())
		}
	}
	return out
}
