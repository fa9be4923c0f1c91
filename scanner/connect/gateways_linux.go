package connect

import (
	"net/netip"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	mostGateways  = 16                     // of a family that are looked after
	gatewaysTrust = 100 * time.Millisecond // until they are looked at again
	mostOthers    = 64                     // rows, until one that the kernel has no entry for counts as not used
)

// gateways are where this machine sends what is not on-link. A SYN to one that does not
// answer ARP or ND waits in the kernel, which has place for about a hundred: those that make
// way for others seem sent, and not all are told that they were not (see tooSoon).
type gateways struct {
	links []int // by index: those that had an address and worked when the run began

	mu      sync.Mutex // guards following
	list    [2][]watched
	checked [2]time.Time
	trouble [2]bool
}

type gateway struct {
	addr netip.Addr
	link int
}

// A watched gateway is one that is looked after.
type watched struct {
	gateway
	others int // silent rows in turn that went by others, up to mostOthers
}

func (g *gateways) add(r netlink.Route) {
	addr, ok := netip.AddrFromSlice(r.Gw)
	if !ok {
		return
	}
	addr = addr.Unmap()
	if list := &g.list[family(addr)]; len(*list) < mostGateways {
		*list = append(*list, watched{gateway: gateway{addr, r.LinkIndex}})
	}
}

// troubled reports whether some gateway of a family does not answer, or some link does not
// work. It asks the kernel now and then.
func (g *gateways) troubled(family int, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if now.Sub(g.checked[family]) < gatewaysTrust {
		return g.trouble[family]
	}
	g.checked[family], g.trouble[family] = now, false
	for i := range g.list[family] {
		w := &g.list[family][i]
		fails, known := w.fails()
		g.trouble[family] = g.trouble[family] || fails && (known || w.others < mostOthers)
	}
	for _, link := range g.links {
		g.trouble[family] = g.trouble[family] || linkIsDown(link)
	}
	return g.trouble[family]
}

// use notes that a silent row went by a gateway.
func (g *gateways) use(family int, used gateway) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range g.list[family] {
		if w := &g.list[family][i]; w.gateway == used {
			w.others = 0
		} else {
			w.others = min(w.others+1, mostOthers)
		}
	}
}

// fails reports whether a gateway does not answer ARP or ND, and whether the kernel
// has an entry for it. What was sent to a gateway that has none was not answered
// for either: where the neighbour table is short, those that failed go first.
func (w gateway) fails() (fails, known bool) {
	state, err := readNeighbor(w.addr, w.link)
	if err == unix.ENOENT {
		return asksNeighbors(w.link), false
	}
	const answered = netlink.NUD_REACHABLE | netlink.NUD_STALE | netlink.NUD_DELAY | netlink.NUD_PROBE | netlink.NUD_PERMANENT | netlink.NUD_NOARP
	return err == nil && state&answered == 0, err == nil
}

// asksNeighbors reports whether what is sent over a link needs ARP or ND.
func asksNeighbors(index int) bool {
	link, err := netlink.LinkByIndex(index)
	return err == nil && link.Attrs().RawFlags&(unix.IFF_NOARP|unix.IFF_POINTOPOINT|unix.IFF_LOOPBACK) == 0
}

func linkIsDown(index int) bool {
	link, err := netlink.LinkByIndex(index)
	return err != nil || link.Attrs().RawFlags&unix.IFF_RUNNING == 0
}

// noWay reports whether what is sent to an address that is not on-link does not leave this
// machine now, because the link is down or the gateway does not answer.
func (s *surroundings) noWay(a netip.Addr, now time.Time) bool {
	if !s.gateways.troubled(family(a), now) {
		return false
	}
	routes, err := netlink.RouteGet(a.WithZone("").AsSlice())
	if err != nil || len(routes) == 0 {
		return err != nil
	}
	gw, ok := netip.AddrFromSlice(routes[0].Gw)
	if down := linkIsDown(routes[0].LinkIndex); down || !ok {
		return down
	}
	used := gateway{gw.Unmap(), routes[0].LinkIndex}
	s.gateways.use(family(a), used)
	fails, _ := used.fails()
	return fails
}

// linkIsDown reports whether no link that leads to an on-link address works.
func (s *surroundings) linkIsDown(a netip.Addr) bool {
	for _, link := range s.linksOf(a) {
		if !linkIsDown(link) {
			return false
		}
	}
	return true
}
