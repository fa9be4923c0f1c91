package journal

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"io"
	"math"
	"os"
	"slices"
)

const (
	sortMemory = 2 << 20 // bytes sorted at a time
	minMemory  = 4 << 10
	maxRuns    = 256 // sorted runs merged at a time
	itemSize   = 24
	mergeRead  = 1 << 20 // bytes of all read buffers of a merge
)

// A sortRow is what a sorter sorts: rows of equal key (major, minor) are one,
// and the one added last counts.
type sortRow struct {
	major  uint64
	minor  []byte
	body   []byte
	from   uint16 // which journal it is of
	silent bool
}

// compare orders rows by key.
func (r *sortRow) compare(major uint64, minor []byte) int {
	if r.major != major {
		return cmp.Compare(r.major, major)
	}
	return bytes.Compare(r.minor, minor)
}

// An item is a row in a sorter's memory.
type item struct {
	major  uint64
	at     uint32 // of minor and body in the arena: what came later is higher
	body   uint32 // length
	minor  uint16 // length
	from   uint16
	silent bool
}

// A sorter sorts rows of any number in bounded memory: what does not fit is
// written to a temporary file in sorted runs, which are merged at the end.
type sorter struct {
	memory int    // bytes
	dir    string // of the temporary file; os.TempDir() if empty
	items  []item
	arena  []byte
	ready  bool // both have all the memory that they will have
	file   *os.File
	remove string // name of the file, if it is still there
	out    *bufio.Writer
	size   int64 // of the file
	runs   []span
}

// A span is a sorted run in the file.
type span struct {
	from, to int64
	level    int // how many merges it is away from memory
}

// add takes a row, which it copies.
func (s *sorter) add(r sortRow) error {
	if len(r.minor) > math.MaxUint16 {
		r.minor = r.minor[:math.MaxUint16]
	}
	need := len(r.minor) + len(r.body)
	if len(s.items) > 0 && (len(s.arena)+len(s.items)*itemSize+need+itemSize > s.memory || s.ready && s.full(need)) {
		if err := s.spill(); err != nil {
			return &SortError{err}
		}
	}
	if !s.ready && len(s.arena) > 64<<10 {
		s.reserve()
	}
	s.items = append(s.items, item{r.major, uint32(len(s.arena)), uint32(len(r.body)), uint16(len(r.minor)), r.from, r.silent})
	s.arena = append(s.arena, r.minor...)
	s.arena = append(s.arena, r.body...)
	return nil
}

// reserve takes all of the memory at once, as much of it for items as the rows so
// far suggest: growing little by little leaves twice as much again as garbage.
func (s *sorter) reserve() {
	items := s.memory / (itemSize + len(s.arena)/len(s.items) + 1)
	s.items = slices.Grow(s.items, max(0, items-len(s.items)))
	s.arena = slices.Grow(s.arena, max(0, s.memory-items*itemSize-len(s.arena)))
	s.ready = true
}

// full reports whether a row with so many bytes would make one of the two grow.
func (s *sorter) full(need int) bool {
	return len(s.items) == cap(s.items) || cap(s.arena)-len(s.arena) < need
}

// A SortError says that the rows of journals could not be sorted in a temporary
// file ([FoldOptions]). The journals are not to blame.
type SortError struct{ Err error }

// Error says the cause in plain words.
func (e *SortError) Error() string {
	return "sort the rows in a temporary file: " + plain(e.Err)
}

// Unwrap returns the cause.
func (e *SortError) Unwrap() error { return e.Err }

// row returns an item as a row in the arena's memory.
func (s *sorter) row(it *item) sortRow {
	minor := int(it.at) + int(it.minor)
	return sortRow{it.major, s.arena[it.at:minor], s.arena[minor : minor+int(it.body)], it.from, it.silent}
}

// sortItems sorts what is in memory and drops all but the last of equal rows.
func (s *sorter) sortItems() {
	minor := func(it *item) []byte { return s.arena[it.at : it.at+uint32(it.minor)] }
	slices.SortFunc(s.items, func(a, b item) int {
		if a.major != b.major {
			return cmp.Compare(a.major, b.major)
		}
		return cmp.Or(bytes.Compare(minor(&a), minor(&b)), cmp.Compare(b.at, a.at))
	})
	s.items = slices.CompactFunc(s.items, func(a, b item) bool {
		return a.major == b.major && bytes.Equal(minor(&a), minor(&b))
	})
}

// spill writes what is in memory as a sorted run.
func (s *sorter) spill() error {
	if s.file == nil {
		if err := s.create(); err != nil {
			return err
		}
	}
	s.sortItems()
	run := runWriter{s: s, from: s.size}
	for i := range s.items {
		if err := run.add(s.row(&s.items[i])); err != nil {
			return err
		}
	}
	s.items, s.arena = s.items[:0], s.arena[:0]
	if err := run.end(0); err != nil {
		return err
	}
	return s.compact()
}

// create makes the temporary file. Where that is possible it has no name, so
// that it goes when the process does.
func (s *sorter) create() (err error) {
	if s.file, err = os.CreateTemp(s.dir, "smtpsweep-*.tmp"); err != nil {
		return err
	}
	if os.Remove(s.file.Name()) != nil {
		s.remove = s.file.Name()
	}
	s.out = bufio.NewWriterSize(s.file, 256<<10)
	return nil
}

// compact merges runs when there are maxRuns of a level, so that a merge never
// has more than a few times as many to read.
func (s *sorter) compact() error {
	n := len(s.runs)
	if n < maxRuns {
		return nil
	}
	level := s.runs[n-1].level
	first := n - maxRuns
	if s.runs[first].level != level {
		return nil
	}
	old := s.runs[first:]
	run := runWriter{s: s, from: s.size}
	for row, err := range s.merge(old) {
		if err == nil {
			err = run.add(row)
		}
		if err != nil {
			return err
		}
	}
	s.runs = s.runs[:first]
	if err := run.end(level + 1); err != nil {
		return err
	}
	return s.compact()
}

// close removes the temporary file.
func (s *sorter) close() {
	if s.file != nil {
		s.file.Close()
	}
	if s.remove != "" {
		os.Remove(s.remove)
	}
}

// rows yields all rows by key. A row is good until the next.
func (s *sorter) rows(yield func(sortRow, error) bool) {
	if len(s.runs) == 0 {
		s.sortItems()
		for i := range s.items {
			if !yield(s.row(&s.items[i]), nil) {
				return
			}
		}
		return
	}
	if err := s.spill(); err != nil {
		yield(sortRow{}, &SortError{err})
		return
	}
	s.items, s.arena = nil, nil
	for row, err := range s.merge(s.runs) {
		if err != nil {
			yield(sortRow{}, &SortError{err})
			return
		}
		if !yield(row, nil) {
			return
		}
	}
}

// A runWriter writes one sorted run: of each row the difference of major to
// the row before, the lengths, then minor and body.
type runWriter struct {
	s    *sorter
	from int64
	last uint64
	head []byte
}

// add writes a row.
func (w *runWriter) add(r sortRow) error {
	kind := uint64(r.from) << 1
	if r.silent {
		kind |= 1
	}
	w.head = binary.AppendUvarint(w.head[:0], r.major-w.last)
	w.head = binary.AppendUvarint(w.head, kind)
	w.head = binary.AppendUvarint(w.head, uint64(len(r.minor)))
	w.head = binary.AppendUvarint(w.head, uint64(len(r.body)))
	w.head = append(w.head, r.minor...)
	w.last = r.major
	w.s.size += int64(len(w.head) + len(r.body))
	if _, err := w.s.out.Write(w.head); err != nil {
		return err
	}
	_, err := w.s.out.Write(r.body)
	return err
}

// end ends the run.
func (w *runWriter) end(level int) error {
	w.s.runs = append(w.s.runs, span{w.from, w.s.size, level})
	return w.s.out.Flush()
}

// A runReader reads one sorted run. Bodies stay in the file until they are asked for.
type runReader struct {
	in   *bufio.Reader
	age  int // higher is later
	head sortRow
	body int // bytes of it that are not read yet
}

// next reads the head of the next row; at the end of the run ok is false.
func (r *runReader) next() (ok bool, err error) {
	if _, err := r.in.Discard(r.body); err != nil {
		return false, err
	}
	r.body = 0
	delta, err := binary.ReadUvarint(r.in)
	if err == io.EOF {
		return false, nil
	}
	var n [3]uint64
	for i := range n {
		if err == nil {
			n[i], err = binary.ReadUvarint(r.in)
		}
	}
	if err != nil {
		return false, err
	}
	r.head.major += delta
	r.head.from, r.head.silent = uint16(n[0]>>1), n[0]&1 != 0
	r.head.minor = slices.Grow(r.head.minor[:0], int(n[1]))[:n[1]]
	r.body = int(n[2])
	_, err = io.ReadFull(r.in, r.head.minor)
	return true, err
}

// read returns the body of the row, in buf's memory if it fits.
func (r *runReader) read(buf []byte) ([]byte, error) {
	buf = slices.Grow(buf[:0], r.body)[:r.body]
	r.body = 0
	_, err := io.ReadFull(r.in, buf)
	return buf, err
}

// before reports whether the row of r comes out before that of o: by key, and
// the latest of equal ones first.
func (r *runReader) before(o *runReader) bool {
	c := r.head.compare(o.head.major, o.head.minor)
	return c < 0 || c == 0 && r.age > o.age
}

// merge yields the rows of runs by key, the latest of equal ones only.
func (s *sorter) merge(runs []span) func(yield func(sortRow, error) bool) {
	return func(yield func(sortRow, error) bool) {
		var heap runHeap
		size := min(256<<10, max(4<<10, mergeRead/len(runs)))
		for i, run := range runs {
			r := &runReader{in: bufio.NewReaderSize(io.NewSectionReader(s.file, run.from, run.to-run.from), size), age: i}
			if ok, err := r.next(); err != nil {
				yield(sortRow{}, err)
				return
			} else if ok {
				heap.push(r)
			}
		}
		var row sortRow
		for first := true; len(heap) > 0; {
			r := heap[0]
			if first || r.head.compare(row.major, row.minor) != 0 {
				body, err := r.read(row.body)
				row = sortRow{r.head.major, append(row.minor[:0], r.head.minor...), body, r.head.from, r.head.silent}
				if !yield(row, err) || err != nil {
					return
				}
			}
			first = false
			if err := heap.advance(); err != nil {
				yield(sortRow{}, err)
				return
			}
		}
	}
}

// A runHeap is a binary heap of runs, the one with the next row on top.
type runHeap []*runReader

// push adds a run.
func (h *runHeap) push(r *runReader) {
	*h = append(*h, r)
	for i := len(*h) - 1; i > 0 && (*h)[i].before((*h)[(i-1)/2]); i = (i - 1) / 2 {
		(*h)[i], (*h)[(i-1)/2] = (*h)[(i-1)/2], (*h)[i]
	}
}

// advance takes the row on top off.
func (h *runHeap) advance() error {
	ok, err := (*h)[0].next()
	if err != nil {
		return err
	}
	if !ok {
		(*h)[0] = (*h)[len(*h)-1]
		*h = (*h)[:len(*h)-1]
	}
	for i := 0; ; {
		least := i
		for _, child := range [2]int{2*i + 1, 2*i + 2} {
			if child < len(*h) && (*h)[child].before((*h)[least]) {
				least = child
			}
		}
		if least == i {
			return nil
		}
		(*h)[i], (*h)[least] = (*h)[least], (*h)[i]
		i = least
	}
}
