package report

import (
	"bytes"
	"encoding/xml"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Real programs judge what we write. Where one is missing the test skips; with
// SMTPSWEEP_LAB=require (or long) that is a failure.

// needs finds a program or a file of another package, or skips.
func needs(t *testing.T, what string, ok bool) {
	t.Helper()
	tier := os.Getenv("SMTPSWEEP_LAB")
	switch {
	case ok:
	case tier == "require", tier == "long":
		t.Fatalf("%s is required and not installed", what)
	default:
		t.Skipf("%s is not installed", what)
	}
}

// tool finds a program.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	needs(t, name, err == nil)
	return path
}

// nmapDTD is where Debian's nmap-common has nmap's document type.
const nmapDTD = "/usr/share/nmap/nmap.dtd"

// writeTemp writes a file into the test's own directory.
func writeTemp(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestXMLFollowsNmapsDocumentType(t *testing.T) {
	xmllint := tool(t, "xmllint")
	_, err := os.Stat(nmapDTD)
	needs(t, nmapDTD, err == nil)
	rows, totals := fixtureRows()
	incomplete := totals
	incomplete.Complete = false
	for name, doc := range map[string][]byte{
		"fixture": render(t, "xml", Options{}), "empty": renderRows(t, "xml", Options{}, nil, Totals{}), "cut": renderRows(t, "xml", Options{}, rows[:9], incomplete),
	} {
		out, err := exec.Command(xmllint, "--nonet", "--noout", "--dtdvalid", nmapDTD, writeTemp(t, "scan.xml", doc)).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v: %s", name, err, out)
		}
	}
}

func TestXMLIsWellFormedAndKeepsTheText(t *testing.T) {
	d := xml.NewDecoder(bytes.NewReader(render(t, "xml", Options{})))
	rows, _ := fixtureRows()
	var want, got []string
	for _, r := range rows {
		if b := r.Cells[ColBanner]; b != "" {
			want = append(want, b)
		}
	}
	for {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "elem" && e.Attr[0].Value == "banner" {
			var text string
			if err := d.DecodeElement(&text, &e); err != nil {
				t.Fatal(err)
			}
			got = append(got, text)
		}
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("banners are %q, want %q", got, want)
	}
}

func TestNdiffComparesTwoRuns(t *testing.T) {
	ndiff := tool(t, "ndiff")
	rows, totals := fixtureRows()
	a := writeTemp(t, "a.xml", renderRows(t, "xml", Options{}, rows, totals))
	for i := range rows {
		if rows[i].Cells[ColAddress] == "192.0.2.19" && rows[i].Cells[ColPort] == "465" {
			rows[i].Cells[ColState], rows[i].Cells[ColReason] = "open", "syn-ack"
		}
		rows[i].Cells[ColTime] = "2026-10-01T00:00:00.000Z"
		rows[i].Cells[ColRTT] = "99"
	}
	b := writeTemp(t, "b.xml", renderRows(t, "xml", Options{}, rows, totals))
	if out, err := exec.Command(ndiff, a, a).CombinedOutput(); err != nil {
		t.Errorf("a run and itself: %v: %s", err, out)
	}
	out, err := exec.Command(ndiff, a, b).CombinedOutput()
	if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != 1 {
		t.Fatalf("two runs that differ: %v: %s", err, out)
	}
	var changed []string
	for l := range strings.Lines(string(out)) {
		if (l[0] == '+' || l[0] == '-') && !strings.Contains(l, "smtpsweep scan") {
			changed = append(changed, strings.Join(strings.Fields(l), " "))
		}
	}
	want := "-PORT STATE SERVICE VERSION|-465/tcp closed smtps|+465/tcp open smtps"
	if got := strings.Join(changed, "|"); got != want && got != strings.TrimPrefix(want, "-PORT STATE SERVICE VERSION|") {
		t.Errorf("ndiff says %s\n%s", got, out)
	}
}

// What changes by itself between two runs must not, and what changes else must
// not make ndiff fail: ndiff of Debian 12 does if a script of a port differs.
func TestNdiffSurvivesOtherBannersAndCertificates(t *testing.T) {
	ndiff := tool(t, "ndiff")
	write := func(name string, change func(c *[NumColumns]string)) string {
		rows, totals := fixtureRows()
		for i := range rows {
			if c := &rows[i].Cells; c[ColAddress] == "192.0.2.18" && c[ColPort] == "25" {
				change(c)
			}
		}
		return writeTemp(t, name, renderRows(t, "xml", Options{}, rows, totals))
	}
	before := write("a.xml", func(c *[NumColumns]string) {})
	for _, tt := range []struct {
		name   string
		change func(c *[NumColumns]string)
		code   int
		says   string
	}{
		{"date in the banner", func(c *[NumColumns]string) { c[ColBanner] += "; Mon, 14 Sep 2026 09:30:00 +0200" }, 0, ""},
		{"certificate", func(c *[NumColumns]string) { c[ColCertSHA256] = strings.Repeat("ab", 32) }, 1, "cert_sha256: abab"},
		{"software", func(c *[NumColumns]string) { c[ColSoftware] = "Exim 4.97" }, 1, "Exim 4.97"},
		{"nothing was learned", func(c *[NumColumns]string) {
			for col := ColService; col < NumColumns; col++ {
				c[col] = ""
			}
		}, 1, "-|  25/tcp:"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			after := write("b.xml", tt.change)
			for _, flags := range [][]string{nil, {"-v"}, {"--xml"}} {
				out, err := exec.Command(ndiff, append(flags, before, after)...).CombinedOutput()
				code := 0
				if exit, ok := err.(*exec.ExitError); ok {
					code = exit.ExitCode()
				} else if err != nil {
					t.Fatal(err)
				}
				want := tt.code
				if len(flags) > 0 && flags[0] == "-v" {
					want = 1 // always, with -v
				}
				if code != want || bytes.Contains(out, []byte("Traceback")) || flags == nil && !strings.Contains(string(out), tt.says) {
					t.Errorf("ndiff %q: exit status %d, want %d and %q:\n%s", flags, code, want, tt.says, out)
				}
			}
		})
	}
}

func TestLibreOfficeReadsTheCSVWithoutAFormula(t *testing.T) {
	if testing.Short() {
		t.Skip("starting LibreOffice takes seconds")
	}
	soffice := tool(t, "soffice")
	rows, totals := fixtureRows()
	for _, s := range []string{"=1+1", "+1+1", "-1+1", "@SUM(1)", "＝1+1", " =1+1", `"=1+1"`, "'=1+1", "=HYPERLINK(\"x\")"} {
		row := rows[0]
		row.Cells[ColBanner], row.Cells[ColEHLO] = s, s
		rows = append(rows, row)
		row.Cells[ColBanner], row.Cells[ColEHLO] = "220 x;"+s+";", "PIPELINING;"+s+";8BITMIME;"+s
		rows = append(rows, row)
	}
	path := writeTemp(t, "scan.csv", renderRows(t, "csv", Options{}, rows, totals))
	// 44 comma, as a double click does; 59 semicolon, as where the comma is the
	// decimal mark. That tears lists apart, but makes no formula of them.
	doc := openSheet(t, soffice, path, "44")
	columns, lines := sheetSize(t, doc)
	if columns != int(NumColumns) || lines != 1+len(rows) {
		t.Errorf("sheet of %d columns and %d rows, want %d and %d", columns, lines, NumColumns, 1+len(rows))
	}
	for separator, doc := range map[string][]byte{"44": doc, "59": openSheet(t, soffice, path, "59")} {
		if at := bytes.Index(doc, []byte("table:formula")); at >= 0 {
			t.Errorf("separator %s: a cell is a formula: %.200s", separator, doc[at:])
		}
		if !bytes.Contains(doc, []byte("HYPERLINK")) {
			t.Errorf("separator %s: the text is not there", separator)
		}
	}
}

// openSheet lets LibreOffice read CSV with a separator (its character code), a
// quote of 34, UTF-8 (76), from line 1, every column as it comes, formulas
// computed. It returns the flat OpenDocument sheet.
func openSheet(t *testing.T, soffice, path, separator string) []byte {
	t.Helper()
	dir := filepath.Dir(path)
	cmd := exec.Command(soffice, "--headless", "-env:UserInstallation=file://"+dir+"/profile",
		"--infilter=CSV:"+separator+",34,76,1,,0,false,true,false,false,false,0,true", "--convert-to", "fods", "--outdir", dir, path)
	cmd.Env = append(os.Environ(), "HOME="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	doc, err := os.ReadFile(filepath.Join(dir, "scan.fods"))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// sheetSize counts the columns and rows of a flat OpenDocument sheet that have text.
func sheetSize(t *testing.T, doc []byte) (columns, lines int) {
	t.Helper()
	type cell struct {
		Repeat int      `xml:"number-columns-repeated,attr"`
		Text   []string `xml:"p"`
	}
	var sheet struct {
		Rows []struct {
			Cells []cell `xml:"table-cell"`
		} `xml:"body>spreadsheet>table>table-row"`
	}
	if err := xml.Unmarshal(doc, &sheet); err != nil {
		t.Fatal(err)
	}
	for _, r := range sheet.Rows {
		width, filled := 0, 0
		for _, c := range r.Cells {
			width += max(c.Repeat, 1)
			if len(c.Text) > 0 {
				filled = width
			}
		}
		if columns = max(columns, filled); filled > 0 {
			lines++
		}
	}
	return columns, lines
}
