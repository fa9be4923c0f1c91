package targets

import (
	"net/netip"
	"testing"
)

func TestNetworkOfAnAddress(t *testing.T) {
	for addr, want := range map[string]string{
		"10.0.0.1": NetPrivate, "172.16.0.1": NetPrivate, "192.168.1.1": NetPrivate, "fd00::1": NetPrivate,
		"100.64.0.1": NetShared, "100.128.0.1": NetPublic, "169.254.1.1": NetLinkLocal, "fe80::1%eth0": NetLinkLocal,
		"127.0.0.1": NetLoopback, "::1": NetLoopback, "203.0.113.1": NetSpecial, "2001:db8::1": NetSpecial, "224.0.0.1": NetSpecial,
		"62.20.3.1": NetPublic, "::ffff:62.20.3.1": NetPublic, "2a10::1": NetPublic,
	} {
		if got := Network(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: got %s, want %s", addr, got, want)
		}
	}
}
