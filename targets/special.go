package targets

import (
	"net/netip"
	"slices"
	"sort"
)

// A class says how a special address is treated.
type class uint8

const (
	public     class = iota
	private          // scanned when typed; behind a name that was found only with AllowPrivate
	loopback         // scanned when typed, never behind a name
	linkLocal6       // scanned when typed with its zone, never behind a name
	linkLocal4       // with AllowReserved when typed, never behind a name
	reserved         // with AllowReserved
	never
)

// A special is a block of addresses that is not ordinary unicast.
type special struct {
	span
	class class
	name  string // with its RFC
}

// specialTable holds the IANA special-purpose registries (RFC 6890, RFC 8190)
// of both families, with multicast and what was withdrawn. The longest prefix
// counts. Blocks that the registries call globally reachable are public.
// NAT64, 6to4 and Teredo are not here: such an address is judged by the
// IPv4 address inside.
var specialTable = []struct {
	prefix string
	class  class
	name   string
}{
	{"0.0.0.0/8", never, "this network (RFC 791)"},
	{"10.0.0.0/8", private, "private use (RFC 1918)"},
	{"100.64.0.0/10", reserved, "shared address space, CGNAT (RFC 6598)"},
	{"127.0.0.0/8", loopback, "loopback (RFC 1122)"},
	{"169.254.0.0/16", linkLocal4, "link-local (RFC 3927)"},
	{"172.16.0.0/12", private, "private use (RFC 1918)"},
	{"192.0.0.0/24", reserved, "IETF protocol assignments (RFC 6890)"},
	{"192.0.0.9/32", public, "PCP anycast (RFC 7723)"},
	{"192.0.0.10/32", public, "TURN anycast (RFC 8155)"},
	{"192.0.2.0/24", reserved, "documentation (RFC 5737)"},
	{"192.88.99.0/24", reserved, "6to4 relay anycast (RFC 7526)"},
	{"192.168.0.0/16", private, "private use (RFC 1918)"},
	{"198.18.0.0/15", reserved, "benchmarks (RFC 2544)"},
	{"198.51.100.0/24", reserved, "documentation (RFC 5737)"},
	{"203.0.113.0/24", reserved, "documentation (RFC 5737)"},
	{"224.0.0.0/4", never, "multicast (RFC 5771)"},
	{"240.0.0.0/4", never, "reserved (RFC 1112)"},
	{"255.255.255.255/32", never, "broadcast (RFC 919)"},

	{"::/96", never, "IPv4-compatible (RFC 4291)"},
	{"::/128", never, "unspecified (RFC 4291)"},
	{"::1/128", loopback, "loopback (RFC 4291)"},
	{"::ffff:0:0/96", never, "IPv4-mapped (RFC 4291)"}, // alone it is unmapped; here only inside a larger block
	{"64:ff9b:1::/48", reserved, "local-use NAT64 (RFC 8215)"},
	{"100::/64", reserved, "discard only (RFC 6666)"},
	{"100:0:0:1::/64", reserved, "dummy prefix (RFC 9780)"},
	{"2001::/23", reserved, "IETF protocol assignments (RFC 2928)"},
	{"2001::/32", public, "Teredo (RFC 4380)"},
	{"2001:1::1/128", public, "PCP anycast (RFC 7723)"},
	{"2001:1::2/128", public, "TURN anycast (RFC 8155)"},
	{"2001:1::3/128", public, "DNS-SD SRP anycast (RFC 9665)"},
	{"2001:2::/48", reserved, "benchmarks (RFC 5180)"},
	{"2001:3::/32", public, "AMT (RFC 7450)"},
	{"2001:4:112::/48", public, "AS112 (RFC 7535)"},
	{"2001:10::/28", reserved, "ORCHID (RFC 4843)"},
	{"2001:20::/28", reserved, "ORCHIDv2, not routed (RFC 7343)"},
	{"2001:30::/28", reserved, "drone identifiers, not routed (RFC 9374)"},
	{"2001:db8::/32", reserved, "documentation (RFC 3849)"},
	{"3fff::/20", reserved, "documentation (RFC 9637)"},
	{"5f00::/16", reserved, "segment routing SIDs (RFC 9602)"},
	{"fc00::/7", private, "unique local (RFC 4193)"},
	{"fe80::/10", linkLocal6, "link-local (RFC 4291)"},
	{"fec0::/10", reserved, "site-local, withdrawn (RFC 3879)"},
	{"ff00::/8", never, "multicast (RFC 4291)"},
}

// specials4 and specials6 are the table as sorted blocks without overlap.
var specials4, specials6 = flatten(false), flatten(true)

// privates4 and privates6 are those of them that IsPrivate is about.
var privates4, privates6 = ofPrivate(specials4), ofPrivate(specials6)

func ofPrivate(all []special) (out []special) {
	for _, s := range all {
		if s.class == private || s.class == loopback || s.class == linkLocal6 {
			out = append(out, s)
		}
	}
	return out
}

func flatten(six bool) []special {
	var rules []special
	var cuts []uint128
	for _, r := range specialTable {
		if p := netip.MustParsePrefix(r.prefix); p.Addr().Is6() == six {
			s := spanOf(p)
			rules = append(rules, special{s, r.class, r.name})
			cuts = append(cuts, s.first, s.last.plus(1))
		}
	}
	slices.SortFunc(cuts, uint128.cmp)
	var flat []special
	cuts = slices.Compact(cuts)
	for i, c := range cuts {
		best := -1
		for j, r := range rules {
			inside := !c.less(r.first) && !r.last.less(c)
			if inside && (best < 0 || cmpSize(r.span, rules[best].span) < 0) {
				best = j
			}
		}
		if best < 0 || rules[best].class == public {
			continue
		}
		last := rules[best].last // ff00::/8 ends where numbers end: its cut is 0
		if i+1 < len(cuts) {
			last = cuts[i+1].minus(uint128{0, 1})
		}
		flat = append(flat, special{span{c, last}, rules[best].class, rules[best].name})
	}
	return flat
}

func cmpSize(a, b span) int { return a.last.minus(a.first).cmp(b.last.minus(b.first)) }

// find returns the block that an address lies in; its zero value is public.
func find(specials []special, n uint128) special {
	i := sort.Search(len(specials), func(i int) bool { return !specials[i].last.less(n) })
	if i == len(specials) || n.less(specials[i].first) {
		return special{}
	}
	return specials[i]
}

// Prefixes whose addresses wrap an IPv4 address.
var (
	nat64  = spanOf(netip.MustParsePrefix("64:ff9b::/96")) // RFC 6052: the last 32 bits
	sixTo4 = spanOf(netip.MustParsePrefix("2002::/16"))    // RFC 3056: bits 16 to 47
	teredo = spanOf(netip.MustParsePrefix("2001::/32"))    // RFC 4380, 4: the last 32 bits, inverted
)

// inner returns the IPv4 address that an IPv6 address wraps.
func inner(n uint128) (v4 uint32, mechanism string, ok bool) {
	switch {
	case n.hi == nat64.first.hi && n.lo>>32 == 0:
		return uint32(n.lo), "NAT64", true
	case n.hi>>48 == 0x2002:
		return uint32(n.hi >> 16), "6to4", true
	case n.hi>>32 == 0x20010000:
		return ^uint32(n.lo), "Teredo", true
	}
	return 0, "", false
}

// wraps reports whether a span may hold addresses that wrap an IPv4 address.
func wraps(s span) bool {
	for _, whole := range [...]span{nat64, sixTo4, teredo} {
		if _, ok := s.clip(whole); ok {
			return true
		}
	}
	return false
}

// wrap returns the NAT64 and the 6to4 span that wrap a span of IPv4.
func wrap(s span) [2]span {
	return [2]span{
		{uint128{nat64.first.hi, s.first.lo}, uint128{nat64.first.hi, s.last.lo}},
		{uint128{sixTo4.first.hi | s.first.lo<<16, 0}, uint128{sixTo4.first.hi | s.last.lo<<16 | 0xffff, ^uint64(0)}},
	}
}

// judge says what kind of address a is. name is empty for public ones.
func judge(a netip.Addr) (c class, name string) {
	a = a.Unmap()
	if a.Is4() {
		s := find(specials4, number(a))
		return s.class, s.name
	}
	n := number(a)
	if v4, mechanism, ok := inner(n); ok {
		s := find(specials4, uint128{0, uint64(v4)})
		return wrapped(s.class), wrappedName(s.name, mechanism)
	}
	s := find(specials6, n)
	return s.class, s.name
}

// wrapped is the class of an address that wraps one of class c. Somebody else's
// loopback or link is nobody's business.
func wrapped(c class) class {
	if c == loopback || c == linkLocal4 {
		return never
	}
	return c
}

func wrappedName(name, mechanism string) string {
	if name == "" {
		return ""
	}
	return name + " inside " + mechanism
}

// IsPublic reports whether an address is ordinary public unicast: not private,
// loopback, link-local or in another block of the IANA special-purpose registries.
func IsPublic(a netip.Addr) bool {
	c, _ := judge(a)
	return c == public
}

// IsPrivate reports whether an address is one of private networks (RFC 1918,
// RFC 4193), loopback, or link-local IPv6: nobody else's network. One that
// wraps such an address is not: it leads to somebody's translator.
func IsPrivate(a netip.Addr) bool {
	blocks := privates6
	if a = a.Unmap(); a.Is4() {
		blocks = privates4
	}
	return find(blocks, number(a)).name != ""
}

// A way is how an address became a target.
type way uint8

const (
	foundName    way = iota // behind a name in a list, an MX or SRV record
	typedName               // behind a name that was typed
	typedAddress            // it was written itself, on the command line or in a list
)

// allows applies DESIGN.md section 2, "Special addresses", without exclusions.
func (c Config) allows(k class, w way) bool {
	switch k {
	case public:
		return true
	case private:
		return w >= typedName || c.AllowPrivate
	case loopback, linkLocal6:
		return w == typedAddress
	case linkLocal4:
		return w == typedAddress && c.AllowReserved
	case reserved:
		return c.AllowReserved
	}
	return false
}

// broadcastName says what an address of Config.Broadcast is.
const broadcastName = "broadcast address of this machine's network (RFC 919)"

// judge is judge with what is known of this machine's networks.
func (c Config) judge(a netip.Addr) (class, string) {
	if c.isBroadcast(a) {
		return never, broadcastName
	}
	return judge(a)
}

func (c Config) isBroadcast(a netip.Addr) bool {
	return len(c.Broadcast) > 0 && slices.Contains(c.Broadcast, a.Unmap())
}

// refused returns the blocks of one family that are not probed even if they
// are written out, sorted, without Teredo's (see teredoSpans).
func (c Config) refused(six bool) []special {
	var out []special
	for _, s := range specials4 {
		if !six && !c.allows(s.class, typedAddress) {
			out = append(out, s)
		}
		if six && !c.allows(wrapped(s.class), typedAddress) {
			for i, w := range wrap(s.span) {
				out = append(out, special{w, never, wrappedName(s.name, [...]string{"NAT64", "6to4"}[i])})
			}
		}
	}
	for _, s := range specials6 {
		// A block of link-local addresses has no zone, so it is not scanned.
		if six && (!c.allows(s.class, typedAddress) || s.class == linkLocal6) {
			out = append(out, s)
		}
	}
	for i, a := range c.Broadcast {
		k, _ := judge(a)
		if again := slices.Contains(c.Broadcast[:i], a); !six && !again && c.allows(k, typedAddress) {
			out = append(out, special{span{number(a), number(a)}, never, broadcastName})
		}
	}
	slices.SortFunc(out, func(a, b special) int { return a.first.cmp(b.first) })
	return out
}

// teredoSpans maps spans of IPv4 to the Teredo addresses within part that wrap
// them: the IPv4 address is inverted in the last 32 bits, so they lie scattered.
// part lies in what a plan may have, MaxEndpoints addresses, so at most 65,537
// blocks.
func teredoSpans[S any](part span, v4 []S, get func(S) span, put func(S, span)) {
	part, ok := part.clip(teredo)
	if !ok {
		return
	}
	base := uint128{part.first.hi, part.first.lo &^ (1<<32 - 1)}
	for ; !part.last.less(base); base = base.plus(1 << 32) {
		for i := len(v4) - 1; i >= 0; i-- {
			s := get(v4[i])
			w := span{base.plus(uint64(^uint32(s.last.lo))), base.plus(uint64(^uint32(s.first.lo)))}
			if w, ok := w.clip(part); ok {
				put(v4[i], w)
			}
		}
	}
}
