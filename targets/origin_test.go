package targets

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// endpointsOf lists a plan as "address:port spec", with "nil" for an address
// without an origin.
func endpointsOf(p *Plan) (out []string) {
	for i := range p.Len() {
		x := p.At(i)
		spec := "nil"
		if x.From != nil {
			spec = x.From.Spec
		}
		out = append(out, fmt.Sprintf("%s %s", x.AddrPort(), spec))
	}
	return out
}

func TestEachPortComesFromTheFirstSpecThatNamesIt(t *testing.T) {
	for _, c := range []struct {
		name  string
		typed []string
		list  string
		want  []string
	}{
		{"two ports of one address", []string{"10.0.0.1:2501", "10.0.0.1:2502"}, "",
			[]string{"10.0.0.1:2501 10.0.0.1:2501", "10.0.0.1:2502 10.0.0.1:2502"}},
		{"the second has the lower port", []string{"10.0.0.1:2502", "10.0.0.1:2501", "10.0.0.1:2502/smtp"}, "",
			[]string{"10.0.0.1:2501 10.0.0.1:2501", "10.0.0.1:2502 10.0.0.1:2502"}},
		{"an endpoint in a block", []string{"10.0.0.0/31", "10.0.0.1:2525", "10.0.0.1:25"}, "",
			[]string{"10.0.0.0:25 10.0.0.0/31", "10.0.0.0:587 10.0.0.0/31",
				"10.0.0.1:25 10.0.0.0/31", "10.0.0.1:587 10.0.0.0/31", "10.0.0.1:2525 10.0.0.1:2525"}},
		{"an endpoint before its block", []string{"10.0.0.1:587", "10.0.0.0/31"}, "",
			[]string{"10.0.0.0:25 10.0.0.0/31", "10.0.0.0:587 10.0.0.0/31",
				"10.0.0.1:25 10.0.0.0/31", "10.0.0.1:587 10.0.0.1:587"}},
		{"a plain address between two specs", []string{"10.0.0.1:25", "10.0.0.1", "10.0.0.0/31:2525"}, "",
			[]string{"10.0.0.0:2525 10.0.0.0/31:2525", "10.0.0.1:25 10.0.0.1:25", "10.0.0.1:587 nil", "10.0.0.1:2525 10.0.0.0/31:2525"}},
		{"blocks that overlap in the middle", []string{"10.0.0.0-10.0.0.1:25", "10.0.0.1-10.0.0.2:24", "10.0.0.1:26"}, "",
			[]string{"10.0.0.0:25 10.0.0.0-10.0.0.1:25", "10.0.0.1:24 10.0.0.1-10.0.0.2:24", "10.0.0.1:25 10.0.0.0-10.0.0.1:25",
				"10.0.0.1:26 10.0.0.1:26", "10.0.0.2:24 10.0.0.1-10.0.0.2:24"}},
		{"addresses in a list", []string{"10.0.0.1:2525"}, "10.0.0.1\n10.0.0.2\n10.0.0.2:2526\n10.0.0.2/31:2527\n",
			[]string{"10.0.0.1:25 nil", "10.0.0.1:587 nil", "10.0.0.1:2525 10.0.0.1:2525",
				"10.0.0.2:25 nil", "10.0.0.2:587 nil", "10.0.0.2:2526 nil", "10.0.0.2:2527 10.0.0.2/31:2527", "10.0.0.3:2527 10.0.0.2/31:2527"}},
		{"IPv6", []string{"[2001:db8::1]:2501", "2001:db8::/127", "[2001:db8::1]:2502", "[fe80::1%eth0]:2501", "[fe80::1%eth0]:2502"}, "",
			[]string{"[2001:db8::]:25 2001:db8::/127", "[2001:db8::]:587 2001:db8::/127",
				"[2001:db8::1]:25 2001:db8::/127", "[2001:db8::1]:587 2001:db8::/127",
				"[2001:db8::1]:2501 [2001:db8::1]:2501", "[2001:db8::1]:2502 [2001:db8::1]:2502",
				"[fe80::1%eth0]:2501 [fe80::1%eth0]:2501", "[fe80::1%eth0]:2502 [fe80::1%eth0]:2502"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := NewBuilder(Config{Ports: []Port{{25, SMTP}, {587, Submission}}, AllowReserved: true})
			b.parser = testParser()
			mustAdd(t, b, c.typed...)
			mustRead(t, b, c.list)
			p := mustBuild(t, b, 1)
			if got := endpointsOf(p); !slices.Equal(got, c.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
			sameAfterRoundTrip(t, p)
		})
	}
}

// TestOriginsAreThoseOfAMap compares random plans with a map from endpoint to
// the first spec that names it.
func TestOriginsAreThoseOfAMap(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 9))
	for round := range 300 {
		b := NewBuilder(Config{Ports: []Port{{25, SMTP}, {587, Submission}}})
		six := round%3 == 2
		base := number(netip.MustParseAddr("10.0.0.0"))
		if six {
			base = number(netip.MustParseAddr("2a00::"))
		}
		want := map[netip.AddrPort]string{}
		put := func(a, z int, port uint16, spec string) {
			ports := []uint16{port}
			if port == 0 {
				ports = []uint16{25, 587}
			}
			for n := a; n <= z; n++ {
				for _, p := range ports {
					e := netip.AddrPortFrom(base.plus(uint64(n)).inFamily(six), p)
					if _, ok := want[e]; !ok {
						want[e] = spec
					}
				}
			}
		}
		var list strings.Builder
		var singles []func() // of the list: they come after every other spec
		for i, n := 0, r.IntN(60)+1; i < n; i++ {
			a, file := r.IntN(100), i > n/2
			z := a + r.IntN(2)*r.IntN(40)
			port := []uint16{0, 0, 24, 25, 26, 587, 2525}[r.IntN(7)]
			first := base.plus(uint64(a)).inFamily(six).String()
			text := first
			if z > a {
				text += "-" + base.plus(uint64(z)).inFamily(six).String()
			}
			if six && port != 0 {
				text = "[" + text + "]"
			}
			if port != 0 {
				text += fmt.Sprintf(":%d", port)
			}
			switch {
			case !file:
				mustAdd(t, b, text)
				put(a, z, port, text)
			case z > a:
				list.WriteString(text + "\n")
				put(a, z, port, text)
			default:
				list.WriteString(text + "\n")
				singles = append(singles, func() { put(a, a, port, first) })
			}
		}
		for _, f := range singles {
			f()
		}
		mustRead(t, b, list.String())
		p := mustBuild(t, b, 1)
		if p.Len() != uint64(len(want)) {
			t.Fatalf("round %d: %d endpoints, want %d", round, p.Len(), len(want))
		}
		for i := range p.Len() {
			if x := p.At(i); x.Spec() != want[x.AddrPort()] {
				t.Fatalf("round %d: %s comes from %s, want %s", round, x.AddrPort(), x.Spec(), want[x.AddrPort()])
			}
		}
		sameAfterRoundTrip(t, p)
	}
}

func TestOriginsOfManyPortsFitIntoRecords(t *testing.T) {
	every := make([]Port, 0, 2400)
	for n := 1; n <= 2400; n++ {
		every = append(every, Port{Number: uint16(n)})
	}
	b := NewBuilder(Config{Ports: every})
	for n := 2; n < 2200; n += 2 {
		mustAdd(t, b, fmt.Sprintf("10.0.0.1:%d/smtp", n))
	}
	mustAdd(t, b, "10.0.0.0/31")
	p := mustBuild(t, b, 1)
	if text := mixText(p.t.mixes[0]); len(text) <= recordSize/2 {
		t.Fatalf("the mix has only %d bytes: it fits into one string of a record", len(text))
	}
	sameAfterRoundTrip(t, p)
	for port, want := range map[uint16]string{1: "10.0.0.0/31", 2: "10.0.0.1:2/smtp", 2198: "10.0.0.1:2198/smtp", 2199: "10.0.0.0/31", 2400: "10.0.0.0/31"} {
		i, _ := p.Index(netip.MustParseAddr("10.0.0.1"), port)
		if got := p.At(i).Spec(); got != want {
			t.Errorf("port %d comes from %s, want %s", port, got, want)
		}
	}
}

func TestOriginsOfPortsAreNotInTheHash(t *testing.T) {
	hash := func(specs ...string) string {
		b := NewBuilder(Config{Ports: []Port{{25, SMTP}}})
		mustAdd(t, b, specs...)
		return mustBuild(t, b, 1).Hash()
	}
	if a, z := hash("10.0.0.0/24", "10.0.0.7:26", "10.0.0.8:26"), hash("10.0.0.7-10.0.0.8:26", "10.0.0.0/24"); a != z {
		t.Errorf("the hash depends on the origins: %s, %s", a, z)
	}
}

func TestDamagedOriginsAreErrors(t *testing.T) {
	b := NewBuilder(Config{Ports: []Port{{25, SMTP}}})
	mustAdd(t, b, "10.0.0.1:2501", "10.0.0.1:2502")
	p := mustBuild(t, b, 1)
	read := func(items ...string) error {
		found := false
		_, err := ReadPlan(Config{}, func(yield func([]byte, error) bool) {
			for text := range p.Records() {
				var rec record
				if err := json.Unmarshal(text, &rec); err != nil {
					t.Fatal(err)
				}
				if rec.Part == "mixes" {
					found, rec.Mixes = true, items
					text, _ = json.Marshal(rec)
				}
				if !yield(text, nil) {
					return
				}
			}
		})
		if !found {
			t.Fatal("the plan has no record of mixed origins")
		}
		return err
	}
	if err := read("0.1 1.2"); err != nil {
		t.Fatal(err)
	}
	for _, items := range [][]string{{}, {""}, {"+0.1 1.2"}, {"0.1 1.3"}, {"1.1"}, {"0.1 0.2"}, {"0.1 1.2", "+1.1"}, {"0.1 1.-"}, {"0.1 1"},
		{"0.1 10000000.2"}, {"0.1 zzzzzzzzzzzzzzzzzz.2"}} {
		if read(items...) == nil {
			t.Errorf("%q was accepted", items)
		}
	}
}

func TestMixedOriginsDoNotAllocate(t *testing.T) {
	b := NewBuilder(Config{})
	mustAdd(t, b, "10.0.0.0/24", "10.0.0.0/26:24", "10.0.0.0/25:2525", "2a00::/120", "[2a00::/121]:2525")
	p := mustBuild(t, b, 1)
	i := uint64(0)
	if n := testing.AllocsPerRun(1000, func() { sink ^= uint64(len(p.At(i % p.Len()).From.Spec)); i++ }); n != 0 {
		t.Errorf("%v allocations a target", n)
	}
}
