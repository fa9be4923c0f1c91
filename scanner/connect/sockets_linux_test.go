package connect

import (
	"context"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/scanner/pace"
	"github.com/smtpsweep/smtpsweep/scanner/scannertest/lab"
	"github.com/smtpsweep/smtpsweep/targets"
)

// newTestLoop returns the only loop of a run.
func newTestLoop(t *testing.T, e *Engine, q scanner.Queue, emit func(scanner.Observation)) *loop {
	t.Helper()
	r := newRun(e, q, emit)
	l, err := newLoop(r, newSurroundings())
	if err != nil {
		t.Fatal(err)
	}
	r.wake = l.wake
	q.Wake(l.wake)
	return l
}

func TestASocketServesManyDials(t *testing.T) {
	t.Run("any source", func(t *testing.T) { checkOneSocket(t, &Engine{}, loopback) })
	other := netip.MustParseAddr("127.0.0.9")
	t.Run("a source", func(t *testing.T) { checkOneSocket(t, &Engine{Source: other}, other) })
}

// checkOneSocket dials closed and open ports one after another.
func checkOneSocket(t *testing.T, e *Engine, source netip.Addr) {
	closed, open := closedPort(t), serve(t, mute)
	var got []scanner.Observation
	l := newTestLoop(t, e, simple{}, func(o scanner.Observation) { got = append(got, o) })
	defer l.close()
	var fds []int32
	for _, target := range []targets.Target{closed, closed, open, closed} {
		n := len(got)
		l.acquire()
		l.now = time.Now()
		l.dial(scanner.Job{Target: target})
		for len(got) == n {
			if _, err := l.poll(0); err != nil {
				t.Fatal(err)
			}
		}
		idle := l.sockets.idle[0]
		if len(idle) != 1 {
			t.Fatalf("%d idle sockets after a dial, want 1", len(idle))
		}
		fds = append(fds, idle[0])
		state, reason := scanner.Closed, scanner.ConnRefused
		if target == open {
			state, reason = scanner.Open, scanner.SynAck
		}
		check(t, got[n], state, reason)
		if got[n].Source != source {
			t.Errorf("dial %d: source %v, want %v", n, got[n].Source, source)
		}
	}
	if len(slices.Compact(fds)) != 1 {
		t.Errorf("the dials used the descriptors %v, want one", fds)
	}
	if l.closeIdle(); len(l.sockets.idle[0]) != 0 {
		t.Error("idle sockets are left")
	}
}

// TestAnAnswerCountsThoughTheTimeIsOver: it came after the last look at the events,
// and before the look at the clock.
func TestAnAnswerCountsThoughTheTimeIsOver(t *testing.T) {
	for _, c := range []struct {
		target targets.Target
		state  scanner.State
		reason scanner.Reason
	}{{closedPort(t), scanner.Closed, scanner.ConnRefused}, {serve(t, mute), scanner.Open, scanner.SynAck}} {
		var got []scanner.Observation
		l := newTestLoop(t, &Engine{}, simple{}, func(o scanner.Observation) { got = append(got, o) })
		l.acquire()
		l.now = time.Now()
		l.misses = mostMisses + 1 // not looked for when connect returns
		l.dial(scanner.Job{Target: c.target})
		for state := uint8(tcpSynSent); state == tcpSynSent; {
			state, _ = tcpInfo(int(l.slots.at(l.slots.oldest(dialing)).fd), &l.info)
		}
		l.now = l.now.Add(time.Hour)
		l.expire()
		check(t, got[0], c.state, c.reason)
		l.close()
	}
}

// TestTheOldestOfAllLoopsLeavesThePark parks one connection in each of two loops,
// where one may be parked.
func TestTheOldestOfAllLoopsLeavesThePark(t *testing.T) {
	ts := []targets.Target{serve(t, mute), serve(t, mute)}
	var got []scanner.Observation
	older := newTestLoop(t, &Engine{Banner: true, MaxConns: 4, GreetingTimeout: time.Second, Patience: time.Hour}, simple{},
		func(o scanner.Observation) { got = append(got, o) })
	defer older.close()
	younger, err := newLoop(older.run, newSurroundings())
	if err != nil {
		t.Fatal(err)
	}
	defer younger.close()
	loops := []*loop{older, younger}
	for i, l := range loops {
		l.all = loops
		l.acquire()
		l.now = time.Now()
		l.dial(scanner.Job{Target: ts[i]})
		for l.slots.oldest(greeting) == nobody {
			l.poll(0)
		}
		l.now = l.now.Add(time.Second)
		l.expire()
	}
	if younger.clearPark(); len(got) != 0 || !older.notified.Load() {
		t.Errorf("%d given up by the loop with the younger connection, the other one woken %v; want none, true", len(got), older.notified.Load())
	}
	older.clearPark()
	older.clearPark()
	if len(got) != 1 || got[0].Target != ts[0] || got[0].Mute < time.Second {
		t.Errorf("got %+v, want the older connection, mute", got)
	}
	for _, l := range loops {
		l.abort()
	}
}

func TestIdleSocketsLeaveRoomForTheOthers(t *testing.T) {
	closed := closedPort(t)
	for _, c := range []struct{ limit, inFlight, want int }{{1000, 1, 1}, {1000, 749, 1}, {1000, 752, 0}, {15, 1, 0}} {
		l := newTestLoop(t, &Engine{MaxConns: c.limit}, simple{}, func(scanner.Observation) {})
		l.inFlight.Store(int64(c.inFlight))
		l.now = time.Now()
		l.dial(scanner.Job{Target: closed})
		for l.slots.count > 0 {
			l.poll(0)
		}
		if got := len(l.sockets.idle[0]); got != c.want {
			t.Errorf("with %d of %d connections: %d idle sockets, want %d", c.inFlight, c.limit, got, c.want)
		}
		l.close()
	}
}

// TestAnIdleSocketKeepsNothingOfItsPast dials every class from few sockets, whose
// answers are there when connect returns, or only later.
func TestAnIdleSocketKeepsNothingOfItsPast(t *testing.T) {
	t.Parallel()
	lab.Run(t, lab.Config{Classes: true, Serve: true}, func(t *testing.T, l *lab.Lab) {
		as := addrsFrom("10.64.0.0", 128)
		if l.IPv6() {
			as = append(as, addrsFrom("fd64::8", 64)...)
		}
		ts := endpoints([]uint16{25, 26, 587}, as...)
		var wg sync.WaitGroup
		for _, later := range []bool{false, true} {
			for _, banner := range []bool{false, true} {
				wg.Go(func() { checkFewSockets(t, l, ts, later, banner) }) // they mostly wait
			}
		}
		wg.Wait()
	})
}

// checkFewSockets dials targets from a loop that keeps sockets. later says that
// answers are not looked for when connect returns.
func checkFewSockets(t *testing.T, l *lab.Lab, ts []targets.Target, later, banner bool) {
	var s sweep
	e := &Engine{Banner: banner}
	loop := newTestLoop(t, e, pace.New(pace.Config{}, each(ts...)), s.emit)
	most := 0
	e.Permit = func(targets.Target) bool {
		if later {
			loop.misses = mostMisses + 1
		}
		most = max(most, len(loop.sockets.idle[0]))
		return true
	}
	if err := loop.pump(); err != nil {
		t.Error(err)
	}
	s.wg.Wait()
	if len(s.all) != len(ts) {
		t.Errorf("%d observations of %d targets", len(s.all), len(ts))
	}
	checkTruth(t, l, s.all)
	for _, o := range s.all {
		if want := source(o.Target.Addr); o.Source != want {
			t.Errorf("%v: source %v, want %v", o.Target.AddrPort(), o.Source, want)
		}
	}
	if most == 0 || most > mostIdle {
		t.Errorf("later %v, banner %v: %d idle sockets at most, want 1 to %d", later, banner, most, mostIdle)
	}
}

func TestPathsEndWhereRoutesDo(t *testing.T) {
	var borders []border
	for _, r := range []struct {
		prefix string
		varies bool
	}{
		{"0.0.0.0/0", false}, {"192.0.2.0/24", false}, {"192.0.2.128/25", false}, {"192.0.2.7/32", true},
		{"127.0.0.0/8", true}, {"240.0.0.0/4", true}, {"2001:db8::/32", false}, {"2001:db8::7/128", true}, {"ff00::/8", true},
	} {
		borders = append(borders, bordersOf(netip.MustParsePrefix(r.prefix), r.varies)...)
	}
	p := newPaths(borders)
	first := func(a string) string {
		if q := p.of(netip.MustParseAddr(a)); q != nil {
			return q.first.String()
		}
		return ""
	}
	for a, want := range map[string]string{
		"1.2.3.4": "0.0.0.0", "127.0.0.1": "", "128.0.0.1": "128.0.0.0", "192.0.2.6": "192.0.2.0", "192.0.2.7": "",
		"192.0.2.8": "192.0.2.8", "192.0.2.127": "192.0.2.8", "192.0.2.128": "192.0.2.128", "192.0.3.0": "192.0.3.0",
		"255.255.255.255": "", "::1": "::", "2001:db8::1": "2001:db8::", "2001:db8::7": "", "2001:db8::8": "2001:db8::8",
		"2001:db9::": "2001:db9::", "ff02::1": "", "fe80::1%1": "",
	} {
		if got := first(a); got != want {
			t.Errorf("%s: the path begins at %q, want %q", a, got, want)
		}
	}
	if q := paths(nil).of(netip.MustParseAddr("192.0.2.1")); q != nil {
		t.Errorf("no paths: got %+v, want none", q)
	}
}

// TestSourceIsWhatTheKernelChose has routes that lead out from two addresses.
func TestSourceIsWhatTheKernelChose(t *testing.T) {
	t.Parallel()
	other := lab.ScannerAddr4.Next().Next().Next()
	lab.Run(t, lab.Config{Serve: true}, func(t *testing.T, l *lab.Lab) {
		link := linkWith(t, lab.ScannerAddr4)
		err := netlink.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: other.AsSlice(), Mask: net.CIDRMask(24, 32)}})
		if err != nil {
			t.Fatal(err)
		}
		half := netip.MustParsePrefix("10.64.1.0/24")
		err = netlink.RouteAdd(&netlink.Route{
			Dst: &net.IPNet{IP: half.Addr().AsSlice(), Mask: net.CIDRMask(24, 32)},
			Gw:  lab.RouterAddr4.AsSlice(), Src: other.AsSlice(),
		})
		if err != nil {
			t.Fatal(err)
		}
		ts := endpoints([]uint16{25, 26}, addrsFrom("10.64.0.224", 64)...)
		s := scan(t, &Engine{}, ts...)
		checkTruth(t, l, s.all)
		for _, o := range s.all {
			want := lab.ScannerAddr4
			if half.Contains(o.Target.Addr) {
				want = other
			}
			if o.Source != want {
				t.Errorf("%v: source %v, want %v", o.Target.AddrPort(), o.Source, want)
			}
		}
	})
}

// linkWith returns the interface that has an address.
func linkWith(t *testing.T, a netip.Addr) netlink.Link {
	t.Helper()
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		addrs, _ := netlink.AddrList(link, netlink.FAMILY_V4)
		for _, b := range addrs {
			if b.IP.Equal(a.AsSlice()) {
				return link
			}
		}
	}
	t.Fatalf("no interface has %v", a)
	return nil
}

// TestPendingConnectsTakeLittleMemory holds 18,000 connects in flight, or as many
// as descriptors allow, and counts the heap.
func TestPendingConnectsTakeLittleMemory(t *testing.T) {
	t.Parallel()
	lab.Run(t, lab.Config{Classes: true}, func(t *testing.T, l *lab.Lab) {
		n := min(18_000, descriptors()-200)
		most := int64(2<<20) * int64(n) / 18_000
		i := 0
		src := func() (targets.Target, bool) {
			i++
			a := lab.Targets4.Addr().As4()
			a[1], a[2], a[3] = a[1]+byte(i>>13), byte(i>>5), byte(i<<3)|byte(lab.Drop)
			return targets.Target{Index: uint64(i), Addr: netip.AddrFrom4(a), Port: 25}, i <= n
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var dialled atomic.Int64
		all := make(chan struct{})
		e := &Engine{MaxConns: n, Timeout: time.Hour, Retries: 20, Permit: func(targets.Target) bool {
			if dialled.Add(1) == int64(n) {
				close(all)
			}
			return true
		}}
		q := pace.New(pace.Config{}, src)
		before := heap()
		over := make(chan error)
		go func() { over <- e.Scan(ctx, q, func(scanner.Observation) {}) }()
		<-all
		if grew := heap() - before; grew > most {
			t.Errorf("%d pending connects take %d bytes, want at most %d", n, grew, most)
		} else {
			t.Logf("%d pending connects take %d bytes", n, grew)
		}
		cancel()
		if err := <-over; err != context.Canceled {
			t.Errorf("got %v", err)
		}
		runtime.KeepAlive(q)
	})
}

// TestADialAllocatesNothing dials many closed ports from one loop.
func TestADialAllocatesNothing(t *testing.T) {
	closed := closedPort(t)
	var left atomic.Int64
	q := simple{&left, func(i int64) targets.Target { closed.Index = uint64(i); return closed }}
	over := 0
	l := newTestLoop(t, &Engine{}, q, func(scanner.Observation) { over++ })
	defer l.close()
	scan := func(n int64) {
		left.Store(n)
		for want := over + int(n); over < want; {
			l.fill()
			if _, err := l.poll(0); err != nil {
				t.Fatal(err)
			}
		}
	}
	scan(1000) // makes what is used again and again
	const n = 10_000
	if per := testing.AllocsPerRun(1, func() { scan(n) }) / n; per > 0.01 {
		t.Errorf("%.3f allocations a dial, want none", per)
	}
}

// heap returns the live heap in bytes.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
