package smtp

import "strings"

// Bounds of what Software looks at. A greeting that needs more than 512 bytes
// to say who it is does not want to (RFC 5321, 4.5.3.1.5: a reply line is at
// most 512 octets); the rest keeps a stranger from buying our time.
const (
	softwareMaxText     = 512 // bytes of the greeting and of the EHLO line
	softwareMaxKeywords = 64  // EHLO keyword lines
	softwareMaxReplies  = 8   // other replies, each at most softwareMaxText
	softwareMaxVersion  = 32  // bytes of a version
)

// Marks of a name that was concluded and not said by the server.
const (
	softwareByEHLO    = " (by its EHLO)"
	softwareByReplies = " (by its replies)"
)

// Software names the mail server, gateway or hosted service that an SMTP
// conversation shows, with its version where the server says one: "Postfix",
// "Exim 4.96", "Exchange Online". It returns "" if nothing is recognised.
//
// banner is the first reply, its lines joined by LF, with or without reply
// codes; code is its reply code, 0 if it was not an SMTP reply; ehloFirst is
// the domain line of the EHLO reply; ehlo its keyword lines in order; replies
// are other replies of the server, to QUIT for instance.
//
// What the server says of itself counts first. The host name in the greeting is
// only used for services that own the domain, so that postfix.example.org is
// not taken for Postfix. If the greeting is silent on it, the wording and
// the order of the EHLO reply are characteristic of some servers; such a guess
// ends with " (by its EHLO)", one from another reply with " (by its replies)".
// A server can claim anything: this is what it claims, not what it is.
func Software(banner string, code int, ehloFirst string, ehlo []string, replies []string) string {
	g := softwareRead(banner)
	if code == 0 {
		if name := softwareNotSMTP(banner); name != "" {
			return name
		}
	}
	if first, _, _ := strings.Cut(banner, "\n"); maskedBanner([]byte(first)) {
		return "Cisco PIX/ASA (masked)"
	}
	if i := softwareFind(&g); i >= 0 {
		return softwareName(&softwareTable[i], g, ehlo)
	}
	if name := softwareFromEHLO(g, ehloFirst, ehlo); name != "" {
		return name + softwareByEHLO
	}
	if name := softwareFromReplies(replies); name != "" {
		return name + softwareByReplies
	}
	return ""
}

// A softwareGreeting is a greeting taken apart. Lower-case copies have the
// same offsets as the originals: only ASCII letters are changed.
type softwareGreeting struct {
	host   string // first word in lower case if it is a host name; "" otherwise
	text   string // everything after the host name
	lower  string // text in lower case
	teaser bool   // the second line repeats the host name of the first
}

// softwareRead takes a greeting apart.
func softwareRead(banner string) softwareGreeting {
	if len(banner) > softwareMaxText {
		banner = banner[:softwareMaxText]
	}
	first, more, _ := strings.Cut(banner, "\n")
	host, text := softwareSplitHost(softwareStrip(first))
	g := softwareGreeting{host: softwareLower(host), text: text}
	for n := 0; more != "" && n < 8; n++ {
		var line string
		line, more, _ = strings.Cut(more, "\n")
		h, t := softwareSplitHost(softwareStrip(line))
		if h != "" && n == 0 && softwareLower(h) == g.host {
			g.teaser = true
		}
		g.text += " " + t
	}
	g.lower = softwareLower(g.text)
	return g
}

// softwareStrip removes a reply code, an enhanced status code of success and
// white space from a reply line.
func softwareStrip(line string) string {
	line = strings.TrimRight(line, "\r\n\t ")
	if len(line) >= 3 && softwareDigits(line[:3]) {
		switch {
		case len(line) == 3:
			return ""
		case line[3] == ' ' || line[3] == '-':
			line = line[4:]
		}
	}
	return strings.TrimPrefix(strings.TrimLeft(line, " \t"), "2.0.0 ")
}

// softwareSplitHost cuts the host name off a greeting line. RFC 5321, 4.2: the
// first word is the domain; some servers leave it out, and a word without a dot
// may as well be a product.
func softwareSplitHost(line string) (host, rest string) {
	host, rest, _ = strings.Cut(line, " ")
	rest = strings.TrimLeft(rest, " ")
	if strings.ContainsAny(host, ".:") || strings.HasPrefix(host, "[") || softwareLower(host) == "localhost" {
		return host, rest
	}
	return "", line
}

// softwareLower returns s with ASCII letters in lower case. Offsets in the
// result are offsets in s, which strings.ToLower does not promise.
func softwareLower(s string) string {
	i := 0
	for i < len(s) && (s[i] < 'A' || s[i] > 'Z') {
		i++
	}
	if i == len(s) {
		return s
	}
	b := []byte(s)
	for ; i < len(b); i++ {
		if 'A' <= b[i] && b[i] <= 'Z' {
			b[i] += 'a' - 'A'
		}
	}
	return string(b)
}

func softwareDigits(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// softwareFind returns the index of the first rule that the greeting fulfils,
// or -1.
func softwareFind(g *softwareGreeting) int {
	for i := range softwareTable {
		r := &softwareTable[i]
		if r.text != "" && !g.says(r.text) {
			continue
		}
		if r.host != "" && !softwareUnder(g.host, r.host) {
			continue
		}
		if r.check != nil && !r.check(g) {
			continue
		}
		return i
	}
	return -1
}

// says reports whether the greeting has a text as whole words. A single word
// may be a name that anybody gives to a machine: it does not count where the
// host name stands ("maddy ESMTP"), nor as a part of one ("sophos.example.net").
func (g *softwareGreeting) says(text string) bool {
	name := strings.IndexFunc(text, notInName) < 0
	for rest := g.lower; ; {
		i := strings.Index(rest, text)
		if i < 0 {
			return false
		}
		at := len(g.lower) - len(rest) + i
		if softwareIsWord(g.lower, at, at+len(text), name) && !(name && at == 0 && g.host == "") {
			return true
		}
		rest = rest[i+1:]
	}
}

// softwareIsWord reports whether s[from:to] is not a part of a longer word, or,
// if that is asked, of a host name.
func softwareIsWord(s string, from, to int, name bool) bool {
	joins := func(c byte) bool {
		return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || name && (c == '.' || c == '-')
	}
	return (from == 0 || !joins(s[from]) || !joins(s[from-1])) && (to == len(s) || !joins(s[to-1]) || !joins(s[to]))
}

// softwareUnder reports whether host is the domain or a name below it.
func softwareUnder(host, domain string) bool {
	if !strings.HasSuffix(host, domain) {
		return false
	}
	return len(host) == len(domain) || host[len(host)-len(domain)-1] == '.'
}

// softwareName returns the name of a rule that matched, with its version.
func softwareName(r *softwareRule, g softwareGreeting, ehlo []string) string {
	if r.name == "Postfix" && softwarePostscreen(g, ehlo) {
		return "Postfix (postscreen)"
	}
	if r.after == "" {
		return r.name
	}
	if v := softwareVersion(g, r.after); v != "" {
		return r.name + " " + v
	}
	return r.name
}

// softwarePostscreen reports whether Postfix's postscreen greeted: it sends the
// greeting as a "220-" teaser, waits, and sends it again; or, if it holds the
// conversation itself, does not offer PIPELINING, which smtpd always does.
func softwarePostscreen(g softwareGreeting, ehlo []string) bool {
	if g.teaser {
		return true
	}
	words := softwareKeywords(ehlo)
	return len(words) >= 4 && words[0] == "SIZE" && !softwareHas(words, "PIPELINING") && softwareHas(words, "ENHANCEDSTATUSCODES")
}

// softwareVersion returns the version that follows anchor in the greeting, in
// at most 32 characters of 0-9A-Za-z.+-, or "".
func softwareVersion(g softwareGreeting, anchor string) string {
	i := strings.Index(g.lower, anchor)
	if i < 0 {
		return ""
	}
	s := strings.TrimLeft(g.text[i+len(anchor):], " /") // "Haraka 2.8", "Haraka/2.8"
	if len(s) > 1 && (s[0] == 'v' || s[0] == 'V') {
		s = s[1:]
	}
	n := 0
	for n < len(s) && n < softwareMaxVersion && softwareVersionByte(s[n]) {
		n++
	}
	s = strings.TrimRight(s[:n], ".+-")
	if s == "" || s[0] < '0' || s[0] > '9' {
		return ""
	}
	return s
}

func softwareVersionByte(c byte) bool {
	return '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || c == '.' || c == '+' || c == '-'
}

// softwareNotSMTP names servers of other protocols that turn up on mail ports.
func softwareNotSMTP(banner string) string {
	if version, ok := strings.CutPrefix(banner, "SSH-2.0-OpenSSH_"); ok {
		version, _, _ = strings.Cut(version, " ")
		v := softwareVersion(softwareGreeting{text: version, lower: softwareLower(version)}, "")
		return strings.TrimRight("OpenSSH "+v, " ")
	}
	switch name := classify([]byte(banner)); name {
	case "", protoTLS, protoPROXY:
		return ""
	default:
		return name + " server"
	}
}
