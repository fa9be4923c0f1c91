package main

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"math"
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
	private := s.job.private()
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
	if endpoints, _ := s.job.contacts(); endpoints > manyEndpoints {
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
	x := s.job.extent()
	done := s.doneOf(x.endpoints)
	again := ""
	if done > 0 {
		again = fmt.Sprintf(" (%s done)", plural(done, "is", "are"))
	}
	switch {
	case x.endpoints == 0 && s.job.plan.Len() == 0:
		s.u.say("Contacts nobody: no name leads to an address that may be contacted.")
	case x.endpoints == 0:
		s.u.say("Contacts nobody: nothing is left to probe.")
	default:
		s.u.say("Contacts %s%s%s; %s.", s.scope(x), again, s.fromText(), s.duration(x, x.endpoints-done))
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
		s.u.say("Notice: %s", notice)
	}
	s.announceNames()
	if s.u.verbose {
		s.announceMore()
	}
}

// doneOf returns how many of the endpoints that are contacted a resumed journal
// has settled.
func (s *sweep) doneOf(endpoints uint64) uint64 {
	if s.resumed == nil {
		return 0
	}
	done := uint64(s.resumed.Done.Len()) // those that are excluded by now count, too
	for ep := range s.job.endpoints() {
		if ep.Why == "" && s.done(ep) {
			done++
		}
	}
	return min(done, endpoints)
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
	for ep := range s.job.endpoints() {
		what := string(ep.Why)
		if ep.Why == "" {
			what = ep.Target.AddrPort().String()
		}
		s.u.say("%s: %s", strings.TrimSpace(ep.Target.Spec()+" "+ep.Target.Host()), what)
	}
}

// scope words how much is contacted: "16 addresses x 25,465,587 = 48 endpoints",
// or, where targets have ports of their own, "3 endpoints on 2 addresses".
func (s *sweep) scope(x extent) string {
	hosts, all := plural(x.addresses, "address", "addresses"), plural(x.endpoints, "endpoint", "endpoints")
	ports, same := s.job.plan.Ports()
	switch {
	case !x.exact:
		return "about " + all + " on " + hosts
	case !same || s.job.shard.N > 1 || x.endpoints != x.addresses*uint64(len(ports)):
		return all + " on " + hosts
	case len(ports) > 12:
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

// duration guesses how long it takes until todo endpoints of an extent are done:
// what answers, and what makes us wait.
func (s *sweep) duration(x extent, todo uint64) string {
	if todo == 0 {
		return "nothing to do"
	}
	secs := 0.0
	if r := s.f.rate.perSecond; r > 0 {
		secs = float64(todo) / r
	}
	secs = max(secs, float64(min(x.host, todo)-1)*s.f.hostInterval.d.Seconds())
	if r := s.f.subnetRate.perSecond; r > 0 {
		secs = max(secs, float64(min(x.subnet, todo))/r)
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
	if err == nil {
		err = s.listNames(ctx, w)
	}
	if err == nil {
		err = w.Flush()
	}
	if err != nil {
		return outputError("stdout", err)
	}
	return nil
}

// listNames lists what names lead to.
func (s *sweep) listNames(ctx context.Context, w io.Writer) (err error) {
	s.findShared()
	last := ""
	for ep := range s.job.endpoints() {
		line := ep.Target.AddrPort().String() + " " + ep.Target.Host()
		if ep.Why != "" {
			line = unprobedText(ep.Endpoint) // the same at each port
		}
		if ctx.Err() != nil || err != nil {
			return err
		}
		first := ep.Why != "" || s.isFirst(ep.name, ep.Target)
		if first && line != last && !s.done(ep) {
			_, err = fmt.Fprintln(w, oneLine(line))
		}
		last = line
	}
	return err
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
