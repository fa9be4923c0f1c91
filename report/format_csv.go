package report

import (
	"io"
	"strings"
	"unicode/utf8"
)

var csvFormat = Format{
	Name: "csv", Help: "RFC 4180, one row an endpoint, for spreadsheets", Endings: []string{".csv"}, Streams: true, New: newCSV,
}

// excelRows is how many rows a sheet of Excel and of LibreOffice holds, the
// header included.
const excelRows = 1_048_576

// A csvEncoder writes RFC 4180: CRLF, UTF-8, quotes where needed. It is not
// encoding/csv because a large sweep spends most of its time here.
type csvEncoder struct {
	w    io.Writer
	o    Options
	rows uint64
	buf  []byte
}

func newCSV(w io.Writer, _ Header, o Options) (Encoder, error) {
	e := &csvEncoder{w: w, o: o}
	if o.CSVBOM {
		e.buf = append(e.buf, "\ufeff"...)
	}
	for i, f := range Scan.Fields {
		if i > 0 {
			e.buf = append(e.buf, ',')
		}
		e.buf = append(e.buf, f.Name...)
	}
	e.buf = append(e.buf, "\r\n"...)
	return e, e.flush()
}

// flush hands the buffer to the writer.
func (e *csvEncoder) flush() error {
	_, err := e.w.Write(e.buf)
	e.buf = e.buf[:0]
	return err
}

// Row writes one record.
func (e *csvEncoder) Row(r *Row) error {
	for i := range r.Cells {
		if i > 0 {
			e.buf = append(e.buf, ',')
		}
		cell := r.Cells[i]
		if kind := Scan.Fields[i].Kind; (kind == Text || kind == List) && cell != "" {
			e.buf = appendCSVText(e.buf, cell)
		} else {
			e.buf = append(e.buf, cell...)
		}
	}
	e.buf = append(e.buf, "\r\n"...)
	e.rows++
	return e.flush()
}

// appendCSVText appends a cell of text: inert, and quoted if it has to be.
// Cells are clean, so there is no line break in them; a space at an end is
// quoted because RFC 4180 (2.4) keeps it but some readers do not.
func appendCSVText(dst []byte, cell string) []byte {
	if isPlainWord(cell) {
		return append(dst, cell...)
	}
	if !isFormula(cell) && !strings.ContainsAny(cell, "\",;\r\n\t") && cell[0] != ' ' && cell[len(cell)-1] != ' ' {
		return append(dst, cell...)
	}
	dst = append(dst, '"')
	for more := true; more; {
		var part string
		part, cell, more = strings.Cut(cell, ";")
		if isFormula(part) {
			dst = append(dst, '\'')
		}
		dst = appendQuoted(dst, part)
		if more {
			dst = append(dst, ';')
		}
	}
	return append(dst, '"')
}

// appendQuoted appends text that is between quotes: its own are doubled.
func appendQuoted(dst []byte, s string) []byte {
	for {
		i := strings.IndexByte(s, '"')
		if i < 0 {
			return append(dst, s...)
		}
		dst = append(append(dst, s[:i+1]...), '"')
		s = s[i+1:]
	}
}

// isPlainWord reports whether a cell is of the letters, digits, dots, colons and
// inner hyphens that addresses, states and reasons are made of: it needs no care.
func isPlainWord(cell string) bool {
	for i := range len(cell) {
		c := cell[i]
		if !alphanumeric(c) && (i == 0 || c != '.' && c != ':' && c != '-') {
			return false
		}
	}
	return true
}

// isFormula reports whether a spreadsheet might compute a part of a text cell
// instead of showing it: the part's first character, after spaces, quotes and
// apostrophes, is one of = + - @ TAB CR or a full-width = + - @. Such a part gets
// an apostrophe in front; [plainCell] takes it away again. (OWASP ASVS 1.2.10,
// CWE-1236.)
//
// A part begins with the cell and after every ";": where the comma is the decimal
// mark, spreadsheets take ";" for the separator, whatever quotes are around it,
// and make a cell of each part.
func isFormula(part string) bool {
	rest := strings.TrimLeft(part, ` "'`)
	if rest == "" {
		return false
	}
	switch rest[0] {
	case '=', '+', '-', '@', '\t', '\r':
		return true
	}
	if rest[0] < utf8.RuneSelf {
		return false
	}
	r, _ := utf8.DecodeRuneInString(rest)
	return r == '＝' || r == '＋' || r == '－' || r == '＠'
}

// plainCell is the inverse of the apostrophes: what a CSV reader of ours gets
// back from a text cell. Of every part between ";" it takes the first character
// if that is an apostrophe and a formula follows.
func plainCell(cell string) string {
	if !strings.Contains(cell, "'") {
		return cell
	}
	parts := strings.Split(cell, ";")
	for i, part := range parts {
		if rest, ok := strings.CutPrefix(part, "'"); ok && isFormula(rest) {
			parts[i] = rest
		}
	}
	return strings.Join(parts, ";")
}

// Close says so if a spreadsheet cannot hold all rows.
func (e *csvEncoder) Close(Totals) error {
	if e.rows+1 > excelRows {
		e.o.notice("the CSV has %s rows; Excel and LibreOffice show the first %s", thousands(e.rows), thousands(excelRows-1))
	}
	return nil
}

// firstOf returns the first text that is not empty.
func firstOf(texts ...string) string {
	for _, s := range texts {
		if s != "" {
			return s
		}
	}
	return ""
}
