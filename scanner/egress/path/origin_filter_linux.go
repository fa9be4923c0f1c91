package path

import "golang.org/x/sys/unix"

// mark is the DSCP of a SYN whose answer is looked at for it, as it stands in the header: "lower
// effort" (RFC 8622), with which a packet is asked to yield to all others.
const mark = 1 << 2

// Programs of a socket begin at the TCP header. Ancillary data, and the IP header, have negative
// offsets (linux/filter.h).
const (
	skfAdIfindex = 1<<32 - 0x1000 + 8
	skfNet       = 1<<32 - 0x100000
	tcpFlagsAt   = 13
	loopbackLink = 1 // index of the loopback interface, in every network namespace
)

// filterCode returns the program for a filter; nil for none. Each begins by the flags, and keeps
// what it is not about.
func filterCode(f filter, ip6 bool) []unix.SockFilter {
	load := func(size uint16, at uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | size | unix.BPF_ABS, K: at}
	}
	keep, drop := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 1<<32 - 1}, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K}
	unless := func(flag uint32, skip uint8) unix.SockFilter { // jumps if the flag is not set
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: flag, Jf: skip}
	}
	equal := func(k uint32, skip uint8) unix.SockFilter { // jumps if it is equal
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: k, Jt: skip}
	}
	alu := func(op uint16, k uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_ALU | op | unix.BPF_K, K: k}
	}
	flags := load(unix.BPF_B, tcpFlagsAt)
	switch {
	case f == filterOwn:
		return []unix.SockFilter{flags, unless(tcpRST, 2), load(unix.BPF_W, skfAdIfindex), equal(loopbackLink, 1), keep, drop}
	case f == filterSYNACK:
		return []unix.SockFilter{flags, unless(tcpSYN, 1), drop, keep}
	case f == filterMark && ip6: // the traffic class is bits 4 to 11 (RFC 8200, 3)
		return []unix.SockFilter{flags, unless(tcpRST, 4), load(unix.BPF_H, skfNet), alu(unix.BPF_RSH, 4), alu(unix.BPF_AND, 0xfc), equal(mark, 1), drop, keep}
	case f == filterMark:
		return []unix.SockFilter{flags, unless(tcpRST, 3), load(unix.BPF_B, skfNet+1), alu(unix.BPF_AND, 0xfc), equal(mark, 1), drop, keep}
	}
	return nil
}
