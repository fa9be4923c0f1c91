package main

import (
	"cmp"
	"context"
	"crypto/x509"
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

// sweepHooks are what the demo sets beside the flags.
type sweepHooks struct {
	deadline  time.Duration // of a conversation; zero is the prober's default
	onResult  func(*scanner.Result)
	roots     *x509.CertPool // trusted without a --ca
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
	changed  bool               // the resumed journal has more exclusions now
	stale    []string           // outputs of the resumed run that were there, and stay as they are
	vantage  string
	roots    *x509.CertPool
	source   netip.Addr
	iface    string
	own      map[netip.Addr]bool // this machine's addresses but the loopback ones

	started time.Time
	tally   tally
	engine  *connect.Engine
	talking atomic.Int64          // conversations that are held now
	unlimit func()                // ends what limitMemory began
	gc      talkGC                // how often garbage is collected, by how many talk
	shared  map[hostPort][]uint32 // numbers of the names that lead to one endpoint, if several do

	noteMu sync.Mutex // guards following
	noted  map[string]bool
}

// runScan is `smtpsweep scan`: everything is checked before anything is sent
// or written, then the run is journalled, and the reports are a fold of the journal.
func runScan(u *ui, f *scanFlags, flags *pflag.FlagSet, specs []string, hooks sweepHooks) error {
	s := &sweep{u: u, f: f, flags: flags, hooks: hooks, specs: specs, noted: map[string]bool{}, unlimit: func() {}, started: time.Now()}
	ctx, stop := withSignals(context.Background())
	defer stop()
	done, err := await(ctx.scan, func() error { return s.prepare(ctx.scan) })
	if _, stopped := stoppedBy(ctx.scan); stopped {
		s.u.say("Stopped before anything was sent to a target.")
		if done {
			s.close()
		}
		return interruptedOr(ctx.scan, nil)
	}
	if err == nil && !f.dryRun {
		err = s.openJournal()
	}
	if err != nil {
		s.close()
		return err
	}
	if done, err = await(ctx.now, func() error { return s.perform(ctx) }); !done {
		return s.abandon(ctx)
	}
	s.close()
	return err
}

// perform is the part of a run that sends and reports.
func (s *sweep) perform(ctx signals) error {
	if s.f.dryRun {
		s.announce()
		return interruptedOr(ctx.scan, s.listTargets(ctx.scan))
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
	defer func() { s.unlimit() }()
	var err error
	if !finished {
		err = s.run(ctx)
	}
	return s.finish(ctx, err)
}

// close closes the journal, and removes one that is not kept.
func (s *sweep) close() {
	if s.writer != nil {
		s.writer.Close()
	}
	if s.deleted() {
		os.Remove(s.path)
	}
}

// prepare checks all input and looks names up. Nothing is sent to a target or
// written yet.
func (s *sweep) prepare(ctx context.Context) error {
	if err := applyDefaults(s.flags); err != nil {
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
	for _, a := range ownAddresses() {
		s.own[a] = true
	}
	if s.outputs, err = checkOutputs(s.u, s.f.outputFlags, s.f.resume == "", s.f.resume); err != nil {
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
	if s.f.resume != "" {
		if err := s.openResumed(cfg); err != nil {
			return err
		}
		s.job.plan = s.resumed.Plan
		s.vantage = s.resumed.Run.Vantage // a row is of one vantage, wherever it is gone on with
	} else {
		// Shards make one plan together, so they need one seed: 0 unless one is given.
		s.f.seed = chooseSeed(s.f.seed, s.flags.Changed("seed") || s.f.shard != "")
		if s.job.plan, s.job.files, err = s.f.buildPlan(s.u, cfg, s.specs); err != nil {
			return err
		}
	}
	s.job.order = s.job.plan.Order(s.job.shard)
	return s.lookUp(ctx, resolverAddrs)
}

// lookUp asks for the plan's names, if it has any.
func (s *sweep) lookUp(ctx context.Context, servers []netip.AddrPort) error {
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
	var known *journal.Names
	if s.resumed != nil {
		known = s.resumed.Names
	}
	s.job.takeNames(known)
	put := s.job.answers.Put
	if known != nil {
		put = known.Put // what could not be asked is asked again
	}
	if n := len(s.job.asked); n > 100 {
		s.u.say("Looking up %s.", plural(uint64(n), "name", "names"))
	}
	if err := s.job.resolve(ctx, r, put); err != nil {
		return err
	}
	s.job.invented = r.Invented()
	return nil
}

// run probes until everything is decided or somebody says stop.
func (s *sweep) run(ctx signals) error {
	s.journalAnswers()
	queue := pace.New(s.paceConfig(), s.targetSource())
	s.limitMemory()
	s.engine = &connect.Engine{
		Timeout: s.f.timeout.d, Retries: cmp.Or(s.f.retries.n, -1), // its zero is the default
		GreetingTimeout: s.f.greetingTimeout.d, Patience: s.f.patience.d,
		Source: s.source, Interface: s.iface,
		Banner: s.f.probe.text != "port",
		Permit: s.permit, Note: s.note,
	}
	ctx, release := s.watchOutputs(ctx)
	defer release()
	run := scanner.Scanner{Engine: s.engine, Talk: ctx.talk}
	if s.f.probe.text != "port" {
		run.Prober = s.prober()
	}
	defer s.startProgress()()
	defer s.sayStopping(ctx.scan)()
	return run.Run(ctx.scan, queue, s.result)
}

func (s *sweep) prober() scanner.Prober {
	p := &smtp.Prober{Helo: s.f.heloName(), Roots: s.roots, Deadline: s.hooks.deadline}
	if s.f.probe.text == "banner" {
		p.Mode = smtp.BannerOnly
	}
	return counted{p, &s.talking, &s.gc}
}

// header is what a streamed report says of the run.
func (s *sweep) header() report.Header {
	h := report.Header{
		Args: strings.Join(os.Args, " "), Version: version(), Engine: "connect", Started: s.started,
		Vantage: s.vantage, Endpoints: s.job.rows(),
	}
	h.Ports, _ = s.job.plan.Ports()
	if a := s.sourceAddress(); a.IsValid() {
		h.Source = a.String()
	}
	return h
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
