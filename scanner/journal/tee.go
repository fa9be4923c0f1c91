package journal

import (
	"bufio"
	"bytes"
	"io"
	"sync"
)

// A tee hands lines to a function in a goroutine of its own, so that a slow
// reader of standard output does not keep rows out of the file. A nil tee
// takes nothing.
type tee struct {
	mu    *sync.Mutex // the Writer's
	more  sync.Cond
	room  *sync.Cond // the Writer's
	lines []byte     // waiting
	busy  int        // bytes that the function is being given
	done  bool       // no more will come
	over  chan struct{}
}

// Tee calls fn with every line of the journal (checksum and newline included) in
// the order of the file, those of an earlier part of the run too, from one
// goroutine, once the line was written to the file. Sync records are left out:
// they tell of this file only. If fn lags 4 MiB behind, Append waits for it;
// Close waits until it has seen everything. fn must not keep the line. Tee is
// called at most once.
func (w *Writer) Tee(fn func(line []byte)) {
	w.io.Lock() // no write is under way: what is in the file, and what is not
	defer w.io.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	t := &tee{mu: &w.mu, room: &w.room, over: make(chan struct{})}
	t.more.L = t.mu
	w.tee = t
	written := io.NewSectionReader(w.f, 0, w.written)
	go func() { // ends with Close, which waits for it
		defer close(t.over)
		if err := replay(written, fn); err != nil {
			w.fail("read", err)
		}
		t.run(fn)
	}()
}

// replay calls fn with the lines that are in a journal.
func replay(written io.Reader, fn func(line []byte)) error {
	in := bufio.NewReaderSize(written, MaxRecord)
	for {
		line, err := in.ReadSlice('\n')
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		give(line, fn)
	}
}

// give calls fn with a line unless it is a sync record.
func give(line []byte, fn func(line []byte)) {
	if !bytes.HasPrefix(line, []byte(syncPrefix)) {
		fn(line)
	}
}

// add gives the tee lines. t.mu is held.
func (t *tee) add(lines []byte) {
	if t != nil {
		t.lines = append(t.lines, lines...)
		t.more.Signal()
	}
}

// waiting returns the number of bytes that were not given to the function yet.
// t.mu is held.
func (t *tee) waiting() int {
	if t == nil {
		return 0
	}
	return len(t.lines) + t.busy
}

// close waits until the function has seen every line.
func (t *tee) close() {
	if t == nil {
		return
	}
	t.mu.Lock()
	t.done = true
	t.more.Signal()
	t.mu.Unlock()
	<-t.over
}

// run calls fn for every line that comes, until close.
func (t *tee) run(fn func(line []byte)) {
	var batch []byte
	for {
		t.mu.Lock()
		t.busy = 0
		t.room.Broadcast()
		for len(t.lines) == 0 && !t.done {
			t.more.Wait()
		}
		batch, t.lines = t.lines, batch[:0]
		t.busy = len(batch)
		t.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		for line := range bytes.Lines(batch) {
			give(line, fn)
		}
	}
}
