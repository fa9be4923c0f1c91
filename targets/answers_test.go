package targets

import (
	"fmt"
	"net/netip"
	"reflect"
	"runtime"
	"strings"
	"testing"
)

func TestAnswersAreKeptAsTheyWere(t *testing.T) {
	addrs := func(s ...string) (out []netip.Addr) {
		for _, a := range s {
			out = append(out, netip.MustParseAddr(a))
		}
		return out
	}
	var many []netip.Addr
	for i := range 300 {
		many = append(many, addr4(uint32(1<<24+i)))
	}
	host := func(name string, a ...netip.Addr) HostAnswer { return HostAnswer{Host: name, Addrs: a} }
	for _, c := range []struct {
		name string
		a    Answer
	}{
		{"a.example.org", Answer{Hosts: []HostAnswer{host("a.example.org", addrs("8.8.8.8")...)}}},
		{"a.example.org", Answer{Hosts: []HostAnswer{host("a.example.org", addrs("8.8.8.8", "8.8.4.4", "2a00::1")...)}}},
		{"a.example.org", Answer{Hosts: []HostAnswer{host("a.example.org", addrs("2a00::1", "2a00::2")...)}}},
		{"a.example.org", Answer{Hosts: []HostAnswer{host("a.example.org", addrs("2a00::1", "8.8.8.8")...)}}}, // in another order
		{"a.example.org", Answer{Hosts: []HostAnswer{host("a.example.org", addrs("::ffff:8.8.8.8")...)}}},
		{"a.example.org", Answer{Hosts: []HostAnswer{host("a.example.org", addrs("fe80::1%eth0")...)}}},
		{"a.example.org", Answer{Hosts: []HostAnswer{host("a.example.org", many...)}}},
		{"a.example.org", Answer{Hosts: []HostAnswer{host("b.example.org", addrs("8.8.8.8")...)}}},
		{"a.example.org", Answer{Hosts: []HostAnswer{host("a.example.org", addrs("8.8.8.8")...)}, CNAME: []string{"b.example.org"}}},
		{"a.example.org", Answer{Hosts: []HostAnswer{{Host: "a.example.org", Addrs: addrs("8.8.8.8"), Why: DNSError, Err: "x", Failed: 6}}}},
		{"a.example.org", Answer{Why: DNSNXDomain, Err: "the name does not exist"}},
		{"a.example.org", Answer{}},
		{"mx:example.org", Answer{Hosts: []HostAnswer{host("example.org", addrs("8.8.8.8")...)}}},
		{"mx:example.org", Answer{Hosts: []HostAnswer{host("example.org", addrs("8.8.8.8")...)}, Err: "no MX"}},
		{"mx:example.org", Answer{Hosts: []HostAnswer{{Host: "b.example.org", Preference: 10, Addrs: addrs("8.8.8.8")}, host("c.example.org", addrs("8.8.4.4")...)}}},
	} {
		b := NewBuilder(Config{})
		mustAdd(t, b, "first.example.org", c.name)
		s := NewAnswers(mustBuild(t, b, 1))
		if _, _, ok := s.At(1); ok || s.Endpoints(1) != nil {
			t.Error("there is an answer before one was put")
		}
		c.a.Name = c.name
		if err := s.Put(1, c.a); err != nil {
			t.Fatal(err)
		}
		name, got, ok := s.At(1)
		if !ok || name.Text != c.name || !reflect.DeepEqual(got, c.a) {
			t.Errorf("got  %+v\nwant %+v", got, c.a)
		}
	}
}

// An answer takes the place of the one before, and the neighbours stay as they are.
func TestAnswersAreReplaced(t *testing.T) {
	b := NewBuilder(Config{})
	mustAdd(t, b, "a.example.org", "b.example.org", "c.example.org")
	s := NewAnswers(mustBuild(t, b, 1))
	at := func(host, addr string) Answer {
		return Answer{Name: host, Hosts: []HostAnswer{{Host: host, Addrs: []netip.Addr{netip.MustParseAddr(addr)}}}}
	}
	failed := func(why string) Answer { return Answer{Name: "b.example.org", Why: DNSError, Err: why} }
	a, c := at("a.example.org", "8.8.8.8"), at("c.example.org", "8.8.4.4")
	for i, put := range []Answer{a, failed("SERVFAIL"), c} {
		if err := s.Put(i, put); err != nil {
			t.Fatal(err)
		}
	}
	before := len(s.text)
	for _, again := range []Answer{failed("SERVFAIL"), failed("none"), at("b.example.org", "2a00::1"), at("b.example.org", "8.8.8.1"), failed("a longer story than before")} {
		if err := s.Put(1, again); err != nil {
			t.Fatal(err)
		}
		for i, want := range []Answer{a, again, c} {
			if _, got, ok := s.At(i); !ok || !reflect.DeepEqual(got, want) {
				t.Errorf("%d: got  %+v\nwant %+v", i, got, want)
			}
		}
		if grew := len(s.text) - before; grew > 0 && again.Err != "a longer story than before" {
			t.Errorf("%+v: the text grew by %d bytes", again, grew)
		}
	}
}

// TestNamesCostAtMostSixteenBytesAndTheirText: DESIGN.md section 3, and what
// their addresses take.
func TestNamesCostAtMostSixteenBytesAndTheirText(t *testing.T) {
	const n = 200_000
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	b := NewBuilder(Config{})
	var list strings.Builder
	for i := range n {
		fmt.Fprintf(&list, "h%06d.example.org\n", i)
	}
	mustRead(t, b, list.String())
	list.Reset()
	p := mustBuild(t, b, 1)
	s := NewAnswers(p)
	for i, name := range p.Names() {
		if err := s.Put(i, Answer{Hosts: []HostAnswer{{Host: name.Text, Addrs: []netip.Addr{addr4(uint32(i))}}}}); err != nil {
			t.Fatal(err)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	const text, addr = 19, 6
	if bytes := after.HeapAlloc - before.HeapAlloc; bytes > (16+text+addr)*n*3/2 { // what grows has room to spare
		t.Errorf("%d bytes a name", bytes/n)
	} else {
		t.Logf("%d bytes a name, %d of them text", bytes/n, text)
	}
	if eps := s.Endpoints(n - 1); len(eps) != 3 || eps[0].Target.Host() != fmt.Sprintf("h%06d.example.org", n-1) {
		t.Errorf("endpoints %v", eps)
	}
}
