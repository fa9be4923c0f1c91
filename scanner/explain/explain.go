// Package explain says what a line of mail trouble means and what to do about
// it: an SMTP reply, an enhanced status code, the error of a network or TLS
// library, a line of a mail server's log, a bounce, or one of the words of
// smtpsweep's own reports.
//
// [Explain] is all of it. It is a dictionary, not an oracle: it knows what
// wordings and codes mean in public standards and in the practice of well-known
// receivers, and says "likely" where that is not certain. It sends nothing and
// looks nothing up.
package explain

import "strings"

// MaxInput is how many bytes of a text are read: enough for a bounce with all
// its headers. What is beyond is ignored.
const MaxInput = 64 << 10

// Bounds of an answer: more than this helps nobody under stress.
const (
	maxWordings = 4
	maxCodes    = 4
	maxWords    = 16
)

// An Explanation is what one recognised part of a text means.
//
// Commands contain the host and addresses of the text where it names some, and
// documentation names otherwise (example.org, 192.0.2.25). Only names and
// addresses that are safe in a shell are taken over. Input and the name of the
// recognised thing are the only places with bytes of the text as they came:
// whoever prints them cleans them.
type Explanation struct {
	Input      string   // the text, at most MaxInput bytes
	Line       int      // line of the text that it is about, from 1; 0 if there is one only, or several say it together
	Recognised string   // what it was taken for: "SMTP reply 554, enhanced status 5.7.1"
	Means      []string // in plain words; at least one
	Cause      []string // likely causes, the likeliest first
	Do         []string // what to do, in order; at least one
	See        []string // commands that show it without us
	Who        string   // who must act
	Source     string   // standard and section, or whose practice it is; empty if neither
}

// Explain returns what a text means, the most specific explanation first, or
// nil if nothing in it is recognised. The text may be anything: it is bounded,
// never trusted.
func Explain(text string) []Explanation {
	if len(text) > MaxInput {
		text = text[:MaxInput]
	}
	if strings.TrimSpace(text) == "" {
		return nil
	}
	told := reportOf(text)
	found := find(told)
	if found == nil {
		return nil
	}
	about, lines := readSubject(told), linesOf(reportLines(text))
	out := make([]Explanation, len(found))
	for i, t := range found {
		names := about
		line, ok := lines[t.id]
		if ok {
			names = about.on(line.text)
		}
		out[i] = t.explanation(text, names.replacer())
		out[i].Line = line.number
	}
	return out
}

// find returns what is recognised in a text: words of our own, if it has no
// others, and else the wordings and codes of others.
func find(text string) []topic {
	if own := ownWords(text); own != nil {
		return own
	}
	flat := flatten(text)
	found := findWordings(flat)
	found = append(found, findOwn(text)...)
	found = append(found, findCodes(text)...)
	return append(found, findShape(flat)...)
}

// linesOf returns the first line on which each topic stands, by its id; nothing
// of a text of one line.
func linesOf(lines []numbered) map[string]numbered {
	said := 0
	for _, l := range lines {
		if strings.TrimSpace(l.text) != "" {
			said++
		}
	}
	if said < 2 {
		return nil
	}
	at := map[string]numbered{}
	for _, l := range lines {
		for _, t := range find(l.text) {
			if _, ok := at[t.id]; !ok {
				at[t.id] = l
			}
		}
	}
	return at
}

// A topic is one entry of the dictionaries.
type topic struct {
	id   string // distinct; for tests
	name string // what it is called in an explanation

	all  []string          // texts that must all be there, lower case
	any  []string          // texts of which one must be there, lower case; nil for none
	when func(string) bool // what these cannot express; nil for nothing
	weak bool              // general: only used when nothing more specific is recognised

	means, cause, do, see []string
	who, source           string
}

// explanation fills the names of the text into a topic.
func (t *topic) explanation(text string, names *strings.Replacer) Explanation {
	fill := func(lines []string) []string {
		out := make([]string, len(lines))
		for i, l := range lines {
			out[i] = names.Replace(l)
		}
		return out
	}
	return Explanation{
		Input: text, Recognised: t.name,
		Means: fill(t.means), Cause: fill(t.cause), Do: fill(t.do), See: fill(t.see),
		Who: t.who, Source: t.source,
	}
}

// matches reports whether a flattened text (see flatten) is about the topic.
func (t *topic) matches(flat string) bool {
	for _, s := range t.all {
		if !contains(flat, s) {
			return false
		}
	}
	if t.any != nil && !containsAny(flat, t.any) {
		return false
	}
	return t.when == nil || t.when(flat)
}

func containsAny(s string, parts []string) bool {
	for _, p := range parts {
		if contains(s, p) {
			return true
		}
	}
	return false
}

// contains reports whether part is in s; a short word only as a whole word, so
// that "rbl" is not found in "marble".
func contains(s, part string) bool {
	if len(part) > 5 || !isWord(part) {
		return strings.Contains(s, part)
	}
	for at := 0; ; {
		i := strings.Index(s[at:], part)
		if i < 0 {
			return false
		}
		i += at
		end := i + len(part)
		if (i == 0 || !wordByte(s[i-1])) && (end == len(s) || !wordByte(s[end])) {
			return true
		}
		at = i + 1
	}
}

func isWord(s string) bool {
	for i := 0; i < len(s); i++ {
		if !wordByte(s[i]) {
			return false
		}
	}
	return true
}

func wordByte(c byte) bool { return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' }

// dictionaries are the wordings, the specific before the general.
var dictionaries = [][]topic{providerWordings, serverWordings, tlsWordings, networkWordings}

// findWordings returns the topics whose wording is in the text: the specific
// ones, or the general ones if there is none.
func findWordings(flat string) []topic {
	var strong, weak []topic
	for _, d := range dictionaries {
		for i := range d {
			if !d[i].matches(flat) {
				continue
			}
			if d[i].weak {
				weak = append(weak, d[i])
			} else {
				strong = append(strong, d[i])
			}
		}
	}
	if strong == nil {
		strong = weak
	}
	return strong[:min(len(strong), maxWordings)]
}

// findShape returns the one topic for the kind of line it is, if any.
func findShape(flat string) []topic {
	for i := range shapes {
		if shapes[i].matches(flat) {
			return shapes[i : i+1 : i+1]
		}
	}
	return nil
}

// flatten makes a text searchable: lower case (ASCII), white space and line
// ends collapsed, and the codes that begin the further lines of a multiline
// reply ("550-5.7.26 ") removed, because wordings run across them.
func flatten(text string) string {
	var b strings.Builder
	b.Grow(len(text))
	for n, line := range strings.Split(text, "\n") {
		words := strings.Fields(line)
		if n > 0 {
			words = dropCodes(words)
		}
		for _, w := range words {
			if b.Len() > 0 {
				b.WriteByte(' ')
			}
			b.WriteString(lowerASCII(w))
		}
	}
	return b.String()
}

// dropCodes removes the reply code and the enhanced code that begin a line.
func dropCodes(words []string) []string {
	if len(words) == 0 || len(words[0]) < 3 || !isCode(words[0][:3]) {
		return words
	}
	switch {
	case len(words[0]) == 3:
		words = words[1:]
	case words[0][3] == '-':
		words = append([]string{words[0][4:]}, words[1:]...)
	default:
		return words
	}
	if len(words) > 0 {
		if _, ok := parseEnhanced(words[0]); ok || words[0] == "" {
			words = words[1:]
		}
	}
	return words
}

// lowerASCII changes only ASCII letters, so that invalid UTF-8 stays as it is.
func lowerASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}
