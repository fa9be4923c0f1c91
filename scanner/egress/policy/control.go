package policy

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner"
)

// ControlWindow is how far from a block, before or after it, the same far end must
// have answered for the block to be believed.
const ControlWindow = 10 * time.Minute

// farEnds are the far ends that answered, and those that are reflectors, by address.
type farEnds struct {
	answered  map[netip.Addr][]answers
	reflector map[netip.Addr][]*Observation
}

// answers are the observations of one vantage that a far end answered. A far end
// may have 65,535 ports.
type answers struct{ byPort, byTime []*Observation }

func farEndsOf(seen []Observation) *farEnds {
	f := &farEnds{map[netip.Addr][]answers{}, map[netip.Addr][]*Observation{}}
	var open []*Observation
	for i := range seen {
		o := &seen[i]
		if o.Address.IsValid() && o.State == scanner.Open {
			open = append(open, o)
		}
		if o.Address.IsValid() && o.Reflector {
			f.reflector[o.Address] = append(f.reflector[o.Address], o)
		}
	}
	slices.SortFunc(open, func(a, b *Observation) int {
		return cmp.Or(a.Address.Compare(b.Address), strings.Compare(a.Vantage, b.Vantage), a.Source.Compare(b.Source),
			cmp.Compare(a.Port, b.Port), a.Time.Compare(b.Time))
	})
	for len(open) > 0 {
		n := 1
		for n < len(open) && open[n].Address == open[0].Address && sameVantage(open[n], open[0]) {
			n++
		}
		a := answers{open[:n], slices.Clone(open[:n])}
		slices.SortStableFunc(a.byTime, func(x, y *Observation) int { return x.Time.Compare(y.Time) })
		f.answered[open[0].Address] = append(f.answered[open[0].Address], a)
		open = open[n:]
	}
	return f
}

// near returns an answer near an observation in time, on its port or, if other is
// set, on another one.
func (a *answers) near(o *Observation, other bool) *Observation {
	if other {
		return a.otherPort(o)
	}
	from, _ := slices.BinarySearchFunc(a.byPort, o.Port, func(c *Observation, port uint16) int { return cmp.Compare(c.Port, port) })
	for _, c := range a.byPort[from:] {
		if c.Port != o.Port {
			break
		}
		if near(c, o) {
			return c
		}
	}
	return nil
}

// lowest is how many answers are looked at in the order of their ports.
const lowest = 32

// otherPort returns the answer near an observation that has the lowest port, if it
// is among the lowest, and else any.
func (a *answers) otherPort(o *Observation) *Observation {
	for _, c := range a.byPort[:min(lowest, len(a.byPort))] {
		if near(c, o) && c.Port != o.Port {
			return c
		}
	}
	from, _ := slices.BinarySearchFunc(a.byTime, o.Time.Add(-ControlWindow), func(c *Observation, t time.Time) int { return c.Time.Compare(t) })
	for _, c := range a.byTime[from:] {
		if !near(c, o) {
			break
		}
		if c.Port != o.Port {
			return c
		}
	}
	return nil
}

// near reports whether two observations are so near in time that one is a control
// for the other.
func near(a, b *Observation) bool { return a.Time.Sub(b.Time).Abs() <= ControlWindow }

// sameVantage reports whether two observations were made from one place.
func sameVantage(a, b *Observation) bool { return a.Vantage == b.Vantage && a.Source == b.Source }

// control returns an answer of the same far end on another port or to another
// vantage, or nil. Of several it is the one that says the most: that the same port
// answers another vantage; then that another port answers this one.
func (f *farEnds) control(o *Observation) *Observation {
	all := f.answered[o.Address]
	for _, way := range []struct{ here, otherPort bool }{{false, false}, {true, true}, {false, true}} {
		for i := range all {
			if sameVantage(all[i].byPort[0], o) != way.here {
				continue
			}
			if c := all[i].near(o, way.otherPort); c != nil {
				return c
			}
		}
	}
	return nil
}

// isReflector reports whether a far end is a reflector of ours.
func (f *farEnds) isReflector(o *Observation) bool {
	return o.Reflector || slices.ContainsFunc(f.reflector[o.Address], func(c *Observation) bool { return near(c, o) })
}
