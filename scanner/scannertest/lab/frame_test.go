package lab

import (
	"encoding/hex"
	"net/netip"
	"testing"
)

// The beginning of frames from 10.20.9.7, port 40000, to 10.64.0.1, port 25, as a capture
// shows them; checksums are left out.
const (
	ether4 = "02000000000102000000000208004500002800004000400600000a1409070a400001"
	tcpSYN = "9c40001900000001000000005002ffff00000000"
)

func TestFramesAreTakenForWhatTheyAre(t *testing.T) {
	const (
		back4  = "0200000000020200000000010800450000280000400040060000" + "0a400001" + "0a140907"
		icmp4  = "0200000000020200000000010800450000380000400040010000" + "0a140901" + "0a140907" + "030d000000000000"
		inner4 = "4500002800004000400600000a1409070a400001" + "9c40001900000001"
		six    = "fd200009000000000000000000000007" + "fd640000000000000000000000000001"
		head6  = "02000000000102000000000286dd" + "60000000" + "0014"
	)
	far4, far6 := netip.MustParseAddrPort("10.64.0.1:25"), netip.MustParseAddrPort("[fd64::1]:25")
	for name, tt := range map[string]struct {
		frame    string
		dir      direction
		endpoint netip.AddrPort
		kind     frameKind
	}{
		"SYN":            {ether4 + tcpSYN, outward, far4, frameSYN},
		"SYN over IPv6":  {head6 + "0640" + six + tcpSYN, outward, far6, frameSYN},
		"SYN-ACK":        {back4 + "00199c4000000001000000025012ffff00000000", inward, far4, frameSYNACK},
		"RST":            {back4 + "00199c4000000000000000025014000000000000", inward, far4, frameRST},
		"data":           {back4 + "00199c4000000001000000025018ffff00000000", inward, far4, frameOther},
		"ICMP about TCP": {icmp4 + inner4, inward, far4, frameICMP},
		"ICMPv6 about TCP": {head6 + "3a40" + "fd200009000000000000000000000001" + "fd200009000000000000000000000007" + "0101000000000000" +
			"60000000" + "00140640" + six + tcpSYN, inward, far6, frameICMP},
		"echo request":             {icmp4[:68] + "0800000000000000", inward, netip.MustParseAddrPort("10.20.9.1:0"), frameOther},
		"ARP":                      {"ffffffffffff0200000000020806" + "00010800", outward, netip.AddrPort{}, frameLink},
		"neighbour solicitation":   {head6 + "3aff" + six + "8700000000000000", outward, netip.AddrPort{}, frameLink},
		"report of a listener":     {head6 + "0001" + six + "3a00050200000000" + "8f00000000000000", outward, netip.AddrPort{}, frameLink},
		"a fragment not the first": {"0200000000010200000000020800450000280000000140060000" + "0a140907" + "0a400001" + tcpSYN, outward, netip.MustParseAddrPort("10.64.0.1:0"), frameOther},
	} {
		frame, err := hex.DecodeString(tt.frame)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if endpoint, kind := parseFrame(frame, tt.dir); endpoint != tt.endpoint || kind != tt.kind {
			t.Errorf("%s: %v, kind %d, want %v, kind %d", name, endpoint, kind, tt.endpoint, tt.kind)
		}
		for n := range frame { // cut short, it is something or other
			parseFrame(frame[:n:n], tt.dir)
		}
	}
}
