package report

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/muesli/termenv"
	"github.com/olekukonko/tablewriter/tw"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/scanner/egress/policy"
)

// PolicySchema is the schema of a judged policy: a row a rule and destination.
var PolicySchema = Schema{Name: "policy", Version: SchemaVersion, Fields: []Field{
	{"vantage", "label of where we looked from; the segment, if nobody looked", Text},
	{"source", "our address on this path", Text},
	{"family", "IPv4 or IPv6", Text},
	{"destination", "address; as in the policy, if nobody looked", Text},
	{"port", "TCP port; a range, if nobody looked", Number},
	{"rule", "the rule that decides, in one line", Text},
	{"expected", "open or blocked", Text},
	{"state", "open, closed, filtered or unknown; empty if nobody looked", Text},
	{"reason", "the evidence for the state", Text},
	{"stopped_at", "who or where it was stopped, if that is known", Text},
	{"result", "pass, fail-open, fail-blocked, exception, expired or untested", Text},
	{"owner", "who answers for the exception", Text},
	{"expires", "last day of the exception", Text},
	{"time", "when it was observed, RFC 3339 in UTC", Text},
	{"journal", "file that has the observation", Text},
	{"host", "name that the address came from", Text},
	{"note", "why the result is what it is", Text},
}}

// Know adds to a row what an audit found out of the endpoint, and a sweep cannot: the
// fingerprint of a far end that proved to be a reflector of ours, and where a trace
// of the path found it stopped ("198.51.100.1", "hop 2-3"). Either may be empty.
// They are the members "reflector" and "stopped_at" of the record.
func (row *Row) Know(reflector, stoppedAt string) {
	if reflector != "" {
		row.member("reflector", string(appendString(nil, Clean(reflector))))
	}
	if stoppedAt != "" {
		row.member("stopped_at", string(appendString(nil, Clean(stoppedAt))))
	}
}

// PolicyObservation reads a row of a journal as an observation that a policy can
// judge, with what Know has added.
func PolicyObservation(r *Row, journal string) policy.Observation {
	c := &r.Cells
	o := policy.Observation{
		Vantage: c[ColVantage], Host: c[ColHost], State: stateOf(c[ColState]), Reason: scanner.Reason(c[ColReason]),
		Journal: journal, Err: c[ColError],
	}
	// What is no address stays the zero Addr: not known.
	o.Source, _ = netip.ParseAddr(c[ColSource])
	o.Address, _ = netip.ParseAddr(c[ColAddress])
	o.ICMP, _ = netip.ParseAddr(c[ColICMPFrom])
	o.Time, _ = time.Parse(time.RFC3339, c[ColTime])
	port, _ := strconv.ParseUint(c[ColPort], 10, 16)
	o.Port = uint16(port)
	if len(r.Detail) > 0 {
		var more struct {
			Reflector string `json:"reflector"`
			StoppedAt string `json:"stopped_at"`
		}
		if json.Unmarshal(slices.Concat([]byte{'{'}, r.Detail, []byte{'}'}), &more) == nil {
			o.Reflector, o.StoppedAt = more.Reflector != "", Clean(more.StoppedAt)
		}
	}
	return o
}

// stateOf returns the state of a word; what is none is unknown.
func stateOf(word string) scanner.State {
	for _, s := range []scanner.State{scanner.Open, scanner.Closed, scanner.Filtered} {
		if s.String() == word {
			return s
		}
	}
	return scanner.Unknown
}

// PolicySheet returns the sheet of a judged policy; file is the policy's name.
func PolicySheet(v *policy.Verdict, file string) *Sheet {
	file = Clean(file)
	s := &Sheet{Schema: &PolicySchema, Title: "Egress policy " + file, Summary: policySummary(v, file)}
	for i := range v.Rows {
		s.Rows = append(s.Rows, policyCells(&v.Rows[i]))
	}
	for _, r := range policy.Results() {
		s.Totals = append(s.Totals, Total{string(r), v.Count(r)})
	}
	s.Totals = append(s.Totals, Total{"outside", v.Outside})
	s.page = func(o Options) page { return policyPage(v, o) }
	s.tests = func() []testSuite { return policyTests(v) }
	return s
}

// policyCells returns the cells of a row, as in PolicySchema.
func policyCells(r *policy.Row) []string {
	cells := []string{
		Clean(r.Vantage), addrText(r.Source), r.Family, Clean(r.Destination), r.Ports.String(), Clean(r.Rule.String()), r.Expected,
		"", "", Clean(r.StoppedAt), string(r.Result), Clean(r.Rule.Owner), "", "", Clean(r.Journal), Clean(r.Host), Clean(r.Note),
	}
	if r.Seen {
		cells[7], cells[8] = r.State.String(), Clean(string(r.Reason))
	}
	if !r.Rule.Until.IsZero() {
		cells[12] = r.Rule.Until.Format(time.DateOnly)
	}
	if !r.Time.IsZero() {
		cells[13] = string(appendTime(nil, r.Time))
	}
	return cells
}

// resultWords say what a result means, where its name does not.
var resultWords = map[policy.Result]string{
	policy.FailOpen: " (open, must be blocked)", policy.FailBlocked: " (blocked, must be open)", policy.Expired: " (open by an exception that is over)",
}

// policySummary says how the policy is kept: in a sentence, and in figures.
func policySummary(v *policy.Verdict, file string) []string {
	n := len(v.Rows)
	var counts, bad []string
	for _, r := range policy.Results() {
		k := v.Count(r)
		if k == 0 {
			continue
		}
		counts = append(counts, fmt.Sprintf("%d %s", k, r))
		if r.Bad() {
			bad = append(bad, fmt.Sprintf("%d %s%s", k, r, resultWords[r]))
		}
	}
	untested := v.Count(policy.Untested)
	failed := v.Count(policy.FailOpen, policy.FailBlocked, policy.Expired)
	sentence := fmt.Sprintf("KEPT: all %d rows are as %s wants them.", n, file)
	switch {
	case failed == 1:
		sentence = fmt.Sprintf("VIOLATED: 1 of %s is not as %s wants it: %s.", count(n, "row", "rows"), file, bad[0])
	case failed > 1:
		sentence = fmt.Sprintf("VIOLATED: %d of %d rows are not as %s wants them: %s.", failed, n, file, strings.Join(bad, ", "))
	case untested == n:
		sentence = fmt.Sprintf("NOT DECIDED: of %s nothing is tested: %s.", file, count(n, "row", "rows"))
	case untested > 0:
		sentence = fmt.Sprintf("NOT DECIDED: %d of %d rows %s untested; all others are as %s wants them.", untested, n, isAre(untested), file)
	case n == 1:
		sentence = fmt.Sprintf("KEPT: the one row is as %s wants it.", file)
	}
	figures := strings.Join(counts, ", ") + fmt.Sprintf(" = %d", n)
	if v.Outside > 0 {
		figures += fmt.Sprintf("; %d more observed, which no rule is about", v.Outside)
	}
	lines := []string{sentence, figures}
	if len(v.Nowhere) > 0 {
		lines = append(lines, "In no segment, by source address or name: "+Clean(strings.Join(v.Nowhere, ", ")))
	}
	return lines
}

func isAre(n int) string {
	if n == 1 {
		return "is"
	}
	return "are"
}

// vantageLabels returns what to call the vantage of a row: its name, with the
// source where the name has several of one family.
func vantageLabels(v *policy.Verdict) func(*policy.Row) string {
	sources := map[[2]string][]netip.Addr{}
	for i := range v.Rows {
		r := &v.Rows[i]
		key := [2]string{r.Vantage, r.Family}
		if r.Source.IsValid() && !slices.Contains(sources[key], r.Source) {
			sources[key] = append(sources[key], r.Source)
		}
	}
	return func(r *policy.Row) string {
		if r.Source.IsValid() && len(sources[[2]string{r.Vantage, r.Family}]) > 1 {
			return Clean(r.Vantage) + " " + addrText(r.Source)
		}
		return Clean(r.Vantage)
	}
}

// seenWord says in a word what was seen.
func seenWord(r *policy.Row) string {
	switch {
	case !r.Seen:
		return "nobody looked"
	case r.State == scanner.Open:
		return "open"
	case r.State == scanner.Closed:
		return "refused"
	case r.Reason == scanner.NoResponse:
		return "no answer"
	}
	return Clean(string(r.Reason))
}

// Columns of the page.
const (
	onResult = iota
	onVantage
	onDestination
	onPort
	onExpected
	onSeen
)

// policyPage is what people read: the worst rows first.
func policyPage(v *policy.Verdict, o Options) page {
	rows := make([]*policy.Row, len(v.Rows))
	for i := range v.Rows {
		rows[i] = &v.Rows[i]
	}
	slices.SortStableFunc(rows, func(a, b *policy.Row) int {
		return cmp.Compare(slices.Index(policy.Results(), a.Result), slices.Index(policy.Results(), b.Result))
	})
	listed := slices.DeleteFunc(slices.Clone(rows), func(r *policy.Row) bool { return !listsRow(r, len(rows), o.Show) })
	label := vantageLabels(v)
	var grid [][]string
	var below []string
	p := page{head: []string{"Result", "Vantage", "Destination", "Port", "Must be", "Seen", "Rule", "Note"}}
	for _, r := range listed {
		cells := []string{string(r.Result), label(r), Clean(r.Destination), r.Ports.String(), r.Expected, seenWord(r)}
		grid = append(grid, cells)
		below = append(below, belowRow(r))
		p.rows = append(p.rows, append(slices.Clone(cells), Clean(r.Rule.String()), Clean(r.Note)))
	}
	p.table = func(w io.Writer) error {
		return policyTable(w, grid, below, len(rows)-len(listed), o)
	}
	return p
}

// listsRow reports whether a row is listed: what passes is not of a long sheet.
func listsRow(r *policy.Row, all int, show Show) bool {
	if show == ShowAuto {
		return all <= 64 || r.Result != policy.Pass
	}
	return show == ShowAll || r.Seen && show.has(r.State.String())
}

// belowRow is what stands below a row that is not simply as it must be.
func belowRow(r *policy.Row) string {
	if r.Result == policy.Pass {
		return ""
	}
	text := Clean(r.Rule.String())
	if r.Host != "" && r.Host != r.Destination {
		text += ", " + Clean(r.Host)
	}
	return text + ": " + Clean(r.Note)
}

// resultColors are for what is bad, what is not known, and what is well.
var resultColors = map[string]termenv.Color{
	"fail-open": termenv.ANSIRed, "fail-blocked": termenv.ANSIRed, "expired": termenv.ANSIRed,
	"untested": termenv.ANSIYellow, "exception": termenv.ANSICyan, "pass": termenv.ANSIGreen,
}

// policyTable writes the table. Where it is too wide for the terminal, the
// destination stands on a line of its own, and the rest below it.
func policyTable(w io.Writer, rows [][]string, below []string, left int, o Options) error {
	head := []string{"RESULT", "VANTAGE", "DESTINATION", "PORT", "MUST BE", "SEEN"}
	align := tw.Alignment{tw.AlignLeft, tw.AlignLeft, tw.AlignLeft, tw.AlignRight, tw.AlignLeft, tw.AlignLeft}
	width := cmp.Or(o.Width, foldAt)
	split := gridWidth(head, rows) > width
	cells := rows
	if split {
		head = slices.Concat(head[:onVantage], head[onPort:], head[onDestination:onPort])
		align = slices.Concat(align[:onVantage], align[onPort:], align[onDestination:onPort])
		cells = nil
		for _, r := range rows {
			cells = append(cells, slices.Concat(r[:onVantage], r[onPort:], []string{""}))
		}
		head[len(head)-1] = ""
	}
	lines, err := grid(head, cells, align)
	if err != nil {
		return err
	}
	if len(rows) == 0 {
		lines = nil
	}
	var b strings.Builder
	for i, line := range lines {
		text := string(line)
		if i > 0 && o.Color {
			result := rows[i-1][onResult]
			text = termenv.String(result).Foreground(resultColors[result]).String() + text[len(result):]
		}
		b.WriteString(text + "\n")
		if i == 0 {
			continue
		}
		if split {
			writeBelow(&b, "from "+rows[i-1][onVantage]+" to "+rows[i-1][onDestination], width)
		}
		writeBelow(&b, below[i-1], width)
	}
	if left > 0 {
		fmt.Fprintf(&b, "%d more as they must be (--show all lists them)\n", left)
	}
	_, err = io.WriteString(w, b.String())
	return err
}

// writeBelow writes a text below its line.
func writeBelow(b *strings.Builder, text string, width int) {
	for _, part := range wrap(text, width-len(noteIndent)) {
		b.WriteString(noteIndent + part + "\n")
	}
}

// gridWidth returns how wide grid makes a table.
func gridWidth(head []string, rows [][]string) (sum int) {
	for col := range head {
		width := columns.StringWidth(head[col])
		for _, r := range rows {
			width = max(width, columns.StringWidth(r[col]))
		}
		sum += width + tableGap
	}
	return sum - tableGap
}

// policyTests are a suite a vantage, a test a row.
func policyTests(v *policy.Verdict) (suites []testSuite) {
	label := vantageLabels(v)
	for i := range v.Rows {
		r := &v.Rows[i]
		name := label(r)
		at := slices.IndexFunc(suites, func(s testSuite) bool { return s.name == name })
		if at < 0 {
			at = len(suites)
			suites = append(suites, testSuite{name: name})
		}
		s := &suites[at]
		if !r.Time.IsZero() && (s.began.IsZero() || r.Time.Before(s.began)) {
			s.began = r.Time
		}
		s.cases = append(s.cases, policyTest(r, name))
	}
	return suites
}

func policyTest(r *policy.Row, vantage string) testCase {
	to := Clean(r.Destination)
	if r.Host != "" && r.Host != r.Destination {
		to += " (" + Clean(r.Host) + ")"
	}
	if r.Family == "IPv6" && !r.Seen {
		to += " over IPv6"
	}
	c := testCase{class: "policy." + dotted(vantage), name: fmt.Sprintf("%s: %s port %s", Clean(r.Rule.String()), to, r.Ports), skipped: r.Result == policy.Untested}
	if r.Result.Bad() {
		c.failed = string(r.Result)
	}
	if r.Result != policy.Pass {
		c.said = fmt.Sprintf("%s port %s must be %s from %s: %s", Clean(r.Destination), r.Ports, r.Expected, vantage, Clean(r.Note))
	}
	return c
}
