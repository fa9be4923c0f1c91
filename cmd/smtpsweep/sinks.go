package main

import (
	"bufio"
	"errors"
	"os"
	"path/filepath"
	"sync"

	"github.com/smtpsweep/smtpsweep/report"
)

// A sink is an output that is being written: an encoder with what is under it.
type sink struct {
	output
	enc   report.Encoder
	buf   *bufio.Writer
	file  *os.File // the temporary file; nil for stdout
	force bool     // what is there is overwritten
	rows  uint64
	err   error // nothing is written after it
}

// openSinks begins the files, and stdout unless it has been streamed. An output
// that cannot be written keeps no other from being written.
func (o *outputs) openSinks(h report.Header, withStdout bool) []*sink {
	var sinks []*sink
	for _, out := range o.files {
		sinks = append(sinks, o.openFile(out, h))
	}
	if withStdout {
		s := &sink{output: output{"-", o.stdout}, buf: bufio.NewWriterSize(o.u.out, 32<<10)}
		s.enc, s.err = o.stdout.New(s.buf, h, o.options(true))
		sinks = append(sinks, s)
	}
	return sinks
}

// openFile writes beside the output's place: a report is complete or absent.
func (o *outputs) openFile(out output, h report.Header) *sink {
	s := &sink{output: out, force: o.flags.force}
	if s.file, s.err = o.temps.create(out.path); s.err != nil {
		return s
	}
	s.buf = bufio.NewWriterSize(s.file, 64<<10)
	s.enc, s.err = out.format.New(s.buf, h, o.options(false))
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
	if s.force {
		// Who may read what is replaced may read this. A new file is its owner's:
		// it may tell of people (reliability.md section 5).
		if info, err := os.Lstat(s.path); err == nil && info.Mode().IsRegular() {
			if err := os.Chmod(s.file.Name(), info.Mode().Perm()); err != nil {
				return err
			}
		}
		return os.Rename(s.file.Name(), s.path)
	}
	return renameNew(s.file.Name(), s.path)
}

// renameNew renames a file, and overwrites nothing: what was not there when the
// run began may have come since.
func renameNew(from, to string) error {
	err := os.Link(from, to) // unlike a rename it fails if there is something
	if err == nil {
		return os.Remove(from)
	}
	if _, statErr := os.Lstat(to); statErr == nil {
		return errors.New("it exists by now, and --force was not given")
	}
	return os.Rename(from, to) // a file system without hard links
}

func (s *sink) name() string {
	if s.path == "-" {
		return "stdout"
	}
	return s.path
}

// outputError says that an output could not be written. What says so already is
// passed on.
func outputError(path string, err error) error {
	var coded *codedError
	if errors.As(err, &coded) {
		return err
	}
	return fail(exitOutput, "%s could not be written: %w", path, plainPathError(err))
}

// temps are the temporary files of outputs.
type temps struct {
	mu    sync.Mutex
	files []*os.File
}

// create makes a temporary file beside the place of an output. It is not named
// after it: a name may be as long as names can be.
func (t *temps) create(path string) (*os.File, error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".smtpsweep-*.tmp")
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.files = append(t.files, f)
	return f, nil
}

// remove removes those that were not put in their place. Whoever still writes
// one, of a run that is left alone, gets an error.
func (t *temps) remove() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range t.files {
		f.Close()           // an error means that it was closed
		os.Remove(f.Name()) // and that it was put in its place
	}
	t.files = nil
}
