package connect

import (
	"fmt"
	"syscall"

	"github.com/smtpsweep/smtpsweep/scanner"
)

// evidence is what a dial that did not succeed left behind.
type evidence struct {
	errno    syscall.Errno // 0 = none; ETIMEDOUT = nothing came in time
	icmp     scanner.ICMP  // from the error queue; valid iff From is
	own      bool          // icmp.From is an address of this machine
	neighbor neighbor      // iff own, or nothing came in time
	passage  passage       // iff nothing came in time
}

// A passage is what is known of the way of a dial's SYNs out of this machine.
type passage uint8

const (
	passageUnsaid  passage = iota // nothing speaks against it
	passageDropped                // the kernel could not send the last one: a firewall of ours drops it
	passageCrowded                // nor could it send it, because a queue of ours was full
	passageHeld                   // the kernel still has one: its link is down, or its gateway does not answer ARP or ND
	passageRefused                // this machine itself answered with a reset: see guard
)

// A neighbor is what the kernel knows of an on-link target that did not answer.
type neighbor uint8

const (
	neighborUnsaid  neighbor = iota // nothing of use: not on-link, or there and silent
	neighborFailed                  // nobody answers ARP or ND
	neighborMissing                 // no entry: the SYNs did not get as far as that
)

// classify says what the evidence means. The error queue decides; errno speaks
// only where the queue is empty, because for an ICMP message errno says the same
// as for a reset (3/3 is ECONNREFUSED), or as for a fault of ours (1/1 is EACCES).
//
// State Unknown with an empty reason means that it decides nothing.
func classify(e evidence) (scanner.State, scanner.Reason) {
	if !e.icmp.From.IsValid() {
		return classifyErrno(e)
	}
	reason := icmpReason(e.icmp)
	if reason == "" {
		return scanner.Unknown, ""
	}
	if e.own {
		// Our own kernel says "host unreachable" when ARP or ND got no answer. If it
		// was not for the target, it is the gateway that did not answer, or a firewall.
		if e.neighbor == neighborFailed && reason == scanner.HostUnreach {
			return scanner.Filtered, scanner.NoNeighbor
		}
		return scanner.Unknown, scanner.LocalError
	}
	return scanner.Filtered, reason
}

func classifyErrno(e evidence) (scanner.State, scanner.Reason) {
	switch {
	case e.errno == 0:
		return scanner.Unknown, ""
	case e.errno == syscall.ECONNREFUSED:
		return scanner.Closed, scanner.ConnRefused
	case e.errno == syscall.ETIMEDOUT && e.neighbor == neighborFailed:
		return scanner.Filtered, scanner.NoNeighbor
	case e.errno == syscall.ETIMEDOUT && e.neighbor == neighborUnsaid && e.passage == passageUnsaid:
		return scanner.Filtered, scanner.NoResponse
	}
	return scanner.Unknown, scanner.LocalError
}

// icmpReason returns what an ICMP message says, or "" if it is no answer to a SYN.
func icmpReason(m scanner.ICMP) scanner.Reason {
	if m.From.Is4() {
		return icmp4Reason(m.Type, m.Code)
	}
	return icmp6Reason(m.Type, m.Code)
}

// icmp4Reason knows RFC 792, RFC 1122 (3.2.2.1) and RFC 1812 (5.2.7.1).
func icmp4Reason(typ, code uint8) scanner.Reason {
	switch typ {
	case 3: // destination unreachable
		return icmp4Unreachable(code)
	case 11: // time exceeded
		return scanner.TimeExceeded
	case 12: // parameter problem: somebody cannot make sense of the packet
		return scanner.ProtoUnreach
	}
	return "" // source quench, redirect
}

func icmp4Unreachable(code uint8) scanner.Reason {
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

// icmp6Reason knows RFC 4443, section 3, and RFC 8883.
func icmp6Reason(typ, code uint8) scanner.Reason {
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

// scarce reports whether an errno says that this machine ran out of something,
// so that the same dial may work later.
func scarce(errno syscall.Errno) bool {
	switch errno {
	case syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EAGAIN, syscall.EADDRNOTAVAIL:
		return true
	}
	return false
}

// starvation returns the note about such an errno.
func starvation(errno syscall.Errno) (code, text string) {
	switch errno {
	case syscall.EMFILE, syscall.ENFILE:
		return "descriptors-short", "out of file descriptors: fewer connections at a time (raise the limit of open files: ulimit -n)"
	case syscall.EADDRNOTAVAIL:
		return "source-ports-short", "out of local ports for a target: fewer connections at a time"
	}
	return "memory-short", fmt.Sprintf("out of network memory (%v): fewer connections at a time", errno)
}

// localSentence says in plain words which fault of this machine an errno is.
func localSentence(errno syscall.Errno, ip6 bool) string {
	family := "IPv4"
	if ip6 {
		family = "IPv6"
	}
	switch errno {
	case 0:
		return "this machine's connection ended without a cause"
	case syscall.EACCES, syscall.EPERM:
		return "this machine's firewall or policy forbids it"
	case syscall.ENETUNREACH:
		return "this machine has no route to " + family + " addresses like this"
	case syscall.EHOSTUNREACH:
		return "this machine has no way to the address (no route, or its gateway does not answer)"
	case syscall.EAFNOSUPPORT:
		return "this machine does not do " + family
	case syscall.EINVAL:
		return "this machine's routing forbids it (a blackhole route, or a link-local address without its interface)"
	case syscall.ENETDOWN, syscall.ENODEV, syscall.ENXIO:
		return "this machine's network interface is down or gone"
	case syscall.EADDRNOTAVAIL:
		return "this machine has no local address or port left for it"
	case syscall.EMFILE, syscall.ENFILE:
		return "this machine is out of file descriptors"
	case syscall.ETIMEDOUT: // of an on-link address without an entry in the neighbour table
		return "nothing left this machine for the address: its neighbour table is full, or its firewall drops the connection"
	}
	return "this machine could not connect: " + errno.Error()
}

// passageSentence says in plain words why no SYN left this machine, or "".
func passageSentence(p passage) string {
	switch p {
	case passageDropped:
		return "this machine's firewall drops it: no SYN left"
	case passageCrowded:
		return "this machine's network queue is full: no SYN left (fewer at a time: --rate)"
	case passageHeld:
		return "nothing left this machine for the address: its network link is down, or its gateway does not answer"
	case passageRefused:
		return "this machine itself refuses it with a TCP reset: its firewall, or a local proxy"
	}
	return ""
}

// ownICMPSentence says what an ICMP message means that our own machine sent.
func ownICMPSentence(reason scanner.Reason) string {
	if reason == scanner.HostUnreach {
		return "this machine's gateway does not answer, or its firewall rejects the connection"
	}
	return "this machine's firewall or routing rejects the connection (" + string(reason) + ")"
}
