package report

import (
	"bytes"
	"encoding/base64"
	"encoding/csv"
	"encoding/json"
	"html"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/smtpsweep/smtpsweep/scanner/journal"
)

func TestCleanShowsWhatIsHidden(t *testing.T) {
	for in, want := range map[string]string{
		"":                                 "",
		"220 mx.example.org":               "220 mx.example.org",
		`back\slash "quotes"`:              `back\slash "quotes"`,
		"\x1b[31mred\x07":                  `\x1b[31mred\x07`,
		"a\tb\r\nc":                        `a\tb\r\nc`,
		"\x00\x7f":                         `\x00\x7f`,
		"\u0085\u009b":                     `\u{85}\u{9b}`,
		"\x85\x9b\xff":                     `\x85\x9b\xff`,
		"\u202eabc\u2066":                  `\u{202e}abc\u{2066}`,
		"\u200e\u200f\u061c":               `\u{200e}\u{200f}\u{61c}`,
		"\u200b\u200d\ufeff\u00ad":         `\u{200b}\u{200d}\u{feff}\u{ad}`,
		"\u2028\u2029\u00a0":               `\u{2028}\u{2029}\u{a0}`,
		"\ue000\ufffe\U0010ffff":           `\u{e000}\u{fffe}\u{10ffff}`,
		"\xed\xa0\x80\xc0\xaf":             `\xed\xa0\x80\xc0\xaf`, // a surrogate, an overlong "/"
		"\u3164\u2800\ufe0f\u034f":         `\u{3164}\u{2800}\u{fe0f}\u{34f}`,
		"Grüße 日本語 ✓":                      "Grüße 日本語 ✓",
		"\u0301x":                          `\u{301}x`,
		"e\u0301\u0302\u0303\u0304":        "e\u0301\u0302\u0303\u0304",
		"e\u0301\u0301\u0301\u0301\u0301z": "e\u0301\u0301\u0301\u0301" + `\u{301}z`,
	} {
		if got := Clean(in); got != want {
			t.Errorf("Clean(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestCleanIsBounded(t *testing.T) {
	for _, s := range []string{strings.Repeat("x", 40_000), strings.Repeat("\x1b", 40_000), "e" + strings.Repeat("\u0301", 100_000), strings.Repeat("語", 5000)} {
		got := Clean(s)
		if n := utf8.RuneCountInString(got); n > MaxCell {
			t.Errorf("%d characters, want at most %d", n, MaxCell)
		}
		if !strings.HasSuffix(got, ")") || !strings.Contains(got, "…(+") {
			t.Errorf("no mark at the end: %q", got[len(got)-30:])
		}
		checkClean(t, s)
	}
	if exact := strings.Repeat("x", MaxCell); Clean(exact) != exact {
		t.Error("a text of the longest length was cut")
	}
	if got, want := Clean(strings.Repeat("x", MaxCell+1)), strings.Repeat("x", MaxCell-maxTail)+"…(+24)"; got != want {
		t.Errorf("cut to %q", got[len(got)-20:])
	}
}

// checkClean checks what Clean promises of any text.
func checkClean(t *testing.T, s string) {
	t.Helper()
	got := Clean(s)
	checkPrintable(t, got)
	if strings.ContainsAny(got, "\n\r\t") {
		t.Errorf("Clean(%q) has more than one line", s)
	}
	if again := Clean(got); again != got {
		t.Errorf("not idempotent: %q, then %q", got, again)
	}
	if n := utf8.RuneCountInString(got); n > MaxCell {
		t.Errorf("%d characters", n)
	}
}

// checkPrintable checks that text has nothing but line breaks that a terminal
// would act on (P26).
func checkPrintable(t *testing.T, s string) {
	t.Helper()
	if !utf8.ValidString(s) {
		t.Errorf("not UTF-8: %q", s)
	}
	for i, r := range s {
		if (r < 0x20 && r != '\n' && r != '\r') || (r >= 0x7f && r <= 0x9f) || (r >= 0x202a && r <= 0x202e) ||
			(r >= 0x2066 && r <= 0x2069) || (r >= 0x200b && r <= 0x200f) || r == 0x061c || r == 0x2028 || r == 0x2029 || r == 0xfffe || r == 0xfeff {
			t.Fatalf("%U at byte %d of %.200q", r, i, s)
		}
	}
}

func FuzzClean(f *testing.F) {
	f.Add(hostile)
	f.Add("' \";=1;'';'-;\";@")
	f.Add("e\u0301\u0301\u0301\u200d\u0301\u0301\u0301")
	f.Add(strings.Repeat("a\u0301", MaxCell))
	f.Fuzz(func(t *testing.T, s string) {
		if len(s) < 10 {
			s = strings.Repeat(s, 600)
		}
		checkClean(t, s)
		var row Row
		row.Cells[ColBanner] = Clean(s)
		if got := readCSV(t, renderRows(t, "csv", Options{}, []Row{row}, Totals{}))[1][ColBanner]; plainCell(got) != row.Cells[ColBanner] {
			t.Errorf("CSV of %q is read as %q", row.Cells[ColBanner], plainCell(got))
		}
		elems, _ := cleanList([]string{s, hostile, s + ";"})
		cell, whole := joinList(elems, maxList)
		for i, e := range elems {
			elems[i] = strings.ReplaceAll(e, joinedSemicolon, ";") // the two are one in a cell
		}
		if back := splitList(cell); whole && !slices.Equal(back, elems) {
			t.Errorf("list %q came back as %q", elems, back)
		}
	})
}

func TestEveryFormatIsInert(t *testing.T) {
	for _, f := range Formats() {
		for _, show := range []Show{ShowAuto, ShowAll, ShowOpen} {
			out := string(render(t, f.Name, Options{Show: show, Width: 200}))
			checkPrintable(t, out)
			if f.Name == "md" && strings.Contains(out, "<script") || f.Name == "xml" && strings.Contains(out, "]]>") {
				t.Errorf("%s: markup of a stranger", f.Name)
			}
		}
	}
}

// GitHub looks for people and issues in the rendered text, so it finds them
// behind a backslash and in &#64; too.
func TestMarkdownCallsNobody(t *testing.T) {
	called := regexp.MustCompile(`(^|[^0-9A-Za-z])[@#][0-9A-Za-z]`)
	for _, s := range []string{"@everyone", "hello @admin", "421 #4.4.5 too many", "(#12)", "@SUM(1)", "x@mail.example.org", "a#1", "@", "# 1", "=@x", "\\@x", "日@x"} {
		shown := html.UnescapeString(strings.ReplaceAll(mdText(s), `\\`, `\`))
		if hit := called.FindString(shown); hit != "" {
			t.Errorf("%q is shown as %q, with %q", s, shown, hit)
		}
		if plain := strings.ReplaceAll(shown, "\u200b", ""); plain != s {
			t.Errorf("%q reads %q", s, plain)
		}
	}
}

func TestCSVFormulasAreInertAndComeBack(t *testing.T) {
	for _, s := range []string{
		"=cmd|' /C calc'!A0", "+1", "-1", "@SUM(1)", "＝1", "＋1", "－1", "＠x", " =1", `"=1"`, "'=1", "''=1", "' =1", "'", "''", "'x", "x=1", `""`, "a,b",
		"a;=1", "a;'=1", `PIPELINING;=HYPERLINK("http://192.0.2.1");8BITMIME`, "=1;+2;-3;@4;x", `a; "=1`, "a; '' =1", "a;＝1;＋1;－1;＠1", ";=1", ";;=1;", "a;';'", `a;";=1`, "a;'", "a;b=c", "=;=", "\u0060;-", "a;b", `say "x"`, " x ", "1E5", "-",
	} {
		row := Row{}
		row.Cells[ColBanner] = s
		record := readCSV(t, renderRows(t, "csv", Options{}, []Row{row}, Totals{}))[1]
		got := record[ColBanner]
		for part := range strings.SplitSeq(got, ";") { // what separator ";" would make of it
			if first := strings.TrimLeft(part, ` "`); first != "" && strings.ContainsRune("=+-@\t\r＝＋－＠", []rune(first)[0]) {
				t.Errorf("%q is written as %q, with the formula %q", s, got, part)
			}
		}
		if back := plainCell(got); back != s {
			t.Errorf("%q is written as %q and read as %q", s, got, back)
		}
	}
	row := Row{}
	row.Cells[ColCode] = "-1"
	if got := readCSV(t, renderRows(t, "csv", Options{}, []Row{row}, Totals{}))[1][ColCode]; got != "-1" {
		t.Errorf("number written as %q", got)
	}
}

// readCSV reads CSV with the standard library, and checks its form.
func readCSV(t *testing.T, data []byte) [][]string {
	t.Helper()
	if strings.Count(string(data), "\n") != strings.Count(string(data), "\r\n") {
		t.Error("a line does not end in CRLF")
	}
	records, err := csv.NewReader(bytes.NewReader(data)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	return records
}

func TestCSVSaysWhenASheetIsTooSmall(t *testing.T) {
	var said []string
	e := &csvEncoder{o: Options{Notice: func(s string) { said = append(said, s) }}, rows: excelRows - 1}
	if e.Close(Totals{}); len(said) != 0 {
		t.Errorf("said %q of %d rows", said, e.rows)
	}
	e.rows++
	if e.Close(Totals{}); len(said) != 1 || !strings.Contains(said[0], "1,048,576 rows") {
		t.Errorf("said %q", said)
	}
}

func TestCSVBOMComesOnlyOnRequest(t *testing.T) {
	if got := render(t, "csv", Options{}); !bytes.HasPrefix(got, []byte("time,vantage,")) {
		t.Errorf("starts with %q", got[:20])
	}
	if got := render(t, "csv", Options{CSVBOM: true}); !bytes.HasPrefix(got, []byte("\xef\xbb\xbftime,")) {
		t.Errorf("starts with %q", got[:20])
	}
}

func TestFormatsAgree(t *testing.T) {
	want, _ := fixtureRows()
	var fromCSV, fromJSONL, fromJSON []Row
	for _, record := range readCSV(t, render(t, "csv", Options{}))[1:] {
		var row Row
		for i := range record {
			row.Cells[i] = record[i]
			if kind := Scan.Fields[i].Kind; kind == Text || kind == List {
				row.Cells[i] = plainCell(record[i])
			}
		}
		fromCSV = append(fromCSV, row)
	}
	lines := strings.Split(strings.TrimSuffix(string(render(t, "jsonl", Options{})), "\n"), "\n")
	for _, l := range lines[1 : len(lines)-1] {
		fromJSONL = append(fromJSONL, parse(t, []byte(l)))
	}
	var doc struct {
		Schema  int
		Run     struct{ Type string }
		Results []json.RawMessage
		Totals  struct{ Totals struct{ Open int } }
	}
	if err := json.Unmarshal(render(t, "json", Options{}), &doc); err != nil {
		t.Fatal(err)
	}
	if doc.Schema != 1 || doc.Run.Type != "run" || doc.Totals.Totals.Open != 9 {
		t.Errorf("document is %+v", doc)
	}
	for _, l := range doc.Results {
		fromJSON = append(fromJSON, parse(t, l))
	}
	if diff := cmp.Diff(want, fromJSONL); diff != "" {
		t.Errorf("jsonl differs: %s", diff)
	}
	if diff := cmp.Diff(want, fromJSON); diff != "" {
		t.Errorf("json differs: %s", diff)
	}
	for i := range want {
		want[i].Detail = nil
	}
	if diff := cmp.Diff(want, fromCSV); diff != "" {
		t.Errorf("csv differs: %s", diff)
	}
}

// parse parses a row that must be good.
func parse(t *testing.T, l []byte) Row {
	t.Helper()
	row, err := ParseRow(l)
	if err != nil {
		t.Fatal(err)
	}
	return row
}

func TestTwinsHoldTheBytesAsTheyCame(t *testing.T) {
	for _, r := range fixture() {
		if r.Service == nil || r.Service.Software != "＝evil" {
			continue
		}
		row := RowOf(&r, "lab")
		var got struct {
			Banner  string   `json:"banner_base64"`
			Subject string   `json:"cert_subject_base64"`
			EHLO    []string `json:"ehlo_base64"`
			Names   []string `json:"cert_names_base64"`
			Lines   []struct {
				Text string `json:"text_base64"`
			} `json:"transcript"`
		}
		if err := json.Unmarshal(row.AppendJSON(nil), &got); err != nil {
			t.Fatal(err)
		}
		decode := func(s string) string {
			raw, err := base64.StdEncoding.DecodeString(s)
			if err != nil {
				t.Error(err)
			}
			return string(raw)
		}
		if decode(got.Banner) != string(r.Service.Banner) || decode(got.Subject) != r.Service.TLS.Subject || decode(got.Lines[0].Text) != hostile {
			t.Error("banner, subject or transcript came back changed")
		}
		for i, s := range r.Service.EHLO {
			if decode(got.EHLO[i]) != s {
				t.Errorf("EHLO keyword %q came back as %q", s, decode(got.EHLO[i]))
			}
		}
		for i, s := range r.Service.TLS.Names {
			if decode(got.Names[i]) != s {
				t.Errorf("name %q came back as %q", s, decode(got.Names[i]))
			}
		}
		return
	}
	t.Fatal("no hostile row in the fixture")
}

func TestTheJournalsRunRecordIsCopied(t *testing.T) {
	record := []byte(`{"type":"run","schema":1,"seed":"7","user":"a` + "\u202e" + `b"`)
	line := bytes.TrimSuffix(journal.AppendLine(nil, append(record, '}')), []byte("\n"))
	want := `{"type":"run","schema":1,"seed":"7","user":"a\u202eb"}`
	for _, in := range [][]byte{line, append(bytes.Clone(record), '}'), append(bytes.Clone(line), '\n')} {
		if got, err := runRecord(&Header{RunRecord: in}); err != nil || string(got) != want {
			t.Errorf("got %s, %v, want %s", got, err, want)
		}
	}
	for _, bad := range []string{"{", "[]", " ", "null"} {
		if got, err := runRecord(&Header{RunRecord: []byte(bad)}); err == nil {
			t.Errorf("%q gives %s", bad, got)
		}
	}
}

// The check value is that of CRC-32C for "123456789" (RFC 3720, B.4 has others).
func TestChecksumIsCRC32C(t *testing.T) {
	if got, want := string(journal.AppendLine(nil, []byte("123456789}"))), `123456789,"crc":"e3069283"}`+"\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestTargetsAreListedOnce(t *testing.T) {
	rows, totals := fixtureRows()
	rows = append(rows[4:6], rows[5:]...)
	if got, want := strings.Count(string(renderRows(t, "targets", Options{}, rows, totals)), "192.0.2.18:465\n"), 1; got != want {
		t.Errorf("listed %d times", got)
	}
}
