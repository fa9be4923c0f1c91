package main

import (
	"cmp"
	"context"
	"os"
	"strings"
	"time"

	"github.com/smtpsweep/smtpsweep/report"
	"github.com/smtpsweep/smtpsweep/scanner/egress/policy"
	"github.com/smtpsweep/smtpsweep/scanner/journal"
)

// maxObservations bounds what is judged by a policy: all of it is in memory. A
// policy is about some endpoints of each segment, not about a sweep.
const maxObservations = 200_000

// A sheetJob makes one sheet of the rows of many journals.
type sheetJob struct {
	formats []string
	add     func(row *report.Row, journal string) error
	sheet   func() *report.Sheet
	verdict func() error // the exit code; nil if the sheet has none
}

// runSheet is report --policy and report --matrix.
func runSheet(u *ui, f *reportFlags, args []string) error {
	var job *sheetJob
	var err error
	switch {
	case f.policy != "" && f.matrix:
		return fail(exitUsage, "--policy and --matrix make two sheets: give one of them")
	case f.matrix && len(args) == 0:
		return withHint(fail(exitUsage, "no journal"), "smtpsweep report --matrix A.jsonl B.jsonl")
	case f.matrix:
		job = matrixJob()
	default:
		if job, err = policyJob(u, f.policy); err != nil {
			return err
		}
	}
	paths, err := journalsNamed(args)
	if err != nil {
		return err
	}
	var sheet *report.Sheet
	formats := report.SheetFormats(func() *report.Sheet { return sheet }, job.formats...)
	o, err := checkOutputsOf(u, f.outputFlags, formats, false, append(paths, f.policy)...)
	if err != nil {
		return err
	}
	ctx, stop := withSignals(context.Background())
	defer stop()
	o.stop = ctx.scan
	done, err := await(ctx.now, func() error { // a second signal does not wait for a reader of stdout
		for _, path := range paths {
			if err := o.addJournal(path, f.salvage, job); err != nil {
				return err
			}
		}
		sheet = job.sheet()
		if err := o.writeSheet(sheet); err != nil || job.verdict == nil {
			return err
		}
		return job.verdict()
	})
	if !done {
		o.temps.remove()
	}
	return interruptedOr(ctx.scan, err)
}

// policyJob reads a policy, and judges by it.
func policyJob(u *ui, file string) (*sheetJob, error) {
	p, err := readPolicy(file)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	for _, w := range p.Warnings(now) {
		u.say("Notice: %s", w)
	}
	var seen []policy.Observation
	var v *policy.Verdict
	return &sheetJob{
		formats: []string{"table", "csv", "jsonl", "json", "md", "junit"},
		add: func(row *report.Row, journal string) error {
			if len(seen) == maxObservations {
				return withHint(fail(exitUsage, "more than %s rows are too many to judge by a policy", group(maxObservations)), "scan some endpoints of what each rule is about, not a network")
			}
			seen = append(seen, report.PolicyObservation(row, journal))
			return nil
		},
		sheet: func() *report.Sheet {
			v = p.Judge(seen, now)
			return report.PolicySheet(v, file)
		},
		verdict: func() error { return policyExit(v) },
	}, nil
}

// policyExit is the exit code of a judged policy.
func policyExit(v *policy.Verdict) error {
	switch {
	case v.Count(policy.FailOpen, policy.FailBlocked, policy.Expired) > 0:
		return silentExit(exitBad)
	case v.Count(policy.Untested) > 0:
		return silentExit(exitUndecided)
	}
	return nil
}

// readPolicy reads the file of --policy.
func readPolicy(file string) (*policy.Policy, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fail(exitUsage, "--policy %s: %w", clip(file), plainPathError(err))
	}
	defer f.Close()
	p, err := policy.Parse(clip(file), f)
	if err != nil {
		return nil, fail(exitUsage, "--policy %s: %w", clip(file), plainPathError(err))
	}
	return p, nil
}

// matrixJob folds vantages into one sheet.
func matrixJob() *sheetJob {
	m := &report.Matrix{}
	return &sheetJob{
		formats: []string{"table", "csv", "md"},
		add: func(row *report.Row, _ string) error {
			if err := m.Add(row); err != nil {
				return withHint(fail(exitUsage, "%w", err), "scan fewer endpoints, or take -o x.csv without --matrix")
			}
			return nil
		},
		sheet: m.Sheet,
	}
}

// addJournal gives the final rows of one journal to a job. Each is folded alone:
// runs of one plan from several sources of one vantage are not one run.
func (o *outputs) addJournal(path string, salvage bool, job *sheetJob) error {
	readers, err := openJournals([]string{path}, salvage)
	defer closeAll(readers)
	if err != nil {
		return err
	}
	facts, err := readFacts(readers)
	if err != nil {
		return journalError(path, err)
	}
	err = foldRows(readers, func(row *report.Row) error {
		if err := job.add(row, path); err != nil {
			return err
		}
		return o.stopped()
	})
	if err != nil {
		return err
	}
	o.sayJournal(readers, facts, salvage)
	return nil
}

// maxNotes is how many notes of a journal are said.
const maxNotes = 10

// sayJournal says what may have biased a run, and whether it is complete.
func (o *outputs) sayJournal(readers []*journal.Reader, facts journalFacts, salvage bool) {
	for i, note := range facts.totals.Notes {
		if i == maxNotes {
			o.u.say("May have biased %s: %d more notes in it", readers[0].Path(), len(facts.totals.Notes)-i)
			break
		}
		o.u.say("May have biased %s: %s", readers[0].Path(), note)
	}
	for _, lost := range lostRecords(readers) {
		o.u.say("Lost: %s", lost)
	}
	for _, run := range facts.unfinished {
		if !salvage { // a damaged journal is not gone on with
			o.u.say("The run of %s is not complete: %s. Go on with: smtpsweep scan --resume %s", run.path, run.how, shellWord(run.path))
		}
	}
}

// writeSheet writes the sheet to every output, and says which files there are.
func (o *outputs) writeSheet(sheet *report.Sheet) (err error) {
	sinks := o.openSinks(report.Header{}, true)
	defer o.temps.remove()
	for _, s := range sinks {
		if failed := s.commit(report.Totals{}); failed != nil {
			err = cmp.Or(err, failed)
		} else if s.path != "-" {
			o.u.say("Wrote %s (%s).", s.path, plural(uint64(len(sheet.Rows)), "row", "rows"))
		}
	}
	return err
}

// sheetFormatHelp is the help of -f where a sheet may be made, too.
func sheetFormatHelp(usage string) string {
	return strings.Replace(usage, " (default table)", "; with --policy junit too (default table)", 1)
}
