//go:build linux

package connect

import (
	"context"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

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
		if o.ICMP != (scanner.ICMP{From: want.From, Type: want.ICMPType, Code: want.ICMPCode}) {
			t.Errorf("%v (%v): got ICMP %+v, want %v %d/%d", o.Target.AddrPort(), want.Class, o.ICMP, want.From, want.ICMPType, want.ICMPCode)
		}
	}
}

func TestEveryClassIsSeenForWhatItIs(t *testing.T) {
	for _, at := range []string{lab.Target, lab.Router} {
		t.Run("rejected at "+at, func(t *testing.T) {
			lab.Run(t, lab.Config{Classes: true, Serve: true, RejectAt: at}, func(t *testing.T, l *lab.Lab) {
				as := addrsFrom("10.64.0.0", 16)
				if l.IPv6() {
					as = append(as, addrsFrom("fd64::8", 8)...)
				}
				s := scan(t, &Engine{Banner: true}, endpoints([]uint16{25, 465, 587}, as...)...)
				checkTruth(t, l, s.all)
				for _, o := range s.all {
					attempts := 1
					switch {
					case o.Reason == scanner.NoResponse:
						attempts = 4 // at 0, 1, 2 and 3 s
					case o.ICMP.From.IsValid():
						attempts = 2 // and once more a second later
					}
					if o.Attempts != attempts {
						t.Errorf("%v %v: %d attempts, want %d", o.Target.AddrPort(), o.Reason, o.Attempts, attempts)
					}
					if want := source(o.Target.Addr); o.Source != want {
						t.Errorf("%v: source %v, want %v", o.Target.AddrPort(), o.Source, want)
					}
					if (o.RTT > 0) != (o.Reason != scanner.NoResponse) || o.RTT > time.Second {
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
	lab.Run(t, lab.Config{}, func(t *testing.T, l *lab.Lab) {
		s := scan(t, &Engine{}, endpoints([]uint16{25}, netip.MustParseAddr("10.99.0.1"))...)
		checkTruth(t, l, s.all)
	})
}

func TestAnswerOfTheSecondDialOverridesTheICMP(t *testing.T) {
	lab.Run(t, lab.Config{Serve: true}, func(t *testing.T, l *lab.Lab) {
		open, closed := netip.MustParseAddr("10.64.0.1"), netip.MustParseAddr("10.64.0.2")
		{
			ts := append(endpoints([]uint16{25}, open), endpoints([]uint16{26}, closed)...)
			q := &retryWatch{Scheduler: pace.New(pace.Config{}, each(ts...))}
			// The firewall is gone when both have been put back.
			t.Run("firewall", func(t *testing.T) {
				l.RejectOut(t, lab.Router, lab.Targets4, 0, lab.PortUnreach)
				q.until = make(chan struct{})
				q.scan(context.Background(), len(ts))
				<-q.until
			})
			for _, o := range q.wait(t) {
				if o.Attempts != 2 || o.ICMP.From.IsValid() {
					t.Errorf("%v: %d attempts, ICMP %v, want 2 and none", o.Target, o.Attempts, o.ICMP)
				}
				if o.Target.Addr == open {
					check(t, o, scanner.Open, scanner.SynAck)
				} else {
					check(t, o, scanner.Closed, scanner.ConnRefused)
				}
			}
		}
	})
}

// A retryWatch is a queue that tells when n jobs were put back.
type retryWatch struct {
	*pace.Scheduler
	mu    sync.Mutex
	left  int
	until chan struct{}
	over  chan error
	sweep sweep
}

func (q *retryWatch) scan(ctx context.Context, n int) {
	q.left, q.over = n, make(chan error, 1)
	go func() { q.over <- new(Engine).Scan(ctx, q, q.sweep.emit) }()
}

func (q *retryWatch) wait(t *testing.T) []scanner.Observation {
	if err := <-q.over; err != nil {
		t.Fatal(err)
	}
	return q.sweep.all
}

func (q *retryWatch) Retry(job scanner.Job, after time.Duration) {
	q.mu.Lock()
	if q.left--; q.left == 0 {
		close(q.until)
	}
	q.mu.Unlock()
	q.Scheduler.Retry(job, after)
}

func TestSilenceOfTheSecondDialLeavesTheICMP(t *testing.T) {
	lab.Run(t, lab.Config{Serve: true}, func(t *testing.T, l *lab.Lab) {
		ts := endpoints([]uint16{25}, netip.MustParseAddr("10.64.0.1"))
		q := &retryWatch{Scheduler: pace.New(pace.Config{}, each(ts...)), until: make(chan struct{})}
		t.Run("firewall", func(t *testing.T) {
			l.RejectOut(t, lab.Router, lab.Targets4, 0, lab.AdminProhibited)
			q.scan(context.Background(), 1)
			<-q.until
		})
		l.DropOut(t, lab.Router, lab.Targets4, 0)
		o := q.wait(t)[0]
		check(t, o, scanner.Filtered, scanner.AdminProhibited)
		if o.ICMP != (scanner.ICMP{From: lab.RouterAddr4, Type: 3, Code: 13}) || o.Attempts != 5 {
			t.Errorf("ICMP %+v, %d attempts, want 3/13 of the router, 5", o.ICMP, o.Attempts)
		}
	})
}

func TestOwnFirewallIsALocalError(t *testing.T) {
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
	lab.Run(t, lab.Config{}, func(t *testing.T, l *lab.Lab) {
		for _, portable := range []bool{false, true} {
			// The kernel sends nothing from a loopback address to another machine.
			e := &Engine{Portable: portable, Source: netip.MustParseAddr("127.0.0.1")}
			o := scan(t, e, endpoints([]uint16{25}, netip.MustParseAddr("10.64.0.1"))...).all[0]
			check(t, o, scanner.Unknown, scanner.LocalError)
		}
	})
}

func TestOnLinkNeighboursThatDoNotAnswerAreNoNeighbor(t *testing.T) {
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
	c.SetDeadline(time.Now().Add(20 * time.Second))
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
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	if n, err := c.Read(b); err != nil || !strings.HasPrefix(string(b[:n]), "250") {
		t.Errorf("got %q, %v, want 250", b[:n], err)
	}
}

func isTimeout(err error) bool {
	ne, ok := err.(net.Error)
	return ok && ne.Timeout()
}

func TestNoSYNLeavesAfterCancel(t *testing.T) {
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
			sent := settledSYNs(t, l)
			time.Sleep(1200 * time.Millisecond) // a repetition would come after a second
			if later := l.CountSYN(t, lab.Target)[25]; later != sent {
				t.Errorf("%d SYNs left after Scan had returned", later-sent)
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

// settledSYNs counts the SYNs to port 25 that reached the targets, once no more
// are under way between the two.
func settledSYNs(t *testing.T, l *lab.Lab) uint64 {
	t.Helper()
	for n := l.CountSYN(t, lab.Target)[25]; ; {
		time.Sleep(50 * time.Millisecond)
		again := l.CountSYN(t, lab.Target)[25]
		if again == n {
			return n
		}
		n = again
	}
}

func TestPermitIsAskedBeforeTheSecondDialToo(t *testing.T) {
	lab.Run(t, lab.Config{Classes: true}, func(t *testing.T, l *lab.Lab) {
		asked := 0
		e := &Engine{Permit: func(targets.Target) bool { asked++; return asked == 1 }}
		o := scan(t, e, endpoints([]uint16{25}, netip.MustParseAddr("10.64.0.3"))...).all[0]
		check(t, o, scanner.Unknown, scanner.Excluded)
		if sent := l.CountSYN(t, lab.Target)[25]; asked != 2 || sent != 1 || o.Attempts != 1 {
			t.Errorf("asked %d times, %d SYNs seen, %d attempts, want 2, 1, 1", asked, sent, o.Attempts)
		}
	})
}

func TestRetriesBoundTheSYNs(t *testing.T) {
	lab.Run(t, lab.Config{Classes: true}, func(t *testing.T, l *lab.Lab) {
		e := &Engine{Retries: 1}
		o := scan(t, e, endpoints([]uint16{25}, netip.MustParseAddr("10.64.0.2"))...).all[0]
		check(t, o, scanner.Filtered, scanner.NoResponse)
		if sent := l.CountSYN(t, lab.Target)[25]; sent != 2 || o.Attempts != 2 {
			t.Errorf("%d SYNs seen, %d attempts, want 2", sent, o.Attempts)
		}
	})
}
