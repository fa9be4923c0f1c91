package main

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/smtpsweep/smtpsweep/report"
	"github.com/smtpsweep/smtpsweep/scanner/journal"
)

// isAudit reports whether journals are of egress, and refuses a mixture.
func isAudit(readers []*journal.Reader) (bool, error) {
	n := 0
	for _, r := range readers {
		if auditFacts(r.Run()) != nil {
			n++
		}
	}
	if n > 0 && n < len(readers) {
		return false, withHint(fail(exitUsage, "some of the journals are of egress, and some are not"), "render them apart")
	}
	return n > 0, nil
}

// auditFacts returns what the run record of an audit says of it, or nil.
func auditFacts(run journal.Run) *report.AuditFacts {
	var c auditConfig
	if json.Unmarshal(run.Config, &c) != nil {
		return nil
	}
	return c.Audit
}

// renderAudit writes the outputs of audits.
func (o *outputs) renderAudit(readers []*journal.Reader, withStdout bool) (*rendering, error) {
	audit, r, err := readAudit(readers)
	if err != nil {
		return nil, err
	}
	files, stdout := slices.Clone(o.files), o.stdout
	defer func() { o.files, o.stdout = files, stdout }()
	o.files = nil
	for _, out := range files {
		if out.format, err = report.AuditFormat(out.format.Name, audit); err != nil {
			return nil, fail(exitUsage, "-o %s: %w", clip(out.path), err)
		}
		o.files = append(o.files, out)
	}
	if o.stdout, err = report.AuditFormat(stdout.Name, audit); err != nil {
		return nil, fail(exitUsage, "-f: %w", err)
	}
	sinks := o.openSinks(audit.Header, withStdout && !o.silent)
	defer o.temps.remove()
	for _, s := range sinks {
		s.rows = uint64(len(audit.Verdicts))
	}
	return r, r.commit(sinks)
}

// readAudit reads journals of audits.
func readAudit(readers []*journal.Reader) (*report.Audit, *rendering, error) {
	run := readers[0].Run()
	audit := &report.Audit{Facts: *auditFacts(run), Header: report.Header{
		Args: strings.Join(run.Args, " "), Version: run.Version, Started: run.Started, Vantage: run.Vantage, Source: run.Source,
	}}
	r := &rendering{audit: true}
	for _, reader := range readers {
		how := stillRunning
		for rec, err := range reader.Records() {
			if err != nil {
				return nil, nil, journalError(reader.Path(), err)
			}
			var a aside
			switch rec.Type {
			case "note":
				if json.Unmarshal(rec.Line, &a) == nil && !quietNote(a.Code) {
					audit.Notes = append(audit.Notes, report.Clean(a.Code+": "+a.Text))
				}
			case "end":
				if json.Unmarshal(rec.Line, &a) == nil {
					how, audit.Ended = howEnded(a.Reason), a.Time
				}
			}
			if err := audit.Add(rec.Type, rec.Line); err != nil {
				return nil, nil, fail(exitJournal, "%s: line %d: %w", reader.Path(), rec.Number, err)
			}
		}
		if how != "" {
			r.unfinished = append(r.unfinished, unfinished{reader.Path(), how})
		}
	}
	r.lost = lostRecords(readers)
	return audit, r, nil
}
