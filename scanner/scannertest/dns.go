package scannertest

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// A DNSZone says what a name server answers: the records of each name, written
// as in a zone file without owner and TTL. Names are absolute, a final dot may
// be left out.
//
//	"mail.example.org":   {"A 192.0.2.1", "AAAA 2001:db8::1"},
//	"example.org":        {"MX 10 mail.example.org"},
//	"null.example.org":   {"MX 0 ."},
//	"alias.example.org":  {"CNAME mail.example.org"},
//	"empty.example.org":  {},                                  // exists and has nothing
//	"broken.example.org": {"SERVFAIL"},                        // any RCODE, in capitals
//	"half.example.org":   {"A 192.0.2.1", "SERVFAIL MX"},      // for one type only
//	"lost.example.org":   {"DROP"},                            // no answer at all; "DROP MX" for one type
//	"large.example.org":  {"TRUNCATE", "A 192.0.2.1"},         // over UDP truncated, over TCP whole
//	"rebind.example.org": {"A 192.0.2.1", "---", "A 127.0.0.1"}, // other records at every query, in turn
//
//	"*":                  {"A 203.0.113.80"},                  // a server that lies: of every name that does not exist
//
// A name that is not there, and has nothing below it, does not exist (NXDOMAIN).
type DNSZone map[string][]string

// DNS serves a zone on a loopback port, over UDP and TCP, until the test ends.
func DNS(tb TB, zone DNSZone) netip.AddrPort {
	tb.Helper()
	return StartDNS(tb, zone).Addr
}

// A NameServer serves a [DNSZone].
type NameServer struct {
	Addr netip.AddrPort // where it listens, UDP and TCP

	names map[string]*dnsName

	mu      sync.Mutex
	queries map[dns.Question]int
}

// A dnsName is a name of a zone with its records, in rounds.
type dnsName struct{ rounds []dnsRound }

// A dnsRound is what is answered at one query.
type dnsRound struct {
	records  []dns.RR
	rcode    map[uint16]int  // by type asked for; TypeANY is every type
	drop     map[uint16]bool // the same
	truncate bool
}

// StartDNS serves a zone like DNS, for tests that also count queries.
func StartDNS(tb TB, zone DNSZone) *NameServer {
	tb.Helper()
	n := &NameServer{names: make(map[string]*dnsName), queries: make(map[dns.Question]int)}
	for name, lines := range zone {
		fqdn := dns.CanonicalName(name)
		parsed, err := parseName(fqdn, lines)
		if err != nil {
			tb.Fatalf("name server: %s: %v", name, err)
		}
		n.names[fqdn] = parsed
	}
	stop, err := n.serve()
	if err != nil {
		tb.Fatalf("name server: %v", err)
	}
	tb.Cleanup(stop)
	return n
}

// Queries returns how often a name was asked for, with a type such as "MX".
func (n *NameServer) Queries(name, qtype string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.queries[dns.Question{Name: dns.CanonicalName(name), Qtype: dns.StringToType[qtype], Qclass: dns.ClassINET}]
}

// parseName reads the records of one name.
func parseName(fqdn string, lines []string) (*dnsName, error) {
	n := &dnsName{}
	round := newDNSRound()
	for _, line := range lines {
		if line == "---" {
			n.rounds = append(n.rounds, round)
			round = newDNSRound()
			continue
		}
		if err := round.parse(fqdn, line); err != nil {
			return nil, err
		}
	}
	n.rounds = append(n.rounds, round)
	return n, nil
}

// newDNSRound returns a round that answers with nothing.
func newDNSRound() dnsRound {
	return dnsRound{rcode: make(map[uint16]int), drop: make(map[uint16]bool)}
}

// parse reads one record or instruction.
func (r *dnsRound) parse(fqdn, line string) error {
	word, rest, _ := strings.Cut(line, " ")
	qtype := dns.TypeANY
	if rest != "" {
		if t, ok := dns.StringToType[rest]; ok {
			qtype = t
		}
	}
	if rcode, ok := dns.StringToRcode[word]; ok {
		r.rcode[qtype] = rcode
		return nil
	}
	switch word {
	case "DROP":
		r.drop[qtype] = true
		return nil
	case "TRUNCATE":
		r.truncate = true
		return nil
	}
	// The origin is the root, so that names need no final dot.
	rr, err := dns.NewRR("$ORIGIN .\n" + fqdn + " 60 IN " + line)
	if err != nil {
		return fmt.Errorf("record %q: %w", line, err)
	}
	if rr == nil {
		return fmt.Errorf("record %q: nothing there", line)
	}
	r.records = append(r.records, rr)
	return nil
}

// serve listens on UDP and TCP of one port. stop ends both and waits.
func (n *NameServer) serve() (stop func(), err error) {
	pc, l, err := listenBoth()
	if err != nil {
		return nil, err
	}
	n.Addr = addrPort(l.Addr())
	var wg sync.WaitGroup
	servers := []*dns.Server{{PacketConn: pc, Handler: n}, {Listener: l, Handler: n, ReadTimeout: 5 * time.Second}}
	for _, s := range servers {
		started := make(chan struct{})
		up := sync.OnceFunc(func() { close(started) })
		s.NotifyStartedFunc = up
		wg.Go(func() {
			defer up()
			s.ActivateAndServe() // ends by Shutdown
		})
		<-started
	}
	return func() {
		for _, s := range servers {
			s.Shutdown()
		}
		wg.Wait()
	}, nil
}

// listenBoth finds a port that is free for UDP and TCP.
func listenBoth() (net.PacketConn, net.Listener, error) {
	var errs []error
	for range 20 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, nil, err
		}
		pc, err := net.ListenPacket("udp", l.Addr().String())
		if err == nil {
			return pc, l, nil
		}
		errs = append(errs, err, l.Close())
	}
	return nil, nil, errors.Join(errs...)
}

// ServeDNS answers one query.
func (n *NameServer) ServeDNS(w dns.ResponseWriter, req *dns.Msg) {
	reply := new(dns.Msg).SetReply(req)
	reply.RecursionAvailable = true
	if len(req.Question) != 1 {
		reply.Rcode = dns.RcodeFormatError
		w.WriteMsg(reply)
		return
	}
	q := req.Question[0]
	q.Name = dns.CanonicalName(q.Name)
	_, overUDP := w.RemoteAddr().(*net.UDPAddr)
	if n.answer(reply, q, overUDP) {
		w.WriteMsg(reply)
	}
}

// answer fills in the reply, following aliases as a recursive resolver does.
// It returns false if the query is to be lost.
func (n *NameServer) answer(reply *dns.Msg, q dns.Question, overUDP bool) bool {
	name := q.Name
	// RFC 1034 sets no limit to a chain of aliases; eight are enough to show one, and a loop.
	for range 8 {
		round, ok := n.next(name, q)
		if !ok {
			if !n.above(name) {
				reply.Rcode = dns.RcodeNameError
			}
			return true
		}
		if round.drop[q.Qtype] || round.drop[dns.TypeANY] {
			return false
		}
		if rcode, ok := either(round.rcode, q.Qtype); ok {
			reply.Rcode = rcode
			return true
		}
		if round.truncate && overUDP {
			reply.Truncated = true
			return true
		}
		alias := ""
		for _, rr := range round.records {
			if rr.Header().Rrtype == q.Qtype {
				reply.Answer = append(reply.Answer, rr)
			} else if c, ok := rr.(*dns.CNAME); ok {
				reply.Answer = append(reply.Answer, rr)
				alias = dns.CanonicalName(c.Target)
			}
		}
		if alias == "" {
			return true
		}
		name = alias
	}
	reply.Rcode = dns.RcodeServerFailure // a loop
	reply.Answer = nil
	return true
}

// either returns the entry for a type, or else the one for every type.
func either(m map[uint16]int, qtype uint16) (int, bool) {
	v, ok := m[qtype]
	if !ok {
		v, ok = m[dns.TypeANY]
	}
	return v, ok
}

// next returns the round for the next query of a name with this type, and counts it.
func (n *NameServer) next(name string, q dns.Question) (dnsRound, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	q.Name = name
	k := n.queries[q]
	n.queries[q]++
	found, ok := n.names[name]
	if lie, lies := n.names["*."]; !ok && lies && !n.above(name) {
		return lie.of(name), true
	}
	if !ok {
		return dnsRound{}, false
	}
	return found.rounds[k%len(found.rounds)], true
}

// of returns what is answered for every name, as that of one.
func (l *dnsName) of(name string) dnsRound {
	round := l.rounds[0]
	round.records = slices.Clone(round.records)
	for i, rr := range round.records {
		round.records[i] = dns.Copy(rr)
		round.records[i].Header().Name = name
	}
	return round
}

// above reports whether a name has others below it, and so exists.
func (n *NameServer) above(name string) bool {
	for other := range n.names {
		if dns.IsSubDomain(name, other) {
			return true
		}
	}
	return false
}
