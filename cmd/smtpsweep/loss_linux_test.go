package main

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner/scannertest/lab"
)

// TestLoss sweeps endpoints that all answer, half of them open and half closed,
// over a wire that loses frames each way. A SYN has an answer with probability
// (1-q)², so that k of them have none with p^k, p = 1-(1-q)²: as many endpoints
// are missed as that says, not more (answers overlooked) and not fewer (SYNs that nobody
// was told of). What was missed is silent, and never the other thing.
func TestLoss(t *testing.T) {
	t.Parallel()
	losses := []float64{0, 1, 5, 10}
	if lab.Count(t, 0, 1, 1) == 0 {
		losses = losses[3:]
	}
	lab.Run(t, lab.Config{Wire: true, Serve: true, Binary: true}, func(t *testing.T, l *lab.Lab) {
		// A server that repeats its SYN-ACK has more chances than the law is about.
		l.Sysctl(t, lab.Target, "net/ipv4/tcp_synack_retries", "0")
		for _, loss := range losses {
			t.Run(fmt.Sprintf("%v percent each way", loss), func(t *testing.T) {
				f := lab.Faults{Seed: uint64(loss) + 1, Loss: loss}
				ws := scanOverWire(t, l, f, lab.Count(t, 600, 4000, 20_000), "-p", "25,26/smtp", "--probe", "port")
				missed := missed(ws.rows)
				checkEach(t, ws.rows, endpointsOf(ws.addrs, 25, 26))
				checkLossRows(t, ws.rows, ws.traffic)
				checkMissed(t, missed, len(ws.rows), loss/100)
				t.Logf("%v %% lost each way: %d of %d missed; the wire lost %d of %d frames, late by %v at most",
					loss, len(missed), len(ws.rows), ws.traffic.Lost, ws.traffic.Frames, ws.traffic.Late)
			})
		}
	})
}

// TestDelay sweeps every class over a wire on which frames take up to 900 ms each way, overtake one
// another and come twice. None of that changes a row.
func TestDelay(t *testing.T) {
	t.Parallel()
	lab.Run(t, lab.Config{Wire: true, Classes: true, Serve: true, Binary: true, RejectAt: lab.Router}, func(t *testing.T, l *lab.Lab) {
		jitter := time.Duration(lab.Count(t, 300, 900, 900)) * time.Millisecond
		f := lab.Faults{Seed: 4, Jitter: jitter, Duplicate: 30}
		ws := scanOverWire(t, l, f, lab.Count(t, 64, 512, 4096))
		checkTruth(t, l, ws.rows, ws.addrs)
		checkAttemptsOfEach(t, ws.rows, ws.traffic)
		if tr := ws.traffic; tr.Copies == 0 || tr.Lost != 0 {
			t.Errorf("%d frames, %d copies, %d lost", tr.Frames, tr.Copies, tr.Lost)
		}
	})
}

// A wireScan is a sweep over a wire, and what passed it.
type wireScan struct {
	addrs   []netip.Addr
	rows    []map[string]string
	said    string
	traffic lab.Traffic
}

// scanOverWire scans n addresses over a wire with faults. If the machine is too busy for the
// wire to be what it should, it scans others, more slowly: at those of before there may be
// connections that only one side knows to be over.
func scanOverWire(t *testing.T, l *lab.Lab, f lab.Faults, n int, args ...string) (ws wireScan) {
	t.Helper()
	const late = 300 * time.Millisecond // the last of four SYNs leaves 0.8 s before the time is over
	ws.addrs = addressesFrom(lab.Targets4.Addr(), n)
	for rate := lab.Count(t, 2000, 5000, 10_000); ; rate /= 2 {
		w := l.Wire(t, f)
		spec := fmt.Sprintf("%v-%v", ws.addrs[0], ws.addrs[n-1])
		s := startScan(t, l, slices.Concat(args, []string{"--rate", strconv.Itoa(rate), spec})...)
		ws.rows = s.rows(t)
		ws.traffic, ws.said = w.Stop(t), s.said.String()
		if ws.traffic.Sound(late) {
			return ws
		}
		t.Logf("at %d probes a second the wire lost %d frames by itself, and was late by %v: again, more slowly",
			rate, ws.traffic.Overrun, ws.traffic.Late)
		if rate < 100 {
			t.Fatal("this machine is too busy to be a wire")
		}
		ws.addrs = addressesFrom(ws.addrs[n-1].Next(), n)
	}
}

// addressesFrom returns n addresses, from one on.
func addressesFrom(addr netip.Addr, n int) (all []netip.Addr) {
	for range n {
		all = append(all, addr)
		addr = addr.Next()
	}
	return all
}

// endpointsOf returns ports of addresses.
func endpointsOf(addrs []netip.Addr, ports ...uint16) (all []netip.AddrPort) {
	for _, addr := range addrs {
		for _, port := range ports {
			all = append(all, netip.AddrPortFrom(addr, port))
		}
	}
	return all
}

// endpointOf returns the endpoint of a row.
func endpointOf(r map[string]string) netip.AddrPort {
	addr, _ := netip.ParseAddr(r["address"]) // not valid: nobody asked for it
	port, _ := strconv.ParseUint(r["port"], 10, 16)
	return netip.AddrPortFrom(addr, uint16(port))
}

// attemptsIn returns the attempts of a row.
func attemptsIn(r map[string]string) int {
	n, _ := strconv.Atoi(r["attempts"])
	return n
}

// checkEach: each endpoint has one row, and nothing else has one.
func checkEach(t *testing.T, rows []map[string]string, want []netip.AddrPort) {
	t.Helper()
	n := map[netip.AddrPort]int{}
	for _, r := range rows {
		n[endpointOf(r)]++
	}
	for _, endpoint := range want {
		if n[endpoint] != 1 {
			t.Errorf("%v: %d rows, want 1", endpoint, n[endpoint])
		}
		delete(n, endpoint)
	}
	for endpoint := range n {
		t.Errorf("%v: nobody asked for it", endpoint)
	}
}

// checkLossRows compares each row with what passed the wire: who is open or
// closed has been told so, who is silent has not, and the attempts are the SYNs.
func checkLossRows(t *testing.T, rows []map[string]string, tr lab.Traffic) {
	t.Helper()
	checkAttemptsOfEach(t, rows, tr)
	for _, r := range rows {
		passed, got := tr.Endpoints[endpointOf(r)], r["state"]+" "+r["reason"]
		truth := "open syn-ack"
		if r["port"] == "26" {
			truth = "closed conn-refused"
		}
		switch {
		case got == truth && passed.Answers() > 0:
		case got == "filtered no-response" && (passed.Answers() == 0 || passed.SYN > 4): // its last SYN left as the time was over
		default:
			t.Errorf("%v: %s, %+v passed the wire", endpointOf(r), got, passed)
		}
	}
}

// checkAttemptsOfEach compares the attempts of each row with the SYNs that came by.
func checkAttemptsOfEach(t *testing.T, rows []map[string]string, tr lab.Traffic) {
	t.Helper()
	for _, r := range rows {
		if syns := tr.Endpoints[endpointOf(r)].SYN; attemptsIn(r) != syns {
			t.Errorf("%v (%s): %s attempts, %d SYNs on the wire", endpointOf(r), r["reason"], r["attempts"], syns)
		}
	}
}

// missed returns how many SYNs each endpoint got that answered none.
func missed(rows []map[string]string) (attempts []int) {
	for _, r := range rows {
		if r["state"] == "filtered" {
			attempts = append(attempts, attemptsIn(r))
		}
	}
	return attempts
}

// checkMissed: of n endpoints as many were missed as the law says for loss q each
// way, within the interval in which 99.9 % of all runs are. How many SYNs the
// time-out buys is for the kernel to say: three or four, on a machine too busy
// to end the wait in time more.
func checkMissed(t *testing.T, attempts []int, n int, q float64) {
	t.Helper()
	least, most := 3, 4
	if len(attempts) > 0 {
		least, most = slices.Min(attempts), slices.Max(attempts)
	}
	p := 1 - (1-q)*(1-q)
	low, _ := binomial(n, math.Pow(p, float64(most)))
	_, high := binomial(n, math.Pow(p, float64(least)))
	if least < 3 || len(attempts) < low || len(attempts) > high {
		t.Errorf("%d of %d missed after %d to %d SYNs each, want %d to %d", len(attempts), n, least, most, low, high)
	}
}

// binomial returns the interval that holds at least 99.9 % of the outcomes of n
// trials with probability p, with half of the rest at most on each side.
func binomial(n int, p float64) (low, high int) {
	const tail = 0.0005
	if p <= 0 || p >= 1 {
		return int(p) * n, int(p) * n
	}
	logOf := func(k int) float64 { v, _ := math.Lgamma(float64(k + 1)); return v } // of k!
	low, sum := -1, 0.0
	for k := 0; k <= n; k++ {
		sum += math.Exp(logOf(n) - logOf(k) - logOf(n-k) + float64(k)*math.Log(p) + float64(n-k)*math.Log1p(-p))
		if low < 0 && sum > tail {
			low = k
		}
		if sum >= 1-tail {
			return low, k
		}
	}
	return low, n
}

func TestBinomial(t *testing.T) {
	for _, tt := range []struct {
		n         int
		p         float64
		low, high int
	}{
		{10, 0, 0, 0}, {10, 1, 10, 10}, {1, 0.5, 0, 1}, // by hand
		{10, 0.5, 0, 10},   // 2^-10 on each side is more than the tail
		{100, 0.5, 34, 66}, // tables of the binomial distribution
	} {
		if low, high := binomial(tt.n, tt.p); low != tt.low || high != tt.high {
			t.Errorf("binomial(%d, %v) = %d, %d, want %d, %d", tt.n, tt.p, low, high, tt.low, tt.high)
		}
	}
}
