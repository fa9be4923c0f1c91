package main

import (
	"context"
	"crypto/x509"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/smtpsweep/smtpsweep/report"
	"github.com/smtpsweep/smtpsweep/scanner/egress"
	"github.com/smtpsweep/smtpsweep/scanner/egress/policy"
	"github.com/smtpsweep/smtpsweep/scanner/journal"
	"github.com/smtpsweep/smtpsweep/targets"
)

// egressFlags are the flags of egress.
type egressFlags struct {
	commonFlags
	sources   []string
	control   count
	watch     seconds
	howTo     bool
	reflector string
	idle      []string
	reverse   bool
	policy    string
	exclude   []string
}

func (f *egressFlags) register(flags *pflag.FlagSet) {
	f.control = count{n: egress.DefaultControl, min: 1, max: 65535}
	f.watch = seconds{min: time.Second, max: 24 * time.Hour, zeroOff: true}
	flags.SortFlags = false
	flags.Var(&f.control, "control", "`PORT` that must work, to tell a block from a dead host")
	flags.Var(&f.watch, "watch", "test again after this `TIME`, and print changes only")
	flags.BoolVar(&f.howTo, "how-to", false, "add what to write into Postfix, Exim and Exchange to send through a relay")
	flags.StringVar(&f.reflector, "reflector", "", "a far end of your own, `HOST#FINGERPRINT`: it proves what arrives (see smtpsweep reflect)")
	flags.StringArrayVar(&f.idle, "idle", nil, "does a session with the reflector outlive so much silence? `TIMES` such as 60s,300s")
	flags.BoolVar(&f.reverse, "reverse", false, "the reflector looks at our own 25, 465 and 587, at the address it sees")
	flags.StringVar(&f.policy, "policy", "", "does this network let out exactly what the policy in this YAML `FILE` says? (see smtpsweep report --help)")
	flags.StringArrayVar(&f.exclude, "exclude", nil, "never contact `SPEC` (addresses, blocks, ranges; commas)")
	flags.StringArrayVar(&f.sources, "source", nil, "look from this `ADDRESS` or interface (again for more: one vantage each)")
	f.commonFlags.registerRest(flags)
}

func newEgress(u *ui) *cobra.Command {
	f := &egressFlags{}
	cmd := &cobra.Command{
		Use:   "egress [flags] [DEST...]",
		Short: "Can mail leave this network? What stops it, and where?",
		Long: `Finds out whether mail can leave the network that this machine is in: on 25
(between mail servers), on 465, 587 and 2525 (through a relay). It calls several
mail operators that have nothing to do with one another, on each port once, beside
a control port, and addresses that nobody has and that must stay silent. It says
EHLO and QUIT, and sends no mail. What is stopped is followed along the path.

Without DEST it calls public operators of a built-in list. DEST is a host or
address of your own choice; two or more of different operators are needed for a
verdict. --reflector names a far end of your own (smtpsweep reflect), which proves
what arrives. With --policy each segment (--source) is held against a policy, and
nothing that is not in it is contacted.

Exit code 0: all that was tested is allowed; 3: something is blocked, intercepted or
downgraded, or the policy is violated; 5: not decided.`,
		Example: `  smtpsweep egress                                # may this network send mail?
  smtpsweep egress --dry-run                      # whom would it contact?
  smtpsweep egress -f md > ticket.md              # a ticket for the provider or firewall team
  smtpsweep egress --how-to                       # with settings for Postfix, Exim, Exchange
  smtpsweep egress --watch 5m                     # until it opens
  smtpsweep egress mail.example.org mx.example.net
  smtpsweep egress --reflector far.example.org#FINGERPRINT --idle 60s,300s
  smtpsweep egress --policy policy.yaml --source 10.1.2.3 --source 10.20.0.9 -f junit`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runEgress(u, f, cmd.Flags(), args, egressHooks{})
		},
	}
	f.register(cmd.Flags())
	completeWords(cmd, "format", append(report.AuditFormatNames(), "junit")...)
	cmd.Flags().Lookup("format").Usage = "`FORMAT` on stdout: " + strings.Join(report.AuditFormatNames(), ", ") + "; with --policy junit too (default table)"
	cmd.Flags().Lookup("output").Usage = "write `FILE` (again for more); the ending picks the format: .txt .csv .jsonl .json .md; with --policy .junit too"
	for _, name := range []string{"show", "yes"} { // there is nothing to choose or to be sure of
		cmd.Flags().Lookup(name).Hidden = true
	}
	return cmd
}

// egressHooks are what tests set beside the flags.
type egressHooks struct {
	rounds int // of --watch; 0 is for ever
}

// An audit is one run of egress.
type audit struct {
	u     *ui
	f     *egressFlags
	flags *pflag.FlagSet
	hooks egressHooks
	specs []string

	outputs   *outputs
	writer    *journal.Writer
	path      string
	roots     *x509.CertPool
	resolver  *targets.Resolver
	operators []egress.Operator
	far       *reflector     // nil if there is none
	rules     *policy.Policy // nil without --policy; the following are of it
	job       *sheetJob
	sheet     *report.Sheet
	views     []*vantage
	started   time.Time
	bad, open bool
}

// A vantage is one place to look from.
type vantage struct {
	name   string
	source netip.Addr
	iface  string
	plan   *egress.Plan
	last   []egress.Verdict
}

// runEgress is `smtpsweep egress`.
func runEgress(u *ui, f *egressFlags, flags *pflag.FlagSet, specs []string, hooks egressHooks) error {
	a := &audit{u: u, f: f, flags: flags, hooks: hooks, specs: specs, started: time.Now()}
	ctx, stop := withSignals(context.Background())
	defer stop()
	done, err := await(ctx.scan, func() error { return a.prepare(ctx.scan) })
	if _, stopped := stoppedBy(ctx.scan); stopped {
		a.u.say("Stopped before anything was sent.")
		return interruptedOr(ctx.scan, nil)
	}
	if err != nil || !done {
		return err
	}
	a.announce()
	if f.dryRun {
		return a.list()
	}
	if err := a.openJournal(); err != nil {
		return err
	}
	perform := a.perform
	if a.rules != nil {
		perform = a.judgePolicy
	}
	done, err = await(ctx.now, func() error { return perform(ctx) })
	if !done {
		a.outputs.temps.remove()
		a.writer.Finish(journal.End{Reason: "interrupted"}) // an error is sticky
		a.u.say("Stopped at once. What is known: smtpsweep report %s", shellWord(a.path))
		return interruptedOr(ctx.now, nil)
	}
	return err
}

// prepare checks all input and looks names up. Nothing is sent but to DNS servers.
func (a *audit) prepare(ctx context.Context) error {
	f := a.f
	if err := applyDefaults(a.flags); err != nil {
		return err
	}
	f.apply(a.u)
	if err := f.checkHelo(); err != nil {
		return err
	}
	if f.only4 && f.only6 {
		return fail(exitUsage, "-4 and -6 together leave no address: give one of them or none")
	}
	if slices.Contains(egress.MailPorts(), uint16(f.control.n)) {
		return withHint(fail(exitUsage, "--control %d is one of the mail ports", f.control.n), "the control is a port that works although mail may not, such as 443")
	}
	var err error
	if a.roots, err = f.roots(); err != nil {
		return err
	}
	if a.far, err = f.reflectorEnd(); err != nil {
		return err
	}
	if a.views, err = f.vantages(); err != nil {
		return err
	}
	if f.policy != "" {
		return a.preparePolicy(ctx)
	}
	if a.outputs, err = checkOutputs(a.u, f.outputFlags, true); err != nil {
		return err
	}
	if err := a.checkFormats(); err != nil {
		return err
	}
	return a.plan(ctx)
}

// vantages reads --source: each is a place of its own to look from.
func (f *egressFlags) vantages() (out []*vantage, err error) {
	if len(f.sources) == 0 {
		return []*vantage{{name: f.vantageName()}}, nil
	}
	for _, text := range f.sources {
		one := commonFlags{source: text}
		v := &vantage{name: f.vantageName()}
		if v.source, v.iface, err = one.sourceAddr(); err != nil {
			return nil, err
		}
		if len(f.sources) > 1 {
			v.name += "@" + text
		}
		if slices.ContainsFunc(out, func(o *vantage) bool { return o.name == v.name }) {
			return nil, fail(exitUsage, "--source %s is given twice", clip(text))
		}
		out = append(out, v)
	}
	return out, nil
}

// checkFormats refuses what an audit cannot be written in.
func (a *audit) checkFormats() error {
	for _, out := range a.outputs.files {
		if err := report.HasAuditFormat(out.format.Name); err != nil {
			return fail(exitUsage, "-o %s: %w", clip(out.path), err)
		}
	}
	if err := report.HasAuditFormat(a.outputs.stdout.Name); err != nil {
		return fail(exitUsage, "-f: %w", err)
	}
	return nil
}

// findNames finds out whom to contact, by one way or another, and looks the names up.
func (a *audit) findNames(ctx context.Context, find func() (*destinations, error)) (d *destinations, err error) {
	servers, err := a.f.resolverAddrs()
	if err != nil {
		return d, err
	}
	if d, err = find(); err != nil {
		return d, err
	}
	if a.resolver, err = targets.NewResolver(servers); err != nil && d.plan.NameCount() > 0 {
		return d, fail(exitEnvironment, "resolver: %w", err)
	}
	a.operators = d.operators
	d.lookUp(ctx, a.resolver)
	return d, nil
}

// plan finds out whom to contact.
func (a *audit) plan(ctx context.Context) error {
	d, err := a.findNames(ctx, a.destinations)
	if err != nil {
		return err
	}
	for _, v := range a.views {
		v.plan = egress.NewPlan(a.request(d, v))
	}
	if !slices.ContainsFunc(a.views, func(v *vantage) bool { return len(v.plan.Contacts) > 0 }) {
		for _, m := range a.views[0].plan.Missing {
			a.u.say("Notice: %s: %s", m.Host, m.Err)
		}
	}
	return nil
}

// request is what a vantage is to find out.
func (a *audit) request(d *destinations, v *vantage) egress.Request {
	r := egress.Request{
		Operators: d.operators, Control: uint16(a.f.control.n), Hosts: d.found, Absent: map[egress.Family]egress.Cause{},
		Excluded: func(addr netip.Addr) bool { _, why := d.plan.Permit(addr, true); return why == targets.Excluded },
	}
	if a.far != nil {
		r.Reflector = a.far.host
	}
	for _, family := range []egress.Family{egress.IPv4, egress.IPv6} {
		six := family == egress.IPv6
		if a.f.only4 && six || a.f.only6 && !six || v.source.IsValid() && v.source.Is6() != six {
			continue
		}
		r.Families = append(r.Families, family)
		if sample := d.sample(family); sample.IsValid() && !v.source.IsValid() && !hasWay(sample) {
			r.Absent[family] = map[egress.Family]egress.Cause{egress.IPv4: egress.CauseNoIPv4, egress.IPv6: egress.CauseNoIPv6}[family]
		}
	}
	return r
}

// openJournal begins the journal of the run.
func (a *audit) openJournal() (err error) {
	run, err := a.runRecord()
	if err != nil {
		return err
	}
	a.writer, a.path, err = beginJournal(a.u, a.outputs, run)
	return err
}

// perform tests and reports, once or as long as --watch says.
func (a *audit) perform(ctx signals) error {
	var err error
	for round := 1; ; round++ {
		if err = a.round(ctx, round); err != nil || ctx.scan.Err() != nil || a.f.watch.d == 0 || round == a.hooks.rounds {
			break
		}
		if round == 1 {
			if err = a.show(); err != nil {
				break
			}
		}
		select {
		case <-time.After(a.f.watch.d):
		case <-ctx.scan.Done():
		case <-a.writer.Failed():
		}
		if ctx.scan.Err() != nil || a.writer.Err() != nil {
			break
		}
	}
	return a.finish(ctx, err)
}

// finish closes the journal and writes the outputs.
func (a *audit) finish(ctx signals, runErr error) error {
	_, interrupted := stoppedBy(ctx.scan)
	reason := endDone
	if interrupted {
		reason = "interrupted"
	} else if runErr != nil {
		reason = "error"
	}
	a.writer.Finish(journal.End{Reason: reason}) // an error is sticky
	if err := a.writer.Close(); err != nil {
		return fail(exitOutput, "%w", err)
	}
	a.outputs.silent = a.f.watch.d > 0 // stdout has had the screen and the changes
	r, err := a.outputs.render([]string{a.path}, false, true, 0)
	switch {
	case err != nil:
		return withHint(err, "the run is saved; smtpsweep report "+shellWord(a.path)+" writes it again")
	case interrupted && a.f.watch.d == 0:
		a.u.say("Stopped. What is known: smtpsweep report %s", shellWord(a.path))
	}
	for _, wrote := range r.wrote {
		a.u.say("Wrote %s.", wrote)
	}
	a.u.say("Journal: %s (again, in any format: smtpsweep report last -f md)", a.path)
	switch {
	case interrupted:
		return interruptedOr(ctx.scan, nil)
	case runErr != nil:
		return fail(exitEnvironment, "%w", runErr)
	case a.bad:
		return silentExit(exitBad)
	case a.open:
		return silentExit(exitUndecided)
	}
	return nil
}

// show writes the screen of what is known so far.
func (a *audit) show() error {
	if err := a.writer.Sync(); err != nil {
		return fail(exitOutput, "%w", err)
	}
	files := a.outputs.files
	a.outputs.files = nil
	defer func() { a.outputs.files = files }()
	_, err := a.outputs.render([]string{a.path}, false, true, 0)
	return err
}
