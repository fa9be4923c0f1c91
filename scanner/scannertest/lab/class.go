package lab

import (
	"net/netip"
	"slices"
)

// A Class is what tg (or the router) does with a connection to one of
// Config.Ports. It is the last three bits of the address, so that the right
// answer for a million addresses needs no table.
type Class uint8

const (
	Accept          Class = iota // accepted
	Reset                        // answered with a TCP reset
	Drop                         // dropped without a word
	AdminProhibited              // ICMP 3/13; ICMPv6 1/1
	HostUnreach                  // ICMP 3/1; ICMPv6 1/3 (address unreachable)
	PortUnreach                  // ICMP 3/3; ICMPv6 1/4
	Redirect                     // led to another port, as by a transparent proxy (always in tg)
	AcceptToo                    // accepted
)

var classNames = [...]string{
	"accept", "reset", "drop", "admin-prohibited", "host-unreach", "port-unreach", "redirect", "accept-too",
}

// String returns the name of the class.
func (c Class) String() string { return classNames[c] }

// ClassOf returns the class of an address: its last three bits.
func ClassOf(addr netip.Addr) Class {
	b := addr.As16()
	return Class(b[15] & 7)
}

// icmp returns the type and code that a rejecting class answers with
// (RFC 792 and RFC 1812, 5.2.7.1; RFC 4443, 3.1), and zeros for the others.
func (c Class) icmp(ip6 bool) (typ, code uint8) {
	codes := map[Class][2]uint8{AdminProhibited: {13, 1}, HostUnreach: {1, 3}, PortUnreach: {3, 4}}
	code2, ok := codes[c]
	switch {
	case !ok:
		return 0, 0
	case ip6:
		return 1, code2[1]
	}
	return 3, code2[0]
}

// An Expect is the truth about one endpoint, in the words of reports.
type Expect struct {
	Class    Class      // Accept where no class rules apply
	State    string     // open, closed, filtered
	Reason   string     // syn-ack, conn-refused, no-response, admin-prohibited, ...
	From     netip.Addr // who sends the ICMP message; not valid if none is sent
	ICMPType uint8
	ICMPCode uint8
	Greeting string // first line of the built-in server; empty unless open and Config.Serve
}

// Truth says what a scanner in sc should find at an endpoint. It takes for
// granted that somebody listens on Config.Ports (and on Redirect, with Classes): the
// built-in server, or one that the test started on all addresses of tg.
//
// The sender of an ICMP message depends on where the reject sits. In the router
// it is the router's address on our side. In the target it is, with IPv4, the probed address
// itself, because that address is local there; with IPv6 it is the target's
// own address fd20:10::2, because the kernel takes as source only an address that an interface has.
func (l *Lab) Truth(addr netip.Addr, port uint16) Expect { return l.cfg.truth(addr, port) }

func (c Config) truth(addr netip.Addr, port uint16) Expect {
	addr = addr.Unmap()
	mail := slices.Contains(c.Ports, port)
	switch {
	case OnLink4.Contains(addr) || OnLink6.Contains(addr):
		return c.truthOnLink(addr, mail)
	case !c.isTarget(addr):
		return c.unreachable("net-unreach", addr.Is6(), RouterAddr4, RouterAddr6, 0, 0)
	case c.Classes && mail:
		return c.truthOfClass(addr)
	case mail:
		return c.open(Accept)
	case c.Classes && port == c.Redirect:
		return c.open(Redirect)
	}
	return Expect{State: "closed", Reason: "conn-refused"}
}

// isTarget reports whether tg is this address.
func (c Config) isTarget(addr netip.Addr) bool {
	within := func(p netip.Prefix) bool { return p.Contains(addr) }
	return within(Targets4) || within(Targets6) || slices.ContainsFunc(c.AnyIP, within) ||
		addr == TargetAddr4 || addr == TargetAddr6
}

func (c Config) open(class Class) Expect {
	e := Expect{Class: class, State: "open", Reason: "syn-ack"}
	switch {
	case c.Serve && class == Redirect:
		e.Greeting = ProxyGreeting
	case c.Serve:
		e.Greeting = Greeting
	}
	return e
}

func (c Config) truthOfClass(addr netip.Addr) Expect {
	class := ClassOf(addr)
	switch class {
	case Accept, AcceptToo, Redirect:
		return c.open(class)
	case Reset:
		return Expect{Class: class, State: "closed", Reason: "conn-refused"}
	case Drop:
		return Expect{Class: class, State: "filtered", Reason: "no-response"}
	}
	typ, code := class.icmp(addr.Is6())
	e := Expect{Class: class, State: "filtered", Reason: class.String(), ICMPType: typ, ICMPCode: code}
	switch {
	case c.RejectAt == Router && addr.Is4():
		e.From = RouterAddr4
	case c.RejectAt == Router:
		e.From = RouterAddr6
	case addr.Is4():
		e.From = addr
	default:
		e.From = TargetAddr6
	}
	return e
}

// truthOnLink: an address that answers no ARP is reported by our own kernel, so
// the sender of the (local) message is our own address.
func (c Config) truthOnLink(addr netip.Addr, mail bool) Expect {
	switch {
	case len(c.OnLink) == 0:
		return c.unreachable("net-unreach", addr.Is6(), RouterAddr4, RouterAddr6, 0, 0)
	case slices.Contains(c.OnLink, addr) && mail:
		return c.open(Accept)
	case slices.Contains(c.OnLink, addr), addr == OnLinkAddr4, addr == OnLinkAddr6:
		return Expect{State: "closed", Reason: "conn-refused"}
	}
	return c.unreachable("no-neighbor", addr.Is6(), OnLinkAddr4, OnLinkAddr6, 1, 3)
}

func (c Config) unreachable(reason string, ip6 bool, from4, from6 netip.Addr, code4, code6 uint8) Expect {
	e := Expect{State: "filtered", Reason: reason, From: from4, ICMPType: 3, ICMPCode: code4}
	if ip6 {
		e.From, e.ICMPType, e.ICMPCode = from6, 1, code6
	}
	return e
}
