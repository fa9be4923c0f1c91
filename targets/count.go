package targets

import "sort"

// A counter counts what of a plan is subtracted, family by family.
type counter struct {
	plan     *Plan
	blocks   []special         // refused, sorted
	excluded func(span) uint64 // how many addresses of a span are excluded
	special  []special         // everything that is not public, to find public addresses
	private  []special         // of these the private ones, to find others
	by       map[string]int
	mask     uint128 // of the host bits in a subnet: /24, /48
	net      uint128 // the subnet of the last address
	inNet    uint64  // endpoints of it that are probed
}

// count fills in what is left, and what is subtracted.
func (p *Plan) count() {
	c := &counter{plan: p, by: map[string]int{}}
	p.left = p.Len()
	c.family4()
	for n := range p.six {
		c.family6(&p.six[n])
	}
	for _, s := range p.subtracted {
		p.left -= s.Count
	}
}

func (c *counter) family4() {
	f := c.plan.cfg.Exclude.freeze()
	c.blocks, c.special, c.private = c.plan.cfg.refused(false), specials4, privates4
	c.mask, c.inNet = uint128{0, 1<<8 - 1}, 0
	c.excluded = none
	if f != nil && len(f.four) > 0 {
		c.excluded = f.four.overlap
	}
	for x := range c.plan.four.intervals(&c.plan.t) {
		c.interval(x, c.plan.cfg.Only6, "IPv4 (-6)")
	}
}

func (c *counter) family6(s *set[uint128]) {
	cfg := c.plan.cfg
	c.blocks, c.special, c.private = cfg.refused(true), specials6, privates6
	c.mask, c.inNet = uint128{1<<16 - 1, ^uint64(0)}, 0
	if s.zone != "" {
		c.blocks = nil // link-local addresses with their zone: parse let nothing else in
	}
	wrapping := c.wrapping(s)
	inside := cfg.refusedInside()
	for _, part := range wrapping {
		teredoSpans(part, inside, func(s special) span { return s.span }, func(s special, w span) {
			c.blocks = append(c.blocks, special{w, s.class, wrappedName(s.name, "Teredo")})
		})
	}
	c.blocks = sortedSpecials(c.blocks)
	c.excluded = none
	if f := cfg.Exclude.freeze(); f != nil && len(f.four)+len(f.six) > 0 {
		c.excluded = f.sixWith(wrapping).overlap
	}
	for x := range s.intervals(&c.plan.t) {
		c.interval(x, cfg.Only4, "IPv6 (-4)")
	}
}

// wrapping returns the spans of a set that hold addresses which wrap an IPv4
// address: mostly none. Those of one /64 count as one.
func (c *counter) wrapping(s *set[uint128]) (parts []span) {
	for x := range s.intervals(&c.plan.t) {
		if !wraps(x.span) {
			continue
		}
		if n := len(parts); n > 0 && x.first.hi == parts[n-1].last.hi {
			parts[n-1].last = x.last
		} else {
			parts = append(parts, x.span)
		}
	}
	return parts
}

func none(span) uint64 { return 0 }

func sortedSpecials(s []special) []special {
	sort.Slice(s, func(i, j int) bool { return s[i].first.less(s[j].first) })
	return s
}

// interval counts one interval; away means that its whole family is.
func (c *counter) interval(x interval, away bool, family string) {
	ports := uint64(len(c.plan.t.portsOf(x.attr)))
	left, _ := x.size()
	if away {
		c.subtract(family, left, ports)
		return
	}
	n := c.excluded(x.span)
	c.subtract("excluded", n, ports)
	left -= n
	i := sort.Search(len(c.blocks), func(i int) bool { return !c.blocks[i].last.less(x.first) })
	for ; i < len(c.blocks); i++ {
		part, ok := c.blocks[i].clip(x.span)
		if !ok {
			break
		}
		n, _ := part.size()
		n -= c.excluded(part)
		c.subtract(c.blocks[i].name, n, ports)
		left -= n
	}
	c.plan.addresses += left
	c.plan.public = c.plan.public || c.outside(c.special, x.span, left)
	c.plan.strange = c.plan.strange || c.outside(c.private, x.span, left)
	c.crowd(x.span, ports)
}

// crowd notes how many endpoints of a span are probed in one subnet. Of the
// subnets that lie wholly within it, the first stands for all.
func (c *counter) crowd(x span, ports uint64) {
	end := x.first.or(c.mask) // of the first subnet
	if !end.less(x.last) {
		c.join(x, ports)
		return
	}
	c.join(span{x.first, end}, ports)
	tail := span{x.last.without(c.mask), x.last}
	if next := end.plus(1); next != tail.first {
		c.join(span{next, next.or(c.mask)}, ports)
	}
	c.join(tail, ports)
}

// join adds a span within one subnet to those before it.
func (c *counter) join(x span, ports uint64) {
	if net := x.first.without(c.mask); net != c.net {
		c.net, c.inNet = net, 0
	}
	n, _ := x.size()
	c.inNet += (n - c.excluded(x) - c.refusedIn(x)) * ports
	c.plan.crowd = max(c.plan.crowd, c.inNet)
}

// outside reports whether a span, of which left addresses are probed, has one
// outside of some blocks among them.
func (c *counter) outside(blocks []special, x span, left uint64) bool {
	inside := uint64(0) // addresses that are probed
	i := sort.Search(len(blocks), func(i int) bool { return !blocks[i].last.less(x.first) })
	for ; i < len(blocks) && inside < left; i++ {
		part, ok := blocks[i].clip(x)
		if !ok {
			break
		}
		n, _ := part.size()
		inside += n - c.excluded(part) - c.refusedIn(part)
	}
	return inside < left
}

// refusedIn counts the addresses of a span that are refused and not excluded.
func (c *counter) refusedIn(x span) (n uint64) {
	i := sort.Search(len(c.blocks), func(i int) bool { return !c.blocks[i].last.less(x.first) })
	for ; i < len(c.blocks); i++ {
		part, ok := c.blocks[i].clip(x)
		if !ok {
			break
		}
		size, _ := part.size()
		n += size - c.excluded(part)
	}
	return n
}

func (c *counter) subtract(what string, addresses, ports uint64) {
	if addresses == 0 {
		return
	}
	i, ok := c.by[what]
	if !ok {
		i = len(c.plan.subtracted)
		c.by[what] = i
		c.plan.subtracted = append(c.plan.subtracted, Subtraction{What: what})
	}
	c.plan.subtracted[i].Count += addresses * ports
	c.plan.subtracted[i].Addresses += addresses
}
