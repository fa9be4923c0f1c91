package scannertest

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

var zone = DNSZone{
	"mail.example.org":     {"A 192.0.2.1", "A 192.0.2.2", "AAAA 2001:db8::1"},
	"example.org":          {"MX 10 mail.example.org", "MX 10 backup.example.org."},
	"null.example.org":     {"MX 0 ."},
	"alias.example.org":    {"CNAME mail.example.org"},
	"loop1.example.org":    {"CNAME loop2.example.org"},
	"loop2.example.org":    {"CNAME loop1.example.org"},
	"dangling.example.org": {"CNAME nothing.example.org"},
	"empty.example.org":    {},
	"broken.example.org":   {"SERVFAIL"},
	"half.example.org":     {"A 192.0.2.1", "SERVFAIL MX"},
	"refused.example.org":  {"REFUSED"},
	"lost.example.org":     {"DROP"},
	"deaf.example.org":     {"A 192.0.2.1", "DROP MX"},
	"large.example.org":    {"TRUNCATE", "A 192.0.2.1"},
	"rebind.example.org":   {"A 192.0.2.1", "---", "A 127.0.0.1"},
	"a.deep.example.org":   {"A 192.0.2.1"},
}

// ask returns the RCODE and the answers, in a line each.
func ask(t *testing.T, server, network, name, qtype string, patience time.Duration) string {
	t.Helper()
	c := dns.Client{Net: network, Timeout: patience}
	m := new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.StringToType[qtype])
	r, _, err := c.Exchange(m, server)
	if err != nil {
		if ne, ok := err.(net.Error); ok && ne.Timeout() {
			return "lost"
		}
		t.Fatal(err)
	}
	words := []string{dns.RcodeToString[r.Rcode]}
	if r.Truncated {
		words = append(words, "truncated")
	}
	for _, rr := range r.Answer {
		words = append(words, dns.TypeToString[rr.Header().Rrtype]+" "+strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	return strings.Join(words, ", ")
}

func TestNameServerAnswersByItsZone(t *testing.T) {
	server := DNS(t, zone).String()
	tests := []struct{ network, name, qtype, want string }{
		{"udp", "mail.example.org", "A", "NOERROR, A 192.0.2.1, A 192.0.2.2"},
		{"tcp", "MAIL.example.org", "AAAA", "NOERROR, AAAA 2001:db8::1"},
		{"udp", "mail.example.org", "MX", "NOERROR"},
		{"udp", "example.org", "MX", "NOERROR, MX 10 mail.example.org., MX 10 backup.example.org."},
		{"udp", "null.example.org", "MX", "NOERROR, MX 0 ."},
		{"udp", "alias.example.org", "AAAA", "NOERROR, CNAME mail.example.org., AAAA 2001:db8::1"},
		{"udp", "alias.example.org", "CNAME", "NOERROR, CNAME mail.example.org."},
		{"udp", "loop1.example.org", "A", "SERVFAIL"},
		{"udp", "dangling.example.org", "A", "NXDOMAIN, CNAME nothing.example.org."},
		{"udp", "empty.example.org", "A", "NOERROR"},
		{"udp", "deep.example.org", "A", "NOERROR"},
		{"udp", "nothing.example.org", "A", "NXDOMAIN"},
		{"udp", "broken.example.org", "A", "SERVFAIL"},
		{"udp", "half.example.org", "A", "NOERROR, A 192.0.2.1"},
		{"udp", "half.example.org", "MX", "SERVFAIL"},
		{"udp", "refused.example.org", "A", "REFUSED"},
		{"udp", "lost.example.org", "A", "lost"},
		{"udp", "deaf.example.org", "MX", "lost"},
		{"udp", "deaf.example.org", "A", "NOERROR, A 192.0.2.1"},
		{"udp", "large.example.org", "A", "NOERROR, truncated"},
		{"tcp", "large.example.org", "A", "NOERROR, A 192.0.2.1"},
	}
	for _, test := range tests {
		patience := 10 * time.Second
		if test.want == "lost" {
			patience = 300 * time.Millisecond
		}
		if got := ask(t, server, test.network, test.name, test.qtype, patience); got != test.want {
			t.Errorf("%s %s by %s: %s, want %s", test.name, test.qtype, test.network, got, test.want)
		}
	}
}

func TestRebindingAnswersChangeAtEveryQuery(t *testing.T) {
	n := StartDNS(t, zone)
	for i, want := range []string{"NOERROR, A 192.0.2.1", "NOERROR, A 127.0.0.1", "NOERROR, A 192.0.2.1"} {
		if got := ask(t, n.Addr.String(), "udp", "rebind.example.org", "A", 10*time.Second); got != want {
			t.Errorf("query %d: %s, want %s", i+1, got, want)
		}
	}
	if got := n.Queries("rebind.example.org", "A"); got != 3 {
		t.Errorf("%d queries counted, want 3", got)
	}
	if got := n.Queries("rebind.example.org", "AAAA"); got != 0 {
		t.Errorf("%d queries counted, want 0", got)
	}
}

func TestZoneWithAMistakeIsRefused(t *testing.T) {
	defer func() {
		got, _ := recover().(fatal)
		if !strings.HasPrefix(string(got), `name server: x.example.org: record "A nonsense": `) {
			t.Errorf("got %q", got)
		}
	}()
	DNS(&fakeTB{}, DNSZone{"x.example.org": {"A nonsense"}})
}
