package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/targets"
)

// A Recovered is what a journal knows of a run that is to go on.
type Recovered struct {
	Run   Run
	Plan  *targets.Plan // nil if the run had none
	Names *Names        // of the plan: what the DNS said, and what is done

	// Done are the positions of the order of the run's shard that have a final
	// row. A row with a reason that another run may cure is not final.
	Done *targets.Positions
	// Undecided are the positions that have, or had, a row that is not final.
	Undecided *targets.Positions
	// Counts are the final rows by state: "open", "closed", "filtered", "unknown".
	Counts map[string]uint64
	Rows   uint64 // result records and silent endpoints, those that are not final included

	Ended bool // the run ended by itself or was interrupted, and nothing came after
	End   End  // the last end record; zero if there is none

	TornAt, Torn int64 // where a torn tail began, and how many bytes it had; they are gone
}

// Resume opens a journal to go on with its run: it locks the file, verifies all
// of it, cuts off a torn tail, and returns a Writer that appends to it. The
// first record that is appended comes behind a note "resumed"; if none is, a
// whole journal stays as it is. cfg is that of [targets.ReadPlan].
//
// Errors wrap ErrLocked, ErrIncomplete, ErrSchema or ErrPlan, or are a
// *DamageError; the file is unchanged then.
func Resume(path string, cfg targets.Config) (*Writer, *Recovered, error) {
	f, err := os.OpenFile(path, os.O_RDWR|noFollow, 0)
	if err != nil {
		return nil, nil, describe(path, openCause(err))
	}
	rec, size, err := recoverFrom(path, f, cfg)
	if err == nil {
		err = repair(path, f, size)
	}
	if err != nil {
		diskFile{f}.Close()
		return nil, nil, err
	}
	w := newWriter(path, diskFile{f}, size)
	w.present, w.syncDir = presence(path, f), dirSync(path)
	if w.preface, err = resumed(rec, size); err != nil {
		diskFile{f}.Close()
		return nil, nil, describe(path, err)
	}
	w.start()
	return w, rec, nil
}

// repair cuts off what is behind size, and brings the rest to the disk: a killed
// run may have left it in the kernel.
func repair(path string, f *os.File, size int64) error {
	info, err := f.Stat()
	if err == nil && info.Size() > size {
		err = f.Truncate(size)
	}
	if err == nil {
		_, err = f.Seek(size, io.SeekStart)
	}
	if err == nil {
		err = dataSync(f)
	}
	if err != nil {
		return &WriteError{path, "repair", err}
	}
	return nil
}

// resumed returns the lines that say that a run goes on.
func resumed(rec *Recovered, size int64) ([]byte, error) {
	text := fmt.Sprintf("the run goes on; %d rows were there", rec.Rows)
	if rec.Torn > 0 {
		text += fmt.Sprintf(", and %d bytes of a torn tail were cut off", rec.Torn)
	}
	n, err := Encode("note", note{stamp(time.Now()), "resumed", text, os.Getpid()})
	if err != nil {
		return nil, err
	}
	mark := syncRecord(size, time.Now())
	lines := appendFrame(nil, mark, checksum(mark))
	return appendFrame(lines, n, checksum(n)), nil
}

// recoverFrom locks and reads a journal, and returns where its good records end.
func recoverFrom(path string, f *os.File, cfg targets.Config) (*Recovered, int64, error) {
	if err := lock(f); err != nil {
		return nil, 0, describe(path, err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, describe(path, err)
	}
	r, err := newReader(path, f, info.Size(), false)
	if err != nil {
		return nil, 0, err
	}
	rec, err := r.recover(cfg)
	if err != nil {
		return nil, 0, err
	}
	return rec, rec.TornAt, nil
}

// recover reads all of a journal.
func (r *Reader) recover(cfg targets.Config) (*Recovered, error) {
	c, err := r.recovery(cfg)
	if err != nil {
		return nil, err
	}
	for rec, err := range r.Records() {
		if err == nil {
			err = c.take(r, rec)
		}
		if err != nil {
			return nil, err
		}
	}
	c.TornAt, c.Torn = r.Truncated()
	c.Names.recent = nil
	rec := c.Recovered // alone: the index of names is not needed any more
	return &rec, nil
}

// recovery returns what is known of a run before its records are read.
func (r *Reader) recovery(cfg targets.Config) (*recovery, error) {
	c := &recovery{Recovered: Recovered{
		Run: r.run, Counts: map[string]uint64{}, Done: new(targets.Positions), Undecided: new(targets.Positions),
	}}
	var err error
	if c.Plan, err = r.Plan(cfg); err != nil {
		return nil, err
	}
	shard, err := r.shard()
	if err != nil {
		return nil, err
	}
	c.Names = newNames(c.Plan)
	if c.Plan != nil {
		c.order, c.index = c.Plan.Order(shard), newNameIndex(c.Plan)
	}
	return c, nil
}

// A recovery collects what is recovered.
type recovery struct {
	Recovered
	order targets.Order // valid iff Plan is not nil
	index *nameIndex    // the same
}

// take takes a record.
func (c *recovery) take(r *Reader, rec Record) error {
	var err error
	switch rec.Type {
	case "sync":
		return nil
	case "answer":
		err = c.answer(r, rec)
	case "result":
		err = c.result(r, rec)
	case "silent":
		err = c.silence(r, rec)
	case "end":
		c.End = End{}
		if err = json.Unmarshal(rec.Line, &c.End); err != nil {
			err = r.misread(rec, err)
		}
	}
	c.Ended = rec.Type == "end"
	return err
}

// answer takes an answer record: of two for a name the later counts.
func (c *recovery) answer(r *Reader, rec Record) error {
	a, err := r.answer(rec)
	if err != nil {
		return err
	}
	if name, ok := c.number(a.Name); ok {
		return describe(r.path, c.Names.Put(name, a))
	}
	return nil
}

// number returns the number of a name; ok is false if the plan has none like it.
func (c *recovery) number(name string) (n int, ok bool) {
	if c.index == nil {
		return 0, false
	}
	return c.index.number(name)
}

// result takes a result record.
func (c *recovery) result(r *Reader, rec Record) error {
	row, err := parseRow(rec.Line)
	if err != nil {
		return r.misread(rec, err)
	}
	addr, err := row.endpoint()
	if err != nil {
		return r.misread(rec, err)
	}
	c.Rows++
	curable := scanner.Reason(row.reason).Curable()
	if len(row.host) == 0 && addr.IsValid() && c.Plan != nil {
		if i, ok := c.Plan.Index(addr, row.port); ok {
			pos, ok := c.order.Pos(i)
			switch {
			case ok && curable:
				c.Undecided.Add(pos)
			case ok && !c.Done.Contains(pos):
				c.Done.Add(pos)
				c.Counts[state(row.state)]++
			}
			return nil
		}
	}
	if curable {
		return nil
	}
	of := stray{string(row.target), string(row.host), addr, row.port}
	name, known := c.number(of.target)
	if c.Names.finish(name, known, of) {
		c.Counts[state(row.state)]++
	}
	return nil
}

// state returns the state as a string, without allocating for those that are many.
func state(s []byte) string {
	switch string(s) {
	case "open":
		return "open"
	case "closed":
		return "closed"
	case "filtered":
		return "filtered"
	}
	return string(s)
}

// errOutside says that a silent record is about more than the plan.
var errOutside = errors.New("silent record: positions outside the plan")

// silence takes a silent record.
func (c *recovery) silence(r *Reader, rec Record) error {
	b, err := parseBlock(rec.Line)
	if err == nil && (c.Plan == nil || b.To >= c.order.Len()) {
		err = errOutside
	}
	if err != nil {
		return r.misread(rec, err)
	}
	for pos := range b.positions {
		c.Rows++
		if !c.Done.Contains(pos) {
			c.Done.Add(pos)
			c.Counts["filtered"]++
		}
	}
	return nil
}
