package main

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/smtpsweep/smtpsweep/report"
	"github.com/smtpsweep/smtpsweep/scanner/journal"
)

// checkPathOutputs is checkOutputs for reports of traces, which have fewer formats.
func checkPathOutputs(u *ui, flags outputFlags, isScan bool, read ...string) (*outputs, error) {
	if _, err := report.LookupPath(cmp.Or(flags.format, "table")); err != nil {
		return nil, fail(exitUsage, "-f: %w", err)
	}
	for _, name := range flags.outputs {
		if name == "-" || name == "" {
			continue // checkOutputs sees to it
		}
		if _, err := report.PathByEnding(name); err != nil {
			return nil, fail(exitUsage, "-o %w", err)
		}
	}
	return checkOutputs(u, flags, isScan, read...)
}

// teeTo has stdout be the journal's own lines.
func (o *outputs) teeTo(w *journal.Writer) {
	o.buffer = bufio.NewWriterSize(o.u.out, 32<<10)
	w.Tee(o.line)
}

// writePaths writes a report of traces to all outputs, but stdout if that was streamed. It returns the first error, and goes on.
func (o *outputs) writePaths(p *report.PathReport) (err error) {
	defer o.temps.remove()
	for _, out := range o.files {
		if failed := o.writePathFile(out, p); failed != nil {
			err = cmp.Or(err, outputError(out.path, failed))
			continue
		}
		o.u.say("Wrote %s (%s).", out.path, plural(uint64(len(p.Rows)), "row", "rows"))
	}
	if o.buffer != nil {
		return err
	}
	format, lookErr := report.LookupPath(o.stdout.Name)
	if lookErr != nil {
		return lookErr
	}
	if failed := format.Write(o.u.out, p, o.options(true)); failed != nil {
		err = cmp.Or(err, outputError("stdout", failed))
	}
	return err
}

func (o *outputs) writePathFile(out output, p *report.PathReport) error {
	format, err := report.LookupPath(out.format.Name)
	if err != nil {
		return err
	}
	s := &sink{output: out, force: o.flags.force}
	if s.file, err = o.temps.create(out.path); err != nil {
		return err
	}
	if err := format.Write(s.file, p, o.options(false)); err != nil {
		return err
	}
	return s.place()
}

// areTraces reports whether journals are those of traces; it is an error if only some are.
func areTraces(paths []string) (bool, error) {
	traces := 0
	for _, name := range paths {
		r, err := journal.Open(name)
		if err != nil {
			return false, nil // whoever reads it says what is wrong
		}
		c, err := configOf(r.Run())
		r.Close()
		if err == nil && c.Command == traceCommand {
			traces++
		}
	}
	if traces > 0 && traces < len(paths) {
		return false, fail(exitUsage, "journals of scans and of traces do not make one report: %s", clip(strings.Join(paths, ", ")))
	}
	return traces > 0, nil
}

// reportTraces is report for the journals of traces.
func reportTraces(u *ui, f *reportFlags, paths []string) error {
	o, err := checkPathOutputs(u, f.outputFlags, false, paths...)
	if err != nil {
		return err
	}
	readers, err := openJournals(paths, f.salvage)
	defer closeAll(readers)
	if err != nil {
		return err
	}
	p := &report.PathReport{}
	how := ""
	for i, r := range readers {
		run := r.Run()
		if i == 0 {
			p.Header = report.Header{Args: strings.Join(run.Args, " "), Version: run.Version, Started: run.Started, Vantage: run.Vantage, Source: run.Source}
		}
		ended, err := readTrace(p, r, i == 0)
		if err != nil {
			return journalError(r.Path(), err)
		}
		if ended != "" {
			how = fmt.Sprintf("The trace of %s is not complete: %s.", r.Path(), ended)
		}
	}
	if err := o.writePaths(p); err != nil {
		return err
	}
	if how != "" {
		u.say("%s", how)
	}
	return nil
}

// readTrace adds the hops of a journal, and says how it ended, or "" if it is complete.
func readTrace(p *report.PathReport, r *journal.Reader, first bool) (how string, err error) {
	how = stillRunning
	for rec, err := range r.Records() {
		if err != nil {
			return how, err
		}
		switch rec.Type {
		case "run":
			if first {
				p.Header.RunRecord = bytes.Clone(rec.Line)
			}
		case report.HopType:
			row, err := report.ParseHopRow(rec.Line)
			if err != nil {
				return how, err
			}
			p.Rows = append(p.Rows, row)
		case "end":
			var a aside
			if json.Unmarshal(rec.Line, &a) == nil {
				how = howEnded(a.Reason)
			}
		}
	}
	return how, nil
}
