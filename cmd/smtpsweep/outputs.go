package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/smtpsweep/smtpsweep/report"
	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/scanner/journal"
)

// An output is one thing to write: a file, or stdout if path is "-".
type output struct {
	path   string
	format report.Format
}

// outputs are what a run writes, checked before anything is sent.
type outputs struct {
	u       *ui
	flags   outputFlags
	formats []report.Format // that -o and -f may name
	show    report.Show
	stdout  report.Format
	files   []output
	copies  []output        // journals made of what is whole of a damaged one
	journal string          // the .jsonl among the -o of a scan, which is the journal; "" if there is none
	silent  bool            // nothing more is written to stdout
	stop    context.Context // whose end stops the writing of files; nil for never
	temps   temps

	mu     sync.Mutex // guards following
	live   report.Encoder
	buffer *bufio.Writer // of live
	soon   *time.Timer   // set while the buffer has something that is to be flushed soon
	err    error         // of stdout
	failed chan struct{} // closed when err is set
}

// checkOutputs reads -o, -f and --show. With isScan the first .jsonl is the
// journal. No output may be one of the journals that are read.
func checkOutputs(u *ui, flags outputFlags, isScan bool, read ...string) (*outputs, error) {
	return checkOutputsOf(u, flags, report.Formats(), isScan, read...)
}

// checkOutputsOf is checkOutputs with formats of another kind.
func checkOutputsOf(u *ui, flags outputFlags, formats []report.Format, isScan bool, read ...string) (*outputs, error) {
	o := &outputs{u: u, flags: flags, formats: formats, failed: make(chan struct{})}
	var err error
	if o.show, err = report.ParseShow(flags.show); err != nil {
		return nil, fail(exitUsage, "%w", err)
	}
	if o.stdout, err = report.LookupIn(formats, cmp.Or(flags.format, "table")); err != nil {
		return nil, fail(exitUsage, "-f: %w", err)
	}
	for i, path := range flags.outputs {
		same := func(other string) bool { return filepath.Clean(other) == filepath.Clean(path) }
		if path == "" {
			return nil, fail(exitUsage, "-o: the name of the file is empty")
		}
		if slices.ContainsFunc(flags.outputs[:i], same) {
			return nil, fail(exitUsage, "-o %s is given twice", clip(path))
		}
		if path == "-" {
			continue // stdout is always written
		}
		if err := o.add(path, isScan, read); err != nil {
			return nil, err
		}
	}
	return o, nil
}

// add checks an -o and takes it.
func (o *outputs) add(path string, isScan bool, read []string) error {
	format, err := report.ByEndingIn(o.formats, path)
	if err != nil {
		return fail(exitUsage, "-o %w", err)
	}
	if slices.ContainsFunc(read, func(in string) bool { return sameFile(in, path) }) {
		return withHint(fail(exitUsage, "-o %s is the journal itself", clip(path)), "leave it out, or name another file")
	}
	isJournal := isScan && format.Name == "jsonl" && o.journal == ""
	if err := checkPlace(path, o.flags.force && !isJournal, isJournal); err != nil {
		return err
	}
	if isJournal {
		o.journal = path
		return nil
	}
	o.files = append(o.files, output{path, format})
	// An hour later would be late to learn that the folder cannot be written.
	if _, err := o.temps.create(path); err != nil {
		return outputError("-o "+clip(path), err)
	}
	o.temps.remove()
	return nil
}

func sameFile(a, b string) bool {
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	return errX == nil && errY == nil && os.SameFile(x, y)
}

// checkPlace refuses an output that exists or has no directory.
func checkPlace(path string, force, isJournal bool) error {
	info, err := os.Lstat(path)
	switch {
	case err == nil && info.IsDir():
		return fail(exitUsage, "-o %s is a directory", clip(path))
	case err == nil && isJournal:
		return withHint(fail(exitUsage, "-o %s exists already, and a journal is never overwritten", clip(path)), goOnOrAnew(path))
	case err == nil && !force:
		return withHint(fail(exitUsage, "-o %s exists already", clip(path)), "--force overwrites it")
	case err == nil:
		return nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return fail(exitUsage, "-o %s: %w", clip(path), plainPathError(err))
	}
	if info, err := os.Stat(filepath.Dir(path)); err != nil || !info.IsDir() {
		return fail(exitUsage, "-o %s: there is no directory %s", clip(path), clip(filepath.Dir(path)))
	}
	return nil
}

// goOnOrAnew is the hint where a journal exists.
func goOnOrAnew(path string) string {
	return "smtpsweep scan --resume " + shellWord(path) + " goes on with it; another name starts anew"
}

// streams reports whether stdout is written while the run goes on.
func (o *outputs) streams() bool { return o.stdout.Streams }

// begin starts what streams on stdout. JSON Lines on stdout are the journal's
// own lines. Of a run that goes on, earlier is the journal: the rows that it has
// come first, so that stdout has them all. An error is one of the journal; that
// stdout failed is told by failed.
func (o *outputs) begin(w *journal.Writer, header report.Header, earlier string) error {
	if !o.streams() {
		return nil
	}
	o.buffer = bufio.NewWriterSize(o.u.out, 32<<10)
	if o.stdout.Name == "jsonl" {
		w.Tee(o.line)
		return nil
	}
	var err error
	if o.live, err = o.stdout.New(o.buffer, header, o.options(false)); err != nil {
		o.fault(err)
		return nil
	}
	err = o.replayRows(earlier)
	o.fault(o.buffer.Flush())
	if o.streamErr() != nil {
		return nil
	}
	return err
}

// replayRows writes the rows of a journal to stdout, if there is one, but those
// that are probed again.
func (o *outputs) replayRows(path string) error {
	if path == "" {
		return nil
	}
	readers, err := openJournals([]string{path}, false)
	defer closeAll(readers)
	if err != nil {
		return err
	}
	return foldRows(readers, func(row *report.Row) error {
		if !scanner.Reason(row.Cells[report.ColReason]).Curable() {
			o.fault(o.live.Row(row))
		}
		return o.streamErr()
	})
}

func (o *outputs) options(toTerminal bool) report.Options {
	opt := report.Options{CSVBOM: o.flags.csvBOM, Show: o.show, Notice: func(s string) { o.u.say("%s", s) }}
	if toTerminal {
		opt.Color, opt.Width = o.u.color(), o.u.outWidth
	}
	return opt
}

// line writes a line of the journal to stdout.
func (o *outputs) line(line []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		return
	}
	_, err := o.buffer.Write(line)
	o.faultLocked(err)
	o.flushSoon()
}

// streamEvery is how long what was written to stdout may wait for more.
const streamEvery = 50 * time.Millisecond

// flushSoon flushes stdout after a while: a write for each row costs a sweep
// more than all else that is done with the row. o.mu is held.
func (o *outputs) flushSoon() {
	if o.soon == nil && o.err == nil {
		o.soon = time.AfterFunc(streamEvery, o.flush)
	}
}

// flush writes what waits for stdout.
func (o *outputs) flush() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.soon != nil {
		o.soon.Stop()
		o.soon = nil
	}
	if o.buffer != nil && o.err == nil {
		o.faultLocked(o.buffer.Flush())
	}
}

// stream writes a row to stdout as it comes.
func (o *outputs) stream(r *scanner.Result, vantage string) {
	if o.live == nil {
		return
	}
	row := report.RowOf(r, vantage)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		return
	}
	o.faultLocked(o.live.Row(&row))
	o.flushSoon()
}

func (o *outputs) fault(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.faultLocked(err)
}

func (o *outputs) faultLocked(err error) {
	if err != nil && o.err == nil {
		o.err = err
		close(o.failed)
	}
}

// streamErr returns what went wrong with stdout.
func (o *outputs) streamErr() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil {
		return nil
	}
	return outputError("stdout", o.err)
}

// stopped returns why no more is to be written, or nil.
func (o *outputs) stopped() error {
	if o.stop == nil || o.stop.Err() == nil {
		return nil
	}
	return context.Cause(o.stop)
}

// finishStream ends the document on stdout.
func (o *outputs) finishStream(t report.Totals) {
	o.mu.Lock()
	if o.live != nil && o.err == nil {
		o.faultLocked(o.live.Close(t))
	}
	o.mu.Unlock()
	o.flush()
}
