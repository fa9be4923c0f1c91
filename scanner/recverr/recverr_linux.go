package recverr

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/smtpsweep/smtpsweep/scanner"
)

// A Queue is the buffer that error queues are read into. Its zero value works; it
// serves one reader at a time, and does not allocate.
type Queue struct {
	msg unix.Msghdr
	oob [512]byte
}

// Next takes the oldest ICMP message out of a socket's error queue. It never waits:
// ok says whether there was one.
func (q *Queue) Next(fd int) (m scanner.ICMP, ok bool) {
	for range 16 { // what else is there, is the kernel's own
		q.msg = unix.Msghdr{Control: &q.oob[0]}
		q.msg.SetControllen(len(q.oob))
		_, _, errno := unix.RawSyscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&q.msg)), unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
		if errno != 0 {
			return m, false
		}
		if m, ok := Parse(q.oob[:min(int(q.msg.Controllen), len(q.oob))]); ok {
			return m, true
		}
	}
	return m, false
}

// Last returns the last ICMP message in a socket's error queue, and empties it.
func (q *Queue) Last(fd int) (last scanner.ICMP) {
	for range 16 { // more than one is rare, and each is one SYN answered
		m, ok := q.Next(fd)
		if !ok {
			return last
		}
		last = m
	}
	return last
}

// Ask makes a socket keep the ICMP messages that answer what it sends.
func Ask(fd int, ip6 bool) error {
	if ip6 {
		return unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_RECVERR, 1)
	}
	return unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_RECVERR, 1)
}

// Parse finds the ICMP message in the control messages that
// recvmsg(MSG_ERRQUEUE) returned: a struct sock_extended_err, followed by the
// address of the offender, who sent it (ip(7), IP_RECVERR). What an ICMP message
// quotes comes from the network, so nothing is taken for granted.
func Parse(oob []byte) (scanner.ICMP, bool) {
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
	from := AddrPort(b[size:]).Addr()
	return scanner.ICMP{From: from, Type: b[5], Code: b[6]}, from.IsValid()
}

// AddrPort reads a struct sockaddr_in or sockaddr_in6, or nothing.
func AddrPort(b []byte) netip.AddrPort {
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
