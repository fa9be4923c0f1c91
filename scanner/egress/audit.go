package egress

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/scanner/pace"
	"github.com/smtpsweep/smtpsweep/targets"
)

// hostLimit is how many connections an audit has at a time to one address: it
// makes each port's only one at once, so that all see the same moment.
const hostLimit = 6

// An Auditor runs a plan. Engine and Prober are required; what else is nil is left out.
type Auditor struct {
	Engine scanner.Engine
	Prober scanner.Prober
	Talk   context.Context // as in scanner.Scanner

	// Trace follows the path to a destination whose port is stopped, beside a port
	// of the same address, or of the same operator, that answers.
	Trace func(ctx context.Context, r TraceRequest) (Trace, error)
	// Origin finds out who sent a reset, where the trace does not tell.
	Origin func(ctx context.Context, r TraceRequest, t *Trace) (Origin, error)

	// Reflect holds a session with the reflector.
	Reflect func(ctx context.Context, to FarEnd) (Reflection, error)

	OnSeen func(*Seen)             // called for every contact, from several goroutines
	Note   func(code, text string) // what may have biased the run

	Vantage string
	SeesOwn bool // the engine tells what a firewall of this machine stops
}

// A TraceRequest names the ports of one address of which the first is stopped and
// the others answer.
type TraceRequest struct {
	Operator string
	Addr     netip.Addr
	Source   netip.Addr // as in the connections; not valid if it is not known
	Stopped  uint16
	Passing  uint16                         // 0 if no port of this address answers
	Refused  bool                           // it is stopped by resets
	Known    map[uint16]scanner.Observation // what the connections to these ports saw
}

// Run contacts whom the plan names, traces what is stopped, and returns what was
// seen with the verdicts on it. If ctx ends, what is missing is interrupted; the
// error is then its cause.
func (a *Auditor) Run(ctx context.Context, plan *Plan) (*Evidence, []Verdict, error) {
	e := &Evidence{Plan: plan, Vantage: a.Vantage, SeesOwn: a.SeesOwn, Origins: map[netip.AddrPort]Origin{}}
	far := a.reflect(ctx, e)
	err := a.contact(ctx, e)
	far()
	e.At = time.Now()
	verdicts := Judge(e)
	if err == nil && ctx.Err() == nil {
		a.follow(ctx, e, verdicts)
		verdicts = Judge(e)
	}
	return e, verdicts, err
}

// reflect begins the sessions with the reflector; the function that it returns waits
// for their end.
func (a *Auditor) reflect(ctx context.Context, e *Evidence) (wait func()) {
	var wg sync.WaitGroup
	if a.Reflect == nil {
		return wg.Wait
	}
	found := make([]*Reflection, len(e.Plan.Far))
	for i, to := range e.Plan.Far {
		wg.Go(func() {
			r, err := a.Reflect(ctx, to)
			if err != nil {
				a.note("reflector-failed", err)
				return
			}
			found[i] = &r
		})
	}
	return func() {
		wg.Wait()
		for _, r := range found {
			if r != nil {
				e.Reflections = append(e.Reflections, *r)
			}
		}
	}
}

// contact makes the connections.
func (a *Auditor) contact(ctx context.Context, e *Evidence) error {
	plan := e.Plan
	by := map[netip.AddrPort]*Contact{}
	for i := range plan.Contacts {
		by[plan.Contacts[i].Target.AddrPort()] = &plan.Contacts[i]
	}
	i := 0
	queue := pace.New(pace.Config{HostLimit: hostLimit}, func() (t targets.Target, ok bool) {
		if i == len(plan.Contacts) {
			return t, false
		}
		i++
		return plan.Contacts[i-1].Target, true
	})
	var mu sync.Mutex
	run := scanner.Scanner{Engine: a.Engine, Prober: &doorman{a.Prober, by}, Talk: a.Talk}
	err := run.Run(ctx, queue, func(r *scanner.Result) {
		seen := Seen{Contact: *by[r.Target.AddrPort()], Result: *r}
		if a.OnSeen != nil {
			a.OnSeen(&seen)
		}
		mu.Lock()
		defer mu.Unlock()
		e.Seen = append(e.Seen, seen)
	})
	slices.SortFunc(e.Seen, func(x, y Seen) int { return plan.place(&x) - plan.place(&y) }) // verdicts do not depend on who was first
	return err
}

// place returns where a contact stands in the plan.
func (p *Plan) place(s *Seen) int {
	return slices.IndexFunc(p.Contacts, func(c Contact) bool { return c.Target.AddrPort() == s.Target.AddrPort() })
}

// A doorman talks on mail ports only: of a control port nothing is asked but that
// it takes a connection.
type doorman struct {
	prober scanner.Prober
	by     map[netip.AddrPort]*Contact
}

// Probe implements scanner.Prober.
func (d *doorman) Probe(ctx context.Context, conn net.Conn, obs *scanner.Observation) *scanner.Service {
	if c := d.by[obs.Target.AddrPort()]; c != nil && c.Kind == Control {
		return &scanner.Service{}
	}
	return d.prober.Probe(ctx, conn, obs)
}

// follow traces what is stopped: in each family, of each way in which ports are
// stopped, one at one destination.
func (a *Auditor) follow(ctx context.Context, e *Evidence, verdicts []Verdict) {
	if a.Trace == nil {
		return
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	for _, r := range e.traces(verdicts) {
		wg.Go(func() {
			t, err := a.Trace(ctx, r)
			if err != nil {
				a.note("trace-failed", err)
				return
			}
			o := a.origin(ctx, r, &t)
			mu.Lock()
			defer mu.Unlock()
			e.Traces = append(e.Traces, t)
			if o != (Origin{}) {
				e.Origins[netip.AddrPortFrom(r.Addr, r.Stopped)] = o
			}
		})
	}
	wg.Wait()
	slices.SortFunc(e.Traces, func(x, y Trace) int { return int(x.Stopped) - int(y.Stopped) + int(x.Family) - int(y.Family) })
}

// origin says who refused, if somebody did.
func (a *Auditor) origin(ctx context.Context, r TraceRequest, t *Trace) (o Origin) {
	switch {
	case !r.Refused:
		return o
	case t.Nearer:
		return Origin{By: ByPath, Evidence: "the resets come from nearer than the host is"}
	case a.Origin == nil || ctx.Err() != nil:
		return o
	}
	o, err := a.Origin(ctx, r, t)
	if err != nil {
		a.note("origin-failed", err)
		return Origin{}
	}
	return o
}

func (a *Auditor) note(code string, err error) {
	if a.Note != nil {
		a.Note(code, err.Error())
	}
}

// traces chooses what is traced: of each way a family's ports are stopped, one
// destination, if possible one that answers on another port.
func (e *Evidence) traces(verdicts []Verdict) (out []TraceRequest) {
	for _, family := range e.Plan.Families {
		done := map[Mechanism]bool{}
		for i := range verdicts {
			d := &verdicts[i]
			worth := d.Word == Blocked && d.How != Cut || d.Cause == CausePartial || d.Cause == CauseOne || d.Cause == CauseDestination
			if d.Family != family || d.Control || !worth || done[d.How] {
				continue
			}
			if r, ok := e.toTrace(d); ok {
				done[d.How] = true
				out = append(out, r)
			}
		}
	}
	return out
}

// toTrace chooses the destination to follow the path to.
func (e *Evidence) toTrace(d *Verdict) (best TraceRequest, ok bool) {
	v := e.viewOf(d.Family, d.Port)
	for _, list := range [][]*Seen{v.by[silent], v.by[rejected], v.by[refused], v.by[unreachable], v.own} {
		for _, s := range list {
			r := TraceRequest{Operator: s.Operator, Addr: s.Target.Addr, Source: s.Result.Source, Stopped: d.Port, Refused: outcomeOf(s) == refused,
				Known: map[uint16]scanner.Observation{d.Port: s.Result.Observation}}
			if other := e.sameAddress(s, func(o *Seen) bool { out := outcomeOf(o); return out == passed || out == odd }); other != nil {
				r.Passing = other.Target.Port
				r.Known[r.Passing] = other.Result.Observation
			}
			if !ok || best.Passing == 0 && r.Passing != 0 {
				best, ok = r, true
			}
		}
	}
	return best, ok
}
