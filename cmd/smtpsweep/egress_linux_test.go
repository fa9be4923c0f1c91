package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/smtpsweep/smtpsweep/scanner/egress"
	"github.com/smtpsweep/smtpsweep/scanner/scannertest"
	"github.com/smtpsweep/smtpsweep/scanner/scannertest/lab"
)

// An egressLab is a path with the operators of the built-in list at its end.
type egressLab struct {
	*lab.Path
	dns    string
	ca     string
	folder string // that anybody can write
}

// newEgressLab starts the operators and a name server.
func newEgressLab(t *testing.T, p *lab.Path) *egressLab {
	t.Helper()
	dir, err := os.MkdirTemp("", "smtpsweep-egress-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	l := &egressLab{Path: p, folder: dir, ca: filepath.Join(dir, "ca.pem"), dns: scannertest.DNS(t, operatorZone()).String()}
	p.Start(t, lab.Target, "egress.operators", l.ca)
	return l
}

// An audited is what a run of the program said.
type audited struct {
	code           int
	stdout, stderr string
	journal        string
	verdicts       map[string]*egress.Verdict // by "4/25"
}

// audit runs the program as nobody, without any privilege.
func (l *egressLab) audit(t *testing.T, args ...string) *audited {
	t.Helper()
	state, err := os.MkdirTemp(l.folder, "state-*")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(state, 0o777); err != nil {
		t.Fatal(err)
	}
	a := &audited{journal: filepath.Join(state, "audit.jsonl")}
	all := append([]string{"egress", "--ca", l.ca, "-o", a.journal}, args...)
	if !slices.Contains(args, "--resolver") {
		all = append(all, "--resolver", l.dns)
	}
	cmd := lab.Nobody(l.Command(lab.Scanner, lab.Binary(t), all...))
	cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+state)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	a.stdout, a.stderr, a.code = out.String(), errs.String(), cmd.ProcessState.ExitCode()
	if _, ok := err.(*exec.ExitError); err != nil && !ok {
		t.Fatal(err)
	}
	a.read(t)
	return a
}

// read takes the verdicts from the journal.
func (a *audited) read(t *testing.T) {
	t.Helper()
	a.verdicts = map[string]*egress.Verdict{}
	text, err := os.ReadFile(a.journal)
	if err != nil {
		t.Fatalf("%v\n%s", err, a.stderr)
	}
	for line := range bytes.Lines(text) {
		if bytes.HasPrefix(line, []byte(`{"type":"verdict"`)) {
			v := &egress.Verdict{}
			if err := json.Unmarshal(line, v); err != nil {
				t.Fatal(err)
			}
			a.verdicts[fmt.Sprintf("%d/%d", v.Family, v.Port)] = v
		}
	}
}

// of returns the verdict on a port.
func (a *audited) of(t *testing.T, family egress.Family, port uint16) *egress.Verdict {
	t.Helper()
	v := a.verdicts[fmt.Sprintf("%d/%d", family, port)]
	if v == nil {
		t.Fatalf("no verdict on %d of IPv%d; exit %d\n%s%s", port, family, a.code, a.stdout, a.stderr)
	}
	return v
}

// inCI skips a test that mostly waits for silence to be over: an ordinary "go test" has TestEgressVerdicts.
func inCI(t *testing.T) {
	t.Helper()
	if lab.Count(t, 0, 1, 1) == 0 {
		t.Skip("it waits for what never comes, again and again: .ci/run has it")
	}
}

// TestEgressTellsTheStory has the program tell of a network in which nothing is wrong, of one
// that drops port 25, of one with a proxy, and of one that refuses: what people read, and the ticket.
func TestEgressTellsTheStory(t *testing.T) {
	t.Parallel()
	inCI(t)
	lab.RunPath(t, lab.PathConfig{Binary: true}, func(t *testing.T, p *lab.Path) {
		l := newEgressLab(t, p)
		p.Start(t, lab.R1, "egress.interceptor", portArg(mtaPort), "mta")
		for _, test := range []struct {
			filter lab.Filter
			exit   int
			screen []string // in this order, whatever the line breaks
			ticket []string
		}{
			{lab.Filter{At: lab.R3, Family: 4, Ports: []uint16{2999}}, exitDone,
				[]string{"ALLOWED Ports 25, 465, 587 and 2525 work", "WHAT WAS SEEN", "DO nothing: this network lets mail out"},
				[]string{"## Mail out of this network: allowed", "| 25 | IPv4 | allowed |"}},
			{lab.Filter{At: lab.R2, Family: 4, Ports: []uint16{25}}, exitBad,
				[]string{"BLOCKED Port 25 over IPv4 out of this network is silently dropped inside your provider's network, after hop 2 and no later than hop 3 (62.20.3.1).",
					"your mail can leave today", "25 blocked allowed", "PATH to 62.30.", "your router (private address)", "<- lost from here on",
					"NOT THE CAUSE this machine's firewall (hops 1 and 2 saw what was sent)", "(192.0.2.1 is silent)",
					"DO 1. today: postconf", "2. ask your provider to open port 25", "SEE IT WITHOUT US sudo traceroute -T -p 25 62.30."},
				[]string{"**Request:** please open TCP port 25 outgoing for our connection", "| 3 | 62.20.3.1 |", "- DNS (the names of 5 operators resolve)"}},
			{lab.Filter{At: lab.R1, Family: 4, Ports: []uint16{25, 587}, Do: lab.DoRedirect(mtaPort)}, exitBad,
				[]string{"INTERCEPTED Ports 25 and 587 over IPv4 out of this network are answered by something near", "so do addresses that nobody has", "SEEN", "answers-for-all",
					"greets as proxy.isp.example", "DO 1. today: postconf -e 'relayhost = [smtp.YOURPROVIDER]:465'", "SEE IT WITHOUT US nc 192.0.2.1 25"},
				[]string{"let TCP ports 25 and 587 through unaltered"}},
			{lab.Filter{At: lab.R2, Ports: []uint16{25}, Do: lab.DoReset()}, exitBad,
				[]string{"BLOCKED Port 25 out of this network is refused inside your provider's network, after hop 2 and no later than hop 3 (62.20.3.1; 2a10:3::1): somebody there sends TCP resets",
					"25 blocked blocked", "the resets come from nearer than the host is"},
				[]string{"Path to 62.30.", "Path to 2a10:30:"}},
		} {
			s := p.Filter(t, test.filter)
			a := l.audit(t)
			s.Off(t)
			if a.code != test.exit {
				t.Errorf("exit %d, want %d\n%s", a.code, test.exit, a.stderr)
			}
			toldInOrder(t, a.stdout, test.screen)
			code, ticket, said := invoke(t, "report", a.journal, "-f", "md")
			if code != exitDone {
				t.Errorf("report: exit %d: %s", code, said)
			}
			toldInOrder(t, ticket, test.ticket)
			if code, _, said = invoke(t, "report", a.journal, "-f", "xml"); code != exitUsage || !strings.Contains(said, "an audit has no format") {
				t.Errorf("report -f xml: exit %d: %s", code, said)
			}
		}
	})
}

// toldInOrder complains if texts are not all there, in this order; line breaks and gaps count as spaces.
func toldInOrder(t *testing.T, text string, want []string) {
	t.Helper()
	rest := strings.Join(strings.Fields(text), " ")
	for _, w := range want {
		_, after, ok := strings.Cut(rest, w)
		if !ok {
			t.Errorf("%q is not there, or not in its place:\n%s", w, text)
			return
		}
		rest = after
	}
}

// TestEgressIsPolite counts what arrives: one connection to each destination and port that
// --dry-run lists, and none to any other. How long it takes is logged.
func TestEgressIsPolite(t *testing.T) {
	t.Parallel()
	inCI(t)
	lab.RunPath(t, lab.PathConfig{Binary: true}, func(t *testing.T, p *lab.Path) {
		l := newEgressLab(t, p)
		cmd := lab.Nobody(l.Command(lab.Scanner, lab.Binary(t), "egress", "--dry-run", "--resolver", l.dns))
		listed, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		want := map[netip.AddrPort]int{}
		for line := range strings.Lines(string(listed)) {
			ap, err := netip.ParseAddrPort(strings.Fields(line)[0])
			if err != nil {
				t.Fatal(err)
			}
			want[ap] = 1
		}
		seen := p.Capture(t, lab.Scanner, "sc0")
		begun := time.Now()
		a := l.audit(t)
		lab.Proof(t, "an audit when all is well took %.1f s", time.Since(begun).Seconds())
		got, ports := map[netip.AddrPort]int{}, map[string]bool{}
		for _, s := range seen.Stop(t) {
			id := fmt.Sprint(s.From, s.To)
			if s.Flags&(lab.SYN|lab.ACK) == lab.SYN && !ports[id] { // a repeated SYN is of the same connection
				ports[id] = true
				got[s.To]++
			}
		}
		if a.code != exitDone || len(want) == 0 || !maps.Equal(got, want) {
			t.Errorf("exit %d; connections\n got %v\nwant %v", a.code, got, want)
		}
		p.Filter(t, lab.Filter{At: lab.R1})
		begun = time.Now()
		a = l.audit(t)
		lab.Proof(t, "an audit when all is dropped took %.1f s", time.Since(begun).Seconds())
		if a.code != exitUndecided {
			t.Errorf("exit %d of a network that lets out nothing", a.code)
		}
	})
}

// client returns the n-th address that a scenario looks from: filters are for it alone, so
// that many scenarios share a lab at the same time.
func client(n int, family egress.Family) netip.Addr {
	if family == egress.IPv6 {
		a := lab.PathClient6.As16()
		a[14], a[15] = 1, byte(n)
		return netip.AddrFrom16(a)
	}
	return netip.AddrFrom4([4]byte{192, 168, 1, byte(20 + n)})
}

// A scenario is what is done to a client's segments, and what must be concluded of port 25.
type scenario struct {
	name    string
	family  egress.Family
	filters []lab.Filter // From is filled in
	args    []string
	word    egress.Word
	how     egress.Mechanism
	cause   egress.Cause
	codes   []string            // findings that must be there
	hop     int                 // that does it: 0 for none; its ICMP comes from there
	early   bool                // it is done before the hop looks at the TTL
	zone    scannertest.DNSZone // nil for the truth
	not     bool                // the fault is elsewhere: nothing at all may be called blocked
}

var pathRouters = [3]string{lab.R1, lab.R2, lab.R3}

// Ports that the interceptors of a router listen on.
const mtaPort = 2600

// stoppedByRouters are the scenarios in which a router stops or intercepts port 25.
func stoppedByRouters() (out []scenario) {
	for i, router := range pathRouters {
		for _, family := range []egress.Family{egress.IPv4, egress.IPv6} {
			add := func(s scenario, f lab.Filter) {
				f.At, f.Family, f.Ports = router, int(family), []uint16{25}
				s.name = fmt.Sprintf("%s at %s over %s", s.name, router, family)
				s.family, s.filters, s.hop, s.early = family, []lab.Filter{f}, i+1, f.Early
				out = append(out, s)
			}
			add(scenario{name: "drop", word: egress.Blocked, how: egress.Dropped, codes: []string{egress.EgressDropped}}, lab.Filter{})
			add(scenario{name: "early drop", word: egress.Blocked, how: egress.Dropped, codes: []string{egress.EgressDropped}}, lab.Filter{Early: true})
			add(scenario{name: "reset", word: egress.Blocked, how: egress.Reset, codes: []string{egress.EgressReset}}, lab.Filter{Do: lab.DoReset()})
			codes := []uint8{0, 1, 2, 3, 9, 10, 13} // RFC 792; RFC 1812, 5.2.7.1
			if family == egress.IPv6 {
				codes = []uint8{0, 1, 3, 4} // RFC 4443, 3.1
			}
			for _, code := range codes {
				add(scenario{name: fmt.Sprintf("reject %d", code), word: egress.Blocked, how: egress.Rejected, codes: []string{egress.EgressRejected}},
					lab.Filter{Do: lab.DoReject(code)})
			}
			add(scenario{name: "rate limit", word: egress.Allowed, codes: []string{egress.EgressThrottled}},
				lab.Filter{Do: lab.DoLimit(2, 20, time.Second)})
			add(scenario{name: "redirect", word: egress.Intercepted, codes: []string{egress.AnswersForAll, egress.BannerForeign, egress.SameGreeting}},
				lab.Filter{Do: lab.DoRedirect(mtaPort)})
		}
	}
	return out
}

// faultElsewhere are the scenarios in which the network is not to blame.
func faultElsewhere() (out []scenario) {
	microsoft := func(family egress.Family) (fs []lab.Filter) {
		for i, host := range operatorHosts() {
			if host == "smtp.office365.com" || host == "outlook.office365.com" {
				a := operatorAddr(i, family == egress.IPv6)
				fs = append(fs, lab.Filter{At: lab.Target, To: netip.PrefixFrom(a, a.BitLen())})
			}
		}
		return fs
	}
	for _, family := range []egress.Family{egress.IPv4, egress.IPv6} {
		six := family == egress.IPv6
		add := func(s scenario, fs ...lab.Filter) {
			for i := range fs {
				fs[i].Family = int(family)
			}
			s.name, s.family, s.filters, s.not = fmt.Sprintf("%s over %s", s.name, family), family, fs, true
			out = append(out, s)
		}
		two := []string{operatorAddr(0, six).String(), operatorAddr(1, six).String()}
		all := func(at string, do lab.Action) lab.Filter { return lab.Filter{At: at, Do: do} }
		on25 := func(at string, do lab.Action) lab.Filter { return lab.Filter{At: at, Do: do, Ports: []uint16{25}} }
		add(scenario{name: "one operator down", word: egress.Allowed}, microsoft(family)...)
		one := microsoft(family)[1:]
		one[0].Ports, one[0].Do = []uint16{25}, lab.DoReset()
		add(scenario{name: "one operator refuses", word: egress.Allowed}, one...)
		add(scenario{name: "all destinations down", args: two, word: egress.Inconclusive, cause: egress.CauseNothing}, all(lab.Target, lab.DoDrop()))
		add(scenario{name: "destinations refuse by themselves", args: two, word: egress.Inconclusive, cause: egress.CauseDestination}, on25(lab.Target, lab.DoReset()))
		add(scenario{name: "own firewall drops", word: egress.Inconclusive, cause: egress.CauseFirewall}, on25(lab.Scanner, lab.DoDrop()))
		add(scenario{name: "own firewall resets", word: egress.Inconclusive, cause: egress.CauseFirewall}, on25(lab.Scanner, lab.DoReset()))
		add(scenario{name: "own firewall rejects", word: egress.Inconclusive, cause: egress.CauseFirewall}, on25(lab.Scanner, lab.DoReject(map[bool]uint8{false: 13, true: 1}[six])))
		add(scenario{name: "greylisting", word: egress.Allowed, codes: []string{egress.GreetingRefused}}, on25(lab.Target, lab.DoRedirect(26)))
		add(scenario{name: "no network at all", word: egress.Inconclusive, cause: egress.CauseNothing}, all(lab.R1, lab.DoDrop()))
		add(scenario{name: "no route beyond", word: egress.Inconclusive, cause: egress.CauseRouting}, all(lab.R2, lab.DoReject(0)))
		add(scenario{name: "one destination", args: two[:1], word: egress.Inconclusive, cause: egress.CauseOne}, on25(lab.R3, lab.DoDrop()))
	}
	for name, zone := range map[string]scannertest.DNSZone{
		"names do not exist": {"example.org": {"A 192.0.2.9"}},
		"DNS fails":          failing("SERVFAIL"),
		"DNS is silent":      failing("DROP"),
		"DNS lies":           failing("A " + operatorAddr(0, false).String()),
	} {
		s := scenario{name: name, family: egress.IPv4, word: egress.Inconclusive, cause: egress.CauseDNS, not: true, zone: zone}
		if name == "DNS lies" { // one destination is left
			s.cause = egress.CauseOne
			s.filters = []lab.Filter{{At: lab.R2, Family: 4, Ports: []uint16{25}}}
		}
		out = append(out, s)
	}
	return out
}

// failing is a zone in which every operator's name has the same record.
func failing(record string) scannertest.DNSZone {
	zone := scannertest.DNSZone{}
	for _, host := range operatorHosts() {
		zone[host] = []string{record}
	}
	return zone
}

// TestEgressVerdicts has each router do to port 25 whatever a router can do to it, and then
// looks for the fault where it is not the network's.
func TestEgressVerdicts(t *testing.T) {
	t.Parallel()
	all := append(stoppedByRouters(), faultElsewhere()...)
	few := lab.Count(t, 0, 1, 1) == 0
	if few {
		all = slices.DeleteFunc(all, func(s scenario) bool {
			return s.name != "drop at r1 over IPv4" && s.name != "redirect at r2 over IPv6" && s.name != "own firewall drops over IPv4"
		})
	}
	var clients []netip.Addr
	for i := range all {
		clients = append(clients, client(i, all[i].family))
	}
	lab.RunPath(t, lab.PathConfig{Binary: true, Clients: clients}, func(t *testing.T, p *lab.Path) {
		if !p.IPv6() {
			all = slices.DeleteFunc(all, func(s scenario) bool { return s.family == egress.IPv6 })
		}
		l := newEgressLab(t, p)
		for _, router := range pathRouters {
			p.Start(t, router, "egress.interceptor", portArg(mtaPort), "mta")
		}
		results := make([]*audited, len(all))
		var group errgroup.Group
		group.SetLimit(12)
		for i := range all {
			s := &all[i]
			from := client(i, s.family)
			for _, f := range s.filters {
				f.From = netip.PrefixFrom(from, from.BitLen())
				p.Filter(t, f)
			}
			args := append([]string{"--source", from.String()}, s.args...)
			if few { // a little less patience
				args = append(args, "--timeout", "1500ms")
			}
			if s.zone != nil {
				args = append(args, "--resolver", scannertest.DNS(t, s.zone).String())
			}
			group.Go(func() error {
				results[i] = l.audit(t, args...)
				return nil
			})
		}
		group.Wait()
		for i, s := range all {
			if complaints := s.judge(results[i]); len(complaints) > 0 {
				rows, _ := os.ReadFile(results[i].journal)
				t.Errorf("%s:\n  %s\n%s%s%s", s.name, strings.Join(complaints, "\n  "), results[i].stderr, results[i].stdout, rows)
			}
		}
		lab.Proof(t, "%d scenarios", len(all))
	})
}

// judge says in what the outcome of a scenario is not as it must be.
func (s *scenario) judge(a *audited) (out []string) {
	complain := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	v := a.verdicts[fmt.Sprintf("%d/25", s.family)]
	if v == nil {
		return []string{fmt.Sprintf("no verdict; exit %d", a.code)}
	}
	if slices.Contains(s.codes, egress.EgressThrottled) && v.Has(egress.EgressPartial) {
		return nil // some were too late: on a busy machine it comes to this, and says the same
	}
	if v.Word != s.word || v.How != s.how || v.Cause != s.cause {
		complain("port 25 is %s %s %s, want %s %s %s", v.Word, v.How, v.Cause, s.word, s.how, s.cause)
	}
	for _, code := range s.codes {
		if !v.Has(code) {
			complain("findings %v, want %s", codesOf(v), code)
		}
	}
	exits := map[egress.Word]int{egress.Allowed: exitDone, egress.Inconclusive: exitUndecided}
	if want, ok := exits[s.word]; a.code != want && ok || !ok && a.code != exitBad {
		complain("exit %d", a.code)
	}
	for key, v := range a.verdicts {
		if v.Bad() && (s.not || key != fmt.Sprintf("%d/25", s.family)) {
			complain("%s is %s %s", key, v.Word, v.How)
		}
	}
	if s.word == egress.Blocked {
		after, by := s.hop, s.hop+1 // it forwards what has expired there, and stops the rest
		switch {
		case s.how == egress.Rejected:
			by = s.hop // it says so itself
		case s.early:
			after, by = s.hop-1, s.hop
		}
		if v.Where == nil || v.Where.After != after || v.Where.By != by {
			complain("stopped %+v, want after %d, by %d", v.Where, after, by)
		}
	}
	if s.how == egress.Rejected {
		hops := lab.PathHops4
		if s.family == egress.IPv6 {
			hops = lab.PathHops6
		}
		if want := hops[s.hop-1].String(); v.ICMPFrom != want {
			complain("rejected by %s, want %s", v.ICMPFrom, want)
		}
	}
	return out
}
