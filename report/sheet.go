package report

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/smtpsweep/smtpsweep/scanner/journal"
)

// A Sheet is a result that is no sweep: rows of a schema of its own, few enough to
// be held whole, with what people are to read before them.
type Sheet struct {
	Schema  *Schema
	Title   string     // heading of a document
	Summary []string   // sentences, the one that says it all first
	Rows    [][]string // clean cells, in the order of the schema
	Totals  []Total    // for programs

	page  func(o Options) page // what people read of it
	tests func() []testSuite   // for CI; nil if it is no test
}

// A Total is a count under a name.
type Total struct {
	Name string
	N    int
}

// A page is what people read of a sheet: fewer columns than a file has.
type page struct {
	head  []string
	rows  [][]string
	table func(w io.Writer) error // on a terminal
}

// SheetFormats returns formats that write a sheet: of each the encoder takes no
// rows, and writes what sheet returns when it is closed. names are those of the
// formats that suit it; they are table, csv, jsonl, json, md and junit.
func SheetFormats(sheet func() *Sheet, names ...string) []Format {
	all := map[string]func(w io.Writer, s *Sheet, o Options) error{
		"table": writeTable, "csv": writeCSV, "jsonl": writeJSONL, "json": writeJSON, "md": writeMD, "junit": writeJUnit,
	}
	known := append(Formats(), Format{Name: "junit", Help: "test results for CI", Endings: []string{".junit"}})
	var out []Format
	for _, name := range names {
		f, err := LookupIn(known, name)
		if err != nil {
			panic(err)
		}
		write := all[name]
		f.Streams = false
		f.New = func(w io.Writer, _ Header, o Options) (Encoder, error) {
			return &sheetEncoder{func() error { return write(w, sheet(), o) }}, nil
		}
		out = append(out, f)
	}
	return out
}

// A sheetEncoder writes a sheet when it is closed.
type sheetEncoder struct{ write func() error }

// Row takes no row: a sheet has its own.
func (e *sheetEncoder) Row(*Row) error { return nil }

// Close writes the sheet.
func (e *sheetEncoder) Close(Totals) error { return e.write() }

func writeTable(w io.Writer, s *Sheet, o Options) error {
	for _, line := range s.Summary {
		width := o.Width
		if width == 0 {
			width = foldAt
		}
		for _, part := range wrap(line, width) {
			if _, err := io.WriteString(w, part+"\n"); err != nil {
				return err
			}
		}
	}
	return s.page(o).table(w)
}

func writeMD(w io.Writer, s *Sheet, o Options) error {
	var b strings.Builder
	b.WriteString("## " + mdText(s.Title) + "\n\n")
	for _, line := range s.Summary {
		b.WriteString(mdText(line) + "\n\n")
	}
	p := s.page(o)
	if len(p.rows) > 0 {
		b.WriteString(mdLine(p.head) + "|" + strings.Repeat("---|", len(p.head)) + "\n")
	}
	for _, row := range p.rows {
		b.WriteString(mdLine(row))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func mdLine(cells []string) string {
	var b strings.Builder
	for _, c := range cells {
		b.WriteString("| " + mdText(c) + " ")
	}
	return b.String() + "|\n"
}

func writeCSV(w io.Writer, s *Sheet, o Options) error {
	var line []byte
	if o.CSVBOM {
		line = append(line, "\ufeff"...)
	}
	for i, f := range s.Schema.Fields {
		if i > 0 {
			line = append(line, ',')
		}
		line = appendCSVText(line, f.Name)
	}
	if _, err := w.Write(append(line, "\r\n"...)); err != nil {
		return err
	}
	for _, row := range s.Rows {
		line = line[:0]
		for i, cell := range row {
			if i > 0 {
				line = append(line, ',')
			}
			if cell != "" {
				line = appendCSVText(line, cell)
			}
		}
		if _, err := w.Write(append(line, "\r\n"...)); err != nil {
			return err
		}
	}
	return nil
}

// appendObject appends a row as members of a JSON object: empty cells are absent.
func (s *Sheet) appendObject(dst []byte, row []string) []byte {
	for i, cell := range row {
		if cell == "" {
			continue
		}
		if dst[len(dst)-1] != '{' {
			dst = append(dst, ',')
		}
		dst = append(appendString(dst, s.Schema.Fields[i].Name), ':')
		if s.Schema.Fields[i].Kind == Number && numberLen(cell) == len(cell) {
			dst = append(dst, cell...)
		} else {
			dst = appendString(dst, cell)
		}
	}
	return append(dst, '}')
}

func (s *Sheet) appendTotals(dst []byte) []byte {
	dst = append(dst, `"totals":{`...)
	for i, t := range s.Totals {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = strconv.AppendInt(append(appendString(dst, t.Name), ':'), int64(t.N), 10)
	}
	return append(dst, '}')
}

// writeJSONL writes a record a row, of the type that the schema has for a name,
// and an end record, each with its checksum as in a journal.
func writeJSONL(w io.Writer, s *Sheet, _ Options) error {
	var record, line []byte
	put := func() error {
		line = journal.AppendLine(line[:0], record)
		_, err := w.Write(line)
		return err
	}
	for _, row := range s.Rows {
		record = append(appendString(append(record[:0], `{"type":`...), s.Schema.Name), ',')
		record = append(record, s.appendObject([]byte{'{'}, row)[1:]...)
		if err := put(); err != nil {
			return err
		}
	}
	record = append(s.appendTotals(append(record[:0], `{"type":"end",`...)), '}')
	return put()
}

// writeJSON writes {"schema":1,"kind":"policy","summary":[…],"rows":[…],"totals":{…}}.
func writeJSON(w io.Writer, s *Sheet, _ Options) error {
	dst := fmt.Appendf(nil, `{"schema":%d,"kind":`, s.Schema.Version)
	dst = append(appendString(dst, s.Schema.Name), `,"summary":[`...)
	for i, line := range s.Summary {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendString(dst, line)
	}
	dst = append(dst, "],\n\"rows\":["...)
	for i, row := range s.Rows {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = s.appendObject(append(dst, "\n{"...), row)
	}
	dst = append(s.appendTotals(append(dst, "\n],\n"...)), "}\n"...)
	_, err := w.Write(dst)
	return err
}
