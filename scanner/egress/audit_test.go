package egress

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner"
)

// A lineup is an engine that says of each target what it is told to, each from a goroutine
// of its own, and counts the dials.
type lineup struct {
	t    *testing.T
	said func(netip.AddrPort) string
	by   map[netip.AddrPort]Contact

	mu    sync.Mutex
	dials map[netip.AddrPort]int
}

// Scan implements scanner.Engine.
func (l *lineup) Scan(ctx context.Context, q scanner.Queue, emit func(scanner.Observation)) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		job, wait, ok := q.Next(time.Now())
		switch {
		case !ok:
			return nil
		case wait > 0:
			time.Sleep(time.Millisecond) // others are being talked to
			continue
		}
		at := job.Target.AddrPort()
		l.mu.Lock()
		l.dials[at]++
		l.mu.Unlock()
		wg.Go(func() {
			obs := seen(l.t, l.by[at], l.said(at)).Result.Observation
			if ctx.Err() != nil {
				obs = scanner.Observation{Target: job.Target, Reason: scanner.Interrupted}
			}
			if obs.State == scanner.Open {
				obs.Conn, _ = net.Pipe()
			}
			emit(obs)
			q.Done(job)
		})
	}
}

// Probe implements scanner.Prober: a talk is what the lineup says.
func (l *lineup) Probe(_ context.Context, _ net.Conn, obs *scanner.Observation) *scanner.Service {
	at := obs.Target.AddrPort()
	return seen(l.t, l.by[at], l.said(at)).Result.Service
}

// newLineup makes the auditor of a plan in which port 25 is silent.
func newLineup(t *testing.T, plan *Plan) (*Auditor, *lineup) {
	l := &lineup{t: t, by: map[netip.AddrPort]Contact{}, dials: map[netip.AddrPort]int{}}
	for _, c := range plan.Contacts {
		l.by[c.Target.AddrPort()] = c
	}
	l.said = func(at netip.AddrPort) string {
		if at.Port() == 25 || l.by[at].Kind == Negative {
			return "silent"
		}
		return "ok"
	}
	return &Auditor{Engine: l, Prober: l, SeesOwn: true}, l
}

func TestAuditor(t *testing.T) {
	ops, hosts := fourOperators(true)
	far := netip.MustParseAddr("62.40.0.1")
	hosts["far.example"] = Found{Addrs: []netip.Addr{far}}
	plan := NewPlan(Request{Operators: ops, Hosts: hosts, Ports: []uint16{25, 465, 587}, Reflector: "far.example"})
	a, l := newLineup(t, plan)
	var mu sync.Mutex
	var traced []TraceRequest
	sessions := map[FarEnd]int{}
	a.Trace = func(_ context.Context, r TraceRequest) (Trace, error) {
		mu.Lock()
		defer mu.Unlock()
		traced = append(traced, r)
		if FamilyOf(r.Addr) == IPv6 {
			return Trace{}, errors.New("no")
		}
		return Trace{Family: IPv4, Destination: r.Addr, Stopped: r.Stopped, Passing: r.Passing, After: 1, By: 2, Hops: []Hop{
			{N: 1, Address: "192.168.1.1", Owner: OwnRouter}, {N: 2, Address: "100.64.0.1", Owner: OwnProvider}}}, nil
	}
	a.Reflect = func(_ context.Context, to FarEnd) (Reflection, error) {
		mu.Lock()
		defer mu.Unlock()
		sessions[to]++
		return Reflection{FarEnd: to, Proven: to.Port != 25, Stopped: to.Port == 25, Public: "203.0.113.7"}, nil
	}
	notes := 0
	a.Note = func(code, _ string) {
		mu.Lock()
		defer mu.Unlock()
		if code == "trace-failed" {
			notes++
		}
	}
	_, verdicts, err := a.Run(t.Context(), plan)
	if err != nil {
		t.Fatal(err)
	}
	for at := range l.by {
		if l.dials[at] != 1 {
			t.Errorf("%v was dialled %d times", at, l.dials[at])
		}
	}
	if len(sessions) != 3 || len(traced) != 2 || notes != 1 {
		t.Errorf("%d sessions, %d traces, %d notes; want 3, 2, 1", len(sessions), len(traced), notes)
	}
	for _, r := range traced {
		if r.Stopped != 25 || r.Passing == 0 || len(r.Known) != 2 {
			t.Errorf("traced %+v", r)
		}
	}
	for _, v := range verdicts {
		want := Allowed
		if v.Port == 25 {
			want = Blocked
		}
		if v.Word != want {
			t.Errorf("%d of %s: %s %s", v.Port, v.Family, v.Word, v.Cause)
		}
		if v.Port == 25 && v.Family == IPv4 && (v.Where == nil || v.Where.After != 1 || v.Where.By != 2 || v.Where.Owner != "your router or your provider") {
			t.Errorf("stopped %+v", v.Where)
		}
		if v.Port == 587 && v.Family == IPv4 && (!v.Reflected || v.Public != "203.0.113.7") {
			t.Errorf("587: %+v", v)
		}
	}
}

func TestAuditorIsInterrupted(t *testing.T) {
	ops, hosts := fourOperators(true)
	plan := NewPlan(Request{Operators: ops, Hosts: hosts, Families: []Family{IPv4}})
	a, _ := newLineup(t, plan)
	a.Trace = func(context.Context, TraceRequest) (Trace, error) {
		t.Error("a path is followed after the end")
		return Trace{}, nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, verdicts, _ := a.Run(ctx, plan)
	for _, v := range verdicts {
		if v.Word != Inconclusive && v.Word != NotTested {
			t.Errorf("%d: %s", v.Port, v.Word)
		}
	}
}

func TestPlaces(t *testing.T) {
	addr := netip.MustParseAddr
	addrs := []netip.Addr{addr("192.168.1.1"), addr("10.0.0.1"), addr("100.64.0.1"), addr("62.20.3.1"), {}, addr("62.20.4.1"), addr("80.1.1.1"), addr("62.30.1.1")}
	names := []string{"", "", "", "gw1.isp.example", "", "gw2.isp.example", "core.other.example", ""}
	want := []Owner{OwnRouter, OwnNetwork, OwnProvider, OwnProvider, NotKnown, OwnProvider, Beyond, Beyond}
	for i, p := range Places(addrs, names, true) {
		if p.Owner != want[i] {
			t.Errorf("hop %d (%s): %q, want %q", i+1, addrs[i], p.Owner, want[i])
		}
	}
}

func TestProviders(t *testing.T) {
	for _, test := range []struct {
		stopped, open []uint16
		names         []string
		want          string // the first
		n             int
	}{
		{[]uint16{25}, []uint16{465, 587}, nil, "Amazon EC2", 6},
		{[]uint16{25, 465}, []uint16{587}, nil, "Hetzner Cloud", 1},
		{[]uint16{25}, []uint16{587}, []string{"static.1.2.3.4.clients.your-server.de"}, "Hetzner Cloud", 1},
		{[]uint16{587}, []uint16{25}, nil, "", 0},
		{nil, []uint16{25}, nil, "", 0},
	} {
		got := Providers(test.stopped, test.open, test.names)
		if len(got) != test.n || test.n > 0 && got[0].Name != test.want {
			t.Errorf("%v: %+v, want %d, %s", test, got, test.n, test.want)
		}
	}
	for _, p := range providers {
		if p.Says == "" || p.Ask == "" || p.Source == "" || p.Date == "" || len(p.Blocks) == 0 {
			t.Errorf("%s: incomplete", p.Name)
		}
	}
}
