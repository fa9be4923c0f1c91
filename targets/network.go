package targets

import "net/netip"

// What kinds of network there are, as Network says.
const (
	NetPrivate   = "private"    // RFC 1918, RFC 4193
	NetShared    = "shared"     // RFC 6598, behind a provider's NAT
	NetLinkLocal = "link-local" // RFC 3927, RFC 4291
	NetLoopback  = "loopback"
	NetSpecial   = "special" // another block of the special-purpose registries
	NetPublic    = "public"
)

var shared = netip.MustParsePrefix("100.64.0.0/10")

// Network says what kind of network an address is of: one of the Net words.
func Network(a netip.Addr) string {
	a = a.Unmap().WithZone("")
	switch {
	case a.IsLoopback():
		return NetLoopback
	case a.IsLinkLocalUnicast():
		return NetLinkLocal
	case a.IsPrivate():
		return NetPrivate
	case shared.Contains(a):
		return NetShared
	case IsPublic(a):
		return NetPublic
	}
	return NetSpecial
}
