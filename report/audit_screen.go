package report

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/smtpsweep/smtpsweep/scanner/egress"
)

// Widths of the screen of an audit.
const (
	widestScreen   = 100
	narrowest      = 40
	usualScreen    = 80
	paragraphLabel = 9 // what begins in the first column, with its space
)

// A screen collects the lines of a screen.
type screen struct {
	strings.Builder
	width int
	color bool
}

// block writes a paragraph with a label in front: its further lines are indented.
func (p *screen) block(label, text string) {
	indent := max(paragraphLabel, columns.StringWidth(label)+2)
	for i, line := range wrap(text, max(p.width-indent, narrowest)) {
		if i > 0 {
			label = ""
		}
		p.WriteString(strings.TrimRight(pad(label, indent)+line, " ") + "\n")
	}
}

// pad fills a text up with spaces.
func pad(s string, width int) string {
	if n := width - columns.StringWidth(s); n > 0 {
		return s + strings.Repeat(" ", n)
	}
	return s
}

// writeAuditScreen writes what people read on a terminal.
func writeAuditScreen(w io.Writer, a *Audit, o Options) error {
	p := &screen{width: o.Width, color: o.Color}
	if p.width == 0 {
		p.width = usualScreen
	}
	p.width = min(max(p.width-1, narrowest), widestScreen)
	for i, vantage := range a.vantages() {
		if i > 0 {
			p.WriteString("\n")
		}
		if len(a.vantages()) > 1 {
			p.block("FROM", vantage)
		}
		p.story(newStory(a, vantage), vantage)
	}
	_, err := io.WriteString(w, p.String())
	return err
}

// story writes all about one vantage.
func (p *screen) story(s *story, vantage string) {
	word := s.word()
	at := p.Len()
	p.block(word, strings.Join(s.headline(), " "))
	if p.color {
		p.colorFrom(at, word)
	}
	p.ports(s)
	p.paths(s.a, vantage)
	p.list("SEEN", s.found())
	p.list("NOTE", s.a.Notes)
	if not := s.notTheCause(); len(not) > 0 {
		p.block("NOT THE CAUSE", strings.Join(not, ", ")+".")
	}
	do := s.do()
	for i, line := range do {
		label := ""
		if i == 0 {
			label = "DO"
		}
		if len(do) > 1 {
			line = strconv.Itoa(i+1) + ". " + line
		}
		p.block(label, line)
	}
	if see := s.seeIt(); see != "" {
		p.block("SEE IT WITHOUT US", see)
	}
	if s.a.Facts.HowTo {
		p.howTo(s)
	}
}

// colorFrom colours the word at the beginning of what was written last.
func (p *screen) colorFrom(at int, word string) {
	all := p.String()
	color := "32" // green
	switch word {
	case "BLOCKED", "INTERCEPTED", "DOWNGRADED":
		color = "31;1"
	case "INCONCLUSIVE", "NOT TESTED":
		color = "33"
	}
	p.Reset()
	p.WriteString(all[:at] + "\x1b[" + color + "m" + word + "\x1b[0m" + all[at+len(word):])
}

// list writes lines under one label.
func (p *screen) list(label string, lines []string) {
	for _, line := range lines {
		p.block(label, line)
		label = ""
	}
}

// ports writes the table of ports. A family that was not tested is a line.
func (p *screen) ports(s *story) {
	families, asides := s.families()
	defer func() { p.list("", asides) }()
	if len(families) == 0 {
		return
	}
	head := pad("PORT", 6)
	for _, f := range families {
		head += pad(f.String(), 14)
	}
	left := len(head)
	p.WriteString(head + "WHAT WAS SEEN\n")
	for _, port := range s.portList() {
		line, seen := pad(strconv.Itoa(int(port)), 6), []string(nil)
		for _, f := range families {
			v := s.at(port, f)
			if v == nil {
				line += pad("", 14)
				continue
			}
			line += pad(strings.ReplaceAll(string(v.Word), "-", " "), 14)
			text := seenText(v)
			if v.Control && v.Word != egress.Allowed {
				text += " (control)"
			}
			switch {
			case len(seen) == 1 && seen[0] == text:
			case len(families) > 1:
				seen = append(seen, text)
			default:
				seen = []string{text}
			}
		}
		if len(seen) > 1 {
			for i := range seen {
				seen[i] = families[i].String() + ": " + seen[i]
			}
		}
		for _, text := range seen {
			for _, part := range wrap(text, max(p.width-left, narrowest/2)) {
				p.WriteString(strings.TrimRight(line+part, " ") + "\n")
				line = pad("", left)
			}
		}
	}
}

// families returns those that were tested, and a sentence on each that was not.
func (s *story) families() (tested []egress.Family, asides []string) {
	for _, f := range []egress.Family{egress.IPv4, egress.IPv6} {
		var cause *egress.Verdict
		any, known := false, false
		for _, v := range s.every {
			if v.Family == f {
				known = true
				any = any || v.Word != egress.NotTested
				cause = v
			}
		}
		switch {
		case any:
			tested = append(tested, f)
		case known:
			asides = append(asides, f.String()+" is not tested: "+causeWords(cause, s.who)+".")
		}
	}
	return tested, asides
}

// portList returns the ports in order, the control port last.
func (s *story) portList() (out []uint16) {
	for _, v := range s.every {
		if !slices.Contains(out, v.Port) {
			out = append(out, v.Port)
		}
	}
	return out
}

// at returns the verdict on a port and family.
func (s *story) at(port uint16, f egress.Family) *egress.Verdict {
	for _, v := range s.every {
		if v.Port == port && v.Family == f {
			return v
		}
	}
	return nil
}

// A route is the hops to one destination.
type route struct {
	destination string
	hops        []egress.Hop
}

// routes groups the hops of a vantage by destination.
func (a *Audit) routes(vantage string) (out []route) {
	for _, h := range a.Hops {
		if h.Vantage != vantage {
			continue
		}
		i := slices.IndexFunc(out, func(r route) bool { return r.destination == h.Destination })
		if i < 0 {
			i = len(out)
			out = append(out, route{destination: h.Destination})
		}
		out[i].hops = append(out[i].hops, h)
	}
	return out
}

// paths writes the paths that were followed.
func (p *screen) paths(a *Audit, vantage string) {
	for _, r := range a.routes(vantage) {
		wide := columns.StringWidth(r.destination) + 4
		for _, h := range r.hops {
			wide = max(wide, 5+len(h.Address)+2)
		}
		wide = max(wide, 9+len(r.destination)+2)
		head := pad("PATH  to "+r.destination, wide)
		for _, c := range r.hops[0].Cells {
			head += pad("port "+strconv.Itoa(int(c.Port)), cellWidth)
		}
		p.WriteString(strings.TrimRight(head, " ") + "\n")
		for _, h := range r.hops {
			p.hop(h, wide)
		}
	}
}

const cellWidth = 15

// hop writes one row of a path.
func (p *screen) hop(h egress.Hop, wide int) {
	line := pad(fmt.Sprintf("%4d  %s", h.N, firstOf(h.Address, "*")), wide)
	for _, c := range h.Cells {
		line += pad(cellWords(c), cellWidth)
	}
	notes := hopWords(h)
	if len(h.Others) > 0 {
		notes = strings.TrimSpace(notes + " also " + strings.Join(h.Others, ", "))
	}
	if h.Lost {
		notes = strings.TrimSpace("<- lost from here on; " + notes)
		notes = strings.TrimSuffix(notes, ";")
	}
	for i, part := range wrap(notes, max(p.width-wide-cellWidth*len(h.Cells), narrowest/2)) {
		if i > 0 {
			line = pad("", wide+cellWidth*len(h.Cells))
		}
		p.WriteString(strings.TrimRight(line+part, " ") + "\n")
	}
	if notes == "" {
		p.WriteString(strings.TrimRight(line, " ") + "\n")
	}
}

// cellWords says what came back from a hop.
func cellWords(c egress.HopCell) string {
	rtt := ""
	if c.RTT > 0 {
		rtt = strconv.FormatFloat(c.RTT, 'f', 0, 64) + " ms"
		if c.RTT < 1 {
			rtt = "<1 ms"
		}
	}
	switch c.Said {
	case "":
		return "-"
	case "expired":
		return rtt
	case "rejects":
		return strings.TrimSpace("ICMP " + c.ICMP)
	case "answers", "refuses":
		return strings.TrimPrefix(rtt+", "+c.Said, ", ")
	}
	return c.Said
}

// hopWords says whose a hop is.
func hopWords(h egress.Hop) string {
	switch {
	case h.Owner != egress.NotKnown && h.Owner != egress.Beyond && h.Words != "":
		return string(h.Owner) + " (" + h.Words + ")"
	case h.Owner != egress.NotKnown && h.Owner != egress.Beyond:
		return string(h.Owner)
	}
	return h.Words
}

// howTo writes the snippets.
func (p *screen) howTo(s *story) {
	for _, snippet := range s.howTo() {
		p.block("HOW TO", snippet.Server+": "+snippet.Where)
		for _, line := range snippet.Lines {
			p.WriteString(strings.Repeat(" ", paragraphLabel) + line + "\n")
		}
		p.block("", "verify: "+snippet.Verify)
	}
}
