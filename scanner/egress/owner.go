package egress

import (
	"net/netip"
	"strings"
)

// An Owner says in whose hands a hop is, as far as its address tells. The words
// are for people.
type Owner string

const (
	OwnMachine  Owner = "this machine"
	OwnRouter   Owner = "your router"
	OwnNetwork  Owner = "your network"
	OwnProvider Owner = "your provider"
	Beyond      Owner = "beyond your provider"
	NotKnown    Owner = ""
)

var (
	cgnat     = netip.MustParsePrefix("100.64.0.0/10") // RFC 6598
	linkLocal = netip.MustParsePrefix("fe80::/10")
)

// A Place is a hop as people know it.
type Place struct {
	Owner Owner
	Words string // why: "private address", "shared address space, CGNAT", its name
}

// Places says whose the hops of a path are. addrs are their addresses in order,
// not valid where a hop is silent; names their names, "" where there is none. last
// says that the last one is the destination.
//
// What has a private address before the first public one is yours: the first is
// your router. CGNAT is a provider's by definition. The first public hop is your
// provider's, and so are those after it that share its domain; whose a silent or
// later hop is, the address does not tell.
func Places(addrs []netip.Addr, names []string, last bool) []Place {
	out := make([]Place, len(addrs))
	outside, domain := false, ""
	for i, a := range addrs {
		name := ""
		if i < len(names) {
			name = names[i]
		}
		switch {
		case last && i == len(addrs)-1:
			out[i] = Place{Beyond, name}
		case !a.IsValid():
			out[i] = Place{NotKnown, "no answer"}
		case cgnat.Contains(a):
			outside = true
			out[i] = Place{OwnProvider, "shared address space, CGNAT"}
		case (a.IsPrivate() || a.Is4() && a.IsLinkLocalUnicast() || linkLocal.Contains(a)) && !outside:
			out[i] = Place{OwnNetwork, "private address"}
			if i == 0 {
				out[i].Owner = OwnRouter
			}
		case a.IsPrivate():
			out[i] = Place{OwnProvider, "private address behind public ones"}
		case i == 0 && a.Is6():
			out[i] = Place{OwnRouter, name} // homes and offices have public IPv6 addresses
		case !outside || domain == "" || name != "" && domainOf(name) == domain:
			if !outside || domain == "" {
				domain = domainOf(name)
			}
			outside = true
			out[i] = Place{OwnProvider, name}
		default:
			out[i] = Place{Beyond, name}
		}
	}
	return out
}

// domainOf returns the last two labels of a name: enough to see that routers
// belong together.
func domainOf(name string) string {
	labels := strings.Split(strings.Trim(strings.ToLower(name), "."), ".")
	if len(labels) < 2 {
		return ""
	}
	return strings.Join(labels[len(labels)-2:], ".")
}
