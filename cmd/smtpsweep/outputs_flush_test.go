package main

import (
	"bufio"
	"bytes"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/smtpsweep/smtpsweep/report"
	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/targets"
)

// writes counts the writes to it.
type writes struct {
	mu   sync.Mutex
	n    int
	text bytes.Buffer
	got  chan struct{}
}

func (w *writes) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.n++
	select {
	case w.got <- struct{}{}:
	default:
	}
	return w.text.Write(p)
}

func TestRowsStreamTogetherAndSoon(t *testing.T) {
	out := &writes{got: make(chan struct{}, 1)}
	o := &outputs{buffer: bufio.NewWriterSize(out, 32<<10), failed: make(chan struct{})}
	format, err := report.Lookup("csv")
	if err != nil {
		t.Fatal(err)
	}
	if o.live, err = format.New(o.buffer, report.Header{}, report.Options{}); err != nil {
		t.Fatal(err)
	}
	row := func(i int) *scanner.Result {
		return &scanner.Result{Observation: scanner.Observation{
			Target: targets.Target{Addr: netip.MustParseAddr("192.0.2.1"), Port: uint16(i + 1)},
			State:  scanner.Closed, Reason: scanner.ConnRefused, At: time.Now(), Attempts: 1,
		}}
	}
	const n = 1000
	for i := range n {
		o.stream(row(i), "here")
	}
	<-out.got // nothing follows: the last rows come all the same
	o.stream(row(n), "here")
	o.finishStream(report.Totals{})
	if got := strings.Count(out.text.String(), "\n"); got != n+2 {
		t.Errorf("%d lines, want the header and %d rows", got, n+1)
	}
	if out.n > n/10 {
		t.Errorf("%d writes for %d rows", out.n, n+1)
	}
	if o.soon != nil {
		t.Error("a flush is still due after the end")
	}
}

// A lockedEncoder notes whether another goroutine could have written the buffer
// while it did.
type lockedEncoder struct {
	report.Encoder
	mu   *sync.Mutex
	free bool
}

func (e *lockedEncoder) Close(t report.Totals) error {
	if e.mu.TryLock() {
		e.free = true
		e.mu.Unlock()
	}
	return e.Encoder.Close(t)
}

// The timer that flushes rows may fire while the end of the document is written.
func TestTheEndOfAStreamIsWrittenAlone(t *testing.T) {
	o := &outputs{buffer: bufio.NewWriter(&bytes.Buffer{}), failed: make(chan struct{})}
	format, err := report.Lookup("csv")
	if err != nil {
		t.Fatal(err)
	}
	csv, err := format.New(o.buffer, report.Header{}, report.Options{})
	if err != nil {
		t.Fatal(err)
	}
	e := &lockedEncoder{Encoder: csv, mu: &o.mu}
	o.live = e
	o.finishStream(report.Totals{})
	if e.free {
		t.Error("the buffer is not locked while the document ends")
	}
}
