package path

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/scanner/scannertest/lab"
)

// An elsewhere is a trace whose port 25 is not stopped by a filter of one router, or not plainly.
type elsewhere struct {
	name   string
	host   string
	filter lab.Filter // of port 25, or as it says; To is filled in
	none   bool       // there is no filter
	ports  []uint16   // nil: 25 and 587
	want   scanner.Path
	err    string // in Path.Err
}

var elsewheres = []elsewhere{
	{name: "no filter", host: "62.30.2.1", none: true,
		want: scanner.Path{Control: 587, State: scanner.Open, Reason: scanner.SynAck, Fate: scanner.Reached, Distance: 4, LastHop: 3}},
	{name: "closed by the host", host: "62.30.2.2", none: true, ports: []uint16{26, 587},
		want: scanner.Path{Port: 26, Control: 587, State: scanner.Closed, Reason: scanner.ConnRefused, Fate: scanner.Reached, Distance: 4, LastHop: 3}},
	{name: "dropped by the host itself", host: "62.30.2.3", filter: lab.Filter{At: lab.Target},
		want: scanner.Path{Control: 587, State: scanner.Filtered, Reason: scanner.NoResponse, Fate: scanner.Lost, LastHop: 3, After: 3, NoLaterThan: 4}},
	{name: "rejected by the host itself", host: "62.30.2.4", filter: lab.Filter{At: lab.Target, Family: 4, Do: lab.DoReject(13)},
		want: scanner.Path{Control: 587, State: scanner.Filtered, Reason: scanner.AdminProhibited, Fate: scanner.Rejected, LastHop: 3, After: 3, NoLaterThan: 4,
			By: scanner.ICMP{From: netip.MustParseAddr("62.30.2.4"), Type: 3, Code: 13}, ByHop: 4}},
	{name: "all ports dropped at r2", host: "62.30.2.5", filter: lab.Filter{At: lab.R2, Ports: []uint16{25, 587}},
		want: scanner.Path{State: scanner.Filtered, Reason: scanner.NoResponse, Fate: scanner.Lost, LastHop: 2, After: 2}},
	{name: "a network that is dark", host: "198.51.100.25", none: true, // r3 finds no route before it looks at the TTL
		want: scanner.Path{State: scanner.Filtered, Reason: scanner.NoResponse, Fate: scanner.Lost, LastHop: 2, After: 2}},
	{name: "own firewall drops", host: "62.30.2.6", filter: lab.Filter{At: lab.Scanner},
		want: scanner.Path{Control: 587, State: scanner.Unknown, Reason: scanner.LocalError, Fate: scanner.Untraced}, err: "firewall"},
	{name: "own firewall resets", host: "62.30.2.7", filter: lab.Filter{At: lab.Scanner, Do: lab.DoReset()},
		want: scanner.Path{Control: 587, State: scanner.Unknown, Reason: scanner.LocalError, Fate: scanner.Untraced}, err: "firewall"},
	{name: "own firewall rejects", host: "62.30.2.8", filter: lab.Filter{At: lab.Scanner, Family: 4, Do: lab.DoReject(13)},
		want: scanner.Path{Control: 587, State: scanner.Unknown, Reason: scanner.LocalError, Fate: scanner.Untraced}, err: "firewall"},
	{name: "a limit that lets one SYN through", host: "62.30.2.9", filter: lab.Filter{At: lab.R2, Do: lab.DoLimit(1, 1, time.Hour)},
		want: scanner.Path{Control: 587, State: scanner.Open, Reason: scanner.SynAck, Fate: scanner.Reached, LastHop: 2}},
	{name: "behind NAT", host: "62.30.2.10", filter: lab.Filter{At: lab.R1, Ports: []uint16{25, 587}, Do: lab.DoMasquerade()},
		want: scanner.Path{Control: 587, State: scanner.Open, Reason: scanner.SynAck, Fate: scanner.Reached, Distance: 4, LastHop: 3}},
	{name: "IPv6: dropped at r1", host: "2a10:30::2:1", filter: lab.Filter{At: lab.R1},
		want: scanner.Path{Control: 587, State: scanner.Filtered, Reason: scanner.NoResponse, Fate: scanner.Lost, LastHop: 1, After: 1, NoLaterThan: 2}},
}

// addElsewheres sets their filters.
func addElsewheres(t *testing.T, p *lab.Path) (cases []elsewhere, orders []order) {
	t.Helper()
	for _, e := range elsewheres {
		host := netip.MustParseAddr(e.host)
		if host.Is6() && !p.IPv6() {
			continue
		}
		if e.ports == nil {
			e.ports = []uint16{25, 587}
			e.want.Port = 25
		}
		if !e.none {
			e.filter.To = netip.PrefixFrom(host, host.BitLen())
			if e.filter.Ports == nil {
				e.filter.Ports = []uint16{25}
			}
			p.Filter(t, e.filter)
		}
		cases = append(cases, e)
		orders = append(orders, order{Request: Request{Addr: host, Ports: e.ports}, Gap: 2, Flows: 2})
	}
	return cases, orders
}

func (e elsewhere) check(t *testing.T, tr *Trace) {
	got := tr.Paths[0]
	if !strings.Contains(got.Err, e.err) {
		t.Errorf("says %q, want %q in it", got.Err, e.err)
	}
	got.Err = ""
	if got != e.want {
		t.Errorf("got %+v\nwant %+v\nhops %+v", got, e.want, tr.Hops)
	}
}

// TestLimitedAndMuteRouters has kernels as they are, which answer six SYNs and then one a
// second, and a router that never answers: the interval is wider, and never wrong.
func TestLimitedAndMuteRouters(t *testing.T) {
	t.Parallel()
	lab.RunPath(t, lab.PathConfig{Serve: true, ICMPLimits: true}, func(t *testing.T, p *lab.Path) {
		p.Filter(t, lab.Filter{At: lab.R2, Ports: []uint16{25}})
		p.Filter(t, lab.Filter{At: lab.R2, Family: 4, Ports: []uint16{2525}, Do: lab.DoReject(13)})
		tracer := &Tracer{Silence: testSilence}
		trace := func(ports ...uint16) *Trace {
			t.Helper()
			tr, err := tracer.Trace(t.Context(), Request{Addr: netip.MustParseAddr("62.30.3.1"), Ports: ports})
			if err != nil {
				t.Fatal(err)
			}
			return tr
		}
		p.Mute(t, lab.R3)
		tr := trace(25, 465, 587, 2525)
		if got := tr.Paths[0]; got.Fate != scanner.Lost || got.After != 2 || got.NoLaterThan != 4 || tr.Paths[1].Distance != 4 {
			t.Errorf("limited, and r3 is mute: got %+v\nhops %+v", tr.Paths, tr.Hops)
		}
		if got := tr.Paths[3]; got.Fate != scanner.Rejected || got.By.From != lab.PathHops4[1] || got.ByHop != 2 {
			t.Errorf("limited, rejected: got %+v\nhops %+v", got, tr.Hops)
		}
		t.Run("cut short", checkCutShort)
		if lab.Count(t, 0, 1, 1) == 0 {
			return
		}
		p.Mute(t, lab.R2)
		tr = trace(25, 587)
		if got := tr.Paths[0]; got.Fate != scanner.Lost || got.After != 1 || got.NoLaterThan != 4 {
			t.Errorf("r2 and r3 are mute: got %+v\nhops %+v", tr.Paths, tr.Hops)
		}
	})
}

// checkCutShort: a trace that is ended says what it knows, and leaves no socket.
func checkCutShort(t *testing.T) {
	descriptors := func() int {
		t.Helper()
		all, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	before := descriptors()
	r := Request{Addr: netip.MustParseAddr("198.51.100.25"), Ports: []uint16{25}, Known: map[uint16]scanner.Observation{25: {State: scanner.Filtered, Reason: scanner.NoResponse}}}
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	time.AfterFunc(300*time.Millisecond, func() { cancel(why) })
	tr, err := (&Tracer{}).Trace(ctx, r)
	if !errors.Is(err, why) || tr == nil || tr.Complete || len(tr.Paths) != 1 || tr.Paths[0].Fate != scanner.Lost || tr.SYNs == 0 {
		t.Errorf("stopped: got %+v, %v", tr, err)
	}
	tr, err = (&Tracer{Timeout: 300 * time.Millisecond}).Trace(t.Context(), r)
	if err != nil || tr.Complete || len(tr.Paths) != 1 || tr.SYNs == 0 {
		t.Errorf("out of time: got %+v, %v", tr, err)
	}
	if after := descriptors(); after != before {
		t.Errorf("%d descriptors, %d before", after, before)
	}
	tr, err = (&Tracer{Source: netip.MustParseAddr("192.0.2.99")}).Trace(t.Context(), r)
	if err == nil || !strings.Contains(err.Error(), "source address 192.0.2.99") {
		t.Errorf("a source that is not ours: got %+v, %v", tr, err)
	}
}
