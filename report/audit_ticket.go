package report

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner/egress"
)

// writeAuditTicket writes Markdown to paste into a ticket: what is asked for, and
// all that whoever reads it needs to believe it.
func writeAuditTicket(w io.Writer, a *Audit, _ Options) error {
	var b strings.Builder
	for _, vantage := range a.vantages() {
		ticket(&b, a, newStory(a, vantage), vantage)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// ticket writes what one vantage saw.
func ticket(b *strings.Builder, a *Audit, s *story, vantage string) {
	fmt.Fprintf(b, "## Mail out of this network: %s\n\n%s\n\n", mdText(strings.ToLower(s.word())), mdText(strings.Join(s.headline(), " ")))
	if request := strings.ReplaceAll(s.request(), "your connection", "our connection"); request != "" {
		fmt.Fprintf(b, "**Request:** %s\n\n", mdText(request))
	}
	b.WriteString("| What | |\n|---|---|\n")
	row := func(what, text string) {
		if text != "" {
			fmt.Fprintf(b, "| %s | %s |\n", what, mdText(text))
		}
	}
	row("tested from", strings.TrimSpace(Clean(vantage)+" "+s.sources()))
	row("tested at", a.when())
	row("destinations", Clean(strings.Join(a.Facts.Operators, ", ")))
	row("how", fmt.Sprintf("one TCP connection to each destination and port, greeting and EHLO, no mail; port %d is the control", a.Facts.Control))
	row("tool", "smtpsweep "+Clean(a.Header.Version))
	b.WriteString("\n| Port | Family | Verdict | What was seen |\n|---:|---|---|---|\n")
	for _, v := range s.every {
		if v.Word == egress.NotTested {
			continue
		}
		fmt.Fprintf(b, "| %d | %s | %s | %s |\n", v.Port, v.Family, mdText(strings.ReplaceAll(string(v.Word), "-", " ")), mdText(seenText(v)))
	}
	if _, asides := s.families(); len(asides) > 0 {
		fmt.Fprintf(b, "\n%s\n", mdText(strings.Join(asides, " ")))
	}
	for _, r := range a.routes(vantage) {
		ticketPath(b, r)
	}
	ticketList(b, "Seen", s.found())
	ticketList(b, "Not the cause", s.notTheCause())
	if see := s.seeIt(); see != "" {
		fmt.Fprintf(b, "\nTo see it without this tool:\n\n    %s\n", see)
	}
	b.WriteString("\n")
}

// request is what the ticket asks for.
func (s *story) request() string {
	for _, v := range s.all {
		switch v.Word {
		case egress.Blocked:
			return fmt.Sprintf("please open TCP %s outgoing%s, or tell us why it is closed and which relay to use.", s.portText(v), s.forWhom(v))
		case egress.Intercepted:
			return fmt.Sprintf("please let TCP %s through unaltered%s: connections are answered or changed on the way.", s.portText(v), s.forWhom(v))
		case egress.Downgraded:
			return fmt.Sprintf("please let STARTTLS through on TCP %s%s: it is taken out of the conversation on the way (RFC 3207).", s.portText(v), s.forWhom(v))
		}
	}
	return ""
}

// sources are our addresses.
func (s *story) sources() string {
	var out []string
	for _, v := range s.every {
		if v.Source != "" && !slices.Contains(out, v.Source) {
			out = append(out, v.Source)
		}
	}
	if len(out) == 0 {
		return ""
	}
	return "(" + strings.Join(out, ", ") + ")"
}

// when says when it was tested.
func (a *Audit) when() string {
	if len(a.Verdicts) == 0 {
		return a.Header.Started.UTC().Format(time.RFC3339)
	}
	return a.Verdicts[0].Time.UTC().Format(time.RFC3339)
}

func ticketList(b *strings.Builder, title string, lines []string) {
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%s:\n\n", title)
	for _, line := range lines {
		fmt.Fprintf(b, "- %s\n", mdText(line))
	}
}

// ticketPath writes the path to a destination.
func ticketPath(b *strings.Builder, r route) {
	fmt.Fprintf(b, "\nPath to %s:\n\n| Hop | Address |", mdText(r.destination))
	for _, c := range r.hops[0].Cells {
		b.WriteString(" Port " + strconv.Itoa(int(c.Port)) + " |")
	}
	b.WriteString(" Whose |\n|---:|---|" + strings.Repeat("---|", len(r.hops[0].Cells)) + "---|\n")
	for _, h := range r.hops {
		fmt.Fprintf(b, "| %d | %s |", h.N, mdText(firstOf(h.Address, "no answer")))
		for _, c := range h.Cells {
			b.WriteString(" " + mdText(cellWords(c)) + " |")
		}
		words := hopWords(h)
		if h.Lost {
			words = strings.TrimSpace(words + " (lost from here on)")
		}
		b.WriteString(" " + mdText(words) + " |\n")
	}
}
