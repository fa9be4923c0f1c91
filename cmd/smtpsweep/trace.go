package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/smtpsweep/smtpsweep/report"
)

// traceFlags are the flags of trace.
type traceFlags struct {
	commonFlags
	ports         string
	control       count
	exclude       []string
	excludeFiles  []string
	allowPrivate  bool
	allowReserved bool
	maxHops       count
	flows         count
	noNames       bool
}

func (f *traceFlags) register(flags *pflag.FlagSet) {
	f.control = count{n: 443, min: 0, max: 65535}
	f.maxHops = count{n: 30, min: 1, max: 64}
	f.flows = count{n: 3, min: 1, max: 10}
	flags.SortFlags = false
	flags.StringVarP(&f.ports, "ports", "p", "25,465,587", "`PORTS` to trace, at most 15")
	flags.Var(&f.control, "control", "port that is traced beside them, to compare with; 0 = none")
	flags.StringArrayVar(&f.exclude, "exclude", nil, "never contact `SPEC` (addresses, blocks, ranges; commas)")
	flags.StringArrayVar(&f.excludeFiles, "exclude-file", nil, "never contact what `FILE` lists")
	flags.BoolVar(&f.allowPrivate, "allow-private", false, "contact private addresses that an MX leads to")
	flags.BoolVar(&f.allowReserved, "allow-reserved", false, "contact documentation, benchmark, CGNAT and other special addresses")
	flags.Var(&f.maxHops, "max-hops", "how far SYNs are sent at most")
	flags.Var(&f.flows, "flows", "SYNs to a port at a hop that is silent, each from another source port")
	flags.BoolVar(&f.noNames, "no-names", false, "do not ask for the names of hops (-n works too)")
	f.commonFlags.register(flags)
	flags.Lookup("output").Usage = "write `FILE` (again for more); the ending picks the format: " + strings.Join(pathEndings(), " ") + "; - is stdout"
	flags.Lookup("format").Usage = "`FORMAT` on stdout: " + strings.Join(pathFormatNames(), ", ") + " (default table)"
	for _, name := range []string{"ca", "helo", "yes", "show"} { // every command takes them; here they change nothing
		flags.Lookup(name).Hidden = true
	}
}

func newTrace(u *ui) *cobra.Command {
	f := &traceFlags{}
	cmd := &cobra.Command{
		Use:   "trace [flags] HOST",
		Short: "The path to a host port by port, and the hop where they part",
		Long: `Finds the routers on the way to a host, for several ports side by side, and the
hop behind which the connections to a port are lost, rejected or answered by
somebody else. A port that the host answers is what the others are compared with.
Needs no privilege, and Linux. Connects and closes; says nothing, sends no mail.

HOST is an address, a name or mx:DOMAIN (its first host). Of a name the first
address of each family is traced. Exit 3 if a port does not reach the host.`,
		Example: `  smtpsweep trace mail.example.org
  smtpsweep trace mail.example.org -p 25 --control 587 -4
  smtpsweep trace mx:example.org -o path.csv -o path.jsonl
  smtpsweep trace 192.0.2.7 -f md > ticket.md
  smtpsweep report last -f md`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runTrace(u, f, cmd.Flags(), args)
		},
	}
	f.register(cmd.Flags())
	completeOutput(cmd)
	completeWords(cmd, "format", pathFormatNames()...)
	return cmd
}

func pathEndings() (endings []string) {
	for _, f := range report.PathFormats() {
		endings = append(endings, f.Endings...)
	}
	return endings
}

func pathFormatNames() (names []string) {
	for _, f := range report.PathFormats() {
		names = append(names, f.Name)
	}
	return names
}

// runTrace is `smtpsweep trace`: everything is checked before anything is sent.
func runTrace(u *ui, f *traceFlags, flags *pflag.FlagSet, args []string) error {
	t := &trace{u: u, f: f, flags: flags, args: args, started: time.Now()}
	ctx, stop := withSignals(context.Background())
	defer stop()
	done, err := await(ctx.scan, func() error { return t.prepare(ctx.scan) })
	switch {
	case !done, err != nil:
		return interruptedOr(ctx.scan, err)
	case f.dryRun:
		t.announce()
		return interruptedOr(ctx.scan, t.list())
	}
	if err := t.openJournal(); err != nil {
		return err
	}
	t.announce()
	if done, err = await(ctx.now, func() error { return t.perform(ctx.scan) }); !done {
		t.outputs.temps.remove()
		return interruptedOr(ctx.now, nil)
	}
	return err
}

// announce says, in two lines, what will be contacted, from where, and how long it takes.
func (t *trace) announce() {
	var who, from []string
	for _, host := range t.hosts {
		name := host.Addr.String()
		if host.Host() != "" {
			name = host.Host() + " (" + name + ")"
		}
		who = append(who, name)
		if source := t.sourceTowards(host.Addr); source != "" {
			from = append(from, source)
		}
	}
	text := ""
	if len(from) > 0 {
		text = " from " + joinAnd(from)
	}
	t.u.say("Traces the way to %s, ports %s%s; %s.", strings.Join(who, " and "), t.portsText(), text, about(t.f.timeout.d.Seconds()+float64(t.f.flows.n)+1))
	list := " --dry-run lists them."
	if t.f.dryRun {
		list = " This is a dry run: nobody is contacted."
	}
	t.u.say("Connects and closes; says nothing, no mail. At most %s a port and hop, %s.%s",
		plural(uint64(t.f.flows.n), "SYN", "SYNs"), plural(uint64(t.f.maxHops.n), "hop", "hops"), list)
	for _, notice := range t.notices {
		t.u.say("Notice: %s", notice)
	}
}

// portsText lists the ports: "25,465,587, control 443".
func (t *trace) portsText() string {
	var words []string
	for _, p := range t.ports {
		if p != t.extra {
			words = append(words, fmt.Sprint(p))
		}
	}
	text := strings.Join(words, ",")
	if t.extra != 0 {
		text += fmt.Sprintf(", control %d", t.extra)
	}
	return text
}

// list is --dry-run: one endpoint a line on stdout.
func (t *trace) list() error {
	for _, host := range t.hosts {
		for _, p := range t.ports {
			host.Port = p
			if _, err := fmt.Fprintln(t.u.out, oneLine(strings.TrimSpace(host.AddrPort().String()+" "+host.Host()))); err != nil {
				return outputError("stdout", err)
			}
		}
	}
	return nil
}
