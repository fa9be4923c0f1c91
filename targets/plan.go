package targets

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"iter"
	"net/netip"
	"slices"
)

// A Plan is everything a run will look at: endpoints with an index from 0 to
// Len, and names. Endpoints are in order of family (IPv4 first), zone, address
// and port, so the ports of a host lie together. A plan does not change, and
// may be used by several goroutines.
type Plan struct {
	cfg        Config
	seed       uint64
	t          table
	four       set[uint32key]
	six        []set[uint128] // the first one without a zone, the others by zone
	names      nameTable
	typedNames map[string]bool // specs of typed host names
	notices    []string
	hash       string
	left       uint64 // endpoints that will be probed
	addresses  uint64 // addresses that will be probed
	crowd      uint64 // most endpoints of one subnet that will be probed
	public     bool
	strange    bool // an address that will be probed is not private
	subtracted []Subtraction
}

// A Subtraction says what will not be probed, and how much of it there is.
type Subtraction struct {
	What      string // "excluded", "documentation (RFC 5737)", "IPv6 (-4)"
	Count     uint64 // endpoints
	Addresses uint64
}

// Len returns the number of endpoints at addresses, those included that will
// not be probed. Names are not counted.
func (p *Plan) Len() uint64 {
	if len(p.six) == 0 {
		return p.four.end
	}
	return p.six[len(p.six)-1].end
}

// At returns endpoint i, which must be less than Len.
func (p *Plan) At(i uint64) Target {
	if i < p.four.end {
		a, id, port := p.four.at(i, &p.t)
		return p.target(i, addr4(uint32(a)), id, port)
	}
	n := 0
	for i >= p.six[n].end {
		n++
	}
	s := &p.six[n]
	a, id, port := s.at(i, &p.t)
	addr := a.addr()
	if s.zone != "" {
		addr = addr.WithZone(s.zone)
	}
	return p.target(i, addr, id, port)
}

func (p *Plan) target(i uint64, addr netip.Addr, id uint32, n uint64) Target {
	a := p.t.attrs[id]
	port := p.t.ports.lists[a.ports][n]
	return Target{Index: i, Addr: addr, From: p.t.originOf(a, n), Port: port.Number, Role: port.Role}
}

// Index returns the index of an endpoint; ok is false if the plan does not have it.
func (p *Plan) Index(addr netip.Addr, port uint16) (i uint64, ok bool) {
	i, id, ok := p.find(addr)
	if !ok {
		return 0, false
	}
	n, ok := slices.BinarySearchFunc(p.t.portsOf(id), port, func(p Port, n uint16) int { return cmp.Compare(p.Number, n) })
	return i + uint64(n), ok
}

// Has reports whether the plan has an address, at whatever port.
func (p *Plan) Has(addr netip.Addr) bool {
	_, _, ok := p.find(addr)
	return ok
}

// find returns the index of the first endpoint of an address, and its attr.
func (p *Plan) find(addr netip.Addr) (i uint64, id uint32, ok bool) {
	switch addr = addr.Unmap(); {
	case !addr.IsValid():
		return 0, 0, false
	case addr.Is4():
		return p.four.index(uint32key(number(addr).lo), &p.t)
	}
	for n := range p.six {
		if p.six[n].zone == addr.Zone() {
			return p.six[n].index(number(addr), &p.t)
		}
	}
	return 0, 0, false
}

// Names yields the names in the order they were written, each once.
func (p *Plan) Names() iter.Seq2[int, Name] {
	return func(yield func(int, Name) bool) {
		for i := range p.names.len() {
			if !yield(i, p.Name(i)) {
				return
			}
		}
	}
}

// Name returns name i, which must be less than NameCount.
func (p *Plan) Name(i int) Name { return p.names.at(i, &p.t.ports) }

// NameCount returns the number of names.
func (p *Plan) NameCount() int { return p.names.len() }

// Hash identifies the plan: SHA-256, in hex, over ranges, ports, roles, names
// and seed. How ranges were written, exclusions and flags do not matter.
func (p *Plan) Hash() string { return p.hash }

// Seed returns the seed of the order.
func (p *Plan) Seed() uint64 { return p.seed }

// Probed returns the number of endpoints at addresses that are left after
// exclusions and special addresses.
func (p *Plan) Probed() uint64 { return p.left }

// Addresses returns the number of addresses that Probed is about.
func (p *Plan) Addresses() uint64 { return p.addresses }

// Crowds returns the most endpoints at one address, and the most that will be
// probed in one subnet, a /24 or /48: a limit per host or subnet spreads them
// over time. Names are not counted.
func (p *Plan) Crowds() (host, subnet uint64) {
	for _, a := range p.t.attrs {
		host = max(host, uint64(len(p.t.ports.lists[a.ports])))
	}
	return host, p.crowd
}

// Ports returns every port that an address or a name of the plan has, sorted;
// same is true if all of them have all of these. Of a port in two roles, at two
// places, the usual one is returned.
func (p *Plan) Ports() (ports []Port, same bool) {
	lists := map[uint32]bool{}
	for _, a := range p.t.attrs {
		lists[a.ports] = true
	}
	for _, r := range p.names.recs {
		lists[r.ports] = true
	}
	roles := map[uint16]Role{}
	for id := range lists {
		for _, port := range p.t.ports.lists[id] {
			if had, ok := roles[port.Number]; ok && had != port.Role {
				port.Role = RoleOf(port.Number)
			}
			roles[port.Number] = port.Role
		}
	}
	return sortedPorts(roles), len(lists) == 1
}

// Subtracted says what the difference of Len and Probed consists of. An
// address that is excluded and special counts as excluded.
func (p *Plan) Subtracted() []Subtraction { return p.subtracted }

// Notices returns what the user should know about how specs were read.
func (p *Plan) Notices() []string { return p.notices }

// Public reports whether any address that will be probed is public. Names are
// not judged: see IsPublic.
func (p *Plan) Public() bool { return p.public }

// Private reports whether every address that will be probed is one of private
// networks or loopback, as IsPrivate says. Names are not judged.
func (p *Plan) Private() bool { return !p.strange }

// Permit says whether an address may be contacted, and if not, why. typed is
// true if the address itself was written, or stands behind a typed name whose
// private addresses Endpoints let through. It is asked before every dial.
func (p *Plan) Permit(addr netip.Addr, typed bool) (ok bool, why Unprobed) {
	if typed {
		return p.permit(addr, typedAddress)
	}
	return p.permit(addr, foundName)
}

// PermitTarget is Permit for a target of this plan: it knows what was typed.
func (p *Plan) PermitTarget(t Target) (ok bool, why Unprobed) {
	switch {
	case t.Host() == "":
		return p.permit(t.Addr, typedAddress)
	case p.typedNames[t.From.Spec]:
		return p.permit(t.Addr, typedName)
	}
	return p.permit(t.Addr, foundName)
}

func (p *Plan) permit(addr netip.Addr, w way) (ok bool, why Unprobed) {
	if !addr.IsValid() {
		return false, Reserved
	}
	addr = addr.Unmap()
	if p.cfg.Only4 && addr.Is6() || p.cfg.Only6 && addr.Is4() || p.cfg.Exclude.Contains(addr) {
		return false, Excluded
	}
	c, _ := p.cfg.judge(addr)
	if !p.cfg.allows(c, w) || c == linkLocal6 && addr.Zone() == "" {
		return false, Reserved
	}
	return true, ""
}

// intervals yields all addresses of the plan in order, and the zone.
func (p *Plan) intervals() iter.Seq2[interval, family] {
	return func(yield func(interval, family) bool) {
		for x := range p.four.intervals(&p.t) {
			if !yield(x, family{}) {
				return
			}
		}
		for n := range p.six {
			for x := range p.six[n].intervals(&p.t) {
				if !yield(x, family{true, p.six[n].zone}) {
					return
				}
			}
		}
	}
}

// A family is IPv4 or IPv6, with a zone.
type family struct {
	six  bool
	zone string
}

// String returns "4", "6" or "6%eth0".
func (f family) String() string {
	switch {
	case !f.six:
		return "4"
	case f.zone != "":
		return "6%" + f.zone
	}
	return "6"
}

// finish computes what is asked of a plan more than once.
func (p *Plan) finish() {
	for n := range p.names.len() {
		name := p.Name(n)
		if _, mx := name.isMX(); !mx && !name.FromFile {
			if p.typedNames == nil {
				p.typedNames = map[string]bool{}
			}
			p.typedNames[name.Spec] = true
		}
	}
	p.four.buildJump()
	for n := range p.six {
		p.six[n].buildJump()
	}
	p.sum()
	p.count()
}

// sum computes the hash. Neighbouring intervals with equal ports count as one,
// whatever spec they came from.
func (p *Plan) sum() {
	h := &planHash{Hash: sha256.New(), lists: map[uint32]uint64{}, t: &p.t}
	h.text("smtpsweep plan 1")
	h.number(p.seed)
	var cur interval
	var of family
	have := false
	for x, f := range p.intervals() {
		same := have && f == of && p.t.attrs[x.attr].ports == p.t.attrs[cur.attr].ports
		if same && cur.last.plus(1) == x.first {
			cur.last = x.last
			continue
		}
		if have {
			h.interval(cur, of)
		}
		cur, of, have = x, f, true
	}
	if have {
		h.interval(cur, of)
	}
	h.text("names")
	for i := range p.names.len() {
		h.text(string(p.names.id(i)))
		h.list(p.names.recs[i].ports)
	}
	h.Write(h.buf)
	p.hash = hex.EncodeToString(h.Sum(nil))
}

// A planHash writes numbers and texts, each preceded by its length, into a hash.
type planHash struct {
	hash.Hash
	t     *table
	lists map[uint32]uint64
	buf   []byte
	prev  uint128
	of    family
	begun bool
}

func (h *planHash) number(n uint64) {
	h.buf = binary.AppendUvarint(h.buf, n)
	if len(h.buf) > 4096 {
		h.Write(h.buf)
		h.buf = h.buf[:0]
	}
}

func (h *planHash) text(s string) {
	h.number(uint64(len(s)))
	h.buf = append(h.buf, s...)
}

// list writes a port list: its text the first time, later its number.
func (h *planHash) list(id uint32) {
	n, ok := h.lists[id]
	if !ok {
		n = uint64(len(h.lists))
		h.lists[id] = n
	}
	h.number(n)
	if !ok {
		h.text(PortsText(h.t.ports.lists[id]))
	}
}

func (h *planHash) interval(x interval, f family) {
	if !h.begun || f != h.of {
		h.text(f.String())
		h.of, h.prev, h.begun = f, uint128{}, true
	}
	gap, size := x.first.minus(h.prev), x.last.minus(x.first)
	h.number(gap.hi)
	h.number(gap.lo)
	h.number(size.lo) // a plan has no larger one
	h.list(h.t.attrs[x.attr].ports)
	h.prev = x.last
}
