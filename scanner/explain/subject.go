package explain

import (
	"fmt"
	"net/netip"
	"strings"
)

// subjectOf returns the replacer that puts the text's own host and addresses
// into commands: {host} and {ip} of the other server, {me} and {rme} of the
// sending machine (rme: in the reversed form of RFC 5782), {domain} of a sender.
// What the text does not say is a documentation name.
func subjectOf(text string) *strings.Replacer { return readSubject(text).replacer() }

// readSubject finds who a text is about.
func readSubject(text string) *subject {
	s := &subject{host: "mx.example.net", me: netip.AddrFrom4([4]byte{192, 0, 2, 25}), domain: "example.org"}
	s.read(text)
	return s
}

// on returns who a line of the text is about: whom it names, and for the rest as
// the text.
func (s *subject) on(line string) *subject {
	t := &subject{me: s.me, domain: s.domain}
	t.read(line)
	if t.host == "" {
		t.host, t.ip = s.host, s.ip
	}
	return t
}

// replacer puts the subject into commands.
func (s *subject) replacer() *strings.Replacer {
	ip := s.host
	if s.ip.IsValid() {
		ip = s.ip.String()
	}
	return strings.NewReplacer("{host}", s.host, "{ip}", ip, "{me}", s.me.String(), "{rme}", reversed(s.me), "{domain}", s.domain)
}

// A subject is who a text is about.
type subject struct {
	host   string
	ip     netip.Addr
	me     netip.Addr
	domain string
}

// read finds who the text is about. It looks at the first 4 KiB: names that
// matter stand at the beginning of a log line or reply.
func (s *subject) read(text string) {
	text = text[:min(len(text), 4096)]
	var haveMe, haveHost bool
	named := -1 // the word that named the host; Exim writes the address after it
	words := strings.Fields(text)
	for i, w := range words {
		before := ""
		if i > 0 {
			before = lowerASCII(words[i-1])
		}
		if before == "host" && i > 1 && lowerASCII(words[i-2]) == "at" {
			before = "" // "This is the mail system at host mail.example.org": who writes the bounce
		}
		host, addr := hostAndAddr(w)
		switch {
		case strings.HasPrefix(w, "from=<"):
			if d := domainOf(w); d != "" {
				s.domain = d
			}
		case addr.IsValid() && named >= 0 && named == i-1:
			s.ip = addr
		case host != "" && !haveHost && strings.HasPrefix(w, "H="):
			s.host, haveHost, named = host, true, i
		case addr.IsValid() && !haveMe && isOurs(before, w):
			s.me, haveMe = addr, true
		case addr.IsValid() && !haveHost && host != "":
			s.host, s.ip, haveHost = host, addr, true
		case addr.IsValid() && !haveHost && (before == "to" || before == "host"):
			s.host, s.ip, haveHost = addr.String(), addr, true
		case host != "" && !haveHost && (before == "host" || before == "to" || before == "with"):
			s.host, haveHost, named = host, true, i
		}
	}
}

// isOurs reports whether an address is that of the machine that sends, by the
// word before it: receivers write "client host [192.0.2.25] blocked".
func isOurs(before, w string) bool {
	switch before {
	case "client", "ip", "ip:", "address", "client:", "from", "sender":
		return true
	case "host":
		return strings.HasPrefix(w, "[")
	}
	return strings.HasPrefix(w, "[")
}

// hostAndAddr takes a word like "relay=mx.example.net[198.51.100.25]:25,"
// apart. A name or an address that is not safe in a command is dropped.
func hostAndAddr(w string) (host string, addr netip.Addr) {
	if _, v, ok := strings.Cut(w, "="); ok {
		w = v
	}
	w = strings.Trim(w, "()<>,;'\"")
	name, rest, bracket := strings.Cut(w, "[")
	if bracket {
		lit, _, _ := strings.Cut(rest, "]")
		addr, _ = netip.ParseAddr(lit)
	} else if a, err := netip.ParseAddr(strings.TrimRight(w, ".:")); err == nil {
		return "", a.WithZone("")
	} else {
		name = strings.TrimRight(name, ".:")
	}
	if safeName(name) {
		host = lowerASCII(name)
	}
	return host, addr.WithZone("")
}

// safeName reports whether s is a domain name of at least two labels that no
// shell and no option parser can read as anything else.
func safeName(s string) bool {
	if len(s) > 253 || !strings.Contains(s, ".") || s == "" || s[0] == '-' || s[0] == '.' {
		return false
	}
	letter := false
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z':
			letter = true
		case '0' <= c && c <= '9' || c == '-' || c == '.':
		default:
			return false
		}
	}
	return letter
}

// domainOf returns the domain of the address in "from=<user@example.org>,".
func domainOf(w string) string {
	_, d, _ := strings.Cut(w, "@")
	d, _, _ = strings.Cut(d, ">")
	if !safeName(d) {
		return ""
	}
	return lowerASCII(d)
}

// reversed returns an address as blocklists are asked for it: the octets, or
// the nibbles of IPv6, in reverse order (RFC 5782, 2.1 and 2.4).
func reversed(a netip.Addr) string {
	a = a.Unmap()
	if a.Is4() {
		b := a.As4()
		return fmt.Sprintf("%d.%d.%d.%d", b[3], b[2], b[1], b[0])
	}
	b := a.As16()
	nibbles := make([]string, 0, 32)
	for i := len(b) - 1; i >= 0; i-- {
		nibbles = append(nibbles, fmt.Sprintf("%x.%x", b[i]&15, b[i]>>4))
	}
	return strings.Join(nibbles, ".")
}
