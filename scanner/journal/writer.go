package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

const (
	// A row reaches the kernel within 100 ms and the disk within 1 s: half of
	// either is left to a slow disk.
	flushEvery = 50 * time.Millisecond
	syncEvery  = 500 * time.Millisecond

	flushAbove = 256 << 10 // bytes waiting that are written at once
	maxWaiting = 4 << 20   // bytes waiting at which Append waits for the disk (or for the reader of the tee)
)

// file is what a Writer needs of a file; tests make it fail.
type file interface {
	io.Writer
	io.ReaderAt
	Sync() error // the data, and what is needed to find it, to the disk
	Close() error
}

// A Writer appends to a journal. Its methods may be called from many
// goroutines. After an error nothing is written any more: every method returns
// that error, a [*WriteError], and Failed is closed.
type Writer struct {
	path    string
	f       file
	present func() error // is the file still where its name says
	syncDir func() error // the file's name to the disk; nil once done

	mu       sync.Mutex
	room     sync.Cond // buf or tee got shorter, or err was set
	buf      []byte    // framed lines that are not in the kernel yet
	spare    []byte    // the buffer that buf changes places with
	silent   []silence // not yet in buf
	tee      *tee      // nil without one
	err      error     // sticky
	finished bool      // no record may follow
	fresh    bool      // buf has a record that is not a sync mark
	dirty    bool      // such a record was written since the last sync
	preface  []byte    // what a resumed journal begins with, once anything is added to it

	io      sync.Mutex // held while writing, so that buffers reach the file in order
	written int64      // bytes of the file that are in the kernel; under io
	syncing sync.Mutex // held while syncing

	wake   chan struct{} // something waits to be written
	urgent chan struct{} // much does
	unsafe chan struct{} // something is written and not synced
	stop   chan struct{} // closed by Close
	failed chan struct{}
	loops  sync.WaitGroup
	closed sync.Once
}

// Create starts a journal at path with its run record. The file must not
// exist: if it does, the error wraps ErrExists. It is readable by its owner
// only, and locked until Close.
func Create(path string, run Run) (*Writer, error) {
	if run.Schema == 0 {
		run.Schema = Schema
	}
	if run.PID == 0 {
		run.PID = os.Getpid()
	}
	if run.Started.IsZero() {
		run.Started = time.Now()
	}
	run.Started = run.Started.UTC()
	rec, err := run.record()
	if err != nil {
		return nil, describe(path, err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR|noFollow, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("journal %s: %w, and is not overwritten: to go on with that run, use --resume %s", path, ErrExists, path)
	}
	if err != nil {
		return nil, &WriteError{path, "create", err}
	}
	if err := lock(f); err != nil {
		f.Close()
		if !errors.Is(err, ErrLocked) { // there are no locks here: leave no empty file
			os.Remove(path)
		}
		return nil, describe(path, err)
	}
	w := newWriter(path, diskFile{f}, 0)
	w.present, w.syncDir = presence(path, f), dirSync(path)
	err = w.Append(rec)
	if err == nil {
		err = w.flush()
	}
	if err != nil {
		f.Close()
		os.Remove(path) // ours, and empty or torn
		return nil, err
	}
	w.start()
	return w, nil
}

// newWriter returns a Writer whose goroutines are not started. size is how many
// bytes f has.
func newWriter(path string, f file, size int64) *Writer {
	w := &Writer{
		path: path, f: f, written: size,
		wake: make(chan struct{}, 1), urgent: make(chan struct{}, 1), unsafe: make(chan struct{}, 1),
		stop: make(chan struct{}), failed: make(chan struct{}),
	}
	w.room.L = &w.mu
	return w
}

// start starts the two goroutines that Close waits for: one writes, and one
// syncs, so that a slow disk does not keep rows out of the kernel.
func (w *Writer) start() {
	w.loops.Go(func() { w.loop(w.wake, w.urgent, flushEvery, w.flush) })
	w.loops.Go(func() { w.loop(w.unsafe, nil, syncEvery, w.sync) })
}

// loop calls do once for all that happens within a while of the first signal.
func (w *Writer) loop(first, now <-chan struct{}, while time.Duration, do func() error) {
	for {
		select {
		case <-first:
		case <-w.stop:
			return
		}
		select {
		case <-time.After(while):
		case <-now:
		case <-w.stop:
			return
		}
		if do() != nil {
			return // sticky: nothing is left to do
		}
	}
}

// signal wakes the receiver of c, if it is not awake already.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Append adds a record: a JSON object on one line that begins {"type":"…" and
// has no "crc". It is in the kernel within 100 ms and on the disk within 1 s.
// Append copies record, and waits only if 4 MiB are waiting to be written.
func (w *Writer) Append(record []byte) error {
	if err := checkRecord(record); err != nil {
		return describe(w.path, err)
	}
	if bytes.IndexByte(record, '\n') >= 0 {
		return describe(w.path, errors.New("a journal record must be one line"))
	}
	sum := checksum(record)
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.err == nil && len(w.buf)+w.tee.waiting() > maxWaiting {
		w.room.Wait()
	}
	if err := w.writable(); err != nil {
		return err
	}
	w.add(record, sum)
	return nil
}

// writable returns why no record can be added, or nil. w.mu is held.
func (w *Writer) writable() error {
	if w.err == nil && w.finished {
		return describe(w.path, ErrClosed)
	}
	return w.err
}

// add frames a record into the buffer. w.mu is held.
func (w *Writer) add(record []byte, sum uint32) {
	if len(w.buf) == 0 {
		signal(w.wake)
	}
	if w.preface != nil {
		w.buf, w.preface = append(w.buf, w.preface...), nil
	}
	w.buf = appendFrame(w.buf, record, sum)
	w.fresh = true
	if len(w.buf) > flushAbove {
		signal(w.urgent)
	}
}

// Put encodes v as a record of a type (see [Encode]) and appends it.
func (w *Writer) Put(typ string, v any) error {
	rec, err := Encode(typ, v)
	if err != nil {
		return describe(w.path, err)
	}
	return w.Append(rec)
}

// Note records something that may have biased the run: a code for programs,
// such as "egress-25-suspect", and a sentence for people.
func (w *Writer) Note(code, text string) error {
	return w.Put("note", note{stamp(time.Now()), code, text, 0})
}

// A note is a note record.
type note struct {
	Time string `json:"time"`
	Code string `json:"code"`
	Text string `json:"text"`
	PID  int    `json:"pid,omitempty"` // of a run that was resumed
}

// Finish writes the end record, when all before it is on the disk, and syncs
// it. Nothing can be appended afterwards.
func (w *Writer) Finish(end End) error {
	rec, err := Encode("end", struct {
		Time string `json:"time"`
		End
	}{stamp(time.Now()), end})
	if err == nil {
		err = checkRecord(rec)
	}
	if err != nil {
		return describe(w.path, err)
	}
	if err := w.Sync(); err != nil {
		return err
	}
	w.mu.Lock()
	if err = w.writable(); err == nil {
		w.encodeSilent()
		w.add(rec, checksum(rec))
		w.finished = true
	}
	w.mu.Unlock()
	if err != nil {
		return err
	}
	return w.Sync()
}

// Sync writes and syncs all that was appended so far. It does not wait for the
// tee: a process that must end at once calls Sync, and not Close.
func (w *Writer) Sync() error {
	if err := w.flush(); err != nil {
		return err
	}
	return w.sync()
}

// Close writes and syncs what is left, waits for the goroutines and the tee,
// and unlocks and closes the file. It returns the first error of the journal.
func (w *Writer) Close() error {
	w.closed.Do(func() {
		w.mu.Lock()
		ended := w.finished
		w.finished = true
		w.mu.Unlock()
		close(w.stop)
		w.loops.Wait()
		if w.Sync() == nil && !ended {
			w.flush() // the last sync mark
		}
		w.mu.Lock()
		t := w.tee
		w.mu.Unlock()
		t.close()
		if err := w.f.Close(); err != nil {
			w.fail("close", err)
		}
	})
	return w.Err()
}

// Failed returns a channel that is closed when the journal cannot be written
// any more; Err then says why.
func (w *Writer) Failed() <-chan struct{} { return w.failed }

// Err returns the error that ended the journal, or nil.
func (w *Writer) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// Path returns the name of the file.
func (w *Writer) Path() string { return w.path }

// fail makes an error sticky and returns the one that is.
func (w *Writer) fail(op string, err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = &WriteError{w.path, op, err}
		w.buf, w.spare, w.silent = nil, nil, nil
		close(w.failed)
		w.room.Broadcast()
	}
	return w.err
}

// flush hands everything that waits to the kernel.
func (w *Writer) flush() error {
	w.io.Lock()
	defer w.io.Unlock()
	w.mu.Lock()
	w.encodeSilent()
	if w.err != nil || len(w.buf) == 0 {
		defer w.mu.Unlock()
		return w.err
	}
	out := w.buf
	w.buf, w.spare = w.spare[:0], nil
	fresh := w.fresh
	w.fresh = false
	w.mu.Unlock()

	n, err := w.f.Write(out)
	w.written += int64(n)
	if err == nil && n < len(out) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return w.fail("write", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tee.add(out)
	if cap(out) <= 4*flushAbove { // a larger one was a burst: let it go
		w.spare = out
	}
	w.room.Broadcast()
	if fresh {
		w.dirty = true
		signal(w.unsafe)
	}
	return w.err
}

// sync brings what is in the kernel to the disk, and notes how much that is.
// After an error the file is never synced again: the kernel may have marked
// the lost pages clean, and would say that all is well.
func (w *Writer) sync() error {
	w.syncing.Lock()
	defer w.syncing.Unlock()
	w.io.Lock() // no write is under way: dirty and size belong together
	size := w.written
	w.mu.Lock()
	dirty, err := w.dirty, w.err
	w.dirty = false
	w.mu.Unlock()
	w.io.Unlock()
	if err != nil || !dirty {
		return err
	}
	if err := w.f.Sync(); err != nil {
		return w.fail("sync", err)
	}
	if w.present != nil { // first: who deleted the directory deleted the file
		if err := w.present(); err != nil {
			return w.fail("look after the file", err)
		}
	}
	if w.syncDir != nil {
		if err := w.syncDir(); err != nil {
			return w.fail("sync directory", err)
		}
		w.syncDir = nil
	}
	w.mark(size)
	return nil
}

// syncPrefix begins a sync record.
const syncPrefix = `{"type":"sync"`

// mark appends a sync record. It does not make the journal dirty: else an idle
// one would be synced for ever.
func (w *Writer) mark(size int64) {
	rec := syncRecord(size, time.Now())
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return
	}
	fresh := w.fresh
	w.add(rec, checksum(rec))
	w.fresh = fresh
}

// syncRecord says that size bytes are on the disk.
func syncRecord(size int64, now time.Time) []byte {
	rec := append([]byte(syncPrefix), `,"time":"`...)
	rec = append(rec, stamp(now)...)
	rec = append(rec, `","bytes":`...)
	rec = strconv.AppendInt(rec, size, 10)
	return append(rec, '}')
}

// presence returns a function that says whether path still names f. Its error
// wraps ErrGone if not.
func presence(path string, f *os.File) func() error {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	mine, err := f.Stat()
	if err != nil {
		return nil
	}
	return func() error {
		now, err := os.Lstat(path)
		if errors.Is(err, os.ErrNotExist) {
			return &plainError{"it was removed or moved while the run was writing it", ErrGone}
		}
		if err == nil && !os.SameFile(mine, now) {
			return &plainError{"it was replaced by another file while the run was writing it", ErrGone}
		}
		return nil
	}
}
