package targets

import (
	"io"
	"net/netip"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
)

// A pair is a span in the width of its family.
type pair[K key[K]] struct{ first, last K }

// A spanList is sorted, without overlap.
type spanList[K key[K]] []pair[K]

// merged sorts and joins spans in place.
func merged[K key[K]](spans []pair[K]) spanList[K] {
	slices.SortFunc(spans, func(a, b pair[K]) int { return a.first.cmp(b.first) })
	out := spans[:0]
	for _, s := range spans {
		if n := len(out); n > 0 && s.first.cmp(out[n-1].last) <= 0 {
			if out[n-1].last.cmp(s.last) < 0 {
				out[n-1].last = s.last
			}
			continue
		}
		out = append(out, s)
	}
	return spanList[K](out)
}

// from returns the number of the first span that ends at n or later.
func (l spanList[K]) from(n K) int {
	return sort.Search(len(l), func(i int) bool { return n.cmp(l[i].last) <= 0 })
}

func (l spanList[K]) contains(n K) bool {
	i := l.from(n)
	return i < len(l) && l[i].first.cmp(n) <= 0
}

// overlap counts the addresses of s that the list has. s has less than 2^64.
func (l spanList[K]) overlap(s span) (n uint64) {
	var zero K
	for i := l.from(zero.narrow(s.first)); i < len(l); i++ {
		part, ok := s.clip(span{l[i].first.wide(), l[i].last.wide()})
		if !ok {
			break
		}
		size, _ := part.size()
		n += size
	}
	return n
}

// Exclusions is a set of addresses that must not be contacted. It counts for
// every address, however it became a target, in every zone, and for the IPv6
// addresses that wrap an excluded IPv4 address (NAT64, 6to4, Teredo).
//
// Contains may be called from several goroutines; Add and ReadFile may not run
// beside it.
type Exclusions struct {
	four   []pair[uint32key]
	six    []pair[uint128]
	mu     sync.Mutex
	frozen atomic.Pointer[frozen]
}

type frozen struct {
	four spanList[uint32key]
	six  spanList[uint128]
}

// NewExclusions returns an empty set.
func NewExclusions() *Exclusions { return &Exclusions{} }

// Add excludes an address, a block or a range, written as a target without
// port. Errors are *SpecError; a name is one, because what it leads to may be
// different when it is asked again.
func (e *Exclusions) Add(text string) error { return e.add(text) }

func (e *Exclusions) add(text string) error {
	s, err := parser{everyZone: true}.parse(text)
	switch {
	case err != nil:
		bad := err.(*SpecError)
		bad.What, bad.Spec = "exclusion", text
		return bad
	case s.name != "":
		return &SpecError{What: "exclusion", Spec: text, Reason: "it is a name, and only addresses can be excluded",
			Hint: "write its addresses or their block: 192.0.2.0/24"}
	case s.ports != nil:
		return &SpecError{What: "exclusion", Spec: text, Reason: "it has a port, and an exclusion counts for all ports",
			Hint: "leave the port out"}
	case s.single:
		e.put(s.span, s.six)
		return nil
	}
	prefixes, err := s.prefixes()
	if err != nil {
		return &SpecError{What: "exclusion", Spec: text, Reason: err.Error()}
	}
	for _, p := range prefixes {
		e.put(spanOf(p), s.six)
	}
	return nil
}

func (e *Exclusions) put(s span, six bool) {
	e.frozen.Store(nil)
	if six {
		e.six = append(e.six, pair[uint128](s))
		return
	}
	e.four = append(e.four, pair[uint32key]{uint32key(s.first.lo), uint32key(s.last.lo)})
}

// ReadFile adds a list, streamed: one or more exclusions a line, "#" begins a
// comment. name is what errors call it. A bad line is a *SpecError with
// name:line, several are a *ListError: a skipped exclusion is worse than no
// scan. An empty list is fine.
func (e *Exclusions) ReadFile(name string, r io.Reader) error {
	return readSpecs("exclusion", name, r, func(_ int, text []byte) error {
		if n, ok := parse4(text); ok {
			e.put(span{uint128{0, uint64(n)}, uint128{0, uint64(n)}}, false)
			return nil
		}
		return e.add(string(text))
	})
}

// Contains reports whether the address is excluded. A nil set contains nothing.
func (e *Exclusions) Contains(a netip.Addr) bool {
	f := e.freeze()
	if f == nil {
		return false
	}
	a = a.Unmap()
	n := number(a)
	if a.Is4() {
		return f.four.contains(uint32key(n.lo))
	}
	if v4, _, ok := inner(n); ok && f.four.contains(uint32key(v4)) {
		return true
	}
	return f.six.contains(n)
}

// freeze returns the set sorted.
func (e *Exclusions) freeze() *frozen {
	if e == nil {
		return nil
	}
	if f := e.frozen.Load(); f != nil {
		return f
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if f := e.frozen.Load(); f != nil {
		return f
	}
	e.four, e.six = merged(e.four), merged(e.six)
	f := &frozen{e.four, e.six}
	e.frozen.Store(f)
	return f
}

// sixWith returns the excluded IPv6 addresses, with those that wrap an excluded
// IPv4 address within parts.
func (f *frozen) sixWith(parts []span) spanList[uint128] {
	if len(parts) == 0 || len(f.four) == 0 {
		return f.six
	}
	all := slices.Clone([]pair[uint128](f.six))
	wide := func(p pair[uint32key]) span { return span{p.first.wide(), p.last.wide()} }
	for _, part := range parts {
		for i, whole := range [...]span{nat64, sixTo4} { // in the order of wrap
			inside, ok := part.clip(whole)
			if !ok {
				continue
			}
			first, _, _ := inner(inside.first)
			last, _, _ := inner(inside.last)
			for n := f.four.from(uint32key(first)); n < len(f.four) && uint32(f.four[n].first) <= last; n++ {
				all = append(all, pair[uint128](wrap(wide(f.four[n]))[i]))
			}
		}
		teredoSpans(part, f.four, wide, func(_ pair[uint32key], w span) { all = append(all, pair[uint128](w)) })
	}
	return merged(all)
}
