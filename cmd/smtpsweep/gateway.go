package main

import (
	"encoding/binary"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// defaultGateway returns the IPv4 default gateway as the kernel's table has it
// (Linux), or "". It is said in the journal: it tells two networks apart that
// have the same private addresses.
func defaultGateway() string {
	table, err := os.ReadFile("/proc/net/route")
	if err != nil {
		return ""
	}
	return gatewayIn(string(table))
}

// gatewayIn returns the gateway of the first default route in a table like
// /proc/net/route: Iface Destination Gateway Flags RefCnt Use Metric Mask ...
// The best route comes first. A VPN's half of the world (0.0.0.0/1) is no
// default route, and a tunnel has no gateway.
func gatewayIn(table string) string {
	for line := range strings.SplitSeq(table, "\n") {
		fields := strings.Fields(line)
		if len(fields) < 8 || fields[1] != "00000000" || fields[7] != "00000000" {
			continue
		}
		// An address in network order, written as a number of this machine.
		n, err := strconv.ParseUint(fields[2], 16, 32)
		if err != nil || n == 0 {
			return ""
		}
		var b [4]byte
		binary.NativeEndian.PutUint32(b[:], uint32(n))
		return netip.AddrFrom4(b).String()
	}
	return ""
}
