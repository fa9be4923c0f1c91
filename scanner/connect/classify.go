package connect

import (
	"fmt"
	"syscall"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/scanner/recverr"
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
	reason := recverr.Reason(e.icmp)
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
