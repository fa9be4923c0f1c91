package main

import (
	"encoding/binary"
	"net"
	"net/netip"
)

// broadcastAddresses returns the IPv4 broadcast addresses of this machine's
// networks. A connection to one fails at once with "network unreachable", which
// would look like a fault of this machine.
func broadcastAddresses() []netip.Addr {
	var ends []netip.Addr
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		// A network of one or two addresses has no broadcast address (RFC 3021).
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() && p.Bits() < 31 {
			ends = append(ends, p.Masked().Addr(), lastAddress(p))
		}
	}
	return onlyBroadcast(ends)
}

// lastAddress returns the last address of an IPv4 prefix.
func lastAddress(p netip.Prefix) netip.Addr {
	b := p.Addr().As4()
	n := binary.BigEndian.Uint32(b[:]) | ^uint32(0)>>p.Bits()
	binary.BigEndian.PutUint32(b[:], n)
	return netip.AddrFrom4(b)
}
