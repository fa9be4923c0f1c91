package report

import (
	"bytes"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner"
)

// A PathReport is all that a report of traces says.
type PathReport struct {
	Header Header
	Rows   []HopRow
	Totals Totals // of its ports; only Elapsed, Ended, Complete and Notes are looked at
}

// A PathFormat is a way to write a report of traces.
type PathFormat struct {
	Name    string   // as in -f NAME
	Endings []string // file name endings that mean it, the usual one first
	Write   func(w io.Writer, p *PathReport, o Options) error
}

// pathFormats have the names and endings of the formats of a scan.
var pathFormats = []PathFormat{
	{"table", tableFormat.Endings, writePathTable},
	{"csv", csvFormat.Endings, writePathCSV},
	{"jsonl", jsonlFormat.Endings, writePathJSONL},
	{"json", jsonFormat.Endings, writePathJSON},
	{"md", mdFormat.Endings, writePathMD},
}

// PathFormats returns the formats of a report of traces.
func PathFormats() []PathFormat { return slices.Clone(pathFormats) }

// LookupPath returns the format of a name; the error lists the names.
func LookupPath(name string) (PathFormat, error) {
	var names []string
	for _, f := range pathFormats {
		if f.Name == name {
			return f, nil
		}
		names = append(names, f.Name)
	}
	return PathFormat{}, fmt.Errorf("no format %q for a trace; there are %s", Clean(name), strings.Join(names, ", "))
}

// PathByEnding returns the format that the ending of a file name means; the error lists the endings.
func PathByEnding(path string) (PathFormat, error) {
	ending := strings.ToLower(filepath.Ext(path))
	var endings []string
	for _, f := range pathFormats {
		if slices.Contains(f.Endings, ending) {
			return f, nil
		}
		endings = append(endings, f.Endings...)
	}
	return PathFormat{}, fmt.Errorf("%s: no format of a trace has the ending %q; there are %s", Clean(path), Clean(ending), strings.Join(endings, ", "))
}

// PathTable returns the PATH blocks of rows, one for each host, as screens have them; width 0 is no limit.
func PathTable(rows []HopRow, width int) string {
	var b strings.Builder
	for i, h := range tracedHosts(rows) {
		if i > 0 {
			b.WriteByte('\n')
		}
		h.pathBlock(&b, width)
	}
	return b.String()
}

// PathSentences says in plain words what became of the SYNs to each port, the bad ones first.
func PathSentences(rows []HopRow) (out []string) {
	for _, h := range tracedHosts(rows) {
		out = append(out, h.sentences()...)
	}
	return out
}

func (h *tracedHost) sentences() []string {
	var bad, good []string
	for _, p := range h.ports {
		if s := h.sentence(p) + "."; p.fate() == scanner.Reached {
			good = append(good, s)
		} else {
			bad = append(bad, s)
		}
	}
	return append(bad, good...)
}

// seeIt returns the command that shows the same without us.
func (h *tracedHost) seeIt() string {
	var ports []string
	for _, p := range h.ports {
		ports = append(ports, p.cell(HopPort))
	}
	text := "sudo traceroute -n -T -p " + ports[0] + " " + h.address
	if len(ports) > 1 {
		text += ", then -p " + strings.Join(ports[1:], ", ")
	}
	return text
}

// name says which host it is: "mail.example.org (192.0.2.1)".
func (h *tracedHost) name() string {
	if h.host == "" {
		return h.address
	}
	return h.host + " (" + h.address + ")"
}

func writePathTable(w io.Writer, p *PathReport, o Options) error {
	var b strings.Builder
	for i, h := range tracedHosts(p.Rows) {
		if i > 0 {
			b.WriteByte('\n')
		}
		for _, s := range h.sentences() {
			writeWrapped(&b, s, o.Width)
		}
		if len(h.lines()) > 0 {
			h.pathBlock(&b, o.Width)
			writeWrapped(&b, "See it without us: "+h.seeIt(), o.Width)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// writeWrapped writes a sentence in lines of at most width columns; 0 is no limit.
func writeWrapped(b *strings.Builder, s string, width int) {
	n := 0
	for i, word := range strings.Fields(s) {
		size := len([]rune(word))
		switch {
		case i == 0:
		case width > 0 && n+1+size > width:
			b.WriteString("\n  ")
			n = 2
		default:
			b.WriteByte(' ')
			n++
		}
		b.WriteString(word)
		n += size
	}
	b.WriteByte('\n')
}

func writePathCSV(w io.Writer, p *PathReport, o Options) error {
	var b []byte
	if o.CSVBOM {
		b = append(b, "\ufeff"...)
	}
	for i, f := range Hops.Fields {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, f.Name...)
	}
	b = append(b, "\r\n"...)
	for _, row := range p.Rows {
		for i, cell := range row.Cells {
			if i > 0 {
				b = append(b, ',')
			}
			if Hops.Fields[i].Kind == Text && cell != "" {
				b = appendCSVText(b, cell)
			} else {
				b = append(b, cell...)
			}
		}
		b = append(b, "\r\n"...)
	}
	_, err := w.Write(b)
	return err
}

func writePathJSONL(w io.Writer, p *PathReport, _ Options) error {
	e := &jsonlEncoder{w: w}
	run, err := runRecord(&p.Header)
	if err != nil {
		return err
	}
	if err := e.write(run); err != nil {
		return err
	}
	for _, row := range p.Rows {
		if err := e.write(row.AppendJSON(nil)); err != nil {
			return err
		}
	}
	return nil
}

// writePathJSON writes {"schema":1,"run":{…},"hops":[…]}.
func writePathJSON(w io.Writer, p *PathReport, _ Options) error {
	run, err := runRecord(&p.Header)
	if err != nil {
		return err
	}
	b := bytes.NewBufferString(fmt.Sprintf("{\"schema\":%d,\n\"run\":%s,\n\"hops\":[", Hops.Version, bytes.TrimSpace(run)))
	for i, row := range p.Rows {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('\n')
		b.Write(row.AppendJSON(nil))
	}
	b.WriteString("\n]}\n")
	_, err = w.Write(b.Bytes())
	return err
}

func writePathMD(w io.Writer, p *PathReport, _ Options) error {
	var b strings.Builder
	b.WriteString("## The way to mail ports\n")
	if !p.Header.Started.IsZero() {
		fmt.Fprintf(&b, "\n%s, by smtpsweep %s\n", p.Header.Started.UTC().Format(time.RFC3339), mdText(Clean(p.Header.Version)))
	}
	for _, h := range tracedHosts(p.Rows) {
		fmt.Fprintf(&b, "\n### %s\n\n", mdText(h.name()))
		if h.source != "" {
			fmt.Fprintf(&b, "From %s (%s).\n\n", mdText(h.source), mdText(h.vantage))
		}
		for _, s := range h.sentences() {
			b.WriteString("- " + mdText(s) + "\n")
		}
		h.markdown(&b)
		fmt.Fprintf(&b, "\nSee it without us: `%s`\n", h.seeIt())
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// markdown writes the table of hops.
func (h *tracedHost) markdown(b *strings.Builder) {
	lines := h.lines()
	if len(lines) == 0 {
		return
	}
	b.WriteString("\n| Hop | Address |")
	rule := "|---:|---|"
	for _, p := range h.ports {
		b.WriteString(" Port " + mdText(p.cell(HopPort)) + " |")
		rule += "---|"
	}
	b.WriteString(" Note |\n" + rule + "---|\n")
	for _, ln := range lines {
		fmt.Fprintf(b, "| %s | %s |", ln.hop, mdText(ln.from))
		for _, cell := range ln.cells {
			b.WriteString(" " + mdText(cell) + " |")
		}
		b.WriteString(" " + mdText(strings.Join(ln.notes, "; ")) + " |\n")
	}
}
