package targets

import (
	"iter"
	"sort"
)

// MaxEndpoints is the largest plan: 2^48 endpoints, some 900 years at 10,000 a second.
const MaxEndpoints = 1 << 48

// A key is an address in the width of its family.
type key[K any] interface {
	comparable
	cmp(K) int
	plus(uint64) K
	wide() uint128
	narrow(uint128) K
}

// An attr is what the addresses of a run have in common.
type attr struct {
	ports  uint32 // list in the portTable
	origin uint32 // number in the plan's origins, 0 is the nil origin; with mixed, number in its mixes
}

// An interval is a range of addresses with one attr (number in the attr table).
type interval struct {
	span
	attr uint32
}

// A run is a stretch of addresses with one attr. It is 16 bytes for IPv4, and
// so an isolated address costs at most 16 bytes, and 4 among others like it.
type run[K key[K]] struct {
	start uint64 // index of its first endpoint; the next run's start is its end
	first K      // first address; of a list run, its offset in the list
	attr  uint32 // number in the attr table; listed if the top bit is set
}

const listed = 1 << 31

// A set is the addresses of one family (and zone), in order. A run is either a
// range or, with listed, isolated addresses that lie in list.
type set[K key[K]] struct {
	zone string
	runs []run[K]
	list []K
	base uint64 // index of its first endpoint
	end  uint64 // index after its last
	// jump[k] is the run of endpoint base + k<<shift: where At begins to look.
	jump  []uint32
	shift uint
}

// A table gives the meaning of attr numbers.
type table struct {
	ports   portTable
	attrs   []attr
	origins []*Origin // origins[0] is nil
	mixes   [][]share // where the ports of a list have different origins
}

func (t *table) portsOf(id uint32) []Port { return t.ports.lists[t.attrs[id].ports] }

// runEnd returns the index after the last endpoint of run r.
func (s *set[K]) runEnd(r int) uint64 {
	if r+1 < len(s.runs) {
		return s.runs[r+1].start
	}
	return s.end
}

// at returns the address of endpoint i, its attr and the number of its port.
func (s *set[K]) at(i uint64, t *table) (addr K, id uint32, port uint64) {
	lo, hi := 0, len(s.runs)
	if len(s.jump) > 0 {
		k := (i - s.base) >> s.shift
		if lo = int(s.jump[k]); k+1 < uint64(len(s.jump)) {
			hi = int(s.jump[k+1]) + 1
		}
	}
	for hi-lo > 1 {
		if mid := int(uint(lo+hi) >> 1); s.runs[mid].start <= i {
			lo = mid
		} else {
			hi = mid
		}
	}
	r := s.runs[lo]
	id = r.attr &^ listed
	ports := uint64(len(t.portsOf(id)))
	offset := (i - r.start) / ports
	port = (i - r.start) % ports
	if r.attr&listed != 0 {
		return s.list[r.first.wide().lo+offset], id, port
	}
	return r.first.plus(offset), id, port
}

// buildJump makes the table that shortens searches in sets of many runs: one
// entry for eight runs, so half a byte a run.
func (s *set[K]) buildJump() {
	entries := uint64(len(s.runs) / 8)
	if entries < 8 {
		return
	}
	size := s.end - s.base
	for s.shift = 0; size>>s.shift >= entries; s.shift++ {
	}
	s.jump = make([]uint32, 0, size>>s.shift+1)
	r := 0
	for k := uint64(0); k<<s.shift < size; k++ {
		for s.runEnd(r) <= s.base+k<<s.shift {
			r++
		}
		s.jump = append(s.jump, uint32(r))
	}
}

// head returns the first address of run r.
func (s *set[K]) head(r int) K {
	if s.runs[r].attr&listed != 0 {
		return s.list[s.runs[r].first.wide().lo]
	}
	return s.runs[r].first
}

// index returns the index of the first endpoint of an address, and its attr.
func (s *set[K]) index(addr K, t *table) (i uint64, id uint32, ok bool) {
	r := sort.Search(len(s.runs), func(r int) bool { return addr.cmp(s.head(r)) < 0 }) - 1
	if r < 0 {
		return 0, 0, false
	}
	run := s.runs[r]
	id = run.attr &^ listed
	ports := uint64(len(t.portsOf(id)))
	count := (s.runEnd(r) - run.start) / ports
	if run.attr&listed == 0 {
		offset := addr.wide().minus(run.first.wide())
		return run.start + offset.lo*ports, id, offset.hi == 0 && offset.lo < count
	}
	list := s.list[run.first.wide().lo:][:count]
	n := sort.Search(len(list), func(i int) bool { return addr.cmp(list[i]) <= 0 })
	if n == len(list) || list[n] != addr {
		return 0, 0, false
	}
	return run.start + uint64(n)*ports, id, true
}

// intervals yields the set in order; neighbours with one attr are joined.
func (s *set[K]) intervals(t *table) iter.Seq[interval] {
	return func(yield func(interval) bool) {
		var cur interval
		have := false
		put := func(first, last uint128, id uint32) bool {
			if have && cur.attr == id && cur.last.plus(1) == first {
				cur.last = last
				return true
			}
			if have && !yield(cur) {
				return false
			}
			cur, have = interval{span{first, last}, id}, true
			return true
		}
		for i, r := range s.runs {
			id := r.attr &^ listed
			count := (s.runEnd(i) - r.start) / uint64(len(t.portsOf(id)))
			if r.attr&listed == 0 {
				if !put(r.first.wide(), r.first.wide().plus(count-1), id) {
					return
				}
				continue
			}
			for _, a := range s.list[r.first.wide().lo:][:count] {
				if !put(a.wide(), a.wide(), id) {
					return
				}
			}
		}
		if have {
			yield(cur)
		}
	}
}

// shortRun is how many addresses of a run cost no more in a list than as a run.
const shortRun = 4

// An appender builds a set from intervals in ascending order.
type appender[K key[K]] struct {
	set *set[K]
	t   *table
	cur interval
	any bool
}

// add appends an interval. A set that grows too large is a *RefusedError.
func (a *appender[K]) add(in interval) error {
	if a.any && a.cur.attr == in.attr && a.cur.last.plus(1) == in.first {
		a.cur.last = in.last
		return nil
	}
	err := a.flush()
	a.cur, a.any = in, true
	return err
}

func (a *appender[K]) flush() error {
	if !a.any {
		return nil
	}
	a.any = false
	s, ports := a.set, uint64(len(a.t.portsOf(a.cur.attr)))
	n, ok := a.cur.size()
	if !ok || n > MaxEndpoints/ports || s.end+n*ports > MaxEndpoints {
		return tooLarge("")
	}
	if n > shortRun || !a.extend(n, ports) {
		var zero K
		s.runs = append(s.runs, run[K]{start: s.end, first: zero.narrow(a.cur.first), attr: a.cur.attr})
	}
	s.end += n * ports
	return nil
}

// extend puts a short interval into the last run, if that is a list or may
// become one.
func (a *appender[K]) extend(n, ports uint64) bool {
	s := a.set
	if len(s.runs) == 0 {
		return false
	}
	last := &s.runs[len(s.runs)-1]
	if last.attr&^listed != a.cur.attr {
		return false
	}
	if last.attr&listed == 0 {
		count := (s.end - last.start) / ports
		if count > shortRun {
			return false
		}
		first, offset := last.first, uint64(len(s.list))
		for i := range count {
			s.list = append(s.list, first.plus(i))
		}
		last.first, last.attr = first.narrow(uint128{0, offset}), last.attr|listed
	}
	for i := range n {
		s.list = append(s.list, last.first.narrow(a.cur.first.plus(i)))
	}
	return true
}

func tooLarge(spec string) error {
	return &RefusedError{Spec: spec, Reason: "more than 2^48 endpoints", Hint: "name smaller blocks, or fewer ports"}
}
