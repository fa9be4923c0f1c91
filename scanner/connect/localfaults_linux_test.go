package connect

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/scanner/scannertest/lab"
	"github.com/smtpsweep/smtpsweep/targets"
)

// rejectOwn has this machine's own firewall stop what goes to a port of the lab's targets.
func rejectOwn(t *testing.T, l *lab.Lab, port uint16, how lab.Class) {
	t.Helper()
	l.RejectOut(t, lab.Scanner, lab.Targets4, port, how)
	if l.IPv6() {
		l.RejectOut(t, lab.Scanner, lab.Targets6, port, how)
	}
}

// TestOwnFirewallIsToldFromTheTargets has this machine's firewall drop port 25 and reset
// port 465 of targets of every class. What never left this machine is neither their silence nor
// their refusal.
func TestOwnFirewallIsToldFromTheTargets(t *testing.T) {
	t.Parallel()
	lab.Run(t, lab.Config{Serve: true, Classes: true}, func(t *testing.T, l *lab.Lab) {
		rejectOwn(t, l, 25, lab.Drop)
		rejectOwn(t, l, 465, lab.Reset)
		redirectOwn(t, l, 26, 2626)
		as := addrsFrom("10.64.0.0", 8)
		ts := endpoints([]uint16{26}, as...) // a local proxy whose port is closed
		if l.IPv6() {
			as = append(as, addrsFrom("fd64::8", 8)...)
		}
		ts = append(ts, endpoints([]uint16{25, 465, 587, 588}, as...)...)
		check := func(all []scanner.Observation) {
			t.Helper()
			for _, o := range all {
				want := map[uint16]string{25: "firewall drops", 465: "refuses it with a TCP reset: its firewall", 26: "local proxy"}[o.Target.Port]
				if want == "" {
					checkTruth(t, l, []scanner.Observation{o})
					continue
				}
				check(t, o, scanner.Unknown, scanner.LocalError)
				if !strings.Contains(o.Err, want) {
					t.Errorf("%v: Err %q, want %q", o.Target.AddrPort(), o.Err, want)
				}
			}
		}
		check(scan(t, &Engine{Timeout: 1900 * time.Millisecond}, ts...).all)
		ts = slices.DeleteFunc(ts, func(x targets.Target) bool { return x.Port == 25 || lab.ClassOf(x.Addr) > lab.Reset })
		check(scan(t, &Engine{noGuard: true}, ts...).all)
	})
}

// TestOwnResetsOfManyAreLocalErrors dials more targets at a time than there are guards for.
func TestOwnResetsOfManyAreLocalErrors(t *testing.T) {
	t.Parallel()
	lab.Run(t, lab.Config{Serve: true}, func(t *testing.T, l *lab.Lab) {
		rejectOwn(t, l, 25, lab.Reset)
		n := lab.Count(t, 1000, 3*mostGuards, 65_536)
		ts := endpoints([]uint16{25}, addrsFrom("10.64.0.0", n)...)
		for _, noGuard := range []bool{false, true} {
			for _, o := range scan(t, &Engine{Timeout: 1500 * time.Millisecond, noGuard: noGuard}, ts...).all {
				if o.Reason != scanner.LocalError {
					check(t, o, scanner.Unknown, scanner.LocalError)
				}
			}
		}
	})
}

// TestAResetThatNobodyCanAttributeSaysSo runs where neither a guard nor the counters
// tell an own reset from the target's, as on old kernels without privilege. A reset that
// comes later than at once is the target's, or a router's, all the same.
func TestAResetThatNobodyCanAttributeSaysSo(t *testing.T) {
	t.Parallel()
	lab.Run(t, lab.Config{}, func(t *testing.T, l *lab.Lab) {
		rejectOwn(t, l, 25, lab.Reset)
		as := append(addrsFrom("10.64.0.0", 20), addrsFrom("10.64.1.0", 20)...)
		for _, o := range scan(t, &Engine{noGuard: true, noCounts: true}, endpoints([]uint16{25}, as...)...).all {
			if o.State != scanner.Closed || o.Reason != scanner.ConnRefused || !strings.Contains(o.Err, "this machine or the first router") {
				t.Errorf("%v: %s %s, Err %q: it does not say that it may be this machine", o.Target.AddrPort(), o.State, o.Reason, o.Err)
			}
		}
	})
}

// redirectOwn leads this machine's own IPv4 connections from one port to another of its own.
func redirectOwn(t *testing.T, l *lab.Lab, from, to uint16) {
	t.Helper()
	l.Rules(t, lab.Scanner, func(c *nftables.Conn) error {
		table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "proxy"})
		ch := c.AddChain(&nftables.Chain{Name: "out", Table: table, Type: nftables.ChainTypeNAT,
			Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityNATDest})
		c.AddRule(&nftables.Rule{Table: table, Chain: ch, Exprs: []expr.Any{
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binary.BigEndian.AppendUint16(nil, from)},
			&expr.Immediate{Register: 1, Data: binary.BigEndian.AppendUint16(nil, to)},
			&expr.Redir{RegisterProtoMin: 1},
		}})
		return nil
	})
}

// TestWhatStaysWithinThisMachineIsBelieved: there a reset by the loopback interface is
// the target's.
func TestWhatStaysWithinThisMachineIsBelieved(t *testing.T) {
	t.Parallel()
	lab.Run(t, lab.Config{}, func(t *testing.T, l *lab.Lab) {
		l.AnyIP(t, lab.Scanner, netip.MustParsePrefix("10.99.0.0/24"))
		// The first is not of this machine, and leaves a socket with a guard to the others.
		as := append([]netip.Addr{netip.MustParseAddr("10.64.0.1")}, lab.ScannerAddr4, loopback)
		as = append(as, addrsFrom("10.99.0.1", 40)...)
		for _, o := range scan(t, &Engine{Banner: true}, endpoints([]uint16{25}, as...)...).all {
			check(t, o, scanner.Closed, scanner.ConnRefused)
			if o.Attempts != 1 {
				t.Errorf("%v: %d attempts, want 1", o.Target.AddrPort(), o.Attempts)
			}
		}
	})
}

// TestAGatewayThatDoesNotAnswerIsALocalError dials more than the kernel keeps for it.
func TestAGatewayThatDoesNotAnswerIsALocalError(t *testing.T) {
	t.Parallel()
	lab.Run(t, lab.Config{}, func(t *testing.T, l *lab.Lab) {
		nobody := netip.MustParseAddr("10.20.9.99")
		must(t, netlink.RouteReplace(&netlink.Route{Gw: nobody.AsSlice(), Dst: ipNet("0.0.0.0/0")}))
		n := lab.Count(t, 500, 3000, 30_000)
		timeout := []time.Duration{800 * time.Millisecond, 0, 0}[lab.Count(t, 0, 1, 2)] // 0: long enough for ARP to fail
		for _, o := range scan(t, &Engine{Timeout: timeout}, endpoints([]uint16{25}, addrsFrom("10.64.0.0", n)...)...).all {
			if o.Reason != scanner.LocalError {
				check(t, o, scanner.Unknown, scanner.LocalError)
			}
		}
	})
}

// TestAGatewayThatIsForgottenIsALocalError has the kernel forget a gateway that does not
// answer, again and again, as it does when its neighbour table is short.
func TestAGatewayThatIsForgottenIsALocalError(t *testing.T) {
	t.Parallel()
	lab.Run(t, lab.Config{}, func(t *testing.T, l *lab.Lab) {
		nobody := netip.MustParseAddr("10.20.9.99")
		must(t, netlink.RouteReplace(&netlink.Route{Gw: nobody.AsSlice(), Dst: ipNet("0.0.0.0/0")}))
		sc0, err := netlink.LinkByName("sc0")
		must(t, err)
		entry := netlink.Neigh{LinkIndex: sc0.Attrs().Index, Family: unix.AF_INET, IP: nobody.AsSlice()}
		done, forgetting := make(chan struct{}), sync.WaitGroup{}
		forgetting.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					_ = netlink.NeighDel(&entry) // it may be gone already
				}
			}
		})
		defer func() { close(done); forgetting.Wait() }()
		for _, o := range scan(t, &Engine{Timeout: 2900 * time.Millisecond}, endpoints([]uint16{25}, addrsFrom("10.64.0.0", 200)...)...).all {
			if o.Reason != scanner.LocalError {
				check(t, o, scanner.Unknown, scanner.LocalError)
			}
		}
	})
}

// TestMoreNeighboursThanTheTableHolds dials on-link hosts that all answer. When the
// kernel's table of 1,024 is full, it drops SYNs without a word.
func TestMoreNeighboursThanTheTableHolds(t *testing.T) {
	t.Parallel()
	lab.Run(t, lab.Config{Serve: true, OnLink: []netip.Addr{netip.MustParseAddr("10.30.0.10")}}, func(t *testing.T, l *lab.Lab) {
		ln0, err := netlink.LinkByName("ln0")
		if err != nil {
			t.Fatal(err)
		}
		must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: ln0.Attrs().Index, Scope: netlink.SCOPE_LINK, Dst: ipNet("10.40.16.0/20")}))
		l.AnyIP(t, lab.OnLink, netip.MustParsePrefix("10.40.16.0/20"))
		n := lab.Count(t, 200, 1000, 4096)
		open := 0
		for _, o := range scan(t, &Engine{}, endpoints([]uint16{25}, addrsFrom("10.40.16.0", n)...)...).all {
			if o.State == scanner.Open {
				open++
			} else { // the table is the whole machine's: others may fill it
				check(t, o, scanner.Unknown, scanner.LocalError)
			}
		}
		if open < n-n/10 {
			t.Errorf("%d of %d are open", open, n)
		}
	})
}

func TestTheNeighbourTableIsAskedForItsRoom(t *testing.T) {
	t.Parallel()
	lab.Run(t, lab.Config{}, func(t *testing.T, l *lab.Lab) {
		entries, most, err := readNeighborTable(unix.AF_INET)
		if err != nil || most == 0 || entries > most {
			t.Fatalf("%d entries of %d, %v", entries, most, err)
		}
		now := time.Now()
		table := neighborTable{family: unix.AF_INET, read: now, entries: 5, most: 10}
		for i := range 4 {
			if !table.room(now) {
				t.Errorf("no room for number %d", 6+i)
			}
		}
		if table.room(now) || !table.full() {
			t.Error("room for more than nine in ten")
		}
		if table.fresh = true; !table.room(now) || table.room(now) {
			t.Error("not one for each look at a full table")
		}
	})
}

// TestAttemptsOfADialAloneAreTrue loses SYNs of dials that are repeated alone.
func TestAttemptsOfADialAloneAreTrue(t *testing.T) {
	t.Parallel()
	lab.Run(t, lab.Config{}, func(t *testing.T, l *lab.Lab) {
		l.DropRandom(t, lab.Router, 30)
		var as []netip.Addr
		for i := range 40 { // each network is doubted on its own
			as = append(as, netip.AddrFrom4([4]byte{10, 64, byte(i), 1}))
		}
		seen := l.Capture(t, lab.Scanner, "sc0")
		all := scan(t, &Engine{noGuard: true}, endpoints([]uint16{25}, as...)...).all
		sent := map[netip.Addr]int{}
		for _, s := range seen.Stop(t) {
			if s.Flags == lab.SYN {
				sent[s.To.Addr()]++
			}
		}
		for _, o := range all {
			if to := o.Target.Addr; o.Attempts != sent[to] {
				t.Errorf("%v (%s): %d attempts, and %d SYNs were sent", to, o.Reason, o.Attempts, sent[to])
			}
		}
	})
}

// TestTheKernelTellsWhenItTriesAgain asks about a SYN that nothing answers.
func TestTheKernelTellsWhenItTriesAgain(t *testing.T) {
	t.Parallel()
	lab.Run(t, lab.Config{}, func(t *testing.T, l *lab.Lab) {
		l.DropOut(t, lab.Router, lab.Targets4, 0)
		to := netip.MustParseAddrPort("10.64.0.1:25")
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
		must(t, err)
		defer unix.Close(fd)
		if err := unix.Connect(fd, &unix.SockaddrInet4{Port: 25, Addr: to.Addr().As4()}); err != unix.EINPROGRESS {
			t.Fatal(err)
		}
		var name unix.RawSockaddrAny
		from := localAddr(fd, &name)
		if left, ok := nextTry(from, to); !ok || left > time.Second {
			t.Errorf("it tries again in %v (%v), want a second at most", left, ok)
		}
		if _, ok := nextTry(from, netip.AddrPortFrom(to.Addr(), 26)); ok {
			t.Error("it knows of a connection that is not")
		}
	})
}
