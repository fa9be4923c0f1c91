package explain

import (
	"fmt"
	"strconv"
	"strings"
)

// An enhanced is an enhanced status code, class.subject.detail (RFC 3463,
// section 2). The zero value is none.
type enhanced struct {
	class, subject, detail int
}

// String returns the code as it is written, "5.7.1".
func (e enhanced) String() string { return fmt.Sprintf("%d.%d.%d", e.class, e.subject, e.detail) }

// parseEnhanced reads a word as an enhanced status code. Punctuation around it
// is allowed, another number beside it (an address, a version) is not.
func parseEnhanced(word string) (enhanced, bool) {
	word = strings.Trim(word, `()[]<>'",;:.#`)
	parts := strings.Split(word, ".")
	if len(parts) != 3 || len(parts[0]) != 1 {
		return enhanced{}, false
	}
	var n [3]int
	for i, p := range parts {
		v, err := strconv.ParseUint(p, 10, 16)
		if err != nil || len(p) > 3 {
			return enhanced{}, false
		}
		n[i] = int(v)
	}
	if n[0] != 2 && n[0] != 4 && n[0] != 5 {
		return enhanced{}, false
	}
	return enhanced{n[0], n[1], n[2]}, true
}

// enhancedAt reads an enhanced code that stands without a reply code. In the
// middle of a text only classes and subjects that exist are believed, and a
// success only where a log marks it: "Postfix 2.5.5" is a version.
func enhancedAt(word, before string, words int) (enhanced, bool) {
	marked := words == 1
	if k, v, ok := strings.Cut(word, "="); ok {
		marked = marked || lowerASCII(k) == "dsn" || lowerASCII(k) == "status"
		word = v
	}
	switch lowerASCII(before) {
	case "status:", "dsn:", "dsn", "status", "code":
		marked = true
	}
	e, ok := parseEnhanced(word)
	if !ok {
		return e, false
	}
	return e, marked || (before == "" || introduces(before) || strings.ContainsAny(word, "(#[<'\"")) && e.class != 2 && e.subject <= 7
}

var classMeans = map[int]string{
	2: "Success",
	4: "Refused or failed for now; the sender keeps the mail and tries again",
	5: "Refused or failed for good; the sender gets a bounce",
}

var subjectMeans = map[int]string{
	0: "no subject given",
	1: "about an address",
	2: "about the recipient's mailbox",
	3: "about the receiving mail system",
	4: "about the network or the way to the server",
	5: "about the protocol between the two servers",
	6: "about the mail's content or form",
	7: "about security or policy",
}

// code returns what the enhanced code says: the registered meaning if there is
// one, and what class and subject say in any case (RFC 3463, section 2).
func (e enhanced) code() code {
	if e.class == 2 {
		success := "Success."
		if e.subject != 0 {
			success = "Success, " + e.about() + "."
		}
		return code{
			means:  []string{success},
			do:     []string{"Nothing."},
			who:    whoNobody,
			source: "RFC 3463, section 2",
		}
	}
	c, ok := enhancedCodes[[2]int{e.subject, e.detail}]
	if !ok {
		c = code{
			means:  []string{"Not in the IANA registry; likely a code of this provider's own, so the text beside it counts."},
			do:     []string{"Read the text beside the code, and look for it in the documentation of the provider that sent it."},
			who:    whoSender,
			source: "RFC 3463, section 2 (decoded by class and subject)",
		}
	}
	c.means = append(c.means[:len(c.means):len(c.means)], classMeans[e.class]+" ("+e.about()+").")
	return c
}

// about says what the subject of the code is.
func (e enhanced) about() string {
	if s, ok := subjectMeans[e.subject]; ok {
		return s
	}
	return fmt.Sprintf("subject %d is not registered", e.subject)
}
