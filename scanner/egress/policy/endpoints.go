package policy

import (
	"net/netip"
	"slices"
	"time"
)

// An Endpoint is something that a policy wants looked at.
type Endpoint struct {
	Addr netip.Addr // not valid if it is a name
	Host string     // a name, still to be resolved; "" if it is an address
	Port uint16
}

// maxRange is how many ports of a range are each looked at. Of a larger one its
// ends and the mail ports in it stand for all.
const maxRange = 16

// mailPorts are the ports that stand for a large range.
var mailPorts = []uint16{25, 465, 587, 2525}

// sample returns the ports of a range that are looked at.
func (p Ports) sample() (out []uint16) {
	if p.size() <= maxRange {
		for n := int(p.First); n <= int(p.Last); n++ {
			out = append(out, uint16(n))
		}
		return out
	}
	out = append(out, p.First, p.Last)
	for _, n := range mailPorts {
		if p.covers(Ports{n, n}) {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Endpoints returns what the policy itself names for a vantage: every address and
// every name of a "to", on the ports of its rule, each once, in the order of the
// file. Of "any", and of prefixes, only the caller knows far ends: see Ports and
// Governs. Of a source only its own family is returned; an invalid source is of
// both, and of the segment that has the vantage's name.
func (p *Policy) Endpoints(vantage string, source netip.Addr) (out []Endpoint) {
	known := map[Endpoint]bool{}
	for _, r := range p.Rules {
		for i := range r.To {
			to := &r.To[i]
			addr := to.address()
			if to.Name == "" && !addr.IsValid() || addr.IsValid() && source.IsValid() && addr.Is4() != source.Unmap().Is4() {
				continue
			}
			for _, ports := range r.Ports {
				for _, port := range ports.sample() {
					e := Endpoint{addr, to.Name, port}
					c := p.cellOf(vantage, source, to.Name, addr, port)
					if _, ok := r.match(&c); ok && !known[e] {
						known[e] = true
						out = append(out, e)
					}
				}
			}
		}
	}
	return out
}

// Ports returns the ports that rules for a vantage name, in order: what to ask of
// a far end that the policy does not name. Of a range with more than 16 ports its
// ends and the mail ports in it are returned.
func (p *Policy) Ports(vantage string, source netip.Addr) (out []uint16) {
	c := p.cellOf(vantage, source, "", netip.Addr{}, 0)
	for _, r := range p.Rules {
		if !slices.ContainsFunc(r.From, func(f From) bool { return f.rank(&c) > rankNone }) {
			continue
		}
		for _, ports := range r.Ports {
			out = append(out, ports.sample()...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Governs returns the rule that decides whether a vantage may reach an endpoint at
// a time, or nil: then the policy says nothing of it, and an audit by the policy
// does not contact it. host is the name that the address came from, or "".
func (p *Policy) Governs(vantage string, source netip.Addr, host string, addr netip.Addr, port uint16, at time.Time) *Rule {
	c := p.cellOf(vantage, source, host, addr, port)
	return p.governs(&c, at)
}
