//go:build !linux

package main

import "net/netip"

// onlyBroadcast returns the last ones of the first and last addresses of
// networks: those are broadcast addresses to every system (RFC 919).
func onlyBroadcast(ends []netip.Addr) (out []netip.Addr) {
	for i := 1; i < len(ends); i += 2 {
		out = append(out, ends[i])
	}
	return out
}
