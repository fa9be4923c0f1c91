package targets

import (
	"cmp"
	"slices"
)

// A share says which origin the ports of a list have, from the one with number
// first up to the next share. The shares of a mix begin at 0, and neighbours differ.
type share struct{ first, origin uint32 }

// mixed is the top bit of an attr's origin: the rest is the number of a mix.
// Most addresses have one origin for all their ports, and need none.
const mixed = 1 << 31

// originOf returns the origin of an address with attr a at the port of its
// list with number port.
func (t *table) originOf(a attr, port uint64) *Origin {
	n := a.origin
	if n&mixed != 0 {
		n = originIn(t.mixes[n&^mixed], uint32(port))
	}
	return t.origins[n]
}

func originIn(mix []share, port uint32) uint32 {
	lo, hi := 0, len(mix)
	for hi-lo > 1 {
		if mid := int(uint(lo+hi) >> 1); mix[mid].first <= port {
			lo = mid
		} else {
			hi = mid
		}
	}
	return mix[lo].origin
}

// A claim is that a spec names a list of ports.
type claim struct{ ports, spec uint32 }

// maxPairs bounds what an attrTable remembers of pairs of claims.
const maxPairs = 1 << 12

// together returns the attr of addresses to which all items apply: their ports
// united, each from the first spec that names it.
func (t *attrTable) together(active []item) (uint32, error) {
	if len(active) == 1 {
		return t.of(active[0].ports, active[0].spec), nil
	}
	// Mostly a block and an address of a list in it, the same again and again.
	pair := [2]claim{{active[0].ports, active[0].spec}, {active[1].ports, active[1].spec}}
	if id, ok := t.pairs[pair]; ok && len(active) == 2 {
		return id, nil
	}
	ports, err := active[0].ports, error(nil)
	for _, a := range active[1:] {
		if ports, err = t.b.t.ports.union(ports, a.ports); err != nil {
			return 0, err
		}
	}
	id := t.number(attr{ports, t.mix(ports, active)})
	if len(active) == 2 {
		if t.pairs == nil || len(t.pairs) == maxPairs {
			t.pairs = map[[2]claim]uint32{}
		}
		t.pairs[pair] = id
	}
	return id, nil
}

// mix returns the origin of a list's ports, the union of all items': that of
// the first spec if it names them all, else mostly the number of a mix.
func (t *attrTable) mix(ports uint32, active []item) uint32 {
	first := slices.MinFunc(active, func(a, b item) int { return cmp.Compare(a.spec, b.spec) })
	if first.ports == ports {
		return t.origin(first.spec)
	}
	lists := t.b.t.ports.lists
	union := lists[ports]
	t.first = t.first[:0]
	for range union {
		t.first = append(t.first, noSpec)
	}
	for _, a := range active {
		at := 0
		for _, p := range lists[a.ports] {
			n, _ := slices.BinarySearchFunc(union[at:], p, func(x, p Port) int { return cmp.Compare(x.Number, p.Number) })
			at += n
			t.first[at] = min(t.first[at], a.spec)
		}
	}
	var shares []share
	for i, spec := range t.first {
		if i > 0 && spec == t.first[i-1] {
			continue
		}
		if o := t.origin(spec); i == 0 || o != shares[len(shares)-1].origin {
			shares = append(shares, share{uint32(i), o})
		}
	}
	if len(shares) == 1 {
		return shares[0].origin
	}
	return t.intern(shares)
}

// intern gives each different mix one number, marked with mixed.
func (t *attrTable) intern(shares []share) uint32 {
	text := mixText(shares)
	n, ok := t.mixes[text]
	if !ok {
		if t.mixes == nil {
			t.mixes = map[string]uint32{}
		}
		n = uint32(len(t.b.t.mixes)) | mixed
		t.b.t.mixes = append(t.b.t.mixes, shares)
		t.mixes[text] = n
	}
	return n
}
