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
)

// gateways are where this machine sends what is not on-link. A SYN to one that does not
// answer ARP or ND waits in the kernel, which has place for about a hundred: those that make
// way for others seem sent, and not all are told that they were not (see tooSoon).
type gateways struct {
	links []int // by index: those that had an address and worked when the run began

	mu      sync.Mutex // guards following
	list    [2][]gateway
	checked [2]time.Time
	trouble [2]bool
}

type gateway struct {
	addr netip.Addr
	link int
}

func (g *gateways) add(r netlink.Route) {
	addr, ok := netip.AddrFromSlice(r.Gw)
	if !ok {
		return
	}
	addr = addr.Unmap()
	if list := &g.list[family(addr)]; len(*list) < mostGateways {
		*list = append(*list, gateway{addr, r.LinkIndex})
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
	for _, w := range g.list[family] {
		g.trouble[family] = g.trouble[family] || w.fails()
	}
	for _, link := range g.links {
		g.trouble[family] = g.trouble[family] || linkIsDown(link)
	}
	return g.trouble[family]
}

// fails reports whether a gateway does not answer ARP or ND.
func (w gateway) fails() bool {
	state, err := readNeighbor(w.addr, w.link)
	return err == nil && (state == netlink.NUD_FAILED || state == netlink.NUD_INCOMPLETE)
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
	return linkIsDown(routes[0].LinkIndex) || ok && gateway{gw.Unmap(), routes[0].LinkIndex}.fails()
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
