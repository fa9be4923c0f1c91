package report

import (
	"io"
	"strings"
)

var tableFormat = Format{
	Name: "table", Help: "for people: the rows that matter, the rest counted", Endings: []string{".txt"}, New: newTable,
}

// tableBlock is how many rows are laid out together: tablewriter keeps them, and
// the page must not grow with the run.
const tableBlock = 1000

// A tableEncoder writes rows for people, in blocks.
type tableEncoder struct {
	w     io.Writer
	o     Options
	list  listing
	block []tableRow
	wrote bool // a block was written
}

func newTable(w io.Writer, _ Header, o Options) (Encoder, error) {
	e := &tableEncoder{w: w, o: o}
	e.list = listing{show: o.Show, emit: e.host}
	return e, nil
}

// Row takes one row.
func (e *tableEncoder) Row(r *Row) error { return e.list.add(r) }

// host takes the lines of one host. What is the same for all of them is said
// once: the address, the name, and why nothing was probed.
func (e *tableEncoder) host(lines []line) error {
	named := false
	for i, ln := range lines {
		row := tableRow{inPort: ln.port, inState: ln.state, inReason: ln.reason, inAnswers: ln.answers, inEncrypted: ln.encryption, inNote: ln.note}
		if i > 0 && ln.state == "unknown" && ln.note == lines[i-1].note {
			row[inNote] = ""
		}
		switch {
		case i == 0:
			row[inAddress] = ln.place()
			row[inNote] = joinNotes(firstOf(ln.via(), ln.name), row[inNote])
			named = ln.via() != "" || ln.name != ""
		case !named && ln.via() == "" && ln.name != "":
			row[inNote], named = joinNotes(ln.name, row[inNote]), true
		}
		e.block = append(e.block, row)
	}
	if len(e.block) < tableBlock {
		return nil
	}
	return e.flush()
}

// joinNotes joins two notes, of which either may be missing.
func joinNotes(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "; " + b
}

// flush lays out the rows that are held.
func (e *tableEncoder) flush() error {
	if len(e.block) == 0 {
		return nil
	}
	text, err := layOut(e.block, e.o)
	if err != nil {
		return err
	}
	if e.wrote {
		text = append([]byte{'\n'}, text...)
	}
	e.wrote = true
	e.block = nil
	_, err = e.w.Write(text)
	return err
}

// Close writes the rows that are left, the counts, and whether that is all.
func (e *tableEncoder) Close(t Totals) error {
	if err := e.list.close(); err != nil {
		return err
	}
	if err := e.flush(); err != nil {
		return err
	}
	lines := e.list.foldLines()
	if !t.Complete {
		lines = append(lines, t.incomplete())
	}
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(l + "\n")
	}
	_, err := io.WriteString(e.w, b.String())
	return err
}
