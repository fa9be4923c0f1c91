package report

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/mattn/go-runewidth"
	"github.com/muesli/termenv"
	"github.com/olekukonko/tablewriter"
	"github.com/olekukonko/tablewriter/renderer"
	"github.com/olekukonko/tablewriter/tw"
)

var tableFormat = Format{
	Name: "table", Help: "for people: the rows that matter, the rest counted", Endings: []string{".txt"}, New: newTable,
}

// tableHead are the columns of the table.
var tableHead = []string{"ADDRESS", "PORT", "STATE", "REASON", "ANSWERS", "ENCRYPTION", "NOTE"}

const (
	tableBlock   = 1000 // rows that are laid out together; tablewriter keeps them, and the page must not grow with the run
	tableGap     = 2    // spaces between columns
	maxAnswers   = 32   // columns of ANSWERS, cut beyond
	maxAddress   = 45   // columns of ADDRESS: the longest IPv6 address has 39; a name in its place is cut
	maxCellWidth = 160  // columns of any other cell
	minNote      = 48   // columns of a terminal that a long NOTE needs beside the others: nearly all words of ours fit
	minLast      = 24   // columns that the last column keeps on any terminal
)

// A tableEncoder lays out blocks of rows with tablewriter.
type tableEncoder struct {
	w     io.Writer
	o     Options
	list  listing
	block [][]string
	wrote bool // a block was written
}

func newTable(w io.Writer, _ Header, o Options) (Encoder, error) {
	e := &tableEncoder{w: w, o: o}
	e.list = listing{show: o.Show, emit: e.host}
	return e, nil
}

// Row takes one row.
func (e *tableEncoder) Row(r *Row) error { return e.list.add(r) }

// host lays out the lines of one host: its address once, its name beside the
// first line.
func (e *tableEncoder) host(lines []line) error {
	named := false
	for i, ln := range lines {
		cells := []string{"", ln.port, ln.state, ln.reason, cut(ln.answers, maxAnswers, e.o.ASCII), ln.encryption, ln.note}
		if i == 0 {
			cells[0] = firstOf(ln.address, ln.host, ln.target)
		}
		if name := ln.name; ln.host != "" && i == 0 && ln.address != "" {
			cells[6], named = join(ln.host, ln.note), true
		} else if name != "" && !named && ln.host == "" {
			cells[6], named = join(name, ln.note), true
		}
		for j := range cells {
			if e.o.ASCII {
				cells[j] = ascii(cells[j])
			}
			cells[j] = cut(cells[j], maxCellWidth, e.o.ASCII)
		}
		cells[0] = cut(cells[0], maxAddress, e.o.ASCII)
		e.block = append(e.block, cells)
	}
	if len(e.block) < tableBlock {
		return nil
	}
	return e.flush()
}

// join joins a name and a note, which may begin with the name itself.
func join(name, note string) string {
	switch {
	case note == "":
		return name
	case strings.HasPrefix(note, name+" "):
		return note
	}
	return name + "; " + note
}

// flush lays out the rows that are held.
func (e *tableEncoder) flush() error {
	if len(e.block) == 0 {
		return nil
	}
	head, below := tableHead, []string(nil)
	if e.o.Width > 0 {
		left := e.noteRoom(head)
		need := min(minNote, e.width(head, len(head)-1)) // many notes are short, or empty
		if left < need {
			head = e.dropEmpty(head)
			left = e.noteRoom(head)
		}
		if left >= need {
			e.cutColumn(len(head)-1, left)
		} else {
			head, below = e.narrow(head)
		}
	}
	text, err := layOut(head, e.block, below, e.o.Color)
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

// Columns of the table that are treated specially. The last one is NOTE.
const (
	colPort       = 1
	colReason     = 3
	colAnswers    = 4
	colEncryption = 5
)

// noteRoom returns how many columns of the terminal are left for the last column
// of the table.
func (e *tableEncoder) noteRoom(head []string) int { return e.o.Width - e.widths(head, len(head)-1) }

// dropEmpty takes away ENCRYPTION and ANSWERS where no row has any.
func (e *tableEncoder) dropEmpty(head []string) []string {
	for _, col := range []int{colEncryption, colAnswers} {
		if slices.ContainsFunc(e.block, func(row []string) bool { return row[col] != "" }) {
			continue
		}
		head = without(head, col)
		for i, row := range e.block {
			e.block[i] = without(row, col)
		}
	}
	return head
}

// without returns a copy of cells without one of them.
func without(cells []string, col int) []string { return slices.Concat(cells[:col], cells[col+1:]) }

// widths returns how many columns of the terminal the first n columns of the
// table take, gaps included.
func (e *tableEncoder) widths(head []string, n int) (sum int) {
	for col := range n {
		sum += e.width(head, col) + tableGap
	}
	return sum
}

// width returns how many columns of the terminal a column of the table takes.
func (e *tableEncoder) width(head []string, col int) int {
	width := columns.StringWidth(head[col])
	for _, row := range e.block {
		width = max(width, columns.StringWidth(row[col]))
	}
	return width
}

// cutColumn cuts the cells of a column of the table.
func (e *tableEncoder) cutColumn(col, width int) {
	for _, row := range e.block {
		row[col] = cut(row[col], width, e.o.ASCII)
	}
}

// narrow lays out for a terminal that has no room for notes: they go below
// their line, with the reason unless the state says it (an open port answered
// with SYN-ACK, a closed one refused), and the last column is cut.
func (e *tableEncoder) narrow(head []string) (narrower, below []string) {
	note := len(head) - 1
	for i, row := range e.block {
		n := row[note]
		if r := row[colReason]; r != "syn-ack" && r != "conn-refused" {
			n = strings.TrimSuffix(r+"; "+n, "; ")
		}
		below = append(below, cut(n, e.o.Width-len(noteIndent), e.o.ASCII))
		e.block[i] = without(row[:note], colReason)
	}
	head = without(head[:note], colReason)
	e.cutColumn(len(head)-1, max(minLast, e.noteRoom(head)))
	return head, below
}

// noteIndent stands before a note that is below its line.
const noteIndent = "      "

// layOut lays out rows, and puts a line below those that have one. The first
// column differs from row to row, and the others of a large sweep hardly ever do:
// tablewriter, which takes as long for a row as a probe does, gets each kind once.
func layOut(head []string, rows [][]string, below []string, color bool) ([]byte, error) {
	var kinds [][]string
	of := make([]int, len(rows))
	known := map[string]int{}
	width := columns.StringWidth(head[0])
	for i, row := range rows {
		width = max(width, columns.StringWidth(row[0]))
		key := strings.Join(row[1:], "\n")
		kind, ok := known[key]
		if !ok {
			kind = len(kinds)
			known[key] = kind
			kinds = append(kinds, row[1:])
		}
		of[i] = kind
	}
	lines, err := layOutKinds(head[1:], kinds)
	if err != nil {
		return nil, err
	}
	if color {
		colorStates(lines[1:], kinds)
	}
	out := appendLine(nil, head[0], width, lines[0])
	for i, row := range rows {
		out = appendLine(out, row[0], width, lines[1+of[i]])
		if i < len(below) && below[i] != "" {
			out = append(out, noteIndent+below[i]+"\n"...)
		}
	}
	return out, nil
}

// appendLine appends the first cell of a row, as wide as the column, and the others.
func appendLine(dst []byte, first string, width int, others []byte) []byte {
	dst = append(dst, first...)
	for range width + tableGap - columns.StringWidth(first) {
		dst = append(dst, ' ')
	}
	return append(append(dst, others...), '\n')
}

// layOutKinds lets tablewriter lay out rows without their first cell, and returns
// the header and a line for each. tablewriter pads the last column; that goes.
func layOutKinds(head []string, rows [][]string) ([][]byte, error) {
	var buf bytes.Buffer
	left, right := tw.AlignLeft, tw.AlignRight
	t := tablewriter.NewTable(&buf,
		tablewriter.WithRenderer(renderer.NewBlueprint(tw.Rendition{
			Borders:  tw.BorderNone,
			Settings: tw.Settings{Separators: tw.SeparatorsNone, Lines: tw.LinesNone},
		})),
		tablewriter.WithEastAsian(tw.Off), // as columns
		tablewriter.WithHeaderAutoFormat(tw.Off), tablewriter.WithTrimSpace(tw.Off), tablewriter.WithTrimLine(tw.Off),
		tablewriter.WithHeaderAutoWrap(tw.WrapNone), tablewriter.WithRowAutoWrap(tw.WrapNone),
		tablewriter.WithPadding(tw.Padding{Right: strings.Repeat(" ", tableGap), Overwrite: true}),
		tablewriter.WithAlignment(tw.Alignment{right, left, left, left, left, left}[:len(head)]),
	)
	t.Header(head)
	for _, row := range rows {
		if err := t.Append(slices.Clone(row)); err != nil { // it is kept
			return nil, err
		}
	}
	if err := t.Render(); err != nil {
		return nil, err
	}
	lines := slices.Collect(bytes.Lines(buf.Bytes())) // one for each: no cell has two
	for i := range lines {
		lines[i] = bytes.TrimRight(lines[i], " \n")
	}
	if len(lines) != 1+len(rows) {
		return nil, fmt.Errorf("table: %d lines for %d rows", len(lines), len(rows))
	}
	return lines, nil
}

// stateColors are for what answers, what says no, what is silent, what we do not know.
var stateColors = map[string]termenv.Color{
	"open": termenv.ANSIGreen, "closed": termenv.ANSIRed, "filtered": termenv.ANSIYellow, "unknown": termenv.ANSIMagenta,
}

// colorStates colours the state in each line of a row that begins with port and state.
func colorStates(lines [][]byte, rows [][]string) {
	width := columns.StringWidth(tableHead[colPort])
	for _, row := range rows {
		width = max(width, columns.StringWidth(row[0]))
	}
	for i, row := range rows {
		if c, ok := stateColors[row[1]]; ok {
			at := width - columns.StringWidth(row[0]) + len(row[0]) + tableGap
			state := termenv.String(row[1]).Foreground(c).String()
			lines[i] = slices.Concat(lines[i][:at], []byte(state), lines[i][at+len(row[1]):])
		}
	}
}

// columns measures text in columns of a terminal. It does not ask the locale
// whether ambiguous characters are wide: a file must not depend on who wrote it.
var columns = &runewidth.Condition{StrictEmojiNeutral: true}

// cut cuts a text to a width in columns of a terminal, with an ellipsis.
func cut(s string, width int, plainDots bool) string {
	if len(s) <= width || columns.StringWidth(s) <= width {
		return s
	}
	dots := "…"
	if plainDots {
		dots = "..."
	}
	return columns.Truncate(s, width, dots)
}

// ascii writes what is not ASCII as an escape, for terminals that cannot show it.
func ascii(s string) string {
	if plain(s) {
		return s
	}
	var b strings.Builder
	for _, r := range strings.ReplaceAll(s, "…", "...") {
		if r < 0x7f {
			b.WriteRune(r)
		} else {
			b.WriteString(escapeRune(r))
		}
	}
	return b.String()
}

// Close writes the rows that are left, and the counts.
func (e *tableEncoder) Close(Totals) error {
	if err := e.list.close(); err != nil {
		return err
	}
	if err := e.flush(); err != nil {
		return err
	}
	var b strings.Builder
	for _, l := range e.list.foldLines() {
		if e.o.ASCII {
			l = ascii(l)
		}
		b.WriteString(l + "\n")
	}
	_, err := io.WriteString(e.w, b.String())
	return err
}
