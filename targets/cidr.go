package targets

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/projectdiscovery/mapcidr"
)

// divide cuts one typed range into prefixes, in order, with mapcidr.
// This is the only door to that module. Merging, counting, exclusion and order
// are ours: its set operations need memory for every address or lose some
// (RemoveCIDRs fails on equal blocks, AddressCount of an IPv6 /64 is 0).
//
// What it returns is checked, because a target outside what was typed is the
// worst mistake a scanner can make. Of its two ways to do it, GetCIDRFromIPRange
// fails where an IPv6 address begins with a zero byte (NAT64's do), and
// IpRangeToCIDR makes 0.0.0.0/0 of 0.0.0.0-128.0.0.0; no range is known that
// both get wrong.
func divide(first, last netip.Addr) ([]netip.Prefix, error) {
	for _, way := range []func(first, last netip.Addr) []netip.Prefix{byNetworks, byText} {
		if p := way(first, last); exactly(p, first, last) {
			return p, nil
		}
	}
	return nil, fmt.Errorf("cannot divide %s-%s into prefixes", first, last)
}

// byNetworks uses GetCIDRFromIPRange; it returns nil if that fails.
func byNetworks(first, last netip.Addr) (prefixes []netip.Prefix) {
	defer func() {
		if recover() != nil { // it indexes an empty slice
			prefixes = nil
		}
	}()
	a, b := first.As16(), last.As16() // of 4 bytes it fails
	nets, err := mapcidr.GetCIDRFromIPRange(a[:], b[:])
	if err != nil {
		return nil
	}
	for _, n := range nets {
		prefixes = append(prefixes, prefixOf(n, first.Is4()))
	}
	return prefixes
}

func prefixOf(n *net.IPNet, four bool) netip.Prefix {
	a, _ := netip.AddrFromSlice(n.IP)
	ones, size := n.Mask.Size()
	if four { // in 4 bytes or in 16
		a, ones = a.Unmap(), ones-(size-32)
	}
	return netip.PrefixFrom(a, ones)
}

// byText uses IpRangeToCIDR; it returns nil if that fails.
func byText(first, last netip.Addr) (prefixes []netip.Prefix) {
	texts, err := mapcidr.IpRangeToCIDR(first.String(), last.String())
	if err != nil {
		return nil
	}
	for _, text := range texts {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil
		}
		prefixes = append(prefixes, p)
	}
	return prefixes
}

// exactly reports whether prefixes follow one another from first to last.
func exactly(prefixes []netip.Prefix, first, last netip.Addr) bool {
	next := number(first)
	for i, p := range prefixes {
		if !p.IsValid() || p.Addr().Is4() != first.Is4() || p.Masked() != p || number(p.Addr()) != next {
			return false
		}
		end := spanOf(p).last
		if i == len(prefixes)-1 {
			return end == number(last)
		}
		next = end.plus(1)
	}
	return false
}
