package connect

import (
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	mostPaths = 4096        // a machine with more asks for every source address
	pathTrust = time.Second // how long a source address is taken for what the kernel would choose
)

// A path is a span of addresses that one route leads to, so that the kernel
// chooses one source address for all of them: it need not be asked after every
// dial. The span ends where the next path begins.
type path struct {
	first  netip.Addr
	varies bool          // no one source: addresses of this machine, or several ways
	source netip.Addr    // as the kernel chose it last; not valid = not known
	subnet netip.Prefix  // IPv6: for the addresses of this /64 (RFC 6724, section 5, rule 8)
	until  time.Duration // since the run's base: good for so long
}

// paths are in order of first, IPv4 before IPv6. Each loop has its own.
type paths []path

// A border is where a route begins or ends.
type border struct {
	at     netip.Addr
	varies int // routes that begin here and have no one source, less those that end
}

// newPaths makes the paths between borders, in any order.
func newPaths(borders []border) paths {
	borders = append(borders, border{at: netip.IPv4Unspecified()}, border{at: netip.IPv6Unspecified()})
	slices.SortFunc(borders, func(a, b border) int { return a.at.Compare(b.at) })
	var all paths
	varies := 0
	for i, b := range borders {
		if i == 0 || b.at != borders[i-1].at {
			all = append(all, path{first: b.at})
		}
		if b.at == netip.IPv6Unspecified() && borders[i-1].at.Is4() {
			varies = 0 // routes up to the last IPv4 address have no end
		}
		varies += b.varies
		all[len(all)-1].varies = varies > 0
	}
	return all
}

// bordersOf returns where a route begins and ends.
func bordersOf(p netip.Prefix, varies bool) []border {
	n := 0
	if varies {
		n = 1
	}
	list := []border{{p.Masked().Addr(), n}}
	last := p.Masked().Addr().AsSlice()
	for bit := p.Bits(); bit < len(last)*8; bit++ {
		last[bit/8] |= 0x80 >> (bit % 8)
	}
	if a, _ := netip.AddrFromSlice(last); a.Next().IsValid() {
		list = append(list, border{a.Next(), -n})
	}
	return list
}

// readBorders adds the borders of a route to the list.
func readBorders(list []border, r netlink.Route) []border {
	varies := r.Type == unix.RTN_LOCAL || len(r.MultiPath) > 0
	family := netip.IPv4Unspecified()
	if r.Family == netlink.FAMILY_V6 {
		family = netip.IPv6Unspecified()
	}
	p := netip.PrefixFrom(family, 0)
	if r.Dst != nil {
		addr, ok := netip.AddrFromSlice(r.Dst.IP)
		ones, bits := r.Dst.Mask.Size()
		if !ok || bits == 0 {
			return list
		}
		p = netip.PrefixFrom(addr.Unmap(), ones)
	}
	return append(list, bordersOf(p, varies)...)
}

// plainRules reports whether nothing but the destination decides on a route, so
// that routes are all there is to know: no policy routing.
func plainRules() bool {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		rules, err := netlink.RuleList(family)
		if err != nil || len(rules) > 3 {
			return false
		}
		for _, r := range rules {
			if r.Table != unix.RT_TABLE_LOCAL && r.Table != unix.RT_TABLE_MAIN && r.Table != unix.RT_TABLE_DEFAULT {
				return false
			}
		}
	}
	return true
}

// of returns the path to an address, or nil if the kernel is to be asked.
func (p paths) of(a netip.Addr) *path {
	if len(p) == 0 || a.Zone() != "" {
		return nil
	}
	i, found := slices.BinarySearchFunc(p, a, func(q path, a netip.Addr) int { return q.first.Compare(a) })
	if !found {
		i--
	}
	if p[i].varies {
		return nil
	}
	return &p[i]
}

// source returns the address that a slot's connection is, or was, made from. It
// is not valid if it was never bound.
func (l *loop) source(s *slot) netip.Addr {
	p := l.paths.of(s.target.Addr)
	now := l.now.Sub(l.base)
	if p != nil && now < p.until && (s.target.Addr.Is4() || p.subnet.Contains(s.target.Addr)) {
		return p.source
	}
	a := localAddr(int(s.fd), &l.name).Addr()
	if !a.IsValid() || a.IsUnspecified() {
		return netip.Addr{}
	}
	if p != nil {
		p.source, p.until = a, now+pathTrust
		p.subnet, _ = s.target.Addr.Prefix(64) // fails for IPv4, which has no need of it
	}
	return a
}
