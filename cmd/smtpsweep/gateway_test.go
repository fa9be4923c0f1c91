package main

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

func TestGatewayIsThatOfTheDefaultRoute(t *testing.T) {
	number := func(addr string) string { // as the kernel of this machine writes it
		b := netip.MustParseAddr(addr).As4()
		return fmt.Sprintf("%08X", binary.NativeEndian.Uint32(b[:]))
	}
	route := func(to, gateway, mask string) string {
		return strings.Join([]string{"eth0", number(to), number(gateway), "0003", "0", "0", "100", number(mask), "0", "0", "0"}, "\t") + "\n"
	}
	head := "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
	local := route("10.20.9.0", "0.0.0.0", "255.255.255.0")
	gateway := route("0.0.0.0", "10.20.9.1", "0.0.0.0")
	for what, c := range map[string]struct{ table, want string }{
		"one":                  {head + local + gateway, "10.20.9.1"},
		"two, the best first":  {head + gateway + route("0.0.0.0", "10.20.9.2", "0.0.0.0"), "10.20.9.1"},
		"half of the world":    {head + route("0.0.0.0", "10.8.0.1", "128.0.0.0") + gateway, "10.20.9.1"},
		"a tunnel without one": {head + route("0.0.0.0", "0.0.0.0", "0.0.0.0"), ""},
		"no default route":     {head + local, ""},
		"no table":             {"", ""},
		"not such a table":     {"eth0 00000000 zz 0003 0 0 100 00000000\n", ""},
	} {
		if got := gatewayIn(c.table); got != c.want {
			t.Errorf("%s: got %q, want %q", what, got, c.want)
		}
	}
}
