package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/spf13/pflag"

	"github.com/smtpsweep/smtpsweep/report"
	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/scanner/egress/path"
	"github.com/smtpsweep/smtpsweep/scanner/journal"
	"github.com/smtpsweep/smtpsweep/targets"
)

// namesTime is how long the names of hops are asked for, in all.
const namesTime = 5 * time.Second

// A trace is one run of trace.
type trace struct {
	u     *ui
	f     *traceFlags
	flags *pflag.FlagSet
	args  []string

	started  time.Time
	vantage  string
	source   netip.Addr
	iface    string
	outputs  *outputs
	resolver *targets.Resolver // nil if names of hops are not asked for
	hosts    []targets.Target  // one of each family; their ports do not matter
	ports    []uint16
	extra    uint16 // the port that is there only to compare with; 0 if there is none
	notices  []string
	writer   *journal.Writer
	path     string // of the journal
}

// prepare checks all input and looks the host up. Nothing is sent to it yet.
func (t *trace) prepare(ctx context.Context) error {
	if err := applyDefaults(t.flags); err != nil {
		return err
	}
	t.f.apply(t.u)
	if err := path.Supported(); err != nil {
		return fail(exitEnvironment, "%w", err)
	}
	if len(t.args) != 1 {
		return withHint(fail(exitUsage, "%d hosts are given, and a trace is of one", len(t.args)), "smtpsweep trace mail.example.org")
	}
	var err error
	if t.source, t.iface, err = t.f.sourceAddr(); err != nil {
		return err
	}
	t.vantage = t.f.vantageName()
	if t.outputs, err = checkPathOutputs(t.u, t.f.outputFlags, true); err != nil {
		return err
	}
	return t.findHosts(ctx)
}

// scanFlags are the flags that scan would have for the same host: what may be contacted is the same.
func (t *trace) scanFlags() *scanFlags {
	return &scanFlags{
		commonFlags: t.f.commonFlags, ports: t.f.ports, exclude: t.f.exclude, excludeFiles: t.f.excludeFiles,
		allowPrivate: t.f.allowPrivate, allowReserved: t.f.allowReserved,
	}
}

// findHosts finds the addresses and ports that are traced.
func (t *trace) findHosts(ctx context.Context) error {
	f := t.scanFlags()
	cfg, err := f.targetConfig()
	if err != nil {
		return err
	}
	servers, err := t.f.resolverAddrs()
	if err != nil {
		return err
	}
	j := &job{}
	if j.plan, _, err = f.buildPlan(t.u, cfg, t.args); err != nil {
		return err
	}
	j.shard, _ = targets.ParseShard("")
	r, err := targets.NewResolver(servers)
	switch {
	case err != nil && j.plan.NameCount() > 0:
		return fail(exitEnvironment, "resolver: %w", err)
	case err == nil && !t.f.noNames:
		t.resolver = r
	case err != nil && !t.f.noNames:
		t.notices = append(t.notices, "hops will have no names: "+err.Error())
	}
	if j.plan.NameCount() > 0 {
		j.takeNames(nil)
		if err := j.resolve(ctx, r, j.answers.Put); err != nil {
			return err
		}
	}
	return t.choose(j)
}

// choose takes the first address of each family.
func (t *trace) choose(j *job) error {
	var refused []targets.Endpoint
	found, more := map[bool]targets.Target{}, 0
	seen := map[netip.Addr]bool{}
	take := func(target targets.Target) {
		if !slices.Contains(t.ports, target.Port) {
			t.ports = append(t.ports, target.Port)
		}
		if seen[target.Addr] {
			return
		}
		seen[target.Addr] = true
		if _, has := found[target.Addr.Is6()]; has {
			more++
			return
		}
		found[target.Addr.Is6()] = target
		t.hosts = append(t.hosts, target)
	}
	if ports, _ := j.plan.Ports(); j.plan.Len() > uint64(max(len(ports), 1)) {
		return withHint(fail(exitUsage, "%s is more than one address, and a trace is of one host", clip(t.args[0])), "smtpsweep scan "+shellWord(t.args[0])+" finds which of them answer")
	}
	for i := range j.plan.Len() {
		if target := j.plan.At(i); j.permits(target) {
			take(target)
		}
	}
	for ep := range j.endpoints() {
		if ep.Why != "" {
			refused = append(refused, ep.Endpoint)
			continue
		}
		take(ep.Target)
	}
	t.notices = append(t.notices, slices.Concat(j.plan.Notices(), j.names.notices)...)
	if more > 0 {
		t.notices = append(t.notices, fmt.Sprintf("%s has %s more: the first of each family is traced", t.args[0], plural(uint64(more), "address", "addresses")))
	}
	if len(t.hosts) == 0 {
		return t.noHost(refused)
	}
	return t.choosePorts()
}

// permits reports whether an address of the plan may be contacted.
func (j *job) permits(target targets.Target) bool {
	ok, _ := j.plan.PermitTarget(target)
	return ok
}

// noHost says why there is nothing to trace.
func (t *trace) noHost(refused []targets.Endpoint) error {
	if len(refused) == 0 {
		return fail(exitUsage, "%s leads to no address that may be contacted", clip(t.args[0]))
	}
	first := refused[0]
	code, hint := exitUsage, ""
	switch first.Why {
	case targets.Reserved:
		code = exitRefused
		if first.Cure != "" {
			hint = first.Cure + " contacts it"
		}
	case targets.DNSError:
		code = exitUndecided
		hint = "--resolver ADDRESS asks another DNS server"
	}
	return withHint(fail(code, "%s", unprobedText(first)), hint)
}

// choosePorts adds the control port.
func (t *trace) choosePorts() error {
	slices.Sort(t.ports)
	if control := uint16(t.f.control.n); control != 0 && !slices.Contains(t.ports, control) {
		t.extra = control
		t.ports = append(t.ports, control)
	}
	if len(t.ports) > path.MostPorts {
		return fail(exitUsage, "-p: %d ports with the control port are more than the %d that a trace compares", len(t.ports), path.MostPorts)
	}
	return nil
}

// sourceOf returns the address that --source names, if it is of the host's family.
func (t *trace) sourceOf(host netip.Addr) netip.Addr {
	if t.source.Is6() != host.Is6() {
		return netip.Addr{}
	}
	return t.source
}

// sourceTowards says from where a host is looked at; "" if there is no route.
func (t *trace) sourceTowards(addr netip.Addr) string {
	switch {
	case t.sourceOf(addr).IsValid():
		return t.source.String()
	case t.iface != "":
		return t.iface
	}
	if a := routeSource(addr); a.IsValid() {
		return a.String()
	}
	return ""
}

// openJournal begins the journal.
func (t *trace) openJournal() error {
	s := &sweep{u: t.u, f: t.scanFlags(), outputs: t.outputs, flags: t.flags}
	var err error
	if t.path, err = s.journalPath(); err != nil {
		return err
	}
	run, err := t.runRecord()
	if err != nil {
		return err
	}
	if t.writer, err = journal.Create(t.path, run); errors.Is(err, journal.ErrExists) {
		return journalError(t.path, err)
	} else if err != nil {
		return fail(exitOutput, "%w", err)
	}
	s.path = t.path
	s.keepLast()
	return nil
}

// traceCommand is the "command" in the configuration of a trace's run record.
const traceCommand = "trace"

func (t *trace) runRecord() (run journal.Run, err error) {
	c := recordedConfig{Command: traceCommand, Targets: t.args, Flags: map[string][]string{}}
	t.flags.VisitAll(func(f *pflag.Flag) {
		if values := flagValues(f); f.Name != "help" && len(values) > 0 {
			c.Flags[f.Name] = values
		}
	})
	config, err := json.Marshal(c)
	if err != nil {
		return run, fail(exitEnvironment, "%w", err)
	}
	host, _ := os.Hostname()
	run = journal.Run{
		Version: version(), Args: append([]string{"smtpsweep"}, os.Args[1:]...), Started: t.started.UTC(), Host: host, User: userName(),
		Vantage: t.vantage, Gateway: defaultGateway(), Endpoints: uint64(len(t.hosts) * len(t.ports)),
		Config: config, ConfigHash: hashHex(config),
	}
	if t.resolver != nil {
		run.Resolvers = t.resolver.Servers()
	}
	if a := t.sourceTowards(t.hosts[0].Addr); t.iface == "" {
		run.Source = a
	}
	return run, nil
}

// perform traces, and writes the journal and the outputs.
func (t *trace) perform(ctx context.Context) error {
	if t.outputs.stdout.Name == "jsonl" {
		t.outputs.teeTo(t.writer)
	}
	traced, err := t.traceHosts(ctx)
	rows := t.record(traced)
	reason := endDone
	sig, interrupted := stoppedBy(ctx)
	switch {
	case interrupted:
		reason = "interrupted"
	case err != nil:
		reason = "error"
	}
	t.writer.Finish(journal.End{Reason: reason, Totals: portStates(traced)}) // an error is sticky
	if err := t.writer.Close(); err != nil {
		return fail(exitOutput, "%w", err)
	}
	t.outputs.flush()
	p := &report.PathReport{Header: report.Header{Version: version(), Started: t.started, Vantage: t.vantage}, Rows: rows}
	if failed := cmp.Or(t.outputs.streamErr(), t.outputs.writePaths(p)); failed != nil {
		return failed
	}
	t.u.say("Journal: %s (again, in any format: smtpsweep report last -f md)", t.path)
	switch {
	case interrupted:
		t.u.say("Stopped: what is known so far is saved.")
		return silentExit(sig.code())
	case err != nil:
		return fail(exitEnvironment, "%w", err)
	}
	return t.verdict(traced)
}

// A tracedHost is a host with what came of its trace.
type tracedHost struct {
	target targets.Target
	*path.Trace
	names map[netip.Addr]string
	at    time.Time
}

// traceHosts traces all hosts at the same time. The error is the first one.
func (t *trace) traceHosts(ctx context.Context) ([]tracedHost, error) {
	out, errs := make([]tracedHost, len(t.hosts)), make([]error, len(t.hosts))
	var wg sync.WaitGroup
	for i, host := range t.hosts {
		wg.Go(func() {
			tracer := &path.Tracer{ // one each: what routers answer to IPv4 and to IPv6 they limit apart
				Source: t.sourceOf(host.Addr), Interface: t.iface, MaxHops: t.f.maxHops.n, Flows: t.f.flows.n, Silence: t.f.timeout.d,
			}
			tr, err := tracer.Trace(ctx, path.Request{Addr: host.Addr, Ports: t.ports, Control: t.extra})
			if tr == nil {
				tr = &path.Trace{Addr: host.Addr}
			}
			out[i], errs[i] = tracedHost{target: host, Trace: tr, at: time.Now()}, err
			out[i].names = t.names(ctx, tr)
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return out, err
		}
	}
	return out, nil
}

// names asks for the names of those who answered.
func (t *trace) names(ctx context.Context, tr *path.Trace) map[netip.Addr]string {
	names := map[netip.Addr]string{}
	if t.resolver == nil {
		return names
	}
	var who []netip.Addr
	for _, h := range tr.Hops {
		for _, a := range h.Answers {
			if !slices.Contains(who, a.From) {
				who = append(who, a.From)
			}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, namesTime)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, addr := range who {
		wg.Go(func() {
			name, _ := t.resolver.Reverse(ctx, addr) // a hop without a name is a hop all the same
			mu.Lock()
			defer mu.Unlock()
			names[addr] = name
		})
	}
	wg.Wait()
	return names
}

// record writes the results and hops to the journal, and returns the hops as rows.
func (t *trace) record(traced []tracedHost) (rows []report.HopRow) {
	for _, h := range traced {
		for i, o := range h.Observed {
			o.Target = h.target
			o.Target.Port, o.Target.Role = t.ports[i], targets.RoleOf(t.ports[i])
			if o.At.IsZero() { // interrupted before
				o.Reason, o.At = scanner.Interrupted, h.at
			}
			t.writer.Append(report.AppendResult(nil, &scanner.Result{Observation: o}, t.vantage)) // an error is sticky
		}
		r := report.Traced{At: h.at, Vantage: t.vantage, Source: h.Source, Target: h.target, Paths: h.Paths, Hops: h.Hops, Names: h.names}
		for _, row := range r.Rows() {
			rows = append(rows, row)
			t.writer.Append(row.AppendJSON(nil)) // the same
		}
		if !h.Complete && len(h.Paths) > 0 {
			t.writer.Note("trace-cut", fmt.Sprintf("the trace of %s was ended before every hop was asked", h.Addr))
		}
	}
	return rows
}

// portStates counts ports by state.
func portStates(traced []tracedHost) map[string]uint64 {
	totals := map[string]uint64{}
	for _, h := range traced {
		for _, o := range h.Observed {
			totals[o.State.String()]++
		}
	}
	return totals
}

// verdict is the exit code of a trace: of the ports that were asked for, and not of the one that they are compared with.
func (t *trace) verdict(traced []tracedHost) error {
	blocked, open := false, false
	for _, h := range traced {
		for _, p := range h.Paths {
			switch {
			case p.Fate == scanner.Untraced:
				open = true
			case p.Fate != scanner.Reached && p.Port != t.extra:
				blocked = true
			}
		}
		open = open || !h.Complete
	}
	switch {
	case blocked:
		return silentExit(exitBad)
	case open:
		return silentExit(exitUndecided)
	}
	return nil
}
