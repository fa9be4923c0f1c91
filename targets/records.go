package targets

import (
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A record is one JSON object of a plan in a journal. A plan is written as a
// head, then its port lists, origins, mixes, ranges and names, each cut into
// records of bounded size, and an end that makes a missing piece visible.
type record struct {
	Type   string  `json:"type"` // "plan"
	Part   string  `json:"part"` // "head", "ports", "specs", "mixes", "ranges", "names", "notices", "end"
	Schema int     `json:"schema,omitempty"`
	Seed   *uint64 `json:"seed,omitempty,string"`
	Hash   string  `json:"hash,omitempty"`
	// Ports continue the table of port lists, as ParsePorts reads them. An item
	// that begins with "+" continues the list before it.
	Ports []string `json:"ports,omitempty"`
	// Specs continue the table of origins, from 1.
	Specs []string `json:"specs,omitempty"`
	// Mixes continue the table of mixes, from 0: "0.1 2.5" says that the ports of
	// a list from number 0 on have origin 1, from number 2 on origin 5 (0: none),
	// numbers in base 36. "+" is as in Ports.
	Mixes []string `json:"mixes,omitempty"`
	// Family is "4", "6" or "6%eth0", the family of Ranges.
	Family string `json:"family,omitempty"`
	// Ranges are items separated by spaces, numbers in base 36: "@p.s" sets the
	// port list and the origin (0: none) of what follows, "@p.+m" the port list
	// and the mix; "gap" or "gap-more" is a range that begins gap addresses after
	// the end of the last one (or after 0 at the start of a family) and has more
	// addresses than one.
	Ranges string       `json:"ranges,omitempty"`
	Names  []nameRecord `json:"names,omitempty"`
	Notes  []string     `json:"notices,omitempty"`
	Count  int          `json:"records,omitempty"` // of the end: all records, this one included
}

type nameRecord struct {
	Text  string `json:"t"`
	Spec  string `json:"s,omitempty"` // if it differs from Text
	Ports uint32 `json:"p"`
	File  bool   `json:"f,omitempty"`
}

// recordSize is where a record is closed, in bytes of text before JSON
// escapes. One more item (a spec of 4 KiB, six times as long when escaped)
// keeps it under 64 KiB.
const recordSize = 8 << 10

// Records yields the plan as JSON objects, each at most 64 KiB, for a journal.
// ReadPlan is the inverse.
func (p *Plan) Records() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		w := recordWriter{yield: yield}
		seed := p.seed
		w.put(record{Part: "head", Schema: 1, Seed: &seed, Hash: p.hash})
		w.lists(len(p.t.ports.lists), ',', func(i int) string { return PortsText(p.t.ports.lists[i]) },
			func(s []string) record { return record{Part: "ports", Ports: s} })
		w.strings(len(p.t.origins)-1, func(i int) string { return p.t.origins[i+1].Spec },
			func(s []string) record { return record{Part: "specs", Specs: s} })
		w.lists(len(p.t.mixes), ' ', func(i int) string { return mixText(p.t.mixes[i]) },
			func(s []string) record { return record{Part: "mixes", Mixes: s} })
		w.ranges(p)
		w.names(p)
		w.strings(len(p.notices), func(i int) string { return p.notices[i] },
			func(s []string) record { return record{Part: "notices", Notes: s} })
		w.put(record{Part: "end", Count: w.count + 1})
	}
}

type recordWriter struct {
	yield func([]byte) bool
	count int
	over  bool // the reader wants no more
}

func (w *recordWriter) put(r record) {
	if w.over {
		return
	}
	r.Type = "plan"
	text, _ := json.Marshal(r) // strings and numbers: no error is possible
	w.count++
	w.over = !w.yield(text)
}

// strings writes n strings in records of bounded size.
func (w *recordWriter) strings(n int, at func(int) string, as func([]string) record) {
	var batch []string
	size := 0
	for i := 0; i < n && !w.over; i++ {
		s := at(i)
		batch = append(batch, s)
		if size += len(s) + 4; size >= recordSize {
			w.put(as(batch))
			batch, size = nil, 0
		}
	}
	if len(batch) > 0 {
		w.put(as(batch))
	}
}

// lists writes n lists, each a text of items with sep between them; one that is
// too long for a record goes on in a string with "+".
func (w *recordWriter) lists(n int, sep byte, at func(int) string, as func([]string) record) {
	var items []string
	for i := range n {
		lead := ""
		for text := at(i); ; lead = "+" {
			if len(text) <= recordSize/2 {
				items = append(items, lead+text)
				break
			}
			cut := strings.LastIndexByte(text[:recordSize/2], sep)
			items = append(items, lead+text[:cut])
			text = text[cut+1:]
		}
	}
	w.strings(len(items), func(i int) string { return items[i] }, as)
}

// mixText writes a mix as a record has it. Equal ones have equal texts.
func mixText(mix []share) string {
	var b []byte
	for i, s := range mix {
		if i > 0 {
			b = append(b, ' ')
		}
		b = strconv.AppendUint(b, uint64(s.first), 36)
		b = strconv.AppendUint(append(b, '.'), uint64(s.origin), 36)
	}
	return string(b)
}

func (w *recordWriter) ranges(p *Plan) {
	var buf []byte
	var of family
	var prev uint128
	id := ^uint32(0) // the attr that was set last
	flush := func() {
		if len(buf) > 0 {
			w.put(record{Part: "ranges", Family: of.String(), Ranges: string(buf[:len(buf)-1])})
			buf = buf[:0]
		}
	}
	for x, f := range p.intervals() {
		if f != of {
			flush()
			of, prev = f, uint128{}
		}
		if x.attr != id {
			id = x.attr
			a := p.t.attrs[id]
			mix := ""
			if a.origin&mixed != 0 {
				mix = "+"
			}
			buf = fmt.Appendf(buf, "@%s.%s%s ", base36(uint64(a.ports)), mix, base36(uint64(a.origin&^mixed)))
		}
		gap, more := x.first.minus(prev), x.last.minus(x.first)
		if gap.hi != 0 {
			buf = append(append(buf, base36(gap.hi)...), ':')
		}
		buf = strconv.AppendUint(buf, gap.lo, 36)
		if more.lo != 0 {
			buf = strconv.AppendUint(append(buf, '-'), more.lo, 36)
		}
		buf = append(buf, ' ')
		if prev = x.last; len(buf) >= recordSize {
			flush()
		}
		if w.over {
			return
		}
	}
	flush()
}

func base36(n uint64) string { return strconv.FormatUint(n, 36) }

func (w *recordWriter) names(p *Plan) {
	var batch []nameRecord
	size := 0
	for i := range p.names.len() {
		n := p.names.at(i, &p.t.ports)
		r := nameRecord{Text: n.Text, Ports: p.names.recs[i].ports, File: n.FromFile}
		if n.Spec != n.Text {
			r.Spec = n.Spec
		}
		batch = append(batch, r)
		if size += len(r.Text) + len(r.Spec) + 30; size >= recordSize {
			w.put(record{Part: "names", Names: batch})
			batch, size = nil, 0
		}
		if w.over {
			return
		}
	}
	if len(batch) > 0 {
		w.put(record{Part: "names", Names: batch})
	}
}

// errRecords is the head of every error about records.
var errRecords = errors.New("the plan in the journal is damaged")

// ReadPlan reads a plan back from its records. cfg gives exclusions and flags;
// its ports are not looked at. A plan whose hash is not the recorded one, or
// that is not complete, is an error.
func ReadPlan(cfg Config, records iter.Seq2[[]byte, error]) (*Plan, error) {
	r := planReader{b: NewBuilder(cfg)}
	r.b.t = table{origins: []*Origin{nil}}
	r.p = &Plan{cfg: r.b.cfg}
	r.attrs = attrTable{b: r.b, ids: map[attr]uint32{}}
	for text, err := range records {
		if err != nil {
			return nil, err
		}
		if r.over {
			return nil, r.bad("something follows its end")
		}
		r.count++
		if err := r.record(text); err != nil {
			return nil, err
		}
	}
	if !r.over {
		return nil, r.bad("its end is missing")
	}
	p := r.p
	if len(p.six) == 0 {
		p.six = []set[uint128]{{base: p.four.end, end: p.four.end}}
	}
	p.t, p.names = r.b.t, r.b.names
	p.names.slots = nil
	p.finish()
	if p.hash != r.hash {
		return nil, r.bad("its hash is not the recorded one")
	}
	return p, nil
}

type planReader struct {
	b      *Builder
	p      *Plan
	attrs  attrTable
	hash   string
	count  int
	over   bool
	lists  [][]Port
	closed bool // the port lists are complete
	of     family
	prev   uint128
	begun  bool // a range of this family was read
	attr   attr
	hasA   bool
	four   *appender[uint32key]
	six    *appender[uint128]
}

func (r *planReader) bad(what string) error {
	return fmt.Errorf("%w: record %d: %s", errRecords, r.count, what)
}

func (r *planReader) record(text []byte) error {
	var rec record
	if !utf8.Valid(text) {
		return r.bad("it is not UTF-8")
	}
	if err := json.Unmarshal(text, &rec); err != nil {
		return r.bad(err.Error())
	}
	if rec.Type != "plan" || (rec.Part == "head") != (r.count == 1) {
		return r.bad("it does not belong here")
	}
	if rec.Part != "head" && rec.Part != "ports" {
		r.closeLists()
	}
	switch rec.Part {
	case "head":
		if rec.Schema != 1 || rec.Seed == nil {
			return r.bad("its schema is unknown")
		}
		r.p.seed, r.hash = *rec.Seed, rec.Hash
	case "ports":
		return r.ports(rec.Ports)
	case "specs":
		for _, s := range rec.Specs {
			r.b.t.origins = append(r.b.t.origins, &Origin{Spec: s})
		}
	case "mixes":
		return r.mixes(rec.Mixes)
	case "ranges":
		return r.ranges(rec)
	case "names":
		return r.names(rec.Names)
	case "notices":
		r.p.notices = append(r.p.notices, rec.Notes...)
	case "end":
		if rec.Count != r.count {
			return r.bad("records are missing")
		}
		r.over = true
		return r.flush()
	default:
		return r.bad("unknown part")
	}
	return nil
}

func (r *planReader) ports(items []string) error {
	for _, item := range items {
		text, more := strings.CutPrefix(item, "+")
		ports, err := ParsePorts(text)
		switch {
		case err != nil:
			return r.bad(err.Error())
		case !more:
			r.lists = append(r.lists, ports)
			continue
		case r.closed || len(r.lists) == 0:
			return r.bad("a list of ports has no beginning")
		}
		last := &r.lists[len(r.lists)-1]
		if (*last)[len(*last)-1].Number >= ports[0].Number {
			return r.bad("a list of ports is not sorted")
		}
		*last = append(*last, ports...)
	}
	return nil
}

func (r *planReader) mixes(items []string) error {
	mixes := &r.b.t.mixes
	for _, item := range items {
		text, more := strings.CutPrefix(item, "+")
		if !more {
			*mixes = append(*mixes, nil)
		} else if len(*mixes) == 0 {
			return r.bad("a mix of specs has no beginning")
		}
		mix := &(*mixes)[len(*mixes)-1]
		for s := range strings.FieldsSeq(text) {
			first, origin, ok := twoNumbers(s)
			begun := len(*mix) > 0
			if !ok || uint64(origin) >= uint64(len(r.b.t.origins)) ||
				begun != (first > 0) || begun && first <= (*mix)[len(*mix)-1].first {
				return r.bad("impossible mix of specs " + quote(s))
			}
			*mix = append(*mix, share{first, origin})
		}
		if len(*mix) == 0 {
			return r.bad("a mix of specs is empty")
		}
	}
	return nil
}

// twoNumbers reads "a.b", numbers in base 36.
func twoNumbers(s string) (a, b uint32, ok bool) {
	left, right, _ := strings.Cut(s, ".")
	x, err1 := strconv.ParseUint(left, 36, 32)
	y, err2 := strconv.ParseUint(right, 36, 32)
	return uint32(x), uint32(y), err1 == nil && err2 == nil
}

// closeLists numbers the lists read so far; equal ones keep their numbers apart
// only if the journal was edited, and then the hash differs.
func (r *planReader) closeLists() {
	for _, l := range r.lists {
		r.b.t.ports.intern(l)
	}
	r.lists, r.closed = nil, true
}

func (r *planReader) names(names []nameRecord) error {
	for _, n := range names {
		if int(n.Ports) >= len(r.b.t.ports.lists) || len(n.Text) > 1<<15 || len(n.Spec) > maxSpec || n.Text == "" {
			return r.bad("a name is not possible")
		}
		spec := n.Spec
		if spec == "" {
			spec = n.Text
		}
		if err := r.b.names.add(n.Text, spec, n.Ports, n.File, &r.b.t.ports); err != nil {
			return r.bad(err.Error())
		}
	}
	return nil
}

func (r *planReader) ranges(rec record) error {
	if err := r.enter(rec.Family); err != nil {
		return err
	}
	for s := range strings.FieldsSeq(rec.Ranges) {
		if a, ok := strings.CutPrefix(s, "@"); ok {
			if err := r.setAttr(a); err != nil {
				return err
			}
			continue
		}
		if !r.hasA {
			return r.bad("a range has no ports")
		}
		if err := r.oneRange(s); err != nil {
			return err
		}
	}
	return nil
}

// enter begins a family, or goes on with it. Families come in order.
func (r *planReader) enter(text string) error {
	kind, zone, _ := strings.Cut(text, "%")
	f := family{kind == "6", zone}
	if f.String() != text {
		return r.bad("unknown family " + quote(text))
	}
	if r.four == nil {
		r.four = &appender[uint32key]{set: &r.p.four, t: &r.b.t}
		r.of = family{}
	}
	if f == r.of {
		return nil
	}
	if !f.six || r.of.six && f.zone <= r.of.zone {
		return r.bad("families are out of order")
	}
	if err := r.flush(); err != nil {
		return err
	}
	r.of, r.prev, r.begun = f, uint128{}, false
	end := r.p.Len()
	if f.zone != "" && len(r.p.six) == 0 {
		r.p.six = append(r.p.six, set[uint128]{base: end, end: end})
	}
	r.p.six = append(r.p.six, set[uint128]{zone: f.zone, base: end, end: end})
	r.six = &appender[uint128]{set: &r.p.six[len(r.p.six)-1], t: &r.b.t}
	return nil
}

func (r *planReader) flush() error {
	if r.four == nil {
		return nil
	}
	if err := r.four.flush(); err != nil {
		return err
	}
	if r.six == nil {
		return nil
	}
	return r.six.flush()
}

func (r *planReader) setAttr(s string) error {
	known, mark := len(r.b.t.origins), uint32(0)
	text := strings.Replace(s, ".+", ".", 1)
	if text != s {
		known, mark = len(r.b.t.mixes), mixed
	}
	p, o, ok := twoNumbers(text)
	if !ok || uint64(p) >= uint64(len(r.b.t.ports.lists)) || uint64(o) >= uint64(known) {
		return r.bad("unknown ports or spec " + quote(s))
	}
	r.attr, r.hasA = attr{p, o | mark}, true
	return nil
}

func (r *planReader) oneRange(s string) error {
	gapText, moreText, isRange := strings.Cut(s, "-")
	var gap uint128
	var more uint64
	var err1, err2, err3 error
	if hi, lo, ok := strings.Cut(gapText, ":"); ok {
		gap.hi, err1 = strconv.ParseUint(hi, 36, 64)
		gapText = lo
	}
	gap.lo, err2 = strconv.ParseUint(gapText, 36, 64)
	if isRange {
		more, err3 = strconv.ParseUint(moreText, 36, 64)
	}
	first := r.prev.plus(gap.lo)
	first.hi += gap.hi
	last := first.plus(more)
	top := max6
	if !r.of.six {
		top = max4
	}
	if errors.Join(err1, err2, err3) != nil || first.less(r.prev) || last.less(first) || top.less(last) ||
		r.begun && first == r.prev || more >= MaxEndpoints {
		return r.bad("impossible range " + quote(s))
	}
	r.prev, r.begun = last, true
	x := interval{span{first, last}, r.attrs.number(r.attr)}
	if r.of.six {
		return r.six.add(x)
	}
	return r.four.add(x)
}
