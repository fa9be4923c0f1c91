package connect

import (
	"io"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/targets"
)

func TestSlotsKeepOrderAndComeBack(t *testing.T) {
	s := newSlots()
	var is []int32
	for n := range 1000 {
		i, slot := s.take(dialing)
		slot.since = int64(n)
		is = append(is, i)
	}
	for _, i := range is[:500] {
		s.move(i, greeting)
	}
	for _, i := range is[250:750] {
		s.give(i)
	}
	if s.count != 500 || s.at(s.oldest(greeting)).since != 0 || s.at(s.oldest(dialing)).since != 750 || s.oldest(parked) != nobody {
		t.Errorf("count %d, oldest %d and %d", s.count, s.oldest(greeting), s.oldest(dialing))
	}
	for range 500 {
		s.take(parked)
	}
	if len(s.chunks) != 4 {
		t.Errorf("%d chunks, want 4: slots come back", len(s.chunks))
	}
	n := 0
	for i := s.oldest(greeting); i != nobody; i = s.at(i).next {
		n++
	}
	if n != 250 {
		t.Errorf("%d in the list, want 250", n)
	}
}

func TestNeighboursAreAdmittedAsTheTableBears(t *testing.T) {
	var n neighbors
	n.init("/nonexistent")
	const gap = neighborSpan / 512
	now := time.Now()
	addr := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)}) }
	for i := range mostUnresolved {
		if now = now.Add(gap); !n.admit(addr(i), now) {
			t.Fatalf("address %d was not admitted", i)
		}
	}
	now = now.Add(gap)
	if n.admit(addr(1000), now) {
		t.Error("more unresolved than 256 at a time")
	}
	if !n.admit(addr(0), now) {
		t.Error("another port of an address that is being resolved needs no place")
	}
	n.settled(addr(0))
	if n.admit(addr(1000), now) {
		t.Error("an address is pending until its last dial is over")
	}
	n.settled(addr(0))
	if !n.admit(addr(1000), now) {
		t.Error("a place that was given back is not given again")
	}
	if n.settled(addr(1)); n.admit(addr(1001), now.Add(gap-1)) {
		t.Error("two new addresses at once: more than half of gc_thresh3 in five seconds")
	}
	for i := range 1001 {
		n.settled(addr(i))
	}
	if !n.admit(addr(1001), now.Add(neighborSpan)) || len(n.seen) != 1 || len(n.pending) != 1 {
		t.Errorf("after five seconds: %d seen, %d pending, want the new one alone", len(n.seen), len(n.pending))
	}
}

func TestOnLinkIsWhatTheLongestPrefixSays(t *testing.T) {
	s := emptySurroundings()
	s.own[netip.MustParseAddr("192.0.2.7")] = true
	s.add(netip.MustParsePrefix("192.0.2.0/24"), 2)
	s.add(netip.MustParsePrefix("192.0.2.128/25"), 0) // behind a gateway
	s.add(netip.MustParsePrefix("192.0.2.200/32"), 3)
	s.add(netip.MustParsePrefix("2001:db8::/64"), 2)
	s.add(netip.MustParsePrefix("2001:db8::/64"), 3)
	for addr, want := range map[string]bool{
		"192.0.2.1": true, "192.0.2.7": false, "192.0.2.129": false, "192.0.2.200": true, "198.51.100.1": false,
		"2001:db8::5": true, "2001:db8:1::5": false,
	} {
		if got := s.onLink(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: got %v, want %v", addr, got, want)
		}
	}
	for addr, want := range map[string][]int{"192.0.2.1": {2}, "192.0.2.200": {3}, "2001:db8::5": {2, 3}, "fe80::5%7": {7}, "198.51.100.1": nil} {
		if got := s.linksOf(netip.MustParseAddr(addr)); !slices.Equal(got, want) {
			t.Errorf("%s: interfaces %v, want %v", addr, got, want)
		}
	}
}

func TestTheNeighbourTableIsTheJudge(t *testing.T) {
	const short, long = time.Second, neighborFails
	for _, c := range []struct {
		state   uint16
		err     error
		waited  time.Duration
		message bool
		want    neighbor
	}{
		{netlink.NUD_FAILED, nil, short, true, neighborFailed},
		{netlink.NUD_FAILED, nil, short, false, neighborFailed},
		{netlink.NUD_INCOMPLETE, nil, short, true, neighborFailed},
		{netlink.NUD_INCOMPLETE, nil, long, false, neighborFailed},
		{netlink.NUD_INCOMPLETE, nil, short, false, neighborUnsaid}, // ARP may be answered yet
		{netlink.NUD_REACHABLE, nil, long, true, neighborUnsaid},    // then a firewall of ours sent the message
		{netlink.NUD_STALE, nil, long, false, neighborUnsaid},
		{0, unix.ENOENT, short, true, neighborMissing},
		{0, unix.ENOENT, long, true, neighborFailed},
		{0, unix.ENOENT, long, false, neighborMissing},
		{0, unix.EOPNOTSUPP, short, true, neighborFailed},
		{0, unix.EOPNOTSUPP, long, false, neighborUnsaid},
	} {
		if got := judgeNeighbor(c.state, c.err, c.waited, c.message); got != c.want {
			t.Errorf("%+v: got %v", c, got)
		}
	}
}

func TestAWrongSourceOrInterfaceEndsTheRunBeforeItStarts(t *testing.T) {
	for _, e := range []*Engine{{Source: netip.MustParseAddr("192.0.2.99")}, {Interface: "no-such-if0"}} {
		err := e.Scan(t.Context(), simple{}, func(obs scanner.Observation) { t.Errorf("emitted %+v", obs) })
		if err == nil {
			t.Errorf("source %v, interface %q: no error", e.Source, e.Interface)
		}
	}
}

// A loop that is kept from its answers, here by Permit and in the field by
// thousands of conversations, does not take its own delay for the peer's.
func TestGreetingArrivedWhenTheKernelSaysSo(t *testing.T) {
	var greeted time.Time
	sent := make(chan struct{})
	first := serve(t, func(c net.Conn) {
		defer c.Close()
		io.WriteString(c, "220 mail.example.org ESMTP\r\n")
		greeted = time.Now()
		close(sent)
		io.Copy(io.Discard, c)
	})
	all := []targets.Target{first}
	for range min(runtime.GOMAXPROCS(0), mostLoops) { // each loop dials one of them, and stands still
		all = append(all, closedPort(t))
	}
	const still = time.Second
	e := &Engine{Banner: true, Permit: func(to targets.Target) bool {
		if to != first {
			<-sent
			time.Sleep(still)
		}
		return true
	}}
	for _, obs := range scan(t, e, all...).all {
		if obs.Target == first && (obs.At.After(greeted.Add(still/2)) || obs.At.Before(obs.Connected)) {
			t.Errorf("connected %v and arrived %v after it was sent", obs.Connected.Sub(greeted), obs.At.Sub(greeted))
		}
	}
}

func TestWakeAfterTheEndIsHarmless(t *testing.T) {
	l, err := newLoop(&run{Engine: &Engine{}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	l.asleep.Store(true)
	l.close()
	l.wake()
	if !l.notified.Load() {
		t.Error("wake left no trace")
	}
}

// simple is the least queue there is: n targets, no limits.
type simple struct {
	n    *atomic.Int64
	next func(i int64) targets.Target
}

func (q simple) Next(time.Time) (scanner.Job, time.Duration, bool) {
	if q.n == nil {
		return scanner.Job{}, 0, false
	}
	i := q.n.Add(-1)
	if i < 0 {
		return scanner.Job{}, 0, false
	}
	return scanner.Job{Target: q.next(i)}, 0, true
}
func (simple) Done(scanner.Job)                 {}
func (simple) Retry(scanner.Job, time.Duration) {}
func (simple) Wake(func())                      {}

// BenchmarkClosed dials closed ports of 127.0.0.0/8: no verdict, a figure.
func BenchmarkClosed(b *testing.B) {
	var n atomic.Int64
	n.Store(int64(b.N))
	var closed atomic.Int64
	q := simple{&n, func(i int64) targets.Target {
		return targets.Target{Addr: netip.AddrFrom4([4]byte{127, 1, byte(i >> 8), byte(i)}), Port: uint16(1 + i>>16&255)}
	}}
	b.ReportAllocs()
	var r0, r1 unix.Rusage
	unix.Getrusage(unix.RUSAGE_SELF, &r0)
	b.ResetTimer()
	err := new(Engine).Scan(b.Context(), q, func(obs scanner.Observation) {
		if obs.State == scanner.Closed {
			closed.Add(1)
		}
	})
	b.StopTimer()
	unix.Getrusage(unix.RUSAGE_SELF, &r1)
	if err != nil || closed.Load() != int64(b.N) {
		b.Errorf("%d of %d closed, %v", closed.Load(), b.N, err)
	}
	cpu := time.Duration(r1.Utime.Nano() + r1.Stime.Nano() - r0.Utime.Nano() - r0.Stime.Nano())
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "probes/s")
	b.ReportMetric(float64(cpu.Microseconds())/float64(b.N), "µs-cpu/probe")
}

// BenchmarkBare is the least that any prober must ask of the kernel, on as many
// threads: BenchmarkClosed is to be compared with it, in the same run.
func BenchmarkBare(b *testing.B) {
	var n atomic.Int64
	n.Store(int64(b.N))
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), mostLoops) {
		wg.Go(func() {
			var sa unix.SockaddrInet4
			for i := n.Add(-1); i >= 0; i = n.Add(-1) {
				fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
				if err != nil {
					b.Error(err)
					return
				}
				sa.Addr, sa.Port = [4]byte{127, 1, byte(i >> 8), byte(i)}, int(1+i>>16&255)
				unix.Connect(fd, &sa)
				if errno := socketError(fd); errno != unix.ECONNREFUSED {
					b.Error(errno)
				}
				unix.Close(fd)
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "probes/s")
}
