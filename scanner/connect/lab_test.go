//go:build linux

package connect

import (
	"context"
	"encoding/hex"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/scanner/pace"
	"github.com/smtpsweep/smtpsweep/scanner/scannertest/lab"
	"github.com/smtpsweep/smtpsweep/targets"
)

func TestMain(m *testing.M) { os.Exit(lab.Main(m)) }

// endpoints returns targets on ports of addresses, indexed in order.
func endpoints(ports []uint16, addrs ...netip.Addr) []targets.Target {
	var ts []targets.Target
	for _, a := range addrs {
		for _, p := range ports {
			ts = append(ts, targets.Target{Index: uint64(len(ts)), Addr: a, Port: p, Role: targets.RoleOf(p)})
		}
	}
	return ts
}

func addrsFrom(s string, n int) []netip.Addr {
	var as []netip.Addr
	for a := netip.MustParseAddr(s); len(as) < n; a = a.Next() {
		as = append(as, a)
	}
	return as
}

// checkTruth compares observations with what the lab knows.
func checkTruth(t *testing.T, l *lab.Lab, all []scanner.Observation) {
	t.Helper()
	for _, o := range all {
		want := l.Truth(o.Target.Addr, o.Target.Port)
		if o.State.String() != want.State || string(o.Reason) != want.Reason {
			t.Errorf("%v (%v): got %v %v (%s), want %v %v", o.Target.AddrPort(), want.Class, o.State, o.Reason, o.Err, want.State, want.Reason)
		}
		if o.Reason == scanner.NoNeighbor && o.ICMP == (scanner.ICMP{}) {
			continue // the kernel limits its messages to us, when many fail at once: see neighborOf
		}
		if o.ICMP != (scanner.ICMP{From: want.From, Type: want.ICMPType, Code: want.ICMPCode}) {
			t.Errorf("%v (%v): got ICMP %+v, want %v %d/%d", o.Target.AddrPort(), want.Class, o.ICMP, want.From, want.ICMPType, want.ICMPCode)
		}
	}
}

func TestEveryClassIsSeenForWhatItIs(t *testing.T) {
	t.Parallel()
	for _, at := range []string{lab.Target, lab.Router} {
		t.Run("rejected at "+at, func(t *testing.T) {
			t.Parallel()
			lab.Run(t, lab.Config{Classes: true, Serve: true, RejectAt: at}, func(t *testing.T, l *lab.Lab) {
				as := addrsFrom("10.64.0.0", 16)
				if l.IPv6() {
					as = append(as, addrsFrom("fd64::8", 8)...)
				}
				w := watch(t, l, &Engine{Banner: true}, 0, endpoints([]uint16{25, 465, 587}, as...)...)
				all := w.observations(t)
				if len(all) != 3*len(as) {
					t.Errorf("%d observations of %d targets", len(all), 3*len(as))
				}
				checkTruth(t, l, all)
				for _, o := range all {
					dials := 1
					if o.ICMP.From.IsValid() {
						dials = 2 // once more, a second later
					}
					if n := len(w.dials[o.Target]); n != dials {
						t.Errorf("%v %v: %d dials, want %d", o.Target.AddrPort(), o.Reason, n, dials)
					}
					if want := source(o.Target.Addr); o.Source != want {
						t.Errorf("%v: source %v, want %v", o.Target.AddrPort(), o.Source, want)
					}
					if (o.RTT > 0) != (o.Reason != scanner.NoResponse) {
						t.Errorf("%v %v: RTT %v", o.Target.AddrPort(), o.Reason, o.RTT)
					}
				}
			})
		})
	}
}

func source(a netip.Addr) netip.Addr {
	if a.Is4() {
		return lab.ScannerAddr4
	}
	return lab.ScannerAddr6
}

func TestUnroutedIsNetUnreachFromTheRouter(t *testing.T) {
	t.Parallel()
	lab.Run(t, lab.Config{}, func(t *testing.T, l *lab.Lab) {
		s := scan(t, &Engine{}, endpoints([]uint16{25}, netip.MustParseAddr("10.99.0.1"))...)
		checkTruth(t, l, s.all)
	})
}

func TestAnswerOfTheSecondDialOverridesTheICMP(t *testing.T) {
	t.Parallel()
	lab.Run(t, lab.Config{Serve: true}, func(t *testing.T, l *lab.Lab) {
		open, closed := netip.MustParseAddr("10.64.0.1"), netip.MustParseAddr("10.64.0.2")
		ts := append(endpoints([]uint16{25}, open), endpoints([]uint16{26}, closed)...)
		var w *witness
		t.Run("firewall", func(t *testing.T) { // it is gone when both have been put back
			l.RejectOut(t, lab.Router, lab.Targets4, 0, lab.PortUnreach)
			w = watch(t, l, &Engine{}, len(ts), ts...)
			<-w.full
		})
		w.goOn()
		for _, o := range w.observations(t) {
			if n := len(w.dials[o.Target]); n != 2 || o.ICMP.From.IsValid() {
				t.Errorf("%v: %d dials, ICMP %v, want 2 and none", o.Target, n, o.ICMP)
			}
			if o.Target.Addr == open {
				check(t, o, scanner.Open, scanner.SynAck)
			} else {
				check(t, o, scanner.Closed, scanner.ConnRefused)
			}
		}
	})
}

func TestSilenceOfTheSecondDialLeavesTheICMP(t *testing.T) {
	t.Parallel()
	lab.Run(t, lab.Config{Serve: true}, func(t *testing.T, l *lab.Lab) {
		var w *witness
		t.Run("firewall", func(t *testing.T) {
			l.RejectOut(t, lab.Router, lab.Targets4, 0, lab.AdminProhibited)
			w = watch(t, l, &Engine{}, 1, endpoints([]uint16{25}, netip.MustParseAddr("10.64.0.1"))...)
			<-w.full
		})
		l.DropOut(t, lab.Router, lab.Targets4, 0)
		w.goOn()
		o := w.observations(t)[0]
		check(t, o, scanner.Filtered, scanner.AdminProhibited)
		if n := len(w.dials[o.Target]); o.ICMP != (scanner.ICMP{From: lab.RouterAddr4, Type: 3, Code: 13}) || n != 2 {
			t.Errorf("ICMP %+v, %d dials, want 3/13 of the router, 2", o.ICMP, n)
		}
		if o.RTT <= 0 {
			t.Error("no RTT, and the message took one")
		}
	})
}

func TestOwnFirewallIsALocalError(t *testing.T) {
	t.Parallel()
	lab.Run(t, lab.Config{Serve: true}, func(t *testing.T, l *lab.Lab) {
		l.RejectOut(t, lab.Scanner, lab.Targets4, 25, lab.AdminProhibited)
		l.RejectOut(t, lab.Scanner, lab.Targets4, 587, lab.HostUnreach)
		as := []netip.Addr{netip.MustParseAddr("10.64.0.1")}
		if l.IPv6() {
			l.RejectOut(t, lab.Scanner, lab.Targets6, 25, lab.AdminProhibited)
			l.RejectOut(t, lab.Scanner, lab.Targets6, 587, lab.HostUnreach)
			as = append(as, netip.MustParseAddr("fd64::1"))
		}
		for _, o := range scan(t, &Engine{}, endpoints([]uint16{25, 587}, as...)...).all {
			check(t, o, scanner.Unknown, scanner.LocalError)
			if !strings.Contains(o.Err, "firewall") {
				t.Errorf("%v: Err %q does not name the firewall", o.Target.AddrPort(), o.Err)
			}
		}
	})
}

func TestNoRouteIsALocalError(t *testing.T) {
	t.Parallel()
	lab.Run(t, lab.Config{}, func(t *testing.T, l *lab.Lab) {
		for _, portable := range []bool{false, true} {
			// The kernel sends nothing from a loopback address to another machine.
			e := &Engine{Portable: portable, Source: netip.MustParseAddr("127.0.0.1")}
			o := scan(t, e, endpoints([]uint16{25}, netip.MustParseAddr("10.64.0.1"))...).all[0]
			check(t, o, scanner.Unknown, scanner.LocalError)
			if !portable && o.Attempts != 0 {
				t.Errorf("%d attempts, want none: no SYN left", o.Attempts)
			}
		}
	})
}

// TestAConnectionToOneselfIsNotOpen leaves connect no source port but the target's.
func TestAConnectionToOneselfIsNotOpen(t *testing.T) {
	t.Parallel()
	lab.Run(t, lab.Config{}, func(t *testing.T, l *lab.Lab) {
		l.Sysctl(t, lab.Scanner, "net/ipv4/ip_local_port_range", "40000\t40000")
		as := []netip.Addr{loopback, lab.ScannerAddr4}
		if l.IPv6() {
			as = append(as, netip.IPv6Loopback(), lab.ScannerAddr6)
		}
		for _, a := range as { // one after another: there is but one port
			o := scan(t, &Engine{Banner: true}, endpoints([]uint16{40000}, a)...).all[0]
			check(t, o, scanner.Unknown, scanner.LocalError)
			if o.Attempts != selfConnects {
				t.Errorf("%v: %d attempts, want %d", a, o.Attempts, selfConnects)
			}
		}
		o := scan(t, &Engine{Portable: true, Banner: true}, endpoints([]uint16{40000}, loopback)...).all[0]
		check(t, o, scanner.Unknown, scanner.LocalError)
	})
}

// TestLackOfSourcePortsIsNeverAVerdict has eight ports for two dozen dials of one
// endpoint that is silent.
func TestLackOfSourcePortsIsNeverAVerdict(t *testing.T) {
	t.Parallel()
	lab.Run(t, lab.Config{Classes: true, Serve: true}, func(t *testing.T, l *lab.Lab) {
		l.Sysctl(t, lab.Scanner, "net/ipv4/ip_local_port_range", "40000\t40007")
		onBoth(t, func(t *testing.T, portable bool) {
			silent := endpoints([]uint16{25}, netip.MustParseAddr("10.64.0.2"))[0]
			var ts []targets.Target
			for i := range 24 {
				silent.Index = uint64(i)
				ts = append(ts, silent)
			}
			var short atomic.Int64
			e := &Engine{Portable: portable, Timeout: 300 * time.Millisecond, Note: func(code, text string) {
				if code == "source-ports-short" {
					short.Add(1)
				}
			}}
			for _, o := range scan(t, e, ts...).all {
				check(t, o, scanner.Filtered, scanner.NoResponse)
				if o.Attempts == 0 {
					t.Error("no attempts")
				}
			}
			if n := short.Load(); n != 1 {
				t.Errorf("%d notes source-ports-short, want one", n)
			}
		})
	})
}

func TestLinkLocalAddressesAreDialledThroughTheirZone(t *testing.T) {
	t.Parallel()
	lab.Run(t, lab.Config{}, func(t *testing.T, l *lab.Lab) {
		if !l.IPv6() {
			t.Skip("the kernel has no IPv6")
		}
		router, link := linkLocal(t, l, lab.Router, "rt0"), linkWith(t, lab.ScannerAddr4)
		own := linkLocal(t, l, lab.Scanner, "sc0")
		nobody := netip.MustParseAddr("fe80::25")
		onBoth(t, func(t *testing.T, portable bool) {
			var ts []targets.Target
			for _, zone := range []string{"sc0", strconv.Itoa(link.Attrs().Index)} {
				ts = append(ts, endpoints([]uint16{25}, router.WithZone(zone), own.WithZone(zone))...)
				if !portable { // it cannot tell who says "host unreachable"
					ts = append(ts, endpoints([]uint16{26}, nobody.WithZone(zone))...)
				}
			}
			for _, o := range scan(t, &Engine{Portable: portable}, ts...).all {
				if o.Target.Port == 26 {
					check(t, o, scanner.Filtered, scanner.NoNeighbor)
				} else {
					check(t, o, scanner.Closed, scanner.ConnRefused)
				}
				if !portable && o.Source != own {
					t.Errorf("%v: source %v, want %v", o.Target.AddrPort(), o.Source, own)
				}
			}
			o := scan(t, &Engine{Portable: portable}, endpoints([]uint16{25}, router.WithZone("nowhere0"))...).all[0]
			check(t, o, scanner.Unknown, scanner.LocalError)
		})
	})
}

// linkLocal returns the link-local address of an interface.
func linkLocal(t *testing.T, l *lab.Lab, ns, name string) netip.Addr {
	t.Helper()
	text, err := l.Command(ns, "cat", "/proc/thread-self/net/if_inet6").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) { // address index length scope flags name
		f := strings.Fields(line)
		b, err := hex.DecodeString(f[0])
		if a, ok := netip.AddrFromSlice(b); err == nil && ok && a.IsLinkLocalUnicast() && f[5] == name {
			return a
		}
	}
	t.Fatalf("%s in %s has no link-local address:\n%s", name, ns, text)
	return netip.Addr{}
}

func TestOnLinkNeighboursThatDoNotAnswerAreNoNeighbor(t *testing.T) {
	t.Parallel()
	live4, live6 := netip.MustParseAddr("10.30.0.10"), netip.MustParseAddr("fd30::10")
	lab.Run(t, lab.Config{Serve: true, OnLink: []netip.Addr{live4, live6}}, func(t *testing.T, l *lab.Lab) {
		as := addrsFrom("10.30.0.1", 254)
		if l.IPv6() {
			as = append(as, addrsFrom("fd30::1", 32)...)
		}
		s := scan(t, &Engine{Banner: true}, endpoints([]uint16{25, 465, 587}, as...)...)
		checkTruth(t, l, s.all)
	})
}

func TestRunningConversationSurvivesAnICMP(t *testing.T) {
	t.Parallel()
	lab.Run(t, lab.Config{Serve: true}, func(t *testing.T, l *lab.Lab) {
		var wg sync.WaitGroup
		e := &Engine{Banner: true}
		q := pace.New(pace.Config{}, each(endpoints([]uint16{25}, netip.MustParseAddr("10.64.0.1"))...))
		err := e.Scan(t.Context(), q, func(o scanner.Observation) {
			wg.Go(func() { converse(t, l, o.Conn) })
		})
		wg.Wait()
		if err != nil {
			t.Error(err)
		}
	})
}

// converse sends a command while a firewall answers it with ICMP, and expects the
// reply when the firewall is gone and TCP has repeated the command.
func converse(t *testing.T, l *lab.Lab, c net.Conn) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	b := make([]byte, 512)
	if _, err := c.Read(b); err != nil {
		t.Error(err)
	}
	t.Run("firewall", func(t *testing.T) {
		l.RejectOut(t, lab.Router, lab.Targets4, 0, lab.HostUnreach)
		if _, err := c.Write([]byte("NOOP\r\n")); err != nil {
			t.Error(err)
		}
		c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		if _, err := c.Read(b); !isTimeout(err) {
			t.Errorf("read behind the firewall: %v, want a time-out", err)
		}
	})
	c.SetReadDeadline(time.Now().Add(time.Minute))
	if n, err := c.Read(b); err != nil || !strings.HasPrefix(string(b[:n]), "250") {
		t.Errorf("got %q, %v, want 250", b[:n], err)
	}
}

func isTimeout(err error) bool {
	ne, ok := err.(net.Error)
	return ok && ne.Timeout()
}

func TestNoSYNLeavesAfterCancel(t *testing.T) {
	t.Parallel()
	lab.Run(t, lab.Config{Classes: true}, func(t *testing.T, l *lab.Lab) {
		onBoth(t, func(t *testing.T, portable bool) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			const n = 5000
			i := 0
			q := pace.New(pace.Config{Rate: 2000}, func() (targets.Target, bool) {
				i++
				a := lab.Targets4.Addr().As4()
				a[2], a[3] = byte(i>>5), byte(i<<3)|byte(lab.Drop)
				return targets.Target{Index: uint64(i), Addr: netip.AddrFrom4(a), Port: 25}, i <= n
			})
			var s sweep
			var dialled atomic.Int64
			e := &Engine{
				Portable: portable, Timeout: time.Hour, Retries: 20, // nothing is over by itself, however slow the machine
				Permit: func(targets.Target) bool { dialled.Add(1); return true },
			}
			over := make(chan error)
			go func() { over <- e.Scan(ctx, q, s.emit) }()
			for dialled.Load() < 500 {
				runtime.Gosched()
			}
			cancel()
			if err := <-over; err != context.Canceled {
				t.Errorf("got %v", err)
			}
			sent := segmentsSent(t)
			time.Sleep(1200 * time.Millisecond) // a repetition would come after a second
			if later := segmentsSent(t); sent < 500 || later != sent {
				t.Errorf("%d SYNs left, %d of them after Scan had returned", later, later-sent)
			}
			if n := int(dialled.Load()); len(s.all) < n {
				t.Errorf("%d observations, want the %d that were dialled at least", len(s.all), n)
			}
			for _, o := range s.all {
				check(t, o, scanner.Unknown, scanner.Interrupted)
			}
		})
	})
}

// segmentsSent counts the TCP segments that left this network namespace, SYNs
// and their repetitions among them, but no resets (RFC 4022, tcpOutSegs).
func segmentsSent(t *testing.T) (n int) {
	t.Helper()
	text, err := os.ReadFile("/proc/thread-self/net/snmp")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); f[0] != "Tcp:" {
			continue
		} else if names == nil {
			names = f
		} else if n, err = strconv.Atoi(f[slices.Index(names, "OutSegs")]); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

func TestPermitIsAskedBeforeTheSecondDialToo(t *testing.T) {
	t.Parallel()
	lab.Run(t, lab.Config{Classes: true}, func(t *testing.T, l *lab.Lab) {
		asked := 0
		e := &Engine{Permit: func(targets.Target) bool { asked++; return asked == 1 }}
		w := watch(t, l, e, 0, endpoints([]uint16{25}, netip.MustParseAddr("10.64.0.3"))...)
		o := w.observations(t)[0] // its attempts are the SYNs of one dial
		check(t, o, scanner.Unknown, scanner.Excluded)
		if n := len(w.dials[o.Target]); asked != 2 || n != 1 {
			t.Errorf("asked %d times, %d dials, want 2, 1", asked, n)
		}
	})
}

func TestRetriesBoundTheSYNs(t *testing.T) {
	t.Parallel()
	lab.Run(t, lab.Config{Classes: true}, func(t *testing.T, l *lab.Lab) {
		w := watch(t, l, &Engine{Retries: 1}, 0, endpoints([]uint16{25}, netip.MustParseAddr("10.64.0.2"))...)
		o := w.observations(t)[0]
		check(t, o, scanner.Filtered, scanner.NoResponse)
		if took := w.dials[o.Target][0]; o.Attempts > 2 && took.end.Sub(took.begin) < 2*time.Second {
			t.Errorf("%d attempts, want 2", o.Attempts)
		}
	})
}

func TestOwnFirewallTowardsANeighbourIsALocalErrorToo(t *testing.T) {
	t.Parallel()
	live4, live6 := netip.MustParseAddr("10.30.0.10"), netip.MustParseAddr("fd30::10")
	lab.Run(t, lab.Config{Serve: true, OnLink: []netip.Addr{live4, live6}}, func(t *testing.T, l *lab.Lab) {
		as := []netip.Addr{live4, live4.Next()} // somebody, and nobody
		l.RejectOut(t, lab.Scanner, lab.OnLink4, 0, lab.HostUnreach)
		if l.IPv6() {
			l.RejectOut(t, lab.Scanner, lab.OnLink6, 0, lab.HostUnreach)
			as = append(as, live6, live6.Next())
		}
		for _, o := range scan(t, &Engine{}, endpoints([]uint16{25, 587}, as...)...).all {
			check(t, o, scanner.Unknown, scanner.LocalError)
		}
	})
}

// TestOwnFirewallThatDropsTowardsANeighbourIsALocalError: whoever was never asked for
// by ARP or ND was never sent a SYN either. So it is when the neighbour table is full.
func TestOwnFirewallThatDropsTowardsANeighbourIsALocalError(t *testing.T) {
	t.Parallel()
	live4, live6 := netip.MustParseAddr("10.30.0.10"), netip.MustParseAddr("fd30::10")
	lab.Run(t, lab.Config{Serve: true, OnLink: []netip.Addr{live4, live6}}, func(t *testing.T, l *lab.Lab) {
		as := []netip.Addr{live4}
		l.DropOut(t, lab.Scanner, lab.OnLink4, 0)
		if l.IPv6() {
			l.DropOut(t, lab.Scanner, lab.OnLink6, 0)
			as = append(as, live6)
		}
		for _, o := range scan(t, &Engine{Timeout: 900 * time.Millisecond}, endpoints([]uint16{25, 587}, as...)...).all {
			check(t, o, scanner.Unknown, scanner.LocalError)
			if !strings.Contains(o.Err, "firewall") || !strings.Contains(o.Err, "neighbour table") {
				t.Errorf("Err %q does not name the firewall and the neighbour table", o.Err)
			}
		}
	})
}

// TestAFailedNeighbourIsSeenWithoutItsICMP: the kernel sends 50 of these messages at
// once and 1,000 a second, and a firewall may drop even those to ourselves.
func TestAFailedNeighbourIsSeenWithoutItsICMP(t *testing.T) {
	t.Parallel()
	live4, live6 := netip.MustParseAddr("10.30.0.10"), netip.MustParseAddr("fd30::10")
	lab.Run(t, lab.Config{Serve: true, OnLink: []netip.Addr{live4, live6}}, func(t *testing.T, l *lab.Lab) {
		as := addrsFrom("10.30.0.11", 2)
		dropOwnUnreachables(t, l)
		if l.IPv6() {
			as = append(as, addrsFrom("fd30::11", 2)...)
		}
		for _, o := range scan(t, &Engine{}, endpoints([]uint16{25, 587}, as...)...).all {
			check(t, o, scanner.Filtered, scanner.NoNeighbor)
			if o.ICMP.From.IsValid() {
				t.Errorf("ICMP %+v, want none", o.ICMP)
			}
		}
		l.DropOut(t, lab.OnLink, lab.OnLink4, 0) // a neighbour that is there, and silent
		check(t, scan(t, &Engine{Timeout: 900 * time.Millisecond}, endpoints([]uint16{25}, live4)...).all[0], scanner.Filtered, scanner.NoResponse)
	})
}

// dropOwnUnreachables drops the ICMP messages that this machine sends to itself.
func dropOwnUnreachables(t *testing.T, l *lab.Lab) {
	t.Helper()
	l.Rules(t, lab.Scanner, func(c *nftables.Conn) error {
		table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "quiet"})
		ch := c.AddChain(&nftables.Chain{Name: "out", Table: table, Type: nftables.ChainTypeFilter,
			Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityFilter})
		for _, m := range []struct{ proto, typ byte }{{unix.IPPROTO_ICMP, 3}, {unix.IPPROTO_ICMPV6, 1}} {
			c.AddRule(&nftables.Rule{Table: table, Chain: ch, Exprs: []expr.Any{
				&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
				&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{m.proto}},
				&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1},
				&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{m.typ}},
				&expr.Verdict{Kind: expr.VerdictDrop},
			}})
		}
		return nil
	})
}
