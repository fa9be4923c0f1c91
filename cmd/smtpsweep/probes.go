package main

import (
	"hash/maphash"
	"net/netip"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/targets"
)

// targetSource yields what is left to probe: control probes, what names led to,
// then the addresses in the plan's order.
func (s *sweep) targetSource() func() (targets.Target, bool) {
	next, names := s.controls(), s.settleNames()
	pos := uint64(0)
	return func() (t targets.Target, ok bool) {
		for len(next) == 0 && len(names) > 0 {
			next, names = s.probesOf(names[0]), names[1:]
		}
		if len(next) > 0 {
			t, next = next[0], next[1:]
			return t, true
		}
		for pos < s.job.order.Len() && !ok {
			t, ok = s.probeAt(pos)
			pos++
		}
		return t, ok
	}
}

// probeAt returns the endpoint at a position of the order, unless it is done or
// must not be contacted.
func (s *sweep) probeAt(pos uint64) (t targets.Target, ok bool) {
	if s.resumed != nil && s.resumed.Done.Contains(pos) {
		return t, false
	}
	t = s.job.plan.At(s.job.order.At(pos))
	ok, why := s.job.plan.PermitTarget(t)
	if !ok && s.undecided(pos) { // excluded since: settled by that
		s.record(&scanner.Result{Observation: scanner.Observation{Target: t, Reason: scanner.Reason(why), At: time.Now()}})
	}
	return t, ok
}

// settleNames writes the rows of what names led to and is not probed. It returns
// the numbers of the names that lead to something else.
func (s *sweep) settleNames() (names []uint32) {
	s.findShared()
	for ep := range s.job.endpoints() {
		switch {
		case s.done(ep):
		case ep.Why != "":
			s.record(unprobed(ep.Endpoint))
		case len(names) == 0 || names[len(names)-1] != ep.name:
			names = append(names, ep.name)
		}
	}
	return names
}

// probesOf returns what a name led to and is to be probed for it.
func (s *sweep) probesOf(name uint32) (out []targets.Target) {
	for ep := range s.job.endpointsOf(name) {
		if ep.Why == "" && !s.done(ep) && s.isFirst(name, ep.Target) {
			out = append(out, ep.Target)
		}
	}
	return out
}

func unprobed(ep targets.Endpoint) *scanner.Result {
	return &scanner.Result{Observation: scanner.Observation{
		Target: ep.Target, Reason: scanner.Reason(ep.Why), At: time.Now(), Err: ep.Err,
	}}
}

// A hostPort is an endpoint that several names may lead to, as two mx: domains
// with the same host do. One conversation is held there, and each name has a row.
type hostPort struct {
	host string
	ap   netip.AddrPort
}

func hostPortOf(t targets.Target) hostPort { return hostPort{t.Host(), t.AddrPort()} }

// findShared finds the endpoints that several names lead to and that are to be
// probed. It remembers those of hosts that more than one name has, which are few.
func (s *sweep) findShared() {
	s.shared = map[hostPort][]uint32{}
	if !s.job.domains {
		return // each host has a name of its own
	}
	seed, several := maphash.MakeSeed(), map[uint64]bool{} // by hash of the host
	for i := range s.job.plan.NameCount() {
		_, answer, _ := s.job.answers.At(i)
		for _, h := range answer.Hosts {
			key := maphash.String(seed, h.Host)
			_, several[key] = several[key]
		}
	}
	for ep := range s.job.endpoints() {
		if ep.Why == "" && several[maphash.String(seed, ep.Target.Host())] && !s.done(ep) {
			key := hostPortOf(ep.Target)
			s.shared[key] = append(s.shared[key], ep.name)
		}
	}
}

// isFirst reports whether it is for this name that an endpoint is probed.
func (s *sweep) isFirst(name uint32, t targets.Target) bool {
	if len(s.shared) == 0 {
		return true
	}
	names := s.shared[hostPortOf(t)]
	return len(names) == 0 || names[0] == name
}

// others returns the specs of the other names that lead to an endpoint.
func (s *sweep) others(t targets.Target) (specs []string) {
	if t.Index != targets.NoIndex || len(s.shared) == 0 {
		return nil
	}
	names := s.shared[hostPortOf(t)]
	for i := 1; i < len(names); i++ {
		specs = append(specs, s.job.plan.Name(int(names[i])).Spec)
	}
	return specs
}

// done reports whether the resumed journal has a row of a name's endpoint.
func (s *sweep) done(ep namedEndpoint) bool {
	return s.resumed != nil && s.resumed.Names.Done(int(ep.name), ep.place, ep.Target)
}

// undecided reports whether the resumed journal has a row of a position that
// another probe would settle.
func (s *sweep) undecided(pos uint64) bool {
	return s.resumed != nil && s.resumed.Undecided.Contains(pos)
}

// nothingLeft reports whether a resumed journal has a row of every endpoint.
func (s *sweep) nothingLeft() bool {
	if s.resumed == nil {
		return false
	}
	for ep := range s.job.endpoints() {
		if !s.done(ep) {
			return false
		}
	}
	for pos := range s.job.order.Len() {
		if s.resumed.Done.Contains(pos) {
			continue
		}
		if ok, _ := s.job.plan.PermitTarget(s.job.plan.At(s.job.order.At(pos))); ok || s.undecided(pos) {
			return false
		}
	}
	return true
}
