package main

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/pflag"

	"github.com/smtpsweep/smtpsweep/report"
	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/scanner/connect"
	"github.com/smtpsweep/smtpsweep/scanner/journal"
	"github.com/smtpsweep/smtpsweep/scanner/pace"
	"github.com/smtpsweep/smtpsweep/scanner/smtp"
	"github.com/smtpsweep/smtpsweep/targets"
)

// silentBlocks is the size of a plan above which silence is journalled by block.
const silentBlocks = 65536

// grace is how long running conversations may go on after the first Ctrl-C.
const grace = 5 * time.Second

// sweepHooks are what the demo sets beside the flags.
type sweepHooks struct {
	deadline  time.Duration // of a conversation; zero is the prober's default
	onResult  func(*scanner.Result)
	roots     *x509.CertPool // trusted beside --ca
	temporary bool           // the journal is not kept
}

// A sweep is one run of scan.
type sweep struct {
	u     *ui
	f     *scanFlags
	flags *pflag.FlagSet
	hooks sweepHooks
	specs []string

	job      *job
	outputs  *outputs
	writer   *journal.Writer
	path     string             // of the journal
	resumed  *journal.Recovered // nil for a new run
	recorded recordedConfig     // of the resumed journal
	already  uint64             // endpoints that the resumed journal has
	vantage  string
	roots    *x509.CertPool
	source   netip.Addr
	iface    string
	own      map[netip.Addr]bool // this machine's addresses but the loopback ones

	started time.Time
	tally   tally
	engine  *connect.Engine
	aliases map[aliasKey][]*targets.Origin // further specs that led to an endpoint: one conversation, a row each

	noteMu sync.Mutex // guards following
	noted  map[string]bool
}

// runScan is `smtpsweep scan`: everything is checked before anything is sent
// or written, then the run is journalled, and the reports are a fold of the journal.
func runScan(u *ui, f *scanFlags, flags *pflag.FlagSet, specs []string, hooks sweepHooks) error {
	s := &sweep{u: u, f: f, flags: flags, hooks: hooks, specs: specs, noted: map[string]bool{}, started: time.Now()}
	ctx, stop := withSignals(context.Background())
	defer stop()
	err, done := await(ctx.scan, func() error { return s.prepare(ctx.scan) })
	if _, stopped := stoppedBy(ctx.scan); stopped {
		s.u.say("Stopped before anything was sent to a target.")
		if done {
			s.close()
		}
		return interruptedOr(ctx.scan, nil)
	}
	if err != nil {
		s.close()
		return err
	}
	if err, done = await(ctx.now, func() error { return s.perform(ctx) }); !done {
		return s.abandon(ctx)
	}
	s.close()
	return err
}

// perform is the part of a run that sends and writes.
func (s *sweep) perform(ctx signals) error {
	if s.f.dryRun {
		s.announce()
		return interruptedOr(ctx.scan, s.listTargets(ctx.scan))
	}
	if err := s.openJournal(); err != nil {
		return err
	}
	finished := s.nothingLeft()
	if finished {
		s.u.say("Nothing to do: the run of %s is complete.", s.path)
	} else {
		s.announce()
	}
	if err := s.outputs.begin(s.writer, s.header(), s.f.resume); err != nil {
		return err
	}
	var err error
	if !finished {
		err = s.run(ctx)
	}
	return s.finish(ctx, err)
}

// prepare checks all input and looks names up. Nothing is sent to a target or
// written yet.
func (s *sweep) prepare(ctx context.Context) error {
	if err := applyDefaults(s.flags, s.f.config); err != nil {
		return err
	}
	if s.f.resume != "" {
		if err := s.recall(); err != nil {
			return err
		}
	}
	s.f.apply(s.u)
	if err := s.f.checkHelo(); err != nil {
		return err
	}
	var err error
	if s.source, s.iface, err = s.f.sourceAddr(); err != nil {
		return err
	}
	if s.roots, err = s.f.roots(); err != nil {
		return err
	}
	if s.roots == nil {
		s.roots = s.hooks.roots
	}
	s.vantage = s.f.vantageName()
	s.own = map[netip.Addr]bool{}
	for _, text := range ownAddresses() {
		s.own[netip.MustParseAddr(text)] = true
	}
	if s.outputs, err = checkOutputs(s.u, s.f.outputFlags, s.f.resume == ""); err != nil {
		return err
	}
	if err := s.outputs.spare(s.f.resume); err != nil {
		return err
	}
	if err := s.makeJob(ctx); err != nil {
		return err
	}
	s.setPace()
	return s.checkSize()
}

// makeJob builds the plan, or takes it from the journal, and asks the DNS.
func (s *sweep) makeJob(ctx context.Context) error {
	cfg, err := s.f.targetConfig()
	if err != nil {
		return err
	}
	resolverAddrs, err := s.f.resolverAddrs()
	if err != nil {
		return err
	}
	s.job = &job{}
	if s.job.shard, err = targets.ParseShard(s.f.shard); s.f.shard != "" && err != nil {
		return fail(exitUsage, "--shard: %w", err)
	}
	known := map[string]targets.Answer{}
	if s.f.resume != "" {
		if err := s.openResumed(cfg); err != nil {
			return err
		}
		s.job.plan, known = s.resumed.Plan, settled(s.resumed.Answers)
		s.vantage = s.resumed.Run.Vantage // a row is of one vantage, wherever it is gone on with
	} else {
		// Shards make one plan together, so they need one seed: 0 unless one is given.
		s.f.seed = chooseSeed(s.f.seed, s.flags.Changed("seed") || s.f.shard != "")
		if s.job.plan, s.job.files, err = s.f.buildPlan(s.u, cfg, s.specs); err != nil {
			return err
		}
	}
	s.job.order = s.job.plan.Order(s.job.shard)
	return s.lookUp(ctx, resolverAddrs, known)
}

// lookUp asks for the plan's names, if it has any.
func (s *sweep) lookUp(ctx context.Context, servers []netip.AddrPort, known map[string]targets.Answer) error {
	r, err := targets.NewResolver(servers)
	if err == nil {
		s.job.resolvers = r.Servers() // recorded even if there is nothing to ask them
	}
	if s.job.plan.NameCount() == 0 {
		return nil
	}
	if err != nil {
		return fail(exitEnvironment, "resolver: %w", err)
	}
	if n := s.job.plan.NameCount() - len(known); n > 100 {
		s.u.say("Looking up %s.", plural(uint64(n), "name", "names"))
	}
	return s.job.resolve(ctx, r, known)
}

// run probes until everything is decided or somebody says stop.
func (s *sweep) run(ctx signals) error {
	s.journalChanges()
	s.journalAnswers()
	s.aliases = map[aliasKey][]*targets.Origin{}
	source := s.targetSource()
	queue := pace.New(s.paceConfig(), source)
	s.engine = &connect.Engine{
		Timeout: s.f.timeout.d, Retries: cmp.Or(s.f.retries.n, -1), // its zero is the default
		GreetingTimeout: s.f.greetingTimeout.d, Patience: s.f.patience.d,
		Source: s.source, Interface: s.iface,
		Banner: s.f.probe.text != "port",
		Permit: s.permit, Note: s.note,
	}
	talk, hush := context.WithCancelCause(ctx.talk)
	defer hush(nil)
	run := scanner.Scanner{Engine: s.engine, Talk: talk}
	if s.f.probe.text != "port" {
		run.Prober = s.prober()
	}
	scanCtx, cancel := context.WithCancelCause(ctx.scan)
	defer cancel(nil)
	watching := make(chan struct{})
	defer close(watching)
	go func() { // ends with run
		select {
		case <-s.writer.Failed():
		case <-s.outputs.failed:
		case <-watching:
			return
		}
		cancel(errOutput)
		select {
		case <-time.After(grace):
			hush(errOutput)
		case <-watching:
		}
	}()
	stopProgress := s.startProgress()
	err := run.Run(scanCtx, queue, s.result)
	stopProgress()
	return err
}

// errOutput is the cause of a run that stopped because nobody takes its results.
var errOutput = errors.New("an output cannot be written")

func (s *sweep) prober() *smtp.Prober {
	p := &smtp.Prober{Helo: s.f.heloName(), Roots: s.roots, Deadline: s.hooks.deadline}
	if s.f.probe.text == "banner" {
		p.Mode = smtp.BannerOnly
	}
	return p
}

// header is what a streamed report says of the run.
func (s *sweep) header() report.Header {
	ports, _ := targets.ParsePorts(s.f.ports) // they were parsed before
	return report.Header{
		Args: strings.Join(os.Args, " "), Version: version(), Engine: "connect", Started: s.started,
		Ports: ports, Vantage: s.vantage, Source: s.sourceText(), Endpoints: s.job.rows(),
	}
}

// permit is asked before every connect: what was excluded after the plan was
// made is never dialled (DESIGN.md section 2, exclusions).
func (s *sweep) permit(t targets.Target) bool {
	if t.From == controlOrigin {
		return !s.excluded(t.Addr)
	}
	ok, _ := s.job.plan.PermitTarget(t)
	return ok
}

type aliasKey struct {
	host string
	ap   netip.AddrPort
}

// targetSource yields what is left to probe: names first, they are few, then
// the addresses in the plan's order.
func (s *sweep) targetSource() func() (targets.Target, bool) {
	named := s.controls()
	first := map[aliasKey]bool{}
	for _, ep := range s.job.endpoints {
		if s.done(ep.Target) {
			continue
		}
		if ep.Why != "" {
			s.result(unprobed(ep))
			continue
		}
		key := aliasKey{ep.Target.Host(), ep.Target.AddrPort()}
		if first[key] {
			s.aliases[key] = append(s.aliases[key], ep.Target.From)
			continue
		}
		first[key] = true
		named = append(named, ep.Target)
	}
	pos := uint64(0)
	return func() (targets.Target, bool) {
		if len(named) > 0 {
			t := named[0]
			named = named[1:]
			return t, true
		}
		for pos < s.job.order.Len() {
			at := pos
			pos++
			if s.resumed != nil && s.resumed.Done.Contains(at) {
				continue
			}
			t := s.job.plan.At(s.job.order.At(at))
			ok, why := s.job.plan.PermitTarget(t)
			if ok {
				return t, true
			}
			if s.undecided(at) { // excluded since: settled by that
				s.result(&scanner.Result{Observation: scanner.Observation{Target: t, Reason: scanner.Reason(why), At: time.Now()}})
			}
		}
		return targets.Target{}, false
	}
}

func unprobed(ep targets.Endpoint) *scanner.Result {
	r := &scanner.Result{Observation: scanner.Observation{
		Target: ep.Target, Reason: scanner.Reason(ep.Why), At: time.Now(), Err: ep.Err,
	}}
	r.Target.Index = targets.NoIndex
	return r
}

// undecided reports whether the resumed journal has a row of a position that
// another probe would settle.
func (s *sweep) undecided(pos uint64) bool {
	return s.resumed != nil && s.resumed.Undecided.Contains(pos)
}

// done reports whether the resumed journal has a row of a name's endpoint.
func (s *sweep) done(t targets.Target) bool {
	return s.resumed != nil && s.resumed.DoneNames.Contains(t.Spec(), t.Host(), t.Addr, t.Port)
}

// result takes one finished endpoint, from any goroutine.
func (s *sweep) result(r *scanner.Result) {
	if r.Target.From == controlOrigin {
		s.control(r)
		return
	}
	if s.hooks.onResult != nil {
		s.hooks.onResult(r)
	}
	s.record(r)
	if r.Target.Index == targets.NoIndex && len(s.aliases) > 0 {
		for _, from := range s.aliases[aliasKey{r.Target.Host(), r.Target.AddrPort()}] {
			again := *r
			again.Target.From = from
			s.record(&again)
		}
	}
}

var rowBuffers = sync.Pool{New: func() any { return new([]byte) }}

// record counts a row and writes it to the journal and to what streams.
func (s *sweep) record(r *scanner.Result) {
	s.tally.add(r)
	if r.State == scanner.Open && s.own[r.Target.Addr.WithZone("")] {
		s.note("inside-view", fmt.Sprintf("%s is an address of this machine: what is seen from inside is not what others see", r.Target.Addr))
	}
	if r.Reason == scanner.NoResponse && r.Target.Index != targets.NoIndex && s.job.plan.Len() > silentBlocks {
		if pos, ok := s.job.order.Pos(r.Target.Index); ok {
			s.writer.Silent(pos, r.Attempts, r.At)
			s.outputs.stream(r, s.vantage)
			return
		}
	}
	buf := rowBuffers.Get().(*[]byte)
	*buf = report.AppendResult((*buf)[:0], r, s.vantage)
	s.writer.Append(*buf) // an error is sticky: run watches Failed
	rowBuffers.Put(buf)
	s.outputs.stream(r, s.vantage)
}

// note records what may have biased the run, once a code and text.
func (s *sweep) note(code, text string) {
	s.noteMu.Lock()
	defer s.noteMu.Unlock()
	if s.noted[code+text] || len(s.noted) > 1000 {
		return
	}
	s.noted[code+text] = true
	if s.u.verbose {
		s.u.say("Note: %s: %s", code, oneLine(text))
	}
	if s.writer != nil {
		s.writer.Note(code, text)
	}
}

// A tally counts rows as they come. It is read while it grows.
type tally struct {
	state    [4]atomic.Uint64
	curable  atomic.Uint64
	public25 atomic.Uint64 // public endpoints on 25 that answered by TCP
	silent25 atomic.Uint64 // public endpoints on 25 that did not
	publicOk atomic.Uint64 // public endpoints on other ports that answered
}

func (t *tally) add(r *scanner.Result) {
	t.state[r.State].Add(1)
	if r.Reason.Curable() {
		t.curable.Add(1)
	}
	if !r.Target.Addr.IsValid() || !targets.IsPublic(r.Target.Addr) {
		return
	}
	answered := r.State == scanner.Open || r.State == scanner.Closed
	switch {
	case r.Target.Port == 25 && answered:
		t.public25.Add(1)
	case r.Target.Port == 25 && r.State == scanner.Filtered:
		t.silent25.Add(1)
	case answered:
		t.publicOk.Add(1)
	}
}

func (t *tally) total() uint64 {
	var n uint64
	for i := range t.state {
		n += t.state[i].Load()
	}
	return n
}

func (s *sweep) close() {
	if s.writer != nil {
		s.writer.Close()
	}
	if s.deleted() {
		os.Remove(s.path)
	}
}
