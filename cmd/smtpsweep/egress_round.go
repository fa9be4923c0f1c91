package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/spf13/pflag"

	"github.com/smtpsweep/smtpsweep/report"
	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/scanner/connect"
	"github.com/smtpsweep/smtpsweep/scanner/egress"
	"github.com/smtpsweep/smtpsweep/scanner/journal"
	"github.com/smtpsweep/smtpsweep/scanner/smtp"
	"github.com/smtpsweep/smtpsweep/targets"
)

// Bounds of an audit's conversations: together with the SYNs and a trace they end
// within a minute.
const (
	egressGreeting = 12 * time.Second
	egressTalk     = 15 * time.Second
)

// round tests once from every vantage.
func (a *audit) round(ctx signals, round int) error {
	a.bad, a.open = false, false
	for _, v := range a.views {
		verdicts, err := a.look(ctx, v, round)
		if err != nil && ctx.scan.Err() == nil {
			return err
		}
		bad, undecided := egress.Exit(verdicts)
		a.bad, a.open = a.bad || bad, a.open || undecided
		if round > 1 && ctx.scan.Err() == nil {
			if err := a.sayChanges(v, verdicts); err != nil {
				return err
			}
		}
		v.last = verdicts
	}
	return nil
}

// look tests from one vantage, and writes what it saw into the journal.
func (a *audit) look(ctx signals, v *vantage, round int) ([]egress.Verdict, error) {
	way := newPathfinder(a, v)
	auditor := egress.Auditor{
		Trace: way.trace, Origin: way.origin,
		Engine: &connect.Engine{
			Timeout: a.f.timeout.d, GreetingTimeout: egressGreeting, Source: v.source, Interface: v.iface, Banner: true, Note: a.note,
		},
		Prober: &smtp.Prober{Helo: a.f.heloName(), Roots: a.roots, Deadline: egressTalk},
		Talk:   ctx.talk, Vantage: v.name, SeesOwn: runtime.GOOS == "linux", Note: a.note,
	}
	var far farRows
	if a.far != nil {
		auditor.Reflect = a.reflect(v, a.roundNumber(round), reverseAt(v.plan), &far)
	}
	seen, verdicts, err := auditor.Run(ctx.scan, v.plan)
	a.writeRows(v, seen, verdicts, &far)
	for _, t := range seen.Traces {
		for _, h := range t.Hops {
			h.Round = a.roundNumber(round)
			a.writer.Put("path", &h) // the same
		}
	}
	for i := range verdicts {
		verdicts[i].Round = a.roundNumber(round)
		a.writer.Put("verdict", &verdicts[i]) // the same
	}
	return verdicts, cmp.Or(err, a.writer.Err())
}

// writeRows writes a row for every connection, with where it was stopped if that is known.
func (a *audit) writeRows(v *vantage, seen *egress.Evidence, verdicts []egress.Verdict, far *farRows) {
	for i := range seen.Seen {
		s := &seen.Seen[i]
		if s.Kind == egress.Negative {
			s.Result.Target.From = controlOrigin
		}
		row := report.RowOf(&s.Result, v.name)
		if s.Kind != egress.Negative && s.Result.State != scanner.Open {
			row.Know("", stoppedAt(verdicts, s))
		}
		a.writer.Append(row.AppendJSON(nil)) // an error is sticky
	}
	for i := range far.results {
		row := report.RowOf(&far.results[i], v.name)
		row.Know(far.proven, "")
		a.writer.Append(row.AppendJSON(nil)) // the same
	}
}

// stoppedAt words where the verdict on a contact's port puts the stop, "" if nowhere.
func stoppedAt(verdicts []egress.Verdict, s *egress.Seen) string {
	for i := range verdicts {
		d := &verdicts[i]
		if d.Family != s.Family() || d.Port != s.Target.Port || d.Word != egress.Blocked || d.Where == nil {
			continue
		}
		switch w := d.Where; {
		case w.By == 0 && w.ByAddr != "":
			return w.ByAddr
		case w.By == 0:
			return fmt.Sprintf("behind hop %d", w.After)
		case w.After == w.By, w.After == 0:
			return fmt.Sprintf("hop %d", w.By)
		default:
			return fmt.Sprintf("hop %d-%d", w.After, w.By)
		}
	}
	return ""
}

// roundNumber is 0 where there is only one round.
func (a *audit) roundNumber(round int) int {
	if a.f.watch.d == 0 {
		return 0
	}
	return round
}

func (a *audit) note(code, text string) {
	a.writer.Note(code, text) // an error is sticky
	if a.u.verbose {
		a.u.say("Note: %s: %s", code, text)
	}
}

// sayChanges prints what is not as it was a round ago.
func (a *audit) sayChanges(v *vantage, now []egress.Verdict) error {
	for i := range now {
		n := &now[i]
		at := slices.IndexFunc(v.last, func(o egress.Verdict) bool { return o.Family == n.Family && o.Port == n.Port })
		if at < 0 || n.SameAs(&v.last[at]) {
			continue
		}
		line := report.Change(&v.last[at], n)
		if len(a.views) > 1 {
			line = v.name + "  " + line
		}
		if _, err := fmt.Fprintln(a.u.out, line); err != nil {
			return outputError("stdout", err)
		}
	}
	return nil
}

// runRecord says what was run.
func (a *audit) runRecord() (journal.Run, error) {
	facts := report.AuditFacts{Control: uint16(a.f.control.n), Ports: a.views[0].plan.Ports, HowTo: a.f.howTo}
	for _, op := range a.operators {
		facts.Operators = append(facts.Operators, op.Name)
	}
	if len(a.specs) == 0 {
		facts.ListDate = egress.ListDate
	}
	c := auditConfig{Targets: a.specs, Flags: map[string][]string{}, Audit: &facts}
	a.flags.VisitAll(func(f *pflag.Flag) {
		if values := flagValues(f); f.Name != "help" && len(values) > 0 {
			c.Flags[f.Name] = values
		}
	})
	if a.rules != nil {
		c.Audit = nil // its rows are what counts
	}
	config, err := json.Marshal(c)
	if err != nil {
		return journal.Run{}, fail(exitEnvironment, "%w", err)
	}
	host, _ := os.Hostname()
	run := journal.Run{
		Version: version(), Args: append([]string{"smtpsweep"}, os.Args[1:]...), Started: a.started.UTC(), Host: host,
		Vantage: a.views[0].name, Gateway: defaultGateway(), Config: config, ConfigHash: hashHex(config),
	}
	if u, err := user.Current(); err == nil {
		run.User = u.Username
	}
	if a.resolver != nil {
		run.Resolvers = a.resolver.Servers()
	}
	for _, v := range a.views {
		run.Endpoints += uint64(len(v.plan.Contacts))
		for _, c := range v.plan.Contacts {
			if addr := cmp.Or(v.source, sourceTo(c.Target.Addr)); run.Source == "" && addr.IsValid() {
				run.Source = addr.String()
			}
		}
	}
	return run, nil
}

// An auditConfig is the run record's "config" of an audit.
type auditConfig struct {
	Targets []string            `json:"targets,omitempty"`
	Flags   map[string][]string `json:"flags,omitempty"`
	Audit   *report.AuditFacts  `json:"audit,omitempty"` // nil in the journal of another command
}

// beginJournal begins the journal of a run: an output that is a .jsonl, else a file
// in the state directory.
func beginJournal(u *ui, o *outputs, run journal.Run) (*journal.Writer, string, error) {
	dir, dirErr := journal.StateDir()
	path := o.journal
	if path == "" {
		if dirErr != nil {
			code := exitEnvironment // there is no home
			if _, ok := errors.AsType[*os.PathError](dirErr); ok {
				code = exitOutput
			}
			return nil, "", withHint(fail(code, "%w", dirErr), "-o FILE.jsonl names one")
		}
		path = filepath.Join(dir, journal.NewName(time.Now(), os.Getpid()))
	}
	w, err := journal.Create(path, run)
	if errors.Is(err, journal.ErrExists) {
		return nil, "", journalError(path, err)
	} else if err != nil {
		return nil, "", fail(exitOutput, "%w", err)
	}
	if dirErr == nil {
		dirErr = journal.Link(dir, path, time.Now(), os.Getpid())
	}
	if dirErr != nil {
		u.say("smtpsweep report last will not find this run: %s", dirErr)
	} else {
		journal.Prune(dir, journal.Keep) // keeping too many is no reason not to run
	}
	return w, path, nil
}

// hasWay reports whether this machine has a route to an address. Nothing is sent.
func hasWay(addr netip.Addr) bool { return sourceTo(addr).IsValid() }

// sourceTo returns this machine's address on the way to another one, not valid if it
// has no way. Nothing is sent: UDP has no connections.
func sourceTo(addr netip.Addr) netip.Addr {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 9)))
	if err != nil {
		return netip.Addr{}
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
}

// destinations are whom an audit may contact.
type destinations struct {
	plan      *targets.Plan // of the names, for its rules
	operators []egress.Operator
	found     map[string]egress.Found
}

// destinations reads the DEST of the command line, or takes the built-in list.
func (a *audit) destinations() (*destinations, error) {
	if len(a.specs) == 0 {
		return a.destinationsOf(egress.BuiltIn())
	}
	var operators []egress.Operator
	for _, spec := range a.specs {
		host, ports, err := destination(spec)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(operators, func(op egress.Operator) bool { return op.Name == host }) {
			return nil, fail(exitUsage, "%s is given twice", clip(host))
		}
		operators = append(operators, egress.Named(host, host, ports))
	}
	return a.destinationsOf(operators)
}

// destinationsOf reads the hosts of operators and of the reflector by the rules for
// targets.
func (a *audit) destinationsOf(operators []egress.Operator) (*destinations, error) {
	cfg := targets.Config{Only4: a.f.only4, Only6: a.f.only6, Broadcast: broadcastAddresses(), Exclude: targets.NewExclusions()}
	cfg.Ports = []targets.Port{{Number: 25}}
	for _, list := range a.f.exclude {
		if err := addExclusions(cfg.Exclude, list); err != nil {
			return nil, err
		}
	}
	d := &destinations{operators: operators, found: map[string]egress.Found{}}
	hosts := egress.Hosts(operators)
	if a.far != nil && !slices.Contains(hosts, a.far.host) {
		hosts = append(hosts, a.far.host)
	}
	b := targets.NewBuilder(cfg)
	for _, host := range hosts {
		if err := b.Add(host); err != nil {
			return nil, specError(host, err)
		}
	}
	var err error
	if d.plan, err = b.Build(0); err != nil {
		return nil, planError(err)
	}
	for i := range d.plan.Len() {
		addr := d.plan.At(i).Addr
		d.found[addr.String()] = egress.Found{Addrs: []netip.Addr{addr}}
	}
	return d, nil
}
