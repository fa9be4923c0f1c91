package report

import (
	"io"
	"strconv"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner/egress"
)

// An auditField is a column of an audit: one line here is all of it.
type auditField struct {
	Field
	cell func(*egress.Verdict) string
}

// auditFields are the columns of an audit, in the order of files: a row is the
// verdict on a port, of one family and vantage.
var auditFields = []auditField{
	{Field{"time", "when it was decided, RFC 3339 in UTC", Text}, func(v *egress.Verdict) string { return v.Time.UTC().Format(time.RFC3339) }},
	{Field{"vantage", "label of where we looked from", Text}, func(v *egress.Verdict) string { return v.Vantage }},
	{Field{"source", "our address on this path", Text}, func(v *egress.Verdict) string { return v.Source }},
	{Field{"family", "4 or 6", Number}, func(v *egress.Verdict) string { return strconv.Itoa(int(v.Family)) }},
	{Field{"port", "TCP port", Number}, func(v *egress.Verdict) string { return strconv.Itoa(int(v.Port)) }},
	{Field{"control", "it is the control port", Bool}, func(v *egress.Verdict) string { return strconv.FormatBool(v.Control) }},
	{Field{"verdict", "allowed, blocked, intercepted, downgraded, inconclusive or not-tested", Text}, func(v *egress.Verdict) string { return string(v.Word) }},
	{Field{"cause", "why it is inconclusive or not tested", Text}, func(v *egress.Verdict) string { return string(v.Cause) }},
	{Field{"how", "how it is blocked: dropped, reset, rejected, cut or mixed", Text}, func(v *egress.Verdict) string { return string(v.How) }},
	{Field{"finding", "codes of what is wrong", List}, findingCell},
	{Field{"asked", "destinations, each of another operator", Number}, func(v *egress.Verdict) string { return strconv.Itoa(v.Asked) }},
	{Field{"answered", "of these", Number}, func(v *egress.Verdict) string { return strconv.Itoa(v.Answered) }},
	{Field{"stopped", "of these: no answer, though they are there", Number}, func(v *egress.Verdict) string { return strconv.Itoa(v.Stopped) }},
	{Field{"icmp_from", "who rejected it", Text}, func(v *egress.Verdict) string { return v.ICMPFrom }},
	{Field{"icmp", "its type/code", Text}, func(v *egress.Verdict) string { return v.ICMP }},
	{Field{"after_hop", "last hop that the port still reached", Number}, whereCell(func(w *egress.Where) string { return positive(w.After) })},
	{Field{"after_address", "its address", Text}, whereCell(func(w *egress.Where) string { return w.AfterAddr })},
	{Field{"by_hop", "hop at which it is stopped at the latest", Number}, whereCell(func(w *egress.Where) string { return positive(w.By) })},
	{Field{"by_address", "its address", Text}, whereCell(func(w *egress.Where) string { return w.ByAddr })},
	{Field{"owner", "in whose hands that is, as far as addresses tell", Text}, whereCell(func(w *egress.Where) string { return string(w.Owner) })},
	{Field{"tls_version", "lowest version that was negotiated", Text}, func(v *egress.Verdict) string { return v.TLS }},
	{Field{"verified", "destinations whose certificate is trusted and their own", Number}, func(v *egress.Verdict) string { return strconv.Itoa(v.Verified) }},
	{Field{"seen", "what was seen, in words", Text}, seenText},
}

func positive(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

func whereCell(of func(*egress.Where) string) func(*egress.Verdict) string {
	return func(v *egress.Verdict) string {
		if v.Where == nil {
			return ""
		}
		return of(v.Where)
	}
}

func findingCell(v *egress.Verdict) string {
	var codes []string
	for _, f := range v.Findings {
		codes = append(codes, f.Code)
	}
	cell, _ := joinList(codes, maxList)
	return cell
}

// AuditColumns returns the columns of an audit with their meaning.
func AuditColumns() (out []Field) {
	for _, f := range auditFields {
		out = append(out, f.Field)
	}
	return out
}

// writeAuditCSV writes a row for every verdict.
func writeAuditCSV(w io.Writer, a *Audit, o Options) error {
	var b []byte
	if o.CSVBOM {
		b = append(b, "\ufeff"...)
	}
	for i, f := range auditFields {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, f.Name...)
	}
	b = append(b, "\r\n"...)
	for i := range a.Verdicts {
		for j, f := range auditFields {
			if j > 0 {
				b = append(b, ',')
			}
			if cell := f.cell(&a.Verdicts[i]); cell != "" {
				b = appendCSVText(b, cell)
			}
		}
		b = append(b, "\r\n"...)
	}
	_, err := w.Write(b)
	return err
}
