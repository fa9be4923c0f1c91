package report

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner/egress"
)

// An Audit is what a journal of "smtpsweep egress" says: all that its screen, its
// ticket and its tables are made of.
type Audit struct {
	Header   Header
	Facts    AuditFacts
	Verdicts []egress.Verdict // of the last round, in the order of ports; see Add
	Hops     []egress.Hop     // of the same round
	Notes    []string
	Lines    [][]byte // every record of the journal, for the formats that keep them
	Ended    time.Time
}

// AuditFacts are what the run record of an audit says in its "config", under "audit".
type AuditFacts struct {
	Operators []string `json:"operators"`
	ListDate  string   `json:"list_date,omitempty"` // of the built-in list; empty if the user named the destinations
	Ports     []uint16 `json:"ports"`
	Control   uint16   `json:"control"`
	Rounds    int      `json:"rounds,omitempty"` // with --watch: how often, 0 for ever
	HowTo     bool     `json:"how_to,omitempty"`
	NoRoute6  bool     `json:"no_ipv6,omitempty"`
}

// Add takes a record of the journal. Later verdicts on a vantage, family and port
// take the place of earlier ones. What a stranger may have said in a record is
// cleaned here.
func (a *Audit) Add(typ string, line []byte) error {
	a.Lines = append(a.Lines, slices.Clone(line))
	switch typ {
	case "verdict":
		var v egress.Verdict
		if err := json.Unmarshal(line, &v); err != nil {
			return fmt.Errorf("verdict record: %w", err)
		}
		cleanVerdict(&v)
		a.Hops = slices.DeleteFunc(a.Hops, func(h egress.Hop) bool { return h.Vantage == v.Vantage && h.Round < v.Round })
		same := func(o egress.Verdict) bool {
			return o.Vantage == v.Vantage && o.Family == v.Family && o.Port == v.Port
		}
		if i := slices.IndexFunc(a.Verdicts, same); i >= 0 {
			a.Verdicts[i] = v
		} else {
			a.Verdicts = append(a.Verdicts, v)
		}
	case "path":
		var h egress.Hop
		if err := json.Unmarshal(line, &h); err != nil {
			return fmt.Errorf("path record: %w", err)
		}
		cleanHop(&h)
		a.Hops = append(a.Hops, h)
	}
	return nil
}

// cleanVerdict cleans what strangers may have said.
func cleanVerdict(v *egress.Verdict) {
	for _, s := range []*string{&v.Vantage, &v.Source, &v.Public, &v.TLS, &v.ICMPFrom, &v.ICMP} {
		*s = Clean(*s)
	}
	v.Word, v.How, v.Cause = egress.Word(Clean(string(v.Word))), egress.Mechanism(Clean(string(v.How))), egress.Cause(Clean(string(v.Cause)))
	for i := range v.Evidence {
		v.Evidence[i] = Clean(v.Evidence[i])
	}
	for i := range v.Findings {
		f := &v.Findings[i]
		f.Code = Clean(f.Code)
		for j := range f.Evidence {
			f.Evidence[j] = Clean(f.Evidence[j])
		}
	}
	for i := range v.RuledOut {
		r := &v.RuledOut[i]
		r.Cause, r.Evidence = egress.Cause(Clean(string(r.Cause))), Clean(r.Evidence)
	}
	if w := v.Where; w != nil {
		for _, s := range []*string{&w.Destination, &w.AfterAddr, &w.AfterName, &w.ByAddr, &w.ByName, &w.Probes} {
			*s = Clean(*s)
		}
		w.Owner = egress.Owner(Clean(string(w.Owner)))
	}
}

// cleanHop does so for a row of a path.
func cleanHop(h *egress.Hop) {
	for _, s := range []*string{&h.Vantage, &h.Destination, &h.Address, &h.Name, &h.Words} {
		*s = Clean(*s)
	}
	h.Owner = egress.Owner(Clean(string(h.Owner)))
	for i := range h.Others {
		h.Others[i] = Clean(h.Others[i])
	}
	for i := range h.Cells {
		c := &h.Cells[i]
		c.Said, c.ICMP = Clean(c.Said), Clean(c.ICMP)
	}
}

// vantages returns the vantages of an audit in order.
func (a *Audit) vantages() (out []string) {
	for i := range a.Verdicts {
		if !slices.Contains(out, a.Verdicts[i].Vantage) {
			out = append(out, a.Verdicts[i].Vantage)
		}
	}
	return out
}

// of returns the verdicts of a vantage.
func (a *Audit) of(vantage string) (out []*egress.Verdict) {
	for i := range a.Verdicts {
		if a.Verdicts[i].Vantage == vantage {
			out = append(out, &a.Verdicts[i])
		}
	}
	return out
}

// An auditEncoder writes an audit when it is closed: there are no rows.
type auditEncoder struct {
	w     io.Writer
	audit *Audit
	write func(io.Writer, *Audit, Options) error
	opt   Options
}

// Row implements Encoder.
func (*auditEncoder) Row(*Row) error { return nil }

// Close implements Encoder.
func (e *auditEncoder) Close(Totals) error { return e.write(e.w, e.audit, e.opt) }

// auditFormats are the formats that an audit can be written in.
var auditFormats = map[string]func(io.Writer, *Audit, Options) error{
	"table": writeAuditScreen, "md": writeAuditTicket, "csv": writeAuditCSV, "json": writeAuditJSON, "jsonl": writeAuditLines,
}

// AuditFormat returns a format that writes an audit, by the name of the format. The
// error lists the names.
func AuditFormat(name string, a *Audit) (Format, error) {
	write := auditFormats[name]
	if write == nil {
		return Format{}, fmt.Errorf("an audit has no format %q; there are %s", Clean(name), strings.Join(AuditFormatNames(), ", "))
	}
	format, err := Lookup(name)
	format.Streams = false
	format.New = func(w io.Writer, _ Header, o Options) (Encoder, error) {
		return &auditEncoder{w, a, write, o}, nil
	}
	return format, err
}

// AuditFormatNames returns the names of the formats that an audit can be written in.
func AuditFormatNames() []string { return []string{"table", "csv", "jsonl", "json", "md"} }

// HasAuditFormat says whether an audit can be written in a format.
func HasAuditFormat(name string) error {
	_, err := AuditFormat(name, nil)
	return err
}

// writeAuditLines writes the records of the journal.
func writeAuditLines(w io.Writer, a *Audit, _ Options) error {
	for _, line := range a.Lines {
		if _, err := w.Write(append(line[:len(line):len(line)], '\n')); err != nil {
			return err
		}
	}
	return nil
}

// writeAuditJSON writes one document.
func writeAuditJSON(w io.Writer, a *Audit, _ Options) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(map[string]any{
		"schema": SchemaVersion, "version": a.Header.Version, "args": a.Header.Args, "started": a.Header.Started.UTC(),
		"audit": a.Facts, "headline": Headline(a), "verdicts": nonNil(a.Verdicts), "hops": nonNil(a.Hops), "notes": nonNil(a.Notes),
	})
}

// nonNil makes a list that JSON writes as [] if it is empty.
func nonNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// worst orders verdicts for people: what they must do something about first.
func worst(a, b *egress.Verdict) int {
	rank := func(v *egress.Verdict) int {
		switch v.Word {
		case egress.Intercepted:
			return 0
		case egress.Downgraded:
			return 1
		case egress.Blocked:
			return 2
		case egress.Inconclusive:
			return 3
		case egress.Allowed:
			return 4
		}
		return 5
	}
	return cmp.Or(rank(a)-rank(b), int(a.Port)-int(b.Port), int(a.Family)-int(b.Family))
}
