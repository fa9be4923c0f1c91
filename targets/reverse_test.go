package targets

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func TestReverse(t *testing.T) {
	const (
		loop = "9.2.0.192.in-addr.arpa."
		v6   = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa."
	)
	s := newNameServer(t, map[string]string{
		"1.2.0.192.in-addr.arpa. PTR": "1.2.0.192.in-addr.arpa. PTR GW3.isp.example.",
		v6 + " PTR":                   v6 + " PTR gw6.isp.example.",
		"2.2.0.192.in-addr.arpa. PTR": "-",
		"3.2.0.192.in-addr.arpa. PTR": "!SERVFAIL",
		"4.2.0.192.in-addr.arpa. PTR": "4.2.0.192.in-addr.arpa. CNAME 4.0-7.2.0.192.in-addr.arpa.\n4.0-7.2.0.192.in-addr.arpa. PTR small.example.",
		loop + " PTR":                 loop + " CNAME " + loop,
	})
	r, err := NewResolver([]netip.AddrPort{s.addr})
	if err != nil {
		t.Fatal(err)
	}
	r.HostsFile = filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(r.HostsFile, []byte("192.0.2.7 router.lan router\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]string{
		"192.0.2.1": "gw3.isp.example", "2001:db8::1": "gw6.isp.example", "::ffff:192.0.2.1": "gw3.isp.example",
		"192.0.2.2": "", "192.0.2.4": "small.example", "192.0.2.7": "router", "192.0.2.8": "", "192.0.2.9": "",
	} {
		if got, err := r.Reverse(t.Context(), netip.MustParseAddr(addr)); got != want || err != nil {
			t.Errorf("%s: got %q, %v, want %q", addr, got, err, want)
		}
	}
	if got, err := r.Reverse(t.Context(), netip.MustParseAddr("192.0.2.3")); got != "" || err == nil || !strings.Contains(err.Error(), "SERVFAIL") {
		t.Errorf("a server that fails: got %q, %v", got, err)
	}
}

// FuzzPointer reads replies as they come from the network.
func FuzzPointer(f *testing.F) {
	const owner = "1.2.0.192.in-addr.arpa."
	for _, text := range []string{owner + " PTR gw.isp.example.", owner + " CNAME " + owner, owner + ` PTR a\000b\200.example.`} {
		rr, err := dns.NewRR(text)
		if err != nil {
			f.Fatal(err)
		}
		m := new(dns.Msg).SetQuestion(owner, dns.TypePTR)
		m.Answer = []dns.RR{rr}
		packed, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(packed)
	}
	f.Fuzz(func(t *testing.T, packed []byte) {
		var m dns.Msg
		if m.Unpack(packed) != nil {
			return
		}
		name := pointer(&m, owner)
		if len(name) > 4*255 || strings.ContainsAny(name, "\x00\x1b\n") {
			t.Errorf("a name of %d bytes: %q", len(name), name)
		}
	})
}
