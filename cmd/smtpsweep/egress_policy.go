package main

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/smtpsweep/smtpsweep/report"
	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/scanner/connect"
	"github.com/smtpsweep/smtpsweep/scanner/egress"
	"github.com/smtpsweep/smtpsweep/scanner/egress/policy"
	"github.com/smtpsweep/smtpsweep/scanner/egress/reflect"
	"github.com/smtpsweep/smtpsweep/scanner/journal"
	"github.com/smtpsweep/smtpsweep/scanner/smtp"
)

// With --policy nobody is asked whether mail may leave, but whether each segment lets
// out exactly what the policy says: what the policy names is contacted, destinations
// of the command line and the reflector on the ports of rules for them, and nothing else.

// preparePolicy reads the policy, and finds out whom to contact.
func (a *audit) preparePolicy(ctx context.Context) (err error) {
	if a.f.watch.d > 0 {
		return fail(exitUsage, "--watch and --policy do not go together: a policy is judged once")
	}
	if a.rules, err = readPolicy(a.f.policy); err != nil {
		return err
	}
	if len(a.f.sources) == 0 {
		a.views = ownViews(a.views[0].name, a.f)
	}
	a.job, err = policyJob(a.u, a.f.policy)
	if err != nil {
		return err
	}
	formats := report.SheetFormats(func() *report.Sheet { return a.sheet }, a.job.formats...)
	if a.outputs, err = checkOutputsOf(a.u, a.f.outputFlags, formats, true, a.f.policy); err != nil {
		return err
	}
	return a.policyPlans(ctx)
}

// ownViews are the vantages of a machine that was not told from where to look: its
// address in each family.
func ownViews(name string, f *egressFlags) (out []*vantage) {
	for _, far := range []string{"192.0.2.1", "2001:db8::1"} { // nothing is sent there
		own := sourceTo(netip.MustParseAddr(far))
		if own.IsValid() && !(f.only4 && own.Is6() || f.only6 && own.Is4()) {
			out = append(out, &vantage{name: name, source: own})
		}
	}
	return out
}

// policyPlans makes the plan of each vantage.
func (a *audit) policyPlans(ctx context.Context) error {
	d, err := a.findNames(ctx, a.policyHosts)
	if err != nil {
		return err
	}
	for _, v := range a.views {
		v.plan = a.policyPlan(d, v)
	}
	return nil
}

// policyHosts are the hosts that the policy, the command line and the reflector name.
func (a *audit) policyHosts() (*destinations, error) {
	operators := []egress.Operator{}
	add := func(host string) {
		if !slices.ContainsFunc(operators, func(op egress.Operator) bool { return op.Name == host }) {
			operators = append(operators, egress.Named(host, host, nil))
		}
	}
	for _, v := range a.views {
		for _, e := range a.rules.Endpoints(v.name, v.source) {
			if e.Host != "" {
				add(e.Host)
			} else {
				add(e.Addr.String())
			}
		}
	}
	for _, spec := range a.specs {
		host, _, err := destination(spec)
		if err != nil {
			return nil, err
		}
		add(host)
	}
	if len(operators) == 0 && a.far == nil {
		return nil, withHint(fail(exitUsage, "the policy names no far end: its rules are for \"any\" or for networks"), "name destinations that answer on the ports of the rules, or --reflector HOST#FINGERPRINT")
	}
	return a.destinationsOf(operators)
}

// policyPlan is whom a vantage contacts.
func (a *audit) policyPlan(d *destinations, v *vantage) *egress.Plan {
	plan := &egress.Plan{Control: uint16(a.f.control.n), Operators: d.operators}
	add := func(host string, addr netip.Addr, port uint16, kind egress.Kind) {
		c := egress.NewContact(host, kind, addr, host, port)
		again := slices.ContainsFunc(plan.Contacts, func(o egress.Contact) bool { return o.Target.AddrPort() == c.Target.AddrPort() })
		if addr.Is4() == v.source.Is4() && !again {
			plan.Contacts = append(plan.Contacts, c)
			if kind == egress.Mail && !slices.Contains(plan.Ports, port) {
				plan.Ports = append(plan.Ports, port)
			}
		}
	}
	now := time.Now()
	governs := func(host string, addr netip.Addr, port uint16) *policy.Rule {
		return a.rules.Governs(v.name, v.source, host, addr, port, now)
	}
	for _, e := range a.rules.Endpoints(v.name, v.source) {
		host := e.Host
		if host == "" {
			host = e.Addr.String()
		}
		for _, addr := range d.found[host].Addrs {
			if governs(e.Host, addr, e.Port) != nil {
				add(host, addr, e.Port, egress.Mail)
			}
		}
	}
	for _, spec := range a.specs {
		host, _, _ := destination(spec) // it was read before
		for _, addr := range d.found[host].Addrs {
			for _, port := range a.rules.Ports(v.name, v.source) {
				if governs(host, addr, port) != nil {
					add(host, addr, port, egress.Mail)
				}
			}
		}
	}
	for _, c := range plan.Contacts { // that a far end is there, its control port shows
		if r := governs(c.Operator, c.Target.Addr, plan.Control); r == nil || r.Action != policy.Deny {
			add(c.Operator, c.Target.Addr, plan.Control, egress.Control)
		}
	}
	if a.far != nil {
		for _, addr := range d.found[a.far.host].Addrs {
			for _, port := range a.rules.Ports(v.name, v.source) {
				if addr.Is4() == v.source.Is4() && governs(a.far.host, addr, port) != nil {
					plan.Far = append(plan.Far, egress.FarEnd{Addr: addr, Port: port})
				}
			}
		}
	}
	return plan
}

// judgePolicy contacts, and judges by the policy.
func (a *audit) judgePolicy(ctx signals) error {
	for _, v := range a.views {
		if err := a.lookForPolicy(ctx, v); err != nil && ctx.scan.Err() == nil {
			return fail(exitEnvironment, "%w", err)
		}
	}
	reason := endDone
	if ctx.scan.Err() != nil {
		reason = "interrupted"
	}
	a.writer.Finish(journal.End{Reason: reason}) // an error is sticky
	if err := a.writer.Close(); err != nil {
		return fail(exitOutput, "%w", err)
	}
	if ctx.scan.Err() != nil {
		a.u.say("Stopped. What is known: smtpsweep report %s", shellWord(a.path))
		return interruptedOr(ctx.scan, nil)
	}
	if err := a.outputs.addJournal(a.path, false, a.job); err != nil {
		return err
	}
	a.sheet = a.job.sheet()
	if err := a.outputs.writeSheet(a.sheet); err != nil {
		return err
	}
	a.u.say("Journal: %s (again: smtpsweep report --policy %s %s)", a.path, shellWord(a.f.policy), shellWord(a.path))
	return a.job.verdict()
}

// lookForPolicy makes the connections of one vantage, and writes a row for each.
func (a *audit) lookForPolicy(ctx signals, v *vantage) error {
	auditor := egress.Auditor{
		Engine: &connect.Engine{
			Timeout: a.f.timeout.d, GreetingTimeout: egressGreeting, Source: v.source, Interface: v.iface, Banner: true, Note: a.note,
		},
		Prober: &smtp.Prober{Helo: a.f.heloName(), Roots: a.roots, Deadline: egressTalk},
		Talk:   ctx.talk, Vantage: v.name, Note: a.note,
		OnSeen: func(s *egress.Seen) { a.writer.Append(report.AppendResult(nil, &s.Result, v.name)) }, // an error is sticky
	}
	a.reflectForPolicy(ctx.scan, v)
	_, _, err := auditor.Run(ctx.scan, v.plan)
	return err
}

// reflectForPolicy holds a session with the reflector on each port, and writes rows
// that say, if one of them proved it, that it is the reflector.
func (a *audit) reflectForPolicy(ctx context.Context, v *vantage) {
	var far farRows
	for _, to := range v.plan.Far {
		o := reflect.Options{Source: v.source, ImplicitTLS: reflect.ImplicitTLS(to.Port), Helo: a.f.heloName(), NoFollowUp: true}
		found, err := reflect.Probe(ctx, netip.AddrPortFrom(to.Addr, to.Port), a.far.pin, o)
		if err != nil {
			a.note("reflector-failed", err.Error())
			continue
		}
		far.add(a, v, to, found)
	}
	a.writeRows(v, &egress.Evidence{}, nil, &far)
}

// reflectedResult is the row of a session with the reflector.
func (a *audit) reflectedResult(v *vantage, to egress.FarEnd, found *reflect.Report) (r scanner.Result) {
	c := egress.NewContact(a.far.host, egress.Mail, to.Addr, a.far.host, to.Port)
	r.Target, r.At, r.Source, r.Attempts = c.Target, found.At, v.source, 1
	switch {
	case found.Step != reflect.StepConnect:
		r.State, r.Reason = scanner.Open, scanner.SynAck
	case found.End == reflect.EndRefused:
		r.State, r.Reason = scanner.Closed, scanner.ConnRefused
	case found.End == reflect.EndUnreachable:
		r.State, r.Reason = scanner.Filtered, scanner.HostUnreach
	default:
		r.State, r.Reason = scanner.Filtered, scanner.NoResponse
	}
	return r
}
