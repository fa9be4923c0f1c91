package targets

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
)

func mustAdd(t testing.TB, b *Builder, specs ...string) {
	t.Helper()
	for _, s := range specs {
		if err := b.Add(s); err != nil {
			t.Fatal(err)
		}
	}
}

func mustRead(t testing.TB, b *Builder, text string) {
	t.Helper()
	if err := b.ReadFile("list.txt", strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
}

func mustBuild(t testing.TB, b *Builder, seed uint64) *Plan {
	t.Helper()
	p, err := b.Build(seed)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func all(p *Plan) (out []string) {
	for i := range p.Len() {
		x := p.At(i)
		out = append(out, fmt.Sprintf("%s %d/%s %s", x.Addr, x.Port, x.Role, x.Spec()))
	}
	return out
}

func TestPlanOrdersByFamilyAddressAndPort(t *testing.T) {
	b := NewBuilder(Config{AllowReserved: true})
	b.parser = testParser()
	mustAdd(t, b, "2001:db8::1", "192.0.2.9:2525", "192.0.2.8/31", "[fe80::1%eth0]:25", "192.0.2.1")
	p := mustBuild(t, b, 1)
	want := []string{
		"192.0.2.1 25/smtp 192.0.2.1", "192.0.2.1 465/smtps 192.0.2.1", "192.0.2.1 587/submission 192.0.2.1",
		"192.0.2.8 25/smtp 192.0.2.8/31", "192.0.2.8 465/smtps 192.0.2.8/31", "192.0.2.8 587/submission 192.0.2.8/31",
		"192.0.2.9 25/smtp 192.0.2.8/31", "192.0.2.9 465/smtps 192.0.2.8/31", "192.0.2.9 587/submission 192.0.2.8/31", "192.0.2.9 2525/smtp 192.0.2.9:2525",
		"2001:db8::1 25/smtp 2001:db8::1", "2001:db8::1 465/smtps 2001:db8::1", "2001:db8::1 587/submission 2001:db8::1",
		"fe80::1%eth0 25/smtp [fe80::1%eth0]:25",
	}
	if got := all(p); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for i := range p.Len() {
		x := p.At(i)
		if n, ok := p.Index(x.Addr, x.Port); !ok || n != i || x.Index != i {
			t.Errorf("Index(%s) = %d, %v, want %d", x.AddrPort(), n, ok, i)
		}
	}
	for a, want := range map[string]bool{"192.0.2.9": true, "::ffff:192.0.2.9": true, "192.0.2.10": false, "fe80::1%eth0": true, "fe80::1": false, "2001:db8::1": true} {
		if p.Has(netip.MustParseAddr(a)) != want {
			t.Errorf("%s is said to be in the plan: %v", a, !want)
		}
	}
	if p.Has(netip.Addr{}) {
		t.Error("no address is said to be in the plan")
	}
	for _, a := range []string{"192.0.2.0", "192.0.2.10", "fe80::1", "fe80::1%eth1", "2001:db8::2", "10.0.0.1"} {
		if _, ok := p.Index(netip.MustParseAddr(a), 25); ok {
			t.Errorf("%s is said to be in the plan", a)
		}
	}
	if _, ok := p.Index(netip.MustParseAddr("192.0.2.1"), 26); ok {
		t.Error("port 26 is said to be in the plan")
	}
}

func TestAddressTypedHasNoOriginAndBlocksShareOne(t *testing.T) {
	b := NewBuilder(Config{Ports: []Port{{25, SMTP}}})
	mustAdd(t, b, "10.0.0.1", "10.0.0.4/30", "10.0.0.5")
	p := mustBuild(t, b, 1)
	if p.At(0).From != nil {
		t.Errorf("a typed address comes from %+v", p.At(0).From)
	}
	if a, z := p.At(1).From, p.At(4).From; a == nil || a != z || a.Spec != "10.0.0.4/30" {
		t.Errorf("a block's addresses come from %p and %p", a, z)
	}
}

// TestPlanIsTheUnionOfWhatWasTyped compares random plans with a map.
func TestPlanIsTheUnionOfWhatWasTyped(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	portSets := []string{"", ":25", ":2525", ":465"}
	for round := range 300 {
		b := NewBuilder(Config{Ports: []Port{{25, SMTP}, {587, Submission}}})
		type ep struct {
			a netip.Addr
			p uint16
		}
		want := map[ep]bool{}
		var file strings.Builder
		six := round%3 == 2
		base := netip.MustParseAddr("10.0.0.0")
		if six {
			base = netip.MustParseAddr("2a00::")
		}
		put := func(a, z int, ports string) {
			for n := a; n <= z; n++ {
				list := []uint16{25, 587}
				if ports != "" {
					list = []uint16{0}
					fmt.Sscanf(ports, ":%d", &list[0])
				}
				for _, p := range list {
					want[ep{number(base).plus(uint64(n)).inFamily(six), p}] = true
				}
			}
		}
		for range r.IntN(40) + 1 {
			a := r.IntN(300)
			z := a
			if r.IntN(2) == 0 {
				z = a + r.IntN(60)
			}
			ports := portSets[r.IntN(len(portSets))]
			if r.IntN(2) == 0 {
				ports = ""
			}
			put(a, z, ports)
			text := number(base).plus(uint64(a)).inFamily(six).String()
			if z > a {
				text += "-" + number(base).plus(uint64(z)).inFamily(six).String()
			}
			if six && ports != "" {
				text = "[" + text + "]"
			}
			if text += ports; r.IntN(2) == 0 {
				mustAdd(t, b, text)
			} else {
				file.WriteString(text + "\n")
			}
		}
		mustRead(t, b, file.String())
		p := mustBuild(t, b, uint64(round))
		if p.Len() != uint64(len(want)) {
			t.Fatalf("round %d: %d endpoints, want %d", round, p.Len(), len(want))
		}
		prev := Target{}
		for i := range p.Len() {
			x := p.At(i)
			if !want[ep{x.Addr, x.Port}] {
				t.Fatalf("round %d: %s was not typed", round, x.AddrPort())
			}
			if i > 0 && cmp.Or(prev.Addr.Compare(x.Addr), int(prev.Port)-int(x.Port)) >= 0 {
				t.Fatalf("round %d: %s comes after %s", round, x.AddrPort(), prev.AddrPort())
			}
			if n, ok := p.Index(x.Addr, x.Port); !ok || n != i {
				t.Fatalf("round %d: Index(%s) = %d, %v, want %d", round, x.AddrPort(), n, ok, i)
			}
			prev = x
		}
		sameAfterRoundTrip(t, p)
	}
}

func records(p *Plan) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for r := range p.Records() {
			if !yield(r, nil) {
				return
			}
		}
	}
}

func sameAfterRoundTrip(t *testing.T, p *Plan) {
	t.Helper()
	for r := range p.Records() {
		if len(r) > 64<<10 {
			t.Fatalf("a record has %d bytes", len(r))
		}
	}
	q, err := ReadPlan(p.cfg, records(p))
	if err != nil {
		t.Fatal(err)
	}
	if q.Hash() != p.Hash() || q.Len() != p.Len() || q.Seed() != p.Seed() || q.Probed() != p.Probed() || q.NameCount() != p.NameCount() {
		t.Fatalf("the plan changed: %d, %d endpoints, %d, %d names", p.Len(), q.Len(), p.NameCount(), q.NameCount())
	}
	for i := range min(p.Len(), 3000) {
		a, b := p.At(i), q.At(i)
		if a.AddrPort() != b.AddrPort() || a.Role != b.Role || a.Spec() != b.Spec() || (a.From == nil) != (b.From == nil) {
			t.Fatalf("endpoint %d was %+v and is %+v", i, a, b)
		}
	}
	var before, after []Name
	for _, n := range p.Names() {
		before = append(before, n)
	}
	for _, n := range q.Names() {
		after = append(after, n)
	}
	if fmt.Sprint(before) != fmt.Sprint(after) || !slices.Equal(p.Notices(), q.Notices()) {
		t.Fatalf("names or notices changed: %v, %v", before, after)
	}
}

func TestPlanSurvivesItsRecords(t *testing.T) {
	b := NewBuilder(Config{AllowReserved: true})
	b.parser = testParser()
	mustAdd(t, b, "192.0.2.5/24", "2001:db8::/112", "fe80::1%eth0", "fe80::2%eth0", "Mail.Example.org:2525/smtps", "mx:example.org", "10.0.0.0/9", "a..b")
	var list strings.Builder
	r := rand.New(rand.NewPCG(3, 4))
	for i := range 20_000 {
		fmt.Fprintf(&list, "%s\n", addr4(0x0b000000|r.Uint32()>>8))
		if i%100 == 0 {
			fmt.Fprintf(&list, "host%d.example.org 12.%d.%d.0/25 2a00::%x\n", i, i>>8&255, i&255, i)
		}
	}
	mustRead(t, b, list.String())
	sameAfterRoundTrip(t, mustBuild(t, b, 1<<63+5))

	every := make([]Port, 0, 1<<15) // the longest port list
	for n := 1; n < 65535; n += 2 {
		every = append(every, Port{uint16(n), Role(n / 2 % 3)})
	}
	b = NewBuilder(Config{Ports: every})
	mustAdd(t, b, "10.0.0.1")
	sameAfterRoundTrip(t, mustBuild(t, b, 0))
}

func TestDamagedRecordsAreErrors(t *testing.T) {
	b := NewBuilder(Config{})
	mustAdd(t, b, "10.0.0.0/24", "10.1.0.0/30:25", "mail.example.org")
	p := mustBuild(t, b, 9)
	var recs [][]byte
	for r := range p.Records() {
		recs = append(recs, r)
	}
	read := func(recs [][]byte) error {
		_, err := ReadPlan(Config{}, func(yield func([]byte, error) bool) {
			for _, r := range recs {
				if !yield(r, nil) {
					return
				}
			}
		})
		return err
	}
	if err := read(recs); err != nil {
		t.Fatal(err)
	}
	for i := range recs {
		if err := read(slices.Delete(slices.Clone(recs), i, i+1)); err == nil {
			t.Errorf("nobody missed record %d: %s", i, recs[i])
		}
		if strings.Contains(string(recs[i]), `"specs"`) {
			continue // how something was written is not in the hash: the journal's checksum guards it
		}
		changed := slices.Clone(recs)
		changed[i] = []byte(strings.Replace(string(recs[i]), "0", "1", 1))
		if string(changed[i]) != string(recs[i]) && read(changed) == nil {
			t.Errorf("nobody noticed %s", changed[i])
		}
	}
	if err := read(append(slices.Clone(recs), recs[1])); err == nil {
		t.Error("a record after the end was accepted")
	}
	if _, err := ReadPlan(Config{}, func(yield func([]byte, error) bool) { yield(nil, io.ErrUnexpectedEOF) }); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the journal's own error became %v", err)
	}
}

func TestHashIsOfTheMeaningNotTheSpelling(t *testing.T) {
	hash := func(seed uint64, cfg Config, specs ...string) string {
		b := NewBuilder(cfg)
		mustAdd(t, b, specs...)
		return mustBuild(t, b, seed).Hash()
	}
	want := hash(1, Config{}, "10.0.0.0/24")
	for _, same := range [][]string{{"10.0.0.0-10.0.0.255"}, {"10.0.0.0-255"}, {"10.0.0.128/25", "10.0.0.0/25"}, {"10.0.0.0/24", "10.0.0.7"}} {
		if got := hash(1, Config{}, same...); got != want {
			t.Errorf("%v has another hash than 10.0.0.0/24", same)
		}
	}
	ex := NewExclusions()
	if err := ex.Add("10.0.0.1"); err != nil {
		t.Fatal(err)
	}
	if hash(1, Config{Exclude: ex, AllowReserved: true}, "10.0.0.0/24") != want {
		t.Error("an exclusion changed the hash")
	}
	for i, other := range []string{
		hash(2, Config{}, "10.0.0.0/24"), hash(1, Config{}, "10.0.0.0-254"), hash(1, Config{}, "10.0.0.0/24:25"),
		hash(1, Config{}, "10.0.0.0/24", "a.example.org"), hash(1, Config{Ports: []Port{{25, SMTP}, {465, SMTP}, {587, Submission}}}, "10.0.0.0/24"),
		hash(1, Config{}, "10.0.1.0/24"),
	} {
		if other == want {
			t.Errorf("plan %d has the hash of 10.0.0.0/24", i)
		}
	}
}

func TestExcludedAndSpecialAddressesAreCountedAndStayInTheIndex(t *testing.T) {
	ex := NewExclusions()
	for _, s := range []string{"8.8.0.0/25", "8.8.0.100-8.8.0.130", "8.8.0.1", "2a00::10"} {
		if err := ex.Add(s); err != nil {
			t.Fatal(err)
		}
	}
	b := NewBuilder(Config{Ports: []Port{{25, SMTP}, {587, Submission}}, Exclude: ex})
	mustAdd(t, b, "8.8.0.0/24", "192.0.1.0-192.0.3.255", "2a00::/120", "127.0.0.1", "10.0.0.1")
	p := mustBuild(t, b, 1)
	if want := uint64(2 * (256 + 768 + 256 + 2)); p.Len() != want {
		t.Errorf("Len is %d, want %d", p.Len(), want)
	}
	if want := "[{excluded 264 132} {documentation (RFC 5737) 512 256}]"; fmt.Sprint(p.Subtracted()) != want {
		t.Errorf("subtracted %v, want %s", p.Subtracted(), want)
	}
	if want := uint64(256 + 768 + 256 + 2 - 132 - 256); p.Addresses() != want || p.Probed() != 2*want {
		t.Errorf("left are %d addresses, %d endpoints, want %d", p.Addresses(), p.Probed(), want)
	}
	permitted := uint64(0)
	for i := range p.Len() {
		if ok, why := p.PermitTarget(p.At(i)); ok {
			permitted++
		} else if why == "" {
			t.Fatalf("%s is refused without a reason", p.At(i).Addr)
		}
	}
	if permitted != p.Probed() || !p.Public() {
		t.Errorf("Permit lets %d through, Probed says %d; public %v", permitted, p.Probed(), p.Public())
	}
}

func TestPublicMeansThatAPublicAddressIsProbed(t *testing.T) {
	ex := NewExclusions()
	if err := ex.Add("11.0.0.0/8"); err != nil {
		t.Fatal(err)
	}
	for spec, want := range map[string]bool{"10.0.0.0/8": false, "10.0.0.0-11.0.0.5": false, "10.0.0.0-12.0.0.0": true, "127.0.0.1": false,
		"8.8.8.8": true, "fd00::/120": false, "2a00::1": true, "192.168.0.0/16": false} {
		b := NewBuilder(Config{Exclude: ex})
		mustAdd(t, b, spec)
		if got := mustBuild(t, b, 1).Public(); got != want {
			t.Errorf("%s: public is %v, want %v", spec, got, want)
		}
	}
}

func TestCrowdsAreThoseOfHostsAndSubnets(t *testing.T) {
	ex := NewExclusions()
	if err := ex.Add("8.8.9.0/25"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		specs        string
		host, subnet uint64
	}{
		{"8.8.8.8", 2, 2},
		{"8.8.8.0/24", 2, 512},
		{"8.8.8.128-8.8.9.255", 2, 256}, // half of each
		{"8.8.7.0-8.8.9.255", 2, 512},
		{"8.8.7.255-8.8.9.0", 2, 512}, // a whole one in the middle
		{"8.8.7.200-8.8.8.99", 2, 200},
		{"8.1.0.1 8.2.0.1 8.3.0.1 8.3.0.9 8.3.0.9:26", 3, 5},
		{"8.3.0.0/31:1 8.3.0.4:2 8.3.1.0", 2, 3},
		{"2a00::/118", 2, 2048},
		{"2a00:0:1:ffff::fffe 2a00:0:1::/126 2a00:0:2::1", 2, 10},
		{"2a00:0:1:ffff:ffff:ffff:ffff:fffe-2a00:0:2::", 2, 4},
		{"2a00::1 8.8.8.8", 2, 2},
	} {
		b := NewBuilder(Config{Ports: []Port{{25, SMTP}, {587, Submission}}, Exclude: ex})
		mustAdd(t, b, strings.Fields(c.specs)...)
		if host, subnet := mustBuild(t, b, 1).Crowds(); host != c.host || subnet != c.subnet {
			t.Errorf("%s: %d at one host, %d in one subnet, want %d, %d", c.specs, host, subnet, c.host, c.subnet)
		}
	}
}

func TestSamePortsAreThoseOfAllAddressesAndNames(t *testing.T) {
	for specs, want := range map[string]string{"10.0.0.1": "25", "10.0.0.1:26 10.0.0.1:28": "26,28", "10.0.0.1 a.example.org": "25", "mx:example.org:26": "26",
		"10.0.0.1 10.0.0.2:26": "", "10.0.0.1 a.example.org:26": "", "a.example.org b.example.org:26": "", "10.0.0.1 fd00::1:26": "25"} {
		b := NewBuilder(Config{Ports: []Port{{25, SMTP}}})
		mustAdd(t, b, strings.Fields(specs)...)
		ports, same := mustBuild(t, b, 1).Ports()
		if same != (want != "") || same && PortsText(ports) != want {
			t.Errorf("%s: ports %v, the same %v, want %s", specs, ports, same, want)
		}
	}
}

func TestPortsAreThoseOfThePlan(t *testing.T) {
	for specs, want := range map[string]string{"10.0.0.1:2525": "2525", "10.0.0.1:2525/smtps a.example.org 10.0.0.2:26": "25-26,2525/smtps",
		"10.0.0.1:2525/smtps 10.0.0.2:2525": "2525", "10.0.0.1:25/smtps 10.0.0.2": "25"} {
		b := NewBuilder(Config{Ports: []Port{{25, SMTP}}})
		mustAdd(t, b, strings.Fields(specs)...)
		ports, _ := mustBuild(t, b, 1).Ports()
		if got := PortsText(ports); got != want {
			t.Errorf("%s: ports %s, want %s", specs, got, want)
		}
	}
}

func TestPrivateMeansThatNobodyElseIsProbed(t *testing.T) {
	ex := NewExclusions()
	if err := ex.Add("11.0.0.0/8"); err != nil {
		t.Fatal(err)
	}
	for spec, want := range map[string]bool{"10.0.0.0/8": true, "10.0.0.0-11.0.0.5": true, "10.0.0.0-12.0.0.0": false, "127.0.0.1": true,
		"8.8.8.8": false, "fd00::/120": true, "2a00::1": false, "::1": true, "fe80::1%eth0": true, "192.168.0.0/16": true,
		"100.64.0.0/24": false, "198.18.0.1": false, "192.0.2.1": false, "169.254.1.1": false, "2001:db8::1": false, "64:ff9b::a00:1": false} {
		b := NewBuilder(Config{Exclude: ex, AllowReserved: true})
		b.parser = testParser()
		mustAdd(t, b, spec)
		p := mustBuild(t, b, 1)
		if got := p.Private(); got != want {
			t.Errorf("%s: private is %v, want %v", spec, got, want)
		}
		if a := p.At(0).Addr; p.Len() == 3 && IsPrivate(a) != want {
			t.Errorf("%s: the address is private: %v, want %v", spec, !want, want)
		}
	}
}

func TestOneFamilyOnlyCountsTheOtherAsSubtracted(t *testing.T) {
	b := NewBuilder(Config{Only4: true})
	mustAdd(t, b, "10.0.0.1", "2a00::1")
	p := mustBuild(t, b, 1)
	if p.Len() != 6 || p.Probed() != 3 || fmt.Sprint(p.Subtracted()) != "[{IPv6 (-4) 3 1}]" {
		t.Errorf("%d, %d, %v", p.Len(), p.Probed(), p.Subtracted())
	}
	if ok, why := p.Permit(netip.MustParseAddr("2a00::1"), true); ok || why != Excluded {
		t.Errorf("IPv6 under -4: %v, %q", ok, why)
	}
}

func TestSpecsOfNothingButSpecialAddressesAreRefused(t *testing.T) {
	for _, spec := range []string{"0.0.0.0", "0.0.0.0/8", "255.255.255.255", "224.0.0.0/4", "224.0.0.0/3", "240.0.0.1", "ff02::1", "ff00::/16",
		"192.0.2.0/24", "198.18.0.0/15", "100.64.0.0/10", "169.254.1.1", "2001:db8::1", "2001:db8::/96", "::", "192.88.99.1",
		"64:ff9b::7f00:1", "64:ff9b::e000:1", "64:ff9b::c000:200/120", "2002:7f00:1::1", "2001:0:1:2:3:4:80ff:fffe", "::1.2.3.4",
		"::/0", "2000::/3", "2a00::/64", "2001:db8::/32", "fc00::/7", "198.51.100.7:25"} {
		b := NewBuilder(Config{})
		var refused *RefusedError
		if err := b.Add(spec); !errors.As(err, &refused) {
			t.Errorf("%s: got %v, want a *RefusedError", spec, err)
		}
		if err := NewBuilder(Config{}).ReadFile("f", strings.NewReader("10.0.0.1\n"+spec+"\n")); !errors.As(err, &refused) || refused.Where != "f:2" {
			t.Errorf("%s in a list: got %v, want a *RefusedError at f:2", spec, err)
		}
	}
	for _, spec := range []string{"10.0.0.1", "127.0.0.1", "::1", "fd00::1", "192.168.0.0/16", "0.0.0.0/0", "64:ff9b::808:808", "64:ff9b::a00:1",
		"2002:808:808::1", "2001::f7f7:f7f7", "192.0.0.9", "223.255.255.0-224.0.0.5"} {
		if err := NewBuilder(Config{}).Add(spec); err != nil {
			t.Errorf("%s: %v", spec, err)
		}
	}
	for _, spec := range []string{"192.0.2.1", "198.18.0.0/15", "100.64.0.1", "169.254.1.1", "2001:db8::1", "64:ff9b::c000:201"} {
		if err := NewBuilder(Config{AllowReserved: true}).Add(spec); err != nil {
			t.Errorf("%s with AllowReserved: %v", spec, err)
		}
	}
	for _, spec := range []string{"224.0.0.1", "0.0.0.1", "240.0.0.1", "ff02::1", "64:ff9b::7f00:1"} {
		if err := NewBuilder(Config{AllowReserved: true, AllowPrivate: true}).Add(spec); err == nil {
			t.Errorf("%s is let through", spec)
		}
	}
}

func TestWrappedIPv4IsCountedLikeItsInside(t *testing.T) {
	ex := NewExclusions()
	if err := ex.Add("8.8.8.0/24"); err != nil {
		t.Fatal(err)
	}
	for spec, want := range map[string]uint64{
		"64:ff9b::808:700-64:ff9b::808:9ff":      512, // 8.8.7.0 to 8.8.9.255, the middle excluded
		"2001::f7f7:f600-2001::f7f7:f8ff":        512, // the same, inverted
		"2001::-2001::1:ffff:ffff":               0,   // counted below
		"2002:808:8ff:ffff:ffff:ffff:ffff:0/120": 0,
		"64:ff9b::df00:0-64:ff9b::e000:ff":       1 << 24, // up to multicast
	} {
		b := NewBuilder(Config{Ports: []Port{{25, SMTP}}, Exclude: ex})
		mustAdd(t, b, spec)
		p, err := b.Build(1)
		if want == 0 && strings.HasPrefix(spec, "2002") {
			if !errors.Is(err, ErrNothingLeft) {
				t.Errorf("%s: got %v, want nothing left", spec, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if want == 0 { // two whole Teredo blocks: twice what IPv4 has
			four := NewBuilder(Config{Ports: []Port{{25, SMTP}}, Exclude: ex})
			mustAdd(t, four, "0.0.0.0/0")
			want = 2 * (mustBuild(t, four, 1).Probed() - 1<<24) // loopback is let through only unwrapped
		}
		if p.Probed() != want {
			t.Errorf("%s: %d are probed, want %d", spec, p.Probed(), want)
		}
	}
}

func TestNothingLeft(t *testing.T) {
	ex := NewExclusions()
	if err := ex.Add("10.0.0.0/8"); err != nil {
		t.Fatal(err)
	}
	b := NewBuilder(Config{Exclude: ex})
	mustAdd(t, b, "10.0.0.0/24")
	if _, err := b.Build(1); !errors.Is(err, ErrNothingLeft) {
		t.Errorf("all excluded: got %v", err)
	}
	b = NewBuilder(Config{Exclude: ex})
	mustAdd(t, b, "10.0.0.0/24", "mail.example.org")
	if _, err := b.Build(1); err != nil {
		t.Errorf("a name is left: got %v", err)
	}
	var bad *SpecError
	if _, err := NewBuilder(Config{}).Build(1); !errors.As(err, &bad) {
		t.Errorf("nothing at all: got %v", err)
	}
	b = NewBuilder(Config{})
	mustRead(t, b, "# only\r\n\r\n  # comments\n")
	if _, err := b.Build(1); !errors.As(err, &bad) || !strings.Contains(err.Error(), "list.txt") {
		t.Errorf("only comments: got %v", err)
	}
}

func TestTooLargePlansAreRefused(t *testing.T) {
	ports := make([]Port, 65535)
	for i := range ports {
		ports[i] = Port{Number: uint16(i + 1)}
	}
	b := NewBuilder(Config{Ports: ports})
	mustAdd(t, b, "0.0.0.0/0")
	if p := mustBuild(t, b, 1); p.Len() != 65535<<32 {
		t.Errorf("all of IPv4 at all ports is %d endpoints", p.Len())
	}
	b = NewBuilder(Config{Ports: ports})
	mustAdd(t, b, "0.0.0.0/0", "2a00::/96")
	var refused *RefusedError
	if _, err := b.Build(1); !errors.As(err, &refused) {
		t.Errorf("more than 2^48: got %v", err)
	}
}

func TestContradictoryRolesAreAnErrorThatNamesTheAddress(t *testing.T) {
	b := NewBuilder(Config{})
	mustAdd(t, b, "10.0.0.0/24:2525/smtp", "10.0.0.7:2525/smtps")
	var bad *SpecError
	if _, err := b.Build(1); !errors.As(err, &bad) || !strings.Contains(err.Error(), "10.0.0.7") {
		t.Errorf("got %v", err)
	}
}

func TestNamesAreDistinctAndKeepTheirOrder(t *testing.T) {
	b := NewBuilder(Config{})
	mustRead(t, b, "b.example.org B.EXAMPLE.ORG. a.example.org\nmx:example.org\n")
	mustAdd(t, b, "example.org", "A.example.org:25", "A.example.org:2525")
	p := mustBuild(t, b, 1)
	var got []string
	for i, n := range p.Names() {
		got = append(got, fmt.Sprint(i, n.Text, n.Spec, PortsText(n.Ports), n.FromFile))
	}
	want := []string{"0b.example.orgb.example.org25,465,587true", "1a.example.orga.example.org25,465,587,2525false",
		"2mx:example.orgmx:example.org25,465,587true", "3example.orgexample.org25,465,587false"}
	for i := range want {
		if strings.ReplaceAll(got[i], " ", "") != want[i] {
			t.Errorf("got %s, want %s", got[i], want[i])
		}
	}
	if len(got) != len(want) || p.NameCount() != len(want) {
		t.Errorf("%d names, want %d", len(got), len(want))
	}
}

func TestListsAreReadAsPeopleSaveThem(t *testing.T) {
	b := NewBuilder(Config{Ports: []Port{{25, SMTP}}})
	mustRead(t, b, "\ufeff# hosts\r\n10.0.0.1\r\n\t10.0.0.2  \t10.0.0.3 # two\r\n\r\n10.0.1.0/30#x\n10.0.0.1\n10.0.0.9")
	if p := mustBuild(t, b, 1); p.Len() != 8 {
		t.Errorf("%d addresses, want 8: %v", p.Len(), all(p))
	}
}

type dir struct{}

func (dir) Read([]byte) (int, error) { return 0, io.ErrNoProgress }

func TestUnreadableListsAreErrorsWithTheirLine(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"10.0.0.1\n10.0.0.300\n", "list.txt:2: bad target \"10.0.0.300\""},
		{"10.0.0.1\n\n10.0.0.\x001\n", "list.txt:3: bad target list: the line contains a NUL byte"},
		{"\xff\xfe1\x000\x00", "list.txt:1: bad target list: the file is UTF-16"},
		{"10.0.0.1\n" + strings.Repeat("a", 4097) + "\n", "list.txt:2: bad target list: the line is longer"},
		{"10.0.0.1\n" + strings.Repeat("a", 1<<20), "list.txt:2: bad target list: the line is longer"},
		{"b\xfccher.example\n", "list.txt:1: bad target list: the line is not UTF-8"},
	} {
		err := NewBuilder(Config{}).ReadFile("list.txt", strings.NewReader(c.text))
		var bad *SpecError
		if !errors.As(err, &bad) || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
	if err := NewBuilder(Config{}).ReadFile("x", dir{}); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("a read error became %v", err)
	}
}

func TestTenMistakesOfAListAreToldAtOnce(t *testing.T) {
	list := "10.0.0.1\n" + strings.Repeat("10.0.0.300\n10.0.0.2\n", 12) + "224.0.0.1\n"
	err := NewBuilder(Config{}).ReadFile("list.txt", strings.NewReader(list))
	lines := strings.Split(fmt.Sprint(err), "\n")
	if len(lines) != 11 || lines[10] != "and 3 more" {
		t.Fatalf("got %q", lines)
	}
	for i, line := range lines[:10] {
		if want := fmt.Sprintf("list.txt:%d: bad target \"10.0.0.300\": ", 2*i+2); !strings.HasPrefix(line, want) {
			t.Errorf("got %s, want %s", line, want)
		}
	}
	for _, c := range []struct{ text, want string }{
		{"10.0.0.300 127.1\n", "l:1: bad target \"10.0.0.300\"|l:1: bad target \"127.1\""},
		{"224.0.0.1\n127.1\n", "l:1: refused \"224.0.0.1\"|l:2: bad target \"127.1\""},
		{"127.1\n\x00\n127.1\n", "l:1: bad target \"127.1\"|l:2: bad target list: the line contains a NUL byte"}, // no text: the rest is not read
	} {
		err := NewBuilder(Config{}).ReadFile("l", strings.NewReader(c.text))
		wants := strings.Split(c.want, "|")
		lines := strings.Split(fmt.Sprint(err), "\n")
		for i, want := range wants {
			if len(lines) != len(wants) || !strings.HasPrefix(lines[i], want) {
				t.Errorf("got %q, want %q", lines, wants)
			}
		}
	}
	err = NewBuilder(Config{}).ReadFile("l", endless("127.1\n"))
	if !strings.HasSuffix(fmt.Sprint(err), "\nand 1000 more at least: the rest was not read") {
		t.Errorf("a list without end: %v", err)
	}
	var list2 *ListError
	if err := NewExclusions().ReadFile("ex", strings.NewReader("a.example\nb.example\n")); !errors.As(err, &list2) || len(list2.Mistakes) != 2 {
		t.Errorf("exclusions: %v", err)
	}
}

// An endless list has one line again and again.
type endless string

func (e endless) Read(b []byte) (n int, err error) {
	for n+len(e) <= len(b) {
		n += copy(b[n:], e)
	}
	return n, nil
}

func TestAPortBehindIPv6WithoutBracketsIsNoticed(t *testing.T) {
	const want = "2a00::10:25 is read as an address; for port 25 of 2a00::10 write [2a00::10]:25"
	for spec, noticed := range map[string]bool{
		"2a00::10:25": true, "2a00:0:0:0:0:0:0:25": false, "2a00::25": false, "[2a00::10]:25": false, "2a00::10:26": false, "2a00::10:25/128": false,
	} {
		b := NewBuilder(Config{Ports: []Port{{25, SMTP}}})
		mustAdd(t, b, spec)
		if got := mustBuild(t, b, 1).Notices(); slices.Contains(got, want) != noticed || len(got) > 1 {
			t.Errorf("%s: %q", spec, got)
		}
	}
}

func TestNoticesAreBounded(t *testing.T) {
	b := NewBuilder(Config{})
	mustRead(t, b, strings.Repeat("10.0.0.1/24\n", 1000))
	if n := mustBuild(t, b, 1).Notices(); len(n) != maxNotices+1 || n[0] != "list.txt:1: 10.0.0.1/24 has host bits set: it is read as 10.0.0.0/24" {
		t.Errorf("%d notices: %v", len(n), n)
	}
}

// scattered yields n different addresses as lines of a list.
type scattered struct {
	f    *feistel
	n, i uint64
	rest []byte
}

func (s *scattered) Read(b []byte) (n int, err error) {
	for n < len(b) {
		if len(s.rest) == 0 {
			if s.i == s.n {
				if n == 0 {
					err = io.EOF
				}
				return n, err
			}
			// Every second address below 223.0.0.0, so that none touch.
			a := addr4(uint32(1<<24 + s.f.at(s.i)*2))
			s.rest = append(a.AppendTo(s.rest[:0]), '\n')
			s.i++
		}
		c := copy(b[n:], s.rest)
		n, s.rest = n+c, s.rest[c:]
	}
	return n, nil
}

// buildScattered builds a plan of n isolated addresses, and returns the bytes
// of memory that it holds.
func buildScattered(t testing.TB, n uint64) (*Plan, uint64) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	b := NewBuilder(Config{AllowReserved: true})
	b.parser = testParser()
	if err := b.ReadFile("list", &scattered{f: newFeistel(1<<22*4, 1), n: n}); err != nil {
		t.Fatal(err)
	}
	p := mustBuild(t, b, 1)
	runtime.GC()
	runtime.ReadMemStats(&after)
	return p, after.HeapAlloc - before.HeapAlloc
}

func TestIsolatedAddressesCostAtMostSixteenBytes(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a plan of a million addresses")
	}
	const n = 1_000_000
	p, bytes := buildScattered(t, n)
	if p.Len() != 3*n {
		t.Fatalf("%d endpoints, want %d", p.Len(), 3*n)
	}
	if bytes > 16*n {
		t.Errorf("%d bytes of memory, %d an address", bytes, bytes/n)
	}
	runtime.KeepAlive(p)
}

// TestCountingTakesNoMemoryForEachAddress: IPv6 addresses that wrap no IPv4
// address are counted as they come.
func TestCountingTakesNoMemoryForEachAddress(t *testing.T) {
	const n = 100_000
	var list strings.Builder
	r := rand.New(rand.NewPCG(8, 8))
	for range n {
		fmt.Fprintln(&list, uint128{0x2a00<<48 | r.Uint64()>>16, r.Uint64()}.addr())
	}
	ex := NewExclusions()
	for i := range 1000 {
		if err := ex.Add(fmt.Sprintf("8.8.%d.%d", i>>8, i&255)); err != nil {
			t.Fatal(err)
		}
	}
	b := NewBuilder(Config{Ports: []Port{{25, SMTP}}, Exclude: ex})
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	mustRead(t, b, list.String())
	p := mustBuild(t, b, 1)
	runtime.GC()
	runtime.ReadMemStats(&after)
	if held := int64(after.HeapAlloc) - int64(before.HeapAlloc); held > 16*n+1<<18 {
		t.Errorf("%d bytes of memory, %d an address", held, held/n)
	}
	runtime.ReadMemStats(&before)
	p.left, p.addresses, p.subtracted = 0, 0, nil
	p.count()
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 4*n {
		t.Errorf("counting takes %d bytes, %d an address", used, used/n)
	}
	if p.Probed() != p.Len() {
		t.Errorf("%d of %d are probed", p.Probed(), p.Len())
	}
	runtime.KeepAlive(b)
}

// TestCountsAreThoseOfPermit compares what a plan counts with what it permits,
// where IPv6 addresses wrap IPv4 ones.
func TestCountsAreThoseOfPermit(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 2))
	bases := []string{"64:ff9b::a00:0", "2002:a00::", "2002:0900:00ff:ffff:ffff:ffff:ffff:ffc0", "2001:0:1:2:0:0:f5ff:ff00", "2001:0:1:2:ffff:ffff:ffff:ff00", "2a00::", "10.0.0.0"}
	for round := range 300 {
		cfg := Config{Ports: []Port{{25, SMTP}}, Exclude: NewExclusions(), AllowReserved: round%2 == 0}
		for range r.IntN(12) {
			spec := fmt.Sprintf("10.0.%d.%d/%d", r.IntN(2), r.IntN(256), 20+r.IntN(13))
			if r.IntN(3) == 0 {
				a := number(netip.MustParseAddr(bases[r.IntN(len(bases)-1)])).plus(r.Uint64N(400))
				spec = a.addr().String() + "-" + a.plus(r.Uint64N(90)).addr().String()
			}
			if err := cfg.Exclude.Add(spec); err != nil {
				t.Fatal(err)
			}
		}
		b := NewBuilder(cfg)
		mustAdd(t, b, "mail.example.org")
		for range 1 + r.IntN(5) {
			base := netip.MustParseAddr(bases[r.IntN(len(bases))])
			a := number(base).plus(r.Uint64N(300))
			z := a.plus(r.Uint64N(200))
			if err := b.Add(a.inFamily(base.Is6()).String() + "-" + z.inFamily(base.Is6()).String()); err != nil && !errors.As(err, new(*RefusedError)) {
				t.Fatal(err)
			}
		}
		p := mustBuild(t, b, 1)
		permitted, public := uint64(0), false
		for i := range p.Len() {
			x := p.At(i)
			if ok, _ := p.PermitTarget(x); ok {
				permitted++
				public = public || IsPublic(x.Addr)
			}
		}
		if permitted != p.Probed() || public && !p.Public() {
			t.Fatalf("round %d: Permit lets %d through, Probed says %d; public %v, %v\n%+v", round, permitted, p.Probed(), public, p.Public(), p.Subtracted())
		}
	}
}

// BenchmarkTenMillionLines reads a list of 10 million scattered addresses; its
// metrics are the memory of the plan and what the process took from the system.
func BenchmarkTenMillionLines(b *testing.B) {
	for b.Loop() {
		p, bytes := buildScattered(b, 10_000_000)
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		b.ReportMetric(float64(bytes)/float64(p.Len()/3), "B/address")
		b.ReportMetric(float64(m.Sys-m.HeapReleased)/1e6, "MB-sys")
	}
}

func BenchmarkNextTarget(b *testing.B) {
	for name, specs := range map[string]func(*Builder){
		"block": func(x *Builder) { mustAdd(b, x, "10.0.0.0/8") },
		"isolated": func(x *Builder) {
			if err := x.ReadFile("list", &scattered{f: newFeistel(1<<24, 1), n: 1_000_000}); err != nil {
				b.Fatal(err)
			}
		},
		"10000 blocks": func(x *Builder) {
			for i := range 10000 {
				mustAdd(b, x, fmt.Sprintf("10.%d.%d.0/25", i>>8, i&255))
			}
		},
	} {
		b.Run(name, func(b *testing.B) {
			x := NewBuilder(Config{AllowReserved: true})
			specs(x)
			p := mustBuild(b, x, 1)
			o := p.Order(Shard{})
			b.ReportAllocs()
			b.ResetTimer()
			for i := range uint64(b.N) {
				sink ^= uint64(p.At(o.At(i % o.Len())).Port)
			}
		})
	}
}

func TestNextTargetDoesNotAllocate(t *testing.T) {
	b := NewBuilder(Config{})
	mustAdd(t, b, "10.0.0.0/24", "10.0.7.1", "2a00::/120")
	p := mustBuild(t, b, 1)
	o := p.Order(Shard{})
	i := uint64(0)
	if n := testing.AllocsPerRun(1000, func() { sink ^= uint64(p.At(o.At(i % o.Len())).Port); i++ }); n != 0 {
		t.Errorf("%v allocations a target", n)
	}
}

func TestDirectoryIsNotAList(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("reading a directory has no error of its own there")
	}
	f, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var bad *SpecError
	if err := NewBuilder(Config{}).ReadFile("hosts", f); !errors.As(err, &bad) || !strings.Contains(err.Error(), "hosts:1: bad target list: it is a directory") {
		t.Errorf("got %v", err)
	}
}
