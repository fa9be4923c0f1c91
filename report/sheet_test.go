package report

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/scanner/egress/policy"
)

// sheetFormats are those of a judged policy.
var sheetFormats = []string{"table", "csv", "jsonl", "json", "md", "junit"}

// writeSheet writes a sheet in a format.
func writeSheet(t testing.TB, s *Sheet, name string, o Options) string {
	t.Helper()
	f, err := LookupIn(SheetFormats(func() *Sheet { return s }, name), name)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	e, err := f.New(&b, Header{}, o)
	if err == nil {
		err = e.Close(Totals{})
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// hostileVerdict is judged of what strangers wrote: names of vantages and hosts,
// files, owners, the words of an error.
func hostileVerdict(t testing.TB) *policy.Verdict {
	t.Helper()
	p, err := policy.Parse("policy.yaml", strings.NewReader(`deny: [{from: all, to: any, ports: [25]}]
exceptions:
- {from: all, to: 198.51.100.8, ports: [25], owner: "=cmd|' /C calc'!A0 \e[2J <script>\u202e", until: 2026-09-30}
- {from: 192.0.2.9, to: 198.51.100.9, ports: [25], owner: "@everyone", until: 2026-12-31}
`))
	if err != nil {
		t.Fatal(err)
	}
	at := func(vantage, source, host, addr string, port uint16, state scanner.State, reason scanner.Reason) policy.Observation {
		src, _ := netip.ParseAddr(source)
		dst, _ := netip.ParseAddr(addr)
		return policy.Observation{Vantage: vantage, Source: src, Host: host, Address: dst, Port: port, State: state, Reason: reason, Time: began, Journal: hostile, Err: hostile}
	}
	stopped := at("lab", "192.0.2.1", "", "2001:db8:ffff:ffff:ffff:ffff:ffff:fff7", 25, scanner.Filtered, scanner.NoResponse)
	stopped.StoppedAt = hostile
	later := began.AddDate(0, 1, 0)
	old := at(hostile, "192.0.2.3", "mx.example.org", "198.51.100.8", 25, scanner.Open, scanner.SynAck)
	old.Time = later
	return p.Judge([]policy.Observation{
		at(hostile, "192.0.2.1", hostile, "198.51.100.7", 25, scanner.Open, scanner.SynAck),
		at(hostile, "192.0.2.2", "", "198.51.100.7", 25, scanner.Unknown, scanner.LocalError),
		at("lab", "192.0.2.1", "", "2001:db8:ffff:ffff:ffff:ffff:ffff:fff7", 587, scanner.Open, scanner.SynAck),
		at("lab", "192.0.2.1", hostile, "", 25, scanner.Unknown, scanner.DNSNXDomain),
		at("lab", "192.0.2.9", "", "198.51.100.9", 25, scanner.Open, scanner.SynAck),
		at("", "", "", "198.51.100.7", 25, scanner.Closed, scanner.ConnRefused),
		stopped, old,
	}, later)
}

func TestSheetsAreInert(t *testing.T) {
	t.Parallel()
	s := PolicySheet(hostileVerdict(t), hostile)
	for _, name := range sheetFormats {
		for _, o := range []Options{{}, {Width: 60, Show: ShowAll}, {Show: ShowOpen}} {
			out := writeSheet(t, s, name, o)
			checkPrintable(t, out)
			if (name == "md" || name == "junit") && strings.Contains(out, "<script") {
				t.Errorf("%s: markup of a stranger:\n%s", name, out)
			}
		}
	}
	rows, err := csv.NewReader(strings.NewReader(writeSheet(t, s, "csv", Options{}))).ReadAll()
	if err != nil || len(rows) != 1+len(s.Rows) {
		t.Fatalf("CSV of %d rows is read as %d: %v", len(s.Rows), len(rows), err)
	}
	for i, row := range rows[1:] {
		for j, cell := range row {
			if isFormula(cell) && cell != "" && cell[0] != '\'' {
				t.Errorf("formula in CSV: %q", cell)
			}
			if plainCell(cell) != s.Rows[i][j] {
				t.Errorf("cell %q is read from CSV as %q", s.Rows[i][j], cell)
			}
		}
	}
}

func TestSheetsAreReadAsWritten(t *testing.T) {
	t.Parallel()
	v := hostileVerdict(t)
	s := PolicySheet(v, "policy.yaml")
	var doc struct {
		Schema int
		Kind   string
		Rows   []map[string]any
		Totals map[string]int
	}
	if err := json.Unmarshal([]byte(writeSheet(t, s, "json", Options{})), &doc); err != nil {
		t.Fatal(err)
	}
	if doc.Schema != SchemaVersion || doc.Kind != "policy" || len(doc.Rows) != len(s.Rows) || doc.Totals["fail-open"] != v.Count(policy.FailOpen) || doc.Totals["outside"] != v.Outside {
		t.Errorf("JSON has schema %d, kind %q, %d rows, totals %v", doc.Schema, doc.Kind, len(doc.Rows), doc.Totals)
	}
	lines := strings.Split(strings.TrimSpace(writeSheet(t, s, "jsonl", Options{})), "\n")
	if len(lines) != len(s.Rows)+1 {
		t.Fatalf("%d lines of JSON for %d rows", len(lines), len(s.Rows))
	}
	for i, line := range lines[:len(s.Rows)] {
		var row map[string]any
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			t.Fatal(err)
		}
		if row["type"] != "policy" || len(row["crc"].(string)) != 8 {
			t.Errorf("line %d is %s", i, line)
		}
		for j, f := range s.Schema.Fields {
			got := ""
			if value, ok := row[f.Name]; ok {
				got = fmt.Sprint(value)
			}
			if got != s.Rows[i][j] || fmt.Sprint(doc.Rows[i][f.Name]) != fmt.Sprint(row[f.Name]) {
				t.Errorf("row %d: %s is %q, %q in JSON Lines, %v in JSON", i, f.Name, s.Rows[i][j], got, doc.Rows[i][f.Name])
			}
		}
	}
}

// junit is what a reader of test results looks at.
type junit struct {
	Tests    int `xml:"tests,attr"`
	Failures int `xml:"failures,attr"`
	Skipped  int `xml:"skipped,attr"`
	Suites   []struct {
		Name     string `xml:"name,attr"`
		Tests    int    `xml:"tests,attr"`
		Failures int    `xml:"failures,attr"`
		Skipped  int    `xml:"skipped,attr"`
		Cases    []struct {
			Name    string `xml:"name,attr"`
			Failure *struct {
				Type    string `xml:"type,attr"`
				Message string `xml:"message,attr"`
			} `xml:"failure"`
			Skip *struct{} `xml:"skipped"`
		} `xml:"testcase"`
	} `xml:"testsuite"`
}

func TestJUnitCountsWhatItHas(t *testing.T) {
	t.Parallel()
	v := hostileVerdict(t)
	var doc junit
	if err := xml.Unmarshal([]byte(writeSheet(t, PolicySheet(v, "policy.yaml"), "junit", Options{})), &doc); err != nil {
		t.Fatal(err)
	}
	var tests, failures, skipped int
	for _, s := range doc.Suites {
		f, k := 0, 0
		names := map[string]bool{}
		for _, c := range s.Cases {
			if names[c.Name] {
				t.Errorf("suite %s has %q twice", s.Name, c.Name)
			}
			names[c.Name] = true
			if c.Failure != nil {
				f++
				if !policy.Result(c.Failure.Type).Bad() || c.Failure.Message == "" {
					t.Errorf("failure %+v", c.Failure)
				}
			}
			if c.Skip != nil {
				k++
			}
		}
		if s.Tests != len(s.Cases) || s.Failures != f || s.Skipped != k {
			t.Errorf("suite %s says %d, %d, %d and has %d, %d, %d", s.Name, s.Tests, s.Failures, s.Skipped, len(s.Cases), f, k)
		}
		tests, failures, skipped = tests+len(s.Cases), failures+f, skipped+k
	}
	if doc.Tests != tests || doc.Failures != failures || doc.Skipped != skipped || tests != len(v.Rows) ||
		failures != v.Count(policy.FailOpen, policy.FailBlocked, policy.Expired) || skipped != v.Count(policy.Untested) {
		t.Errorf("the document says %d, %d, %d; it has %d, %d, %d; there are %d rows", doc.Tests, doc.Failures, doc.Skipped, tests, failures, skipped, len(v.Rows))
	}
}

// junitProgram has python3-junitparser read a file and say what it found.
const junitProgram = `
import sys
from junitparser import JUnitXml
doc = JUnitXml.fromfile(sys.argv[1])
print(doc.tests, doc.failures, doc.skipped, doc.errors)
for suite in doc:
    print(suite.name, len(list(suite)), suite.failures, suite.skipped)
    for case in suite:
        print(" ", case.name, "|", " ".join(type(r).__name__ + " " + str(r.type) + " " + r.message for r in case.result))
`

func TestJunitparserReadsOurs(t *testing.T) {
	t.Parallel()
	python := tool(t, "/usr/bin/python3") // Debian's, which has Debian's modules
	needs(t, "python3-junitparser", exec.Command(python, "-c", "import junitparser").Run() == nil)
	v := hostileVerdict(t)
	out, err := exec.Command(python, "-c", junitProgram, writeTemp(t, "x.junit", []byte(writeSheet(t, PolicySheet(v, "policy.yaml"), "junit", Options{})))).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	want := fmt.Sprintf("%d %d %d 0\n", len(v.Rows), v.Count(policy.FailOpen, policy.FailBlocked, policy.Expired), v.Count(policy.Untested))
	for _, s := range policyTests(v) {
		failed, skipped := s.count()
		want += fmt.Sprintln(s.name, len(s.cases), failed, skipped)
		for _, c := range s.cases {
			result := ""
			switch {
			case c.failed != "":
				result = "Failure " + c.failed + " " + c.said
			case c.skipped:
				result = "Skipped None " + c.said
			}
			want += fmt.Sprintln(" ", c.name, "|", result)
		}
	}
	if diff := cmp.Diff(want, string(out)); diff != "" {
		t.Error(diff)
	}
}

func TestPolicyTableFitsItsWidth(t *testing.T) {
	t.Parallel()
	s := PolicySheet(hostileVerdict(t), "policy.yaml")
	for width := 60; width <= 200; width += 7 {
		for line := range strings.Lines(writeSheet(t, s, "table", Options{Width: width})) {
			if got := columns.StringWidth(strings.TrimRight(line, "\n")); got > width {
				t.Errorf("%d columns on a terminal of %d: %q", got, width, line)
			}
		}
	}
}

func TestPolicyTableBeginsWithTheWorst(t *testing.T) {
	t.Parallel()
	v := hostileVerdict(t)
	out := writeSheet(t, PolicySheet(v, "policy.yaml"), "table", Options{Color: true})
	var order []string
	for line := range strings.Lines(out) {
		for _, r := range policy.Results() {
			if strings.HasPrefix(line, "\x1b[3") && strings.Contains(line, "m"+string(r)+"\x1b") {
				order = append(order, string(r))
			}
		}
	}
	if !strings.HasPrefix(out, "VIOLATED: ") || len(order) != len(v.Rows) || !slices.IsSortedFunc(order, func(a, b string) int {
		return slices.Index(policy.Results(), policy.Result(a)) - slices.Index(policy.Results(), policy.Result(b))
	}) {
		t.Errorf("results in the order %v:\n%s", order, out)
	}
}

func TestPolicySummaries(t *testing.T) {
	t.Parallel()
	rows := func(results ...policy.Result) *policy.Verdict {
		v := &policy.Verdict{}
		for _, r := range results {
			v.Rows = append(v.Rows, policy.Row{Result: r, Rule: &policy.Rule{Action: policy.Deny}})
		}
		return v
	}
	for want, v := range map[string]*policy.Verdict{
		"KEPT: the one row is as p wants it.":                                                              rows(policy.Pass),
		"KEPT: all 2 rows are as p wants them.":                                                            rows(policy.Pass, policy.Excepted),
		"NOT DECIDED: of p nothing is tested: 1 row.":                                                      rows(policy.Untested),
		"NOT DECIDED: 1 of 2 rows is untested; all others are as p":                                        rows(policy.Untested, policy.Pass),
		"VIOLATED: 1 of 3 rows is not as p wants it: 1 fail-open (open, must be blocked).":                 rows(policy.Untested, policy.Pass, policy.FailOpen),
		"VIOLATED: 2 of 2 rows are not as p wants them: 1 fail-blocked (blocked, must be open), 1 expired": rows(policy.Expired, policy.FailBlocked),
	} {
		if got := policySummary(v, "p")[0]; !strings.HasPrefix(got, want) {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	many := rows(slices.Repeat([]policy.Result{policy.Pass}, 70)...)
	many.Rows[3].Result = policy.FailOpen
	if out := writeSheet(t, PolicySheet(many, "p"), "table", Options{}); strings.Contains(out, "\npass ") || !strings.Contains(out, "69 more as they must be (--show all lists them)") {
		t.Errorf("a long sheet:\n%s", out)
	}
	if out := writeSheet(t, PolicySheet(many, "p"), "table", Options{Show: ShowAll}); strings.Count(out, "\npass ") != 69 {
		t.Errorf("all of a long sheet:\n%s", out)
	}
}

func TestPolicyObservationReadsARow(t *testing.T) {
	t.Parallel()
	row, err := ParseRow([]byte(`{"type":"result","time":"2026-09-14T07:30:00.137Z","vantage":"users","source":"10.20.0.7","host":"mx.example.org","address":"198.51.100.7","port":25,"state":"filtered","reason":"admin-prohibited","icmp_from":"10.20.0.1","error":"x","reflector":"abc","stopped_at":"hop 2-3\u001b","chain":["x"]}`))
	if err != nil {
		t.Fatal(err)
	}
	want := policy.Observation{Vantage: "users", Source: netip.MustParseAddr("10.20.0.7"), Host: "mx.example.org", Address: netip.MustParseAddr("198.51.100.7"), Port: 25,
		State: scanner.Filtered, Reason: scanner.AdminProhibited, ICMP: netip.MustParseAddr("10.20.0.1"), StoppedAt: `hop 2-3\x1b`, Reflector: true,
		Time: began.Add(137 * time.Millisecond), Journal: "a.jsonl", Err: "x"}
	if got := PolicyObservation(&row, "a.jsonl"); got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	known, err := ParseRow([]byte(`{"type":"result","address":"198.51.100.7"}`))
	if err != nil {
		t.Fatal(err)
	}
	known.Know("abc\"", "hop 2-3\x1b")
	if known, err = ParseRow(known.AppendJSON(nil)); err != nil {
		t.Fatal(err)
	}
	if got := PolicyObservation(&known, ""); !got.Reflector || got.StoppedAt != `hop 2-3\x1b` {
		t.Errorf("what was made known: %+v", got)
	}
	var empty Row
	if got := PolicyObservation(&empty, "a.jsonl"); got != (policy.Observation{Journal: "a.jsonl"}) {
		t.Errorf("of nothing: %+v", got)
	}
}

// matrixOf folds rows written "vantage source address port state finding time".
func matrixOf(t testing.TB, lines ...string) *Sheet {
	t.Helper()
	var m Matrix
	for _, line := range lines {
		f := strings.Fields(line)
		for i := range f {
			f[i] = strings.Trim(f[i], "-")
		}
		var r Row
		for i, col := range []Column{ColVantage, ColSource, ColAddress, ColPort, ColState, ColFinding, ColTime} {
			r.Cells[col] = f[i]
		}
		if r.Cells[ColAddress] == "mx.example.org" {
			r.Cells[ColAddress], r.Cells[ColHost] = "", "mx.example.org"
		}
		if err := m.Add(&r); err != nil {
			t.Fatal(err)
		}
	}
	return m.Sheet()
}

func TestMatrix(t *testing.T) {
	t.Parallel()
	s := matrixOf(t,
		"users 10.20.0.7 198.51.100.10 25 open starttls-masked;banner-masked 2",
		"users fd20::7 2001:db8::7 25 filtered - 1",
		"users 10.20.0.7 198.51.100.9 465 closed - 1",
		"users 10.20.0.7 198.51.100.9 25 open - 1",
		"users 10.20.0.7 198.51.100.9 25 filtered - 3", // later
		"users 10.20.0.7 198.51.100.9 25 closed - 2",
		"users - 198.51.100.10 587 filtered - 1", // silence whose source is not known
		"box 10.1.2.4 198.51.100.9 25 open - 1",
		"box 10.1.2.3 198.51.100.9 25 filtered - 1",
		"box 10.1.2.3 mx.example.org 25 unknown - 1",
	)
	want := `vantage,source,198.51.100.9:25,198.51.100.9:465,198.51.100.10:25,198.51.100.10:587,[2001:db8::7]:25,mx.example.org:25
box,10.1.2.3,filtered,,,,,unknown
box,10.1.2.4,open,,,,,
users,10.20.0.7 fd20::7,filtered,closed,"open starttls-masked;banner-masked",filtered,filtered,
`
	if diff := cmp.Diff(want, strings.ReplaceAll(writeSheet(t, s, "csv", Options{}), "\r\n", "\n")); diff != "" {
		t.Error(diff)
	}
	want = `3 vantages x 6 endpoints: state and findings of each.

                            198.51.100.9
VANTAGE  SOURCE             25        465
box      10.1.2.3           filtered  -
box      10.1.2.4           open      -
users    10.20.0.7 fd20::7  filtered  closed

                            198.51.100.10
VANTAGE  SOURCE             25
box      10.1.2.3           -
box      10.1.2.4           -
users    10.20.0.7 fd20::7  open starttls-masked;banner-masked

                            198.51.100.10  2001:db8::7  mx.example.org
VANTAGE  SOURCE             587            25           25
box      10.1.2.3           -              -            unknown
box      10.1.2.4           -              -            -
users    10.20.0.7 fd20::7  filtered       filtered     -
`
	if diff := cmp.Diff(want, writeSheet(t, s, "table", Options{Width: 70})); diff != "" {
		t.Error(diff)
	}
}

func TestMatrixFitsItsWidth(t *testing.T) {
	t.Parallel()
	var lines []string
	for v := range 3 {
		for a := range 9 {
			for _, port := range []string{"25", "465", "587"} {
				lines = append(lines, fmt.Sprintf("vantage%d 10.0.0.%d 2001:db8:ffff:ffff:ffff:ffff:ffff:%d %s %s - 1", v, v, 1000+a%4, port, []string{"open", "filtered", "closed"}[(a+v)%3]),
					fmt.Sprintf("vantage%d 10.0.0.%d 198.51.100.%d %s open x;y 1", v, v, a, port))
			}
		}
	}
	s := matrixOf(t, lines...)
	for width := 50; width <= 200; width += 9 {
		out := writeSheet(t, s, "table", Options{Width: width})
		for line := range strings.Lines(out) {
			if got := columns.StringWidth(strings.TrimRight(line, "\n")); got > width {
				t.Errorf("%d columns on a terminal of %d: %q", got, width, line)
			}
		}
		if got := strings.Count(out, "open x;y"); got != 3*9*3 {
			t.Errorf("at %d columns %d cells of %d are there", width, got, 3*9*3)
		}
	}
}

func TestMatrixHasABound(t *testing.T) {
	t.Parallel()
	var m Matrix
	var r Row
	for i := range maxMatrix + 1 {
		r.Cells[ColAddress], r.Cells[ColPort] = netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}).String(), "25"
		if err := m.Add(&r); (err != nil) != (i == maxMatrix) {
			t.Fatalf("endpoint %d: %v", i, err)
		}
	}
}

// A sheet's encoder says that its output failed.
func TestSheetFormatsPassErrorsOn(t *testing.T) {
	t.Parallel()
	s := PolicySheet(hostileVerdict(t), "policy.yaml")
	for _, f := range SheetFormats(func() *Sheet { return s }, sheetFormats...) {
		r, w := io.Pipe()
		r.CloseWithError(io.ErrClosedPipe)
		e, err := f.New(w, Header{}, Options{})
		if err == nil {
			err = e.Close(Totals{})
		}
		if err != io.ErrClosedPipe {
			t.Errorf("%s: %v", f.Name, err)
		}
	}
}
