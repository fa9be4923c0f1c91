package targets

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// A nameServer is a DNS server of the test, on loopback, UDP and TCP. zone
// maps "name TYPE" to records; "!RCODE" is a reply code, "-" is no data,
// "silent" is no reply, "cut " before records sends them over TCP only.
type nameServer struct {
	addr  netip.AddrPort
	mu    sync.Mutex
	zone  map[string]string
	asked map[string]int
	tcp   atomic.Int64
	old   atomic.Bool // it knows no EDNS
	// invents is the IPv4 address that is answered for names that do not exist.
	invents string
}

func newNameServer(t *testing.T, zone map[string]string) *nameServer {
	t.Helper()
	s := &nameServer{zone: zone, asked: map[string]int{}}
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = netip.MustParseAddrPort(packets.LocalAddr().String())
	listener, err := net.Listen("tcp", s.addr.String())
	if err != nil {
		t.Skipf("the TCP port beside the UDP one is taken: %v", err)
	}
	for _, server := range []*dns.Server{{PacketConn: packets, Handler: s}, {Listener: listener, Handler: s}} {
		started := make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = server.ActivateAndServe()
		}()
		<-started
		t.Cleanup(func() { _ = server.Shutdown(); <-ended })
	}
	return s
}

func (s *nameServer) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	key := strings.ToLower(q.Question[0].Name) + " " + dns.TypeToString[q.Question[0].Qtype]
	s.mu.Lock()
	s.asked[key]++
	text, ok := s.zone[key]
	invents := s.invents
	s.mu.Unlock()
	m := new(dns.Msg).SetReply(q)
	m.RecursionAvailable = true
	if s.old.Load() && q.IsEdns0() != nil {
		ok, text = true, "!FORMERR"
	}
	if strings.HasPrefix(text, "cut ") {
		text = text[4:]
		if _, udp := w.RemoteAddr().(*net.UDPAddr); udp {
			m.Truncated, text = true, "-"
		} else {
			s.tcp.Add(1)
		}
	}
	switch {
	case text == "silent":
		return
	case !ok && invents != "":
		if q.Question[0].Qtype == dns.TypeA {
			rr, err := dns.NewRR(q.Question[0].Name + " 60 IN A " + invents)
			if err != nil {
				panic(err)
			}
			m.Answer = append(m.Answer, rr)
		}
	case !ok:
		m.Rcode = dns.RcodeNameError
	case strings.HasPrefix(text, "!"):
		m.Rcode = dns.StringToRcode[text[1:]]
	case text == "lame":
		m.RecursionAvailable = false
	case text != "-":
		for line := range strings.SplitSeq(text, "\n") {
			rr, err := dns.NewRR(strings.TrimSpace(line))
			if err != nil {
				panic(err)
			}
			m.Answer = append(m.Answer, rr)
		}
	}
	_ = w.WriteMsg(m)
}

func (s *nameServer) resolver(t *testing.T) *Resolver {
	t.Helper()
	r, err := NewResolver([]netip.AddrPort{s.addr})
	if err != nil {
		t.Fatal(err)
	}
	r.HostsFile = ""
	return r
}

// show writes an answer in one line.
func show(a Answer) string {
	out := []string{}
	for _, h := range a.Hosts {
		s := h.Host
		for _, x := range h.Addrs {
			s += " " + x.String()
		}
		if h.Why != "" {
			s += " (" + string(h.Why) + ")"
		}
		out = append(out, s)
	}
	if a.Why != "" {
		out = append(out, string(a.Why))
	}
	return strings.Join(out, ", ")
}

func manyRecords(n int, format string) string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprintf(format, i))
	}
	return strings.Join(out, "\n")
}

var zone = map[string]string{
	"one.example.org. A": "one.example.org. A 192.0.2.1", "one.example.org. AAAA": "-",
	"both.example.org. A": "both.example.org. A 192.0.2.2\nboth.example.org. A 192.0.2.1\nboth.example.org. A 192.0.2.2", "both.example.org. AAAA": "both.example.org. AAAA 2001:db8::1",
	"empty.example.org. A": "-", "empty.example.org. AAAA": "-", "empty.example.org. MX": "-",
	"fail.example.org. A": "!SERVFAIL", "fail.example.org. AAAA": "!SERVFAIL", "fail.example.org. MX": "!SERVFAIL",
	"refused.example.org. A": "!REFUSED", "refused.example.org. AAAA": "-",
	"silent.example.org. A": "silent", "silent.example.org. AAAA": "silent",
	"lame.example.org. A": "lame", "lame.example.org. AAAA": "lame",
	"half.example.org. A": "half.example.org. A 192.0.2.3", "half.example.org. AAAA": "!SERVFAIL",
	"liar.example.org. A":  "-", // AAAA is NXDOMAIN
	"alias.example.org. A": "alias.example.org. CNAME Middle.example.org.\nmiddle.example.org. CNAME one.example.org.\none.example.org. A 192.0.2.1", "alias.example.org. AAAA": "-",
	"lazy.example.org. A": "lazy.example.org. CNAME one.example.org.", "lazy.example.org. AAAA": "lazy.example.org. CNAME one.example.org.",
	"loop.example.org. A": "loop.example.org. CNAME pool.example.org.", "loop.example.org. AAAA": "loop.example.org. CNAME pool.example.org.",
	"pool.example.org. A": "pool.example.org. CNAME loop.example.org.", "pool.example.org. AAAA": "pool.example.org. CNAME loop.example.org.",
	"forged.example.org. A": "other.example.org. A 192.0.2.66", "forged.example.org. AAAA": "-",
	"big.example.org. A": "cut " + manyRecords(200, "big.example.org. A 198.51.100.%d"), "big.example.org. AAAA": "-",
	"six.example.org. A": "-", "six.example.org. AAAA": "six.example.org. AAAA 2001:db8::6",
	"sixonly.example.org. AAAA": "sixonly.example.org. AAAA 2001:db8::7", // A is NXDOMAIN
	"half6.example.org. A":      "!SERVFAIL", "half6.example.org. AAAA": "half6.example.org. AAAA 2001:db8::8",
	"mapped.example.org. A": "-", "mapped.example.org. AAAA": "mapped.example.org. AAAA ::ffff:10.0.0.1",
	"a_b.example.org. A": "a_b.example.org. A 192.0.2.9", "a_b.example.org. AAAA": "-",

	"null.example.org. MX":    "null.example.org. MX 0 .",
	"mixed.example.org. MX":   "mixed.example.org. MX 0 .\nmixed.example.org. MX 10 one.example.org.",
	"mail.example.org. MX":    "mail.example.org. MX 20 one.example.org.\nmail.example.org. MX 10 both.example.org.\nmail.example.org. MX 10 ALIAS.example.org.",
	"literal.example.org. MX": "literal.example.org. MX 10 192.0.2.1.\nliteral.example.org. MX 20 one.example.org.",
	"odd.example.org. MX":     `odd.example.org. MX 10 a\.evil\032x.example.org.`,
	"self.example.org. MX":    "self.example.org. MX 65535 self.example.org.", "self.example.org. A": "self.example.org. A 192.0.2.4", "self.example.org. AAAA": "-",
	"many.example.org. MX":  "cut " + manyRecords(300, "many.example.org. MX 10 h%d.example.org."),
	"bigmx.example.org. MX": "bigmx.example.org. MX 10 big.example.org.",
	"nomx.example.org. MX":  "-", "nomx.example.org. A": "nomx.example.org. A 192.0.2.5", "nomx.example.org. AAAA": "-",
	"broken.example.org. MX": "broken.example.org. MX 10 fail.example.org.\nbroken.example.org. MX 20 gone.example.org.",
}

func TestAnswersTellFactsApart(t *testing.T) {
	server := newNameServer(t, zone)
	r, hasty := server.resolver(t), server.resolver(t)
	hasty.Timeout = 50 * time.Millisecond // for the one that does not answer
	for _, c := range []struct{ name, want, err string }{
		{"one.example.org", "one.example.org 192.0.2.1", ""},
		{"both.example.org", "both.example.org 192.0.2.2 192.0.2.1 2001:db8::1", ""},
		{"gone.example.org", "dns-nxdomain", "does not exist"},
		{"mailhost", "dns-nxdomain", "no search suffix is added"},
		{"empty.example.org", "dns-no-address", "no address"},
		{"fail.example.org", "dns-error", "SERVFAIL"},
		{"refused.example.org", "dns-error", "REFUSED"},
		{"silent.example.org", "dns-error", "no answer"},
		{"lame.example.org", "dns-error", "does not resolve"},
		{"liar.example.org", "dns-no-address", ""},
		{"half.example.org", "half.example.org 192.0.2.3 (dns-error)", ""},
		{"half6.example.org", "half6.example.org 2001:db8::8 (dns-error)", ""},
		{"six.example.org", "six.example.org 2001:db8::6", ""},
		{"sixonly.example.org", "sixonly.example.org 2001:db8::7", ""},
		{"alias.example.org", "alias.example.org 192.0.2.1", ""},
		{"lazy.example.org", "lazy.example.org 192.0.2.1", ""},
		{"loop.example.org", "dns-error", "loop"},
		{"forged.example.org", "dns-no-address", ""},
		{"mapped.example.org", "mapped.example.org 10.0.0.1", ""},
		{"a_b.example.org", "a_b.example.org 192.0.2.9", ""},
		{"localhost", "localhost 127.0.0.1 ::1", ""},
		{"a..b", "bad-name", "empty"},
		{"-x.example.org", "bad-name", "hyphen"},
		{strings.Repeat("a", 64) + ".example.org", "bad-name", "63"},

		{"mx:gone.example.org", "dns-nxdomain", "does not exist"},
		{"mx:fail.example.org", "dns-error", "SERVFAIL"},
		{"mx:null.example.org", "no-mail", "RFC 7505"},
		{"mx:mixed.example.org", "one.example.org 192.0.2.1", "RFC 7505"},
		{"mx:mail.example.org", "alias.example.org 192.0.2.1, both.example.org 192.0.2.2 192.0.2.1 2001:db8::1, one.example.org 192.0.2.1", ""},
		{"mx:literal.example.org", "192.0.2.1 (bad-name), one.example.org 192.0.2.1", ""},
		{"mx:odd.example.org", `a\.evil\ x.example.org (bad-name)`, ""},
		{"mx:self.example.org", "self.example.org 192.0.2.4", ""},
		{"mx:nomx.example.org", "nomx.example.org 192.0.2.5", "no MX record"},
		{"mx:empty.example.org", "dns-no-address", "no MX record"},
		{"mx:broken.example.org", "fail.example.org (dns-error), gone.example.org (dns-nxdomain)", ""},
		{"mx:a..b", "bad-name", "empty"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := r
			if c.err == "no answer" {
				r = hasty
			}
			a := r.Resolve(context.Background(), Name{Text: c.name})
			if got := show(a); got != c.want || !strings.Contains(a.Err, c.err) || a.Name != c.name {
				t.Errorf("got %s (%s), want %s (%s)", got, a.Err, c.want, c.err)
			}
			if (a.Why != "") != (len(a.Hosts) == 0) {
				t.Errorf("why %q with %d hosts", a.Why, len(a.Hosts))
			}
			text, err := json.Marshal(a)
			var back Answer
			if err != nil || json.Unmarshal(text, &back) != nil || !reflect.DeepEqual(a, back) || len(text) > 60<<10 {
				t.Errorf("the answer does not survive its journal: %s, %v", text, err)
			}
		})
	}
}

func TestAliasesAreNoted(t *testing.T) {
	r := newNameServer(t, zone).resolver(t)
	a := r.Resolve(context.Background(), Name{Text: "alias.example.org"})
	if want := []string{"middle.example.org", "one.example.org"}; !slices.Equal(a.CNAME, want) {
		t.Errorf("got %v, want %v", a.CNAME, want)
	}
	a = r.Resolve(context.Background(), Name{Text: "mx:mail.example.org"})
	if h := a.Hosts[0]; !strings.Contains(h.Err, "RFC 2181") || h.Why != "" || h.Preference != 10 {
		t.Errorf("an MX host that is an alias: %+v", h)
	}
}

// TestAddressesHaveNoRemark: what an IPv6-only host lacks is no remark, and would be a notice.
func TestAddressesHaveNoRemark(t *testing.T) {
	r := newNameServer(t, zone).resolver(t)
	for _, name := range []string{"one.example.org", "both.example.org", "six.example.org", "sixonly.example.org", "mapped.example.org"} {
		if a := r.Resolve(context.Background(), Name{Text: name}); len(a.Hosts) != 1 || a.Hosts[0].Err != "" || a.Err != "" {
			t.Errorf("%s: remark %q, %q", name, a.Hosts[0].Err, a.Err)
		}
	}
}

// TestOldServerIsAskedOverTCPToo: a server that does not know EDNS cuts its
// replies at 512 bytes, and does not know EDNS over TCP either.
func TestOldServerIsAskedOverTCPToo(t *testing.T) {
	s := newNameServer(t, zone)
	s.old.Store(true)
	a := s.resolver(t).Resolve(context.Background(), Name{Text: "big.example.org"})
	if len(a.Hosts) != 1 || len(a.Hosts[0].Addrs) != 200 || a.Hosts[0].Why != "" {
		t.Errorf("got %s (%s)", show(a), a.Err)
	}
}

// TestServerThatIsNotThere: the error is the same each time, without the ports
// of our own sockets, so that a resumed run writes the same row.
func TestServerThatIsNotThere(t *testing.T) {
	other := net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9}
	socket, err := net.DialUDP("udp", nil, &other) // a socket for packets of another one refuses ours
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	nobody := netip.MustParseAddrPort(socket.LocalAddr().String())
	r, err := NewResolver([]netip.AddrPort{nobody})
	if err != nil {
		t.Fatal(err)
	}
	r.HostsFile = ""
	a := r.Resolve(context.Background(), Name{Text: "one.example.org"})
	if want := "IPv4 addresses: " + nobody.String() + ": connection refused"; a.Why != DNSError || runtime.GOOS == "linux" && a.Err != want {
		t.Errorf("got %q (%s), want %q", a.Err, a.Why, want)
	}
}

func TestCutReplyIsAskedForOverTCP(t *testing.T) {
	s := newNameServer(t, zone)
	a := s.resolver(t).Resolve(context.Background(), Name{Text: "big.example.org"})
	if len(a.Hosts) != 1 || len(a.Hosts[0].Addrs) != 200 || s.tcp.Load() != 1 {
		t.Errorf("got %s after %d TCP queries", show(a), s.tcp.Load())
	}
}

func TestAtMostTwentyMXHostsAreFollowed(t *testing.T) {
	a := newNameServer(t, zone).resolver(t).Resolve(context.Background(), Name{Text: "mx:many.example.org"})
	if len(a.Hosts) != maxMX || !strings.Contains(a.Err, "300 MX hosts, only the first 20") {
		t.Errorf("%d hosts, %q", len(a.Hosts), a.Err)
	}
}

func TestAddressesBeyondTheCapAreSaid(t *testing.T) {
	a := newNameServer(t, zone).resolver(t).Resolve(context.Background(), Name{Text: "mx:bigmx.example.org"})
	if len(a.Hosts) != 1 || len(a.Hosts[0].Addrs) != maxMXAddrs || a.Hosts[0].Why != "" || a.Hosts[0].Err != "only the first 20 addresses are looked at" {
		t.Errorf("got %s (%+v)", show(a), a.Hosts)
	}
}

func TestNextServerIsAskedWhenOneFails(t *testing.T) {
	bad := newNameServer(t, map[string]string{"one.example.org. A": "!SERVFAIL", "one.example.org. AAAA": "silent"})
	good := newNameServer(t, zone)
	r, err := NewResolver([]netip.AddrPort{bad.addr, good.addr})
	if err != nil {
		t.Fatal(err)
	}
	r.HostsFile, r.Timeout = "", time.Second
	if got := show(r.Resolve(context.Background(), Name{Text: "one.example.org"})); got != "one.example.org 192.0.2.1" {
		t.Errorf("got %s", got)
	}
	if want := []string{bad.addr.String(), good.addr.String()}; !slices.Equal(r.Servers(), want) {
		t.Errorf("servers are %v", r.Servers())
	}
}

func TestCancelledLookUpEndsAtOnce(t *testing.T) {
	r := newNameServer(t, zone).resolver(t)
	r.Timeout = time.Minute
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if a := r.Resolve(ctx, Name{Text: "silent.example.org"}); a.Why != DNSError {
		t.Errorf("got %+v", a)
	}
}

// TestNameTakesTenSecondsAtMost: however many servers and aliases there are.
func TestNameTakesTenSecondsAtMost(t *testing.T) {
	if testing.Short() {
		t.Skip("takes ten seconds")
	}
	t.Parallel()
	r := newNameServer(t, zone).resolver(t)
	r.Timeout = 5 * time.Minute
	begun := time.Now()
	a := r.Resolve(context.Background(), Name{Text: "silent.example.org"})
	if took := time.Since(begun); a.Why != DNSError || !strings.Contains(a.Err, "no answer") || took > time.Minute {
		t.Errorf("got %s (%s) after %v", show(a), a.Err, took)
	}
}

func TestHostsFileComesFirst(t *testing.T) {
	s := newNameServer(t, zone)
	r := s.resolver(t)
	r.HostsFile = filepath.Join(t.TempDir(), "hosts")
	text := "# comment\n2001:db8::7 one.example.org\n192.0.2.77\tONE.example.org. other # one\nrubbish\n999.1.1.1 x\n"
	if err := os.WriteFile(r.HostsFile, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := show(r.Resolve(context.Background(), Name{Text: "one.example.org"})); got != "one.example.org 192.0.2.77 2001:db8::7" {
		t.Errorf("got %s", got)
	}
	if len(s.asked) != 0 {
		t.Errorf("the server was asked %v", s.asked)
	}
}

// TestOwnNameIsExplained: whoever types the name of this machine learns why it
// is not scanned, and what would be.
func TestOwnNameIsExplained(t *testing.T) {
	r := newNameServer(t, zone).resolver(t)
	r.HostsFile = filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(r.HostsFile, []byte("127.0.1.1 mon1.example.org mon1\n192.0.2.1 other.example.org\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"mon1.example.org": true, "localhost": true, "other.example.org": false} {
		n := Name{Text: name, Spec: name, Ports: []Port{{25, SMTP}}}
		e := (&Plan{cfg: Config{AllowReserved: true}}).Endpoints(n, r.Resolve(context.Background(), n))[0]
		if said := strings.Contains(e.Notice, name+" is a name of this machine itself"); said != want || (e.Why == Reserved) != want {
			t.Errorf("%s: %q, notice %q", name, e.Why, e.Notice)
		}
	}
}

func TestSystemServersAreReadFromResolvConf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(path, []byte("search corp.example\nnameserver 192.0.2.53\nnameserver 2001:db8::53\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := systemServers(path); err != nil || fmt.Sprint(got) != "[192.0.2.53:53 [2001:db8::53]:53]" {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := systemServers(path + "x"); err == nil || !strings.Contains(err.Error(), "--resolver") {
		t.Errorf("without the file: %v", err)
	}
}

func rows(p *Plan, n Name, a Answer) (out []string) {
	for _, e := range p.Endpoints(n, a) {
		s := e.Target.Host()
		if e.Target.Addr.IsValid() {
			s += " " + e.Target.AddrPort().String()
		}
		if e.Why != "" {
			s += " " + string(e.Why)
		}
		if e.Notice != "" {
			s += " notice"
		}
		out = append(out, s)
	}
	return out
}

func TestEndpointsApplyTheRulesAddressByAddress(t *testing.T) {
	ex := NewExclusions()
	if err := ex.Add("8.8.4.0/24"); err != nil {
		t.Fatal(err)
	}
	addrs := func(s ...string) (out []netip.Addr) {
		for _, a := range s {
			out = append(out, netip.MustParseAddr(a))
		}
		return out
	}
	mixed := []HostAnswer{{Host: "h.example.org", Addrs: addrs("8.8.8.8", "10.0.0.1", "8.8.4.4", "127.0.0.1", "192.0.2.1", "169.254.169.254", "224.0.0.1",
		"8.8.8.8", "::ffff:10.0.0.1", "fe80::1", "::1", "2a00::1", "64:ff9b::7f00:1", "64:ff9b::808:404")}}
	port := []Port{{25, SMTP}}
	typed := Name{Text: "h.example.org", Spec: "H.example.org", Ports: port}
	listed, mx := typed, typed
	listed.FromFile, mx.Text, mx.Spec = true, "mx:example.org", "mx:example.org"
	rest := " h.example.org 8.8.4.4:25 excluded h.example.org 127.0.0.1:25 reserved h.example.org 192.0.2.1:25 reserved" +
		" h.example.org 169.254.169.254:25 reserved h.example.org 224.0.0.1:25 reserved h.example.org [fe80::1]:25 reserved" +
		" h.example.org [::1]:25 reserved h.example.org [2a00::1]:25 h.example.org [64:ff9b::7f00:1]:25 reserved h.example.org [64:ff9b::808:404]:25 excluded"
	for _, c := range []struct {
		what string
		cfg  Config
		name Name
		want string
	}{
		{"typed", Config{Exclude: ex}, typed, "h.example.org 8.8.8.8:25 h.example.org 10.0.0.1:25 notice" + rest},
		{"in a list", Config{Exclude: ex}, listed, "h.example.org 8.8.8.8:25 h.example.org 10.0.0.1:25 reserved" + rest},
		{"an MX", Config{Exclude: ex}, mx, "h.example.org 8.8.8.8:25 h.example.org 10.0.0.1:25 reserved" + rest},
		{"an MX, allowed", Config{Exclude: ex, AllowPrivate: true}, mx, "h.example.org 8.8.8.8:25 h.example.org 10.0.0.1:25 notice" + rest},
		{"reserved allowed", Config{Exclude: ex, AllowReserved: true}, typed, strings.Replace("h.example.org 8.8.8.8:25 h.example.org 10.0.0.1:25 notice"+rest,
			"192.0.2.1:25 reserved", "192.0.2.1:25", 1)},
		{"IPv6 only", Config{Only6: true, Exclude: ex}, typed, "h.example.org [fe80::1]:25 reserved h.example.org [::1]:25 reserved h.example.org [2a00::1]:25" +
			" h.example.org [64:ff9b::7f00:1]:25 reserved h.example.org [64:ff9b::808:404]:25 excluded"},
	} {
		p := &Plan{cfg: c.cfg}
		if _, mx := c.name.isMX(); !mx && !c.name.FromFile {
			p.typedNames = map[string]bool{c.name.Spec: true}
		}
		if got := strings.Join(rows(p, c.name, Answer{Hosts: mixed}), " "); got != c.want {
			t.Errorf("%s: got\n%s\nwant\n%s", c.what, got, c.want)
		}
		for _, e := range p.Endpoints(c.name, Answer{Hosts: mixed}) {
			if ok, why := p.PermitTarget(e.Target); ok != (e.Why == "") || why != e.Why {
				t.Errorf("%s: %s is %q as a row and %q before the dial", c.what, e.Target.Addr, e.Why, why)
			}
			if cure := strings.Contains(e.Err, "it is probed"); cure != (e.Cure != "") || !strings.Contains(e.Err, e.Cure) {
				t.Errorf("%s: %s has the cure %q, and says %q", c.what, e.Target.Addr, e.Cure, e.Err)
			}
			if e.Target.Spec() != c.name.Spec || e.Target.Index != NoIndex {
				t.Errorf("%s: target %+v", c.what, e.Target)
			}
		}
	}
}

// TestFamilyThatIsNotWantedCannotFail: under -4 nobody asked for what the look-up
// of IPv6 addresses could not tell.
func TestFamilyThatIsNotWantedCannotFail(t *testing.T) {
	r := newNameServer(t, zone).resolver(t)
	for _, c := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"half.example.org", Config{Only4: true}, "half.example.org 192.0.2.3:25"},
		{"half.example.org", Config{Only6: true}, "half.example.org dns-error"},
		{"half.example.org", Config{}, "half.example.org 192.0.2.3:25 half.example.org dns-error"},
		{"half6.example.org", Config{Only6: true}, "half6.example.org [2001:db8::8]:25"},
		{"half6.example.org", Config{Only4: true}, "half6.example.org dns-error"},
		{"fail.example.org", Config{Only4: true}, "fail.example.org dns-error"},
	} {
		c.cfg.AllowReserved = true
		n := Name{Text: c.name, Spec: c.name, Ports: []Port{{25, SMTP}}}
		if got := strings.Join(rows(&Plan{cfg: c.cfg}, n, r.Resolve(context.Background(), n)), " "); got != c.want {
			t.Errorf("%s, %+v: got %s, want %s", c.name, c.cfg, got, c.want)
		}
	}
}

// TestAnswersThatAnotherLookUpWouldBetter: what could not be asked is asked again.
func TestAnswersThatAnotherLookUpWouldBetter(t *testing.T) {
	four := []netip.Addr{netip.MustParseAddr("8.8.8.8")}
	half := Answer{Hosts: []HostAnswer{{Host: "h.example.org", Addrs: four, Why: DNSError, Failed: 6}}}
	for _, c := range []struct {
		what string
		cfg  Config
		a    Answer
		want bool
	}{
		{"addresses", Config{}, Answer{Hosts: []HostAnswer{{Addrs: four}}}, true},
		{"no such name", Config{}, Answer{Why: DNSNXDomain}, true},
		{"a failure", Config{}, Answer{Why: DNSError}, false},
		{"a failure of a host", Config{}, Answer{Hosts: []HostAnswer{{Addrs: four}, {Why: DNSError}}}, false},
		{"a failure of one family", Config{}, half, false},
		{"a failure of the family that is not wanted", Config{Only4: true}, half, true},
		{"a failure of the family that is wanted", Config{Only6: true}, half, false},
	} {
		if got := (&Plan{cfg: c.cfg}).Settled(c.a); got != c.want {
			t.Errorf("%s: settled is %v, want %v", c.what, got, c.want)
		}
	}
}

func TestEveryNameIsARow(t *testing.T) {
	p := &Plan{cfg: Config{Only4: true}}
	n := Name{Text: "h.example.org", Spec: "h.example.org", Ports: []Port{{25, SMTP}, {587, Submission}}}
	six := []netip.Addr{netip.MustParseAddr("2a00::1")}
	four := []netip.Addr{netip.MustParseAddr("8.8.8.8")}
	for _, c := range []struct {
		a    Answer
		want string
	}{
		{Answer{Why: DNSNXDomain, Err: "x"}, "h.example.org dns-nxdomain"},
		{Answer{}, "h.example.org dns-no-address"},
		{Answer{Hosts: []HostAnswer{{Host: "h.example.org", Addrs: six}}}, "h.example.org dns-no-address"},
		{Answer{Hosts: []HostAnswer{{Host: "h.example.org", Addrs: four}}}, "h.example.org 8.8.8.8:25 h.example.org 8.8.8.8:587"},
		{Answer{Hosts: []HostAnswer{{Host: "h.example.org", Addrs: four, Why: DNSError, Err: "y"}}}, "h.example.org 8.8.8.8:25 h.example.org 8.8.8.8:587 h.example.org dns-error"},
		{Answer{Hosts: []HostAnswer{{Host: "a.example.org", Why: BadName}, {Host: "b.example.org", Addrs: four}}, Err: "remark"},
			"a.example.org bad-name notice b.example.org 8.8.8.8:25 b.example.org 8.8.8.8:587"},
	} {
		if got := strings.Join(rows(p, n, c.a), " "); got != c.want {
			t.Errorf("%+v: got %s, want %s", c.a, got, c.want)
		}
	}
}

// TestNameIsResolvedOnce is DNS rebinding: what a name leads to later has no
// say, because targets are made of the first answer.
func TestNameIsResolvedOnce(t *testing.T) {
	s := newNameServer(t, map[string]string{"x.example.org. A": "x.example.org. A 8.8.8.8", "x.example.org. AAAA": "-"})
	a := s.resolver(t).Resolve(context.Background(), Name{Text: "x.example.org"})
	s.mu.Lock()
	s.zone["x.example.org. A"] = "x.example.org. A 127.0.0.1"
	s.mu.Unlock()
	p := &Plan{}
	es := p.Endpoints(Name{Text: "x.example.org", Spec: "x.example.org", Ports: []Port{{25, SMTP}}}, a)
	if len(es) != 1 || es[0].Target.Addr.String() != "8.8.8.8" || s.asked["x.example.org. A"] != 1 {
		t.Errorf("rows %+v, asked %v", es, s.asked)
	}
}
