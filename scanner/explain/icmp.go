package explain

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// An icmpKind is an ICMP message by type and code, and the reason it stands for
// in our reports; "" if it is no answer to a connection.
type icmpKind struct{ reason, what string }

// icmp4Codes are the codes of type 3, destination unreachable (RFC 792; RFC
// 1122, 3.2.2.1; RFC 1812, 5.2.7.1).
var icmp4Codes = map[uint8]icmpKind{
	0: {"net-unreach", "network unreachable"}, 1: {"host-unreach", "host unreachable"},
	2: {"proto-unreach", "protocol unreachable"}, 3: {"port-unreach", "port unreachable"},
	4: {"", "fragmentation needed"}, 5: {"net-unreach", "source route failed"},
	6: {"net-unreach", "destination network unknown"}, 7: {"host-unreach", "destination host unknown"},
	8: {"host-unreach", "source host isolated"}, 9: {"net-prohibited", "network administratively prohibited"},
	10: {"host-prohibited", "host administratively prohibited"}, 11: {"net-unreach", "network unreachable for this type of service"},
	12: {"host-unreach", "host unreachable for this type of service"}, 13: {"admin-prohibited", "communication administratively prohibited by filtering"},
	14: {"admin-prohibited", "host precedence violation"}, 15: {"admin-prohibited", "precedence cutoff in effect"},
}

// icmp6Codes are the codes of type 1, destination unreachable (RFC 4443, 3.1;
// RFC 8883).
var icmp6Codes = map[uint8]icmpKind{
	0: {"net-unreach", "no route to destination"}, 1: {"admin-prohibited", "communication administratively prohibited"},
	2: {"net-unreach", "beyond scope of source address"}, 3: {"host-unreach", "address unreachable"},
	4: {"port-unreach", "port unreachable"}, 5: {"admin-prohibited", "source address failed policy"},
	6: {"admin-prohibited", "reject route to destination"}, 7: {"net-unreach", "error in source routing header"},
	8: {"host-unreach", "headers too long"},
}

// icmp4 says what an ICMP message of IPv4 is.
func icmp4(typ, code uint8) (icmpKind, bool) {
	switch typ {
	case 3:
		k, ok := icmp4Codes[code]
		return k, ok
	case 4:
		return icmpKind{"", "source quench"}, true
	case 5:
		return icmpKind{"", "redirect"}, true
	case 11:
		return icmpKind{"time-exceeded", "time exceeded"}, true
	case 12:
		return icmpKind{"proto-unreach", "parameter problem"}, true
	}
	return icmpKind{}, false
}

// icmp6 says what an ICMPv6 message is.
func icmp6(typ, code uint8) (icmpKind, bool) {
	switch typ {
	case 1:
		k, ok := icmp6Codes[code]
		return k, ok
	case 2:
		return icmpKind{"", "packet too big"}, true
	case 3:
		return icmpKind{"time-exceeded", "time exceeded"}, code <= 1
	case 4:
		return icmpKind{"proto-unreach", "parameter problem"}, code <= 10
	}
	return icmpKind{}, false
}

// icmpAt reads "ICMP 3/13 from 192.0.2.1", "ICMPv6 1/1" or, if bare, "3/13" at
// the beginning of some tokens. It returns what it is and how many tokens that
// took; 0 if it is none. A pair that both IPv4 and IPv6 know is explained as
// both, unless the text says which.
func icmpAt(tokens []string, bare bool) (out []topic, n int) {
	six, four := true, true
	pairOf := tokens[0]
	switch word, v, _ := strings.Cut(pairOf, "="); word {
	case "icmp", "icmpv6", "icmp6", "icmpv4":
		four = word != "icmpv6" && word != "icmp6"
		six = word != "icmpv4"
		pairOf, n = v, 1
		if v == "" && len(tokens) > 1 {
			pairOf, n = tokens[1], 2
		}
	default:
		if !bare {
			return nil, 0
		}
		n = 1
	}
	typ, code, ok := typeCode(pairOf)
	if !ok {
		return nil, 0
	}
	var from netip.Addr
	if len(tokens) > n+1 && tokens[n] == "from" {
		if a, err := netip.ParseAddr(tokens[n+1]); err == nil {
			from, n = a.WithZone("").Unmap(), n+2
			four, six = four && from.Is4(), six && from.Is6()
		}
	}
	if k, ok := icmp4(typ, code); ok && four {
		out = append(out, k.topic("ICMP", typ, code, from))
	}
	if k, ok := icmp6(typ, code); ok && six {
		out = append(out, k.topic("ICMPv6", typ, code, from))
	}
	if out == nil {
		return nil, 0
	}
	return out, n
}

// typeCode reads "3/13".
func typeCode(s string) (typ, code uint8, ok bool) {
	a, b, found := strings.Cut(s, "/")
	t, err1 := strconv.ParseUint(a, 10, 8)
	c, err2 := strconv.ParseUint(b, 10, 8)
	return uint8(t), uint8(c), found && err1 == nil && err2 == nil
}

// topic returns what the message means: what it says, who sent it, and what is
// to be done about the reason that it stands for.
func (k icmpKind) topic(family string, typ, code uint8, from netip.Addr) topic {
	name := fmt.Sprintf("%s %d/%d (%s)", family, typ, code, k.what)
	sender := "The column icmp_from says who sent it (in the table: the address after \"from\")."
	if from.IsValid() {
		sender = "It was sent by " + from.String() + "; that need not be the target."
	}
	if k.reason == "" {
		return topic{id: name, name: name,
			means: []string{"A hint to send smaller packets, slower, or another way. It does not answer a connection, so no state follows from it.", sender},
			do:    []string{"Nothing: the operating system heeds it."}, who: whoNobody, source: "RFC 792; RFC 1122, section 3.2.2; RFC 4443, section 3.2"}
	}
	t := ownTopics[k.reason]
	means := []string{"In reports: filtered, reason " + k.reason + ".", sender}
	if k.reason == "host-unreach" {
		means = append(means, "From this machine itself, about an address in its own network, it means that nobody answered ARP or ND: the reason is no-neighbor then.")
	}
	t.means = append(means, t.means...)
	t.id, t.name = name, name
	if family == "ICMPv6" {
		t.source = "RFC 4443, section 3; RFC 8883"
	}
	return t
}
