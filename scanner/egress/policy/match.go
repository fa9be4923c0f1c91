package policy

import (
	"net/netip"
	"strings"
	"time"
)

// A cell is what one rule decides: where from, where to, which ports. It is one
// source, destination and port that was observed, or a part of the policy that
// nobody has looked at, as large as an element of a rule.
type cell struct {
	from    netip.Prefix // not valid: not known, or anywhere
	segment string       // set where the vantage has only the name of a segment
	to      netip.Prefix // not valid: not known, or anywhere
	name    string       // of the far end, as To has it
	ports   Ports
}

// A rank says how specific a match is: from, to, ports, the larger the more.
type rank [3]int

// Ranks of elements that are no prefix. A prefix has rankPrefix + its bits.
const (
	rankNone    = 0 // it does not match
	rankAll     = 1 // all, any
	rankByName  = 2 // the vantage has the segment's name
	rankPrefix  = 3
	rankHost    = 1000 // a name
	rankAddress = 1001
)

// compare returns -1, 0 or 1.
func (r rank) compare(other rank) int {
	for i := range r {
		switch {
		case r[i] < other[i]:
			return -1
		case r[i] > other[i]:
			return 1
		}
	}
	return 0
}

// match returns how specifically a rule matches; ok is false if it does not.
func (r *Rule) match(c *cell) (best rank, ok bool) {
	for i := range r.From {
		best[0] = max(best[0], r.From[i].rank(c))
	}
	for i := range r.To {
		best[1] = max(best[1], r.To[i].rank(c))
	}
	for _, p := range r.Ports {
		if p.covers(c.ports) {
			best[2] = max(best[2], 1<<16+1-p.size())
		}
	}
	return best, best[0] > rankNone && best[1] > rankNone && best[2] > rankNone
}

func (f *From) rank(c *cell) int {
	switch {
	case f.All:
		return rankAll
	case c.segment != "" && f.Segment != nil && f.Segment.Name == c.segment:
		return rankByName
	}
	return rankOf(f.Prefixes, c.from)
}

func (t *To) rank(c *cell) int {
	switch {
	case t.Any:
		return rankAll
	case t.Name != "" && t.Name == c.name:
		return rankHost
	}
	best := rankOf(t.Prefixes, c.to)
	if best > rankNone && best-rankPrefix == c.to.Addr().BitLen() {
		return rankAddress
	}
	return best
}

// rankOf returns the rank of the longest prefix that holds all of q.
func rankOf(prefixes []netip.Prefix, q netip.Prefix) int {
	best := rankNone
	if !q.IsValid() {
		return best
	}
	for _, p := range prefixes {
		if covers(p, q) {
			best = max(best, rankPrefix+p.Bits())
		}
	}
	return best
}

// covers reports whether all of q is in p.
func covers(p, q netip.Prefix) bool { return p.Bits() <= q.Bits() && p.Contains(q.Addr()) }

// governs returns the rule that decides a cell at a time, or nil. An exception
// that has expired gives way to what allows the same; else it still governs, and
// denies.
func (p *Policy) governs(c *cell, at time.Time) *Rule {
	best := p.best(c, func(*Rule) bool { return true })
	if best == nil || !best.ended(at) {
		return best
	}
	if next := p.best(c, func(r *Rule) bool { return !r.ended(at) }); next != nil && next.Action != Deny {
		return next
	}
	return best
}

// best returns the most specific of some rules.
func (p *Policy) best(c *cell, counts func(*Rule) bool) (best *Rule) {
	var most rank
	for _, r := range p.Rules {
		got, ok := r.match(c)
		if !ok || !counts(r) {
			continue
		}
		order := 1
		if best != nil {
			order = got.compare(most)
		}
		if order > 0 || order == 0 && r.Action > best.Action {
			best, most = r, got
		}
	}
	return best
}

// cellOf returns the cell of a source, a destination and a port.
func (p *Policy) cellOf(vantage string, source netip.Addr, host string, addr netip.Addr, port uint16) cell {
	c := cell{from: single(source), to: single(addr), name: hostName(host), ports: Ports{port, port}}
	if s := p.segmentOf(c.from); s == nil && p.segmentNamed(vantage) != nil {
		c.segment = vantage
	}
	return c
}

// single returns an address as a prefix, without its zone.
func single(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	return netip.PrefixFrom(a, a.BitLen())
}

// segmentOf returns the segment with the longest prefix that holds a source, or nil.
func (p *Policy) segmentOf(from netip.Prefix) (best *Segment) {
	most := rankNone
	for _, s := range p.Segments {
		if n := rankOf(s.Prefixes, from); n > most {
			best, most = s, n
		}
	}
	return best
}

func (p *Policy) segmentNamed(name string) *Segment {
	for _, s := range p.Segments {
		if s.Name == name {
			return s
		}
	}
	return nil
}

// hostName returns the plain form of a host name.
func hostName(s string) string { return strings.ToLower(strings.TrimSuffix(s, ".")) }
