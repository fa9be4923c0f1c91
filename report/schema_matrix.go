package report

import (
	"cmp"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/olekukonko/tablewriter/tw"
)

// foldAt is where a sheet for people is folded if it goes to no terminal.
const foldAt = 80

// maxMatrix is how many columns a matrix has at most: as many as a spreadsheet
// holds (16,384), with those of the vantage.
const maxMatrix = 16_382

// A Matrix folds rows of several vantages into one sheet: a row a vantage, a
// column an endpoint, in a cell what that vantage saw there. Of two rows of one
// cell the later counts. The zero Matrix is empty.
type Matrix struct {
	cells   map[matrixCell]seenCell
	columns []matrixColumn
	rows    []matrixRow
	known   map[any]bool // columns and rows
}

// A matrixRow is a vantage at one of its addresses.
type matrixRow struct{ vantage, source string }

// A matrixColumn is an endpoint; place is a name where there is no address.
type matrixColumn struct{ place, port string }

type matrixCell struct {
	matrixRow
	matrixColumn
}

// A seenCell is the text of a cell, and when that was.
type seenCell struct{ text, time string }

// Add takes a row of a journal. The error says that there are more endpoints than
// a sheet has columns.
func (m *Matrix) Add(r *Row) error {
	c := &r.Cells
	row := matrixRow{c[ColVantage], c[ColSource]}
	col := matrixColumn{firstOf(c[ColAddress], c[ColHost], c[ColTarget]), c[ColPort]}
	if m.cells == nil {
		m.cells, m.known = map[matrixCell]seenCell{}, map[any]bool{}
	}
	if !m.known[row] {
		m.known[row] = true
		m.rows = append(m.rows, row)
	}
	if !m.known[col] {
		if len(m.columns) == maxMatrix {
			return fmt.Errorf("more than %s endpoints are no matrix: a sheet has no more columns", thousands(maxMatrix))
		}
		m.known[col] = true
		m.columns = append(m.columns, col)
	}
	cell := seenCell{strings.TrimSpace(c[ColState] + " " + c[ColFinding]), c[ColTime]}
	if at := (matrixCell{row, col}); m.cells[at].time <= cell.time { // RFC 3339 in UTC sorts by time
		m.cells[at] = cell
	}
	return nil
}

// Sheet returns the matrix.
func (m *Matrix) Sheet() *Sheet {
	slices.SortFunc(m.columns, compareColumns)
	rows, label := m.merged()
	s := &Sheet{Schema: &Schema{Name: "matrix", Version: SchemaVersion}, Title: "Mail ports by vantage"}
	s.Schema.Fields = []Field{{"vantage", "label of where we looked from", Text}, {"source", "our address on this path", Text}}
	for _, c := range m.columns {
		s.Schema.Fields = append(s.Schema.Fields, Field{c.String(), "state and findings", Text})
	}
	for i, group := range rows {
		cells := []string{group[0].vantage, label[i]}
		for _, c := range m.columns {
			cells = append(cells, m.text(group, c))
		}
		s.Rows = append(s.Rows, cells)
	}
	s.Summary = []string{fmt.Sprintf("%s x %s: state and findings of each.", count(len(rows), "vantage", "vantages"), count(len(m.columns), "endpoint", "endpoints"))}
	s.page = func(o Options) page { return m.page(s, o) }
	return s
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return thousands(uint64(n)) + " " + many
}

// String returns the head of the column: "198.51.100.7:25".
func (c matrixColumn) String() string {
	if c.port == "" {
		return c.place
	}
	if strings.Contains(c.place, ":") {
		return "[" + c.place + "]:" + c.port
	}
	return c.place + ":" + c.port
}

// compareColumns orders endpoints by address, names behind them, and by port.
func compareColumns(a, b matrixColumn) int {
	x, errX := netip.ParseAddr(a.place)
	y, errY := netip.ParseAddr(b.place)
	p, _ := strconv.Atoi(a.port)
	q, _ := strconv.Atoi(b.port)
	return cmp.Or(isName(errX)-isName(errY), x.Compare(y), strings.Compare(a.place, b.place), cmp.Compare(p, q))
}

func isName(err error) int {
	if err != nil {
		return 1
	}
	return 0
}

// merged returns the rows of the sheet in order, and the source that each names. A
// vantage that has one address of a family, or does not know it, is one row.
func (m *Matrix) merged() (rows [][]matrixRow, label []string) {
	all := slices.Clone(m.rows)
	slices.SortFunc(all, func(a, b matrixRow) int {
		x, _ := netip.ParseAddr(a.source)
		y, _ := netip.ParseAddr(b.source)
		return cmp.Or(strings.Compare(a.vantage, b.vantage), x.Compare(y), strings.Compare(a.source, b.source))
	})
	for len(all) > 0 {
		n := 1
		for n < len(all) && all[n].vantage == all[0].vantage {
			n++
		}
		of := all[:n]
		all = all[n:]
		if oneOfAFamily(of) {
			var sources []string
			for _, r := range of {
				sources = append(sources, r.source)
			}
			rows, label = append(rows, of), append(label, strings.TrimSpace(strings.Join(sources, " ")))
			continue
		}
		for i := range of {
			rows, label = append(rows, of[i:i+1]), append(label, of[i].source)
		}
	}
	return rows, label
}

// oneOfAFamily reports whether no two addresses are of one family.
func oneOfAFamily(rows []matrixRow) bool {
	families := map[int]bool{}
	for _, r := range rows {
		a, err := netip.ParseAddr(r.source)
		if err == nil && families[a.BitLen()] {
			return false
		}
		families[a.BitLen()] = true
	}
	return true
}

// text returns the latest cell of a row of the sheet.
func (m *Matrix) text(group []matrixRow, c matrixColumn) string {
	var best seenCell
	for _, r := range group {
		if cell, ok := m.cells[matrixCell{r, c}]; ok && (best.text == "" || cell.time > best.time) {
			best = cell
		}
	}
	return best.text
}

// page is what people read: the whole sheet, on a terminal in blocks that fit.
func (m *Matrix) page(s *Sheet, o Options) page {
	p := page{rows: s.Rows}
	for _, f := range s.Schema.Fields {
		p.head = append(p.head, f.Name)
	}
	p.head[0], p.head[1] = "Vantage", "Source"
	p.table = func(w io.Writer) error { return m.table(w, s, cmp.Or(o.Width, foldAt)) }
	return p
}

// table writes blocks of as many columns as fit, each with the vantages before
// them. The ports of one destination stand together under it.
func (m *Matrix) table(w io.Writer, s *Sheet, width int) error {
	var b strings.Builder
	for from := 0; from < len(m.columns); {
		n, err := m.block(&b, s, from, width)
		if err != nil {
			return err
		}
		from += n
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// notSeen stands on a terminal where a vantage did not look.
const notSeen = "-"

// block writes the columns from one on that fit, at least one, and returns how
// many they are.
func (m *Matrix) block(b *strings.Builder, s *Sheet, from, width int) (int, error) {
	head := []string{"VANTAGE"}
	cells := make([][]string, len(s.Rows))
	for i, row := range s.Rows {
		cells[i] = []string{row[0]}
	}
	if m.sourcesMatter(s) {
		head = append(head, "SOURCE")
		for i, row := range s.Rows {
			cells[i] = append(cells[i], row[1])
		}
	}
	lead := gridWidth(head, cells) + tableGap
	above := strings.Repeat(" ", lead) // the line of the destinations
	used, n := lead, 0
	for n == 0 || from+n < len(m.columns) {
		k := m.samePlace(from + n)
		place := m.columns[from+n].place
		for ; k > 0; k-- { // as many ports of it as fit
			widths, sum := m.widths(s, from+n, k)
			widths[k-1] += max(0, columns.StringWidth(place)-sum) // the destination has room above its ports
			sum = max(sum, columns.StringWidth(place))
			if used+sum > width && (n > 0 || k > 1) {
				continue
			}
			above += place + strings.Repeat(" ", sum-columns.StringWidth(place)+tableGap)
			for i := range k {
				port := m.columns[from+n+i].port
				head = append(head, port+strings.Repeat(" ", widths[i]-len(port)))
				for j, row := range s.Rows {
					cells[j] = append(cells[j], firstOf(row[2+from+n+i], notSeen))
				}
			}
			used += sum + tableGap
			break
		}
		if k == 0 {
			break
		}
		n += k
	}
	lines, err := grid(head, cells, slices.Repeat(tw.Alignment{tw.AlignLeft}, len(head)))
	if err != nil {
		return 0, err
	}
	b.WriteString("\n" + strings.TrimRight(above, " ") + "\n")
	for _, line := range lines {
		b.WriteString(string(line) + "\n")
	}
	return n, nil
}

// sourcesMatter reports whether two rows are of one vantage: else a terminal need
// not show the sources.
func (m *Matrix) sourcesMatter(s *Sheet) bool {
	for i := 1; i < len(s.Rows); i++ {
		if s.Rows[i][0] == s.Rows[i-1][0] {
			return true
		}
	}
	return false
}

// samePlace returns how many columns from one on are of one destination.
func (m *Matrix) samePlace(from int) int {
	n := 1
	for from+n < len(m.columns) && m.columns[from+n].place == m.columns[from].place {
		n++
	}
	return n
}

// widths returns the widths of some columns, and of all of them with the gaps between.
func (m *Matrix) widths(s *Sheet, from, n int) (widths []int, sum int) {
	for i := range n {
		width := len(m.columns[from+i].port)
		for _, row := range s.Rows {
			width = max(width, columns.StringWidth(firstOf(row[2+from+i], notSeen)))
		}
		widths = append(widths, width)
		sum += width + tableGap
	}
	return widths, sum - tableGap
}
