// Package recverr reads the error queues of sockets: which ICMP message answered a
// packet, and who sent it, without any privilege (ip(7), IP_RECVERR and IPV6_RECVERR).
// Errno alone does not tell a reset from an ICMP message, nor who sent one.
//
// Linux has such queues. Elsewhere only [Reason] is there.
package recverr

import "github.com/smtpsweep/smtpsweep/scanner"

// Reason returns what an ICMP message says, or "" if it is no answer to a SYN.
func Reason(m scanner.ICMP) scanner.Reason {
	if m.From.Is4() {
		return reason4(m.Type, m.Code)
	}
	return reason6(m.Type, m.Code)
}

// reason4 knows RFC 792, RFC 1122 (3.2.2.1) and RFC 1812 (5.2.7.1).
func reason4(typ, code uint8) scanner.Reason {
	switch typ {
	case 3: // destination unreachable
		return unreachable4(code)
	case 11: // time exceeded
		return scanner.TimeExceeded
	case 12: // parameter problem: somebody cannot make sense of the packet
		return scanner.ProtoUnreach
	}
	return "" // source quench, redirect
}

func unreachable4(code uint8) scanner.Reason {
	switch code {
	case 1, 7, 8, 12: // host: unreachable, unknown, isolated, for this type of service
		return scanner.HostUnreach
	case 2:
		return scanner.ProtoUnreach
	case 3:
		return scanner.PortUnreach
	case 4: // fragmentation needed: the kernel sends smaller packets
		return ""
	case 9:
		return scanner.NetProhibited
	case 10:
		return scanner.HostProhibited
	case 13, 14, 15: // prohibited by filtering; precedence violation and cutoff
		return scanner.AdminProhibited
	}
	return scanner.NetUnreach // 0, 5 source route failed, 6 unknown, 11 for this type of service, and the unassigned
}

// reason6 knows RFC 4443, section 3, and RFC 8883.
func reason6(typ, code uint8) scanner.Reason {
	switch typ {
	case 1: // destination unreachable
		switch code {
		case 1, 5, 6: // prohibited, source address failed policy, reject route
			return scanner.AdminProhibited
		case 3, 8: // address unreachable, headers too long
			return scanner.HostUnreach
		case 4:
			return scanner.PortUnreach
		}
		return scanner.NetUnreach // 0 no route, 2 beyond scope, 7 source routing header, and the unassigned
	case 3: // time exceeded
		return scanner.TimeExceeded
	case 4: // parameter problem
		return scanner.ProtoUnreach
	}
	return "" // 2: packet too big
}
