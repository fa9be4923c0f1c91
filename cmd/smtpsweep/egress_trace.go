package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/smtpsweep/smtpsweep/report"
	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/scanner/egress"
	"github.com/smtpsweep/smtpsweep/scanner/egress/path"
	"github.com/smtpsweep/smtpsweep/targets"
)

// Bounds of what follows the connections, so that an audit ends within a minute.
const (
	traceTime  = 20 * time.Second
	originTime = 20 * time.Second
	traceHops  = 24
	nameTime   = 3 * time.Second
)

// A pathfinder follows the paths of one vantage.
type pathfinder struct {
	a      *audit
	v      *vantage
	tracer path.Tracer
}

func newPathfinder(a *audit, v *vantage) *pathfinder {
	return &pathfinder{a: a, v: v, tracer: path.Tracer{Source: v.source, Interface: v.iface, MaxHops: traceHops, Timeout: traceTime}}
}

// trace follows the path to a destination, the port that passes beside the one that is stopped.
func (p *pathfinder) trace(ctx context.Context, r egress.TraceRequest) (t egress.Trace, err error) {
	ports := []uint16{r.Stopped}
	if r.Passing != 0 {
		ports = []uint16{r.Passing, r.Stopped}
	}
	found, err := p.tracer.Trace(ctx, path.Request{Addr: r.Addr, Ports: ports, Control: r.Passing, Known: r.Known})
	if err != nil {
		return t, err
	}
	stopped := found.Paths[len(found.Paths)-1]
	if stopped.Fate == scanner.Untraced {
		return t, fmt.Errorf("the path to %s could not be followed: %s", r.Addr, stopped.Err)
	}
	t = egress.Trace{
		Time: time.Now(), Family: egress.FamilyOf(r.Addr), Operator: r.Operator, Destination: r.Addr, Stopped: r.Stopped, Passing: r.Passing,
		After: stopped.After, By: stopped.NoLaterThan,
		Answered: stopped.Fate == scanner.Reached && answeredNow(found.Hops, r.Stopped) && !r.Refused,
		Nearer:   stopped.Fate == scanner.Cut || stopped.Fate == scanner.Interposed,
		Probes:   fmt.Sprintf("%d SYNs, each of another flow", found.SYNs),
	}
	if r.Passing != 0 {
		t.Distance = found.Paths[0].Distance
	}
	switch {
	case stopped.ByHop > 0: // it says itself where it is
		t.After, t.By = stopped.ByHop, stopped.ByHop
	case stopped.Fate == scanner.Reached:
		t.After, t.By = stopped.LastHop, stopped.Distance
	}
	t.Hops = p.hops(ctx, &t, found, ports)
	p.record(&t, found)
	return t, nil
}

// record writes the "hop" records, as smtpsweep trace has them.
func (p *pathfinder) record(t *egress.Trace, found *path.Trace) {
	names := map[netip.Addr]string{}
	for _, h := range t.Hops {
		if addr, err := netip.ParseAddr(h.Address); err == nil {
			names[addr] = h.Name
		}
	}
	target := targets.Target{Index: targets.NoIndex, Addr: t.Destination, From: &targets.Origin{Spec: t.Operator}}
	traced := report.Traced{At: t.Time, Vantage: p.v.name, Source: found.Source, Target: target, Paths: found.Paths, Hops: found.Hops, Names: names}
	for _, row := range traced.Rows() {
		p.a.writer.Append(row.AppendJSON(nil)) // an error is sticky
	}
}

// answeredNow reports whether a port took a connection while the path was followed.
func answeredNow(hops []scanner.Hop, port uint16) bool {
	for _, h := range hops {
		for _, a := range h.Answers {
			if h.Port == port && a.Reason == scanner.SynAck {
				return true
			}
		}
	}
	return false
}

// hops makes the rows of a path.
func (p *pathfinder) hops(ctx context.Context, t *egress.Trace, found *path.Trace, ports []uint16) (rows []egress.Hop) {
	last := 0
	for _, h := range found.Hops {
		if len(h.Answers) > 0 {
			last = max(last, h.TTL)
		}
	}
	var addrs []netip.Addr
	for ttl := 1; ttl <= last; ttl++ {
		row := egress.Hop{Vantage: p.v.name, Family: t.Family, Destination: t.Destination.String(), N: ttl}
		var senders []netip.Addr
		for _, port := range ports {
			cell := egress.HopCell{Port: port}
			for _, h := range found.Hops {
				if h.TTL == ttl && h.Port == port {
					cell.Times, cell.Said = h.Sent, "nothing"
					senders = append(senders, sayHop(&cell, h.Answers)...)
				}
			}
			row.Cells = append(row.Cells, cell)
		}
		if ttl != t.Distance { // a reset in the name of the destination says nothing of who is here
			senders = slices.DeleteFunc(senders, func(a netip.Addr) bool { return a == t.Destination })
		}
		addrs = append(addrs, nameHop(&row, senders))
		rows = append(rows, row)
	}
	names := p.names(ctx, addrs)
	places := egress.Places(addrs, names, t.Distance > 0 && t.Distance == last)
	for i := range rows {
		rows[i].Name, rows[i].Owner, rows[i].Words = names[i], places[i].Owner, places[i].Words
		rows[i].Lost = !t.Answered && (t.By > 0 && rows[i].N == max(t.After+1, 1) && t.By != t.After || t.By > 0 && t.By == t.After && rows[i].N == t.By)
	}
	return rows
}

// sayHop says what came back, and from whom.
func sayHop(cell *egress.HopCell, answers []scanner.HopAnswer) (from []netip.Addr) {
	for i, a := range answers {
		from = append(from, a.From)
		if i > 0 {
			continue
		}
		cell.RTT = float64(a.RTT.Microseconds()) / 1000
		switch a.Reason {
		case scanner.TimeExceeded:
			cell.Said = "expired"
		case scanner.SynAck:
			cell.Said = "answers"
		case scanner.ConnRefused:
			cell.Said = "refuses"
		default:
			cell.Said, cell.ICMP = "rejects", fmt.Sprintf("%d/%d", a.ICMP.Type, a.ICMP.Code)
		}
	}
	return from
}

// nameHop writes who answered for a hop: the first, and the others.
func nameHop(row *egress.Hop, senders []netip.Addr) (first netip.Addr) {
	for _, s := range senders {
		switch {
		case !first.IsValid():
			first = s
			row.Address = s.String()
		case s != first:
			row.Others = append(row.Others, s.String())
		}
	}
	return first
}

// names asks for the names of hops, and waits a little for them.
func (p *pathfinder) names(ctx context.Context, addrs []netip.Addr) []string {
	names := make([]string, len(addrs))
	if p.a.resolver == nil {
		return names
	}
	ctx, cancel := context.WithTimeout(ctx, nameTime)
	defer cancel()
	var wg sync.WaitGroup
	for i, addr := range addrs {
		if addr.IsValid() {
			wg.Go(func() { names[i], _ = p.a.resolver.Reverse(ctx, addr) }) // without a name it is as good
		}
	}
	wg.Wait()
	return names
}

// origin finds out who sent a reset that comes from as far as the host is.
func (p *pathfinder) origin(ctx context.Context, r egress.TraceRequest, t *egress.Trace) (o egress.Origin, err error) {
	ctx, cancel := context.WithTimeout(ctx, originTime)
	defer cancel()
	refusal := path.Refusal{Port: netip.AddrPortFrom(r.Addr, r.Stopped), Control: r.Passing, Source: p.v.source, Interface: p.v.iface, Distance: t.Distance}
	found, err := path.Origin(ctx, refusal)
	if err != nil {
		return o, err
	}
	o.Evidence = found.Why
	switch {
	case found.By == path.Hop:
		o.By = egress.ByPath
	case found.By == path.Host, found.Lean == path.Host:
		o.By = egress.ByHost
	}
	return o, nil
}
