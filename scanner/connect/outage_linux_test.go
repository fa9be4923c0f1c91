package connect

import (
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/scanner/scannertest/lab"
	"github.com/smtpsweep/smtpsweep/targets"
)

// A blow is a fault of this machine's network, and its mending.
type blow struct {
	name         string
	strike, mend func(t *testing.T, l *lab.Lab)
	source       bool // the dials are bound to the address
	slow         bool // to be seen: not in plain go test
}

var blows = []blow{
	{name: "interface down", strike: func(t *testing.T, l *lab.Lab) { l.SetLink(t, lab.Scanner, "sc0", false) },
		mend: func(t *testing.T, l *lab.Lab) { l.SetLink(t, lab.Scanner, "sc0", true); restoreRoute(t) }},
	{name: "cable pulled", strike: func(t *testing.T, l *lab.Lab) { l.SetLink(t, lab.Router, "rt0", false) },
		mend: func(t *testing.T, l *lab.Lab) { l.SetLink(t, lab.Router, "rt0", true) }, slow: true},
	{name: "address removed", strike: removeAddress, mend: restoreAddress},
	{name: "source address removed", strike: removeAddress, mend: restoreAddress, source: true, slow: true},
	{name: "black hole", strike: func(t *testing.T, l *lab.Lab) { must(t, netlink.RouteAdd(blackHole())) },
		mend: func(t *testing.T, l *lab.Lab) { must(t, netlink.RouteDel(blackHole())) }},
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}

func ipNet(s string) *net.IPNet {
	_, n, _ := net.ParseCIDR(s)
	return n
}

func restoreRoute(t *testing.T) {
	t.Helper()
	must(t, netlink.RouteReplace(&netlink.Route{Gw: lab.RouterAddr4.AsSlice(), Dst: ipNet("0.0.0.0/0")}))
}

func blackHole() *netlink.Route {
	return &netlink.Route{Type: unix.RTN_BLACKHOLE, Dst: ipNet("10.64.0.0/12")}
}

func ownAddress() *netlink.Addr {
	return &netlink.Addr{IPNet: &net.IPNet{IP: lab.ScannerAddr4.AsSlice(), Mask: net.CIDRMask(24, 32)}}
}

func removeAddress(t *testing.T, _ *lab.Lab) {
	t.Helper()
	link, err := netlink.LinkByName("sc0")
	must(t, err)
	must(t, netlink.AddrDel(link, ownAddress()))
}

func restoreAddress(t *testing.T, _ *lab.Lab) {
	t.Helper()
	link, err := netlink.LinkByName("sc0")
	must(t, err)
	must(t, netlink.AddrAdd(link, ownAddress()))
	restoreRoute(t)
}

// sweepStruck dials open and closed ports, and strikes in the middle of that.
func sweepStruck(t *testing.T, l *lab.Lab, b blow, e *Engine) []scanner.Observation {
	t.Helper()
	n := lab.Count(t, 300, 3000, 30_000)
	var dials atomic.Int64
	e.Permit = func(targets.Target) bool {
		if dials.Add(1) == int64(n) { // of about twice as many
			b.strike(t, l)
		}
		return true
	}
	if b.source {
		e.Source = lab.ScannerAddr4
	}
	e.Timeout = 1900 * time.Millisecond
	return scan(t, e, endpoints([]uint16{25, 26}, addrsFrom("10.64.0.0", n)...)...).all
}

func TestALostNetworkIsWaitedFor(t *testing.T) {
	t.Parallel()
	for _, b := range blows {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			lab.Run(t, lab.Config{Serve: true}, func(t *testing.T, l *lab.Lab) {
				lost := make(chan struct{})
				var mended sync.WaitGroup
				mended.Go(func() { <-lost; b.mend(t, l) })
				e := &Engine{Note: func(code, _ string) {
					if code == "network-lost" {
						close(lost)
					}
				}}
				checkTruth(t, l, sweepStruck(t, l, b, e))
				select {
				case <-lost:
				default:
					t.Error("nothing was noted")
					close(lost)
				}
				mended.Wait()
			})
		})
	}
}

func TestANetworkThatStaysAwayIsALocalError(t *testing.T) {
	t.Parallel()
	for _, b := range blows {
		if b.slow && lab.Count(t, 0, 1, 1) == 0 {
			continue
		}
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			lab.Run(t, lab.Config{Serve: true}, func(t *testing.T, l *lab.Lab) {
				local := 0
				for _, o := range sweepStruck(t, l, b, &Engine{outagePatience: time.Millisecond}) {
					if o.Reason == scanner.LocalError {
						check(t, o, scanner.Unknown, scanner.LocalError)
						local++
						continue
					}
					checkTruth(t, l, []scanner.Observation{o})
				}
				if local == 0 {
					t.Error("no local errors")
				}
			})
		})
	}
}

// TestANetworkThatWasNeverThereIsNotWaitedFor loses an address in a run that dials
// addresses to which no route led from the beginning.
func TestANetworkThatWasNeverThereIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	o := newOutage()
	q := &loop{run: &run{}, env: &surroundings{outage: o}}
	s := &slot{since: 1}
	if q.waits(0, s, evidence{errno: unix.ENETUNREACH}, 0) {
		t.Error("waits for what was never there")
	}
	o.lose(time.Second)
	if wait, ok := o.fault(false, 2*time.Second); ok {
		t.Errorf("waits %v for what was never there", wait)
	}
	if _, ok := o.fault(true, 2*time.Second); !ok {
		t.Error("does not wait for the other family")
	}
}

func TestPauseGrowsAndPatienceEnds(t *testing.T) {
	o := newOutage()
	o.lose(time.Second)
	now, pauses := 2*time.Second, []time.Duration(nil)
	for {
		wait, ok := o.fault(false, now)
		if !ok {
			break
		}
		if again, ok := o.fault(false, now+wait/2); ok && (again != wait-wait/2 || o.wait(now+wait/2) != again) {
			t.Errorf("another dial waits %v, want %v", again, wait-wait/2)
		}
		pauses = append(pauses, wait)
		now += wait
	}
	if !slices.IsSorted(pauses) || pauses[0] != firstPause || pauses[len(pauses)-1] != lastPause || now < outagePatience {
		t.Errorf("pauses %v until %v", pauses, now)
	}
	o.mend(now)
	if _, ok := o.fault(false, now); !ok || o.wait(now) != firstPause {
		t.Errorf("after it was mended: waits %v, want %v", o.wait(now), firstPause)
	}
}
