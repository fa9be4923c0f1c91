package lab

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// numbered returns a TCP segment to port 25 of an address, with a number in it.
func numbered(addr byte, n uint32) []byte {
	frame := make([]byte, etherHeader+20+20+4)
	binary.BigEndian.PutUint16(frame[12:], etherIPv4)
	ip := frame[etherHeader:]
	ip[0], ip[9] = 0x45, protoTCP
	copy(ip[16:], []byte{10, 64, 0, addr})
	binary.BigEndian.PutUint16(ip[22:], 25)
	ip[33] = flagSYN
	binary.BigEndian.PutUint32(frame[len(frame)-4:], n)
	return frame
}

// sendThrough gives a way one frame a millisecond of a clock that is not the
// machine's, and returns the numbers of what came out, in its order, and when.
func sendThrough(t *testing.T, f Faults, n int) (out []uint32, at []time.Duration, w *way) {
	t.Helper()
	base := time.Unix(0, 0)
	now := base
	w = newWay(f, outward, func(frame []byte) error {
		out = append(out, binary.BigEndian.Uint32(frame[len(frame)-4:]))
		at = append(at, now.Sub(base))
		return nil
	})
	buf := make([]byte, 0, 64) // the ring's memory is used again, too
	for i := range n {
		buf = append(buf[:0], numbered(byte(i%250), uint32(i))...)
		if err := errors.Join(w.take(buf, now, now), w.deliver(now)); err != nil {
			t.Fatal(err)
		}
		now = now.Add(time.Millisecond)
	}
	for wait := w.untilDue(now); wait >= 0; wait = w.untilDue(now) {
		now = now.Add(wait)
		if err := w.deliver(now); err != nil {
			t.Fatal(err)
		}
	}
	return out, at, w
}

func TestAWayKeepsTheOrderUnlessItJitters(t *testing.T) {
	const n = 5000
	for _, f := range []Faults{{}, {Delay: 40 * time.Millisecond}, {Delay: 40 * time.Millisecond, Jitter: 300 * time.Millisecond}} {
		out, at, w := sendThrough(t, f, n)
		if sorted := slices.IsSorted(out); sorted != (f.Jitter == 0) {
			t.Errorf("%+v: in order: %t", f, sorted)
		}
		for i, number := range out {
			sent := time.Duration(number) * time.Millisecond
			if took := at[i] - sent; took < f.Delay || took > f.Delay+f.Jitter+time.Millisecond {
				t.Fatalf("%+v: frame %d took %v", f, number, took)
			}
		}
		slices.Sort(out)
		if len(out) != n || len(slices.Compact(out)) != n || w.lost != 0 || w.copies != 0 {
			t.Errorf("%+v: %d frames came, %d lost, %d copies; want each once", f, len(out), w.lost, w.copies)
		}
	}
}

func TestAWayCountsWhatItDoes(t *testing.T) {
	const n = 20_000
	f := Faults{Seed: 3, Loss: 10, Duplicate: 25, Jitter: 50 * time.Millisecond}
	out, _, w := sendThrough(t, f, n)
	checkShare(t, "lost", w.lost, n, 10)
	checkShare(t, "twice", w.copies, n-w.lost, 25)
	if w.frames != n || len(out) != n-w.lost+w.copies {
		t.Errorf("%d of %d frames counted, %d came out: %d lost, %d copies", w.frames, n, len(out), w.lost, w.copies)
	}
	syns := 0
	for endpoint, s := range w.seen {
		if endpoint.Port() != 25 {
			t.Errorf("counted %v", endpoint)
		}
		syns += s.passed.SYN
	}
	if syns != n || len(w.seen) != 250 {
		t.Errorf("%d SYNs of %d endpoints, want %d of 250: lost ones count", syns, len(w.seen), n)
	}
}

func TestAWireCarriesEverything(t *testing.T) {
	t.Parallel()
	Run(t, Config{Classes: true, Serve: true, RejectAt: Router, Wire: true}, func(t *testing.T, l *Lab) {
		for _, f := range []Faults{{}, {Delay: 5 * time.Millisecond, Jitter: 20 * time.Millisecond, Duplicate: 30}} {
			w := l.Wire(t, f)
			for _, base := range []string{"10.64.3.8", "fd64::10"} {
				t.Run(base, func(t *testing.T) { checkClasses(t, l, netip.MustParseAddr(base)) })
			}
			checkCounted(t, l, w.Stop(t), f.Duplicate > 0)
		}
		checkClasses(t, l, netip.MustParseAddr("10.64.4.0")) // after it
	})
}

// checkCounted: the wire has seen what every class of port 25 answers. twice: some answers came more than once.
func checkCounted(t *testing.T, l *Lab, tr Traffic, twice bool) {
	t.Helper()
	addr := netip.MustParseAddr("10.64.3.8")
	more := false
	for range 8 {
		p, truth := tr.Endpoints[netip.AddrPortFrom(addr, 25)], l.Truth(addr, 25)
		open, closed, rejected := truth.State == "open", truth.State == "closed", truth.From.IsValid()
		if p.SYN == 0 || (p.SYNACK > 0) != open || closed && p.RST == 0 || (p.ICMP > 0) != rejected {
			t.Errorf("%s (%v): %+v", addr, truth.Class, p)
		}
		more = more || p.Answers() > p.SYN
		addr = addr.Next()
	}
	if twice && !more || tr.Lost != 0 || (tr.Copies > 0) != twice {
		t.Errorf("%d frames, %d lost, %d copies", tr.Frames, tr.Lost, tr.Copies)
	}
}

// TestAWireLosesWhatItIsTold dials a thousand endpoints at once. Which of them get no
// answer to their first SYN is known before.
func TestAWireLosesWhatItIsTold(t *testing.T) {
	t.Parallel()
	const n = 1000
	Run(t, Config{Serve: true, Wire: true}, func(t *testing.T, l *Lab) {
		w := l.Wire(t, Faults{Loss: 100})
		if s := dial(t, Targets4.Addr(), 25, 50*time.Millisecond); !errors.Is(s.errno, unix.EINPROGRESS) {
			t.Errorf("all is lost, and the answer is %+v", s)
		}
		w.Stop(t)
		l.Sysctl(t, Scanner, "net/ipv4/tcp_syn_retries", "1")
		f := Faults{Seed: 11, Loss: 20}
		for range 5 { // a busy machine may lose some by itself
			w = l.Wire(t, f)
			dialAll(t, n)
			if tr := w.Stop(t); tr.Overrun == 0 {
				checkLost(t, tr, f, n)
				return
			}
		}
		t.Error("the machine lost frames by itself each time")
	})
}

// dialAll dials a closed port of n addresses at once, and waits for the answers as long as the kernel does.
func dialAll(t *testing.T, n int) {
	t.Helper()
	var wg sync.WaitGroup
	addr := Targets4.Addr()
	for range n {
		dest := addr
		wg.Go(func() { dial(t, dest, 26, answered) })
		addr = addr.Next()
	}
	wg.Wait()
}

// checkLost: an endpoint was sent a second SYN if the first one or its answer was to be
// lost, and had an answer if not.
func checkLost(t *testing.T, tr Traffic, f Faults, n int) {
	t.Helper()
	if len(tr.Endpoints) != n {
		t.Errorf("%d endpoints on the wire, want %d", len(tr.Endpoints), n)
	}
	d, lost := newDealer(f), 0
	for endpoint, p := range tr.Endpoints {
		if d.fate(frameKey{outward, endpoint, 0}).copies > 0 && d.fate(frameKey{inward, endpoint, 0}).copies > 0 {
			if p.RST == 0 {
				t.Errorf("%v: nothing was to be lost: %+v", endpoint, p)
			}
			continue
		}
		lost++
		if p.SYN < 2 {
			t.Errorf("%v: the first SYN or its answer was to be lost: %+v", endpoint, p)
		}
	}
	checkShare(t, "first SYNs without an answer", lost, n, 36) // 1-(1-0.2)²
}
