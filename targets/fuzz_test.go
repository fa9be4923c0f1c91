package targets

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

var specSeeds = []string{"192.0.2.7", "192.0.2.0/24", "192.0.2.1-192.0.2.40", "192.0.2.1-40", "2001:db8::/120", "[2001:db8::1]:25", "fe80::1%eth0",
	"::ffff:10.0.0.1/120", "64:ff9b::1-64:ff9b::2", "2001::f7f7:f7f7/120", "mail.example.org:2525/smtp", "mx:example.org", "bücher.example", "010.0.0.1", "0x7f.1", "2130706433", "1.2.3.4/", "a..b",
	"https://x/", "a@b", "xn--999", "[::]:", "10.0.0.0-999999999", "::/0", "::/80", "0.0.0.0/0", "fe80::1%a-b/c"}

func FuzzSpec(f *testing.F) {
	for _, s := range specSeeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		b := NewBuilder(Config{AllowReserved: true})
		b.parser = testParser()
		err := b.Add(text)
		var bad *SpecError
		var refused *RefusedError
		if err != nil {
			if !errors.As(err, &bad) && !errors.As(err, &refused) || strings.ContainsAny(err.Error(), "\n\r\x1b\x00") {
				t.Fatalf("error %T %q", err, err)
			}
			return
		}
		p, err := b.Build(1)
		if err != nil {
			t.Fatalf("%q was added and cannot be built: %v", text, err)
		}
		if p.Len() > 0 {
			for _, i := range []uint64{0, p.Len() / 2, p.Len() - 1} {
				x := p.At(i)
				if n, ok := p.Index(x.Addr, x.Port); !ok || n != i {
					t.Fatalf("%q: endpoint %d is %s, which is %d", text, i, x.AddrPort(), n)
				}
			}
		}
		if p.Probed() == 0 && p.NameCount() == 0 || p.Probed() > p.Len() {
			t.Fatalf("%q: %d of %d are probed", text, p.Probed(), p.Len())
		}
		sameAfterRoundTrip(t, p)
	})
}

func FuzzTargetList(f *testing.F) {
	f.Add([]byte(strings.Join(specSeeds[:5], "\r\n")))
	f.Add([]byte("\ufeff10.0.0.1 # x\n\n\t10.0.0.2"))
	f.Add([]byte("\xff\xfe1\x00"))
	f.Add([]byte("10.0.0.1\n10.0.0.1:2525\n10.0.0.0/30\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		b := NewBuilder(Config{})
		b.parser = testParser()
		if err := b.ReadFile("list", bytes.NewReader(text)); err != nil {
			if !strings.HasPrefix(err.Error(), "list:") {
				t.Fatalf("no line in %v", err)
			}
			return
		}
		p, err := b.Build(1)
		if err != nil {
			return
		}
		sameAfterRoundTrip(t, p)
	})
}

func FuzzExclusionList(f *testing.F) {
	f.Add([]byte("10.0.0.0/24\n10.0.0.7 # x\n2001:db8::/64\r\n"), "10.0.0.7")
	f.Add([]byte("::/0"), "64:ff9b::1")
	f.Fuzz(func(t *testing.T, text []byte, addr string) {
		e := NewExclusions()
		if err := e.ReadFile("list", bytes.NewReader(text)); err != nil {
			if !strings.HasPrefix(err.Error(), "list:") {
				t.Fatalf("no line in %v", err)
			}
			return
		}
		a, err := netip.ParseAddr(addr)
		if err != nil {
			return
		}
		before := e.Contains(a)
		if err := e.Add(a.Unmap().WithZone("").String()); err != nil {
			t.Fatal(err)
		}
		if !e.Contains(a) {
			t.Fatalf("%s was excluded (before: %v) and is not contained", a, before)
		}
	})
}

func FuzzPlanRecords(f *testing.F) {
	b := NewBuilder(Config{})
	for _, s := range []string{"10.0.0.0/24", "10.0.0.7:2525", "2a00::/120", "mail.example.org"} {
		if err := b.Add(s); err != nil {
			f.Fatal(err)
		}
	}
	p, err := b.Build(1)
	if err != nil {
		f.Fatal(err)
	}
	var all []byte
	for r := range p.Records() {
		all = append(append(all, r...), '\n')
	}
	f.Add(all)
	f.Add([]byte(`{"type":"plan","part":"head","schema":1,"seed":"1"}` + "\n" + `{"type":"plan","part":"ranges","family":"6%x","ranges":"@0.0 zz:1-2"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := ReadPlan(Config{}, func(yield func([]byte, error) bool) {
			for line := range bytes.Lines(text) {
				if !yield(bytes.TrimSuffix(line, []byte("\n")), nil) {
					return
				}
			}
		})
		if err == nil && p.Len() > 0 {
			p.At(p.Len() - 1)
		}
	})
}

// FuzzDNSReply reads any message as the reply to a question.
func FuzzDNSReply(f *testing.F) {
	m := new(dns.Msg).SetQuestion("a.example.org.", dns.TypeA)
	m.Response = true
	for _, s := range []string{"a.example.org. CNAME b.example.org.", "b.example.org. A 192.0.2.1", `a.example.org. MX 1 a\.b.example.org.`} {
		rr, err := dns.NewRR(s)
		if err != nil {
			f.Fatal(err)
		}
		m.Answer = append(m.Answer, rr)
		wire, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wire)
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		var m dns.Msg
		if m.Unpack(wire) != nil {
			return
		}
		for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeMX} {
			l := lookup{most: 3}
			l.read(&m, "a.example.org.", qtype)
			if len(l.addrs) > 3 || len(l.aliases) > maxAliases {
				t.Fatalf("%d addresses, %d aliases", len(l.addrs), len(l.aliases))
			}
			for _, h := range mxHosts(l.mx) {
				if checkName(h.Host) == nil && strings.ContainsAny(h.Host, "\\ \n") {
					t.Fatalf("%q passes as a host", h.Host)
				}
			}
		}
	})
}

// FuzzPorts reads a port list, and reads what it is written as.
func FuzzPorts(f *testing.F) {
	for _, s := range []string{"25,465,587", "20-30", "smtp,smtps", "2525/smtp,25/submission", "1-65535", "0", "65536", "30-20", "25,,", "25/x", " 25 , 465 ", "25-", "-25", "25/smtp/smtp"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		ports, err := ParsePorts(text)
		var bad *SpecError
		if err != nil {
			if !errors.As(err, &bad) || strings.ContainsAny(err.Error(), "\n\r\x1b\x00") {
				t.Fatalf("error %T %q", err, err)
			}
			return
		}
		if again, err := ParsePorts(PortsText(ports)); err != nil || !slices.Equal(ports, again) {
			t.Fatalf("%q is read as %v, which is written %q and read as %v, %v", text, ports, PortsText(ports), again, err)
		}
		for i, p := range ports {
			if p.Number == 0 || i > 0 && ports[i-1].Number >= p.Number {
				t.Fatalf("%q: %v", text, ports)
			}
		}
	})
}

// FuzzShard reads a part of a plan.
func FuzzShard(f *testing.F) {
	for _, s := range []string{"1/1", "2/8", "8/8", "9/8", "0/8", "1/0", "1/281474976710656", "01/8", "+1/8", "1/8/9", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseShard(text)
		if err != nil {
			return
		}
		if again, err := ParseShard(s.String()); err != nil || again != s || s.I < 1 || s.I > s.N || s.N > MaxEndpoints {
			t.Fatalf("%q is read as %v", text, s)
		}
	})
}
