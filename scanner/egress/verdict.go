package egress

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/targets"
)

// An Evidence is all that an audit saw.
type Evidence struct {
	Plan   *Plan
	Seen   []Seen
	Traces []Trace
	// Reflections are the sessions with the reflector, if there is one.
	Reflections []Reflection
	Origins     map[netip.AddrPort]Origin // who sent the resets, where that was asked
	At          time.Time
	Vantage     string
	// SeesOwn says that the engine tells what a firewall of this machine stops.
	SeesOwn bool
}

// Judge turns evidence into verdicts: of each mail port, and of the control port,
// in each family of the plan. It is a pure function.
func Judge(e *Evidence) []Verdict {
	var out []Verdict
	for _, family := range e.Plan.Families {
		for _, port := range append(slices.Clone(e.Plan.Ports), e.Plan.Control) {
			out = append(out, e.judge(family, port))
		}
	}
	return out
}

// judge decides about one port.
func (e *Evidence) judge(family Family, port uint16) Verdict {
	d := Verdict{Time: e.At, Vantage: e.Vantage, Family: family, Port: port, Control: port == e.Plan.Control, Word: Inconclusive}
	if cause := e.Plan.Absent[family]; cause != "" {
		d.Word, d.Cause = NotTested, cause
		return d
	}
	v := e.viewOf(family, port)
	d.Asked = len(v.all)
	if d.Asked == 0 && len(e.reflections(family, port)) == 0 {
		e.nobody(&d)
		return d
	}
	e.count(&d, v)
	tampered, remarks := e.interception(v)
	d.Findings, d.Evidence = tampered, append(d.Evidence, remarks...)
	far := e.reflect(&d)
	e.decide(&d, v, far)
	if d.Word == Blocked {
		e.describeBlock(&d, v)
	}
	e.doubt(&d)
	e.addWhere(&d)
	for _, s := range v.all {
		if o := e.Origins[s.Target.AddrPort()]; o.Evidence != "" {
			d.Evidence = append(d.Evidence, s.Operator+": "+o.Evidence)
		}
	}
	d.RuledOut = e.ruledOut(&d, v)
	return d
}

// nobody says why no destination was asked.
func (e *Evidence) nobody(d *Verdict) {
	d.Word, d.Cause = NotTested, CauseNoAddress
	for _, m := range e.Plan.Missing {
		if m.Family != d.Family || !slices.Contains(m.Ports, d.Port) {
			continue
		}
		if m.Why == targets.DNSError || m.Why == targets.DNSNXDomain {
			d.Word, d.Cause = Inconclusive, CauseDNS
			d.Evidence = append(d.Evidence, m.Host+": "+m.Err)
		}
	}
	if len(d.Evidence) > 3 {
		d.Evidence = append(d.Evidence[:2], fmt.Sprintf("and %d more names", len(d.Evidence)-2))
	}
}

// count fills in how many answered.
func (e *Evidence) count(d *Verdict, v *view) {
	d.Answered = len(v.by[passed])
	for o, list := range v.by {
		if !o.stopped() {
			continue
		}
		d.Stopped += len(list)
		for _, s := range list {
			if other := e.sameAddress(s, func(o *Seen) bool { out := outcomeOf(o); return out == passed || out == odd }); other != nil {
				d.Same++
				if d.SamePort == 0 || other.Target.Port == 587 {
					d.SamePort = other.Target.Port
				}
			}
		}
	}
	lowest := uint16(0)
	for _, s := range v.all {
		if d.Source == "" && s.Result.Source.IsValid() {
			d.Source = s.Result.Source.String()
		}
		if verified(s) {
			d.Verified++
		}
		if svc := s.Result.Service; svc != nil && svc.TLS != nil && svc.TLS.Version != 0 && (lowest == 0 || svc.TLS.Version < lowest) {
			lowest = svc.TLS.Version
		}
	}
	d.TLS = tlsName(lowest)
}

// tlsName writes crypto/tls's number of a version (RFC 8446, 4.2.1: 0x0304 is 1.3).
func tlsName(v uint16) string {
	if v < 0x0301 || v > 0x0304 {
		return ""
	}
	return fmt.Sprintf("1.%d", v-0x0301)
}

// decide sets the word, and the cause of one that says nothing.
// far is how many stopped destinations the reflector counts for.
func (e *Evidence) decide(d *Verdict, v *view, far int) {
	answered, oddly, stopped := len(v.by[passed]), len(v.by[odd]), d.Stopped+far
	if d.Reflected {
		answered += agreement // it proved that the port is open
	}
	switch {
	case slices.ContainsFunc(d.Findings, func(f Finding) bool { return !Harmless(f.Code) }):
		d.Word = wordOf(d.Findings)
	case answered > 0 && stopped == 0, answered > stopped:
		d.Word = Allowed
		e.remarkOnAllowed(d, v)
	case answered > 0:
		d.Cause = CausePartial
		d.Findings = append(d.Findings, Finding{EgressPartial, e.outcomes(v)})
	case oddly >= agreement && 2*oddly > len(v.all)-len(v.by[untold])-len(v.dead) && v.cut() == oddly && e.othersTalk(v):
		d.Word, d.How = Blocked, Cut
	case oddly > 0:
		d.Cause = CauseMute
		d.Evidence = append(d.Evidence, e.outcomes(v)...)
	case stopped >= agreement && (far > 0 || e.reachable(v)):
		d.Word = Blocked
	case stopped >= agreement:
		d.Cause = CauseNothing
	case stopped == 1:
		d.Cause = CauseOne
		d.Evidence = append(d.Evidence, e.outcomes(v)...)
	default:
		d.Cause = e.whyNothing(d, v)
	}
	if len(v.by[passed])+oddly == 1 && d.Asked == 1 && d.Word == Allowed && !d.Reflected {
		e.single(d, v)
	}
}

// wordOf says what findings mean together.
func wordOf(findings []Finding) Word {
	for _, f := range findings {
		if !slices.Contains(downgrades, f.Code) && !Harmless(f.Code) {
			return Intercepted
		}
	}
	return Downgraded
}

// single looks at the only destination that was asked: a sign of interference
// may be its own doing, but it is not to be called allowed.
func (e *Evidence) single(d *Verdict, v *view) {
	svc := v.all[0].Result.Service
	if svc == nil {
		return
	}
	for _, code := range []string{StartTLSMasked, StartTLSRefused, BannerMasked, CommandMasked, PlaintextAfter220} {
		if slices.Contains(svc.Findings, code) {
			d.Word, d.Cause = Inconclusive, CauseOne
			d.Findings = append(d.Findings, Finding{code, []string{v.all[0].Operator + " alone was asked: it may be its own doing"}})
		}
	}
}

// cut counts the connections that were ended before a word was said.
func (v *view) cut() (n int) {
	for _, s := range v.by[odd] {
		if svc := s.Result.Service; svc != nil && svc.Kind == scanner.KindClosing {
			n++
		}
	}
	return n
}

// othersTalk reports whether a conversation was held on another mail port.
func (e *Evidence) othersTalk(v *view) bool {
	return slices.ContainsFunc(e.Seen, func(s Seen) bool {
		return s.Kind == Mail && s.Family() == v.family && s.Target.Port != v.port && outcomeOf(&s) == passed
	})
}

// reachable reports whether the stopped are known to be there, or somebody said
// that they are stopped.
func (e *Evidence) reachable(v *view) bool {
	if len(v.by[rejected]) > 0 {
		return true
	}
	n := 0
	for o, list := range v.by {
		for _, s := range list {
			if o.stopped() && e.alive(s.Operator, v.family) {
				n++
			}
		}
	}
	return n >= agreement
}

// whyNothing says why a port on which nobody answered is not called blocked.
func (e *Evidence) whyNothing(d *Verdict, v *view) Cause {
	if local := v.by[untold]; len(local) > 0 && len(local) >= len(v.dead) {
		d.Evidence = append(d.Evidence, local[0].Result.Err)
		return localCause(&local[0].Result)
	}
	d.Evidence = append(d.Evidence, e.outcomes(v)...)
	anybody := slices.ContainsFunc(e.Seen, func(s Seen) bool {
		o := outcomeOf(&s)
		return s.Kind != Negative && s.Family() == v.family && (o == passed || o == odd)
	})
	lost := slices.ContainsFunc(v.dead, func(s *Seen) bool { return outcomeOf(s) == unreachable })
	switch {
	case lost && !anybody:
		return CauseRouting
	case !anybody:
		return CauseNothing
	}
	return CauseDestination
}

// remarkOnAllowed says what was odd about a port that is open.
func (e *Evidence) remarkOnAllowed(d *Verdict, v *view) {
	for _, o := range []outcome{silent, refused, rejected, unreachable, odd} {
		for _, s := range v.by[o] {
			d.Evidence = append(d.Evidence, s.Operator+": "+words(s)+"; the others answer, so it is its own affair")
		}
	}
	for _, s := range v.dead {
		d.Evidence = append(d.Evidence, s.Operator+": "+words(s)+", and it answers on no other port either: it seems to be down")
	}
	if v.control {
		return
	}
	if slow := e.throttled(v); len(slow) >= agreement {
		d.Findings = append(d.Findings, Finding{EgressThrottled, slow})
	}
	var refusing []string
	for _, s := range v.by[passed] {
		if svc := s.Result.Service; svc.Kind == scanner.KindRefusing {
			refusing = append(refusing, fmt.Sprintf("%s: %q", s.Operator, clipped(firstLine(svc), 100)))
		}
	}
	if len(refusing) > 0 {
		d.Findings = append(d.Findings, Finding{GreetingRefused, refusing})
	}
}

// throttled returns whose first SYNs were lost on this port, if nobody's were on others.
func (e *Evidence) throttled(v *view) (out []string) {
	for i := range e.Seen {
		s := &e.Seen[i]
		if s.Kind != Negative && s.Family() == v.family && s.Target.Port != v.port && s.Result.State == scanner.Open && s.Result.Attempts > 1 {
			return nil
		}
	}
	for _, s := range v.by[passed] {
		if s.Result.Attempts > 1 {
			out = append(out, fmt.Sprintf("%s: answered at attempt %d", s.Operator, s.Result.Attempts))
		}
	}
	return out
}

// outcomes says of each destination what came of it.
func (e *Evidence) outcomes(v *view) (out []string) {
	for _, s := range v.all {
		out = append(out, s.Operator+": "+words(s))
	}
	return out
}

// words says what came of a contact.
func words(s *Seen) string {
	r := &s.Result
	switch outcomeOf(s) {
	case passed:
		return "answers"
	case odd:
		kind := scanner.Kind("nothing was said")
		if r.Service != nil {
			kind = r.Service.Kind
		}
		return "a connection is made, and then: " + string(kind)
	case silent:
		return "no answer"
	case refused:
		return "refused (TCP reset)"
	case rejected, unreachable:
		return fmt.Sprintf("%s says %s", r.ICMP.From, r.Reason)
	}
	return r.Err
}

// doubt takes a block back if the port answered when its path was followed: then it
// is stopped now and then.
func (e *Evidence) doubt(d *Verdict) {
	t := e.traceOf(d)
	if d.Word != Blocked || d.How != Dropped || t == nil || !t.Answered {
		return
	}
	d.Word, d.How, d.Cause = Inconclusive, "", CausePartial
	d.Findings = []Finding{{EgressPartial, []string{t.Operator + ": silent at first, and answered later"}}}
}

// describeBlock fills in how a port is stopped.
func (e *Evidence) describeBlock(d *Verdict, v *view) {
	silents, resets, icmps := len(v.by[silent]), len(v.by[refused]), append(slices.Clone(v.by[rejected]), v.by[unreachable]...)
	code := EgressDropped
	switch {
	case d.How == Cut:
		code = EgressCut
	case len(icmps) > 0 && resets == 0: // routers do not send one for each packet: some may seem silent
		d.How, code = Rejected, EgressRejected
		d.ICMPFrom, d.ICMP = commonICMP(icmps)
	case resets > 0 && silents == 0 && len(icmps) == 0:
		d.How, code = Reset, EgressReset
	case silents > 0 && resets == 0:
		d.How = Dropped
	case d.Asked == 0: // the reflector alone was called
		d.How = Dropped
	default:
		d.How = Mixed
	}
	d.Findings = append(d.Findings, Finding{code, e.outcomes(v)})
}

// commonICMP returns who sent the most messages, and what it said.
func commonICMP(list []*Seen) (from, icmp string) {
	n := map[scanner.ICMP]int{}
	best := list[0].Result.ICMP
	for _, s := range list {
		m := s.Result.ICMP
		if n[m]++; n[m] > n[best] {
			best = m
		}
	}
	return best.From.String(), fmt.Sprintf("%d/%d", best.Type, best.Code)
}

// ruledOut lists what a verdict is not due to.
func (e *Evidence) ruledOut(d *Verdict, v *view) (out []RuledOut) {
	if !d.Bad() {
		return nil
	}
	add := func(cause Cause, format string, args ...any) {
		out = append(out, RuledOut{cause, fmt.Sprintf(format, args...)})
	}
	switch {
	case d.Where != nil && d.Where.After > 0:
		add(CauseFirewall, "%s saw what was sent", hopsText(d.Where.After))
	case d.Answered > 0 || len(v.by[odd]) > 0:
		add(CauseFirewall, "connections are made")
	case d.ICMPFrom != "":
		add(CauseFirewall, "%s saw what was sent", d.ICMPFrom)
	case e.SeesOwn:
		add(CauseFirewall, "the kernel sent every packet")
	}
	if !slices.ContainsFunc(e.Plan.Missing, func(m Missing) bool { return m.Family == d.Family && m.Why == targets.DNSError }) {
		add(CauseDNS, "the names of %d operators resolve", len(e.Plan.Operators))
	}
	if d.Same > 0 {
		add(CauseNoRoute, "the same addresses answer on port %d", d.SamePort)
	} else if e.anyPassed(d.Family) {
		add(CauseNoRoute, "the operators answer on other ports")
	}
	if d.Word == Blocked {
		if quiet := v.quiet(); quiet != "" {
			add(CauseInterceptor, "%s is silent", quiet)
		}
	}
	if d.Asked > 1 {
		add(CauseDestination, "%d were asked, of different operators", d.Asked)
	}
	add(CauseServer, "it is not involved")
	return out
}

// anyPassed reports whether anybody answered in a family.
func (e *Evidence) anyPassed(family Family) bool {
	return slices.ContainsFunc(e.Seen, func(s Seen) bool {
		return s.Kind != Negative && s.Family() == family && outcomeOf(&s) == passed
	})
}

// quiet returns an address that nobody has and that did not answer.
func (v *view) quiet() string {
	for _, s := range v.silent {
		if o := outcomeOf(s); o == silent || o == unreachable {
			return s.Target.Addr.String()
		}
	}
	return ""
}

// hopsText names the first n hops.
func hopsText(n int) string {
	switch n {
	case 1:
		return "hop 1"
	case 2:
		return "hops 1 and 2"
	}
	return fmt.Sprintf("hops 1 to %d", n)
}

// Exit says what verdicts mean together: whether any is bad, and whether any is
// undecided. The control port does not count, nor what was not tested.
func Exit(verdicts []Verdict) (bad, undecided bool) {
	decided := false
	for i := range verdicts {
		v := &verdicts[i]
		if v.Control {
			continue
		}
		bad = bad || v.Bad()
		undecided = undecided || v.Word == Inconclusive
		decided = decided || v.Word == Allowed || v.Bad()
	}
	return bad, undecided || !decided
}

// summary is a verdict in a few words, for comparing one round with the next.
func (v *Verdict) summary() string {
	text := fmt.Sprintf("%s %s %s", v.Word, v.How, v.Cause)
	for _, f := range v.Findings {
		text += " " + f.Code
	}
	if v.Where != nil && v.Word == Blocked {
		text += fmt.Sprintf(" after %s by %s", v.Where.AfterAddr, v.Where.ByAddr)
	}
	return strings.TrimSpace(text)
}

// Same reports whether two verdicts of one port say the same.
func (v *Verdict) SameAs(o *Verdict) bool { return v.summary() == o.summary() }
