package connect

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/smtpsweep/smtpsweep/scanner"
)

// parseErrorQueue finds the ICMP message in the control messages that
// recvmsg(MSG_ERRQUEUE) returned: a struct sock_extended_err, followed by the
// address of the offender, who sent it (ip(7), IP_RECVERR). What an ICMP message
// quotes comes from the network, so nothing is taken for granted.
func parseErrorQueue(oob []byte) (scanner.ICMP, bool) {
	for len(oob) >= unix.SizeofCmsghdr {
		size, level, typ := cmsgHeader(oob)
		if size < unix.SizeofCmsghdr || size > uint64(len(oob)) {
			break
		}
		data := oob[unix.CmsgLen(0):max(int(size), unix.CmsgLen(0))]
		if level == unix.SOL_IP && typ == unix.IP_RECVERR || level == unix.SOL_IPV6 && typ == unix.IPV6_RECVERR {
			if m, ok := parseExtendedErr(data); ok {
				return m, true
			}
		}
		oob = oob[min(unix.CmsgSpace(int(size)-unix.CmsgLen(0)), len(oob)):]
	}
	return scanner.ICMP{}, false
}

// cmsgHeader reads a struct cmsghdr, whose length is as wide as a pointer.
func cmsgHeader(b []byte) (size uint64, level, typ int32) {
	if unix.SizeofCmsghdr == 16 {
		return binary.NativeEndian.Uint64(b), int32(binary.NativeEndian.Uint32(b[8:])), int32(binary.NativeEndian.Uint32(b[12:]))
	}
	return uint64(binary.NativeEndian.Uint32(b)), int32(binary.NativeEndian.Uint32(b[4:])), int32(binary.NativeEndian.Uint32(b[8:]))
}

// parseExtendedErr reads errno (4 bytes), origin, type, code, pad, info (4), data (4), offender.
func parseExtendedErr(b []byte) (scanner.ICMP, bool) {
	const size = 16
	if len(b) < size {
		return scanner.ICMP{}, false
	}
	if origin := b[4]; origin != unix.SO_EE_ORIGIN_ICMP && origin != unix.SO_EE_ORIGIN_ICMP6 {
		return scanner.ICMP{}, false // the kernel's own, as for a packet too big for the path
	}
	from := sockaddrAddrPort(b[size:]).Addr()
	return scanner.ICMP{From: from, Type: b[5], Code: b[6]}, from.IsValid()
}

// sockaddrAddrPort reads a struct sockaddr_in or sockaddr_in6, or nothing.
func sockaddrAddrPort(b []byte) netip.AddrPort {
	if len(b) < 2 {
		return netip.AddrPort{}
	}
	switch family := binary.NativeEndian.Uint16(b); {
	case family == unix.AF_INET && len(b) >= 8:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), binary.BigEndian.Uint16(b[2:]))
	case family == unix.AF_INET6 && len(b) >= 24:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[8:24])).Unmap(), binary.BigEndian.Uint16(b[2:]))
	}
	return netip.AddrPort{}
}
