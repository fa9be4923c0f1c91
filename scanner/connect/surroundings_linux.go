package connect

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/smtpsweep/smtpsweep/targets"
)

// Limits of the neighbour table. When it overflows, the kernel drops SYNs without
// a word, which would look like silence of the target.
const (
	mostUnresolved  = 256             // addresses without an answer to ARP or ND at a time
	neighborSpan    = 5 * time.Second // the kernel evicts no younger entries when the table is full
	defaultNeighbor = 1024            // gc_thresh3 of Linux
	mostLocal       = 64              // networks that are all this machine's
	mostRoutes      = 10_000          // read; a router that knows more has no need of its on-link ones
)

// surroundings is what a run knows of this machine's networks, read once.
type surroundings struct {
	own      map[netip.Addr]bool
	local    []netip.Prefix         // further addresses that are this machine's, by its routes
	links    []netip.Prefix         // on-link networks
	via      map[netip.Prefix][]int // their interfaces, by index
	routes   map[netip.Prefix]bool  // all known: is it on-link?
	lengths  [2][129]bool           // prefix lengths among routes, IPv4 and IPv6
	paths    paths                  // empty if the kernel is to be asked
	outage   *outage
	gateways gateways
	pending4 neighbors
	pending6 neighbors
}

func emptySurroundings() *surroundings {
	return &surroundings{own: map[netip.Addr]bool{}, via: map[netip.Prefix][]int{}, routes: map[netip.Prefix]bool{}, outage: newOutage()}
}

// newSurroundings reads addresses and routes. What cannot be read is not known,
// and then an address counts as neither ours nor on-link.
func newSurroundings() *surroundings {
	s := emptySurroundings()
	s.pending4.init("/proc/sys/net/ipv4/neigh/default/gc_thresh3")
	s.pending6.init("/proc/sys/net/ipv6/neigh/default/gc_thresh3")
	s.pending4.table.family, s.pending6.table.family = unix.AF_INET, unix.AF_INET6
	ethernets := map[int]bool{} // by index: interfaces that have neighbours
	ifs, _ := net.Interfaces()
	for _, ifi := range ifs {
		ethernets[ifi.Index] = ifi.Flags&(net.FlagLoopback|net.FlagPointToPoint) == 0
		addrs, _ := ifi.Addrs()
		if len(addrs) > 0 && ifi.Flags&net.FlagLoopback == 0 && ifi.Flags&net.FlagRunning != 0 {
			s.outage.links[ifi.Index] = true
			s.gateways.links = append(s.gateways.links, ifi.Index)
		}
		for _, a := range addrs {
			s.addAddress(a, ifi.Index, ethernets[ifi.Index])
		}
	}
	s.readRoutes(ethernets)
	return s
}

// readRoutes reads the routes of all tables: those of the main table say what
// is on-link, and all together where the source address may change.
func (s *surroundings) readRoutes(ethernets map[int]bool) {
	var borders []border
	known := true
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		n := 0
		err := netlink.RouteListFilteredIter(family, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE,
			func(r netlink.Route) bool {
				if len(borders) <= 2*mostPaths {
					borders = readBorders(borders, r)
				}
				if r.Type == unix.RTN_LOCAL && len(s.local) < mostLocal {
					s.addLocal(r)
				}
				if r.Table == unix.RT_TABLE_MAIN && r.Type == unix.RTN_UNICAST {
					s.addRoute(r, ethernets)
					s.gateways.add(r)
				}
				n++
				return n < mostRoutes
			})
		known = known && err == nil
	}
	if known && len(borders) <= 2*mostPaths && plainRules() {
		s.paths = newPaths(borders)
	}
}

// addLocal adds the network of a local route, unless it is of one address: those are known.
func (s *surroundings) addLocal(r netlink.Route) {
	if r.Dst == nil {
		return
	}
	addr, ok := netip.AddrFromSlice(r.Dst.IP)
	if ones, bits := r.Dst.Mask.Size(); ok && ones < bits {
		s.local = append(s.local, netip.PrefixFrom(addr.Unmap(), ones).Masked())
	}
}

func (s *surroundings) addAddress(a net.Addr, link int, ethernet bool) {
	ipnet, ok := a.(*net.IPNet)
	if !ok {
		return
	}
	addr, ok := netip.AddrFromSlice(ipnet.IP)
	if !ok {
		return
	}
	addr = addr.Unmap()
	s.own[addr] = true
	ones, _ := ipnet.Mask.Size()
	if ethernet && ones > 0 {
		s.add(netip.PrefixFrom(addr, ones).Masked(), link)
	}
}

func (s *surroundings) addRoute(r netlink.Route, ethernets map[int]bool) {
	if r.Dst == nil {
		return
	}
	addr, ok := netip.AddrFromSlice(r.Dst.IP)
	ones, bits := r.Dst.Mask.Size()
	if !ok || bits == 0 || ones == 0 {
		return
	}
	link := 0
	if len(r.Gw) == 0 && r.Via == nil && len(r.MultiPath) == 0 && ethernets[r.LinkIndex] {
		link = r.LinkIndex
	}
	s.add(netip.PrefixFrom(addr.Unmap(), ones).Masked(), link)
}

// add adds a network on a link, given by the index of its interface, or one
// behind a gateway: 0.
func (s *surroundings) add(p netip.Prefix, link int) {
	onLink := link != 0
	if _, known := s.routes[p]; known && !onLink {
		return
	}
	if onLink && !s.routes[p] {
		s.links = append(s.links, p)
	}
	if onLink && !slices.Contains(s.via[p], link) {
		s.via[p] = append(s.via[p], link)
	}
	s.routes[p] = onLink
	s.lengths[family(p.Addr())][p.Bits()] = true
}

func family(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

// onLink reports whether an address is on a network of this machine, so that it
// needs an entry in the neighbour table: the longest prefix decides.
func (s *surroundings) onLink(a netip.Addr) bool {
	a = a.WithZone("")
	for _, p := range s.links {
		if p.Contains(a) {
			_, onLink := s.longest(a)
			return onLink && !s.own[a]
		}
	}
	return false
}

// longest returns the longest known prefix of an address, and whether it is on-link.
func (s *surroundings) longest(a netip.Addr) (p netip.Prefix, onLink bool) {
	lengths := &s.lengths[family(a)]
	for bits := a.BitLen(); bits > 0; bits-- {
		if !lengths[bits] {
			continue
		}
		p, _ := a.Prefix(bits)
		if onLink, ok := s.routes[p]; ok {
			return p, onLink
		}
	}
	return netip.Prefix{}, false
}

// isOwn reports whether an address is this machine's, or that of the socket.
func (s *surroundings) isOwn(a, local netip.Addr) bool {
	a = a.WithZone("")
	return a == local.WithZone("") || a.IsLoopback() || s.own[a]
}

// isLocal reports whether what is sent to an address stays within this machine.
func (s *surroundings) isLocal(a netip.Addr) bool {
	a = a.WithZone("")
	return a.IsLoopback() || s.own[a] || slices.ContainsFunc(s.local, func(p netip.Prefix) bool { return p.Contains(a) })
}

// neighbors counts the addresses of a family that wait for ARP or ND.
type neighbors struct {
	mu      sync.Mutex
	most    int                // new ones per neighborSpan
	pending map[netip.Addr]int // dials for each unresolved address
	seen    map[netip.Addr]bool
	recent  []begun // of seen, the oldest first
	table   neighborTable
}

type begun struct {
	at   time.Time
	addr netip.Addr
}

func (n *neighbors) init(thresh3 string) {
	n.most = max(1, readInt(thresh3, defaultNeighbor)/2)
	n.pending = map[netip.Addr]int{}
	n.seen = map[netip.Addr]bool{}
}

func (s *surroundings) neighbors(t targets.Target) *neighbors {
	if t.Addr.Is4() {
		return &s.pending4
	}
	return &s.pending6
}

// admit reports whether an on-link address may be dialled now, and counts it.
func (n *neighbors) admit(a netip.Addr, now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for len(n.recent) > 0 && now.Sub(n.recent[0].at) >= neighborSpan {
		delete(n.seen, n.recent[0].addr)
		n.recent = n.recent[1:]
	}
	if n.pending[a] == 0 && (len(n.pending) >= mostUnresolved || !n.seen[a] && (n.tooSoon(now) || !n.table.room(now))) {
		return false
	}
	n.pending[a]++
	if !n.seen[a] {
		n.seen[a] = true
		n.recent = append(n.recent, begun{now, a})
	}
	return true
}

// tooSoon reports whether one more new address would be too many. They are spread
// evenly, because those that fail do so after three seconds each, and the kernel
// tells a socket so by an ICMP message: of these it sends 1,000 per second, and
// 50 at once (icmp_msgs_per_sec, icmp_msgs_burst).
func (n *neighbors) tooSoon(now time.Time) bool {
	last := len(n.recent) - 1
	return last >= 0 && now.Sub(n.recent[last].at) < neighborSpan/time.Duration(n.most)
}

// pressed reports whether the kernel's table was short of place a moment ago.
func (n *neighbors) pressed() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.table.pressed()
}

// settled says that a dial that was admitted has ended.
func (n *neighbors) settled(a netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.pending[a]--; n.pending[a] <= 0 {
		delete(n.pending, a)
	}
}
