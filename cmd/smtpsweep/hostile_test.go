package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/csv"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/scanner/scannertest"
)

// hostileServers are those of the zoo whose words are weapons.
var hostileServers = []string{"hostile", "hostile-certificate", "hostile-accents", "huge-banner"}

// hostileRefusal is a server that refuses us with weapons: its words are what a
// table shows to a person.
const hostileRefusal = "S\\ \"554-=1+1 \\x1b]0;owned\\x07\\x1b[2J \\u202eevil <script>alert(1)</script> ]]> | \\x9b\\xff\\x00\\u009b\\r\\n554 5.7.1 @SUM(1) \\x1b]0;owned\\r\\n\"\nC: QUIT\nS: 221 bye"

// hostileRows is how many rows the sweep of them makes, with hostileRefusal and
// a good server.
var hostileRows = len(hostileServers) + 2

// A hostileRun is a sweep of them, in every format.
type hostileRun struct {
	files  map[string]string         // by format; "stdout", "stderr"
	dir    string                    // where they lie, as scan.csv, scan.json, ...
	server map[string]string         // behaviour by "address:port"
	at     map[string]netip.AddrPort // place by behaviour
}

// TestHostileBytesAreInert sweeps servers that put escape codes, C1 controls,
// bidi overrides, NULs, invalid UTF-8, formulas, markup and 10^5 combining
// marks into greeting, EHLO reply and certificate, through the whole program,
// and looks at every byte of what it writes.
func TestHostileBytesAreInert(t *testing.T) {
	run := sweepHostile(t)
	for _, format := range slices.Sorted(maps.Keys(run.files)) {
		t.Run(format, func(t *testing.T) { checkInert(t, format, run.files[format]) })
	}
	t.Run("the weapons were seen", func(t *testing.T) { checkSeen(t, run) })
	t.Run("CSV has no formula", func(t *testing.T) { checkFormulas(t, run.files["csv"]) })
	t.Run("JSON has no formula of its own making", func(t *testing.T) { checkJSONStrings(t, run.files["json"]) })
	t.Run("XML is well-formed", func(t *testing.T) { checkWellFormed(t, run.files["xml"], hostileRows) })
	t.Run("Markdown has no markup", func(t *testing.T) { checkMarkdown(t, run.files["md"]) })
	t.Run("targets are addresses", func(t *testing.T) { checkTargets(t, run) })
	t.Run("twins are the bytes sent", func(t *testing.T) { checkTwins(t, run) })
	t.Run("LibreOffice finds no formula", func(t *testing.T) { checkLibreOffice(t, run) })
}

func sweepHostile(t *testing.T) *hostileRun {
	t.Helper()
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	zoo, err := scannertest.Start(context.Background(), scannertest.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(zoo.Close)
	run := &hostileRun{files: map[string]string{}, dir: t.TempDir(), server: map[string]string{}, at: map[string]netip.AddrPort{}}
	args := []string{"scan", "--show", "all", "--patience", "3s"}
	for _, name := range append(slices.Clone(hostileServers), "good") {
		b, ok := scannertest.Find(name)
		if !ok {
			t.Fatalf("the zoo has no %s", name)
		}
		at, err := zoo.Listen("127.0.0.1:0", b)
		if err != nil {
			t.Fatal(err)
		}
		run.server[at.String()], run.at[name] = name, at
		args = append(args, fmt.Sprintf("%s/%s", at, b.Role))
	}
	at := scannertest.MailServer(t, hostileRefusal)
	run.server[at.String()] = "refusal"
	args = append(args, at.String()+"/smtp")
	endings := map[string]string{"csv": "csv", "json": "json", "jsonl": "jsonl", "xml": "xml", "md": "md", "table": "txt", "targets": "targets"}
	for _, ending := range endings {
		args = append(args, "-o", filepath.Join(run.dir, "scan."+ending))
	}
	code, stdout, stderr := invoke(t, args...)
	if code != 0 {
		t.Fatalf("exit %d:\n%s", code, stderr)
	}
	run.files["stdout"], run.files["stderr"] = stdout, stderr
	for format, ending := range endings {
		text, err := os.ReadFile(filepath.Join(run.dir, "scan."+ending))
		if err != nil {
			t.Fatal(err)
		}
		run.files[format] = string(text)
	}
	return run
}

// checkInert looks at every character of a document, whatever its format.
func checkInert(t *testing.T, format, text string) {
	t.Helper()
	if !utf8.ValidString(text) {
		t.Error("it is not UTF-8")
	}
	if format == "csv" {
		if strings.Count(text, "\r") != strings.Count(text, "\r\n") || strings.Count(text, "\n") != strings.Count(text, "\r\n") {
			t.Error("a line does not end in CRLF, or something else does")
		}
		text = strings.ReplaceAll(text, "\r\n", "\n")
	}
	marks := 0
	for i, r := range text {
		if marks++; !unicode.Is(unicode.M, r) {
			marks = 0
		}
		switch {
		case r == '\n':
		case r < 0x20 || r >= 0x7f && r <= 0x9f, unicode.Is(unicode.Bidi_Control, r), unicode.Is(unicode.Cf, r), !unicode.IsPrint(r):
			t.Fatalf("%U at byte %d: %.80q", r, i, text[i:])
		case marks > 4:
			t.Fatalf("more than 4 marks on a character at byte %d", i)
		}
	}
	if format == "xml" || format == "md" {
		for _, weapon := range []string{"<script>", "]]>", "<!-- &"} { // nmap's <script id="..."> is ours
			if strings.Contains(strings.ToLower(text), weapon) {
				t.Errorf("has %s as it came", weapon)
			}
		}
	}
}

// checkSeen makes sure that the test is about something: each format shows the
// hostile greeting, made harmless.
func checkSeen(t *testing.T, run *hostileRun) {
	t.Helper()
	for _, format := range []string{"stdout", "table", "csv", "json", "jsonl", "xml", "md"} {
		text := run.files[format]
		if !strings.Contains(text, `\x1b]0;owned`) && !strings.Contains(text, `\\x1b]0;owned`) && !strings.Contains(text, `\x1b\]0;owned`) && !strings.Contains(text, `\\x1b\]0;owned`) {
			t.Errorf("%s does not show the hostile greeting", format)
		}
	}
	for _, row := range csvRows(t, run.files["csv"]) {
		name := run.server[net.JoinHostPort(row["address"], row["port"])]
		want, ok := scannertest.Find(name)
		if name == "refusal" {
			want.Want.Service, ok = scanner.KindRefusing, true
		}
		if !ok || row["service"] != string(want.Want.Service) {
			t.Errorf("%s is %q, want %q", name, row["service"], want.Want.Service)
		}
		if name == "hostile" && (!strings.Contains(row["ehlo"], "HYPERLINK") || !strings.Contains(row["auth_tls"], "SUM(1)")) {
			t.Errorf("hostile: ehlo %q, auth_tls %q", row["ehlo"], row["auth_tls"])
		}
		if name == "hostile-certificate" && (!strings.Contains(row["cert_subject"], "owned") || !strings.Contains(row["cert_names"], "owned")) {
			t.Errorf("hostile-certificate: subject %.100q, names %.100q", row["cert_subject"], row["cert_names"])
		}
	}
}

func checkFormulas(t *testing.T, text string) {
	t.Helper()
	lines, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if len(lines) != hostileRows+1 {
		t.Errorf("%d lines, want %d", len(lines), hostileRows+1)
	}
	for _, line := range lines {
		if len(line) != len(lines[0]) {
			t.Errorf("%d columns, want %d", len(line), len(lines[0]))
		}
		for i, cell := range line {
			first, _ := utf8.DecodeRuneInString(strings.TrimLeft(cell, " "))
			if strings.ContainsRune("=+-@＝＋－＠\t\r", first) && cell != "" {
				t.Errorf("%s begins a formula: %.60q", lines[0][i], cell)
			}
		}
	}
}

// checkJSONStrings looks into every string of the document: what was escaped
// by the encoder alone would come back as it was sent.
func checkJSONStrings(t *testing.T, text string) {
	t.Helper()
	var doc any
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	var walk func(path string, v any)
	walk = func(path string, v any) {
		switch v := v.(type) {
		case string:
			t.Run(path, func(t *testing.T) { checkInert(t, "json", v) })
			if strings.Contains(v, "\n") {
				t.Errorf("%s has more than one line", path)
			}
		case []any:
			for _, x := range v {
				walk(path, x)
			}
		case map[string]any:
			for key, x := range v {
				walk(path+"."+key, x)
			}
		}
	}
	walk("", doc)
}

func checkWellFormed(t *testing.T, text string, ports int) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(text))
	count := map[string]int{}
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			count[token.Name.Local]++
			if token.Name.Local == "script" && (len(token.Attr) == 0 || token.Attr[0].Name.Local != "id") {
				t.Errorf("a script that is not nmap's: %v", token)
			}
			for _, a := range token.Attr {
				checkInert(t, "text", a.Value)
			}
		case xml.CharData:
			checkInert(t, "text", string(token))
		}
	}
	if count["port"] != ports || count["script"] == 0 || count["nmaprun"] != 1 {
		t.Errorf("%d ports (want %d), %d scripts, %d roots", count["port"], ports, count["script"], count["nmaprun"])
	}
}

// checkMarkdown counts the cells of the table: a bar or a line end in a banner
// must not make another.
func checkMarkdown(t *testing.T, text string) {
	t.Helper()
	bars := regexp.MustCompile(`(^|[^\\])(\\\\)*\|`)
	want := 0
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "|") {
			want = 0
			continue
		}
		got := len(bars.FindAllString(strings.ReplaceAll(line, "||", "| |"), -1))
		if want == 0 {
			want = got
		}
		if got != want {
			t.Errorf("%d bars, want %d: %.200s", got, want, line)
		}
	}
	if html := regexp.MustCompile(`<[a-zA-Z/!]`).FindString(text); html != "" {
		t.Errorf("has %s", html)
	}
}

func checkTargets(t *testing.T, run *hostileRun) {
	t.Helper()
	for line := range strings.Lines(run.files["targets"]) {
		if name := run.server[strings.TrimSuffix(line, "\n")]; name == "" {
			t.Errorf("not an endpoint of this run: %q", line)
		}
	}
}

// checkTwins asks the servers themselves what they greet with.
func checkTwins(t *testing.T, run *hostileRun) {
	t.Helper()
	for _, format := range []string{"jsonl", "json"} {
		for _, row := range resultRows(t, format, run.files[format]) {
			name := run.server[net.JoinHostPort(fmt.Sprint(row["address"]), fmt.Sprint(row["port"]))]
			if name == "refusal" {
				continue // it plays to one client
			}
			sent := greeting(t, run.at[name])
			twin, has := row["banner_base64"].(string)
			if name == "good" || name == "hostile-certificate" {
				if has || row["banner"] != strings.TrimSuffix(string(sent), "\r\n") {
					t.Errorf("%s %s: banner %q, twin %v, sent %q", format, name, row["banner"], has, sent)
				}
				continue
			}
			seen, err := base64.StdEncoding.DecodeString(twin)
			if name == "huge-banner" && !has { // its bytes are harmless
				seen = []byte(fmt.Sprint(row["banner"]))
			}
			sent = bytes.ReplaceAll(bytes.TrimSuffix(sent, []byte("\r\n")), []byte("\r\n"), []byte("\n")) // lines, joined
			if err != nil || len(seen) < min(len(sent), 2048) || !bytes.HasPrefix(sent, seen) {
				t.Errorf("%s %s: twin of %d bytes (%v) is not how the %d bytes sent begin", format, name, len(seen), err, len(sent))
			}
			if name == "hostile" && len(seen) != len(sent) {
				t.Errorf("%s %s: twin of %d bytes, %d were sent", format, name, len(seen), len(sent))
			}
			if name == "hostile" {
				checkKeywords(t, row)
			}
		}
	}
}

// checkKeywords compares the EHLO keywords with their twins.
func checkKeywords(t *testing.T, row map[string]any) {
	t.Helper()
	shown, _ := row["ehlo"].([]any)
	raw, _ := row["ehlo_base64"].([]any)
	if len(shown) == 0 || len(raw) < len(shown) {
		t.Fatalf("%d keywords, %d twins", len(shown), len(raw))
	}
	all := ""
	for _, x := range raw {
		b, err := base64.StdEncoding.DecodeString(fmt.Sprint(x))
		if err != nil {
			t.Error(err)
		}
		all += string(b) + "\n"
	}
	for _, weapon := range []string{"\x1b]0;owned\x07", "\x9b31m", "\x00", "\xff\xfe", "\u202e", "<script>alert(1)</script>", "]]>", "=HYPERLINK(\"http://192.0.2.1\")", "@SUM(1)", "X" + "a" + strings.Repeat("\u0301", 1000)} {
		if !strings.Contains(all, weapon) {
			t.Errorf("the twins of the keywords do not have %.40q", weapon)
		}
	}
}

// resultRows returns the rows of a JSON or JSON Lines document.
func resultRows(t *testing.T, format, text string) []map[string]any {
	t.Helper()
	if format == "jsonl" {
		return jsonRecords(t, text, "result")
	}
	var doc struct {
		Results []map[string]any `json:"results"`
	}
	if err := json.Unmarshal([]byte(text), &doc); err != nil || len(doc.Results) == 0 {
		t.Fatalf("%d results (%v)", len(doc.Results), err)
	}
	return doc.Results
}

// greeting reads the greeting of a server, all its lines.
func greeting(t *testing.T, at netip.AddrPort) []byte {
	t.Helper()
	conn, err := net.Dial("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	in := bufio.NewReader(conn)
	var all []byte
	for {
		line, err := in.ReadBytes('\n')
		all = append(all, line...)
		if err != nil {
			t.Fatalf("greeting of %s: %v", at, err)
		}
		if len(line) > 3 && line[3] == ' ' {
			return all
		}
	}
}

// checkLibreOffice opens the CSV as a double click does, and counts.
func checkLibreOffice(t *testing.T, run *hostileRun) {
	if testing.Short() {
		t.Skip("starting LibreOffice takes seconds")
	}
	soffice, err := exec.LookPath("soffice")
	if err != nil {
		if lab := os.Getenv("SMTPSWEEP_LAB"); lab == "require" || lab == "long" {
			t.Fatal("LibreOffice (soffice) is required and not installed")
		}
		t.Skip("LibreOffice (soffice) is not installed")
	}
	cmd := exec.Command(soffice, "--headless", "-env:UserInstallation=file://"+run.dir+"/profile",
		"--infilter=CSV:44,34,76,1", "--convert-to", "fods", "--outdir", run.dir, filepath.Join(run.dir, "scan.csv"))
	cmd.Env = append(os.Environ(), "HOME="+run.dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	doc, err := os.ReadFile(filepath.Join(run.dir, "scan.fods"))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(doc, []byte("table:formula")) {
		t.Error("a cell is a formula")
	}
	lines, err := csv.NewReader(strings.NewReader(run.files["csv"])).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	columns, rows := sheet(t, doc)
	if columns != len(lines[0]) || rows != len(lines) {
		t.Errorf("a sheet of %d columns and %d rows, want %d and %d", columns, rows, len(lines[0]), len(lines))
	}
}

// sheet counts the columns and rows with text of a flat OpenDocument file.
func sheet(t *testing.T, doc []byte) (columns, rows int) {
	t.Helper()
	d := xml.NewDecoder(bytes.NewReader(doc))
	at, filled := 0, 0
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return columns, rows
		}
		if err != nil {
			t.Fatal(err)
		}
		start, ok := token.(xml.StartElement)
		if !ok {
			if end, ok := token.(xml.EndElement); ok && end.Name.Local == "table-row" && filled > 0 {
				columns, rows = max(columns, filled), rows+1
			}
			continue
		}
		switch start.Name.Local {
		case "table-row":
			at, filled = 0, 0
		case "table-cell":
			at++
			for _, a := range start.Attr {
				if a.Name.Local == "number-columns-repeated" {
					var n int
					fmt.Sscan(a.Value, &n)
					at += n - 1
				}
			}
		case "p":
			filled = at
		}
	}
}
