package main

import (
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// scanFlags are the flags of scan. Their effective values go into the journal,
// so that --resume needs nothing but the journal.
type scanFlags struct {
	commonFlags
	ports           string
	inputs          []string
	exclude         []string
	excludeFiles    []string
	allowPrivate    bool
	allowReserved   bool
	engine          word
	probe           word
	rate            rate
	hostLimit       count
	hostInterval    seconds
	subnetRate      rate
	retries         count
	greetingTimeout seconds
	patience        seconds
	shard           string
	seed            uint64
	resume          string
	expect          word
}

func (f *scanFlags) register(flags *pflag.FlagSet) {
	f.engine = word{text: "auto", choices: []string{"auto", "connect"}}
	f.probe = word{text: "full", choices: []string{"port", "banner", "full"}}
	f.expect = word{choices: []string{"open", "closed", "filtered"}}
	f.hostLimit = count{n: 2, min: 1, max: 10000}
	f.retries = count{n: 3, min: 0, max: 10}
	f.rate = rate{200}
	f.subnetRate = rate{20}
	f.hostInterval = seconds{d: time.Second, max: time.Hour, zeroOff: true}
	f.greetingTimeout = seconds{d: 12 * time.Second, min: 100 * time.Millisecond, max: 10 * time.Minute}
	f.patience = seconds{d: 65 * time.Second, min: 100 * time.Millisecond, max: time.Hour, zeroOff: true}

	flags.SortFlags = false
	flags.StringVarP(&f.ports, "ports", "p", "25,465,587", "`PORTS` to probe: numbers, ranges, smtp smtps submission; 2525/smtp gives a role")
	flags.StringArrayVarP(&f.inputs, "input", "i", nil, "read targets from `FILE`, one or more a line; - is stdin")
	flags.StringArrayVar(&f.exclude, "exclude", nil, "never contact `SPEC` (addresses, blocks, ranges; commas)")
	flags.StringArrayVar(&f.excludeFiles, "exclude-file", nil, "never contact what `FILE` lists")
	flags.BoolVar(&f.allowPrivate, "allow-private", false, "contact private addresses that names of a file or MX lead to")
	flags.BoolVar(&f.allowReserved, "allow-reserved", false, "contact documentation, benchmark, CGNAT and other special addresses")
	flags.Var(&f.engine, "engine", "how ports are tried: auto or connect")
	flags.Var(&f.probe, "probe", "what is asked of an open port: port (nothing), banner, full")
	flags.Var(&f.rate, "rate", "probes per second in all, 0 = no limit (default 200; typed private addresses 5000)")
	flags.Var(&f.hostLimit, "host-limit", "connections at a time to one host (default 2; private 3)")
	flags.Var(&f.hostInterval, "host-interval", "between two new connections to one host (default 1s; private 0)")
	flags.Var(&f.subnetRate, "subnet-rate", "probes per second to one /24 or /48, 0 = no limit (default 20; private 0)")
	flags.Var(&f.retries, "retries", "SYNs sent again to a silent port, within --timeout")
	flags.Var(&f.greetingTimeout, "greeting-timeout", "how long to wait for a greeting before the connection is parked")
	flags.Var(&f.patience, "patience", "how long a connection that is open and mute is kept, 0 = not parked")
	flags.StringVar(&f.shard, "shard", "", "only part `I/N` of the plan, from 1")
	flags.Uint64Var(&f.seed, "seed", 0, "seed `N` of the order (default: by chance, said in the journal)")
	flags.StringVar(&f.resume, "resume", "", "go on with the run of this `JOURNAL`")
	flags.Var(&f.expect, "expect", "exit 3 unless every endpoint is open, closed or filtered")
	f.commonFlags.register(flags)
	for _, name := range []string{"rate", "host-limit", "host-interval", "subnet-rate"} {
		flags.Lookup(name).DefValue = "" // the help text names both defaults
	}
}

func newScan(u *ui) *cobra.Command {
	f := &scanFlags{}
	return newScanCommand(u, f, func(cmd *cobra.Command, args []string) error {
		return runScan(u, f, cmd.Flags(), args, sweepHooks{})
	})
}

func newScanCommand(u *ui, f *scanFlags, run func(*cobra.Command, []string) error) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "scan [flags] TARGET...",
		Short: "Which mail ports are open, closed, filtered, and who answers",
		Long: `Dials the mail ports of addresses, networks and names, holds one polite SMTP
conversation with each that is open (greeting, EHLO, STARTTLS or TLS,
certificate, EHLO, QUIT; no login, no mail), and says of every endpoint its
state and how that is known.

Targets: 192.0.2.7  192.0.2.0/24  192.0.2.1-192.0.2.40  192.0.2.1-40
  2001:db8::/120  mail.example.org  mx:example.org  any of them with :port
  ([2001:db8::1]:25 for IPv6). -i FILE reads them from a file.`,
		Example: `  smtpsweep scan 192.0.2.0/24 -o mail.csv -o mail.xml
  smtpsweep scan -p 25 -i hosts.txt --exclude-file never.txt
  smtpsweep scan mx:example.org
  smtpsweep scan 10.0.0.0/8 --probe port --rate 5000 --yes -f targets > open.txt
  smtpsweep scan --resume mail.jsonl`,
		Args: cobra.ArbitraryArgs,
		RunE: run,
	}
	f.register(cmd.Flags())
	completeOutput(cmd)
	completeWords(cmd, "engine", f.engine.choices...)
	completeWords(cmd, "probe", f.probe.choices...)
	completeWords(cmd, "expect", f.expect.choices...)
	// The only error is a flag that does not exist, which its own test would show.
	_ = cmd.RegisterFlagCompletionFunc("resume", lastOrFile)
	return cmd
}
