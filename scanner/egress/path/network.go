package path

import (
	"net/netip"

	"github.com/smtpsweep/smtpsweep/targets"
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
	case targets.IsPublic(a):
		return NetPublic
	}
	return NetSpecial
}
