package main

import (
	"bytes"
	"io"
	"net/netip"
	"strings"
	"testing"

	"github.com/smtpsweep/smtpsweep/report"
	"github.com/smtpsweep/smtpsweep/scanner/journal"
	"github.com/smtpsweep/smtpsweep/targets"
)

func TestThisBinaryIsSound(t *testing.T) {
	code, out, said := invoke(t, "selftest")
	if code != 0 || said != "" || strings.Count(out, "ok     ") != len(soundnesses) {
		t.Errorf("exit code %d, %q, %q", code, out, said)
	}
}

// Each part that selftest looks at is broken as it might be, and found out: what
// cannot fail says nothing.
func TestSelftestFindsEveryFault(t *testing.T) {
	for _, c := range []struct {
		name   string
		fault  func(*parts)
		failed string // the line on stdout
		says   string // the sentence on stderr
	}{
		{"an index twice", func(p *parts) {
			p.at = func(o targets.Order, pos uint64) uint64 { return o.At(pos / 2 * 2) }
		}, "FAILED order: every endpoint once", "comes twice or is outside"},
		{"an index beyond the end", func(p *parts) {
			p.at = func(o targets.Order, pos uint64) uint64 { return o.At(pos) + 1<<40 }
		}, "FAILED order: every endpoint once", "comes twice or is outside"},
		{"another's index", func(p *parts) {
			p.at = func(o targets.Order, pos uint64) uint64 { return pos }
		}, "FAILED shards: together every endpoint once", "comes twice or is outside"},
		{"the way back", func(p *parts) {
			p.pos = func(o targets.Order, i uint64) (uint64, bool) { pos, ok := o.Pos(i); return pos ^ 1, ok }
		}, "FAILED order: every endpoint once", "leads back to"},
		{"the index of an address", func(p *parts) {
			p.index = func(plan *targets.Plan, a netip.Addr, port uint16) (uint64, bool) {
				i, _ := plan.Index(a, port)
				return i, false
			}
		}, "FAILED order: every endpoint once", "10.0.0.0:25 is index 0 and 0"},
		{"an order of its own", func(p *parts) {
			p.at = func(o targets.Order, pos uint64) uint64 { return o.At(o.Len() - 1 - pos) }
			p.pos = func(o targets.Order, i uint64) (uint64, bool) { pos, ok := o.Pos(i); return o.Len() - 1 - pos, ok }
		}, "FAILED order: the same as in every other binary", "it begins ["},
		{"a checksum", func(p *parts) {
			p.frame = func(dst, rec []byte) []byte {
				return bytes.Replace(journal.AppendLine(dst, rec), []byte("113fdb5c"), []byte("113fdb5d"), 1)
			}
		}, "FAILED journal: checksum vectors", "the line is"},
		{"checksums are not looked at", func(p *parts) { p.open = journal.OpenSalvage },
			"FAILED journal: a torn tail is dropped, a flipped bit is found", "a flipped bit is not found"},
		{"a journal is not read", func(p *parts) {
			p.open = func(string) (*journal.Reader, error) { return nil, io.ErrUnexpectedEOF }
		}, "FAILED journal: checksum vectors", "unexpected EOF"},
		{"a row is lost", func(p *parts) {
			p.resume = func(path string, cfg targets.Config) (*journal.Writer, *journal.Recovered, error) {
				w, rec, err := journal.Resume(path, cfg)
				rec.Done = new(targets.Positions)
				return w, rec, err
			}
		}, "FAILED journal: a run that was cut short", "after 49 rows position 0 counts as done: false"},
		{"a torn row counts", func(p *parts) {
			p.resume = func(path string, cfg targets.Config) (*journal.Writer, *journal.Recovered, error) {
				w, rec, err := journal.Resume(path, cfg)
				rec.Done.Add(49)
				return w, rec, err
			}
		}, "FAILED journal: a run that was cut short", "after 49 rows position 49 counts as done: true"},
		{"a cell is lost", func(p *parts) {
			p.parse = func(line []byte) (report.Row, error) { r, err := report.ParseRow(line); r.Cells[0] = ""; return r, err }
		}, "FAILED rows: written and read again alike", "a row differs"},
		{"nothing is cleaned", func(p *parts) { p.clean = func(s string) string { return s } },
			"FAILED cleaning: nothing unprintable passes", "passes"},
		{"cleaning is not stable", func(p *parts) { p.clean = func(s string) string { return report.Clean(s) + "x" } },
			"FAILED cleaning: nothing unprintable passes", "cleaning twice differs"},
		{"cleaning loses", func(p *parts) { p.clean = func(s string) string { return "" } },
			"FAILED cleaning: nothing unprintable passes", "becomes"},
		{"formulas are not inert", func(p *parts) { p.csv = newNaiveCSV },
			"FAILED cleaning: formulas are inert in CSV", "a cell begins with a formula"},
		{"no CSV", func(p *parts) { p.csv = nil }, "FAILED cleaning: formulas are inert in CSV", "there is no CSV"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := shipped()
			c.fault(&p)
			var out, said bytes.Buffer
			u := newUI(strings.NewReader(""), &out, &said)
			code := u.exit(runSelftest(u, p))
			if code != exitEnvironment || !strings.Contains(out.String(), c.failed) || !strings.Contains(said.String(), c.says) ||
				!strings.Contains(said.String(), "do not trust this binary") {
				t.Errorf("exit code %d\n%s%s", code, out.String(), said.String())
			}
		})
	}
}

// A naiveCSV joins cells with commas, as one might.
type naiveCSV struct{ w io.Writer }

func newNaiveCSV(w io.Writer, _ report.Header, _ report.Options) (report.Encoder, error) {
	return naiveCSV{w}, nil
}

func (e naiveCSV) Row(r *report.Row) error {
	_, err := io.WriteString(e.w, strings.Join(r.Cells[:], ","))
	return err
}

func (naiveCSV) Close(report.Totals) error { return nil }
