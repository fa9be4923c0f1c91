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
	for _, p := range networks(net.InterfaceAddrs()) {
		if p.Addr().Is4() && p.Bits() < 31 { // smaller ones have no broadcast address (RFC 3021)
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
