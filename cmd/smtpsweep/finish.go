package main

import (
	"cmp"
	"errors"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/smtpsweep/smtpsweep/report"
	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/scanner/journal"
	"github.com/smtpsweep/smtpsweep/targets"
)

// endDone is the reason of a run that decided every endpoint it could.
const endDone = "done"

// finish closes the journal, writes the outputs, and says how it went.
func (s *sweep) finish(ctx signals, runErr error) error {
	sig, interrupted := stoppedBy(ctx.scan)
	reason, stop := endDone, ctx.scan
	switch {
	case interrupted:
		reason, stop = "interrupted", ctx.now
	case runErr != nil:
		reason = "error"
	}
	if err := s.closeJournal(reason); err != nil {
		return s.journalLost(err, reason)
	}
	s.outputs.stop = stop
	r, err := s.writeOutputs(reason)
	if late, ok := stoppedBy(stop); ok && errors.Is(err, late) {
		s.u.say("Stopped before the outputs were written. %s", s.onward(reason))
		return silentExit(late.code())
	}
	switch {
	case err != nil:
		return withHint(err, s.savedHint(reason))
	case interrupted:
		s.u.say("Stopped. %s", s.onward(reason))
		return silentExit(sig.code())
	case runErr != nil:
		return withHint(fail(exitEnvironment, "%w", runErr), s.savedHint(reason))
	}
	return s.verdict(r.totals)
}

// journalLost is the end of a run whose journal could not be written.
func (s *sweep) journalLost(err error, reason string) error {
	s.outputs.flush()
	hint := s.savedHint(reason)
	if errors.Is(err, journal.ErrGone) {
		hint = "if it was moved, smtpsweep scan --resume FILE goes on with it there"
	}
	return withHint(fail(exitOutput, "%w", err), hint)
}

// writeOutputs writes the outputs and says the totals, also if one of the outputs
// could not be written: the first error is returned.
func (s *sweep) writeOutputs(reason string) (*rendering, error) {
	s.job = nil // the journal has all of it: a list of names may be large
	if s.resumed != nil {
		s.resumed.Plan, s.resumed.Names, s.resumed.Done, s.resumed.Undecided = nil, nil, nil, nil
	}
	s.freeMemory()
	elapsed := time.Since(s.started)
	s.outputs.finishStream(report.Totals{Elapsed: elapsed, Complete: reason == endDone})
	r, err := s.outputs.render([]string{s.path}, false, !s.outputs.streams(), elapsed)
	if r == nil {
		return nil, err
	}
	return r, cmp.Or(err, s.outputs.streamErr(), s.sayTotals(r))
}

// closeJournal writes the last records and closes the journal. A journal that
// says already that its run is done stays as it is.
func (s *sweep) closeJournal(reason string) error {
	wasDone := s.resumed != nil && s.resumed.Ended && s.resumed.End.Reason == endDone
	if !wasDone || s.changed || s.tally.total() > 0 {
		if reason == endDone {
			s.endNotes()
		}
		s.writer.Finish(journal.End{Reason: reason, Totals: s.totals()}) // an error is sticky
	}
	return s.writer.Close()
}

// abandon ends a run whose user said "at once" and that does not end: what is
// known is saved, and whatever still runs ends with the process.
func (s *sweep) abandon(ctx signals) error {
	s.outputs.temps.remove()
	if s.writer != nil && !s.f.dryRun {
		s.writer.Finish(journal.End{Reason: "interrupted", Totals: s.totals()}) // an error is sticky
	}
	if s.deleted() {
		os.Remove(s.path)
	}
	s.u.sayAbove(nil) // nobody takes the progress line away any more
	s.u.say("Stopped at once. %s", s.onward("interrupted"))
	return interruptedOr(ctx.now, nil)
}

// deleted reports whether the journal is gone when the run is over.
func (s *sweep) deleted() bool {
	return s.hooks.temporary && s.path != "" && s.path != s.outputs.journal
}

func (s *sweep) sayTotals(r *rendering) error {
	path := s.path
	if s.deleted() {
		path = ""
	}
	err := s.outputs.sayTotals(r, path)
	for _, path := range s.stale {
		s.u.say("%s was there before and was left as it is. Anew: smtpsweep report %s%s", path, shellWord(s.path), overwriting([]string{path}))
	}
	return err
}

// overwriting are the arguments that write some outputs anew.
func overwriting(paths []string) string {
	text := ""
	for _, path := range paths {
		text += " -o " + shellWord(path)
	}
	if text != "" {
		text += " --force"
	}
	return text
}

// onward says how to go on with a run that ended for a reason.
func (s *sweep) onward(reason string) string {
	switch {
	case s.writer == nil || s.deleted():
		return "Nothing is saved."
	case reason == endDone:
		return "The run is complete and saved: smtpsweep report " + shellWord(s.path)
	}
	paths := slices.Clone(s.stale)
	for _, out := range s.outputs.files {
		paths = append(paths, out.path)
	}
	return "Go on with: smtpsweep scan --resume " + shellWord(s.path) + overwriting(paths)
}

// savedHint says the same for a run that ended with an error.
func (s *sweep) savedHint(reason string) string {
	switch {
	case s.deleted():
		return ""
	case reason == endDone:
		return "the run is saved; smtpsweep report " + shellWord(s.path) + " writes it again"
	}
	return "what is known is saved; smtpsweep scan --resume " + shellWord(s.path) + " goes on with it"
}

// verdict is the exit code of a run that went through: of all its rows, those
// of an earlier part of it too.
func (s *sweep) verdict(t report.Totals) error {
	counts := map[string]uint64{"open": t.Open, "closed": t.Closed, "filtered": t.Filtered, "unknown": t.Unknown}
	for _, state := range []string{"open", "closed", "filtered", "unknown"} {
		if want := s.f.expect.text; want != "" && state != want && counts[state] > 0 {
			s.u.say("Not as expected: %s %s, not %s.", plural(counts[state], "endpoint is", "endpoints are"), state, want)
			return silentExit(exitBad)
		}
	}
	if t.Undecided > 0 {
		return silentExit(exitUndecided)
	}
	return nil
}

// endNotes are those that only the whole run can tell.
func (s *sweep) endNotes() {
	t := &s.tally
	if t.public25.Load() > 0 || t.silent25.Load() == 0 || t.publicOk.Load() == 0 {
		return
	}
	if s.resumed != nil && s.answeredOn25() {
		return
	}
	s.note("egress-25-suspect", "public addresses answered, but none on 25: this network may let no port 25 out; smtpsweep egress finds out, and smtpsweep explain egress-25-suspect says how to see it without it")
}

// answeredOn25 reports whether an earlier part of the run has a public address
// that answered on port 25.
func (s *sweep) answeredOn25() bool {
	r, err := journal.Open(s.path)
	if err != nil {
		return false
	}
	defer r.Close()
	for rec, err := range r.Records() {
		if err != nil {
			return false
		}
		if rec.Type != "result" {
			continue
		}
		row, err := report.ParseRow(rec.Line)
		if err == nil && row.Cells[report.ColPort] == "25" && isPublicText(row.Cells[report.ColAddress]) &&
			(row.Cells[report.ColState] == "open" || row.Cells[report.ColState] == "closed") {
			return true
		}
	}
	return false
}

// totals are the rows by state, of all parts of the run.
func (s *sweep) totals() map[string]uint64 {
	totals := map[string]uint64{}
	for state := range s.tally.state {
		word := scanner.State(state).String()
		totals[word] = s.tally.state[state].Load()
		if s.resumed != nil {
			totals[word] += s.resumed.Counts[word]
		}
	}
	return totals
}

func isPublicText(address string) bool {
	addr, err := netip.ParseAddr(address)
	return err == nil && targets.IsPublic(addr)
}
