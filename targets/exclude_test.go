package targets

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
)

func TestExclusionsContainWhatWasWritten(t *testing.T) {
	e := NewExclusions()
	list := "\ufeff10.0.0.0/24 # office\r\n10.0.0.0/25\n10.0.0.7\n10.0.0.7\n10.0.2.1-10.0.2.9\n10.0.3.1-9\n2a00::/64\nfe80::1\n::ffff:10.0.4.1\n8.8.8.8"
	if err := e.ReadFile("ex.txt", strings.NewReader(list)); err != nil {
		t.Fatal(err)
	}
	for a, want := range map[string]bool{"10.0.0.0": true, "10.0.0.255": true, "10.0.1.0": false, "9.255.255.255": false, "10.0.2.0": false, "10.0.2.1": true,
		"10.0.2.9": true, "10.0.2.10": false, "10.0.3.5": true, "2a00::ffff": true, "2a00:0:0:1::": false, "fe80::1": true, "fe80::1%eth0": true, "fe80::2%eth0": false,
		"::ffff:10.0.0.1": true, "10.0.4.1": true, "64:ff9b::a00:1": true, "2002:a00:1::5": true, "64:ff9b::b00:1": false, "8.8.8.8": true} {
		if got := e.Contains(netip.MustParseAddr(a)); got != want {
			t.Errorf("%s: got %v, want %v", a, got, want)
		}
	}
	if err := e.Add("11.0.0.0/8"); err != nil || !e.Contains(netip.MustParseAddr("11.1.1.1")) {
		t.Errorf("an exclusion added after a look-up is missing: %v", err)
	}
	var none *Exclusions
	if none.Contains(netip.MustParseAddr("10.0.0.1")) || NewExclusions().Contains(netip.MustParseAddr("10.0.0.1")) {
		t.Error("an empty set contains something")
	}
}

// TestLinkLocalBlocksCanBeExcluded: lists of addresses that nobody should scan
// have fe80::/10. As exclusions they need no interface.
func TestLinkLocalBlocksCanBeExcluded(t *testing.T) {
	for spec, inside := range map[string]string{"fe80::/10": "fe80::1%eth0", "fe80::5/128": "fe80::5%eth0", "fe80::1-fe80::9": "fe80::9", "fe80::": "fe80::%eth1"} {
		e := NewExclusions()
		if err := e.Add(spec); err != nil {
			t.Errorf("%s: %v", spec, err)
		} else if !e.Contains(netip.MustParseAddr(inside)) || e.Contains(netip.MustParseAddr("fe80:1::1%eth0")) != (spec == "fe80::/10") {
			t.Errorf("%s does not exclude what it says", spec)
		}
	}
}

func TestEverythingCanBeExcluded(t *testing.T) {
	e := NewExclusions()
	for _, s := range []string{"::/0", "0.0.0.0/0", "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"} {
		if err := e.Add(s); err != nil {
			t.Fatal(err)
		}
	}
	for _, a := range []string{"::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "0.0.0.0", "255.255.255.255"} {
		if !e.Contains(netip.MustParseAddr(a)) {
			t.Errorf("%s is not excluded", a)
		}
	}
}

func TestBadExclusionsAreErrorsWithTheirLine(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"mail.example.org", `ex.txt:2: bad exclusion "mail.example.org": it is a name`},
		{"mx:example.org", "it is a name"},
		{"10.0.0.1:25", "it has a port"},
		{"10.0.0.0/33", `ex.txt:2: bad exclusion "10.0.0.0/33"`},
		{"010.0.0.1", "ambiguous"},
		{"10.0.0.9-3", "backwards"},
		{"\x00", "ex.txt:2: bad exclusion list: the line contains a NUL byte"},
	} {
		e := NewExclusions()
		err := e.ReadFile("ex.txt", strings.NewReader("10.0.0.1\n"+c.text+"\n"))
		var bad *SpecError
		if !errors.As(err, &bad) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v", c.text, err)
		}
	}
}

func TestOverlapCountsLikeContains(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 200 {
		e := NewExclusions()
		for range r.IntN(30) {
			a := r.IntN(500)
			if err := e.Add(fmt.Sprintf("%s-%s", addr4(0x0a000000+uint32(a)), addr4(0x0a000000+uint32(a+r.IntN(40))))); err != nil {
				t.Fatal(err)
			}
		}
		x := span{uint128{0, 0x0a000000 + r.Uint64N(300)}, uint128{0, 0x0a000000 + 300 + r.Uint64N(300)}}
		want := uint64(0)
		for n := x.first; !x.last.less(n); n = n.plus(1) {
			if e.Contains(n.inFamily(false)) {
				want++
			}
		}
		if got := e.freeze().four.overlap(x); got != want {
			t.Fatalf("overlap is %d, want %d", got, want)
		}
	}
}

func TestSpecialTableHasNoOverlapAndTheLongestPrefixCounts(t *testing.T) {
	for _, list := range [][]special{specials4, specials6} {
		for i := 1; i < len(list); i++ {
			if !list[i-1].last.less(list[i].first) || list[i].last.less(list[i].first) {
				t.Errorf("%s and %s overlap", list[i-1].name, list[i].name)
			}
		}
	}
	for a, want := range map[string]class{"0.1.2.3": never, "10.1.2.3": private, "172.31.255.255": private, "172.32.0.0": public, "127.255.0.1": loopback,
		"169.254.169.254": linkLocal4, "192.0.0.8": reserved, "192.0.0.9": public, "192.0.0.11": reserved, "255.255.255.255": never, "223.255.255.255": public,
		"::": never, "::1": loopback, "::2": never, "2001:0:1::1": never, "2001::f7f7:f7f7": public, "2001:1::1": public, "2001:1::4": reserved, "2001:2::1": reserved, "2001:20::1": reserved,
		"2001:db8::1": reserved, "2001:200::": public, "fd00::1": private, "fe80::1": linkLocal6, "fec0::1": reserved, "ff02::1": never,
		"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff": never, "3fff::1": reserved, "4000::1": public, "::ffff:10.0.0.1": private, "64:ff9b::a00:1": private,
		"64:ff9b::7f00:1": never, "2002:c0a8:1::": private, "2001:0:4136:e378:8000:63bf:3fff:fdd2": reserved, "64:ff9b:1::1": reserved} {
		if got, name := judge(netip.MustParseAddr(a)); got != want || (name == "") != (want == public) {
			t.Errorf("%s is class %d (%s), want %d", a, got, name, want)
		}
	}
}
