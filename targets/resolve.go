package targets

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/miekg/dns"
)

// Bounds of a look-up.
const (
	maxQueries    = 64               // in flight at a time, so that a resolver is not flooded
	nameTimeout   = 10 * time.Second // for all that a name needs
	queryTimeout  = 2 * time.Second
	queryRounds   = 2 // times that each server is asked if none answers
	maxMX         = 20
	maxAliases    = 10      // CNAMEs followed; resolvers give up at 8 to 16
	maxAddrs      = 500     // of one host and family: an answer then fits a journal record
	maxMXAddrs    = 20      // the same, of an MX host
	maxHostsFile  = 4 << 20 // bytes of /etc/hosts that are read
	udpSize       = 1232    // EDNS buffer that no path fragments (DNS flag day 2020)
	resolvConf    = "/etc/resolv.conf"
	maxHostsLines = 200_000

	// A look-up that ends so much too late shows that this process stood still
	// (SIGSTOP, a suspended machine): what failed meanwhile is asked again.
	standstill = time.Second
	mostAgain  = 3
)

// A Resolver looks names up: in /etc/hosts, then at DNS servers, by miekg/dns,
// because the difference of "does not exist", "has no address" and "could not
// be asked" is the answer here. No search suffix is ever appended. Its methods
// may be called from several goroutines.
type Resolver struct {
	Timeout   time.Duration // of one query at one server; 0 means 2 s
	HostsFile string        // set by NewResolver to the system's; empty means none

	servers    []netip.AddrPort
	slots      chan struct{}
	once       sync.Once
	hosts      map[string][]netip.Addr
	inventions inventions
}

// NewResolver returns a resolver that asks the given servers in turn, or those
// of /etc/resolv.conf if there are none. It is an error if that names none.
func NewResolver(servers []netip.AddrPort) (*Resolver, error) {
	if len(servers) == 0 {
		var err error
		if servers, err = systemServers(resolvConf); err != nil {
			return nil, err
		}
	}
	return &Resolver{HostsFile: systemHosts(), servers: servers, slots: make(chan struct{}, maxQueries)}, nil
}

func systemHosts() string {
	if runtime.GOOS == "windows" {
		return filepath.Join(os.Getenv("SystemRoot"), "System32", "drivers", "etc", "hosts")
	}
	return "/etc/hosts"
}

func systemServers(path string) ([]netip.AddrPort, error) {
	conf, err := dns.ClientConfigFromFile(path)
	if err != nil {
		return nil, fmt.Errorf("no DNS server is known (%w); name one with --resolver", err)
	}
	var servers []netip.AddrPort
	for _, s := range conf.Servers {
		if a, err := netip.ParseAddr(s); err == nil {
			servers = append(servers, netip.AddrPortFrom(a, 53))
		}
	}
	if len(servers) == 0 {
		return nil, fmt.Errorf("%s names no DNS server; name one with --resolver", path)
	}
	return servers, nil
}

// Servers returns the servers that are asked, in order.
func (r *Resolver) Servers() []string {
	var out []string
	for _, s := range r.servers {
		out = append(out, s.String())
	}
	return out
}

// Resolve looks a name up, in at most 10 s in which this process runs. It always
// returns an answer; a failure is one too.
func (r *Resolver) Resolve(ctx context.Context, name Name) Answer {
	for again := 0; ; again++ {
		begun := time.Now()
		a := r.resolve(ctx, name)
		stood := time.Since(begun) > nameTimeout+standstill
		if !stood || !a.failed() || again == mostAgain || ctx.Err() != nil {
			return a
		}
	}
}

// failed reports whether anything of an answer could not be asked.
func (a *Answer) failed() bool {
	return a.Why == DNSError || slices.ContainsFunc(a.Hosts, func(h HostAnswer) bool { return h.Why == DNSError })
}

// resolve is Resolve, once.
func (r *Resolver) resolve(ctx context.Context, name Name) Answer {
	ctx, cancel := context.WithTimeout(ctx, nameTimeout)
	defer cancel()
	host, mx := name.isMX()
	a := Answer{Name: name.Text}
	if err := checkName(host); err != nil {
		a.Why, a.Err = BadName, err.Error()
		return a
	}
	if mx {
		r.resolveMX(ctx, host, &a)
		return a
	}
	h, chain := r.resolveHost(ctx, host, maxAddrs)
	a.CNAME = chain
	a.Hosts = []HostAnswer{h}
	if len(h.Addrs) == 0 {
		a.Hosts, a.Why, a.Err = nil, h.Why, h.Err
	}
	if a.Why == DNSNXDomain && !strings.Contains(host, ".") {
		a.Err += "; no search suffix is added, write the full name"
	}
	return a
}

// resolveMX follows RFC 5321, 5.1: the MX hosts, or the domain itself if it
// has none, and RFC 7505. A failure is never read as absence.
func (r *Resolver) resolveMX(ctx context.Context, domain string, a *Answer) {
	var l lookup
	r.lookup(ctx, &l, domain, dns.TypeMX)
	a.CNAME = l.aliases
	if l.why != "" && l.why != DNSNoAddress {
		a.Why, a.Err = l.why, l.err
		return
	}
	mx := l.mx
	if null := func(x *dns.MX) bool { return x.Mx == "." }; slices.ContainsFunc(mx, null) {
		if mx = slices.DeleteFunc(mx, null); len(mx) == 0 {
			a.Why, a.Err = NoMail, "null MX: the domain accepts no mail (RFC 7505)"
			return
		}
		a.Err = "a null MX stands beside other MX records, against RFC 7505, 3"
	}
	if len(mx) == 0 {
		h, chain := r.resolveHost(ctx, domain, maxAddrs)
		a.CNAME = chain
		if len(h.Addrs) == 0 {
			a.Why, a.Err = h.Why, "no MX record; the domain itself (RFC 5321, 5.1): "+h.Err
			return
		}
		a.Hosts, a.Err = []HostAnswer{h}, domain+" has no MX record: its own addresses are used (RFC 5321, 5.1)"
		return
	}
	hosts := mxHosts(mx)
	if len(hosts) > maxMX {
		a.Err = fmt.Sprintf("%s has %d MX hosts, only the first %d are looked at", domain, len(hosts), maxMX)
		hosts = hosts[:maxMX]
	}
	var wg sync.WaitGroup
	for i := range hosts {
		wg.Go(func() { r.resolveMXHost(ctx, &hosts[i]) })
	}
	wg.Wait()
	a.Hosts = hosts
}

// mxHosts returns the distinct hosts, best preference first.
func mxHosts(mx []*dns.MX) (hosts []HostAnswer) {
	for _, x := range mx {
		hosts = append(hosts, HostAnswer{Host: plainName(x.Mx), Preference: x.Preference})
	}
	slices.SortStableFunc(hosts, func(a, b HostAnswer) int {
		return cmp.Or(cmp.Compare(a.Preference, b.Preference), strings.Compare(a.Host, b.Host))
	})
	seen := map[string]bool{}
	return slices.DeleteFunc(hosts, func(h HostAnswer) bool {
		again := seen[h.Host]
		seen[h.Host] = true
		return again
	})
}

func (r *Resolver) resolveMXHost(ctx context.Context, h *HostAnswer) {
	err := checkName(h.Host)
	if looksLikeAddress(h.Host) {
		err = errors.New("the MX record points to an address; it must be a name (RFC 5321, 5.1)")
	}
	if err != nil {
		h.Why, h.Err = BadName, err.Error()
		return
	}
	found, chain := r.resolveHost(ctx, h.Host, maxMXAddrs)
	found.Preference = h.Preference
	if len(chain) > 0 && found.Why == "" {
		found.Err = strings.TrimPrefix(found.Err+"; the MX host "+h.Host+" is an alias of "+chain[len(chain)-1]+
			", which RFC 2181, 10.3 forbids", "; ")
	}
	*h = found
}

// resolveHost asks for the addresses of a host, both families, and returns the
// aliases on the way.
func (r *Resolver) resolveHost(ctx context.Context, host string, most int) (h HostAnswer, chain []string) {
	h.Host = host
	if h.Addrs = r.fromHosts(host); len(h.Addrs) > 0 {
		if slices.ContainsFunc(h.Addrs, netip.Addr.IsLoopback) { // Debian gives a host's own name 127.0.1.1
			h.Err = host + " is a name of this machine itself (hosts file): to scan it, type an address"
		}
		return h, nil
	}
	a, aaaa := lookup{most: most}, lookup{most: most}
	var wg sync.WaitGroup
	wg.Go(func() { r.lookup(ctx, &a, host, dns.TypeA) })
	wg.Go(func() { r.lookup(ctx, &aaaa, host, dns.TypeAAAA) })
	wg.Wait()
	chain = a.aliases
	if len(chain) == 0 {
		chain = aaaa.aliases
	}
	h.Addrs = append(a.addrs, aaaa.addrs...)
	h.Why, h.Err = both(a, aaaa)
	if h.Why == DNSError && len(a.addrs) > 0 {
		h.Failed = 6
	} else if h.Why == DNSError && len(aaaa.addrs) > 0 {
		h.Failed = 4
	}
	if len(h.Addrs) > 0 {
		r.disbelieve(ctx, &h)
	}
	return h, chain
}

// both weighs what the look-ups of the two families said.
func both(a, aaaa lookup) (why Unprobed, err string) {
	found := len(a.addrs)+len(aaaa.addrs) > 0
	switch {
	case !found && a.why == DNSNXDomain && aaaa.why == DNSNoAddress,
		!found && a.why == DNSNoAddress && aaaa.why == DNSNXDomain:
		return DNSNoAddress, "the name has no address" // one of them is wrong: it exists
	case !found && a.why == DNSNXDomain:
		return a.why, a.err // of the name, whatever the type (RFC 2308, 5)
	case !found && aaaa.why == DNSNXDomain:
		return aaaa.why, aaaa.err
	case a.why == DNSError:
		return DNSError, "IPv4 addresses: " + a.err
	case aaaa.why == DNSError:
		return DNSError, "IPv6 addresses: " + aaaa.err
	case found:
		return "", strings.TrimPrefix(a.remark()+aaaa.remark(), "; ")
	}
	return a.why, a.err
}

// A lookup is what the DNS said of one name and type.
type lookup struct {
	addrs   []netip.Addr
	mx      []*dns.MX
	aliases []string
	most    int      // addresses that are kept
	why     Unprobed // empty if there are records
	err     string   // our words for why; without it a remark
}

func (l lookup) remark() string {
	if l.why != "" || l.err == "" {
		return ""
	}
	return "; " + l.err
}

// lookup asks for a name and follows its aliases.
func (r *Resolver) lookup(ctx context.Context, l *lookup, host string, qtype uint16) {
	name := dns.Fqdn(host)
	for {
		m, err := r.exchange(ctx, name, qtype)
		if err != nil {
			l.why, l.err = DNSError, err.Error()
			return
		}
		next, done := l.read(m, name, qtype)
		if done {
			return
		}
		name = next
	}
}

// read takes the records for a name out of a reply. If the reply ends in an
// alias whose records it does not have, that name is returned to be asked.
func (l *lookup) read(m *dns.Msg, name string, qtype uint16) (next string, done bool) {
	asked := name
	for {
		alias := l.records(m, name, qtype)
		if len(l.addrs)+len(l.mx) > 0 {
			return "", true
		}
		if alias == "" {
			break
		}
		if len(l.aliases) >= maxAliases || slices.Contains(l.aliases, plainName(alias)) {
			l.why, l.err = DNSError, "the chain of aliases is a loop or longer than 10"
			return "", true
		}
		l.aliases = append(l.aliases, plainName(alias))
		name = alias
	}
	switch {
	case m.Rcode == dns.RcodeNameError:
		l.why, l.err = DNSNXDomain, "the name does not exist"
		if len(l.aliases) > 0 {
			l.err = "the name is an alias of " + plainName(name) + ", which does not exist"
		}
	case name != asked && !hasSOA(m):
		return name, false // a server that does not follow aliases: ask for the last one
	default:
		l.why, l.err = DNSNoAddress, "the name exists and has no address"
	}
	return "", true
}

// records collects what the reply says of exactly this name, and returns its alias.
func (l *lookup) records(m *dns.Msg, name string, qtype uint16) (alias string) {
	for _, rr := range m.Answer {
		if !strings.EqualFold(rr.Header().Name, name) || rr.Header().Class != dns.ClassINET {
			continue
		}
		switch rr := rr.(type) {
		case *dns.A:
			if a, ok := netip.AddrFromSlice(rr.A.To4()); ok && qtype == dns.TypeA {
				l.addAddr(a)
			}
		case *dns.AAAA:
			if a, ok := netip.AddrFromSlice(rr.AAAA); ok && qtype == dns.TypeAAAA {
				l.addAddr(a.Unmap())
			}
		case *dns.MX:
			if qtype == dns.TypeMX {
				l.mx = append(l.mx, rr)
			}
		case *dns.CNAME:
			alias = strings.ToLower(rr.Target)
		}
	}
	return alias
}

func (l *lookup) addAddr(a netip.Addr) {
	switch {
	case slices.Contains(l.addrs, a):
	case len(l.addrs) == l.most:
		l.err = fmt.Sprintf("only the first %d addresses are looked at", l.most)
	default:
		l.addrs = append(l.addrs, a)
	}
}

// hasSOA reports whether the reply says that there are no such records
// (RFC 2308, 2.2: with the SOA of the zone).
func hasSOA(m *dns.Msg) bool {
	return slices.ContainsFunc(m.Ns, func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeSOA })
}

// plainName returns a name from the wire in our form. Odd bytes stay escaped.
func plainName(s string) string { return strings.TrimSuffix(strings.ToLower(s), ".") }

// exchange asks each server until one answers the question: with records, or
// with "no such name" or "no such records". What else servers say is a failure.
func (r *Resolver) exchange(ctx context.Context, name string, qtype uint16) (*dns.Msg, error) {
	var failed []string
	silent := r.servers
	for round := 0; round < queryRounds && len(silent) > 0; round++ {
		var again []netip.AddrPort
		for _, server := range silent {
			m, err := r.ask(ctx, server, name, qtype)
			var said *rcodeError
			switch {
			case err == nil:
				return m, nil
			case ctx.Err() != nil:
				return nil, errors.New(strings.Join(append(failed, server.String()+": no answer in time"), "; "))
			case !errors.As(err, &said):
				again = append(again, server)
			}
			if text := server.String() + ": " + plainError(err); !slices.Contains(failed, text) {
				failed = append(failed, text)
			}
		}
		silent = again
	}
	return nil, errors.New(strings.Join(failed, "; "))
}

// plainError says in our words what went wrong with a query: without the port of
// our socket, which is another one each time.
func plainError(err error) string {
	var errno syscall.Errno
	if t, ok := err.(interface{ Timeout() bool }); ok && t.Timeout() {
		return "no answer"
	} else if errors.As(err, &errno) {
		return errno.Error()
	}
	return err.Error()
}

// An rcodeError is a reply that is no answer. Asking again would not help.
type rcodeError struct{ text string }

func (e *rcodeError) Error() string { return e.text }

// ask sends one question to one server: over UDP, then over TCP if the reply was
// cut, and without EDNS if the server does not know it.
func (r *Resolver) ask(ctx context.Context, server netip.AddrPort, name string, qtype uint16) (*dns.Msg, error) {
	edns := true
	m, err := r.send(ctx, "udp", server, name, qtype, edns)
	if err == nil && (m.Rcode == dns.RcodeFormatError || m.Rcode == dns.RcodeNotImplemented) {
		edns = false
		m, err = r.send(ctx, "udp", server, name, qtype, edns)
	}
	if err == nil && m.Truncated {
		m, err = r.send(ctx, "tcp", server, name, qtype, edns)
	}
	if err != nil {
		return nil, err
	}
	switch {
	case m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError:
		return nil, &rcodeError{rcodeText(m.Rcode)}
	case m.Rcode == dns.RcodeSuccess && len(m.Answer) == 0 && !m.RecursionAvailable && !m.Authoritative:
		return nil, &rcodeError{"it does not resolve names for us"} // a referral is not "no data"
	}
	return m, nil
}

func rcodeText(rcode int) string {
	if s, ok := dns.RcodeToString[rcode]; ok {
		return s
	}
	return fmt.Sprintf("reply code %d", rcode)
}

// send sends one query from a socket of its own (a new source port each time
// makes forging replies harder), within the limit of queries in flight.
func (r *Resolver) send(ctx context.Context, network string, server netip.AddrPort, name string, qtype uint16, edns bool) (*dns.Msg, error) {
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	q := new(dns.Msg).SetQuestion(name, qtype)
	if edns {
		q.SetEdns0(udpSize, false)
	}
	timeout := r.Timeout
	if timeout == 0 {
		timeout = queryTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	client := dns.Client{Net: network, Timeout: timeout, UDPSize: udpSize}
	m, _, err := client.ExchangeContext(ctx, q, server.String())
	switch {
	case err != nil:
		return nil, err
	case !m.Response || len(m.Question) != 1 || m.Question[0].Qtype != qtype || !strings.EqualFold(m.Question[0].Name, name):
		return nil, errors.New("the reply does not fit the question")
	}
	return m, nil
}

// fromHosts returns the addresses of a name in the hosts file. localhost is
// loopback without being asked (RFC 6761, 6.3).
func (r *Resolver) fromHosts(host string) []netip.Addr {
	r.once.Do(func() { r.hosts = readHosts(r.HostsFile) })
	if addrs := r.hosts[host]; len(addrs) > 0 {
		return slices.Clone(addrs)
	}
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	}
	return nil
}

// readHosts reads a hosts file (hosts(5)). What cannot be read is not there:
// the system's own look-ups do the same.
func readHosts(path string) map[string][]netip.Addr {
	hosts := map[string][]netip.Addr{}
	if path == "" {
		return hosts
	}
	f, err := os.Open(path)
	if err != nil {
		return hosts
	}
	defer f.Close()
	in := bufio.NewScanner(io.LimitReader(f, maxHostsFile))
	for lines := 0; lines < maxHostsLines && in.Scan(); lines++ {
		text, _, _ := strings.Cut(in.Text(), "#")
		fields := strings.Fields(text)
		if len(fields) < 2 {
			continue
		}
		a, err := netip.ParseAddr(fields[0])
		if err != nil {
			continue
		}
		for _, name := range fields[1:] {
			name = hostName(name)
			if a := a.Unmap(); !slices.Contains(hosts[name], a) {
				hosts[name] = append(hosts[name], a)
			}
		}
	}
	for _, addrs := range hosts {
		slices.SortStableFunc(addrs, func(a, b netip.Addr) int { return cmp.Compare(a.BitLen(), b.BitLen()) })
	}
	return hosts
}
