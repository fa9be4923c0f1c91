package targets

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxSpec bounds one spec, and one line of a file, in bytes. A name has at most
// 253 (RFC 1035, 2.3.4), in UTF-8 before punycode a few times that.
const maxSpec = 4096

// A spec is one target as written, read but not yet expanded.
type spec struct {
	text   string
	name   string // "mail.example.org" or "mx:example.org"; empty if it is about addresses
	span   span   // valid iff name is empty
	six    bool
	zone   string // of an IPv6 link-local address
	single bool   // one address, written as one
	ports  []Port // nil if none were written
	notice string // what the reader should know about how it was read
}

// prefixes returns the addresses of the spec as prefixes.
func (s spec) prefixes() ([]netip.Prefix, error) {
	return divide(s.span.first.inFamily(s.six), s.span.last.inFamily(s.six))
}

// A parser reads specs. Its zero value looks zones up on this machine.
type parser struct {
	zoneExists func(zone string) bool // a seam: tests have no eth0
	everyZone  bool                   // link-local addresses mean those of every zone, as in an exclusion
}

// parse reads one spec. Errors are *SpecError. What is not an address and not a
// name either is returned as a name all the same: it will be a row bad-name.
func (p parser) parse(text string) (spec, error) {
	s := spec{text: text}
	if err := refuseForeign(text); err != nil {
		return s, err
	}
	if len(text) >= 3 && strings.EqualFold(text[:3], "mx:") {
		return s.domain(text[3:])
	}
	body, port, err := splitPort(text)
	if err != nil {
		return s, err
	}
	if port != "" {
		ports, err := parseOnePort(port)
		if err != nil {
			return s, targetError(text, err.Reason, err.Hint)
		}
		s.ports = ports
	}
	if !looksLikeAddress(body) {
		return s.host("", body)
	}
	return p.addresses(s, body)
}

// host reads the name of a host, or, with "mx:" before it, of a domain. Foreign
// digits and dots are mapped, and what that makes an address is refused as well.
func (s spec) host(before, body string) (spec, error) {
	name := hostName(body)
	if looksLikeAddress(name) {
		return s, targetError(s.text, "it becomes "+quotable(name)+", which is no name", "write addresses in plain digits: 192.0.2.7")
	}
	s.name = before + name
	return s, nil
}

// refuseForeign refuses what is certainly something else than a target.
func refuseForeign(text string) error {
	switch {
	case text == "":
		return targetError(text, "it is empty", "")
	case len(text) > maxSpec:
		return targetError(text, "it is longer than "+strconv.Itoa(maxSpec)+" bytes", "")
	case !utf8.ValidString(text):
		return targetError(text, "it is not UTF-8", "save the list as UTF-8")
	case strings.Contains(text, "://"):
		return targetError("", "it is a URL", "write only the host: "+hostOfURL(text)) // not repeated: it may hold a password
	case strings.Contains(text, "@"):
		domain := text[strings.LastIndexByte(text, '@')+1:]
		return targetError("", "it is a mail address", "for the servers of its domain write mx:"+quotable(domain))
	case strings.Contains(text, ","):
		return targetError(text, "it contains a comma", "separate targets with spaces")
	}
	return nil
}

// hostOfURL returns the host of a URL for a hint, or an example.
func hostOfURL(text string) string {
	_, rest, _ := strings.Cut(text, "://")
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		rest = rest[:i]
	}
	if i := strings.LastIndex(rest, "@"); i >= 0 {
		rest = rest[i+1:] // what stands before may be a password: not repeated
	}
	return quotable(rest)
}

// quotable returns s if it can stand in a hint, else an example.
func quotable(s string) string {
	if s == "" || len(s) > 80 || strings.ContainsFunc(s, func(r rune) bool { return r < '!' || r > '~' }) {
		return "mail.example.org"
	}
	return s
}

// domain reads what follows "mx:".
func (s spec) domain(rest string) (spec, error) {
	body, port, err := splitPort(rest)
	switch {
	case err != nil:
		return s, targetError(s.text, err.(*SpecError).Reason, err.(*SpecError).Hint)
	case allDigits(body) && port == "":
		return s, targetError(s.text, "mx: wants a domain", "write mx:example.org; a host named mx is \"mx.:"+body+"\"")
	case body == "" || looksLikeAddress(body):
		return s, targetError(s.text, "mx: wants a domain", "write mx:example.org, or the address without mx:")
	}
	if port != "" {
		ports, err := parseOnePort(port)
		if err != nil {
			return s, targetError(s.text, err.Reason, err.Hint)
		}
		s.ports = ports
	}
	return s.host("mx:", body)
}

// splitPort parts a spec at its port: one colon, or a colon after a bracket.
// Two colons and more are an IPv6 address (RFC 3986, 3.2.2 wants the brackets).
func splitPort(text string) (body, port string, err error) {
	if strings.HasPrefix(text, "[") {
		inside, rest, ok := strings.Cut(text[1:], "]")
		block, tail, hasPort := strings.Cut(rest, ":")
		switch {
		case !ok:
			return "", "", targetError(text, "the bracket is not closed", "write [2001:db8::1]:25")
		case !strings.Contains(inside, ":"):
			return "", "", targetError(text, "brackets are for IPv6 addresses", "leave them out")
		case block != "" && !strings.HasPrefix(block, "/"), hasPort && tail == "":
			return "", "", targetError(text, quote(rest)+" after the bracket is not a port", "write [2001:db8::1]:25")
		}
		return inside + block, tail, nil
	}
	switch strings.Count(text, ":") {
	case 0:
		return text, "", nil
	case 1:
		body, port, _ = strings.Cut(text, ":")
		if body == "" || port == "" {
			return "", "", targetError(text, "something is missing beside the colon", "write host:25, or [2001:db8::1]:25")
		}
		return body, port, nil
	}
	return text, "", nil
}

// parseOnePort reads the port of a spec: one number or word, with or without a role.
func parseOnePort(s string) ([]Port, *SpecError) {
	first, last, role, err := parsePortItem(s)
	switch {
	case err != nil:
		return nil, err
	case first != last:
		return nil, portError("one port may follow the colon", "give ranges with -p")
	case role == nil:
		return []Port{{first, RoleOf(first)}}, nil
	}
	return []Port{{first, *role}}, nil
}

// looksLikeAddress reports whether s is meant as an address, so that a mistake
// in it is an error and never a look-up: parsers disagree on 010.0.0.1,
// 0x7f.1, 127.1 and 2130706433, and some read them as loopback. As in the URL
// standard, what ends in a number is an address.
func looksLikeAddress(s string) bool {
	if strings.ContainsAny(s, ":/%*") || strings.Trim(s, "0123456789.-–—−") == "" {
		return true
	}
	if first, _, ok := strings.Cut(s, "-"); ok {
		if _, whole := parse4(first); whole {
			return true // 192.0.2.1-mail: a range that went wrong
		}
	}
	last := strings.TrimRight(s, ".")
	last = last[strings.LastIndexByte(last, '.')+1:]
	if allDigits(last) {
		return true
	}
	if len(last) < 2 || last[0] != '0' || last[1]|0x20 != 'x' {
		return false
	}
	return strings.Trim(last[2:], "0123456789abcdefABCDEF") == ""
}

// addresses reads an address, block or range.
func (p parser) addresses(s spec, body string) (spec, error) {
	var err error
	switch {
	case strings.Contains(body, "*"):
		return s, targetError(s.text, "wildcards are not understood", "write a block: 192.0.2.0/24")
	case strings.ContainsAny(body, "–—−"):
		return s, targetError(s.text, "it contains a dash that is not \"-\"", "write 192.0.2.1-192.0.2.40 with the plain one")
	case strings.Contains(body, "/"):
		s, err = s.block(body)
	case strings.Contains(body, "-") && !strings.Contains(body, "%"): // zone names may hold a dash
		s, err = s.addressRange(body)
	default:
		s, err = s.address(body)
	}
	if err != nil {
		return s, err
	}
	return s, p.checkZone(s)
}

// address reads one address.
func (s spec) address(body string) (spec, error) {
	a, err := parseAddr(s.text, body)
	if err != nil {
		return s, err
	}
	if a.Is4In6() {
		a = a.Unmap()
		s.notice = s.text + " is read as " + a.String()
	}
	s.single, s.six, s.zone = true, a.Is6(), a.Zone()
	s.span = span{number(a), number(a)}
	return s, nil
}

// checkZone sees to it that a link-local address has a zone that exists, and no
// other address has one (RFC 4007, 6).
func (p parser) checkZone(s spec) error {
	first := s.span.first.inFamily(s.six)
	linkLocal := s.six && first.IsLinkLocalUnicast()
	switch {
	case !linkLocal && s.zone != "":
		return targetError(s.text, "only link-local addresses have a zone", "leave out %"+quotable(s.zone))
	case !linkLocal, p.everyZone:
		return nil
	case !s.single:
		return targetError(s.text, "link-local addresses need the interface they are on", "give them one by one: fe80::1%eth0")
	case s.zone == "":
		return targetError(s.text, "a link-local address needs the interface it is on", "write "+first.String()+"%eth0")
	}
	exists := p.zoneExists
	if exists == nil {
		exists = interfaceExists
	}
	if !exists(s.zone) {
		return targetError(s.text, "this machine has no interface "+quote(s.zone), "ip link lists them")
	}
	return nil
}

func interfaceExists(zone string) bool {
	if i, err := strconv.Atoi(zone); err == nil {
		_, err := net.InterfaceByIndex(i)
		return err == nil
	}
	_, err := net.InterfaceByName(zone)
	return err == nil
}

// block reads address/bits.
func (s spec) block(body string) (spec, error) {
	left, right, _ := strings.Cut(body, "/")
	if left == "" {
		return s, targetError(s.text, "the address before the slash is missing", "write 192.0.2.0/24")
	}
	if strings.Contains(left, "%") {
		return s, targetError(s.text, "a block cannot have a zone", "give its addresses one by one")
	}
	a, err := parseAddr(s.text, left)
	if err != nil {
		return s, err
	}
	bits, err2 := strconv.Atoi(right)
	if err2 != nil || !allDigits(right) || len(right) > 1 && right[0] == '0' || bits > a.BitLen() {
		return s, targetError(s.text, quote("/"+right)+" is not a prefix length",
			"an IPv"+map[bool]string{true: "4", false: "6"}[a.Is4()]+" prefix is /0 to /"+strconv.Itoa(a.BitLen()))
	}
	p := netip.PrefixFrom(a, bits)
	if m := p.Masked(); m != p {
		s.notice = s.text + " has host bits set: it is read as " + m.String()
		p = m
	}
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		s.notice = s.text + " is read as " + p.String()
	}
	s.span, s.six = spanOf(p), p.Addr().Is6()
	return s, nil
}

// addressRange reads first-last, where last may be the last octet alone.
func (s spec) addressRange(body string) (spec, error) {
	left, right, _ := strings.Cut(body, "-")
	first, err := parseAddr(s.text, left)
	if err != nil {
		return s, err
	}
	last, err := rangeEnd(s.text, first, right)
	if err != nil {
		return s, err
	}
	if first.Is4In6() && last.Is4In6() {
		first, last = first.Unmap(), last.Unmap()
		s.notice = s.text + " is read as " + first.String() + "-" + last.String()
	}
	switch {
	case first.Is4() != last.Is4():
		return s, targetError(s.text, "one end is IPv4 and the other IPv6", "")
	case last.Less(first):
		return s, targetError(s.text, "the range runs backwards", "write "+last.String()+"-"+first.String())
	}
	s.span, s.six = span{number(first), number(last)}, first.Is6()
	return s, nil
}

// rangeEnd reads the end of a range that begins at first.
func rangeEnd(text string, first netip.Addr, s string) (netip.Addr, error) {
	switch {
	case s == "":
		return first, targetError(text, "the end of the range is missing", "write 192.0.2.1-192.0.2.40 or 192.0.2.1-40")
	case first.Is6() && !strings.ContainsAny(s, ".:"):
		return first, targetError(text, quote(s)+" is not an IPv6 address", "write both ends in full: 2001:db8::1-2001:db8::40")
	case !first.Is4() || !allDigits(s):
		return parseAddr(text, s)
	}
	n, err := strconv.ParseUint(s, 10, 8)
	if err != nil || len(s) > 1 && s[0] == '0' {
		return first, targetError(text, quote(s)+" is not an octet, 0 to 255", "")
	}
	b := first.As4()
	b[3] = byte(n)
	return netip.AddrFrom4(b), nil
}

// parseAddr reads one address strictly, and says what is wrong with it.
func parseAddr(text, s string) (netip.Addr, error) {
	if n, ok := parse4(s); ok {
		return addr4(n), nil
	}
	if strings.Contains(s, ":") {
		a, err := netip.ParseAddr(s)
		if err == nil {
			return a, nil
		}
		hint := ""
		if strings.Count(s, ":") > 7 || strings.Contains(s, ".") {
			hint = "an IPv6 address with a port is written [2001:db8::1]:25"
		}
		return a, targetError(text, quote(s)+" is not an IPv6 address", hint)
	}
	return netip.Addr{}, targetError(text, whyNot4(s), "write four decimal numbers: 192.0.2.7")
}

// whyNot4 says why s is not an IPv4 address.
func whyNot4(s string) string {
	labels := strings.Split(s, ".")
	for _, l := range labels {
		n, err := strconv.Atoi(l)
		switch {
		case l == "":
			return "a number is missing in " + quote(s)
		case len(l) > 1 && l[0] == '0':
			return quote(l) + " is ambiguous: some programs read a leading zero as octal or hexadecimal"
		case err != nil || !allDigits(l):
			return quote(s) + " is not an IPv4 address"
		case len(labels) == 4 && n > 255:
			return quote(l) + " is more than 255"
		}
	}
	if len(labels) == 1 {
		return quote(s) + " is ambiguous: it has 1 number, an IPv4 address four"
	}
	return quote(s) + " is ambiguous: it has " + strconv.Itoa(len(labels)) + " numbers, an IPv4 address four"
}

// parse4 reads a dotted quad without allocating: lists have millions of them.
func parse4[T string | []byte](s T) (n uint32, ok bool) {
	if len(s) < 7 || len(s) > 15 {
		return 0, false
	}
	octet, digits, dots := uint32(0), 0, 0
	for i := range len(s) {
		c := s[i]
		switch {
		case c == '.' && digits > 0 && dots < 3:
			n, octet, digits, dots = n<<8|octet, 0, 0, dots+1
		case c < '0' || c > '9' || digits == 3 || digits > 0 && octet == 0:
			return 0, false
		default:
			octet, digits = octet*10+uint32(c-'0'), digits+1
			if octet > 255 {
				return 0, false
			}
		}
	}
	return n<<8 | octet, dots == 3 && digits > 0
}

func targetError(spec, reason, hint string) error {
	return &SpecError{What: "target", Spec: spec, Reason: reason, Hint: hint}
}
