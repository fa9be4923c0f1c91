package lab

import (
	"encoding/binary"
	"net/netip"
)

// A frameKind is what a frame is to a scanner.
type frameKind byte

const (
	frameOther frameKind = iota
	frameLink            // ARP and neighbour discovery: of the link, not of an endpoint
	frameSYN             // the first segment of a connection
	frameSYNACK
	frameRST
	frameICMP // an error about a segment of an endpoint
)

// Numbers of protocols (IEEE 802.3 EtherTypes; IANA protocol numbers).
const (
	etherHeader = 14
	etherIPv4   = 0x0800
	etherIPv6   = 0x86dd
	protoICMP   = 1
	protoTCP    = 6
	protoICMPv6 = 58
)

// Flags of TCP (RFC 9293, 3.1).
const (
	flagSYN = 0x02
	flagRST = 0x04
	flagACK = 0x10
)

// parseFrame says what an Ethernet frame is, and of which endpoint: the far one, as
// seen from the scanner. That of an ICMP error is the one that it is about; what is
// neither TCP nor about TCP has port 0.
func parseFrame(b []byte, dir direction) (netip.AddrPort, frameKind) {
	if len(b) < etherHeader {
		return netip.AddrPort{}, frameLink
	}
	packet := b[etherHeader:]
	var h ipHeader
	switch binary.BigEndian.Uint16(b[12:]) {
	case etherIPv4:
		h = parseIPv4(packet)
	case etherIPv6:
		h = parseIPv6(packet)
	default:
		return netip.AddrPort{}, frameLink
	}
	far := h.src
	if dir == outward {
		far = h.dst
	}
	switch {
	case h.proto == protoTCP && len(h.payload) >= 14:
		return parseTCP(h.payload, far, dir)
	case h.proto == protoICMP && len(h.payload) >= 8 && isError4(h.payload[0]):
		return ofInner(parseIPv4(h.payload[8:]), far)
	case h.proto == protoICMPv6 && len(h.payload) >= 8 && h.payload[0] < 128:
		return ofInner(parseIPv6(h.payload[8:]), far)
	case h.proto == protoICMPv6 && len(h.payload) > 0 && h.payload[0] >= 130 && h.payload[0] <= 143:
		return netip.AddrPort{}, frameLink // listeners, routers and neighbours (RFC 4861, RFC 3810)
	}
	return netip.AddrPortFrom(far, 0), frameOther
}

func parseTCP(segment []byte, far netip.Addr, dir direction) (netip.AddrPort, frameKind) {
	port := binary.BigEndian.Uint16(segment)
	if dir == outward {
		port = binary.BigEndian.Uint16(segment[2:])
	}
	kind := frameOther
	switch flags := segment[13]; {
	case flags&flagRST != 0:
		kind = frameRST
	case flags&(flagSYN|flagACK) == flagSYN:
		kind = frameSYN
	case flags&(flagSYN|flagACK) == flagSYN|flagACK:
		kind = frameSYNACK
	}
	return netip.AddrPortFrom(far, port), kind
}

// ofInner returns the endpoint that an ICMP error is about: where the packet in it was going.
func ofInner(h ipHeader, far netip.Addr) (netip.AddrPort, frameKind) {
	if h.proto != protoTCP || len(h.payload) < 4 {
		return netip.AddrPortFrom(far, 0), frameOther
	}
	return netip.AddrPortFrom(h.dst, binary.BigEndian.Uint16(h.payload[2:])), frameICMP
}

// isError4 reports whether an ICMP type is an error about a packet (RFC 1122, 3.2.2).
func isError4(typ byte) bool { return typ == 3 || typ == 4 || typ == 5 || typ == 11 || typ == 12 }

// An ipHeader is what is needed of one. Of what cannot be read proto is 0.
type ipHeader struct {
	src, dst netip.Addr
	proto    byte
	payload  []byte
}

// parseIPv4 reads a header (RFC 791, 3.1). Of a fragment that is not the first there is no payload.
func parseIPv4(b []byte) (h ipHeader) {
	if len(b) < 20 || b[0]>>4 != 4 {
		return h
	}
	size := int(b[0]&0xf) * 4
	h.src, h.dst = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	if h.proto = b[9]; size >= 20 && size <= len(b) && binary.BigEndian.Uint16(b[6:])&0x1fff == 0 {
		h.payload = b[size:]
	}
	return h
}

// parseIPv6 reads a header without extensions (RFC 8200, 3), as the lab's are, but for the
// hop-by-hop options of multicast listeners.
func parseIPv6(b []byte) (h ipHeader) {
	if len(b) < 40 || b[0]>>4 != 6 {
		return h
	}
	h.src, h.dst = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	h.proto, h.payload = b[6], b[40:]
	if h.proto == 0 && len(h.payload) >= 8 {
		if size := (int(h.payload[1]) + 1) * 8; size <= len(h.payload) {
			h.proto, h.payload = h.payload[0], h.payload[size:]
		}
	}
	return h
}
