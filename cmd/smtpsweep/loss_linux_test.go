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
	losses := []float64{0, 1, 5, 10}[lab.Count(t, 3, 0, 0):]
	lab.Run(t, lab.Config{Wire: true, Serve: true, Binary: true}, func(t *testing.T, l *lab.Lab) {
		// A server that repeats its SYN-ACK has more chances than the law is about.
		l.Sysctl(t, lab.Target, "net/ipv4/tcp_synack_retries", "0")
		for _, loss := range losses {
			t.Run(fmt.Sprintf("%v percent each way", loss), func(t *testing.T) {
				f := lab.Faults{Seed: uint64(loss) + 1, Loss: loss}
				syns := lab.Count(t, 2, 4, 4) // with two, more are missed, and the usual tests wait less
				ws := scanOverWire(t, l, f, lab.Count(t, 600, 4000, 20_000), syns, "-p", "25,26/smtp", "--probe", "port")
				ws.check(t, l, endpointsOf(ws.addrs, 25, 26), checkState)
				ws.checkMissed(t, loss/100)
			})
		}
	})
}

// TestConversationsOverABadWire sweeps every class, conversations and all, over a wire on which
// frames take up to 900 ms each way, overtake one another and come twice, which changes no row, and
// over one that loses some, too: then who was not heard is silent, and what was heard is what is true.
// (With more loss a server may lose every ACK of a handshake, six of them in a minute, and stay mute.)
func TestConversationsOverABadWire(t *testing.T) {
	t.Parallel()
	late := lab.Faults{Seed: 4, Jitter: 900 * time.Millisecond, Duplicate: 30}
	lossy := lab.Faults{Seed: 9, Jitter: 100 * time.Millisecond, Duplicate: 5, Loss: 3, Delay: 5 * time.Millisecond}
	for _, f := range []lab.Faults{late, lossy}[lab.Count(t, 1, 0, 0):] {
		t.Run(fmt.Sprintf("up to %v, %v percent lost", f.Delay+f.Jitter, f.Loss), func(t *testing.T) {
			t.Parallel()
			cfg := lab.Config{Wire: true, Classes: true, Serve: true, Binary: true, RejectAt: lab.Router}
			lab.Run(t, cfg, func(t *testing.T, l *lab.Lab) {
				ws := scanOverWire(t, l, f, lab.Count(t, 64, 512, 4096), 4)
				ws.check(t, l, endpointsOf(ws.addrs, mailPorts...), checkRow)
				if ws.traffic.Copies == 0 || (ws.traffic.Lost > 0) != (f.Loss > 0) {
					t.Errorf("%d frames came twice, and %d never", ws.traffic.Copies, ws.traffic.Lost)
				}
			})
		})
	}
}

// A wireScan is a sweep over a wire, and what passed it.
type wireScan struct {
	addrs   []netip.Addr
	rows    []map[string]string
	said    string
	traffic lab.Traffic
	syns    int           // that the time-out buys
	slack   time.Duration // how late a frame may be without changing a row
}

// scanOverWire scans n addresses over a wire with faults, with a time-out that buys so many SYNs. If the machine is too busy for the
// wire to be what it should, it scans others, more slowly: at those of before there may be
// connections that only one side knows to be over.
func scanOverWire(t *testing.T, l *lab.Lab, f lab.Faults, n, syns int, args ...string) (ws wireScan) {
	t.Helper()
	ws.syns = syns
	ws.addrs, ws.slack = addressesFrom(lab.Targets4.Addr(), n), 300*time.Millisecond // the last SYN leaves 0.8 s
	if f.Loss == 0 && f.Jitter > 0 {
		ws.slack = time.Second // the first SYN has an answer: 3.9 s, less twice the jitter
	}
	for rate := lab.Count(t, 2000, 5000, 10_000); ; rate /= 2 {
		w := l.Wire(t, f)
		spec := fmt.Sprintf("%v-%v", ws.addrs[0], ws.addrs[n-1])
		s := startScan(t, l, slices.Concat(args, []string{"--timeout", fmt.Sprintf("%d.9s", syns-1), "--rate", strconv.Itoa(rate), spec})...)
		ws.rows = s.rows(t)
		ws.traffic, ws.said = w.Stop(t), s.said.String()
		late := 0
		for _, r := range ws.rows {
			if ws.late(r) {
				late++
			}
		}
		if ws.traffic.Overrun == 0 && late*2 < len(ws.rows) {
			t.Logf("at %d probes a second %d of %d frames were lost on the wire; %d of %d endpoints were slowed by a busy machine",
				rate, ws.traffic.Lost, ws.traffic.Frames, late, len(ws.rows))
			return ws
		}
		t.Logf("at %d probes a second the machine lost %d frames by itself, and slowed %d of %d endpoints: again, more slowly",
			rate, ws.traffic.Overrun, late, len(ws.rows))
		if rate < 100 {
			t.Fatal("this machine is too busy to be a wire")
		}
		ws.addrs = addressesFrom(ws.addrs[n-1].Next(), n)
	}
}

// late reports whether the wire, or the scanner, had to wait for a processor so long
// that an answer may have come too late.
func (ws *wireScan) late(r map[string]string) bool {
	passed := ws.traffic.Endpoints[endpointOf(r)]
	return passed.Late > ws.slack || passed.SYN > ws.syns && r["icmp_from"] == "" // who sent ICMP was dialled twice
}

// check compares rows with what is true and what passed the wire. Who answered is
// what it is, and who did not is silent; the attempts are the SYNs.
func (ws *wireScan) check(t *testing.T, l *lab.Lab, want []netip.AddrPort, compare func(*testing.T, map[string]string, lab.Expect)) {
	t.Helper()
	checkAsked(t, ws.rows, want)
	for _, r := range ws.rows {
		endpoint := endpointOf(r)
		truth, passed := l.Truth(endpoint.Addr(), endpoint.Port()), ws.traffic.Endpoints[endpoint]
		if attemptsIn(r) != passed.SYN {
			t.Errorf("%v (%s): %s attempts, %d SYNs on the wire", endpoint, r["reason"], r["attempts"], passed.SYN)
		}
		if passed.Answers() == 0 || ws.late(r) && r["reason"] == "no-response" {
			truth = lab.Expect{Class: truth.Class, State: "filtered", Reason: "no-response"}
		}
		if attemptsIn(r) > 4 { // true, as we know; a machine too busy to end the wait in time lets the kernel send more
			r["attempts"] = "4"
		}
		compare(t, r, truth)
	}
}

// checkState compares what is known of a row with --probe port.
func checkState(t *testing.T, r map[string]string, truth lab.Expect) {
	t.Helper()
	if r["state"] != truth.State || r["reason"] != truth.Reason || r["service"] != "" {
		t.Errorf("%v: %s %s %s, want %s %s", endpointOf(r), r["state"], r["reason"], r["service"], truth.State, truth.Reason)
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

// checkAsked: each endpoint has one row, and nothing else has one.
func checkAsked(t *testing.T, rows []map[string]string, want []netip.AddrPort) {
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

// checkMissed: as many endpoints were missed as the law says for loss q each way, within the
// interval in which 99.9 % of all runs are. Before Linux 6.5 the kernel sends three SYNs
// where later ones send four. An endpoint that answered one more, which a machine too busy
// to end the wait in time let the kernel send, was missed by these.
func (ws *wireScan) checkMissed(t *testing.T, q float64) {
	t.Helper()
	k := ws.syns
	for _, r := range ws.rows {
		if passed := ws.traffic.Endpoints[endpointOf(r)]; passed.Answers() == 0 {
			k = min(k, passed.SYN)
		}
	}
	missed := 0
	for _, r := range ws.rows {
		passed := ws.traffic.Endpoints[endpointOf(r)]
		if passed.Answers() == 0 || passed.SYN > k && passed.Late <= ws.slack {
			missed++
		}
	}
	n, p := len(ws.rows), math.Pow(1-(1-q)*(1-q), float64(k))
	low, high := binomial(n, p)
	t.Logf("%v %% lost each way: %d of %d missed by %d SYNs, the law says %.1f, 99.9 %% of all runs %d to %d", 100*q, missed, n, k, float64(n)*p, low, high)
	if k < min(ws.syns, 3) || missed < low || missed > high {
		t.Errorf("%d of %d missed after %d SYNs each, want %d to %d", missed, n, k, low, high)
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
