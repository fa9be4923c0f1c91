package report

import (
	"fmt"
	"io"
	"strings"
	"time"
)

var mdFormat = Format{
	Name: "md", Help: "Markdown for tickets and wikis", Endings: []string{".md", ".markdown"}, New: newMD,
}

// A mdEncoder writes a GitHub Flavored Markdown table and the counts.
type mdEncoder struct {
	w    io.Writer
	list listing
	rows uint64
}

func newMD(w io.Writer, h Header, o Options) (Encoder, error) {
	e := &mdEncoder{w: w}
	e.list = listing{show: o.Show, emit: e.host}
	var facts []string
	if !h.Started.IsZero() {
		facts = append(facts, h.Started.UTC().Format(time.RFC3339))
	}
	if h.Vantage != "" {
		facts = append(facts, "from "+mdText(Clean(h.Vantage)))
	}
	if h.Source != "" {
		facts = append(facts, "("+mdText(Clean(h.Source))+")")
	}
	if h.Version != "" {
		facts = append(facts, "by smtpsweep "+mdText(Clean(h.Version)))
	}
	var b strings.Builder
	b.WriteString("## Mail ports\n\n")
	if len(facts) > 0 {
		b.WriteString(strings.Join(facts, " ") + "\n\n")
	}
	_, err := io.WriteString(w, b.String())
	return e, err
}

// Row takes one row.
func (e *mdEncoder) Row(r *Row) error { return e.list.add(r) }

// host writes the lines of one host; here each has its address, because people
// sort and quote single lines of a Markdown table.
func (e *mdEncoder) host(lines []line) error {
	var b strings.Builder
	if e.rows == 0 {
		b.WriteString("| Address | Port | State | Reason | Answers | Encryption | Note |\n|---|---:|---|---|---|---|---|\n")
	}
	for _, ln := range lines {
		e.rows++
		state := mdText(ln.state)
		if ln.state == "open" {
			state = "**open**"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s |\n",
			mdText(ln.place()), ln.port, state, mdText(ln.reason), mdText(ln.answers), mdText(ln.encryption), mdText(joinNotes(ln.via(), ln.note)))
	}
	_, err := io.WriteString(e.w, b.String())
	return err
}

// mdSpecial are the characters that mean something in GitHub's Markdown; a
// backslash before them takes that away (CommonMark, 2.4). Not among them: what
// means something only at the start of a line, which no text of ours is at, and
// "(" and "!", which need a "[".
const mdSpecial = "\\`*_[]|~$"

// mdText writes text that shows as it is: no markup, HTML, link or mention. A
// mention is looked for in the rendered text, where an escape is gone already, so
// a zero width space stands between the sign and the name.
func mdText(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '<':
			b.WriteString("&lt;")
		case c == '>':
			b.WriteString("&gt;")
		case c == '&':
			b.WriteString("&amp;")
		case (c == '@' || c == '#') && (i == 0 || !alphanumeric(s[i-1])) && i+1 < len(s) && alphanumeric(s[i+1]):
			b.WriteByte(c)
			b.WriteString("&#8203;")
		case c == '@':
			b.WriteString("&#64;")
		case c == ':' && strings.HasPrefix(s[i:], "://"):
			b.WriteString("&#58;")
		case c == '.' && i >= 3 && strings.EqualFold(s[i-3:i], "www"):
			b.WriteString("&#46;")
		case strings.IndexByte(mdSpecial, c) >= 0:
			b.WriteByte('\\')
			b.WriteByte(c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// alphanumeric reports whether a byte is an ASCII letter or digit.
func alphanumeric(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' }

// Close writes the counts and the totals.
func (e *mdEncoder) Close(t Totals) error {
	if err := e.list.close(); err != nil {
		return err
	}
	var b strings.Builder
	if e.rows > 0 {
		b.WriteByte('\n')
	}
	for _, l := range e.list.foldLines() {
		b.WriteString("- " + mdText(l) + "\n")
	}
	if len(e.list.folds) > 0 {
		b.WriteByte('\n')
	}
	b.WriteString(mdText(Summary(t)) + "\n")
	for _, n := range t.Notes {
		b.WriteString("\nNote: " + mdText(Clean(n)) + "\n")
	}
	if !t.Complete {
		b.WriteString("\n" + mdText(t.incomplete()) + "\n")
	}
	_, err := io.WriteString(e.w, b.String())
	return err
}
