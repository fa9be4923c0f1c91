package policy

import (
	"cmp"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
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
