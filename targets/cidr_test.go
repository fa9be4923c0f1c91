package targets

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
)

func TestRangesAreDividedIntoPrefixes(t *testing.T) {
	for _, c := range []struct{ first, last, want string }{
		{"192.0.2.1", "192.0.2.6", "[192.0.2.1/32 192.0.2.2/31 192.0.2.4/31 192.0.2.6/32]"},
		{"192.0.2.0", "192.0.2.255", "[192.0.2.0/24]"},
		{"192.0.2.7", "192.0.2.7", "[192.0.2.7/32]"},
		{"0.0.0.0", "255.255.255.255", "[0.0.0.0/0]"},
		{"0.0.0.0", "128.0.0.0", "[0.0.0.0/1 128.0.0.0/32]"},
		{"127.255.255.255", "255.255.255.255", "[127.255.255.255/32 128.0.0.0/1]"},
		{"2001:db8::", "2001:db8::ff", "[2001:db8::/120]"},
		{"2001:db8::1", "2001:db8::4", "[2001:db8::1/128 2001:db8::2/127 2001:db8::4/128]"},
		{"64:ff9b::df00:0", "64:ff9b::e000:ff", "[64:ff9b::df00:0/104 64:ff9b::e000:0/120]"},
		{"::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "[::/0]"},
		{"::", "::5", "[::/126 ::4/127]"},
	} {
		got, err := divide(netip.MustParseAddr(c.first), netip.MustParseAddr(c.last))
		if err != nil || fmt.Sprint(got) != c.want {
			t.Errorf("%s-%s: got %v, %v, want %s", c.first, c.last, got, err, c.want)
		}
	}
}

// TestEveryRangeIsDivided relies on divide's own check that the prefixes are
// exactly the range: an error is a range that mapcidr gets wrong.
func TestEveryRangeIsDivided(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for i := range 20_000 {
		six := i%2 == 1
		first := uint128{0, r.Uint64() >> (32 + r.IntN(32))}
		if six {
			first = uint128{uint64(r.IntN(2))<<61 | r.Uint64()>>(16+r.IntN(48)), r.Uint64() >> r.IntN(64)}
		}
		last := first.plus(r.Uint64() >> (16 + r.IntN(48)))
		if !six && max4.less(last) {
			last = max4
		}
		if _, err := divide(first.inFamily(six), last.inFamily(six)); err != nil {
			t.Fatal(err)
		}
	}
}
