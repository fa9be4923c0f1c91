package targets

import (
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// A Config says how specs become a plan.
type Config struct {
	Ports         []Port // for specs without a port; nil means DefaultPorts
	AllowPrivate  bool   // also scan private addresses that a name in a list, an MX or an SRV record leads to
	AllowReserved bool   // also scan documentation, benchmark, shared (CGNAT) and other special ranges
	Exclude       *Exclusions
	Only4, Only6  bool // scan one family only; the other one counts as excluded

	// Broadcast are the IPv4 broadcast addresses of this machine's networks. No
	// TCP connection is possible there, and they are never contacted.
	Broadcast []netip.Addr
}

// maxNotices bounds what is said about how specs were read; the rest is counted.
const maxNotices = 20

// A Builder collects specs for a plan. It is for one goroutine. After an error
// it is of no more use.
type Builder struct {
	cfg     Config
	t       table
	dflt    uint32 // the list of cfg.Ports
	four    pile[uint32key]
	six     pile[uint128]
	zones   map[string]*pile[uint128]
	specs   []*Origin // by spec number; nil if an address itself was written
	names   nameTable
	notices []string
	unsaid  int      // notices beyond maxNotices
	empty   []string // lists without a target
	parser  parser
	blocks  [2][]special // refused ones of IPv4 and IPv6, once they are needed
}

// A pile holds the addresses of one family (or zone) until they are sorted.
// An address of its own from a list takes the space of an address only.
type pile[K key[K]] struct {
	ranges []ranged[K]
	open   map[uint32][]K // by port list: addresses that are not sorted yet
	sorted []chunk[K]
	single int // addresses in open and sorted
}

type ranged[K key[K]] struct {
	pair[K]
	ports, spec uint32
}

type chunk[K key[K]] struct {
	ports uint32
	addrs []K
}

// chunkSize is how many addresses are sorted together: few chunks to merge,
// little to copy while one grows.
const chunkSize = 1 << 20

func (p *pile[K]) addSingle(a K, ports uint32) {
	if p.open == nil {
		p.open = map[uint32][]K{}
	}
	c := append(p.open[ports], a)
	p.single++
	if len(c) == chunkSize {
		p.seal(c, ports)
		c = nil
	}
	p.open[ports] = c
}

func (p *pile[K]) seal(c []K, ports uint32) {
	slices.SortFunc(c, func(a, b K) int { return a.cmp(b) })
	p.sorted = append(p.sorted, chunk[K]{ports, slices.Compact(c)})
}

// NewBuilder returns a builder without targets.
func NewBuilder(cfg Config) *Builder {
	if len(cfg.Ports) == 0 {
		cfg.Ports = DefaultPorts()
	}
	b := &Builder{cfg: cfg}
	b.t.origins = []*Origin{nil}
	b.dflt = b.t.ports.intern(cfg.Ports)
	return b
}

// Add adds one spec from the command line. It returns a *SpecError, or a
// *RefusedError if the spec is nothing but addresses that are never scanned.
func (b *Builder) Add(text string) error {
	return b.add(text, false, "")
}

// ReadFile adds a list, streamed: one or more specs a line, "#" begins a
// comment. name is what errors call it; they are those of Add with name:line,
// a *ListError of several, and what r returned.
func (b *Builder) ReadFile(name string, r io.Reader) error {
	found := false
	err := readSpecs("target", name, r, func(line int, text []byte) error {
		found = true
		if n, ok := parse4(text); ok && b.plain4(n) {
			b.four.addSingle(uint32key(n), b.dflt)
			return nil
		}
		return b.add(string(text), true, place(name, line))
	})
	if err == nil && !found {
		b.empty = append(b.empty, name)
	}
	return err
}

// plain4 reports whether an address in a list needs no further look.
func (b *Builder) plain4(n uint32) bool {
	return b.cfg.allows(find(specials4, uint128{0, uint64(n)}).class, typedAddress) && !b.cfg.isBroadcast(addr4(n))
}

func (b *Builder) add(text string, file bool, where string) error {
	s, err := b.parser.parse(text)
	if err != nil {
		return err
	}
	b.say(where, s.notice)
	b.say(where, b.perhapsPort(s))
	ports := b.dflt
	if s.ports != nil {
		ports = b.t.ports.intern(s.ports)
	}
	if s.name != "" {
		err := b.names.add(s.name, text, ports, file, &b.t.ports)
		if bad, ok := err.(*SpecError); ok {
			bad.Spec = text
		}
		return err
	}
	if err := b.mayScan(s, len(b.t.ports.lists[ports])); err != nil {
		return err
	}
	switch {
	case s.zone != "":
		if b.zones == nil {
			b.zones = map[string]*pile[uint128]{}
		}
		if b.zones[s.zone] == nil {
			b.zones[s.zone] = &pile[uint128]{}
		}
		return addSpec(b, b.zones[s.zone], s, ports, file)
	case s.six:
		return addSpec(b, &b.six, s, ports, file)
	}
	return addSpec(b, &b.four, s, ports, file)
}

// perhapsPort warns of an IPv6 address with a port behind it, which without
// brackets is another address: 2001:db8::10:25.
func (b *Builder) perhapsPort(s spec) string {
	i := strings.LastIndexByte(s.text, ':')
	if !s.six || !s.single || i < 0 {
		return ""
	}
	n, err := strconv.ParseUint(s.text[i+1:], 10, 16)
	if err != nil || !slices.ContainsFunc(b.cfg.Ports, func(p Port) bool { return uint64(p.Number) == n }) {
		return ""
	}
	before, err := netip.ParseAddr(s.text[:i])
	if err != nil {
		return "" // 2001:db8::25 is plainly an address
	}
	return fmt.Sprintf("%s is read as an address; for port %d of %s write [%s]:%d", s.text, n, before, before, n)
}

// say notes how a spec was read.
func (b *Builder) say(where, notice string) {
	switch {
	case notice == "":
	case len(b.notices) == maxNotices:
		b.unsaid++
	case where != "":
		b.notices = append(b.notices, where+": "+notice)
	default:
		b.notices = append(b.notices, notice)
	}
}

// mayScan refuses a spec that is too large at so many ports, or special in
// every address.
func (b *Builder) mayScan(s spec, ports int) error {
	n, ok := s.span.size()
	if !ok || n > MaxEndpoints {
		return &RefusedError{Spec: s.text, Reason: "the range is too large to be swept (more than 2^48 addresses)",
			Hint: "name smaller blocks"}
	}
	if n > MaxEndpoints/uint64(ports) {
		return tooLarge(s.text)
	}
	if s.single {
		a := s.span.first.inFamily(s.six).WithZone(s.zone)
		k, name := b.cfg.judge(a)
		if b.cfg.allows(k, typedAddress) {
			return nil
		}
		return refusal(s, []special{{class: k, name: name}})
	}
	var whole []special
	next := s.span.first
	for _, x := range b.refusedWithin(s) {
		part, ok := x.clip(s.span)
		switch {
		case !ok:
			continue
		case part.first != next:
			return nil
		}
		whole = append(whole, x)
		if next = part.last.plus(1); part.last == s.span.last {
			return refusal(s, whole)
		}
	}
	return nil
}

// refusal says that a spec lies wholly within refused blocks.
func refusal(s spec, blocks []special) error {
	var names []string
	hint := "--allow-reserved scans it"
	for _, x := range blocks {
		if x.class != reserved && x.class != linkLocal4 {
			hint = ""
		}
		if !slices.Contains(names, x.name) {
			names = append(names, x.name)
		}
	}
	if len(names) > 3 {
		names = append(names[:3], "...")
	}
	return &RefusedError{Spec: s.text, Reason: "it is special, " + strings.Join(names, ", ") + ", and not scanned", Hint: hint}
}

// refusedWithin returns the refused blocks that may touch a spec, sorted.
func (b *Builder) refusedWithin(s spec) []special {
	if b.blocks[0] == nil {
		b.blocks = [2][]special{b.cfg.refused(false), b.cfg.refused(true)}
	}
	if !s.six {
		return b.blocks[0]
	}
	if _, ok := s.span.clip(teredo); !ok {
		return b.blocks[1]
	}
	blocks := slices.Clone(b.blocks[1])
	teredoSpans(s.span, b.cfg.refusedInside(), func(s special) span { return s.span }, func(s special, w span) {
		blocks = append(blocks, special{w, s.class, wrappedName(s.name, "Teredo")})
	})
	return sortedSpecials(blocks)
}

// refusedInside returns the IPv4 blocks that are refused when they are wrapped.
func (c Config) refusedInside() (out []special) {
	for _, s := range specials4 {
		if !c.allows(wrapped(s.class), typedAddress) {
			out = append(out, s)
		}
	}
	return out
}

// addSpec puts the addresses of a spec on their pile. An address of its own in
// a list is kept without its spec: its text is the address.
func addSpec[K key[K]](b *Builder, p *pile[K], s spec, ports uint32, file bool) error {
	var zero K
	if file && s.span.first == s.span.last {
		p.addSingle(zero.narrow(s.span.first), ports)
		return nil
	}
	var origin *Origin
	if !s.single || s.text != s.span.first.inFamily(s.six).WithZone(s.zone).String() {
		origin = &Origin{Spec: s.text}
	}
	number := uint32(len(b.specs))
	b.specs = append(b.specs, origin)
	if s.single {
		p.ranges = append(p.ranges, ranged[K]{pair[K]{zero.narrow(s.span.first), zero.narrow(s.span.last)}, ports, number})
		return nil
	}
	prefixes, err := s.prefixes()
	if err != nil {
		return targetError(s.text, err.Error(), "")
	}
	for _, prefix := range prefixes {
		x := spanOf(prefix)
		p.ranges = append(p.ranges, ranged[K]{pair[K]{zero.narrow(x.first), zero.narrow(x.last)}, ports, number})
	}
	return nil
}

// Build turns what was added into a plan. It returns a *SpecError if there is
// nothing at all or an address is asked for in two roles, a *RefusedError if
// the plan is too large, and ErrNothingLeft if exclusions took everything.
// The builder is used up.
func (b *Builder) Build(seed uint64) (*Plan, error) {
	p := &Plan{cfg: b.cfg, seed: seed}
	attrs := attrTable{b: b, ids: map[attr]uint32{}}
	if err := buildSet(&attrs, &b.four, &p.four); err != nil {
		return nil, err
	}
	p.six = []set[uint128]{{base: p.four.end, end: p.four.end}}
	if err := buildSet(&attrs, &b.six, &p.six[0]); err != nil {
		return nil, err
	}
	for _, zone := range slices.Sorted(maps.Keys(b.zones)) {
		end := p.Len()
		p.six = append(p.six, set[uint128]{zone: zone, base: end, end: end})
		if err := buildSet(&attrs, b.zones[zone], &p.six[len(p.six)-1]); err != nil {
			return nil, err
		}
	}
	p.t, p.names = b.t, b.names
	p.names.slots = nil
	p.notices = b.notices
	if b.unsaid > 0 {
		p.notices = append(p.notices, fmt.Sprintf("and %d more like these", b.unsaid))
	}
	for _, name := range b.empty {
		p.notices = append(p.notices, name+" contains no target")
	}
	if p.Len() == 0 && p.NameCount() == 0 {
		return nil, b.nothing()
	}
	p.finish()
	if p.left == 0 && p.NameCount() == 0 {
		return nil, ErrNothingLeft
	}
	return p, nil
}

func (b *Builder) nothing() error {
	if len(b.empty) > 0 {
		return &SpecError{Where: b.empty[0], What: "target list", Reason: "it is empty, or only comments",
			Hint: "write one target a line: 192.0.2.0/24"}
	}
	return &SpecError{What: "target", Reason: "there is none", Hint: "name an address, a block or a host, or give a list with -i"}
}

// An attrTable gives each pair of port list and origin a number.
type attrTable struct {
	b     *Builder
	ids   map[attr]uint32
	specs map[uint32]uint32   // spec number to origin number
	mixes map[string]uint32   // text of a mix to its number, with mixed
	pairs map[[2]claim]uint32 // some answers of together
	first []uint32            // scratch space of mix: the first spec of each port
	last  attr                // the last one asked for, and its number: mostly it comes again
	id    uint32
	some  bool
}

func (t *attrTable) of(ports, spec uint32) uint32 {
	return t.number(attr{ports, t.origin(spec)})
}

// number returns the number of an attr.
func (t *attrTable) number(a attr) uint32 {
	if t.some && t.last == a {
		return t.id
	}
	id, ok := t.ids[a]
	if !ok {
		id = uint32(len(t.b.t.attrs))
		t.b.t.attrs = append(t.b.t.attrs, a)
		t.ids[a] = id
	}
	t.last, t.id, t.some = a, id, true
	return id
}

// origin returns the number of a spec's origin, 0 if the address itself was written.
func (t *attrTable) origin(spec uint32) uint32 {
	if spec == noSpec || t.b.specs[spec] == nil {
		return 0
	}
	if t.specs == nil {
		t.specs = map[uint32]uint32{}
	}
	n, ok := t.specs[spec]
	if !ok {
		n = uint32(len(t.b.t.origins))
		t.b.t.origins = append(t.b.t.origins, t.b.specs[spec])
		t.specs[spec] = n
	}
	return n
}

// buildSet sorts and merges a pile into a set, and empties it.
func buildSet[K key[K]](attrs *attrTable, p *pile[K], s *set[K]) error {
	out := appender[K]{set: s, t: &attrs.b.t}
	s.list = make([]K, 0, p.single)
	err := sweep(newMerge(p), attrs, out.add)
	if err == nil {
		err = out.flush()
	}
	if cap(s.list) > 2*len(s.list) {
		s.list = slices.Clone(s.list) // most of them were doubles, or lie in ranges
	}
	*p = pile[K]{}
	if bad, ok := err.(*SpecError); ok && s.zone != "" {
		bad.Spec += "%" + s.zone
	}
	return err
}
