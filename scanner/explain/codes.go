package explain

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A code is what a reply code or an enhanced status code says.
type code struct {
	means, cause, do, see []string
	who, source           string
}

// A pair is a reply code and an enhanced status code that stand together.
// Either may be missing: 0, or a zero enhanced.
type pair struct {
	basic    int
	enhanced enhanced
}

// findCodes returns the codes of a text in the order they stand there.
func findCodes(text string) []topic {
	var found []pair
	seen := map[pair]bool{}
	for _, line := range strings.Split(text, "\n") {
		for _, p := range codesOf(line) {
			if seen[p] || covered(seen, p) {
				continue
			}
			seen[p] = true
			if i := slices.IndexFunc(found, p.completes); i >= 0 {
				found[i] = p
				found = slices.DeleteFunc(found, p.completes)
			} else if len(found) < maxCodes {
				found = append(found, p)
			}
		}
	}
	var out []topic
	for _, p := range found {
		out = append(out, p.topic())
	}
	return out
}

// completes reports whether a pair says with both codes what a lone one said.
func (p pair) completes(lone pair) bool {
	both := p.basic != 0 && p.enhanced.class != 0
	return both && (lone == pair{basic: p.basic} || lone == pair{enhanced: p.enhanced})
}

// covered reports whether a lone code was already seen in a pair: a bounce says
// "Status: 5.1.1" and "550 5.1.1" of one and the same event.
func covered(seen map[pair]bool, p pair) bool {
	for s := range seen {
		if p.basic == 0 && s.enhanced == p.enhanced || p.enhanced.class == 0 && s.basic == p.basic {
			return true
		}
	}
	return false
}

// codesOf returns the codes of one line.
func codesOf(line string) []pair {
	var out []pair
	words := strings.Fields(line)
	for i := 0; i < len(words); i++ {
		before := ""
		if i > 0 {
			before = words[i-1]
		}
		basic, rest, ok := basicAt(words[i], before)
		if !ok {
			if e, ok := enhancedAt(words[i], before, len(words)); ok {
				out = appendEnhanced(out, e, words[i])
			}
			continue
		}
		p := pair{basic: basic}
		if rest == "" && i+1 < len(words) {
			rest = words[i+1]
		}
		if e, ok := parseEnhanced(rest); ok && e.class == basic/100 {
			p.enhanced = e
			if rest == words[min(i+1, len(words)-1)] {
				i++
			}
		}
		out = append(out, p)
	}
	return out
}

// appendEnhanced adds an enhanced code to the pairs of a line. qmail writes the
// one that belongs to the reply code at the end: "553 sorry (#5.7.1)".
func appendEnhanced(out []pair, e enhanced, word string) []pair {
	if n := len(out); n > 0 && strings.Contains(word, "#") {
		if last := &out[n-1]; last.enhanced.class == 0 && last.basic/100 == e.class {
			last.enhanced = e
			return out
		}
	}
	return append(out, pair{enhanced: e})
}

// basicAt reads a reply code where one may stand: at the beginning of a line,
// or after a word that introduces a reply in logs and bounces. rest is what
// follows it in the same word ("5.7.1" of "550-5.7.1").
func basicAt(word, before string) (basic int, rest string, ok bool) {
	quoted := strings.TrimLeft(word, `('"<[#`)
	if i := strings.LastIndexByte(quoted, '='); i >= 0 {
		quoted, before = quoted[i+1:], "="
	}
	if len(quoted) < 3 || !isCode(quoted[:3]) {
		return 0, "", false
	}
	basic, _ = strconv.Atoi(quoted[:3])
	rest = strings.TrimRight(quoted[3:], `)'">].,;:`)
	if rest != "" && rest[0] != '-' && rest[0] != '#' {
		return 0, "", false
	}
	rest = strings.TrimLeft(rest, "-#")
	if quoted != word || introduces(before) {
		return basic, rest, known(basic) || before == ""
	}
	return 0, "", false
}

// introduces reports whether a reply may follow the word.
func introduces(before string) bool {
	if before == "" || strings.HasSuffix(before, ":") || strings.HasSuffix(before, ";") || before == "=" {
		return true
	}
	switch lowerASCII(before) {
	case "said", "code", "reply", "error", "response", "returned", "smtp", "smtp;", "with", "got", "status", "greeting":
		return true
	}
	return false
}

// isCode reports whether s is three digits of which the first is 1 to 5.
// A 1 is not SMTP, but people look such numbers up.
func isCode(s string) bool {
	return len(s) == 3 && '1' <= s[0] && s[0] <= '5' && '0' <= s[1] && s[1] <= '9' && '0' <= s[2] && s[2] <= '9'
}

func known(basic int) bool {
	_, ok := basicCodes[basic]
	return ok
}

// topic returns what a pair means. The enhanced code is the more exact of the
// two and comes first.
func (p pair) topic() topic {
	var t topic
	var names, sources []string
	if p.basic != 0 {
		names = append(names, fmt.Sprintf("SMTP reply %d", p.basic))
	}
	if p.enhanced.class != 0 {
		names = append(names, "enhanced status "+p.enhanced.String())
		t.add(p.enhanced.code())
		sources = append(sources, p.enhanced.code().source)
	}
	if p.basic != 0 {
		c := basicCode(p.basic)
		if p.enhanced.class == 0 {
			t.add(c)
		} else {
			// The reply code adds the general meaning, but not a second list
			// of causes and cures.
			t.means = append(t.means, c.means...)
		}
		sources = append(sources, c.source)
	}
	t.name = strings.Join(names, ", ")
	t.id = t.name
	t.source = joinSources(sources)
	return t
}

// joinSources names each of some sources once.
func joinSources(sources []string) string {
	var all []string
	for _, s := range sources {
		for part := range strings.SplitSeq(s, "; ") {
			if !slices.Contains(all, part) {
				all = append(all, part)
			}
		}
	}
	return strings.Join(all, "; ")
}

// add appends what a code says.
func (t *topic) add(c code) {
	t.means = append(t.means, c.means...)
	t.cause = append(t.cause, c.cause...)
	t.do = append(t.do, c.do...)
	t.see = append(t.see, c.see...)
	if t.who == "" {
		t.who = c.who
	}
}

// basicCode returns what a reply code says; of an unknown one, what its first
// digit says (RFC 5321, 4.2.1: a client acts on the first digit of a code that
// it does not know).
func basicCode(n int) code {
	if c, ok := basicCodes[n]; ok {
		return c
	}
	c := code{source: "RFC 5321, section 4.2.1 (a code that is not registered is judged by its first digit)"}
	switch n / 100 {
	case 2:
		c.means = []string{"A success; this particular code is not in the standard."}
		c.do = []string{"Nothing."}
		c.who = "nobody"
	case 3:
		c.means = []string{"The server waits for more input; this particular code is not in the standard."}
		c.do = []string{"Nothing by hand: a mail program sends the rest, or gives up."}
		c.who = "nobody"
	case 4:
		c.means = []string{"Refused for now: the sender keeps the mail and tries again. This particular code is not in the standard, so the text beside it counts."}
		c.do = []string{"Read the text after the code.", "If it lasts longer than a few hours, write to the receiving side and quote the whole line."}
		c.who = "first nobody (it is retried), then the receiving side"
	case 5:
		c.means = []string{"Refused for good: the sender gets a bounce and no retry follows. This particular code is not in the standard, so the text beside it counts."}
		c.do = []string{"Read the text after the code: it says what the receiving side objects to.", "Quote the whole line when you ask them."}
		c.who = "the sender, after reading the text"
	default:
		c.means = []string{"Not an SMTP reply: those begin with 2, 3, 4 or 5. Likely an error number of the program that printed it."}
		c.do = []string{"Look at the words beside the number, or run the program in its verbose mode."}
		c.who = "whoever runs the program that printed it"
	}
	return c
}
