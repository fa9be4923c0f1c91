package journal

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/smtpsweep/smtpsweep/targets"
)

// CopySound writes what is whole of a damaged journal to w as a journal from
// which the run can go on, and returns how many records were left out: a bit that
// flipped costs its record, and what that record told of is probed again. r is of
// [OpenSalvage]. If the run record or the plan is damaged, a run cannot go on:
// the error wraps ErrIncomplete or ErrPlan, and nothing is written.
func (r *Reader) CopySound(w io.Writer) (lost int, err error) {
	if r.run.PlanHash == "" {
		return 0, fmt.Errorf("journal %s: %w", r.path, ErrIncomplete)
	}
	c, err := r.recovery(targets.Config{})
	if err != nil {
		return 0, err
	}
	out := &lineWriter{w: bufio.NewWriter(w)}
	for rec, err := range r.Records() {
		if err != nil {
			return lost, err
		}
		if rec.Type == "sync" || rec.Type == "end" { // they tell of the other file, and of a run that was whole
			continue
		}
		var bad *DamageError
		if err := c.take(r, rec); errors.As(err, &bad) {
			lost++
			continue
		} else if err != nil {
			return lost, err
		}
		out.line(rec.Line)
	}
	lost += r.skipped
	text := fmt.Sprintf("the journal goes on from what was whole of another: %d damaged records were left out", lost)
	said, err := Encode("note", note{stamp(time.Now()), "salvaged", text, os.Getpid()})
	if err != nil {
		return lost, err
	}
	out.line(said)
	out.line(syncRecord(out.size, time.Now())) // whoever puts the copy in its place syncs it before
	return lost, out.w.Flush()
}

// A lineWriter writes records as lines and counts their bytes. Its errors are
// those of the Flush at the end.
type lineWriter struct {
	w    *bufio.Writer
	buf  []byte
	size int64
}

func (l *lineWriter) line(rec []byte) {
	l.buf = AppendLine(l.buf[:0], rec)
	l.size += int64(len(l.buf))
	l.w.Write(l.buf)
}
