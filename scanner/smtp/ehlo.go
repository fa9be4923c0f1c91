package smtp

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
)

// maxMechanisms bounds the list of AUTH mechanisms; a hundred are registered.
const maxMechanisms = 100

// capabilities is what an EHLO reply says.
type capabilities struct {
	domain   string   // text of the first line: the server's name, and often a hello
	keywords []string // the other lines, in order, as received
	auth     []string // mechanisms, upper case, in order, each once
	size     uint64   // RFC 1870; 0 if there is no fixed limit
	startTLS bool
	masked   bool // a keyword was overwritten by a device on the way
}

// parseEHLO reads a positive reply to EHLO (RFC 5321, 4.1.1.1). Keywords are
// recognised in any case, and twice as well as once.
func parseEHLO(r *reply) *capabilities {
	c := new(capabilities)
	for i := range r.lines {
		text := string(r.text(i))
		// Some servers list STARTTLS before the line with their name.
		if i == 0 && !isWord(text, "STARTTLS") {
			c.domain = text
			continue
		}
		c.add(text)
	}
	return c
}

// add reads one keyword line.
func (c *capabilities) add(line string) {
	if line == "" {
		return
	}
	c.keywords = append(c.keywords, line)
	word, params, _ := strings.Cut(line, " ")
	old, mechanism, isOld := strings.Cut(word, "=")
	switch {
	case isWord(word, "STARTTLS"):
		c.startTLS = true
	case isWord(word, "AUTH"):
		c.addAuth(params)
	case isOld && isWord(old, "AUTH"): // AUTH=LOGIN, of old Microsoft clients
		c.addAuth(mechanism + " " + params)
	case isWord(word, "SIZE"):
		// RFC 1870, 3: no number, or zero, is no fixed limit.
		if n, err := strconv.ParseUint(strings.TrimSpace(params), 10, 64); err == nil {
			c.size = n
		}
	case isMask(word):
		c.masked = true
	}
}

func (c *capabilities) addAuth(list string) {
	for mechanism := range strings.FieldsSeq(list) {
		mechanism = strings.ToUpper(mechanism)
		if len(c.auth) < maxMechanisms && !slices.Contains(c.auth, mechanism) {
			c.auth = append(c.auth, mechanism)
		}
	}
}

func isWord(s, word string) bool { return strings.EqualFold(strings.TrimSpace(s), word) }

// isMask reports whether a keyword was overwritten: Cisco's ESMTP inspection
// puts X for the letters, and an A at the end.
func isMask(word string) bool {
	return len(word) >= 4 && word[0] == 'X' && strings.Trim(word, "XA") == ""
}

// maskedBanner reports whether a greeting has only the characters 2, 0, * and
// space: what Cisco's mask-banner leaves of it.
func maskedBanner(line []byte) bool {
	return bytes.Contains(line, []byte("**")) && len(bytes.Trim(line, "20* \r")) == 0
}

// quotesMask reports whether a server that did not understand a command (500 to
// 504: RFC 5321, 4.2.2) quotes one of X that we never sent: a device on the way
// overwrote ours. Other refusals may have an XXXX for other reasons.
func quotesMask(r *reply) bool {
	if r.code < 500 || r.code > 504 {
		return false
	}
	for i := range r.lines {
		if bytes.Contains(r.text(i), []byte("XXXX")) {
			return true
		}
	}
	return false
}
