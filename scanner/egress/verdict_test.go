package egress

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/targets"
)

// fourOperators are operators with one address each, on 25, 465 and 587.
func fourOperators(listed bool) (ops []Operator, hosts map[string]Found) {
	hosts = map[string]Found{}
	for i, name := range []string{"a", "b", "c", "d"} {
		host := "mail." + name + ".example"
		op := Named(name, host, []uint16{25, 465, 587})
		if listed {
			op.Listed, op.Domains = true, []string{name + ".example"}
		}
		ops = append(ops, op)
		hosts[host] = Found{Addrs: []netip.Addr{
			netip.AddrFrom4([4]byte{62, 30, byte(i), 25}), netip.AddrFrom16([16]byte{0x2a, 0x10, 3: byte(i), 15: 25}),
		}}
	}
	return ops, hosts
}

// seen makes what a contact saw, in a word: "ok", "silent", "reset", "13" and other ICMP
// reasons, "local", "mute", "closing", or a sign of interference.
func seen(t *testing.T, c Contact, what string) Seen {
	t.Helper()
	s := Seen{Contact: c}
	r := &s.Result
	r.Target, r.Attempts, r.At, r.RTT = c.Target, 1, time.Unix(0, 0), 80*time.Millisecond
	router := netip.MustParseAddr("100.64.0.1")
	host := c.Target.Host()
	good := true
	svc := &scanner.Service{
		Kind: scanner.KindSMTP, Code: 220, Banner: []byte("220 " + host + " ESMTP"), StartTLS: scanner.StartTLSOffered,
		EHLO: []string{"SIZE " + fmt.Sprint(1000+int(c.Target.Addr.AsSlice()[2])), "STARTTLS"},
		TLS:  &scanner.TLS{Version: 0x0304, Chain: [][]byte{{1}}, Names: []string{host}, Issuer: "CN=Some CA", Trust: scanner.TrustTrusted, NameOK: &good},
	}
	if c.Target.Role == targets.SMTPS {
		svc.StartTLS = scanner.StartTLSAbsent
	}
	open := func() { r.State, r.Reason, r.Service = scanner.Open, scanner.SynAck, svc }
	filtered := func(reason scanner.Reason) {
		r.State, r.Reason, r.Attempts = scanner.Filtered, reason, 4
		if reason != scanner.NoResponse {
			r.ICMP = scanner.ICMP{From: router, Type: 3, Code: 13}
		}
	}
	bad := false
	switch what {
	case "ok":
		open()
	case "late":
		open()
		r.Attempts = 3
	case "near":
		open()
		r.RTT = time.Millisecond
	case "silent":
		filtered(scanner.NoResponse)
	case "reset":
		r.State, r.Reason = scanner.Closed, scanner.ConnRefused
	case "prohibited":
		filtered(scanner.AdminProhibited)
	case "no-net":
		filtered(scanner.NetUnreach)
	case "own-reject":
		filtered(scanner.HostProhibited)
		r.ICMP.From = c.Target.Addr
	case "firewall":
		r.Reason, r.Err = scanner.LocalError, "this machine's firewall drops it: no SYN left"
	case "no-route":
		r.Reason, r.Err = scanner.LocalError, "this machine has no route to IPv4 addresses like this"
	case "interrupted":
		r.Reason = scanner.Interrupted
	case "mute":
		open()
		svc.Kind = scanner.KindMute
	case "closing":
		open()
		*svc = scanner.Service{Kind: scanner.KindClosing}
	case "421":
		open()
		*svc = scanner.Service{Kind: scanner.KindRefusing, Code: 421, Banner: []byte("421 4.7.0 " + host + " try again later")}
	case "proxy":
		open()
		svc.Banner, svc.TLS, svc.StartTLS = []byte("220 proxy.isp.example ESMTP"), nil, scanner.StartTLSAbsent
		svc.EHLO = []string{"SIZE 1", "8BITMIME"}
	case "renamed":
		open()
		svc.Banner = []byte("220 mx." + c.Operator + "mail.test ESMTP")
	case "banner":
		open()
		svc.Banner = []byte("220 gateway.isp.example ESMTP")
	case "masked":
		open()
		svc.StartTLS, svc.EHLO, svc.TLS, svc.Findings = scanner.StartTLSMasked, []string{svc.EHLO[0], "XXXXXXXA"}, nil, []string{"starttls-masked"}
	case "removed":
		open()
		svc.StartTLS, svc.TLS, svc.EHLO = scanner.StartTLSAbsent, nil, svc.EHLO[:1]
	case "refused-tls":
		open()
		svc.StartTLS, svc.TLS, svc.Err = scanner.StartTLSRefused, nil, `the server said "454 not now"`
	case "cut-tls":
		open()
		svc.TLS = &scanner.TLS{Err: "the peer reset the connection"}
		if c.Target.Role == targets.SMTPS {
			svc.Kind = scanner.KindTLSFailed
		}
	case "swapped":
		open()
		svc.TLS.Trust, svc.TLS.NameOK, svc.TLS.Issuer = scanner.TrustUnknownIssuer, &good, "CN=Inspector"
	case "other-name":
		open()
		svc.TLS.NameOK, svc.TLS.Names = &bad, []string{"*.isp.example"}
	case "self-signed":
		open()
		svc.TLS.Trust, svc.TLS.Issuer = scanner.TrustSelfSigned, "CN="+host
	case "canned":
		open()
		svc.EHLO, svc.TLS, svc.StartTLS = []string{"SIZE 20000000", "8BITMIME"}, nil, scanner.StartTLSAbsent
		svc.Transcript = []scanner.Line{{From: 'S', Text: []byte("250-Requested mail action okay, completed")}}
	case "antivirus":
		open()
		svc.Banner = []byte("220 " + host + " ESMTP avast! anti-virus SMTP proxy")
	case "stars":
		open()
		svc.Banner, svc.Findings = []byte("220 ****************"), []string{"banner-masked"}
	case "injected":
		open()
		svc.Findings = []string{"plaintext-after-220"}
	default:
		t.Fatalf("no outcome %q", what)
	}
	if c.Kind != Mail && r.State == scanner.Open {
		r.Service = &scanner.Service{}
		if what == "proxy" {
			r.Service = svc
		}
	}
	return s
}

// evidence makes what a plan saw. What is said of a contact is looked up as "a25", "all25",
// "quiet25" (those that must stay silent) and "a"; else it is ok, or silent where it must be.
func evidence(t *testing.T, plan *Plan, said map[string]string) *Evidence {
	e := &Evidence{Plan: plan, SeesOwn: true, Origins: map[netip.AddrPort]Origin{}}
	for _, c := range plan.Contacts {
		what := "ok"
		keys := []string{fmt.Sprintf("%s%d", c.Operator, c.Target.Port), c.Operator, fmt.Sprintf("all%d", c.Target.Port), "all"}
		if c.Kind == Negative {
			what, keys = "silent", []string{fmt.Sprintf("quiet%d", c.Target.Port)}
		}
		for _, k := range keys {
			if w, ok := said[k]; ok {
				what = w
				break
			}
		}
		e.Seen = append(e.Seen, seen(t, c, what))
	}
	return e
}

func TestJudge(t *testing.T) {
	dropped, reset, rejected := []string{EgressDropped}, []string{EgressReset}, []string{EgressRejected}
	for _, test := range []struct {
		name  string
		named bool // the user named the operators
		said  map[string]string
		port  uint16 // 25 if zero
		word  Word
		how   Mechanism
		cause Cause
		codes []string
	}{
		{name: "all is well", word: Allowed},
		{name: "all is well with named destinations", named: true, word: Allowed},
		// Blocked, in each way.
		{name: "dropped", said: map[string]string{"all25": "silent"}, word: Blocked, how: Dropped, codes: dropped},
		{name: "dropped, named", named: true, said: map[string]string{"all25": "silent"}, word: Blocked, how: Dropped, codes: dropped},
		{name: "dropped, 587 is not", said: map[string]string{"all25": "silent"}, port: 587, word: Allowed},
		{name: "reset", said: map[string]string{"all25": "reset"}, word: Blocked, how: Reset, codes: reset},
		{name: "reset, named: they may not listen", named: true, said: map[string]string{"all25": "reset"}, word: Inconclusive, cause: CauseDestination},
		{name: "reset, named, and in the name of nobody", named: true, said: map[string]string{"all25": "reset", "quiet25": "reset"}, word: Blocked, how: Reset, codes: reset},
		{name: "resets for everything are no proof", named: true, said: map[string]string{"all25": "reset", "quiet25": "reset", "quiet443": "reset"}, word: Inconclusive, cause: CauseDestination},
		{name: "rejected", said: map[string]string{"all25": "prohibited"}, word: Blocked, how: Rejected, codes: rejected},
		{name: "rejected as unreachable", said: map[string]string{"all25": "no-net"}, word: Blocked, how: Rejected, codes: rejected},
		{name: "rejected, some without a word", said: map[string]string{"all25": "silent", "a25": "prohibited"}, word: Blocked, how: Rejected, codes: rejected},
		{name: "stopped in two ways", said: map[string]string{"all25": "silent", "a25": "reset", "b25": "reset"}, word: Blocked, how: Mixed},
		{name: "cut", said: map[string]string{"all25": "closing"}, word: Blocked, how: Cut, codes: []string{EgressCut}},
		// One slow or broken destination makes no verdict.
		{name: "one is silent", said: map[string]string{"a25": "silent"}, word: Allowed},
		{name: "one refuses", said: map[string]string{"a25": "reset"}, word: Allowed},
		{name: "one is down", said: map[string]string{"a": "silent"}, word: Allowed},
		{name: "one is mute", said: map[string]string{"a25": "mute"}, word: Allowed},
		{name: "one masks", said: map[string]string{"a25": "masked"}, word: Allowed},
		{name: "one has another certificate", said: map[string]string{"a25": "swapped"}, word: Allowed},
		{name: "one greets as another", said: map[string]string{"a25": "banner"}, word: Allowed},
		{name: "three are down, the last is silent", said: map[string]string{"a": "silent", "b": "silent", "c": "silent", "d25": "silent"}, word: Inconclusive, cause: CauseOne},
		{name: "two are down, two are silent", said: map[string]string{"a": "silent", "b": "silent", "c25": "silent", "d25": "silent"}, word: Blocked, how: Dropped},
		{name: "half of them answer", said: map[string]string{"a25": "silent", "b25": "silent"}, word: Inconclusive, cause: CausePartial, codes: []string{EgressPartial}},
		{name: "one of four answers", said: map[string]string{"all25": "silent", "a25": "ok"}, word: Inconclusive, cause: CausePartial},
		// The fault is elsewhere.
		{name: "nothing gets out", said: map[string]string{"all": "silent"}, word: Inconclusive, cause: CauseNothing},
		{name: "no route far away", said: map[string]string{"all": "no-net"}, word: Inconclusive, cause: CauseRouting},
		{name: "own firewall", said: map[string]string{"all25": "firewall"}, word: Inconclusive, cause: CauseFirewall},
		{name: "no route here", said: map[string]string{"all": "no-route"}, word: Inconclusive, cause: CauseNoRoute},
		{name: "interrupted", said: map[string]string{"all25": "interrupted"}, word: Inconclusive, cause: CauseInterrupted},
		{name: "greylisted", said: map[string]string{"all25": "421"}, word: Allowed, codes: []string{GreetingRefused}},
		{name: "all are mute", said: map[string]string{"all25": "mute"}, word: Inconclusive, cause: CauseMute},
		{name: "the destinations reject", named: true, said: map[string]string{"all": "own-reject"}, word: Inconclusive, cause: CauseNothing},
		{name: "slowed down", said: map[string]string{"all25": "late"}, word: Allowed, codes: []string{EgressThrottled}},
		{name: "a lossy network", said: map[string]string{"all": "late"}, word: Allowed},
		// Interference.
		{name: "somebody answers for all", said: map[string]string{"all25": "proxy", "quiet25": "proxy"}, word: Intercepted, codes: []string{AnswersForAll, BannerForeign, SameGreeting, SameEHLO}},
		{name: "only nobody's address answers", said: map[string]string{"quiet25": "proxy"}, word: Intercepted, codes: []string{AnswersForAll}},
		{name: "a proxy for some, named", named: true, said: map[string]string{"all25": "proxy"}, word: Intercepted, codes: []string{SameGreeting}},
		{name: "masked", said: map[string]string{"all25": "masked"}, word: Downgraded, codes: []string{StartTLSMasked}},
		{name: "masked, named", named: true, said: map[string]string{"all25": "masked"}, word: Downgraded, codes: []string{StartTLSMasked}},
		{name: "removed", said: map[string]string{"all25": "removed"}, word: Downgraded, codes: []string{StartTLSRemoved}},
		{name: "named servers without STARTTLS", named: true, said: map[string]string{"all25": "removed"}, word: Allowed},
		{name: "refused", said: map[string]string{"all25": "refused-tls"}, word: Downgraded, codes: []string{StartTLSRefused}},
		{name: "cut when TLS begins", said: map[string]string{"all25": "cut-tls"}, word: Downgraded, codes: []string{TLSCut}},
		{name: "cut on 465", said: map[string]string{"all465": "cut-tls"}, port: 465, word: Downgraded, codes: []string{TLSCut}},
		{name: "swapped certificates", said: map[string]string{"all587": "swapped"}, port: 587, word: Intercepted, codes: []string{CertificateForeign}},
		{name: "swapped certificates, named", named: true, said: map[string]string{"all587": "swapped"}, port: 587, word: Intercepted, codes: []string{CertificateForeign}},
		{name: "one certificate for all, named", named: true, said: map[string]string{"all587": "other-name"}, port: 587, word: Intercepted, codes: []string{CertificateForeign}},
		{name: "named servers with certificates of their own making", named: true, said: map[string]string{"all25": "self-signed"}, word: Allowed},
		{name: "another banner", said: map[string]string{"all25": "banner"}, word: Intercepted, codes: []string{BannerForeign, SameGreeting}},
		{name: "operators that call themselves otherwise, with certificates of their own", said: map[string]string{"all25": "renamed"}, word: Allowed},
		{name: "canned", named: true, said: map[string]string{"all25": "canned"}, word: Intercepted, codes: []string{CannedEHLO}},
		{name: "antivirus", named: true, said: map[string]string{"all25": "antivirus"}, word: Intercepted, codes: []string{AntivirusProxy}},
		{name: "stars", said: map[string]string{"all25": "stars"}, word: Intercepted, codes: []string{BannerMasked}},
		{name: "injected", said: map[string]string{"all25": "injected"}, word: Intercepted, codes: []string{PlaintextAfter220}},
		{name: "too near", said: map[string]string{"all25": "near"}, word: Allowed, codes: []string{TooNear}},
		{name: "some are near", said: map[string]string{"a25": "near", "b25": "near", "c25": "near"}, word: Allowed},
		{name: "two of four are masked", said: map[string]string{"a25": "masked", "b25": "masked"}, word: Allowed},
		{name: "the control port is silent", said: map[string]string{"all443": "silent"}, word: Allowed},
	} {
		t.Run(test.name, func(t *testing.T) {
			ops, hosts := fourOperators(!test.named)
			plan := NewPlan(Request{Operators: ops, Hosts: hosts, Ports: []uint16{25, 465, 587}, Families: []Family{IPv4}})
			port := test.port
			if port == 0 {
				port = 25
			}
			for _, v := range Judge(evidence(t, plan, test.said)) {
				if v.Port != port {
					continue
				}
				if v.Word != test.word || test.how != "" && v.How != test.how || v.Cause != test.cause {
					t.Errorf("got %s %s %s %+v, want %s %s %s", v.Word, v.How, v.Cause, v.Findings, test.word, test.how, test.cause)
				}
				for _, code := range test.codes {
					if !v.Has(code) {
						t.Errorf("findings %+v, want %s", v.Findings, code)
					}
				}
				if v.Word == Allowed && len(test.codes) == 0 && len(v.Findings) > 0 {
					t.Errorf("findings %+v of an open port", v.Findings)
				}
			}
		})
	}
}

// TestJudgeWithOrigin: who sent the reset decides whether a refusal counts.
func TestJudgeWithOrigin(t *testing.T) {
	ops, hosts := fourOperators(true)
	plan := NewPlan(Request{Operators: ops, Hosts: hosts, Ports: []uint16{25, 587}, Families: []Family{IPv4}})
	for by, want := range map[By]Word{ByUndecided: Blocked, ByPath: Blocked, ByHost: Inconclusive} {
		e := evidence(t, plan, map[string]string{"all25": "reset"})
		for _, s := range e.Seen {
			e.Origins[s.Target.AddrPort()] = Origin{By: by}
		}
		if v := Judge(e)[0]; v.Word != want {
			t.Errorf("refused by %d: %s %s, want %s", by, v.Word, v.Cause, want)
		}
	}
}

func TestJudgeWithoutDestinations(t *testing.T) {
	ops, hosts := fourOperators(true)
	for _, test := range []struct {
		name  string
		found Found
		word  Word
		cause Cause
	}{
		{"names do not exist", Found{Why: targets.DNSNXDomain, Err: "the name does not exist"}, Inconclusive, CauseDNS},
		{"nobody answers", Found{Why: targets.DNSError, Err: "no answer"}, Inconclusive, CauseDNS},
		{"no address", Found{Why: targets.DNSNoAddress, Err: "it has no address"}, NotTested, CauseNoAddress},
	} {
		for host := range hosts {
			hosts[host] = test.found
		}
		for _, v := range Judge(&Evidence{Plan: NewPlan(Request{Operators: ops, Hosts: hosts})}) {
			if !v.Control && v.Port != 2525 && (v.Word != test.word || v.Cause != test.cause) {
				t.Errorf("%s: %d is %s %s, want %s %s", test.name, v.Port, v.Word, v.Cause, test.word, test.cause)
			}
		}
	}
	_, hosts = fourOperators(true)
	plan := NewPlan(Request{Operators: ops, Hosts: hosts, Absent: map[Family]Cause{IPv6: CauseNoIPv6}})
	for _, v := range Judge(evidence(t, plan, nil)) {
		if v.Family == IPv6 && (v.Word != NotTested || v.Cause != CauseNoIPv6) {
			t.Errorf("IPv6 %d is %s %s without IPv6", v.Port, v.Word, v.Cause)
		}
		if v.Family == IPv4 && v.Port != 2525 && v.Word != Allowed {
			t.Errorf("IPv4 %d is %s %s", v.Port, v.Word, v.Cause)
		}
	}
}

// TestJudgeIsStable: verdicts do not depend on the order of what was seen.
func TestJudgeIsStable(t *testing.T) {
	ops, hosts := fourOperators(true)
	plan := NewPlan(Request{Operators: ops, Hosts: hosts, Ports: []uint16{25, 465, 587}})
	for _, said := range []map[string]string{nil, {"all25": "silent"}, {"all25": "proxy", "quiet25": "proxy"}, {"all587": "masked"}} {
		e := evidence(t, plan, said)
		want := Judge(e)
		slices.Reverse(e.Seen)
		for i, v := range Judge(e) {
			if !v.SameAs(&want[i]) {
				t.Errorf("%v: %s, in reverse order %s", said, want[i].summary(), v.summary())
			}
		}
	}
}

func TestPlan(t *testing.T) {
	ops, hosts := fourOperators(true)
	plan := NewPlan(Request{Operators: ops, Hosts: hosts})
	seen := map[netip.AddrPort]bool{}
	for _, c := range plan.Contacts {
		ap := c.Target.AddrPort()
		if seen[ap] {
			t.Errorf("%v is contacted twice", ap)
		}
		seen[ap] = true
		if c.Kind == Negative && targets.IsPublic(c.Target.Addr) {
			t.Errorf("%v may be somebody's", ap)
		}
	}
	// A family: 4 operators on 3 ports and the control, and the silent ones.
	if want := 2*4*4 + 5 + 2 + 5; len(plan.Contacts) != want {
		t.Errorf("%d contacts, want %d", len(plan.Contacts), want)
	}
	excluded := netip.MustParseAddr("192.0.2.1")
	plan = NewPlan(Request{Operators: ops, Hosts: hosts, Excluded: func(a netip.Addr) bool { return a == excluded }})
	if slices.ContainsFunc(plan.Contacts, func(c Contact) bool { return c.Target.Addr == excluded }) {
		t.Error("an excluded address is contacted")
	}
	hosts["mail.b.example"] = hosts["mail.a.example"]
	plan = NewPlan(Request{Operators: ops, Hosts: hosts})
	if slices.ContainsFunc(plan.Contacts, func(c Contact) bool { return c.Operator == "b" }) {
		t.Error("one machine passes for two operators")
	}
	if !slices.ContainsFunc(plan.Missing, func(m Missing) bool { return m.Operator == "b" && strings.Contains(m.Err, "so does that of a") }) {
		t.Errorf("missing %+v, want b with the reason", plan.Missing)
	}
}

func TestBuiltInListIsSound(t *testing.T) {
	count := map[uint16]int{}
	for _, op := range BuiltIn() {
		if len(op.Domains) == 0 || op.Control == "" || !op.Listed {
			t.Errorf("%s: incomplete", op.Name)
		}
		for _, d := range op.Doors {
			if !within(d.Host, append(op.Domains, "l.google.com")) {
				t.Errorf("%s: %s is not in %v", op.Name, d.Host, op.Domains)
			}
			for _, p := range d.Ports {
				count[p]++
			}
		}
	}
	for _, p := range MailPorts() {
		if count[p] < agreement {
			t.Errorf("port %d has %d operators: none can be judged", p, count[p])
		}
	}
}
