package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/smtpsweep/smtpsweep/report"
	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/scanner/egress"
	"github.com/smtpsweep/smtpsweep/scanner/egress/reflect"
	"github.com/smtpsweep/smtpsweep/scanner/explain"
	"github.com/smtpsweep/smtpsweep/scanner/smtp"
)

// reportWords returns every word that a report can have in a column of words.
func reportWords() (words []string) {
	for _, s := range []scanner.State{scanner.Unknown, scanner.Open, scanner.Closed, scanner.Filtered} {
		words = append(words, s.String())
	}
	for _, r := range []scanner.Reason{
		scanner.SynAck, scanner.ConnRefused, scanner.Reset, scanner.NoResponse, scanner.AdminProhibited, scanner.HostProhibited,
		scanner.NetProhibited, scanner.HostUnreach, scanner.NetUnreach, scanner.PortUnreach, scanner.ProtoUnreach, scanner.TimeExceeded,
		scanner.NoNeighbor, scanner.LocalError, scanner.Excluded, scanner.Reserved, scanner.DNSNXDomain, scanner.DNSNoAddress,
		scanner.DNSError, scanner.NoMail, scanner.BadName, scanner.Interrupted,
	} {
		words = append(words, string(r))
	}
	for _, k := range []scanner.Kind{
		scanner.KindSMTP, scanner.KindRefusing, scanner.KindMute, scanner.KindClosing, scanner.KindTLSFailed, scanner.KindWrongMode,
		scanner.KindTarpit, scanner.KindOther,
	} {
		words = append(words, string(k))
	}
	for _, s := range []scanner.StartTLS{
		scanner.StartTLSOffered, scanner.StartTLSRefused, scanner.StartTLSAbsent, scanner.StartTLSMasked, scanner.StartTLSUnknown,
	} {
		words = append(words, "starttls="+string(s))
	}
	for _, s := range []scanner.Trust{
		scanner.TrustBad, scanner.TrustExpired, scanner.TrustNotYetValid, scanner.TrustSelfSigned, scanner.TrustUnknownIssuer, scanner.TrustTrusted,
	} {
		words = append(words, "cert_trust="+string(s))
	}
	words = append(words, smtp.Findings()...)
	words = append(words, egress.Findings()...)
	for _, c := range egress.Causes() {
		words = append(words, string(c))
	}
	words = append(words, "trace-failed", "origin-failed", "reflector-failed")
	words = append(words, reflect.Codes()...)
	return append(words, "egress-25-suspect", "locally-intercepted", "inside-view", "descriptors-short", "source-ports-short", "memory-short", "parked-limit", "network-lost", "own-drop-unseen", "resolver-invents")
}

func TestExplainKnowsEveryWordOfAReport(t *testing.T) {
	for _, word := range reportWords() {
		if got := explain.Explain(word); len(got) != 1 || !strings.HasSuffix(got[0].Recognised, word[strings.Index(word, "=")+1:]) {
			t.Errorf("%s: got %+v, want one explanation of it", word, got)
		}
	}
}

func TestExplainKnowsEveryColumn(t *testing.T) {
	all := explain.Explain("columns")
	if len(all) != 1 || len(all[0].Means) != len(report.Scan.Fields) {
		t.Fatalf("columns: got %+v, want %d lines", all, len(report.Scan.Fields))
	}
	for i, f := range report.Scan.Fields {
		if got := explain.Explain(f.Name); len(got) != 1 || got[0].Recognised != "column "+f.Name {
			t.Errorf("%s: got %+v, want the column", f.Name, got)
		}
		if !strings.HasPrefix(all[0].Means[i], f.Name+": ") {
			t.Errorf("columns: line %d is %q, want %s", i+1, all[0].Means[i], f.Name)
		}
	}
}

func TestExplainKnowsTheWordsOfTheZoosTable(t *testing.T) {
	if testing.Short() {
		t.Skip("sweeps the zoo")
	}
	t.Parallel() // it waits for servers that are mute
	path := filepath.Join(t.TempDir(), "zoo.md")
	var out, said bytes.Buffer
	if code := run([]string{"demo", "--all", "-o", path}, newUI(strings.NewReader(""), &out, &said)); code != exitDone {
		t.Fatalf("demo: exit code %d: %s", code, said.String())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.ReplaceAll(line, `\`, ""), "|")
		if len(cells) < 9 || !strings.Contains(line, "syn-ack") {
			continue
		}
		rows++
		for _, words := range append(strings.Split(cells[7], "; "), cells[3], cells[4], serviceWord(cells[5]), cells[6]) {
			words = strings.Trim(words, " *")
			if words == "" || strings.HasPrefix(words, `"`) || strings.HasPrefix(words, "&quot;") || words == "mail.example.org" {
				continue // what a stranger said, or the name of the host
			}
			if len(explain.Explain(words)) == 0 {
				t.Errorf("not explained: %q in %s", words, line)
			}
		}
	}
	if rows < 50 {
		t.Errorf("%d rows were read of the zoo:\n%s", rows, text)
	}
	asked := regexp.MustCompile(`(\S+:\d+) ([^\n]*): smtpsweep explain ([^\n]+)`).FindAllStringSubmatch(said.String()+out.String(), -1)
	if len(asked) == 0 {
		t.Errorf("no hint was given:\n%s", said.String())
	}
	for _, hint := range asked {
		what := regexp.MustCompile(` \([\d,]+ more\)`).ReplaceAllString(hint[2], "")
		for _, words := range []string{what, strings.Trim(hint[3], `"`)} {
			if len(explain.Explain(words)) == 0 {
				t.Errorf("not explained: %q of the hint %q", words, hint[0])
			}
		}
	}
}

// serviceWord returns the word of ours in the column ANSWERS: "wrong-mode" of
// "Postfix, wrong-mode", and nothing of a product alone.
func serviceWord(answers string) string {
	word := strings.TrimSpace(answers[strings.LastIndex(answers, ",")+1:])
	if first, _, _ := strings.Cut(word, " "); first != strings.ToLower(first) {
		return ""
	}
	return word
}

// sourceOf returns the texts of the package explain: what is not in a text of
// the package cannot be in an explanation.
func sourceOf(t *testing.T) string {
	t.Helper()
	files, err := filepath.Glob("../../scanner/explain/*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files of explain: %v", err)
	}
	var b strings.Builder
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if !strings.HasPrefix(strings.TrimSpace(line), "//") {
				b.WriteString(line)
			}
		}
	}
	return b.String()
}

func TestExplanationsNameOnlyCommandsThatExist(t *testing.T) {
	exists := map[string]bool{}
	for _, c := range newRoot(newUI(strings.NewReader(""), &bytes.Buffer{}, &bytes.Buffer{})).Commands() {
		exists[c.Name()] = true
	}
	named := regexp.MustCompile(`smtpsweep ([a-z][a-z0-9-]*)`).FindAllStringSubmatch(sourceOf(t), -1)
	if len(named) == 0 {
		t.Fatal("no explanation names a command")
	}
	for _, m := range named {
		if !exists[m[1]] {
			t.Errorf("explain sends people to %q, which does not exist", m[0])
		}
	}
}

func TestExplanationsOfALogSayTheirLineAndFitTheTerminal(t *testing.T) {
	log := "status=sent (250 2.0.0 Ok)\nstatus=bounced (550 5.1.1 User unknown)\n"
	var out bytes.Buffer
	u := newUI(strings.NewReader(log), &out, io.Discard)
	u.outWidth = 60
	if code := run([]string{"explain", "-"}, u); code != exitDone {
		t.Fatalf("exit code %d", code)
	}
	if !strings.Contains(out.String(), "line 2: no such user\n") {
		t.Errorf("no line is named:\n%s", out.String())
	}
	for line := range strings.Lines(out.String()) {
		if strings.HasPrefix(line, "  means") && len(line) > len("\n")+60 { // commands stay one line
			t.Errorf("wider than the terminal: %s", line)
		}
	}
}
