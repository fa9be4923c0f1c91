package main

import (
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/smtpsweep/smtpsweep/scanner/smtp"
)

// fromText says from which addresses a run looks, and as whom, or that there is
// no way to what it is to contact.
func (s *sweep) fromText() string {
	var from, as, lost []string
	for _, target := range s.samples() {
		source, name := s.viewOf(target)
		if source == "" {
			lost = append(lost, target.String())
			continue
		}
		from, as = append(from, source), append(as, name)
	}
	if len(from) == 0 {
		return ", to which this machine has no route"
	}
	if name := s.f.heloName(); name != "" {
		as = []string{name}
	}
	text := " from " + joinAnd(from)
	if s.f.probe.text == "full" { // else there is no EHLO
		text += " as " + joinAnd(as)
	}
	if len(lost) > 0 {
		text += " (no route to " + joinAnd(lost) + ")"
	}
	return text
}

// joinAnd lists words, each once.
func joinAnd(words []string) string {
	var once []string
	for _, w := range words {
		if !slices.Contains(once, w) {
			once = append(once, w)
		}
	}
	return strings.Join(once, " and ")
}

// viewOf says from where a target is looked at, and by what address as a name.
// Of an interface the address is known only if it has one.
func (s *sweep) viewOf(target netip.Addr) (source, name string) {
	switch a := s.sourceTowards(target); {
	case a.IsValid():
		return a.String(), smtp.AddressLiteral(a)
	case s.iface == "":
		return "", ""
	}
	if a := onlyAddress(s.iface, target.Is4()); a.IsValid() {
		return s.iface, smtp.AddressLiteral(a)
	}
	return s.iface, "its address"
}

// sourceAddress returns our address towards the first target. It is not valid
// if it is not known, or there is no route, or nothing to contact.
func (s *sweep) sourceAddress() netip.Addr {
	if some := s.samples(); len(some) > 0 {
		return s.sourceTowards(some[0])
	}
	return netip.Addr{}
}

// sourceTowards returns the address that --source names, or the one that the
// kernel would use. Of an interface that --source names, it is not known yet.
func (s *sweep) sourceTowards(target netip.Addr) netip.Addr {
	if s.source.IsValid() || s.iface != "" {
		return s.source
	}
	return routeSource(target)
}

// onlyAddress returns the address of an interface in a family, if it is the only
// one that is not link-local.
func onlyAddress(iface string, four bool) (only netip.Addr) {
	i, err := net.InterfaceByName(iface)
	if err != nil {
		return only
	}
	for _, p := range networks(i.Addrs()) {
		switch a := p.Addr(); {
		case a.Is4() != four || a.IsLinkLocalUnicast():
		case only.IsValid():
			return netip.Addr{}
		default:
			only = a
		}
	}
	return only
}

// routeSource asks the routing table by connecting a UDP socket, which sends nothing.
func routeSource(target netip.Addr) netip.Addr {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(target, 9)))
	if err != nil {
		return netip.Addr{}
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
}

// maxTried bounds the search for an address that is not excluded.
const maxTried = 1 << 16

// samples returns some addresses that are contacted: the first and the last of
// the plan, where IPv4 comes before IPv6, and one of each family of the names'.
func (s *sweep) samples() (out []netip.Addr) {
	plan := s.job.plan
	tries := min(plan.Len(), maxTried)
	for _, fromEnd := range []bool{false, true} {
		for i := range tries {
			if fromEnd {
				i = plan.Len() - 1 - i
			}
			t := plan.At(i)
			if ok, _ := plan.PermitTarget(t); ok {
				out = append(out, t.Addr)
				break
			}
		}
	}
	return append(out, s.job.names.some...)
}
