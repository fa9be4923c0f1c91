package policy

import (
	"net/netip"
	"slices"
	"time"
)

// A place is where the policy wants somebody to look from: a segment in one
// family, an address or prefix that a rule names, or, if there is neither, anywhere.
type place struct {
	label    string
	segment  *Segment // nil if it is none
	prefixes []netip.Prefix
	family   string // "" is any
}

// A coverage knows which part of a policy was looked at: by place, rule, and
// elements of its "to" and "ports".
type coverage struct {
	policy *Policy
	places []place
	seen   map[covered]bool
}

// A covered is a part of a rule, seen from a place.
type covered struct {
	place     int
	rule      *Rule
	to, ports int // elements
}

func newCoverage(p *Policy) *coverage {
	c := &coverage{policy: p, seen: map[covered]bool{}}
	for _, s := range p.Segments {
		for _, family := range []string{"IPv4", "IPv6"} {
			if of := inFamily(s.Prefixes, family); len(of) > 0 {
				c.places = append(c.places, place{s.Name, s, of, family})
			}
		}
	}
	for _, r := range p.Rules {
		for _, f := range r.From {
			known := func(pl place) bool { return slices.Equal(pl.prefixes, f.Prefixes) }
			if f.Segment == nil && !f.All && !slices.ContainsFunc(c.places, known) {
				c.places = append(c.places, place{f.Text, nil, f.Prefixes, familyOf(f.Prefixes[0].Addr())})
			}
		}
	}
	if len(c.places) == 0 {
		c.places = []place{{label: "all"}}
	}
	return c
}

func inFamily(prefixes []netip.Prefix, family string) (out []netip.Prefix) {
	for _, p := range prefixes {
		if familyOf(p.Addr()) == family {
			out = append(out, p)
		}
	}
	return out
}

// add notes that a cell was looked at, which a rule governs.
func (c *coverage) add(seen *cell, vantage string, rule *Rule) {
	at := c.placeOf(seen, vantage)
	if at < 0 {
		return // from outside of every segment: a row all the same
	}
	for i := range rule.To {
		if rule.To[i].rank(seen) == rankNone {
			continue
		}
		for j, ports := range rule.Ports {
			if ports.covers(seen.ports) {
				c.seen[covered{at, rule, i, j}] = true
			}
		}
	}
}

// placeOf returns the place that a cell was seen from: of those that hold its
// source the smallest; of those of its segment, if only the vantage's name is
// known, that of the destination's family.
func (c *coverage) placeOf(seen *cell, vantage string) int {
	at, most := -1, rankNone
	for i := range c.places {
		pl := &c.places[i]
		n := rankOf(pl.prefixes, seen.from)
		switch {
		case pl.segment != nil && pl.segment.Name == seen.segment && (!seen.to.IsValid() || pl.family == familyOf(seen.to.Addr())):
			n = max(n, rankByName)
		case pl.prefixes == nil:
			n = rankAll
		}
		if n > most {
			at, most = i, n
		}
	}
	return at
}

// missing returns a row for each part of a rule that nobody has looked at, unless
// other rules govern all of it.
func (c *coverage) missing(now time.Time) (rows []Row) {
	for at := range c.places {
		pl := &c.places[at]
		for _, r := range c.policy.Rules {
			for i := range r.To {
				for j := range r.Ports {
					if !c.seen[covered{at, r, i, j}] && c.wants(pl, r, &r.To[i], r.Ports[j], now) {
						rows = append(rows, pl.untested(r, &r.To[i], r.Ports[j], now))
					}
				}
			}
		}
	}
	return rows
}

// wants reports whether a rule governs any of an element, from a place. From one that
// is no segment only the rules that name it want to be looked at.
func (c *coverage) wants(pl *place, r *Rule, to *To, ports Ports, now time.Time) bool {
	names := func(f From) bool { return f.Segment == nil && !f.All && slices.Equal(f.Prefixes, pl.prefixes) }
	if pl.segment == nil && pl.prefixes != nil && !slices.ContainsFunc(r.From, names) {
		return false
	}
	froms, tos := pl.prefixes, to.Prefixes
	if len(froms) == 0 {
		froms = []netip.Prefix{{}}
	}
	if len(tos) == 0 {
		tos = []netip.Prefix{{}}
	}
	for _, from := range froms {
		for _, dest := range tos {
			if dest.IsValid() && from.IsValid() && familyOf(dest.Addr()) != familyOf(from.Addr()) {
				continue
			}
			if c.policy.governs(&cell{from: from, to: dest, name: to.Name, ports: ports}, now) == r {
				return true
			}
		}
	}
	return false
}

// untested returns the row of what nobody has looked at.
func (pl *place) untested(r *Rule, to *To, ports Ports, now time.Time) Row {
	row := Row{
		Vantage: pl.label, Family: pl.family, Destination: to.Text, Ports: ports, Rule: r, Expected: ExpectOpen, Result: Untested,
		Note: "no journal has this, seen from " + pl.said(),
	}
	if row.Family == "" && len(to.Prefixes) > 0 {
		row.Family = familyOf(to.Prefixes[0].Addr())
	}
	if r.Action == Deny || r.ended(now) {
		row.Expected = ExpectBlocked
	}
	return row
}

// said says where a place is.
func (pl *place) said() string {
	switch {
	case pl.segment != nil && pl.family == "IPv6":
		return "segment " + pl.label + " over IPv6"
	case pl.segment != nil:
		return "segment " + pl.label
	case pl.prefixes == nil:
		return "anywhere"
	}
	return pl.label
}
