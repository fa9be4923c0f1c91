package main

import (
	"bufio"
	"fmt"
	"slices"

	"github.com/smtpsweep/smtpsweep/scanner/journal"
	"github.com/smtpsweep/smtpsweep/targets"
)

// copyInsteadOfRows makes the .jsonl outputs of a salvage copies of what is whole
// of a journal: its run can go on from them, which it could not from rows alone.
// Where the plan is damaged too, rows are all that can be had.
func (o *outputs) copyInsteadOfRows(path string) {
	isCopy := func(out output) bool { return out.format.Name == "jsonl" }
	if !slices.ContainsFunc(o.files, isCopy) {
		return
	}
	r, err := journal.OpenSalvage(path)
	if err != nil {
		return // render says why
	}
	defer r.Close()
	if plan, err := r.Plan(targets.Config{}); err != nil || plan == nil {
		o.u.say("The run of %s cannot go on: what it was to contact is damaged as well. Its rows can be read; start a new run.", path)
		return
	}
	for _, out := range o.files {
		if isCopy(out) {
			o.copies = append(o.copies, out)
		}
	}
	o.files = slices.DeleteFunc(o.files, isCopy)
}

// copySound writes the copies of what is whole of a journal. It returns the first
// error, and goes on.
func (o *outputs) copySound(path string, r *rendering) (first error) {
	defer o.temps.remove()
	var done []output
	for _, out := range o.copies {
		if err := o.copyTo(out, path); err != nil {
			if first == nil {
				first = outputError(out.path, err)
			}
			continue
		}
		done = append(done, out)
		rows := plural(r.totals.Rows(), "row", "rows")
		if r.totals.Planned > r.totals.Rows() {
			rows = group(r.totals.Rows()) + " of " + plural(r.totals.Planned, "row", "rows")
		}
		r.wrote = append(r.wrote, fmt.Sprintf("%s (%s)", out.path, rows))
	}
	o.copies = done
	return first
}

// copyTo writes one copy: it is complete or absent.
func (o *outputs) copyTo(out output, path string) error {
	from, err := journal.OpenSalvage(path)
	if err != nil {
		return journalError(path, err)
	}
	defer from.Close()
	s := &sink{output: out, force: o.flags.force}
	if s.file, err = o.temps.create(out.path); err != nil {
		return err
	}
	s.buf = bufio.NewWriterSize(s.file, 64<<10)
	if _, err := from.CopySound(s.buf); err != nil {
		return err
	}
	if err := s.buf.Flush(); err != nil {
		return err
	}
	return s.place()
}
