package path

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/scanner/scannertest/lab"
)

func TestMain(m *testing.M) { os.Exit(lab.Main(m)) }

// tracerSocket is where the unprivileged tracer of a lab listens: an abstract socket of the
// scanner's namespace, because packets on its loopback interface would be counted.
const tracerSocket = "@tracer"

// An order is what it is asked for, and an outcome what it answers.
type order struct {
	Request Request
	Gap     int
	Flows   int
}

// testSilence is how long a port may be silent: two SYNs of any kernel.
const testSilence = 1900 * time.Millisecond

type outcome struct {
	Trace *Trace
	Err   string
}

var _ = lab.Register("tracer", func(ctx context.Context, _ []string) error {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	if !bytes.Contains(status, []byte("CapEff:\t0000000000000000")) {
		return fmt.Errorf("user %d has capabilities", os.Getuid())
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "unix", tracerSocket)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	lab.Ready()
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		conn, err := ln.Accept()
		if err != nil {
			return ctx.Err()
		}
		wg.Go(func() {
			defer conn.Close()
			serveOrder(ctx, conn)
		})
	}
})

func serveOrder(ctx context.Context, conn net.Conn) {
	var o order
	if err := json.NewDecoder(conn).Decode(&o); err != nil {
		fmt.Println(err)
		return
	}
	tracer := &Tracer{Gap: o.Gap, Flows: o.Flows, Silence: testSilence}
	tr, err := tracer.Trace(ctx, o.Request)
	out := outcome{Trace: tr}
	if err != nil {
		out.Err = err.Error()
	}
	if err := json.NewEncoder(conn).Encode(out); err != nil {
		fmt.Println(err)
	}
}

// traceAsNobody has the unprivileged tracer trace, all orders at the same time.
func traceAsNobody(t *testing.T, orders ...order) []*Trace {
	t.Helper()
	out, errs := make([]outcome, len(orders)), make([]error, len(orders))
	var wg sync.WaitGroup
	for i, o := range orders {
		wg.Go(func() {
			conn, err := net.Dial("unix", tracerSocket)
			if errs[i] = err; err != nil {
				return
			}
			defer conn.Close()
			errs[i] = errors.Join(json.NewEncoder(conn).Encode(o), json.NewDecoder(conn).Decode(&out[i]))
		})
	}
	wg.Wait()
	var traces []*Trace
	for i := range orders {
		if errs[i] != nil || out[i].Err != "" {
			t.Fatalf("%+v: %v, %s", orders[i], errs[i], out[i].Err)
		}
		traces = append(traces, out[i].Trace)
	}
	return traces
}

// A scenario is a filter for one host, and what is to be said of port 25 then.
type scenario struct {
	name   string
	filter lab.Filter
	want   scanner.Path // Port, Control, State and Reason are looked at too
}

// A kind is a kind of filter.
type kind struct {
	name  string
	do    lab.Action
	want  scanner.Path
	early bool // it is only ever early
}

// kinds are the kinds of filter of a family.
func kinds(fam int) []kind {
	filtered := func(reason scanner.Reason, fate scanner.Fate, typ, code uint8) scanner.Path {
		return scanner.Path{State: scanner.Filtered, Reason: reason, Fate: fate, By: scanner.ICMP{Type: typ, Code: code}}
	}
	out := []kind{
		{name: "drop", do: lab.DoDrop(), want: filtered(scanner.NoResponse, scanner.Lost, 0, 0)},
		{name: "reset", do: lab.DoReset(), want: scanner.Path{State: scanner.Closed, Reason: scanner.ConnRefused, Fate: scanner.Cut}},
		{name: "redirect", do: lab.DoRedirect(2599), want: scanner.Path{State: scanner.Open, Reason: scanner.SynAck, Fate: scanner.Interposed}, early: true},
	}
	typ, reasons := uint8(3), map[uint8]scanner.Reason{
		0: scanner.NetUnreach, 1: scanner.HostUnreach, 2: scanner.ProtoUnreach, 3: scanner.PortUnreach,
		9: scanner.NetProhibited, 10: scanner.HostProhibited, 13: scanner.AdminProhibited,
	}
	if fam == 6 {
		typ, reasons = 1, map[uint8]scanner.Reason{0: scanner.NetUnreach, 1: scanner.AdminProhibited, 3: scanner.HostUnreach, 4: scanner.PortUnreach}
	}
	for code, reason := range reasons {
		out = append(out, kind{name: fmt.Sprintf("reject %d", code), do: lab.DoReject(code), want: filtered(reason, scanner.Rejected, typ, code)})
	}
	return out
}

// scenarios are all kinds of filter at all routers, each for a host of its own.
func scenarios(fam int) (out []scenario) {
	host, hops := netip.MustParseAddr("62.30.1.0"), lab.PathHops4
	if fam == 6 {
		host, hops = netip.MustParseAddr("2a10:30::1:0"), lab.PathHops6
	}
	for n, at := range []string{lab.R1, lab.R2, lab.R3} {
		for _, k := range kinds(fam) {
			for _, early := range []bool{false, true} {
				if k.early && !early {
					continue
				}
				host = host.Next()
				s := scenario{
					name: fmt.Sprintf("%s at %s, early %t, IPv%d", k.name, at, early, fam), want: k.want,
					filter: lab.Filter{At: at, Early: early, Family: fam, To: netip.PrefixFrom(host, host.BitLen()), Ports: []uint16{25}, Do: k.do},
				}
				s.want.LastHop = n + 1 // hops count from 1
				if early {
					s.want.LastHop = n
				}
				s.want.After, s.want.NoLaterThan = s.want.LastHop, s.want.LastHop+1
				switch s.want.Fate {
				case scanner.Rejected:
					s.want.By.From, s.want.ByHop = hops[n], n+1
				case scanner.Cut, scanner.Interposed:
					s.want.Distance = s.want.LastHop + 1
				}
				if s.want.Distance == 4 { // as far as the host: whose reset it is, no hop can tell
					s.want.Fate, s.want.After, s.want.NoLaterThan = scanner.Reached, 0, 0
				}
				out = append(out, s)
			}
		}
	}
	return out
}

// usual picks some scenarios for the usual tier: every kind and router comes, but not all together.
func usual(t *testing.T, all []scenario) []scenario {
	every := lab.Count(t, 5, 1, 1)
	var out []scenario
	for i, s := range all {
		if i%every == 0 {
			out = append(out, s)
		}
	}
	return out
}

// TestEveryFilterIsFound has a filter at each router, of each kind, in forward and in
// prerouting, all at the same time, each for a host of its own, and hosts where the fault is elsewhere.
func TestEveryFilterIsFound(t *testing.T) {
	t.Parallel()
	lab.RunPath(t, lab.PathConfig{Serve: true}, func(t *testing.T, p *lab.Path) {
		p.StartNobody(t, lab.Scanner, "tracer")
		for _, at := range []string{lab.R1, lab.R2, lab.R3} {
			p.Splice(t, at, 2599)
		}
		all := usual(t, scenarios(4))
		if p.IPv6() {
			all = append(all, usual(t, scenarios(6))...)
		}
		others, orders := addElsewheres(t, p)
		for _, s := range all {
			p.Filter(t, s.filter)
			orders = append(orders, order{Request: Request{Addr: s.filter.To.Addr(), Ports: []uint16{25, 587}, Control: 587}, Flows: lab.Count(t, 2, 3, 3)})
		}
		traces := traceAsNobody(t, orders...)
		for i, e := range others {
			t.Run(e.name, func(t *testing.T) { e.check(t, traces[i]) })
		}
		traces = traces[len(others):]
		for i, tr := range traces {
			t.Run(all[i].name, func(t *testing.T) { checkScenario(t, all[i], tr) })
		}
		t.Run("traceroute -T", func(t *testing.T) { compareWithTraceroute(t, p, all, traces) })
		six := slices.IndexFunc(all, func(s scenario) bool { return s.filter.Family == 6 })
		if six < 0 {
			six = len(all)
		}
		t.Run("nmap", func(t *testing.T) { compareWithNmap(t, p, all[:six], traces[:six]) })
		if six < len(all) {
			t.Run("nmap -6", func(t *testing.T) { compareWithNmap(t, p, all[six:], traces[six:]) })
		}
		lab.Proof(t, "%d filters were found", len(all))
	})
}

func checkScenario(t *testing.T, s scenario, tr *Trace) {
	want := s.want
	want.Port, want.Control = 25, 587
	if got := tr.Paths[0]; got != want {
		t.Errorf("port 25: got %+v\nwant %+v\nhops %+v", got, want, tr.Hops)
	}
	control := scanner.Path{Port: 587, State: scanner.Open, Reason: scanner.SynAck, Fate: scanner.Reached, Distance: 4, LastHop: 3, Control: tr.Paths[1].Control}
	if got := tr.Paths[1]; got != control {
		t.Errorf("port 587: got %+v\nwant %+v\nhops %+v", got, control, tr.Hops)
	}
	if !tr.Complete || tr.Blocked() != (want.Fate != scanner.Reached) {
		t.Errorf("complete %t, blocked %t", tr.Complete, tr.Blocked())
	}
}
