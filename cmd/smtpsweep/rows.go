package main

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/smtpsweep/smtpsweep/report"
	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/scanner/journal"
	"github.com/smtpsweep/smtpsweep/targets"
)

// result takes one finished endpoint, from any goroutine.
func (s *sweep) result(r *scanner.Result) {
	if r.Target.From == controlOrigin {
		s.control(r)
		return
	}
	if s.hooks.onResult != nil {
		s.hooks.onResult(r)
	}
	s.record(r)
	for _, spec := range s.others(r.Target) {
		again := *r
		again.Target.From = &targets.Origin{Spec: spec, Host: r.Target.Host()}
		s.record(&again)
	}
}

var rowBuffers = sync.Pool{New: func() any { return new([]byte) }}

// record counts a row and writes it to the journal and to what streams.
func (s *sweep) record(r *scanner.Result) {
	s.tally.add(r)
	if r.State == scanner.Open && s.own[r.Target.Addr.WithZone("")] {
		s.note("inside-view", fmt.Sprintf("%s is an address of this machine: what is seen from inside is not what others see", r.Target.Addr))
	}
	if r.Reason == scanner.NoResponse && r.Target.Index != targets.NoIndex && s.job.plan.Len() > journal.BlockAbove {
		if pos, ok := s.job.order.Pos(r.Target.Index); ok {
			s.writer.Silent(pos, r.Attempts, r.At)
			s.outputs.stream(r, s.vantage)
			return
		}
	}
	buf := rowBuffers.Get().(*[]byte)
	*buf = report.AppendResult((*buf)[:0], r, s.vantage)
	s.writer.Append(*buf) // an error is sticky: run watches Failed
	rowBuffers.Put(buf)
	s.outputs.stream(r, s.vantage)
}

// note records what may have biased the run, once a code and text.
func (s *sweep) note(code, text string) {
	s.noteMu.Lock()
	defer s.noteMu.Unlock()
	if s.noted[code+text] || len(s.noted) > 1000 {
		return
	}
	s.noted[code+text] = true
	if s.u.verbose {
		s.u.say("Note: %s: %s", code, text)
	}
	if s.writer != nil {
		s.writer.Note(code, text)
	}
}

// A tally counts rows as they come. It is read while it grows.
type tally struct {
	state    [4]atomic.Uint64
	public25 atomic.Uint64 // public endpoints on 25 that answered by TCP
	silent25 atomic.Uint64 // public endpoints on 25 that did not
	publicOk atomic.Uint64 // public endpoints on other ports that answered
}

func (t *tally) add(r *scanner.Result) {
	t.state[r.State].Add(1)
	if !r.Target.Addr.IsValid() || !targets.IsPublic(r.Target.Addr) {
		return
	}
	answered := r.State == scanner.Open || r.State == scanner.Closed
	switch {
	case r.Target.Port == 25 && answered:
		t.public25.Add(1)
	case r.Target.Port == 25 && r.State == scanner.Filtered:
		t.silent25.Add(1)
	case answered:
		t.publicOk.Add(1)
	}
}

func (t *tally) total() uint64 {
	var n uint64
	for i := range t.state {
		n += t.state[i].Load()
	}
	return n
}
