package report

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/mattn/go-runewidth"
	"github.com/muesli/termenv"
	"github.com/olekukonko/tablewriter"
	"github.com/olekukonko/tablewriter/renderer"
	"github.com/olekukonko/tablewriter/tw"
)

// A tableRow is a row in the words of the table.
type tableRow [inNote + 1]string

// tableHead are the columns of the table.
var tableHead = tableRow{"ADDRESS", "PORT", "STATE", "REASON", "ANSWERS", "ENCRYPTION", "NOTE"}

// The places of the columns.
const (
	inAddress = iota
	inPort
	inState
	inReason
	inAnswers
	inEncrypted
	inNote
)

// Widths of the table, in columns of a terminal.
const (
	tableGap      = 2  // between columns
	maxAddress    = 45 // of ADDRESS: the longest IPv6 address has 39; a longer name stands on a line of its own
	minAddress    = 15 // of ADDRESS on a narrow terminal: any IPv4 address
	maxAnswers    = 24 // of ANSWERS on a narrow terminal; nearly all products fit
	maxEncryption = 29 // of ENCRYPTION on a terminal: what is longer ("EXPIRED since 2026-08-14") reaches into NOTE
	minNote       = 24 // of NOTE, or it is no column: "ICMP 3/13 from 192.0.2.1"
)

// noteIndent stands before what is below its line.
const noteIndent = "      "

// A layout says which columns a table has, and how wide they are. Nothing that we
// say is cut: what does not fit stands below its line.
type layout struct {
	width      int  // of the terminal; 0 is no limit
	address    int  // of ADDRESS
	reason     bool // is REASON a column? Else it stands in the note, unless the state says it
	answers    int  // of ANSWERS; 0: no column
	encryption int  // of ENCRYPTION; 0: no column
	note       int  // of NOTE; 0: no column, all notes stand below
}

// chooseLayout returns the layout of rows for a terminal: as many columns as fit.
func chooseLayout(rows []tableRow, width int) layout {
	l := layout{width: width, reason: true}
	l.address = widest(rows, inAddress, maxAddress)
	l.answers = widest(rows, inAnswers, 0)
	l.encryption = widest(rows, inEncrypted, 0)
	l.note = widest(rows, inNote, 0)
	if width == 0 || l.before(rows)+l.note <= width {
		return l
	}
	l.address = widest(rows, inAddress, min(maxAddress, max(minAddress, width/4)))
	full, tight, need := l.encryption, widest(rows, inEncrypted, maxEncryption), min(minNote, l.note)
	if !anyHas(rows, inAnswers) {
		l.answers = 0
	}
	if !anyHas(rows, inEncrypted) {
		full, tight = 0, 0
	}
	for _, l.reason = range []bool{true, false} {
		for _, l.encryption = range []int{full, tight} {
			if l.note = width - l.before(rows); l.note >= need {
				return l
			}
		}
	}
	l.note = 0
	if l.answers > maxAnswers {
		l.answers = widest(rows, inAnswers, maxAnswers)
	}
	return l
}

// anyHas reports whether any row has a cell in a column.
func anyHas(rows []tableRow, col int) bool {
	return slices.ContainsFunc(rows, func(r tableRow) bool { return r[col] != "" })
}

// widest returns the width of a column: of its head, or of the widest cell that
// is not wider than limit, if there is one (0 is none).
func widest(rows []tableRow, col, limit int) int {
	width := len(tableHead[col])
	for i := range rows {
		if w := columns.StringWidth(rows[i][col]); w > width && (limit == 0 || w <= limit) {
			width = w
		}
	}
	return width
}

// before returns how many columns of the terminal stand before NOTE.
func (l *layout) before(rows []tableRow) int {
	sum := l.address + tableGap
	add := func(width int) { sum += width + tableGap }
	add(widest(rows, inPort, 0))
	add(widest(rows, inState, 0))
	if l.reason {
		add(widest(rows, inReason, 0))
	}
	if l.answers > 0 {
		add(l.answers)
	}
	if l.encryption > 0 {
		add(l.encryption)
	}
	return sum
}

// head returns the names of the columns behind ADDRESS.
func (l *layout) head() []string {
	head := tableHead
	if l.encryption == 0 {
		head[inEncrypted] = ""
	}
	if l.note == 0 {
		head[inNote] = ""
	}
	return l.pick(&head)
}

// pick returns the cells behind ADDRESS of the columns that the layout has. The
// last two are one for tablewriter, so that one can reach into the other.
func (l *layout) pick(r *tableRow) []string {
	cells := []string{r[inPort], r[inState]}
	if l.reason {
		cells = append(cells, r[inReason])
	}
	if l.answers > 0 {
		cells = append(cells, r[inAnswers])
	}
	last := r[inEncrypted] + r[inNote]
	if l.encryption > 0 && r[inNote] != "" {
		gap := max(0, l.encryption-columns.StringWidth(r[inEncrypted])) + tableGap
		last = r[inEncrypted] + strings.Repeat(" ", gap) + r[inNote]
	}
	return append(cells, last)
}

// place returns the cells of a row behind ADDRESS, and what stands below them;
// before is what l.before says.
func (l *layout) place(r tableRow, before int) (cells []string, below string) {
	if !l.reason && r[inReason] != "syn-ack" && r[inReason] != "conn-refused" { // else the state says it
		r[inNote] = joinNotes(r[inReason], r[inNote])
	}
	if l.width == 0 {
		return l.pick(&r), ""
	}
	encrypted := columns.StringWidth(r[inEncrypted])
	if l.note == 0 || encrypted > l.encryption || columns.StringWidth(r[inNote]) > l.note {
		r[inNote], below = "", r[inNote]
	}
	if room := l.width - (before - l.encryption - tableGap); encrypted > room {
		var rest string
		r[inEncrypted], rest = splitAtComma(r[inEncrypted], room)
		below = joinNotes(rest, below)
	}
	if columns.StringWidth(r[inAnswers]) > l.answers {
		r[inAnswers], below = "", joinNotes(r[inAnswers], below)
	}
	return l.pick(&r), below
}

// splitAtComma splits a cell in two parts, such that the first is not wider than
// room: "STARTTLS 1.2," and "EXPIRED since 2026-08-14".
func splitAtComma(s string, room int) (first, rest string) {
	first, rest, ok := strings.Cut(s, ", ")
	if ok {
		first += ","
	}
	if columns.StringWidth(first) > room {
		return "", s
	}
	return first, rest
}

// layOut lays out rows. The first column differs from row to row, and the others
// of a large sweep hardly ever do: tablewriter, which takes as long for a row as a
// probe does, gets each kind once.
func layOut(rows []tableRow, o Options) ([]byte, error) {
	l := chooseLayout(rows, o.Width)
	before := l.before(rows)
	var kinds [][]string
	of, below := make([]int, len(rows)), make([]string, len(rows))
	known := map[string]int{}
	for i := range rows {
		var cells []string
		cells, below[i] = l.place(rows[i], before)
		key := strings.Join(cells, "\n")
		kind, ok := known[key]
		if !ok {
			kind = len(kinds)
			known[key] = kind
			kinds = append(kinds, cells)
		}
		of[i] = kind
	}
	lines, err := layOutKinds(l.head(), kinds)
	if err != nil {
		return nil, err
	}
	if o.Color {
		colorStates(lines[1:], kinds)
	}
	out := l.appendLine(nil, tableHead[inAddress], lines[0])
	for i := range rows {
		out = l.appendLine(out, rows[i][inAddress], lines[1+of[i]])
		if below[i] == "" {
			continue
		}
		for _, text := range wrap(below[i], o.Width-len(noteIndent)) {
			out = append(out, noteIndent+text+"\n"...)
		}
	}
	return out, nil
}

// appendLine appends the cell ADDRESS of a row, and the others. One that is too
// wide for its column stands on a line of its own; where lines have no end, as in
// a pipe, it pushes the others away.
func (l *layout) appendLine(dst []byte, address string, others []byte) []byte {
	dst = append(dst, address...)
	width := columns.StringWidth(address)
	if width > l.address && l.width > 0 {
		dst, width = append(dst, '\n'), 0
	}
	for range max(0, l.address-width) + tableGap {
		dst = append(dst, ' ')
	}
	return append(append(dst, others...), '\n')
}

// layOutKinds lets tablewriter lay out rows without their first cell, and returns
// the header and a line for each.
func layOutKinds(head []string, rows [][]string) ([][]byte, error) {
	left, right := tw.AlignLeft, tw.AlignRight
	return grid(head, rows, tw.Alignment{right, left, left, left, left}[:len(head)])
}

// grid lets tablewriter lay out rows, and returns the header and a line for each.
// tablewriter pads the last column; that goes.
func grid(head []string, rows [][]string, align tw.Alignment) ([][]byte, error) {
	var buf bytes.Buffer
	t := tablewriter.NewTable(&buf,
		tablewriter.WithRenderer(renderer.NewBlueprint(tw.Rendition{
			Borders:  tw.BorderNone,
			Settings: tw.Settings{Separators: tw.SeparatorsNone, Lines: tw.LinesNone},
		})),
		tablewriter.WithEastAsian(tw.Off), // as columns
		tablewriter.WithHeaderAutoFormat(tw.Off), tablewriter.WithTrimSpace(tw.Off), tablewriter.WithTrimLine(tw.Off),
		tablewriter.WithHeaderAutoWrap(tw.WrapNone), tablewriter.WithRowAutoWrap(tw.WrapNone),
		tablewriter.WithPadding(tw.Padding{Right: strings.Repeat(" ", tableGap), Overwrite: true}),
		tablewriter.WithAlignment(align),
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
	width := len(tableHead[inPort])
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

// cut cuts what a stranger said to a width in columns of a terminal.
func cut(s string, width int) string {
	if len(s) <= width || columns.StringWidth(s) <= width {
		return s
	}
	return columns.Truncate(s, width, "…")
}

// wrap breaks a text at spaces into lines of a width in columns of a terminal,
// and a word that is longer than a line anywhere.
func wrap(s string, width int) (lines []string) {
	line, used := "", 0
	for word := range strings.FieldsSeq(s) {
		w := columns.StringWidth(word)
		if used > 0 && used+1+w <= width {
			line, used = line+" "+word, used+1+w
			continue
		}
		if used > 0 {
			lines = append(lines, line)
		}
		for w > width {
			part := columns.Truncate(word, width, "")
			if part == "" { // a character that is wider than a line
				break
			}
			lines, word = append(lines, part), word[len(part):]
			w = columns.StringWidth(word)
		}
		line, used = word, w
	}
	if used > 0 {
		lines = append(lines, line)
	}
	return lines
}
