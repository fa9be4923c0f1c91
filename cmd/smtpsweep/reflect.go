package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/smtpsweep/smtpsweep/report"
	"github.com/smtpsweep/smtpsweep/scanner/egress/reflect"
	"github.com/smtpsweep/smtpsweep/targets"
)

// reflectMemory is what the far end tries to stay under; a machine for it is small.
const reflectMemory = 44 << 20

// randomPort is the word for a port that the kernel chooses.
const randomPort = "random"

// reflectFlags are the flags of reflect.
type reflectFlags struct {
	listen    []string
	ports     string
	tls       string
	tlsGiven  bool
	key       string
	name      string
	user      string
	sessions  count
	perMinute count
	noReverse bool
	dryRun    bool
	quiet     bool
	verbose   bool
	noColor   bool
}

func (f *reflectFlags) register(flags *pflag.FlagSet) {
	f.sessions = count{n: 1500, min: 10, max: 100000}
	f.perMinute = count{n: 120, min: 1, max: 1000000}
	flags.StringArrayVar(&f.listen, "listen", nil, "listen on this `ADDRESS` (again for more; default: all)")
	flags.StringVarP(&f.ports, "ports", "p", "25,465,587,2525,443", "listen on these `PORTS`; \"random\" is any that is free")
	flags.StringVar(&f.tls, "tls", "", "`PORTS` that begin with TLS (default: 465 and 443, which auditors take for such)")
	flags.StringVar(&f.key, "key", "", "`FILE` of the key, made at the first start (default: reflect.key in the user's configuration folder)")
	flags.StringVar(&f.name, "name", "", "`NAME` or address by which auditors reach this machine (default: its own full name)")
	flags.StringVar(&f.user, "user", "nobody", "if started as root, become this `USER` when the ports are open (Linux)")
	flags.Var(&f.sessions, "sessions", "sessions open at a time; then the oldest of those make room that are no auditor's")
	flags.Var(&f.perMinute, "source-rate", "sessions that one address (IPv6: one /64) may begin a minute")
	flags.BoolVar(&f.noReverse, "no-reverse", false, "never connect back to an auditor's own ports")
	flags.BoolVar(&f.dryRun, "dry-run", false, "say what would be listened on, and listen on nothing")
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "no line for each session")
	flags.BoolVarP(&f.verbose, "verbose", "v", false, "a line for each client too that is not let in")
	flags.BoolVar(&f.noColor, "no-color", false, "no colours (NO_COLOR works too)")
}

func newReflect(u *ui) *cobra.Command {
	f := &reflectFlags{}
	cmd := &cobra.Command{
		Use:   "reflect [flags]",
		Short: "The far end of an egress audit, run on a host outside",
		Long: `Runs on a host outside of the network that is audited, and answers "smtpsweep
egress --reflector". It speaks SMTP, takes no mail, and tells an auditor, signed
with its key, what arrived of what was sent: so a block, NAT, a proxy, a device
that removes STARTTLS or opens TLS is proven and not guessed.

It may stand open to the Internet: sessions, lines, time and memory are bounded,
each address may begin so many sessions a minute, and started as root it becomes
nobody when the ports are open. Nothing is kept on disk but the key. On request
of an auditor it connects to ports 25, 465 and 587 of the auditor's own address.

The line on stdout is what the auditor has to be given. It ends in order, with
exit code 0, at SIGTERM or Ctrl-C.`,
		Example: `  smtpsweep reflect --dry-run                     # what it would listen on
  sudo smtpsweep reflect --name far.example.org   # 25, 465, 587, 2525, 443; the name that auditors use
  smtpsweep reflect -p 2525,random --key far.key  # no privilege needed`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f.tlsGiven = cmd.Flags().Changed("tls")
			return runReflect(u, f)
		},
	}
	f.register(cmd.Flags())
	return cmd
}

// A reflectPort is a port to listen on.
type reflectPort struct {
	number uint16 // 0 is any
	tls    bool
}

func (p reflectPort) String() string {
	text := strconv.Itoa(int(p.number))
	if p.number == 0 {
		text = randomPort
	}
	if p.tls {
		text += " (TLS)"
	}
	return text
}

// plan returns the ports and addresses to listen on.
func (f *reflectFlags) plan() (ports []reflectPort, addrs []string, err error) {
	var numbers, random []string
	for word := range strings.SplitSeq(f.ports, ",") {
		if strings.TrimSpace(word) == randomPort {
			random = append(random, word)
		} else {
			numbers = append(numbers, word)
		}
	}
	var first []targets.Port
	if len(numbers) > 0 {
		if first, err = targets.ParsePorts(strings.Join(numbers, ",")); err != nil {
			return nil, nil, fail(exitUsage, "-p: %w", err)
		}
	}
	if len(first) > 64 {
		return nil, nil, fail(exitUsage, "-p: %d ports are more than an audit needs: at most 64", len(first))
	}
	var begin []targets.Port
	if f.tlsGiven && f.tls != "" {
		if begin, err = targets.ParsePorts(f.tls); err != nil {
			return nil, nil, fail(exitUsage, "--tls: %w", err)
		}
	}
	for _, p := range first {
		implicit := reflect.ImplicitTLS(p.Number) || p.Role == targets.SMTPS
		if f.tlsGiven {
			implicit = slices.ContainsFunc(begin, func(t targets.Port) bool { return t.Number == p.Number })
		}
		ports = append(ports, reflectPort{p.Number, implicit})
	}
	for _, t := range begin {
		if !slices.ContainsFunc(first, func(p targets.Port) bool { return p.Number == t.Number }) {
			return nil, nil, withHint(fail(exitUsage, "--tls: port %d is not among the ports", t.Number), fmt.Sprintf("-p %s,%d", f.ports, t.Number))
		}
	}
	for range random {
		ports = append(ports, reflectPort{})
	}
	for _, text := range f.listen {
		addr, err := netip.ParseAddr(strings.Trim(text, "[]"))
		if err != nil {
			return nil, nil, fail(exitUsage, "--listen %q: an address of this machine is wanted, such as 192.0.2.7", clip(text))
		}
		addrs = append(addrs, addr.String())
	}
	if len(addrs) == 0 {
		addrs = []string{""} // all, IPv4 and IPv6
	}
	return ports, addrs, nil
}

// keyFile is where the key lies.
func (f *reflectFlags) keyFile() (string, error) {
	if f.key != "" {
		return f.key, nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", withHint(fail(exitEnvironment, "no folder for the key: %w", err), "name a file: --key FILE")
	}
	return filepath.Join(dir, "smtpsweep", "reflect.key"), nil
}

// names returns the name to say in SMTP and the one that auditors are told;
// sure is false if that one is a guess.
func (f *reflectFlags) names() (said, public string, sure bool, err error) {
	for _, r := range f.name {
		if r <= ' ' || r > '~' || strings.ContainsRune("#/@[]", r) {
			return "", "", false, fail(exitUsage, "--name %q: a host name or an address is wanted", clip(f.name))
		}
	}
	if len(f.name) > 255 {
		return "", "", false, fail(exitUsage, "--name: a name has at most 255 characters")
	}
	own := (&commonFlags{helo: f.name}).heloName()
	if own == "" {
		host, _ := os.Hostname()
		return "reflect.invalid", host, false, nil
	}
	if addr, err := netip.ParseAddr(own); err == nil {
		return addressLiteral(addr), own, true, nil
	}
	return own, own, f.name != "", nil
}

// addressLiteral is an address where SMTP has a name (RFC 5321, 4.1.3).
func addressLiteral(a netip.Addr) string {
	if a.Is6() {
		return "[IPv6:" + a.WithZone("").String() + "]"
	}
	return "[" + a.String() + "]"
}

func runReflect(u *ui, f *reflectFlags) error {
	u.quiet, u.verbose, u.noColor = f.quiet, f.verbose, f.noColor
	ports, addrs, err := f.plan()
	if err != nil {
		return err
	}
	said, public, sure, err := f.names()
	if err != nil {
		return err
	}
	path, err := f.keyFile()
	if err != nil {
		return err
	}
	if f.dryRun {
		return dryReflect(u, f, ports, addrs, path)
	}
	debug.SetGCPercent(30) // thousands of strangers are to leave it small
	debug.SetMemoryLimit(reflectMemory)
	sig, stop := withSignals(context.Background())
	defer stop()
	listeners, err := listenAll(sig.scan, ports, addrs)
	if err != nil {
		return err
	}
	defer func() {
		for _, ln := range listeners {
			ln.Close()
		}
	}()
	key, made, err := reflect.LoadKey(path)
	if err != nil {
		return fail(exitEnvironment, "the key of the far end: %w", err)
	}
	dropped, err := dropPrivileges(f.user)
	if err != nil {
		return withHint(fail(exitEnvironment, "%w", err), "--user NAME names another user")
	}
	log := &reflectLog{u: u}
	srv := &reflect.Server{Key: key, Name: said, Sessions: f.sessions.n, PerMinute: f.perMinute.n, NoReverse: f.noReverse, Log: log.visit}
	if made {
		u.say("Made a key: %s. Keep it: auditors know this far end by it.", path)
	}
	announceReflect(u, listeners, dropped)
	pin := reflect.PinOf(key).String()
	if _, err := fmt.Fprintf(u.out, "smtpsweep egress --reflector %s\n", shellWord(report.Clean(public)+"#"+pin)); err != nil {
		return err
	}
	if !sure {
		u.say("The auditor needs a name or address of this machine there: is %q right? --name sets it.", public)
	}
	return serveReflect(u, sig, srv, listeners, log)
}

// serveReflect serves until a signal comes.
func serveReflect(u *ui, sig signals, srv *reflect.Server, listeners []reflect.Listener, log *reflectLog) error {
	done, err := await(sig.now, func() error { return srv.Serve(sig.scan, listeners...) })
	if err != nil {
		return fail(exitEnvironment, "listen: %w", err)
	}
	if !done {
		return interruptedOr(sig.now, nil)
	}
	u.say("Ended: %d sessions, %d of them auditors'; %d clients were not let in.", log.sessions.Load(), log.auditors.Load(), log.refused.Load())
	return nil
}

// dryReflect says what would be done.
func dryReflect(u *ui, f *reflectFlags, ports []reflectPort, addrs []string, path string) error {
	for _, addr := range addrs {
		for _, p := range ports {
			if _, err := fmt.Fprintf(u.out, "%s\n", listenWords(addr, p)); err != nil {
				return err
			}
		}
	}
	_, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		u.say("The key would be made: %s", path)
	default:
		u.say("The key is there: %s", path)
	}
	if os.Geteuid() == 0 {
		u.say("Started as root, it would become %s.", f.user)
	}
	return nil
}

func listenWords(addr string, p reflectPort) string {
	if addr == "" {
		addr = "all addresses"
	}
	return addr + " port " + p.String()
}

// listenAll opens the ports, all or none.
func listenAll(ctx context.Context, ports []reflectPort, addrs []string) (all []reflect.Listener, err error) {
	defer func() {
		if err != nil {
			for _, ln := range all {
				ln.Close()
			}
			all = nil
		}
	}()
	for _, addr := range addrs {
		for _, p := range ports {
			ln, err := reflect.Listen(ctx, net.JoinHostPort(addr, strconv.Itoa(int(p.number))), p.tls)
			if err != nil {
				return all, listenError(err, addr, p)
			}
			all = append(all, ln)
		}
	}
	return all, nil
}

// listenError says why a port cannot be listened on.
func listenError(err error, addr string, p reflectPort) error {
	what := listenWords(addr, p)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return withHint(fail(exitEnvironment, "cannot listen on %s: another program does", what), "stop that program, or leave the port out: -p")
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return withHint(fail(exitEnvironment, "cannot listen on %s: ports below 1024 need root", what), "start it as root (it becomes nobody then), or choose others: -p 2525,"+randomPort)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fail(exitEnvironment, "cannot listen on %s: this machine does not have that address", what)
	}
	return fail(exitEnvironment, "cannot listen on %s: %w", what, err)
}

// announceReflect says what is listened on, and as whom.
func announceReflect(u *ui, listeners []reflect.Listener, dropped string) {
	var plain, tls []string
	for _, ln := range listeners {
		text := ln.Addr().String()
		if rest, all := strings.CutPrefix(text, "[::]:"); all {
			text = rest
		}
		if ln.TLS {
			tls = append(tls, text)
		} else {
			plain = append(plain, text)
		}
	}
	line := "Listens on " + strings.Join(plain, ", ")
	if len(tls) > 0 {
		line += " and, beginning with TLS, " + strings.Join(tls, ", ")
	}
	u.say("%s; takes no mail; %s.", strings.Replace(line, "on  and, beginning", "on, beginning", 1), dropped)
	u.say("Give the auditor this line; Ctrl-C or SIGTERM ends it.")
}

// A reflectLog writes a line for each session, and counts.
type reflectLog struct {
	u                           *ui
	sessions, auditors, refused atomic.Int64
}

func (l *reflectLog) visit(v reflect.Visit) {
	if v.Refused != "" {
		l.refused.Add(1)
		if l.u.verbose {
			l.u.say("%s %s to port %d: not let in: %s", v.At.UTC().Format(time.RFC3339), v.From, v.To.Port(), v.Refused)
		}
		return
	}
	l.sessions.Add(1)
	who := "no auditor"
	if v.Auditor {
		l.auditors.Add(1)
		who = "auditor"
	}
	if v.TLS != "" {
		who += ", " + v.TLS
	}
	if len(v.Hello) > 0 {
		who += ", " + strconv.Quote(report.CleanBytes(v.Hello))
	}
	l.u.say("%s %s to port %d: %s, %d commands in %.1f s; %s", v.At.UTC().Format(time.RFC3339), v.From, v.To.Port(), who, v.Commands, v.Lasted.Seconds(), v.End)
}
