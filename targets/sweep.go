package targets

import (
	"container/heap"
	"slices"
)

// noSpec is the number of no spec: an address of its own from a list. It is the
// largest, so that every spec comes before it.
const noSpec = ^uint32(0)

// An item is a range of addresses on its way into a set.
type item struct {
	span
	ports, spec uint32
	six         bool
}

// A merge yields the ranges and addresses of a pile by their first address.
type merge[K key[K]] struct {
	ranges []ranged[K]
	chunks chunkHeap[K]
	six    bool
}

func newMerge[K key[K]](p *pile[K]) *merge[K] {
	m := &merge[K]{ranges: p.ranges}
	_, four := any(p).(*pile[uint32key])
	m.six = !four
	slices.SortFunc(m.ranges, func(a, b ranged[K]) int {
		if c := a.first.cmp(b.first); c != 0 {
			return c
		}
		return int(int64(a.spec) - int64(b.spec))
	})
	for ports, c := range p.open {
		if len(c) > 0 {
			p.seal(c, ports)
		}
	}
	p.open = nil
	m.chunks = p.sorted
	heap.Init(&m.chunks)
	return m
}

// next returns the next item.
func (m *merge[K]) next() (item, bool) {
	if len(m.chunks) > 0 && (len(m.ranges) == 0 || m.chunks[0].addrs[0].cmp(m.ranges[0].first) < 0) {
		c := &m.chunks[0]
		a, ports := c.addrs[0].wide(), c.ports
		if c.addrs = c.addrs[1:]; len(c.addrs) == 0 {
			heap.Pop(&m.chunks)
		} else if len(m.chunks) > 1 {
			heap.Fix(&m.chunks, 0)
		}
		return item{span{a, a}, ports, noSpec, m.six}, true
	}
	if len(m.ranges) == 0 {
		return item{}, false
	}
	r := m.ranges[0]
	m.ranges = m.ranges[1:]
	return item{span{r.first.wide(), r.last.wide()}, r.ports, r.spec, m.six}, true
}

type chunkHeap[K key[K]] []chunk[K]

func (h chunkHeap[K]) Len() int           { return len(h) }
func (h chunkHeap[K]) Less(i, j int) bool { return h[i].addrs[0].cmp(h[j].addrs[0]) < 0 }
func (h chunkHeap[K]) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *chunkHeap[K]) Push(x any)        { *h = append(*h, x.(chunk[K])) }
func (h *chunkHeap[K]) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = chunk[K]{} // what was read may be collected
	*h = old[:len(old)-1]
	return last
}

// sweep walks over items in order of their first address and emits disjoint
// intervals in order. Where items overlap, their ports are united, and each
// port comes from the first spec that names it.
func sweep[K key[K]](in *merge[K], attrs *attrTable, emit func(interval) error) error {
	var active []item
	var pos uint128 // everything before it was emitted
	for {
		next, more := in.next()
		for len(active) > 0 && (!more || pos.less(next.first)) {
			part := span{pos, active[0].last}
			for _, a := range active {
				part.last = minOf(part.last, a.last)
			}
			if more && !part.last.less(next.first) {
				part.last = next.first.minus(uint128{0, 1})
			}
			id, err := attrs.together(active)
			if err == nil {
				err = emit(interval{part, id})
			}
			if err != nil {
				return withAddress(err, part.first, active)
			}
			pos = part.last.plus(1)
			active = slices.DeleteFunc(active, func(a item) bool { return a.last.less(pos) })
		}
		if !more {
			return nil
		}
		pos = next.first
		active = join(active, next)
	}
}

// join adds an item unless another one says the same and more, and drops those
// of which it says so. This keeps the list short when thousands overlap.
func join(active []item, next item) []item {
	says := func(a, b item) bool { // both cover the present position
		return a.ports == b.ports && a.spec <= b.spec && !a.last.less(b.last)
	}
	for _, a := range active {
		if says(a, next) {
			return active
		}
	}
	return append(slices.DeleteFunc(active, func(a item) bool { return says(next, a) }), next)
}

// withAddress says at which address two specs contradict each other.
func withAddress(err error, n uint128, active []item) error {
	if bad, ok := err.(*SpecError); ok && bad.Spec == "" {
		bad.Spec = n.inFamily(active[0].six).String()
	}
	return err
}
