// Package lab gives a test a network of its own: network namespaces, joined by
// veth pairs and without an uplink, in which a million hosts answer and not one
// packet can reach the network of the machine.
//
//	func TestMain(m *testing.M) { os.Exit(lab.Main(m)) }
//
//	func TestSweep(t *testing.T) {
//		lab.Run(t, lab.Config{Classes: true, Serve: true}, func(t *testing.T, l *lab.Lab) {
//			...dial 10.64.0.0/12, compare with l.Truth(addr, port)...
//		})
//	}
//
// [Run] starts the test binary again in fresh user, network, pid and mount
// namespaces, where only this test runs; no root is needed where the kernel
// allows user namespaces. What the network looks like:
//
//	sc (the test)                 rt (router)                   tg (targets)
//	10.20.9.7/24   sc0 --- rt0  10.20.9.1
//	fd20:9::7/64                fd20:9::1
//	                            10.20.10.1    rt1 --- tg0  10.20.10.2
//	                            fd20:10::1                 fd20:10::2
//	                                                       10.64.0.0/12, fd64::/64 and Config.AnyIP: every address answers
//	Config.Wire:   sc0 --- wr0 (a process, see Lab.Wire) wr1 --- rt0
//	10.30.0.7/24   ln0 --- sc1  ln (on-link): only Config.OnLink answer ARP and ND
//	fd30::7/64
//
// Everything the scanner sends that is not on-link goes to the router, which
// answers "net unreachable" for what it has no route to. [Lab.Wire] puts loss,
// delay, reordering and duplication between the two. [RunPath] makes a network with
// three routers in a row instead, and filters at each.
//
// It works on Linux only; elsewhere Run skips the test. Files that use a [Lab]
// carry the build tag linux.
package lab

import (
	"context"
	"fmt"
	"net/netip"
	"os"
)

// Environment of a lab.
const (
	requireEnv = "SMTPSWEEP_LAB"         // "require" or "long": a lab that cannot be built is a failure
	childEnv   = "SMTPSWEEP_LAB_CHILD"   // the test that runs inside its lab
	outsideEnv = "SMTPSWEEP_LAB_OUTSIDE" // the network namespace that the lab was started from
	binaryEnv  = "SMTPSWEEP_LAB_BINARY"  // what Config.Binary built
)

// Names of the namespaces.
const (
	Scanner = "sc" // the test itself
	Router  = "rt"
	Target  = "tg"
	OnLink  = "ln" // only with Config.OnLink
	Middle  = "wr" // only with Config.Wire: between Scanner and Router
)

// Addresses of the namespaces.
var (
	ScannerAddr4 = netip.MustParseAddr("10.20.9.7")
	ScannerAddr6 = netip.MustParseAddr("fd20:9::7")
	RouterAddr4  = netip.MustParseAddr("10.20.9.1") // towards the scanner
	RouterAddr6  = netip.MustParseAddr("fd20:9::1")
	TargetAddr4  = netip.MustParseAddr("10.20.10.2")
	TargetAddr6  = netip.MustParseAddr("fd20:10::2")
	OnLinkAddr4  = netip.MustParseAddr("10.30.0.7") // the scanner's own on the on-link segment
	OnLinkAddr6  = netip.MustParseAddr("fd30::7")

	Targets4 = netip.MustParsePrefix("10.64.0.0/12") // every address of it is the target
	Targets6 = netip.MustParsePrefix("fd64::/64")
	OnLink4  = netip.MustParsePrefix("10.30.0.0/24")
	OnLink6  = netip.MustParsePrefix("fd30::/64")

	routerInner4 = netip.MustParseAddr("10.20.10.1") // towards the targets
	routerInner6 = netip.MustParseAddr("fd20:10::1")
)

// Greetings of the built-in server (Config.Serve).
const (
	Greeting      = "220 accept.lab.example ESMTP"
	ProxyGreeting = "220 proxy.lab.example ESMTP" // on the port that class redirect leads to
)

// A Config says what network a test wants. The zero Config is the bare
// network: routed, without rules, nobody listening, ICMP limits off.
type Config struct {
	// Classes sets the rules that make the answer a function of the last three
	// bits of the address: see Class.
	Classes bool
	// RejectAt is where classes reset to port-unreachable are carried out:
	// Target (the default) or Router. It decides who sends the ICMP message.
	RejectAt string
	// Ports are the ports of the classes and of the built-in server. Default 25, 465, 587.
	Ports []uint16
	// Redirect is the port that class redirect leads to. Default 2599.
	Redirect uint16
	// Serve starts the built-in server in tg (and ln) on Ports and Redirect: it
	// sends Greeting or ProxyGreeting in plain text, knows EHLO, HELO, NOOP and
	// QUIT, and refuses the rest.
	Serve bool
	// ICMPLimits leaves the kernel's limits on ICMP errors as they are (about six
	// and then one a second to one peer, 1,000 a second in all).
	// Without it tg, rt and ln send one for every probe that deserves it; only of
	// IPv4 "net unreachable" the router sends five and then one a second, because
	// that limit is the whole machine's (net/ipv4/route/error_burst).
	ICMPLimits bool
	// AnyIP are further prefixes of which tg is every address, public ones if need be.
	AnyIP []netip.Prefix
	// OnLink are the addresses within 10.30.0.0/24 and fd30::/64 that answer ARP
	// and ND on a segment of their own. Nil: there is no such segment.
	OnLink []netip.Addr
	// Hosts are further namespaces behind the router, by name, for real mail
	// servers and the like: see Lab.HostAddrs. Truth says nothing of them.
	Hosts []string
	// Wire puts a process between the scanner and the router, through which every
	// frame passes: see Lab.Wire.
	Wire bool
	// Binary builds ./cmd/smtpsweep before the network is entered: see Binary.
	Binary bool
}

func (c Config) withDefaults() Config {
	if c.RejectAt == "" {
		c.RejectAt = Target
	}
	if len(c.Ports) == 0 {
		c.Ports = []uint16{25, 465, 587}
	}
	if c.Redirect == 0 {
		c.Redirect = 2599
	}
	return c
}

// valid says what is wrong with a configuration.
func (c Config) valid() error {
	if c.RejectAt != Target && c.RejectAt != Router {
		return fmt.Errorf("RejectAt is %q: want %q or %q", c.RejectAt, Target, Router)
	}
	for _, addr := range c.OnLink {
		if !OnLink4.Contains(addr) && !OnLink6.Contains(addr) || addr == OnLinkAddr4 || addr == OnLinkAddr6 {
			return fmt.Errorf("OnLink address %s: want others than %s of %s or %s", addr, OnLinkAddr4, OnLink4, OnLink6)
		}
	}
	if len(c.Hosts) > 80 {
		return fmt.Errorf("%d Hosts: at most 80 have addresses", len(c.Hosts))
	}
	return nil
}

// A Func is what a process of a test does in its namespace. It calls Ready when
// it serves, and returns when ctx ends, which is when the test is over with it.
type Func func(ctx context.Context, args []string) error

// funcs is the table of what Lab.Start can start; it is filled before main runs.
var funcs = map[string]Func{"lab.answer": answer}

// Register names a function that Lab.Start starts as a process of its own. Call
// it at package level, so that the process started again knows it too:
//
//	var _ = lab.Register("zoo", serveZoo)
func Register(name string, f Func) struct{} {
	if funcs[name] != nil {
		panic(fmt.Sprintf("lab: function %q registered twice", name))
	}
	funcs[name] = f
	return struct{}{}
}

// ready is the line that says that a started function serves.
const ready = "READY"

// Ready tells Lab.Start that the function started serves now.
func Ready() { fmt.Fprintln(os.Stdout, ready) }
