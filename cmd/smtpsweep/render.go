package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/smtpsweep/smtpsweep/report"
	"github.com/smtpsweep/smtpsweep/scanner/journal"
	"github.com/smtpsweep/smtpsweep/targets"
)

// A rendering is what came of writing reports from journals.
type rendering struct {
	totals     report.Totals
	advice     []string
	wrote      []string
	lost       []string // what was damaged
	unfinished []unfinished
	audit      bool // of egress: what is to be said is on its screen
}

// An unfinished run has not decided every endpoint that it could.
type unfinished struct{ path, how string }

// render folds journals into every output. withStdout is false where stdout
// was streamed while the run went on. If an output could not be written there is
// an error and a rendering, of what else was.
func (o *outputs) render(paths []string, salvage, withStdout bool, elapsed time.Duration) (*rendering, error) {
	readers, err := openJournals(paths, salvage)
	defer closeAll(readers)
	if err != nil {
		return nil, err
	}
	if audit, err := isAudit(readers); err != nil {
		return nil, err
	} else if audit {
		return o.renderAudit(readers, withStdout)
	}
	facts, err := readFacts(readers)
	if err != nil {
		return nil, journalError(readers[0].Path(), err)
	}
	sinks := o.openSinks(facts.header, withStdout)
	defer o.temps.remove()
	r := &rendering{totals: facts.totals, unfinished: facts.unfinished}
	if elapsed > 0 {
		r.totals.Elapsed = elapsed
	}
	var advisor report.Advisor
	err = foldRows(readers, func(row *report.Row) error {
		r.totals.Count(row)
		advisor.Add(row)
		if !writeRow(sinks, row) {
			return errOutput // nobody takes the rest
		}
		return o.stopped()
	})
	if err != nil && !errors.Is(err, errOutput) {
		return nil, err
	}
	if r.lost = lostRecords(readers); len(r.lost) > 0 && r.totals.Rows() == 0 {
		return nil, fail(exitJournal, "%s: not a row of it can be read", strings.Join(paths, ", "))
	}
	r.totals.Complete = len(r.unfinished) == 0 && r.totals.Rows() >= r.totals.Planned
	r.advice = advisor.Lines()
	return r, r.commit(sinks)
}

// writeRow writes a row to all outputs. It reports whether one of them took it;
// there may be none.
func writeRow(sinks []*sink, row *report.Row) bool {
	took := len(sinks) == 0
	for _, s := range sinks {
		s.row(row)
		took = took || s.err == nil
	}
	return took
}

// commit ends all outputs. It returns the first error, and goes on.
func (r *rendering) commit(sinks []*sink) (err error) {
	for _, s := range sinks {
		if failed := s.commit(r.totals); failed != nil {
			err = cmp.Or(err, failed)
		} else if s.path != "-" {
			r.wrote = append(r.wrote, fmt.Sprintf("%s (%s)", s.path, r.rowsText(s.rows)))
		}
	}
	return err
}

// rowsText says how many rows an output has, and whether that is all.
func (r *rendering) rowsText(n uint64) string {
	text := plural(n, "row", "rows")
	if len(r.unfinished) == 0 {
		return text
	}
	if r.totals.Planned > n {
		text = group(n) + " of " + plural(r.totals.Planned, "row", "rows")
	}
	return text + ": the run is not complete"
}

// lostRecords says what a salvage left out.
func lostRecords(readers []*journal.Reader) (lost []string) {
	for _, r := range readers {
		if n := r.Skipped(); n > 0 {
			lost = append(lost, fmt.Sprintf("%s of %s could not be read", plural(uint64(n), "damaged record", "damaged records"), r.Path()))
		}
	}
	return lost
}

func openJournals(paths []string, salvage bool) ([]*journal.Reader, error) {
	var readers []*journal.Reader
	for _, path := range paths {
		open := journal.Open
		if salvage {
			open = journal.OpenSalvage
		}
		r, err := open(path)
		if err != nil {
			return readers, journalError(path, err)
		}
		readers = append(readers, r)
	}
	return readers, nil
}

func closeAll(readers []*journal.Reader) {
	for _, r := range readers {
		r.Close()
	}
}

// journalFacts are what a report says of the run beside its rows.
type journalFacts struct {
	header     report.Header
	totals     report.Totals
	unfinished []unfinished
}

// readFacts reads the run record, the notes and the end.
func readFacts(readers []*journal.Reader) (journalFacts, error) {
	var f journalFacts
	var planned plannedRows
	for i, r := range readers {
		run := r.Run()
		ports, err := portsOf(run)
		if err != nil {
			return f, err
		}
		if i == 0 {
			f.header = report.Header{
				Args: strings.Join(run.Args, " "), Version: run.Version, Engine: "connect", Started: run.Started,
				Ports: ports, Vantage: run.Vantage, Source: run.Source,
			}
		}
		planned.add(&run)
		if err := f.readRecords(r, i == 0); err != nil {
			return f, err
		}
	}
	f.totals.Planned = planned.total()
	f.header.Endpoints = f.totals.Planned
	return f, nil
}

// plannedRows counts the rows that journals have together if they are whole:
// those of one plan and vantage are folded into one.
type plannedRows struct {
	loose uint64 // of journals without a plan
	plans map[planOf]map[string]uint64
}

type planOf struct{ hash, vantage string }

func (p *plannedRows) add(run *journal.Run) {
	if run.PlanHash == "" {
		p.loose += run.Endpoints
		return
	}
	plan := planOf{run.PlanHash, run.Vantage}
	if p.plans == nil {
		p.plans = map[planOf]map[string]uint64{}
	}
	if p.plans[plan] == nil {
		p.plans[plan] = map[string]uint64{}
	}
	p.plans[plan][run.Shard] = max(p.plans[plan][run.Shard], run.Endpoints)
}

func (p *plannedRows) total() uint64 {
	n := p.loose
	for _, parts := range p.plans {
		if whole, ok := parts[""]; ok { // the parts are in it
			n += whole
			continue
		}
		for _, part := range parts {
			n += part
		}
	}
	return n
}

// aside is what note and end records have.
type aside struct {
	Time   time.Time `json:"time"`
	Code   string    `json:"code"`
	Text   string    `json:"text"`
	Reason string    `json:"reason"`
}

func (f *journalFacts) readRecords(r *journal.Reader, first bool) error {
	ended, how := r.Run().Started, stillRunning
	for rec, err := range r.Records() {
		if err != nil {
			return err
		}
		var a aside
		if rec.Type != "sync" && rec.Type != "end" {
			how = stillRunning // it was gone on with
		}
		switch rec.Type {
		case "run":
			if first {
				f.header.RunRecord = bytes.Clone(rec.Line)
			}
		case "note":
			if json.Unmarshal(rec.Line, &a) == nil && !quietNote(a.Code) {
				f.totals.Notes = append(f.totals.Notes, a.Code+": "+a.Text)
			}
		case "end":
			if json.Unmarshal(rec.Line, &a) == nil {
				ended, how = a.Time, howEnded(a.Reason)
			}
		}
	}
	if how != "" {
		f.unfinished = append(f.unfinished, unfinished{r.Path(), how})
	}
	f.totals.Elapsed += ended.Sub(r.Run().Started)
	f.totals.Ended = ended
	return nil
}

// stillRunning is said of a run without an end record.
const stillRunning = "it still goes on, or was killed"

// howEnded says what an end record means for the run, or "" if it is complete.
func howEnded(reason string) string {
	switch reason {
	case endDone:
		return ""
	case "interrupted":
		return "it was interrupted"
	}
	return "it ended with an error"
}

// quietNote reports whether a note is for the journal and not for the totals.
func quietNote(code string) bool { return code == "resumed" }

// foldRows gives every final row, in plan order.
func foldRows(readers []*journal.Reader, each func(*report.Row) error) error {
	var row report.Row // encoders keep nothing of it, and it is too large to make one for each
	for entry, err := range journal.Fold(readers, journal.FoldOptions{}) {
		if err != nil {
			return journalError(readers[0].Path(), err)
		}
		if row, err = rowOf(entry); err != nil {
			return fail(exitJournal, "%w", err)
		}
		if err := each(&row); err != nil {
			return err
		}
	}
	return nil
}

func rowOf(entry journal.Entry) (report.Row, error) {
	if entry.Silent {
		source := entry.Run.Source
		if addr, err := netip.ParseAddr(source); err != nil || addr.Is4() != entry.Target.Addr.Is4() {
			source = "" // the run's first target was of the other family
		}
		return report.SilentRow(entry.Target, entry.Run.Vantage, source, entry.Attempts, entry.At), nil
	}
	return report.ParseRow(entry.Line)
}

// sayTotals prints what every table ends with, and for other formats stderr gets.
func (o *outputs) sayTotals(r *rendering, journalPath string) error {
	if r.audit {
		o.sayWrote(r)
		return nil
	}
	lines := []string{report.Summary(r.totals)}
	for _, lost := range r.lost {
		lines = append(lines, "Lost: "+oneLine(lost))
	}
	for i, note := range r.totals.Notes {
		if i == 10 {
			lines = append(lines, fmt.Sprintf("May have biased this: %d more notes in the journal", len(r.totals.Notes)-i))
			break
		}
		lines = append(lines, "May have biased this: "+report.Clean(note))
	}
	label := "Look at: "
	for _, advice := range r.advice {
		lines = append(lines, label+advice)
		label = strings.Repeat(" ", len(label))
	}
	var err error
	for _, line := range lines {
		if o.stdout.Name == "table" && !o.u.quiet {
			_, writeErr := fmt.Fprintln(o.u.out, line)
			err = errors.Join(err, writeErr)
		} else {
			o.u.say("%s", line)
		}
	}
	o.sayWrote(r)
	if journalPath != "" {
		o.u.say("Journal: %s (again, in any format: smtpsweep report last -o mail.xml)", journalPath)
	}
	if err != nil {
		return outputError("stdout", err)
	}
	return nil
}

// sayWrote names the files that were written.
func (o *outputs) sayWrote(r *rendering) {
	for _, w := range r.wrote {
		o.u.say("Wrote %s.", w)
	}
}

// portsOf returns the ports of a run.
func portsOf(run journal.Run) ([]targets.Port, error) {
	c, err := configOf(run)
	if err != nil || c.Ports == "" {
		return nil, nil // a journal that was salvaged, or has no plan
	}
	return targets.ParsePorts(c.Ports)
}
