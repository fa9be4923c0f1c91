package egress

import (
	"slices"
	"strings"

	"github.com/smtpsweep/smtpsweep/scanner"
)

// An outcome is what a contact says about the way to it.
type outcome uint8

const (
	untold      outcome = iota // a fault of this machine, or interrupted: nothing about the way
	passed                     // it answered: with SMTP on a mail port, with a connection on the control port
	odd                        // a connection was made, and what came is no SMTP conversation
	silent                     // nothing came
	refused                    // a TCP reset came
	rejected                   // an ICMP message says that it is not allowed
	unreachable                // an ICMP message says that there is no way
)

// outcomeOf reads a contact.
func outcomeOf(s *Seen) outcome {
	r := &s.Result
	switch r.State {
	case scanner.Open:
		if s.Kind != Mail {
			return passed
		}
		return outcomeOfService(r)
	case scanner.Closed:
		return refused
	case scanner.Filtered:
		switch r.Reason {
		case scanner.NoResponse, scanner.NoNeighbor:
			return silent
		case scanner.HostUnreach, scanner.NetUnreach, scanner.TimeExceeded:
			return unreachable
		}
		return rejected
	}
	return untold
}

// outcomeOfService reads the conversation of an open mail port.
func outcomeOfService(r *scanner.Result) outcome {
	if r.Service == nil {
		return odd
	}
	switch r.Service.Kind {
	case scanner.KindSMTP, scanner.KindRefusing, scanner.KindTarpit:
		return passed
	}
	return odd
}

// stopped reports whether an outcome means that nothing came back of what was sent.
func (o outcome) stopped() bool { return o >= silent }

// localCause says which fault of this machine a result is, by our own words for it.
func localCause(r *scanner.Result) Cause {
	switch {
	case r.Reason == scanner.Interrupted:
		return CauseInterrupted
	case r.Reason != scanner.LocalError:
		return CauseLocal
	case strings.Contains(r.Err, "firewall or policy"), strings.Contains(r.Err, "machine's firewall"),
		strings.Contains(r.Err, "itself refuses it"), strings.Contains(r.Err, "firewall or routing rejects"):
		return CauseFirewall
	case strings.Contains(r.Err, "no route"), strings.Contains(r.Err, "does not do"), strings.Contains(r.Err, "routing forbids"),
		strings.Contains(r.Err, "gateway does not answer"), strings.Contains(r.Err, "interface is down"):
		return CauseNoRoute
	}
	return CauseLocal
}

// A view is what was seen of one port in one family, without what must stay silent.
type view struct {
	family  Family
	port    uint16
	control bool
	all     []*Seen
	by      map[outcome][]*Seen // dead destinations are not among those that are stopped
	dead    []*Seen             // stopped, and their operators answer nowhere else
	own     []*Seen             // refused by the destination itself, or so it must be taken
	silent  []*Seen             // the contacts that must stay silent, on this port
}

// viewOf gathers what was seen of a port.
func (e *Evidence) viewOf(family Family, port uint16) *view {
	v := &view{family: family, port: port, control: port == e.Plan.Control, by: map[outcome][]*Seen{}}
	for i := range e.Seen {
		s := &e.Seen[i]
		switch {
		case s.Family() != family || s.Target.Port != port:
		case s.Kind == Negative:
			v.silent = append(v.silent, s)
		default:
			v.all = append(v.all, s)
		}
	}
	for _, s := range v.all {
		o := outcomeOf(s)
		switch {
		case o.stopped() && o != rejected && !e.alive(s.Operator, family):
			v.dead = append(v.dead, s)
		case o == refused && !e.refusedOnTheWay(s, v):
			v.own = append(v.own, s)
		case o == rejected && s.Result.ICMP.From == s.Target.Addr && !e.alive(s.Operator, family):
			v.own = append(v.own, s)
		default:
			v.by[o] = append(v.by[o], s)
		}
	}
	return v
}

// alive reports whether an operator answered anywhere in a family.
func (e *Evidence) alive(operator string, family Family) bool {
	return slices.ContainsFunc(e.Seen, func(s Seen) bool {
		if s.Kind == Negative || s.Operator != operator || s.Family() != family {
			return false
		}
		o := outcomeOf(&s)
		return o == passed || o == odd
	})
}

// refusedOnTheWay reports whether a reset counts as one of somebody on the way: a
// listed operator listens where the list says so, and an address that nobody has
// cannot refuse. A host that the user named may simply not listen.
func (e *Evidence) refusedOnTheWay(s *Seen, v *view) bool {
	switch e.originOf(s).By {
	case ByHost:
		return false
	case ByPath:
		return true
	}
	return s.Listed || e.refusesForAll(v)
}

// originOf returns who is known to refuse a contact. What was found out of one
// destination holds for the others on that port: nobody asks all of them.
func (e *Evidence) originOf(s *Seen) Origin {
	if o, ok := e.Origins[s.Target.AddrPort()]; ok {
		return o
	}
	for at, o := range e.Origins {
		if at.Port() == s.Target.Port && FamilyOf(at.Addr()) == s.Family() && o.By != ByUndecided {
			return o
		}
	}
	return Origin{}
}

// refusesForAll reports whether addresses that nobody has refuse on this port, and
// not on the control port: then it is not the destinations who refuse.
func (e *Evidence) refusesForAll(v *view) bool {
	refusedOn := func(port uint16) bool {
		return slices.ContainsFunc(e.Seen, func(s Seen) bool {
			return s.Kind == Negative && s.Family() == v.family && s.Target.Port == port && outcomeOf(&s) == refused
		})
	}
	return refusedOn(v.port) && !refusedOn(e.Plan.Control)
}

// conversations are what was talked to: of these the signs of interference are read.
func (v *view) conversations() (out []*Seen) {
	for _, s := range v.all {
		if o := outcomeOf(s); (o == passed || o == odd) && s.Result.Service != nil && s.Kind == Mail {
			out = append(out, s)
		}
	}
	return out
}
