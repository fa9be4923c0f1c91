package journal

import (
	"encoding/binary"
	"errors"
	"hash/maphash"
	"iter"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/targets"
)

// FoldOptions say how [Fold] works. The zero value is good.
type FoldOptions struct {
	Memory  int    // bytes that are sorted in memory; 2 MiB if zero
	TempDir string // where the rest is sorted; os.TempDir() if empty
}

// An Entry is one final row.
type Entry struct {
	Run  *Run   // the run that the row is of
	Line []byte // the result record, a JSON object; nil if Silent; good until the next entry

	Silent   bool           // written by block: Filtered, no-response
	Target   targets.Target // valid iff Silent
	Attempts int            // valid iff Silent
	At       time.Time      // valid iff Silent: when it was decided, to 100 ms
}

// Fold yields the final rows of journals in plan order: addresses by the index
// in the plan, then names in the order they were typed, an mx: domain's hosts
// by preference. Of two rows of one identity the later counts, also from one
// journal to the next: journals of the same plan and vantage are one, in the
// order in which their runs began, and journals of different ones follow each
// other as they were given. Rows that are not of a plan keep their order. What
// does not fit in memory is sorted in a temporary file.
//
// The first error ends it: a *DamageError, a journal that cannot be read, or a
// *SortError, which says that there is no room for the temporary file.
func Fold(readers []*Reader, opt FoldOptions) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for _, g := range groups(readers) {
			if !g.fold(opt, yield) {
				return
			}
		}
	}
}

// A group is journals that are folded into one.
type group struct {
	readers []*Reader
	plan    *targets.Plan // nil if there is none
	sorter  sorter
	order   targets.Order // of the journal that is being read
	loose   uint64        // rows so far that are not of the plan
	seed    maphash.Seed
	names   *nameIndex          // made when needed
	ranks   map[uint64]uint16   // hash of number and host -> MX preference
	unasked map[uint64][][]byte // rows without an address because the DNS failed: major -> minors
}

// groups puts journals of the same plan and vantage together.
func groups(readers []*Reader) []*group {
	var all []*group
next:
	for _, r := range readers {
		for _, g := range all {
			first := &g.readers[0].run
			if r.run.PlanHash != "" && first.PlanHash == r.run.PlanHash && first.Vantage == r.run.Vantage && len(g.readers) < math.MaxUint16 {
				g.readers = append(g.readers, r)
				continue next
			}
		}
		all = append(all, &group{readers: []*Reader{r}})
	}
	for _, g := range all {
		slices.SortStableFunc(g.readers, func(a, b *Reader) int { return a.run.Started.Compare(b.run.Started) })
	}
	return all
}

// Keys of sorted rows: plan indices are below 2^48.
const (
	nameRows  = 1 << 62 // + number of the name
	looseRows = 1 << 63 // + number of the row
)

// fold yields the rows of a group. It reports whether to go on.
func (g *group) fold(opt FoldOptions, yield func(Entry, error) bool) bool {
	g.sorter.memory, g.sorter.dir = sortMemory, opt.TempDir
	if opt.Memory > 0 {
		g.sorter.memory = max(opt.Memory, minMemory)
	}
	g.seed = maphash.MakeSeed()
	defer g.sorter.close()
	err := g.readPlan()
	for i := 0; i < len(g.readers) && err == nil; i++ {
		err = g.read(i)
	}
	if err != nil {
		yield(Entry{}, err)
		return false
	}
	for row, err := range g.sorter.rows {
		if err == nil && !row.silent && len(row.body) == 0 {
			continue // the row of a look-up that failed, and went well when it was made again
		}
		var e Entry
		if err == nil {
			e = g.entry(&row)
		}
		if !yield(e, err) || err != nil {
			return false
		}
	}
	return true
}

// readPlan reads the plan from the first journal that has it whole.
func (g *group) readPlan() (err error) {
	for _, r := range g.readers {
		if g.plan, err = r.Plan(targets.Config{}); err == nil {
			return nil
		}
	}
	if g.readers[0].salvage || errors.Is(err, ErrPlan) && g.readers[0].rowsAlone() {
		g.plan = nil // rows in the order they were written are better than none
		return nil
	}
	return err
}

// read gives the rows of a journal to the sorter.
func (g *group) read(n int) error {
	r := g.readers[n]
	shard, err := r.shard()
	if err != nil {
		return err
	}
	if g.plan != nil {
		g.order = g.plan.Order(shard)
	}
	for rec, err := range r.Records() {
		if err != nil {
			return err
		}
		switch rec.Type {
		case "result":
			err = g.result(r, rec, uint16(n))
		case "silent":
			err = g.silent(r, rec, uint16(n))
		case "answer":
			err = g.answer(r, rec, uint16(n))
		}
		var bad *DamageError
		if r.salvage && errors.As(err, &bad) {
			r.skipped++
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// result gives a result record to the sorter.
func (g *group) result(r *Reader, rec Record, n uint16) error {
	row, err := parseRow(rec.Line)
	if err != nil {
		return r.misread(rec, err)
	}
	addr, err := row.endpoint()
	if err != nil {
		return r.misread(rec, err)
	}
	out := sortRow{body: rec.Line, from: n}
	out.major, out.minor = g.key(&row, addr)
	if out.major >= nameRows && out.major < looseRows && string(row.reason) == string(scanner.DNSError) {
		if g.unasked == nil {
			g.unasked = map[uint64][][]byte{}
		}
		g.unasked[out.major] = append(g.unasked[out.major], out.minor)
	}
	return g.sorter.add(out)
}

// key returns where a row belongs.
func (g *group) key(row *row, addr netip.Addr) (major uint64, minor []byte) {
	if g.plan != nil {
		if len(row.host) == 0 && addr.IsValid() {
			if i, ok := g.plan.Index(addr, row.port); ok {
				return i, nil
			}
		} else if i, ok := g.number(row.target); ok {
			return nameRows + uint64(i), g.nameMinor(i, row, addr)
		}
	}
	g.loose++
	return looseRows + g.loose, nil
}

// nameMinor orders the rows of one name: by preference, host, address and port.
func (g *group) nameMinor(i uint32, row *row, addr netip.Addr) []byte {
	minor := make([]byte, 0, len(row.host)+24)
	minor = binary.BigEndian.AppendUint16(minor, g.ranks[g.rankKey(i, row.host)])
	minor = append(append(minor, row.host...), 0)
	minor = append(minor, byte(addr.BitLen())) // IPv4 first
	minor = append(minor, addr.AsSlice()...)
	minor = append(append(minor, addr.Zone()...), 0)
	return binary.BigEndian.AppendUint16(minor, row.port)
}

// rankKey is the key of ranks.
func (g *group) rankKey(i uint32, host []byte) uint64 {
	var h maphash.Hash
	h.SetSeed(g.seed)
	h.Write(binary.BigEndian.AppendUint32(nil, i))
	h.Write(host)
	return h.Sum64()
}

// number returns the number of a name, as it was typed or in its plain form.
func (g *group) number(name []byte) (i uint32, ok bool) {
	if g.names == nil {
		g.names = newNameIndex(g.plan)
	}
	n, ok := g.names.number(string(name))
	return uint32(n), ok
}

// answer remembers the preferences of an mx: domain. The first answer counts,
// so that rows of one host have one place. A later answer takes back the rows
// that say that the DNS failed: a resumed run asks again.
func (g *group) answer(r *Reader, rec Record, n uint16) error {
	a, err := r.answer(rec)
	if err != nil || g.plan == nil {
		return err
	}
	i, ok := g.number([]byte(a.Name))
	if !ok {
		return nil
	}
	major := nameRows + uint64(i)
	for _, minor := range g.unasked[major] {
		if err := g.sorter.add(sortRow{major: major, minor: minor, from: n}); err != nil {
			return err
		}
	}
	delete(g.unasked, major)
	if !strings.HasPrefix(a.Name, "mx:") {
		return nil
	}
	if g.ranks == nil {
		g.ranks = map[uint64]uint16{}
	}
	for _, h := range a.Hosts {
		key := g.rankKey(i, []byte(h.Host))
		if _, known := g.ranks[key]; !known {
			g.ranks[key] = h.Preference
		}
	}
	return nil
}

// silentBody is the length of what is sorted of a silent endpoint: attempts and time.
const silentBody = 4 + 8

// silent gives the endpoints of a silent record to the sorter.
func (g *group) silent(r *Reader, rec Record, n uint16) error {
	b, err := parseBlock(rec.Line)
	if err == nil && (g.plan == nil || b.To >= g.order.Len()) {
		err = errOutside
	}
	if err != nil {
		return r.misread(rec, err)
	}
	var body [silentBody]byte
	binary.BigEndian.PutUint32(body[:], uint32(b.Attempts))
	binary.BigEndian.PutUint64(body[4:], uint64(b.Time.UnixMilli()))
	for pos := range b.positions {
		row := sortRow{major: g.order.At(pos), body: body[:], from: n, silent: true}
		if err := g.sorter.add(row); err != nil {
			return err
		}
	}
	return nil
}

// entry returns a sorted row as an entry.
func (g *group) entry(row *sortRow) Entry {
	e := Entry{Run: &g.readers[row.from].run}
	if !row.silent {
		e.Line = row.body
		return e
	}
	e.Silent = true
	e.Target = g.plan.At(row.major)
	e.Attempts = int(binary.BigEndian.Uint32(row.body))
	e.At = time.UnixMilli(int64(binary.BigEndian.Uint64(row.body[4:]))).UTC()
	return e
}
