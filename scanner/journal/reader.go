package journal

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
)

// A Record is one checked record of a journal.
type Record struct {
	Type   string // "run", "plan", "answer", "result", ...; "" if it has none
	Line   []byte // a JSON object: the line without checksum and newline; good until the next record
	Offset int64  // of the line, in bytes
	Number int    // of the line, from 1
}

// A Reader reads a journal as it was when it was opened, also one that is
// still being written. It is for one goroutine.
type Reader struct {
	path    string
	f       source
	size    int64
	run     Run
	salvage bool
	torn    int64 // where the torn tail begins; size if there is none
	skipped int   // bad records, of the last salvage
}

// source is what a Reader needs of a file.
type source interface {
	io.ReaderAt
	io.Closer
}

// Open opens a journal for reading and reads its run record. The error is or
// wraps ErrIncomplete (killed before the run record was written), ErrSchema,
// a *DamageError, or what the file system says.
func Open(path string) (*Reader, error) { return open(path, false) }

// OpenSalvage opens a damaged journal: bad records are skipped and counted,
// wherever they are. If the run record is bad, Run is zero.
func OpenSalvage(path string) (*Reader, error) { return open(path, true) }

// open opens a file, and nothing that would block.
func open(path string, salvage bool) (*Reader, error) {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		return nil, describe(path, errors.New("is not a regular file"))
	}
	var f *os.File
	if err == nil {
		f, err = os.Open(path)
	}
	if err != nil {
		return nil, describe(path, openCause(err))
	}
	return openFile(path, f, salvage)
}

// openFile returns a reader of f, or closes it.
func openFile(path string, f *os.File, salvage bool) (*Reader, error) {
	info, err := f.Stat()
	var r *Reader
	if err == nil {
		r, err = newReader(path, f, info.Size(), salvage)
	}
	if err != nil {
		f.Close()
		return nil, describe(path, err)
	}
	return r, nil
}

// openCause returns the cause of an *os.PathError in plain words: the path is
// said by the caller.
func openCause(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return &plainError{plain(pe.Err), err}
	}
	return err
}

// A plainError says an error in other words.
type plainError struct {
	words string
	err   error
}

func (e *plainError) Error() string { return e.words }
func (e *plainError) Unwrap() error { return e.err }

// newReader reads the run record of f, which has size bytes.
func newReader(path string, f source, size int64, salvage bool) (*Reader, error) {
	r := &Reader{path: path, f: f, size: size, torn: size, salvage: salvage}
	line, readErr := r.lines(0).in.ReadSlice('\n')
	rec, why := unframe(line)
	switch {
	case salvage && why != "":
		return r, nil
	case readErr != nil && readErr != io.EOF && readErr != bufio.ErrBufferFull:
		return nil, describe(path, readErr)
	case why != "":
		return nil, r.firstError(why)
	case recordType(rec) != "run":
		return nil, r.damage(0, 1, "the first record is not a run record")
	}
	if err := json.Unmarshal(rec, &r.run); err != nil {
		return nil, r.damage(0, 1, "run record: "+err.Error())
	}
	if r.run.Schema > Schema {
		return nil, fmt.Errorf("journal %s: %w (schema %d; this one reads %d): update it", path, ErrSchema, r.run.Schema, Schema)
	}
	return r, nil
}

// firstError says what a bad first line means: killed at once, or not ours.
func (r *Reader) firstError(why string) error {
	incomplete := fmt.Errorf("journal %s: %w: the run was killed before it began; delete the file and start again", r.path, ErrIncomplete)
	if r.size == 0 {
		return incomplete
	}
	bad := tail{from: 0, line: 1, why: why}
	if err := r.judge(&bad, r.lines(0)); err != nil {
		return err
	}
	switch {
	case why == whyNoCRC, why == whyBadCRC:
		return r.damage(0, 1, why)
	case !r.begins(typePrefix + `run"`):
		return r.damage(0, 1, "this is not a journal of smtpsweep")
	}
	return incomplete
}

// damage says what is wrong with a line.
func (r *Reader) damage(offset int64, line int, why string) error {
	return &DamageError{Path: r.path, Offset: offset, Line: line, Why: why}
}

// begins reports whether the file begins as a journal does, as far as it was
// written: a prefix of want and then nothing or zeros is fine.
func (r *Reader) begins(want string) bool {
	head := make([]byte, len(want))
	n, _ := r.f.ReadAt(head, 0)
	for i, c := range head[:n] {
		if c != want[i] {
			return c == 0
		}
	}
	return true
}

// Close closes the file.
func (r *Reader) Close() error { return r.f.Close() }

// Run returns the run record.
func (r *Reader) Run() Run { return r.run }

// Path returns the name of the file.
func (r *Reader) Path() string { return r.path }

// Truncated returns where the torn tail of the journal begins and how many
// bytes it has: what a killed run or a power cut left half written. bytes is 0
// if there is none. It is known after Records was read to its end.
func (r *Reader) Truncated() (offset, bytes int64) { return r.torn, r.size - r.torn }

// Skipped returns how many bad records a salvage left out. It is known after
// Records was read to its end.
func (r *Reader) Skipped() int { return r.skipped }

// Records yields all records in order, the run record first. A torn tail ends
// them and is no error. After an error, a *DamageError or a read error,
// nothing follows.
func (r *Reader) Records() iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		lines := r.lines(0)
		r.skipped, r.torn = 0, r.size
		for {
			rec, why, err := lines.next()
			switch {
			case err == io.EOF:
				return
			case err != nil:
				yield(Record{}, describe(r.path, err))
				return
			case why != "" && r.salvage:
				r.skipped++
				continue
			case why != "":
				bad := tail{lines.offset, lines.count, why}
				if err := r.judge(&bad, lines); err != nil {
					yield(Record{}, err)
				}
				r.torn = bad.from
				return
			}
			if !yield(rec, nil) {
				return
			}
		}
	}
}

// A tail is what follows the last good record.
type tail struct {
	from int64 // where the first bad line begins
	line int   // its number
	why  string
}

// judge reads on behind a bad line. If a sync record tells that the line was on
// the disk once, it is damage. If none does, nothing behind it was promised to
// be there: a power cut may have lost any part of it.
func (r *Reader) judge(bad *tail, lines *lineReader) error {
	if bad.why == whyNoCRC {
		return r.damage(bad.from, bad.line, bad.why)
	}
	for {
		rec, why, err := lines.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return describe(r.path, err)
		}
		if why == "" && rec.Type == "sync" && syncedBytes(rec.Line) > bad.from {
			return r.damage(bad.from, bad.line, bad.why)
		}
	}
}

// syncedBytes returns what a sync record says.
func syncedBytes(line []byte) int64 {
	var s struct{ Bytes int64 }
	if json.Unmarshal(line, &s) != nil {
		return 0
	}
	return s.Bytes
}

// A lineReader reads a journal line by line, and never has more than one in memory.
type lineReader struct {
	in     *bufio.Reader
	offset int64 // of the last line
	ahead  int64 // of the next one
	count  int   // lines read
}

// lines returns a reader of the lines from an offset.
func (r *Reader) lines(from int64) *lineReader {
	buffer := min(MaxRecord, r.size-from+1) // a short journal needs no more
	return &lineReader{in: bufio.NewReaderSize(io.NewSectionReader(r.f, from, r.size-from), int(buffer)), ahead: from}
}

// next returns the next record, or why the line is none. At the end of the
// file err is io.EOF.
func (l *lineReader) next() (rec Record, why string, err error) {
	line, err := l.in.ReadSlice('\n')
	l.offset = l.ahead
	l.ahead += int64(len(line))
	if err == bufio.ErrBufferFull {
		l.count++
		return Record{}, whyLong, l.skip()
	}
	if err != nil && (err != io.EOF || len(line) == 0) {
		return Record{}, "", err
	}
	l.count++
	body, why := unframe(line)
	if why != "" {
		return Record{}, why, nil
	}
	return Record{recordType(body), body, l.offset, l.count}, "", nil
}

// skip goes to the end of a line that is too long.
func (l *lineReader) skip() error {
	for {
		part, err := l.in.ReadSlice('\n')
		l.ahead += int64(len(part))
		if err == io.EOF {
			return nil
		}
		if err != bufio.ErrBufferFull {
			return err
		}
	}
}
