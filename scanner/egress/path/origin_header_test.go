package path

import (
	"encoding/hex"
	"strings"
	"testing"
)

// packet decodes hex with spaces.
func packet(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A reset of port 25 of 62.20.4.2 to port 54,321 of 192.168.1.7, and one of a port in IPv6.
const (
	reset4 = "4504 0028 1234 4000 3d06 0000 3e140402 c0a80107" + "0019 d431 00000000 12345678 5014 0000 0000 0000"
	reset6 = "6040 0000 0014 06 3d 2a100004000000000000000000000002 2a100001000000000000000000000007" + "0019 d431 00000000 12345678 5014 0200 0000 0000"
)

func TestParseHeader(t *testing.T) {
	for _, c := range []struct {
		name, packet string
		want         Header
		ok           bool
	}{
		{"IPv4", reset4, Header{TTL: 61, ID: 0x1234, DF: true, DSCP: 1, Flags: tcpRST | tcpACK}, true},
		{"IPv4 with options", "4600" + reset4[4:47] + "01010101" + reset4[47:], Header{TTL: 61, ID: 0x1234, DF: true, Flags: tcpRST | tcpACK}, true},
		{"IPv6", reset6, Header{TTL: 61, DSCP: 1, Window: 0x200, Flags: tcpRST | tcpACK}, true},
		{"UDP", strings.Replace(reset4, "3d06", "3d11", 1), Header{}, false},
		{"IPv6 with an extension", strings.Replace(reset6, "06 3d", "3c 3d", 1), Header{}, false},
		{"version 5", "5" + reset4[1:], Header{}, false},
		{"header too short", "44" + reset4[2:], Header{}, false},
		{"cut off", reset4[:len(reset4)-2], Header{}, false},
		{"nothing", "", Header{}, false},
	} {
		p := packet(t, c.packet)
		h, port, ok := parseHeader(p)
		if h != c.want || ok != c.ok || ok && port != 54321 {
			t.Errorf("%s: got %+v to port %d, %t", c.name, h, port, ok)
		}
	}
}

func FuzzParseHeader(f *testing.F) {
	f.Add(packet(f, reset4))
	f.Add(packet(f, reset6))
	f.Add(packet(f, reset4)[:30])
	f.Add([]byte{0x4f, 19: 0, 9: 6})
	f.Fuzz(func(t *testing.T, p []byte) {
		h, _, ok := parseHeader(p)
		if !ok && h != (Header{}) || h.TTL < 0 || h.TTL > 255 || h.DSCP > 63 {
			t.Errorf("got %+v, %t", h, ok)
		}
	})
}
