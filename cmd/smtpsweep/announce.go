package main

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"math"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/smtpsweep/smtpsweep/scanner/pace"
	"github.com/smtpsweep/smtpsweep/scanner/smtp"
	"github.com/smtpsweep/smtpsweep/targets"
)

// manyEndpoints is the size, and fastPublic the pace (probes per second at
// public addresses), above which a run needs --yes.
const (
	manyEndpoints = 1 << 24
	fastPublic    = 10000
)

// setPace fills in the pace that the user did not choose: slow and polite where
// somebody else's network is contacted.
func (s *sweep) setPace() {
	private := !s.job.public()
	unset := func(name string) bool { return !s.flags.Changed(name) }
	if private && unset("rate") {
		s.f.rate.perSecond = 5000
	}
	if private && unset("host-limit") {
		s.f.hostLimit.n = 3
	}
	if private && unset("host-interval") {
		s.f.hostInterval.d = 0
	}
	if private && unset("subnet-rate") {
		s.f.subnetRate.perSecond = 0
	}
}

func (s *sweep) paceConfig() pace.Config {
	return pace.Config{
		Rate: s.f.rate.perSecond, HostLimit: s.f.hostLimit.n,
		HostInterval: s.f.hostInterval.d, SubnetRate: s.f.subnetRate.perSecond,
	}
}

// checkSize refuses what is larger or faster than anybody starts by accident.
func (s *sweep) checkSize() error {
	if s.f.yes {
		return nil
	}
	endpoints, _ := s.job.contacts()
	if endpoints > manyEndpoints {
		return withHint(fail(exitRefused, "%s endpoints are more than %s", group(endpoints), group(manyEndpoints)), "--yes if you are sure that you may and want to; --shard 1/8 takes a part")
	}
	r := s.f.rate.perSecond
	if s.job.public() && (r == 0 || r > fastPublic) {
		return withHint(fail(exitRefused, "more than %s probes per second at public addresses", group(fastPublic)), "--yes if you are sure that the networks on the way bear it; or a lower --rate")
	}
	return nil
}

// announce says, in two lines, what will be contacted, how many, from where and
// as whom, and how long it takes (DESIGN.md 1.8).
func (s *sweep) announce() {
	endpoints, addresses := s.job.contacts()
	todo := endpoints - min(endpoints, s.already)
	again := ""
	if s.already > 0 {
		again = fmt.Sprintf(" (%s of them are done)", group(s.already))
	}
	name := s.f.heloName()
	if name == "" {
		name = "its address" // as an address literal: EHLO [192.0.2.1]
	}
	if endpoints == 0 {
		s.u.say("Contacts nobody: nothing is left to probe.")
	} else {
		s.u.say("Contacts %s%s from %s as %s; %s.", s.scope(endpoints, addresses), again, s.sourceText(), name, s.duration(todo, addresses))
		list := " --dry-run lists them."
		if s.f.dryRun {
			list = " This is a dry run: nobody is contacted."
		}
		s.u.say("%s%s%s", s.whatIsSaid(), s.controlText(), list)
	}
	for _, sub := range s.job.plan.Subtracted() {
		s.u.say("Left out: %s (%s).", plural(sub.Addresses, "address", "addresses"), sub.What)
	}
	for _, notice := range s.job.plan.Notices() {
		s.u.say("Notice: %s", oneLine(notice))
	}
	for _, ep := range s.job.endpoints {
		if ep.Notice != "" && !s.noted[ep.Notice] {
			s.noted[ep.Notice] = true
			s.u.say("Notice: %s", oneLine(ep.Notice))
		}
	}
	if s.u.verbose {
		s.announceMore()
	}
}

// announceMore says what --verbose adds: the pace, the order, and the names.
func (s *sweep) announceMore() {
	perSecond := func(r rate) string {
		if r.perSecond == 0 {
			return "unlimited"
		}
		return r.String() + " probes per second"
	}
	s.u.say("Pace: %s in all, %s to one subnet; %d connections at a time to one host, %v apart. Order: seed %d.",
		perSecond(s.f.rate), perSecond(s.f.subnetRate), s.f.hostLimit.n, s.f.hostInterval.d, s.job.plan.Seed())
	for _, ep := range s.job.endpoints {
		what := string(ep.Why)
		if ep.Why == "" {
			what = ep.Target.AddrPort().String()
		}
		s.u.say("%s: %s", oneLine(strings.TrimSpace(ep.Target.Spec()+" "+ep.Target.Host())), what)
	}
}

// scope words how much is contacted: "16 addresses x 25,465,587 = 48 endpoints",
// or, where targets have ports of their own, "61 endpoints on 1 address".
func (s *sweep) scope(endpoints, addresses uint64) string {
	ports, _ := targets.ParsePorts(s.f.ports) // they were parsed before
	hosts, all := plural(addresses, "address", "addresses"), plural(endpoints, "endpoint", "endpoints")
	if s.job.shard.N > 1 || endpoints != addresses*uint64(len(ports)) {
		return all + " on " + hosts
	}
	if len(ports) > 12 {
		return fmt.Sprintf("%s x %d ports = %s", hosts, len(ports), all)
	}
	var numbers []string
	for _, p := range ports {
		numbers = append(numbers, strconv.Itoa(int(p.Number)))
	}
	return fmt.Sprintf("%s x %s = %s", hosts, strings.Join(numbers, ","), all)
}

func (s *sweep) whatIsSaid() string {
	switch s.f.probe.text {
	case "port":
		return "Connects and closes; says nothing."
	case "banner":
		return "Waits for the greeting, then QUIT; no login, no mail."
	}
	return "EHLO, STARTTLS, QUIT; no login, no mail."
}

// sourceText names the address that the kernel would use towards the first target.
func (s *sweep) sourceText() string {
	if s.f.source != "" {
		return s.f.source
	}
	if a := s.sourceAddress(); a.IsValid() {
		return a.String()
	}
	return "this machine"
}

// sourceAddress asks the routing table by connecting a UDP socket, which sends nothing.
func (s *sweep) sourceAddress() netip.Addr {
	if s.source.IsValid() {
		return s.source
	}
	first, ok := s.firstTarget()
	if !ok {
		return netip.Addr{}
	}
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(first, 9)))
	if err != nil {
		return netip.Addr{}
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
}

func (s *sweep) firstTarget() (netip.Addr, bool) {
	if s.job.plan.Len() > 0 {
		return s.job.plan.At(0).Addr, true
	}
	for _, ep := range s.job.endpoints {
		if ep.Why == "" {
			return ep.Target.Addr, true
		}
	}
	return netip.Addr{}, false
}

// duration guesses how long it takes: what answers, and what makes us wait.
func (s *sweep) duration(endpoints, addresses uint64) string {
	if endpoints == 0 {
		return "nothing to do"
	}
	secs := 0.0
	if r := s.f.rate.perSecond; r > 0 {
		secs = float64(endpoints) / r
	}
	perHost := float64(endpoints) / float64(max(addresses, 1))
	if d := s.f.hostInterval.d; d > 0 {
		secs = max(secs, (perHost-1)*d.Seconds())
	}
	if r := s.f.subnetRate.perSecond; r > 0 {
		secs = max(secs, float64(min(addresses, 256))*perHost/r)
	}
	text := about(secs + s.f.timeout.d.Seconds())
	talk := cmp.Or(s.hooks.deadline, smtp.DefaultDeadline)
	if slow := max(s.f.patience.d, talk) - s.f.timeout.d; slow > 0 && s.f.probe.text != "port" {
		text += ", slow ones +" + about(slow.Seconds())
	}
	return text
}

// about words a duration in seconds as one would say it.
func about(secs float64) string {
	switch {
	case secs < 90:
		return fmt.Sprintf("%.0f s", math.Ceil(secs))
	case secs < 90*60:
		return fmt.Sprintf("%.0f min", math.Ceil(secs/60))
	case secs < 48*3600:
		return fmt.Sprintf("%.1f h", secs/3600)
	}
	return fmt.Sprintf("%.1f days", secs/86400)
}

// listTargets is --dry-run: one endpoint a line on stdout, what a resumed
// journal has left out.
func (s *sweep) listTargets(ctx context.Context) error {
	w := bufio.NewWriter(s.u.out)
	var err error
	for pos := range s.job.order.Len() {
		if err != nil || pos%1024 == 0 && ctx.Err() != nil {
			break
		}
		if s.resumed != nil && s.resumed.Done.Contains(pos) {
			continue
		}
		t := s.job.plan.At(s.job.order.At(pos))
		if ok, _ := s.job.plan.PermitTarget(t); ok {
			_, err = fmt.Fprintln(w, t.AddrPort())
		}
	}
	for _, t := range s.controls() {
		fmt.Fprintln(w, t.AddrPort(), "control, must stay silent") // Flush tells of an error
	}
	seen := map[string]bool{}
	for _, ep := range s.job.endpoints {
		line := ep.Target.AddrPort().String() + " " + ep.Target.Host()
		if ep.Why != "" {
			line = unprobedText(ep)
		}
		if !seen[line] && !s.done(ep.Target) { // several specs may lead to one endpoint
			seen[line] = true
			fmt.Fprintln(w, oneLine(line))
		}
	}
	if err := w.Flush(); err != nil {
		return outputError("stdout", err)
	}
	return nil
}

// unprobedText says why an endpoint of a name is not contacted.
func unprobedText(ep targets.Endpoint) string {
	who := ep.Target.Spec()
	if host := ep.Target.Host(); host != "" && !strings.EqualFold(host, who) {
		who += " " + host
	}
	if ep.Target.Addr.IsValid() {
		who += " " + ep.Target.Addr.String()
	}
	text := who + " is not contacted: " + string(ep.Why)
	if ep.Err != "" {
		text += " (" + ep.Err + ")"
	}
	return text
}

// group writes a number with thousands separated: 16,777,216.
func group(n uint64) string {
	text := strconv.FormatUint(n, 10)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

func plural(n uint64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return group(n) + " " + many
}
