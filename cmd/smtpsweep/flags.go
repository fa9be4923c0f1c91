package main

import (
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/smtpsweep/smtpsweep/report"
)

// commonFlags are the flags that every command which contacts somebody has.
type commonFlags struct {
	source    string
	vantage   string
	resolvers []string
	caFile    string
	helo      string
	timeout   seconds
	only4     bool
	only6     bool
	dryRun    bool
	yes       bool
	config    string
	outputFlags
}

// outputFlags are the flags of every command that writes a report.
type outputFlags struct {
	outputs []string
	format  string
	force   bool
	csvBOM  bool
	show    string
	quiet   bool
	verbose bool
	noColor bool
}

func (f *outputFlags) register(flags *pflag.FlagSet) {
	flags.StringArrayVarP(&f.outputs, "output", "o", nil, "write `FILE` (again for more); the ending picks the format: "+strings.Join(endings(), " ")+"; - is stdout")
	flags.StringVarP(&f.format, "format", "f", "", "`FORMAT` on stdout: "+strings.Join(formatNames(), ", ")+" (default table)")
	flags.BoolVar(&f.force, "force", false, "overwrite an output that exists")
	flags.BoolVar(&f.csvBOM, "csv-bom", false, "begin CSV with a byte order mark, for old Excel")
	flags.StringVar(&f.show, "show", "auto", "rows of the table: auto, all, or `STATES` such as open,closed")
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "no words beside the report and errors")
	flags.BoolVarP(&f.verbose, "verbose", "v", false, "say more while running")
	flags.BoolVar(&f.noColor, "no-color", false, "no colours (NO_COLOR works too)")
}

func (f *outputFlags) apply(u *ui) { u.quiet, u.verbose, u.noColor = f.quiet, f.verbose, f.noColor }

func (f *commonFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.source, "source", "", "look from this `ADDRESS` or interface")
	f.registerRest(flags)
}

// registerRest registers all but --source, which some commands take several times.
func (f *commonFlags) registerRest(flags *pflag.FlagSet) {
	f.timeout = seconds{d: 3900 * time.Millisecond, min: 50 * time.Millisecond, max: 5 * time.Minute}
	flags.StringVar(&f.vantage, "vantage", "", "`NAME` of this place in the rows (default: host name)")
	flags.StringArrayVar(&f.resolvers, "resolver", nil, "ask this DNS server (`ADDRESS`, ADDRESS:PORT) instead of the system's")
	flags.StringVar(&f.caFile, "ca", "", "trust the certificates in this PEM `FILE` too")
	flags.StringVar(&f.helo, "helo", "", "`NAME` to say in EHLO (default: this host's full name, else its address)")
	flags.Var(&f.timeout, "timeout", "how long a port may stay silent")
	flags.BoolVarP(&f.only4, "ipv4", "4", false, "IPv4 only")
	flags.BoolVarP(&f.only6, "ipv6", "6", false, "IPv6 only")
	flags.BoolVar(&f.dryRun, "dry-run", false, "say what would be contacted, list it, contact nobody (names are looked up)")
	flags.BoolVar(&f.yes, "yes", false, "yes to what is refused for its size or speed")
	flags.StringVar(&f.config, "config", "", "read flags from this YAML `FILE`")
	f.outputFlags.register(flags)
}

// completeWords lets the shell complete the words that a flag takes.
func completeWords(cmd *cobra.Command, flag string, words ...string) {
	// The only error is a flag that does not exist, which its own test would show.
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
}

// completeOutput does so for the flags of every command that writes a report.
func completeOutput(cmd *cobra.Command) {
	completeWords(cmd, "format", formatNames()...)
	completeWords(cmd, "show", "auto", "all", "open", "closed", "filtered", "unknown")
}

func formatNames() []string {
	var out []string
	for _, f := range report.Formats() {
		out = append(out, f.Name)
	}
	return out
}

func endings() []string {
	var out []string
	for _, f := range report.Formats() {
		out = append(out, f.Endings...)
	}
	return out
}

// vantageName returns the label of this place.
func (f *commonFlags) vantageName() string {
	if f.vantage != "" {
		return f.vantage
	}
	name, err := os.Hostname()
	if err != nil {
		return "here"
	}
	return name
}

// heloName returns the name to say in EHLO, or "" where only an address
// literal is honest (RFC 5321, 4.1.3 and 4.1.4): a host name without a dot is
// no name that a server could look up.
func (f *commonFlags) heloName() string {
	if f.helo != "" {
		return f.helo
	}
	name, err := os.Hostname()
	if err != nil || !strings.Contains(strings.Trim(name, "."), ".") || strings.HasSuffix(name, ".localdomain") {
		return ""
	}
	return strings.TrimSuffix(strings.ToLower(name), ".")
}

// checkHelo refuses a name that would break the protocol.
func (f *commonFlags) checkHelo() error {
	for _, r := range f.helo {
		if r <= ' ' || r > '~' {
			return fail(exitUsage, "--helo %q: a host name or an address literal such as [192.0.2.1] is wanted", clip(f.helo))
		}
	}
	if len(f.helo) > 255 {
		return fail(exitUsage, "--helo: a name has at most 255 characters")
	}
	return nil
}

// sourceAddr splits --source into an address or an interface.
func (f *commonFlags) sourceAddr() (netip.Addr, string, error) {
	if f.source == "" {
		return netip.Addr{}, "", nil
	}
	if addr, err := netip.ParseAddr(f.source); err == nil {
		if own := ownAddresses(); !addr.IsLoopback() && !slices.Contains(own, addr.WithZone("")) {
			return netip.Addr{}, "", withHint(fail(exitUsage, "--source %s: not an address of this machine", addr), fmt.Sprintf("its addresses are %v", own))
		}
		return addr, "", nil
	}
	if _, err := net.InterfaceByName(f.source); err != nil {
		return netip.Addr{}, "", fail(exitUsage, "--source %s: neither an address nor an interface of this machine", clip(f.source))
	}
	return netip.Addr{}, f.source, nil
}

// ownAddresses returns this machine's addresses but the loopback ones.
func ownAddresses() (out []netip.Addr) {
	for _, p := range networks(net.InterfaceAddrs()) {
		if !p.Addr().IsLoopback() {
			out = append(out, p.Addr())
		}
	}
	return out
}

// networks returns addresses of interfaces with their networks. What cannot be
// told is as if it were not there.
func networks(addrs []net.Addr, _ error) (out []netip.Prefix) {
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			out = append(out, p)
		}
	}
	return out
}

// resolverAddrs parses --resolver.
func (f *commonFlags) resolverAddrs() ([]netip.AddrPort, error) {
	var out []netip.AddrPort
	for _, text := range f.resolvers {
		if ap, err := netip.ParseAddrPort(text); err == nil {
			out = append(out, ap)
			continue
		}
		addr, err := netip.ParseAddr(strings.Trim(text, "[]"))
		if err != nil {
			return nil, fail(exitUsage, "--resolver %q: an address is wanted, such as 192.0.2.53 or [2001:db8::53]:53", clip(text))
		}
		out = append(out, netip.AddrPortFrom(addr, 53))
	}
	return out, nil
}

// roots reads --ca and adds it to the system's roots. Nil means the system's alone.
func (f *commonFlags) roots() (*x509.CertPool, error) {
	if f.caFile == "" {
		return nil, nil
	}
	text, err := os.ReadFile(f.caFile)
	if err != nil {
		return nil, fail(exitUsage, "--ca %s: %w", clip(f.caFile), plainPathError(err))
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(text) {
		return nil, fail(exitUsage, "--ca %s: no PEM certificate in it", clip(f.caFile))
	}
	return pool, nil
}
