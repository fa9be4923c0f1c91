package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
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
	show    report.Show
	stdout  report.Format
	files   []output
	journal string          // the .jsonl among the -o of a scan, which is the journal; "" if there is none
	stop    context.Context // whose end stops the writing of files; nil for never

	mu     sync.Mutex // guards following
	live   report.Encoder
	buffer *bufio.Writer // of live
	soon   *time.Timer   // set while the buffer has something that is to be flushed soon
	err    error         // of stdout
	failed chan struct{} // closed when err is set
}

// checkOutputs reads -o, -f and --show. With isScan the first .jsonl is the journal.
func checkOutputs(u *ui, flags outputFlags, isScan bool) (*outputs, error) {
	o := &outputs{u: u, flags: flags, failed: make(chan struct{})}
	var err error
	if o.show, err = report.ParseShow(flags.show); err != nil {
		return nil, fail(exitUsage, "%w", err)
	}
	name := flags.format
	if name == "" {
		name = "table"
	}
	if o.stdout, err = report.Lookup(name); err != nil {
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
		format, err := report.ByEnding(path)
		if err != nil {
			return nil, fail(exitUsage, "-o %w", err)
		}
		isJournal := isScan && format.Name == "jsonl" && o.journal == ""
		if err := checkPlace(path, flags.force && !isJournal, isJournal); err != nil {
			return nil, err
		}
		if isJournal {
			o.journal = path
			continue
		}
		o.files = append(o.files, output{path, format})
	}
	return o, nil
}

// checkPlace refuses an output that exists or has no directory.
func checkPlace(path string, force, isJournal bool) error {
	info, err := os.Lstat(path)
	switch {
	case err == nil && info.IsDir():
		return fail(exitUsage, "-o %s is a directory", clip(path))
	case err == nil && isJournal:
		return withHint(fail(exitUsage, "-o %s exists already, and a journal is never overwritten", clip(path)), fmt.Sprintf("smtpsweep scan --resume %s goes on with it; another name starts anew", clip(path)))
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

// spare refuses to overwrite what is read: a report written over its own journal
// would end the run's memory.
func (o *outputs) spare(journals ...string) error {
	for _, path := range journals {
		in, err := os.Stat(path)
		if err != nil {
			continue // whoever opens it says so
		}
		for _, out := range o.files {
			if info, err := os.Stat(out.path); err == nil && os.SameFile(in, info) {
				return fail(exitUsage, "-o %s is the journal itself", clip(out.path))
			}
		}
	}
	return nil
}

// streams reports whether stdout is written while the run goes on.
func (o *outputs) streams() bool { return o.stdout.Streams }

// begin starts what streams on stdout. JSON Lines on stdout are the journal's
// own lines. Of a run that goes on, earlier is the journal: what it has comes
// first, so that stdout has it all.
func (o *outputs) begin(w *journal.Writer, header report.Header, earlier string) error {
	if !o.streams() {
		return nil
	}
	o.buffer = bufio.NewWriterSize(o.u.out, 32<<10)
	if o.stdout.Name == "jsonl" {
		if earlier != "" {
			o.fault(o.replayLines(earlier))
		}
		w.Tee(o.line)
		return nil
	}
	var err error
	o.live, err = o.stdout.New(o.buffer, header, o.options(false))
	if err == nil && earlier != "" {
		err = o.replayRows(earlier)
	}
	if err == nil {
		err = o.buffer.Flush()
	}
	o.fault(err)
	return nil
}

// replayLines writes the lines of a journal to stdout.
func (o *outputs) replayLines(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	in := bufio.NewReaderSize(f, journal.MaxRecord)
	for {
		line, err := in.ReadSlice('\n')
		if err == io.EOF {
			return o.buffer.Flush()
		}
		if err != nil {
			return err
		}
		if bytes.HasPrefix(line, []byte(`{"type":"sync"`)) {
			continue // they tell of the file only
		}
		if _, err := o.buffer.Write(line); err != nil {
			return err
		}
	}
}

// replayRows writes the rows of a journal to stdout that are not probed again.
func (o *outputs) replayRows(path string) error {
	readers, err := openJournals([]string{path}, false)
	defer closeAll(readers)
	if err != nil {
		return err
	}
	return foldRows(readers, func(row *report.Row) error {
		if scanner.Reason(row.Cells[report.ColReason]).Curable() {
			return nil
		}
		return o.live.Row(row)
	})
}

func (o *outputs) options(toTerminal bool) report.Options {
	opt := report.Options{CSVBOM: o.flags.csvBOM, Show: o.show, Notice: func(s string) { o.u.say("%s", oneLine(s)) }}
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
	if o.live != nil {
		o.fault(o.live.Close(t))
	}
	o.flush()
}

// A sink is an encoder with what is under it.
type sink struct {
	output
	enc  report.Encoder
	buf  *bufio.Writer
	file *os.File // the temporary file; nil for stdout
	rows uint64
	err  error // nothing is written after it
}

// openSinks begins the files, and stdout unless it has been streamed. An output
// that cannot be written keeps no other from being written.
func (o *outputs) openSinks(h report.Header, withStdout bool) []*sink {
	var sinks []*sink
	for _, out := range o.files {
		sinks = append(sinks, openFile(out, h, o.options(false)))
	}
	if withStdout {
		s := &sink{output: output{"-", o.stdout}, buf: bufio.NewWriterSize(o.u.out, 32<<10)}
		s.enc, s.err = o.stdout.New(s.buf, h, o.options(true))
		sinks = append(sinks, s)
	}
	return sinks
}

func outputError(path string, err error) error {
	return fail(exitOutput, "%s could not be written: %w", path, plainPathError(err))
}

// openFile writes beside the output's place: a report is complete or absent.
func openFile(out output, h report.Header, opt report.Options) *sink {
	s := &sink{output: out}
	if s.file, s.err = os.CreateTemp(filepath.Dir(out.path), "."+filepath.Base(out.path)+".*"); s.err != nil {
		return s
	}
	s.buf = bufio.NewWriterSize(s.file, 64<<10)
	s.enc, s.err = out.format.New(s.buf, h, opt)
	return s
}

func (s *sink) row(r *report.Row) {
	if s.err != nil {
		return
	}
	s.rows++
	s.err = s.enc.Row(r)
}

// commit ends the document and puts the file in its place.
func (s *sink) commit(t report.Totals) error {
	if s.err == nil {
		s.err = s.enc.Close(t)
	}
	if s.err == nil {
		s.err = s.buf.Flush()
	}
	if s.err == nil && s.file != nil {
		s.err = s.place()
	}
	if s.err != nil {
		return outputError(s.name(), s.err)
	}
	return nil
}

func (s *sink) place() error {
	if err := errors.Join(s.file.Sync(), s.file.Close()); err != nil {
		return err
	}
	if err := os.Rename(s.file.Name(), s.path); err != nil {
		return err
	}
	s.file = nil
	return nil
}

// discard removes what was not committed.
func discard(sinks []*sink) {
	for _, s := range sinks {
		if s.file != nil {
			s.file.Close()
			os.Remove(s.file.Name())
		}
	}
}
